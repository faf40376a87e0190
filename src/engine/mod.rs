//! The engine: takes runs in, carries them through, keeps their record.
//!
//! Read downwards: [`Engine::submit`] here, then `run` (the graph), `step` (the loop), `attempt`
//! (one call), and `provider::transport`. The engine decides nothing about failures; `policy`
//! does.

mod abandoned;
mod act;
pub mod active_policy;
pub mod admission;
pub mod alerts;
mod answer;
pub mod attempt;
pub mod cache;
pub mod checks;
mod coalesce;
pub mod events;
mod export;
pub mod gates;
pub mod groups;
mod hedge;
pub mod ids;
mod leave;
mod memory;
pub mod outlet;
pub mod plan;
mod reach;
pub mod reask;
pub mod recorder;
pub mod run;
mod settle;
mod similar;
pub mod step;
pub mod stream;
mod submit;
pub mod targets;
mod verify;

use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::time::{Duration, SystemTime};

use tokio::time::Instant;

pub use reach::{Reach, Server};
pub use submit::{CallName, RunRequest, SubmitError, Work, did_you_mean};

use abandoned::{Abandoned, CancelOnDrop, Source, Underway};
use active_policy::{ActiveDocuments, PolicyVersion};
use admission::{Admission, AdmissionSettings, NotAdmitted, Permit};
use alerts::Alerts;
use cache::OutputCache;
use coalesce::Leaders;
use events::RunEventKind;
use gates::GatePolicy;
use plan::InlinePlans;
use recorder::{RecordLimits, Recorder};
use run::{RunInputs, RunOutcome};
use step::RunContext;
use targets::Targets;

use crate::journal::{PolicyRef, RunRecord, RunState, StepReport};
use crate::store::memory::{Accepted, Conflict, RunHandle, Runs};
use crate::tasks::Tasks;
use crate::telemetry::trace::Tracer;

/// What the engine is made of.
pub struct EngineSettings {
    /// Targets.
    pub targets: Targets,
    /// Policies and pipelines.
    pub documents: Arc<ActiveDocuments>,
    /// Alerts.
    pub alerts: Arc<Alerts>,
    /// Policy of runs that name none.
    pub default_policy: Arc<str>,
    /// Most runs at once, and who waits to begin.
    pub admission: AdmissionSettings,
    /// Ended runs remembered.
    pub runs_remembered: usize,
    /// Outputs cached.
    pub cache: OutputCache,
    /// Failures recorded for simulations.
    pub record: RecordLimits,
    /// Longest time of a journaled run that gives none.
    pub run_timeout: Duration,
    /// Longest time that a reader of a stream may take nothing.
    pub stream_stall: Duration,
    /// Takes spans.
    pub tracer: Tracer,
    /// Owner of runs that outlive their call.
    pub tasks: Tasks,
}

/// The engine. Cheap to clone.
#[derive(Clone)]
pub struct Engine {
    inner: Arc<Inner>,
}

struct Inner {
    settings: EngineSettings,
    admission: Admission,
    leaders: Leaders,
    recorder: Recorder,
    runs: Runs,
    inline_plans: InlinePlans,
}

/// A failing answer leaves this much before the deadline, so that the caller gets our details and
/// not its own timer.
fn answer_margin(time: Duration) -> Duration {
    (time / 20).min(Duration::from_millis(100))
}

impl Engine {
    /// An engine with these settings.
    pub fn new(settings: EngineSettings) -> Self {
        let admission = Admission::new(settings.admission);
        let runs = Runs::new(settings.runs_remembered);
        let (targets, name) = (settings.targets.clone(), settings.default_policy.clone());
        let embeds = settings.cache.similar().map(|similar| similar.target().clone());
        settings.documents.follow(move |snapshot| {
            // Every run's calls pass the same gates, so these follow the policy of most.
            if let Some(default) = snapshot.policies.get(&name) {
                let policy = GatePolicy::of(&default.policy);
                targets.iter().chain(&embeds).for_each(|target| target.gate.follow(&policy));
            }
        });
        let recorder = Recorder::new(settings.record);
        Self {
            inner: Arc::new(Inner {
                settings,
                admission,
                leaders: Leaders::default(),
                recorder,
                runs,
                inline_plans: InlinePlans::default(),
            }),
        }
    }

