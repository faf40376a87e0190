//! Traffic made up here, step by step as the engine makes it, and simulated.

use std::time::{Duration, SystemTime};

use proptest::prelude::*;
use proptest::sample::select;

use super::super::decision::{RepairOffer, Verdict};
use super::super::record::{Aftermath, FailureFacts, RecordedConditions, StepEnd};
use super::super::{Conditions, Known, Moment, ReaskRoom, Site, TargetCondition, compile, decide};
use super::*;
use crate::document::Document;
use crate::failure::Failure;

const S: Duration = Duration::from_secs(1);

fn policy(text: &str) -> Policy {
    let document = Document::parse("policy.yaml", text).unwrap();
    compile(&document, &Known::default()).unwrap_or_else(|problems| panic!("{problems}")).0
}

/// One thing that goes wrong.
#[derive(Debug, Clone)]
struct Luck {
    cause: FailureCause,
    retry_after: Option<u64>,
    provider_code: Option<&'static str>,
    dice: f64,
    cache: bool,
    repair: Option<RepairOffer>,
    admits: [bool; 3],
}

impl Luck {
    fn plain(cause: FailureCause) -> Self {
        Self {
            cause,
            retry_after: None,
            provider_code: None,
            dice: 0.5,
            cache: false,
            repair: None,
            admits: [true; 3],
        }
    }
}

const TARGETS: [&str; 3] = ["a", "b", "c"];

/// A step under a policy: it meets this luck, then an answer.
fn live(policy: &Policy, step: &str, tier: &str, luck: &[Luck]) -> RecordedStep {
    let labels = BTreeMap::from([("tier".to_owned(), tier.to_owned())]);
    let mut recorded = RecordedStep {
        policy: "p".into(),
        policy_version: 1,
        pipeline: Some("invoices".into()),
        step: step.into(),
        labels: Arc::new(labels),
        failures: Vec::new(),
    };
    let (mut history, mut target, mut end) = (History::default(), "a", StepEnd::Recovered);
    let (mut total_calls, mut total_cost) = (0, 0.0);
    for one in luck {
        let (next, failure) = meet(policy, &recorded, &mut history, target, one);
        let verdict = failure.decision.verdict.clone();
        recorded.failures.push(failure);
        (total_calls, total_cost) = (history.calls(), history.cost_usd());
        match next {
            Some(next) => target = next,
            None => {
                end = end_of(&verdict, one.repair);
                break;
            }
        }
        end = StepEnd::Recovered;
        // The call that may be the last.
        total_calls += 1;
        total_cost += 0.01;
    }
    for failure in &mut recorded.failures {
        failure.aftermath = Some(Aftermath {
            end,
            calls: total_calls - failure.history.calls(),
            cost_usd: total_cost - failure.history.cost_usd(),
            work: S,
        });
    }
    recorded
}

fn end_of(verdict: &Verdict, repair: Option<RepairOffer>) -> StepEnd {
    match verdict {
        Verdict::Repair { .. } if repair == Some(RepairOffer::Lossy) => StepEnd::Degraded,
        Verdict::Repair { .. } => StepEnd::Recovered,
        Verdict::Cache { .. } | Verdict::Template { .. } | Verdict::AcceptPartial { .. } => {
            StepEnd::Degraded
        }
        Verdict::Degrade { source: Some(_) } => StepEnd::Degraded,
        _ => StepEnd::Failed,
    }
}

/// One failed call: the target of the next one, and what is recorded.
fn meet(
    policy: &Policy,
    step: &RecordedStep,
    history: &mut History,
    target: &'static str,
    luck: &Luck,
) -> (Option<&'static str>, RecordedFailure) {
    history.record_call(target);
    history.record_cost(0.01);
    let mut failure = Failure::new(luck.cause, "a message");
    failure.retry_after = luck.retry_after.map(Duration::from_secs);
    failure.evidence.provider_code = luck.provider_code.map(str::to_owned);
    history.record_failure(target, &failure);
    let targets: Vec<TargetCondition<'_>> = TARGETS
        .iter()
        .zip(luck.admits)
        .map(|(name, admits)| TargetCondition {
            name,
            admits_in: admits.then_some(Duration::ZERO),
            refusal: None,
            retry_budget: true,
            context_window: None,
            likely_duration: None,
        })
        .collect();
    let conditions = Conditions {
        max_attempts: 8,
        run_extra_calls_left: 32,
        max_cost_usd: None,
        targets: &targets,
        step_targets: 2,
        reprompt_budget: true,
        reask: ReaskRoom::default(),
        verifier_failed: false,
        repair: luck.repair,
        cache_age: luck.cache.then_some(S),
        step_template: false,
        unfit_templates: &[],
        partial: false,
    };
    let site = Site {
        pipeline: step.pipeline.as_deref(),
        step: &step.step,
        target,
        attempt: history.calls(),
        labels: &step.labels,
    };
    let moment = Moment { remaining: 60 * S, dice: luck.dice };
    let decision = decide(policy, &failure, &site, history, moment, &conditions);
    let record = RecordedFailure {
        time: SystemTime::UNIX_EPOCH,
        facts: FailureFacts::from(&failure),
        target: target.into(),
        attempt: site.attempt,
        history: history.clone(),
        moment,
        conditions: RecordedConditions::keep(&conditions, |name| Arc::from(name)),
        decision: decision.clone(),
        aftermath: None,
    };
    history.record_decision(&decision, target);
    let next = match &decision.verdict {
        Verdict::Retry { .. } | Verdict::Reprompt { .. } => Some(target),
        Verdict::Fallback { target } => TARGETS.into_iter().find(|name| **name == **target),
        _ => None,
    };
    (next, record)
}

