//! Spans built from records.
//!
//! One tree a call: the server span, one span a step (and one an element), one client span an
//! attempt. Domain and action stand on the attempt's span, or on the step's where no call was
//! made; the step's span carries the final ones. Prompts and outputs are on none of them.

mod cached;

use std::sync::Arc;

use opentelemetry::trace::{Event, SpanKind};
use opentelemetry::{Array, KeyValue, StringValue, Value};

use super::names;
use super::trace::{FinishedSpan, TraceContext, Tracer};
use crate::failure::Failure;
use crate::journal::{
    AttemptRecord, DecisionRecord, OutputChange, PolicyRef, RunState, StepReport,
};

/// What the spans of a target's attempts say about it.
#[derive(Debug, Clone, Default)]
pub struct TargetFacts {
    /// `gen_ai.provider.name`.
    pub provider: String,
    /// Model asked.
    pub model: String,
    /// Host.
    pub address: String,
    /// Port.
    pub port: u16,
}

/// What the spans of a run have in common.
pub struct RunFacts<'a> {
    /// Run id.
    pub run_id: &'a Arc<str>,
    /// Pipeline; empty for an inline step.
    pub pipeline: &'a Arc<str>,
    /// Version of the pipeline.
    pub pipeline_version: u64,
    /// Policy in force.
    pub policy: &'a PolicyRef,
}

/// The server's end of a call.
pub struct CallFacts<'a> {
    /// `package.Service/Method`.
    pub method: &'static str,
    /// Short name, the span's.
    pub name: &'static str,
    /// gRPC status name, `OK` or `UNAVAILABLE` for example.
    pub status: &'static str,
    /// How the run ended.
    pub state: RunState,
    /// What failed it.
    pub failure: Option<&'a Failure>,
    /// The last action.
    pub action: Option<&'static str>,
    /// When it came in.
    pub started: std::time::SystemTime,
    /// How long it took.
    pub duration: std::time::Duration,
}

fn int(name: &'static str, value: u64) -> KeyValue {
    KeyValue::new(name, i64::try_from(value).unwrap_or(i64::MAX))
}

fn text(name: &'static str, value: impl Into<StringValue>) -> KeyValue {
    KeyValue::new(name, value.into())
}

fn texts(name: &'static str, values: impl Iterator<Item = String>) -> KeyValue {
    let values: Vec<StringValue> = values.map(Into::into).collect();
    KeyValue::new(name, Value::Array(Array::String(values)))
}

fn failure_attributes(failure: &Failure, attributes: &mut Vec<KeyValue>) {
    attributes.push(text(names::FAILURE_DOMAIN, failure.domain().name()));
    attributes.push(text(names::FAILURE_CAUSE, failure.cause.name()));
    attributes.push(text(names::ERROR_TYPE, failure.cause.name()));
    attributes.push(KeyValue::new(names::FAILURE_RETRYABLE, failure.retryable));
    if let Some(detail) = failure.detail {
        attributes.push(text(names::FAILURE_DETAIL, detail));
    }
    if let Some(hint) = failure.retry_after {
        attributes
            .push(int(names::RETRY_AFTER_MS, hint.as_millis().try_into().unwrap_or(u64::MAX)));
    }
    if let Some(status) = failure.evidence.status {
        attributes.push(int(names::HTTP_STATUS, status.into()));
    }
    violations(failure, attributes);
}

/// Where an output breaks its contract; what stands there is on no span.
fn violations(failure: &Failure, attributes: &mut Vec<KeyValue>) {
    if !failure.violations.is_empty() {
        let paths = failure.violations.iter().take(16).map(|violation| violation.path.clone());
        attributes.push(texts(names::OUTPUT_VIOLATIONS, paths));
    }
}

fn changes(changes: &[OutputChange]) -> KeyValue {
    let told = changes.iter().take(16);
    texts(names::OUTPUT_CHANGES, told.map(|change| format!("{}@{}", change.kind, change.place)))
}

fn action_name(decision: &DecisionRecord) -> &'static str {
    decision.action.map_or("none", |action| action.name())
}

/// What was decided, and about what: an output that was found wanting more than once has an event
/// for each time.
fn decision_event(
    failure: Option<&Failure>,
    decision: &DecisionRecord,
    at: std::time::SystemTime,
) -> Event {
    let mut attributes = vec![
        text(names::RECOVERY_ACTION, action_name(decision)),
        text(names::POLICY_RULE, decision.rule.to_string()),
    ];
    if let Some(failure) = failure {
        attributes.push(text(names::FAILURE_CAUSE, failure.cause.name()));
        violations(failure, &mut attributes);
    }
    if let Some(rung) = decision.rung {
        attributes.push(int(names::POLICY_RUNG, rung as u64));
    }
    if !decision.wait.is_zero() {
        attributes.push(int(names::RECOVERY_WAIT_MS, decision.wait.as_millis() as u64));
    }
    if let Some(target) = &decision.next_target {
        attributes.push(text(names::RECOVERY_NEXT_TARGET, target.clone()));
    }
    if !decision.skipped.is_empty() {
        let skipped = decision
            .skipped
            .iter()
            .map(|s| format!("{}:{}:{}", s.rung, s.action.name(), s.reason.name()));
        attributes.push(texts(names::RECOVERY_SKIPPED, skipped));
    }
    Event::new(names::EVENT_DECISION, at, attributes, 0)
}

