//! What would be decided about a failure, and the table that a policy resolves to.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tonic::{Request, Response, Status};

use super::{PolicyApi, diff, resolve};
use crate::api::status::{self, FieldFault, NotFound};
use crate::api::{convert, pb};
use crate::document::nearest;
use crate::engine::did_you_mean;
use crate::engine::plan::PlannedStep;
use crate::engine::step::record_of;
use crate::engine::targets::Target;
use crate::failure::{Failure, FailureCause};
use crate::policy::explain::{self, Explanation};
use crate::policy::{
    Conditions, History, Moment, ReaskRoom, RepairOffer, Rung, Site, TargetCondition,
};

/// Time left where a request says nothing of it.
const PLENTY: Duration = Duration::from_secs(3_600);

/// Most calls that a failure may come after.
const ATTEMPTS_MAX: u32 = 1_000;

pub(super) async fn explain_failure(
    api: &PolicyApi,
    request: Request<pb::ExplainFailureRequest>,
) -> Result<Response<pb::ExplainFailureResponse>, Status> {
    let message = request.into_inner();
    let failure = failure(message.failure.clone().unwrap_or_default(), message.attempts)?;
    let policy = resolve::policy(api, "policy", message.policy).await?;
    let planned = step(api, &message.pipeline, &message.step)?;
    let asked = Asked {
        failure,
        attempts: message.attempts.max(1),
        pipeline: Some(message.pipeline.as_str()).filter(|name| !name.is_empty()),
        step: &message.step,
        labels: message.labels.into_iter().collect(),
        remaining: message
            .time_left
            .map_or(PLENTY, |left| Duration::try_from(left).unwrap_or_default()),
    };
    let (own, all) = targets(api, planned.as_deref());
    let target = match message.target.as_str() {
        "" => own.first().or(all.first()),
        name => all.iter().find(|target| *target.name == *name),
    };
    let Some(target) = target else {
        let names = all.iter().map(|target| &*target.name);
        let near = nearest(&message.target, names).map(str::to_owned);
        let hint = did_you_mean(&near);
        return Err(status::of_not_found(&NotFound {
            reason: "TARGET_NOT_FOUND",
            message: format!("there is no target `{}`{hint}", message.target),
        }));
    };
    let explanation = asked.explain(&policy, planned.as_deref(), target, own.len(), &all);
    Ok(Response::new(response(&explanation)))
}

/// The failure that is asked about.
fn failure(asked: pb::HypotheticalFailure, attempts: u32) -> Result<Failure, Status> {
    let mut faults = Vec::new();
    if attempts > ATTEMPTS_MAX {
        faults.push(FieldFault::new("attempts", format!("is at most {ATTEMPTS_MAX}")));
    }
    let cause = asked.cause.parse::<FailureCause>().map_err(|error| {
        let near = nearest(&asked.cause, FailureCause::ALL.iter().map(|cause| cause.name()));
        let hint = near.map(|near| format!("; did you mean `{near}`?")).unwrap_or_default();
        faults.push(FieldFault::new("failure.cause", format!("{error}{hint}")));
    });
    match cause {
        Ok(cause) if faults.is_empty() => {
            let mut failure = Failure::new(cause, cause.summary());
            failure.retry_after = asked.retry_after.and_then(|hint| hint.try_into().ok());
            failure.evidence.status =
                u16::try_from(asked.provider_status).ok().filter(|status| *status != 0);
            Ok(failure)
        }
        Ok(_) | Err(()) => Err(status::of_faults(&faults)),
    }
}

/// The step of a pipeline that serves; none for a step of no pipeline.
fn step(api: &PolicyApi, pipeline: &str, name: &str) -> Result<Option<Arc<PlannedStep>>, Status> {
    if pipeline.is_empty() {
        return Ok(None);
    }
    let missing = |reason, message| status::of_not_found(&NotFound { reason, message });
    let found = api.engine.documents().pipeline(pipeline).ok_or_else(|| {
        missing("PIPELINE_NOT_FOUND", format!("there is no pipeline `{pipeline}`"))
    })?;
    let mut steps = found.planned.steps.iter();
    let step = steps.find(|planned| *planned.step.name == *name).cloned();
    step.map(Some).ok_or_else(|| {
        missing("STEP_NOT_FOUND", format!("pipeline `{pipeline}` has no step `{name}`"))
    })
}

/// The step's own targets, and all of them with its own first. A step of no pipeline could name any.
fn targets(api: &PolicyApi, planned: Option<&PlannedStep>) -> (Vec<Arc<Target>>, Vec<Arc<Target>>) {
    let every: Vec<Arc<Target>> = api.engine.targets().iter().cloned().collect();
    let own = planned.map_or_else(|| every.clone(), |planned| planned.targets.clone());
    let mut all = own.clone();
    all.extend(every.into_iter().filter(|one| !own.iter().any(|mine| mine.name == one.name)));
    (own, all)
}

