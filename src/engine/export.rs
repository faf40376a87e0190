//! From records to spans, once a run has ended.

use tokio::time::Instant;

use super::step::RunContext;
use super::{Engine, RunRequest};
use crate::journal::{RunRecord, RunState};
use crate::telemetry::spans::{self, CallFacts, RunFacts};

impl Engine {
    /// Spans of a run that ended: all of them when the trace is recorded, or when the run did not
    /// end as it should.
    pub(super) fn export(
        &self,
        request: &RunRequest,
        run: &RunContext,
        record: &RunRecord,
        began: Instant,
    ) {
        let tracer = self.tracer();
        let wanted = run.trace.sampled || record.state != RunState::Succeeded;
        if !tracer.enabled() || !wanted {
            return;
        }
        let facts = RunFacts {
            run_id: &record.run_id,
            pipeline: &record.pipeline,
            pipeline_version: record.pipeline_version,
            policy: &record.policy,
        };
        let embeds = self.cache().similar().map(|similar| similar.target());
        let target = |name: &str| {
            let own = embeds.filter(|target| *target.name == *name);
            self.targets().get(name).or(own).map(|target| target.facts()).unwrap_or_default()
        };
        for step in &record.steps {
            spans::export_step(tracer, &run.trace, run.trace.span_id, &facts, step, &target);
        }
        for (parent, step) in &run.abandoned.take() {
            spans::export_step(tracer, &run.trace, *parent, &facts, step, &target);
        }
        let call = CallFacts {
            method: request.call.method,
            name: request.call.name,
            status: (request.call.status)(record),
            state: record.state,
            failure: record.failure.as_ref().map(|(_, failure)| failure),
            action: record.failed_step().and_then(|s| s.last_action).map(|action| action.name()),
            started: record.created,
            duration: began.elapsed(),
        };
        spans::export_call(tracer, &run.trace, &facts, &call);
    }
}
