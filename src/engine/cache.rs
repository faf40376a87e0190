//! The last good output of a step for an input, in memory and bounded: the source of
//! `fallback_to_cache`, and of answers without a call where the policy wants them. Behind it may be
//! a store on the disk ([`durable`]).

pub mod durable;
pub mod similar;

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use sha2::{Digest, Sha256};
use tokio::time::Instant;

use crate::exchange::{Message, Part, Role};
use crate::journal::StepOutput;
use durable::Behind;
use similar::Similar;

/// Names an output: tenant, step (by digest, its contract included) and rendered request, without
/// the target. A cryptographic hash, so that no request can be made to read another's output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct CacheKey([u8; 32]);

impl CacheKey {
    /// The key of a rendered request.
    pub fn new(tenant: &str, step_digest: &[u8], messages: &[Message]) -> Self {
        let mut hash = Sha256::new();
        let mut field = |bytes: &[u8]| {
            // Lengths first, so that no two lists of fields read the same.
            hash.update((bytes.len() as u64).to_le_bytes());
            hash.update(bytes);
        };
        field(tenant.as_bytes());
        field(step_digest);
        for message in messages {
            field(match message.role {
                Role::System => b"system",
                Role::User => b"user",
                Role::Assistant => b"assistant",
            });
            // Counted and each with its kind, so that no text of a caller reads like another
            // message, or like an image.
            field(&(message.parts.len() as u64).to_le_bytes());
            for part in &message.parts {
                match part {
                    Part::Text(text) => {
                        field(b"text");
                        field(text.expose().as_bytes());
                    }
                    Part::ImageUrl(url) => {
                        field(b"url");
                        field(url.expose().as_bytes());
                    }
                    Part::ImageData { media_type, base64 } => {
                        field(b"image");
                        field(media_type.as_bytes());
                        field(base64.expose().as_bytes());
                    }
                }
            }
        }
        Self(hash.finalize().into())
    }

    /// The hash itself, for a store.
    pub const fn bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The key with this hash, from a store.
    pub const fn of_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }
}

/// Where an output comes from, for those who want it forgotten.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// Pipeline; empty for an inline step.
    pub pipeline: Arc<str>,
    /// Step.
    pub step: Arc<str>,
    /// Target that gave it.
    pub target: Arc<str>,
}

/// An output that was kept.
#[derive(Debug, Clone)]
pub struct Kept {
    /// The output.
    pub output: StepOutput,
    /// Where it comes from.
    pub origin: Origin,
    /// When it was stored.
    pub stored: Instant,
}

/// Outputs by key, oldest out first when the bound is reached.
#[derive(Debug)]
pub struct OutputCache {
    bytes_max: usize,
    inner: Mutex<Inner>,
    behind: Option<Behind>,
    similar: Option<Arc<Similar>>,
}

#[derive(Debug, Default)]
struct Inner {
    entries: HashMap<CacheKey, Entry>,
    order: VecDeque<(CacheKey, u64)>,
    bytes: usize,
    writes: u64,
    /// Counts how often outputs were forgotten.
    forgettings: u64,
}

#[derive(Debug)]
struct Entry {
    kept: Kept,
    write: u64,
}

impl Entry {
    fn size(&self) -> usize {
        self.kept.output.body.len() + ENTRY_BYTES
    }
}

/// Bookkeeping of an entry, for the bound.
const ENTRY_BYTES: usize = 256;

impl OutputCache {
    /// An empty cache of at most this many bytes, perhaps with a store behind it.
    pub fn new(bytes_max: usize, behind: Option<Behind>) -> Self {
        Self { bytes_max, inner: Mutex::default(), behind, similar: None }
    }

    /// Lets outputs be found by prompts that say nearly the same, too.
    #[must_use]
    pub fn with_similar(self, similar: Option<Arc<Similar>>) -> Self {
        Self { similar, ..self }
    }

    /// What finds outputs by prompts that say nearly the same.
    pub fn similar(&self) -> Option<&Similar> {
        self.similar.as_deref()
    }

