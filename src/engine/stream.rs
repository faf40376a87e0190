//! Streamed attempts: the answer is pulled from the provider piece by piece, shown to the reader
//! as it comes, and judged in the end like any other.
//!
//! There is one loop of attempts for both kinds of call. What differs is here: an attempt has
//! limits for its first byte, its first content and its progress, and a reader that sets the pace.

use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt as _;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout_at};

use super::Engine;
use super::attempt::Unanswered;
use super::outlet::{Abandoned, HeldBack, Outlet, StepEvent, outlet};
use super::step::Walk;
use super::submit::{RunRequest, SubmitError};
use super::targets::Target;
use crate::exchange::{BodyEnd, ModelReply, TransportFault};
use crate::failure::{Failure, FailureCause, classify};
use crate::journal::{AttemptRecord, DegradedBy, RunRecord};
use crate::provider::transport::{Call, Incoming};
use crate::provider::{DecodeContext, StreamDecoder, StreamEvent};
use crate::resilience::pace::{Late, Pace};

use std::sync::Arc;

/// How long usage and the terminal marker may come after the finish reason. The answer is complete
/// by then, so that their absence costs a little time and nothing else.
const TAIL_MAX: Duration = Duration::from_millis(500);

/// Bytes of a stream after which what has come is told, though more is there.
const JOINED_MAX: usize = 16 * 1024;

/// How a streamed run ended.
pub type Ending = Result<Arc<RunRecord>, SubmitError>;

/// A run that is watched while it is under way.
pub struct StreamedRun {
    /// What happens. Ends when nothing more will be told.
    pub events: mpsc::Receiver<StepEvent>,
    /// The end.
    pub ending: oneshot::Receiver<Ending>,
}

impl Engine {
    /// Begins a run of one step and hands out what happens in it.
    ///
    /// The run has a task of its own: a reader that takes nothing must not keep the run from
    /// seeing its limits. A run that belongs to its call ends when the reader is dropped.
    pub fn stream(&self, mut request: RunRequest) -> StreamedRun {
        let (outlet, events) = outlet(self.inner.settings.stream_stall);
        request.outlet = Some(outlet.clone());
        let (tell, ending) = oneshot::channel();
        let engine = self.clone();
        self.inner.settings.tasks.spawn(async move {
            let ended = tokio::select! {
                ended = engine.submit(request) => ended,
                why = outlet.abandoned() => match why {
                    Abandoned::Gone => return,
                    Abandoned::Stalled => Err(SubmitError::ReaderStalled),
                },
            };
            // The reader may have left at this very moment.
            let _ = tell.send(ended);
        });
        StreamedRun { events, ending }
    }
}

/// One streamed call to a target.
pub(super) struct StreamedCall<'a> {
    pub(super) target: &'a Target,
    pub(super) outlet: &'a Outlet,
    /// The call; its deadline is not used, since a streamed call has several.
    pub(super) call: Call,
    /// Longest time of the attempt, without what the reader held it up.
    pub(super) limit: Duration,
    /// When the run's time is over.
    pub(super) until: Instant,
}

/// A limit that passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Passed {
    /// One of the stream's own.
    Late(Late),
    /// Of the attempt.
    Attempt,
    /// Of the run or the caller.
    Run,
    /// Of what comes behind the finish reason.
    Tail,
}

struct Reading<'a> {
    outlet: &'a Outlet,
    began: Instant,
    /// Time that the reader held the stream up.
    held_up: Duration,
    limit: Duration,
    until: Instant,
    pace: Pace,
    held_back: HeldBack,
    tail: Option<Instant>,
}

/// Makes the call. What the reader is given is unchecked; what is returned is judged.
pub(super) async fn call(
    streamed: StreamedCall<'_>,
    record: &mut AttemptRecord,
) -> Result<ModelReply, Unanswered> {
    let StreamedCall { target, outlet, mut call, limit, until } = streamed;
    let mut reading = Reading {
        outlet,
        began: Instant::now(),
        held_up: Duration::ZERO,
        limit,
        until,
        pace: Pace::new(target.pace),
        held_back: HeldBack::default(),
        tail: None,
    };
    let (deadline, limit) = reading.limit();
    call.deadline = deadline;
    let incoming = match target.endpoint.open(call).await {
        Ok(incoming) => incoming,
        Err(TransportFault::RequestTimeout) => return Err(unanswered(of_limit(limit), limit)),
        Err(fault) => return Err(classify::of_fault(fault).into()),
    };
    reading.pace.head();
    let context = DecodeContext { provider: &target.provider, now: jiff::Timestamp::now() };
    if !matches!(incoming.status, 200..=299) {
        let (deadline, limit) = reading.limit();
        return match timeout_at(deadline, incoming.whole()).await {
            Ok(response) => target.dialect.decode(&response, context).map_err(Unanswered::from),
            Err(_) => Err(unanswered(of_limit(limit), limit)),
        };
    }
    let decoder = target.dialect.stream_decoder(context).with_headers(&incoming.headers);
    reading.read(incoming, decoder, record).await
}

