//! Decisions as they are recorded: everything that [`decide`](super::decide()) was given, what it
//! said, and what came of it. No prompt, no output, nothing that a provider said in words.
//!
//! A recorded decision can be decided again, under the policy that was active, which gives the same
//! decision, or under another, which shows what that policy would do. Records are kept by step, since
//! what a step did about one failure is why it met the next.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use serde_json::Value;

use super::Policy;
use super::decide::{Conditions, Moment, ReaskRoom, TargetCondition, decide};
use super::decision::{Decision, Refusal, RepairOffer, Verdict};
use super::history::History;
use super::routing::Site;
use crate::failure::{Failure, FailureCause};

/// The failures of one execution of a step, in their order.
#[derive(Debug, Clone, PartialEq)]
pub struct RecordedStep {
    /// Name of the policy in force.
    pub policy: Arc<str>,
    /// Its version.
    pub policy_version: u64,
    /// Pipeline; absent for a step of its own.
    pub pipeline: Option<Arc<str>>,
    /// Step.
    pub step: Arc<str>,
    /// Labels of the run.
    pub labels: Arc<BTreeMap<String, String>>,
    /// Its failures.
    pub failures: Vec<RecordedFailure>,
}

/// One failure, what was decided about it and what came of that.
#[derive(Debug, Clone, PartialEq)]
pub struct RecordedFailure {
    /// When it was decided.
    pub time: SystemTime,
    /// What failed.
    pub facts: FailureFacts,
    /// Target that failed.
    pub target: Arc<str>,
    /// Number of the attempt, as [`Site::attempt`].
    pub attempt: u32,
    /// What the step had done before.
    pub history: History,
    /// Time and luck.
    pub moment: Moment,
    /// The conditions.
    pub conditions: RecordedConditions,
    /// What was decided.
    pub decision: Decision,
    /// What came of the step after that; absent if the caller ended it.
    pub aftermath: Option<Aftermath>,
}

/// What decisions see of a failure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FailureFacts {
    /// Cause.
    pub cause: FailureCause,
    /// Whether the same call may succeed later.
    pub retryable: bool,
    /// The server's hint.
    pub retry_after: Option<Duration>,
    /// Finer name.
    pub detail: Option<&'static str>,
    /// HTTP status.
    pub status: Option<u16>,
    /// The provider's code.
    pub provider_code: Option<Box<str>>,
}

/// [`Conditions`] that own what they hold.
#[derive(Debug, Clone, PartialEq)]
pub struct RecordedConditions {
    max_attempts: u32,
    run_extra_calls_left: u32,
    max_cost_usd: Option<f64>,
    targets: Vec<RecordedTarget>,
    step_targets: usize,
    reprompt_budget: bool,
    reask: ReaskRoom,
    verifier_failed: bool,
    repair: Option<RepairOffer>,
    cache_age: Option<Duration>,
    step_template: bool,
    unfit_templates: Box<[Arc<Value>]>,
    partial: bool,
}

#[derive(Debug, Clone, PartialEq)]
struct RecordedTarget {
    name: Arc<str>,
    admits_in: Option<Duration>,
    refusal: Option<Refusal>,
    retry_budget: bool,
    context_window: Option<u32>,
    likely_duration: Option<Duration>,
}

/// How a step ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum StepEnd {
    /// With an output in full.
    Recovered,
    /// With an output that is less than asked for.
    Degraded,
    /// Without one.
    Failed,
}

/// What came of a step after a decision.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Aftermath {
    /// How the step ended.
    pub end: StepEnd,
    /// Provider calls made after the decision.
    pub calls: u32,
    /// What they cost.
    pub cost_usd: f64,
    /// Time from the decision to the end of the step, the decision's own wait left out.
    pub work: Duration,
}

impl From<&Failure> for FailureFacts {
    fn from(failure: &Failure) -> Self {
        Self {
            cause: failure.cause,
            retryable: failure.retryable,
            retry_after: failure.retry_after,
            detail: failure.detail,
            status: failure.evidence.status,
            provider_code: failure.evidence.provider_code.as_deref().map(Into::into),
        }
    }
}

impl FailureFacts {
    /// A failure of which decisions see the same.
    pub fn to_failure(&self) -> Failure {
        let mut failure = Failure::new(self.cause, String::new());
        failure.retryable = self.retryable;
        failure.retry_after = self.retry_after;
        failure.detail = self.detail;
        failure.evidence.status = self.status;
        failure.evidence.provider_code = self.provider_code.as_deref().map(str::to_owned);
        failure
    }
}

