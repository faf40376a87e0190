//! What holds calls to a target back: disabling, cool-down, breaker, rate limits, and a limit of
//! calls in flight with a fair queue before it.
//!
//! A gate hands out a [`Ticket`] or says why not. A ticket is settled with what came of its call;
//! one that is dropped says that nothing is known, so an abandoned call leaks neither its place
//! nor its probe. Everything that decides is in `resilience`; here are the lock, the clock and the
//! waiting. A call takes the lock once on its way in and once on its way out.

mod budgets;
mod outputs;
mod refusals;
mod settings;
mod state;
mod view;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;

pub use outputs::StepKey;
pub(in crate::engine) use refusals::sends_elsewhere;
pub use settings::{GatePolicy, GateSettings};
pub use state::{Ask, Report, Standing};
pub use view::GateView;

use crate::failure::Failure;
use crate::resilience::breaker::{BreakerState, Command, Outlook, Transition};
use crate::resilience::fair_queue::{Joined, Priority};
use outputs::OutputTicket;
use state::{Answers, NotNow, Place, State, Waiter};

/// The gate of one target. Cheap to clone; clones are the same gate.
#[derive(Clone)]
pub struct Gate(Arc<Inner>);

struct Inner {
    name: Arc<str>,
    origin: Instant,
    /// Held for a moment only; never across an await.
    state: Mutex<State>,
    /// Wakes those who wait when the rate limit is what they wait for.
    by_rate: Notify,
}

/// Why a target takes no calls.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Disabled {
    /// One safe sentence.
    pub reason: Arc<str>,
    /// True when its credential was refused, false when an operator did it.
    pub credential: bool,
}

/// How busy a target is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Load {
    /// Whether a call would be let through now.
    pub admits: bool,
    /// What a call usually takes.
    pub likely_duration: Option<Duration>,
    /// Part of its places in flight that is taken.
    pub share: f64,
}

/// Calls that must be known before their tail says anything: one of 20 is slower than the p95.
const P95_CALLS_MIN: u32 = 20;

