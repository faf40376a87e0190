//! The breaker of a target: stops calling what fails, and finds out when it works again.
//!
//! A state machine of its own, without a clock: instants are times since an origin that the owner
//! keeps, luck is an argument. A call asks with [`Breaker::acquire`] and hands its [`Ticket`] back
//! to [`Breaker::settle`], exactly once, also when nothing came of it. A ticket knows the epoch it
//! was made in; each change of state begins a new one, and a result of an earlier epoch decides
//! nothing: a call begun before an outage says nothing about the target after it.

mod probes;
mod settings;
mod transition;

use std::collections::VecDeque;
use std::time::Duration;

use probes::Probes;
pub use settings::{BreakerSettings, CloseOn, HalfOpenThen, JudgeOn};
pub use transition::{BreakerState, Reason, Transition};

use super::window::{Counts, Window};

/// Changes of state that are remembered.
pub const TRANSITIONS_MAX: usize = 32;

/// Share of its calls at once that a target takes when its breaker has just closed.
const RAMP_FROM: f64 = 0.1;

/// A breaker.
#[derive(Debug, Clone)]
pub struct Breaker {
    settings: BreakerSettings,
    state: BreakerState,
    since: Duration,
    epoch: u64,
    window: Window,
    failures_in_a_row: u32,
    trips: u32,
    reopens_at: Duration,
    probes: Probes,
    closed_at: Option<Duration>,
    transitions: VecDeque<Transition>,
    changes: u64,
}

/// Leave to make one call. Hand it back to [`Breaker::settle`].
#[derive(Debug)]
#[must_use = "a ticket that is not settled keeps its place"]
pub struct Ticket {
    epoch: u64,
    is_probe: bool,
}

impl Ticket {
    /// Whether the call probes a half-open breaker.
    pub fn is_probe(&self) -> bool {
        self.is_probe
    }
}

/// What came of a call, as far as the target's health goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The target did its part.
    Success,
    /// It did not.
    Failure,
    /// It asked for a slower pace.
    RateLimited,
    /// The caller's time was over before the answer came. It was slow if it was slow by then; else
    /// nothing is known.
    CutShort,
    /// Nothing is known: the caller gave up, or its request was wrong.
    Neutral,
}

/// A finished call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CallResult {
    /// What came of it.
    pub outcome: Outcome,
    /// Time to its first token, where it was a stream.
    pub first_token: Option<Duration>,
    /// Time in all.
    pub total: Duration,
    /// How long the server asked to be left alone.
    pub hint: Option<Duration>,
}

impl CallResult {
    /// A call of which nothing is known.
    pub const NEUTRAL: Self = Self::new(Outcome::Neutral, Duration::ZERO);

    /// A call without a hint.
    pub const fn new(outcome: Outcome, total: Duration) -> Self {
        Self { outcome, first_token: None, total, hint: None }
    }
}

/// Whether a call would be let through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outlook {
    /// Now.
    Admits,
    /// In this long.
    AdmitsIn(Duration),
    /// When a probe that is under way ends.
    Probing,
    /// When an operator says so.
    Held,
}

/// What an operator can say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Command {
    /// Closed, and left to its own judgement.
    Release,
    /// Open until told otherwise.
    HoldOpen,
    /// Closed until told otherwise; counts nothing.
    HoldClosed,
    /// Counts and never opens.
    MetricsOnly,
    /// Open for its time, as if it had tripped.
    Trip,
    /// Half-open now, as if its time open were over.
    Probe,
}

impl Breaker {
    /// A closed breaker.
    pub fn new(settings: BreakerSettings, now: Duration) -> Self {
        Self {
            settings,
            state: BreakerState::Closed,
            since: now,
            epoch: 0,
            window: Window::new(settings.window, now),
            failures_in_a_row: 0,
            trips: 0,
            reopens_at: now,
            probes: Probes::default(),
            closed_at: None,
            transitions: VecDeque::with_capacity(TRANSITIONS_MAX),
            changes: 0,
        }
    }

    /// Puts other figures in force. State and history stay; counts stay unless they are taken over
    /// something else now.
    pub fn configure(&mut self, settings: BreakerSettings, now: Duration) {
        if settings.window != self.settings.window {
            self.window = Window::new(settings.window, now);
        }
        self.settings = settings;
    }

    /// Its figures.
    pub fn settings(&self) -> &BreakerSettings {
        &self.settings
    }

    /// Its state. Time alone changes it with the next call only; see [`Breaker::advance`].
    pub fn state(&self) -> BreakerState {
        self.state
    }

    /// Its state as one who asks now would find it: half-open from the end of its time open.
    pub fn state_at(&self, now: Duration) -> BreakerState {
        match self.state {
            BreakerState::Open if now >= self.reopens_at => BreakerState::HalfOpen,
            other => other,
        }
    }

    /// Time until an open breaker lets a probe through.
    pub fn reopens_in(&self, now: Duration) -> Option<Duration> {
        (self.state == BreakerState::Open).then(|| self.reopens_at.saturating_sub(now))
    }

