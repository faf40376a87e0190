//! Records to wire messages. No decision is made here.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::pb;
use crate::control::audit::AuditEntry;
use crate::engine::events::{RunEvent, RunEventKind};
use crate::exchange::Usage;
use crate::failure::{Failure, FailureDomain};
use crate::journal::{
    AttemptRecord, CacheUse, DecisionRecord, DegradedBy, EmbeddingRecord, OutputBody, OutputChange,
    OutputVerdict, RunRecord, RunState, Spend, StepOutput, StepReport,
};
use crate::output::Verdict;
use crate::policy::Action;

pub(super) fn timestamp(time: SystemTime) -> prost_types::Timestamp {
    time.into()
}

pub(super) fn duration(duration: Duration) -> Option<prost_types::Duration> {
    prost_types::Duration::try_from(duration).ok()
}

pub(super) fn audit_entry(number: u64, entry: &AuditEntry) -> pb::AuditEntry {
    pb::AuditEntry {
        number,
        time: Some(timestamp(entry.time)),
        actor: entry.actor.clone(),
        action: entry.action.name().to_owned(),
        document: entry.document.clone(),
        from_version: entry.from_version,
        to_version: entry.to_version,
        comment: entry.comment.clone(),
    }
}

pub(super) fn domain(domain: FailureDomain) -> pb::FailureDomain {
    match domain {
        FailureDomain::Infrastructure => pb::FailureDomain::Infrastructure,
        FailureDomain::InputConstraint => pb::FailureDomain::InputConstraint,
        FailureDomain::OutputSemantic => pb::FailureDomain::OutputSemantic,
        FailureDomain::PipelineLogic => pb::FailureDomain::PipelineLogic,
    }
}

pub(super) fn action(action: Option<Action>) -> pb::RecoveryAction {
    match action {
        None => pb::RecoveryAction::Unspecified,
        Some(Action::RetryWithBackoff) => pb::RecoveryAction::RetryWithBackoff,
        Some(Action::RepairOutput) => pb::RecoveryAction::RepairOutput,
        Some(Action::RepromptWithErrors) => pb::RecoveryAction::RepromptWithErrors,
        Some(Action::FallbackToTarget) => pb::RecoveryAction::FallbackToTarget,
        Some(Action::FallbackToCache) => pb::RecoveryAction::FallbackToCache,
        Some(Action::FallbackToTemplate) => pb::RecoveryAction::FallbackToTemplate,
        Some(Action::AcceptPartial) => pb::RecoveryAction::AcceptPartial,
        Some(Action::AlertAndDegrade) => pb::RecoveryAction::AlertAndDegrade,
        Some(Action::RejectAndFix) => pb::RecoveryAction::RejectAndFix,
        Some(Action::AlertAndHalt) => pb::RecoveryAction::AlertAndHalt,
    }
}

/// The name of an action as policies write it; `none` for no action.
pub fn action_name(action: pb::RecoveryAction) -> &'static str {
    match action {
        pb::RecoveryAction::Unspecified => "none",
        pb::RecoveryAction::RetryWithBackoff => Action::RetryWithBackoff.name(),
        pb::RecoveryAction::RepairOutput => Action::RepairOutput.name(),
        pb::RecoveryAction::RepromptWithErrors => Action::RepromptWithErrors.name(),
        pb::RecoveryAction::FallbackToTarget => Action::FallbackToTarget.name(),
        pb::RecoveryAction::FallbackToCache => Action::FallbackToCache.name(),
        pb::RecoveryAction::FallbackToTemplate => Action::FallbackToTemplate.name(),
        pb::RecoveryAction::AcceptPartial => Action::AcceptPartial.name(),
        pb::RecoveryAction::AlertAndDegrade => Action::AlertAndDegrade.name(),
        pb::RecoveryAction::RejectAndFix => Action::RejectAndFix.name(),
        pb::RecoveryAction::AlertAndHalt => Action::AlertAndHalt.name(),
    }
}

fn state(state: RunState) -> pb::RunState {
    match state {
        RunState::Pending => pb::RunState::Pending,
        RunState::Running => pb::RunState::Running,
        RunState::Succeeded => pb::RunState::Succeeded,
        RunState::Degraded => pb::RunState::Degraded,
        RunState::Failed => pb::RunState::Failed,
        RunState::Cancelled => pb::RunState::Cancelled,
        RunState::Skipped => pb::RunState::Skipped,
    }
}

