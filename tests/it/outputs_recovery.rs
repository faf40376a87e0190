//! Unusable outputs on their way: each fault has its cause, its recovery and a truthful result.

use std::time::Duration;

use mainstay::api::pb;
use serde_json::{Value, json};

use super::support::collector::{Collector, attribute, text_of};
use super::support::{Plan, Refused, Rig, ask_json, message, number_schema, say, story};

const EXAMPLE: &str = include_str!("../../config/pipelines/entity-report.yaml");
const DOCUMENT: &str = include_str!("../../examples/documents/incident.txt");

/// The shipped pipeline and its simulated answers; the first target has this fault, in every step.
async fn example(fault: &str, pipeline: &str) -> Rig {
    Plan::new()
        .script(include_str!("../../config/simulate/rehearsal.yaml"))
        .target("primary", &format!("sim-primary!{fault}"))
        .target("secondary", "sim-secondary!none")
        .pipeline("entity-report", pipeline)
        .start()
        .await
}

fn step<'a>(run: &'a pb::Run, name: &str) -> &'a pb::StepResult {
    run.steps.iter().find(|step| step.step == name).unwrap()
}

/// What became of the first step of the example, and of the run.
async fn check(fault: &str, expected: &[&str], verdict: pb::OutputVerdict) -> pb::Run {
    let rig = example(fault, EXAMPLE).await;
    let run = rig.pipeline("entity-report", json!({"document": DOCUMENT})).await.unwrap();
    let extract = step(&run, "extract");
    assert_eq!(story(extract), expected, "{fault}");
    let output = extract.output.as_ref().unwrap();
    assert_eq!(output.verdict(), verdict, "{fault}");
    assert_eq!(output.changes.is_empty(), verdict == pb::OutputVerdict::Clean, "{fault}");
    assert_eq!(extract.state(), pb::RunState::Succeeded, "{fault}");
    let report: Value = serde_json::from_str(&run.output_json).unwrap();
    assert!(report["entities"].as_array().unwrap().len() > 3, "{fault}: {report}");
    rig.stop().await;
    run
}

const REPAIRED: &[&str] = &["primary malformed_json -> repair_output"];

#[tokio::test]
async fn wrapped_answers_of_the_example_are_repaired() {
    use pb::OutputVerdict::Repaired;
    for fault in ["fence", "prose", "think", "fence+prose", "duplicate"] {
        check(fault, REPAIRED, Repaired).await;
    }
}

#[tokio::test]
async fn broken_json_of_the_example_is_repaired_where_it_has_one_reading() {
    use pb::OutputVerdict::{Clean, Repaired};
    for kind in ["trailing_comma", "single_quotes", "comment", "raw_newline", "bare_keys"] {
        check(&format!("broken_json(kind={kind})"), REPAIRED, Repaired).await;
    }
    // A missing brace is what a cut answer looks like: asked once more, then elsewhere.
    let run = check(
        "broken_json(kind=missing_brace)",
        &[
            "primary malformed_json -> reprompt_with_errors",
            "primary malformed_json -> fallback_to_target",
            "secondary ok",
        ],
        Clean,
    )
    .await;
    let first = &step(&run, "extract").attempts[0];
    let check = first.check.as_ref().unwrap();
    assert_eq!(check.verdict(), pb::OutputVerdict::Lossy);
    assert!(check.changes.iter().any(|change| change.lossy), "{check:?}");
    let skipped = &first.decision.as_ref().unwrap().skipped[0];
    assert_eq!(skipped.reason, "repair_is_lossy");
}