impl RecordedConditions {
    /// Keeps conditions. `name` gives a target's name that can be kept.
    pub fn keep(conditions: &Conditions<'_>, mut name: impl FnMut(&str) -> Arc<str>) -> Self {
        // Every field by name: what a decision depends on and is not kept would make replays lie.
        let Conditions {
            max_attempts,
            run_extra_calls_left,
            max_cost_usd,
            targets,
            step_targets,
            reprompt_budget,
            reask,
            verifier_failed,
            repair,
            cache_age,
            step_template,
            unfit_templates,
            partial,
        } = conditions.clone();
        let targets = targets.iter().map(|target| {
            let TargetCondition {
                name: called,
                admits_in,
                refusal,
                retry_budget,
                context_window,
                likely_duration,
            } = *target;
            RecordedTarget {
                name: name(called),
                admits_in,
                refusal,
                retry_budget,
                context_window,
                likely_duration,
            }
        });
        Self {
            max_attempts,
            run_extra_calls_left,
            max_cost_usd,
            targets: targets.collect(),
            step_targets,
            reprompt_budget,
            reask,
            verifier_failed,
            repair,
            cache_age,
            step_template,
            unfit_templates: unfit_templates.into(),
            partial,
        }
    }

    /// What a repair of the output in hand would have given.
    pub fn repair(&self) -> Option<RepairOffer> {
        self.repair
    }

    fn targets(&self) -> Vec<TargetCondition<'_>> {
        let lent = self.targets.iter().map(|target| TargetCondition {
            name: &target.name,
            admits_in: target.admits_in,
            refusal: target.refusal,
            retry_budget: target.retry_budget,
            context_window: target.context_window,
            likely_duration: target.likely_duration,
        });
        lent.collect()
    }

    fn lend<'a>(&'a self, targets: &'a [TargetCondition<'a>]) -> Conditions<'a> {
        Conditions {
            max_attempts: self.max_attempts,
            run_extra_calls_left: self.run_extra_calls_left,
            max_cost_usd: self.max_cost_usd,
            targets,
            step_targets: self.step_targets,
            reprompt_budget: self.reprompt_budget,
            reask: self.reask,
            verifier_failed: self.verifier_failed,
            repair: self.repair,
            cache_age: self.cache_age,
            step_template: self.step_template,
            unfit_templates: &self.unfit_templates,
            partial: self.partial,
        }
    }
}

impl RecordedStep {
    /// Decides one of its failures again, under a policy and after a history.
    pub fn decide(
        &self,
        policy: &Policy,
        failure: &RecordedFailure,
        history: &History,
    ) -> Decision {
        let targets = failure.conditions.targets();
        let conditions = failure.conditions.lend(&targets);
        let site = Site {
            pipeline: self.pipeline.as_deref(),
            step: &self.step,
            target: &failure.target,
            attempt: failure.attempt,
            labels: &self.labels,
        };
        let again = failure.facts.to_failure();
        decide(policy, &again, &site, history, failure.moment, &conditions)
    }

    /// Bytes that it takes, roughly; for bounds.
    pub fn bytes(&self) -> usize {
        let of = |failure: &RecordedFailure| {
            size_of::<RecordedFailure>()
                + failure.conditions.targets.len() * size_of::<RecordedTarget>()
                + failure.decision.skipped.len() * size_of::<super::Skipped>()
                + failure.facts.provider_code.as_ref().map_or(0, |code| code.len())
                + failure.history.bytes()
        };
        // Labels are shared with the run, which is mostly forgotten before this record is.
        let labels = self.labels.iter().map(|(name, value)| name.len() + value.len() + 64);
        size_of::<Self>() + labels.sum::<usize>() + self.failures.iter().map(of).sum::<usize>()
    }
}

impl RecordedFailure {
    /// The wait that the decision began with.
    pub fn wait(decision: &Decision) -> Duration {
        match &decision.verdict {
            Verdict::Retry { after } => *after,
            Verdict::Repair { .. }
            | Verdict::Reprompt { .. }
            | Verdict::Fallback { .. }
            | Verdict::Cache { .. }
            | Verdict::Template { .. }
            | Verdict::AcceptPartial { .. }
            | Verdict::Degrade { .. }
            | Verdict::Reject { .. }
            | Verdict::Halt
            | Verdict::Exhausted => Duration::ZERO,
        }
    }
}
