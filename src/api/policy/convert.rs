//! Records of documents to wire messages.

use crate::api::convert::{duration, timestamp};
use crate::api::pb;
use crate::document::{Problem, Problems, Severity};
use crate::journal::documents::{Entry, Owner, Rejection, Rollout, RolloutState, Version};
use crate::policy::rollout::{Guards, Summary};

fn problem(problem: &Problem) -> pb::Problem {
    let severity = match problem.severity {
        Severity::Error => pb::Severity::Error,
        Severity::Warning => pb::Severity::Warning,
    };
    pb::Problem {
        severity: severity.into(),
        path: problem.dotted_path(),
        line: problem.position.line,
        column: problem.position.column,
        message: problem.message.clone(),
        suggestion: problem.suggestion.clone().unwrap_or_default(),
    }
}

/// Problems as data.
pub(super) fn problems(problems: &Problems) -> Vec<pb::Problem> {
    problems.0.iter().map(problem).collect()
}

pub(super) fn owner(owner: Owner) -> pb::DocumentOwner {
    match owner {
        Owner::File => pb::DocumentOwner::File,
        Owner::Api => pb::DocumentOwner::Api,
        Owner::BuiltIn => pb::DocumentOwner::BuiltIn,
    }
}

/// A version without its text.
pub(super) fn version(version: &Version) -> pb::DocumentVersion {
    pb::DocumentVersion {
        name: version.name.to_string(),
        version: version.version,
        content_hash: version.content_hash.to_string(),
        owner: owner(version.owner).into(),
        author: version.author.to_string(),
        comment: version.comment.to_string(),
        create_time: Some(timestamp(version.created)),
        rollback_of: version.rollback_of,
    }
}

/// The version that serves, said to belong to who owns the document now.
pub(super) fn active(entry: &Entry) -> Option<pb::DocumentVersion> {
    let active = version(entry.active_version()?);
    Some(pb::DocumentVersion { owner: owner(entry.owner).into(), ..active })
}

fn rejection(rejection: &Rejection) -> pb::Rejection {
    pb::Rejection {
        content_hash: rejection.content_hash.to_string(),
        owner: owner(rejection.owner).into(),
        time: Some(timestamp(rejection.time)),
        problems: problems(&rejection.problems),
    }
}

fn guards(guards: &Guards) -> pb::RolloutGuards {
    pb::RolloutGuards {
        sample_min: guards.sample_min,
        failed_share_max_increase: guards.failed_share_max_increase,
        degraded_share_max_increase: guards.degraded_share_max_increase,
        cost_max_increase: guards.cost_max_increase,
        latency_p95_max_increase: guards.latency_p95_max_increase,
        promote_after: guards.promote_after.and_then(duration),
    }
}

fn figures(version: u64, summary: &Summary) -> pb::RolloutFigures {
    pb::RolloutFigures {
        version,
        runs: summary.runs,
        failed_share: summary.failed_share,
        degraded_share: summary.degraded_share,
        cost_usd_per_run: summary.cost_usd_per_run,
        latency_p95: duration(summary.latency_p95),
    }
}

/// A rollout with its figures.
pub(super) fn rollout(rollout: &Rollout) -> pb::Rollout {
    let state = match rollout.state {
        RolloutState::Active => pb::RolloutState::Active,
        RolloutState::Promoted => pb::RolloutState::Promoted,
        RolloutState::RolledBack => pb::RolloutState::RolledBack,
    };
    let [old, new] = &rollout.figures;
    pb::Rollout {
        version: rollout.version,
        share: rollout.share,
        guards: Some(guards(&rollout.guards)),
        state: state.into(),
        reason: rollout.reason.to_string(),
        figures: vec![figures(rollout.base, old), figures(rollout.version, new)],
        start_time: Some(timestamp(rollout.started)),
    }
}

/// A document with what is served of it; without the text, which a watcher reads by version.
pub(super) fn status(entry: &Entry) -> pb::DocumentStatus {
    pb::DocumentStatus {
        name: entry.name.to_string(),
        active: active(entry),
        version: entry.active_version().map(|active| version(active)),
        text: String::new(),
        last_rejection: entry.rejection.as_deref().map(rejection),
        rollout: entry.rollout.as_deref().map(rollout),
    }
}