/// A state of a run from the wire; `None` for "any".
pub(super) fn wanted_state(state: pb::RunState) -> Option<RunState> {
    match state {
        pb::RunState::Unspecified => None,
        pb::RunState::Pending => Some(RunState::Pending),
        pb::RunState::Running => Some(RunState::Running),
        pb::RunState::Succeeded => Some(RunState::Succeeded),
        pb::RunState::Degraded => Some(RunState::Degraded),
        pb::RunState::Failed => Some(RunState::Failed),
        pb::RunState::Cancelled => Some(RunState::Cancelled),
        pb::RunState::Skipped => Some(RunState::Skipped),
    }
}

/// A failure with nothing known of where it happened.
pub(super) fn failure(failure: &Failure) -> pb::Failure {
    let evidence = &failure.evidence;
    pb::Failure {
        domain: domain(failure.domain()).into(),
        cause: failure.cause.name().to_owned(),
        message: failure.message.clone(),
        retryable: failure.retryable,
        retry_after: failure.retry_after.and_then(duration),
        provider_status: evidence.status.map(u32::from).unwrap_or_default(),
        provider_type: evidence.provider_type.clone().unwrap_or_default(),
        provider_code: evidence.provider_code.clone().unwrap_or_default(),
        provider_text: evidence
            .text
            .as_ref()
            .map(|text| text.expose().to_owned())
            .unwrap_or_default(),
        provider_request_id: evidence.request_id.clone().unwrap_or_default(),
        detail: failure.detail.unwrap_or_default().to_owned(),
        violations: failure.violations.iter().map(violation).collect(),
        ..pb::Failure::default()
    }
}

fn violation(violation: &crate::failure::Violation) -> pb::Violation {
    pb::Violation { path: violation.path.clone(), message: violation.message.clone() }
}

/// The failure of a run with where it happened.
pub(super) fn run_failure(record: &RunRecord, step: &str, cause: &Failure) -> pb::Failure {
    let report = record.failed_step();
    let element = report.and_then(|report| {
        report.elements.iter().find(|element| element.failure.as_ref() == Some(cause))
    });
    let at = element.or(report);
    pb::Failure {
        step: step.to_owned(),
        target: at
            .and_then(|report| report.attempts.last())
            .map(|attempt| attempt.target.to_string())
            .unwrap_or_default(),
        attempts: at.map(StepReport::calls).unwrap_or_default(),
        action: action(report.and_then(|report| report.last_action)).into(),
        run_id: record.run_id.to_string(),
        policy_name: record.policy.name.to_string(),
        policy_version: record.policy.version,
        element: element.and_then(|e| e.element).and_then(|index| u32::try_from(index).ok()),
        ..failure(cause)
    }
}

pub(super) fn decision(record: &DecisionRecord) -> pb::Decision {
    pb::Decision {
        action: action(record.action).into(),
        rule: record.rule.to_string(),
        rung: record.rung.and_then(|rung| u32::try_from(rung).ok()),
        skipped: record
            .skipped
            .iter()
            .map(|skipped| pb::SkippedRung {
                rung: u32::try_from(skipped.rung).unwrap_or(u32::MAX),
                action: action(Some(skipped.action)).into(),
                reason: skipped.reason.name().to_owned(),
            })
            .collect(),
        wait: Some(record.wait).filter(|wait| !wait.is_zero()).and_then(duration),
        next_target: record.next_target.as_deref().unwrap_or_default().to_owned(),
        continues: record.continues,
    }
}

fn usage(usage: Usage, cost_usd: f64) -> pb::Usage {
    pb::Usage {
        input_tokens: usage.input_tokens,
        output_tokens: usage.output_tokens,
        cached_input_tokens: usage.cached_input_tokens,
        reasoning_tokens: usage.reasoning_tokens,
        cost_usd,
    }
}

fn spend(spend: Spend) -> Option<pb::Usage> {
    Some(usage(spend.usage, spend.cost_usd))
}

