//! How long a stream may keep us waiting: for its first byte, its first content, and between.
//!
//! A stream that stays open proves nothing. Pings and comments keep a connection alive for hours
//! while no answer comes, so only progress of the answer counts here. Times are given as durations
//! since the call was sent, less what the reader behind us held the stream up: a slow reader must
//! not make a provider look slow.

use std::time::Duration;

/// What the least throughput is taken over.
pub const THROUGHPUT_WINDOW: Duration = Duration::from_secs(10);

/// Limits of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct PaceLimits {
    /// Longest time to the head of the answer.
    pub first_byte: Option<Duration>,
    /// Longest time to the first content.
    pub first_token: Option<Duration>,
    /// Longest time without progress after that.
    pub idle: Option<Duration>,
    /// Fewest bytes of content a second after that, over [`THROUGHPUT_WINDOW`].
    pub bytes_per_second_min: Option<f64>,
}

/// The limit that passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Late {
    /// No head of an answer.
    FirstByte,
    /// No content.
    FirstToken,
    /// No progress.
    Idle,
    /// Progress, and too little of it.
    TooSlow,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Phase {
    /// Nothing has come.
    Waiting,
    /// The head has come.
    Open,
    /// Content has come.
    Flowing { last: Duration, window: Duration, bytes: f64 },
}

/// The clockwork of one stream; it has no clock of its own.
#[derive(Debug, Clone, PartialEq)]
pub struct Pace {
    limits: PaceLimits,
    phase: Phase,
}

impl Pace {
    /// A stream that has just been asked for.
    pub const fn new(limits: PaceLimits) -> Self {
        Self { limits, phase: Phase::Waiting }
    }

    /// The head of the answer is there.
    pub fn head(&mut self) {
        if self.phase == Phase::Waiting {
            self.phase = Phase::Open;
        }
    }

    /// The answer has grown by this much content; by nothing for progress that is no content.
    pub fn progress(&mut self, now: Duration, content: usize) {
        #[allow(clippy::cast_precision_loss)]
        let content = content as f64;
        match &mut self.phase {
            Phase::Waiting | Phase::Open if content > 0.0 => {
                self.phase = Phase::Flowing { last: now, window: now, bytes: content };
            }
            Phase::Waiting | Phase::Open => self.phase = Phase::Open,
            Phase::Flowing { last, window, bytes } => {
                *last = now;
                // The window that is over held enough, or the stream would have been given up.
                if now >= *window + THROUGHPUT_WINDOW {
                    *window += THROUGHPUT_WINDOW;
                    *bytes = 0.0;
                }
                *bytes += content;
            }
        }
    }

    /// When the stream is given up unless something comes before, and by which limit.
    pub fn limit(&self) -> Option<(Duration, Late)> {
        let PaceLimits { first_byte, first_token, idle, bytes_per_second_min } = self.limits;
        let first_token = first_token.map(|limit| (limit, Late::FirstToken));
        match self.phase {
            Phase::Waiting => {
                let first_byte = first_byte.map(|limit| (limit, Late::FirstByte));
                sooner(first_byte, first_token)
            }
            Phase::Open => first_token,
            Phase::Flowing { last, window, bytes } => {
                let idle = idle.map(|limit| (last + limit, Late::Idle));
                let slow = bytes_per_second_min.map(|least| {
                    let enough = bytes >= least * THROUGHPUT_WINDOW.as_secs_f64();
                    let windows = if enough { 2 } else { 1 };
                    (window + THROUGHPUT_WINDOW * windows, Late::TooSlow)
                });
                sooner(idle, slow)
            }
        }
    }
}

fn sooner(a: Option<(Duration, Late)>, b: Option<(Duration, Late)>) -> Option<(Duration, Late)> {
    match (a, b) {
        (Some(a), Some(b)) => Some(if b.0 < a.0 { b } else { a }),
        (one, None) | (None, one) => one,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    const LIMITS: PaceLimits = PaceLimits {
        first_byte: Some(ms(300)),
        first_token: Some(ms(2_000)),
        idle: Some(ms(500)),
        bytes_per_second_min: None,
    };

    #[test]
    fn each_phase_has_its_limit() {
        let mut pace = Pace::new(LIMITS);
        assert_eq!(pace.limit(), Some((ms(300), Late::FirstByte)));
        pace.head();
        assert_eq!(pace.limit(), Some((ms(2_000), Late::FirstToken)));
        pace.progress(ms(400), 0);
        assert_eq!(pace.limit(), Some((ms(2_000), Late::FirstToken)), "a role is no content");
        pace.progress(ms(1_900), 3);
        assert_eq!(pace.limit(), Some((ms(2_400), Late::Idle)));
        pace.progress(ms(2_300), 0);
        assert_eq!(pace.limit(), Some((ms(2_800), Late::Idle)), "any progress counts from here");
    }

    #[test]
    fn the_sooner_limit_holds_and_none_is_no_limit() {
        assert_eq!(Pace::new(PaceLimits::default()).limit(), None);
        let limits = PaceLimits { first_token: Some(ms(100)), ..LIMITS };
        assert_eq!(Pace::new(limits).limit(), Some((ms(100), Late::FirstToken)));
    }

    #[test]
    fn a_trickle_is_too_slow_and_a_flow_is_not() {
        let limits = PaceLimits { bytes_per_second_min: Some(2.0), ..PaceLimits::default() };
        let mut pace = Pace::new(limits);
        assert_eq!(pace.limit(), None, "before the first content it has its own limit");
        pace.progress(ms(1_000), 1);
        pace.progress(ms(9_000), 18);
        assert_eq!(pace.limit(), Some((ms(11_000), Late::TooSlow)));
        pace.progress(ms(10_000), 1);
        assert_eq!(pace.limit(), Some((ms(21_000), Late::TooSlow)), "20 bytes in 10 s");
        pace.progress(ms(12_000), 5);
        assert_eq!(pace.limit(), Some((ms(21_000), Late::TooSlow)), "5 in the next window");
        pace.progress(ms(12_500), 15);
        assert_eq!(pace.limit(), Some((ms(31_000), Late::TooSlow)));
    }

    proptest! {
        /// Progress never brings the end of a flowing stream nearer, and it is never in the past
        /// for a stream that was not late before.
        #[test]
        fn progress_never_shortens(steps in prop::collection::vec((0_u64..900, 0_usize..50), 1..60)) {
            let limits = PaceLimits { bytes_per_second_min: Some(3.0), ..LIMITS };
            let mut pace = Pace::new(limits);
            pace.head();
            let mut now = ms(0);
            pace.progress(now, 1);
            for (wait, content) in steps {
                let before = pace.limit().unwrap().0;
                now += ms(wait);
                if now >= before {
                    break;
                }
                pace.progress(now, content);
                let after = pace.limit().unwrap().0;
                prop_assert!(after >= before && after > now, "{before:?} {after:?} {now:?}");
            }
        }
    }
}
