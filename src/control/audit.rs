//! The audit log: who changed what, when, and from which version to which.
//!
//! Every change of what serves is recorded, whoever made it: a caller of the API, a file, or the
//! server itself (a rollout that promotes or rolls itself back). The newest entries are kept in
//! memory to be read; with a file configured, each is a JSON line of it before the caller of
//! [`AuditLog::record`] goes on.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use serde_json::json;
use tokio::sync::{mpsc, oneshot};

use crate::document;
use crate::tasks::Tasks;

mod file;

use file::LogFile;

/// Entries kept in memory.
const ENTRIES_MAX: usize = 1_000;
/// Entries that may wait for the file.
const QUEUE_MAX: usize = 256;
/// How long a change waits for its line to be written. The change has happened: a disk that hangs
/// may not hold up its answer for ever.
const WRITE_TIMEOUT: Duration = Duration::from_secs(2);
/// Longest name and comment in characters.
const NAME_CHARS_MAX: usize = 256;
const COMMENT_CHARS_MAX: usize = 1_024;

/// What was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AuditAction {
    /// A policy was pushed, or came from a file.
    PolicyPushed,
    /// A policy went back to an earlier version.
    PolicyRolledBack,
    /// A pipeline was put, or came from a file.
    PipelinePut,
    /// A pipeline went back to an earlier version.
    PipelineRolledBack,
    /// A document was taken out of service.
    DocumentRemoved,
    /// The file of a document went away; what served goes on serving.
    FileGone,
    /// A document of the API belongs to a file with the same text from now on.
    FileTookOver,
    /// A document was refused; what served goes on serving.
    DocumentRefused,
    /// A version began to serve a share of the runs.
    RolloutStarted,
    /// A rollout's version serves all runs.
    RolloutPromoted,
    /// A rollout's version serves no run any more.
    RolloutRolledBack,
    /// A target may be called again.
    TargetEnabled,
    /// A target may not be called.
    TargetDisabled,
    /// A breaker is held in a state.
    BreakerHeld,
    /// A breaker judges by itself again.
    BreakerReleased,
    /// Cached outputs were dropped.
    CacheInvalidated,
}

impl AuditAction {
    /// Its name in the file and on the wire.
    pub const fn name(self) -> &'static str {
        match self {
            Self::PolicyPushed => "policy_pushed",
            Self::PolicyRolledBack => "policy_rolled_back",
            Self::PipelinePut => "pipeline_put",
            Self::PipelineRolledBack => "pipeline_rolled_back",
            Self::DocumentRemoved => "document_removed",
            Self::FileGone => "file_gone",
            Self::FileTookOver => "file_took_over",
            Self::DocumentRefused => "document_refused",
            Self::RolloutStarted => "rollout_started",
            Self::RolloutPromoted => "rollout_promoted",
            Self::RolloutRolledBack => "rollout_rolled_back",
            Self::TargetEnabled => "target_enabled",
            Self::TargetDisabled => "target_disabled",
            Self::BreakerHeld => "breaker_held",
            Self::BreakerReleased => "breaker_released",
            Self::CacheInvalidated => "cache_invalidated",
        }
    }
}

/// One change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditEntry {
    /// When.
    pub time: SystemTime,
    /// Who: the name of an identity, `file` for the watched files, `mainstay` for the server
    /// itself.
    pub actor: String,
    /// What was done.
    pub action: AuditAction,
    /// To what: `policy/NAME`, `pipeline/NAME`, `target/NAME`, `cache`.
    pub document: String,
    /// Version before; 0 for none.
    pub from_version: u64,
    /// Version after; 0 for none.
    pub to_version: u64,
    /// What the actor said about it, or why the server did it.
    pub comment: String,
}

impl AuditEntry {
    /// A change made now. Texts are cut to a bound and freed of control characters here, so that
    /// no reader of an entry has to think of terminals and lines.
    pub fn new(actor: &str, action: AuditAction, document: &str) -> Self {
        Self {
            time: SystemTime::now(),
            actor: printable(actor, NAME_CHARS_MAX),
            action,
            document: printable(document, NAME_CHARS_MAX),
            from_version: 0,
            to_version: 0,
            comment: String::new(),
        }
    }

    /// With the versions before and after.
    pub fn versions(mut self, from: u64, to: u64) -> Self {
        self.from_version = from;
        self.to_version = to;
        self
    }

    /// With a comment.
    pub fn comment(mut self, text: &str) -> Self {
        self.comment = printable(text, COMMENT_CHARS_MAX);
        self
    }

    /// The entry as a line of JSON.
    fn line(&self) -> String {
        let time = jiff::Timestamp::try_from(self.time).unwrap_or_default();
        let value = json!({
            "time": time.to_string(),
            "actor": self.actor,
            "action": self.action.name(),
            "document": self.document,
            "from_version": self.from_version,
            "to_version": self.to_version,
            "comment": self.comment,
        });
        format!("{value}\n")
    }
}

