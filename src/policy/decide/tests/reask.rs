//! Re-asks: what they need, and what a cut answer or a failed verifier changes about them.

use super::*;

const REPROMPT: Verdict = Verdict::Reprompt { max_output_tokens: None, continue_cut: false };

#[test]
fn a_cut_answer_gets_a_higher_limit_or_is_continued() {
    use SkipReason::*;
    let with = |parameters: &str, limit, limit_max| {
        let ladder = format!("{{action: {{reprompt_with_errors: {parameters}}}}}");
        Scene::new(FailureCause::TruncatedOutput, &ladder).with(|s| {
            s.conditions.reask = ReaskRoom { limit, limit_max, ..ReaskRoom::default() };
        })
    };
    let asks =
        |max_output_tokens, continue_cut| Verdict::Reprompt { max_output_tokens, continue_cut };
    takes(with("{}", None, None), REPROMPT);
    let raise = "{raise_max_output_tokens: 2.5}";
    takes(with(raise, Some(101), None), asks(Some(253), false));
    takes(with(raise, Some(101), Some(200)), asks(Some(200), false));
    takes(with(raise, Some(u32::MAX / 2), None), asks(Some(u32::MAX), false));
    skips(with(raise, Some(100), Some(100)), TokenLimit);
    skips(with(raise, Some(100), Some(50)), TokenLimit);
    skips(with(raise, None, Some(200)), TokenLimit);
    let go_on = "{continue_cut: true}";
    takes(with(go_on, None, None), asks(None, true));
    takes(with(go_on, None, None).with(|s| s.conditions.reask.errors = false), asks(None, true));
    skips(with(go_on, None, None).with(|s| s.conditions.reask.rest = false), ReaskTooLong);
    let both = "{continue_cut: true, raise_max_output_tokens: 2}";
    takes(with(both, Some(100), None), asks(Some(200), true));
    takes(with(both, Some(100), Some(100)), asks(None, true));
}

#[test]
fn a_failure_of_the_verifier_makes_no_call_of_the_step() {
    let ladder = "{ladder: [retry_with_backoff, fallback_to_target, fallback_to_cache]}";
    let scene =
        Scene::new(FailureCause::Overloaded, ladder).with(|s| s.conditions.verifier_failed = true);
    let decision = scene.decide();
    assert!(matches!(decision.verdict, Verdict::Cache { .. }), "{decision:?}");
    let reasons: Vec<_> = decision.skipped.iter().map(|skipped| skipped.reason).collect();
    assert_eq!(reasons, [SkipReason::VerifierFailed; 2]);
}

#[test]
fn reprompt_with_errors() {
    use SkipReason::*;
    let with = |change: fn(&mut Scene)| {
        Scene::new(FailureCause::SchemaMismatch, "{action: reprompt_with_errors}").with(change)
    };
    takes(with(|_| {}), REPROMPT);
    takes(with(|s| s.failure.retryable = false), REPROMPT);
    takes(with(|s| s.targets[0].retry_budget = false), REPROMPT);
    // Only a cut answer is continued or given a higher limit, and neither shows errors.
    takes(with(|s| s.conditions.reask.rest = false), REPROMPT);
    skips(with(|s| s.conditions.reask.errors = false), ReaskTooLong);
    skips(with(|s| s.conditions.verifier_failed = true), VerifierFailed);
    skips(with(|s| s.conditions.reprompt_budget = false), RepromptBudget);
    skips(with(|s| s.conditions.max_attempts = 1), AttemptsUsed);
    skips(with(|s| s.conditions.run_extra_calls_left = 0), RunCapReached);
    skips(with(|s| s.targets[0].admits_in = Some(S)), TargetRefuses(Refusal::CoolingDown));
    skips(with(|s| s.targets[0].likely_duration = Some(61 * S)), WaitExceedsDeadline);
    skips(with(|s| s.moment.remaining = Duration::ZERO), WaitExceedsDeadline);
    let mut scene = with(|_| {});
    scene.step();
    skips(scene, AllowanceUsed);
}
