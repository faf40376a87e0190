//! The promises of [`decide`], for any policy and any run of bad luck.

use proptest::prelude::*;
use proptest::sample::select;

use super::super::super::{AfterCut, Ladder, Override, Routing, Rung};
use super::*;
use crate::expression::Expression;
use crate::policy::VARIABLES;
use crate::resilience::backoff::{Backoff, Growth, Jitter};

const NAMES: [&str; 5] = ["a", "b", "c", "d", "e"];

fn any_duration() -> impl Strategy<Value = Duration> {
    prop_oneof![Just(Duration::ZERO), (0_u64..300_000).prop_map(Duration::from_millis)]
}

fn any_backoff() -> impl Strategy<Value = Backoff> {
    let jitter = prop_oneof![
        Just(Jitter::None),
        Just(Jitter::Full),
        Just(Jitter::Equal),
        Just(Jitter::Decorrelated),
        (0.0..=1.0).prop_map(|ratio| Jitter::Proportional { ratio }),
    ];
    (jitter, any_duration(), 1.0..10.0, any_duration()).prop_map(|(jitter, base, factor, max)| {
        Backoff {
            growth: Growth::Exponential,
            jitter,
            base,
            factor,
            min: Duration::ZERO,
            max: max.max(base),
        }
    })
}

fn any_rung() -> impl Strategy<Value = Rung> {
    let targets = prop::collection::vec(select(&NAMES[..]).prop_map(Arc::from), 0..4);
    prop_oneof![
        4 => (1_u32..20, any_backoff(), any::<bool>()).prop_map(
            |(attempts, backoff, also_when_not_retryable)| Rung::RetryWithBackoff {
                attempts, backoff, also_when_not_retryable,
            }),
        2 => any::<bool>().prop_map(|accept_lossy| Rung::RepairOutput { accept_lossy }),
        2 => (1_u32..20, prop::option::of(0.5..20.0), any::<bool>()).prop_map(
            |(attempts, raise_max_output_tokens, continue_cut)| Rung::RepromptWithErrors {
                attempts,
                after_cut: AfterCut { raise_max_output_tokens, continue_cut },
            }),
        4 => (targets, 1_u32..20).prop_map(|(targets, attempts)| {
            Rung::FallbackToTarget { targets, attempts }
        }),
        1 => prop::option::of(any_duration()).prop_map(|max_age| Rung::FallbackToCache { max_age }),
        1 => Just(Rung::FallbackToTemplate { template: None }),
        1 => Just(Rung::AcceptPartial { defaults: Arc::default() }),
        1 => select(vec![
            Rung::AlertAndDegrade, Rung::RejectAndFix { message: None }, Rung::AlertAndHalt,
        ]),
    ]
}

fn any_ladder() -> impl Strategy<Value = Vec<Rung>> {
    prop::collection::vec(any_rung(), 2..8)
}

/// Any ladder for any cause, with any overrides; also such as the compiler would warn about.
fn any_policy() -> impl Strategy<Value = Policy> {
    let ladders = prop::collection::vec(any_ladder(), FailureCause::ALL.len());
    let overrides = prop::collection::vec((0_u32..6, any_ladder()), 0..3);
    let hints = (any_duration(), 0.0..=1.0);
    (ladders, overrides, 0_u32..30, hints).prop_map(|(ladders, overrides, most, hints)| {
        let ladder =
            |rule: String, rungs: &[Rung]| Ladder { rule: Arc::from(rule), rungs: rungs.to_vec() };
        let overrides = overrides.into_iter().enumerate().map(|(at, (attempt, rungs))| {
            let when = Expression::compile(&format!("attempt > {attempt}"), VARIABLES).unwrap();
            let name = Arc::from(format!("o{at}"));
            let all = FailureCause::ALL.iter();
            let covered = all.map(|cause| (*cause, ladder(format!("o{at}.{cause}"), &rungs)));
            (Override { name, when }, covered.collect())
        });
        let mut policy = Policy::built_in();
        policy.routing = Routing::new(
            |cause| ladder(cause.name().to_owned(), &ladders[cause as usize]),
            overrides.collect(),
        );
        policy.execution.max_attempts = most;
        (policy.execution.hint_limit, policy.execution.hint_spread) = hints;
        policy
    })
}