    /// The last changes of state, oldest first.
    pub fn transitions(&self) -> impl DoubleEndedIterator<Item = &Transition> {
        self.transitions.iter()
    }

    /// Lets a call through, or says when to come again.
    ///
    /// # Errors
    /// Never [`Outlook::Admits`].
    pub fn acquire(
        &mut self,
        now: Duration,
        dice: impl FnOnce() -> f64,
    ) -> Result<Ticket, Outlook> {
        self.expire(now, dice);
        match self.outlook(now) {
            Outlook::Admits => {}
            refused @ (Outlook::AdmitsIn(_) | Outlook::Probing | Outlook::Held) => {
                return Err(refused);
            }
        }
        let mut due = self.since;
        if self.state == BreakerState::Open {
            due = self.reopens_at;
            self.go(BreakerState::HalfOpen, Reason::OpenTimeOver, now);
        }
        let is_probe = self.state == BreakerState::HalfOpen;
        if is_probe {
            self.probes.begin(due, now);
        }
        Ok(Ticket { epoch: self.epoch, is_probe })
    }

    /// Whether a call would be let through now.
    pub fn outlook(&self, now: Duration) -> Outlook {
        match self.state {
            BreakerState::Closed | BreakerState::ForcedClosed | BreakerState::MetricsOnly => {
                Outlook::Admits
            }
            BreakerState::ForcedOpen => Outlook::Held,
            BreakerState::Open if now >= self.reopens_at => Outlook::Admits,
            BreakerState::Open => Outlook::AdmitsIn(self.reopens_at - now),
            BreakerState::HalfOpen if self.probes.taken < self.settings.probes => Outlook::Admits,
            BreakerState::HalfOpen => Outlook::Probing,
        }
    }

    /// Takes a ticket back with what came of its call. Returns the change of state it caused.
    pub fn settle(
        &mut self,
        ticket: Ticket,
        call: CallResult,
        now: Duration,
        dice: impl FnOnce() -> f64,
    ) -> Option<Transition> {
        let before = self.changes;
        // A ticket of an epoch that time has ended meanwhile is as late as any other.
        let mut dice = Some(dice);
        self.expire(now, || dice.take().map_or(0.5, |dice| dice()));
        if ticket.epoch == self.epoch {
            let dice = || dice.take().map_or(0.5, |dice| dice());
            match self.state {
                BreakerState::Closed => self.settle_closed(call, now, dice),
                BreakerState::HalfOpen => self.settle_probe(call, now, dice),
                BreakerState::MetricsOnly => {
                    self.count(call, now);
                }
                BreakerState::Open | BreakerState::ForcedOpen | BreakerState::ForcedClosed => {}
            }
        }
        self.transitions.back().filter(|_| self.changes != before).copied()
    }

    /// Does what time alone does: ends a half-open state that lasts too long, and makes an open
    /// one whose time is over half-open. Calls do the same on their way.
    pub fn advance(&mut self, now: Duration, dice: impl FnOnce() -> f64) {
        let mut dice = Some(dice);
        self.expire(now, || dice.take().map_or(0.5, |dice| dice()));
        if self.state == BreakerState::Open && now >= self.reopens_at {
            let at = self.reopens_at;
            self.go(BreakerState::HalfOpen, Reason::OpenTimeOver, at);
            self.expire(now, || dice.take().map_or(0.5, |dice| dice()));
        }
    }

    /// Does what an operator says.
    pub fn command(&mut self, command: Command, now: Duration, dice: impl FnOnce() -> f64) {
        match command {
            Command::Release => self.close(Reason::Operator, now),
            Command::HoldOpen => self.go(BreakerState::ForcedOpen, Reason::Operator, now),
            Command::HoldClosed => self.go(BreakerState::ForcedClosed, Reason::Operator, now),
            Command::MetricsOnly => {
                self.forget(now);
                self.go(BreakerState::MetricsOnly, Reason::Operator, now);
            }
            Command::Trip => self.open(Reason::Operator, None, now, dice),
            Command::Probe => self.go(BreakerState::HalfOpen, Reason::Operator, now),
        }
        if command != Command::Release && command != Command::Trip {
            self.closed_at = None;
        }
    }

    /// The share of its calls at once that the target takes now: grows to 1 after the breaker has
    /// closed, so that what waited for it does not knock it over again.
    pub fn share(&self, now: Duration) -> f64 {
        let Some(closed_at) = self.closed_at else { return 1.0 };
        let since = now.saturating_sub(closed_at);
        if self.state != BreakerState::Closed || since >= self.settings.ramp {
            return 1.0;
        }
        let way = since.as_secs_f64() / self.settings.ramp.as_secs_f64();
        RAMP_FROM + (1.0 - RAMP_FROM) * way
    }

    fn settle_closed(&mut self, call: CallResult, now: Duration, dice: impl FnOnce() -> f64) {
        let failed = match call.outcome {
            Outcome::Success | Outcome::CutShort => false,
            Outcome::Failure | Outcome::RateLimited => true,
            Outcome::Neutral => return,
        };
        if self.count(call, now)
            && (failed || self.settings.judge_on == JudgeOn::EveryResult)
            && let Some(reason) = self.verdict(now)
        {
            self.open(reason, call.hint, now, dice);
        }
    }

