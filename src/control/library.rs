//! The library of documents, as everybody sees it: read at any time, changed through one writer.
//!
//! Reading takes no lock that a change holds. Changes queue up in a bounded queue and are taken at
//! a bounded pace; what is beyond is refused, so that a storm of pushes takes nothing from runs.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::book::Book;
use super::change::{ChangeError, Done, Push, Removal, Rollback, RolloutEnd, Stored};
use super::older::Older;
use super::rounds::Rounds;
use super::seed::{self, LibrarySettings, SeedError};
use super::writer::files::Scan;
use super::writer::{Writer, not_found};
use super::{Documents, Report, Source, watch as files};
use crate::document::Problems;
use crate::engine::active_policy::{ActiveDocuments, PipelineVersion};
use crate::journal::documents::{Entry, Kind, Rollout, Version};
use crate::tasks::Tasks;

/// Changes that wait for the writer.
const WAITING_MAX: usize = 64;
/// Documents that are being checked at once without being stored.
const CHECKS_MAX: usize = 2;
/// How often rollouts are looked at.
const ROLLOUT_PERIOD: Duration = Duration::from_millis(250);

/// The library. Cheap to clone.
#[derive(Clone)]
pub struct Library {
    inner: Arc<Inner>,
}

struct Inner {
    commands: mpsc::Sender<Command>,
    book: watch::Receiver<Arc<Book>>,
    rounds: Arc<Rounds>,
    active: Arc<ActiveDocuments>,
    checker: Documents,
    checks: Semaphore,
    older: Older,
    pace: Mutex<Pace>,
    tasks: Tasks,
}

type Answer = oneshot::Sender<Result<Done, ChangeError>>;

enum Command {
    Push(Box<Push>, Answer),
    Rollback(Rollback, Answer),
    EndRollout(RolloutEnd, Answer),
    Remove(Removal, Answer),
    Scan(Scan),
}

impl Library {
    /// Opens the library and starts what keeps it: the writer and the watchers of files. Warnings
    /// are in the reports.
    ///
    /// # Errors
    /// See [`SeedError`].
    pub async fn open(settings: LibrarySettings) -> Result<(Self, Vec<Report>), SeedError> {
        seed::open(settings).await
    }

    /// What serves.
    pub fn active(&self) -> &Arc<ActiveDocuments> {
        &self.inner.active
    }

    /// Every document as it is now.
    pub fn book(&self) -> Arc<Book> {
        self.inner.book.borrow().clone()
    }

    /// Every document after each change from now on. Who is slow sees the newest only, and who
    /// reads [`Self::book`] after this misses nothing.
    pub fn watch(&self) -> watch::Receiver<Arc<Book>> {
        self.inner.rounds.join()
    }

    /// A document.
    ///
    /// # Errors
    /// [`ChangeError::NotFound`].
    pub fn entry(&self, kind: Kind, name: &str) -> Result<Arc<Entry>, ChangeError> {
        let book = self.book();
        book.get(kind, name).cloned().ok_or_else(|| not_found(&book, kind, name))
    }

    /// Resolves when the service goes down.
    pub fn tasks(&self) -> &Tasks {
        &self.inner.tasks
    }

    /// Everything that is wrong with a document, without storing it.
    ///
    /// # Errors
    /// When it could not be looked at.
    pub async fn check(&self, kind: Kind, text: String) -> Result<Problems, ChangeError> {
        let inner = &self.inner;
        let _place = inner.checks.acquire().await.map_err(|_| ChangeError::Stopping)?;
        let (checker, names) = (inner.checker.clone(), self.policy_names());
        let checked = inner.tasks.spawn_blocking(move || match kind {
            Kind::Policy => checker.check_policy("policy", &text),
            Kind::Pipeline => checker.check_pipeline("pipeline", &text, Some(&names)),
        });
        checked.await.map_err(|_| ChangeError::Internal)
    }

    /// Whether a change would be taken at this moment.
    ///
    /// # Errors
    /// [`ChangeError::Busy`].
    pub fn may_change(&self) -> Result<(), ChangeError> {
        self.inner.pace(Pace::look)
    }

    /// Stores a document and puts it in force.
    ///
    /// # Errors
    /// See [`ChangeError`]; nothing has changed then.
    pub async fn push(&self, push: Push) -> Result<Stored, ChangeError> {
        self.inner.pace(Pace::take)?;
        let done = self.ask(|answer| Command::Push(Box::new(push), answer)).await?;
        stored(done)
    }

