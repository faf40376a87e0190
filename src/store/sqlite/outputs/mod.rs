//! Cached outputs on the disk: the level behind the cache in memory.
//!
//! Nothing here may fail a call or hold one up. Writes go through a bounded queue to a thread of
//! their own and are dropped, and counted, when it is full; reads have another thread and are given
//! up by who asks. A file that cannot be opened is tried again; one that is damaged is moved aside
//! and begun anew, since a cache may be lost. How it stands is told by [`OutputStore::health`].

mod reader;
mod table;
mod writer;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, MissedTickBehavior, timeout_at};

use super::StoreError;
use crate::journal::StepOutput;
use crate::tasks::Tasks;

/// Names an output: a cryptographic hash.
pub type OutputKey = [u8; 32];

/// Writes that wait, and the bytes of their outputs.
const WRITES_MAX: usize = 1_024;
const WRITE_BYTES_MAX: usize = 16 << 20;
/// Reads that wait.
const READS_MAX: usize = 1_024;
/// How often old outputs are deleted, and a file that could not be opened is tried again.
const SWEEP_EVERY: Duration = Duration::from_secs(5);

/// An output as it is stored.
#[derive(Debug, Clone, PartialEq)]
pub struct StoredOutput {
    /// Its key.
    pub key: OutputKey,
    /// Pipeline; empty for an inline step.
    pub pipeline: Arc<str>,
    /// Step.
    pub step: Arc<str>,
    /// Target that gave it.
    pub target: Arc<str>,
    /// When it was given.
    pub stored: SystemTime,
    /// The output.
    pub output: StepOutput,
    /// Where its prompt stands among others.
    pub neighbour: Option<Neighbour>,
}

/// Where a prompt stands among those that it may be compared with.
#[derive(Debug, Clone, PartialEq)]
pub struct Neighbour {
    /// Names those that it may be compared with.
    pub neighbourhood: OutputKey,
    /// Its vector.
    pub vector: Arc<[f32]>,
}

/// The vector of an output that is stored.
#[derive(Debug, Clone, PartialEq)]
pub struct KeptVector {
    /// Key of the output.
    pub key: OutputKey,
    /// Where its prompt stands.
    pub neighbour: Neighbour,
    /// Pipeline; empty for an inline step.
    pub pipeline: Arc<str>,
    /// Step.
    pub step: Arc<str>,
    /// When the output was given.
    pub stored: SystemTime,
}

/// How the file stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Health {
    /// It is being opened for the first time.
    Opening,
    /// It takes outputs and gives them.
    Well,
    /// It does not, and why. Outputs are kept in memory only.
    Trouble(Arc<str>),
}

/// What a store of outputs is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutputStoreSettings {
    /// The file.
    pub path: PathBuf,
    /// Bytes of all outputs.
    pub bytes_max: u64,
    /// Age at which an output is deleted.
    pub age_max: Duration,
}

/// What the threads and those who ask have in common.
struct Shared {
    waiting_bytes: AtomicUsize,
    dropped: AtomicU64,
    /// Counts how often the file was opened; 0 while it is not.
    opened: watch::Sender<u64>,
    health: watch::Sender<Health>,
}

enum Write {
    Put(Box<StoredOutput>),
    Forget {
        pipeline: Option<Box<str>>,
        step: Option<Box<str>>,
        answer: oneshot::Sender<Result<u64, StoreError>>,
    },
    /// The reader found this in the file of this opening.
    Broken(u64, StoreError),
    Sweep,
    Close,
}

enum Read {
    Find(OutputKey, oneshot::Sender<Option<StoredOutput>>),
    Vectors(usize, oneshot::Sender<Vec<KeptVector>>),
    Close,
}

/// The store of outputs. Cheap to clone; clones are the same store.
#[derive(Clone)]
pub struct OutputStore {
    writes: mpsc::Sender<Write>,
    reads: mpsc::Sender<Read>,
    shared: Arc<Shared>,
}

