//! The thread that owns the file: it alone opens, writes, moves aside and closes.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::SystemTime;

use rusqlite::{Connection, ErrorCode};
use tokio::sync::mpsc;

use super::{Health, OutputStoreSettings, Shared, StoreError, StoredOutput, Write, table};
use crate::store::sqlite::lock::FileLock;

/// Outputs written in one transaction.
const BATCH_MAX: usize = 64;

struct Open {
    connection: Connection,
    /// Bytes of all outputs.
    bytes: u64,
    _lock: FileLock,
}

pub(super) struct Writer {
    settings: OutputStoreSettings,
    shared: Arc<Shared>,
    open: Option<Open>,
    openings: u64,
}

impl Writer {
    pub(super) fn new(settings: OutputStoreSettings, shared: Arc<Shared>) -> Self {
        Self { settings, shared, open: None, openings: 0 }
    }

    pub(super) fn run(mut self, mut writes: mpsc::Receiver<Write>) {
        self.open();
        let mut batch = Vec::new();
        while let Some(write) = writes.blocking_recv() {
            let mut next = Some(write);
            // What waits is written at once, so that batches grow by themselves under load.
            while let Some(Write::Put(output)) = next {
                batch.push(*output);
                next = if batch.len() < BATCH_MAX { writes.try_recv().ok() } else { None };
            }
            self.put(&mut batch);
            match next {
                Some(Write::Forget { pipeline, step, answer }) => {
                    let _ = answer.send(self.forget(pipeline.as_deref(), step.as_deref()));
                }
                // Of a file that was begun anew meanwhile it says nothing.
                Some(Write::Broken(of, error)) if of == self.openings => self.trouble(&error),
                Some(Write::Broken(..)) => {}
                Some(Write::Sweep) => self.sweep(),
                Some(Write::Close) => return,
                Some(Write::Put(_)) | None => {}
            }
        }
    }

    fn put(&mut self, batch: &mut Vec<StoredOutput>) {
        if batch.is_empty() {
            return;
        }
        let bytes = batch.iter().map(|output| output.output.body.len()).sum();
        self.shared.waiting_bytes.fetch_sub(bytes, Ordering::Relaxed);
        let bytes_max = self.settings.bytes_max;
        let written = self.with(|open| {
            open.bytes = table::put(&mut open.connection, batch, open.bytes, bytes_max)?;
            Ok(())
        });
        if written.is_err() {
            self.shared.dropped.fetch_add(batch.len() as u64, Ordering::Relaxed);
        }
        batch.clear();
    }

    fn forget(&mut self, pipeline: Option<&str>, step: Option<&str>) -> Result<u64, StoreError> {
        if self.open.is_none() {
            self.open();
        }
        self.with(|open| {
            let deleted = table::forget(&open.connection, pipeline, step)?;
            open.bytes = open.bytes.saturating_sub(deleted.bytes);
            Ok(deleted.outputs)
        })
    }

    fn sweep(&mut self) {
        if self.open.is_none() {
            self.open();
        }
        // Before 1970 nothing was stored.
        let before = SystemTime::now().checked_sub(self.settings.age_max);
        let before = before.unwrap_or(SystemTime::UNIX_EPOCH);
        // What fails is told by `trouble`, and tried again the next time.
        let _ = self.with(|open| {
            let deleted = table::expire(&open.connection, before)?;
            open.bytes = open.bytes.saturating_sub(deleted.bytes);
            Ok(())
        });
    }

    /// Does something with the file. After an error it is known what to do about it.
    fn with<T>(
        &mut self,
        work: impl FnOnce(&mut Open) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let Some(open) = &mut self.open else { return Err(StoreError::Closed) };
        match work(open) {
            Ok(done) => {
                self.tell(Health::Well);
                Ok(done)
            }
            Err(error) => {
                self.trouble(&error);
                Err(error)
            }
        }
    }

    fn open(&mut self) {
        match opened(&self.settings.path) {
            Ok(open) => {
                self.open = Some(open);
                self.openings += 1;
                self.shared.opened.send_replace(self.openings);
                self.tell(Health::Well);
            }
            Err(error) => self.trouble(&error),
        }
    }

    fn trouble(&mut self, error: &StoreError) {
        if is_damage(error) && self.begin_anew(error) {
            return;
        }
        self.tell(Health::Trouble(error.to_string().into()));
    }

    /// Moves a damaged file aside and begins another. Returns whether that was done.
    fn begin_anew(&mut self, damage: &StoreError) -> bool {
        self.shared.opened.send_replace(0);
        self.open = None;
        let path = &self.settings.path;
        let aside = beside(path, ".damaged");
        // The log of writes belongs to what was moved and would spoil what comes.
        let moved = std::fs::rename(path, &aside).is_ok();
        let _ = std::fs::remove_file(beside(path, "-wal"));
        let _ = std::fs::remove_file(beside(path, "-shm"));
        let fresh = if moved { opened(path).ok() } else { None };
        let Some(open) = fresh else { return false };
        tracing::error!(
            error = %damage, moved_to = %aside.display(),
            "the durable cache was damaged and has been begun anew"
        );
        self.open = Some(open);
        self.openings += 1;
        self.shared.opened.send_replace(self.openings);
        self.tell(Health::Well);
        true
    }

    fn tell(&self, health: Health) {
        self.shared.health.send_if_modified(|known| {
            let other = *known != health;
            *known = health;
            other
        });
    }
}

fn opened(path: &Path) -> Result<Open, StoreError> {
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        std::fs::create_dir_all(folder)
            .map_err(|source| StoreError::Io { path: path.to_path_buf(), source })?;
    }
    let lock = FileLock::take(path)?;
    let connection = table::open(path)?;
    let bytes = table::total(&connection)?;
    Ok(Open { connection, bytes, _lock: lock })
}

fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    name.into()
}

/// Whether the file holds what this program cannot have written. One of another program, or of a
/// later version, is not damaged: it is left alone.
fn is_damage(error: &StoreError) -> bool {
    match error {
        StoreError::Corrupt(_) => true,
        StoreError::Sqlite(error) => matches!(
            error.sqlite_error_code(),
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase)
        ),
        StoreError::InUse { .. }
        | StoreError::Io { .. }
        | StoreError::Foreign(_)
        | StoreError::Newer { .. }
        | StoreError::Library(_)
        | StoreError::Overloaded
        | StoreError::Closed => false,
    }
}