fn any_failure() -> impl Strategy<Value = Failure> {
    let causes = select(FailureCause::ALL);
    (causes, any::<bool>(), prop::option::of(any_duration())).prop_map(
        |(cause, retryable, retry_after)| Failure {
            retryable,
            retry_after,
            ..Failure::new(cause, "it failed")
        },
    )
}

fn any_target() -> impl Strategy<Value = TargetCondition<'static>> {
    let admits_in = prop_oneof![
        8 => Just(Some(Duration::ZERO)),
        1 => any_duration().prop_map(Some),
        1 => Just(None),
    ];
    let window = prop::option::of(1_u32..4);
    let likely = prop::option::weighted(0.2, any_duration());
    (admits_in, any::<bool>(), prop::bool::weighted(0.9), window, likely).prop_map(
        |(admits_in, probed, retry_budget, context_window, likely_duration)| TargetCondition {
            name: "",
            admits_in,
            refusal: Some(Refusal::ProbeUnderWay)
                .filter(|_| probed && admits_in.is_some_and(|wait| !wait.is_zero())),
            retry_budget,
            context_window,
            likely_duration,
        },
    )
}

type Luck = (Failure, Moment, Vec<TargetCondition<'static>>, Conditions<'static>);

fn any_luck() -> impl Strategy<Value = Luck> {
    // Mostly enough of everything, so that steps get far before something runs out.
    let remaining = prop_oneof![1 => any_duration(), 4 => Just(1_000 * S)];
    let moment = (remaining, 0.0..1.0).prop_map(|(remaining, dice)| Moment { remaining, dice });
    let repair = select(vec![None, Some(RepairOffer::Lossless), Some(RepairOffer::Lossy)]);
    let most = prop_oneof![1 => 0_u32..12, 4 => Just(40)];
    let left = prop_oneof![1 => 0_u32..4, 4 => Just(40)];
    let limits = (prop::option::of(any::<u32>()), prop::option::of(any::<u32>()));
    let reask = (prop::bool::weighted(0.8), any::<bool>(), limits).prop_map(
        |(errors, rest, (limit, limit_max))| ReaskRoom {
            errors,
            rest,
            shown: rest.then_some(2),
            limit,
            limit_max,
        },
    );
    let asks = (any::<bool>(), reask, prop::bool::weighted(0.1));
    let conditions = (most, left, 0_usize..7, asks, repair, any::<[bool; 3]>()).prop_map(
        |(max_attempts, left, step_targets, asks, repair, has)| Conditions {
            max_attempts,
            run_extra_calls_left: left,
            max_cost_usd: None,
            targets: &[],
            step_targets,
            reprompt_budget: asks.0,
            reask: asks.1,
            verifier_failed: asks.2,
            repair,
            cache_age: has[0].then_some(60 * S),
            step_template: has[1],
            unfit_templates: &[],
            partial: has[2],
        },
    );
    let targets = prop::collection::vec(any_target(), NAMES.len()).prop_map(|mut targets| {
        for (target, name) in targets.iter_mut().zip(NAMES) {
            target.name = name;
        }
        targets
    });
    (any_failure(), moment, targets, conditions)
}

fn is_of_its_ladder(decision: &Decision, ladder: &Ladder) -> Result<(), TestCaseError> {
    let rung = decision.rung.map(|at| &ladder.rungs[at]);
    prop_assert_eq!(rung.map(Rung::action), decision.verdict.action());
    prop_assert_eq!(decision.skipped.len(), decision.rung.unwrap_or(ladder.rungs.len()));
    Ok(())
}

