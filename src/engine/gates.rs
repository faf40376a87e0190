//! What holds calls to a target back: disabling, cool-down, and a limit of calls in flight.
//!
//! A gate hands out a [`Ticket`] or says why not. A ticket gives its place back when it is
//! dropped, so an abandoned call cannot leak one. Breaker, rate limits and fair queues join here.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout_at};

use crate::failure::{Failure, FailureCause};
use crate::policy::Refusal;

/// Limits of a gate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GateSettings {
    /// Most calls in flight.
    pub in_flight_max: usize,
    /// Most calls that wait for a place.
    pub queue_max: u32,
    /// Longest wait for a place.
    pub queue_timeout: Duration,
}

/// The gate of one target.
#[derive(Debug)]
pub struct Gate {
    settings: GateSettings,
    places: Arc<Semaphore>,
    queued: AtomicU32,
    calls: AtomicU64,
    /// Read and written for a moment only; never across an await.
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    disabled: Option<Disabled>,
    cool_down_until: Option<Instant>,
}

/// Why a target takes no calls.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Disabled {
    /// One safe sentence.
    pub reason: Arc<str>,
    /// True when its credential was refused, false when an operator did it.
    pub credential: bool,
}

/// A place in flight, given back when dropped.
#[derive(Debug)]
pub struct Ticket {
    _place: OwnedSemaphorePermit,
}

impl Gate {
    /// An open gate.
    pub fn new(settings: GateSettings) -> Self {
        Self {
            settings,
            places: Arc::new(Semaphore::new(settings.in_flight_max.min(Semaphore::MAX_PERMITS))),
            queued: AtomicU32::new(0),
            calls: AtomicU64::new(0),
            state: Mutex::default(),
        }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets a call through, waiting for a place if need be, or says with a failure why not.
    ///
    /// # Errors
    /// A failure of a call that was not made: `authentication` or `permission_denied` while
    /// disabled, `rate_limited` while cooling down, `bulkhead_full` without a place in time.
    pub async fn admit(&self, deadline: Instant) -> Result<Ticket, Failure> {
        self.check(Instant::now())?;
        if let Ok(place) = self.places.clone().try_acquire_owned() {
            self.calls.fetch_add(1, Ordering::Relaxed);
            return Ok(Ticket { _place: place });
        }
        let _queued = Queued::join(&self.queued, self.settings.queue_max).ok_or_else(full)?;
        let until = deadline.min(Instant::now() + self.settings.queue_timeout);
        match timeout_at(until, self.places.clone().acquire_owned()).await {
            Ok(Ok(place)) => {
                // The wait may have outlived an opening state.
                self.check(Instant::now())?;
                self.calls.fetch_add(1, Ordering::Relaxed);
                Ok(Ticket { _place: place })
            }
            Ok(Err(_)) | Err(_) => Err(full()),
        }
    }

    fn check(&self, now: Instant) -> Result<(), Failure> {
        let state = self.state();
        if let Some(disabled) = &state.disabled {
            let cause = if disabled.credential {
                FailureCause::Authentication
            } else {
                FailureCause::PermissionDenied
            };
            return Err(Failure::new(
                cause,
                format!("the target is disabled: {}", disabled.reason),
            )
            .with_detail("target_disabled"));
        }
        match state.cool_down_until {
            Some(until) if until > now => {
                let mut failure = Failure::new(
                    FailureCause::RateLimited,
                    "the target is cooling down after a rate limit; nothing was sent",
                )
                .with_detail("cooling_down");
                failure.retry_after = Some(until - now);
                Err(failure)
            }
            Some(_) | None => Ok(()),
        }
    }

    /// Whether a call would be let through: when, and what is in the way.
    pub fn outlook(&self, now: Instant) -> (Option<Duration>, Option<Refusal>) {
        let state = self.state();
        if state.disabled.is_some() {
            return (None, Some(Refusal::Disabled));
        }
        match state.cool_down_until {
            Some(until) if until > now => (Some(until - now), Some(Refusal::CoolingDown)),
            Some(_) | None => {
                drop(state);
                let full = self.places.available_permits() == 0
                    && self.queued.load(Ordering::Relaxed) >= self.settings.queue_max;
                (Some(Duration::ZERO), full.then_some(Refusal::BulkheadFull))
            }
        }
    }

    /// Takes note of what a failed call says about the target, for every caller of it.
    pub fn note(&self, failure: &Failure, now: Instant) {
        match failure.cause {
            FailureCause::RateLimited | FailureCause::Overloaded => {
                if let Some(hint) = failure.retry_after {
                    let until = now + hint;
                    let mut state = self.state();
                    if state.cool_down_until.is_none_or(|earlier| earlier < until) {
                        state.cool_down_until = Some(until);
                    }
                }
            }
            FailureCause::Authentication => {
                self.set_disabled(Some(Disabled {
                    reason: "its credential was refused by the provider".into(),
                    credential: true,
                }));
            }
            _ => {}
        }
    }

    /// Disables or enables the target; takes effect on the next attempt.
    pub fn set_disabled(&self, disabled: Option<Disabled>) {
        self.state().disabled = disabled;
    }

    /// Why it is disabled, if it is.
    pub fn disabled(&self) -> Option<Disabled> {
        self.state().disabled.clone()
    }

    /// What is left of a cool-down.
    pub fn cooling_down_for(&self, now: Instant) -> Option<Duration> {
        self.state().cool_down_until.filter(|until| *until > now).map(|until| until - now)
    }

    /// Calls in flight now.
    pub fn in_flight(&self) -> usize {
        self.settings.in_flight_max.saturating_sub(self.places.available_permits())
    }

    /// Most calls in flight.
    pub fn in_flight_max(&self) -> usize {
        self.settings.in_flight_max
    }

    /// Calls that wait for a place.
    pub fn queued(&self) -> u32 {
        self.queued.load(Ordering::Relaxed)
    }

    /// Calls let through so far.
    pub fn calls(&self) -> u64 {
        self.calls.load(Ordering::Relaxed)
    }
}

fn full() -> Failure {
    Failure::new(
        FailureCause::BulkheadFull,
        "the target has as many calls in flight and waiting as it may have; nothing was sent",
    )
}

/// A place in the queue, left when dropped.
struct Queued<'a>(&'a AtomicU32);

