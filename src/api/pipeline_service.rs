//! The data plane. Handlers convert, call and convert; they decide nothing.

use std::pin::Pin;
use std::sync::Arc;

use futures_util::{Stream, StreamExt, stream};
use tokio::sync::broadcast::error::RecvError;
use tonic::{Request, Response, Status};

use super::auth::Identity;
use super::context::{self, DeadlineLimits};
use super::convert::{self, Detail};
use super::pb::pipeline_service_server::PipelineService;
use super::policy::status::of_change;
use super::request;
use super::status::{self, NotFound};
use super::streamed::Streamed;
use super::{pb, watched};
use crate::control::Library;
use crate::engine::events::RunEventKind;
use crate::engine::ids::new_run_id;
use crate::engine::{CallName, Engine, SubmitError};
use crate::journal::{RunRecord, RunState};
use crate::store::memory::RunHandle;

/// The service.
#[derive(Clone)]
pub struct PipelineApi {
    engine: Engine,
    library: Library,
    limits: DeadlineLimits,
}

type Streaming<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

fn call_name(method: &'static str) -> CallName {
    let name = method.rsplit('/').next().unwrap_or(method);
    CallName { method, name, status: status::status_name_of_run }
}

impl PipelineApi {
    /// The service over an engine and the library that it serves.
    pub fn new(engine: Engine, library: Library, limits: DeadlineLimits) -> Self {
        Self { engine, library, limits }
    }

    /// The pipeline in a version that does not serve, where a call asks for one.
    async fn older(&self, name: &str, version: u64) -> Result<request::Older, Status> {
        let serving = self.engine.documents().pipeline(name);
        match serving {
            Some(serving) if version != 0 && version != serving.version => {
                let found = Box::pin(self.library.pipeline(name, version)).await;
                found.map(Some).map_err(|error| of_change(&error))
            }
            // One that is not there is refused with the others' names.
            Some(_) | None => Ok(None),
        }
    }

    /// The same for a step of a pipeline.
    async fn older_of_step(&self, message: &pb::RunStepRequest) -> Result<request::Older, Status> {
        match &message.step {
            Some(pb::run_step_request::Step::Ref(reference)) => {
                self.older(&reference.pipeline, reference.pipeline_version).await
            }
            Some(pb::run_step_request::Step::Inline(_)) | None => Ok(None),
        }
    }

    fn call<T>(&self, request: &Request<T>, method: &'static str) -> Result<request::Call, Status> {
        let metadata = request.metadata();
        Ok(request::Call {
            tenant: context::identity(request)?.tenant.clone(),
            trace: context::trace(metadata, self.engine.tracer()),
            deadline: context::deadline(request, self.limits),
            priority: context::priority(metadata),
            name: call_name(method),
        })
    }

    /// A step under way, and whether its attempts are to be told. Not a part of the future that
    /// waits for it, which would hold the message for all that time.
    async fn step(
        &self,
        request: Request<pb::RunStepRequest>,
    ) -> Result<(impl Future<Output = Result<Arc<RunRecord>, SubmitError>> + Send, bool), Status>
    {
        let call = self.call(&request, "mainstay.v1.PipelineService/RunStep")?;
        let message = request.into_inner();
        let with_attempts = !message.options.as_ref().is_some_and(|o| o.omit_attempts);
        let older = self.older_of_step(&message).await?;
        let run = request::run_step(&self.engine, message, call, older)?;
        Ok((self.engine.submit(run), with_attempts))
    }

    /// A run of a tenant. Runs of others do not exist.
    fn run(&self, caller: &Identity, run_id: &str) -> Result<Arc<RunHandle>, Status> {
        self.engine.runs().get(&caller.tenant, run_id).ok_or_else(|| {
            status::of_not_found(&NotFound {
                reason: "RUN_NOT_FOUND",
                message: format!("there is no run `{run_id}`"),
            })
        })
    }
}

/// A run's record, or the status of its failure.
fn settled(record: Arc<RunRecord>) -> Result<Arc<RunRecord>, Status> {
    match record.state {
        RunState::Failed | RunState::Cancelled => Err(status::of_failed_run(&record)),
        RunState::Pending
        | RunState::Running
        | RunState::Succeeded
        | RunState::Degraded
        | RunState::Skipped => Ok(record),
    }
}

