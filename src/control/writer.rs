//! The one that makes changes, one after the other: judge, compile, store, put in force, tell.
//!
//! In this order, so that what serves is always on the disk and a crash between any two of them
//! leaves the document as it was before or as it is after. What takes long to compile is compiled on
//! blocking threads.

pub(super) mod files;
mod outage;
mod removal;
mod retired;
mod rollouts;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::SystemTime;

use tokio::sync::watch;

use self::retired::Retired;
use super::book::{Book, Judged, Proposal, as_problem};
use super::change::{ChangeError, Push, Rollback, Stored};
use super::{AuditAction, AuditEntry, AuditLog, Documents, Refused, Source, fixed, hash};
use crate::document::{Problems, nearest};
use crate::engine::active_policy::{
    ActiveDocuments, Candidate, PipelineVersion, PolicyVersion, Snapshot,
};
use crate::engine::alerts::Alerts;
use crate::journal::documents::{Entry, Kind, Owner, Rollout, Version};
use crate::store::sqlite::Sqlite;
use crate::tasks::Tasks;

/// Documents up to this size are compiled where they are, in a tenth of a millisecond and, hostile
/// ones, in two (`benches/README.md`); larger ones on blocking threads.
const SHORT_BYTES_MAX: usize = 4 * 1024;

/// A document, compiled.
#[derive(Clone)]
pub(super) enum Compiled {
    Policy(Arc<PolicyVersion>),
    Pipeline(Arc<PipelineVersion>),
}

/// How a change shows in what serves.
enum Effect {
    /// The document serves all runs.
    Serve(Compiled),
    /// The policy serves a share of the runs.
    RollOut(Arc<Candidate>),
    /// The candidate of this name is gone.
    TakeBack(Arc<str>),
    /// The document serves no new run.
    Withdraw(Kind, Arc<str>),
    /// What serves stays as it is.
    None,
}

/// Makes every change. There is one.
pub(super) struct Writer {
    pub(super) checker: Documents,
    pub(super) active: Arc<ActiveDocuments>,
    pub(super) store: Option<Sqlite>,
    pub(super) alerts: Arc<Alerts>,
    pub(super) audit: AuditLog,
    pub(super) tasks: Tasks,
    pub(super) book: Book,
    /// Policy of runs that name none; it is never taken away.
    pub(super) default_policy: Arc<str>,
    pub(super) published: watch::Sender<Arc<Book>>,
    /// Files that were refused: with which text, and at which number of `serving`.
    refused_files: HashMap<(Kind, Arc<str>), (Arc<str>, u64)>,
    retired: Retired,
    /// Grows with each change of what serves, so that what was refused for lack of another
    /// document is tried again.
    serving: u64,
}

impl Writer {
    pub(super) fn new(
        checker: Documents,
        store: Option<Sqlite>,
        alerts: Arc<Alerts>,
        audit: AuditLog,
        tasks: Tasks,
        default_policy: Arc<str>,
    ) -> Self {
        Self {
            default_policy,
            checker,
            active: Arc::default(),
            store,
            alerts,
            audit,
            tasks,
            book: Book::default(),
            published: watch::Sender::default(),
            refused_files: HashMap::new(),
            retired: Retired::default(),
            serving: 0,
        }
    }

