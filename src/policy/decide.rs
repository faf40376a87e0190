//! What to do about a failure.
//!
//! [`decide`] serves live traffic, explanations and simulations alike. It walks the ladder that
//! the policy gives for the failure and takes the first feasible rung. What it passes over, and
//! why, is part of the answer.

mod fallback;
mod hedge;
mod refusals;
mod shown;

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use super::Policy;
use super::decision::{
    Decision, DegradeSource, Refusal, RepairOffer, SkipReason, Skipped, Verdict,
};
use super::history::History;
use super::ladder::{Action, AfterCut, Ladder, Rung};
use super::routing::Site;
use super::settings::WhenAllRefuse;
use crate::failure::{Failure, FailureCause, FailureDomain};
use crate::resilience::backoff::{Backoff, after_hint};

use fallback::waits_for_a_probe;
pub use hedge::hedge;

/// Time and luck.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Moment {
    /// Time until the answer must leave.
    pub remaining: Duration,
    /// A draw from 0 up to 1.
    pub dice: f64,
}

/// Everything that a decision depends on beside policy, failure and history.
#[derive(Debug, Clone)]
pub struct Conditions<'a> {
    /// Provider calls that the step may make; the smaller of it and the policy's holds.
    pub max_attempts: u32,
    /// Extra calls that the run may still make.
    pub run_extra_calls_left: u32,
    /// Cost ceiling of the step; the smaller of it and the policy's holds.
    pub max_cost_usd: Option<f64>,
    /// The asked target, the step's fallbacks, then others that the policy names, in order.
    pub targets: &'a [TargetCondition<'a>],
    /// How many of these are the step's own.
    pub step_targets: usize,
    /// Whether the budget of re-asks has room.
    pub reprompt_budget: bool,
    /// What a re-ask of the target that failed has room for.
    pub reask: ReaskRoom,
    /// The failure is the verifier's, which followed a ladder of its own: only what needs no call
    /// of the step is left.
    pub verifier_failed: bool,
    /// What a deterministic repair of the output in hand would give.
    pub repair: Option<RepairOffer>,
    /// Age of the last good output of the same step and input.
    pub cache_age: Option<Duration>,
    /// Whether the step has a template of its own.
    pub step_template: bool,
    /// Fixed outputs of the policy that the step's schema refuses.
    pub unfit_templates: &'a [Arc<Value>],
    /// Whether some fields of the output in hand hold.
    pub partial: bool,
}

/// What a re-ask has room for in the window of the target that failed, beside the step's prompt and
/// the answer due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReaskRoom {
    /// The errors, with as much of the output as is worth showing.
    pub errors: bool,
    /// The whole of an answer that was cut, to be continued.
    pub rest: bool,
    /// Tokens that going on with what the reader of a stream has seen takes, the prompt and the
    /// answer due included; absent where there is nothing to go on with, or it cannot be.
    pub shown: Option<u64>,
    /// Token limit that the answer had; absent where none was asked for.
    pub limit: Option<u32>,
    /// Highest token limit that an answer may have; absent where nothing bounds it.
    pub limit_max: Option<u32>,
}

impl Default for ReaskRoom {
    /// Where no window is known, everything fits.
    fn default() -> Self {
        Self { errors: true, rest: true, shown: None, limit: None, limit_max: None }
    }
}

impl ReaskRoom {
    /// The token limit that is this many times the old one, as far as it may be raised.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    fn raised(self, factor: f64) -> Option<u32> {
        let before = self.limit?;
        // Casts from floats saturate; what is not above the old limit is no raise.
        let wanted = (f64::from(before) * factor).ceil() as u32;
        Some(wanted.min(self.limit_max.unwrap_or(u32::MAX))).filter(|limit| *limit > before)
    }
}

/// The state of one target.
#[derive(Debug, Clone, Copy)]
pub struct TargetCondition<'a> {
    /// Its name.
    pub name: &'a str,
    /// When it admits a call: now (zero), in a while (cool-down, breaker), or not at all (disabled,
    /// forced open).
    pub admits_in: Option<Duration>,
    /// Why not now.
    pub refusal: Option<Refusal>,
    /// Whether its retry budget has room.
    pub retry_budget: bool,
    /// Its context window in tokens, where known.
    pub context_window: Option<u32>,
    /// What a call usually takes. A call that cannot end in the time left is not begun.
    pub likely_duration: Option<Duration>,
}