#[tokio::test]
async fn other_unusable_answers_of_the_example_go_on_as_the_policy_says() {
    use pb::OutputVerdict::{Clean, Repaired};
    let other =
        |cause: &str| vec![format!("primary {cause} -> fallback_to_target"), "secondary ok".into()];
    for (fault, cause) in [("truncated_output", "truncated_output"), ("refusal", "refusal")] {
        let told = other(cause);
        let told: Vec<&str> = told.iter().map(String::as_str).collect();
        let run = check(fault, &told, Clean).await;
        let extract = step(&run, "extract");
        let (lost, wasted) = (&extract.attempts[0], extract.wasted.unwrap());
        assert_eq!(lost.usage.unwrap().output_tokens, wasted.output_tokens, "{fault}");
        assert!(fault == "refusal" || wasted.output_tokens > 0, "{fault}");
    }
    check(
        "empty",
        &[
            "primary empty_output -> retry_with_backoff",
            "primary empty_output -> fallback_to_target",
            "secondary ok",
        ],
        Clean,
    )
    .await;
    let coerced = "schema_violation(kind=enum_case)";
    check(coerced, &["primary schema_mismatch -> repair_output"], Repaired).await;
    let dropped = "schema_violation(kind=drop_required)";
    check(
        dropped,
        &[
            "primary schema_mismatch -> reprompt_with_errors",
            "primary schema_mismatch -> fallback_to_target",
            "secondary ok",
        ],
        Clean,
    )
    .await;
}

#[tokio::test]
async fn a_filtered_answer_of_the_example_is_the_callers_to_change() {
    let rig = example("content_filter(kind=output)", EXAMPLE).await;
    let refused = rig.pipeline("entity-report", json!({"document": DOCUMENT})).await.unwrap_err();
    assert_eq!(refused.verdict(), "InvalidArgument INPUT_CONSTRAINT/content_filtered");
    assert_eq!(refused.action(), "reject_and_fix");
    rig.stop().await;
}

/// The example with a check on its summary.
fn checked(check: &str) -> String {
    EXAMPLE.replacen("\noutput:\n", &format!("    {check}\n\noutput:\n"), 1)
}

#[tokio::test]
async fn a_broken_rule_halts_the_example_and_a_warning_stands_beside_its_output() {
    let broken = checked("rules: [{check: size(output.actions) > 99, message: too few actions}]");
    for (fault, told) in [
        ("none", "primary rule_violation -> alert_and_halt"),
        // What a repair gives is held against the rules as well.
        ("fence", "primary malformed_json -> repair_output"),
    ] {
        let rig = example(fault, &broken).await;
        let refused =
            rig.pipeline("entity-report", json!({"document": DOCUMENT})).await.unwrap_err();
        assert_eq!(refused.verdict(), "Aborted OUTPUT_SEMANTIC/rule_violation", "{fault}");
        assert_eq!(refused.action(), "alert_and_halt");
        let failure = refused.refusal.failure.clone().unwrap();
        assert_eq!(failure.violations[0].path, "/actions");
        assert_eq!(failure.violations[0].message, "too few actions");
        let run = rig.get(&failure.run_id).await;
        let summarise = step(&run, "summarise");
        assert_eq!(story(summarise), [told], "{fault}");
        let further = &summarise.attempts[0].further;
        assert_eq!(further.len(), usize::from(fault == "fence"));
        rig.stop().await;
    }
    let warned = broken.replace("too few actions", "too few actions, severity: warning");
    let rig = example("none", &warned).await;
    let run = rig.pipeline("entity-report", json!({"document": DOCUMENT})).await.unwrap();
    assert_eq!(run.state(), pb::RunState::Succeeded);
    let warnings = &step(&run, "summarise").output.as_ref().unwrap().warnings;
    assert_eq!((warnings[0].path.as_str(), warnings.len()), ("/actions", 1));
    rig.stop().await;
}

