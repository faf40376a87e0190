//! How long a target's calls take lately: quantiles of the last half to full minute.
//!
//! Buckets that grow by an eighth of their octave: a figure is at most an eighth too long, never
//! too short. Two generations, so that what is old is forgotten without a list of calls.

use std::time::Duration;

/// A generation ends after this long.
const GENERATION: Duration = Duration::from_secs(30);
/// Fewer calls than this say nothing.
const CALLS_MIN: u32 = 5;
/// Buckets of an octave.
const STEPS: u32 = 8;
/// Octaves of milliseconds: up to 2^23 ms, more than two hours.
const OCTAVES: u32 = 23;
const BUCKETS: usize = (STEPS * OCTAVES) as usize;

/// Times of successful calls.
#[derive(Debug, Clone)]
pub struct Latency {
    current: Box<[u32; BUCKETS]>,
    previous: Box<[u32; BUCKETS]>,
    counts: [u32; 2],
    began: Duration,
}

impl Latency {
    /// Nothing known.
    pub fn new(now: Duration) -> Self {
        Self {
            current: Box::new([0; BUCKETS]),
            previous: Box::new([0; BUCKETS]),
            counts: [0; 2],
            began: now,
        }
    }

    /// Adds a call.
    pub fn record(&mut self, took: Duration, now: Duration) {
        self.turn(now);
        let count = &mut self.current[bucket(took)];
        *count = count.saturating_add(1);
        self.counts[0] = self.counts[0].saturating_add(1);
    }

    /// The time within which this share of the calls ended; `None` when too few are known.
    pub fn quantile(&mut self, share: f64, now: Duration) -> Option<Duration> {
        self.quantile_of(CALLS_MIN, share, now)
    }

    /// The same, out of so many calls at least: a tail takes more than a middle.
    pub fn quantile_of(&mut self, least: u32, share: f64, now: Duration) -> Option<Duration> {
        self.turn(now);
        let calls = self.counts[0].saturating_add(self.counts[1]);
        if calls < least.max(CALLS_MIN) {
            return None;
        }
        let wanted = (f64::from(calls) * share).ceil().max(1.0);
        let mut seen = 0.0;
        for at in 0..BUCKETS {
            seen += f64::from(self.current[at]) + f64::from(self.previous[at]);
            if seen >= wanted {
                return Some(upper(at));
            }
        }
        None
    }

    fn turn(&mut self, now: Duration) {
        let since = now.saturating_sub(self.began);
        if since < GENERATION {
            return;
        }
        std::mem::swap(&mut self.current, &mut self.previous);
        self.current.fill(0);
        self.counts = [0, self.counts[0]];
        if since >= GENERATION * 2 {
            self.previous.fill(0);
            self.counts = [0; 2];
        }
        self.began = now;
    }
}

/// The bucket of a time.
fn bucket(took: Duration) -> usize {
    let ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX).saturating_add(1);
    let octave = ms.ilog2();
    // The three bits after the leading one.
    let step = if octave >= 3 { (ms >> (octave - 3)) & 7 } else { (ms << (3 - octave)) & 7 };
    let at = octave as usize * STEPS as usize + usize::try_from(step).unwrap_or(0);
    at.min(BUCKETS - 1)
}

/// The longest time of a bucket.
fn upper(at: usize) -> Duration {
    let (octave, step) = (at / STEPS as usize, at % STEPS as usize);
    let eighths = (STEPS as usize + step + 1) as u64;
    Duration::from_micros((eighths << octave) * 1_000 / u64::from(STEPS))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn what_is_old_is_forgotten() {
        let mut latency = Latency::new(ms(0));
        (0..4).for_each(|_| latency.record(ms(100), ms(0)));
        assert_eq!(latency.quantile(0.5, ms(0)), None, "too few");
        latency.record(ms(100), ms(0));
        assert!(latency.quantile(0.5, ms(31_000)).is_some());
        (0..5).for_each(|_| latency.record(ms(10), ms(31_000)));
        assert!(latency.quantile(0.5, ms(61_000)).unwrap() < ms(20));
        assert_eq!(latency.quantile(0.5, ms(200_000)), None);
    }

    proptest! {
        /// Never shorter than the true quantile, and at most an eighth (and a millisecond) longer.
        #[test]
        fn quantiles_are_near_and_on_the_safe_side(
            times in prop::collection::vec(0_u64..1_000_000, 5..200), share in 0.01_f64..1.0,
        ) {
            let mut latency = Latency::new(ms(0));
            times.iter().for_each(|time| latency.record(ms(*time), ms(1)));
            let mut sorted: Vec<u64> = times;
            sorted.sort_unstable();
            let at = (sorted.len() as f64 * share).ceil() as usize - 1;
            let exact = ms(sorted[at.min(sorted.len() - 1)]);
            let told = latency.quantile(share, ms(2)).unwrap();
            prop_assert!(told >= exact, "{told:?} < {exact:?}");
            prop_assert!(told <= exact + exact / 8 + ms(2), "{told:?} >> {exact:?}");
        }
    }
}