    /// Targets.
    pub fn targets(&self) -> &Targets {
        &self.inner.settings.targets
    }

    /// Policies and pipelines that serve.
    pub fn documents(&self) -> &ActiveDocuments {
        &self.inner.settings.documents
    }

    /// Outputs kept for `fallback_to_cache`.
    pub fn cache(&self) -> &OutputCache {
        &self.inner.settings.cache
    }

    /// Calls that identical ones may wait for.
    fn leaders(&self) -> &Leaders {
        &self.inner.leaders
    }

    /// Who is let in.
    pub fn admission(&self) -> &Admission {
        &self.inner.admission
    }

    /// Failures recorded for simulations.
    pub fn recorder(&self) -> &Recorder {
        &self.inner.recorder
    }

    /// Alerts.
    pub fn alerts(&self) -> &Alerts {
        &self.inner.settings.alerts
    }

    /// Runs that were journaled.
    pub fn runs(&self) -> &Runs {
        &self.inner.runs
    }

    /// Owner of work that is not a future's.
    pub fn tasks(&self) -> &Tasks {
        &self.inner.settings.tasks
    }

    /// Plans of inline steps.
    pub fn inline_plans(&self) -> &InlinePlans {
        &self.inner.inline_plans
    }

    /// Starts contexts of traces.
    pub fn tracer(&self) -> &Tracer {
        &self.inner.settings.tracer
    }

    /// Name of the policy of runs that name none.
    pub fn default_policy(&self) -> &str {
        &self.inner.settings.default_policy
    }

    /// Ends alerts that have become quiet, until the service stops.
    pub async fn settle_alerts(&self) {
        let mut tick = tokio::time::interval(Duration::from_secs(5));
        loop {
            tick.tick().await;
            self.alerts().settle(Instant::now());
        }
    }

