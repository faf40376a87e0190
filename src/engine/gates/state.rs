//! What a gate knows, and whom it lets through. No waiting here: the gate asks under its lock.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;

use super::budgets::Budgets;
use super::outputs::{OutputBreakers, OutputTicket, StepKey};
use super::refusals;
use super::{Disabled, GatePolicy, GateSettings};
use crate::failure::{Failure, FailureCause};
use crate::policy::Refusal;
use crate::resilience::adaptive::Adaptive;
use crate::resilience::breaker::{self, Breaker, CallResult, Outcome, Outlook, Transition};
use crate::resilience::budget::Budget;
use crate::resilience::cooldown::{CoolDown, Pause};
use crate::resilience::fair_queue::FairQueue;
use crate::resilience::latency::Latency;
use crate::resilience::rate_limit::RateLimit;

/// Who asks for a place, and for what.
#[derive(Debug, Clone)]
pub struct Ask {
    /// Whose call it is.
    pub caller: Arc<str>,
    /// How urgent.
    pub priority: crate::resilience::fair_queue::Priority,
    /// Tokens that it will likely take.
    pub tokens: u64,
    /// The step, for the breaker of its outputs.
    pub step: StepKey,
    /// The first call of its step, not an extra one.
    pub is_fresh: bool,
    /// Another target of the step would take the call now.
    pub has_alternative: bool,
    /// Time until the answer must leave.
    pub remaining: Duration,
    /// Every target refuses and the policy wants the least bad one called all the same.
    pub is_panic: bool,
    /// Wait for the end of a probe that is under way, where that is worth it.
    pub awaits_probe: bool,
}

/// One who waits for a place.
pub(super) struct Waiter {
    pub(super) ask: Ask,
    pub(super) answer: oneshot::Sender<Result<super::Ticket, Failure>>,
}

/// A place in flight.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) caller: Arc<str>,
    pub(super) step: StepKey,
    tokens: u64,
    breaker: Option<breaker::Ticket>,
    pub(super) output: Option<OutputTicket>,
}

/// Why there is no place now.
pub(super) enum NotNow {
    /// And there will be none by waiting.
    Refused(Failure),
    /// One is free when a call ends, or at this time.
    Later(Option<Duration>),
}

/// What a finished call says about the target.
#[derive(Debug, Clone, Copy)]
pub struct Report<'a> {
    /// Why it failed, if it did.
    pub failure: Option<&'a Failure>,
    /// The caller ended it: nothing is known.
    pub ended_by_caller: bool,
    /// Time to its first token, where it was a stream.
    pub first_token: Option<Duration>,
    /// Time in all.
    pub total: Duration,
    /// Tokens that it took, where that is known.
    pub tokens: Option<u64>,
}

/// How a target stands towards one step's next call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// When it admits a call: now (zero), in a while, or not by itself.
    pub admits_in: Option<Duration>,
    /// Why not now.
    pub refusal: Option<Refusal>,
    /// Whether the retry budgets have room.
    pub retry_budget: bool,
    /// Whether the budget of re-asks has room.
    pub reprompt_budget: bool,
    /// What a call usually takes.
    pub likely_duration: Option<Duration>,
}

pub(super) struct State {
    pub(super) settings: GateSettings,
    pub(super) policy: GatePolicy,
    pub(super) disabled: Option<Disabled>,
    /// When its credential was reloaded.
    pub(super) credential_since: Option<Duration>,
    pub(super) cool_down: CoolDown,
    pub(super) breaker: Breaker,
    pub(super) outputs: OutputBreakers,
    pub(super) retry: Budgets,
    pub(super) reprompt: Budget,
    pub(super) latency: Latency,
    pub(super) queue: FairQueue<Waiter>,
    pub(super) in_flight: u32,
    pub(super) calls: u64,
    pub(super) failures: [u64; FailureCause::ALL.len()],
    /// When the rate limit lets the next in the queue through.
    pub(super) next_by_rate: Option<Duration>,
    callers: HashMap<Arc<str>, u32>,
    rate: RateLimit,
    adaptive: Option<Adaptive>,
    /// What a call usually took when it was last looked at, and when that was.
    usual: (Duration, Option<Duration>),
}

/// A figure of what is usual is good for this long.
const USUAL_FOR: Duration = Duration::from_millis(250);

