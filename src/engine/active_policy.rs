//! What serves now: one immutable snapshot of policies and pipelines behind an atomic pointer.
//!
//! A call loads the snapshot once and keeps what it took to its end, so a push never changes the
//! rules of a run under way and never waits for one. The only user of `arc_swap`.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use arc_swap::ArcSwap;
use tokio::time::Instant;

use super::plan::PlannedPipeline;
use crate::journal::{PolicyRef, RunRecord, RunState};
use crate::policy::Policy;
use crate::policy::rollout::{Figures, RunFacts, Summary, picks};

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

/// A policy that serves a share of the runs beside the one of its name.
#[derive(Debug)]
pub struct Candidate {
    /// The new version.
    pub policy: Arc<PolicyVersion>,
    /// The version that it may take the place of.
    pub base: u64,
    /// Share of runs, 0 to 1.
    pub share: f64,
    /// Since when runs are counted. Runs that began before are not: they ran without a rival.
    pub since: Instant,
    /// Figures of the old version, then of the new one. Touched once at the end of a run.
    tally: Mutex<[Figures; 2]>,
}

impl Candidate {
    /// A candidate that nothing has run on yet.
    pub fn new(policy: Arc<PolicyVersion>, base: u64, share: f64, since: Instant) -> Self {
        Self { policy, base, share, since, tally: Mutex::default() }
    }

    /// The figures as they are now: of the old version, then of the new one.
    pub fn figures(&self) -> [Summary; 2] {
        let tally = self.tally.lock().unwrap_or_else(PoisonError::into_inner);
        [tally[0].summary(), tally[1].summary()]
    }

    fn count(&self, version: u64, run: &RunFacts) {
        let mut tally = self.tally.lock().unwrap_or_else(PoisonError::into_inner);
        let [old, new] = &mut *tally;
        if version == self.policy.reference.version {
            new.add(run);
        } else if version == self.base {
            old.add(run);
        }
    }
}

/// Everything that serves at one moment.
#[derive(Clone, Default)]
pub struct Snapshot {
    /// Policies by name.
    pub policies: HashMap<Arc<str>, Arc<PolicyVersion>>,
    /// Policies that are being rolled out, by name.
    pub candidates: HashMap<Arc<str>, Arc<Candidate>>,
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

    /// The policy of this name for a run: the one that serves, or the one that is being rolled
    /// out if this run is among its share.
    pub fn policy_for(&self, name: &str, run_id: &str) -> Option<Arc<PolicyVersion>> {
        let current = self.current.load();
        match current.candidates.get(name) {
            Some(candidate) if picks(name, run_id, candidate.share) => {
                Some(candidate.policy.clone())
            }
            Some(_) | None => current.policies.get(name).cloned(),
        }
    }

    /// Counts a run that ended, if its policy is being rolled out.
    pub fn note_ended(&self, record: &RunRecord, began: Instant) {
        let current = self.current.load();
        let Some(candidate) = current.candidates.get(&record.policy.name) else { return };
        let failed = match record.state {
            RunState::Failed => true,
            RunState::Succeeded | RunState::Degraded => false,
            // A run that its caller ended says nothing about its policy.
            RunState::Cancelled | RunState::Skipped | RunState::Pending | RunState::Running => {
                return;
            }
        };
        if began < candidate.since {
            return;
        }
        let facts = RunFacts {
            failed,
            degraded: record.state == RunState::Degraded,
            cost_usd: record.spend().cost_usd,
            latency: began.elapsed(),
        };
        candidate.count(record.policy.version, &facts);
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
