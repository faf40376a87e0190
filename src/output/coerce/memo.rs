//! What is remembered of parts of schemas and values, by their addresses.
//!
//! The keys are addresses of ours and nothing that a model wrote, so the hash only has to spread
//! them, and need not resist anybody.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

/// Keyed by the address of a schema and the address of a value.
pub(super) type Memo<T> = HashMap<(usize, usize), T, BuildHasherDefault<AddressHasher>>;

/// Multiplies, and folds the well mixed half onto the other.
#[derive(Debug, Default)]
pub(super) struct AddressHasher(u64);

impl Hasher for AddressHasher {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_usize(usize::from(*byte));
        }
    }

    fn write_usize(&mut self, number: usize) {
        self.0 = (self.0.rotate_left(23) ^ number as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    }

    fn finish(&self) -> u64 {
        self.0 ^ (self.0 >> 32)
    }
}
