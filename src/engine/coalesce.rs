//! Identical calls under way share one provider call, where the policy wants it.
//!
//! The first is the leader, the others follow it. What a leader ends with is shared only if it is an
//! output that the cache would keep. A leader that fails fails nobody else: who followed it goes on
//! by itself, under its own budget and deadline, and follows nobody again. When a leader goes away,
//! one of its followers becomes the leader.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

use super::cache::{CacheKey, Kept};

/// What a leader ended with; nothing while it is under way.
type Led = Option<Result<Arc<Kept>, Failed>>;

/// A leader that had nothing to share.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Failed;

/// Leaders under way; bounded by the runs that are.
#[derive(Debug, Default)]
pub struct Leaders {
    by_key: Arc<Mutex<HashMap<CacheKey, watch::Receiver<Led>>>>,
}

/// The part that a call plays.
#[derive(Debug)]
pub enum Part {
    /// It makes the provider call.
    Leader(Lead),
    /// It waits for who does.
    Follower(Follow),
}

/// What came of following.
#[derive(Debug)]
pub enum Followed {
    /// The leader's output.
    Output(Arc<Kept>),
    /// The leader had none.
    Failed,
    /// The leader went away: somebody else may lead.
    Left,
    /// The time was over before.
    Late,
}

/// A leader. Dropping it lets its followers go.
#[derive(Debug)]
pub struct Lead {
    key: CacheKey,
    by_key: Arc<Mutex<HashMap<CacheKey, watch::Receiver<Led>>>>,
    tell: watch::Sender<Led>,
}

/// A follower.
#[derive(Debug)]
pub struct Follow(watch::Receiver<Led>);

impl Leaders {
    /// Leads the calls of this key, or follows who does.
    pub fn join(&self, key: CacheKey) -> Part {
        let mut leaders = self.by_key.lock().unwrap_or_else(PoisonError::into_inner);
        match leaders.entry(key) {
            Entry::Occupied(leader) => Part::Follower(Follow(leader.get().clone())),
            Entry::Vacant(place) => {
                let (tell, led) = watch::channel(None);
                place.insert(led);
                Part::Leader(Lead { key, by_key: self.by_key.clone(), tell })
            }
        }
    }
}

impl Lead {
    /// Shares what the leader ended with.
    pub fn end(self, output: Option<Kept>) {
        let _ = self.tell.send(Some(output.map(Arc::new).ok_or(Failed)));
    }
}

impl Drop for Lead {
    fn drop(&mut self) {
        self.by_key.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.key);
    }
}

impl Follow {
    /// Waits for the leader, but not beyond `until`.
    pub async fn led(mut self, until: Instant) -> Followed {
        match timeout_at(until, self.0.wait_for(Option::is_some)).await {
            Ok(Ok(led)) => match &*led {
                Some(Ok(output)) => Followed::Output(output.clone()),
                Some(Err(Failed)) => Followed::Failed,
                None => Followed::Left,
            },
            Ok(Err(_)) => Followed::Left,
            Err(_) => Followed::Late,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::cache::Origin;
    use super::*;
    use crate::journal::{OutputBody, StepOutput};

    fn kept() -> Kept {
        Kept {
            output: StepOutput::plain(OutputBody::Text("shared".into())),
            origin: Origin { pipeline: "p".into(), step: "s".into(), target: "t".into() },
            stored: Instant::now(),
        }
    }

    fn key() -> CacheKey {
        CacheKey::new("t", b"s", &[])
    }

    fn lead(leaders: &Leaders) -> Lead {
        match leaders.join(key()) {
            Part::Leader(lead) => lead,
            Part::Follower(_) => panic!("somebody leads"),
        }
    }

    fn follow(leaders: &Leaders) -> Follow {
        match leaders.join(key()) {
            Part::Follower(follow) => follow,
            Part::Leader(_) => panic!("nobody leads"),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_leader_shares_its_output_and_never_its_failure() {
        let leaders = Leaders::default();
        let soon = Instant::now() + Duration::from_secs(1);
        let (leader, follower) = (lead(&leaders), follow(&leaders));
        leader.end(Some(kept()));
        let Followed::Output(output) = follower.led(soon).await else { panic!("an output") };
        assert_eq!(&*output.origin.target, "t");
        let (leader, follower) = (lead(&leaders), follow(&leaders));
        leader.end(None);
        assert!(matches!(follower.led(soon).await, Followed::Failed));
        let (leader, follower) = (lead(&leaders), follow(&leaders));
        drop(leader);
        assert!(matches!(follower.led(soon).await, Followed::Left));
        let (_leader, follower) = (lead(&leaders), follow(&leaders));
        assert!(matches!(follower.led(soon).await, Followed::Late));
        assert_eq!(Instant::now(), soon);
    }
}
