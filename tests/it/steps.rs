//! One step: each failure meets the ladder of the default policy and ends as it should.

use std::io::{Read as _, Write as _};
use std::time::{Duration, Instant};

use mainstay::api::pb;
use tonic::Code;

use super::support::{Plan, Rig, ask_json, inline, message, number_schema, say, story};

/// A target that does `fault`, and one that works.
async fn rig(fault: &str) -> Rig {
    Plan::new().target("bad", &format!("m!{fault}")).target("good", "good").start().await
}

/// What becomes of a text step on a target with this fault, with another target beside it.
async fn check(fault: &str, expected: &[&str]) {
    let rig = rig(fault).await;
    let response = rig.step(say(&["bad", "good"], "Hello")).await;
    let told = match &response {
        Ok(response) => story(response.result.as_ref().unwrap()),
        Err(refused) => panic!("{fault}: {:?}", refused.status),
    };
    assert_eq!(told, expected, "{fault}");
    rig.stop().await;
}

#[tokio::test]
async fn a_good_answer_is_one_call_with_usage_and_cost() {
    let rig = Plan::new()
        .raw_target("good", "{dialect: openai, model: good, base_url: 'http://SIM/v1', price: {input: 1, output: 2}}")
        .start()
        .await;
    let response = rig.step(say(&["good"], "Hello")).await.unwrap();
    let result = response.result.unwrap();
    assert_eq!(story(&result), ["good ok"]);
    let (usage, wasted) = (result.usage.unwrap(), result.wasted.unwrap());
    let cost = (usage.input_tokens as f64 + 2.0 * usage.output_tokens as f64) / 1e6;
    assert!(usage.input_tokens > 0 && usage.output_tokens > 0);
    assert!((usage.cost_usd - cost).abs() < 1e-12 && wasted.input_tokens == 0);
    assert!(!response.output.unwrap().text.is_empty());
    assert_eq!(rig.calls("good"), 1);
    rig.stop().await;
}

#[tokio::test]
async fn infrastructure_failures_go_on_elsewhere() {
    check(
        "server_error(status=500,first=1)",
        &["bad server_error -> retry_with_backoff", "bad ok"],
    )
    .await;
    let twice = "bad overloaded -> retry_with_backoff";
    check("overloaded", &[twice, "bad overloaded -> fallback_to_target", "good ok"]).await;
    check(
        "html_200",
        &[
            "bad malformed_response -> retry_with_backoff",
            "bad malformed_response -> fallback_to_target",
            "good ok",
        ],
    )
    .await;
    check("quota_exhausted", &["bad quota_exhausted -> fallback_to_target", "good ok"]).await;
    check("model_not_found", &["bad model_not_found -> fallback_to_target", "good ok"]).await;
    check(
        "redirect(to=9)",
        &[
            "bad malformed_response -> retry_with_backoff",
            "bad malformed_response -> fallback_to_target",
            "good ok",
        ],
    )
    .await;
    check("reset(first=1)", &["bad connect -> retry_with_backoff", "bad ok"]).await;
}

#[tokio::test]
async fn a_hint_is_waited_for_and_holds_back_the_target() {
    let rig = rig("rate_limit(retry_after=1,first=1)").await;
    let started = Instant::now();
    let response = rig.step(say(&["bad"], "Hello")).await.unwrap();
    assert!(started.elapsed() >= Duration::from_secs(1));
    let result = response.result.unwrap();
    assert_eq!(story(&result), ["bad rate_limited -> retry_with_backoff", "bad ok"]);
    assert!(result.attempts[0].decision.as_ref().unwrap().wait.unwrap().seconds >= 1);
    rig.stop().await;
}

#[tokio::test]
async fn a_hint_that_does_not_fit_is_told_at_once() {
    let rig = rig("rate_limit(retry_after=50)").await;
    let started = Instant::now();
    let refused =
        rig.step_within(say(&["bad"], "Hello"), Duration::from_secs(20)).await.unwrap_err();
    assert!(started.elapsed() < Duration::from_secs(10));
    assert_eq!(refused.verdict(), "ResourceExhausted INFRASTRUCTURE/rate_limited");
    assert_eq!(refused.refusal.retry_after, Some(Duration::from_secs(50)));
    assert_eq!((refused.action().as_str(), rig.calls("m")), ("alert_and_degrade", 1));
    rig.stop().await;
}

#[tokio::test]
async fn a_refused_credential_disables_its_target() {
    let rig = rig("unauthorized").await;
    let told = |response: pb::RunStepResponse| story(&response.result.unwrap());
    let first = rig.step(say(&["bad", "good"], "Hello")).await.unwrap();
    assert_eq!(told(first), ["bad authentication -> fallback_to_target", "good ok"]);
    let second = rig.step(say(&["bad", "good"], "Hello")).await.unwrap();
    assert!(!second.result.as_ref().unwrap().attempts[0].called);
    assert_eq!(told(second), ["bad authentication -> fallback_to_target", "good ok"]);
    assert_eq!(rig.calls("m"), 1);
    let alone = rig.step(say(&["bad"], "Hello")).await.unwrap_err();
    assert_eq!(alone.verdict(), "FailedPrecondition PIPELINE_LOGIC/authentication");
    rig.stop().await;
}

