//! What another policy would have done about recorded failures.
//!
//! Each recorded failure is decided again with the very function that serves live traffic. Within a
//! step the first decision that changes ends the comparison: what failed after it came of the old
//! decision and would not have happened. What the new decision would have brought is estimated from
//! the recorded outcomes of the same action on the same cause and target; where there are too few,
//! it is unknown, and counted as such.

mod effects;
mod estimate;

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Policy;
use super::decision::Decision;
use super::history::History;
use super::ladder::Action;
use super::record::{RecordedFailure, RecordedStep};
use crate::failure::{FailureCause, FailureDomain};

pub use effects::{Effects, SAMPLE_MIN};
pub use estimate::Interval;

use effects::Brought;
use estimate::Sum;

/// A policy to compare: one for all, or for each step the decisions as they were recorded.
#[derive(Debug, Clone, Copy)]
pub enum Baseline<'a> {
    /// What was decided at the time.
    Recorded,
    /// What this policy would have decided.
    Policy(&'a Policy),
}

/// What a candidate would have changed.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Simulation {
    /// Failures looked at.
    pub failures: u64,
    /// Decisions that stay the same.
    pub unchanged: u64,
    /// Failures after a changed decision of the same step: they would not have happened so.
    pub not_reached: u64,
    /// Changed decisions, by kind, most first.
    pub changes: Vec<Change>,
    /// Changed decisions of which the record cannot tell the outcome.
    pub unknown: u64,
}

/// Decisions that change in the same way.
#[derive(Debug, Clone, PartialEq)]
pub struct Change {
    /// Domain.
    pub domain: FailureDomain,
    /// Cause.
    pub cause: FailureCause,
    /// Target that failed.
    pub target: Arc<str>,
    /// Action before; none where no rung was feasible.
    pub before: Option<Action>,
    /// Action after.
    pub after: Option<Action>,
    /// How many.
    pub count: u64,
    /// Those of which the record cannot tell the outcome.
    pub unknown: u64,
    /// What changes for the others; absent where there are none.
    pub estimate: Option<Estimate>,
}

/// What changed decisions bring, more or (negative) less than before. Intervals hold with 95 %.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Estimate {
    /// Steps that end with an output in full.
    pub recoveries: Interval,
    /// Steps that end with an output that is less than asked for.
    pub degraded: Interval,
    /// Provider calls.
    pub calls: Interval,
    /// Cost in US dollars.
    pub cost_usd: Interval,
    /// Time until the step ends, in seconds for each failure.
    pub latency_seconds: Interval,
}

/// How a decision differs, for grouping: cause, target, action before, action after.
type Kind = (FailureCause, Arc<str>, Option<Action>, Option<Action>);

#[derive(Default)]
struct Group {
    count: u64,
    unknown: u64,
    before: Sum,
    after: Sum,
}

/// Decides recorded steps again under `candidate`. `effects` is what is known of the outcomes of
/// actions.
pub fn simulate<'r>(
    steps: impl IntoIterator<Item = &'r RecordedStep>,
    candidate: &Policy,
    baseline: Baseline<'_>,
    effects: &Effects,
) -> Simulation {
    let mut simulation = Simulation::default();
    let mut groups: BTreeMap<Kind, Group> = BTreeMap::new();
    for step in steps {
        let all = step.failures.len() as u64;
        simulation.failures += all;
        let Some((at, old, new)) = first_change(step, candidate, baseline, &mut simulation) else {
            continue;
        };
        simulation.not_reached += all - at as u64 - 1;
        let failure = &step.failures[at];
        let kind = (
            failure.facts.cause,
            Arc::clone(&failure.target),
            old.verdict.action(),
            new.verdict.action(),
        );
        let group = groups.entry(kind).or_default();
        group.count += 1;
        let brought = |decision: &Decision| brought(failure, decision, effects);
        match (brought(&old), brought(&new)) {
            (Some(before), Some(after)) => {
                group.before.add(before);
                group.after.add(after);
            }
            (None, Some(_) | None) | (Some(_), None) => group.unknown += 1,
        }
    }
    simulation.changes = groups.into_iter().map(|(kind, group)| change(kind, group)).collect();
    simulation.changes.sort_by_key(|change| std::cmp::Reverse(change.count));
    simulation.unknown = simulation.changes.iter().map(|change| change.unknown).sum();
    simulation
}

/// The first failure of a step about which baseline and candidate disagree, with both decisions.
/// Those before it are counted as unchanged.
fn first_change(
    step: &RecordedStep,
    candidate: &Policy,
    baseline: Baseline<'_>,
    simulation: &mut Simulation,
) -> Option<(usize, Decision, Decision)> {
    // The rungs that each policy has taken so far: they have the same histories but for these.
    let (mut old_rungs, mut new_rungs) = (History::default(), History::default());
    for (at, failure) in step.failures.iter().enumerate() {
        let old = match baseline {
            Baseline::Recorded => failure.decision.clone(),
            Baseline::Policy(policy) => again(step, policy, failure, &mut old_rungs),
        };
        let new = again(step, candidate, failure, &mut new_rungs);
        if old.verdict != new.verdict {
            return Some((at, old, new));
        }
        simulation.unchanged += 1;
        if old.verdict != failure.decision.verdict {
            // Both leave the way that was recorded, together.
            simulation.not_reached += (step.failures.len() - at - 1) as u64;
            return None;
        }
    }
    None
}

fn again(
    step: &RecordedStep,
    policy: &Policy,
    failure: &RecordedFailure,
    rungs: &mut History,
) -> Decision {
    let history = failure.history.with_rungs_of(rungs);
    let decision = step.decide(policy, failure, &history);
    rungs.record_decision(&decision, &failure.target);
    decision
}

/// What a decision about a failure brings: what it brought if it is the one that was taken, what is
/// certain of it, or what the same action brought elsewhere.
fn brought(failure: &RecordedFailure, decision: &Decision, effects: &Effects) -> Option<Brought> {
    if decision.verdict == failure.decision.verdict {
        return failure.aftermath.map(|after| Brought::seen(after, decision));
    }
    effects.brought(failure, decision)
}

fn change((cause, target, before, after): Kind, group: Group) -> Change {
    let known = group.count - group.unknown;
    Change {
        domain: cause.domain(),
        cause,
        target,
        before,
        after,
        count: group.count,
        unknown: group.unknown,
        estimate: (known > 0).then(|| group.after.less(&group.before, known)),
    }
}

#[cfg(test)]
mod tests;
