//! Documents that are meant to do harm: each is refused, or held within bounds, by what it is and
//! not by how long it took.

use mainstay::document::Document;
use mainstay::expression;
use mainstay::policy::{self, Known};
use serde_json::json;

/// Everything that is wrong with a policy; empty if it was taken.
fn refused(text: String) -> String {
    match Document::parse("policy.yaml", text) {
        Err(problem) => problem.to_string(),
        Ok(document) => match policy::compile(&document, &Known::default()) {
            Ok(_) => String::new(),
            Err(problems) => problems.to_string(),
        },
    }
}

#[track_caller]
fn check(text: String, expected: &str) {
    let told = refused(text);
    assert!(told.contains(expected), "{expected}: {}", &told[..told.len().min(400)]);
}

#[test]
fn too_much_is_refused_before_it_is_compiled() {
    check(" ".repeat(10 << 20), "at most 1048576 are read");
    let rule = "{name: a, when: 'true', routing: {}},";
    check(format!("policy: {{overrides: [{}]}}", rule.repeat(100_000)), "at most 1048576 are read");
    check(format!("policy: {{overrides: [{}]}}", rule.repeat(20_000)), "at most 10000 items");
    check(format!("policy: {}1{}", "[".repeat(1_000), "]".repeat(1_000)), "cannot be read");
    check(format!("policy: {}1{}", "{a: ".repeat(1_000), "}".repeat(1_000)), "cannot be read");
    let anchors: String = (1..200).map(|n| format!("a{n}: &a{n} x\n")).collect();
    check(anchors, "cannot be read");
}

/// Each limit of FAULTS' kind, at it and one beyond it.
#[test]
fn limits_hold_at_the_limit_and_one_beyond() {
    let sized = |bytes: usize| format!("policy: {{}}\n#{}", "x".repeat(bytes - 12));
    let rules = |count: usize| {
        let rule = |n| {
            format!(
                "{{name: r{n}, when: step=='s{n}', routing: {{infrastructure: {{action: alert_and_halt}}}}}}"
            )
        };
        format!("policy: {{overrides: [{}]}}", (0..count).map(rule).collect::<Vec<_>>().join(","))
    };
    let patterns =
        |many: Vec<String>| format!("policy: {}", json!({"redaction": {"patterns": many}}));
    let pattern = |bytes: usize| patterns(vec!["a".repeat(bytes)]);
    let several = |count: usize| patterns((0..count).map(|n| format!("p{n}")).collect());
    let condition = |bytes: usize| {
        let padded = format!("step == 's'{}", " ".repeat(bytes - 11));
        let routing = json!({"infrastructure": {"action": "alert_and_halt"}});
        let rule = json!({"name": "a", "when": padded, "routing": routing});
        format!("policy: {}", json!({"overrides": [rule]}))
    };
    let parentheses = |depth: usize| {
        let when = format!("{}step == 's'{}", "(".repeat(depth), ")".repeat(depth));
        let routing = json!({"infrastructure": {"action": "alert_and_halt"}});
        let rule = json!({"name": "a", "when": when, "routing": routing});
        format!("policy: {}", json!({"overrides": [rule]}))
    };
    for (name, fits, too_much) in [
        ("bytes", sized(1 << 20), sized((1 << 20) + 1)),
        ("rules", rules(10_000), rules(10_001)),
        ("bytes of a pattern", pattern(10 * 1024), pattern(10 * 1024 + 1)),
        ("patterns", several(100), several(101)),
        ("bytes of a condition", condition(4 * 1024), condition(4 * 1024 + 1)),
        ("depth of a condition", parentheses(30), parentheses(33)),
    ] {
        let told = refused(fits);
        assert!(told.is_empty(), "{name}: what fits is taken: {}", &told[..told.len().min(400)]);
        assert!(!refused(too_much).is_empty(), "{name}: what is beyond is refused");
    }
    let nested = |depth: usize| {
        Document::parse("x", format!("{}1{}", "[".repeat(depth), "]".repeat(depth))).is_ok()
    };
    assert!(nested(32) && !nested(33), "depth of a document");
}

#[test]
fn patterns_that_blow_up_are_refused() {
    let with = |pattern: &str| format!("policy: {}", json!({"redaction": {"patterns": [pattern]}}));
    check(with("(a{1000}){1000}"), "takes too much memory");
    check(with("((a{100}){100}){100}"), "takes too much memory");
    check(with(&"(".repeat(1_000)), "not a regular expression");
    check(with(&"a".repeat(11 << 10)), "at most 10240 bytes");
    check(with(&format!("{}a{}", "(".repeat(200), ")".repeat(200))), "not a regular expression");
    let many: Vec<String> = (0..10_000).map(|n| format!("p{n}")).collect();
    check(
        format!("policy: {}", json!({"redaction": {"patterns": many}})),
        "may have at most 100 items",
    );
}

#[test]
fn conditions_that_blow_up_are_refused_or_run_out_of_fuel() {
    let with = |when: &str| {
        let routing = json!({"infrastructure": {"action": "alert_and_halt"}});
        let rule = json!({"name": "a", "when": when, "routing": routing});
        format!("policy: {}", json!({"overrides": [rule]}))
    };
    check(with(&format!("{}true", "!".repeat(5_000))), "overrides[0].when");
    check(with(&format!("{}1{} == 1", "(".repeat(40), ")".repeat(40))), "overrides[0].when");
    check(with("[1].map(x, [1].map(y, x))"), "overrides[0].when");
    check(with("step.matches(labels.pattern)"), "overrides[0].when");
    check(with("step.matches('(a{1000}){1000}')"), "overrides[0].when");
    check(with("failure.cause == nothing"), "overrides[0].when");
    // What is within the limits of a text may still go over a long list many times.
    let long = json!((0..9_999).collect::<Vec<_>>());
    let bomb = expression::Expression::compile("v.all(x, v.exists(y, y == -1) == false)", &["v"]);
    let within = expression::Expression::compile("v.all(x, x in v)", &["v"]).unwrap();
    assert!(bomb.is_err(), "one comprehension in another");
    assert!(matches!(
        within.evaluate(&[("v", &long)]),
        Err(expression::ExpressionError::TooCostly(_))
    ));
}

/// A thousand mistakes are told, not a million; and a wide document costs no more than its size.
#[test]
fn a_document_of_nothing_but_mistakes_is_told_of_within_bounds() {
    let rules: Vec<_> = (0..10_000)
        .map(|n| json!({"name": format!("r{n}"), "when": "step ==", "routing": {}}))
        .collect();
    let told = refused(format!("policy: {}", json!({"overrides": rules})));
    assert!(told.lines().count() <= 1_001, "{} lines", told.lines().count());
    assert!(told.contains("more mistakes"), "{}", told.lines().last().unwrap_or_default());
}
