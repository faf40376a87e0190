//! Where runs are kept.
//!
//! One store so far, in memory. What the engine asks of it (accept a run once per idempotency key,
//! keep its record, find it again by id) is what a durable store will have to offer; until there
//! is a second one there is no trait.

pub mod memory;
