//! The library at start: what the store holds, what is built in, what the files say. In this
//! order, so that a broken file finds its last good version serving.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use super::book::Judged;
use super::change::ChangeError;
use super::library::{self, Library};
use super::writer::{Compiled, Writer, built_in};
use super::{AuditAction, AuditLog, Documents, FileDocument, LoadError, Report, Source, folder};
use crate::document::Problems;
use crate::engine::alerts::Alerts;
use crate::journal::documents::{Entry, Kind, Owner};
use crate::store::sqlite::{Sqlite, StoreError};
use crate::tasks::Tasks;

/// What the library is made of.
pub struct LibrarySettings {
    /// Checks documents.
    pub checker: Documents,
    /// Where documents are kept; in memory without.
    pub store: Option<Sqlite>,
    /// Folder of policies.
    pub policies_dir: Option<PathBuf>,
    /// Folder of pipelines.
    pub pipelines_dir: Option<PathBuf>,
    /// Policies that are there unless a file or the API has one of the name.
    pub built_in_policies: &'static [(&'static str, &'static str)],
    /// The same for pipelines.
    pub built_in_pipelines: &'static [(&'static str, &'static str)],
    /// Policy of runs that name none; it has to be there.
    pub default_policy: Arc<str>,
    /// Changes that are taken in a second.
    pub changes_per_second: u32,
    /// Takes alerts about documents.
    pub alerts: Arc<Alerts>,
    /// Notes every change.
    pub audit: AuditLog,
    /// Owner of the writer and the watchers.
    pub tasks: Tasks,
}

/// A library that cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum SeedError {
    /// Documents that would have to serve and cannot.
    #[error("{} documents cannot be served", .0.len())]
    Broken(Vec<Report>),
    /// A folder cannot be read.
    #[error(transparent)]
    Folder(#[from] LoadError),
    /// The store cannot be read or written.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A document could not be taken in for another reason.
    #[error(transparent)]
    Change(#[from] ChangeError),
    /// The policy of runs that name none is not there.
    #[error("`default_policy` is `{0}`, and there is no such policy")]
    NoDefault(Arc<str>),
}

/// Opens the library: everything in it serves, and the writer takes changes. Warnings are in the
/// reports.
///
/// # Errors
/// See [`SeedError`].
pub(super) async fn open(settings: LibrarySettings) -> Result<(Library, Vec<Report>), SeedError> {
    let stored = match &settings.store {
        Some(store) => store.load_documents().await?,
        None => Vec::new(),
    };
    let read = |dir: &Option<PathBuf>| dir.as_deref().map(folder).transpose();
    let policies = read(&settings.policies_dir)?;
    let pipelines = read(&settings.pipelines_dir)?;
    let mut writer = Writer::new(
        settings.checker.clone(),
        settings.store.clone(),
        settings.alerts.clone(),
        settings.audit.clone(),
        settings.tasks.clone(),
        settings.default_policy.clone(),
    );
    for entry in &stored {
        writer.book.put(entry.clone());
    }
    let mut reports = Vec::new();
    for (kind, built_ins, files) in [
        (Kind::Policy, settings.built_in_policies, policies),
        (Kind::Pipeline, settings.built_in_pipelines, pipelines),
    ] {
        let mut broken = writer.restore(kind, &stored).await;
        writer.built_ins(kind, built_ins, files.as_deref()).await?;
        reports.append(&mut writer.folder(kind, files.map(Ok)).await);
        // What was stored and fits no longer may have been replaced by its file.
        broken.retain(|(entry, _)| !writer.serves(kind, entry));
        reports.extend(broken.into_iter().map(|(_, report)| report));
    }
    if writer.lacks_one() {
        reports.retain(|report| !report.problems.usable());
        return Err(SeedError::Broken(reports));
    }
    if writer.active.policy(&settings.default_policy).is_none() {
        return Err(SeedError::NoDefault(settings.default_policy));
    }
    for entry in &stored {
        let current = writer.book.get(entry.kind, &entry.name).cloned();
        if let Some(current) = current {
            writer.resume_rollout(&current).await?;
        }
    }
    reports.retain(|report| report.problems.usable());
    Ok((library::start(writer, &settings), reports))
}

impl Writer {
    /// Puts in force what the store says is active. Returns what does not fit this server.
    async fn restore(&self, kind: Kind, stored: &[Entry]) -> Vec<(Arc<str>, Report)> {
        let mut broken = Vec::new();
        for entry in stored.iter().filter(|entry| entry.kind == kind && entry.active != 0) {
            match self.restored(entry, entry.active).await {
                Ok(Compiled::Policy(policy)) => self.active.update(|snapshot| {
                    snapshot.policies.insert(entry.name.clone(), policy.clone());
                }),
                Ok(Compiled::Pipeline(pipeline)) => self.active.update(|snapshot| {
                    snapshot.pipelines.insert(entry.name.clone(), pipeline.clone());
                }),
                Err(report) => broken.push((entry.name.clone(), report)),
            }
        }
        broken
    }

    /// A stored version, compiled again.
    pub(super) async fn restored(&self, entry: &Entry, version: u64) -> Result<Compiled, Report> {
        let origin = format!("stored {} {} version {version}", entry.kind.name(), entry.name);
        let Some(stored) = entry.version(version) else {
            return Err(Report { origin, text: "".into(), problems: Problems::default() });
        };
        let source = Source { name: entry.name.to_string(), origin, text: stored.text.clone() };
        let compiled = match entry.kind {
            Kind::Policy => self
                .checker
                .policy(&source, version)
                .map(|(policy, _)| Compiled::Policy(Arc::new(policy))),
            Kind::Pipeline => self
                .checker
                .pipeline(&source, version, Some(&self.policy_names()))
                .map(|(pipeline, _)| Compiled::Pipeline(Arc::new(pipeline))),
        };
        compiled.map_err(|refused| Report {
            origin: source.origin,
            text: source.text,
            problems: refused.into_problems().sorted(),
        })
    }

    /// Built-in documents whose names neither files nor the API use.
    async fn built_ins(
        &mut self,
        kind: Kind,
        built_ins: &[(&str, &str)],
        files: Option<&[FileDocument]>,
    ) -> Result<(), ChangeError> {
        for (name, text) in built_ins {
            let of_file = files.into_iter().flatten().any(|file| *file.name == **name);
            let taken =
                self.book.get(kind, name).is_some_and(|entry| entry.owner != Owner::BuiltIn);
            if of_file || taken {
                continue;
            }
            let proposal = built_in(kind, name, text);
            if let Judged::Next(version) = self.book.judge(&proposal)? {
                let (compiled, _) = self.compile(&proposal, version).await?;
                let entry = self.book.with(&proposal, version, SystemTime::now());
                let action = match kind {
                    Kind::Policy => AuditAction::PolicyPushed,
                    Kind::Pipeline => AuditAction::PipelinePut,
                };
                self.store_version(&proposal, entry, compiled, action).await?;
            }
        }
        Ok(())
    }

    fn serves(&self, kind: Kind, name: &str) -> bool {
        match kind {
            Kind::Policy => self.active.policy(name).is_some(),
            Kind::Pipeline => self.active.pipeline(name).is_some(),
        }
    }

    /// Whether a document should serve and does not: one that is stored, or a file that holds no
    /// usable document and never did.
    fn lacks_one(&self) -> bool {
        [Kind::Policy, Kind::Pipeline]
            .into_iter()
            .flat_map(|kind| self.book.of(kind))
            .filter(|entry| entry.active != 0 || entry.owner == Owner::File)
            .any(|entry| !self.serves(entry.kind, &entry.name))
    }
}
