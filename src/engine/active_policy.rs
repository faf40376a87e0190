//! What serves now: one immutable snapshot of policies and pipelines behind an atomic pointer.
//!
//! A call loads the snapshot once and keeps what it took to its end, so a push never changes the
//! rules of a run under way and never waits for one. The only user of `arc_swap`.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use arc_swap::ArcSwap;

use super::plan::PlannedPipeline;
use crate::journal::PolicyRef;
use crate::policy::Policy;

/// A policy in a version, compiled.
#[derive(Debug)]
pub struct PolicyVersion {
    /// Name and version.
    pub reference: PolicyRef,
    /// SHA-256 of its text, hex.
    pub content_hash: Arc<str>,
    /// The policy.
    pub policy: Policy,
}

/// A pipeline in a version, compiled.
pub struct PipelineVersion {
    /// Name.
    pub name: Arc<str>,
    /// Version.
    pub version: u64,
    /// SHA-256 of its text, hex.
    pub content_hash: Arc<str>,
    /// The pipeline with everything that running it needs.
    pub planned: PlannedPipeline,
}

/// Everything that serves at one moment.
#[derive(Clone, Default)]
pub struct Snapshot {
    /// Policies by name.
    pub policies: HashMap<Arc<str>, Arc<PolicyVersion>>,
    /// Pipelines by name.
    pub pipelines: HashMap<Arc<str>, Arc<PipelineVersion>>,
}

/// The snapshot in force.
#[derive(Default)]
pub struct ActiveDocuments {
    current: ArcSwap<Snapshot>,
    follower: OnceLock<Follower>,
}

/// Told of each snapshot that comes into force.
type Follower = Box<dyn Fn(&Snapshot) + Send + Sync>;

impl ActiveDocuments {
    /// Starts with this snapshot.
    pub fn new(snapshot: Snapshot) -> Self {
        Self { current: ArcSwap::from_pointee(snapshot), follower: OnceLock::new() }
    }

    /// Has a follower told of what serves now and of each snapshot that comes into force. There is
    /// one; a second is not told.
    pub fn follow(&self, follower: impl Fn(&Snapshot) + Send + Sync + 'static) {
        follower(&self.current.load());
        let _ = self.follower.set(Box::new(follower));
    }

    /// The policy of this name.
    pub fn policy(&self, name: &str) -> Option<Arc<PolicyVersion>> {
        self.current.load().policies.get(name).cloned()
    }

    /// The pipeline of this name.
    pub fn pipeline(&self, name: &str) -> Option<Arc<PipelineVersion>> {
        self.current.load().pipelines.get(name).cloned()
    }

    /// The whole snapshot.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.current.load_full()
    }

    /// Puts another snapshot in force, made from the current one. Runs again if somebody else was
    /// quicker.
    pub fn update(&self, change: impl Fn(&mut Snapshot)) {
        self.current.rcu(|current| {
            let mut next = Snapshot::clone(current);
            change(&mut next);
            next
        });
        if let Some(follower) = self.follower.get() {
            follower(&self.current.load());
        }
    }
}
