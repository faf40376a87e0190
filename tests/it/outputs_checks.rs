//! The parts of an output's judgement and of its recovery, one by one: re-asks, parts, cut answers,
//! rules, verifiers, what the policy's validation says, and what the trace tells of it all.

use std::time::Duration;

use mainstay::api::pb;
use serde_json::{Value, json};

use super::support::collector::{Collector, attribute, text_of};
use super::support::{Plan, Refused, Rig, ask_json, message, number_schema, say, story};

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
async fn an_inline_step_sees_the_outputs_that_came_with_it_and_no_others() {
    let rig = playing("      - {when: {contains: Ann}, json: {n: 3}}", "").await;
    let told = async |steps: Value, expression: &str| {
        let mut spec = ask_json(&["m"], "How old is {{ steps.facts.who }}?", &number_schema());
        spec.output.as_mut().unwrap().rules = vec![pb::OutputRule {
            expression: expression.to_owned(),
            message: "another age".to_owned(),
            warning: false,
        }];
        let mut request = super::support::inline(spec);
        request.steps_json = steps.to_string();
        let mut request = tonic::Request::new(request);
        request.set_timeout(Duration::from_secs(20));
        let answer = rig.client().run_step(request).await.map(tonic::Response::into_inner);
        answer.map_err(Refused::from).map_err(|refused| refused.verdict())
    };
    let facts = json!({"facts": {"who": "Ann", "age": 3}});
    assert!(told(facts, "output.n == steps.facts.age").await.is_ok());
    let older = json!({"facts": {"who": "Ann", "age": 4}});
    assert_eq!(
        told(older, "output.n == steps.facts.age").await.unwrap_err(),
        "Aborted OUTPUT_SEMANTIC/rule_violation"
    );
    // The same step without what it needs is told so before anything is called.
    assert!(told(json!({}), "output.n == 3").await.unwrap_err().starts_with("InvalidArgument"));
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

#[tokio::test]
async fn a_re_ask_needs_room_and_a_raise_needs_a_limit_to_raise() {
    let target = |limits: &str| {
        format!("{{dialect: openai, model: m, base_url: 'http://SIM/v1', {limits}}}")
    };
    let raise = "{reprompt_with_errors: {raise_max_output_tokens: 4}}";
    let rig = Plan::new()
        .script("seed: 1\nmodels: {m: {answers: [{when: {contains: long}, text: 'one two three four five six'}, {text: '{}'}]}}\n")
        .raw_target("narrow", &target("context_window: 60"))
        .raw_target("short", &target("max_output_tokens: 3"))
        .policy("p", &format!("policy: {{routing: {{output_semantic: {{ladder: [reprompt_with_errors, alert_and_halt], causes: {{truncated_output: {{ladder: [{raise}, alert_and_halt]}}}}}}}}}}"))
        .config("default_policy: p")
        .start()
        .await;
    let refused = async |spec| {
        let failed = rig.step(spec).await.unwrap_err();
        assert_eq!(failed.action(), "alert_and_halt");
        failed.verdict()
    };
    assert_eq!(
        refused(ask_json(&["narrow"], "A number", &number_schema())).await,
        "Aborted OUTPUT_SEMANTIC/schema_mismatch"
    );
    // The target's own limit is the highest there is.
    assert_eq!(refused(say(&["short"], "long")).await, "Aborted OUTPUT_SEMANTIC/truncated_output");
    assert_eq!(rig.calls("m"), 2, "neither was asked again");
    rig.stop().await;
}

#[tokio::test]
async fn elements_are_judged_one_by_one() {
    let pipeline = "name: each\nsteps:\n  - name: s\n    for_each: {items: input.list, \
        on_element_failure: collect}\n    prompt: 'Number {{ item }}'\n    output: {json: {}}\n    \
        rules: [{check: output.n != item, message: the same number}]\n    verifier:\n      step: \
        {name: review, prompt: 'Is {{ output.n }} not {{ item }}?', output: {json: {}}}\n      \
        accept: verdict.n == 3\n";
    let policy = "policy: {routing: {output_semantic: {ladder: [alert_and_degrade]}}}";
    let rig = Plan::new()
        .script("seed: 1\nmodels: {m: {answers: [{text: '{\"n\": 3}'}]}}\n")
        .target("m", "m")
        .pipeline("each", pipeline)
        .policy("p", policy)
        .config("default_policy: p")
        .start()
        .await;
    let run = rig.pipeline("each", json!({"list": [1, 3]})).await.unwrap();
    let elements = &run.steps[0].elements;
    assert_eq!(story(&elements[0]), ["m ok"]);
    assert_eq!(elements[0].attempts[0].verifications.len(), 1);
    assert_eq!(story(&elements[1]), ["m rule_violation -> alert_and_degrade"]);
    assert!(elements[1].attempts[0].verifications.is_empty(), "rules come first");
    let output: Value = serde_json::from_str(&run.output_json).unwrap();
    assert_eq!(output[0], json!({"n": 3}));
    assert_eq!(output[1]["error"]["cause"], "rule_violation");
    assert_eq!(run.state(), pb::RunState::Degraded);
    rig.stop().await;
}

#[tokio::test]
async fn a_verifier_that_halts_ends_the_run_as_its_own_failure() {
    let pipeline = "name: halts\nsteps:\n  - name: s\n    prompt: Hello\n    verifier:\n      \
        step: {name: review, prompt: '{{ input.nope }}', output: {json: {}}}\n      accept: verdict.ok\n    \
        template_output: never\n";
    let rig = Plan::new().target("m", "m").pipeline("halts", pipeline).start().await;
    let refused = rig.pipeline("halts", json!({})).await.unwrap_err();
    assert_eq!(refused.verdict(), "FailedPrecondition PIPELINE_LOGIC/missing_input");
    let failure = refused.refusal.failure.clone().unwrap();
    assert!(failure.message.starts_with("the verifier `review` failed: "), "{}", failure.message);
    let run = rig.get(&failure.run_id).await;
    let attempt = &run.steps[0].attempts[0];
    assert!(attempt.decision.is_none(), "the verifier's own ladder has decided");
    let verification = &attempt.verifications[0];
    assert_eq!(verification.failure.as_ref().unwrap().cause, "missing_input");
    rig.stop().await;
}
