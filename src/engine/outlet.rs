//! Where a step's output goes while it is written: to one reader, at the reader's pace.
//!
//! The queue is short and what does not fit waits, and while it waits nothing is pulled from the
//! provider. A reader that takes nothing for too long is given up, so that it cannot hold a run and
//! a connection for ever.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;

use super::checks::only_joined;
use crate::exchange::Payload;
use crate::failure::Failure;
use crate::journal::{DecisionRecord, OutputBody, OutputVerdict, PolicyRef, RunState, StepReport};

/// Events that wait for the reader.
const EVENTS_MAX: usize = 16;

/// Most bytes of text in one event. With [`EVENTS_MAX`] it bounds what a stalled reader costs.
const TEXT_MAX: usize = 4 * 1024;

/// Most white space that is held back because nothing has followed it yet.
const HELD_MAX: usize = 1024;

/// What a reader is told. The end of the run is not among it: that is the run's record.
#[derive(Debug, Clone)]
pub enum StepEvent {
    /// The step has started.
    Started {
        /// Run.
        run_id: Arc<str>,
        /// Policy in force.
        policy: PolicyRef,
        /// Target that is called first; empty for a run that was under way already.
        target: Arc<str>,
    },
    /// More text, unchecked.
    Delta(Payload),
    /// All text so far is void.
    Restarted(Box<(Failure, DecisionRecord)>),
    /// All text so far stands, and another call goes on with it.
    Continued(Box<(Failure, DecisionRecord)>),
}

/// Why a reader takes nothing more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Abandoned {
    /// It is gone.
    Gone,
    /// It took nothing for the longest time that is waited.
    Stalled,
}

/// The writing side. Cheap to clone; clones write to the same reader.
#[derive(Debug, Clone)]
pub struct Outlet {
    events: mpsc::Sender<StepEvent>,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    /// Bytes of text that the reader has been given since the beginning or the last restart.
    given: AtomicUsize,
    stall_limit: Duration,
    stalled: CancellationToken,
}

/// An outlet and the reader's side of it. A reader that takes nothing for `stall_limit` while
/// something waits for it is given up.
pub fn outlet(stall_limit: Duration) -> (Outlet, mpsc::Receiver<StepEvent>) {
    let (events, reader) = mpsc::channel(EVENTS_MAX);
    let shared =
        Shared { given: AtomicUsize::new(0), stall_limit, stalled: CancellationToken::new() };
    (Outlet { events, shared: Arc::new(shared) }, reader)
}

impl Outlet {
    /// Waits until the reader is gone or given up.
    pub async fn abandoned(&self) -> Abandoned {
        tokio::select! {
            biased;
            () = self.shared.stalled.cancelled() => Abandoned::Stalled,
            () = self.events.closed() => Abandoned::Gone,
        }
    }

    /// Whether the reader has text that a restart would make void.
    pub fn has_given(&self) -> bool {
        self.given() > 0
    }

    /// Tells that the step has started.
    pub async fn started(&self, run_id: Arc<str>, policy: PolicyRef, target: Arc<str>) {
        // The first event of all: there is room.
        self.put(StepEvent::Started { run_id, policy, target }, None).await;
    }

    /// Gives text, waiting for the reader if need be, but not beyond `until`.
    pub async fn text(&self, text: &str, until: Instant) {
        for piece in pieces(text) {
            self.shared.given.fetch_add(piece.len(), Ordering::Relaxed);
            self.put(StepEvent::Delta(piece.into()), Some(until)).await;
        }
    }

    /// Makes void what the reader was given, if anything was, and says why.
    pub async fn restart(&self, failure: &Failure, decision: &DecisionRecord, until: Instant) {
        if self.shared.given.swap(0, Ordering::Relaxed) > 0 {
            let why = Box::new((failure.clone(), decision.clone()));
            self.put(StepEvent::Restarted(why), Some(until)).await;
        }
    }

    /// Says that what comes goes on with what the reader was given, and why.
    pub async fn go_on(&self, failure: &Failure, decision: &DecisionRecord, until: Instant) {
        let why = Box::new((failure.clone(), decision.clone()));
        self.put(StepEvent::Continued(why), Some(until)).await;
    }

    /// Bytes of text that the reader has been given since the last restart.
    pub fn given(&self) -> usize {
        self.shared.given.load(Ordering::Relaxed)
    }