    /// Runs something and waits for its end, or (with `wait` false) until it is recorded.
    ///
    /// # Errors
    /// When it was not begun, or goes on after the call's time. A run that began and failed is
    /// `Ok`: its record says so.
    pub fn submit(
        &self,
        request: RunRequest,
    ) -> impl Future<Output = Result<Arc<RunRecord>, SubmitError>> + Send + '_ {
        // A future holds what it is given once for each level that it is handed down.
        self.submit_boxed(Box::new(request))
    }

    async fn submit_boxed(&self, request: Box<RunRequest>) -> Result<Arc<RunRecord>, SubmitError> {
        let settings = &self.inner.settings;
        if settings.tasks.is_stopping() {
            return Err(SubmitError::ShuttingDown);
        }
        let now = Instant::now();
        if request.caller_deadline <= now {
            return Err(SubmitError::DeadlinePassed);
        }
        let run_id = run_id(&request);
        let policy = self.policy_for(&request, &run_id)?;
        let retry_after = Duration::from_secs(1);
        let admitted =
            self.admission().enter(&request.tenant, request.priority, answer_by(&request));
        let permit = admitted.await.map_err(|refusal| match refusal {
            NotAdmitted::Full => SubmitError::QueueFull { retry_after },
            NotAdmitted::MemoryShort => SubmitError::MemoryShort { retry_after },
        })?;
        let pipeline_run = matches!(request.work, Work::Pipeline(_));
        if !pipeline_run && request.wait && request.idempotency_key.is_none() {
            return Ok(self.unjournaled(request, run_id, policy, permit).await);
        }
        // Boxed, so that calls of single steps do not carry its size about.
        Box::pin(self.journaled(request, run_id, policy, permit)).await
    }

    fn policy_for(
        &self,
        request: &RunRequest,
        run_id: &str,
    ) -> Result<Arc<PolicyVersion>, SubmitError> {
        let of = request.work.of_pipeline();
        let of_pipeline = of.and_then(|version| version.planned.pipeline.policy.clone());
        let name =
            request.policy.as_deref().or(of_pipeline.as_deref()).unwrap_or(self.default_policy());
        self.documents().policy_for(name, run_id).ok_or_else(|| {
            let snapshot = self.documents().snapshot();
            let names = snapshot.policies.keys().map(|name| &**name);
            let nearest = crate::document::nearest(name, names).map(str::to_owned);
            SubmitError::PolicyNotFound { name: name.to_owned(), nearest }
        })
    }

    fn first_record(
        &self,
        request: &RunRequest,
        run_id: Arc<str>,
        policy: &PolicyVersion,
    ) -> RunRecord {
        let of = request.work.of_pipeline();
        RunRecord {
            run_id,
            tenant: request.tenant.clone(),
            pipeline: of.map_or_else(|| "".into(), |version| version.name.clone()),
            pipeline_version: of.map_or(0, |version| version.version),
            policy: PolicyRef::clone(&policy.reference),
            state: RunState::Running,
            output: None,
            steps: Vec::new(),
            step_order: Vec::new(),
            failure: None,
            labels: Arc::new(request.all_labels()),
            created: SystemTime::now(),
            ended: None,
            trace_id: request.trace.trace_id,
            idempotency_key: request.idempotency_key.as_deref().map(Into::into),
        }
    }

    /// A run that belongs to its call: dropping the call ends it, and nothing is kept.
    async fn unjournaled(
        &self,
        request: Box<RunRequest>,
        run_id: Arc<str>,
        policy: Arc<PolicyVersion>,
        _permit: Permit,
    ) -> Arc<RunRecord> {
        let now = Instant::now();
        let time = request.caller_deadline.saturating_duration_since(now);
        let mut record = self.first_record(&request, run_id, &policy);
        let context =
            self.context(&request, &record, request.caller_deadline - answer_margin(time), &policy);
        let mut underway = Underway {
            engine: self,
            request: &request,
            run: &context,
            record: Source::Own(&mut record),
            began: now,
            is_over: false,
        };
        let place = |index, report| underway.place(index, report);
        let outcome = self.execute(&request, &policy, &context, place).await;
        underway.is_over = true;
        drop(underway);
        finish(&mut record, outcome);
        self.documents().note_ended(&record, now);
        self.export(&request, &context, &record, now);
        Arc::new(record)
    }

    async fn journaled(
        &self,
        request: Box<RunRequest>,
        run_id: Arc<str>,
        policy: Arc<PolicyVersion>,
        permit: Permit,
    ) -> Result<Arc<RunRecord>, SubmitError> {
        let record = self.first_record(&request, run_id, &policy);
        let run_id = record.run_id.to_string();
        let handle = match self.inner.runs.accept(record, request.request_digest) {
            Ok(Accepted::New(handle)) => handle,
            Ok(Accepted::Existing(handle)) => {
                drop(permit);
                return self.attach(&handle, &request).await;
            }
            Err(Conflict::KeyReused) => return Err(SubmitError::IdempotencyKeyReused),
            Err(Conflict::RunIdTaken) => return Err(SubmitError::RunIdTaken { run_id }),
        };
        let outlives =
            request.idempotency_key.is_some() || request.run_id.is_some() || !request.wait;
        if !outlives {
            let _guard = CancelOnDrop(&handle);
            self.carry(&request, &policy, &handle, Some(request.caller_deadline)).await;
            drop(permit);
            return Ok(handle.record());
        }
        let (engine, held) = (self.clone(), handle.clone());
        let (wait, deadline) = (request.wait, request.caller_deadline);
        let bound = request.bound_to_call.then_some(deadline);
        // The run belongs to the server now: a caller that goes away cancels nothing here.
        self.inner.settings.tasks.spawn(async move {
            let _guard = CancelOnDrop(&held);
            engine.carry(&request, &policy, &held, bound).await;
            drop(permit);
        });
        if wait { await_end(&handle, deadline).await } else { Ok(handle.record()) }
    }

    async fn attach(
        &self,
        handle: &RunHandle,
        request: &RunRequest,
    ) -> Result<Arc<RunRecord>, SubmitError> {
        if let Some(outlet) = &request.outlet {
            let record = handle.record();
            outlet.started(record.run_id.clone(), record.policy.clone(), "".into()).await;
        }
        if request.wait {
            await_end(handle, request.caller_deadline).await
        } else {
            Ok(handle.record())
        }
    }

    /// Carries a recorded run to its end. With `caller_deadline`, the call's time bounds it too.
    async fn carry(
        &self,
        request: &RunRequest,
        policy: &PolicyVersion,
        handle: &RunHandle,
        caller_deadline: Option<Instant>,
    ) {
        let began = Instant::now();
        let record = handle.record();
        let own = match &request.work {
            Work::Pipeline(version) => version.planned.pipeline.run_timeout,
            Work::Step { .. } => None,
        };
        let limit = request.run_timeout.or(own).unwrap_or(self.inner.settings.run_timeout);
        let mut answer_by = began + limit;
        if let Some(deadline) = caller_deadline {
            let time = deadline.saturating_duration_since(began);
            answer_by = answer_by.min(deadline - answer_margin(time));
        }
        let mut context = self.context(request, &record, answer_by, policy);
        context.events = Some(handle.events.clone());
        context.tell(|| RunEventKind::Started(record.clone()));
        let mut underway = Underway {
            engine: self,
            request,
            run: &context,
            record: Source::Kept(handle),
            began,
            is_over: false,
        };
        let place = |index, report| underway.place(index, report);
        let outcome = tokio::select! {
            outcome = self.execute(request, policy, &context, place) => outcome,
            () = handle.cancel.cancelled() => abandoned::cancelled(),
        };
        underway.is_over = true;
        drop(underway);
        let mut ended = RunRecord::clone(&handle.record());
        finish(&mut ended, outcome);
        self.documents().note_ended(&ended, began);
        self.export(request, &context, &ended, began);
        handle.update(|record| *record = ended);
        context.tell(|| RunEventKind::Ended(handle.record()));
    }

    fn context(
        &self,
        request: &RunRequest,
        record: &RunRecord,
        answer_by: Instant,
        policy: &PolicyVersion,
    ) -> RunContext {
        RunContext {
            run_id: record.run_id.clone(),
            tenant: record.tenant.clone(),
            pipeline: record.pipeline.clone(),
            labels: record.labels.clone(),
            trace: request.trace.clone(),
            answer_by,
            priority: request.priority,
            extra_calls_left: AtomicU32::new(policy.policy.execution.run_extra_calls_max),
            events: None,
            outlet: request.outlet.clone(),
            abandoned: Abandoned::default(),
        }
    }

    async fn execute(
        &self,
        request: &RunRequest,
        policy: &PolicyVersion,
        context: &RunContext,
        mut finished: impl FnMut(usize, Arc<StepReport>),
    ) -> RunOutcome {
        let inputs = RunInputs { engine: self, run: context, policy, input: &request.input };
        match &request.work {
            Work::Step { planned, earlier, .. } => {
                let report = Arc::new(run::single(&inputs, planned, earlier).await);
                context.tell(|| RunEventKind::StepEnded(report.clone()));
                let outcome = run::outcome_of_step(&report);
                finished(0, report);
                outcome
            }
            Work::Pipeline(version) => Box::pin(run::pipeline(&inputs, version, finished)).await,
        }
    }
}

