//! Leave to call: what a step says at a target's gate, what its next call draws on, and how the
//! targets stand when something is to be decided.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::checks::{Candidate, Unusable};
use super::gates::{Ask, OutputVerdict, Ticket, sends_elsewhere};
use super::step::{StepContext, Walk};
use super::targets::Target;
use crate::failure::{Failure, FailureDomain};
use crate::output;
use crate::policy::{Decision, Refusal, TargetCondition, Verdict};

/// Tokens of an answer whose limit is not known.
const ANSWER_TOKENS: u32 = 256;

/// What kind of call it is.
#[derive(Debug, Clone, Copy)]
pub struct Leave {
    /// The first of its step.
    pub is_fresh: bool,
    /// The step has another target that was not asked yet.
    pub has_alternative: bool,
    /// Every target refuses, and the policy wants the least bad one called all the same.
    pub is_panic: bool,
    /// A probe under way is waited for.
    pub awaits_probe: bool,
}

impl Leave {
    /// What is said at the gate. Tokens are estimated from the request's bytes.
    pub fn ask(
        self,
        cx: &StepContext<'_>,
        bytes: usize,
        answer_tokens: Option<u32>,
        deadline: Instant,
    ) -> Ask {
        let prompt = u64::try_from(bytes / 4).unwrap_or(u64::MAX);
        Ask {
            caller: cx.run.tenant.clone(),
            priority: cx.run.priority,
            tokens: prompt.saturating_add(answer_tokens.unwrap_or(ANSWER_TOKENS).into()),
            step: cx.planned.key,
            is_fresh: self.is_fresh,
            has_alternative: self.has_alternative,
            remaining: deadline.saturating_duration_since(Instant::now()),
            is_panic: self.is_panic,
            awaits_probe: self.awaits_probe,
        }
    }
}

/// Asks for a place. Where a call is only sent elsewhere, an elsewhere must take it: with none, it
/// is let through after all.
pub async fn admit(
    cx: &StepContext<'_>,
    target: &Arc<Target>,
    ask: Ask,
    deadline: Instant,
) -> Result<Ticket, Failure> {
    match target.gate.admit(&ask, deadline).await {
        Err(failure) if sends_elsewhere(&failure) => {
            let takes_it = |other: &&Arc<Target>| {
                other.name != target.name
                    && other.gate.admits()
                    && other.gate.likely_duration().is_none_or(|usual| usual <= ask.remaining)
            };
            match cx.planned.targets.iter().find(takes_it) {
                Some(_) => Err(failure),
                None => target.gate.admit(&Ask { has_alternative: false, ..ask }, deadline).await,
            }
        }
        result => result,
    }
}

/// Tells the breaker of a step's outputs what this one was worth. What can be repaired without a
/// guess is as good as clean.
pub fn tell(verdict: OutputVerdict, result: &Result<Candidate, Box<Unusable>>) {
    match result {
        Ok(_) => verdict.tell(true),
        Err(unusable) if unusable.failure.domain() == FailureDomain::OutputSemantic => {
            let offer = unusable.offer.as_ref().map(|offer| offer.verdict);
            verdict.tell(offer == Some(output::Verdict::Repaired));
        }
        Err(_) => {}
    }
}

/// What the next call would draw on, and did not get.
pub(super) enum Unpaid {
    /// The retry budget of this target.
    Retry(Arc<str>),
    /// The budget of re-asks.
    Reask,
}

impl Walk<'_, '_> {
    /// Leave for the next call.
    pub(super) fn leave(&self) -> Leave {
        let is_left = |target: &&Arc<Target>| {
            target.name != self.target.name && self.history.is_fresh(&target.name)
        };
        let has_alternative = self.targets.iter().any(|target| is_left(&target));
        // Others may begin a probe between a decision and its call.
        let was_sent_here = !self.report.attempts.is_empty() && !has_alternative;
        Leave {
            is_fresh: self.history.calls() == 0,
            has_alternative,
            is_panic: self.is_panic,
            awaits_probe: self.awaits_probe || was_sent_here,
        }
    }

