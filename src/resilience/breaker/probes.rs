//! Probes of a half-open breaker: how they end it, and when their end is worth waiting for.

use std::time::Duration;

use super::super::window::Counts;
use super::{Breaker, CallResult, CloseOn, Outcome, Outlook, Reason};

/// A probe that nobody made for this long, though it was due, is one that nobody was turned away
/// for: the target was idle.
const OVERDUE: Duration = Duration::from_millis(250);

/// Probes of the half-open state that it is in.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Probes {
    pub(super) in_flight: u32,
    pub(super) taken: u32,
    successes: u32,
    results: Counts,
    /// When the last one began.
    began: Duration,
    /// Since when there was always one in flight.
    pub(super) busy_since: Duration,
    /// Whether the first one was long due.
    is_overdue: Option<bool>,
}

impl Probes {
    /// One begins that might have been made at `due`.
    pub(super) fn begin(&mut self, due: Duration, now: Duration) {
        if self.in_flight == 0 {
            self.busy_since = now;
        }
        self.in_flight += 1;
        self.taken += 1;
        self.began = now;
        self.is_overdue.get_or_insert(now.saturating_sub(due) >= OVERDUE);
    }
}

impl Breaker {
    /// When the probe began whose end is worth waiting for, where nothing but its end is in the way
    /// of a call.
    ///
    /// It is once a probe has ended well, and where the target was idle: of what was not asked for
    /// long, an old failure says little. In an outage calls come all the time, so the probe is made
    /// the moment it is due and will most likely fail: who waited for that would only fail later.
    pub fn promising_probe(&self, now: Duration) -> Option<Duration> {
        let is_promising = self.probes.successes > 0 || self.probes.is_overdue == Some(true);
        (self.outlook(now) == Outlook::Probing && is_promising).then_some(self.probes.began)
    }

    pub(super) fn settle_probe(
        &mut self,
        call: CallResult,
        now: Duration,
        dice: impl FnOnce() -> f64,
    ) {
        self.probes.in_flight = self.probes.in_flight.saturating_sub(1);
        let slow = self.is_slow(call);
        let failed = match call.outcome {
            Outcome::Success => false,
            Outcome::Failure => true,
            Outcome::RateLimited if self.settings.count_rate_limits => true,
            Outcome::CutShort if slow => true,
            Outcome::RateLimited | Outcome::CutShort | Outcome::Neutral => {
                self.probes.taken = self.probes.taken.saturating_sub(1);
                return;
            }
        };
        match self.settings.close_on {
            CloseOn::Successes(_) if failed || slow => {
                self.open(Reason::ProbeFailed, call.hint, now, dice);
            }
            CloseOn::Successes(needed) => {
                self.probes.successes += 1;
                if self.settings.probes_renew {
                    self.probes.taken = self.probes.taken.saturating_sub(1);
                }
                // Without renewal there are no more than so many to wait for.
                let possible =
                    if self.settings.probes_renew { u32::MAX } else { self.settings.probes };
                if self.probes.successes >= needed.min(possible) {
                    self.close(Reason::ProbesSucceeded(self.probes.successes), now);
                }
            }
            CloseOn::Rates => {
                self.probes.results.add(Counts::of(failed, slow));
                let results = self.probes.results;
                if results.calls < self.least_calls().min(self.settings.probes) {
                    return;
                }
                match self.rates(results) {
                    Some(reason) => self.open(reason, call.hint, now, dice),
                    None => self.close(Reason::ProbesSucceeded(results.calls), now),
                }
            }
        }
    }
}