fn known(steps: &[RecordedStep]) -> Effects {
    let mut effects = Effects::default();
    steps.iter().for_each(|step| effects.note(step));
    effects
}

/// One line for each kind of change, with rounded figures.
fn shown(simulation: &Simulation) -> String {
    let action = |action: Option<Action>| action.map_or("nothing", Action::name);
    let interval = |i: Interval| format!("{:.2} [{:.2}, {:.2}]", i.value, i.low, i.high);
    let mut lines = vec![format!(
        "{} failures, {} unchanged, {} not reached, {} unknown",
        simulation.failures, simulation.unchanged, simulation.not_reached, simulation.unknown
    )];
    for change in &simulation.changes {
        let (before, after) = (action(change.before), action(change.after));
        let mut line = format!("{} at {}: {before} -> {after}", change.cause, change.target);
        line.push_str(&format!(", {} times, {} unknown", change.count, change.unknown));
        if let Some(estimate) = change.estimate {
            line.push_str(&format!(
                ", recoveries {}, degraded {}, calls {}, cost {}, seconds {}",
                interval(estimate.recoveries),
                interval(estimate.degraded),
                interval(estimate.calls),
                interval(estimate.cost_usd),
                interval(estimate.latency_seconds)
            ));
        }
        lines.push(line);
    }
    lines.join("\n")
}

const RETRY: &str = "policy: {backoff: {jitter: none, base: 2s}, routing: {infrastructure: {ladder: \
     [{retry_with_backoff: {attempts: 2}}, fallback_to_target, alert_and_degrade]}}}";

