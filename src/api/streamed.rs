//! A streamed step on the wire: what happens in it, then its end.

use std::sync::Arc;

use futures_util::{Stream, stream};
use tokio::sync::{mpsc, oneshot};
use tonic::Status;

use super::pb::stream_step_response::Event;
use super::{convert, pb, status};
use crate::engine::outlet::StepEvent;
use crate::engine::stream::{Ending, StreamedRun};
use crate::journal::RunRecord;

/// Events and end of a run, ready to be sent.
pub(super) struct Streamed {
    events: mpsc::Receiver<StepEvent>,
    ending: oneshot::Receiver<Ending>,
    with_attempts: bool,
    first: Option<StepEvent>,
    ended: Option<Ending>,
    over: bool,
}

impl Streamed {
    /// Waits until the run has begun, so that a run that cannot begin is a plain refusal and no
    /// stream.
    ///
    /// # Errors
    /// The status of a run that was not begun.
    pub(super) async fn begun(run: StreamedRun, with_attempts: bool) -> Result<Self, Status> {
        let StreamedRun { events, ending } = run;
        let (first, ended, over) = (None, None, false);
        let mut streamed = Self { events, ending, with_attempts, first, ended, over };
        streamed.first = streamed.next().await;
        match (&streamed.first, &streamed.ended) {
            (None, Some(Err(error))) => Err(status::of_submit_error(error)),
            (_, _) => Ok(streamed),
        }
    }

    /// The next event; `None` when nothing more is told and the end is known, if there is one.
    async fn next(&mut self) -> Option<StepEvent> {
        if let Some(first) = self.first.take() {
            return Some(first);
        }
        if self.ended.is_none() {
            tokio::select! {
                biased;
                event = self.events.recv() => match event {
                    Some(event) => return Some(event),
                    None => self.ended = (&mut self.ending).await.ok(),
                },
                // The run may go on without us; what it has told us by now still comes first.
                ended = &mut self.ending => self.ended = ended.ok(),
            }
            self.events.close();
        }
        self.events.recv().await
    }

    /// The messages of the stream, the last of them `completed` or the status of the failure.
    pub(super) fn messages(
        self,
        settled: fn(Arc<RunRecord>) -> Result<Arc<RunRecord>, Status>,
    ) -> impl Stream<Item = Result<pb::StreamStepResponse, Status>> + Send {
        stream::unfold(self, move |mut streamed| async move {
            if streamed.over {
                return None;
            }
            let message = match streamed.next().await {
                Some(event) => Ok(message(event_of(event))),
                None => {
                    streamed.over = true;
                    streamed.last(settled)
                }
            };
            Some((message, streamed))
        })
    }

    fn last(
        &mut self,
        settled: fn(Arc<RunRecord>) -> Result<Arc<RunRecord>, Status>,
    ) -> Result<pb::StreamStepResponse, Status> {
        match self.ended.take() {
            Some(Ok(record)) => {
                let response = convert::run_step_response(&*settled(record)?, self.with_attempts);
                Ok(message(Event::Completed(response)))
            }
            Some(Err(error)) => Err(status::of_submit_error(&error)),
            // The task of the run was ended from outside: the service is going down.
            None => Err(status::of_submit_error(&crate::engine::SubmitError::ShuttingDown)),
        }
    }
}

fn message(event: Event) -> pb::StreamStepResponse {
    pb::StreamStepResponse { event: Some(event) }
}

fn event_of(event: StepEvent) -> Event {
    match event {
        StepEvent::Started { run_id, policy, target } => Event::Started(pb::StepStarted {
            run_id: run_id.to_string(),
            policy: Some(pb::PolicyRef { name: policy.name.to_string(), version: policy.version }),
            target: target.to_string(),
        }),
        StepEvent::Delta(text) => Event::Delta(pb::OutputDelta { text: text.into_inner() }),
        StepEvent::Restarted(why) => Event::Restarted(pb::OutputRestarted {
            failure: Some(convert::failure(&why.0)),
            decision: Some(convert::decision(&why.1)),
        }),
        StepEvent::Continued(why) => Event::Continued(pb::OutputContinued {
            failure: Some(convert::failure(&why.0)),
            decision: Some(convert::decision(&why.1)),
        }),
    }
}
