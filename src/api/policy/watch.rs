//! Policies as they change.
//!
//! A watcher holds a place in the library's history and nothing else: what it has not read yet is
//! not kept for it, it gets the newest state when it reads again. So no watcher can hold a push
//! back, and thousands cost next to nothing.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream;
use tokio::sync::watch;
use tonic::{Request, Response, Status};

use super::{PolicyApi, convert, status};
use crate::api::pb::policy_service_server::PolicyService;
use crate::api::{context, pb, watched};
use crate::control::ChangeError;
use crate::control::book::Book;
use crate::journal::documents::{Entry, Kind};
use crate::tasks::Tasks;

/// Names that one watcher may ask for.
const NAMES_MAX: usize = 500;
/// For watchers that set no deadline: longer than any connection is kept.
const FOREVER: Duration = Duration::from_secs(24 * 3_600);

struct Watcher {
    names: BTreeSet<String>,
    /// What the first message tells; `None` after it.
    start: Option<Arc<Book>>,
    changes: watch::Receiver<Arc<Book>>,
    /// The library's stamp up to which everything was sent.
    seen: u64,
    stop: Tasks,
    over: bool,
}

pub(super) async fn watch_policies(
    api: &PolicyApi,
    request: Request<pb::WatchPoliciesRequest>,
) -> Result<Response<<PolicyApi as PolicyService>::WatchPoliciesStream>, Status> {
    let limits = context::DeadlineLimits { default: FOREVER, cap: FOREVER };
    let deadline = context::deadline(&request, limits);
    let names = request.into_inner().names;
    if names.len() > NAMES_MAX {
        let fault = format!("has more than {NAMES_MAX} names");
        let fault = crate::api::status::FieldFault::new("names", fault);
        return Err(crate::api::status::of_faults(&[fault]));
    }
    // In this order, so that no change is between them.
    let changes = api.library.watch();
    let start = api.library.book();
    let watcher = Watcher {
        names: names.into_iter().collect(),
        start: Some(start),
        changes,
        seen: 0,
        stop: api.tasks.clone(),
        over: false,
    };
    let states = stream::unfold(watcher, |mut watcher| async move {
        let message = watcher.next().await?;
        Some((message, watcher))
    });
    Ok(Response::new(Box::pin(watched::until(states, deadline))))
}

impl Watcher {
    async fn next(&mut self) -> Option<Result<pb::WatchPoliciesResponse, Status>> {
        if self.over {
            return None;
        }
        if let Some(start) = self.start.take() {
            self.seen = start.stamp();
            // What was removed before the first message is nothing to tell.
            let policies = self.told(start.of(Kind::Policy));
            return Some(Ok(pb::WatchPoliciesResponse { policies }));
        }
        loop {
            tokio::select! {
                biased;
                () = self.stop.stopping() => return self.end(),
                changed = self.changes.changed() => {
                    if changed.is_err() {
                        return self.end();
                    }
                }
            }
            let book = self.changes.borrow_and_update().clone();
            let news = book.all(Kind::Policy).filter(|entry| entry.stamp > self.seen);
            let policies = self.told(news);
            // A watcher may be told later of what it read at its start.
            self.seen = self.seen.max(book.stamp());
            if !policies.is_empty() {
                return Some(Ok(pb::WatchPoliciesResponse { policies }));
            }
        }
    }

    fn end(&mut self) -> Option<Result<pb::WatchPoliciesResponse, Status>> {
        self.over = true;
        Some(Err(status::of_change(&ChangeError::Stopping)))
    }

    /// Those that it asked for.
    fn told<'a>(&self, entries: impl Iterator<Item = &'a Arc<Entry>>) -> Vec<pb::DocumentStatus> {
        entries
            .filter(|entry| self.names.is_empty() || self.names.contains(&*entry.name))
            .map(|entry| convert::status(entry))
            .collect()
    }
}