#[test]
fn a_change_is_estimated_from_what_the_same_action_brought() {
    let overloaded = Luck::plain(FailureCause::Overloaded);
    let retry = policy(RETRY);
    let elsewhere = policy(
        "policy: {routing: {infrastructure: {ladder: [fallback_to_target, alert_and_degrade]}}}",
    );
    // Twenty steps that retry until they fall back, and ten that fell back at once.
    let mut steps: Vec<_> =
        (0..20).map(|_| live(&retry, "s", "x", &vec![overloaded.clone(); 3])).collect();
    steps.extend((0..10).map(|_| live(&elsewhere, "s", "x", std::slice::from_ref(&overloaded))));
    let effects = known(&steps);
    let simulation = simulate(&steps, &elsewhere, Baseline::Recorded, &effects);
    insta::assert_snapshot!(shown(&simulation), @r"
    70 failures, 10 unchanged, 40 not reached, 0 unknown
    overloaded at a: retry_with_backoff -> fallback_to_target, 20 times, 0 unknown, recoveries 0.00 [-2.27, 0.00], degraded 0.00 [0.00, 2.27], calls -40.00 [-40.00, -40.00], cost -0.40 [-0.40, -0.40], seconds -2.00 [-2.00, -2.00]
    ");
}

#[test]
fn what_the_record_cannot_tell_is_unknown() {
    let overloaded = Luck::plain(FailureCause::Overloaded);
    let retry = policy(RETRY);
    let steps: Vec<_> =
        (0..20).map(|_| live(&retry, "s", "x", std::slice::from_ref(&overloaded))).collect();
    let effects = known(&steps);
    let to_c = policy(
        "policy: {routing: {infrastructure: {ladder: [{fallback_to_target: {targets: [c]}}, \
         alert_and_degrade]}}}",
    );
    let simulation = simulate(&steps, &to_c, Baseline::Recorded, &effects);
    assert_eq!((simulation.unknown, simulation.changes[0].unknown), (20, 20));
    assert_eq!(simulation.changes[0].estimate, None);
    // What ends the step needs no record.
    let rejects = policy("policy: {routing: {infrastructure: {action: reject_and_fix}}}");
    let simulation = simulate(&steps, &rejects, Baseline::Recorded, &effects);
    let estimate = simulation.changes[0].estimate.unwrap();
    let exactly = |value| Interval { value, low: value, high: value };
    assert_eq!(estimate.recoveries, exactly(-20.0));
    assert_eq!(estimate.calls, exactly(-20.0));
    assert_eq!(estimate.latency_seconds, exactly(-3.0), "a second, and two of waiting");
}

#[test]
fn two_policies_are_compared_with_each_other() {
    let overloaded = Luck::plain(FailureCause::Overloaded);
    let retry = policy(RETRY);
    let steps: Vec<_> =
        (0..6).map(|_| live(&retry, "s", "x", &vec![overloaded.clone(); 2])).collect();
    let rejects = policy("policy: {routing: {infrastructure: {action: reject_and_fix}}}");
    let halts = policy("policy: {routing: {infrastructure: {action: alert_and_halt}}}");
    let effects = known(&steps);
    let same = simulate(&steps, &rejects, Baseline::Policy(&rejects), &effects);
    assert_eq!((same.unchanged, same.not_reached, same.changes.len()), (6, 6, 0));
    let other = simulate(&steps, &halts, Baseline::Policy(&rejects), &effects);
    assert_eq!((other.unchanged, other.not_reached, other.changes[0].count), (0, 6, 6));
    assert_eq!(other.changes[0].before, Some(Action::RejectAndFix));
    assert_eq!(other.changes[0].estimate.unwrap().recoveries.value, 0.0);
}

#[test]
fn other_names_of_the_same_rules_change_nothing() {
    let overloaded = Luck::plain(FailureCause::Overloaded);
    let steps = [live(&Policy::built_in(), "s", "x", &vec![overloaded; 4])];
    assert!(steps[0].failures.len() > 2, "it must use allowances up");
    let renamed = policy("policy: {}");
    let simulation = simulate(&steps, &renamed, Baseline::Recorded, &Effects::default());
    assert_eq!((simulation.unchanged, simulation.changes.len()), (simulation.failures, 0));
}

const POLICIES: [&str; 4] = [
    "policy: {}",
    RETRY,
    "policy:
  overrides:
    - {name: gold, when: labels.tier == 'gold' && failure.cause == 'overloaded', routing: {infrastructure: {ladder: [{retry_with_backoff: {attempts: 4}}, alert_and_halt]}}}
    - {name: late, when: attempt > 2, routing: {infrastructure: {action: alert_and_degrade}, output_semantic: {ladder: [{fallback_to_target: {targets: [c]}}, fallback_to_cache, alert_and_degrade]}}}
    - {name: code, when: failure.provider_code == 'slow_down', routing: {infrastructure: {action: fallback_to_cache}}}
",
    "policy: {execution: {max_attempts: 3, max_cost_usd: 0.015}, validation: {strip_markdown_fences: false}, routing: {output_semantic: {ladder: [{repair_output: {accept_lossy: true}}, reprompt_with_errors, alert_and_degrade]}}}",
];

fn any_luck() -> impl Strategy<Value = Luck> {
    let repair = select(vec![
        None,
        Some(RepairOffer::FenceOnly),
        Some(RepairOffer::Lossless),
        Some(RepairOffer::Lossy),
    ]);
    let hint = prop::option::weighted(0.3, 0_u64..200);
    let code = select(vec![None, Some("slow_down")]);
    (select(FailureCause::ALL), hint, code, 0.0..1.0, any::<bool>(), repair, any::<[bool; 3]>())
        .prop_map(|(cause, retry_after, provider_code, dice, cache, repair, admits)| Luck {
            cause,
            retry_after,
            provider_code,
            dice,
            cache,
            repair,
            admits,
        })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

    /// Deciding a recorded failure again under the policy that was active gives the recorded
    /// decision, in full; and so a simulation of it changes nothing.
    #[test]
    fn a_replay_gives_the_recorded_decisions(
        which in 0..POLICIES.len(),
        tier in select(vec!["gold", "x"]),
        luck in prop::collection::vec(any_luck(), 1..8),
    ) {
        let policy = policy(POLICIES[which]);
        let step = live(&policy, "s", tier, &luck);
        for failure in &step.failures {
            let again = step.decide(&policy, failure, &failure.history);
            prop_assert_eq!(&again, &failure.decision);
        }
        let simulation = simulate([&step], &policy, Baseline::Recorded, &Effects::default());
        prop_assert_eq!(simulation.unchanged, step.failures.len() as u64);
        prop_assert_eq!(simulation.changes.len(), 0);
    }

    /// Every failure is counted once, whatever the candidate.
    #[test]
    fn every_failure_is_counted_once(
        which in prop::collection::vec(0..POLICIES.len(), 3),
        luck in prop::collection::vec(prop::collection::vec(any_luck(), 1..8), 1..4),
    ) {
        let policies: Vec<Policy> = which.iter().map(|at| policy(POLICIES[*at])).collect();
        let steps: Vec<_> = luck.iter().map(|one| live(&policies[0], "s", "x", one)).collect();
        let effects = known(&steps);
        for baseline in [Baseline::Recorded, Baseline::Policy(&policies[2])] {
            let simulation = simulate(&steps, &policies[1], baseline, &effects);
            let changed: u64 = simulation.changes.iter().map(|change| change.count).sum();
            prop_assert_eq!(
                simulation.unchanged + simulation.not_reached + changed,
                simulation.failures
            );
            for change in &simulation.changes {
                prop_assert_eq!(change.estimate.is_some(), change.unknown < change.count);
                if let Some(estimate) = change.estimate {
                    for one in [estimate.recoveries, estimate.calls, estimate.latency_seconds] {
                        prop_assert!(one.low <= one.value && one.value <= one.high);
                    }
                }
            }
        }
    }
}