/// Picks what to do about `failure`.
///
/// The first route that applies gives the ladder; its first feasible rung is the decision. With no
/// such rung the step fails with this failure ([`Verdict::Exhausted`]).
///
/// Pure and total: the same arguments give the same decision. Whatever fails, a step makes at
/// most `max_attempts` provider calls, no wait outlives `moment.remaining` or is shorter than the
/// server's hint, no target is taken as fallback twice, and nothing follows a terminal action.
pub fn decide(
    policy: &Policy,
    failure: &Failure,
    site: &Site<'_>,
    history: &History,
    moment: Moment,
    conditions: &Conditions<'_>,
) -> Decision {
    let route = policy.routing.route(failure, site);
    let judge = Judge { policy, failure, site, history, moment, conditions, ladder: route.ladder };
    let mut decision = Decision {
        verdict: Verdict::Exhausted,
        rule: Arc::clone(&route.ladder.rule),
        rung: None,
        skipped: Vec::new(),
        is_panic: false,
        awaits_probe: false,
        continues: false,
        broken_overrides: route.broken,
    };
    if history.is_ended() {
        return decision;
    }
    for (rung, action, judgement) in judge.rungs() {
        match judgement {
            Ok(verdict) => {
                decision.verdict = verdict;
                decision.rung = Some(rung);
                break;
            }
            Err(reason) => decision.skipped.push(Skipped { rung, action, reason }),
        }
    }
    if let Some(verdict) = judge.least_bad(&decision.verdict) {
        decision.verdict = verdict;
        decision.rule = Arc::from("execution.when_all_refuse");
        decision.rung = None;
        decision.is_panic = true;
    }
    if judge.may_strip_a_fence() && decision.verdict.action() != Some(Action::RepairOutput) {
        decision.verdict = Verdict::Repair { accept_lossy: false };
        decision.rule = Arc::from("validation.strip_markdown_fences");
        decision.rung = None;
        decision.is_panic = false;
        decision.skipped.clear();
    }
    decision.awaits_probe = !decision.is_panic && judge.awaits_probe(&decision.verdict);
    decision.continues = judge.goes_on(&decision.verdict);
    decision
}

/// Judges the rungs of one ladder, each for itself.
pub(super) struct Judge<'a> {
    pub(super) policy: &'a Policy,
    pub(super) failure: &'a Failure,
    pub(super) site: &'a Site<'a>,
    pub(super) history: &'a History,
    pub(super) moment: Moment,
    pub(super) conditions: &'a Conditions<'a>,
    pub(super) ladder: &'a Ladder,
}

type Judgement = Result<Verdict, SkipReason>;

