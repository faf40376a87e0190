//! Budgets: how many extra calls a target takes, as a share of its fresh ones.
//!
//! Every fresh call pays in, every extra call (retry, fallback, hedge) takes out; what was paid in
//! and taken out is forgotten with the window, and a floor is always there, so that quiet callers
//! can retry too. In an outage the targets together get at most `1 + ratio` calls for each one asked of
//! them, beside the floors, whatever the policies of their callers allow.

use std::collections::VecDeque;
use std::time::Duration;

/// How many extra calls a target takes, as a share of its fresh ones.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BudgetSettings {
    /// Extra calls per fresh call.
    pub ratio: f64,
    /// Extra calls a second that are always allowed.
    pub floor_per_second: f64,
    /// What the share is taken over.
    pub window: Duration,
}

impl Default for BudgetSettings {
    fn default() -> Self {
        Self { ratio: 0.2, floor_per_second: 0.2, window: Duration::from_secs(30) }
    }
}

/// What a fresh call pays in.
const DEPOSIT: i64 = 1_000;
/// Slices that a window moves by.
const SLICES: u32 = 10;

/// A budget.
#[derive(Debug, Clone)]
pub struct Budget {
    settings: BudgetSettings,
    /// What one extra call takes out, and what is always there.
    price: i64,
    floor: i64,
    slices: VecDeque<Slice>,
    sum: Slice,
}

/// What was paid in and taken out since `start`.
#[derive(Debug, Clone, Copy, Default)]
struct Slice {
    start: Duration,
    paid: i64,
    taken: i64,
}

impl Budget {
    /// A budget of which nothing is used.
    pub fn new(settings: BudgetSettings) -> Self {
        // With no share at all only the floor pays; its unit is one call then.
        let price = if settings.ratio > 0.0 { whole(1_000.0 / settings.ratio).max(1) } else { 1 };
        let floor = settings.floor_per_second * settings.window.as_secs_f64();
        let floor = whole((floor + 1e-9).floor());
        Self {
            settings,
            price,
            floor: floor.saturating_mul(price),
            slices: VecDeque::with_capacity(SLICES as usize + 1),
            sum: Slice::default(),
        }
    }

    /// Puts other figures in force; what was used stays used where the price stays.
    pub fn configure(&mut self, settings: BudgetSettings) {
        if settings != self.settings {
            *self = Self::new(settings);
        }
    }

    /// Notes a fresh call.
    pub fn deposit(&mut self, now: Duration) {
        if self.settings.ratio > 0.0 {
            self.add(DEPOSIT, 0, now);
        }
    }

    /// Takes one extra call out, if there is one.
    pub fn withdraw(&mut self, now: Duration) -> bool {
        let allowed = self.has_room(now);
        if allowed {
            self.add(0, self.price, now);
        }
        allowed
    }

    /// Puts an extra call back that was not made after all.
    pub fn put_back(&mut self, now: Duration) {
        self.add(0, -self.price, now);
    }

    /// Whether an extra call is left.
    pub fn has_room(&mut self, now: Duration) -> bool {
        self.left(now) >= self.price
    }

    /// Extra calls that are left.
    pub fn calls_left(&mut self, now: Duration) -> u64 {
        u64::try_from(self.left(now) / self.price).unwrap_or(0)
    }

    /// The part that is left, 0 to 1.
    #[allow(clippy::cast_precision_loss)]
    pub fn share_left(&mut self, now: Duration) -> f64 {
        let left = self.left(now);
        let all = self.sum.paid.saturating_add(self.floor).max(self.price);
        (left as f64 / all as f64).clamp(0.0, 1.0)
    }

    /// True when it stands as a new one would.
    pub fn is_untouched(&mut self, now: Duration) -> bool {
        self.expire(now);
        self.slices.is_empty()
    }

    fn left(&mut self, now: Duration) -> i64 {
        self.expire(now);
        self.sum.paid.saturating_sub(self.sum.taken).saturating_add(self.floor)
    }

