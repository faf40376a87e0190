//! The library as plain data, and the rules of changing it: who may, on which base, and what is
//! forgotten. Nothing here compiles, stores or waits.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::SystemTime;

use super::change::{ChangeError, RolloutStart};
use crate::document::{Position, Problem, Problems};
use crate::journal::documents::{Entry, Kind, Owner, Rejection, Rollout, RolloutState, Version};
use crate::policy::rollout::Summary;

/// Documents of a kind.
pub const DOCUMENTS_MAX: usize = 500;
/// Versions kept of a document.
pub const VERSIONS_MAX: usize = 200;
/// Bytes of text kept of a document's versions; what serves is kept in any case.
pub const HISTORY_BYTES_MAX: usize = 4 << 20;
/// Bytes of all texts together. Beyond it nothing new is taken.
pub const LIBRARY_BYTES_MAX: usize = 128 << 20;
/// Removed documents of a kind whose last number is kept.
pub const TOMBSTONES_MAX: usize = 1_000;
/// Problems kept of a refused document.
const PROBLEMS_MAX: usize = 64;

/// Every document at one moment. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Book {
    entries: BTreeMap<(Kind, Arc<str>), Arc<Entry>>,
    stamp: u64,
}

/// A document that somebody wants stored.
#[derive(Debug, Clone)]
pub struct Proposal {
    /// What it is.
    pub kind: Kind,
    /// Its name.
    pub name: Arc<str>,
    /// The text.
    pub text: Arc<str>,
    /// SHA-256 of the text, hex.
    pub content_hash: Arc<str>,
    /// On whose behalf.
    pub owner: Owner,
    /// Who, or the file's path.
    pub author: Arc<str>,
    /// Why.
    pub comment: Arc<str>,
    /// The active version that it is based on; `Some(0)` for "there is none".
    pub expected: Option<u64>,
    /// The version whose content it takes up again; 0 for none.
    pub rollback_of: u64,
    /// Serve a share of the runs only.
    pub rollout: Option<RolloutStart>,
}

/// What becomes of a proposal that may be made.
#[derive(Debug, Clone, PartialEq)]
pub enum Judged {
    /// Its content serves already, or is being rolled out.
    Same(Arc<Version>),
    /// It gets this version.
    Next(u64),
}

impl Book {
    /// The document of this name.
    pub fn get(&self, kind: Kind, name: &str) -> Option<&Arc<Entry>> {
        self.kept(kind, name).filter(|entry| !entry.is_removed())
    }

    /// What is kept under this name, of a removed document too.
    fn kept(&self, kind: Kind, name: &str) -> Option<&Arc<Entry>> {
        self.entries.get(&(kind, Arc::from(name)))
    }

    /// Every document of a kind, by name.
    pub fn of(&self, kind: Kind) -> impl Iterator<Item = &Arc<Entry>> {
        self.all(kind).filter(|entry| !entry.is_removed())
    }

    /// What is kept of removed documents of a kind.
    pub fn removed(&self, kind: Kind) -> impl Iterator<Item = &Arc<Entry>> {
        self.all(kind).filter(|entry| entry.is_removed())
    }

    /// Every document of a kind and what is kept of removed ones, by name.
    pub fn all(&self, kind: Kind) -> impl Iterator<Item = &Arc<Entry>> {
        self.entries.values().filter(move |entry| entry.kind == kind)
    }

    /// Forgets what is kept of a removed document.
    pub fn forget(&mut self, kind: Kind, name: &Arc<str>) {
        if self.kept(kind, name).is_some_and(|entry| entry.is_removed()) {
            self.entries.remove(&(kind, name.clone()));
        }
    }

    /// Grows with each change.
    pub fn stamp(&self) -> u64 {
        self.stamp
    }

    /// The library with this entry in place of the one of its name.
    pub fn put(&mut self, mut entry: Entry) -> Arc<Entry> {
        self.stamp += 1;
        entry.stamp = self.stamp;
        let entry = Arc::new(entry);
        self.entries.insert((entry.kind, entry.name.clone()), entry.clone());
        entry
    }

    /// Whether a proposal may be made. Its content is not looked at.
    ///
    /// # Errors
    /// The first rule that it breaks.
    pub fn judge(&self, proposal: &Proposal) -> Result<Judged, ChangeError> {
        let Some(entry) = self.get(proposal.kind, &proposal.name) else {
            if proposal.expected.is_some_and(|expected| expected != 0) {
                return Err(ChangeError::Stale { current: 0 });
            }
            if self.of(proposal.kind).count() >= DOCUMENTS_MAX {
                return Err(ChangeError::Full { kind: proposal.kind });
            }
            self.room_for(proposal)?;
            let last = self.kept(proposal.kind, &proposal.name).map_or(0, |entry| entry.last);
            return Ok(Judged::Next(last + 1));
        };
        owned(entry, proposal)?;
        if let Some(rollout) = entry.active_rollout() {
            return match entry.version(rollout.version) {
                Some(new) if new.content_hash == proposal.content_hash => {
                    Ok(Judged::Same(new.clone()))
                }
                // Taking an old version up again is what one does in an emergency.
                Some(_) | None if proposal.rollback_of != 0 => {
                    expected(entry, proposal)?;
                    Ok(Judged::Next(entry.last + 1))
                }
                Some(_) | None => Err(ChangeError::RolloutUnderWay { version: rollout.version }),
            };
        }
        if let Some(active) = entry.active_version()
            && active.content_hash == proposal.content_hash
            && (active.owner == proposal.owner
                || (active.owner, proposal.owner) == (Owner::Api, Owner::File))
        {
            return Ok(Judged::Same(active.clone()));
        }
        expected(entry, proposal)?;
        self.room_for(proposal)?;
        Ok(Judged::Next(entry.last + 1))
    }

