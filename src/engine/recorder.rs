//! What is recorded of failures, so that a policy can be tried out on them.
//!
//! A ring with a bound of failures and of bytes; the oldest steps go first. A step that does not
//! fail leaves nothing here and takes no lock.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use tokio::time::Instant;

use super::step::StepContext;
use crate::failure::Failure;
use crate::journal::{RunState, StepReport};
use crate::policy::record::{
    Aftermath, FailureFacts, RecordedConditions, RecordedFailure, RecordedStep, StepEnd,
};
use crate::policy::simulate::Effects;
use crate::policy::{Conditions, Decision, History, Moment, Site};

/// Bounds of the record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecordLimits {
    /// Most failures.
    pub failures: usize,
    /// Most bytes, roughly.
    pub bytes: usize,
}

impl Default for RecordLimits {
    fn default() -> Self {
        Self { failures: 100_000, bytes: 64 << 20 }
    }
}

/// The record.
pub struct Recorder {
    limits: RecordLimits,
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    steps: VecDeque<Arc<RecordedStep>>,
    failures: usize,
    bytes: usize,
    effects: Effects,
}

impl Recorder {
    /// An empty record.
    pub fn new(limits: RecordLimits) -> Self {
        Self { limits, kept: Mutex::default() }
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a step that met failures.
    pub fn keep(&self, step: RecordedStep) {
        if self.limits.failures == 0 {
            return;
        }
        let (failures, bytes) = (step.failures.len(), step.bytes());
        let mut kept = self.kept();
        kept.effects.note(&step);
        kept.failures += failures;
        kept.bytes += bytes;
        kept.steps.push_back(Arc::new(step));
        while kept.failures > self.limits.failures || kept.bytes > self.limits.bytes {
            let Some(oldest) = kept.steps.pop_front() else { break };
            kept.failures -= oldest.failures.len();
            kept.bytes -= oldest.bytes();
        }
    }

    /// Recorded steps, oldest first, and what is known of the outcomes of actions: that outlives
    /// the steps it was learnt from.
    pub fn recorded(&self) -> (Vec<Arc<RecordedStep>>, Effects) {
        let kept = self.kept();
        (kept.steps.iter().cloned().collect(), kept.effects.clone())
    }

    /// Failures recorded now.
    pub fn failures(&self) -> usize {
        self.kept().failures
    }
}

/// The decisions of a step under way.
#[derive(Default)]
pub(super) struct Notes(Vec<(Instant, RecordedFailure)>);

/// A decision with what it was made from.
pub(super) struct Noted<'a> {
    pub(super) failure: &'a Failure,
    pub(super) site: &'a Site<'a>,
    pub(super) history: &'a History,
    pub(super) moment: Moment,
    pub(super) conditions: &'a Conditions<'a>,
    pub(super) decision: &'a Decision,
}

impl Noted<'_> {
    /// The decision as it is recorded. Names are those of the engine's targets, so that records
    /// share them.
    pub(super) fn recorded(&self, cx: &StepContext<'_>) -> RecordedFailure {
        let targets = cx.engine.targets();
        let name = |called: &str| {
            targets.get(called).map_or_else(|| Arc::from(called), |target| target.name.clone())
        };
        RecordedFailure {
            time: SystemTime::now(),
            facts: FailureFacts::from(self.failure),
            target: name(self.site.target),
            attempt: self.site.attempt,
            history: self.history.clone(),
            moment: self.moment,
            conditions: RecordedConditions::keep(self.conditions, name),
            decision: self.decision.clone(),
            aftermath: None,
        }
    }
}

impl Notes {
    pub(super) fn add(&mut self, now: Instant, failure: RecordedFailure) {
        self.0.push((now, failure));
    }