    /// How every target stands: the step's own first, then every other one that a policy may name.
    /// Also whether the target that failed takes re-asks.
    pub(super) fn target_conditions(&self) -> (Vec<TargetCondition<'_>>, bool) {
        let own = &self.targets;
        let all = self.cx.engine.targets().iter();
        let others = all.filter(|target| !own.iter().any(|mine| mine.name == target.name));
        let (caller, step) = (&self.cx.run.tenant, self.cx.planned.key);
        let mut reprompt_budget = true;
        let conditions = own.iter().chain(others).map(|target| {
            let standing = target.gate.standing(caller, step);
            if target.name == self.target.name {
                reprompt_budget = standing.reprompt_budget;
            }
            TargetCondition {
                name: &target.name,
                admits_in: standing.admits_in,
                refusal: standing.refusal,
                retry_budget: standing.retry_budget,
                context_window: target.context_window,
                likely_duration: standing.likely_duration,
            }
        });
        let mut conditions: Vec<TargetCondition<'_>> = conditions.collect();
        let failed = conditions.iter().find(|condition| *condition.name == *self.target.name);
        if failed.is_some_and(|condition| condition.retry_budget) {
            conditions.iter_mut().for_each(|condition| condition.retry_budget = true);
        }
        // Outputs send a step elsewhere only where there is an elsewhere.
        let own = &mut conditions[..own.len()];
        let elsewhere = own.iter().any(|condition| {
            condition.admits_in == Some(Duration::ZERO) && *condition.name != *self.target.name
        });
        if !elsewhere {
            let suspects = own.iter_mut();
            for one in suspects.filter(|one| one.refusal == Some(Refusal::OutputBreakerOpen)) {
                (one.admits_in, one.refusal) = (Some(Duration::ZERO), None);
            }
        }
        (conditions, reprompt_budget)
    }

    /// Draws on the budgets for the call that was decided on. The room that a decision was made
    /// with may be gone: others decide at the same moment. Returns the target whose retry budget
    /// was drawn on.
    pub(super) fn pay(&self, decision: &Decision) -> Result<Option<Arc<Target>>, Unpaid> {
        if self.history.calls() == 0 {
            return Ok(None);
        }
        let retry = |target: &Arc<Target>| match self.draw_for(target) {
            Some(payer) => Ok(Some(payer)),
            None => Err(Unpaid::Retry(target.name.clone())),
        };
        match &decision.verdict {
            Verdict::Retry { .. } => retry(&self.target),
            Verdict::Fallback { target } => {
                self.cx.engine.targets().get(target).map_or(Ok(None), retry)
            }
            Verdict::Reprompt { .. } => match self.target.gate.withdraw_reprompt() {
                true => Ok(None),
                false => Err(Unpaid::Reask),
            },
            Verdict::Repair { .. }
            | Verdict::Cache { .. }
            | Verdict::Template { .. }
            | Verdict::AcceptPartial { .. }
            | Verdict::Degrade { .. }
            | Verdict::Reject { .. }
            | Verdict::Halt
            | Verdict::Exhausted => Ok(None),
        }
    }

    /// Draws on a retry budget for an extra call of this target, and says on whose.
    ///
    /// A target that nobody calls while the first one is well has had nothing paid in, so what it
    /// cannot pay the one that is left does, out of its own fresh calls. All extra calls together
    /// stay within the share of all fresh ones.
    pub(super) fn draw_for(&self, target: &Arc<Target>) -> Option<Arc<Target>> {
        let mut payers = [target, &self.target].into_iter();
        payers.find(|payer| payer.gate.withdraw_retry(&self.cx.run.tenant)).cloned()
    }

    /// Puts back what was drawn for a call that was not made.
    pub(super) fn put_back(&mut self, called: bool) {
        if let Some(payer) = self.payer.take().filter(|_| !called) {
            payer.gate.put_back_retry(&self.cx.run.tenant);
        }
    }

    /// When the first of the step's targets takes calls again, if all of them refuse now: the time
    /// for the caller to come back.
    pub(super) fn reopens_in(&self, failure: &Failure) -> Option<Duration> {
        if failure.domain() != FailureDomain::Infrastructure || !failure.retryable {
            return failure.retry_after;
        }
        let (caller, step) = (&self.cx.run.tenant, self.cx.planned.key);
        let mut earliest = failure.retry_after;
        for target in self.targets.iter() {
            let standing = target.gate.standing(caller, step);
            let its_own = target.name == self.target.name && failure.retry_after.is_some();
            match standing.admits_in {
                // What this target said of itself stands already.
                _ if its_own => {}
                Some(wait) if wait.is_zero() => return failure.retry_after,
                Some(wait) => earliest = Some(earliest.map_or(wait, |known| known.min(wait))),
                None => {}
            }
        }
        earliest
    }
}
