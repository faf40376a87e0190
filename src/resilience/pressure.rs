//! Pressure on the whole service, and what is given up for it first.
//!
//! The dearest recovery goes first: a hedge pays for two calls at once and a re-ask carries the bad
//! output along, so both end while there is still room for plain retries and other targets. At the
//! next step no new run is taken in.

/// How hard-pressed the service is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub enum Pressure {
    /// Everything is offered.
    #[default]
    None,
    /// No hedges, no re-asks; who finds no place at once is not let wait.
    Shed,
    /// No new runs.
    Refuse,
}

/// Share of a limit from which on the dear recoveries are given up, and new runs.
const SHED_AT: f64 = 0.8;
const REFUSE_AT: f64 = 0.9;

impl Pressure {
    /// The pressure of so much memory in use of so much.
    #[allow(clippy::cast_precision_loss)]
    pub fn of_memory(used: u64, limit: u64) -> Self {
        let share = used as f64 / limit.max(1) as f64;
        if share >= REFUSE_AT {
            Self::Refuse
        } else if share >= SHED_AT {
            Self::Shed
        } else {
            Self::None
        }
    }

    /// The pressure of so many runs of so many. Full is the queue's business, not a refusal.
    pub fn of_runs(running: usize, most: usize) -> Self {
        // In whole numbers: 4 of 5.
        if running.saturating_mul(5) >= most.saturating_mul(4) && most > 1 {
            Self::Shed
        } else {
            Self::None
        }
    }

    /// Stable name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Shed => "shed",
            Self::Refuse => "refuse",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_sheds_at_eighty_and_refuses_at_ninety_percent() {
        let of = |used| Pressure::of_memory(used, 1_000);
        assert_eq!([of(0), of(799)], [Pressure::None; 2]);
        assert_eq!([of(800), of(899)], [Pressure::Shed; 2]);
        assert_eq!([of(900), of(5_000)], [Pressure::Refuse; 2]);
    }

    #[test]
    fn many_runs_shed_and_never_refuse() {
        assert_eq!(Pressure::of_runs(799, 1_000), Pressure::None);
        assert_eq!(Pressure::of_runs(800, 1_000), Pressure::Shed);
        assert_eq!(Pressure::of_runs(1_000, 1_000), Pressure::Shed);
        assert_eq!(Pressure::of_runs(1, 1), Pressure::None);
    }
}
