//! Whether a target that refuses is waited for.

use super::*;
use crate::failure::refusal;

const RETRY_THEN_NEXT: &str = "[{retry_with_backoff: {attempts: 3, backoff: {jitter: none, \
     base: 1s}}}, fallback_to_target, fallback_to_cache, alert_and_degrade]";

/// Target a refuses the first call of a step for nine seconds; b and c would take it.
fn refused(cause: FailureCause, by: Refusal, routing: &str) -> Scene {
    let policy = format!("policy: {{routing: {{infrastructure: {routing}}}}}");
    Scene::under(cause, &policy).with(|s| {
        s.history = History::default();
        s.targets[0].admits_in = Some(9 * S);
        s.targets[0].refusal = Some(by);
        if by == Refusal::CoolingDown {
            s.failure = Failure::new(cause, "it refuses").with_detail(refusal::COOLING_DOWN);
        }
    })
}

fn whole_domain() -> String {
    format!("{{ladder: {RETRY_THEN_NEXT}}}")
}

fn of_cause(cause: FailureCause) -> String {
    format!("{{causes: {{{}: {{ladder: {RETRY_THEN_NEXT}}}}}}}", cause.name())
}

const REFUSALS: [(FailureCause, Refusal); 4] = [
    (FailureCause::CircuitOpen, Refusal::BreakerOpen),
    (FailureCause::CircuitOpen, Refusal::OutputBreakerOpen),
    (FailureCause::RateLimited, Refusal::CoolingDown),
    (FailureCause::BulkheadFull, Refusal::BulkheadFull),
];

fn without_others(scene: &mut Scene) {
    scene.targets.truncate(1);
}

#[test]
fn a_refusal_is_not_waited_for_while_another_target_would_answer() {
    for (cause, by) in REFUSALS {
        let decision = refused(cause, by, &whole_domain()).decide();
        assert_eq!(decision.verdict, fallback("b"), "{cause}");
        assert_eq!(decision.skipped[0].reason, SkipReason::TargetRefuses(by), "{cause}");
    }
}

#[test]
fn it_is_where_a_route_of_that_very_cause_says_so() {
    for (cause, by) in REFUSALS {
        takes(refused(cause, by, &of_cause(cause)), Verdict::Retry { after: 9 * S });
        let condition = format!(
            "policy: {{overrides: [{{name: patient, when: failure.cause == '{cause}', routing: \
             {{infrastructure: {}}}}}]}}",
            whole_domain()
        );
        let by_override = Scene::under(cause, &condition);
        let scene = refused(cause, by, &whole_domain()).with(|s| s.policy = by_override.policy);
        takes(scene, Verdict::Retry { after: 9 * S });
    }
    // A route of another cause has nothing to say about this one.
    let other = refused(
        FailureCause::ServerError,
        Refusal::CoolingDown,
        &of_cause(FailureCause::ServerError),
    );
    let scene = other.with(|s| s.failure = Failure::new(FailureCause::ServerError, "it failed"));
    assert_eq!(scene.decide().verdict, fallback("b"));
}

#[test]
fn with_nowhere_else_to_go_a_pause_is_waited_for_and_a_breaker_is_not() {
    let alone = |cause, by| refused(cause, by, &whole_domain()).with(without_others);
    let waits = Verdict::Retry { after: 9 * S };
    takes(alone(FailureCause::RateLimited, Refusal::CoolingDown), waits.clone());
    takes(alone(FailureCause::BulkheadFull, Refusal::BulkheadFull), waits);
    for by in [Refusal::BreakerOpen, Refusal::OutputBreakerOpen] {
        let decision = alone(FailureCause::CircuitOpen, by).decide();
        assert_eq!(decision.verdict, Verdict::Cache { max_age: Some(86_400 * S) });
    }
}

#[test]
fn what_was_refused_a_moment_ago_is_not_asked_again_before_another() {
    let now = |s: &mut Scene| {
        (s.targets[0].admits_in, s.targets[0].refusal) = (Some(Duration::ZERO), None)
    };
    for (cause, by) in REFUSALS {
        let scene = refused(cause, by, &whole_domain()).with(now);
        assert_eq!(scene.decide().verdict, fallback("b"), "{cause}");
        let alone = refused(cause, by, &whole_domain()).with(now).with(without_others);
        takes(alone, Verdict::Retry { after: S });
    }
}

#[test]
fn a_pause_that_the_provider_has_just_asked_for_is_what_a_retry_waits_for() {
    for cause in [FailureCause::RateLimited, FailureCause::Overloaded] {
        let scene = refused(cause, Refusal::CoolingDown, &whole_domain()).with(|s| {
            s.history.record_call("a");
            s.failure = Failure::new(cause, "slow down");
            s.failure.retry_after = Some(8 * S);
        });
        takes(scene, Verdict::Retry { after: 9 * S });
    }
    // One that somebody else's call brought is not.
    let scene = refused(FailureCause::ServerError, Refusal::CoolingDown, &whole_domain());
    let scene = scene.with(|s| s.failure = Failure::new(FailureCause::ServerError, "it failed"));
    assert_eq!(scene.decide().verdict, fallback("b"));
}

#[test]
fn what_comes_before_the_other_target_on_the_ladder_is_weighed_as_it_stands() {
    let ladder = "{ladder: [{retry_with_backoff: {attempts: 1, backoff: {jitter: none, \
                  base: 1s}}}, fallback_to_cache, fallback_to_target]}";
    let scene = refused(FailureCause::RateLimited, Refusal::CoolingDown, ladder);
    takes(scene, Verdict::Retry { after: 9 * S });
    let uncached = refused(FailureCause::RateLimited, Refusal::CoolingDown, ladder)
        .with(|s| s.conditions.cache_age = None);
    assert_eq!(uncached.decide().verdict, fallback("b"));
}
