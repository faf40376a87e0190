//! Wire messages of the control plane as JSON. Field names are those of the API.

use serde_json::{Value, json};

use super::words;
use crate::api::pb;

pub(in crate::cli) fn version(version: &pb::DocumentVersion) -> Value {
    json!({
        "name": version.name,
        "version": version.version,
        "content_hash": version.content_hash,
        "owner": words::owner(version.owner()),
        "author": version.author,
        "comment": version.comment,
        "create_time": words::time(version.create_time),
        "rollback_of": version.rollback_of,
    })
}

pub(in crate::cli) fn problems(problems: &[pb::Problem]) -> Value {
    let problem = |problem: &pb::Problem| {
        json!({
            "severity": words::severity(problem.severity()),
            "path": problem.path,
            "line": problem.line,
            "column": problem.column,
            "message": problem.message,
            "suggestion": problem.suggestion,
        })
    };
    problems.iter().map(problem).collect()
}

pub(in crate::cli) fn status(status: &pb::DocumentStatus) -> Value {
    let rejection = status.last_rejection.as_ref().map(|rejection| {
        json!({
            "content_hash": rejection.content_hash,
            "owner": words::owner(rejection.owner()),
            "time": words::time(rejection.time),
            "problems": problems(&rejection.problems),
        })
    });
    json!({
        "active": status.active.as_ref().map(version),
        "text": status.text,
        "last_rejection": rejection,
        "rollout": status.rollout.as_ref().map(rollout),
    })
}

pub(in crate::cli) fn rollout(rollout: &pb::Rollout) -> Value {
    let figures = rollout.figures.iter().map(|figures| {
        json!({
            "version": figures.version,
            "runs": figures.runs,
            "failed_share": figures.failed_share,
            "degraded_share": figures.degraded_share,
            "cost_usd_per_run": figures.cost_usd_per_run,
            "latency_p95_seconds": figures.latency_p95.map(as_seconds),
        })
    });
    json!({
        "version": rollout.version,
        "share": rollout.share,
        "state": words::rollout_state(rollout.state()),
        "reason": rollout.reason,
        "start_time": words::time(rollout.start_time),
        "figures": figures.collect::<Vec<_>>(),
    })
}

fn as_seconds(duration: prost_types::Duration) -> f64 {
    std::time::Duration::try_from(duration).unwrap_or_default().as_secs_f64()
}

pub(super) fn route(route: &pb::Route) -> Value {
    json!({
        "domain": crate::cli::show::domain(route.domain()),
        "cause": route.cause,
        "target": route.target,
        "rule": route.rule,
        "ladder": route.ladder,
    })
}

pub(super) fn changes(changes: &[pb::RouteChange]) -> Value {
    let change = |change: &pb::RouteChange| {
        json!({
            "before": change.before.as_ref().map(route),
            "after": change.after.as_ref().map(route),
            "summary": change.summary,
        })
    };
    changes.iter().map(change).collect()
}

pub(super) fn explanation(response: &pb::ExplainFailureResponse) -> Value {
    let decision = response.decision.clone().unwrap_or_default();
    let rungs = response.rungs.iter().map(|rung| {
        json!({
            "rung": rung.rung,
            "text": rung.text,
            "action": crate::cli::show::action(rung.action()),
            "feasible": rung.feasible,
            "reason": rung.reason,
        })
    });
    json!({
        "action": crate::cli::show::action(decision.action()),
        "rule": decision.rule,
        "wait_seconds": decision.wait.map(as_seconds),
        "next_target": decision.next_target,
        "rungs": rungs.collect::<Vec<_>>(),
    })
}

pub(super) fn simulation(response: &pb::SimulatePolicyResponse) -> Value {
    let estimate = |estimate: &Option<pb::Estimate>| {
        estimate.map(|one| json!({"value": one.value, "low": one.low, "high": one.high}))
    };
    let changes = response.changes.iter().map(|change| {
        json!({
            "domain": crate::cli::show::domain(change.domain()),
            "cause": change.cause,
            "target": change.target,
            "before": crate::cli::show::action(change.before()),
            "after": crate::cli::show::action(change.after()),
            "count": change.count,
            "unknown": change.unknown,
            "recoveries": estimate(&change.recoveries),
            "degraded": estimate(&change.degraded),
            "calls": estimate(&change.calls),
            "cost_usd": estimate(&change.cost_usd),
            "latency_seconds": estimate(&change.latency_seconds),
        })
    });
    json!({
        "failures": response.failures,
        "unchanged": response.unchanged,
        "not_reached": response.not_reached,
        "unknown": response.unknown,
        "changes": changes.collect::<Vec<_>>(),
    })
}