    /// The record of a step that ended, if it met a failure.
    pub(super) fn into_step(
        self,
        cx: &StepContext<'_>,
        report: &StepReport,
        history: &History,
        now: Instant,
    ) -> Option<RecordedStep> {
        if self.0.is_empty() {
            return None;
        }
        let end = end_of(report);
        let failures = self.0.into_iter().map(|(decided, failure)| {
            let wait = RecordedFailure::wait(&failure.decision);
            let aftermath = end.map(|end| Aftermath {
                end,
                calls: history.calls().saturating_sub(failure.history.calls()),
                cost_usd: (history.cost_usd() - failure.history.cost_usd()).max(0.0),
                work: now.saturating_duration_since(decided).saturating_sub(wait),
            });
            RecordedFailure { aftermath, ..failure }
        });
        let reference = &cx.policy.reference;
        Some(RecordedStep {
            policy: reference.name.clone(),
            policy_version: reference.version,
            pipeline: Some(cx.run.pipeline.clone()).filter(|name| !name.is_empty()),
            step: cx.planned.step.name.clone(),
            labels: cx.run.labels.clone(),
            failures: failures.collect(),
        })
    }
}

/// How a step ended; nothing where no policy could have changed it.
fn end_of(report: &StepReport) -> Option<StepEnd> {
    if report.ended_by_caller {
        return None;
    }
    match report.state {
        RunState::Succeeded => Some(StepEnd::Recovered),
        RunState::Degraded => Some(StepEnd::Degraded),
        RunState::Failed => Some(StepEnd::Failed),
        RunState::Pending | RunState::Running | RunState::Cancelled | RunState::Skipped => None,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::time::Duration;

    use super::*;
    use crate::failure::FailureCause;
    use crate::policy::{Policy, ReaskRoom};

    fn step(name: &str, failures: usize) -> RecordedStep {
        let policy = Policy::built_in();
        let labels = BTreeMap::new();
        let failure = Failure::new(FailureCause::Overloaded, "it failed");
        let site = Site { pipeline: None, step: name, target: "a", attempt: 1, labels: &labels };
        let conditions = Conditions {
            max_attempts: 8,
            run_extra_calls_left: 32,
            max_cost_usd: None,
            targets: &[],
            step_targets: 0,
            reprompt_budget: true,
            reask: ReaskRoom::default(),
            verifier_failed: false,
            repair: None,
            cache_age: None,
            step_template: false,
            unfit_templates: &[],
            partial: false,
        };
        let moment = Moment { remaining: Duration::from_secs(60), dice: 0.5 };
        let history = History::default();
        let decision =
            crate::policy::decide(&policy, &failure, &site, &history, moment, &conditions);
        let one = RecordedFailure {
            time: SystemTime::UNIX_EPOCH,
            facts: FailureFacts::from(&failure),
            target: "a".into(),
            attempt: 1,
            history,
            moment,
            conditions: RecordedConditions::keep(&conditions, |name| Arc::from(name)),
            decision,
            aftermath: None,
        };
        RecordedStep {
            policy: "default".into(),
            policy_version: 1,
            pipeline: None,
            step: name.into(),
            labels: Arc::default(),
            failures: vec![one; failures],
        }
    }

    fn names(recorder: &Recorder) -> Vec<String> {
        recorder.recorded().0.iter().map(|step| step.step.to_string()).collect()
    }

    #[test]
    fn the_oldest_go_when_there_are_too_many() {
        let recorder = Recorder::new(RecordLimits { failures: 5, bytes: usize::MAX });
        for (name, failures) in [("a", 2), ("b", 2), ("c", 2), ("d", 1)] {
            recorder.keep(step(name, failures));
        }
        assert_eq!((names(&recorder).join(""), recorder.failures()), ("bcd".to_owned(), 5));
        recorder.keep(step("long", 6));
        assert_eq!((names(&recorder).len(), recorder.failures()), (0, 0));
    }

    #[test]
    fn the_oldest_go_when_they_take_too_much() {
        let one = step("a", 1).bytes();
        let recorder = Recorder::new(RecordLimits { failures: 100, bytes: 3 * one });
        for name in ["a", "b", "c", "d", "e"] {
            recorder.keep(step(name, 1));
        }
        assert_eq!(names(&recorder).join(""), "cde");
    }

    #[test]
    fn nothing_is_recorded_where_nothing_may_be() {
        let recorder = Recorder::new(RecordLimits { failures: 0, bytes: 100 });
        recorder.keep(step("a", 1));
        assert_eq!(recorder.failures(), 0);
    }
}
