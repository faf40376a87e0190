//! What an evaluation may still cost.

use std::cell::Cell;

use super::ExpressionError as Error;

/// Steps that one evaluation may take: enough for a condition over the longest list, and about a
/// millisecond.
const FUEL: u64 = 100_000;

const OUT_OF_FUEL: Error = Error::TooCostly("the expression needs more steps than it may take");

/// The steps that are left.
pub(super) struct Fuel(Cell<u64>);

impl Fuel {
    pub(super) fn full() -> Self {
        Self(Cell::new(FUEL))
    }

    /// Takes `steps` of what is left.
    ///
    /// # Errors
    /// There are not so many left; then none are.
    pub(super) fn pay(&self, steps: usize) -> Result<(), Error> {
        let left = self.0.get().checked_sub(steps as u64);
        self.0.set(left.unwrap_or(0));
        left.map(|_| ()).ok_or(OUT_OF_FUEL)
    }
}
