//! The way of one step: attempt, judge, decide, act, until there is an output or nothing is left.
//!
//! This loop does; it decides nothing. What is done about a failure comes from
//! [`crate::policy::decide`], the same function that explains and simulates.

use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, SystemTime};

use serde_json::Value;
use tokio::time::Instant;

use super::Engine;
use super::abandoned::{self, Abandoned, Held};
use super::act::{self, Next};
use super::active_policy::PolicyVersion;
use super::alerts::AlertSite;
use super::attempt::Attempted;
use super::cache::CacheKey;
use super::checks::{self, Unusable};
use super::events::{Events, RunEventKind};
use super::groups;
use super::hedge::{self, Raced};
use super::leave::{Leave, Unpaid};
use super::outlet::Outlet;
use super::plan::PlannedStep;
use super::reask::Reask;
use super::recorder::{Noted, Notes};
use super::targets::Target;
use crate::exchange::Message;
use crate::failure::Failure;
use crate::journal::{AttemptRecord, DecisionRecord, DegradedBy, RunState, StepOutput, StepReport};
use crate::pipeline::Scope;
use crate::policy::record::RecordedFailure;
use crate::policy::{Conditions, Decision, History, Moment, TargetCondition, Verdict, decide};
use crate::resilience::fair_queue::Priority;
use crate::resilience::nearest::{Neighbourhood, Unit};
use crate::resilience::pressure::Pressure;
use crate::telemetry::trace::{TraceContext, new_span_id};

/// Ways that are open to a decision: targets, re-asks, and the fixed outputs that are none.
type Ways<'a> = (&'a [TargetCondition<'a>], bool, &'a [Arc<Value>]);

/// What the steps of a run share.
pub struct RunContext {
    /// Run id.
    pub run_id: Arc<str>,
    /// Whose run it is.
    pub tenant: Arc<str>,
    /// Pipeline; empty for an inline step.
    pub pipeline: Arc<str>,
    /// The caller's labels.
    pub labels: Arc<std::collections::BTreeMap<String, String>>,
    /// Where it stands in its trace.
    pub trace: TraceContext,
    /// When an answer must have left.
    pub answer_by: Instant,
    /// How urgent its calls are.
    pub priority: Priority,
    /// Extra provider calls that the run may still make.
    pub extra_calls_left: AtomicU32,
    /// For those who look on.
    pub events: Option<Arc<Events>>,
    /// For the one who reads the output of its only step while it is written.
    pub outlet: Option<Outlet>,
    /// Steps that were dropped before their end, with the spans that they are parts of.
    pub abandoned: Abandoned<(u64, StepReport)>,
}

impl RunContext {
    /// Whether the run is recorded; then, and only then, somebody may look on.
    pub const fn is_journaled(&self) -> bool {
        self.events.is_some()
    }

    /// Tells those who look on.
    pub fn tell(&self, kind: impl FnOnce() -> RunEventKind) {
        if let Some(events) = &self.events {
            events.send(kind);
        }
    }
}

/// What one execution of a step needs.
pub struct StepContext<'a> {
    /// The engine.
    pub engine: &'a Engine,
    /// The run.
    pub run: &'a RunContext,
    /// The policy in force.
    pub policy: &'a PolicyVersion,
    /// The step.
    pub planned: &'a PlannedStep,
    /// What templates see.
    pub scope: Scope<'a>,
    /// Element of `for_each`.
    pub element: Option<usize>,
    /// The span that it is a part of: its run's, its `for_each` step's, or that of the attempt that
    /// it verifies.
    pub parent_span_id: u64,
    /// When the step must have ended, whatever its own limit is.
    pub until: Instant,
    /// Where its output goes while it is written.
    pub outlet: Option<&'a Outlet>,
    /// Attempts that were dropped before their end.
    pub abandoned: Abandoned<AttemptRecord>,
}

/// A step under way.
pub(super) struct Walk<'a, 'b> {
    pub(super) cx: &'b StepContext<'a>,
    pub(super) report: StepReport,
    pub(super) history: History,
    /// Its targets in the order in which they are asked.
    pub(super) targets: Cow<'b, [Arc<Target>]>,
    pub(super) target: Arc<Target>,
    pub(super) prompt: Vec<Message>,
    /// How the next call differs from the step's own.
    pub(super) reask: Reask,
    pub(super) cache_key: Option<CacheKey>,
    pub(super) until: Instant,
    /// The target whose retry budget the next call has drawn on.
    pub(super) payer: Option<Arc<Target>>,
    /// The next call is the least bad that there is.
    pub(super) is_panic: bool,
    /// The next call waits for a probe that is under way on its target.
    pub(super) awaits_probe: bool,
    /// The disk was asked for an output of this key.
    pub(super) has_recalled: bool,
    /// Where its prompt stands among similar ones.
    pub(super) place: Option<(Neighbourhood, Unit)>,
    /// Whether the output that the step ended with may serve others too.
    pub(super) worth_keeping: bool,
    began: Instant,
    notes: Notes,
    is_over: bool,
}