/// The caller's id for the run, or a new one.
fn run_id(request: &RunRequest) -> Arc<str> {
    request.run_id.as_deref().map_or_else(ids::new_run_id, Into::into)
}

/// When an answer to a call has to leave.
fn answer_by(request: &RunRequest) -> Instant {
    let time = request.caller_deadline.saturating_duration_since(Instant::now());
    request.caller_deadline - answer_margin(time)
}

/// Puts a step's report at its place: in the order of the pipeline, which is the order of `index`.
fn place(record: &mut RunRecord, index: usize, report: Arc<StepReport>) {
    // Reports come as steps end; those of a pipeline carry their index in `order`.
    let at = record.step_order.partition_point(|earlier| *earlier < index);
    record.step_order.insert(at, index);
    record.steps.insert(at, report);
}

fn finish(record: &mut RunRecord, outcome: RunOutcome) {
    record.state = outcome.state;
    record.output = outcome.output.map(Arc::new);
    record.failure = outcome.failure;
    record.ended = Some(SystemTime::now());
}

async fn await_end(handle: &RunHandle, deadline: Instant) -> Result<Arc<RunRecord>, SubmitError> {
    let time = deadline.saturating_duration_since(Instant::now());
    tokio::time::timeout(time.saturating_sub(answer_margin(time)), handle.ended())
        .await
        .map_err(|_| SubmitError::StillRunning { run_id: handle.record().run_id.to_string() })
}
