//! What actions brought: the outcomes of steps after them, by action, cause and target.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use super::super::decision::{Decision, RepairOffer, Verdict};
use super::super::ladder::Action;
use super::super::record::{Aftermath, RecordedFailure, RecordedStep, StepEnd};
use super::estimate::Interval;
use crate::failure::FailureCause;

/// Fewer outcomes are no evidence.
pub const SAMPLE_MIN: u64 = 5;

/// Kinds of actions that outcomes are kept of. There are as many as causes times pairs of targets
/// times actions that call a model, most of which never occur.
const KINDS_MAX: usize = 10_000;

/// An action about a cause at a target, towards a target.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Kind {
    action: Action,
    cause: FailureCause,
    from: Arc<str>,
    to: Arc<str>,
}

/// The outcomes of one kind, summed up.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(super) struct Effect {
    count: u64,
    recovered: u64,
    degraded: u64,
    calls: Moments,
    cost_usd: Moments,
    seconds: Moments,
}

#[derive(Debug, Clone, Copy, PartialEq, Default)]
struct Moments {
    sum: f64,
    squares: f64,
}

impl Moments {
    fn add(&mut self, value: f64) {
        self.sum += value;
        self.squares += value * value;
    }
}

impl Effect {
    fn add(&mut self, after: &Aftermath) {
        self.count += 1;
        self.recovered += u64::from(after.end == StepEnd::Recovered);
        self.degraded += u64::from(after.end == StepEnd::Degraded);
        self.calls.add(f64::from(after.calls));
        self.cost_usd.add(after.cost_usd);
        self.seconds.add(after.work.as_secs_f64());
    }

    /// Recoveries, degraded, calls, cost and seconds of one such action.
    pub(super) fn parts(&self) -> [Interval; 5] {
        let n = self.count;
        let mean = |moments: Moments| Interval::mean(moments.sum, moments.squares, n);
        [
            Interval::share(self.recovered, n),
            Interval::share(self.degraded, n),
            mean(self.calls),
            mean(self.cost_usd),
            mean(self.seconds),
        ]
    }
}

/// What one decision brings.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Brought {
    /// Recoveries, degraded, calls, cost and seconds that are certain.
    pub(super) certain: [f64; 5],
    /// What else is estimated.
    pub(super) estimated: Option<Effect>,
}

impl Brought {
    /// What it did bring.
    pub(super) fn seen(after: Aftermath, decision: &Decision) -> Self {
        let wait = RecordedFailure::wait(decision);
        let share = |end| if after.end == end { 1.0 } else { 0.0 };
        Self {
            certain: [
                share(StepEnd::Recovered),
                share(StepEnd::Degraded),
                f64::from(after.calls),
                after.cost_usd,
                (after.work + wait).as_secs_f64(),
            ],
            estimated: None,
        }
    }

    /// What ends a step at once.
    fn at_once(end: StepEnd) -> Self {
        let nothing = Aftermath { end, calls: 0, cost_usd: 0.0, work: Duration::ZERO };
        let share = |one| if nothing.end == one { 1.0 } else { 0.0 };
        let certain = [share(StepEnd::Recovered), share(StepEnd::Degraded), 0.0, 0.0, 0.0];
        Self { certain, estimated: None }
    }
}

/// What is known of the outcomes of actions.
#[derive(Debug, Clone, Default)]
pub struct Effects {
    kinds: HashMap<Kind, Effect>,
}

impl Effects {
    /// Adds the outcomes of a recorded step.
    pub fn note(&mut self, step: &RecordedStep) {
        for failure in &step.failures {
            let (Some(after), Some(kind)) = (&failure.aftermath, kind(failure, &failure.decision))
            else {
                continue;
            };
            let has_room = self.kinds.len() < KINDS_MAX;
            if let Some(effect) = self.kinds.get_mut(&kind) {
                effect.add(after);
            } else if has_room {
                self.kinds.entry(kind).or_default().add(after);
            }
        }
    }

    /// What a decision would bring that was not taken. None where the record cannot tell.
    pub(super) fn brought(
        &self,
        failure: &RecordedFailure,
        decision: &Decision,
    ) -> Option<Brought> {
        let Some(kind) = kind(failure, decision) else {
            return Some(Brought::at_once(end_at_once(failure, decision)));
        };
        let effect = self.kinds.get(&kind).filter(|effect| effect.count >= SAMPLE_MIN)?;
        let wait = RecordedFailure::wait(decision).as_secs_f64();
        Some(Brought { certain: [0.0, 0.0, 0.0, 0.0, wait], estimated: Some(*effect) })
    }
}

/// The kind of a decision that calls a model; none for one that ends the step at once.
fn kind(failure: &RecordedFailure, decision: &Decision) -> Option<Kind> {
    let to = match &decision.verdict {
        Verdict::Retry { .. } | Verdict::Reprompt { .. } => Arc::clone(&failure.target),
        Verdict::Fallback { target } => Arc::clone(target),
        Verdict::Repair { .. }
        | Verdict::Cache { .. }
        | Verdict::Template { .. }
        | Verdict::AcceptPartial { .. }
        | Verdict::Degrade { .. }
        | Verdict::Reject { .. }
        | Verdict::Halt
        | Verdict::Exhausted => return None,
    };
    Some(Kind {
        action: decision.verdict.action()?,
        cause: failure.facts.cause,
        from: Arc::clone(&failure.target),
        to,
    })
}

/// How a step ends with a decision that calls no model.
fn end_at_once(failure: &RecordedFailure, decision: &Decision) -> StepEnd {
    match &decision.verdict {
        Verdict::Repair { .. } => match failure.conditions.repair() {
            Some(RepairOffer::FenceOnly | RepairOffer::Lossless) => StepEnd::Recovered,
            Some(RepairOffer::Lossy) | None => StepEnd::Degraded,
        },
        Verdict::Cache { .. }
        | Verdict::Template { .. }
        | Verdict::AcceptPartial { .. }
        | Verdict::Degrade { source: Some(_) } => StepEnd::Degraded,
        Verdict::Degrade { source: None }
        | Verdict::Reject { .. }
        | Verdict::Halt
        | Verdict::Exhausted
        | Verdict::Retry { .. }
        | Verdict::Reprompt { .. }
        | Verdict::Fallback { .. } => StepEnd::Failed,
    }
}
