//! Rules, confidence and verdicts over outputs.

use super::*;

fn step(checks: &str) -> Step {
    let text = format!(
        "name: a\nsteps:\n  - name: s\n    prompt: hi\n    output: {{json: {{}}}}\n{checks}"
    );
    good(&text).steps.remove(0)
}

fn judge(step: &Step, output: Value) -> Result<Judgement, (FailureCause, String, Vec<String>)> {
    let (input, labels) = (json!({"most": 10}), BTreeMap::new());
    let scope = Scope::new(&input, &[], "r", &labels).with_output(&output);
    step.judge(&scope).map_err(|failure| {
        let places = failure.violations.iter().map(|v| format!("{}: {}", v.path, v.message));
        (failure.cause, failure.message.clone(), places.collect())
    })
}

#[test]
fn every_broken_rule_is_told_at_its_place_and_warnings_let_pass() {
    let step = step(
        "    rules:\n      - {check: output.total <= input.most, message: over budget}\n      \
         - {check: 'output.from < output.to', message: ends before it begins}\n      \
         - {check: 'size(output.items) > 0', message: nothing listed, severity: warning}\n",
    );
    let good = json!({"total": 1, "from": 1, "to": 2, "items": [1]});
    assert_eq!(judge(&step, good), Ok(Judgement::default()));
    let warned = judge(&step, json!({"total": 1, "from": 1, "to": 2, "items": []})).unwrap();
    assert_eq!(
        warned.warnings,
        [Violation { path: "/items".into(), message: "nothing listed".into() }]
    );
    let (cause, message, places) =
        judge(&step, json!({"total": 11, "from": 2, "to": 2, "items": []})).unwrap_err();
    assert_eq!(cause, FailureCause::RuleViolation);
    assert_eq!(message, "the output breaks a rule: over budget (and 1 more)");
    assert_eq!(places, ["/total: over budget", ": ends before it begins"]);
}

#[test]
fn an_expression_without_a_value_is_no_pass() {
    let step = step("    rules: [{check: output.total < 3, message: m, severity: warning}]\n");
    let (cause, message, _) = judge(&step, json!({})).unwrap_err();
    assert_eq!(cause, FailureCause::MissingInput, "{message}");
    let (cause, message, _) = judge(&step, json!({"total": "secret"})).unwrap_err();
    assert_eq!(cause, FailureCause::TemplateError);
    assert!(message.starts_with("rule 1: ") && !message.contains("secret"), "{message}");
}

#[test]
fn confidence_has_to_reach_its_minimum() {
    let step = step("    confidence: {expression: output.sure, minimum: 0.5}\n");
    assert_eq!(judge(&step, json!({"sure": 0.5})).unwrap().confidence, Some(0.5));
    assert_eq!(judge(&step, json!({"sure": 1})).unwrap().confidence, Some(1.0));
    let low = judge(&step, json!({"sure": 0.49})).unwrap_err();
    let message = "the output's confidence is below 0.5";
    let places = vec![format!("/sure: {message}")];
    assert_eq!(low, (FailureCause::LowConfidence, message.to_owned(), places));
    assert_eq!(judge(&step, json!({"sure": "very"})).unwrap_err().0, FailureCause::TemplateError);
    assert_eq!(judge(&step, json!({})).unwrap_err().0, FailureCause::MissingInput);
}

#[test]
fn a_verdict_accepts_or_rejects() {
    let step = step(
        "    verifier:\n      accept: verdict.score > 3 && output.a == verdict.a\n      step:\n        \
         name: judge\n        prompt: '{{ output.a }}'\n        output: {json: {}}\n",
    );
    let verifier = step.verifier.unwrap();
    let (input, labels, output) = (json!({}), BTreeMap::new(), json!({"a": 1}));
    let accepts = |verdict: Value| {
        let scope = Scope::new(&input, &[], "r", &labels).with_output(&output);
        let judged = verifier.accepts(&scope.with_verdict(&verdict));
        judged.map_err(|failure| (failure.cause, failure.detail))
    };
    assert_eq!(accepts(json!({"score": 4, "a": 1})), Ok(()));
    let rejected = Err((FailureCause::RuleViolation, Some("verifier_rejected")));
    assert_eq!(accepts(json!({"score": 3, "a": 1})), rejected);
    assert_eq!(
        accepts(json!({"a": 1})),
        Err((FailureCause::MissingInput, Some("output_not_judged")))
    );
}
