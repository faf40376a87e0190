//! What has been asked so far, for `GET /_sim/calls` and for tests. No prompt, answer or
//! credential is kept.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;
use serde::Serialize;

const RECENT_MAX: usize = 1_000;
const MODELS_MAX: usize = 1_000;
const SEQUENCES_MAX: usize = 50_000;
const NAME_MAX: usize = 128;

/// How a call ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Ended {
    /// It is being answered.
    Running,
    /// All that was to be sent was sent.
    Sent,
    /// The peer went away before.
    PeerLeft,
    /// We broke the connection, as a fault asked for.
    Broken,
    /// The simulator was stopped before, or the connection's time was over.
    Stopped,
}

/// One call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Call {
    /// Number since the start or the last reset, from 1.
    pub id: u64,
    /// When it was understood.
    pub time: Timestamp,
    /// The model asked, without an override.
    pub model: String,
    /// Number of the call of this model, from 1.
    pub number: u64,
    /// The dialect spoken.
    pub dialect: &'static str,
    /// A stream was asked for.
    pub stream: bool,
    /// What was hit: `faults[0] rate_limit`, `override fence`, `answers[2]`, `schema`, `echo`, …
    pub rules: Vec<String>,
    /// The status, though a broken connection may have kept it back.
    pub status: u16,
    /// How it ended.
    pub ended: Ended,
}

/// Counts of one model.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct ModelCounts {
    /// Calls.
    pub calls: u64,
    /// Calls by status.
    pub statuses: BTreeMap<u16, u64>,
    /// Hits by name of the fault.
    pub faults: BTreeMap<String, u64>,
}

/// A snapshot.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Calls {
    /// Calls since the start or the last reset.
    pub total: u64,
    /// By model.
    pub models: BTreeMap<String, ModelCounts>,
    /// The latest calls, oldest first, at most 1,000.
    pub recent: Vec<Call>,
}

impl Calls {
    /// Calls of a model.
    pub fn of(&self, model: &str) -> u64 {
        self.models.get(model).map_or(0, |counts| counts.calls)
    }
}

/// Where calls are written down. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Book(Arc<Mutex<Pages>>);

#[derive(Debug, Default)]
struct Pages {
    total: u64,
    /// Increased by a reset, so that a call from before it does not end one from after it.
    epoch: u64,
    models: BTreeMap<String, ModelCounts>,
    recent: VecDeque<Call>,
    sequences: HashMap<String, u64>,
}

/// A call that has been written down and not ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    epoch: u64,
    id: u64,
}

impl Book {
    fn pages(&self) -> std::sync::MutexGuard<'_, Pages> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next number of a sequence, from 1. With very many sequences all begin anew.
    pub fn next(&self, sequence: String) -> u64 {
        let mut pages = self.pages();
        if pages.sequences.len() >= SEQUENCES_MAX && !pages.sequences.contains_key(&sequence) {
            pages.sequences.clear();
        }
        let number = pages.sequences.entry(sequence).or_insert(0);
        *number += 1;
        *number
    }

    /// Writes a call down. Its `id` is given here.
    pub fn begin(&self, mut call: Call, faults: &[&'static str]) -> Entry {
        let mut pages = self.pages();
        call.model = call.model.chars().take(NAME_MAX).collect();
        pages.total += 1;
        call.id = pages.total;
        let entry = Entry { epoch: pages.epoch, id: call.id };
        let is_known = pages.models.contains_key(&call.model);
        let name =
            if is_known || pages.models.len() < MODELS_MAX { &call.model } else { "(other)" };
        let counts = pages.models.entry(name.to_owned()).or_default();
        counts.calls += 1;
        *counts.statuses.entry(call.status).or_default() += 1;
        for fault in faults {
            *counts.faults.entry((*fault).to_owned()).or_default() += 1;
        }
        if pages.recent.len() == RECENT_MAX {
            pages.recent.pop_front();
        }
        pages.recent.push_back(call);
        entry
    }

    /// Writes down how a call ended.
    pub fn end(&self, entry: Entry, ended: Ended) {
        let mut pages = self.pages();
        if pages.epoch == entry.epoch
            && let Some(call) = pages.recent.iter_mut().rev().find(|call| call.id == entry.id)
        {
            call.ended = ended;
        }
    }

    /// What is written down.
    pub fn snapshot(&self) -> Calls {
        self.newest(RECENT_MAX)
    }

    /// The counts, and of the latest calls so many at most.
    pub fn newest(&self, most: usize) -> Calls {
        let pages = self.pages();
        let left_out = pages.recent.len().saturating_sub(most);
        Calls {
            total: pages.total,
            models: pages.models.clone(),
            recent: pages.recent.iter().skip(left_out).cloned().collect(),
        }
    }

    /// Forgets everything, call numbers included: the script begins anew.
    pub fn reset(&self) {
        let mut pages = self.pages();
        let epoch = pages.epoch + 1;
        *pages = Pages { epoch, ..Pages::default() };
    }
}
