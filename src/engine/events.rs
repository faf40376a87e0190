//! What happens in a run, for those who look on.
//!
//! Sent to whoever listens at that moment and kept nowhere: the run's record is the truth. A slow
//! listener loses events (their numbers show a gap) and never holds a run back.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use tokio::sync::broadcast;

use crate::journal::{AttemptRecord, RunRecord, StepReport};

/// Events kept for a listener that is behind.
const BEHIND_MAX: usize = 512;

/// One event.
#[derive(Debug, Clone)]
pub struct RunEvent {
    /// Number in the run, from 1.
    pub sequence: u64,
    /// What happened.
    pub kind: RunEventKind,
}

/// What happened.
#[derive(Debug, Clone)]
pub enum RunEventKind {
    /// The run started.
    Started(Arc<RunRecord>),
    /// A step or an element of it started.
    StepStarted {
        /// Step.
        step: Arc<str>,
        /// Element, for `for_each`.
        element: Option<usize>,
        /// Target that is called first.
        target: Arc<str>,
    },
    /// A `for_each` step knows how many elements it has.
    ElementsKnown {
        /// Step.
        step: Arc<str>,
        /// How many.
        total: usize,
    },
    /// An attempt failed and something was decided.
    AttemptFailed {
        /// Step.
        step: Arc<str>,
        /// Element, for `for_each`.
        element: Option<usize>,
        /// The attempt.
        attempt: Box<AttemptRecord>,
    },
    /// A step or an element of it ended.
    StepEnded(Arc<StepReport>),
    /// The run ended.
    Ended(Arc<RunRecord>),
}

/// The sending side of a run's events. The buffer is made when somebody first listens: most runs
/// have no listener.
#[derive(Debug, Default)]
pub struct Events {
    sender: OnceLock<broadcast::Sender<RunEvent>>,
    sequence: AtomicU64,
}

impl Events {
    /// Sends an event, if anybody listens.
    pub fn send(&self, kind: impl FnOnce() -> RunEventKind) {
        if let Some(sender) = self.sender.get()
            && sender.receiver_count() > 0
        {
            let sequence = self.sequence.fetch_add(1, Ordering::Relaxed) + 1;
            let _ = sender.send(RunEvent { sequence, kind: kind() });
        }
    }

    /// Listens from now on.
    pub fn subscribe(&self) -> broadcast::Receiver<RunEvent> {
        self.sender.get_or_init(|| broadcast::Sender::new(BEHIND_MAX)).subscribe()
    }
}
