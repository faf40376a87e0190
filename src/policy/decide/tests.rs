use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use super::super::compile::{Known, compile};
use super::super::decision::{DegradeSource, Refusal, RepairOffer, SkipReason, Verdict};
use super::super::{HedgeAfter, History, Policy, Site};
use super::*;
use crate::document::Document;
use crate::failure::{Failure, FailureCause};

const S: Duration = Duration::from_secs(1);

/// A step with targets a (asked), b and c (its own fallbacks) and d (named by policies), in which
/// a was called once and everything is possible; each test takes away what it is about.
struct Scene {
    policy: Policy,
    failure: Failure,
    target: &'static str,
    labels: BTreeMap<String, String>,
    history: History,
    moment: Moment,
    conditions: Conditions<'static>,
    targets: Vec<TargetCondition<'static>>,
}

impl Scene {
    /// A failure of this cause under a policy with one ladder for everything.
    fn new(cause: FailureCause, ladder: &str) -> Self {
        Self::under(cause, &format!("policy: {{routing: {{{}: {ladder}}}}}", cause.domain().key()))
    }

    fn under(cause: FailureCause, policy: &str) -> Self {
        let document = Document::parse("policy.yaml", policy).unwrap();
        let (policy, _) =
            compile(&document, &Known::default()).unwrap_or_else(|problems| panic!("{problems}"));
        let mut history = History::default();
        let failure = Failure::new(cause, "it failed");
        history.record_call("a");
        history.record_failure("a", &failure);
        Self {
            policy,
            failure,
            target: "a",
            labels: BTreeMap::new(),
            history,
            moment: Moment { remaining: 60 * S, dice: 0.5 },
            conditions: Conditions {
                max_attempts: 8,
                run_extra_calls_left: 32,
                max_cost_usd: None,
                targets: &[],
                step_targets: 3,
                reprompt_budget: true,
                reask: ReaskRoom::default(),
                verifier_failed: false,
                repair: Some(RepairOffer::Lossless),
                cache_age: Some(60 * S),
                step_template: true,
                unfit_templates: &[],
                partial: true,
            },
            targets: ["a", "b", "c", "d"].map(admitting).to_vec(),
        }
    }

    fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }

    fn decide(&self) -> Decision {
        let site = Site {
            pipeline: Some("invoices"),
            step: "extract",
            target: self.target,
            attempt: self.history.calls(),
            labels: &self.labels,
        };
        let conditions = Conditions { targets: &self.targets, ..self.conditions.clone() };
        let (policy, history) = (&self.policy, &self.history);
        decide(policy, &self.failure, &site, history, self.moment, &conditions)
    }

    /// Decides, notes the decision and, where it calls a target, that call with the same failure.
    fn step(&mut self) -> Verdict {
        let decision = self.decide();
        self.history.record_decision(&decision, self.target);
        let next = match &decision.verdict {
            Verdict::Retry { .. } | Verdict::Reprompt { .. } => Some(self.target),
            Verdict::Fallback { target } => {
                self.targets.iter().map(|t| t.name).find(|name| *name == &**target)
            }
            Verdict::Repair { .. }
            | Verdict::Cache { .. }
            | Verdict::Template { .. }
            | Verdict::AcceptPartial { .. }
            | Verdict::Degrade { .. }
            | Verdict::Reject { .. }
            | Verdict::Halt
            | Verdict::Exhausted => None,
        };
        if let Some(next) = next {
            self.target = next;
            self.history.record_call(next);
            self.history.record_failure(next, &self.failure);
        }
        decision.verdict
    }
}

