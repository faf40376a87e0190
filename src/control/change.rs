//! What is asked of the library, what comes back, and why it may refuse.

use std::sync::Arc;
use std::time::Duration;

use super::book::Proposal;
use crate::document::Problems;
use crate::engine::active_policy::PolicyVersion;
use crate::journal::documents::{Entry, Kind, Owner, Rollout, Version};
use crate::policy::rollout::Guards;

/// How a rollout starts.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RolloutStart {
    /// Share of runs on the new version: at least 0, under 1.
    pub share: f64,
    /// When it is promoted or taken back.
    pub guards: Guards,
}

/// A push by the API.
#[derive(Debug, Clone)]
pub struct Push {
    /// What is to be stored.
    pub proposal: Proposal,
    /// Check everything and store nothing.
    pub dry_run: bool,
    /// Take a policy that would stop all traffic.
    pub allow_outage: bool,
}

/// A version to be taken up again.
#[derive(Debug, Clone)]
pub struct Rollback {
    /// Of which kind.
    pub kind: Kind,
    /// Of which document.
    pub name: Arc<str>,
    /// Which version.
    pub version: u64,
    /// The active version that it is based on.
    pub expected: Option<u64>,
    /// Who asks.
    pub author: Arc<str>,
    /// Why.
    pub comment: Arc<str>,
    /// Take a policy that would stop all traffic.
    pub allow_outage: bool,
}

/// A document to be taken out of service.
#[derive(Debug, Clone)]
pub struct Removal {
    /// Of which kind.
    pub kind: Kind,
    /// Which.
    pub name: Arc<str>,
    /// The active version that it is based on.
    pub expected: Option<u64>,
    /// Who asks.
    pub author: Arc<str>,
    /// Why.
    pub comment: Arc<str>,
}

/// A rollout to be ended by hand.
#[derive(Debug, Clone)]
pub struct RolloutEnd {
    /// Of which policy.
    pub name: Arc<str>,
    /// True to promote it, false to take it back.
    pub promote: bool,
    /// Who asks.
    pub author: Arc<str>,
    /// Why.
    pub comment: Arc<str>,
}

/// What came of a push.
#[derive(Debug, Clone)]
pub struct Stored {
    /// The version; one that was there before if the content was.
    pub version: Arc<Version>,
    /// Warnings.
    pub warnings: Problems,
    /// The policy that served before, for policies.
    pub before: Option<Arc<PolicyVersion>>,
    /// The policy that was pushed, for policies.
    pub after: Option<Arc<PolicyVersion>>,
    /// The rollout that it began; absent if it serves all runs.
    pub rollout: Option<Arc<Rollout>>,
}

/// What came of a command.
#[derive(Debug, Clone)]
pub enum Done {
    /// A document was stored.
    Stored(Box<Stored>),
    /// A rollout ended.
    Ended(Arc<Rollout>),
    /// A document is out of service; the version that served.
    Removed(Arc<Version>),
}

/// A change that was refused; nothing of it happened.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ChangeError {
    /// The document is wrong.
    #[error("the document has {} errors", .0.0.len())]
    Invalid(Problems),
    /// The document is right and does not fit this server or its other documents.
    #[error("the document names what this server does not have")]
    Unmet(Problems),
    /// A policy that would stop all traffic.
    #[error("{:.0} % of all {why}; set allow_outage to store it all the same", share * 100.0)]
    Outage {
        /// Share of causes that halt, or of steps that find no target.
        share: f64,
        /// Of what, and how.
        why: String,
    },
    /// Another version is active.
    #[error("the active version is {current}, not the one that this change is based on")]
    Stale {
        /// The active version; 0 for none.
        current: u64,
    },
    /// Somebody else owns the document.
    #[error("{}", owned(*.owner, .origin.as_deref()))]
    Owned {
        /// Who.
        owner: Owner,
        /// The file that it came from; absent if another had the same text.
        origin: Option<Arc<str>>,
    },
    /// Something that serves names the document.
    #[error("it is named by {}; change that first", users.join(", "))]
    InUse {
        /// What names it.
        users: Vec<String>,
    },
    /// A rollout has to end first.
    #[error(
        "version {version} is being rolled out; end that first (EndRollout, `mainstay policy rollout`)"
    )]
    RolloutUnderWay {
        /// The version.
        version: u64,
    },
    /// No rollout is under way.
    #[error("no rollout of policy `{name}` is under way")]
    NoRollout {
        /// The policy.
        name: Arc<str>,
    },
    /// No such document.
    #[error("there is no {} `{name}`{}", kind.name(), crate::engine::did_you_mean(nearest))]
    NotFound {
        /// The kind.
        kind: Kind,
        /// The name.
        name: Arc<str>,
        /// The nearest that exists.
        nearest: Option<String>,
    },
    /// No such version of it.
    #[error("{} `{name}` has no version {version}; {}", kind.name(), kept(*.oldest, *.newest))]
    VersionNotFound {
        /// The kind.
        kind: Kind,
        /// The name.
        name: Arc<str>,
        /// The version.
        version: u64,
        /// The oldest that is kept.
        oldest: u64,
        /// The newest.
        newest: u64,
    },
    /// More documents or more text than may be.
    #[error("the library holds as many {} documents, or as much text, as it may", kind.name())]
    Full {
        /// The kind.
        kind: Kind,
    },
    /// More changes than may be.
    #[error("more changes are asked for than are taken")]
    Busy {
        /// When to come again.
        retry_after: Duration,
    },
    /// The store did not take it. What serves goes on serving.
    #[error("the change cannot be stored, and what serves goes on serving: {0}")]
    StoreAway(String),
    /// The service is going down.
    #[error("the service is shutting down")]
    Stopping,
    /// A bug of ours.
    #[error("the change could not be worked on")]
    Internal,
}

impl ChangeError {
    /// A version that is not kept.
    pub fn version_not_found(entry: &Entry, version: u64) -> Self {
        Self::VersionNotFound {
            kind: entry.kind,
            name: entry.name.clone(),
            version,
            oldest: entry.versions.first().map_or(0, |version| version.version),
            newest: entry.last,
        }
    }
}

fn kept(oldest: u64, newest: u64) -> String {
    if oldest == newest {
        format!("only version {newest} is kept")
    } else {
        format!("versions {oldest} to {newest} are kept")
    }
}

fn owned(owner: Owner, origin: Option<&str>) -> String {
    match owner {
        Owner::File => {
            let file = origin.map_or_else(|| "its file".to_owned(), |path| format!("the file {path}"));
            format!("the document belongs to {file}; change it there, or take it away")
        }
        Owner::Api => "the document belongs to the API; a file with exactly the text that serves takes it over".to_owned(),
        Owner::BuiltIn => "the document is part of the program".to_owned(),
    }
}
