//! Documents in the SQLite file.
//!
//! An entry is written as a whole in one transaction: new versions are added, pruned ones deleted,
//! and the head says what serves. A reader sees the document before or after a change, never
//! between.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rusqlite::{Row, Transaction, params};
use serde::{Deserialize, Serialize};

use super::{Sqlite, StoreError};
use crate::document::{Position, Problem, Problems, Severity};
use crate::journal::documents::{Entry, Kind, Owner, Rejection, Rollout, RolloutState, Version};
use crate::policy::rollout::{Guards, Summary};

impl Sqlite {
    /// Every document.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn load_documents(&self) -> Result<Vec<Entry>, StoreError> {
        self.write(load).await
    }

    /// Makes the file hold what the entry says. All of it or, on an error, nothing.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn save_document(&self, entry: Entry) -> Result<(), StoreError> {
        self.write(move |transaction| save(transaction, &entry)).await
    }

    /// Forgets the head of a document of which nothing else is kept.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn forget_document(&self, kind: Kind, name: Arc<str>) -> Result<(), StoreError> {
        let forget = move |transaction: &Transaction<'_>| {
            transaction.execute(
                "DELETE FROM document_heads WHERE kind = ?1 AND name = ?2 AND active = 0",
                params![kind_code(kind), &*name],
            )?;
            Ok(())
        };
        self.write(forget).await
    }
}

const fn kind_code(kind: Kind) -> i64 {
    match kind {
        Kind::Policy => 1,
        Kind::Pipeline => 2,
    }
}

fn kind_of(code: i64) -> Result<Kind, StoreError> {
    match code {
        1 => Ok(Kind::Policy),
        2 => Ok(Kind::Pipeline),
        other => Err(StoreError::Corrupt(format!("a document of kind {other}"))),
    }
}

const fn owner_code(owner: Owner) -> i64 {
    match owner {
        Owner::File => 1,
        Owner::Api => 2,
        Owner::BuiltIn => 3,
    }
}

fn owner_of(code: i64) -> Result<Owner, StoreError> {
    match code {
        1 => Ok(Owner::File),
        2 => Ok(Owner::Api),
        3 => Ok(Owner::BuiltIn),
        other => Err(StoreError::Corrupt(format!("a document of owner {other}"))),
    }
}

fn micros(time: SystemTime) -> i64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
}

fn time(micros: i64) -> SystemTime {
    UNIX_EPOCH + Duration::from_micros(u64::try_from(micros).unwrap_or_default())
}

