//! Latencies in a histogram of fixed size: each bucket is 4 % wider than the one before, from a
//! millisecond to an hour. Exact quantiles would need every run kept.

use std::time::Duration;

const GROWTH: f64 = 1.04;
/// `GROWTH` to this power is above the 3,600,000 milliseconds of an hour.
const BUCKETS: usize = 386;

/// How long runs took.
#[derive(Debug, Clone, PartialEq)]
pub struct Latencies {
    counts: Vec<u64>,
}

impl Default for Latencies {
    fn default() -> Self {
        Self { counts: vec![0; BUCKETS] }
    }
}

impl Latencies {
    /// Counts one.
    pub fn add(&mut self, latency: Duration) {
        if let Some(count) = self.counts.get_mut(bucket(latency)) {
            *count += 1;
        }
    }

    /// The upper end of the bucket that the quantile falls into; zero without any.
    #[allow(clippy::cast_precision_loss)]
    pub fn quantile(&self, quantile: f64) -> Duration {
        let all: u64 = self.counts.iter().sum();
        let wanted = quantile * all as f64;
        let mut seen = 0_u64;
        for (index, count) in self.counts.iter().enumerate() {
            seen += count;
            if *count > 0 && seen as f64 >= wanted {
                return upper_end(index);
            }
        }
        Duration::ZERO
    }
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
fn bucket(latency: Duration) -> usize {
    let milliseconds = latency.as_secs_f64() * 1e3;
    if milliseconds <= 1.0 {
        return 0;
    }
    // A float above `usize::MAX` becomes it; the last bucket takes everything above an hour.
    ((milliseconds.ln() / GROWTH.ln()).ceil() as usize).min(BUCKETS - 1)
}

fn upper_end(bucket: usize) -> Duration {
    let exponent = i32::try_from(bucket).unwrap_or(i32::MAX);
    Duration::from_secs_f64(GROWTH.powi(exponent) / 1e3)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_quantile_is_at_most_4_percent_too_long(
            mut milliseconds in proptest::collection::vec(1_u64..3_600_000, 1..200),
        ) {
            let mut latencies = Latencies::default();
            for one in &milliseconds {
                latencies.add(Duration::from_millis(*one));
            }
            milliseconds.sort_unstable();
            let rank = (0.95 * milliseconds.len() as f64).ceil() as usize;
            let exact = Duration::from_millis(milliseconds[rank - 1]).as_secs_f64();
            let told = latencies.quantile(0.95).as_secs_f64();
            prop_assert!(told >= exact * 0.999_999 && told <= exact * 1.040_001, "{told} {exact}");
        }
    }

    #[test]
    fn nothing_and_everything() {
        let mut latencies = Latencies::default();
        assert_eq!(latencies.quantile(0.95), Duration::ZERO);
        latencies.add(Duration::MAX);
        assert!(latencies.quantile(0.95) > Duration::from_secs(3_500));
        latencies.add(Duration::ZERO);
        assert_eq!(latencies.quantile(0.1), Duration::from_millis(1));
    }
}
