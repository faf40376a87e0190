//! Who calls, and what they may.

mod identity;

pub use identity::{DEFAULT_TENANT, Identity, Role, Roles};