/// Runs a step to its end. Never fails: what went wrong is in the report.
pub async fn run(cx: &StepContext<'_>) -> StepReport {
    let Some(mut walk) = Walk::begin(cx) else {
        return StepReport::begun(cx.planned.step.name.clone(), cx.element, SystemTime::now());
    };
    let rendered = cx.planned.step.messages(&cx.scope).map(|messages| {
        // What a fixed prompt says is in the step's digest already.
        let rendered = if cx.planned.step.prompt.is_fixed() { &[] } else { &*messages };
        walk.cache_key = Some(CacheKey::new(&cx.run.tenant, &cx.planned.digest, rendered));
        walk.prompt = messages;
        walk.select();
    });
    cx.run.tell(|| RunEventKind::StepStarted {
        step: cx.planned.step.name.clone(),
        element: cx.element,
        target: walk.target.name.clone(),
    });
    if let Some(outlet) = cx.outlet {
        let policy = cx.policy.reference.clone();
        outlet.started(cx.run.run_id.clone(), policy, walk.target.name.clone()).await;
    }
    match rendered {
        Ok(()) => walk.solve().await,
        Err(failure) => walk.unrendered(failure),
    }
    if let Some(outlet) = cx.outlet {
        outlet.complete(&walk.report, walk.until).await;
    }
    walk.end()
}

/// Ends a step that cannot begin: its condition or its elements have no value. The policy has its
/// say about it like about any failure.
pub fn refused(cx: &StepContext<'_>, failure: Failure) -> StepReport {
    match Walk::begin(cx) {
        Some(mut walk) => {
            walk.unrendered(failure);
            walk.end()
        }
        None => StepReport::begun(cx.planned.step.name.clone(), cx.element, SystemTime::now()),
    }
}

impl<'a, 'b> Walk<'a, 'b> {
    /// `None` only for a step without targets, which planning does not let through.
    fn begin(cx: &'b StepContext<'a>) -> Option<Self> {
        let step = &cx.planned.step;
        let began = Instant::now();
        let mut report = StepReport::begun(step.name.clone(), cx.element, SystemTime::now());
        report.span_id = new_span_id();
        let until = match step.timeout {
            Some(limit) => cx.until.min(began + limit),
            None => cx.until,
        };
        Some(Self {
            cx,
            report,
            history: History::default(),
            targets: Cow::Borrowed(&cx.planned.targets),
            target: cx.planned.targets.first()?.clone(),
            prompt: Vec::new(),
            reask: Reask::default(),
            cache_key: None,
            until,
            payer: None,
            is_panic: false,
            awaits_probe: false,
            has_recalled: false,
            place: None,
            worth_keeping: false,
            began,
            notes: Notes::default(),
            is_over: false,
        })
    }
}

impl Walk<'_, '_> {
    /// Makes calls until there is an output or nothing is left.
    pub(super) async fn go(&mut self) {
        loop {
            let number = u32::try_from(self.report.attempts.len()).unwrap_or(u32::MAX) + 1;
            let leave = self.leave();
            (self.is_panic, self.awaits_probe) = (false, false);
            let Raced { made, target, other } = self.attempt(leave, number).await;
            let Attempted { mut record, result } = made;
            let was_called = match &other {
                Some(first) if record.hedge => first.called,
                Some(_) | None => record.called,
            };
            self.put_back(was_called);
            if let Some(other) = &other {
                self.note_beside(other);
            }
            self.target = target;
            self.count(&record);
            let behind = match other {
                Some(first) if record.hedge => {
                    self.report.attempts.push(*first);
                    None
                }
                other => other,
            };
            // What is judged may be dropped meanwhile: the verifier makes calls of its own.
            let held = Held::new(self.cx, &mut record, behind);
            let again_after = self.settle(result, held.record).await;
            if held.record.failure.is_some() {
                self.cx.run.tell(|| RunEventKind::AttemptFailed {
                    step: self.report.step.clone(),
                    element: self.report.element,
                    attempt: Box::new(held.record.clone()),
                });
            }
            self.tell_restart(held.record, again_after.is_some()).await;
            let behind = held.end();
            self.report.attempts.push(record);
            self.report.attempts.extend(behind.map(|other| *other));
            match again_after {
                Some(wait) if wait.is_zero() => {}
                Some(wait) => tokio::time::sleep(wait).await,
                None => return,
            }
        }
    }

