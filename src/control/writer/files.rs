//! Documents of files: taken when they change, refused without harm to what serves.

use std::sync::Arc;
use std::time::SystemTime;

use super::{Effect, Writer};
use crate::control::book::{Judged, Proposal, as_problem};
use crate::control::change::ChangeError;
use crate::control::{AuditAction, AuditEntry, FileDocument, LoadError, Report, hash};
use crate::document::{Position, Problem, Problems};
use crate::journal::documents::{Entry, Kind, Owner};

/// What the watched folders hold. `None` for a folder that is not watched.
#[derive(Debug, Default)]
pub(in crate::control) struct Scan {
    pub(in crate::control) policies: Option<Result<Vec<FileDocument>, LoadError>>,
    pub(in crate::control) pipelines: Option<Result<Vec<FileDocument>, LoadError>>,
}

impl Writer {
    /// Takes over what the folders hold: policies first, pipelines name them. Returns what is
    /// wrong, warnings too.
    pub(in crate::control) async fn scan(&mut self, scan: Scan) -> Vec<Report> {
        let mut reports = self.folder(Kind::Policy, scan.policies).await;
        reports.append(&mut self.folder(Kind::Pipeline, scan.pipelines).await);
        reports
    }

    pub(in crate::control) async fn folder(
        &mut self,
        kind: Kind,
        found: Option<Result<Vec<FileDocument>, LoadError>>,
    ) -> Vec<Report> {
        let mut reports = Vec::new();
        let about = format!("folder of {}", kind.name());
        let files = match found {
            None => return reports,
            Some(Ok(files)) => files,
            Some(Err(error)) => {
                let why = format!("{error}: {}; what serves goes on serving", error.source);
                self.alerts.notice(&about, &why);
                return reports;
            }
        };
        self.alerts.mended(&about);
        for file in &files {
            reports.extend(self.file(kind, file).await);
        }
        let gone: Vec<Arc<Entry>> = self
            .book
            .of(kind)
            .filter(|entry| entry.owner == Owner::File)
            .filter(|entry| !files.iter().any(|file| file.name == entry.name))
            .cloned()
            .collect();
        for entry in gone {
            self.file_gone(&entry).await;
        }
        reports
    }

    async fn file(&mut self, kind: Kind, file: &FileDocument) -> Option<Report> {
        let about = format!("{}/{}", kind.name(), file.name);
        // What cannot be read is told apart by why, so that it is told once.
        let (text, content_hash) = match &file.text {
            Ok(text) => (text.clone(), hash(text)),
            Err(why) => ("".into(), hash(why)),
        };
        let proposal = Proposal {
            kind,
            name: file.name.clone(),
            content_hash,
            text,
            owner: Owner::File,
            author: file.path.as_str().into(),
            comment: "".into(),
            expected: None,
            rollback_of: 0,
            rollout: None,
        };
        let key = (kind, file.name.clone());
        let attempt = (proposal.content_hash.clone(), self.serving);
        if self.refused_files.get(&key) == Some(&attempt) {
            return None;
        }
        let taken = match &file.text {
            Ok(_) => self.take_file(&proposal).await,
            Err(why) => {
                let problem = Problem::error("", Position::START, why.as_str());
                Err(ChangeError::Invalid(Problems(vec![problem])))
            }
        };
        match taken {
            Ok(warnings) => {
                self.refused_files.remove(&key);
                self.alerts.mended(&about);
                let warned = !warnings.0.is_empty();
                warned.then(|| report(&proposal, warnings))
            }
            // Nothing is wrong with the file; the next look at the folder tries again.
            Err(error @ (ChangeError::StoreAway(_) | ChangeError::Internal)) => {
                self.alerts.notice(&about, &format!("{}: {error}", file.path));
                None
            }
            Err(error) => {
                let problems = match &error {
                    ChangeError::Invalid(problems) | ChangeError::Unmet(problems) => {
                        problems.clone()
                    }
                    other => as_problem(other),
                };
                self.note_rejection(&proposal, &problems).await;
                self.refused_files.insert(key, (attempt.0, self.serving));
                let first = problems.0.first().map(ToString::to_string).unwrap_or_default();
                let text =
                    format!("{} is refused: {first}; what served goes on serving", file.path);
                self.alerts.notice(&about, &text);
                Some(report(&proposal, problems))
            }
        }
    }

    async fn take_file(&mut self, proposal: &Proposal) -> Result<Problems, ChangeError> {
        let version = match self.book.judge(proposal)? {
            Judged::Same(_) => {
                self.taken_back_by_file(proposal).await?;
                return Ok(Problems::default());
            }
            Judged::Next(version) => version,
        };
        let (compiled, mut warnings) = self.compile(proposal, version).await?;
        // A file cannot be asked back, so it is taken and told of.
        warnings.0.extend(self.outage(proposal, &compiled, true)?);
        let entry = self.book.with(proposal, version, SystemTime::now());
        let action = match proposal.kind {
            Kind::Policy => AuditAction::PolicyPushed,
            Kind::Pipeline => AuditAction::PipelinePut,
        };
        self.store_version(proposal, entry, compiled, action).await?;
        Ok(warnings)
    }

    /// A file with the content that serves: it owns the document, and nothing of it is refused.
    async fn taken_back_by_file(&mut self, proposal: &Proposal) -> Result<(), ChangeError> {
        let Some(entry) = self.book.get(proposal.kind, &proposal.name) else { return Ok(()) };
        let refused_file = entry.rejection.as_ref().is_some_and(|r| r.owner == Owner::File);
        if entry.owner == Owner::File && !refused_file {
            return Ok(());
        }
        let handed_over = entry.active_version().is_some_and(|active| active.owner == Owner::Api);
        let mut entry = Entry::clone(entry);
        entry.owner = Owner::File;
        entry.rejection = entry.rejection.filter(|rejection| rejection.owner != Owner::File);
        let entry = self.commit(entry, Effect::None).await?;
        if handed_over {
            let about = format!("{}/{}", proposal.kind.name(), proposal.name);
            let noted = AuditEntry::new("file", AuditAction::FileTookOver, &about)
                .versions(entry.active, entry.active)
                .comment(&proposal.author);
            self.audit.record(noted).await;
        }
        Ok(())
    }

    /// A file that went away takes nothing out of service; the document is the API's from now on,
    /// until the file is there again.
    async fn file_gone(&mut self, entry: &Entry) {
        let about = format!("{}/{}", entry.kind.name(), entry.name);
        self.refused_files.remove(&(entry.kind, entry.name.clone()));
        self.alerts.mended(&about);
        let mut freed = Entry::clone(entry);
        freed.owner = Owner::Api;
        freed.rejection = freed.rejection.filter(|rejection| rejection.owner != Owner::File);
        if self.commit(freed, Effect::None).await.is_err() {
            return; // Told in the log; the next look at the folder tries again.
        }
        tracing::warn!(
            document = %about, version = entry.active,
            "its file is gone; the version goes on serving and belongs to the API"
        );
        let noted = AuditEntry::new("file", AuditAction::FileGone, &about)
            .versions(entry.active, entry.active);
        self.audit.record(noted).await;
    }
}

fn report(proposal: &Proposal, problems: Problems) -> Report {
    Report { origin: proposal.author.to_string(), text: proposal.text.clone(), problems }
}
