//! Carrying decisions out. Each verdict is one arm; what they need comes from the walk.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::attempt::{self, Unusable};
use super::step::{Walk, degraded_by, fixed_output, record_of};
use crate::failure::Failure;
use crate::journal::{DecisionRecord, DegradedBy, OutputVerdict};
use crate::output;
use crate::policy::{Decision, DegradeSource, Verdict};

/// What comes after a decision.
pub(super) enum Next {
    /// Another call, after a wait.
    Call {
        /// The wait.
        after: Duration,
    },
    /// The step is over.
    Done,
}

/// Carries a decision out as far as it needs no waiting. Returns what comes next, and the decision
/// for the record.
pub(super) fn carry_out(
    walk: &mut Walk<'_, '_>,
    decision: Decision,
    unusable: Unusable,
) -> (Next, DecisionRecord) {
    let record = record_of(&decision);
    let next = match decision.verdict {
        Verdict::Retry { after } => Next::Call { after },
        Verdict::Fallback { target } => fall_back(walk, &target, unusable.failure),
        Verdict::Repair { .. } => repair(walk, unusable),
        // Not among `control::CARRIED_OUT`: no policy that names them is let in.
        Verdict::Reprompt { .. } | Verdict::AcceptPartial { .. } => done(walk, unusable.failure),
        Verdict::Cache { .. } => degrade(walk, Some(DegradeSource::Cache), None, unusable),
        Verdict::Template { template } => {
            degrade(walk, Some(DegradeSource::Template), template, unusable)
        }
        Verdict::Degrade { source } => {
            walk.raise_alert(&unusable.failure);
            degrade(walk, source, None, unusable)
        }
        Verdict::Reject { message } => {
            let mut failure = unusable.failure;
            if let Some(message) = message {
                failure.message = message.to_string();
            }
            done(walk, failure)
        }
        Verdict::Halt => {
            walk.raise_alert(&unusable.failure);
            walk.report.halts_run = true;
            done(walk, unusable.failure)
        }
        Verdict::Exhausted => done(walk, unusable.failure),
    };
    (next, record)
}

fn done(walk: &mut Walk<'_, '_>, failure: Failure) -> Next {
    walk.fail(failure);
    Next::Done
}

fn fall_back(walk: &mut Walk<'_, '_>, name: &str, failure: Failure) -> Next {
    match walk.cx.engine.targets().get(name) {
        Some(target) => {
            walk.target = target.clone();
            Next::Call { after: Duration::ZERO }
        }
        // `decide` chooses among the targets that it was given, which all exist.
        None => done(walk, failure),
    }
}

/// Takes the output that deterministic repair gave.
fn repair(walk: &mut Walk<'_, '_>, unusable: Unusable) -> Next {
    let Unusable { failure, offer, said, .. } = unusable;
    let wants_json = walk.cx.planned.contract.wants_json();
    match offer {
        Some(checked) if checked.value.is_some() => {
            let lossy = checked.verdict == output::Verdict::Lossy;
            let verdict = if lossy { OutputVerdict::Lossy } else { OutputVerdict::Repaired };
            let output =
                attempt::into_output(said.unwrap_or_default(), checked, verdict, wants_json);
            if lossy {
                walk.degrade(output, DegradedBy::Partial);
                walk.report.target = Some(walk.target.name.clone());
            } else {
                walk.succeed(output);
            }
            Next::Done
        }
        Some(_) | None => done(walk, failure),
    }
}

/// Takes an output from somewhere else, or fails if it is gone meanwhile.
fn degrade(
    walk: &mut Walk<'_, '_>,
    source: Option<DegradeSource>,
    template: Option<Arc<serde_json::Value>>,
    unusable: Unusable,
) -> Next {
    let Some(source) = source else { return done(walk, unusable.failure) };
    match source {
        DegradeSource::Cache => {
            let found = walk.cache_key.and_then(|key| walk.cx.engine.cache().get(&key));
            match found {
                Some((output, stored)) => {
                    walk.report.cache_age = Some(Instant::now().duration_since(stored));
                    walk.degrade(output, degraded_by(source));
                    Next::Done
                }
                None => done(walk, unusable.failure),
            }
        }
        DegradeSource::Template => {
            match template.or_else(|| walk.cx.planned.step.template_output.clone()) {
                Some(value) => {
                    let output = fixed_output(walk.cx.planned, &value);
                    walk.degrade(output, degraded_by(source));
                    Next::Done
                }
                None => done(walk, unusable.failure),
            }
        }
        // Never offered: see `Walk::decide`.
        DegradeSource::Partial => done(walk, unusable.failure),
    }
}
