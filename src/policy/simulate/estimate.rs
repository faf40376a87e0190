//! Sums of what is certain and what is estimated, with intervals.

use super::Estimate;
use super::effects::{Brought, Effect};

/// The 97.5 % quantile of the normal distribution.
const Z: f64 = 1.959_963_985;

/// A best value within its 95 % interval.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Interval {
    /// Best value.
    pub value: f64,
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
}

impl Interval {
    /// Wilson's interval of a share: `hits` among `of`.
    pub fn share(hits: u64, of: u64) -> Self {
        let (hits, n) = (hits as f64, of as f64);
        let share = hits / n;
        let centre = (share + Z * Z / (2.0 * n)) / (1.0 + Z * Z / n);
        let half =
            Z / (1.0 + Z * Z / n) * (share * (1.0 - share) / n + Z * Z / (4.0 * n * n)).sqrt();
        // At the ends the interval touches the value; rounding must not put it outside.
        Self { value: share, low: (centre - half).min(share), high: (centre + half).max(share) }
    }

    /// Student's interval of a mean, from the sums of `n` values and of their squares.
    pub fn mean(sum: f64, squares: f64, n: u64) -> Self {
        let count = n as f64;
        let mean = sum / count;
        // Rounding can make a variance of nothing negative.
        let variance = ((squares - sum * mean) / (count - 1.0)).max(0.0);
        let half = quantile(count - 1.0) * (variance / count).sqrt();
        Self { value: mean, low: mean - half, high: mean + half }
    }

    fn times(self, factor: f64) -> Self {
        Self { value: self.value * factor, low: self.low * factor, high: self.high * factor }
    }

    /// `self - other`. The ends are those of independent estimates: distances add up in squares.
    fn minus(self, other: Self) -> Self {
        let value = self.value - other.value;
        let low = (self.value - self.low).hypot(other.high - other.value);
        let high = (self.high - self.value).hypot(other.value - other.low);
        Self { value, low: value - low, high: value + high }
    }

    fn plus(self, other: Self) -> Self {
        self.minus(other.times(-1.0).flipped())
    }

    /// With its ends the right way round after a negative factor.
    fn flipped(self) -> Self {
        Self { low: self.high, high: self.low, ..self }
    }
}

/// The 97.5 % quantile of Student's distribution with this many degrees of freedom, by its expansion
/// around the normal one; off by less than 1 % from 4 degrees on.
fn quantile(degrees: f64) -> f64 {
    let first = (Z.powi(3) + Z) / 4.0;
    let second = (5.0 * Z.powi(5) + 16.0 * Z.powi(3) + 3.0 * Z) / 96.0;
    let third = (3.0 * Z.powi(7) + 19.0 * Z.powi(5) + 17.0 * Z.powi(3) - 15.0 * Z) / 384.0;
    Z + first / degrees + second / degrees.powi(2) + third / degrees.powi(3)
}

/// What decisions bring together.
#[derive(Default)]
pub(super) struct Sum {
    certain: [f64; 5],
    /// Estimated ones: the same effect is one estimate, however often it is used.
    estimated: Vec<(Effect, f64)>,
}

impl Sum {
    pub(super) fn add(&mut self, brought: Brought) {
        let Brought { certain, estimated } = brought;
        for (sum, value) in self.certain.iter_mut().zip(certain) {
            *sum += value;
        }
        let Some(effect) = estimated else { return };
        match self.estimated.iter_mut().find(|(known, _)| *known == effect) {
            Some((_, times)) => *times += 1.0,
            None => self.estimated.push((effect, 1.0)),
        }
    }

    fn total(&self, at: usize) -> Interval {
        let certain = self.certain[at];
        let start = Interval { value: certain, low: certain, high: certain };
        let parts = self.estimated.iter().map(|(effect, times)| effect.parts()[at].times(*times));
        parts.fold(start, Interval::plus)
    }

    /// This less the other; latency for each of `count`.
    pub(super) fn less(&self, other: &Self, count: u64) -> Estimate {
        let part = |at| self.total(at).minus(other.total(at));
        Estimate {
            recoveries: part(0),
            degraded: part(1),
            calls: part(2),
            cost_usd: part(3),
            latency_seconds: part(4).times(1.0 / count as f64),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn near(interval: Interval, low: f64, high: f64) {
        let close = |a: f64, b: f64| (a - b).abs() < 0.001;
        assert!(close(interval.low, low) && close(interval.high, high), "{interval:?}");
    }

    #[test]
    fn shares_and_means_have_the_intervals_of_the_books() {
        near(Interval::share(0, 10), 0.0, 0.2775);
        near(Interval::share(10, 10), 0.7225, 1.0);
        near(Interval::share(8, 10), 0.4902, 0.9433);
        // Values 1 to 5: mean 3, deviation 1.5811, quantile 2.776.
        let half = 2.7764 * 1.5811 / 5.0_f64.sqrt();
        let interval = Interval::mean(15.0, 55.0, 5);
        assert_eq!(interval.value, 3.0);
        assert!((interval.high - 3.0 - half).abs() < 0.02 * half, "{interval:?}");
        assert_eq!(Interval::mean(5.0, 5.0, 5), Interval { value: 1.0, low: 1.0, high: 1.0 });
    }

    #[test]
    fn distances_of_independent_estimates_add_up_in_squares() {
        let a = Interval { value: 10.0, low: 7.0, high: 14.0 };
        let b = Interval { value: 4.0, low: 1.0, high: 8.0 };
        near(a.minus(b), 6.0 - 5.0, 6.0 + 5.0);
        near(a.plus(b), 14.0 - 18.0_f64.sqrt(), 14.0 + 32.0_f64.sqrt());
    }
}
