//! A second attempt beside a slow first one, on another target, where the policy hedges.
//!
//! Whichever gives a usable output first wins; the other is cancelled, and both stay in the record.
//! Hedging pays twice for one output, so it is off by default, draws on the retry budget and on
//! every ceiling like any other extra call, and ends first when the service is hard-pressed. Streamed
//! steps are not hedged, since their reader sees one answer at a time; nor are re-asks, which are
//! about what their very target has answered.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::abandoned::Lane;
use super::attempt::{self, Attempted};
use super::checks::{Candidate, Unusable};
use super::events::RunEventKind;
use super::groups;
use super::leave::Leave;
use super::step::Walk;
use super::targets::Target;
use crate::exchange::{Message, Usage};
use crate::journal::AttemptRecord;
use crate::output::estimate_message_tokens;
use crate::policy::{self, Conditions, HedgeAfter, History, Moment, ReaskRoom, TargetCondition};
use crate::resilience::pressure::Pressure;

/// Tokens of an answer whose limit is not known.
const ANSWER_TOKENS: u64 = 256;

type Ended = Result<Candidate, Box<Unusable>>;

/// What came of an attempt, and of the one beside it.
pub(super) struct Raced {
    /// The attempt that decides how the step goes on.
    pub(super) made: Attempted,
    /// Its target.
    pub(super) target: Arc<Target>,
    /// The other one: cancelled, or failed.
    pub(super) other: Option<Box<AttemptRecord>>,
}

/// Makes an attempt on the walk's target and, when it has no answer `after` this long, another.
///
/// One that fails leaves the field to the other. Where both fail, the step goes on from the first.
pub(super) async fn race(
    walk: &Walk<'_, '_>,
    messages: &[Message],
    (leave, number): (Leave, u32),
    after: Duration,
) -> Raced {
    let (cx, asked, until) = (walk.cx, &walk.reask, walk.until);
    let mut record = attempt::begin(&walk.target, number, leave);
    let mut one = Lane::new(cx, walk.target.clone(), &mut record);
    let mut first = Box::pin(one.run(messages, asked, leave, until));
    let early = tokio::select! {
        biased;
        result = &mut first => Some(result),
        () = sleep(after) => None,
    };
    let beside = match &early {
        Some(_) => None,
        None => walk.hedge_target(messages),
    };
    let Some((target, payer)) = beside else {
        let result = match early {
            Some(result) => result,
            None => first.as_mut().await,
        };
        drop(first);
        one.end(&result);
        drop(one);
        return Raced {
            made: Attempted { record, result },
            target: walk.target.clone(),
            other: None,
        };
    };
    let leave =
        Leave { is_fresh: false, has_alternative: true, is_panic: false, awaits_probe: false };
    let mut record_beside = attempt::begin(&target, number.saturating_add(1), leave);
    record_beside.hedge = true;
    let mut two = Lane::new(cx, target.clone(), &mut record_beside);
    two.payer = Some(payer);
    let mut second = Box::pin(two.run(messages, asked, leave, until));
    let (first_decides, result, failed) = tokio::select! {
        biased;
        ended = &mut first => match ended {
            Ok(output) => (true, Ok(output), None),
            Err(failed) => match second.as_mut().await {
                Ok(output) => (false, Ok(output), Some(Err(failed))),
                Err(too) => (true, Err(failed), Some(Err(too))),
            },
        },
        ended = &mut second => match ended {
            Ok(output) => (false, Ok(output), None),
            Err(failed) => (true, first.as_mut().await, Some(Err(failed))),
        },
    };
    drop((first, second));
    if first_decides {
        conclude((&mut one, &result), (&mut two, failed.as_ref()), messages);
    } else {
        conclude((&mut two, &result), (&mut one, failed.as_ref()), messages);
    }
    drop((one, two));
    let (record, other, target) = if first_decides {
        (record, record_beside, walk.target.clone())
    } else {
        (record_beside, record, target)
    };
    Raced { made: Attempted { record, result }, target, other: Some(Box::new(other)) }
}

/// Notes what came of both.
fn conclude(
    (decides, result): (&mut Lane<'_, '_>, &Ended),
    (other, failed): (&mut Lane<'_, '_>, Option<&Ended>),
    messages: &[Message],
) {
    decides.end(result);
    match failed {
        Some(failed) => other.end(failed),
        None => other.give_up(prompt_tokens(decides.record, messages)),
    }
}

/// Tokens of the prompt, as the winner's provider counted them or else as they are estimated.
fn prompt_tokens(winner: &AttemptRecord, messages: &[Message]) -> u64 {
    match winner.usage.input_tokens {
        0 => estimate_message_tokens(messages),
        counted => counted,
    }
}