#[tonic::async_trait]
impl PipelineService for PipelineApi {
    async fn run_step(
        &self,
        request: Request<pb::RunStepRequest>,
    ) -> Result<Response<pb::RunStepResponse>, Status> {
        let (submitted, with_attempts) = self.step(request).await?;
        let record = submitted.await.map_err(|error| status::of_submit_error(&error))?;
        let record = settled(record)?;
        Ok(Response::new(convert::run_step_response(&record, with_attempts)))
    }

    type StreamStepStream = Streaming<pb::StreamStepResponse>;

    async fn stream_step(
        &self,
        request: Request<pb::StreamStepRequest>,
    ) -> Result<Response<Self::StreamStepStream>, Status> {
        let call = self.call(&request, "mainstay.v1.PipelineService/StreamStep")?;
        let deadline = call.deadline;
        let message = request.into_inner().request.ok_or_else(|| {
            status::of_faults(&[status::FieldFault::new("request", "is missing")])
        })?;
        let with_attempts = !message.options.as_ref().is_some_and(|o| o.omit_attempts);
        let older = self.older_of_step(&message).await?;
        let run = request::run_step(&self.engine, message, call, older)?;
        let streamed = Streamed::begun(self.engine.stream(run), with_attempts).await?;
        Ok(Response::new(Box::pin(watched::until(streamed.messages(settled), deadline))))
    }

    async fn run_pipeline(
        &self,
        request: Request<pb::RunPipelineRequest>,
    ) -> Result<Response<pb::RunPipelineResponse>, Status> {
        let call = self.call(&request, "mainstay.v1.PipelineService/RunPipeline")?;
        let message = request.into_inner();
        let detail = match &message.options {
            Some(options) if options.omit_attempts => Detail::WithoutAttempts,
            Some(_) | None => Detail::Full,
        };
        let older = self.older(&message.pipeline, message.pipeline_version).await?;
        let run = request::run_pipeline(&self.engine, message, call, older)?;
        let record =
            self.engine.submit(run).await.map_err(|error| status::of_submit_error(&error))?;
        let record = settled(record)?;
        let run = Some(convert::run(&record, detail));
        Ok(Response::new(pb::RunPipelineResponse { run }))
    }

    type StreamPipelineStream = Streaming<pb::StreamPipelineResponse>;

    async fn stream_pipeline(
        &self,
        request: Request<pb::StreamPipelineRequest>,
    ) -> Result<Response<Self::StreamPipelineStream>, Status> {
        let call = self.call(&request, "mainstay.v1.PipelineService/StreamPipeline")?;
        let deadline = call.deadline;
        let message = request.into_inner().request.ok_or_else(|| {
            status::of_faults(&[status::FieldFault::new("request", "is missing")])
        })?;
        let older = self.older(&message.pipeline, message.pipeline_version).await?;
        let mut run = request::run_pipeline(&self.engine, message, call, older)?;
        // Subscribing has to come before the run begins, so the run is begun by the stream.
        run.run_id.get_or_insert_with(|| new_run_id().to_string());
        let run_id = run.run_id.clone().unwrap_or_default();
        let tenant = run.tenant.clone();
        let attached = run.idempotency_key.is_some();
        let ends_with_call = !attached;
        run.wait = false;
        run.bound_to_call = ends_with_call;
        let record =
            self.engine.submit(run).await.map_err(|error| status::of_submit_error(&error))?;
        let id = if attached { record.run_id.to_string() } else { run_id };
        let handle = self.engine.runs().get(&tenant, &id).ok_or_else(|| {
            status::of_not_found(&NotFound {
                reason: "RUN_NOT_FOUND",
                message: format!("run `{id}` was forgotten"),
            })
        })?;
        let events = events_of(handle, ends_with_call);
        let events = events
            .map(|event| event.map(|event| pb::StreamPipelineResponse { event: Some(event) }));
        Ok(Response::new(Box::pin(watched::until(events, deadline))))
    }

    async fn get_run(
        &self,
        request: Request<pb::GetRunRequest>,
    ) -> Result<Response<pb::GetRunResponse>, Status> {
        let caller = context::identity(&request)?;
        let handle = self.run(&caller, &request.into_inner().run_id)?;
        let run = Some(convert::run(&handle.record(), Detail::Full));
        Ok(Response::new(pb::GetRunResponse { run }))
    }