    /// Gives what is missing of the output that the step ended with: all of it to a reader that
    /// has nothing, so that the text since the last restart is the output wherever nothing was
    /// changed in what the reader saw.
    pub async fn complete(&self, report: &StepReport, until: Instant) {
        let Some(output) = &report.output else { return };
        let text = match &output.body {
            OutputBody::Text(text) | OutputBody::Json { text, .. } => text.expose(),
        };
        let given = self.shared.given.load(Ordering::Relaxed);
        // Joined text begins with what the reader was given before it broke off.
        let word_for_word = match output.verdict {
            OutputVerdict::Clean => true,
            OutputVerdict::Repaired => only_joined(&output.changes),
            OutputVerdict::Lossy => false,
        };
        let as_it_came = report.state == RunState::Succeeded && word_for_word;
        if let Some(rest) = text.get(given..).filter(|_| given == 0 || as_it_came) {
            self.text(rest, until).await;
        }
    }

    async fn put(&self, event: StepEvent, until: Option<Instant>) {
        if self.shared.stalled.is_cancelled() {
            return;
        }
        let patience = Instant::now() + self.shared.stall_limit;
        match timeout_at(until.unwrap_or(patience).min(patience), self.events.reserve()).await {
            Ok(Ok(room)) => room.send(event),
            // Gone: whoever owns the run sees it too, and knows what that means for it.
            Ok(Err(_)) => {}
            Err(_) if Instant::now() >= patience => self.shared.stalled.cancel(),
            Err(_) => {}
        }
    }
}

/// The text in pieces of at most [`TEXT_MAX`] bytes, cut between characters.
fn pieces(mut text: &str) -> impl Iterator<Item = &str> {
    std::iter::from_fn(move || {
        let (piece, rest) = text.split_at(text.floor_char_boundary(TEXT_MAX));
        text = rest;
        (!piece.is_empty()).then_some(piece)
    })
}

/// Text that is held back until something has come that is no white space: an answer that fails
/// after nothing but a line break can still be recovered unseen.
#[derive(Debug, Default)]
pub struct HeldBack {
    text: String,
    flows: bool,
}

impl HeldBack {
    /// Takes text and returns what may be given of all that was taken.
    pub fn take(&mut self, text: &str) -> Option<String> {
        if self.flows {
            return (!text.is_empty()).then(|| text.to_owned());
        }
        self.text.push_str(text);
        self.flows = self.text.len() > HELD_MAX || !self.text.trim_start().is_empty();
        self.flows.then(|| std::mem::take(&mut self.text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn far() -> Instant {
        Instant::now() + Duration::from_secs(3_600)
    }

    #[tokio::test(start_paused = true)]
    async fn a_reader_that_stalls_costs_little_and_is_given_up() {
        let (outlet, mut reader) = outlet(Duration::from_secs(30));
        let started = Instant::now();
        outlet.text(&"ä".repeat(100_000), far()).await;
        assert_eq!(Instant::now() - started, Duration::from_secs(30));
        assert_eq!(outlet.abandoned().await, Abandoned::Stalled);
        outlet.text("more", far()).await;
        assert_eq!(Instant::now() - started, Duration::from_secs(30), "it is not waited again");
        let mut waiting = 0;
        while let Ok(event) = reader.try_recv() {
            let StepEvent::Delta(text) = event else { panic!("only text was given") };
            assert!(text.len() <= TEXT_MAX);
            waiting += text.len();
        }
        assert!(waiting <= EVENTS_MAX * TEXT_MAX, "{waiting}");
    }

    #[tokio::test(start_paused = true)]
    async fn waiting_ends_with_the_time_of_the_run_and_with_the_reader() {
        let (outlet, reader) = outlet(Duration::from_secs(30));
        let soon = Instant::now() + Duration::from_secs(1);
        outlet.text(&"x".repeat(100_000), soon).await;
        assert_eq!(Instant::now(), soon);
        drop(reader);
        assert_eq!(outlet.abandoned().await, Abandoned::Gone);
        outlet.text("more", far()).await;
        assert_eq!(Instant::now(), soon);
    }

    #[test]
    fn leading_white_space_is_held_back() {
        let mut held = HeldBack::default();
        assert_eq!((held.take("\n"), held.take(""), held.take(" \t")), (None, None, None));
        assert_eq!(held.take("a"), Some("\n \ta".to_owned()));
        assert_eq!((held.take(" "), held.take("")), (Some(" ".to_owned()), None));
        assert!(HeldBack::default().take(&" ".repeat(2_000)).is_some(), "bounded");
    }

    #[test]
    fn pieces_are_cut_between_characters() {
        let text = format!("a{}", "ü".repeat(5_000));
        let pieces: Vec<&str> = pieces(&text).collect();
        assert_eq!(pieces.concat(), text);
        assert!(pieces.len() == 3 && pieces.iter().all(|piece| piece.len() <= TEXT_MAX));
    }
}