impl Reading<'_> {
    async fn read(
        &mut self,
        mut incoming: Incoming,
        mut decoder: StreamDecoder,
        record: &mut AttemptRecord,
    ) -> Result<ModelReply, Unanswered> {
        let judge = |decoder: StreamDecoder, end| decoder.finish(end).map_err(Unanswered::from);
        loop {
            let (deadline, limit) = self.limit();
            match timeout_at(deadline, incoming.next()).await {
                Ok(Ok(bytes)) => {
                    let mut taken = bytes.len();
                    let mut events = decoder.push(&bytes)?;
                    let end = loop {
                        match more(&mut incoming, taken).await {
                            Some(Ok(bytes)) => {
                                taken += bytes.len();
                                events.append(&mut decoder.push(&bytes)?);
                            }
                            Some(Err(end)) => break Some(end),
                            None => break None,
                        }
                    };
                    self.take(&events, record).await;
                    if let Some(end) = end {
                        return judge(decoder, end);
                    }
                }
                Ok(Err(end)) => return judge(decoder, end),
                Err(_) if limit == Passed::Tail => return judge(decoder, BodyEnd::Idle),
                Err(_) => return Err(unanswered(decoder.abandon(of_limit(limit)), limit)),
            }
        }
    }

    /// Takes what some bytes gave: notes the progress, and gives the text to the reader.
    async fn take(&mut self, events: &[StreamEvent], record: &mut AttemptRecord) {
        if events.is_empty() {
            return;
        }
        let mut text = String::new();
        let mut content = 0;
        for event in events {
            match event {
                StreamEvent::Started { .. } => {}
                StreamEvent::Text(more) => {
                    content += more.len();
                    text.push_str(more.expose());
                }
                StreamEvent::Reasoning(more) => content += more.len(),
                StreamEvent::ToolCall { name, .. } => content += name.len().max(1),
                StreamEvent::Finished => self.tail = Some(Instant::now() + TAIL_MAX),
            }
        }
        let now = self.began.elapsed() - self.held_up;
        self.pace.progress(now, content);
        if content > 0 {
            record.time_to_first_chunk.get_or_insert(now);
        }
        if let Some(text) = self.held_back.take(&text) {
            let before = Instant::now();
            self.outlet.text(&text, self.until).await;
            let held_up = before.elapsed();
            self.held_up += held_up;
            self.tail = self.tail.map(|tail| tail + held_up);
        }
    }

    /// What ends the stream next unless something comes.
    fn limit(&self) -> (Instant, Passed) {
        let origin = self.began + self.held_up;
        let mut next = (self.until, Passed::Run);
        let mut consider = |at: Instant, which: Passed| {
            if at < next.0 {
                next = (at, which);
            }
        };
        consider(origin + self.limit, Passed::Attempt);
        match self.tail {
            Some(tail) => consider(tail, Passed::Tail),
            None => {
                if let Some((at, late)) = self.pace.limit() {
                    consider(origin + at, Passed::Late(late));
                }
            }
        }
        next
    }
}

/// What has come of the stream meanwhile, without waiting for it. A provider writes a token at a
/// time; where many of them are there already, they are told as one, which spares the reader's
/// connection (clients count small frames against a limit) and our time.
async fn more(incoming: &mut Incoming, taken: usize) -> Option<Result<Bytes, BodyEnd>> {
    if taken >= JOINED_MAX {
        return None;
    }
    // The connection hands over one piece at a time, and must run to hand over the next.
    tokio::task::yield_now().await;
    incoming.next().now_or_never()
}

fn of_limit(limit: Passed) -> Failure {
    let timeout = |message: &str| Failure::new(FailureCause::RequestTimeout, message);
    let idle = |message: &str| Failure::new(FailureCause::StreamIdleTimeout, message);
    match limit {
        Passed::Late(Late::FirstByte) => {
            timeout("the provider sent no answer in time").with_detail("first_byte_timeout")
        }
        Passed::Late(Late::FirstToken) => {
            idle("the stream brought no content in time").with_detail("first_token_timeout")
        }
        Passed::Late(Late::Idle) => idle("the stream made no progress for too long"),
        Passed::Late(Late::TooSlow) => {
            idle("the stream made too little progress").with_detail("too_slow")
        }
        Passed::Attempt | Passed::Tail => timeout("the provider did not end its answer in time"),
        Passed::Run => {
            timeout("the provider did not end its answer in time").with_detail("caller_deadline")
        }
    }
}

fn unanswered(failure: Failure, limit: Passed) -> Unanswered {
    Unanswered { ended_by_caller: limit == Passed::Run, ..failure.into() }
}

impl Walk<'_, '_> {
    /// Tells the reader that what it was given is void, when something else comes in its place, or
    /// that it is gone on with.
    pub(super) async fn tell_restart(&self, attempt: &AttemptRecord, goes_on: bool) {
        let replaced =
            matches!(self.report.degraded, Some(DegradedBy::Cache | DegradedBy::Template));
        let Some(outlet) = self.cx.outlet.filter(|_| goes_on || replaced) else { return };
        let (failure, decision) = match attempt.further.last() {
            Some(last) => (Some(&last.failure), last.decision.as_ref()),
            None => (attempt.failure.as_ref(), attempt.decision.as_ref()),
        };
        match (failure, decision) {
            (Some(failure), Some(decision)) if decision.continues && goes_on => {
                outlet.go_on(failure, decision, self.until).await;
            }
            (Some(failure), Some(decision)) => outlet.restart(failure, decision, self.until).await,
            (_, _) => {}
        }
    }
}
