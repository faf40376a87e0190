//! Rungs that end a step without a full answer.

use super::*;

#[test]
fn fallback_to_cache() {
    let with = |parameters: &str, change: fn(&mut Scene)| {
        let ladder = format!("{{action: {{fallback_to_cache: {parameters}}}}}");
        Scene::new(FailureCause::Overloaded, &ladder).with(change)
    };
    let cache = |max_age| Verdict::Cache { max_age: Some(max_age) };
    takes(with("{}", |_| {}), cache(86_400 * S));
    takes(with("{max_age: 60s}", |_| {}), cache(60 * S));
    skips(with("{max_age: 59s}", |_| {}), SkipReason::CacheEntryTooOld);
    skips(with("{}", |s| s.conditions.cache_age = None), SkipReason::NoCacheEntry);
    skips(with("{}", |s| s.policy.cache.enabled = false), SkipReason::NoCacheEntry);
    let mut scene = with("{}", |_| {});
    scene.step();
    skips(scene, SkipReason::AllowanceUsed);
}

#[test]
fn fallback_to_template() {
    let with = |ladder: &str, change: fn(&mut Scene)| {
        Scene::new(FailureCause::Overloaded, ladder).with(change)
    };
    let of_step = "{action: fallback_to_template}";
    let of_policy = "{action: {fallback_to_template: {template: sorry}}}";
    let none = |s: &mut Scene| s.conditions.step_template = false;
    takes(with(of_step, |_| {}), Verdict::Template { template: None });
    skips(with(of_step, none), SkipReason::NoTemplate);
    let sorry = Some(Arc::new(Value::from("sorry")));
    takes(with(of_policy, none), Verdict::Template { template: sorry });
    let unfit: &[_] = Vec::leak(vec![Arc::new(Value::from("sorry"))]);
    let mut scene = with(of_policy, none);
    scene.conditions.unfit_templates = unfit;
    skips(scene, SkipReason::TemplateUnfit);
}

#[test]
fn accept_partial() {
    let with = |change: fn(&mut Scene)| {
        let ladder = "{action: {accept_partial: {defaults: {currency: EUR}}}}";
        Scene::new(FailureCause::SchemaMismatch, ladder).with(change)
    };
    let defaults = serde_json::json!({"currency": "EUR"}).as_object().cloned().unwrap();
    takes(with(|_| {}), Verdict::AcceptPartial { defaults: Arc::new(defaults) });
    skips(with(|s| s.conditions.partial = false), SkipReason::NothingPartial);
    skips(with(|s| s.policy.validation.allow_partial_matches = false), SkipReason::NothingPartial);
}

#[test]
fn alert_and_degrade_takes_the_first_source_that_exists() {
    let with = |cause, change: fn(&mut Scene)| {
        Scene::new(cause, "{action: alert_and_degrade}").with(change)
    };
    let degrade = |source| Verdict::Degrade { source };
    let (bad, down) = (FailureCause::SchemaMismatch, FailureCause::Connect);
    takes(with(bad, |_| {}), degrade(Some(DegradeSource::Partial)));
    let no_partial = |s: &mut Scene| s.conditions.partial = false;
    takes(with(bad, no_partial), degrade(Some(DegradeSource::Cache)));
    takes(with(down, |_| {}), degrade(Some(DegradeSource::Cache)));
    let no_cache = |s: &mut Scene| s.conditions.cache_age = Some(90_000 * S);
    takes(with(down, no_cache), degrade(Some(DegradeSource::Template)));
    let nothing = |s: &mut Scene| {
        s.conditions.cache_age = None;
        s.conditions.step_template = false;
    };
    takes(with(down, nothing), degrade(None));
}

#[test]
fn terminal_rungs_are_always_feasible_and_end_the_step() {
    let nothing = |s: &mut Scene| {
        s.conditions = Conditions {
            max_attempts: 0,
            run_extra_calls_left: 0,
            max_cost_usd: Some(0.0),
            targets: &[],
            step_targets: 0,
            reprompt_budget: false,
            reask: ReaskRoom::default(),
            verifier_failed: false,
            repair: None,
            cache_age: None,
            step_template: false,
            unfit_templates: &[],
            partial: false,
        };
        s.moment.remaining = Duration::ZERO;
        s.targets.clear();
    };
    let message = Some(Arc::from("shorten it"));
    for (ladder, expected) in [
        ("{action: alert_and_halt}", Verdict::Halt),
        ("{action: alert_and_degrade}", Verdict::Degrade { source: None }),
        ("{action: {reject_and_fix: {message: shorten it}}}", Verdict::Reject { message }),
    ] {
        let mut scene = Scene::new(FailureCause::Connect, ladder).with(nothing);
        assert_eq!(scene.step(), expected);
        assert_eq!(scene.step(), Verdict::Exhausted);
    }
}

#[test]
fn what_a_reader_has_seen_is_not_taken_back_where_the_policy_says_so() {
    let every = "[retry_with_backoff, fallback_to_target, fallback_to_cache, fallback_to_template, \
                 alert_and_degrade]";
    let policy = |after: &str| {
        format!(
            "policy: {{streaming: {{after_content: {after}}}, \
             routing: {{infrastructure: {{ladder: {every}}}}}}}"
        )
    };
    let scene = |after: &str, shown: bool| {
        Scene::under(FailureCause::StreamInterrupted, &policy(after))
            .with(|scene| scene.history.set_content_shown(shown))
            .decide()
    };
    let decision = scene("fail", true);
    assert_eq!(decision.verdict, Verdict::Degrade { source: None });
    let reasons: Vec<SkipReason> = decision.skipped.iter().map(|rung| rung.reason).collect();
    assert_eq!(reasons, [SkipReason::ContentShown; 4]);
    for (after, shown) in [("fail", false), ("restart", true)] {
        assert!(matches!(scene(after, shown).verdict, Verdict::Retry { .. }), "{after} {shown}");
    }
}
