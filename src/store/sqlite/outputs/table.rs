//! The statements over cached outputs. All of them are of one table and none of them waits.

use std::fs::OpenOptions;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rusqlite::{Connection, OptionalExtension as _, Params, TransactionBehavior, params};
use sha2::{Digest as _, Sha256};

use super::{KeptVector, Neighbour, OutputKey, StoredOutput};
use crate::journal::encoding;
use crate::store::sqlite::{StoreError, check_library, migrate};

/// One script a version of the schema, in order; only ever added to.
const MIGRATIONS: &[&str] = &[include_str!("schema_1.sql")];
/// `mst2`: tells it from the store of documents.
const APPLICATION_ID: i32 = 0x6d73_7432;
/// How long somebody else (a backup, a look from a shell) may hold the file.
const BUSY_TIMEOUT: Duration = Duration::from_secs(1);
/// Bookkeeping of an output, for the bound.
const ROW_BYTES: u64 = 256;
/// Outputs deleted at once when there are too many bytes.
const EVICTED_AT_ONCE: u32 = 64;
const CHECK_SUM_BYTES: usize = 16;

fn micros(time: SystemTime) -> i64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
}

fn time(micros: i64) -> SystemTime {
    UNIX_EPOCH + Duration::from_micros(u64::try_from(micros).unwrap_or(0))
}

fn check_sum(key: &OutputKey, body: &[u8]) -> [u8; CHECK_SUM_BYTES] {
    let mut hash = Sha256::new();
    hash.update(key);
    hash.update(body);
    let mut sum = [0; CHECK_SUM_BYTES];
    sum.iter_mut().zip(hash.finalize()).for_each(|(to, from)| *to = from);
    sum
}

/// Opens or makes the file for its writer. Only its owner may read it: what it holds is what
/// callers were answered.
pub(super) fn open(path: &Path) -> Result<Connection, StoreError> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let io = |source| StoreError::Io { path: path.to_path_buf(), source };
    options.open(path).map_err(io)?;
    let mut connection = Connection::open(path)?;
    check_library()?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    // NORMAL: a power cut may lose the last outputs, never the file; no commit waits for the disk.
    // What is forgotten is overwritten, not only unlinked.
    connection.execute_batch(
        "PRAGMA auto_vacuum = INCREMENTAL;
         PRAGMA journal_mode = WAL;
         PRAGMA synchronous = NORMAL;
         PRAGMA wal_autocheckpoint = 1000;
         PRAGMA journal_size_limit = 16777216;
         PRAGMA secure_delete = ON;
         PRAGMA trusted_schema = OFF;",
    )?;
    migrate(&mut connection, path, APPLICATION_ID, MIGRATIONS)?;
    Ok(connection)
}

/// Opens the file for reading only, beside its writer.
pub(super) fn open_to_read(path: &Path) -> Result<Connection, StoreError> {
    let connection = Connection::open(path)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection.execute_batch("PRAGMA query_only = ON; PRAGMA trusted_schema = OFF;")?;
    Ok(connection)
}

/// Bytes of all outputs.
pub(super) fn total(connection: &Connection) -> Result<u64, StoreError> {
    let sum: i64 =
        connection
            .query_row("SELECT coalesce(sum(bytes), 0) FROM outputs", (), |row| row.get(0))?;
    Ok(u64::try_from(sum).unwrap_or(0))
}

/// Writes outputs over those of the same keys, and makes room for them. Returns the bytes of all.
pub(super) fn put(
    connection: &mut Connection,
    outputs: &[StoredOutput],
    mut total: u64,
    bytes_max: u64,
) -> Result<u64, StoreError> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let mut delete = transaction.prepare("DELETE FROM outputs WHERE key = ?1 RETURNING bytes")?;
    let mut insert = transaction
        .prepare("INSERT INTO outputs VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)")?;
    for output in outputs {
        let Some(body) = encoding::encode(&output.output) else { continue };
        let vector = output.neighbour.as_ref().map(|one| vector_bytes(&one.vector));
        let bytes = ROW_BYTES + (body.len() + vector.as_ref().map_or(0, Vec::len)) as u64;
        let before: Option<i64> = delete.query_row([&output.key], |row| row.get(0)).optional()?;
        total = total.saturating_sub(before.and_then(|b| u64::try_from(b).ok()).unwrap_or(0));
        total += bytes;
        insert.execute(params![
            output.key,
            output.pipeline,
            output.step,
            output.target,
            micros(output.stored),
            i64::try_from(bytes).unwrap_or(i64::MAX),
            check_sum(&output.key, &body),
            body,
            output.neighbour.as_ref().map(|one| one.neighbourhood),
            vector,
        ])?;
    }
    drop((delete, insert));
    while total > bytes_max {
        let freed = evict(&transaction)?;
        if freed == 0 {
            break;
        }
        total = total.saturating_sub(freed);
    }
    transaction.commit()?;
    Ok(total)
}

