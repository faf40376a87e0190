//! The work that one recovery may spend.
//!
//! Every guess looks ahead, and looking ahead again and again is how repairers of JSON become
//! quadratic. All readers of one text draw on one budget that is linear in its length; when it is
//! spent, guesses fall back to what can be seen at once, and no further candidate is tried.

/// Steps left, and how many were taken.
#[derive(Debug)]
pub(super) struct Budget {
    left: u64,
    used: u64,
}

const STEPS_PER_BYTE: u64 = 24;
const STEPS_MIN: u64 = 20_000;

impl Budget {
    /// The budget for a text of this length.
    pub fn for_length(bytes: usize) -> Self {
        Self {
            left: (bytes as u64).saturating_mul(STEPS_PER_BYTE).saturating_add(STEPS_MIN),
            used: 0,
        }
    }

    /// Takes steps; false when they are not all there.
    pub fn take(&mut self, steps: usize) -> bool {
        let steps = steps as u64;
        self.used = self.used.saturating_add(steps);
        let enough = self.left >= steps;
        self.left = self.left.saturating_sub(steps);
        enough
    }

    /// True when nothing is left.
    pub fn spent(&self) -> bool {
        self.left == 0
    }

    /// Steps taken so far.
    pub fn used(&self) -> u64 {
        self.used
    }
}