#[tokio::test]
async fn a_filtered_prompt_is_rejected_without_a_second_call() {
    let rig = rig("content_filter").await;
    let refused = rig.step(say(&["bad", "good"], "Hello")).await.unwrap_err();
    assert_eq!(refused.verdict(), "InvalidArgument INPUT_CONSTRAINT/content_filtered");
    assert_eq!(
        (refused.action().as_str(), rig.calls("m"), rig.calls("good")),
        ("reject_and_fix", 1, 0)
    );
    assert_eq!(refused.refusal.reason, "content_filtered");
    rig.stop().await;
}

#[tokio::test]
async fn a_fence_is_taken_off_and_told() {
    let rig = rig("fence").await;
    let response = rig.step(ask_json(&["bad"], "A number", &number_schema())).await.unwrap();
    let output = response.output.unwrap();
    assert_eq!(output.verdict(), pb::OutputVerdict::Repaired);
    assert!(serde_json::from_str::<serde_json::Value>(&output.json).unwrap()["n"].is_number());
    assert!(!output.changes.is_empty());
    assert_eq!(story(&response.result.unwrap()), ["bad malformed_json -> repair_output"]);
    assert!(!response.degraded);
    rig.stop().await;
}

#[tokio::test]
async fn unusable_outputs_are_failures_with_their_own_cause() {
    for (fault, cause) in [
        ("truncated_output", "truncated_output"),
        ("empty", "empty_output"),
        ("refusal", "refusal"),
        ("schema_violation", "schema_mismatch"),
    ] {
        let rig = rig(fault).await;
        let spec = ask_json(&["bad", "good"], "A number", &number_schema());
        let response = rig.step(spec).await.unwrap();
        let told = story(&response.result.unwrap());
        assert!(told[0].starts_with(&format!("bad {cause} ->")), "{fault}: {told:?}");
        assert_eq!(told.last().unwrap(), "good ok", "{fault}: {told:?}");
        rig.stop().await;
    }
}

#[tokio::test]
async fn a_bad_output_of_a_lone_target_is_aborted_with_paths_and_no_values() {
    let rig = rig("schema_violation").await;
    let refused = rig.step(ask_json(&["bad"], "A number", &number_schema())).await.unwrap_err();
    assert_eq!(refused.verdict(), "Aborted OUTPUT_SEMANTIC/schema_mismatch");
    assert!(!refused.refusal.failure.unwrap().violations.is_empty());
    rig.stop().await;
}

#[tokio::test]
async fn degraded_outputs_say_so() {
    let rig = rig("server_error(every=1,from=2)").await;
    let mut spec = say(&["bad"], "Hello");
    rig.step(spec.clone()).await.unwrap();
    let cached = rig.step(spec.clone()).await.unwrap();
    assert!(cached.degraded && !cached.output.unwrap().text.is_empty());
    let result = cached.result.unwrap();
    assert_eq!(result.degraded(), pb::DegradedSource::Cache);
    assert!(result.cache_age.is_some());
    spec.messages = vec![message(pb::Role::User, "Something new")];
    spec.template_output_json = "\"try later\"".to_owned();
    spec.max_attempts = 1;
    let fixed = rig.step(spec).await.unwrap();
    assert_eq!(fixed.output.unwrap().text, "try later");
    assert_eq!(fixed.result.unwrap().degraded(), pb::DegradedSource::Template);
    rig.stop().await;
}

#[tokio::test]
async fn a_hang_ends_before_the_callers_deadline_with_details() {
    let rig = rig("hang").await;
    let started = Instant::now();
    let refused = rig
        .step_within(say(&["bad", "good"], "Hello"), Duration::from_millis(400))
        .await
        .unwrap_err();
    assert!(started.elapsed() < Duration::from_secs(4));
    assert_eq!(refused.verdict(), "DeadlineExceeded INFRASTRUCTURE/request_timeout");
    assert_eq!(refused.refusal.failure.as_ref().unwrap().detail, "caller_deadline");
    assert_eq!(refused.action(), "alert_and_degrade");
    rig.stop().await;
}

#[tokio::test]
async fn an_attempt_that_hangs_ends_by_its_own_limit_and_goes_on() {
    let rig = rig("hang").await;
    let mut spec = say(&["bad", "good"], "Hello");
    spec.attempt_timeout = Some(prost_types::Duration { seconds: 0, nanos: 200_000_000 });
    let response = rig.step(spec).await.unwrap();
    let told = story(&response.result.unwrap());
    assert_eq!(told[0], "bad request_timeout -> retry_with_backoff");
    assert_eq!(told.last().unwrap(), "good ok");
    rig.stop().await;
}