    fn inner(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps an output, replacing the one before. One larger than an eighth of the cache is not
    /// kept: it would push out too much.
    pub fn put(&self, key: CacheKey, output: &StepOutput, origin: Origin) {
        if self.takes(output) {
            let kept = Kept { output: output.clone(), origin, stored: Instant::now() };
            self.insert(&mut self.inner(), key, kept);
        }
    }

    fn takes(&self, output: &StepOutput) -> bool {
        output.body.len() + ENTRY_BYTES <= self.bytes_max / 8
    }

    fn insert(&self, inner: &mut Inner, key: CacheKey, kept: Kept) {
        inner.writes += 1;
        let write = inner.writes;
        let entry = Entry { kept, write };
        let size = entry.size();
        inner.bytes += size;
        inner.order.push_back((key, write));
        if let Some(old) = inner.entries.insert(key, entry) {
            inner.bytes -= old.size();
        }
        while inner.bytes > self.bytes_max || inner.order.len() > 2 * inner.entries.len() + 64 {
            let Some((key, write)) = inner.order.pop_front() else { break };
            // An entry written again since stands further back in the order.
            if inner.entries.get(&key).is_some_and(|entry| entry.write == write)
                && inner.bytes > self.bytes_max
            {
                if let Some(old) = inner.entries.remove(&key) {
                    inner.bytes -= old.size();
                }
            } else if inner.entries.get(&key).is_some_and(|entry| entry.write == write) {
                inner.order.push_back((key, write));
                break;
            }
        }
    }

    /// When the output of this key was stored.
    pub fn stored_at(&self, key: &CacheKey) -> Option<Instant> {
        self.inner().entries.get(key).map(|entry| entry.kept.stored)
    }

    /// The output of this key, if it is not older than `age_max`.
    pub fn get(&self, key: &CacheKey, age_max: Duration) -> Option<Kept> {
        let now = Instant::now();
        let inner = self.inner();
        let kept = &inner.entries.get(key)?.kept;
        (now.duration_since(kept.stored) <= age_max).then(|| kept.clone())
    }

    /// Forgets the outputs of a pipeline, a step, or both; all of them if neither is given. Returns
    /// how many. A later version of a pipeline needs no forgetting: its keys are others.
    pub fn invalidate(&self, pipeline: Option<&str>, step: Option<&str>) -> usize {
        if let Some(similar) = &self.similar {
            similar.forget(pipeline, step);
        }
        let mut inner = self.inner();
        inner.forgettings += 1;
        let before = inner.entries.len();
        let mut bytes = 0;
        inner.entries.retain(|_, entry| {
            let origin = &entry.kept.origin;
            let meant = pipeline.is_none_or(|name| *origin.pipeline == *name)
                && step.is_none_or(|name| *origin.step == *name);
            bytes += if meant { entry.size() } else { 0 };
            !meant
        });
        inner.bytes -= bytes;
        let Inner { entries, order, .. } = &mut *inner;
        order.retain(|(key, write)| entries.get(key).is_some_and(|entry| entry.write == *write));
        before - inner.entries.len()
    }

    /// Outputs kept now.
    pub fn len(&self) -> usize {
        self.inner().entries.len()
    }

    /// True when nothing is kept.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::OutputBody;

    pub(super) fn output(text: &str) -> StepOutput {
        StepOutput::plain(OutputBody::Text(text.into()))
    }

    pub(super) fn origin(step: &str) -> Origin {
        Origin { pipeline: "p".into(), step: step.into(), target: "t".into() }
    }

    pub(super) fn key(n: u32) -> CacheKey {
        CacheKey::new("t", &n.to_le_bytes(), &[])
    }

    #[tokio::test]
    async fn bounded_by_bytes_oldest_out_first() {
        let cache = OutputCache::new(16 * 1024, None);
        for n in 0..1_000 {
            cache.put(key(n), &output(&"x".repeat(256)), origin("a"));
            cache.put(key(0), &output("kept fresh"), origin("b"));
        }
        assert!(cache.len() <= 16 * 1024 / 512 + 1, "{}", cache.len());
        let has = |n| cache.get(&key(n), Duration::MAX).is_some();
        assert!(has(0) && has(999) && !has(1));
        let inner = cache.inner();
        assert!(inner.order.len() <= 2 * inner.entries.len() + 65);
        assert_eq!(inner.bytes, inner.entries.values().map(Entry::size).sum::<usize>());
    }

    #[tokio::test(start_paused = true)]
    async fn outputs_age_and_can_be_forgotten_by_pipeline_and_step() {
        let cache = OutputCache::new(1 << 20, None);
        for (n, step) in ["a", "b", "b"].into_iter().enumerate() {
            cache.put(key(n as u32), &output("x"), origin(step));
        }
        let second = Duration::from_secs(1);
        tokio::time::advance(second).await;
        assert!(cache.get(&key(0), second).is_some());
        tokio::time::advance(Duration::from_millis(1)).await;
        assert!(cache.get(&key(0), second).is_none());
        assert_eq!(cache.invalidate(Some("q"), None), 0);
        assert_eq!(cache.invalidate(Some("p"), Some("b")), 2);
        assert_eq!(cache.len(), 1);
        assert_eq!(cache.inner().bytes, 1 + ENTRY_BYTES);
        assert_eq!(cache.invalidate(None, None), 1);
        let inner = cache.inner();
        assert_eq!((inner.bytes, inner.order.len()), (0, 0));
    }

    #[test]
    fn keys_tell_fields_apart() {
        let a = CacheKey::new("ab", b"c", &[]);
        assert_ne!(a, CacheKey::new("a", b"bc", &[]));
        let one = [Message::text(Role::User, "ab")];
        let two = [Message::text(Role::User, "a"), Message::text(Role::User, "b")];
        assert_ne!(CacheKey::new("t", b"", &one), CacheKey::new("t", b"", &two));
        // What a caller writes reads neither like the next message nor like an image.
        let text = |text: &str| Part::Text(text.into());
        let of = |parts: Vec<Part>| CacheKey::new("t", b"", &[Message { role: Role::User, parts }]);
        assert_ne!(CacheKey::new("t", b"", &two), of(vec![text("a"), text("user"), text("b")]));
        assert_ne!(of(vec![text("url"), text("x")]), of(vec![Part::ImageUrl("x".into())]));
    }
}
