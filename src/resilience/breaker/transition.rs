//! States of a breaker, and its way from one to the next.

use std::fmt;
use std::time::Duration;

/// State of a breaker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum BreakerState {
    /// Calls pass.
    Closed,
    /// Calls are refused for a time.
    Open,
    /// A few calls probe the target.
    HalfOpen,
    /// Held open by an operator.
    ForcedOpen,
    /// Held closed by an operator; nothing is counted.
    ForcedClosed,
    /// Counts and never opens.
    MetricsOnly,
}

impl BreakerState {
    /// Every state.
    pub const ALL: &'static [Self] = &[
        Self::Closed,
        Self::Open,
        Self::HalfOpen,
        Self::ForcedOpen,
        Self::ForcedClosed,
        Self::MetricsOnly,
    ];

    /// Stable name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Open => "open",
            Self::HalfOpen => "half_open",
            Self::ForcedOpen => "forced_open",
            Self::ForcedClosed => "forced_closed",
            Self::MetricsOnly => "metrics_only",
        }
    }
}

/// Why a breaker changed its state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// So many failures in a row.
    ConsecutiveFailures(u32),
    /// So many failures of so many calls.
    FailureRate {
        /// Failures.
        failures: u32,
        /// Calls.
        calls: u32,
    },
    /// So many slow calls of so many.
    SlowCallRate {
        /// Slow calls.
        slow: u32,
        /// Calls.
        calls: u32,
    },
    /// Its time open is over.
    OpenTimeOver,
    /// A probe failed.
    ProbeFailed,
    /// So many probes were successful.
    ProbesSucceeded(u32),
    /// Its time half-open is over.
    HalfOpenTimeOver,
    /// An operator said so.
    Operator,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ConsecutiveFailures(1) => f.write_str("a failure"),
            Self::ConsecutiveFailures(failures) => write!(f, "{failures} consecutive failures"),
            Self::FailureRate { failures, calls } => {
                write!(f, "{failures} failures of {calls} calls")
            }
            Self::SlowCallRate { slow, calls } => write!(f, "{slow} slow calls of {calls}"),
            Self::OpenTimeOver => f.write_str("its time open is over"),
            Self::ProbeFailed => f.write_str("a probe failed"),
            Self::ProbesSucceeded(1) => f.write_str("a probe was successful"),
            Self::ProbesSucceeded(probes) => write!(f, "{probes} probes were successful"),
            Self::HalfOpenTimeOver => f.write_str("its time half-open is over"),
            Self::Operator => f.write_str("an operator said so"),
        }
    }
}

/// A change of state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Transition {
    /// When, since the owner's origin.
    pub at: Duration,
    /// From.
    pub from: BreakerState,
    /// To.
    pub to: BreakerState,
    /// Why.
    pub reason: Reason,
}