fn attempt(record: &AttemptRecord) -> pb::Attempt {
    pb::Attempt {
        number: record.number,
        target: record.target.to_string(),
        start_time: Some(timestamp(record.started)),
        duration: duration(record.duration),
        usage: Some(usage(record.usage, record.cost_usd)),
        failure: record.failure.as_ref().map(failure),
        decision: record.decision.as_ref().map(decision),
        called: record.called,
        response_id: record.response_id.clone().unwrap_or_default(),
        response_model: record.response_model.clone().unwrap_or_default(),
        check: record.check.as_ref().map(|check| pb::OutputCheck {
            verdict: match check.verdict {
                Verdict::Clean => pb::OutputVerdict::Clean,
                Verdict::Repaired => pb::OutputVerdict::Repaired,
                Verdict::Lossy => pb::OutputVerdict::Lossy,
                Verdict::Failed => pb::OutputVerdict::Failed,
            }
            .into(),
            changes: changes(&check.changes),
        }),
        further: record
            .further
            .iter()
            .map(|finding| pb::Finding {
                failure: Some(failure(&finding.failure)),
                decision: finding.decision.as_ref().map(decision),
            })
            .collect(),
        verifications: record.verifications.iter().map(|report| step(report, true)).collect(),
        panic: record.panic,
        hedge: record.hedge,
        cancelled: record.cancelled.is_some(),
        time_to_first_chunk: record.time_to_first_chunk.and_then(duration),
    }
}

fn changes(changes: &[OutputChange]) -> Vec<pb::OutputChange> {
    changes
        .iter()
        .map(|change| pb::OutputChange {
            kind: change.kind.to_owned(),
            place: change.place.clone(),
            lossy: change.lossy,
        })
        .collect()
}

pub(super) fn output(output: &StepOutput) -> pb::Output {
    let (text, json) = match &output.body {
        OutputBody::Text(text) => (text.expose().to_owned(), String::new()),
        OutputBody::Json { text, .. } => (String::new(), text.expose().to_owned()),
    };
    pb::Output {
        text,
        json,
        tool_calls: output
            .tool_calls
            .iter()
            .map(|call| pb::ToolCall {
                id: call.id.clone(),
                name: call.name.clone(),
                arguments_json: call.arguments.expose().to_owned(),
            })
            .collect(),
        verdict: match output.verdict {
            OutputVerdict::Clean => pb::OutputVerdict::Clean,
            OutputVerdict::Repaired => pb::OutputVerdict::Repaired,
            OutputVerdict::Lossy => pb::OutputVerdict::Lossy,
        }
        .into(),
        changes: changes(&output.changes),
        warnings: output.warnings.iter().map(violation).collect(),
        confidence: output.confidence,
    }
}

fn embedding(record: &EmbeddingRecord) -> pb::Embedding {
    pb::Embedding {
        target: record.target.to_string(),
        duration: duration(record.duration),
        usage: spend(Spend { usage: record.usage, cost_usd: record.cost_usd }),
        failure: record.failure.as_ref().map(failure),
        nearest: record.nearest,
    }
}

/// A step's report; without attempts if the caller does not want them.
pub(super) fn step(report: &StepReport, with_attempts: bool) -> pb::StepResult {
    let attempts =
        if with_attempts { report.attempts.iter().map(attempt).collect() } else { Vec::new() };
    pb::StepResult {
        step: report.step.to_string(),
        state: state(report.state).into(),
        output: report.output.as_ref().map(output),
        degraded: match report.degraded {
            None => pb::DegradedSource::Unspecified,
            Some(DegradedBy::Cache) => pb::DegradedSource::Cache,
            Some(DegradedBy::Template) => pb::DegradedSource::Template,
            Some(DegradedBy::Partial) => pb::DegradedSource::Partial,
        }
        .into(),
        cache_age: report.cache_age.and_then(duration),
        cache: match report.cache {
            None => pb::CacheUse::Unspecified,
            Some(CacheUse::Exact) => pb::CacheUse::Exact,
            Some(CacheUse::Shared) => pb::CacheUse::Shared,
            Some(CacheUse::Semantic { .. }) => pb::CacheUse::Semantic,
        }
        .into(),
        cache_similarity: match report.cache {
            Some(CacheUse::Semantic { similarity }) => Some(similarity),
            Some(CacheUse::Exact | CacheUse::Shared) | None => None,
        },
        embedding: report.embedding.as_deref().map(embedding),
        attempts,
        usage: spend(report.spend()),
        wasted: spend(report.wasted()),
        failure: report.failure.as_ref().map(failure),
        target: report.target.as_deref().unwrap_or_default().to_owned(),
        element: report.element.and_then(|index| u32::try_from(index).ok()),
        elements: report.elements.iter().map(|element| step(element, with_attempts)).collect(),
        start_time: Some(timestamp(report.started)),
        duration: duration(report.duration),
    }
}

