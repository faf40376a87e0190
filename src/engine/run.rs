//! The way of a run: steps as their needs allow, each under the snapshot that the run began with.

use std::sync::Arc;
use std::time::SystemTime;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::Engine;
use super::abandoned::Abandoned;
use super::active_policy::{PipelineVersion, PolicyVersion};
use super::events::RunEventKind;
use super::plan::PlannedStep;
use super::step::{self, RunContext, StepContext};
use crate::failure::{Failure, FailureCause};
use crate::journal::{OutputBody, RunState, StepOutput, StepReport};
use crate::pipeline::{ForEach, OnElementFailure, Pipeline, Scope, StepView};
use crate::telemetry::trace::new_span_id;

/// What a run is made of.
pub struct RunInputs<'a> {
    /// The engine.
    pub engine: &'a Engine,
    /// The run.
    pub run: &'a RunContext,
    /// The policy in force.
    pub policy: &'a PolicyVersion,
    /// What templates see as `input`.
    pub input: &'a Value,
}

/// How a run ended.
pub struct RunOutcome {
    /// Output of a run that ended well.
    pub output: Option<Value>,
    /// Why it failed, with the step.
    pub failure: Option<(Arc<str>, Failure)>,
    /// How.
    pub state: RunState,
}

/// The output of an earlier step, as later ones see it.
#[derive(Clone)]
pub struct Earlier {
    name: Arc<str>,
    output: Arc<Value>,
    skipped: bool,
}

impl Earlier {
    /// Outputs given by a caller, by step.
    pub fn of_object(steps: &Value) -> Vec<Self> {
        let members = steps.as_object().into_iter().flatten();
        members
            .map(|(name, output)| Self {
                name: name.as_str().into(),
                output: Arc::new(output.clone()),
                skipped: output.is_null(),
            })
            .collect()
    }

    fn of_report(report: &StepReport) -> Self {
        let output = report.output.as_ref().map_or(Value::Null, |output| output.body.to_value());
        Self {
            name: report.step.clone(),
            output: Arc::new(output),
            skipped: report.state == RunState::Skipped,
        }
    }

    fn view(&self) -> StepView<'_> {
        StepView { name: &self.name, output: &self.output, skipped: self.skipped }
    }
}

/// Runs one step that belongs to no graph.
pub async fn single(
    inputs: &RunInputs<'_>,
    planned: &PlannedStep,
    earlier: &[Earlier],
) -> StepReport {
    let views: Vec<StepView<'_>> = earlier.iter().map(Earlier::view).collect();
    step::run(&context(inputs, planned, scope(inputs, &views))).await
}

fn scope<'a>(inputs: &'a RunInputs<'_>, steps: &'a [StepView<'a>]) -> Scope<'a> {
    Scope::new(inputs.input, steps, &inputs.run.run_id, &inputs.run.labels)
}

fn context<'a>(
    inputs: &'a RunInputs<'_>,
    planned: &'a PlannedStep,
    scope: Scope<'a>,
) -> StepContext<'a> {
    StepContext {
        engine: inputs.engine,
        run: inputs.run,
        policy: inputs.policy,
        planned,
        scope,
        element: None,
        parent_span_id: inputs.run.trace.span_id,
        until: inputs.run.answer_by,
        outlet: inputs.run.outlet.as_ref(),
        abandoned: Abandoned::default(),
    }
}

/// How a single step's report ends its run.
pub fn outcome_of_step(report: &StepReport) -> RunOutcome {
    RunOutcome {
        output: report.output.as_ref().map(|output| output.body.to_value()),
        failure: report.failure.clone().map(|failure| (report.step.clone(), failure)),
        state: report.state,
    }
}

