//! Whether what the reader of a stream has seen is gone on with.

use super::*;

const NEXT: &str = "routing: {infrastructure: {ladder: [fallback_to_target, fallback_to_cache]}, \
                    output_semantic: {ladder: [{reprompt_with_errors: {continue_cut: true}}, \
                    fallback_to_target]}";

fn seen(cause: FailureCause, after_content: &str) -> Scene {
    let policy = format!("policy: {{streaming: {{after_content: {after_content}}}, {NEXT}}}}}");
    Scene::under(cause, &policy).with(|s| {
        s.history.set_content_shown(true);
        s.conditions.reask.shown = Some(900);
    })
}

#[test]
fn a_broken_answer_is_gone_on_with_where_the_policy_says_so() {
    let broken = |after_content| seen(FailureCause::StreamInterrupted, after_content);
    let decision = broken("continue").decide();
    assert_eq!((&decision.verdict, decision.continues), (&fallback("b"), true));
    assert!(!broken("restart").decide().continues);
    assert_eq!(broken("fail").decide().verdict, Verdict::Exhausted);
    for change in [(|s: &mut Scene| s.history.set_content_shown(false)) as fn(&mut Scene), |s| {
        s.conditions.reask.shown = None
    }] {
        let decision = broken("continue").with(change).decide();
        assert_eq!((&decision.verdict, decision.continues), (&fallback("b"), false));
    }
    let cached = broken("continue").with(|s| s.targets.truncate(1)).decide();
    assert_eq!(cached.verdict.action(), Some(crate::policy::Action::FallbackToCache));
    assert!(!cached.continues, "another output is no continuation");
}

#[test]
fn what_goes_on_must_have_the_window_for_it() {
    let broken = |failed: Option<u32>, next: Option<u32>| {
        let scene = seen(FailureCause::StreamInterrupted, "continue").with(|s| {
            s.targets[0].context_window = failed;
            s.targets[1].context_window = next;
        });
        let decision = scene.decide();
        assert_eq!(decision.verdict, fallback("b"));
        decision.continues
    };
    assert!(broken(Some(10), None) && broken(Some(10), Some(900)) && broken(None, Some(900)));
    assert!(!broken(None, Some(899)) && !broken(Some(10_000), Some(899)));
}

#[test]
fn a_bad_output_is_not_gone_on_with_unless_it_was_cut() {
    let decision = seen(FailureCause::MalformedJson, "continue")
        .with(|s| s.conditions.reprompt_budget = false)
        .decide();
    assert_eq!((&decision.verdict, decision.continues), (&fallback("b"), false));
    let decision = seen(FailureCause::TruncatedOutput, "continue").decide();
    let rest = Verdict::Reprompt { max_output_tokens: None, continue_cut: true };
    assert_eq!((&decision.verdict, decision.continues), (&rest, true));
}