/// Answers to those who waited, given once the lock is free.
pub(super) type Answers =
    Vec<(oneshot::Sender<Result<super::Ticket, Failure>>, Result<Place, Failure>)>;

impl State {
    pub(super) fn new(settings: GateSettings, policy: GatePolicy) -> Self {
        let now = Duration::ZERO;
        Self {
            policy,
            disabled: None,
            credential_since: None,
            cool_down: CoolDown::default(),
            breaker: Breaker::new(policy.breaker, now),
            outputs: OutputBreakers::default(),
            retry: Budgets::new(policy.retry_budget),
            reprompt: Budget::new(policy.reprompt_budget),
            latency: Latency::new(now),
            queue: FairQueue::new(settings.queue_max as usize),
            in_flight: 0,
            calls: 0,
            failures: [0; FailureCause::ALL.len()],
            next_by_rate: None,
            callers: HashMap::new(),
            rate: RateLimit::new(settings.rate_limit, now),
            adaptive: settings.adaptive.map(Adaptive::new),
            usual: (now, None),
            settings,
        }
    }

    pub(super) fn follow(&mut self, policy: GatePolicy, now: Duration) {
        if policy == self.policy {
            return;
        }
        self.policy = policy;
        self.breaker.configure(policy.breaker, now);
        self.outputs.configure(policy.output_breaker, now);
        self.retry.configure(policy.retry_budget);
        self.reprompt.configure(policy.reprompt_budget);
    }