impl Walk<'_, '_> {
    /// When the next attempt is to be hedged, if it may be.
    pub(super) fn hedge_after(&self, leave: Leave) -> Option<Duration> {
        let hedge = &self.cx.policy.policy.hedge;
        let is_plain = self.reask.messages.is_none() && self.reask.max_output_tokens.is_none();
        if !hedge.enabled || !is_plain || leave.is_panic || self.cx.outlet.is_some() {
            return None;
        }
        let after = match hedge.after {
            HedgeAfter::Fixed(after) => Some(after),
            HedgeAfter::P95 => self.target.gate.latency_p95(),
        };
        after.filter(|after| *after < self.until.saturating_duration_since(Instant::now()))
    }

    /// The target for an attempt beside the one that is under way, if there may be one, and the one
    /// whose retry budget was drawn on for it.
    fn hedge_target(&self, messages: &[Message]) -> Option<(Arc<Target>, Arc<Target>)> {
        if self.cx.engine.admission().pressure() != Pressure::None {
            return None;
        }
        let now = Instant::now();
        let (mut targets, _) = self.target_conditions();
        let meant = self.group_targets();
        targets.extend(groups::conditions(&meant, &targets));
        let of_name = |name: &str| {
            let of_group = meant.iter().find(|(group, _)| **group == *name);
            let of_group = of_group.map(|(_, target)| target);
            of_group.or_else(|| self.cx.engine.targets().get(name)).cloned()
        };
        let needs = self.needs();
        for one in &mut targets {
            // A fallback may try its luck with these; a hedge must be worth its price.
            if of_name(one.name).is_none_or(|target| !groups::suits(&target, &needs)) {
                (one.admits_in, one.refusal) = (None, None);
            }
        }
        let history = self.with_the_one_under_way(messages);
        let remaining = self.until.saturating_duration_since(now);
        loop {
            let name = self.hedge_among(&targets, &history, remaining)?;
            let target = of_name(&name)?;
            if let Some(payer) = self.draw_for(&target) {
                return Some((target, payer));
            }
            // The room was gone meanwhile. Each round closes one way, so this ends.
            let same = |one: &&mut TargetCondition<'_>| {
                of_name(one.name).is_some_and(|known| known.name == target.name)
            };
            targets.iter_mut().filter(same).for_each(|one| one.retry_budget = false);
        }
    }

    fn hedge_among(
        &self,
        targets: &[TargetCondition<'_>],
        history: &History,
        remaining: Duration,
    ) -> Option<Arc<str>> {
        let conditions = Conditions {
            max_attempts: self.cx.planned.step.max_attempts.unwrap_or(u32::MAX),
            run_extra_calls_left: self.cx.run.extra_calls_left.load(Ordering::Relaxed),
            max_cost_usd: self.cx.planned.step.max_cost_usd,
            targets,
            step_targets: self.targets.len(),
            reprompt_budget: false,
            reask: ReaskRoom::default(),
            verifier_failed: false,
            repair: None,
            cache_age: None,
            step_template: false,
            unfit_templates: &[],
            partial: false,
        };
        let moment = Moment { remaining, dice: 0.0 };
        policy::hedge(&self.cx.policy.policy, &self.site(0), history, moment, &conditions)
    }

    /// The history with the attempt that is under way: a call that will cost what its prompt and
    /// the answer due cost, though nobody has told yet.
    fn with_the_one_under_way(&self, messages: &[Message]) -> History {
        let answer = super::reask::limit(self.cx, &self.target);
        let usage = Usage {
            input_tokens: estimate_message_tokens(messages),
            output_tokens: answer.map_or(ANSWER_TOKENS, u64::from),
            ..Usage::default()
        };
        let mut history = self.history.clone();
        history.record_call(&self.target.name);
        history.record_cost(self.target.price.cost(&usage));
        history
    }

    /// Counts a call that was made.
    pub(super) fn count(&mut self, record: &AttemptRecord) {
        if !record.called {
            return;
        }
        let is_extra = self.history.calls() > 0;
        self.history.record_call(&record.target);
        self.history.record_cost(record.cost_usd);
        if record.hedge {
            self.history.record_hedge();
        }
        if is_extra {
            let _ = self.cx.run.extra_calls_left.fetch_update(
                Ordering::Relaxed,
                Ordering::Relaxed,
                |left| left.checked_sub(1),
            );
        }
    }

    /// Takes note of the attempt beside the one that decides.
    pub(super) fn note_beside(&mut self, other: &AttemptRecord) {
        self.count(other);
        if let Some(failure) = &other.failure {
            self.note_of(&other.target, failure);
            self.cx.run.tell(|| RunEventKind::AttemptFailed {
                step: self.report.step.clone(),
                element: self.report.element,
                attempt: Box::new(other.clone()),
            });
        }
    }
}