    /// Stores a document that came by the API.
    pub(super) async fn push(&mut self, push: Push) -> Result<Stored, ChangeError> {
        let Push { proposal, dry_run, allow_outage } = push;
        let judged = match self.book.judge(&proposal) {
            Ok(judged) => judged,
            Err(error) => {
                if matches!(error, ChangeError::Owned { .. }) && !dry_run {
                    self.note_rejection(&proposal, &as_problem(&error)).await;
                }
                return Err(error);
            }
        };
        let before = self.active.policy(&proposal.name).filter(|_| proposal.kind == Kind::Policy);
        let version = match judged {
            Judged::Same(version) => {
                let after = before.clone();
                let rollout = self.rollout_of(&proposal, &version);
                return Ok(Stored {
                    version,
                    warnings: Problems::default(),
                    before,
                    after,
                    rollout,
                });
            }
            Judged::Next(version) => version,
        };
        let (compiled, mut warnings) = match self.compile(&proposal, version).await {
            Ok(compiled) => compiled,
            Err(error) => {
                if let ChangeError::Invalid(problems) | ChangeError::Unmet(problems) = &error
                    && !dry_run
                {
                    self.note_rejection(&proposal, problems).await;
                }
                return Err(error);
            }
        };
        warnings.0.extend(self.outage(&proposal, &compiled, allow_outage)?);
        let after = match &compiled {
            Compiled::Policy(policy) => Some(policy.clone()),
            Compiled::Pipeline(_) => None,
        };
        let entry = self.book.with(&proposal, version, SystemTime::now());
        let stored = |entry: &Entry| match entry.version(version) {
            Some(version) => {
                let (version, rollout) = (version.clone(), entry.active_rollout().cloned());
                Ok(Stored { version, warnings, before, after, rollout })
            }
            None => Err(ChangeError::Internal),
        };
        if dry_run {
            return stored(&entry);
        }
        let action = match (proposal.kind, proposal.rollback_of) {
            _ if entry.active_rollout().is_some() => AuditAction::RolloutStarted,
            (Kind::Policy, 0) => AuditAction::PolicyPushed,
            (Kind::Policy, _) => AuditAction::PolicyRolledBack,
            (Kind::Pipeline, 0) => AuditAction::PipelinePut,
            (Kind::Pipeline, _) => AuditAction::PipelineRolledBack,
        };
        let entry = self.store_version(&proposal, entry, compiled, action).await?;
        stored(&entry)
    }

    /// The rollout of a version that is there already.
    fn rollout_of(&self, proposal: &Proposal, version: &Version) -> Option<Arc<Rollout>> {
        let rollout = self.book.get(proposal.kind, &proposal.name)?.active_rollout()?;
        (rollout.version == version.version).then(|| rollout.clone())
    }

    /// Stores an entry whose newest version is the proposal's, and puts it in force.
    pub(super) async fn store_version(
        &mut self,
        proposal: &Proposal,
        entry: Entry,
        compiled: Compiled,
        action: AuditAction,
    ) -> Result<Arc<Entry>, ChangeError> {
        let from_version =
            self.book.get(proposal.kind, &proposal.name).map_or(0, |entry| entry.active);
        let to_version = entry.last;
        let effect = match (entry.active_rollout(), &compiled) {
            (Some(rollout), Compiled::Policy(policy)) => {
                rollouts::candidate(policy.clone(), rollout)
            }
            (Some(_) | None, _) => Effect::Serve(compiled),
        };
        let entry = self.commit(entry, effect).await?;
        self.alerts.mended(&format!("rollout of {}/{}", proposal.kind.name(), proposal.name));
        let about = format!("{}/{}", proposal.kind.name(), proposal.name);
        let noted = AuditEntry::new(actor(proposal), action, &about)
            .versions(from_version, to_version)
            .comment(&proposal.comment);
        self.audit.record(noted).await;
        Ok(entry)
    }

    /// Takes the content of an old version up again, as a new version.
    pub(super) async fn rollback(&mut self, rollback: Rollback) -> Result<Stored, ChangeError> {
        let old = self.version(rollback.kind, &rollback.name, rollback.version)?;
        let push = Push {
            proposal: Proposal {
                kind: rollback.kind,
                name: rollback.name,
                text: old.text.clone(),
                content_hash: old.content_hash.clone(),
                owner: Owner::Api,
                author: rollback.author,
                comment: rollback.comment,
                expected: rollback.expected,
                rollback_of: rollback.version,
                rollout: None,
            },
            dry_run: false,
            allow_outage: rollback.allow_outage,
        };
        self.push(push).await.map_err(|error| match error {
            // It was right once; it is the server around it that has changed.
            ChangeError::Invalid(problems) => ChangeError::Unmet(problems),
            other => other,
        })
    }

