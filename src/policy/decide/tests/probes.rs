//! Calls for which a target is there when a probe that is under way has ended.

use super::*;

const LADDER: &str = "[{retry_with_backoff: {attempts: 2, backoff: {jitter: none, base: 4s}}}, \
     fallback_to_target, fallback_to_cache, alert_and_degrade]";

/// A step of the targets a, b and c, whose target a refuses its first call.
fn refused() -> Scene {
    let policy = format!("policy: {{routing: {{infrastructure: {{ladder: {LADDER}}}}}}}");
    Scene::under(FailureCause::CircuitOpen, &policy).with(|s| {
        s.history = History::default();
        s.conditions.step_targets = 3;
        s.targets.truncate(3);
        open(&mut s.targets[0]);
    })
}

fn open(target: &mut TargetCondition<'_>) {
    (target.admits_in, target.refusal) = (Some(30 * S), Some(Refusal::BreakerOpen));
}

fn probed(target: &mut TargetCondition<'_>) {
    (target.admits_in, target.refusal) = (Some(2 * S), Some(Refusal::ProbeUnderWay));
}

#[track_caller]
fn decides(scene: &Scene, verdict: Verdict, awaits_probe: bool) {
    let decision = scene.decide();
    assert_eq!(
        (&decision.verdict, decision.awaits_probe),
        (&verdict, awaits_probe),
        "{decision:?}"
    );
}

#[test]
fn a_fallback_waits_for_a_probe_where_no_target_takes_it_now() {
    let scene = refused().with(|s| probed(&mut s.targets[1]));
    decides(&scene, fallback("c"), false);
    let scene = scene.with(|s| open(&mut s.targets[2]));
    decides(&scene, fallback("b"), true);
    let short = scene.with(|s| s.moment.remaining = 2 * S);
    decides(&short, Verdict::Cache { max_age: Some(86_400 * S) }, false);
}

#[test]
fn a_step_waits_for_the_probe_of_its_own_target_where_it_has_no_other() {
    let scene = refused().with(|s| {
        probed(&mut s.targets[0]);
        open(&mut s.targets[1]);
        open(&mut s.targets[2]);
    });
    // The call itself waits, so there is nothing to wait for before it.
    decides(&scene, Verdict::Retry { after: Duration::ZERO }, true);
    let called = scene.with(|s| {
        s.history.record_call("a");
        s.failure = Failure::new(FailureCause::ServerError, "it failed");
    });
    decides(&called, Verdict::Retry { after: 4 * S }, true);
    let other = refused().with(|s| probed(&mut s.targets[0]));
    decides(&other, fallback("b"), false);
}

#[test]
fn nothing_waits_for_a_probe_where_the_ladder_makes_no_call() {
    let policy = "policy: {routing: {infrastructure: {ladder: [alert_and_degrade]}}}";
    let scene = Scene::under(FailureCause::CircuitOpen, policy).with(|s| {
        s.history = History::default();
        s.targets.iter_mut().for_each(probed);
    });
    assert!(!scene.decide().awaits_probe);
    assert_eq!(scene.decide().rung, Some(0));
}