    /// Counts a call; says whether it counted.
    fn count(&mut self, call: CallResult, now: Duration) -> bool {
        let slow = self.is_slow(call);
        let failed = match call.outcome {
            Outcome::Success => {
                self.failures_in_a_row = 0;
                false
            }
            Outcome::Failure => {
                self.failures_in_a_row = self.failures_in_a_row.saturating_add(1);
                true
            }
            Outcome::RateLimited if self.settings.count_rate_limits => true,
            Outcome::CutShort if slow => false,
            Outcome::RateLimited | Outcome::CutShort | Outcome::Neutral => return false,
        };
        self.window.record(now, Counts::of(failed, slow));
        true
    }

    fn is_slow(&self, call: CallResult) -> bool {
        // Of what was cut short the first token may be still to come.
        let first_token = match call.outcome {
            Outcome::CutShort => call.first_token.or(Some(call.total)),
            Outcome::Success | Outcome::Failure | Outcome::RateLimited | Outcome::Neutral => {
                call.first_token
            }
        };
        self.settings.is_slow(first_token, call.total)
    }

    /// Whether what stands in the window opens the breaker.
    fn verdict(&mut self, now: Duration) -> Option<Reason> {
        let most = self.settings.consecutive_failures;
        if most.is_some_and(|most| self.failures_in_a_row >= most.max(1)) {
            return Some(Reason::ConsecutiveFailures(self.failures_in_a_row));
        }
        let counts = self.window.counts(now);
        if counts.calls < self.least_calls() { None } else { self.rates(counts) }
    }

    fn least_calls(&self) -> u32 {
        self.settings.min_calls.clamp(1, self.window.calls_max().max(1))
    }

    fn rates(&self, counts: Counts) -> Option<Reason> {
        let Counts { calls, failures, slow } = counts;
        let settings = &self.settings;
        if settings.failure_rate.is_some_and(|rate| reaches(failures, calls, rate)) {
            return Some(Reason::FailureRate { failures, calls });
        }
        let judges_time = settings.slow_call.is_some() || settings.slow_first_token.is_some();
        (judges_time && reaches(slow, calls, settings.slow_call_rate))
            .then_some(Reason::SlowCallRate { slow, calls })
    }

    /// Ends what has lasted too long: a half-open state, or a fixed interval of counting.
    fn expire(&mut self, now: Duration, dice: impl FnOnce() -> f64) {
        match self.state {
            BreakerState::Closed | BreakerState::MetricsOnly if self.window.is_over(now) => {
                self.forget(now);
                self.epoch += 1;
            }
            BreakerState::HalfOpen => {
                let Some(most) = self.settings.half_open_max else { return };
                match self.settings.half_open_then {
                    HalfOpenThen::Close => {
                        let end = self.since.saturating_add(most);
                        if now >= end {
                            self.close(Reason::HalfOpenTimeOver, end);
                        }
                    }
                    // Where nobody asks nothing hangs, and there is no sign of illness either.
                    HalfOpenThen::Open if self.probes.in_flight == 0 => {}
                    HalfOpenThen::Open => {
                        let end = self.probes.busy_since.saturating_add(most);
                        if now >= end {
                            self.open(Reason::HalfOpenTimeOver, None, end, dice);
                        }
                    }
                }
            }
            BreakerState::Closed
            | BreakerState::MetricsOnly
            | BreakerState::Open
            | BreakerState::ForcedOpen
            | BreakerState::ForcedClosed => {}
        }
    }

    fn open(
        &mut self,
        reason: Reason,
        hint: Option<Duration>,
        now: Duration,
        dice: impl FnOnce() -> f64,
    ) {
        self.trips = self.trips.saturating_add(1);
        let own = self.settings.open_for(self.trips, dice());
        self.reopens_at = now.saturating_add(own.max(hint.unwrap_or_default()));
        self.go(BreakerState::Open, reason, now);
    }

    fn close(&mut self, reason: Reason, now: Duration) {
        self.forget(now);
        self.trips = 0;
        let recovers = !matches!(self.state, BreakerState::Closed | BreakerState::MetricsOnly);
        self.closed_at = recovers.then_some(now);
        self.go(BreakerState::Closed, reason, now);
    }

    fn forget(&mut self, now: Duration) {
        self.window.clear(now);
        self.failures_in_a_row = 0;
    }

    fn go(&mut self, to: BreakerState, reason: Reason, now: Duration) {
        if self.transitions.len() >= TRANSITIONS_MAX {
            self.transitions.pop_front();
        }
        self.transitions.push_back(Transition { at: now, from: self.state, to, reason });
        self.state = to;
        self.since = now;
        self.epoch += 1;
        self.changes += 1;
        self.probes = Probes::default();
    }
}

/// `part / whole >= share`, robust to the last digit.
fn reaches(part: u32, whole: u32, share: f64) -> bool {
    whole > 0 && f64::from(part) >= share * f64::from(whole) - 1e-9
}

#[cfg(test)]
mod tests;