    async fn list_runs(
        &self,
        request: Request<pb::ListRunsRequest>,
    ) -> Result<Response<pb::ListRunsResponse>, Status> {
        let caller = context::identity(&request)?;
        let message = request.into_inner();
        let page = request::page_size(message.page_size)?;
        let state = pb::RunState::try_from(message.state).map_err(|_| {
            status::of_faults(&[status::FieldFault::new("state", "is no known state")])
        })?;
        let state = convert::wanted_state(state);
        let after = Some(message.page_token.as_str()).filter(|token| !token.is_empty());
        let wanted = |record: &RunRecord| {
            (message.pipeline.is_empty() || *record.pipeline == *message.pipeline)
                && state.is_none_or(|state| record.state == state)
        };
        let found = self.engine.runs().list(&caller.tenant, after, page + 1, wanted);
        let more = found.len() > page;
        let runs: Vec<pb::Run> =
            found.iter().take(page).map(|record| convert::run(record, Detail::Summary)).collect();
        let next_page_token = match runs.last() {
            Some(last) if more => last.run_id.clone(),
            Some(_) | None => String::new(),
        };
        Ok(Response::new(pb::ListRunsResponse { runs, next_page_token }))
    }

    type WatchRunStream = Streaming<pb::WatchRunResponse>;

    async fn watch_run(
        &self,
        request: Request<pb::WatchRunRequest>,
    ) -> Result<Response<Self::WatchRunStream>, Status> {
        let deadline = context::deadline(&request, self.limits);
        let caller = context::identity(&request)?;
        let handle = self.run(&caller, &request.into_inner().run_id)?;
        let mut watch = handle.watch();
        watch.mark_changed();
        let states =
            stream::unfold((handle, watch, false), |(handle, mut watch, over)| async move {
                if over || watch.changed().await.is_err() {
                    return None;
                }
                let record = watch.borrow_and_update().clone();
                let over = record.state.ended();
                let run = Some(convert::run(&record, Detail::Full));
                Some((Ok(pb::WatchRunResponse { run }), (handle, watch, over)))
            });
        Ok(Response::new(Box::pin(watched::until(states, deadline))))
    }

    async fn resume_run(
        &self,
        _: Request<pb::ResumeRunRequest>,
    ) -> Result<Response<pb::ResumeRunResponse>, Status> {
        Err(status::not_offered("ResumeRun"))
    }

    async fn cancel_run(
        &self,
        request: Request<pb::CancelRunRequest>,
    ) -> Result<Response<pb::CancelRunResponse>, Status> {
        let caller = context::identity(&request)?;
        let handle = self.run(&caller, &request.into_inner().run_id)?;
        handle.cancel.cancel();
        let run = Some(convert::run(&handle.record(), Detail::WithoutAttempts));
        Ok(Response::new(pb::CancelRunResponse { run }))
    }
}

/// Cancels a run when the stream that asked for it is dropped before its end.
struct EndsWithStream(Arc<RunHandle>, bool);

impl Drop for EndsWithStream {
    fn drop(&mut self) {
        if self.1 {
            self.0.cancel.cancel();
        }
    }
}

/// Events of a run until its end; a failed run ends the stream with its status. If the run has
/// ended already, its end alone.
fn events_of(
    handle: Arc<RunHandle>,
    ends_with_call: bool,
) -> impl Stream<Item = Result<pb::RunEvent, Status>> + Send {
    let receiver = handle.events.subscribe();
    let guard = EndsWithStream(handle.clone(), ends_with_call);
    let ended = Box::pin(async move { handle.ended().await });
    stream::unfold(
        (receiver, ended, guard, false),
        |(mut receiver, mut ended, mut guard, over)| async move {
            if over {
                return None;
            }
            loop {
                let event = tokio::select! {
                    biased;
                    event = receiver.recv() => event,
                    record = &mut ended => {
                        // The end was recorded before we listened, or its event was lost.
                        guard.1 = false;
                        return Some((end_event(record), (receiver, ended, guard, true)));
                    }
                };
                match event {
                    Ok(event) => {
                        if let RunEventKind::Ended(record) = &event.kind {
                            guard.1 = false;
                            let last = settled(record.clone()).map(|_| convert::event(&event));
                            return Some((last, (receiver, ended, guard, true)));
                        }
                        return Some((Ok(convert::event(&event)), (receiver, ended, guard, false)));
                    }
                    // Numbers show the gap; what counts comes with the end.
                    Err(RecvError::Lagged(_)) => {}
                    Err(RecvError::Closed) => return None,
                }
            }
        },
    )
}

fn end_event(record: Arc<RunRecord>) -> Result<pb::RunEvent, Status> {
    let record = settled(record)?;
    let ended = pb::run_event::Event::Ended(convert::run(&record, Detail::Full));
    Ok(pb::RunEvent { sequence: 0, event: Some(ended) })
}
