//! The level behind the memory: a store on the disk, where the configuration has one.
//!
//! What the memory does not hold is brought into it from there, so that everything else reads the
//! memory alone. A store that is slow, full or broken is a miss.

use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use super::{CacheKey, Kept, Origin, OutputCache};
use crate::journal::StepOutput;
use crate::store::sqlite::StoreError;
use crate::store::sqlite::outputs::{Neighbour, OutputStore, StoredOutput};

/// Longest time that a step waits for the disk.
const READ_TIME: Duration = Duration::from_millis(250);
/// Longest time to make outputs forgotten.
const FORGET_TIME: Duration = Duration::from_secs(5);
/// An output from further in the future was stored by a clock that was wrong: its age is unknown.
const CLOCK_LEEWAY: Duration = Duration::from_secs(60);

/// A store behind the memory.
#[derive(Clone)]
pub struct Behind {
    /// The store.
    pub store: OutputStore,
    /// Keep outputs of steps that are called without an idempotency key too.
    pub steps_without_key: bool,
}

impl std::fmt::Debug for Behind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Behind").finish_non_exhaustive()
    }
}

/// How many outputs were forgotten.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Forgotten {
    /// In memory.
    pub in_memory: usize,
    /// On the disk.
    pub on_disk: u64,
}

impl OutputCache {
    /// The store for the outputs of a run. A step alone without an idempotency key leaves no trace
    /// on a disk unless the configuration wants it to.
    fn behind(&self, is_journaled: bool) -> Option<&OutputStore> {
        let behind = self.behind.as_ref()?;
        (is_journaled || behind.steps_without_key).then_some(&behind.store)
    }

    /// Whether the outputs of such a run are on a disk too.
    pub fn is_durable(&self, is_journaled: bool) -> bool {
        self.behind(is_journaled).is_some()
    }

    /// Has an output written to the disk soon.
    pub fn put_durably(
        &self,
        is_journaled: bool,
        key: CacheKey,
        output: &StepOutput,
        origin: &Origin,
        neighbour: Option<Neighbour>,
    ) {
        let Some(store) = self.behind(is_journaled).filter(|_| self.takes(output)) else { return };
        store.put(StoredOutput {
            key: *key.bytes(),
            pipeline: origin.pipeline.clone(),
            step: origin.step.clone(),
            target: origin.target.clone(),
            stored: SystemTime::now(),
            output: output.clone(),
            neighbour,
        });
    }

    /// Brings the output of a key from the disk into memory, if it is found by then.
    pub async fn recall(&self, is_journaled: bool, key: CacheKey, by: Instant) {
        let Some(store) = self.behind(is_journaled) else { return };
        let forgettings = self.inner().forgettings;
        let by = by.min(Instant::now() + READ_TIME);
        let Some(found) = store.find(*key.bytes(), by).await else { return };
        let Some(stored) = instant_of(found.stored) else { return };
        if !self.takes(&found.output) {
            return;
        }
        let StoredOutput { pipeline, step, target, output, .. } = found;
        let kept = Kept { output, origin: Origin { pipeline, step, target }, stored };
        let mut inner = self.inner();
        // It was forgotten while it was on its way, or something newer is here.
        let is_newest = inner.entries.get(&key).is_none_or(|entry| entry.kept.stored < stored);
        if inner.forgettings == forgettings && is_newest {
            self.insert(&mut inner, key, kept);
        }
    }

    /// Forgets the outputs of a pipeline, a step, or both, in memory and on the disk; all of them
    /// if neither is given.
    ///
    /// # Errors
    /// When they may still be on the disk.
    pub async fn forget(
        &self,
        pipeline: Option<&str>,
        step: Option<&str>,
    ) -> Result<Forgotten, StoreError> {
        let mut in_memory = self.invalidate(pipeline, step);
        let Some(behind) = &self.behind else { return Ok(Forgotten { in_memory, on_disk: 0 }) };
        let by = Instant::now() + FORGET_TIME;
        let on_disk = behind.store.forget(pipeline, step, by).await?;
        // Once more, for what was recalled in between; what is still on its way is dropped.
        in_memory += self.invalidate(pipeline, step);
        Ok(Forgotten { in_memory, on_disk })
    }
}

/// The moment of a wall time.
pub(in crate::engine) fn instant_of(stored: SystemTime) -> Option<Instant> {
    let age = match SystemTime::now().duration_since(stored) {
        Ok(age) => age,
        Err(early) if early.duration() <= CLOCK_LEEWAY => Duration::ZERO,
        Err(_) => return None,
    };
    Instant::now().checked_sub(age)
}

#[cfg(test)]
mod tests {
    use super::super::tests::{key, origin, output};
    use super::*;
    use crate::store::sqlite::outputs::OutputStoreSettings;
    use crate::tasks::Tasks;

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(10)
    }

    #[tokio::test]
    async fn what_the_memory_lost_comes_back_with_its_age_until_it_is_forgotten() {
        let dir = tempfile::tempdir().unwrap();
        let tasks = Tasks::new();
        let settings = OutputStoreSettings {
            path: dir.path().join("cache.db"),
            bytes_max: 1 << 20,
            age_max: Duration::from_secs(3_600),
        };
        let store = OutputStore::start(settings, &tasks);
        let behind = || Some(Behind { store: store.clone(), steps_without_key: false });
        let first = OutputCache::new(1 << 20, behind());
        first.put_durably(true, key(1), &output("one"), &origin("a"), None);
        first.put_durably(true, key(2), &output("two"), &origin("b"), None);
        // A step without a key leaves nothing on the disk, and looks for nothing there.
        first.put_durably(false, key(3), &output("three"), &origin("a"), None);
        assert_eq!(first.forget(Some("q"), None).await.unwrap().on_disk, 0);
        let second = OutputCache::new(1 << 20, behind());
        for n in 1..=3 {
            second.recall(false, key(n), soon()).await;
        }
        assert!(second.is_empty());
        for n in 1..=3 {
            second.recall(true, key(n), soon()).await;
        }
        assert_eq!(second.len(), 2);
        let kept = second.get(&key(1), Duration::from_secs(60)).unwrap();
        assert_eq!((kept.output, kept.origin), (output("one"), origin("a")));
        // What is newer in memory stays.
        second.put(key(1), &output("newer"), origin("a"));
        second.recall(true, key(1), soon()).await;
        assert_eq!(second.get(&key(1), Duration::MAX).unwrap().output, output("newer"));
        let forgotten = second.forget(None, Some("a")).await.unwrap();
        assert_eq!(forgotten, Forgotten { in_memory: 1, on_disk: 1 });
        second.recall(true, key(1), soon()).await;
        assert_eq!(second.stored_at(&key(1)), None);
        tasks.stop();
        assert!(tasks.wait(Duration::from_secs(10)).await);
        // With the store gone, nothing is promised about the disk.
        assert!(second.forget(None, None).await.is_err());
        second.recall(true, key(2), soon()).await;
        assert!(second.is_empty());
    }

    #[test]
    fn an_age_is_known_or_there_is_none() {
        let now = SystemTime::now();
        assert!(instant_of(now - Duration::from_secs(5)).unwrap() < Instant::now());
        assert!(instant_of(now + Duration::from_secs(30)).is_some());
        assert!(instant_of(now + Duration::from_secs(300)).is_none());
    }
}