fn admitting(name: &'static str) -> TargetCondition<'static> {
    TargetCondition {
        name,
        admits_in: Some(Duration::ZERO),
        refusal: None,
        retry_budget: true,
        context_window: None,
        likely_duration: None,
    }
}

fn fallback(target: &str) -> Verdict {
    Verdict::Fallback { target: Arc::from(target) }
}

#[track_caller]
fn takes(scene: Scene, expected: Verdict) {
    let decision = scene.decide();
    assert_eq!(decision.verdict, expected, "{decision:?}");
    assert_eq!(decision.rung, Some(0));
    assert_eq!(decision.skipped, []);
}

/// The only rung is passed over for this reason, and the step fails.
#[track_caller]
fn skips(scene: Scene, expected: SkipReason) {
    let decision = scene.decide();
    assert_eq!(decision.verdict, Verdict::Exhausted, "{decision:?}");
    assert_eq!(decision.rung, None);
    let reasons: Vec<_> = decision.skipped.iter().map(|skipped| skipped.reason).collect();
    assert_eq!(reasons, [expected]);
}

const RETRY: &str =
    "{action: {retry_with_backoff: {attempts: 2, backoff: {jitter: none, base: 4s}}}}";

fn retry(change: impl FnOnce(&mut Scene)) -> Scene {
    Scene::new(FailureCause::ServerError, RETRY).with(change)
}

#[test]
fn retry_with_backoff() {
    use SkipReason::*;
    let after = |after| Verdict::Retry { after };
    takes(retry(|_| {}), after(4 * S));
    takes(retry(|s| s.failure.retry_after = Some(S)), after(4 * S));
    // The hint and half of its quarter: never less than the server asked for.
    takes(retry(|s| s.failure.retry_after = Some(16 * S)), after(18 * S));
    takes(retry(|s| s.targets[0].admits_in = Some(7 * S)), after(7 * S));
    takes(retry(|s| s.targets[0].likely_duration = Some(56 * S)), after(4 * S));
    takes(
        retry(|s| {
            s.policy.execution.hint_spread = 0.0;
            s.failure.retry_after = Some(16 * S);
        }),
        after(16 * S),
    );

    skips(retry(|s| s.failure.retryable = false), NotRetryable);
    skips(retry(|s| s.conditions.max_attempts = 1), AttemptsUsed);
    skips(retry(|s| s.policy.execution.max_attempts = 1), AttemptsUsed);
    skips(retry(|s| s.conditions.run_extra_calls_left = 0), RunCapReached);
    skips(
        retry(|s| {
            s.conditions.max_cost_usd = Some(0.5);
            s.history.record_cost(0.5);
        }),
        CostCeiling,
    );
    skips(retry(|s| s.policy.execution.max_cost_usd = Some(0.0)), CostCeiling);
    skips(retry(|s| s.failure.retry_after = Some(121 * S)), HintTooLong);
    skips(retry(|s| s.targets[0].retry_budget = false), RetryBudget);
    skips(retry(|s| s.moment.remaining = 4 * S), WaitExceedsDeadline);
    skips(retry(|s| s.failure.retry_after = Some(60 * S)), WaitExceedsDeadline);
    skips(retry(|s| s.targets[0].likely_duration = Some(57 * S)), WaitExceedsDeadline);
    skips(
        retry(|s| {
            s.targets[0].admits_in = None;
            s.targets[0].refusal = Some(Refusal::BreakerOpen);
        }),
        TargetRefuses(Refusal::BreakerOpen),
    );
    skips(retry(|s| s.targets[0].admits_in = Some(121 * S)), TargetRefuses(Refusal::CoolingDown));
    skips(
        retry(|s| {
            s.targets[0].admits_in = Some(S);
            s.targets[0].refusal = Some(Refusal::BreakerOpen);
        }),
        TargetRefuses(Refusal::BreakerOpen),
    );
    skips(retry(|s| s.targets.clear()), TargetRefuses(Refusal::Disabled));
    let mut scene = retry(|_| {});
    assert_eq!(scene.step(), after(4 * S));
    assert_eq!(scene.step(), after(8 * S));
    skips(scene, AllowanceUsed);
}

#[test]
fn retries_of_one_target_are_not_those_of_another() {
    let mut scene = retry(|_| {});
    assert_eq!(scene.step(), Verdict::Retry { after: 4 * S });
    assert_eq!(scene.step(), Verdict::Retry { after: 8 * S });
    scene.target = "b";
    assert_eq!(scene.step(), Verdict::Retry { after: 4 * S });
}

#[test]
fn a_failure_without_a_call_may_be_waited_for_without_budget() {
    let refused = |change: fn(&mut Scene)| {
        let of_cause = format!("{{causes: {{circuit_open: {RETRY}}}}}");
        Scene::new(FailureCause::CircuitOpen, &of_cause).with(|s| {
            s.history = History::default();
            s.targets[0].admits_in = Some(9 * S);
            s.targets[0].refusal = Some(Refusal::BreakerOpen);
            change(s);
        })
    };
    takes(refused(|_| {}), Verdict::Retry { after: 9 * S });
    takes(refused(|s| s.targets[0].retry_budget = false), Verdict::Retry { after: 9 * S });
    takes(refused(|s| s.conditions.run_extra_calls_left = 0), Verdict::Retry { after: 9 * S });
    skips(refused(|s| s.moment.remaining = 9 * S), SkipReason::WaitExceedsDeadline);
    skips(refused(|s| s.conditions.max_attempts = 0), SkipReason::AttemptsUsed);
}

#[test]
fn also_when_not_retryable() {
    let ladder = "{action: {retry_with_backoff: {also_when_not_retryable: true, \
                  backoff: {jitter: none, base: 1s}}}}";
    takes(Scene::new(FailureCause::Tls, ladder), Verdict::Retry { after: S });
}

#[test]
fn repair_output() {
    let with = |parameters: &str, change: fn(&mut Scene)| {
        let ladder = format!("{{action: {{repair_output: {parameters}}}}}");
        Scene::new(FailureCause::MalformedJson, &ladder).with(change)
    };
    let lossy = |s: &mut Scene| s.conditions.repair = Some(RepairOffer::Lossy);
    takes(with("{}", |_| {}), Verdict::Repair { accept_lossy: false });
    takes(with("{accept_lossy: true}", lossy), Verdict::Repair { accept_lossy: true });
    skips(with("{}", lossy), SkipReason::RepairIsLossy);
    skips(with("{}", |s| s.conditions.repair = None), SkipReason::NothingToRepair);
    let mut scene = with("{}", |_| {});
    assert_eq!(scene.step(), Verdict::Repair { accept_lossy: false });
    skips(scene.with(|_| {}), SkipReason::AllowanceUsed);
    // A new output may be repaired again.
    let mut scene = with("{}", |_| {});
    scene.step();
    scene.history.record_call("a");
    takes(scene, Verdict::Repair { accept_lossy: false });
}

#[test]
fn actions_on_outputs_are_for_bad_outputs_only() {
    for action in ["repair_output", "reprompt_with_errors", "accept_partial"] {
        let ladder = format!("{{action: {action}}}");
        let mut scene = Scene::new(FailureCause::MalformedJson, &ladder);
        let routing = scene.policy.routing.of_cause(FailureCause::MalformedJson).clone();
        scene.policy.routing = super::super::Routing::new(|_| routing.clone(), Vec::new());
        scene.failure = Failure::new(FailureCause::ServerError, "it failed");
        skips(scene, SkipReason::WrongDomain);
    }
}

#[test]
fn fallback_to_target() {
    use SkipReason::*;
    let with = |change: fn(&mut Scene)| {
        Scene::new(FailureCause::ServerError, "{action: fallback_to_target}").with(change)
    };
    let refuse = |target: &mut TargetCondition<'_>, refusal| {
        target.admits_in = Some(S);
        target.refusal = Some(refusal);
    };
    takes(with(|_| {}), fallback("b"));
    takes(with(|s| s.failure.retryable = false), fallback("b"));
    takes(with(|s| s.targets[1].admits_in = Some(S)), fallback("c"));
    takes(with(|s| s.targets[1].admits_in = None), fallback("c"));
    takes(with(|s| s.targets[1].retry_budget = false), fallback("c"));
    takes(with(|s| s.targets[1].likely_duration = Some(61 * S)), fallback("c"));
    takes(with(|s| s.history.record_call("b")), fallback("c"));
    takes(
        with(|s| {
            let spent = Failure::new(FailureCause::ModelNotFound, "no such model");
            s.history.record_failure("b", &spent);
        }),
        fallback("c"),
    );
    let scene = with(|s| s.conditions.step_targets = 2);
    skips(
        scene.with(|s| refuse(&mut s.targets[1], Refusal::BulkheadFull)),
        TargetRefuses(Refusal::BulkheadFull),
    );
    skips(with(|s| s.conditions.step_targets = 1), NoTargetLeft);
    skips(with(|s| s.conditions.max_attempts = 1), AttemptsUsed);
    skips(with(|s| s.conditions.run_extra_calls_left = 0), RunCapReached);
    skips(with(|s| s.targets.iter_mut().for_each(|t| t.retry_budget = false)), RetryBudget);
    skips(with(|s| s.moment.remaining = Duration::ZERO), WaitExceedsDeadline);
}