    /// Makes the next attempt and, where the policy hedges and it is slow, one beside it.
    async fn attempt(&self, leave: Leave, number: u32) -> Raced {
        let messages = self.reask.messages.as_deref().unwrap_or(&self.prompt);
        let (target, asked) = (&self.target, &self.reask);
        match self.hedge_after(leave) {
            None => {
                let kind = (leave, number);
                let made = abandoned::alone(self.cx, target, messages, asked, kind, self.until);
                Raced { made: made.await, target: target.clone(), other: None }
            }
            // Boxed, so that attempts without another beside them do not carry its size about.
            Some(after) => Box::pin(hedge::race(self, messages, (leave, number), after)).await,
        }
    }

    /// A failure before any call: the prompt does not render.
    fn unrendered(&mut self, failure: Failure) {
        self.note(&failure);
        let unusable = Unusable::from(failure);
        let (decision, _) = self.decide(&unusable, 0);
        self.report.last_action = decision.verdict.action();
        let failure = unusable.failure.clone();
        let (next, decided) = act::carry_out(self, decision, unusable);
        match next {
            // No policy can make a call, or an output, out of a prompt that does not exist.
            Next::Call { .. } | Next::Judge(_) => self.fail(failure),
            Next::Done => {}
        }
        self.report.decision = Some(decided);
    }

