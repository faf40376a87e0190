//! The cache as written.

use schemars::JsonSchema;
use serde::Deserialize;

use super::raw::RawTarget;
use crate::document::DurationText;

/// Outputs that are kept beyond the memory. What is kept in memory is bounded by
/// `limits.cache_bytes`; whether and how it answers is a policy's to say.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RawCache {
    /// Keep outputs on the disk too. Off if absent.
    pub durable: Option<RawDurableCache>,
    /// What makes vectors of prompts, for policies that answer with the output to a prompt that says
    /// nearly the same. It is no target of steps; its dialect is `openai`, its path `/embeddings` if
    /// absent, its `timeouts` 2 s for a call and 500 ms for a place if absent.
    pub embeddings: Option<RawTarget>,
    /// Bytes of vectors in memory; the oldest go first. 64 MiB if absent.
    #[schemars(range(min = 65_536, max = 4_294_967_295_u64))]
    pub embeddings_bytes_max: Option<u32>,
}

/// Outputs on the disk, as callers were answered: not encrypted, and readable for the owner of the
/// process only.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RawDurableCache {
    /// SQLite file of its own; made if absent. Beside the configuration file if relative;
    /// `cache.db` beside the store's file if absent. One process owns it.
    pub path: Option<String>,
    /// Bytes of outputs; the oldest go first. 1 GiB if absent.
    #[schemars(range(min = 1_048_576, max = 1_099_511_627_776_u64))]
    pub bytes_max: Option<u64>,
    /// Age at which outputs are deleted. 7 days if absent.
    pub max_age: Option<DurationText>,
    /// Keep outputs of steps that are called alone without an idempotency key too; they are in
    /// memory only otherwise.
    pub steps_without_key: bool,
}
