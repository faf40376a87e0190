//! What was done in a step so far.
//!
//! Plain data that the executor adds to and [`decide`](super::decide()) reads. Allowances that were
//! used stay used whatever fails next, which is why every walk over ladders ends.

use std::sync::Arc;
use std::time::Duration;

use super::decision::{Decision, Verdict};
use super::ladder::RuleName;
use crate::failure::Failure;

/// The recoveries of one step.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct History {
    calls: u32,
    targets: Vec<TargetHistory>,
    uses: Vec<Use>,
    repaired_at: Option<u32>,
    previous_wait: Option<Duration>,
    cost_usd: f64,
    ended: bool,
    panicked: bool,
    content_shown: bool,
    hedges: u32,
}

/// What a step did with one target.
#[derive(Debug, Clone, PartialEq, Eq)]
struct TargetHistory {
    name: Arc<str>,
    calls: u32,
    taken: bool,
    spent: bool,
}

/// How often a rung was taken for failures of a target.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Use {
    rule: RuleName,
    rung: usize,
    source: Arc<str>,
    times: u32,
}

impl History {
    /// Notes a provider call; note it when it begins.
    pub fn record_call(&mut self, target: &str) {
        self.calls = self.calls.saturating_add(1);
        let target = self.target(target);
        target.calls = target.calls.saturating_add(1);
    }

    /// Notes what came of it, or that no call could be made.
    pub fn record_failure(&mut self, target: &str, failure: &Failure) {
        let target = self.target(target);
        target.spent |= !failure.retryable;
    }

    /// Notes a decision about a failure of `source_target`; note it before it is carried out.
    pub fn record_decision(&mut self, decision: &Decision, source_target: &str) {
        if let Some(rung) = decision.rung {
            self.record_use(&decision.rule, rung, source_target);
        }
        self.panicked |= decision.is_panic;
        match &decision.verdict {
            Verdict::Retry { after } => self.previous_wait = Some(*after),
            Verdict::Repair { .. } => self.repaired_at = Some(self.calls),
            Verdict::Fallback { target } => self.target(target).taken = true,
            Verdict::Degrade { .. }
            | Verdict::Reject { .. }
            | Verdict::Halt
            | Verdict::Exhausted => self.ended = true,
            Verdict::Reprompt { .. }
            | Verdict::Cache { .. }
            | Verdict::Template { .. }
            | Verdict::AcceptPartial { .. } => {}
        }
    }

    /// Adds what a provider call cost.
    pub fn record_cost(&mut self, usd: f64) {
        self.cost_usd += usd.max(0.0);
    }

    /// Notes that a second attempt was made beside a slow one.
    pub fn record_hedge(&mut self) {
        self.hedges = self.hedges.saturating_add(1);
    }

    /// Second attempts beside slow ones so far.
    pub fn hedges(&self) -> u32 {
        self.hedges
    }

    /// Notes whether somebody reads along and has seen content.
    pub fn set_content_shown(&mut self, shown: bool) {
        self.content_shown = shown;
    }

    /// Whether the reader of the stream has seen content.
    pub fn is_content_shown(&self) -> bool {
        self.content_shown
    }

    /// Provider calls so far.
    pub fn calls(&self) -> u32 {
        self.calls
    }

    /// Provider calls to one target so far.
    pub fn calls_to(&self, target: &str) -> u32 {
        self.of(target).map_or(0, |target| target.calls)
    }

    /// How often a rung was taken for failures of a target.
    pub fn uses(&self, rule: &str, rung: usize, source_target: &str) -> u32 {
        self.uses
            .iter()
            .find(|one| one.rung == rung && *one.source == *source_target && *one.rule == *rule)
            .map_or(0, |one| one.times)
    }

    /// Whether a fallback may still go to this target: it was not called, not taken by a fallback
    /// before, and has not failed in a way that no further call can cure.
    pub fn is_fresh(&self, target: &str) -> bool {
        self.of(target).is_none_or(|known| known.calls == 0 && !known.taken && !known.spent)
    }

    /// Whether the output in hand was repaired already.
    pub fn is_repaired(&self) -> bool {
        self.repaired_at == Some(self.calls)
    }

    /// The wait decided on last.
    pub fn previous_wait(&self) -> Option<Duration> {
        self.previous_wait
    }

    /// What the step's provider calls cost so far.
    pub fn cost_usd(&self) -> f64 {
        self.cost_usd
    }

    /// Whether the least bad target was called although all refused.
    pub fn has_panicked(&self) -> bool {
        self.panicked
    }

    /// Whether a decision ended the step.
    pub fn is_ended(&self) -> bool {
        self.ended
    }

    /// The same history under another policy that decided the same so far: the rungs taken are
    /// those of `other`.
    pub(super) fn with_rungs_of(&self, other: &Self) -> Self {
        Self { uses: other.uses.clone(), ..self.clone() }
    }

    /// Bytes that it takes beside its own, roughly.
    pub(super) fn bytes(&self) -> usize {
        let names: usize = self.targets.iter().map(|target| target.name.len() + 16).sum();
        names
            + self.targets.capacity() * size_of::<TargetHistory>()
            + self.uses.capacity() * size_of::<Use>()
    }

    fn record_use(&mut self, rule: &RuleName, rung: usize, source: &str) {
        let known = self
            .uses
            .iter_mut()
            .find(|one| one.rung == rung && *one.source == *source && one.rule == *rule);
        match known {
            Some(one) => one.times = one.times.saturating_add(1),
            None => {
                let source = Arc::clone(&self.target(source).name);
                self.uses.push(Use { rule: Arc::clone(rule), rung, source, times: 1 });
            }
        }
    }

    fn of(&self, name: &str) -> Option<&TargetHistory> {
        self.targets.iter().find(|target| *target.name == *name)
    }

    fn target(&mut self, name: &str) -> &mut TargetHistory {
        let at = self.targets.iter().position(|target| *target.name == *name);
        let at = at.unwrap_or_else(|| {
            self.targets.push(TargetHistory {
                name: Arc::from(name),
                calls: 0,
                taken: false,
                spent: false,
            });
            self.targets.len() - 1
        });
        &mut self.targets[at]
    }
}
