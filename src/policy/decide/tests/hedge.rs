//! Where a second attempt may go.

use proptest::prelude::*;

use super::*;

const ON: &str = "policy: {hedge: {enabled: true}}";

fn scene(policy: &str) -> Scene {
    Scene::under(FailureCause::RequestTimeout, policy)
}

fn target(scene: &Scene) -> Option<String> {
    let site = Site {
        pipeline: None,
        step: "extract",
        target: scene.target,
        attempt: 1,
        labels: &scene.labels,
    };
    let conditions = Conditions { targets: &scene.targets, ..scene.conditions.clone() };
    let (policy, history) = (&scene.policy, &scene.history);
    let target = super::super::hedge(policy, &site, history, scene.moment, &conditions);
    target.map(|name| name.to_string())
}

#[test]
fn only_where_the_policy_hedges_and_to_the_targets_that_it_names() {
    assert_eq!(target(&scene("policy: {}")), None);
    assert_eq!(target(&scene(ON)).as_deref(), Some("b"));
    let named = "policy: {hedge: {enabled: true, targets: [a, d]}}";
    assert_eq!(target(&scene(named)).as_deref(), Some("d"));
}

#[test]
fn only_to_a_target_that_takes_an_extra_call_now_and_can_end_in_time() {
    let with = |change: fn(&mut TargetCondition<'static>)| {
        target(&scene(ON).with(|scene| change(&mut scene.targets[1])))
    };
    let refused = with(|b| (b.admits_in, b.refusal) = (Some(S), Some(Refusal::BreakerOpen)));
    assert_eq!(refused.as_deref(), Some("c"));
    assert_eq!(with(|b| b.admits_in = None).as_deref(), Some("c"));
    assert_eq!(with(|b| b.retry_budget = false).as_deref(), Some("c"));
    assert_eq!(with(|b| b.likely_duration = Some(61 * S)).as_deref(), Some("c"));
    let called = scene(ON).with(|scene| scene.history.record_call("b"));
    assert_eq!(target(&called).as_deref(), Some("c"));
    let nobody = scene(ON).with(|s| s.targets.iter_mut().for_each(|t| t.retry_budget = false));
    assert_eq!(target(&nobody), None, "the budget is empty everywhere");
}

#[test]
fn only_while_step_run_and_purse_allow_another_call() {
    let with = |change: fn(&mut Scene)| target(&scene(ON).with(change));
    assert_eq!(with(|scene| scene.conditions.max_attempts = 1), None);
    assert_eq!(with(|scene| scene.conditions.run_extra_calls_left = 0), None);
    assert_eq!(with(|scene| scene.moment.remaining = Duration::ZERO), None);
    let dear = |scene: &mut Scene| {
        scene.history.record_cost(1.0);
        scene.conditions.max_cost_usd = Some(1.0);
    };
    assert_eq!(with(dear), None);
}

#[test]
fn only_as_often_in_a_step_as_the_policy_says() {
    let hedged = |times: u32, policy: &str| {
        target(&scene(policy).with(|scene| {
            (0..times).for_each(|_| scene.history.record_hedge());
        }))
    };
    assert_eq!(hedged(1, ON), None);
    let twice = "policy: {hedge: {enabled: true, max_per_step: 2}}";
    assert_eq!(hedged(1, twice).as_deref(), Some("b"));
    assert_eq!(hedged(2, twice), None);
}

#[test]
fn the_delay_is_a_time_or_the_targets_own() {
    let after = |text: &str| scene(&format!("policy: {{hedge: {{{text}}}}}")).policy.hedge.after;
    assert_eq!(after(""), HedgeAfter::Fixed(5 * S));
    assert_eq!(after("after: 800ms"), HedgeAfter::Fixed(Duration::from_millis(800)));
    assert_eq!(after("after: p95"), HedgeAfter::P95);
}

proptest! {
    /// Whatever stands where: a hedge goes to another target that was not called, takes calls now
    /// and has room in its budget, and never beyond the attempts.
    #[test]
    fn a_hedge_is_always_a_call_that_a_fallback_could_make(
        admits in prop::collection::vec(prop_oneof![Just(None), (0_u64..3).prop_map(Some)], 4),
        budgets in prop::collection::vec(any::<bool>(), 4),
        called in prop::collection::vec(any::<bool>(), 4),
        most in 0_u32..6,
        enabled in any::<bool>(),
    ) {
        let scene = scene(&format!("policy: {{hedge: {{enabled: {enabled}}}}}")).with(|s| {
            s.conditions.max_attempts = most;
            for (at, target) in s.targets.iter_mut().enumerate() {
                target.admits_in = admits[at].map(Duration::from_secs);
                target.retry_budget = budgets[at];
                if called[at] {
                    s.history.record_call(target.name);
                }
            }
        });
        if let Some(name) = target(&scene) {
            let at = scene.targets.iter().position(|one| *one.name == *name).unwrap();
            prop_assert!(enabled && at > 0 && at < 3);
            prop_assert!(admits[at] == Some(0) && budgets[at] && !called[at]);
            prop_assert!(scene.history.calls() < most);
        }
    }
}
