//! How long to wait before a call is made again.
//!
//! Waits grow so that a struggling provider gets air, and are spread by jitter so that the callers
//! of one outage do not come back in waves. A server's hint is a floor: jitter lies above it,
//! since a call made earlier than the server asked for is a call wasted. Randomness is an
//! argument (`dice`, from 0 to 1), so that a decision can be replayed.

use std::fmt;
use std::time::Duration;

use crate::document::DurationText;

/// How the wait grows from one retry to the next, before jitter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Growth {
    /// `base * factor^(retry - 1)`.
    Exponential,
    /// `base * retry`.
    Linear,
    /// `base`.
    Constant,
}

/// How the wait `d` is spread.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Jitter {
    /// `d`.
    None,
    /// Anywhere from 0 to `d`.
    Full,
    /// The upper half: from `d / 2` to `d`.
    Equal,
    /// From `base` to three times the wait before, whatever the growth.
    Decorrelated,
    /// From `d * (1 - ratio)` to `d * (1 + ratio)`; may pass `max` by that share.
    Proportional {
        /// The share, 0 to 1.
        ratio: f64,
    },
    /// From `d` to `d + ratio * d + spread`, never above `max`.
    Additive {
        /// Share of `d`, 0 to 1.
        ratio: f64,
        /// A fixed addition.
        spread: Duration,
    },
}

/// A series of waits.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Backoff {
    /// How it grows.
    pub growth: Growth,
    /// How it is spread.
    pub jitter: Jitter,
    /// The first wait, before jitter.
    pub base: Duration,
    /// Growth per retry of the exponential kind, at least 1.
    pub factor: f64,
    /// No wait is shorter, after jitter.
    pub min: Duration,
    /// No wait is longer, before proportional jitter.
    pub max: Duration,
}

impl Default for Backoff {
    /// Full jitter from 500 ms, doubling up to 20 s.
    fn default() -> Self {
        Self {
            growth: Growth::Exponential,
            jitter: Jitter::Full,
            base: Duration::from_millis(500),
            factor: 2.0,
            min: Duration::ZERO,
            max: Duration::from_secs(20),
        }
    }
}

impl Backoff {
    /// The wait before retry number `retry` (1 is the first), without jitter.
    pub fn window(&self, retry: u32) -> Duration {
        let steps = retry.max(1);
        let grown = match self.growth {
            Growth::Exponential => {
                let exponent = i32::try_from(steps - 1).unwrap_or(i32::MAX);
                scaled(self.base, self.factor.powi(exponent))
            }
            Growth::Linear => scaled(self.base, f64::from(steps)),
            Growth::Constant => self.base,
        };
        grown.min(self.max)
    }

    /// The wait before retry number `retry` (1 is the first). `previous` is the wait before that
    /// one, which decorrelated jitter builds on; `dice` is a draw from 0 to 1.
    pub fn delay(&self, retry: u32, previous: Option<Duration>, dice: f64) -> Duration {
        let dice = dice.clamp(0.0, 1.0);
        let window = self.window(retry);
        let delay = match self.jitter {
            Jitter::None => window,
            Jitter::Full => {
                let above = window.saturating_sub(self.min);
                return self.min.saturating_add(scaled(above, dice));
            }
            Jitter::Equal => scaled(window, 0.5 + dice / 2.0),
            Jitter::Decorrelated => {
                let top = scaled(previous.unwrap_or(self.base), 3.0);
                let spread = top.saturating_sub(self.base);
                self.base.saturating_add(scaled(spread, dice)).min(self.max)
            }
            Jitter::Proportional { ratio } => scaled(window, 1.0 - ratio + 2.0 * ratio * dice),
            Jitter::Additive { ratio, spread } => window
                .saturating_add(scaled(window, ratio * dice))
                .saturating_add(scaled(spread, dice))
                .min(self.max),
        };
        delay.max(self.min)
    }
}

