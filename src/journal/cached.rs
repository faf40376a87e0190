//! What is recorded of answers that needed no call of their own.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::exchange::Usage;
use crate::failure::Failure;

/// How an earlier output came to be the step's.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum CacheUse {
    /// It was given to the same request.
    Exact,
    /// It was given to the same request at the same time.
    Shared,
    /// It was given to a request that says nearly the same.
    Semantic {
        /// Cosine similarity of the two.
        similarity: f64,
    },
}

impl CacheUse {
    /// Lower-case name, for spans and people.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Exact => "exact",
            Self::Shared => "shared",
            Self::Semantic { .. } => "semantic",
        }
    }
}

/// The call that made a vector of a step's prompt.
#[derive(Debug, Clone, PartialEq)]
pub struct EmbeddingRecord {
    /// The target that made it.
    pub target: Arc<str>,
    /// When it started.
    pub started: SystemTime,
    /// How long it took, with its wait for a place.
    pub duration: Duration,
    /// Whether something was sent.
    pub called: bool,
    /// Span id that went to the provider; 0 without a trace.
    pub span_id: u64,
    /// Tokens.
    pub usage: Usage,
    /// Cost in US dollars.
    pub cost_usd: f64,
    /// Why there is no vector. The step goes on without one.
    pub failure: Option<Failure>,
    /// Similarity of the nearest prompt that was known, wherever the threshold is.
    pub nearest: Option<f64>,
}
