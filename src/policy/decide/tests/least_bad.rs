//! What happens when every target of a step refuses.

use super::*;

/// A step whose targets a, b and c refuse, and which has called nothing yet.
fn all_refuse(policy: &str) -> Scene {
    let policy = format!("policy: {{execution: {{when_all_refuse: {policy}}}}}");
    Scene::under(FailureCause::CircuitOpen, &policy).with(|s| {
        s.history = History::default();
        s.conditions.cache_age = None;
        s.conditions.step_template = false;
        let refusing = [
            (Some(9 * S), Refusal::BreakerOpen),
            (Some(4 * S), Refusal::CoolingDown),
            (None, Refusal::Disabled),
        ];
        for (target, (admits_in, refusal)) in s.targets.iter_mut().zip(refusing) {
            (target.admits_in, target.refusal) = (admits_in, Some(refusal));
        }
    })
}

#[test]
fn it_fails_fast_by_default() {
    let decision = all_refuse("fail_fast").decide();
    assert!(!decision.is_panic);
    assert_eq!(decision.verdict, Verdict::Degrade { source: None });
}

#[test]
fn the_least_bad_is_the_one_that_reopens_first_and_it_is_marked() {
    let decision = all_refuse("least_bad").decide();
    assert!(decision.is_panic);
    assert_eq!(decision.verdict, fallback("b"));
    assert_eq!(&*decision.rule, "execution.when_all_refuse");
    let asked = all_refuse("least_bad").with(|s| s.targets[0].admits_in = Some(S));
    assert_eq!(asked.decide().verdict, Verdict::Retry { after: Duration::ZERO });
}

#[test]
fn it_is_called_once_and_only_when_nothing_else_is_there() {
    let mut scene = all_refuse("least_bad");
    let decision = scene.decide();
    scene.history.record_decision(&decision, "a");
    assert!(!scene.decide().is_panic, "once");
    let is_panic = |change: fn(&mut Scene)| all_refuse("least_bad").with(change).decide().is_panic;
    assert!(!is_panic(|s| s.targets[1].admits_in = Some(Duration::ZERO)), "one admits");
    assert!(!is_panic(|s| s.history.record_call("a")), "a call was made");
    let slow = |s: &mut Scene| {
        s.targets.iter_mut().for_each(|target| target.likely_duration = Some(90 * S));
    };
    assert!(!is_panic(slow), "no time for it");
    let shut =
        |s: &mut Scene| s.targets.iter_mut().for_each(|t| t.refusal = Some(Refusal::Disabled));
    assert!(!is_panic(shut), "disabled is disabled");
}