impl fmt::Display for Backoff {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.growth {
            Growth::Exponential | Growth::Linear => {
                write!(f, "{} … {}", DurationText(self.base), DurationText(self.max))?;
            }
            Growth::Constant => write!(f, "{}", DurationText(self.base))?,
        }
        match self.jitter {
            Jitter::None => Ok(()),
            Jitter::Full => f.write_str(", full jitter"),
            Jitter::Equal => f.write_str(", equal jitter"),
            Jitter::Decorrelated => f.write_str(", decorrelated jitter"),
            Jitter::Proportional { ratio } => write!(f, ", ±{}%", percent(ratio)),
            Jitter::Additive { ratio, spread } => match (ratio > 0.0, spread.is_zero()) {
                (true, true) => write!(f, ", +{}%", percent(ratio)),
                (true, false) => {
                    write!(f, ", +{}% +{}", percent(ratio), DurationText(spread))
                }
                (false, true) => Ok(()),
                (false, false) => write!(f, ", +{}", DurationText(spread)),
            },
        }
    }
}

fn percent(ratio: f64) -> f64 {
    (ratio * 1_000.0).round() / 10.0
}

/// The wait that a server's hint asks for: the hint, and up to `spread` of it on top.
pub fn after_hint(hint: Duration, spread: f64, dice: f64) -> Duration {
    hint.saturating_add(scaled(hint, spread.max(0.0) * dice.clamp(0.0, 1.0)))
}

/// `duration * factor`; saturates where that is more than a `Duration` holds.
fn scaled(duration: Duration, factor: f64) -> Duration {
    let seconds = duration.as_secs_f64() * factor;
    // A zero base times an infinite factor is not a number; nothing stays nothing.
    if seconds.is_nan() || seconds <= 0.0 {
        return Duration::ZERO;
    }
    Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn any_jitter() -> impl Strategy<Value = Jitter> {
        prop_oneof![
            Just(Jitter::None),
            Just(Jitter::Full),
            Just(Jitter::Equal),
            Just(Jitter::Decorrelated),
            (0.0..=1.0).prop_map(|ratio| Jitter::Proportional { ratio }),
            (0.0..=1.0, 0_u64..10_000).prop_map(|(ratio, ms)| Jitter::Additive {
                ratio,
                spread: Duration::from_millis(ms)
            }),
        ]
    }

    proptest! {
        /// Whatever the figures, a wait lies between `min` and `max` (and the share that
        /// proportional jitter may add).
        #[test]
        fn every_wait_is_bounded(
            jitter in any_jitter(),
            growth in prop_oneof![
                Just(Growth::Exponential), Just(Growth::Linear), Just(Growth::Constant)],
            base in 0_u64..100_000, factor in 1.0..1e6, min in 0_u64..5_000, max in 5_000_u64..1_000_000,
            retry in any::<u32>(), previous in prop::option::of(any::<u64>()), dice in 0.0..=1.0,
        ) {
            let ms = Duration::from_millis;
            let backoff = Backoff { growth, jitter, base: ms(base).min(ms(max)), factor, min: ms(min), max: ms(max) };
            let delay = backoff.delay(retry, previous.map(Duration::from_millis), dice);
            prop_assert!(delay >= backoff.min);
            let most = match jitter {
                Jitter::Proportional { ratio } => scaled(backoff.max, 1.0 + ratio) + ms(1),
                Jitter::None | Jitter::Full | Jitter::Equal | Jitter::Decorrelated
                | Jitter::Additive { .. } => backoff.max,
            };
            prop_assert!(delay <= most, "{delay:?} > {most:?}");
        }

        #[test]
        fn no_wait_is_shorter_than_the_hint(hint in any::<u64>(), spread in 0.0..=1.0, dice in 0.0..=1.0) {
            let hint = Duration::from_millis(hint);
            prop_assert!(after_hint(hint, spread, dice) >= hint);
        }
    }

    #[test]
    fn shown_in_words() {
        let shown = |jitter| Backoff { jitter, ..Backoff::default() }.to_string();
        assert_eq!(shown(Jitter::Full), "500ms … 20s, full jitter");
        assert_eq!(shown(Jitter::Proportional { ratio: 0.3 }), "500ms … 20s, ±30%");
    }
}
