//! Retry budgets: one of the target, and one for each caller of it.
//!
//! An extra call draws on both. The target's bounds what an outage makes of the traffic; the
//! caller's keeps one caller from using up what the others need.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use crate::resilience::budget::{Budget, BudgetSettings};

/// Callers with a budget of their own. Those beyond share one.
const CALLERS_MAX: usize = 1_024;

/// The budgets of a target.
#[derive(Debug)]
pub(super) struct Budgets {
    settings: BudgetSettings,
    all: Budget,
    callers: HashMap<Arc<str>, Budget>,
    others: Budget,
}

impl Budgets {
    pub(super) fn new(settings: BudgetSettings) -> Self {
        let budget = Budget::new(settings);
        Self { settings, all: budget.clone(), callers: HashMap::new(), others: budget }
    }

    pub(super) fn configure(&mut self, settings: BudgetSettings) {
        if settings != self.settings {
            *self = Self::new(settings);
        }
    }

    /// A fresh call of this caller.
    pub(super) fn deposit(&mut self, caller: &Arc<str>, now: Duration) {
        self.all.deposit(now);
        self.of(caller, now).deposit(now);
    }

    /// An extra call of this caller, if both have room.
    pub(super) fn withdraw(&mut self, caller: &Arc<str>, now: Duration) -> bool {
        self.has_room(caller, now) && self.of(caller, now).withdraw(now) && self.all.withdraw(now)
    }

    /// An extra call that was not made after all.
    pub(super) fn put_back(&mut self, caller: &Arc<str>, now: Duration) {
        self.of(caller, now).put_back(now);
        self.all.put_back(now);
    }

    pub(super) fn has_room(&mut self, caller: &Arc<str>, now: Duration) -> bool {
        self.all.has_room(now) && self.of(caller, now).has_room(now)
    }

    /// Part of the target's budget that is left.
    pub(super) fn share_left(&mut self, now: Duration) -> f64 {
        self.all.share_left(now)
    }

    fn of(&mut self, caller: &Arc<str>, now: Duration) -> &mut Budget {
        if !self.callers.contains_key(caller) {
            if self.callers.len() >= CALLERS_MAX {
                self.callers.retain(|_, budget| !budget.is_untouched(now));
            }
            if self.callers.len() >= CALLERS_MAX {
                return &mut self.others;
            }
            self.callers.insert(caller.clone(), Budget::new(self.settings));
        }
        self.callers.get_mut(caller).unwrap_or(&mut self.others)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_caller_does_not_use_up_what_the_others_need() {
        let settings = BudgetSettings { ratio: 0.2, floor_per_second: 0.1, ..Default::default() };
        let mut budgets = Budgets::new(settings);
        let (noisy, quiet): (Arc<str>, Arc<str>) = ("noisy".into(), "quiet".into());
        let now = Duration::from_secs(1);
        for _ in 0..100 {
            budgets.deposit(&noisy, now);
            budgets.deposit(&quiet, now);
        }
        let taken = (0..100).filter(|_| budgets.withdraw(&noisy, now)).count();
        assert_eq!(taken, 23, "its own share and floor, not the target's 43");
        assert!(budgets.withdraw(&quiet, now));
        assert!((budgets.share_left(now) - 19.0 / 43.0).abs() < 1e-9);
    }

    #[test]
    fn callers_are_bounded() {
        let mut budgets = Budgets::new(BudgetSettings::default());
        for at in 0..3_000 {
            budgets.deposit(&format!("caller {at}").into(), Duration::ZERO);
        }
        assert_eq!(budgets.callers.len(), CALLERS_MAX);
        budgets.deposit(&"late".into(), Duration::from_secs(60));
        assert_eq!(budgets.callers.len(), 1, "the idle made room");
    }
}