/// No wait past the deadline or shorter than a hint, and no token limit that is none.
fn keeps_its_limits(
    verdict: &Verdict,
    failure: &Failure,
    moment: Moment,
    conditions: &Conditions<'_>,
) -> Result<(), TestCaseError> {
    match verdict {
        Verdict::Retry { after } => {
            prop_assert!(*after < moment.remaining);
            prop_assert!(failure.retry_after.unwrap_or_default() <= *after);
        }
        Verdict::Reprompt { max_output_tokens: Some(raised), .. } => {
            let ReaskRoom { limit, limit_max, .. } = conditions.reask;
            prop_assert!(Some(*raised) > limit);
            prop_assert!(limit_max.is_none_or(|most| *raised <= most));
        }
        Verdict::Reprompt { max_output_tokens: None, .. }
        | Verdict::Fallback { .. }
        | Verdict::Repair { .. }
        | Verdict::Cache { .. }
        | Verdict::Template { .. }
        | Verdict::AcceptPartial { .. }
        | Verdict::Degrade { .. }
        | Verdict::Reject { .. }
        | Verdict::Halt
        | Verdict::Exhausted => {}
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 192, ..ProptestConfig::default() })]

    /// Whatever the policy and whatever goes wrong, the step ends; with at most its attempts, no
    /// wait past the deadline or shorter than a hint, no target taken twice as fallback, and
    /// nothing after a terminal action.
    #[test]
    fn every_step_ends(
        policy in any_policy(),
        luck in prop::collection::vec(any_luck(), 16),
        called in any::<bool>(),
    ) {
        let labels = BTreeMap::new();
        let site = |target, attempt| Site { pipeline: None, step: "s", target, attempt, labels: &labels };
        let mut history = History::default();
        let mut target = "a";
        let mut taken: Vec<Arc<str>> = Vec::new();
        let mut spent: Vec<&str> = Vec::new();
        // The first call of a step is made before any decision; a refusal makes none.
        if called {
            history.record_call(target);
        }
        let most_at_start = history.calls();
        for (decisions, one) in luck.iter().cycle().enumerate() {
            let (failure, moment, targets, conditions) = one;
            prop_assert!(decisions < 2_000, "still deciding");
            history.record_failure(target, failure);
            if !failure.retryable {
                spent.push(target);
            }
            let conditions = Conditions { targets, ..conditions.clone() };
            let site = site(target, history.calls());
            let decision = decide(&policy, failure, &site, &history, *moment, &conditions);
            prop_assert_eq!(
                &decision, &decide(&policy, failure, &site, &history, *moment, &conditions));
            is_of_its_ladder(&decision, policy.ladder_for(failure, &site))?;
            keeps_its_limits(&decision.verdict, failure, *moment, &conditions)?;
            history.record_decision(&decision, target);
            let next = match &decision.verdict {
                Verdict::Retry { .. } | Verdict::Reprompt { .. } => Some(target),
                Verdict::Fallback { target: next } => {
                    prop_assert!(!taken.contains(next), "{next} twice");
                    prop_assert!(!spent.contains(&&**next), "{next} is spent");
                    prop_assert!(**next != *target);
                    taken.push(Arc::clone(next));
                    NAMES.into_iter().find(|name| **name == **next)
                }
                Verdict::Repair { .. } | Verdict::Cache { .. } | Verdict::Template { .. }
                | Verdict::AcceptPartial { .. } => None,
                Verdict::Degrade { .. } | Verdict::Reject { .. } | Verdict::Halt
                | Verdict::Exhausted => break,
            };
            if let Some(next) = next {
                target = next;
                let most = conditions.max_attempts.min(policy.execution.max_attempts);
                prop_assert!(history.calls() < most && !conditions.verifier_failed);
                // A refusal makes no call, and may follow any decision to make one.
                if !matches!(failure.cause, FailureCause::CircuitOpen | FailureCause::BulkheadFull) {
                    history.record_call(next);
                }
            }
        }
        prop_assert!(history.calls() <= policy.execution.max_attempts.max(most_at_start));
        let (failure, moment, targets, conditions) = &luck[0];
        let conditions = Conditions { targets, ..conditions.clone() };
        let after = decide(&policy, failure, &site(target, 1), &history, *moment, &conditions);
        prop_assert_eq!(after.verdict, Verdict::Exhausted);
    }

    /// The rung taken is the first one that, judged for itself, is feasible.
    #[test]
    fn an_explanation_agrees_with_the_decision(policy in any_policy(), luck in any_luck()) {
        let (failure, moment, targets, conditions) = &luck;
        let conditions = Conditions { targets, ..conditions.clone() };
        let labels = BTreeMap::new();
        let site = Site { pipeline: None, step: "s", target: "a", attempt: 0, labels: &labels };
        let history = History::default();
        let explained = crate::policy::explain::failure(
            &policy, failure, &site, &history, *moment, &conditions);
        let first = explained.rungs.iter().find(|rung| rung.judgement.is_ok());
        prop_assert_eq!(explained.decision.rung, first.map(|rung| rung.rung));
        for action in explained.rungs.iter().filter(|rung| rung.action.is_terminal()) {
            prop_assert!(action.judgement.is_ok());
        }
    }
}