#[tokio::test]
async fn nobody_at_the_port_is_connect_and_a_wrong_protocol_is_tls() {
    // Speaks HTTP where TLS is expected. Its connection is closed only once the client is gone: a
    // handshake that is reset would be `connect`.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let plain = listener.local_addr().unwrap();
    let server = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.write_all(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n").unwrap();
        let _ = stream.read_to_end(&mut Vec::new());
    });
    let rig = Plan::new()
        .raw_target("closed", "{dialect: openai, model: m, base_url: 'http://127.0.0.1:9/v1'}")
        .raw_target(
            "plain",
            &format!("{{dialect: openai, model: m, base_url: 'https://{plain}/v1'}}"),
        )
        .raw_target(
            "nowhere",
            "{dialect: openai, model: m, base_url: 'https://no-such-host.invalid/v1'}",
        )
        .start()
        .await;
    for (target, cause) in [("closed", "connect"), ("plain", "tls"), ("nowhere", "dns")] {
        let refused = rig.step(say(&[target], "Hello")).await.unwrap_err();
        assert_eq!(refused.verdict(), format!("Unavailable INFRASTRUCTURE/{cause}"));
        assert_eq!(refused.refusal.retry_after.is_some(), cause != "tls");
    }
    server.join().unwrap();
    rig.stop().await;
}

#[tokio::test]
async fn every_dialect_gives_text_json_and_tool_calls() {
    let rig = Plan::new()
        .target("openai", "a")
        .raw_target("anthropic", "{dialect: anthropic, model: b, base_url: 'http://SIM/v1'}")
        .raw_target("gemini", "{dialect: gemini, model: c, base_url: 'http://SIM/v1beta'}")
        .start()
        .await;
    for target in ["openai", "anthropic", "gemini"] {
        let text = rig.step(say(&[target], "Hello")).await.unwrap();
        assert!(!text.output.unwrap().text.is_empty(), "{target}");
        assert!(text.result.unwrap().usage.unwrap().output_tokens > 0, "{target}");
        let json = rig.step(ask_json(&[target], "A number", &number_schema())).await.unwrap();
        let output = json.output.unwrap();
        assert_eq!(output.verdict(), pb::OutputVerdict::Clean, "{target}");
        assert!(serde_json::from_str::<serde_json::Value>(&output.json).is_ok(), "{target}");
        let mut tool = say(&[target], "Call it");
        tool.tools = vec![pb::Tool {
            name: "look_up".into(),
            description: "Looks up".into(),
            parameters_json: number_schema().to_string(),
        }];
        tool.tool_choice = "required".into();
        let called = rig.step(tool).await.unwrap().output.unwrap().tool_calls;
        assert_eq!(called.len(), 1, "{target}");
        assert_eq!(called[0].name, "look_up", "{target}");
    }
    rig.stop().await;
}

#[tokio::test]
async fn attempts_and_money_have_ceilings() {
    let rig = Plan::new()
        .raw_target("bad", "{dialect: openai, model: 'm!server_error', base_url: 'http://SIM/v1'}")
        .start()
        .await;
    let mut spec = say(&["bad"], "Hello");
    spec.max_attempts = 2;
    let refused = rig.step(spec).await.unwrap_err();
    assert_eq!((refused.refusal.failure.unwrap().attempts, rig.calls("m")), (2, 2));
    rig.stop().await;
}

#[tokio::test]
async fn going_away_stops_the_provider_call() {
    let rig = rig("hang").await;
    let mut client = rig.client();
    let call = client.run_step(inline(say(&["bad"], "Hello")));
    tokio::select! {
        _ = call => panic!("it hangs"),
        () = super::support::eventually("the call arrives", || rig.calls("m") == 1) => {}
    }
    let left = || {
        rig.simulator.calls().recent.iter().any(|call| format!("{:?}", call.ended) == "PeerLeft")
    };
    super::support::eventually("the provider sees that we left", left).await;
    rig.stop().await;
}

#[tokio::test]
async fn a_full_service_refuses_with_the_time_to_come_again() {
    let rig = Plan::new()
        .target("slow", "m!hang")
        .config("limits: {runs_max: 1, runs_queue_max: 0}")
        .start()
        .await;
    let mut client = rig.client();
    let first = client.run_step(inline(say(&["slow"], "Hello")));
    tokio::select! {
        _ = first => panic!("it hangs"),
        () = async {
            super::support::eventually("the first runs", || rig.calls("m") == 1).await;
            let refused = rig.step(say(&["slow"], "Hello")).await.unwrap_err();
            assert_eq!((refused.status.code(), refused.refusal.reason.as_str()), (Code::ResourceExhausted, "QUEUE_FULL"));
            assert!(refused.refusal.retry_after.is_some());
        } => {}
    }
    rig.stop().await;
}