/// Runs a pipeline. `finished` is called with each step's report as it ends.
pub async fn pipeline(
    inputs: &RunInputs<'_>,
    version: &PipelineVersion,
    mut finished: impl FnMut(usize, Arc<StepReport>),
) -> RunOutcome {
    let planned = &version.planned;
    let count = planned.steps.len();
    let mut results: Vec<Option<Arc<StepReport>>> = vec![None; count];
    let mut started = vec![false; count];
    let mut earlier: Vec<Earlier> = Vec::with_capacity(count);
    let mut running = FuturesUnordered::new();
    loop {
        let usable: Vec<bool> =
            results.iter().map(|r| r.as_ref().is_some_and(|r| r.failure.is_none())).collect();
        let ready: Vec<usize> =
            planned.pipeline.ready(&usable).filter(|index| !started[*index]).collect();
        for index in ready {
            started[index] = true;
            let (step, earlier) = (planned.steps[index].clone(), earlier.clone());
            running.push(async move { (index, one(inputs, &step, &earlier).await) });
        }
        let Some((index, report)) = running.next().await else { break };
        let report = Arc::new(report);
        earlier.push(Earlier::of_report(&report));
        let halts = report.halts_run;
        results[index] = Some(report.clone());
        inputs.run.tell(|| RunEventKind::StepEnded(report.clone()));
        finished(index, report);
        if halts {
            break; // Dropping what runs cancels it at once.
        }
    }
    outcome(inputs, &planned.pipeline, &results, &earlier)
}

fn outcome(
    inputs: &RunInputs<'_>,
    pipeline: &Pipeline,
    results: &[Option<Arc<StepReport>>],
    earlier: &[Earlier],
) -> RunOutcome {
    let reports = || results.iter().flatten();
    let failed = |step: Arc<str>, failure| RunOutcome {
        output: None,
        failure: Some((step, failure)),
        state: RunState::Failed,
    };
    let first = |halting: bool| {
        reports()
            .filter(|report| !halting || report.halts_run)
            .find_map(|r| r.failure.clone().map(|failure| (r.step.clone(), failure)))
    };
    // What halted the run is why it failed, whatever else had failed beside it.
    if let Some((step, failure)) = first(true).or_else(|| first(false)) {
        return failed(step, failure);
    }
    if reports().count() < results.len() {
        // Cannot happen with a graph that compiled; said plainly rather than passed over.
        let failure = Failure::new(FailureCause::Internal, "steps were left without a result");
        return failed("".into(), failure);
    }
    let views: Vec<StepView<'_>> = earlier.iter().map(Earlier::view).collect();
    match pipeline.result(&scope(inputs, &views)) {
        Ok(output) => {
            let degraded = reports().any(|report| report.state == RunState::Degraded);
            let state = if degraded { RunState::Degraded } else { RunState::Succeeded };
            RunOutcome { output: Some(output), failure: None, state }
        }
        Err(failure) => failed("output".into(), failure),
    }
}

/// One step of a pipeline: its condition, its elements or its single execution.
async fn one(inputs: &RunInputs<'_>, planned: &PlannedStep, earlier: &[Earlier]) -> StepReport {
    let step = &planned.step;
    let views: Vec<StepView<'_>> = earlier.iter().map(Earlier::view).collect();
    let scope = scope(inputs, &views);
    let refused = |failure| step::refused(&context(inputs, planned, scope), failure);
    match step.runs(&scope) {
        Ok(true) => {}
        Ok(false) => {
            let mut report = StepReport::begun(step.name.clone(), None, SystemTime::now());
            report.span_id = new_span_id();
            report.state = RunState::Skipped;
            return report;
        }
        Err(failure) => return refused(failure),
    }
    match (&step.for_each, step.elements(&scope)) {
        (Some(each), Ok(Some(items))) => elements(inputs, planned, scope, each, &items).await,
        (None, Ok(_)) | (Some(_), Ok(None)) => step::run(&context(inputs, planned, scope)).await,
        (_, Err(failure)) => refused(failure),
    }
}