    /// Decides what is done about a finding, and says whose retry budget that draws on.
    pub(super) fn decide(
        &mut self,
        unusable: &Unusable,
        attempt: u32,
    ) -> (Decision, Option<Arc<Target>>) {
        let (mut targets, mut reprompt_budget) = self.target_conditions();
        let meant = self.group_targets();
        targets.extend(groups::conditions(&meant, &targets));
        let mut unfit: Vec<Arc<Value>> = Vec::new();
        loop {
            let ways = (&*targets, reprompt_budget, &*unfit);
            let (decision, noted) = self.decide_under(unusable, attempt, ways);
            let decision = groups::resolved(decision, &meant);
            if let Verdict::Template { template: Some(template) } = &decision.verdict
                && !self.cx.planned.step.output.takes(template)
            {
                unfit.push(template.clone());
                continue;
            }
            // Each round closes one way that was open, so this ends.
            match self.pay(&decision) {
                Ok(payer) => {
                    if let Some((now, failure)) = noted {
                        self.notes.add(now, failure);
                    }
                    return (decision, payer);
                }
                Err(Unpaid::Reask) => reprompt_budget = false,
                Err(Unpaid::Retry(name)) => {
                    let of_target = |one: &&mut TargetCondition<'_>| {
                        let group = meant.iter().find(|(group, _)| **group == *one.name);
                        group.map_or(one.name, |(_, target)| &*target.name) == &*name
                    };
                    let conditions = targets.iter_mut().filter(of_target);
                    conditions.for_each(|condition| condition.retry_budget = false);
                }
            }
        }
    }

    fn decide_under(
        &self,
        unusable: &Unusable,
        attempt: u32,
        (targets, reprompt_budget, unfit_templates): Ways<'_>,
    ) -> (Decision, Option<(Instant, RecordedFailure)>) {
        let now = Instant::now();
        let conditions = Conditions {
            max_attempts: self.cx.planned.step.max_attempts.unwrap_or(u32::MAX),
            run_extra_calls_left: self.cx.run.extra_calls_left.load(Ordering::Relaxed),
            max_cost_usd: self.cx.planned.step.max_cost_usd,
            targets,
            step_targets: self.targets.len(),
            // A hard-pressed service gives up the dearest recovery first.
            reprompt_budget: reprompt_budget
                && self.cx.engine.admission().pressure() == Pressure::None,
            reask: unusable.room,
            verifier_failed: unusable.of_verifier,
            repair: unusable.offer.as_ref().and_then(checks::repair_offer),
            cache_age: self.cache_stored().map(|stored| now.duration_since(stored)),
            step_template: self.cx.planned.step.template_output.is_some(),
            unfit_templates,
            partial: unusable.part.is_some(),
        };
        let site = self.site(attempt);
        let moment = Moment {
            remaining: self.until.saturating_duration_since(now),
            dice: rand::random::<f64>(),
        };
        let policy = &self.cx.policy.policy;
        let (failure, history) = (&unusable.failure, &self.history);
        let decision = decide(policy, failure, &site, history, moment, &conditions);
        let noted = (!unusable.ended_by_caller).then(|| {
            let (site, conditions, decision) = (&site, &conditions, &decision);
            let noted = Noted { failure, site, history, moment, conditions, decision };
            (now, noted.recorded(self.cx))
        });
        for rule in &decision.broken_overrides {
            self.cx.engine.alerts().broken_override(&self.cx.policy.reference, rule);
        }
        (decision, noted)
    }

    /// Counts a failure for alerts.
    pub(super) fn note(&mut self, failure: &Failure) {
        let target = self.target.name.clone();
        self.note_of(&target, failure);
    }

    /// The same for a failure of another target than the walk's.
    pub(super) fn note_of(&mut self, target: &Arc<str>, failure: &Failure) {
        self.history.record_failure(target, failure);
        let alerts = &self.cx.policy.policy.alerts;
        let site = AlertSite { target, ..self.alert_site(failure) };
        let threshold = alerts.threshold(failure.domain());
        self.cx.engine.alerts().count(&site, threshold, alerts.window, Instant::now());
    }

    pub(super) fn raise_alert(&self, failure: &Failure) {
        let window = self.cx.policy.policy.alerts.window;
        self.cx.engine.alerts().raise(&self.alert_site(failure), window, Instant::now());
    }

    fn alert_site(&self, failure: &Failure) -> AlertSite<'_> {
        AlertSite {
            policy: &self.cx.policy.reference.name,
            domain: failure.domain(),
            cause: failure.cause,
            pipeline: &self.cx.run.pipeline,
            step: &self.cx.planned.step.name,
            target: &self.target.name,
        }
    }

    /// The step has an output that came from the asked model in full. It is worth keeping unless
    /// something about it was a makeshift.
    pub(super) fn succeed(&mut self, output: StepOutput, worth_keeping: bool) {
        self.worth_keeping = worth_keeping && output.tool_calls.is_empty();
        if self.worth_keeping {
            self.keep(&output);
        }
        self.report.target = Some(self.target.name.clone());
        self.report.output = Some(output);
        self.report.state = RunState::Succeeded;
    }

    /// The step has an output that is less than asked for.
    pub(super) fn degrade(&mut self, output: StepOutput, by: DegradedBy) {
        self.report.output = Some(output);
        self.report.degraded = Some(by);
        self.report.state = RunState::Degraded;
    }

    /// The step has failed.
    pub(super) fn fail(&mut self, mut failure: Failure) {
        failure.retry_after = self.reopens_in(&failure);
        self.report.target = Some(self.target.name.clone());
        self.report.failure = Some(failure);
        self.report.state = RunState::Failed;
    }

    fn end(mut self) -> StepReport {
        self.report.duration = self.began.elapsed();
        let notes = std::mem::take(&mut self.notes);
        let step = notes.into_step(self.cx, &self.report, &self.history, Instant::now());
        if let Some(step) = step {
            self.cx.engine.recorder().keep(step);
        }
        self.is_over = true;
        self.take_report()
    }

    fn take_report(&mut self) -> StepReport {
        let (step, started) = (self.report.step.clone(), self.report.started);
        std::mem::replace(&mut self.report, StepReport::begun(step, None, started))
    }
}

impl Drop for Walk<'_, '_> {
    /// A step that is dropped before its end leaves what it did with its run.
    fn drop(&mut self) {
        if self.is_over {
            return;
        }
        let mut report = self.take_report();
        report.attempts.extend(self.cx.abandoned.take());
        report.state = RunState::Cancelled;
        report.duration = self.began.elapsed();
        report.target = Some(self.target.name.clone());
        self.cx.run.abandoned.put((self.cx.parent_span_id, report));
    }
}

/// A decision as it is kept.
pub fn record_of(decision: &Decision) -> DecisionRecord {
    let (wait, next_target) = match &decision.verdict {
        Verdict::Retry { after } => (*after, None),
        Verdict::Fallback { target } => (Duration::ZERO, Some(target.clone())),
        Verdict::Repair { .. }
        | Verdict::Reprompt { .. }
        | Verdict::Cache { .. }
        | Verdict::Template { .. }
        | Verdict::AcceptPartial { .. }
        | Verdict::Degrade { .. }
        | Verdict::Reject { .. }
        | Verdict::Halt
        | Verdict::Exhausted => (Duration::ZERO, None),
    };
    DecisionRecord {
        action: decision.verdict.action(),
        rule: decision.rule.clone(),
        rung: decision.rung,
        skipped: decision.skipped.clone(),
        wait,
        next_target,
        continues: decision.continues,
    }
}
