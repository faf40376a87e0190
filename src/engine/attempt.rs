//! One attempt: through the gate, to the provider and back, judged.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use super::plan::PlannedStep;
use super::step::StepContext;
use super::targets::Target;
use crate::exchange::{FinishReason, Message, ModelReply, ModelRequest, Outcome};
use crate::failure::{Failure, FailureCause};
use crate::journal::{AttemptRecord, OutputBody, OutputChange, OutputVerdict, StepOutput};
use crate::output::{self, Checked, Verdict};
use crate::provider::DecodeContext;
use crate::provider::transport::Call;
use crate::telemetry::trace;

/// What came of an attempt.
pub struct Attempted {
    /// What happened, for the record.
    pub record: AttemptRecord,
    /// The output, or what is wrong with it.
    pub result: Result<StepOutput, Box<Unusable>>,
}

/// An attempt that gave no usable output as it stands.
pub struct Unusable {
    /// Why.
    pub failure: Failure,
    /// What deterministic repair makes of the output, where there is one.
    pub offer: Option<Checked>,
    /// The model's text, to be shown to it again.
    pub said: Option<String>,
    /// True when the caller's deadline ended the attempt, not a limit of ours.
    pub ended_by_caller: bool,
}

impl From<Failure> for Unusable {
    fn from(failure: Failure) -> Self {
        Self { failure, offer: None, said: None, ended_by_caller: false }
    }
}

/// Makes one attempt on `target`, ending at `deadline` at the latest.
pub async fn make(
    cx: &StepContext<'_>,
    target: &Arc<Target>,
    messages: &[Message],
    number: u32,
    deadline: Instant,
) -> Attempted {
    let began = Instant::now();
    let mut record = AttemptRecord {
        number,
        target: target.name.clone(),
        started: SystemTime::now(),
        duration: Duration::ZERO,
        called: false,
        span_id: trace::new_span_id(),
        usage: crate::exchange::Usage::default(),
        cost_usd: 0.0,
        response_id: None,
        response_model: None,
        finish: None,
        failure: None,
        decision: None,
    };
    let result = go(cx, target, messages, deadline, &mut record).await;
    record.duration = began.elapsed();
    if let Err(unusable) = &result {
        if record.called && !unusable.ended_by_caller {
            target.gate.note(&unusable.failure, Instant::now());
        }
        record.usage += unusable.failure.usage;
        record.failure = Some(unusable.failure.clone());
    }
    record.cost_usd = target.price.cost(&record.usage);
    Attempted { record, result }
}

fn refused(failure: Failure) -> Box<Unusable> {
    Box::new(failure.into())
}

async fn go(
    cx: &StepContext<'_>,
    target: &Arc<Target>,
    messages: &[Message],
    deadline: Instant,
    record: &mut AttemptRecord,
) -> Result<StepOutput, Box<Unusable>> {
    let planned = cx.planned;
    let request = request(planned, target, messages);
    let body = target.dialect.encode(&request).map_err(|error| {
        refused(Failure::new(FailureCause::UnsupportedParameter, error.to_string()))
    })?;
    let ticket = target.gate.admit(deadline).await.map_err(refused)?;
    let limit = planned.step.attempt_timeout.or(cx.policy.policy.execution.attempt_timeout);
    let own_deadline = Instant::now() + limit.unwrap_or(target.attempt_timeout);
    record.called = true;
    let outcome = target
        .endpoint
        .call(Call {
            body: body.into(),
            stream: false,
            traceparent: cx.run.trace.traceparent(record.span_id),
            deadline: own_deadline.min(deadline),
        })
        .await;
    drop(ticket);
    let reply = judge(target, outcome).map_err(|failure| {
        let timed_out =
            failure.cause == FailureCause::RequestTimeout && failure.evidence.status.is_none();
        let ended_by_caller = timed_out && deadline <= own_deadline;
        let failure =
            if ended_by_caller { failure.with_detail("caller_deadline") } else { failure };
        Box::new(Unusable { ended_by_caller, ..failure.into() })
    })?;
    record.usage = reply.usage;
    record.finish = Some(finish_name(&reply.finish));
    record.response_id.clone_from(&reply.response_id);
    record.response_model.clone_from(&reply.model);
    check(planned, reply)
}

