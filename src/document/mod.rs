//! Documents: YAML or JSON text that becomes a checked Rust value, with every mistake placed.
//!
//! Server configuration, policies and pipelines are all read here, so that they all complain in
//! the same way: every mistake at once, each with path, line, column and a suggestion. Text is
//! first read into a [`Node`] tree that remembers positions. Its shape is then held against the
//! JSON Schema generated from the Rust type, which finds every structural mistake, not only the
//! first as plain deserialisation would. What the types cannot say is checked by the owner of the
//! type, who places [`Problem`]s by path.

mod duration;
mod printable;
mod problem;
mod reader;
mod render;
mod salvage;
mod scalar;
mod shape;
mod suggest;
mod tree;

pub use duration::DurationText;
pub use printable::printable;
pub use problem::{PROBLEMS_MAX, Problem, Problems, Severity};
pub use render::render;
pub use salvage::{Fillers, Salvaged};
pub use shape::Shape;
pub use suggest::{longer, nearest};
pub use tree::{Document, Node, NodeValue, Position};

/// Largest document in bytes.
pub const BYTES_MAX: usize = 1024 * 1024;