    /// Takes an old version up again.
    ///
    /// # Errors
    /// See [`ChangeError`]; nothing has changed then.
    pub async fn rollback(&self, rollback: Rollback) -> Result<Stored, ChangeError> {
        self.inner.pace(Pace::take)?;
        stored(self.ask(|answer| Command::Rollback(rollback, answer)).await?)
    }

    /// Ends a rollout by hand. Not held to the pace: it is what one does in an emergency.
    ///
    /// # Errors
    /// See [`ChangeError`]; nothing has changed then.
    pub async fn end_rollout(&self, end: RolloutEnd) -> Result<Arc<Rollout>, ChangeError> {
        match self.ask(|answer| Command::EndRollout(end, answer)).await? {
            Done::Ended(rollout) => Ok(rollout),
            Done::Stored(_) | Done::Removed(_) => Err(ChangeError::Internal),
        }
    }

    /// Takes a document out of service; gives the version that served.
    ///
    /// # Errors
    /// See [`ChangeError`]; nothing has changed then.
    pub async fn remove(&self, removal: Removal) -> Result<Arc<Version>, ChangeError> {
        self.inner.pace(Pace::take)?;
        match self.ask(|answer| Command::Remove(removal, answer)).await? {
            Done::Removed(version) => Ok(version),
            Done::Stored(_) | Done::Ended(_) => Err(ChangeError::Internal),
        }
    }

    /// A pipeline in a version that need not serve. One that does not is compiled again, off the
    /// threads that serve calls, and kept for the next run that asks for it.
    ///
    /// # Errors
    /// [`ChangeError::NotFound`], [`ChangeError::VersionNotFound`], or what does not fit this
    /// server any more.
    pub async fn pipeline(
        &self,
        name: &str,
        version: u64,
    ) -> Result<Arc<PipelineVersion>, ChangeError> {
        let inner = &self.inner;
        let entry = self.entry(Kind::Pipeline, name)?;
        let stored = entry.version(version).cloned();
        let stored = stored.ok_or_else(|| ChangeError::version_not_found(&entry, version))?;
        if let Some(known) = inner.older.get(&stored) {
            return Ok(known);
        }
        let _place = inner.checks.acquire().await.map_err(|_| ChangeError::Stopping)?;
        let (checker, names) = (inner.checker.clone(), self.policy_names());
        let source = Source {
            name: name.to_owned(),
            origin: format!("pipeline {name} version {version}"),
            text: stored.text.clone(),
        };
        let compile = move || checker.pipeline(&source, version, Some(&names));
        match inner.tasks.spawn_blocking(compile).await {
            Ok(Ok((compiled, _))) => Ok(inner.older.keep(Arc::new(compiled))),
            // It was right once; it is the server around it that has changed.
            Ok(Err(refused)) => Err(ChangeError::Unmet(refused.into_problems().sorted())),
            Err(_) => Err(ChangeError::Internal),
        }
    }

    /// Names of the policies that serve.
    fn policy_names(&self) -> Vec<String> {
        let snapshot = self.inner.active.snapshot();
        snapshot.policies.keys().map(|name| name.to_string()).collect()
    }

    async fn ask(&self, command: impl FnOnce(Answer) -> Command) -> Result<Done, ChangeError> {
        let (answer, answered) = oneshot::channel();
        self.inner.commands.try_send(command(answer)).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => {
                ChangeError::Busy { retry_after: Duration::from_secs(1) }
            }
            mpsc::error::TrySendError::Closed(_) => ChangeError::Stopping,
        })?;
        answered.await.map_err(|_| ChangeError::Stopping)?
    }
}

fn stored(done: Done) -> Result<Stored, ChangeError> {
    match done {
        Done::Stored(stored) => Ok(*stored),
        Done::Ended(_) | Done::Removed(_) => Err(ChangeError::Internal),
    }
}

impl Inner {
    fn pace(
        &self,
        ask: impl FnOnce(&mut Pace, Instant) -> Result<(), Duration>,
    ) -> Result<(), ChangeError> {
        let mut pace = self.pace.lock().unwrap_or_else(PoisonError::into_inner);
        ask(&mut pace, Instant::now()).map_err(|retry_after| ChangeError::Busy { retry_after })
    }
}

/// How fast changes are taken: so many a second, and two seconds' worth at once.
struct Pace {
    per_second: f64,
    left: f64,
    at: Instant,
}