impl OutputStore {
    /// Starts the threads, which open the file. They end, when everything that waits is written,
    /// after `tasks` is stopped.
    pub fn start(settings: OutputStoreSettings, tasks: &Tasks) -> Self {
        let shared = Arc::new(Shared {
            waiting_bytes: AtomicUsize::new(0),
            dropped: AtomicU64::new(0),
            opened: watch::Sender::new(0),
            health: watch::Sender::new(Health::Opening),
        });
        let (writes, to_write) = mpsc::channel(WRITES_MAX);
        let (reads, to_read) = mpsc::channel(READS_MAX);
        let path = settings.path.clone();
        let writer = writer::Writer::new(settings, shared.clone());
        tasks.spawn_blocking(move || writer.run(to_write));
        let reader = reader::Reader::new(path, shared.clone(), writes.clone());
        tasks.spawn_blocking(move || reader.run(to_read));
        let store = Self { writes, reads, shared };
        let (keeper, group) = (store.clone(), tasks.clone());
        tasks.spawn(async move { keeper.keep(&group).await });
        store
    }

    /// Waits until it is known whether the file can be opened, but not beyond `by`.
    pub async fn opened(&self, by: Instant) {
        let mut health = self.health();
        // Late or not: what is asked of a file that is not open yet is a miss.
        let _ = timeout_at(by, health.wait_for(|health| *health != Health::Opening)).await;
    }

    /// Sweeps now and then, and closes at the end.
    async fn keep(self, tasks: &Tasks) {
        let mut tick = tokio::time::interval(SWEEP_EVERY);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = tasks.stopping() => break,
                _ = tick.tick() => {
                    // With the queue full the writer is busy, and sweeps the next time.
                    let _ = self.writes.try_send(Write::Sweep);
                }
            }
        }
        // Behind everything that waits. An error means that the thread has ended already.
        let _ = self.reads.send(Read::Close).await;
        let _ = self.writes.send(Write::Close).await;
    }

    /// Has an output written soon. It is dropped when too much waits already.
    pub fn put(&self, output: StoredOutput) {
        let bytes = output.output.body.len();
        let shared = &self.shared;
        let waiting = shared.waiting_bytes.fetch_add(bytes, Ordering::Relaxed);
        let fits = waiting + bytes <= WRITE_BYTES_MAX;
        if !fits || self.writes.try_send(Write::Put(Box::new(output))).is_err() {
            shared.waiting_bytes.fetch_sub(bytes, Ordering::Relaxed);
            shared.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The output of a key, if it is found by then.
    pub async fn find(&self, key: OutputKey, by: Instant) -> Option<StoredOutput> {
        let (answer, answered) = oneshot::channel();
        self.reads.try_send(Read::Find(key, answer)).ok()?;
        timeout_at(by, answered).await.ok()?.ok()?
    }

    /// The newest vectors, oldest first, so many bytes of them; waits until the file is open.
    pub async fn vectors(&self, bytes_max: usize) -> Vec<KeptVector> {
        let mut opened = self.shared.opened.subscribe();
        if opened.wait_for(|openings| *openings > 0).await.is_err() {
            return Vec::new();
        }
        let (answer, answered) = oneshot::channel();
        if self.reads.send(Read::Vectors(bytes_max, answer)).await.is_err() {
            return Vec::new();
        }
        answered.await.unwrap_or_default()
    }

    /// Deletes the outputs of a pipeline, a step, or both; all of them if neither is given. Returns
    /// how many.
    ///
    /// # Errors
    /// When it is not known by then that they are gone.
    pub async fn forget(
        &self,
        pipeline: Option<&str>,
        step: Option<&str>,
        by: Instant,
    ) -> Result<u64, StoreError> {
        let (answer, answered) = oneshot::channel();
        let forget = Write::Forget {
            pipeline: pipeline.map(Into::into),
            step: step.map(Into::into),
            answer,
        };
        let work = async {
            self.writes.send(forget).await.map_err(|_| StoreError::Closed)?;
            answered.await.map_err(|_| StoreError::Closed)?
        };
        timeout_at(by, work).await.unwrap_or(Err(StoreError::Overloaded))
    }

    /// How it stands, now and from now on.
    pub fn health(&self) -> watch::Receiver<Health> {
        self.shared.health.subscribe()
    }

    /// Outputs that were not written, because too much waited or the file was in trouble.
    pub fn dropped(&self) -> u64 {
        self.shared.dropped.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests;
