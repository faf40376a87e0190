use std::collections::BTreeMap;
use std::time::Duration;

use super::super::{Known, ReaskRoom, Refusal, TargetCondition, compile};
use super::*;
use crate::document::Document;

fn policy(text: &str) -> Policy {
    let document = Document::parse("policy.yaml", text).unwrap();
    compile(&document, &Known::default()).unwrap_or_else(|problems| panic!("{problems}")).0
}

#[test]
fn the_default_table() {
    insta::assert_snapshot!(table(&Policy::built_in(), None).to_string());
}

#[test]
fn the_table_of_a_site_has_overrides_applied() {
    let policy = policy(
        "policy:
  routing: {infrastructure: {action: retry_with_backoff}}
  overrides:
    - name: bulk
      when: labels.tier == 'bulk'
      routing:
        infrastructure:
          causes: {rate_limited: {ladder: [fallback_to_cache, reject_and_fix]}}
",
    );
    let rule = |tier: &str| {
        let labels = BTreeMap::from([("tier".to_owned(), tier.to_owned())]);
        let site = Site { pipeline: None, step: "s", target: "a", attempt: 1, labels: &labels };
        let table = table(&policy, Some(&site));
        let row = table.routes.iter().find(|row| row.cause == FailureCause::RateLimited);
        let row = row.unwrap();
        (row.rule.to_string(), row.ladder.join(" → "), table.overrides.len())
    };
    let expected = |rule: &str, ladder: &str| (rule.to_owned(), ladder.to_owned(), 1);
    let bulk = "overrides.bulk.routing.infrastructure.causes.rate_limited";
    assert_eq!(rule("bulk"), expected(bulk, "fallback_to_cache → reject_and_fix"));
    let retry = "retry_with_backoff (twice, 1s … 20s, full jitter)";
    assert_eq!(rule("gold"), expected("routing.infrastructure", retry));
    let shown = table(&policy, None).to_string();
    let own = shown.split_once("override").map(|(_, own)| own).unwrap();
    insta::assert_snapshot!(own, @r"
     bulk when labels.tier == 'bulk'
      rate_limited
        by overrides.bulk.routing.infrastructure.causes.rate_limited
        1. fallback_to_cache
        2. reject_and_fix
    ");
}

#[test]
fn a_decision_with_every_rung_judged() {
    let policy = Policy::built_in();
    let labels = BTreeMap::new();
    let site = Site { pipeline: None, step: "s", target: "a", attempt: 1, labels: &labels };
    let mut history = History::default();
    history.record_call("a");
    let down = |name, refusal| TargetCondition {
        name,
        admits_in: Some(Duration::from_secs(9)),
        refusal: Some(refusal),
        retry_budget: true,
        context_window: None,
        likely_duration: None,
    };
    let targets = [down("a", Refusal::CoolingDown), down("b", Refusal::BreakerOpen)];
    let conditions = Conditions {
        max_attempts: 8,
        run_extra_calls_left: 32,
        max_cost_usd: None,
        targets: &targets,
        step_targets: 2,
        reprompt_budget: true,
        reask: ReaskRoom::default(),
        verifier_failed: false,
        repair: None,
        cache_age: Some(Duration::from_secs(60)),
        step_template: false,
        unfit_templates: &[],
        partial: false,
    };
    let moment = Moment { remaining: Duration::from_secs(5), dice: 0.5 };
    let limited = Failure {
        retry_after: Some(Duration::from_secs(8)),
        ..Failure::new(FailureCause::RateLimited, "slow down")
    };
    let shown = failure(&policy, &limited, &site, &history, moment, &conditions).to_string();
    insta::assert_snapshot!(shown, @r"
    route routing.infrastructure
      1. retry_with_backoff (twice, 1s … 20s, full jitter)                wait_exceeds_deadline
      2. fallback_to_target (the step's list)                             breaker_open
    → 3. fallback_to_cache                                                feasible
      4. alert_and_degrade                                                feasible
    ");
}