    /// Calls that may be in flight now.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    pub(super) fn limit(&self, now: Duration) -> u32 {
        let most = self.settings.in_flight_max;
        let most = self.adaptive.as_ref().map_or(most, |one| one.limit().min(most));
        let share = self.breaker.share(now);
        if share >= 1.0 { most } else { (f64::from(most) * share - 1e-9).ceil() as u32 }
    }

    /// What is in the way whatever is free.
    pub(super) fn check(&self, ask: &Ask, now: Duration) -> Result<(), Failure> {
        if let Some(disabled) = &self.disabled {
            return Err(refusals::disabled(disabled));
        }
        if ask.is_panic {
            return Ok(());
        }
        match self.cool_down.pause(now) {
            Some(Pause::Quota(left)) => return Err(refusals::quota(left)),
            Some(Pause::Pace(left)) => return Err(refusals::cooling_down(left)),
            None => {}
        }
        match self.breaker.outlook(now) {
            Outlook::Admits => {}
            Outlook::Probing if ask.awaits_probe && self.probe_awaited_until(now).is_some() => {}
            outlook @ (Outlook::AdmitsIn(_) | Outlook::Probing | Outlook::Held) => {
                return Err(refusals::breaker(outlook));
            }
        }
        match self.outputs.refuses(ask.step, now).filter(|_| ask.has_alternative) {
            Some(left) => Err(refusals::outputs(left)),
            None => Ok(()),
        }
    }

    /// A place for this call, if there is one now and nobody who could take it was here before.
    pub(super) fn take(&mut self, ask: &Ask, now: Duration) -> Result<Place, NotNow> {
        self.check(ask, now).map_err(NotNow::Refused)?;
        if ask.has_alternative
            && !ask.is_panic
            && self.usual(now).is_some_and(|usual| usual > ask.remaining)
        {
            return Err(NotNow::Refused(refusals::too_slow()));
        }
        let (callers, most) = (&self.callers, self.settings.in_flight_per_caller_max);
        let goes_first = |waiter: &Waiter| may_go(callers, most, &waiter.ask);
        let must_wait = (!ask.is_panic && self.breaker.outlook(now) == Outlook::Probing)
            || self.in_flight >= self.limit(now)
            || !may_go(callers, most, ask)
            || self.queue.peek(goes_first).is_some();
        if must_wait {
            return Err(NotNow::Later(None));
        }
        let wait = self.rate.wait(ask.tokens, now);
        if !wait.is_zero() {
            return Err(NotNow::Later(Some(now.saturating_add(wait))));
        }
        self.grant(ask, now).map_err(NotNow::Refused)
    }

    fn grant(&mut self, ask: &Ask, now: Duration) -> Result<Place, Failure> {
        let breaker = match self.breaker.acquire(now, rand::random) {
            Ok(ticket) => Some(ticket),
            Err(_) if ask.is_panic => None,
            Err(outlook) => return Err(refusals::breaker(outlook)),
        };
        let knows = self.outputs.knows(ask.step);
        let output = knows.then(|| self.outputs.acquire(ask.step, now));
        self.rate.take(ask.tokens, now);
        self.in_flight += 1;
        self.calls += 1;
        if self.settings.in_flight_per_caller_max.is_some() {
            *self.callers.entry(ask.caller.clone()).or_default() += 1;
        }
        if ask.is_fresh {
            self.retry.deposit(&ask.caller, now);
            self.reprompt.deposit(now);
        }
        let (caller, step, tokens) = (ask.caller.clone(), ask.step, ask.tokens);
        Ok(Place { caller, step, tokens, breaker, output })
    }

    /// Lets through who can go now, and sends away those whose wait has become pointless.
    pub(super) fn pump(&mut self, now: Duration) -> Answers {
        let mut answers = Answers::new();
        self.next_by_rate = None;
        while !self.queue.is_empty()
            && self.in_flight < self.limit(now)
            && self.probe_awaited_until(now).is_none()
        {
            let (callers, most) = (&self.callers, self.settings.in_flight_per_caller_max);
            let next = |waiter: &Waiter| may_go(callers, most, &waiter.ask);
            let Some(waiter) = self.queue.peek(next) else { break };
            let wait = self.rate.wait(waiter.ask.tokens, now);
            let checked = self.check(&waiter.ask, now);
            if checked.is_ok() && !wait.is_zero() {
                self.next_by_rate = Some(now.saturating_add(wait));
                break;
            }
            let Some(waiter) = self.queue.pop(next) else { break };
            let place = checked.and_then(|()| self.grant(&waiter.ask, now));
            answers.push((waiter.answer, place));
        }
        answers
    }

    /// Sends away everybody who waits for a target that lets nobody through now.
    pub(super) fn turn_away(&mut self, now: Duration, answers: &mut Answers) {
        while let Some(waiter) = self.queue.peek(|_| true) {
            if self.check(&waiter.ask, now).is_ok() {
                return;
            }
            let Some(waiter) = self.queue.pop(|_| true) else { return };
            let refused = self.check(&waiter.ask, now).err();
            answers.push((waiter.answer, Err(refused.unwrap_or_else(refusals::full))));
        }
    }

    /// Gives a place back with what came of its call.
    pub(super) fn release(
        &mut self,
        place: Place,
        report: Option<Report<'_>>,
        now: Duration,
    ) -> (Option<Transition>, Option<OutputTicket>) {
        let in_flight = self.in_flight;
        self.in_flight = self.in_flight.saturating_sub(1);
        if let Some(count) = self.callers.get_mut(&place.caller) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.callers.remove(&place.caller);
            }
        }
        let result = match report {
            Some(report) => self.learn(report, place.tokens, in_flight, now),
            None => CallResult::NEUTRAL,
        };
        let settle = |ticket| self.breaker.settle(ticket, result, now, rand::random);
        (place.breaker.and_then(settle), place.output)
    }

    /// Takes a finished call into account, and says what it means for the breaker.
    fn learn(
        &mut self,
        report: Report<'_>,
        tokens: u64,
        in_flight: u32,
        now: Duration,
    ) -> CallResult {
        if let Some(used) = report.tokens {
            self.rate.correct(tokens, used, now);
        }
        let outcome = match report.failure {
            _ if report.ended_by_caller => Outcome::CutShort,
            None => Outcome::Success,
            Some(failure) => {
                self.note(failure, now.saturating_sub(report.total), now);
                refusals::outcome_of(failure.cause)
            }
        };
        match outcome {
            Outcome::Success => {
                self.cool_down.served();
                self.latency.record(report.total, now);
                if let Some(adaptive) = &mut self.adaptive {
                    adaptive.good(report.total, in_flight, now);
                }
            }
            Outcome::Failure | Outcome::RateLimited => {
                if let Some(adaptive) = &mut self.adaptive {
                    adaptive.overloaded(now);
                }
            }
            Outcome::CutShort | Outcome::Neutral => {}
        }
        CallResult {
            outcome,
            first_token: report.first_token,
            total: report.total,
            hint: report.failure.and_then(|failure| failure.retry_after),
        }
    }

    fn note(&mut self, failure: &Failure, began: Duration, now: Duration) {
        let count = &mut self.failures[failure.cause as usize];
        *count = count.saturating_add(1);
        match failure.cause {
            FailureCause::RateLimited => self.cool_down.rate_limited(failure.retry_after, now),
            FailureCause::Overloaded => {
                if let Some(hint) = failure.retry_after {
                    self.cool_down.asked_for(hint, now);
                }
            }
            FailureCause::QuotaExhausted => {
                self.cool_down.quota_used_up(failure.retry_after, now);
            }
            // A call with a credential that is no longer sent says nothing about the one that is.
            FailureCause::Authentication
                if self.credential_since.is_none_or(|since| since < began) =>
            {
                self.disabled = Some(Disabled {
                    reason: "its credential was refused by the provider".into(),
                    credential: true,
                });
            }
            _ => {}
        }
    }

    /// What a call usually takes. Counting it out anew for each call would cost more than it tells.
    pub(super) fn usual(&mut self, now: Duration) -> Option<Duration> {
        if now >= self.usual.0 {
            self.usual = (now.saturating_add(USUAL_FOR), self.latency.quantile(0.5, now));
        }
        self.usual.1
    }

    /// Until when the probe under way is waited for, if it is: twice the time that a call usually
    /// takes. One that takes longer promises nothing any more.
    pub(super) fn probe_awaited_until(&self, now: Duration) -> Option<Duration> {
        let began = self.breaker.promising_probe(now)?;
        let usual = self.usual.1.map(|usual| usual.saturating_mul(2));
        let until = began.saturating_add(usual.unwrap_or(self.settings.queue_timeout));
        (now < until).then_some(until)
    }

    /// How the target stands towards a step's next call.
    pub(super) fn standing(&mut self, caller: &Arc<str>, step: StepKey, now: Duration) -> Standing {
        let likely = self.usual(now);
        let (admits_in, refusal) = self.outlook(Some(step), likely, now);
        Standing {
            admits_in,
            refusal,
            retry_budget: self.retry.has_room(caller, now),
            reprompt_budget: self.reprompt.has_room(now),
            likely_duration: likely,
        }
    }

    /// When a call would be let through, and what is in the way. Without a step, its outputs do
    /// not matter.
    pub(super) fn outlook(
        &self,
        step: Option<StepKey>,
        likely: Option<Duration>,
        now: Duration,
    ) -> (Option<Duration>, Option<Refusal>) {
        if self.disabled.is_some() {
            return (None, Some(Refusal::Disabled));
        }
        match self.cool_down.pause(now) {
            Some(Pause::Quota(left)) => return (left, Some(Refusal::QuotaExhausted)),
            Some(Pause::Pace(left)) => return (Some(left), Some(Refusal::CoolingDown)),
            None => {}
        }
        // A place or a probe's verdict comes with the end of a call.
        let a_call = likely.unwrap_or(Duration::from_secs(1));
        match self.breaker.outlook(now) {
            Outlook::Admits => {}
            Outlook::AdmitsIn(left) => return (Some(left), Some(Refusal::BreakerOpen)),
            Outlook::Probing if self.probe_awaited_until(now).is_some() => {
                return (Some(a_call), Some(Refusal::ProbeUnderWay));
            }
            Outlook::Probing => return (Some(a_call), Some(Refusal::BreakerOpen)),
            Outlook::Held => return (None, Some(Refusal::BreakerOpen)),
        }
        if let Some(left) = step.and_then(|step| self.outputs.refuses(step, now)) {
            return (Some(left), Some(Refusal::OutputBreakerOpen));
        }
        if self.in_flight >= self.limit(now) && self.queue.is_full() {
            return (Some(a_call), Some(Refusal::BulkheadFull));
        }
        (Some(Duration::ZERO), None)
    }
}

/// Whether the caller has fewer calls in flight than it may have.
fn may_go(callers: &HashMap<Arc<str>, u32>, most: Option<u32>, ask: &Ask) -> bool {
    most.is_none_or(|most| callers.get(&ask.caller).is_none_or(|count| *count < most))
}