impl Gate {
    /// An open gate for the target of this name. It has the default figures until it is told to
    /// follow a policy.
    pub fn new(name: Arc<str>, settings: GateSettings) -> Self {
        let of_policy = settings.over(&GatePolicy::default());
        let state = Mutex::new(State::new(settings, of_policy));
        let by_rate = Notify::new();
        Self(Arc::new(Inner { name, origin: Instant::now(), state, by_rate }))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> Duration {
        self.0.origin.elapsed()
    }

    /// Takes the figures of another default policy.
    pub fn follow(&self, policy: &GatePolicy) {
        let now = self.now();
        let mut state = self.state();
        let of_policy = state.settings.over(policy);
        state.follow(of_policy, now);
    }

    /// Lets a call through, waiting for a place if need be, or says with a failure why not.
    ///
    /// # Errors
    /// A failure of a call that was not made: `authentication` or `permission_denied` while
    /// disabled, `rate_limited` while cooling down, `quota_exhausted`, `circuit_open`, and
    /// `bulkhead_full` without a place in time.
    pub async fn admit(&self, ask: &Ask, deadline: Instant) -> Result<Ticket, Failure> {
        let began = Instant::now();
        let now = began - self.0.origin;
        let until = {
            let mut state = self.state();
            let by_rate = match state.take(ask, now) {
                Ok(place) => return Ok(self.ticket(place)),
                Err(NotNow::Refused(failure)) => return Err(failure),
                Err(NotNow::Later(by_rate)) => by_rate,
            };
            let until = deadline.min(began + state.settings.queue_timeout);
            match by_rate {
                Some(at) if self.0.origin + at > until => {
                    return Err(refusals::over_rate(at.saturating_sub(now)));
                }
                Some(_) | None => until,
            }
        };
        self.wait(ask, until).await
    }

    async fn wait(&self, ask: &Ask, until: Instant) -> Result<Ticket, Failure> {
        let (answer, mut answered) = oneshot::channel();
        let waiter = Waiter { ask: ask.clone(), answer };
        let joined = self.state().queue.join(&ask.caller, ask.priority, waiter);
        let id = match joined {
            Joined::Waits(id) => id,
            Joined::InsteadOf(id, other) => {
                let _ = other.answer.send(Err(refusals::full()));
                id
            }
            Joined::Full(_) => return Err(refusals::full()),
        };
        let _seat = Seat { gate: self, caller: &ask.caller, priority: ask.priority, id };
        loop {
            let by_rate = self.0.by_rate.notified();
            tokio::pin!(by_rate);
            by_rate.as_mut().enable();
            // A place may have come free while nobody waited for it.
            let turn = self.pump().map(|at| self.0.origin + at).fold(until, Instant::min);
            tokio::select! {
                biased;
                answer = &mut answered => {
                    // The sender lives in the queue until it answers.
                    return answer.unwrap_or_else(|_| Err(refusals::full()));
                }
                () = by_rate => {}
                () = tokio::time::sleep_until(turn) => {}
            }
            if Instant::now() >= until {
                // An answer may have come in the same moment.
                return answered.try_recv().unwrap_or_else(|_| Err(self.too_late()));
            }
        }
    }

    fn too_late(&self) -> Failure {
        match self.state().breaker.outlook(self.now()) {
            Outlook::Probing => refusals::breaker(Outlook::Probing),
            Outlook::Admits | Outlook::AdmitsIn(_) | Outlook::Held => refusals::waited_too_long(),
        }
    }

    /// Lets through who can go. Returns the moments to look again: when the rate limit lets the next
    /// one through, and until when a probe is waited for.
    fn pump(&self) -> impl Iterator<Item = Duration> {
        let now = self.now();
        let mut state = self.state();
        let answers = state.pump(now);
        let (next, probe) = (state.next_by_rate, state.probe_awaited_until(now));
        drop(state);
        self.answer(answers);
        next.into_iter().chain(probe)
    }

    fn ticket(&self, place: Place) -> Ticket {
        Ticket { gate: self.clone(), place: Some(place) }
    }

    fn answer(&self, answers: Answers) {
        for (waiter, place) in answers {
            // Who does not wait any more drops its ticket, which gives the place back.
            let _ = waiter.send(place.map(|place| self.ticket(place)));
        }
    }

    fn release(&self, place: Place, report: Option<Report<'_>>) -> Option<OutputTicket> {
        let now = self.now();
        let mut state = self.state();
        let (change, output) = state.release(place, report, now);
        if state.queue.is_empty() {
            drop(state);
        } else {
            self.serve_queue(state, now);
        }
        self.tell(change);
        output
    }

    fn tell(&self, change: Option<Transition>) {
        let Some(Transition { from, to, reason, .. }) = change else { return };
        let (target, from, name) = (&self.0.name, from.name(), to.name());
        if to == BreakerState::Open {
            tracing::warn!(%target, from, to = name, %reason, "a breaker has opened");
        } else {
            tracing::info!(%target, from, to = name, %reason, "a breaker has changed");
        }
    }

    /// How the target stands towards a step's next call.
    pub fn standing(&self, caller: &Arc<str>, step: StepKey) -> Standing {
        self.state().standing(caller, step, self.now())
    }

    /// Whether a call would be let through now, whatever its step.
    pub fn admits(&self) -> bool {
        let state = self.state();
        state.outlook(None, None, self.now()).0 == Some(Duration::ZERO)
    }

    /// How busy the target is, for the choice between targets.
    pub fn load(&self) -> Load {
        let now = self.now();
        let mut state = self.state();
        let usual = state.usual(now);
        let most = state.limit(now).max(1);
        Load {
            admits: state.outlook(None, usual, now).0 == Some(Duration::ZERO),
            likely_duration: usual,
            share: f64::from(state.in_flight) / f64::from(most),
        }
    }

    /// What a call usually takes.
    pub fn likely_duration(&self) -> Option<Duration> {
        self.state().usual(self.now())
    }

    /// The time within which 95 of 100 calls end, where enough of them are known for that.
    pub fn latency_p95(&self) -> Option<Duration> {
        let now = self.now();
        self.state().latency.quantile_of(P95_CALLS_MIN, 0.95, now)
    }

    /// Takes note of a call that was given up after this long for a faster one on another target.
    /// It is no failure; but left out, the slow calls would be missing among those that the target
    /// is known by.
    pub fn took_longer_than(&self, took: Duration) {
        let now = self.now();
        self.state().latency.record(took, now);
    }

    /// Takes an extra call of this caller out of the retry budgets, if they have room.
    pub fn withdraw_retry(&self, caller: &Arc<str>) -> bool {
        self.state().retry.withdraw(caller, self.now())
    }

    /// Puts an extra call back that was not made after all.
    pub fn put_back_retry(&self, caller: &Arc<str>) {
        self.state().retry.put_back(caller, self.now());
    }

    /// Takes a re-ask out of its budget, if that has room.
    pub fn withdraw_reprompt(&self) -> bool {
        self.state().reprompt.withdraw(self.now())
    }

    /// Disables or enables the target; takes effect on the next attempt. Enabling ends cool-down
    /// and a used-up quota too: the operator has seen to it.
    pub fn set_disabled(&self, disabled: Option<Disabled>) {
        let now = self.now();
        let mut state = self.state();
        if disabled.is_none() {
            state.cool_down.end();
        }
        state.disabled = disabled;
        self.serve_queue(state, now);
    }

    /// Takes note of another credential: what was disabled for the old one is enabled.
    pub fn credential_reloaded(&self) {
        let now = self.now();
        let mut state = self.state();
        state.credential_since = Some(now);
        if state.disabled.as_ref().is_some_and(|disabled| disabled.credential) {
            state.disabled = None;
        }
        self.serve_queue(state, now);
    }

    /// Does with the breaker what an operator says. What it was held for is over with it.
    pub fn command(&self, command: Command) {
        let now = self.now();
        let mut state = self.state();
        state.breaker.command(command, now, rand::random);
        self.serve_queue(state, now);
    }

    /// Lets through who can go now and sends away those who wait in vain.
    fn serve_queue(&self, mut state: MutexGuard<'_, State>, now: Duration) {
        let mut answers = state.pump(now);
        state.turn_away(now, &mut answers);
        let by_rate = state.next_by_rate.is_some();
        drop(state);
        self.answer(answers);
        if by_rate {
            // Until now they waited for a place; now one of them has to watch the clock.
            self.0.by_rate.notify_waiters();
        }
    }

    /// Everything an operator may see.
    pub fn view(&self) -> GateView {
        GateView::of(&mut self.state(), self.now())
    }
}

/// A place in flight. Settle it with what came of the call; dropped, it says that nothing is known.
pub struct Ticket {
    gate: Gate,
    place: Option<Place>,
}

impl Ticket {
    /// Gives the place back with what came of the call. What the output was worth is told to what
    /// this returns.
    pub fn settle(mut self, report: Report<'_>) -> OutputVerdict {
        let Some(place) = self.place.take() else {
            return OutputVerdict { gate: self.gate.clone(), step: 0, ticket: None, is_due: false };
        };
        let step = place.step;
        let ticket = self.gate.release(place, Some(report));
        OutputVerdict { gate: self.gate.clone(), step, ticket, is_due: true }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let Some(place) = self.place.take() else { return };
        let step = place.step;
        if let Some(output) = self.gate.release(place, None) {
            self.gate.settle_output(step, output, None);
        }
    }
}

/// What an output is worth is still to be told.
pub struct OutputVerdict {
    gate: Gate,
    step: StepKey,
    ticket: Option<OutputTicket>,
    is_due: bool,
}

impl OutputVerdict {
    /// Tells whether the output was usable. Costs nothing while a step's outputs are.
    pub fn tell(mut self, is_usable: bool) {
        self.is_due = false;
        match self.ticket.take() {
            Some(ticket) => self.gate.settle_output(self.step, ticket, Some(is_usable)),
            None if !is_usable => {
                let now = self.gate.now();
                let mut state = self.gate.state();
                let ticket = state.outputs.acquire(self.step, now);
                let settings = state.policy.output_breaker;
                state.outputs.settle(self.step, ticket, Some(false), settings, now);
            }
            None => {}
        }
    }
}

impl Drop for OutputVerdict {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket.take().filter(|_| self.is_due) {
            self.gate.settle_output(self.step, ticket, None);
        }
    }
}

impl Gate {
    fn settle_output(&self, step: StepKey, ticket: OutputTicket, is_usable: Option<bool>) {
        let now = self.now();
        let mut state = self.state();
        let settings = state.policy.output_breaker;
        state.outputs.settle(step, ticket, is_usable, settings, now);
    }
}

/// A place in the queue, left when dropped.
struct Seat<'a> {
    gate: &'a Gate,
    caller: &'a str,
    priority: Priority,
    id: u64,
}

impl Drop for Seat<'_> {
    fn drop(&mut self) {
        // One whose turn has come is not in it any more.
        let left = self.gate.state().queue.leave(self.caller, self.priority, self.id);
        drop(left);
    }
}

#[cfg(test)]
mod tests;