/// A failure and where it happens.
struct Asked<'a> {
    failure: Failure,
    attempts: u32,
    pipeline: Option<&'a str>,
    step: &'a str,
    labels: BTreeMap<String, String>,
    remaining: Duration,
}

impl Asked<'_> {
    /// The targets are as they are now. Of an output nothing is known, so that it is taken to be
    /// repairable, to have parts that hold, and to have an earlier one in the cache.
    fn explain(
        &self,
        policy: &crate::policy::Policy,
        planned: Option<&PlannedStep>,
        target: &Target,
        own: usize,
        all: &[Arc<Target>],
    ) -> Explanation {
        // Of no step nothing is known: no target is suspect for its outputs.
        let key = planned.map_or(0, |planned| planned.key);
        let caller: Arc<str> = Arc::from("default");
        let mut history = History::default();
        (0..self.attempts).for_each(|_| history.record_call(&target.name));
        history.record_failure(&target.name, &self.failure);
        let targets: Vec<TargetCondition<'_>> = all
            .iter()
            .map(|target| {
                let standing = target.gate.standing(&caller, key);
                TargetCondition {
                    name: &target.name,
                    admits_in: standing.admits_in,
                    refusal: standing.refusal,
                    retry_budget: standing.retry_budget,
                    context_window: target.context_window,
                    likely_duration: standing.likely_duration,
                }
            })
            .collect();
        let step = planned.map(|planned| &planned.step);
        let site = Site {
            pipeline: self.pipeline,
            step: self.step,
            target: &target.name,
            attempt: self.attempts,
            labels: &self.labels,
        };
        let unfit = step.map_or(Vec::new(), |step| {
            let ladder = policy.routing.route(&self.failure, &site).ladder;
            let of = |rung: &Rung| {
                let Rung::FallbackToTemplate { template } = rung else { return None };
                template.clone()
            };
            let templates = ladder.rungs.iter().filter_map(of);
            templates.filter(|template| !step.output.takes(template)).collect()
        });
        let conditions = Conditions {
            max_attempts: step.and_then(|step| step.max_attempts).unwrap_or(u32::MAX),
            run_extra_calls_left: policy.execution.run_extra_calls_max,
            max_cost_usd: step.and_then(|step| step.max_cost_usd),
            targets: &targets,
            step_targets: own,
            reprompt_budget: target.gate.standing(&caller, key).reprompt_budget,
            reask: ReaskRoom::default(),
            verifier_failed: false,
            repair: Some(RepairOffer::Lossless),
            cache_age: Some(Duration::ZERO),
            step_template: step.is_some_and(|step| step.template_output.is_some()),
            unfit_templates: &unfit,
            partial: true,
        };
        let moment = Moment { remaining: self.remaining, dice: 0.5 };
        explain::failure(policy, &self.failure, &site, &history, moment, &conditions)
    }
}

fn response(explanation: &Explanation) -> pb::ExplainFailureResponse {
    let rungs = explanation.rungs.iter().map(|rung| pb::RungExplanation {
        rung: u32::try_from(rung.rung).unwrap_or(u32::MAX),
        text: rung.text.clone(),
        action: convert::action(Some(rung.action)).into(),
        feasible: rung.judgement.is_ok(),
        reason: rung.judgement.as_ref().err().map_or("", |why| why.name()).to_owned(),
    });
    pb::ExplainFailureResponse {
        decision: Some(convert::decision(&record_of(&explanation.decision))),
        rungs: rungs.collect(),
    }
}

pub(super) async fn explain_policy(
    api: &PolicyApi,
    request: Request<pb::ExplainPolicyRequest>,
) -> Result<Response<pb::ExplainPolicyResponse>, Status> {
    let message = request.into_inner();
    let policy = resolve::policy(api, "policy", message.policy).await?;
    let labels = BTreeMap::new();
    let asked = [&message.pipeline, &message.step, &message.target].iter().any(|x| !x.is_empty());
    let site = Site {
        pipeline: Some(message.pipeline.as_str()).filter(|name| !name.is_empty()),
        step: &message.step,
        target: &message.target,
        attempt: 1,
        labels: &labels,
    };
    let table = explain::table(&policy, asked.then_some(&site));
    let target = Some(message.target.as_str());
    let routes = table.routes.iter();
    let routes = routes.map(|row| diff::route(row.cause, target, &row.rule, row.ladder.clone()));
    Ok(Response::new(pb::ExplainPolicyResponse { routes: routes.collect() }))
}