/// SQLite's integers are signed; none of ours comes near the border.
fn number(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

fn save(transaction: &Transaction<'_>, entry: &Entry) -> Result<(), StoreError> {
    let (kind, name) = (kind_code(entry.kind), &*entry.name);
    let seq: i64 = transaction.query_row(
        "UPDATE document_clock SET seq = seq + 1 WHERE one = 1 RETURNING seq",
        (),
        |row| row.get(0),
    )?;
    let mut statement = transaction
        .prepare("SELECT version FROM document_versions WHERE kind = ?1 AND name = ?2")?;
    let there: HashSet<i64> =
        statement.query_map(params![kind, name], |row| row.get(0))?.collect::<Result<_, _>>()?;
    for version in entry.versions.iter().filter(|v| !there.contains(&number(v.version))) {
        insert(transaction, kind, version)?;
    }
    for pruned in there.iter().filter(|v| entry.versions.iter().all(|k| number(k.version) != **v)) {
        transaction.execute(
            "DELETE FROM document_versions WHERE kind = ?1 AND name = ?2 AND version = ?3",
            params![kind, name, pruned],
        )?;
    }
    transaction.execute(
        "INSERT INTO document_heads (kind, name, owner, active, last, seq) VALUES (?1, ?2, ?3, ?4, ?5, ?6)
         ON CONFLICT (kind, name) DO UPDATE SET owner = ?3, active = ?4, last = ?5, seq = ?6",
        params![kind, name, owner_code(entry.owner), number(entry.active), number(entry.last), seq],
    )?;
    match &entry.rejection {
        Some(rejection) => transaction.execute(
            "INSERT OR REPLACE INTO document_rejections (kind, name, body) VALUES (?1, ?2, ?3)",
            params![kind, name, json(&RejectionBody::of(rejection))?],
        )?,
        None => transaction.execute(
            "DELETE FROM document_rejections WHERE kind = ?1 AND name = ?2",
            params![kind, name],
        )?,
    };
    match (&entry.rollout, entry.kind) {
        (Some(rollout), _) => transaction.execute(
            "INSERT OR REPLACE INTO policy_rollouts (name, body) VALUES (?1, ?2)",
            params![name, json(&RolloutBody::of(rollout))?],
        )?,
        (None, Kind::Policy) => {
            transaction.execute("DELETE FROM policy_rollouts WHERE name = ?1", params![name])?
        }
        (None, Kind::Pipeline) => 0,
    };
    Ok(())
}

fn insert(transaction: &Transaction<'_>, kind: i64, version: &Version) -> Result<(), StoreError> {
    transaction.execute(
        "INSERT INTO document_versions (kind, name, version, sha256, body, owner, author, comment, created_at, rollback_of)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
        params![
            kind,
            &*version.name,
            number(version.version),
            &*version.content_hash,
            &*version.text,
            owner_code(version.owner),
            &*version.author,
            &*version.comment,
            micros(version.created),
            number(version.rollback_of),
        ],
    )?;
    Ok(())
}

type Loaded = BTreeMap<(i64, String), Entry>;

fn load(transaction: &Transaction<'_>) -> Result<Vec<Entry>, StoreError> {
    let mut entries = heads(transaction)?;
    let mut statement = transaction.prepare(
        "SELECT kind, name, version, sha256, body, owner, author, comment, created_at, rollback_of
         FROM document_versions ORDER BY kind, name, version",
    )?;
    let mut rows = statement.query(())?;
    while let Some(row) = rows.next()? {
        let version = version(row)?;
        if let Some(entry) = entries.get_mut(&key(row)?) {
            entry.versions.push(Arc::new(version));
        }
    }
    let mut statement = transaction.prepare("SELECT kind, name, body FROM document_rejections")?;
    let mut rows = statement.query(())?;
    while let Some(row) = rows.next()? {
        let body: RejectionBody = parse(&row.get::<_, String>(2)?)?;
        if let Some(entry) = entries.get_mut(&key(row)?) {
            entry.rejection = Some(Arc::new(body.rejection()?));
        }
    }
    let mut statement = transaction.prepare("SELECT name, body FROM policy_rollouts")?;
    let mut rows = statement.query(())?;
    while let Some(row) = rows.next()? {
        let body: RolloutBody = parse(&row.get::<_, String>(1)?)?;
        if let Some(entry) = entries.get_mut(&(kind_code(Kind::Policy), row.get(0)?)) {
            entry.rollout = Some(Arc::new(body.rollout()?));
        }
    }
    let entries: Vec<Entry> = entries.into_values().collect();
    match entries.iter().find(|entry| entry.active != 0 && entry.active_version().is_none()) {
        Some(entry) => Err(StoreError::Corrupt(format!(
            "{} `{}` without its active version {}",
            entry.kind.name(),
            entry.name,
            entry.active
        ))),
        None => Ok(entries),
    }
}

fn heads(transaction: &Transaction<'_>) -> Result<Loaded, StoreError> {
    let mut statement =
        transaction.prepare("SELECT kind, name, owner, active, last FROM document_heads")?;
    let mut rows = statement.query(())?;
    let mut entries = Loaded::new();
    while let Some(row) = rows.next()? {
        let key = key(row)?;
        let mut entry = Entry::new(kind_of(key.0)?, key.1.as_str().into(), owner_of(row.get(2)?)?);
        entry.active = unsigned(row, 3)?;
        entry.last = unsigned(row, 4)?;
        entries.insert(key, entry);
    }
    Ok(entries)
}

fn key(row: &Row<'_>) -> Result<(i64, String), StoreError> {
    Ok((row.get(0)?, row.get(1)?))
}

fn unsigned(row: &Row<'_>, column: usize) -> Result<u64, StoreError> {
    let value: i64 = row.get(column)?;
    u64::try_from(value).map_err(|_| StoreError::Corrupt(format!("the number {value}")))
}

fn version(row: &Row<'_>) -> Result<Version, StoreError> {
    let text = |column| row.get::<_, String>(column).map(Arc::<str>::from);
    Ok(Version {
        name: text(1)?,
        version: unsigned(row, 2)?,
        content_hash: text(3)?,
        text: text(4)?,
        owner: owner_of(row.get(5)?)?,
        author: text(6)?,
        comment: text(7)?,
        created: time(row.get(8)?),
        rollback_of: unsigned(row, 9)?,
    })
}

fn json(body: &impl Serialize) -> Result<String, StoreError> {
    serde_json::to_string(body).map_err(|error| StoreError::Corrupt(error.to_string()))
}

fn parse<T: serde::de::DeserializeOwned>(text: &str) -> Result<T, StoreError> {
    serde_json::from_str(text).map_err(|error| StoreError::Corrupt(error.to_string()))
}

#[derive(Serialize, Deserialize)]
struct ProblemBody {
    error: bool,
    path: String,
    line: u32,
    column: u32,
    message: String,
    suggestion: Option<String>,
}

#[derive(Serialize, Deserialize)]
struct RejectionBody {
    sha256: String,
    owner: i64,
    at: i64,
    problems: Vec<ProblemBody>,
}

impl RejectionBody {
    fn of(rejection: &Rejection) -> Self {
        let problem = |problem: &Problem| ProblemBody {
            error: problem.severity == Severity::Error,
            path: problem.path.clone(),
            line: problem.position.line,
            column: problem.position.column,
            message: problem.message.clone(),
            suggestion: problem.suggestion.clone(),
        };
        Self {
            sha256: rejection.content_hash.to_string(),
            owner: owner_code(rejection.owner),
            at: micros(rejection.time),
            problems: rejection.problems.0.iter().map(problem).collect(),
        }
    }

    fn rejection(self) -> Result<Rejection, StoreError> {
        let problem = |body: ProblemBody| Problem {
            severity: if body.error { Severity::Error } else { Severity::Warning },
            path: body.path,
            position: Position { line: body.line, column: body.column },
            message: body.message,
            suggestion: body.suggestion,
        };
        Ok(Rejection {
            content_hash: self.sha256.into(),
            owner: owner_of(self.owner)?,
            time: time(self.at),
            problems: Problems(self.problems.into_iter().map(problem).collect()),
        })
    }
}

#[derive(Serialize, Deserialize)]
struct SummaryBody {
    runs: u64,
    failed_share: f64,
    degraded_share: f64,
    cost_usd_per_run: f64,
    latency_p95_us: u64,
}

#[derive(Serialize, Deserialize)]
struct RolloutBody {
    version: u64,
    base: u64,
    share: f64,
    sample_min: u32,
    failed_share_max_increase: Option<f64>,
    degraded_share_max_increase: Option<f64>,
    cost_max_increase: Option<f64>,
    latency_p95_max_increase: Option<f64>,
    promote_after_us: Option<u64>,
    state: i64,
    reason: String,
    started_at: i64,
    figures: [SummaryBody; 2],
}

fn long(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

impl RolloutBody {
    fn of(rollout: &Rollout) -> Self {
        let guards = &rollout.guards;
        Self {
            version: rollout.version,
            base: rollout.base,
            share: rollout.share,
            sample_min: guards.sample_min,
            failed_share_max_increase: guards.failed_share_max_increase,
            degraded_share_max_increase: guards.degraded_share_max_increase,
            cost_max_increase: guards.cost_max_increase,
            latency_p95_max_increase: guards.latency_p95_max_increase,
            promote_after_us: guards.promote_after.map(long),
            state: match rollout.state {
                RolloutState::Active => 1,
                RolloutState::Promoted => 2,
                RolloutState::RolledBack => 3,
            },
            reason: rollout.reason.to_string(),
            started_at: micros(rollout.started),
            figures: rollout.figures.map(|summary| SummaryBody {
                runs: summary.runs,
                failed_share: summary.failed_share,
                degraded_share: summary.degraded_share,
                cost_usd_per_run: summary.cost_usd_per_run,
                latency_p95_us: long(summary.latency_p95),
            }),
        }
    }

    fn rollout(self) -> Result<Rollout, StoreError> {
        Ok(Rollout {
            version: self.version,
            base: self.base,
            share: self.share,
            guards: Guards {
                sample_min: self.sample_min,
                failed_share_max_increase: self.failed_share_max_increase,
                degraded_share_max_increase: self.degraded_share_max_increase,
                cost_max_increase: self.cost_max_increase,
                latency_p95_max_increase: self.latency_p95_max_increase,
                promote_after: self.promote_after_us.map(Duration::from_micros),
            },
            state: match self.state {
                1 => RolloutState::Active,
                2 => RolloutState::Promoted,
                3 => RolloutState::RolledBack,
                other => return Err(StoreError::Corrupt(format!("a rollout in state {other}"))),
            },
            reason: self.reason.into(),
            started: time(self.started_at),
            figures: self.figures.map(|body| Summary {
                runs: body.runs,
                failed_share: body.failed_share,
                degraded_share: body.degraded_share,
                cost_usd_per_run: body.cost_usd_per_run,
                latency_p95: Duration::from_micros(body.latency_p95_us),
            }),
        })
    }
}