async fn elements(
    inputs: &RunInputs<'_>,
    planned: &PlannedStep,
    around: Scope<'_>,
    each: &ForEach,
    items: &[Value],
) -> StepReport {
    let mut whole = Elements::begin(inputs.run, &planned.step.name, items.len());
    let parent_span_id = whole.report.span_id;
    inputs.run.tell(|| RunEventKind::ElementsKnown {
        step: planned.step.name.clone(),
        total: items.len(),
    });
    let mut waiting = items.iter().enumerate();
    let mut running = FuturesUnordered::new();
    loop {
        while running.len() < each.parallelism {
            let Some((index, item)) = waiting.next() else { break };
            running.push(async move {
                let scope = around.with_element(item, index);
                let cx = context(inputs, planned, scope);
                let cx = StepContext { element: Some(index), parent_span_id, ..cx };
                (index, step::run(&cx).await)
            });
        }
        let Some((index, element)) = running.next().await else { break };
        inputs.run.tell(|| RunEventKind::StepEnded(Arc::new(element.clone())));
        let stop = element.halts_run
            || (element.failure.is_some() && each.on_element_failure == OnElementFailure::Fail);
        whole.results[index] = Some(element);
        if stop {
            break; // Dropping what runs cancels it at once.
        }
    }
    drop(running);
    let mut report = whole.end();
    settle_elements(&mut report, each.on_element_failure);
    report
}

/// A `for_each` step under way. Dropped before its end, it leaves what its elements did with its
/// run.
struct Elements<'a> {
    run: &'a RunContext,
    report: StepReport,
    results: Vec<Option<StepReport>>,
    began: Instant,
    is_over: bool,
}

impl<'a> Elements<'a> {
    fn begin(run: &'a RunContext, name: &Arc<str>, count: usize) -> Self {
        let mut report = StepReport::begun(name.clone(), None, SystemTime::now());
        report.span_id = new_span_id();
        let results = (0..count).map(|_| None).collect();
        Self { run, report, results, began: Instant::now(), is_over: false }
    }

    fn end(mut self) -> StepReport {
        self.is_over = true;
        self.take()
    }

    fn take(&mut self) -> StepReport {
        let nothing = StepReport::begun(self.report.step.clone(), None, self.report.started);
        let mut report = std::mem::replace(&mut self.report, nothing);
        report.elements = std::mem::take(&mut self.results).into_iter().flatten().collect();
        report.duration = self.began.elapsed();
        report
    }
}

impl Drop for Elements<'_> {
    fn drop(&mut self) {
        if self.is_over {
            return;
        }
        let mut report = self.take();
        report.state = RunState::Cancelled;
        self.run.abandoned.put((self.run.trace.span_id, report));
    }
}

/// Makes the output of a `for_each` step out of its elements': an array in the order of its input.
fn settle_elements(report: &mut StepReport, on_failure: OnElementFailure) {
    let failing = report.elements.iter().find(|element| {
        element.halts_run || (element.failure.is_some() && on_failure == OnElementFailure::Fail)
    });
    if let Some(element) = failing {
        report.failure.clone_from(&element.failure);
        report.last_action = element.last_action;
        report.halts_run = element.halts_run;
        report.ended_by_caller = element.ended_by_caller;
        report.target.clone_from(&element.target);
        report.state = RunState::Failed;
        return;
    }
    let value = |element: &StepReport| match (&element.output, &element.failure, on_failure) {
        (Some(output), ..) => output.body.to_value(),
        (None, Some(failure), OnElementFailure::Collect) => json!({ "error": {
            "domain": failure.domain().name(),
            "cause": failure.cause.name(),
            "message": failure.message,
        }}),
        (None, Some(_) | None, _) => Value::Null,
    };
    let array = Value::Array(report.elements.iter().map(value).collect());
    let less = report.elements.iter().any(|e| e.state != RunState::Succeeded);
    report.state = if less { RunState::Degraded } else { RunState::Succeeded };
    let body = OutputBody::Json { text: array.to_string().into(), value: Arc::new(array) };
    report.output = Some(StepOutput::plain(body));
}
