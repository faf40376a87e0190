//! Where runs, documents and cached outputs are kept.
//!
//! Runs are in memory. What the engine asks of [`memory`] (accept a run once per idempotency key,
//! keep its record, find it again by id) is what a durable store will have to offer; until there
//! is a second one there is no trait. Documents are in the SQLite file where the configuration
//! names one, and cached outputs in another that may be lost.

pub mod memory;
pub mod sqlite;
