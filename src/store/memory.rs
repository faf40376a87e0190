//! Runs in memory: everything is forgotten when the process ends.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::engine::events::Events;
use crate::journal::{RunRecord, RunState};

type Tenant = Arc<str>;

/// What a key stands for: digest of the request, and the run.
type Bound = ([u8; 32], Arc<str>);

/// A run that can be looked at, waited for and cancelled.
#[derive(Debug)]
pub struct RunHandle {
    record: watch::Sender<Arc<RunRecord>>,
    /// What happens in it, live.
    pub events: Arc<Events>,
    /// Ends it.
    pub cancel: CancellationToken,
}

impl RunHandle {
    /// The run as it is now.
    pub fn record(&self) -> Arc<RunRecord> {
        self.record.borrow().clone()
    }

    /// Changes the record and wakes who watches it.
    pub fn update(&self, change: impl FnOnce(&mut RunRecord)) {
        self.record.send_modify(|record| change(Arc::make_mut(record)));
    }

    /// Watches the record.
    pub fn watch(&self) -> watch::Receiver<Arc<RunRecord>> {
        self.record.subscribe()
    }

    /// Waits until the run has ended.
    pub async fn ended(&self) -> Arc<RunRecord> {
        let mut watch = self.watch();
        match watch.wait_for(|record| record.state.ended()).await {
            Ok(record) => record.clone(),
            // The sender lives as long as `self`.
            Err(_) => self.record(),
        }
    }
}

/// What came of offering a run.
pub enum Accepted {
    /// It is new.
    New(Arc<RunHandle>),
    /// The same request came before under the same key.
    Existing(Arc<RunHandle>),
}

/// A run that cannot be taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Conflict {
    /// The key stands for another request.
    KeyReused,
    /// The id is taken.
    RunIdTaken,
}

/// All runs of the process. Ended ones are forgotten, oldest first, beyond a bound.
#[derive(Debug)]
pub struct Runs {
    ended_max: usize,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    by_id: HashMap<(Tenant, Arc<str>), Arc<RunHandle>>,
    by_key: HashMap<(Tenant, Arc<str>), Bound>,
    order: VecDeque<(Tenant, Arc<str>)>,
}

impl Runs {
    /// An empty store that remembers this many runs.
    pub fn new(ended_max: usize) -> Self {
        Self { ended_max, inner: Mutex::default() }
    }

    fn inner(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a run in, once per idempotency key and request.
    ///
    /// # Errors
    /// See [`Conflict`].
    pub fn accept(
        &self,
        record: RunRecord,
        request_digest: [u8; 32],
    ) -> Result<Accepted, Conflict> {
        let mut inner = self.inner();
        let tenant = record.tenant.clone();
        if let Some(key) = &record.idempotency_key
            && let Some((digest, run_id)) = inner.by_key.get(&(tenant.clone(), key.clone()))
        {
            if *digest != request_digest {
                return Err(Conflict::KeyReused);
            }
            if let Some(handle) = inner.by_id.get(&(tenant.clone(), run_id.clone())) {
                return Ok(Accepted::Existing(handle.clone()));
            }
        }
        let id = (tenant.clone(), record.run_id.clone());
        if inner.by_id.contains_key(&id) {
            return Err(Conflict::RunIdTaken);
        }
        if let Some(key) = &record.idempotency_key {
            inner.by_key.insert((tenant, key.clone()), (request_digest, record.run_id.clone()));
        }
        let handle = Arc::new(RunHandle {
            record: watch::Sender::new(Arc::new(record)),
            events: Arc::default(),
            cancel: CancellationToken::new(),
        });
        inner.by_id.insert(id.clone(), handle.clone());
        inner.order.push_back(id);
        inner.forget(self.ended_max);
        Ok(Accepted::New(handle))
    }

    /// The run of this id.
    pub fn get(&self, tenant: &str, run_id: &str) -> Option<Arc<RunHandle>> {
        self.inner().by_id.get(&(tenant.into(), run_id.into())).cloned()
    }

    /// Runs of a tenant, newest first, after the run `after` if given.
    pub fn list(
        &self,
        tenant: &str,
        after: Option<&str>,
        most: usize,
        wanted: impl Fn(&RunRecord) -> bool,
    ) -> Vec<Arc<RunRecord>> {
        let inner = self.inner();
        let mut skipping = after.is_some();
        inner
            .order
            .iter()
            .rev()
            .filter(|(owner, _)| **owner == *tenant)
            .filter(|(_, run_id)| {
                let skip = skipping;
                if after == Some(&**run_id) {
                    skipping = false;
                }
                !skip
            })
            .filter_map(|id| inner.by_id.get(id))
            .map(|handle| handle.record())
            .filter(|record| wanted(record))
            .take(most)
            .collect()
    }

    /// Runs under way.
    pub fn running(&self) -> Vec<Arc<RunHandle>> {
        self.inner()
            .by_id
            .values()
            .filter(|handle| !handle.record().state.ended())
            .cloned()
            .collect()
    }
}

impl Inner {
    fn forget(&mut self, most: usize) {
        // Runs under way stay; they are bounded by admission.
        let mut looked_at = 0;
        while self.by_id.len() > most && looked_at < 64 {
            looked_at += 1;
            let Some(id) = self.order.pop_front() else { return };
            let Some(handle) = self.by_id.get(&id) else { continue };
            let record = handle.record();
            if !record.state.ended() {
                self.order.push_back(id);
                continue;
            }
            self.by_id.remove(&id);
            if let Some(key) = &record.idempotency_key {
                self.by_key.remove(&(id.0, key.clone()));
            }
        }
    }
}

/// Marks a run as cancelled unless it has ended: for runs that end with their call.
pub fn cancel_if_running(handle: &RunHandle) {
    if !handle.record().state.ended() {
        handle.update(|record| {
            record.state = RunState::Cancelled;
            record.ended = Some(std::time::SystemTime::now());
        });
    }
}
