//! Figures of a breaker.

use std::time::Duration;

use super::super::window::{Alignment, BreakerWindow};

/// When a breaker opens, for how long, and what closes it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BreakerSettings {
    /// What the rates are taken over.
    pub window: BreakerWindow,
    /// Fewer calls in the window than this give no rate.
    pub min_calls: u32,
    /// Opens at this share of failures, 0 to 1; never by it if absent.
    pub failure_rate: Option<f64>,
    /// Opens at this many failures in a row.
    pub consecutive_failures: Option<u32>,
    /// A call that takes longer is slow.
    pub slow_call: Option<Duration>,
    /// A call whose first token takes longer is slow.
    pub slow_first_token: Option<Duration>,
    /// Opens at this share of slow calls, 0 to 1.
    pub slow_call_rate: f64,
    /// Whether pace limits (429) count in the share of failures. They never count as failures in a
    /// row, and a probe that meets one has failed.
    pub count_rate_limits: bool,
    /// Which results are judged.
    pub judge_on: JudgeOn,
    /// Time that it stays open the first time.
    pub open: Duration,
    /// Growth of that time with each trip in a row, at least 1.
    pub open_factor: f64,
    /// Longest time that it stays open; a server's longer hint is longer all the same.
    pub open_max: Duration,
    /// Share by which that time is spread.
    pub open_jitter: f64,
    /// Probes while half-open: at once, or in all.
    pub probes: u32,
    /// Whether a probe that ended well makes room for the next. Without it `probes` is how many
    /// there are in all.
    pub probes_renew: bool,
    /// What closes it again.
    pub close_on: CloseOn,
    /// Longest time half-open with a probe under way all the time, or in all where it closes then.
    /// Without it a probe that hangs keeps the breaker half-open.
    pub half_open_max: Option<Duration>,
    /// What follows on that time.
    pub half_open_then: HalfOpenThen,
    /// Time after closing in which the target takes a growing share of its calls at once.
    pub ramp: Duration,
}

/// Which results are judged. All of them count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum JudgeOn {
    /// Each: a success may complete the least number of calls.
    #[default]
    EveryResult,
    /// Failures only.
    Failures,
}

/// What closes a half-open breaker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CloseOn {
    /// So many successful probes in a row; the first that fails opens it again.
    Successes(u32),
    /// Rates under those that open it, over the results of all probes.
    Rates,
}

/// What follows on the longest time half-open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum HalfOpenThen {
    /// Open again: a probe that hangs is no sign of health.
    #[default]
    Open,
    /// Closed.
    Close,
}

impl Default for BreakerSettings {
    fn default() -> Self {
        Self {
            window: BreakerWindow::Time {
                span: Duration::from_secs(30),
                buckets: 10,
                alignment: Alignment::Event,
            },
            min_calls: 10,
            failure_rate: Some(0.5),
            consecutive_failures: Some(5),
            slow_call: None,
            slow_first_token: None,
            slow_call_rate: 1.0,
            count_rate_limits: false,
            judge_on: JudgeOn::EveryResult,
            open: Duration::from_secs(5),
            open_factor: 2.0,
            open_max: Duration::from_secs(60),
            open_jitter: 0.2,
            probes: 1,
            probes_renew: true,
            close_on: CloseOn::Successes(2),
            half_open_max: None,
            half_open_then: HalfOpenThen::Open,
            ramp: Duration::from_secs(10),
        }
    }
}

impl BreakerSettings {
    /// Defaults for the outputs of one step on one target: calls are fewer than a target's, and a
    /// model that has begun to answer badly does so for longer than an outage lasts.
    pub fn for_outputs() -> Self {
        Self {
            window: BreakerWindow::Count(20),
            open: Duration::from_secs(30),
            open_max: Duration::from_secs(300),
            ramp: Duration::ZERO,
            ..Self::default()
        }
    }

    /// Time open after `trips` trips in a row (1 is the first), spread by `dice` (0 to 1). Stays
    /// within `open_max`; what jitter would add above it spreads below.
    pub fn open_for(&self, trips: u32, dice: f64) -> Duration {
        let exponent = i32::try_from(trips.saturating_sub(1)).unwrap_or(i32::MAX);
        let grown = scaled(self.open, self.open_factor.powi(exponent)).min(self.open_max);
        if self.open_jitter <= 0.0 {
            return grown;
        }
        let shortest = scaled(grown, 1.0 - self.open_jitter);
        let longest = scaled(grown, 1.0 + self.open_jitter).min(self.open_max).max(shortest);
        shortest.saturating_add(scaled(longest - shortest, dice.clamp(0.0, 1.0)))
    }

    /// Whether a call that took this long is slow.
    pub fn is_slow(&self, first_token: Option<Duration>, total: Duration) -> bool {
        self.slow_call.is_some_and(|limit| total > limit)
            || self.slow_first_token.zip(first_token).is_some_and(|(limit, took)| took > limit)
    }
}

/// `duration * factor`, or the longest duration.
fn scaled(duration: Duration, factor: f64) -> Duration {
    let seconds = duration.as_secs_f64() * factor;
    if seconds.is_nan() || seconds <= 0.0 {
        return Duration::ZERO;
    }
    // Whole durations stay what they are: a double does not hold every nanosecond.
    if factor == 1.0 {
        return duration;
    }
    Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX)
}