#[tokio::test]
async fn low_confidence_of_the_example_is_drawn_again_and_then_asked_elsewhere() {
    let unsure =
        checked("confidence: {expression: 'double(size(output.actions)) / 100.0', minimum: 0.5}");
    let rig = example("none", &unsure).await;
    let refused = rig.pipeline("entity-report", json!({"document": DOCUMENT})).await.unwrap_err();
    assert_eq!(refused.verdict(), "Aborted OUTPUT_SEMANTIC/low_confidence");
    let run = rig.get(&refused.refusal.failure.as_ref().unwrap().run_id).await;
    assert_eq!(
        story(step(&run, "summarise")),
        [
            "primary low_confidence -> retry_with_backoff",
            "primary low_confidence -> fallback_to_target",
            "secondary low_confidence -> retry_with_backoff",
            "secondary low_confidence -> alert_and_degrade",
        ]
    );
    rig.stop().await;
}

/// A provider whose model `m` answers as these lines say.
async fn playing(answers: &str, policy: &str) -> Rig {
    let script = format!("seed: 1\nmodels:\n  m:\n    answers:\n{answers}\n  '*': {{}}\n");
    let mut plan = Plan::new().script(&script).target("m", "m").target("other", "other");
    if !policy.is_empty() {
        let policy = format!("policy: {{routing: {{output_semantic: {policy}}}}}");
        plan = plan.policy("p", &policy).config("default_policy: p");
    }
    plan.start().await
}

#[tokio::test]
async fn a_re_ask_shows_the_output_and_its_violations_and_survives_a_retry() {
    let rig = Plan::new()
        .script(
            "seed: 1\nmodels:\n  m:\n    answers:\n      \
             - {when: {contains: '- /n:'}, text: '{\"n\": 3}'}\n      \
             - {text: '{\"n\": \"some\"}'}\n    \
             faults: [{fault: overloaded, when: {contains: '- /n:'}, first: 1}]\n",
        )
        .target("m", "m")
        .start()
        .await;
    let response = rig.step(ask_json(&["m"], "A number", &number_schema())).await.unwrap();
    assert_eq!(response.output.unwrap().json, "{\"n\": 3}");
    assert_eq!(
        story(&response.result.unwrap()),
        [
            "m schema_mismatch -> reprompt_with_errors",
            // The retry repeats the re-ask and not the step's own prompt.
            "m overloaded -> retry_with_backoff",
            "m ok",
        ]
    );
    rig.stop().await;
}