    fn version(
        &self,
        kind: Kind,
        name: &Arc<str>,
        version: u64,
    ) -> Result<Arc<Version>, ChangeError> {
        let entry = self.entry(kind, name)?;
        let found = entry.version(version).cloned();
        found.ok_or_else(|| ChangeError::version_not_found(entry, version))
    }

    fn entry(&self, kind: Kind, name: &Arc<str>) -> Result<&Arc<Entry>, ChangeError> {
        self.book.get(kind, name).ok_or_else(|| not_found(&self.book, kind, name))
    }

    /// Compiles a proposal as this version, off the runtime's threads.
    pub(super) async fn compile(
        &self,
        proposal: &Proposal,
        version: u64,
    ) -> Result<(Compiled, Problems), ChangeError> {
        let source = Source {
            name: proposal.name.to_string(),
            origin: match proposal.owner {
                Owner::File => proposal.author.to_string(),
                Owner::Api | Owner::BuiltIn => proposal.name.to_string(),
            },
            text: proposal.text.clone(),
        };
        let (checker, kind) = (self.checker.clone(), proposal.kind);
        let policies = self.policy_names();
        let (snapshot, default) = (self.active.snapshot(), self.default_policy.clone());
        let is_short = source.text.len() <= SHORT_BYTES_MAX;
        let compile = move || match kind {
            Kind::Policy => checker.policy(&source, version).map(|(policy, mut warnings)| {
                warnings.0.extend(fixed::of_policy(&source, &policy, &snapshot, &default));
                (Compiled::Policy(Arc::new(policy)), warnings)
            }),
            Kind::Pipeline => {
                let compiled = checker.pipeline(&source, version, Some(&policies));
                compiled.map(|(pipeline, mut warnings)| {
                    warnings.0.extend(fixed::of_pipeline(&source, &pipeline, &snapshot, &default));
                    (Compiled::Pipeline(Arc::new(pipeline)), warnings)
                })
            }
        };
        match self.tasks.compute(is_short, compile).await {
            Some(Ok((compiled, warnings))) => Ok((compiled, warnings.sorted())),
            Some(Err(Refused::Invalid(problems))) => Err(ChangeError::Invalid(problems.sorted())),
            Some(Err(Refused::Unmet(problems))) => Err(ChangeError::Unmet(problems.sorted())),
            None => {
                tracing::error!("compiling a document ended abnormally");
                Err(ChangeError::Internal)
            }
        }
    }

    /// Names of the policies that serve.
    pub(super) fn policy_names(&self) -> Vec<String> {
        self.active.snapshot().policies.keys().map(|name| name.to_string()).collect()
    }

    /// Stores an entry, then puts it in force, then tells. Nothing of it if it cannot be stored.
    async fn commit(&mut self, entry: Entry, effect: Effect) -> Result<Arc<Entry>, ChangeError> {
        if let Some(store) = &self.store {
            store.save_document(entry.clone()).await.map_err(|error| {
                tracing::error!(%error, document = %entry.name, "a document was not stored");
                ChangeError::StoreAway(error.to_string())
            })?;
        }
        let changes = !matches!(effect, Effect::None);
        if changes {
            self.serving += 1;
            self.retired.keep(self.served(entry.kind, &entry.name));
            self.active.update(|snapshot| put_in_force(snapshot, &effect));
        }
        match &effect {
            Effect::Serve(Compiled::Policy(policy)) => {
                self.alerts.policy_replaced(&policy.reference.name);
            }
            Effect::Withdraw(Kind::Policy, name) => self.alerts.policy_replaced(name),
            Effect::Serve(Compiled::Pipeline(_))
            | Effect::Withdraw(Kind::Pipeline, _)
            | Effect::RollOut(_)
            | Effect::TakeBack(_)
            | Effect::None => {}
        }
        Ok(self.tell(entry))
    }