/// A policy in force.
pub(super) fn policy_ref(record: &RunRecord) -> pb::PolicyRef {
    pb::PolicyRef { name: record.policy.name.to_string(), version: record.policy.version }
}

/// A trace id as 32 hex digits; empty without one.
pub(super) fn trace_id(id: u128) -> String {
    if id == 0 { String::new() } else { format!("{id:032x}") }
}

/// How much of a run is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Detail {
    /// Everything.
    Full,
    /// No attempts.
    WithoutAttempts,
    /// No outputs and no attempts.
    Summary,
}

pub(super) fn run(record: &RunRecord, detail: Detail) -> pb::Run {
    let steps = record.steps.iter().map(|report| {
        let mut wire = step(report, detail == Detail::Full);
        if detail == Detail::Summary {
            wire.output = None;
            wire.elements.clear();
        }
        wire
    });
    pb::Run {
        run_id: record.run_id.to_string(),
        pipeline: record.pipeline.to_string(),
        pipeline_version: record.pipeline_version,
        policy: Some(policy_ref(record)),
        state: state(record.state).into(),
        output_json: match (&record.output, detail) {
            (Some(output), Detail::Full | Detail::WithoutAttempts) => output.to_string(),
            (Some(_), Detail::Summary) | (None, _) => String::new(),
        },
        steps: steps.collect(),
        failure: record.failure.as_ref().map(|(step, cause)| run_failure(record, step, cause)),
        usage: spend(record.spend()),
        wasted: spend(record.wasted()),
        labels: record.labels.iter().map(|(k, v)| (k.clone(), v.clone())).collect(),
        create_time: Some(timestamp(record.created)),
        end_time: record.ended.map(timestamp),
        trace_id: trace_id(record.trace_id),
        idempotency_key: record.idempotency_key.as_deref().unwrap_or_default().to_owned(),
        resumed_from_run_id: String::new(),
    }
}

/// The answer to a step that ended well.
pub(super) fn run_step_response(record: &RunRecord, with_attempts: bool) -> pb::RunStepResponse {
    let report = record.steps.first().map(Arc::as_ref);
    let mut result = report.map(|report| step(report, with_attempts));
    // The output stands beside the result; twice on the wire would be waste.
    let output = result.as_mut().and_then(|result| result.output.take());
    pb::RunStepResponse {
        run_id: record.run_id.to_string(),
        output,
        degraded: record.state == RunState::Degraded,
        result,
        policy: Some(policy_ref(record)),
        trace_id: trace_id(record.trace_id),
    }
}

fn index(element: Option<usize>) -> Option<u32> {
    element.and_then(|index| u32::try_from(index).ok())
}

pub(super) fn event(event: &RunEvent) -> pb::RunEvent {
    use pb::run_event::Event;
    let progress = |step: &str, element, total: usize, target: &str| pb::StepProgress {
        step: step.to_owned(),
        element: index(element),
        elements_total: u32::try_from(total).unwrap_or(u32::MAX),
        target: target.to_owned(),
    };
    let kind = match &event.kind {
        RunEventKind::Started(record) => Event::Started(run(record, Detail::Summary)),
        RunEventKind::StepStarted { step, element, target } => {
            Event::StepStarted(progress(step, *element, 0, target))
        }
        RunEventKind::ElementsKnown { step, total } => {
            Event::ElementsKnown(progress(step, None, *total, ""))
        }
        RunEventKind::AttemptFailed { step, element, attempt: record } => {
            Event::AttemptFailed(pb::AttemptEnded {
                step: step.to_string(),
                element: index(*element),
                attempt: Some(attempt(record)),
            })
        }
        RunEventKind::StepEnded(report) => Event::StepEnded(step(report, true)),
        RunEventKind::Ended(record) => Event::Ended(run(record, Detail::Full)),
    };
    pb::RunEvent { sequence: event.sequence, event: Some(kind) }
}
