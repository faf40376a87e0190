//! The only place that spawns.
//!
//! Every task has an owner that can ask it to end and wait until it has. A task that nobody waits
//! for outlives shutdown and holds connections and permits; so nothing else in the crate calls
//! `tokio::spawn`, and a test holds that.

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// A group of tasks with one end. Cheap to clone; clones are the same group.
#[derive(Debug, Clone, Default)]
pub struct Tasks {
    tracker: TaskTracker,
    stop: CancellationToken,
}

impl Tasks {
    /// An empty group.
    pub fn new() -> Self {
        Self::default()
    }

    /// A group inside this one: stopped with it, and waited for with it.
    pub fn child(&self) -> Self {
        Self { tracker: self.tracker.clone(), stop: self.stop.child_token() }
    }

    /// Runs a future on the runtime as part of this group. The future should watch
    /// [`Tasks::stopping`] if it can last.
    pub fn spawn<F>(&self, future: F) -> JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        self.tracker.spawn(future)
    }

    /// Runs a future until it is done or the group is stopped, whichever is first.
    pub fn spawn_until_stopped<F>(&self, future: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let stop = self.stop.clone();
        self.tracker.spawn(async move {
            tokio::select! {
                () = stop.cancelled() => (),
                () = future => (),
            }
        });
    }

    /// Runs blocking work on the runtime's blocking threads.
    pub fn spawn_blocking<F, T>(&self, work: F) -> JoinHandle<T>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        self.tracker.spawn_blocking(work)
    }

    /// Computes something: where it is short, here, since to wake another thread takes longer and
    /// on a busy machine takes a core from a call; else on a blocking thread. `None` if it panicked
    /// or the runtime is going down.
    pub async fn compute<F, T>(&self, is_short: bool, work: F) -> Option<T>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        if is_short {
            // As on a blocking thread, a panic ends the work and not who waits for it; what it
            // might have left half done it owned.
            return catch_unwind(AssertUnwindSafe(work)).ok();
        }
        self.spawn_blocking(work).await.ok()
    }

    /// Asks all tasks of the group to end.
    pub fn stop(&self) {
        self.stop.cancel();
    }

    /// Resolves when the group is asked to end.
    pub async fn stopping(&self) {
        self.stop.cancelled().await;
    }

    /// True once the group is asked to end.
    pub fn is_stopping(&self) -> bool {
        self.stop.is_cancelled()
    }

    /// Waits until every task has ended, at most `limit`. Returns whether all ended.
    pub async fn wait(&self, limit: Duration) -> bool {
        self.tracker.close();
        tokio::time::timeout(limit, self.tracker.wait()).await.is_ok()
    }

    /// Tasks still running.
    pub fn running(&self) -> usize {
        self.tracker.len()
    }
}