fn request(planned: &PlannedStep, target: &Target, messages: &[Message]) -> ModelRequest {
    let step = &planned.step;
    let mut sampling = step.sampling.clone();
    if let Some(most) = target.max_output_tokens {
        sampling.max_output_tokens =
            Some(sampling.max_output_tokens.map_or(most, |asked| asked.min(most)));
    }
    let mut extra = target.extra.clone();
    for (key, value) in &step.extra {
        extra.insert(key.clone(), value.clone());
    }
    ModelRequest {
        model: target.model.clone(),
        messages: messages.to_vec(),
        tools: step.tools.clone(),
        tool_choice: step.tool_choice.clone(),
        sampling,
        response_format: planned.response_format.clone(),
        extra,
        stream: false,
    }
}

fn judge(target: &Target, outcome: Outcome) -> Result<ModelReply, Failure> {
    match outcome {
        Outcome::Response(response) => {
            let context = DecodeContext { provider: &target.provider, now: jiff::Timestamp::now() };
            target.dialect.decode(&response, context)
        }
        Outcome::Fault(fault) => Err(crate::failure::classify::of_fault(fault)),
    }
}

fn finish_name(finish: &FinishReason) -> &'static str {
    match finish {
        FinishReason::Stop => "stop",
        FinishReason::ToolCalls => "tool_calls",
        FinishReason::Unknown(_) => "unknown",
    }
}

/// Holds a reply against the step's contract. A tool call is an output of its own; the contract is
/// for text.
fn check(planned: &PlannedStep, reply: ModelReply) -> Result<StepOutput, Box<Unusable>> {
    if !reply.tool_calls.is_empty() {
        return Ok(StepOutput {
            body: OutputBody::Text(reply.text),
            tool_calls: reply.tool_calls,
            verdict: OutputVerdict::Clean,
            changes: Vec::new(),
            warnings: Vec::new(),
        });
    }
    let text = reply.text.into_inner();
    let wants_json = planned.contract.wants_json();
    let checked = output::check(&text, false, &planned.contract);
    match checked.verdict {
        Verdict::Clean => Ok(into_output(text, checked, OutputVerdict::Clean, wants_json)),
        Verdict::Repaired | Verdict::Lossy | Verdict::Failed => Err(Box::new(Unusable {
            failure: failure_of(&checked),
            offer: Some(checked),
            said: Some(text),
            ended_by_caller: false,
        })),
    }
}

/// The failure that a checked output is when nothing is repaired.
fn failure_of(checked: &Checked) -> Failure {
    let cause = checked.cause.unwrap_or(FailureCause::MalformedJson);
    let mut failure = Failure::new(cause, cause.summary().trim_end_matches('.').to_lowercase());
    failure.violations.clone_from(&checked.violations);
    failure
}

/// The output that a check gives, in the given verdict.
pub fn into_output(
    text: String,
    checked: Checked,
    verdict: OutputVerdict,
    wants_json: bool,
) -> StepOutput {
    let changes = checked
        .changes
        .listed()
        .iter()
        .map(|change| OutputChange {
            kind: change.kind.name(),
            place: change.place.to_string(),
            lossy: change.kind.is_lossy(),
        })
        .collect();
    let body = match checked.value {
        Some(value) if wants_json => {
            let text = match verdict {
                // The model's own spelling is kept where nothing had to change.
                OutputVerdict::Clean => text,
                OutputVerdict::Repaired | OutputVerdict::Lossy => value.to_string(),
            };
            OutputBody::Json { text: text.into(), value: Arc::new(value) }
        }
        Some(_) | None => OutputBody::Text(text.into()),
    };
    StepOutput { body, tool_calls: Vec::new(), verdict, changes, warnings: Vec::new() }
}