    fn room_for(&self, proposal: &Proposal) -> Result<(), ChangeError> {
        // Versions that share a text are counted apart: a bound, not an account.
        let kept: usize = self.entries.values().map(|entry| bytes(entry)).sum();
        if kept + proposal.text.len() > LIBRARY_BYTES_MAX {
            return Err(ChangeError::Full { kind: proposal.kind });
        }
        Ok(())
    }

    /// The entry as it is once the proposal is stored as `version`: active, or rolled out for a
    /// share of the runs.
    pub fn with(&self, proposal: &Proposal, version: u64, now: SystemTime) -> Entry {
        let mut entry = match self.kept(proposal.kind, &proposal.name) {
            Some(entry) => Entry::clone(entry),
            None => Entry::new(proposal.kind, proposal.name.clone(), proposal.owner),
        };
        if let Some(rollout) = entry.active_rollout() {
            let reason = format!("version {version} takes up an older one again");
            entry.rollout = Some(Arc::new(ended(rollout, RolloutState::RolledBack, &reason)));
        }
        entry.owner = proposal.owner;
        entry.last = version;
        entry.rejection = None;
        entry.versions.push(Arc::new(Version {
            name: proposal.name.clone(),
            version,
            content_hash: proposal.content_hash.clone(),
            text: proposal.text.clone(),
            owner: proposal.owner,
            author: proposal.author.clone(),
            comment: proposal.comment.clone(),
            created: now,
            rollback_of: proposal.rollback_of,
        }));
        match &proposal.rollout {
            Some(start) if entry.active != 0 => {
                entry.rollout = Some(Arc::new(Rollout {
                    version,
                    base: entry.active,
                    share: start.share,
                    guards: start.guards,
                    state: RolloutState::Active,
                    reason: "".into(),
                    started: now,
                    figures: [Summary::default(); 2],
                }));
            }
            Some(_) | None => entry.active = version,
        }
        prune(&mut entry);
        entry
    }

    /// The entry with a proposal noted as refused. `None` for a name that is not taken and whose
    /// proposer could invent as many as they like.
    pub fn with_rejection(
        &self,
        proposal: &Proposal,
        problems: &Problems,
        now: SystemTime,
    ) -> Option<Entry> {
        let mut entry = match self.get(proposal.kind, &proposal.name) {
            Some(entry) => Entry::clone(entry),
            None if proposal.owner == Owner::File
                && self.of(proposal.kind).count() < DOCUMENTS_MAX =>
            {
                let last = self.kept(proposal.kind, &proposal.name).map_or(0, |entry| entry.last);
                Entry { last, ..Entry::new(proposal.kind, proposal.name.clone(), Owner::File) }
            }
            None => return None,
        };
        entry.rejection = Some(Arc::new(Rejection {
            content_hash: proposal.content_hash.clone(),
            owner: proposal.owner,
            time: now,
            problems: Problems(problems.0.iter().take(PROBLEMS_MAX).cloned().collect()),
        }));
        Some(entry)
    }
}

fn owned(entry: &Entry, proposal: &Proposal) -> Result<(), ChangeError> {
    let active = entry.active_version();
    match (entry.owner, proposal.owner) {
        (Owner::BuiltIn, _) | (Owner::File, Owner::File) | (Owner::Api, Owner::Api) => Ok(()),
        // Its file went away and is there again; nobody has pushed since.
        (Owner::Api, Owner::File) if active.is_some_and(|a| a.owner == Owner::File) => Ok(()),
        // A file with exactly what serves does not disagree: so a document is handed over to it.
        (Owner::Api, Owner::File)
            if active.is_some_and(|a| a.content_hash == proposal.content_hash)
                && entry.active_rollout().is_none() =>
        {
            Ok(())
        }
        // Nothing of it serves: its file never held a usable document.
        (Owner::File | Owner::Api, _) if entry.active == 0 => Ok(()),
        (owner @ (Owner::File | Owner::Api), Owner::File | Owner::Api | Owner::BuiltIn) => {
            Err(ChangeError::Owned { owner, origin: file_of(entry) })
        }
    }
}

/// The file that wrote what serves. One that took over what the API had stored has not.
pub(super) fn file_of(entry: &Entry) -> Option<Arc<str>> {
    let active = entry.active_version()?;
    (active.owner == Owner::File).then(|| active.author.clone())
}

fn expected(entry: &Entry, proposal: &Proposal) -> Result<(), ChangeError> {
    match proposal.expected {
        Some(expected) if expected != entry.active => {
            Err(ChangeError::Stale { current: entry.active })
        }
        Some(_) | None => Ok(()),
    }
}

/// A refusal that is not about the content, as a problem of the document.
pub fn as_problem(error: &ChangeError) -> Problems {
    Problems(vec![Problem::error("", Position::START, error.to_string())])
}

/// The rollout, ended.
pub fn ended(rollout: &Rollout, state: RolloutState, reason: &str) -> Rollout {
    Rollout { state, reason: reason.into(), ..rollout.clone() }
}

fn bytes(entry: &Entry) -> usize {
    entry.versions.iter().map(|version| version.text.len()).sum()
}

/// Forgets the oldest versions beyond the bounds, never one that serves.
fn prune(entry: &mut Entry) {
    let (active, rollout) = (entry.active, entry.active_rollout().map(|rollout| rollout.version));
    let (mut count, mut bytes) = (entry.versions.len(), bytes(entry));
    entry.versions.retain(|version| {
        let fits = count <= VERSIONS_MAX && bytes <= HISTORY_BYTES_MAX;
        let serves = version.version == active || Some(version.version) == rollout;
        if fits || serves {
            return true;
        }
        count -= 1;
        bytes -= version.text.len();
        false
    });
}

#[cfg(test)]
mod tests;
