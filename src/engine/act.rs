//! Carrying decisions out. Each verdict is one arm; what they need comes from the walk.

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio::time::Instant;

use super::checks::{self, Candidate, Unusable};
use super::plan::PlannedStep;
use super::step::{Walk, record_of};
use crate::failure::Failure;
use crate::journal::{CacheUse, DecisionRecord, DegradedBy, OutputBody, StepOutput};
use crate::pipeline::OutputSpec;
use crate::policy::{Decision, DegradeSource, Verdict};

/// What comes after a decision.
pub(super) enum Next {
    /// Another call, after a wait.
    Call {
        /// The wait.
        after: Duration,
    },
    /// An output, to be judged before it is the step's.
    Judge(Box<Candidate>),
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
    let continues = decision.continues;
    let next = match decision.verdict {
        Verdict::Retry { after } => {
            walk.go_on(unusable.said.filter(|_| continues));
            Next::Call { after }
        }
        Verdict::Fallback { target } => fall_back(walk, &target, unusable, continues),
        Verdict::Repair { .. } => match checks::repaired(walk.cx, unusable) {
            Ok(candidate) => Next::Judge(Box::new(candidate)),
            Err(failure) => done(walk, failure),
        },
        Verdict::Reprompt { max_output_tokens, continue_cut } => {
            walk.ask_again(unusable, max_output_tokens, continue_cut);
            Next::Call { after: Duration::ZERO }
        }
        Verdict::AcceptPartial { .. } => take_part(walk, unusable),
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

fn fall_back(walk: &mut Walk<'_, '_>, name: &str, unusable: Unusable, continues: bool) -> Next {
    match walk.cx.engine.targets().get(name) {
        Some(target) => {
            walk.target = target.clone();
            let before = std::mem::take(&mut walk.reask);
            if continues {
                walk.reask.continued = before.continued;
                walk.go_on(unusable.said);
            }
            Next::Call { after: Duration::ZERO }
        }
        // `decide` chooses among the targets that it was given, which all exist.
        None => done(walk, unusable.failure),
    }
}

/// Takes a part of the output in hand, if it passes what is still to be asked of it.
fn take_part(walk: &mut Walk<'_, '_>, unusable: Unusable) -> Next {
    match unusable.part {
        Some(part) => Next::Judge(Box::new(part)),
        // Offered to `decide` only where there is one.
        None => done(walk, unusable.failure),
    }
}

/// Takes an output from somewhere else, or fails if it is gone meanwhile.
fn degrade(
    walk: &mut Walk<'_, '_>,
    source: Option<DegradeSource>,
    template: Option<Arc<Value>>,
    unusable: Unusable,
) -> Next {
    let Some(source) = source else { return done(walk, unusable.failure) };
    match source {
        DegradeSource::Cache => {
            let found =
                walk.cache_key.and_then(|key| walk.cx.engine.cache().get(&key, Duration::MAX));
            match found {
                Some(kept) => {
                    walk.report.cache = Some(CacheUse::Exact);
                    walk.report.cache_age = Some(Instant::now().duration_since(kept.stored));
                    walk.degrade(kept.output, degraded_by(source));
                    Next::Done
                }
                None => done(walk, unusable.failure),
            }
        }
        DegradeSource::Template => {
            match template.or_else(|| walk.cx.planned.step.template_output.clone()) {
                // `decide` has no other to give; a step's own was checked with the step.
                Some(value) => {
                    let output = fixed_output(walk.cx.planned, &value);
                    walk.degrade(output, degraded_by(source));
                    Next::Done
                }
                None => done(walk, unusable.failure),
            }
        }
        DegradeSource::Partial => take_part(walk, unusable),
    }
}

/// What a degraded source is called in records.
fn degraded_by(source: DegradeSource) -> DegradedBy {
    match source {
        DegradeSource::Partial => DegradedBy::Partial,
        DegradeSource::Cache => DegradedBy::Cache,
        DegradeSource::Template => DegradedBy::Template,
    }
}

/// A fixed output as a step's output: text for a text contract, else JSON.
fn fixed_output(planned: &PlannedStep, value: &Arc<Value>) -> StepOutput {
    let body = match (&planned.step.output, &**value) {
        (OutputSpec::Text { .. }, Value::String(text)) => OutputBody::Text(text.as_str().into()),
        (OutputSpec::Text { .. }, other) => OutputBody::Text(other.to_string().into()),
        (OutputSpec::Json { .. }, other) => {
            OutputBody::Json { text: other.to_string().into(), value: value.clone() }
        }
    };
    StepOutput::plain(body)
}
