//! Every mistake at once, and what is said of each.

use super::*;

/// A mistake in the structure of a list hides nothing else.
#[test]
fn one_mistake_hides_no_other() {
    let text = "\
policy:
  routing:
    infrastructure:
      ladder:
        - retry
        - fallback_to_target: { targets: [] }
  overrides:
    - { when: 'stp == 1', routing: { infrastructure: { action: alert_and_halt } } }
    - { name: a, when: step == 'x', routing: {} }
    - 3
    - { name: b, when: \"failure.casue == 'x'\", routing: { infrastructure: { action: halt } } }
    - { name: c, when: step == 'c', routing: { infrastructure: { action: alert_and_halt } } }
    - { name: c, when: step == 'd', routing: { infrastructure: { action: alert_and_halt } } }
";
    let told = problems(text);
    let places: Vec<&str> =
        told.lines().map(|line| line.split(": ").nth(2).unwrap_or_default()).collect();
    assert_eq!(
        places,
        [
            "policy.routing.infrastructure.ladder[0]",
            "policy.routing.infrastructure.ladder[1].fallback_to_target.targets",
            "policy.overrides[0]",
            "policy.overrides[0].when",
            "policy.overrides[1].routing",
            "policy.overrides[2]",
            "policy.overrides[3].when",
            "policy.overrides[3].routing.infrastructure.action",
            "policy.overrides[5].name",
        ],
        "{told}"
    );
}

#[test]
fn whole_numbers_may_be_written_with_a_point() {
    for text in ["3", "3.0", "3e0"] {
        let policy = good(&format!("policy: {{execution: {{max_attempts: {text}}}}}"));
        assert_eq!(policy.execution.max_attempts, 3, "{text}");
    }
}

#[test]
fn what_is_meant_is_told() {
    for (text, expected) in [
        ("policy: {cache: {enabled: yes}}", "expected true or false, found `yes` (write `true`)"),
        (
            "policy: {execution: {max_attempts: \"3\"}}",
            "expected a whole number, found `3` (write it without quotes)",
        ),
        ("policy: {alerts: []}", "expected a map, found a list"),
        (
            "policy: {routing: {infrastructure: {ladder: alert_and_halt}}}",
            "expected a list, found `alert_and_halt` (write it as a list: `[alert_and_halt]`)",
        ),
        (
            "policy: {backoff: {base: []}}",
            "expected a duration such as 250ms, 2s, 1m30s or 6h, found a list",
        ),
        (
            "policy: {routing: {infrastructure: {action: retry}}}",
            "(did you mean `retry_with_backoff`?)",
        ),
        (
            "policy: {routing: {infrastructure: {causes: {timeout: {action: alert_and_halt}}}}}",
            "`timeout` is not a failure cause (did you mean one of `connect_timeout`, \
             `request_timeout`, `stream_idle_timeout`?)",
        ),
        ("", "there is no policy in this document (write it under the key `policy`)"),
        ("# nothing", "there is no policy in this document"),
        ("\"policy\": {\"\\e[2J\": 1}", "policy.\\u{1b}[2J: unknown key `\\u{1b}[2J`"),
    ] {
        let told = problems(text);
        assert!(told.contains(expected), "{text}: {told}");
        assert_eq!(told.lines().count(), 1, "{text}: {told}");
    }
}

#[test]
fn legal_figures_that_are_surely_not_meant() {
    for (text, expected) in [
        ("{hedge: {enabled: true, after: 0s}}", "policy.hedge.after: every attempt"),
        ("{cache: {enabled: false, fresh_for: 5m}}", "policy.cache.fresh_for: the cache is not"),
        ("{cache: {enabled: false, coalesce: true}}", "policy.cache.coalesce: the cache is not"),
        ("{cache: {fresh_for: 2d, max_age: 1d}}", "too old for a degraded answer after 24h"),
        ("{execution: {infra_errors: []}}", "an empty list says nothing"),
        (
            "{routing: {output_semantic: {causes: {refusal: {ladder: [{reprompt_with_errors: \
             {continue_cut: true}}, alert_and_halt]}}}}}",
            "it belongs under the cause `truncated_output`",
        ),
    ] {
        let told = problems(&format!("policy: {text}"));
        assert!(told.contains(expected) && told.contains("warning: "), "{text}: {told}");
        assert_eq!(told.lines().count(), 1, "{text}: {told}");
    }
    for text in [
        "{hedge: {enabled: false, after: 0s}}",
        "{cache: {fresh_for: 1d, max_age: 1d, coalesce: true}}",
        "{cache: {enabled: false, coalesce: false}}",
    ] {
        assert_eq!(problems(&format!("policy: {text}")), "", "{text}");
    }
}