    /// What serves of this document.
    fn served(&self, kind: Kind, name: &str) -> Option<Compiled> {
        match kind {
            Kind::Policy => self.active.policy(name).map(Compiled::Policy),
            Kind::Pipeline => self.active.pipeline(name).map(Compiled::Pipeline),
        }
    }

    /// Frees what served before and no run holds any more, off the runtime's threads.
    pub(super) fn free_retired(&mut self) {
        let unused = self.retired.unused();
        if unused.iter().all(Retired::is_small) {
            return;
        }
        self.tasks.spawn_blocking(move || drop(unused));
    }

    /// Shows an entry to whoever reads or watches.
    fn tell(&mut self, entry: Entry) -> Arc<Entry> {
        let entry = self.book.put(entry);
        self.published.send_replace(Arc::new(self.book.clone()));
        entry
    }

    /// Keeps what was refused and why. What cannot be stored of it is kept until the end of the
    /// process: the refusal itself has taken place.
    async fn note_rejection(&mut self, proposal: &Proposal, problems: &Problems) {
        let now = SystemTime::now();
        let Some(entry) = self.book.with_rejection(proposal, problems, now) else { return };
        let active = entry.active;
        if self.commit(entry.clone(), Effect::None).await.is_err() {
            self.tell(entry);
        }
        let about = format!("{}/{}", proposal.kind.name(), proposal.name);
        let first = problems.0.first().map(ToString::to_string).unwrap_or_default();
        let noted = AuditEntry::new(actor(proposal), AuditAction::DocumentRefused, &about)
            .versions(active, active)
            .comment(&first);
        self.audit.record(noted).await;
    }
}

/// Who the audit log names for a proposal.
fn actor(proposal: &Proposal) -> &str {
    match proposal.owner {
        Owner::File => "file",
        Owner::Api => &proposal.author,
        Owner::BuiltIn => "mainstay",
    }
}

fn put_in_force(snapshot: &mut Snapshot, effect: &Effect) {
    match effect {
        Effect::Serve(Compiled::Policy(policy)) => {
            let name = &policy.reference.name;
            snapshot.candidates.remove(name);
            snapshot.policies.insert(name.clone(), policy.clone());
        }
        Effect::Serve(Compiled::Pipeline(pipeline)) => {
            snapshot.pipelines.insert(pipeline.name.clone(), pipeline.clone());
        }
        Effect::RollOut(candidate) => {
            let name = candidate.policy.reference.name.clone();
            snapshot.candidates.insert(name, candidate.clone());
        }
        Effect::TakeBack(name) => {
            snapshot.candidates.remove(name);
        }
        Effect::Withdraw(Kind::Policy, name) => {
            snapshot.candidates.remove(name);
            snapshot.policies.remove(name);
        }
        Effect::Withdraw(Kind::Pipeline, name) => {
            snapshot.pipelines.remove(name);
        }
        Effect::None => {}
    }
}

/// A document that does not exist, with the nearest that does.
pub(super) fn not_found(book: &Book, kind: Kind, name: &str) -> ChangeError {
    let names = book.of(kind).map(|entry| &*entry.name);
    let nearest = nearest(name, names).map(str::to_owned);
    ChangeError::NotFound { kind, name: name.into(), nearest }
}

/// A built-in document as a proposal.
pub(super) fn built_in(kind: Kind, name: &str, text: &str) -> Proposal {
    Proposal {
        kind,
        name: name.into(),
        text: text.into(),
        content_hash: hash(text),
        owner: Owner::BuiltIn,
        author: "built-in".into(),
        comment: "".into(),
        expected: None,
        rollback_of: 0,
        rollout: None,
    }
}