/// Exports the spans of a step: its own, its attempts', its elements'.
pub fn export_step(
    tracer: &Tracer,
    context: &TraceContext,
    parent_span_id: u64,
    run: &RunFacts<'_>,
    step: &StepReport,
    target: &dyn Fn(&str) -> TargetFacts,
) {
    for attempt in &step.attempts {
        tracer.export(context, attempt_span(step, attempt, run, &target(&attempt.target)));
        for verification in &attempt.verifications {
            export_step(tracer, context, attempt.span_id, run, verification, target);
        }
    }
    if let Some(embedding) = &step.embedding {
        let target = target(&embedding.target);
        tracer.export(context, cached::embedding_span(step, embedding, &target));
    }
    for element in &step.elements {
        export_step(tracer, context, step.span_id, run, element, target);
    }
    tracer.export(context, step_span(parent_span_id, run, step));
}

fn attempt_span(
    step: &StepReport,
    attempt: &AttemptRecord,
    run: &RunFacts<'_>,
    target: &TargetFacts,
) -> FinishedSpan {
    let mut attributes = call_attributes(attempt, run, target);
    judgement_attributes(attempt, &mut attributes);
    let ended = attempt.started + attempt.duration;
    let first = (attempt.failure.as_ref(), attempt.decision.as_ref());
    let further = attempt.further.iter();
    let further = further.map(|finding| (Some(&finding.failure), finding.decision.as_ref()));
    let decided = std::iter::once(first).chain(further);
    let event = |(failure, decision): (Option<&Failure>, Option<&DecisionRecord>)| {
        decision.map(|decision| decision_event(failure, decision, ended))
    };
    FinishedSpan {
        name: names::attempt_span(&target.model),
        span_id: attempt.span_id,
        parent_span_id: step.span_id,
        parent_is_remote: false,
        kind: SpanKind::Client,
        started: attempt.started,
        duration: attempt.duration,
        attributes,
        events: decided.filter_map(event).collect(),
        error: attempt.failure.as_ref().map(|failure| failure.message.clone()),
    }
}

/// What was asked of whom, and what came back.
fn call_attributes(
    attempt: &AttemptRecord,
    run: &RunFacts<'_>,
    target: &TargetFacts,
) -> Vec<KeyValue> {
    let mut attributes = vec![
        text(names::GEN_AI_OPERATION, "chat"),
        text(names::GEN_AI_PROVIDER, target.provider.clone()),
        text(names::GEN_AI_REQUEST_MODEL, target.model.clone()),
        text(names::SERVER_ADDRESS, target.address.clone()),
        int(names::SERVER_PORT, target.port.into()),
        int(names::ATTEMPT, attempt.number.into()),
        text(names::TARGET, attempt.target.clone()),
        int(names::GEN_AI_INPUT_TOKENS, attempt.usage.input_tokens),
        int(names::GEN_AI_OUTPUT_TOKENS, attempt.usage.output_tokens),
        text(names::POLICY_NAME, run.policy.name.clone()),
        int(names::POLICY_VERSION, run.policy.version),
    ];
    if !attempt.called {
        attributes.push(KeyValue::new(names::CALLED, false));
    }
    if attempt.panic {
        attributes.push(KeyValue::new(names::PANIC, true));
    }
    if attempt.hedge {
        attributes.push(KeyValue::new(names::HEDGE, true));
    }
    if let Some(cancelled) = attempt.cancelled {
        attributes.push(text(names::CANCELLED, cancelled.name()));
    }
    if attempt.cost_usd > 0.0 {
        attributes.push(KeyValue::new(names::COST_USD, attempt.cost_usd));
    }
    if let Some(time) = attempt.time_to_first_chunk {
        attributes.push(KeyValue::new(names::GEN_AI_REQUEST_STREAM, true));
        attributes.push(KeyValue::new(names::GEN_AI_TIME_TO_FIRST_CHUNK, time.as_secs_f64()));
    }
    if let Some(id) = &attempt.response_id {
        attributes.push(text(names::GEN_AI_RESPONSE_ID, id.clone()));
    }
    if let Some(model) = &attempt.response_model {
        attributes.push(text(names::GEN_AI_RESPONSE_MODEL, model.clone()));
    }
    if let Some(finish) = attempt.finish {
        attributes.push(texts(names::GEN_AI_FINISH_REASONS, std::iter::once(finish.to_owned())));
    }
    attributes
}