impl Pace {
    fn new(per_second: u32, now: Instant) -> Self {
        let per_second = f64::from(per_second.max(1));
        Self { per_second, left: 2.0 * per_second, at: now }
    }

    /// Whether there is a change left, without taking it.
    fn look(&mut self, now: Instant) -> Result<(), Duration> {
        let passed = now.saturating_duration_since(self.at).as_secs_f64();
        self.left = (self.left + passed * self.per_second).min(2.0 * self.per_second);
        self.at = now;
        if self.left < 1.0 {
            return Err(Duration::from_secs_f64((1.0 - self.left) / self.per_second));
        }
        Ok(())
    }

    fn take(&mut self, now: Instant) -> Result<(), Duration> {
        self.look(now)?;
        self.left -= 1.0;
        Ok(())
    }
}

/// Starts the writer over what was seeded.
pub(super) fn start(writer: Writer, settings: &LibrarySettings) -> Library {
    let (commands, asked) = mpsc::channel(WAITING_MAX);
    let (tasks, scans) = (settings.tasks.clone(), commands.clone());
    writer.published.send_replace(Arc::new(writer.book.clone()));
    let (rounds, published) = (Arc::new(Rounds::new()), writer.published.subscribe());
    let library = Library {
        inner: Arc::new(Inner {
            commands,
            book: published.clone(),
            rounds: rounds.clone(),
            active: writer.active.clone(),
            checker: settings.checker.clone(),
            checks: Semaphore::new(CHECKS_MAX),
            older: Older::default(),
            pace: Mutex::new(Pace::new(settings.changes_per_second, Instant::now())),
            tasks: tasks.clone(),
        }),
    };
    let stop = tasks.clone();
    tasks.spawn(async move { write(writer, asked, &stop).await });
    tasks.spawn_until_stopped(async move { rounds.tell(published).await });
    let dirs = (settings.policies_dir.clone(), settings.pipelines_dir.clone());
    if dirs.0.is_some() || dirs.1.is_some() {
        let watched = tasks.clone();
        tasks.spawn_until_stopped(async move {
            files::documents(dirs.0, dirs.1, &watched, |scan| async {
                // Behind a full queue the look at the folders simply comes a little later.
                let _ = scans.send(Command::Scan(scan)).await;
            })
            .await;
        });
    }
    library
}

/// Takes one change after the other. A change under way when the service stops is carried through.
async fn write(mut writer: Writer, mut asked: mpsc::Receiver<Command>, stop: &Tasks) {
    let mut tick = interval(ROLLOUT_PERIOD);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let command = tokio::select! {
            biased;
            () = stop.stopping() => return,
            _ = tick.tick() => {
                writer.judge_rollouts().await;
                writer.free_retired();
                continue;
            }
            command = asked.recv() => command,
        };
        let (done, answer) = match command {
            None => return,
            Some(Command::Push(push, answer)) => {
                (writer.push(*push).await.map(|stored| Done::Stored(Box::new(stored))), answer)
            }
            Some(Command::Rollback(rollback, answer)) => {
                let stored = writer.rollback(rollback).await;
                (stored.map(|stored| Done::Stored(Box::new(stored))), answer)
            }
            Some(Command::EndRollout(end, answer)) => {
                (writer.end_rollout(end).await.map(Done::Ended), answer)
            }
            Some(Command::Remove(removal, answer)) => {
                (writer.remove(removal).await.map(Done::Removed), answer)
            }
            Some(Command::Scan(scan)) => {
                for report in writer.scan(scan).await {
                    tracing::warn!(document = %report.origin, "{}", report.problems);
                }
                continue;
            }
        };
        // Who asked may have gone; the change has taken place all the same.
        let _ = answer.send(done);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_storm_is_taken_at_a_pace_and_told_when_to_come_again() {
        let start = Instant::now();
        let mut pace = Pace::new(10, start);
        let taken = (0..100).filter(|_| pace.take(start).is_ok()).count();
        assert_eq!(taken, 20);
        assert_eq!(pace.take(start), Err(Duration::from_millis(100)));
        let later = start + Duration::from_millis(101);
        assert_eq!((pace.look(later), pace.look(later)), (Ok(()), Ok(())), "looking takes nothing");
        assert_eq!(pace.take(start + Duration::from_millis(101)), Ok(()));
        assert!(pace.take(start + Duration::from_millis(102)).is_err());
    }
}
