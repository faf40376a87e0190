//! Conditions of overrides: what never holds, and what is no condition.

use super::*;

#[test]
fn overrides_that_never_apply() {
    let check = |overrides: &str, expected: &str| {
        let text = format!("policy:\n  overrides:\n{overrides}");
        let targets = ["primary".to_owned(), "backup".to_owned()];
        let known = Known { targets: Some(&targets), ..Known::default() };
        let document = Document::parse("policy.yaml", text.as_str()).unwrap();
        let (_, warnings) = compile(&document, &known).unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(warnings.to_string(), expected, "{text}");
    };
    let rule = |name: &str, when: &str, routing: &str| {
        format!("    - {{name: {name}, when: \"{when}\", routing: {{{routing}}}}}\n")
    };
    let infrastructure = "infrastructure: {action: alert_and_degrade}";
    let one = |when: &str| rule("a", when, infrastructure);
    let at = "3:23: warning: policy.overrides[0].when: ";
    check(&one("step == 'a' && failure.cause == 'rate_limited'"), "");
    check(&one("step == 'a' && step == 'b'"), &format!("{at}the condition never holds"));
    check(
        &one("failure.cause == 'ratelimited'"),
        &format!(
            "{at}`ratelimited` is not a cause, so that `failure.cause` is never equal to it (did \
             you mean `rate_limited`?)"
        ),
    );
    check(
        &one("failure.domain == 'infrastructure'"),
        &format!(
            "{at}`infrastructure` is not a domain, so that `failure.domain` is never equal to it \
             (did you mean `INFRASTRUCTURE`?)"
        ),
    );
    check(
        &one("target in ['primary', 'bakcup']"),
        &format!(
            "{at}`bakcup` is not a target, so that `target` is never equal to it (did you mean \
             `backup`?)"
        ),
    );
    check(
        &one("failure.cause == 'refusal'"),
        &format!(
            "{at}the override never applies: its routes are for other causes than its condition \
             asks for"
        ),
    );
    let shadowed = "4:23: warning: policy.overrides[1].when: the override never applies: `a` \
                    before it always does (remove it, or move it up)";
    check(&(one("true") + &rule("b", "step == 'x'", infrastructure)), shadowed);
    check(&(one("attempt > 1") + &rule("b", "attempt > 1", infrastructure)), shadowed);
    let wider = "pipeline_logic: {action: alert_and_halt}";
    check(&(one("true") + &rule("b", "step == 'x'", wider)), "");
}

/// What is told of overrides of these conditions, each for infrastructure, without the suggestion.
fn told(conditions: &[&str]) -> Vec<String> {
    let rule = |(at, when): (usize, &&str)| {
        format!(
            "    - {{name: r{at}, when: {when:?}, routing: {{infrastructure: {{action: \
             alert_and_halt}}}}}}\n"
        )
    };
    let rules: String = conditions.iter().enumerate().map(rule).collect();
    problems(&format!("policy:\n  overrides:\n{rules}")).lines().map(str::to_owned).collect()
}

#[test]
fn an_override_behind_wider_ones_never_applies() {
    let shadowed = |conditions: &[&str]| {
        let told = told(conditions);
        told.iter().any(|line| line.contains("before it always does"))
    };
    for conditions in [
        &["step == 'x'", "step == 'x' && attempt > 2"][..],
        &["step == 'x'", "'x' == step"],
        &["step == 'x'", "step == 'x' && target == 'main'"],
        &["step in ['x', 'y']", "step == 'y'"],
        &["step == 'x'", "step == 'y'", "step in ['y', 'x']"],
        &["labels.a == '1' && step == 'x'", "step == 'x' && target == 't' && labels.a == '1'"],
        &["failure.cause == 'tls'", "step == 'x' && failure.cause == 'tls'"],
        &["true", "attempt > 3"],
    ] {
        assert!(shadowed(conditions), "{conditions:?}");
    }
    for conditions in [
        &["step == 'x' && attempt > 2", "step == 'x'"][..],
        &["step == 'x'", "step in ['x', 'y']"],
        &["step == 'x' && target == 'main'", "step == 'x'"],
        &["failure.cause == 'tls'", "failure.cause == 'dns'"],
        &["failure.cause == 'tls'", "step == 'x'"],
        &["labels.a == 'x'", "labels.b == 'x'"],
        &["attempt > 2", "step == 'x'"],
    ] {
        assert_eq!(told(conditions), [""; 0], "{conditions:?}");
    }
}

#[test]
fn a_field_that_does_not_exist_is_an_error_in_its_place() {
    for (when, expected) in [
        (
            "step == 'x' && failure.casue == 'tls'",
            "3:40: error: policy.overrides[0].when: a failure has no `casue` (did you mean `cause`?)",
        ),
        (
            "has(failure.message)",
            "3:29: error: policy.overrides[0].when: a failure has no `message` (known here: domain, \
             cause, retryable, status, provider_code, detail, retry_after_ms)",
        ),
        (
            "failure.cause.name == 'tls'",
            "3:25: error: policy.overrides[0].when: `failure.cause` has no `name`",
        ),
        ("step.name == 'x'", "3:25: error: policy.overrides[0].when: `step` has no `name`"),
        (
            "labels.a.b == 'x'",
            "3:25: error: policy.overrides[0].when: the label `a` is a text (write \
             `labels[\"a.b\"]` for a label with a dot in its name)",
        ),
    ] {
        assert_eq!(told(&[when]), [expected], "{when}");
    }
    assert_eq!(told(&["labels.anything == 'x' && has(failure.status)"]), [""; 0]);
}

#[test]
fn a_value_of_another_type_never_holds() {
    for (when, expected) in [
        ("attempt + 1", "the condition never holds: the expression gives"),
        ("attempt > '3'", "the condition never holds: "),
        ("!step", "the condition never holds: "),
        ("labels.tier > 3", "the condition never holds: "),
        ("step == 'x' && labels.tier", "the condition never holds: "),
        (
            "failure.status == '429'",
            "`failure.status` is a number, and never equal to the text `429`",
        ),
        ("labels.tier == 1", "`labels.tier` is a text, and never equal to the number 1"),
        ("attempt in ['1']", "`attempt` is a number, and never equal to the text `1`"),
    ] {
        let told = told(&[when]);
        assert_eq!(told.len(), 1, "{when}: {told:?}");
        assert!(told[0].contains("warning: ") && told[0].contains(expected), "{when}: {told:?}");
    }
    for when in [
        "attempt + 1 > 3",
        "failure.retry_after_ms > 500 && failure.retryable",
        "failure.detail.startsWith('x') || size(step) > 3",
        "int(labels.level) > 3",
        "labels.exists(name, name == 'x')",
        "target.matches('^a') && failure.status >= 500",
    ] {
        assert_eq!(told(&[when]), [""; 0], "{when}");
    }
}
