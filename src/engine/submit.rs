//! What is asked of the engine, and why it may refuse.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio::time::Instant;

use super::active_policy::PipelineVersion;
use super::outlet::Outlet;
use super::plan::PlannedStep;
use super::run::Earlier;
use crate::journal::RunRecord;
use crate::resilience::fair_queue::Priority;
use crate::telemetry::trace::TraceContext;

/// How the call that starts a run shows on its span.
#[derive(Clone, Copy)]
pub struct CallName {
    /// `package.Service/Method`.
    pub method: &'static str,
    /// The method alone, the span's name.
    pub name: &'static str,
    /// The gRPC status that a run's end becomes.
    pub status: fn(&RunRecord) -> &'static str,
}

/// What is to be run.
pub enum Work {
    /// One step.
    Step {
        /// The step.
        planned: Arc<PlannedStep>,
        /// Outputs of other steps, given by the caller.
        earlier: Vec<Earlier>,
        /// The pipeline that it is from; `None` for an inline step.
        of: Option<Arc<PipelineVersion>>,
    },
    /// A pipeline.
    Pipeline(Arc<PipelineVersion>),
}

impl Work {
    /// The pipeline that is run, or that the step is from.
    pub fn of_pipeline(&self) -> Option<&Arc<PipelineVersion>> {
        match self {
            Self::Step { of, .. } => of.as_ref(),
            Self::Pipeline(version) => Some(version),
        }
    }
}

/// A request to run something, parsed.
pub struct RunRequest {
    /// Whose run it is.
    pub tenant: Arc<str>,
    /// What.
    pub work: Work,
    /// What templates see as `input`.
    pub input: Value,
    /// Policy to run under; the pipeline's, else the server's, if absent.
    pub policy: Option<String>,
    /// The caller's own id for the run.
    pub run_id: Option<String>,
    /// Makes the request safe to repeat.
    pub idempotency_key: Option<String>,
    /// Digest of the request, told apart under one key.
    pub request_digest: [u8; 32],
    /// How urgent its calls are.
    pub priority: Priority,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Longest time of a journaled run.
    pub run_timeout: Option<Duration>,
    /// When the caller stops waiting.
    pub caller_deadline: Instant,
    /// False to be answered as soon as the run is recorded.
    pub wait: bool,
    /// True for a run that its caller watches and nobody may attach to: it has the call's time and
    /// no more, whether or not the call waits for it.
    pub bound_to_call: bool,
    /// Where the call stands in its trace.
    pub trace: TraceContext,
    /// How the call shows on its span.
    pub call: CallName,
    /// Where its output goes while it is written; set by [`super::Engine::stream`].
    pub outlet: Option<Outlet>,
}

impl RunRequest {
    /// The pipeline's labels with the caller's over them.
    pub fn all_labels(&self) -> BTreeMap<String, String> {
        let of = self.work.of_pipeline();
        let mut labels =
            of.map(|version| version.planned.pipeline.labels.clone()).unwrap_or_default();
        labels.extend(self.labels.iter().map(|(key, value)| (key.clone(), value.clone())));
        labels
    }
}

/// A request that could not be served. A failed run is none of these: it is a record.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SubmitError {
    /// As many runs as may be are under way.
    #[error("the service has as many runs under way as it may have")]
    QueueFull {
        /// When to come again.
        retry_after: Duration,
    },
    /// Memory is short.
    #[error("the service is short of memory and takes no new runs")]
    MemoryShort {
        /// When to come again.
        retry_after: Duration,
    },
    /// The service is going down.
    #[error("the service is shutting down")]
    ShuttingDown,
    /// The key stands for another request.
    #[error("the idempotency key was used for a different request")]
    IdempotencyKeyReused,
    /// The run id is taken.
    #[error("run id {run_id} is taken")]
    RunIdTaken {
        /// The id.
        run_id: String,
    },
    /// No such policy.
    #[error("there is no policy `{name}`{}", did_you_mean(.nearest))]
    PolicyNotFound {
        /// The name.
        name: String,
        /// The nearest that exists.
        nearest: Option<String>,
    },
    /// The caller's deadline was over before anything began.
    #[error("the deadline was over before the call began")]
    DeadlinePassed,
    /// The reader of a stream took nothing for too long.
    #[error("the reader of the stream took nothing for too long")]
    ReaderStalled,
    /// The call's time is over; the run goes on.
    #[error("the call's time is over; run {run_id} goes on and can be read with GetRun")]
    StillRunning {
        /// The run.
        run_id: String,
    },
}

/// ` (did you mean …?)`, or nothing.
pub fn did_you_mean(nearest: &Option<String>) -> String {
    nearest.as_ref().map(|name| format!("; did you mean `{name}`?")).unwrap_or_default()
}