impl Judge<'_> {
    /// Every rung with what it would do now, or why it would not.
    pub(super) fn rungs(&self) -> impl Iterator<Item = (usize, Action, Judgement)> {
        let rungs = self.ladder.rungs.iter().enumerate();
        rungs.map(|(at, rung)| (at, rung.action(), self.rung(at, rung)))
    }

    fn rung(&self, at: usize, rung: &Rung) -> Judgement {
        let uses = self.history.uses(&self.ladder.rule, at, self.site.target);
        if !rung.action().is_terminal() && uses >= rung.allowance() {
            return Err(SkipReason::AllowanceUsed);
        }
        if !rung.action().suits(self.failure.domain()) {
            return Err(SkipReason::WrongDomain);
        }
        if self.keeps_what_was_shown() && rung.action().replaces_output() {
            return Err(SkipReason::ContentShown);
        }
        match rung {
            Rung::RetryWithBackoff { backoff, also_when_not_retryable, .. } => {
                self.retry(at, backoff, *also_when_not_retryable, uses)
            }
            Rung::RepairOutput { accept_lossy } => self.repair(*accept_lossy),
            Rung::RepromptWithErrors { after_cut, .. } => self.reprompt(*after_cut),
            Rung::FallbackToTarget { targets, .. } => self.fallback(targets),
            Rung::FallbackToCache { max_age } => self.cache(*max_age),
            Rung::FallbackToTemplate { template } => match template {
                None if !self.conditions.step_template => Err(SkipReason::NoTemplate),
                Some(own) if self.conditions.unfit_templates.contains(own) => {
                    Err(SkipReason::TemplateUnfit)
                }
                own => Ok(Verdict::Template { template: own.clone() }),
            },
            Rung::AcceptPartial { defaults } if self.has_partial() => {
                Ok(Verdict::AcceptPartial { defaults: Arc::clone(defaults) })
            }
            Rung::AcceptPartial { .. } => Err(SkipReason::NothingPartial),
            Rung::AlertAndDegrade => Ok(Verdict::Degrade { source: self.degraded_source() }),
            Rung::RejectAndFix { message } => Ok(Verdict::Reject { message: message.clone() }),
            Rung::AlertAndHalt => Ok(Verdict::Halt),
        }
    }

    /// `validation.strip_markdown_fences` takes a fence off whatever the ladder says.
    fn may_strip_a_fence(&self) -> bool {
        self.conditions.repair == Some(RepairOffer::FenceOnly)
            && self.policy.validation.strip_markdown_fences
            && !self.history.is_repaired()
            && self.failure.domain() == FailureDomain::OutputSemantic
    }

    fn retry(
        &self,
        at: usize,
        backoff: &Backoff,
        even_if_not_retryable: bool,
        uses: u32,
    ) -> Judgement {
        let execution = &self.policy.execution;
        if !self.failure.retryable && !even_if_not_retryable {
            return Err(SkipReason::NotRetryable);
        }
        self.room_for_a_call()?;
        let hint = self.failure.retry_after;
        if hint.is_some_and(|hint| hint > execution.hint_limit) {
            return Err(SkipReason::HintTooLong);
        }
        let target = self.source()?;
        if let Some(reason) = self.not_worth_the_wait(at, target) {
            return Err(reason);
        }
        let admits_in = match target.admits_in {
            Some(admits_in) if admits_in <= execution.hint_limit => admits_in,
            Some(_) | None => return Err(refused(target)),
        };
        self.retry_budget_of(target)?;
        let dice = self.moment.dice;
        let own = backoff.delay(uses.saturating_add(1), self.history.previous_wait(), dice);
        let hinted =
            hint.map_or(Duration::ZERO, |hint| after_hint(hint, execution.hint_spread, dice));
        let after = match waits_for_a_probe(target) {
            false => own.max(hinted).max(admits_in),
            // The call itself waits for the probe's end, from now on where nothing was sent.
            true if self.failure.is_refusal() => hinted,
            true => own.max(hinted),
        };
        self.fits(after.max(admits_in), target)?;
        Ok(Verdict::Retry { after })
    }

    fn repair(&self, accept_lossy: bool) -> Judgement {
        if self.history.is_repaired() {
            return Err(SkipReason::AllowanceUsed);
        }
        match self.conditions.repair {
            None => Err(SkipReason::NothingToRepair),
            Some(RepairOffer::Lossy) if !accept_lossy => Err(SkipReason::RepairIsLossy),
            Some(RepairOffer::Lossy | RepairOffer::Lossless | RepairOffer::FenceOnly) => {
                Ok(Verdict::Repair { accept_lossy })
            }
        }
    }

    fn reprompt(&self, after_cut: AfterCut) -> Judgement {
        self.room_for_a_call()?;
        if !self.conditions.reprompt_budget {
            return Err(SkipReason::RepromptBudget);
        }
        let target = self.source()?;
        admits_now(target)?;
        self.fits(Duration::ZERO, target)?;
        let room = self.conditions.reask;
        if self.failure.cause != FailureCause::TruncatedOutput || after_cut == AfterCut::default() {
            let plain = Verdict::Reprompt { max_output_tokens: None, continue_cut: false };
            return if room.errors { Ok(plain) } else { Err(SkipReason::ReaskTooLong) };
        }
        let max_output_tokens = after_cut.raise_max_output_tokens.and_then(|f| room.raised(f));
        if after_cut.continue_cut {
            let continued = Verdict::Reprompt { max_output_tokens, continue_cut: true };
            return if room.rest { Ok(continued) } else { Err(SkipReason::ReaskTooLong) };
        }
        // The same call with the same limit would be cut at the same place.
        let limit = max_output_tokens.ok_or(SkipReason::TokenLimit)?;
        Ok(Verdict::Reprompt { max_output_tokens: Some(limit), continue_cut: false })
    }

    fn cache(&self, max_age: Option<Duration>) -> Judgement {
        let limit = max_age.unwrap_or(self.policy.cache.max_age);
        match self.conditions.cache_age {
            Some(age) if self.policy.cache.enabled && age <= limit => {
                Ok(Verdict::Cache { max_age: Some(limit) })
            }
            Some(_) if self.policy.cache.enabled => Err(SkipReason::CacheEntryTooOld),
            Some(_) | None => Err(SkipReason::NoCacheEntry),
        }
    }

    fn degraded_source(&self) -> Option<DegradeSource> {
        if self.has_partial() && self.failure.domain() == FailureDomain::OutputSemantic {
            Some(DegradeSource::Partial)
        } else if self.keeps_what_was_shown() {
            None
        } else if self.cache(None).is_ok() {
            Some(DegradeSource::Cache)
        } else {
            self.conditions.step_template.then_some(DegradeSource::Template)
        }
    }

    fn has_partial(&self) -> bool {
        self.conditions.partial && self.policy.validation.allow_partial_matches
    }

    /// The call to the target that reopens first, where all of the step's refuse, the policy wants
    /// that rather than to fail fast, and the ladder found no other call. Once in a step, and only
    /// while it has made no call: what every target refuses now, none of them has answered.
    fn least_bad(&self, instead_of: &Verdict) -> Option<Verdict> {
        let wanted = self.policy.execution.when_all_refuse == WhenAllRefuse::LeastBad;
        if !wanted || self.history.calls() > 0 || self.history.has_panicked() {
            return None;
        }
        match instead_of {
            Verdict::Degrade { .. }
            | Verdict::Cache { .. }
            | Verdict::Template { .. }
            | Verdict::Exhausted => {}
            Verdict::Retry { .. }
            | Verdict::Repair { .. }
            | Verdict::Reprompt { .. }
            | Verdict::Fallback { .. }
            | Verdict::AcceptPartial { .. }
            | Verdict::Reject { .. }
            | Verdict::Halt => return None,
        }
        let all = self.conditions.targets;
        let own = &all[..self.conditions.step_targets.min(all.len())];
        if own.iter().any(|target| target.admits_in == Some(Duration::ZERO)) {
            return None;
        }
        let may_be_called = |target: &&TargetCondition<'_>| match target.refusal {
            Some(Refusal::BreakerOpen | Refusal::ProbeUnderWay | Refusal::CoolingDown) => {
                target.admits_in.is_some() && self.fits(Duration::ZERO, target).is_ok()
            }
            Some(
                Refusal::OutputBreakerOpen
                | Refusal::QuotaExhausted
                | Refusal::BulkheadFull
                | Refusal::Disabled,
            )
            | None => false,
        };
        let least_bad = own.iter().filter(may_be_called).min_by_key(|target| target.admits_in)?;
        self.room_for_a_call().ok()?;
        Some(if least_bad.name == self.site.target {
            Verdict::Retry { after: Duration::ZERO }
        } else {
            Verdict::Fallback { target: Arc::from(least_bad.name) }
        })
    }

    /// Whether step, run and purse allow one more provider call.
    fn room_for_a_call(&self) -> Result<(), SkipReason> {
        if self.conditions.verifier_failed {
            return Err(SkipReason::VerifierFailed);
        }
        let Conditions { max_attempts, max_cost_usd, .. } = *self.conditions;
        let execution = &self.policy.execution;
        if self.history.calls() >= max_attempts.min(execution.max_attempts) {
            return Err(SkipReason::AttemptsUsed);
        }
        // The first real call of a step is no extra call, whoever it goes to.
        if self.history.calls() > 0 && self.conditions.run_extra_calls_left == 0 {
            return Err(SkipReason::RunCapReached);
        }
        let ceilings = [max_cost_usd, execution.max_cost_usd];
        if ceilings.into_iter().flatten().any(|ceiling| self.history.cost_usd() >= ceiling) {
            return Err(SkipReason::CostCeiling);
        }
        Ok(())
    }

    fn retry_budget_of(&self, target: &TargetCondition<'_>) -> Result<(), SkipReason> {
        if self.history.calls() > 0 && !target.retry_budget {
            return Err(SkipReason::RetryBudget);
        }
        Ok(())
    }

    /// Whether a call begun after `wait` can end in the time left.
    fn fits(&self, wait: Duration, target: &TargetCondition<'_>) -> Result<(), SkipReason> {
        let remaining = self.moment.remaining;
        let end = wait.saturating_add(target.likely_duration.unwrap_or_default());
        if wait >= remaining || end > remaining {
            return Err(SkipReason::WaitExceedsDeadline);
        }
        Ok(())
    }

    /// The target that failed. One that the server no longer has is as good as switched off.
    fn source(&self) -> Result<&TargetCondition<'_>, SkipReason> {
        let mut all = self.conditions.targets.iter();
        all.find(|target| target.name == self.site.target)
            .ok_or(SkipReason::TargetRefuses(Refusal::Disabled))
    }
}

fn admits_now(target: &TargetCondition<'_>) -> Result<(), SkipReason> {
    if target.admits_in == Some(Duration::ZERO) { Ok(()) } else { Err(refused(target)) }
}

fn refused(target: &TargetCondition<'_>) -> SkipReason {
    SkipReason::TargetRefuses(target.refusal.unwrap_or(match target.admits_in {
        Some(_) => Refusal::CoolingDown,
        None => Refusal::Disabled,
    }))
}

#[cfg(test)]
mod tests;
