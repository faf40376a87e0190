//! A gate as an operator sees it.

use std::time::Duration;

use super::Disabled;
use super::state::State;
use crate::failure::FailureCause;
use crate::resilience::breaker::{BreakerState, Transition};
use crate::resilience::cooldown::Pause;

/// A gate at one moment. Times are ages or what is left.
#[derive(Debug, Clone)]
pub struct GateView {
    /// Why it is disabled, if it is.
    pub disabled: Option<Disabled>,
    /// State of its breaker.
    pub breaker: BreakerState,
    /// Until an open breaker lets a probe through.
    pub reopens_in: Option<Duration>,
    /// Cool-down or used-up quota.
    pub pause: Option<Pause>,
    /// Calls in flight.
    pub in_flight: u32,
    /// Calls that may be in flight now.
    pub in_flight_max: u32,
    /// Calls that wait.
    pub queued: u32,
    /// Calls let through.
    pub calls: u64,
    /// Failures by cause; only what came up.
    pub failures: Vec<(FailureCause, u64)>,
    /// Median time of successful calls lately.
    pub latency_p50: Option<Duration>,
    /// Their 95th percentile.
    pub latency_p95: Option<Duration>,
    /// Part of the retry budget that is left.
    pub retry_budget_left: f64,
    /// Steps whose outputs send them elsewhere.
    pub outputs_open: u32,
    /// Changes of the breaker with their age, newest first.
    pub transitions: Vec<(Duration, Transition)>,
}

impl GateView {
    pub(super) fn of(state: &mut State, now: Duration) -> Self {
        let failures = FailureCause::ALL.iter().copied().zip(state.failures);
        let transitions = state.breaker.transitions().rev();
        let count = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        Self {
            disabled: state.disabled.clone(),
            breaker: state.breaker.state_at(now),
            reopens_in: state.breaker.reopens_in(now).filter(|left| !left.is_zero()),
            pause: state.cool_down.pause(now),
            in_flight: state.in_flight,
            in_flight_max: state.limit(now),
            queued: count(state.queue.len()),
            calls: state.calls,
            failures: failures.filter(|(_, count)| *count > 0).collect(),
            latency_p50: state.latency.quantile(0.5, now),
            latency_p95: state.latency.quantile(0.95, now),
            retry_budget_left: state.retry.share_left(now),
            outputs_open: count(state.outputs.open(now)),
            transitions: transitions.map(|one| (now.saturating_sub(one.at), *one)).collect(),
        }
    }
}
