//! The last good output of a step for an input, in memory and bounded.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, PoisonError};

use sha2::{Digest, Sha256};
use tokio::time::Instant;

use crate::exchange::{Message, Part, Role};
use crate::journal::StepOutput;

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
            for part in &message.parts {
                match part {
                    Part::Text(text) => field(text.expose().as_bytes()),
                    Part::ImageUrl(url) => {
                        field(b"url");
                        field(url.expose().as_bytes());
                    }
                    Part::ImageData { media_type, base64 } => {
                        field(media_type.as_bytes());
                        field(base64.expose().as_bytes());
                    }
                }
            }
        }
        Self(hash.finalize().into())
    }
}

/// Outputs by key, oldest out first when the bound is reached.
#[derive(Debug)]
pub struct OutputCache {
    bytes_max: usize,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    entries: HashMap<CacheKey, Entry>,
    order: VecDeque<(CacheKey, u64)>,
    bytes: usize,
    writes: u64,
}

#[derive(Debug)]
struct Entry {
    output: StepOutput,
    stored: Instant,
    write: u64,
}

/// Bookkeeping of an entry, for the bound.
const ENTRY_BYTES: usize = 256;

impl OutputCache {
    /// An empty cache of at most this many bytes.
    pub fn new(bytes_max: usize) -> Self {
        Self { bytes_max, inner: Mutex::default() }
    }

    fn inner(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps an output, replacing the one before. One larger than an eighth of the cache is not
    /// kept: it would push out too much.
    pub fn put(&self, key: CacheKey, output: &StepOutput) {
        let size = output.body.len() + ENTRY_BYTES;
        if size > self.bytes_max / 8 {
            return;
        }
        let mut inner = self.inner();
        inner.writes += 1;
        let write = inner.writes;
        let entry = Entry { output: output.clone(), stored: Instant::now(), write };
        inner.bytes += size;
        inner.order.push_back((key, write));
        if let Some(old) = inner.entries.insert(key, entry) {
            inner.bytes -= old.output.body.len() + ENTRY_BYTES;
        }
        while inner.bytes > self.bytes_max || inner.order.len() > 2 * inner.entries.len() + 64 {
            let Some((key, write)) = inner.order.pop_front() else { break };
            // An entry written again since stands further back in the order.
            if inner.entries.get(&key).is_some_and(|entry| entry.write == write)
                && inner.bytes > self.bytes_max
            {
                if let Some(old) = inner.entries.remove(&key) {
                    inner.bytes -= old.output.body.len() + ENTRY_BYTES;
                }
            } else if inner.entries.get(&key).is_some_and(|entry| entry.write == write) {
                inner.order.push_back((key, write));
                break;
            }
        }
    }

    /// When the output of this key was stored.
    pub fn stored_at(&self, key: &CacheKey) -> Option<Instant> {
        self.inner().entries.get(key).map(|entry| entry.stored)
    }

    /// The output of this key and when it was stored.
    pub fn get(&self, key: &CacheKey) -> Option<(StepOutput, Instant)> {
        self.inner().entries.get(key).map(|entry| (entry.output.clone(), entry.stored))
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

    fn output(text: &str) -> StepOutput {
        StepOutput::plain(OutputBody::Text(text.into()))
    }

    fn key(n: u32) -> CacheKey {
        CacheKey::new("t", &n.to_le_bytes(), &[])
    }

    #[tokio::test]
    async fn bounded_by_bytes_oldest_out_first() {
        let cache = OutputCache::new(16 * 1024);
        for n in 0..1_000 {
            cache.put(key(n), &output(&"x".repeat(256)));
            cache.put(key(0), &output("kept fresh"));
        }
        assert!(cache.len() <= 16 * 1024 / 512 + 1, "{}", cache.len());
        assert!(cache.get(&key(0)).is_some() && cache.get(&key(999)).is_some());
        assert!(cache.get(&key(1)).is_none());
        let inner = cache.inner();
        assert!(inner.order.len() <= 2 * inner.entries.len() + 65);
        assert_eq!(
            inner.bytes,
            inner.entries.values().map(|e| e.output.body.len() + ENTRY_BYTES).sum::<usize>()
        );
    }

    #[test]
    fn keys_tell_fields_apart() {
        let a = CacheKey::new("ab", b"c", &[]);
        assert_ne!(a, CacheKey::new("a", b"bc", &[]));
        let one = [Message::text(Role::User, "ab")];
        let two = [Message::text(Role::User, "a"), Message::text(Role::User, "b")];
        assert_ne!(CacheKey::new("t", b"", &one), CacheKey::new("t", b"", &two));
    }
}
