//! Folders, watched: the system's word that something changed, and a slow look of our own behind
//! it, since that word can be lost (network file systems, a folder that is replaced as a whole).

use std::future::Future;
use std::path::{Path, PathBuf};
use std::time::Duration;

use notify::event::{AccessKind, AccessMode};
use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout_at};

use super::folder;
use super::writer::files::Scan;
use crate::tasks::Tasks;

/// Between two looks without a word from the system.
const LOOK_PERIOD: Duration = Duration::from_secs(5);
/// The same where the system gives no word.
const LOOK_PERIOD_UNTOLD: Duration = Duration::from_secs(1);
/// So long nothing may change before the folder is read: a file is often written in pieces.
const QUIET: Duration = Duration::from_millis(100);
/// The folder is read after this time however busy it is.
const BUSY_MAX: Duration = Duration::from_millis(700);

/// Tells of changes in folders.
pub(crate) struct Watch {
    folders: Vec<PathBuf>,
    watcher: Option<RecommendedWatcher>,
    changed: mpsc::Receiver<()>,
}

impl Watch {
    /// Watches these folders.
    pub(crate) fn new(folders: Vec<PathBuf>) -> Self {
        // One place: it is enough to know that something changed.
        let (tell, changed) = mpsc::channel(1);
        let watcher = notify::recommended_watcher(move |event: notify::Result<Event>| {
            if event.as_ref().map_or(true, |event| changes(event.kind)) {
                let _ = tell.try_send(());
            }
        });
        let watcher = match watcher {
            Ok(watcher) => Some(watcher),
            Err(error) => {
                tracing::warn!(%error, "files are looked at every second instead of watched");
                None
            }
        };
        let mut watch = Self { folders, watcher, changed };
        watch.attach();
        watch
    }

    /// A folder that was replaced has to be watched anew; one that is watched already stays so.
    fn attach(&mut self) {
        let Some(watcher) = &mut self.watcher else { return };
        for folder in &self.folders {
            // A folder that is not there is seen by the slow look when it comes.
            let _ = watcher.watch(folder, RecursiveMode::NonRecursive);
        }
    }

    /// Waits until there may be something to see.
    pub(crate) async fn next(&mut self) {
        let period = if self.watcher.is_some() { LOOK_PERIOD } else { LOOK_PERIOD_UNTOLD };
        tokio::select! {
            told = self.changed.recv() => {
                if told.is_none() {
                    // The watcher is gone; the slow look remains.
                    sleep(LOOK_PERIOD_UNTOLD).await;
                }
            }
            () = sleep(period) => {
                self.attach();
                return;
            }
        }
        let busy_until = Instant::now() + BUSY_MAX;
        loop {
            let quiet = (Instant::now() + QUIET).min(busy_until);
            match timeout_at(quiet, self.changed.recv()).await {
                Ok(Some(())) if Instant::now() < busy_until => {}
                Ok(_) | Err(_) => return,
            }
        }
    }
}

/// Our own reading is told to us too, and must not lead to the next.
fn changes(kind: EventKind) -> bool {
    match kind {
        EventKind::Access(AccessKind::Close(AccessMode::Write)) => true,
        EventKind::Access(_) => false,
        EventKind::Any
        | EventKind::Create(_)
        | EventKind::Modify(_)
        | EventKind::Remove(_)
        | EventKind::Other => true,
    }
}

/// Reads the folders of documents whenever there may be something to see.
pub(super) async fn documents<F: Future<Output = ()>>(
    policies: Option<PathBuf>,
    pipelines: Option<PathBuf>,
    tasks: &Tasks,
    scanned: impl Fn(Scan) -> F,
) {
    let mut watch = Watch::new([&policies, &pipelines].into_iter().flatten().cloned().collect());
    loop {
        let dirs = (policies.clone(), pipelines.clone());
        let read = tasks.spawn_blocking(move || Scan {
            policies: dirs.0.as_deref().map(|dir: &Path| folder(dir)),
            pipelines: dirs.1.as_deref().map(|dir: &Path| folder(dir)),
        });
        // A look that panicked is no reason to stop looking.
        if let Ok(scan) = read.await {
            scanned(scan).await;
        }
        watch.next().await;
    }
}