impl<'a> Queued<'a> {
    fn join(count: &'a AtomicU32, max: u32) -> Option<Self> {
        count
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| (n < max).then_some(n + 1))
            .ok()
            .map(|_| Self(count))
    }
}

impl Drop for Queued<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gate() -> Gate {
        Gate::new(GateSettings {
            in_flight_max: 1,
            queue_max: 1,
            queue_timeout: Duration::from_secs(5),
        })
    }

    fn in_a_minute() -> Instant {
        Instant::now() + Duration::from_secs(60)
    }

    #[tokio::test(start_paused = true)]
    async fn a_full_gate_queues_then_refuses() {
        let gate = gate();
        let ticket = gate.admit(in_a_minute()).await.unwrap();
        let (second, third) = tokio::join!(gate.admit(in_a_minute()), gate.admit(in_a_minute()));
        assert_eq!(
            second.unwrap_err().cause,
            FailureCause::BulkheadFull,
            "after the queue's limit"
        );
        assert_eq!(third.unwrap_err().cause, FailureCause::BulkheadFull, "the queue was full");
        drop(ticket);
        assert!(gate.admit(in_a_minute()).await.is_ok());
        assert_eq!((gate.in_flight(), gate.queued()), (0, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn a_hint_holds_back_every_caller_until_it_is_over() {
        let gate = gate();
        let mut failure = Failure::new(FailureCause::RateLimited, "x");
        failure.retry_after = Some(Duration::from_secs(7));
        gate.note(&failure, Instant::now());
        let refused = gate.admit(in_a_minute()).await.unwrap_err();
        assert_eq!(
            (refused.cause, refused.retry_after),
            (FailureCause::RateLimited, Some(Duration::from_secs(7)))
        );
        tokio::time::advance(Duration::from_secs(7)).await;
        assert!(gate.admit(in_a_minute()).await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn a_refused_credential_disables_until_enabled() {
        let gate = gate();
        gate.note(&Failure::new(FailureCause::Authentication, "x"), Instant::now());
        assert_eq!(gate.outlook(Instant::now()), (None, Some(Refusal::Disabled)));
        assert_eq!(
            gate.admit(in_a_minute()).await.unwrap_err().cause,
            FailureCause::Authentication
        );
        gate.set_disabled(None);
        assert!(gate.admit(in_a_minute()).await.is_ok());
    }
}
