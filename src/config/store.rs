//! Where documents and outputs are kept, and how outputs are found again; checked.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::TargetConfig;
use super::check::{Checker, or};
use super::raw::{RawDialect, RawTarget};
use super::raw_cache::{RawCache, RawDurableCache};
use crate::document::DurationText;
use crate::provider::embeddings;

/// Name of what makes vectors of prompts, among the targets that operators see.
pub const EMBEDDINGS: &str = "embeddings";

/// Outputs that are kept beyond the memory.
#[derive(Debug, Clone, Default)]
pub struct CacheConfig {
    /// Outputs on the disk.
    pub durable: Option<DurableCacheConfig>,
    /// What makes vectors of prompts, and the bytes of vectors in memory.
    pub embeddings: Option<(TargetConfig, usize)>,
}

/// Outputs on the disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DurableCacheConfig {
    /// SQLite file.
    pub path: PathBuf,
    /// Bytes of outputs.
    pub bytes_max: u64,
    /// Age at which they are deleted.
    pub max_age: Duration,
    /// Keep those of steps without an idempotency key too.
    pub steps_without_key: bool,
}

impl Checker<'_> {
    /// `memory` is the bytes of outputs in memory, `names` those of targets and groups.
    pub(super) fn cache(
        &mut self,
        raw: RawCache,
        store: Option<&Path>,
        memory: usize,
        names: &BTreeSet<Arc<str>>,
    ) -> CacheConfig {
        let durable = raw.durable.map(|durable| self.durable_cache(durable, store, memory));
        let bytes_max = raw.embeddings_bytes_max.unwrap_or(64 << 20) as usize;
        let embeddings = raw.embeddings.map(|raw| (self.embeddings(raw), bytes_max));
        if embeddings.is_some() && names.contains(EMBEDDINGS) {
            let message = "a target or group is named `embeddings`, as operators know these";
            self.at_key("/cache/embeddings", message);
        }
        if embeddings.is_none() && raw.embeddings_bytes_max.is_some() {
            self.at_key("/cache/embeddings_bytes_max", "there are no `embeddings`");
        }
        CacheConfig { durable, embeddings }
    }

    fn embeddings(&mut self, mut raw: RawTarget) -> TargetConfig {
        const PATH: &str = "/cache/embeddings";
        match raw.dialect {
            RawDialect::Openai => {}
            RawDialect::Anthropic | RawDialect::Gemini => {
                let message = "embeddings are spoken in the dialect `openai` only";
                self.at(&format!("{PATH}/dialect"), message);
            }
        }
        raw.path.get_or_insert_with(|| embeddings::PATH.to_owned());
        // A call that waits longer for a vector than most take for an answer gains nothing.
        let limit = |given: &mut Option<_>, ms| {
            given.get_or_insert(DurationText(Duration::from_millis(ms)));
        };
        limit(&mut raw.timeouts.attempt, 2_000);
        limit(&mut raw.timeouts.queue, 500);
        self.target(PATH, raw)
    }

    fn durable_cache(
        &mut self,
        durable: RawDurableCache,
        store: Option<&Path>,
        memory: usize,
    ) -> DurableCacheConfig {
        let path = match (durable.path.as_deref(), store) {
            (Some(path), _) => self.file("/cache/durable/path", path),
            (None, Some(store)) => store.with_file_name("cache.db"),
            (None, None) => {
                self.at_key("/cache/durable", "needs a `path`, or a `store` to be beside of");
                PathBuf::new()
            }
        };
        if store == Some(&*path) {
            self.at("/cache/durable/path", "is the store's file; outputs have one of their own");
        }
        if durable.max_age.is_some_and(|age| age.0.is_zero()) {
            self.at("/cache/durable/max_age", "has to be longer than 0");
        }
        if memory == 0 {
            let message = "needs room in memory, and `limits.cache_bytes` is 0";
            self.at_key("/cache/durable", message);
        }
        DurableCacheConfig {
            path,
            bytes_max: durable.bytes_max.unwrap_or(1 << 30),
            max_age: or(durable.max_age, Duration::from_secs(7 * 86_400)),
            steps_without_key: durable.steps_without_key,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Config, Environment, read};
    use super::*;
    use crate::document::Document;

    fn config(text: &str) -> Result<Config, String> {
        let document = Document::parse("mainstay.yaml", text).unwrap();
        let environment =
            Environment { variable: &|_: &str| None, base_dir: Path::new("/etc/mainstay") };
        read(&document, &environment).map_err(|problems| problems.to_string())
    }

    #[test]
    fn embeddings_are_a_target_with_limits_of_their_own() {
        let text = "cache: {embeddings: {dialect: openai, model: small}}";
        let (target, bytes) = config(text).unwrap().cache.embeddings.unwrap();
        assert_eq!((target.path.as_deref(), bytes), (Some("/embeddings"), 64 << 20));
        assert_eq!(target.attempt_timeout, Duration::from_secs(2));
        let own = "cache: {embeddings: {dialect: openai, model: m, path: /v2/embed, timeouts: {attempt: 9s}}}";
        let (target, _) = config(own).unwrap().cache.embeddings.unwrap();
        assert_eq!(target.path.as_deref(), Some("/v2/embed"));
        assert_eq!(target.attempt_timeout, Duration::from_secs(9));
        for (text, wanted) in [
            ("cache: {embeddings: {dialect: gemini, model: m}}", "`openai` only"),
            ("cache: {embeddings: {dialect: openai, model: ''}}", "is empty"),
            (
                "cache: {embeddings: {dialect: openai, model: m, base_url: 'http://10.0.0.1'}}",
                "cache.embeddings.base_url",
            ),
            (
                "targets: {embeddings: {dialect: openai, model: m}}\n\
                 cache: {embeddings: {dialect: openai, model: m}}",
                "is named `embeddings`",
            ),
            ("cache: {embeddings_bytes_max: 100000}", "there are no `embeddings`"),
        ] {
            let error = config(text).unwrap_err();
            assert!(error.contains(wanted), "{text}: {error}");
        }
    }

    #[test]
    fn a_durable_cache_is_asked_for_and_has_a_file_of_its_own() {
        let durable = |text: &str| config(text).map(|config| config.cache.durable);
        assert_eq!(durable("store: {path: a.db}"), Ok(None));
        let beside = durable("store: {path: data/a.db}\ncache: {durable: {}}").unwrap().unwrap();
        assert_eq!(beside.path, Path::new("/etc/mainstay/data/cache.db"));
        assert_eq!((beside.bytes_max, beside.steps_without_key), (1 << 30, false));
        let own = durable("cache: {durable: {path: /var/c.db, max_age: 1h}}").unwrap().unwrap();
        assert_eq!((own.path, own.max_age), ("/var/c.db".into(), Duration::from_secs(3_600)));
        for (text, wanted) in [
            ("cache: {durable: {}}", "needs a `path`"),
            ("cache: {durable: {path: ' '}}", "is empty"),
            ("store: {path: a}\ncache: {durable: {path: a}}", "is the store's file"),
            ("cache: {durable: {path: a, max_age: 0s}}", "longer than 0"),
            ("cache: {durable: {path: a}}\nlimits: {cache_bytes: 0}", "needs room in memory"),
            ("cache: {durable: {path: a, bytes_max: 5}}", "bytes_max"),
            ("cache: {durable: {pth: a}}", "pth"),
        ] {
            let error = config(text).unwrap_err();
            assert!(error.contains(wanted), "{text}: {error}");
        }
    }
}
