//! A SQLite file that one process owns: one connection on one thread, which everything that is
//! written goes through.
//!
//! Work comes as closures over a transaction, so that a subject (documents here, durable runs
//! beside them) is a file of statements and the way to disk is written once. A closure that fails
//! is rolled back by itself. What was answered `Ok` is on the disk.

pub mod documents;
mod lock;
pub mod outputs;

use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::Duration;

use rusqlite::{Connection, Transaction, TransactionBehavior};
use tokio::sync::oneshot;

use crate::tasks::Tasks;
use lock::FileLock;

/// `mst1`: tells our files from other people's.
const APPLICATION_ID: i32 = 0x6d73_7431;
/// One script a version of the schema, in order; only ever added to.
const MIGRATIONS: &[&str] = &[include_str!("schema_1.sql")];
/// The WAL-reset bug of older versions can corrupt a file.
const SQLITE_VERSION_MIN: i32 = 3_051_003;
/// Closures that wait for the writer. Beyond that, who asks is refused and not queued.
const WAITING_MAX: usize = 256;
/// How long somebody else may hold the file's lock before work is refused.
const BUSY_TIMEOUT: Duration = Duration::from_secs(2);

/// A file that cannot be opened, or work that it did not take.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another process has it.
    #[error("{} is in use by another process{}", path.display(), holder(.pid))]
    InUse {
        /// The file.
        path: PathBuf,
        /// Its process, where it can be read.
        pid: Option<u32>,
    },
    /// The folder or a file beside it cannot be made or read.
    #[error("cannot open {}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A file of something else.
    #[error("{} is not a store of this program", .0.display())]
    Foreign(PathBuf),
    /// A file of a later version of this program.
    #[error("{} has version {found} of the schema and this program knows up to {known}; use the newer program", path.display())]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: usize,
        /// Ours.
        known: usize,
    },
    /// A library that is too old.
    #[error("SQLite {0} is too old")]
    Library(&'static str),
    /// The file holds what this program never wrote.
    #[error("the store holds {0}")]
    Corrupt(String),
    /// The database refused.
    #[error("the store did not take it: {0}")]
    Sqlite(#[from] rusqlite::Error),
    /// More work waits than may.
    #[error("the store has more work waiting than it may")]
    Overloaded,
    /// The writer has ended.
    #[error("the store is closed")]
    Closed,
}

fn holder(pid: &Option<u32>) -> String {
    pid.map(|pid| format!(" (process {pid})")).unwrap_or_default()
}

type Job = Box<dyn FnOnce(&mut Connection) + Send>;

/// The store. Cheap to clone; the file is closed when the last clone is gone.
#[derive(Clone)]
pub struct Sqlite {
    jobs: mpsc::SyncSender<Job>,
}

impl Sqlite {
    /// Opens or makes the file, brings its schema up to date, and starts the writer. Blocks.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub fn open(path: &Path, tasks: &Tasks) -> Result<Self, StoreError> {
        let at = |source| StoreError::Io { path: path.to_path_buf(), source };
        if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            std::fs::create_dir_all(folder).map_err(at)?;
        }
        let lock = FileLock::take(path)?;
        let mut connection = Connection::open(path)?;
        prepare(&connection)?;
        migrate(&mut connection, path, APPLICATION_ID, MIGRATIONS)?;
        let (jobs, waiting) = mpsc::sync_channel::<Job>(WAITING_MAX);
        // A thread of its own and not the blocking pool: work is done in the order it came.
        tasks.spawn_blocking(move || {
            while let Ok(job) = waiting.recv() {
                job(&mut connection);
            }
            drop(connection);
            drop(lock);
        });
        Ok(Self { jobs })
    }

    /// Does work in a transaction of its own and waits until it is on the disk. Work that was
    /// taken is done even if the caller stops waiting.
    ///
    /// # Errors
    /// See [`StoreError`]; nothing of it is done then.
    pub async fn write<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Transaction<'_>) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (answer, answered) = oneshot::channel();
        let job: Job = Box::new(move |connection| {
            let result = within(connection, work);
            // Nobody waits any more; it is done all the same.
            let _ = answer.send(result);
        });
        self.jobs.try_send(job).map_err(|error| match error {
            mpsc::TrySendError::Full(_) => StoreError::Overloaded,
            mpsc::TrySendError::Disconnected(_) => StoreError::Closed,
        })?;
        answered.await.map_err(|_| StoreError::Closed)?
    }
}

fn within<T>(
    connection: &mut Connection,
    work: impl FnOnce(&Transaction<'_>) -> Result<T, StoreError>,
) -> Result<T, StoreError> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let result = work(&transaction)?;
    transaction.commit()?;
    Ok(result)
}

fn check_library() -> Result<(), StoreError> {
    if rusqlite::version_number() < SQLITE_VERSION_MIN {
        return Err(StoreError::Library(rusqlite::version()));
    }
    Ok(())
}

fn prepare(connection: &Connection) -> Result<(), StoreError> {
    check_library()?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    // FULL: what was answered survives a power cut, at the price of an fsync a change.
    connection.execute_batch(
        "PRAGMA auto_vacuum = INCREMENTAL;
         PRAGMA journal_mode = WAL;
         PRAGMA synchronous = FULL;
         PRAGMA wal_autocheckpoint = 1000;
         PRAGMA journal_size_limit = 67108864;
         PRAGMA foreign_keys = OFF;
         PRAGMA trusted_schema = OFF;",
    )?;
    Ok(())
}

/// Brings the schema of one of our files up to date. `own_application` tells what kind of file it is,
/// `migrations` has one script a version.
fn migrate(
    connection: &mut Connection,
    path: &Path,
    own_application: i32,
    migrations: &[&str],
) -> Result<(), StoreError> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let pragma =
        |name: &str| transaction.pragma_query_value(None, name, |row| row.get::<_, i32>(0));
    let (application, version) = (pragma("application_id")?, pragma("user_version")?);
    let tables: u32 =
        transaction.query_row("SELECT count(*) FROM sqlite_schema", (), |row| row.get(0))?;
    if application != own_application && (application != 0 || tables > 0) {
        return Err(StoreError::Foreign(path.to_path_buf()));
    }
    let found = usize::try_from(version).unwrap_or(usize::MAX);
    if found > migrations.len() {
        let known = migrations.len();
        return Err(StoreError::Newer { path: path.to_path_buf(), found, known });
    }
    for script in &migrations[found..] {
        transaction.execute_batch(script)?;
    }
    transaction.pragma_update(None, "application_id", own_application)?;
    transaction.pragma_update(None, "user_version", migrations.len() as u32)?;
    transaction.commit()?;
    Ok(())
}

#[cfg(test)]
mod tests;
