//! Adaptive concurrency: finds out how many calls at once a target bears.
//!
//! Additive increase, multiplicative decrease: the limit grows by one for each limit's worth of
//! good calls while it is made use of, and shrinks when the target says that it is overloaded or
//! when calls take much longer than they do at their best. Off unless the configuration asks for
//! it.

use std::time::Duration;

/// Bounds of the limit.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AdaptiveSettings {
    /// Never fewer calls at once.
    pub min: u32,
    /// Never more.
    pub max: u32,
    /// Shrinks when a call takes this many times as long as the usual good one.
    pub slow_factor: f64,
}

/// Share that is left of the limit when the target is overloaded, and when it is slow.
const OVERLOADED: f64 = 0.7;
const SLOW: f64 = 0.9;
/// How fast the usual time follows longer ones. It follows shorter ones at once.
const FOLLOW: f64 = 0.01;

/// A limit of calls at once that follows what the target bears.
#[derive(Debug, Clone)]
pub struct Adaptive {
    settings: AdaptiveSettings,
    limit: f64,
    usual: Option<f64>,
    shrunk_at: Option<Duration>,
}

impl Adaptive {
    /// Begins at the least limit, or at a tenth of the most.
    pub fn new(settings: AdaptiveSettings) -> Self {
        let limit = f64::from(settings.min.max(settings.max / 10).max(1));
        Self { settings, limit, usual: None, shrunk_at: None }
    }

    /// Calls at once now.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    pub fn limit(&self) -> u32 {
        self.limit as u32
    }

    /// A good call that took `took`, while so many were in flight.
    pub fn good(&mut self, took: Duration, in_flight: u32, now: Duration) {
        let took = took.as_secs_f64();
        let usual = match self.usual {
            Some(usual) if took > usual => usual + (took - usual) * FOLLOW,
            Some(_) | None => took,
        };
        let was_usual = self.usual.replace(usual).unwrap_or(took);
        if took > was_usual * self.settings.slow_factor {
            self.shrink(SLOW, now);
        } else if f64::from(in_flight) * 2.0 >= self.limit {
            // A limit that nobody reaches has proved nothing.
            let most = f64::from(self.settings.max.max(1));
            self.limit = (self.limit + 1.0 / self.limit).min(most);
        }
    }

    /// The target says that it is overloaded, or did not answer in time.
    pub fn overloaded(&mut self, now: Duration) {
        self.shrink(OVERLOADED, now);
    }

    fn shrink(&mut self, share: f64, now: Duration) {
        // Once for the calls that were in flight together: they all tell of the same moment.
        let together = Duration::try_from_secs_f64(self.usual.unwrap_or(0.0)).unwrap_or_default();
        if self.shrunk_at.is_some_and(|at| now < at.saturating_add(together)) {
            return;
        }
        self.shrunk_at = Some(now);
        self.limit = (self.limit * share).max(f64::from(self.settings.min.max(1)));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SETTINGS: AdaptiveSettings = AdaptiveSettings { min: 2, max: 100, slow_factor: 3.0 };

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn it_finds_what_a_target_bears() {
        // A target that bears 40 calls at once, and is overloaded by more.
        let mut adaptive = Adaptive::new(SETTINGS);
        let mut limits = Vec::new();
        for round in 0..2_000_u64 {
            let in_flight = adaptive.limit();
            let now = ms(round * 100);
            for _ in 0..in_flight {
                if in_flight > 40 {
                    adaptive.overloaded(now);
                } else {
                    adaptive.good(ms(100), in_flight, now);
                }
            }
            limits.push(adaptive.limit());
        }
        let settled = &limits[1_000..];
        let (least, most) = (settled.iter().min().unwrap(), settled.iter().max().unwrap());
        assert!((27..=41).contains(least) && (39..=41).contains(most), "{least} … {most}");
    }

    #[test]
    fn slowness_shrinks_it_and_idleness_does_not_grow_it() {
        let mut adaptive = Adaptive::new(SETTINGS);
        let begun = adaptive.limit();
        (0..500).for_each(|i| adaptive.good(ms(100), 1, ms(i)));
        assert_eq!(adaptive.limit(), begun);
        adaptive.good(ms(500), 1, ms(1_000));
        assert_eq!(adaptive.limit(), begun - 1);
    }

    proptest! {
        #[test]
        fn the_limit_stays_within_its_bounds(
            calls in prop::collection::vec((any::<bool>(), 0_u64..10_000, 0_u32..200), 1..500),
        ) {
            let mut adaptive = Adaptive::new(SETTINGS);
            for (at, (good, took, in_flight)) in calls.into_iter().enumerate() {
                let now = ms(at as u64 * 50);
                if good { adaptive.good(ms(took), in_flight, now) } else { adaptive.overloaded(now) }
                prop_assert!((2..=100).contains(&adaptive.limit()));
            }
        }
    }
}