/// The text on one line that a terminal can show, cut to a number of characters.
fn printable(text: &str, chars_max: usize) -> String {
    match text.char_indices().nth(chars_max) {
        Some((end, _)) => format!("{}…", document::printable(&text[..end])),
        None => document::printable(text).into_owned(),
    }
}

/// Where entries are written, beside the memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditFile {
    /// The file, appended to.
    pub path: PathBuf,
    /// Size at which it becomes `PATH.1`, and what was that `PATH.2`.
    pub bytes_max: u64,
    /// Earlier files kept.
    pub files_max: u32,
}

/// A line on its way to the file, and who waits for it.
type Line = (String, oneshot::Sender<()>);

/// The log. Cheap to clone; clones are the same log.
#[derive(Debug, Clone, Default)]
pub struct AuditLog {
    inner: Arc<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    kept: Mutex<Kept>,
    writer: Option<mpsc::Sender<Line>>,
    tasks: Tasks,
}

#[derive(Debug, Default)]
struct Kept {
    /// Number of the newest entry; the first is 1.
    newest: u64,
    /// Newest last, without gaps.
    entries: VecDeque<Arc<AuditEntry>>,
}

impl AuditLog {
    /// A log in memory, and in a file if one is given.
    ///
    /// # Errors
    /// When the file cannot be opened.
    pub fn open(file: Option<AuditFile>) -> std::io::Result<Self> {
        let Some(file) = file else { return Ok(Self::default()) };
        let log_file = LogFile::open(file)?;
        let (sender, lines) = mpsc::channel(QUEUE_MAX);
        let tasks = Tasks::new();
        tasks.spawn(write_lines(log_file, lines, tasks.clone()));
        Ok(Self { inner: Arc::new(Inner { kept: Mutex::default(), writer: Some(sender), tasks }) })
    }

    fn kept(&self) -> std::sync::MutexGuard<'_, Kept> {
        self.inner.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records a change. Returns when it is in the file, or when that is hopeless, which is logged.
    pub async fn record(&self, entry: AuditEntry) {
        tracing::info!(
            target: "mainstay::audit",
            actor = %entry.actor, action = entry.action.name(), document = %entry.document,
            from_version = entry.from_version, to_version = entry.to_version,
            comment = %entry.comment, "changed"
        );
        let line = self.inner.writer.is_some().then(|| entry.line());
        {
            let mut kept = self.kept();
            kept.newest += 1;
            kept.entries.push_back(Arc::new(entry));
            if kept.entries.len() > ENTRIES_MAX {
                kept.entries.pop_front();
            }
        }
        let (Some(writer), Some(line)) = (&self.inner.writer, line) else { return };
        let written = async {
            let (done, written) = oneshot::channel();
            writer.send((line, done)).await.is_ok() && written.await.is_ok()
        };
        if !matches!(tokio::time::timeout(WRITE_TIMEOUT, written).await, Ok(true)) {
            tracing::error!(target: "mainstay::audit", "an entry is not in the audit file");
        }
    }

    /// Entries newest first, each with its number: those numbered lower than `before`, if given,
    /// that are wanted, at most `most`.
    pub fn list(
        &self,
        before: Option<u64>,
        most: usize,
        wanted: impl Fn(&AuditEntry) -> bool,
    ) -> Vec<(u64, Arc<AuditEntry>)> {
        let kept = self.kept();
        let newest = kept.newest;
        kept.entries
            .iter()
            .rev()
            .zip((1..=newest).rev())
            .filter(|(entry, number)| before.is_none_or(|before| *number < before) && wanted(entry))
            .take(most)
            .map(|(entry, number)| (number, entry.clone()))
            .collect()
    }

    /// Writes what is on its way to the file and closes it.
    pub async fn close(&self) {
        self.inner.tasks.stop();
        self.inner.tasks.wait(WRITE_TIMEOUT).await;
    }
}

/// Writes lines in the order that they come, on the threads for blocking work. Ends when the log
/// is closed or gone.
async fn write_lines(file: LogFile, mut lines: mpsc::Receiver<Line>, tasks: Tasks) {
    let file = Arc::new(Mutex::new(file));
    loop {
        // Closing lets those in that were sent before, then ends the queue.
        let line = tokio::select! {
            biased;
            line = lines.recv() => line,
            () = tasks.stopping(), if !lines.is_closed() => {
                lines.close();
                continue;
            }
        };
        let Some((line, done)) = line else { return };
        let sink = file.clone();
        let written = tasks.spawn_blocking(move || {
            sink.lock().unwrap_or_else(PoisonError::into_inner).append(line.as_bytes())
        });
        match written.await {
            Ok(Ok(())) => {
                // Nobody waits any more if the time was over.
                let _ = done.send(());
            }
            Ok(Err(error)) => {
                tracing::error!(target: "mainstay::audit", %error, "the audit file cannot be written");
            }
            Err(error) => {
                tracing::error!(target: "mainstay::audit", %error, "the audit file was not written");
            }
        }
    }
}

#[cfg(test)]
mod tests;