/// Deletes the oldest. Returns their bytes.
fn evict(connection: &Connection) -> Result<u64, StoreError> {
    let sql = "DELETE FROM outputs WHERE rowid IN
                 (SELECT rowid FROM outputs ORDER BY stored_at LIMIT ?1) RETURNING bytes";
    Ok(delete(connection, sql, [EVICTED_AT_ONCE])?.bytes)
}

/// What was deleted.
#[derive(Debug, Default)]
pub(super) struct Deleted {
    pub(super) outputs: u64,
    pub(super) bytes: u64,
}

/// Runs a statement that deletes and returns the bytes of each row.
fn delete(
    connection: &Connection,
    sql: &str,
    parameters: impl Params,
) -> Result<Deleted, StoreError> {
    let mut statement = connection.prepare(sql)?;
    let mut deleted = Deleted::default();
    for bytes in statement.query_map(parameters, |row| row.get::<_, i64>(0))? {
        deleted.outputs += 1;
        deleted.bytes += u64::try_from(bytes?).unwrap_or(0);
    }
    Ok(deleted)
}

/// Deletes what was stored before, and gives freed pages back.
pub(super) fn expire(connection: &Connection, before: SystemTime) -> Result<Deleted, StoreError> {
    let sql = "DELETE FROM outputs WHERE stored_at < ?1 RETURNING bytes";
    let deleted = delete(connection, sql, [micros(before)])?;
    // A page is given back with each step of the statement.
    let mut vacuum = connection.prepare("PRAGMA incremental_vacuum(1024)")?;
    let mut pages = vacuum.query(())?;
    while pages.next()?.is_some() {}
    Ok(deleted)
}

/// Deletes the outputs of a pipeline, a step, or both; all of them if neither is given. They are
/// gone from the log of writes too.
pub(super) fn forget(
    connection: &Connection,
    pipeline: Option<&str>,
    step: Option<&str>,
) -> Result<Deleted, StoreError> {
    let sql = "DELETE FROM outputs
                 WHERE (?1 IS NULL OR pipeline = ?1) AND (?2 IS NULL OR step = ?2)
                 RETURNING bytes";
    let deleted = delete(connection, sql, params![pipeline, step])?;
    // Who reads at this moment holds it back; then the next one does it.
    connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", (), |_| Ok(()))?;
    Ok(deleted)
}

/// The output of a key, if it is there and whole.
pub(super) fn find(
    connection: &Connection,
    key: &OutputKey,
) -> Result<Option<StoredOutput>, StoreError> {
    let mut statement = connection.prepare(
        "SELECT pipeline, step, target, stored_at, check_sum, body FROM outputs WHERE key = ?1",
    )?;
    let row = statement.query_row([key], |row| {
        let text = |at: usize| row.get::<_, String>(at).map(Arc::<str>::from);
        let sum: Vec<u8> = row.get(4)?;
        let body: Vec<u8> = row.get(5)?;
        Ok(([text(0)?, text(1)?, text(2)?], time(row.get(3)?), sum, body))
    });
    let Some(([pipeline, step, target], stored, sum, body)) = row.optional()? else {
        return Ok(None);
    };
    if sum != check_sum(key, &body) {
        return Err(StoreError::Corrupt("an output that is not what was written".to_owned()));
    }
    Ok(encoding::decode(&body).map(|output| StoredOutput {
        key: *key,
        pipeline,
        step,
        target,
        stored,
        output,
        neighbour: None,
    }))
}

/// The newest vectors, oldest first, so many bytes of them.
pub(super) fn vectors(
    connection: &Connection,
    bytes_max: usize,
) -> Result<Vec<KeptVector>, StoreError> {
    let mut statement = connection.prepare(
        "SELECT key, neighbourhood, vector, stored_at, pipeline, step FROM outputs
           WHERE vector IS NOT NULL ORDER BY stored_at DESC",
    )?;
    let mut rows = statement.query(())?;
    let (mut found, mut bytes) = (Vec::new(), 0);
    while let Some(row) = rows.next()? {
        let vector: Vec<u8> = row.get(2)?;
        bytes += vector.len();
        if bytes > bytes_max {
            break;
        }
        let neighbour = Neighbour { neighbourhood: row.get(1)?, vector: vector_of(&vector).into() };
        let text = |at: usize| row.get::<_, String>(at).map(Arc::<str>::from);
        let (pipeline, step, stored) = (text(4)?, text(5)?, time(row.get(3)?));
        found.push(KeptVector { key: row.get(0)?, neighbour, pipeline, step, stored });
    }
    found.reverse();
    Ok(found)
}

fn vector_bytes(vector: &[f32]) -> Vec<u8> {
    vector.iter().flat_map(|number| number.to_le_bytes()).collect()
}

fn vector_of(bytes: &[u8]) -> Vec<f32> {
    let (chunks, _) = bytes.as_chunks::<4>();
    chunks.iter().map(|four| f32::from_le_bytes(*four)).collect()
}