#[tokio::test]
async fn a_part_that_holds_is_degraded_and_says_what_is_missing() {
    let rig = playing("      - {text: '{\"n\": 3, \"to\": []}'}", "").await;
    let schema = json!({"type": "object", "required": ["n", "to", "why"], "properties": {
        "n": {"type": "integer"}, "to": {"type": "string"}, "why": {"type": "string", "default": "unknown"}}});
    let mut spec = ask_json(&["m"], "A number", &schema);
    let response = rig.step(spec.clone()).await.unwrap();
    let (output, result) = (response.output.unwrap(), response.result.unwrap());
    assert_eq!(
        story(&result),
        ["m schema_mismatch -> reprompt_with_errors", "m schema_mismatch -> accept_partial"]
    );
    assert!(response.degraded);
    assert_eq!(result.degraded(), pb::DegradedSource::Partial);
    assert_eq!(output.verdict(), pb::OutputVerdict::Lossy);
    assert_eq!(output.json, r#"{"n":3,"why":"unknown"}"#);
    let warned: Vec<&str> = output.warnings.iter().map(|warning| warning.path.as_str()).collect();
    assert!(warned.contains(&"/to") && warned.contains(&"/why"), "{warned:?}");
    // Only the last attempt's tokens were worth something.
    assert_eq!(
        result.wasted.unwrap().output_tokens,
        result.attempts[0].usage.unwrap().output_tokens
    );
    // With a field that the step cannot do without there is no part, and another target is asked.
    spec.mandatory = vec!["to".to_owned()];
    spec.targets.push("other".to_owned());
    let told = story(&rig.step(spec.clone()).await.unwrap().result.unwrap());
    assert_eq!(told.last().unwrap(), "other ok");
    // Nor may a part break a rule.
    spec.mandatory.clear();
    spec.output.as_mut().unwrap().rules = vec![pb::OutputRule {
        expression: "output.why != \"unknown\"".to_owned(),
        message: "no reason".to_owned(),
        warning: false,
    }];
    let told = story(&rig.step(spec).await.unwrap().result.unwrap());
    assert_eq!(told.last().unwrap(), "other ok");
    rig.stop().await;
}

#[tokio::test]
async fn a_cut_answer_gets_a_higher_limit() {
    let policy = "{ladder: [{reprompt_with_errors: {attempts: 2, raise_max_output_tokens: 2}}, alert_and_degrade]}";
    let text = "one two three four five six seven eight nine ten eleven twelve";
    let rig = playing(&format!("      - {{text: '{text}'}}"), policy).await;
    let mut spec = say(&["m"], "Count");
    spec.sampling = Some(pb::Sampling { max_output_tokens: Some(5), ..pb::Sampling::default() });
    let response = rig.step(spec.clone()).await.unwrap();
    let result = response.result.unwrap();
    let again = "m truncated_output -> reprompt_with_errors";
    assert_eq!(story(&result), [again, again, "m ok"]);
    assert_eq!(response.output.unwrap().text, text);
    assert!(!response.degraded);
    let tokens = |at: usize| result.attempts[at].usage.unwrap().output_tokens;
    assert_eq!(result.wasted.unwrap().output_tokens, tokens(0) + tokens(1));
    // Where it is cut to the end, what came is a part and nothing more.
    spec.sampling = Some(pb::Sampling { max_output_tokens: Some(2), ..pb::Sampling::default() });
    let response = rig.step(spec).await.unwrap();
    let output = response.output.unwrap();
    assert!(response.degraded && text.starts_with(&output.text) && !output.text.is_empty());
    assert_eq!(output.verdict(), pb::OutputVerdict::Lossy);
    assert!(output.changes.iter().any(|change| change.kind == "cut_reply"), "{output:?}");
    assert!(!output.warnings.is_empty());
    rig.stop().await;
}

#[tokio::test]
async fn a_cut_answer_is_continued_joined_and_checked_as_a_whole() {
    let policy = "{ladder: [{reprompt_with_errors: {continue_cut: true}}, alert_and_degrade]}";
    // The model's limit cuts the first answer in the middle of a word.
    let answers = "      - {when: {contains: 'Go on exactly'}, text: '0}'}\n      \
                   - {text: '{\"n\":                                 8}'}";
    let rig = playing(answers, policy).await;
    let schema =
        json!({"type": "object", "required": ["n"], "properties": {"n": {"type": "integer"}}});
    let mut spec = ask_json(&["m"], "A number", &schema);
    spec.sampling = Some(pb::Sampling { max_output_tokens: Some(8), ..pb::Sampling::default() });
    let response = rig.step(spec.clone()).await.unwrap();
    let (output, result) = (response.output.unwrap(), response.result.unwrap());
    assert_eq!(story(&result), ["m truncated_output -> reprompt_with_errors", "m ok"]);
    assert_eq!(serde_json::from_str::<Value>(&output.json).unwrap(), json!({"n": 0}));
    assert_eq!(output.verdict(), pb::OutputVerdict::Repaired);
    assert_eq!(output.changes[0].kind, "continued");
    assert_eq!(result.wasted.unwrap().output_tokens, 0, "both halves are in the output");
    // The whole is checked: a rest that does not fit is no success.
    spec.output.as_mut().unwrap().rules = vec![pb::OutputRule {
        expression: "output.n > 0".to_owned(),
        message: "nothing".to_owned(),
        warning: false,
    }];
    let refused = rig.step(spec).await.unwrap_err();
    assert_eq!(refused.verdict(), "Aborted OUTPUT_SEMANTIC/rule_violation");
    rig.stop().await;
}

fn verified(targets: &[&str], judge: &[&str], accept: &str) -> pb::StepSpec {
    let mut verifier = ask_json(judge, "Is {{ output.n }} right?", &number_schema());
    verifier.name = "review".to_owned();
    let mut spec = ask_json(targets, "A number", &number_schema());
    spec.verifier = Some(Box::new(pb::StepVerifier {
        step: Some(Box::new(verifier)),
        accept: accept.to_owned(),
    }));
    spec
}

#[tokio::test]
async fn a_verifier_accepts_or_rejects() {
    let rig = Plan::new().target("m", "m").target("judge", "judge").start().await;
    let response = rig.step(verified(&["m"], &["judge"], "verdict.n >= 0")).await.unwrap();
    let result = response.result.unwrap();
    assert_eq!(story(&result), ["m ok"]);
    let verification = &result.attempts[0].verifications[0];
    assert_eq!(
        (verification.step.as_str(), story(verification)),
        ("review", vec!["judge ok".into()])
    );
    let spent = |result: &pb::StepResult| result.usage.unwrap().input_tokens;
    assert_eq!(
        spent(&result),
        result.attempts[0].usage.unwrap().input_tokens + spent(verification)
    );
    let refused = rig.step(verified(&["m"], &["judge"], "verdict.n < 0")).await.unwrap_err();
    assert_eq!(refused.verdict(), "Aborted OUTPUT_SEMANTIC/rule_violation");
    let failure = refused.refusal.failure.clone().unwrap();
    assert_eq!(
        (failure.detail.as_str(), refused.action().as_str()),
        ("verifier_rejected", "alert_and_halt")
    );
    // Neither accepts nor rejects: a mistake of the pipeline, and no pass.
    let refused = rig.step(verified(&["m"], &["judge"], "verdict.wrong")).await.unwrap_err();
    assert_eq!(refused.verdict(), "FailedPrecondition PIPELINE_LOGIC/missing_input");
    rig.stop().await;
}

#[tokio::test]
async fn a_verifier_that_is_down_is_not_the_outputs_fault() {
    let rig = Plan::new()
        .target("m", "m")
        .target("judge", "judge!overloaded")
        .target("spare", "spare")
        .start()
        .await;
    let accept = "verdict.n >= 0";
    // Its own retries and fallbacks, and the answer is as good as any.
    let response = rig.step(verified(&["m"], &["judge", "spare"], accept)).await.unwrap();
    let result = response.result.unwrap();
    assert_eq!(story(&result), ["m ok"]);
    assert_eq!(
        story(&result.attempts[0].verifications[0]),
        [
            "judge overloaded -> retry_with_backoff",
            "judge overloaded -> fallback_to_target",
            "spare ok"
        ]
    );
    // Nobody judges: the step fails with that, and asks its own model no second time.
    let mut spec = verified(&["m", "spare"], &["judge"], accept);
    spec.messages = vec![message(pb::Role::User, "Another number")];
    let before = (rig.calls("m"), rig.calls("spare"));
    let refused = rig.step(spec.clone()).await.unwrap_err();
    assert_eq!(refused.verdict(), "Unavailable INFRASTRUCTURE/overloaded");
    assert_eq!((rig.calls("m"), rig.calls("spare")), (before.0 + 1, before.1));
    let failure = refused.refusal.failure.clone().unwrap();
    assert!(failure.message.starts_with("the verifier `review` failed: "), "{}", failure.message);
    // With a fixed output of its own the step answers with that.
    spec.template_output_json = "{\"n\": 0}".to_owned();
    let response = rig.step(spec.clone()).await.unwrap();
    assert_eq!(response.result.as_ref().unwrap().degraded(), pb::DegradedSource::Template);
    let skipped = response.result.unwrap().attempts[0].decision.clone().unwrap().skipped;
    assert!(skipped.iter().any(|rung| rung.reason == "verifier_failed"), "{skipped:?}");
    // A verdict from a template accepts, and the output says on what it rests.
    let judge = spec.verifier.as_mut().unwrap().step.as_mut().unwrap();
    judge.template_output_json = "{\"n\": 1}".to_owned();
    let response = rig.step(spec).await.unwrap();
    assert!(!response.degraded);
    let warnings = response.output.unwrap().warnings;
    assert_eq!(
        warnings[0].message,
        "accepted by the verifier `review` on a verdict from: template"
    );
    rig.stop().await;
}

#[tokio::test]
async fn an_expression_without_a_value_is_never_a_pass() {
    let rig = playing("      - {text: '{\"n\": 3}'}", "").await;
    let rule = |expression: &str, warning| pb::OutputRule {
        expression: expression.to_owned(),
        message: "wrong".to_owned(),
        warning,
    };
    for (rule, cause) in [
        (rule("output.missing > 1", false), "missing_input"),
        (rule("output.missing > 1", true), "missing_input"),
        (rule("output.n > \"a\"", false), "template_error"),
    ] {
        let mut spec = ask_json(&["m"], "A number", &number_schema());
        spec.output.as_mut().unwrap().rules = vec![rule];
        let refused: Refused = rig.step(spec).await.unwrap_err();
        assert_eq!(refused.verdict(), format!("FailedPrecondition PIPELINE_LOGIC/{cause}"));
        assert_eq!(refused.refusal.failure.unwrap().detail, "output_not_judged");
    }
    rig.stop().await;
}

#[tokio::test]
async fn a_cached_output_is_held_against_the_rules_of_now() {
    let script = "seed: 1\nmodels: {m: {answers: [{json: {n: 3}}], faults: [{fault: server_error, from: 2, every: 1}]}}\n";
    let rig = Plan::new().script(script).target("m", "m").start().await;
    let mut spec = ask_json(&["m"], "A number", &number_schema());
    spec.max_attempts = 1;
    spec.output.as_mut().unwrap().rules = vec![pb::OutputRule {
        expression: "output.n < input.most".to_owned(),
        message: "too much".to_owned(),
        warning: false,
    }];
    let with = |most: u32| {
        let mut request = super::support::inline(spec.clone());
        request.input_json = json!({"most": most}).to_string();
        let mut request = tonic::Request::new(request);
        request.set_timeout(Duration::from_secs(20));
        let mut client = rig.client();
        async move { client.run_step(request).await.map(tonic::Response::into_inner) }
    };
    assert!(!with(9).await.unwrap().degraded);
    let cached = with(8).await.unwrap();
    assert_eq!(cached.result.unwrap().degraded(), pb::DegradedSource::Cache);
    // The same request to the model, so the same entry; but now the rule is against it.
    assert_eq!(with(2).await.unwrap_err().code(), tonic::Code::Unavailable);
    rig.stop().await;
}

#[tokio::test]
async fn validation_of_the_policy_is_obeyed() {
    let rig = Plan::new()
        .policy("lax", "policy: {routing: {output_semantic: {action: alert_and_halt}}}")
        .policy("fences", "policy: {validation: {strip_markdown_fences: false}, routing: {output_semantic: {ladder: [repair_output, alert_and_halt]}}}")
        .policy("strict", "policy: {validation: {strict_schema_mode: true}, routing: {output_semantic: {ladder: [repair_output, alert_and_halt]}}}")
        .policy("whole", "policy: {validation: {allow_partial_matches: false}, routing: {output_semantic: {ladder: [alert_and_degrade]}}}")
        .script("seed: 1\nmodels: {'*': {answers: [{when: {contains: word}, text: '{\"n\": \"3\"}'}, {when: {contains: part}, text: '{\"n\": 3, \"m\": 3}'}]}}\n")
        .target("m", "m")
        .target("fenced", "m!fence")
        .start()
        .await;
    let told = async |target: &str, policy: &str, words: &str| {
        let schema = json!({"type": "object", "required": ["n", "m"], "properties": {"n": {"type": "integer"}, "m": {"type": "string"}}});
        let schema = if words == "part" { schema } else { number_schema() };
        let mut request = super::support::inline(ask_json(&[target], words, &schema));
        request.options = Some(pb::RunOptions { policy: policy.to_owned(), ..Default::default() });
        let mut request = tonic::Request::new(request);
        request.set_timeout(Duration::from_secs(20));
        match rig.client().run_step(request).await {
            Ok(response) => format!("{:?}", response.into_inner().output.unwrap().verdict()),
            Err(status) => Refused::from(status).verdict(),
        }
    };
    // A fence goes whatever the ladder says, unless the policy keeps fences.
    assert_eq!(told("fenced", "lax", "A number").await, "Repaired");
    assert_eq!(
        told("fenced", "fences", "A number").await,
        "Aborted OUTPUT_SEMANTIC/malformed_json"
    );
    assert_eq!(told("m", "fences", "word").await, "Repaired");
    assert_eq!(told("m", "strict", "word").await, "Aborted OUTPUT_SEMANTIC/schema_mismatch");
    assert_eq!(told("m", "whole", "part").await, "Aborted OUTPUT_SEMANTIC/schema_mismatch");
    rig.stop().await;
}

#[tokio::test]
async fn reasoning_before_a_text_is_left_out_and_alone_is_no_answer() {
    let script = "seed: 1\nmodels: {'*': {answers: [{when: {contains: word}, text: 'Four.'}, {text: ''}]}}\n";
    let rig = Plan::new().script(script).target("m", "m!think").start().await;
    let response = rig.step(say(&["m"], "word")).await.unwrap();
    let output = response.output.unwrap();
    assert_eq!((output.text.as_str(), output.verdict()), ("Four.", pb::OutputVerdict::Repaired));
    assert_eq!(output.changes[0].kind, "reasoning_removed");
    assert_eq!(story(&response.result.unwrap()), ["m ok"]);
    let mut spec = say(&["m"], "Hello");
    spec.max_attempts = 1;
    let refused = rig.step(spec).await.unwrap_err();
    assert_eq!(refused.verdict(), "Aborted OUTPUT_SEMANTIC/empty_output");
    rig.stop().await;
}

#[tokio::test]
async fn the_trace_tells_verdict_changes_and_places_and_no_value() {
    let collector = Collector::start().await;
    let rig = Plan::new()
        .script("seed: 1\nmodels: {'*': {answers: [{when: {contains: judged}, json: {n: 1}}, {text: '{\"n\": \"7\", \"secret\": \"s3same\"}'}]}}\n")
        .target("m", "m!fence")
        .target("judge", "judge")
        .config(&format!("telemetry: {{otlp_endpoint: '{}', service_name: tests}}", collector.endpoint))
        .start()
        .await;
    let mut spec = verified(&["m"], &["judge"], "verdict.n == 2");
    let judge = spec.verifier.as_mut().unwrap().step.as_mut().unwrap();
    judge.messages = vec![message(pb::Role::User, "judged {{ output.n }}")];
    let schema =
        json!({"type": "object", "required": ["n"], "properties": {"n": {"type": "integer"}}});
    spec.output = ask_json(&[], "", &schema).output;
    rig.step(spec).await.unwrap_err();
    let spans = collector.trace_with(|span| span.name == "RunStep").await;
    let named = |name: &str| spans.iter().find(|span| span.name == name).unwrap();
    let attempt = named("chat m!fence");
    assert_eq!(attribute(attempt, "mainstay.output.verdict").as_deref(), Some("repaired"));
    let changes = attribute(attempt, "mainstay.output.changes").unwrap();
    assert!(
        changes.contains("fence_removed@text:8") && changes.contains("number_from_text@/n"),
        "{changes}"
    );
    let events: Vec<String> = attempt
        .events
        .iter()
        .map(|event| {
            let told = |key| text_of(&event.attributes, key).unwrap_or_default();
            format!("{} {}", told("mainstay.failure.cause"), told("mainstay.recovery.action"))
        })
        .collect();
    assert_eq!(events, ["malformed_json repair_output", "rule_violation alert_and_halt"]);
    let review = named("step review");
    assert_eq!(review.parent_span_id, attempt.span_id);
    assert_eq!(named("chat judge").parent_span_id, review.span_id);
    assert!(!format!("{spans:?}").contains("s3same"), "no value on any span");
    rig.stop().await;
    collector.stop();
}

/// The README shows these lines.
#[tokio::test]
async fn the_command_line_tells_each_finding_and_what_was_decided() {
    let tasks = mainstay::tasks::Tasks::new();
    let script = include_str!("../../examples/outputs/provider.yaml");
    let script = mainstay::simulate::Script::parse(script, "provider.yaml").unwrap();
    let any = std::net::SocketAddr::from((std::net::Ipv4Addr::LOCALHOST, 0));
    let simulator = mainstay::simulate::Simulator::bind(script, any, &tasks).await.unwrap();
    let config = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/outputs/mainstay.yaml");
    let run = |more: &'static [&'static str]| {
        let address = simulator.addr().to_string();
        tokio::task::spawn_blocking(move || {
            std::process::Command::new(env!("CARGO_BIN_EXE_mainstay"))
                .args(["run", "invoice", "--input", r#"{"document": "x"}"#, "--config", config])
                .args(more)
                .env("SIMULATOR", address)
                .env_remove("MAINSTAY_ADDRESS")
                .output()
                .unwrap()
        })
    };
    let output = run(&[]).await.unwrap();
    let told = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(0), "{told}");
    let line = "read: attempt 1 on clerk: OUTPUT_SEMANTIC/malformed_json → repair_output, then \
                OUTPUT_SEMANTIC/rule_violation → reprompt_with_errors";
    assert!(told.contains(line), "{told}");
    let output = run(&["--json", "-q"]).await.unwrap();
    let run: Value = serde_json::from_slice(&output.stdout).unwrap();
    let first = &run["steps"][0]["attempts"][0];
    assert_eq!(first["check"]["verdict"], "repaired");
    assert_eq!(first["check"]["changes"][0]["lossy"], false);
    assert_eq!(
        first["further"][0]["violations"][0]["message"],
        "net and VAT do not make the gross sum"
    );
    assert_eq!(run["steps"][0]["output"]["verdict"], "clean");
    simulator.stop().await;
    tasks.stop();
}

/// The README shows this run.
#[tokio::test]
async fn one_broken_answer_on_its_way_through() {
    let rig = Plan::new()
        .script(include_str!("../../examples/outputs/provider.yaml"))
        .target("clerk", "clerk")
        .pipeline("invoice", include_str!("../../examples/outputs/pipelines/invoice.yaml"))
        .policy("invoices", include_str!("../../examples/outputs/policies/invoices.yaml"))
        .start()
        .await;
    let run = rig.pipeline("invoice", json!({"document": "An invoice."})).await.unwrap();
    let read = step(&run, "read");
    assert_eq!(story(read), ["clerk malformed_json -> repair_output", "clerk ok"]);
    let first = &read.attempts[0];
    let changes = &first.check.as_ref().unwrap().changes;
    let changes: Vec<String> =
        changes.iter().map(|change| format!("{}@{}", change.kind, change.place)).collect();
    insta::assert_snapshot!(changes.join("\n"));
    let found: Vec<_> = first
        .further
        .iter()
        .map(|finding| {
            let action = super::support::action(finding.decision.as_ref().unwrap().action());
            (finding.failure.as_ref().unwrap().cause.as_str(), action)
        })
        .collect();
    assert_eq!(found, [("rule_violation", "reprompt_with_errors".to_owned())]);
    assert_eq!(serde_json::from_str::<Value>(&run.output_json).unwrap()["gross"], 1190);
    assert_eq!(read.output.as_ref().unwrap().verdict(), pb::OutputVerdict::Clean);
    rig.stop().await;
}