    fn add(&mut self, paid: i64, taken: i64, now: Duration) {
        self.expire(now);
        let length = self.settings.window / SLICES;
        match self.slices.back_mut() {
            Some(slice) if now < slice.start.saturating_add(length) => slice.add(paid, taken),
            Some(_) | None => self.slices.push_back(Slice { start: now, paid, taken }),
        }
        self.sum.add(paid, taken);
    }

    fn expire(&mut self, now: Duration) {
        while let Some(slice) = self.slices.front()
            && now >= slice.start.saturating_add(self.settings.window)
        {
            self.sum.add(-slice.paid, -slice.taken);
            self.slices.pop_front();
        }
    }
}

impl Slice {
    fn add(&mut self, paid: i64, taken: i64) {
        self.paid = self.paid.saturating_add(paid);
        self.taken = self.taken.saturating_add(taken);
    }
}

/// The nearest whole number.
#[allow(clippy::cast_possible_truncation)]
fn whole(value: f64) -> i64 {
    // `as` saturates, which is what a figure beyond all calls means.
    value.round() as i64
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn a_quiet_caller_has_the_floor_and_an_outage_the_share() {
        let mut budget = Budget::new(BudgetSettings::default());
        let taken = (0..100).filter(|_| budget.withdraw(ms(0))).count();
        assert_eq!(taken, 6, "0.2 a second for 30 s");
        (0..100).for_each(|_| budget.deposit(ms(1)));
        assert_eq!(budget.calls_left(ms(1)), 20);
        assert!((budget.share_left(ms(1)) - 20.0 / 26.0).abs() < 1e-9);
        budget.put_back(ms(2));
        assert_eq!(budget.calls_left(ms(2)), 21);
        assert!(!budget.is_untouched(ms(29_999)) && budget.is_untouched(ms(30_000)));
        assert_eq!(budget.calls_left(ms(60_000)), 6);
    }

    proptest! {
        /// Whenever an extra call is let through, those of the window are at most the share of its
        /// fresh ones and the floor (slices blur its end by a tenth); and in the long run no fresh
        /// call pays twice.
        #[test]
        fn amplification_is_bounded(
            ratio in 0.0..1.5, floor in 0.0..2.0,
            steps in prop::collection::vec((0_u64..3_000, 0_u32..8, 0_u32..20), 1..150),
        ) {
            let window = ms(30_000);
            let mut budget = Budget::new(BudgetSettings { ratio, floor_per_second: floor, window });
            let (mut now, mut all) = (Duration::ZERO, Vec::new());
            for (wait, fresh, tries) in steps {
                now += ms(wait);
                (0..fresh).for_each(|_| budget.deposit(now));
                let taken = (0..tries).filter(|_| budget.withdraw(now)).count() as f64;
                all.push((now, f64::from(fresh), taken));
                let within = |span: Duration| {
                    let since = all.iter().filter(|(at, ..)| now - *at < span);
                    since.fold((0.0, 0.0), |sum, one| (sum.0 + one.1, sum.1 + one.2))
                };
                let (extra, fresh) = (within(window - window / 10).1, within(window).0);
                // The price of a call is a whole number of thousandths.
                let ratio = if ratio > 0.0 { 1_000.0 / (1_000.0 / ratio).round().max(1.0) } else { 0.0 };
                let floor = (floor * 30.0 + 1e-9).floor();
                prop_assert!(taken == 0.0 || extra <= fresh * ratio + floor + 1e-6, "{extra} of {fresh}");
                let (fresh, extra) = within(Duration::MAX);
                let floors = now.as_secs_f64() / 27.0 + 1.0;
                prop_assert!(extra <= fresh * ratio + floor * floors + 1e-6, "{extra} of {fresh}");
                let share = budget.share_left(now);
                prop_assert!((0.0..=1.0).contains(&share));
                prop_assert!(budget.slices.len() <= SLICES as usize + 1);
            }
        }
    }
}