#[test]
fn a_fallback_takes_each_target_once() {
    let mut scene = Scene::new(FailureCause::ServerError, "{action: fallback_to_target}");
    assert_eq!(scene.step(), fallback("b"));
    assert_eq!(scene.step(), fallback("c"));
    skips(scene, SkipReason::NoTargetLeft);
}

#[test]
fn a_fallback_to_named_targets() {
    let with = |change: fn(&mut Scene)| {
        let ladder = "{action: {fallback_to_target: {targets: [nowhere, d, c]}}}";
        Scene::new(FailureCause::ServerError, ladder).with(change)
    };
    takes(with(|_| {}), fallback("d"));
    takes(with(|s| s.targets[3].admits_in = None), fallback("c"));
    skips(with(|s| s.targets.truncate(2)), SkipReason::NoTargetLeft);
}

#[test]
fn going_on_from_a_refusal_is_free() {
    let refused = |change: fn(&mut Scene)| {
        Scene::new(FailureCause::CircuitOpen, "{action: fallback_to_target}").with(|s| {
            s.history = History::default();
            change(s);
        })
    };
    takes(refused(|s| s.targets[1].retry_budget = false), fallback("b"));
    takes(refused(|s| s.conditions.run_extra_calls_left = 0), fallback("b"));
    // A target that refused and was not called is still there when another one failed.
    let scene = refused(|s| {
        s.target = "c";
        s.history.record_call("b");
        s.history.record_call("c");
    });
    takes(scene, fallback("a"));
}

