//! Wire messages as JSON for scripts: `run --json`.

use serde_json::{Value, json};

use super::show;
use crate::api::client::Refusal;
use crate::api::pb;

pub(super) fn run(run: &pb::Run, output: &Value) -> Value {
    let policy = run.policy.clone().unwrap_or_default();
    json!({
        "run_id": run.run_id,
        "pipeline": run.pipeline,
        "pipeline_version": run.pipeline_version,
        "policy": { "name": policy.name, "version": policy.version },
        "state": show::state(run.state()),
        "output": output,
        "steps": run.steps.iter().map(step).collect::<Vec<_>>(),
        "usage": run.usage.as_ref().map(usage),
        "wasted": run.wasted.as_ref().map(usage),
        "trace_id": run.trace_id,
    })
}

pub(super) fn step(step: &pb::StepResult) -> Value {
    let output = step.output.as_ref().map(|output| {
        json!({
            "verdict": show::verdict(output.verdict()),
            "changes": changes(&output.changes),
            "warnings": violations(&output.warnings),
            "confidence": output.confidence,
        })
    });
    json!({
        "step": step.step,
        "element": step.element,
        "state": show::state(step.state()),
        "degraded": show::degraded(step.degraded()),
        "target": step.target,
        "output": output,
        "attempts": step.attempts.iter().map(attempt).collect::<Vec<_>>(),
        "elements": step.elements.iter().map(self::step).collect::<Vec<_>>(),
    })
}

fn attempt(attempt: &pb::Attempt) -> Value {
    let finding = |failure: Option<&pb::Failure>, decision: Option<&pb::Decision>| {
        json!({
            "domain": failure.map(|failure| show::domain(failure.domain())),
            "cause": failure.map(|failure| failure.cause.as_str()),
            "violations": failure.map(|failure| violations(&failure.violations)),
            "action": decision.map(|decision| show::action(decision.action())),
            "rule": decision.map(|decision| decision.rule.as_str()),
            "next_target": decision.map(|decision| decision.next_target.as_str()),
        })
    };
    let further = attempt.further.iter();
    let further = further.map(|one| finding(one.failure.as_ref(), one.decision.as_ref()));
    let check = attempt.check.as_ref().map(|check| {
        json!({ "verdict": show::verdict(check.verdict()), "changes": changes(&check.changes) })
    });
    let mut told = finding(attempt.failure.as_ref(), attempt.decision.as_ref());
    told["number"] = attempt.number.into();
    told["target"] = attempt.target.as_str().into();
    told["called"] = attempt.called.into();
    told["hedge"] = attempt.hedge.into();
    told["cancelled"] = attempt.cancelled.into();
    told["check"] = check.into();
    told["further"] = further.collect();
    told["verifications"] = attempt.verifications.iter().map(step).collect();
    told["usage"] = attempt.usage.as_ref().map(usage).into();
    told
}

fn changes(changes: &[pb::OutputChange]) -> Vec<Value> {
    let change = |change: &pb::OutputChange| json!({ "kind": change.kind, "place": change.place, "lossy": change.lossy });
    changes.iter().map(change).collect()
}

fn violations(violations: &[pb::Violation]) -> Vec<Value> {
    let violation = |one: &pb::Violation| json!({ "path": one.path, "message": one.message });
    violations.iter().map(violation).collect()
}

fn usage(usage: &pb::Usage) -> Value {
    json!({
        "input_tokens": usage.input_tokens,
        "output_tokens": usage.output_tokens,
        "cost_usd": usage.cost_usd,
    })
}

pub(super) fn refusal(refusal: &Refusal) -> Value {
    let failure = refusal.failure.as_ref();
    json!({
        "code": format!("{:?}", refusal.code),
        "message": refusal.message,
        "reason": refusal.reason,
        "run_id": refusal.run_id,
        "domain": failure.map(|failure| show::domain(failure.domain())),
        "cause": failure.map(|failure| failure.cause.as_str()),
        "step": failure.map(|failure| failure.step.as_str()),
        "calls": failure.map(|failure| failure.attempts),
        "action": failure.map(|failure| show::action(failure.action())),
        "violations": failure.map(|failure| violations(&failure.violations)),
        "faults": refusal
            .faults
            .iter()
            .map(|(field, description)| json!({ "field": field, "description": description }))
            .collect::<Vec<_>>(),
        "retry_after_seconds": refusal.retry_after.map(|after| after.as_secs_f64()),
    })
}
