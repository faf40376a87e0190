use super::*;
use crate::document::Document;
use crate::policy::compile::{Known as Server, compile};

fn policy(text: &str) -> Policy {
    let document = Document::parse("policy.yaml", text).unwrap();
    compile(&document, &Server::default()).unwrap_or_else(|problems| panic!("{problems}")).0
}

fn shown(before: &str, after: &str) -> String {
    let difference = diff(&policy(before), &policy(after));
    let routes = difference.routes.iter().map(|change| {
        let target = change.target.as_ref().map(|name| format!(" at {name}")).unwrap_or_default();
        format!("{}{target}: {}", change.cause, change.summary)
    });
    routes.chain(difference.settings).collect::<Vec<_>>().join("\n")
}

#[test]
fn a_policy_does_not_differ_from_itself() {
    let default = crate::policy::compile::DEFAULT_TEXT;
    assert!(diff(&policy(default), &policy(default)).is_none());
    // Written out or left to the defaults is the same.
    assert_eq!(shown(default, "policy: {}"), "");
    assert_eq!(shown("policy: {}", "policy: {description: x, execution: {hint_limit: 2m}}"), "");
}

#[test]
fn ladders_in_words() {
    let with = |ladder: &str| {
        format!("policy: {{routing: {{pipeline_logic: {{causes: {{authentication: {ladder}}}}}}}}}")
    };
    let check = |before: &str, after: &str, expected: &str| {
        assert_eq!(shown(&with(before), &with(after)), format!("authentication: {expected}"));
    };
    check(
        "{ladder: [fallback_to_target, alert_and_degrade]}",
        "{ladder: [fallback_to_target, fallback_to_cache, alert_and_halt]}",
        "adds fallback_to_cache after fallback_to_target; alert_and_halt instead of \
         alert_and_degrade",
    );
    check(
        "{ladder: [fallback_to_target, alert_and_degrade]}",
        "{ladder: [{fallback_to_target: {targets: [b]}}, alert_and_degrade]}",
        "fallback_to_target (b) instead of fallback_to_target (the step's list)",
    );
    check(
        "{ladder: [fallback_to_cache, fallback_to_target, alert_and_degrade]}",
        "{ladder: [fallback_to_target, fallback_to_cache, alert_and_degrade]}",
        "another order: fallback_to_target, fallback_to_cache, alert_and_degrade",
    );
    check(
        "{ladder: [alert_and_degrade]}",
        "{ladder: [fallback_to_cache, alert_and_degrade]}",
        "adds fallback_to_cache at the top",
    );
    check(
        "{ladder: [{fallback_to_template: {template: 1}}]}",
        "{ladder: [{fallback_to_template: {template: 2}}]}",
        "other parameters of fallback_to_template (of the policy)",
    );
}

#[test]
fn overrides_and_settings_in_words() {
    let before = "
policy:
  retry_budget: {ratio: 0.1}
  overrides:
    - {name: a, when: step == 'x', routing: {pipeline_logic: {causes: {internal: {action: alert_and_degrade}}}}}
    - {name: b, when: target == 't', routing: {pipeline_logic: {causes: {internal: {action: alert_and_degrade}}}}}
    - {name: c, when: step == 'y', routing: {pipeline_logic: {causes: {internal: {action: alert_and_degrade}}}}}
";
    let after = "
policy:
  execution: {max_cost_usd: 0.5, attempt_timeout: 90s}
  routing: {infrastructure: {alert_threshold: 7}}
  overrides:
    - {name: c, when: step == 'y', routing: {pipeline_logic: {causes: {internal: {action: reject_and_fix}}}}}
    - {name: b, when: target == 't' && attempt > 1, routing: {pipeline_logic: {causes: {internal: {action: alert_and_degrade}}}}}
    - {name: d, when: step == 'z', routing: {pipeline_logic: {causes: {internal: {ladder: [fallback_to_target, alert_and_halt]}}}}}
";
    insta::assert_snapshot!(shown(before, after), @r"
    internal: override `c`: reject_and_fix instead of alert_and_degrade
    internal at t: override `b` holds when target == 't' && attempt > 1, before when target == 't': the same ladder
    internal: new override `d` when step == 'z': fallback_to_target (the step's list), then alert_and_halt
    internal: override `a` when step == 'x' is gone: the routes after it answer
    execution.max_cost_usd: none becomes 0.5
    execution.attempt_timeout: none becomes 90s
    retry_budget.ratio: 0.1 becomes 0.2
    routing.infrastructure.alert_threshold: 3 becomes 7
    overrides are tried in another order
    ");
}

#[test]
fn sides_name_the_rules() {
    let difference = diff(
        &policy("policy: {}"),
        &policy("policy: {routing: {pipeline_logic: {action: alert_and_degrade}}}"),
    );
    let first = &difference.routes[0];
    let (before, after) = (first.before.as_ref().unwrap(), first.after.as_ref().unwrap());
    assert_eq!(&*before.rule, "default.routing.pipeline_logic.causes.authentication");
    assert_eq!(&*after.rule, "routing.pipeline_logic");
    assert_eq!(after.ladder, ["alert_and_degrade"]);
}