#[test]
fn a_context_that_is_too_long_needs_a_larger_window() {
    let with = |windows: [Option<u32>; 3]| {
        let ladder = "{action: fallback_to_target}";
        Scene::new(FailureCause::ContextLengthExceeded, ladder).with(|s| {
            for (target, window) in s.targets.iter_mut().zip(windows) {
                target.context_window = window;
            }
        })
    };
    takes(with([Some(8), Some(8), Some(16)]), fallback("c"));
    takes(with([Some(8), None, Some(16)]), fallback("b"));
    takes(with([None, Some(4), Some(16)]), fallback("b"));
    skips(with([Some(8), Some(8), Some(4)]), SkipReason::SmallerWindow);
}

#[test]
fn the_default_ladder_from_the_bottom_to_the_top() {
    let mut scene = Scene::under(FailureCause::RateLimited, "policy: {}");
    scene.moment.dice = 1.0;
    let retry = |seconds| Verdict::Retry { after: S * seconds };
    assert_eq!(scene.step(), retry(1));
    assert_eq!(scene.step(), retry(2));
    assert_eq!(scene.step(), fallback("b"));
    assert_eq!(scene.step(), retry(1));
    // A hint that is too long: on to the next target at once.
    scene.failure.retry_after = Some(300 * S);
    assert_eq!(scene.step(), fallback("c"));
    assert_eq!(scene.step(), Verdict::Cache { max_age: Some(86_400 * S) });
    let decision = scene.decide();
    assert_eq!(decision.verdict, Verdict::Degrade { source: Some(DegradeSource::Cache) });
    let skipped: Vec<_> =
        decision.skipped.iter().map(|s| (s.rung, s.action.name(), s.reason.name())).collect();
    assert_eq!(
        skipped,
        [
            (0, "retry_with_backoff", "hint_too_long"),
            (1, "fallback_to_target", "no_target_left"),
            (2, "fallback_to_cache", "allowance_used"),
        ]
    );
}

#[test]
fn overrides_come_first_in_their_order() {
    let policy = "
policy:
  routing: {infrastructure: {action: alert_and_degrade}}
  overrides:
    - name: broken
      when: labels.tier + 1 == 2
      routing: {infrastructure: {action: alert_and_halt}}
    - name: output_only
      when: 'true'
      routing: {output_semantic: {action: alert_and_halt}}
    - name: gold
      when: labels.tier == 'gold' && failure.status >= 500 && step == 'extract'
      routing:
        infrastructure:
          causes: {server_error: {action: fallback_to_cache}}
    - name: late
      when: attempt > 1 && target == 'a' && pipeline == 'invoices'
      routing: {infrastructure: {action: reject_and_fix}}
";
    let rule = |tier: Option<&str>, cause, status, calls: u32| {
        let scene = Scene::under(cause, policy).with(|s| {
            s.labels.extend(tier.map(|tier| ("tier".to_owned(), tier.to_owned())));
            s.failure.evidence.status = status;
            (1..calls).for_each(|_| s.history.record_call("a"));
        });
        let decision = scene.decide();
        let broken: Vec<_> = decision.broken_overrides.iter().map(|b| b.to_string()).collect();
        (decision.rule.to_string(), broken)
    };
    let name = |rule: &str| rule.to_owned();
    let (error, connect) = (FailureCause::ServerError, FailureCause::Connect);
    let plain = name("routing.infrastructure");
    // An absent label is no mistake, a wrong type is one.
    assert_eq!(rule(None, error, Some(500), 1), (plain.clone(), vec![]));
    let broken = vec![name("broken")];
    let gold = name("overrides.gold.routing.infrastructure.causes.server_error");
    assert_eq!(rule(Some("gold"), error, Some(500), 1), (gold, broken.clone()));
    assert_eq!(rule(Some("gold"), error, None, 1), (plain.clone(), broken.clone()));
    assert_eq!(rule(Some("gold"), connect, Some(500), 1), (plain, broken));
    let late = name("overrides.late.routing.infrastructure");
    assert_eq!(rule(None, error, Some(500), 2), (late, vec![]));
}

mod degrade;
mod hedge;
mod least_bad;
mod probes;
mod properties;
mod reask;
mod refusals;
mod shown;
