//! Changes on their way to those who watch, a few of them at a time.
//!
//! Thousands who all wake at once keep the threads from runs for as long as it takes to write to
//! each. So they are in groups that are told one after the other, and what waits for a thread gets
//! its turn in between. What changes during a round is told with the next one.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use super::book::Book;

/// Groups of those who watch.
const GROUPS: usize = 64;
/// Between two groups.
const PAUSE: Duration = Duration::from_millis(1);
/// Longest rest after a round.
const REST_MAX: Duration = Duration::from_secs(1);

/// Who watches, in groups.
pub(super) struct Rounds {
    groups: Box<[watch::Sender<Arc<Book>>]>,
    joined: AtomicUsize,
}

impl Rounds {
    pub(super) fn new() -> Self {
        let groups = (0..GROUPS).map(|_| watch::Sender::default()).collect();
        Self { groups, joined: AtomicUsize::new(0) }
    }

    /// A place in one of the groups. What is in it from the start is nothing: who joins reads the
    /// library first.
    pub(super) fn join(&self) -> watch::Receiver<Arc<Book>> {
        let joined = self.joined.fetch_add(1, Ordering::Relaxed);
        self.groups[joined % GROUPS].subscribe()
    }

    /// Tells everybody of each change, as long as there may be changes. After a round there is a
    /// rest as long as the round, so that however fast changes come, runs have half of the time to
    /// themselves.
    pub(super) async fn tell(&self, mut published: watch::Receiver<Arc<Book>>) {
        while published.changed().await.is_ok() {
            let began = Instant::now();
            // Nobody is told of a change through an empty group: who joins it reads the library.
            for group in self.groups.iter().filter(|group| group.receiver_count() > 0) {
                // Not marked as seen: of a change in the middle of a round the groups before have
                // not been told, so there is another round.
                let book = published.borrow().clone();
                group.send_replace(book);
                sleep(PAUSE).await;
            }
            sleep(began.elapsed().min(REST_MAX)).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::timeout;

    use super::*;
    use crate::journal::documents::Kind;

    /// A library that has changed so often.
    fn changed(times: u64) -> Arc<Book> {
        let mut book = Book::default();
        for _ in 0..times {
            let proposal = super::super::writer::built_in(Kind::Policy, "p", "policy: {}");
            let entry = book.with(&proposal, 1, std::time::SystemTime::UNIX_EPOCH);
            book.put(entry);
        }
        Arc::new(book)
    }

    #[tokio::test(start_paused = true)]
    async fn everybody_is_told_the_newest_and_not_all_at_once() {
        let (publish, published) = watch::channel(changed(0));
        let rounds = Rounds::new();
        let mut watching: Vec<_> = (0..10 * GROUPS).map(|_| rounds.join()).collect();
        let all = watching.len();
        let told = |stamp: u64| watching.iter().filter(|one| one.borrow().stamp() == stamp).count();
        let look = async {
            publish.send_replace(changed(1));
            while told(1) < all / 4 {
                sleep(PAUSE).await;
            }
            assert!(told(1) < all, "they are told in groups");
            publish.send_replace(changed(2));
            while told(1) + told(2) < all {
                sleep(PAUSE).await;
            }
            // Those who had not been told yet are told the newest, the others with the next round.
            assert!(told(1) >= all / 4 && told(2) > 0, "{} {}", told(1), told(2));
            while told(2) < all {
                sleep(PAUSE).await;
            }
        };
        tokio::select! {
            looked = timeout(Duration::from_secs(60), look) => looked.unwrap(),
            () = rounds.tell(published) => unreachable!("there may be changes"),
        }
        assert!(watching.iter_mut().all(|one| one.has_changed().is_ok_and(|changed| changed)));
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_alone_is_told_at_once_and_the_end_of_changes_is_the_end() {
        let (publish, published) = watch::channel(changed(0));
        let rounds = Rounds::new();
        let mut alone = rounds.join();
        let began = Instant::now();
        publish.send_replace(changed(1));
        tokio::select! {
            changed = alone.changed() => changed.unwrap(),
            () = rounds.tell(published.clone()) => unreachable!("there may be changes"),
        }
        assert_eq!((alone.borrow().stamp(), began.elapsed()), (1, Duration::ZERO));
        drop(publish);
        rounds.tell(published).await;
    }
}
