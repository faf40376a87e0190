//! Records of documents: what is kept of policies and pipelines, version by version.
//!
//! A document is an [`Entry`] in the library: its versions, which of them serves, what was refused
//! last, and how a rollout goes. Entries are immutable; a change makes another.

use std::sync::Arc;
use std::time::SystemTime;

use crate::document::Problems;
use crate::policy::rollout::{Guards, Summary};

/// What a document is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// A policy.
    Policy,
    /// A pipeline.
    Pipeline,
}

impl Kind {
    /// `policy` or `pipeline`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Policy => "policy",
            Self::Pipeline => "pipeline",
        }
    }
}

/// Who may change a document.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Owner {
    /// A watched file.
    File,
    /// The API.
    Api,
    /// The program; gives way to either of the others.
    BuiltIn,
}

/// A version of a document. Immutable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version {
    /// Name of the document.
    pub name: Arc<str>,
    /// Version, from 1, without gaps.
    pub version: u64,
    /// SHA-256 of the text, hex.
    pub content_hash: Arc<str>,
    /// The text.
    pub text: Arc<str>,
    /// Who owned the document.
    pub owner: Owner,
    /// Identity that stored it, or the file's path.
    pub author: Arc<str>,
    /// Why it was stored.
    pub comment: Arc<str>,
    /// When it was stored.
    pub created: SystemTime,
    /// The version whose content this one takes up again; 0 for none.
    pub rollback_of: u64,
}

/// A document that was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejection {
    /// SHA-256 of its text, hex; empty for a file that could not be read.
    pub content_hash: Arc<str>,
    /// Where it came from.
    pub owner: Owner,
    /// When.
    pub time: SystemTime,
    /// Why. Bounded.
    pub problems: Problems,
}

/// How far a rollout is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RolloutState {
    /// Both versions serve.
    Active,
    /// The new version serves all.
    Promoted,
    /// The old version serves all again.
    RolledBack,
}

/// A version that serves a share of the runs, or did.
#[derive(Debug, Clone, PartialEq)]
pub struct Rollout {
    /// The new version.
    pub version: u64,
    /// The old version.
    pub base: u64,
    /// Share of runs on the new one, 0 to 1.
    pub share: f64,
    /// When it is promoted or taken back.
    pub guards: Guards,
    /// How far it is.
    pub state: RolloutState,
    /// Why it ended; or what happened to it while it goes on.
    pub reason: Arc<str>,
    /// When it started.
    pub started: SystemTime,
    /// Figures of the old version, then of the new one. Those of a rollout under way are
    /// gathered by the engine and laid over these.
    pub figures: [Summary; 2],
}

impl Rollout {
    /// Whether both versions serve.
    pub fn is_active(&self) -> bool {
        self.state == RolloutState::Active
    }
}

/// A document with everything that is kept of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// What it is.
    pub kind: Kind,
    /// Its name.
    pub name: Arc<str>,
    /// Who may change it.
    pub owner: Owner,
    /// The version that serves; 0 for none.
    pub active: u64,
    /// The highest version ever given, pruned ones too.
    pub last: u64,
    /// Versions kept, oldest first.
    pub versions: Vec<Arc<Version>>,
    /// What was refused last, after the active version was stored.
    pub rejection: Option<Arc<Rejection>>,
    /// The rollout under way, or ended last.
    pub rollout: Option<Arc<Rollout>>,
    /// Grows with each change of the library; tells watchers what they have seen.
    pub stamp: u64,
}

impl Entry {
    /// A document of which nothing is kept yet.
    pub fn new(kind: Kind, name: Arc<str>, owner: Owner) -> Self {
        Self {
            kind,
            name,
            owner,
            active: 0,
            last: 0,
            versions: Vec::new(),
            rejection: None,
            rollout: None,
            stamp: 0,
        }
    }

    /// The document without anything that could serve or be read; the number of its last version
    /// stays, so that none is given twice.
    pub fn removed(&self) -> Self {
        Self { last: self.last, ..Self::new(self.kind, self.name.clone(), Owner::Api) }
    }

    /// Whether there is nothing to be read of it.
    pub fn is_removed(&self) -> bool {
        self.owner == Owner::Api && self.versions.is_empty() && self.rejection.is_none()
    }

    /// A version that is kept.
    pub fn version(&self, version: u64) -> Option<&Arc<Version>> {
        let at = self.versions.binary_search_by_key(&version, |kept| kept.version).ok()?;
        self.versions.get(at)
    }

    /// The version that serves.
    pub fn active_version(&self) -> Option<&Arc<Version>> {
        self.version(self.active)
    }

    /// The rollout under way.
    pub fn active_rollout(&self) -> Option<&Arc<Rollout>> {
        self.rollout.as_ref().filter(|rollout| rollout.is_active())
    }
}