/// What was wrong with it and what was decided about that.
fn judgement_attributes(attempt: &AttemptRecord, attributes: &mut Vec<KeyValue>) {
    if let Some(failure) = &attempt.failure {
        failure_attributes(failure, attributes);
    }
    if let Some(decision) = &attempt.decision {
        attributes.push(text(names::RECOVERY_ACTION, action_name(decision)));
        attributes.push(text(names::POLICY_RULE, decision.rule.to_string()));
    }
    if let Some(check) = &attempt.check {
        attributes.push(text(names::OUTPUT_VERDICT, check.verdict.name()));
        if !check.changes.is_empty() {
            attributes.push(changes(&check.changes));
        }
    }
}

fn step_span(parent_span_id: u64, run: &RunFacts<'_>, step: &StepReport) -> FinishedSpan {
    let mut attributes = vec![
        text(names::STEP, step.step.clone()),
        text(names::RUN_ID, run.run_id.clone()),
        text(names::STATE, step.state.name()),
        int(names::ATTEMPTS, step.attempts.len() as u64),
        text(names::POLICY_NAME, run.policy.name.clone()),
        int(names::POLICY_VERSION, run.policy.version),
    ];
    if let Some(element) = step.element {
        attributes.push(int(names::ELEMENT, element as u64));
    }
    if let Some(target) = &step.target {
        attributes.push(text(names::TARGET, target.clone()));
    }
    cached::attributes(step, &mut attributes);
    if let Some(degraded) = step.degraded {
        attributes.push(text(names::DEGRADED, degraded.name()));
    }
    if let Some(output) = &step.output {
        attributes.push(text(names::OUTPUT_VERDICT, output.verdict.name()));
        if !output.changes.is_empty() {
            attributes.push(changes(&output.changes));
        }
    }
    // The final domain and action; for a step that recovered, the last failure it got over.
    let last = step.attempts.iter().rev().find(|attempt| attempt.failure.is_some());
    if let Some(failure) = step.failure.as_ref().or(last.and_then(|a| a.failure.as_ref())) {
        if step.failure.is_some() {
            failure_attributes(failure, &mut attributes);
        } else {
            attributes.push(text(names::FAILURE_DOMAIN, failure.domain().name()));
            attributes.push(text(names::FAILURE_CAUSE, failure.cause.name()));
        }
    }
    if let Some(action) = step.last_action {
        attributes.push(text(names::RECOVERY_ACTION, action.name()));
    }
    let mut events = Vec::new();
    if let Some(decision) = &step.decision {
        attributes.push(text(names::POLICY_RULE, decision.rule.to_string()));
        events.push(decision_event(None, decision, step.started + step.duration));
    }
    FinishedSpan {
        name: names::step_span(&step.step),
        span_id: step.span_id,
        parent_span_id,
        parent_is_remote: false,
        kind: SpanKind::Internal,
        started: step.started,
        duration: step.duration,
        attributes,
        events,
        error: step.failure.as_ref().map(|failure| failure.message.clone()),
    }
}

/// Exports the server span of a call.
pub fn export_call(
    tracer: &Tracer,
    context: &TraceContext,
    run: &RunFacts<'_>,
    call: &CallFacts<'_>,
) {
    let mut attributes = vec![
        text(names::RPC_SYSTEM, "grpc"),
        text(names::RPC_METHOD, call.method),
        text(names::RPC_STATUS, call.status),
        text(names::RUN_ID, run.run_id.clone()),
        text(names::STATE, call.state.name()),
        text(names::POLICY_NAME, run.policy.name.clone()),
        int(names::POLICY_VERSION, run.policy.version),
    ];
    if !run.pipeline.is_empty() {
        attributes.push(text(names::PIPELINE_NAME, run.pipeline.clone()));
        attributes.push(int(names::PIPELINE_VERSION, run.pipeline_version));
        attributes.push(text(names::GEN_AI_OPERATION, "invoke_workflow"));
        attributes.push(text(names::GEN_AI_WORKFLOW, run.pipeline.clone()));
    }
    if let Some(failure) = call.failure {
        failure_attributes(failure, &mut attributes);
    }
    if let Some(action) = call.action {
        attributes.push(text(names::RECOVERY_ACTION, action));
    }
    tracer.export(
        context,
        FinishedSpan {
            name: call.name.to_owned(),
            span_id: context.span_id,
            parent_span_id: context.parent_span_id,
            parent_is_remote: context.parent_span_id != 0,
            kind: SpanKind::Server,
            started: call.started,
            duration: call.duration,
            attributes,
            events: Vec::new(),
            error: call.failure.map(|failure| failure.message.clone()),
        },
    );
}
