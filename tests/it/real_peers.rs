//! Against programs that others wrote: a real Jaeger, and a small real model. `scripts/test`
//! starts them; without them these tests say that they were skipped, and fail in CI.

use std::time::Duration;

use mainstay::api::pb;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::support::{Plan, Rig, ask_json, needs, number_schema, say};

/// A GET over HTTP/1.0, as text.
async fn get(base: &str, path: &str) -> String {
    let address = base.trim_start_matches("http://");
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request =
        format!("GET {path} HTTP/1.0\r\nHost: {address}\r\nAccept: application/json\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    let answer = String::from_utf8_lossy(&answer);
    answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).unwrap_or_default()
}

fn percent(text: &str) -> String {
    text.bytes()
        .map(|b| {
            if b.is_ascii_alphanumeric() { char::from(b).to_string() } else { format!("%{b:02X}") }
        })
        .collect()
}

#[tokio::test]
async fn jaeger_finds_a_failure_of_each_domain() {
    let (Some(otlp), Some(query)) =
        (needs("MAINSTAY_TEST_JAEGER_OTLP"), needs("MAINSTAY_TEST_JAEGER_QUERY"))
    else {
        return;
    };
    let service = format!("mainstay-test-{}", std::process::id());
    let rig = Plan::new()
        .target("busy", "a!overloaded")
        .target("filter", "b!content_filter")
        .target("wrong", "c!schema_violation")
        .target("unknown", "d!model_not_found")
        .config(&format!("telemetry: {{otlp_endpoint: '{otlp}', service_name: '{service}'}}"))
        .start()
        .await;
    let mut traces = Vec::new();
    for (target, domain, action) in [
        ("busy", "INFRASTRUCTURE", "retry_with_backoff"),
        ("filter", "INPUT_CONSTRAINT", "reject_and_fix"),
        ("wrong", "OUTPUT_SEMANTIC", "alert_and_degrade"),
        ("unknown", "PIPELINE_LOGIC", "alert_and_degrade"),
    ] {
        let spec = ask_json(&[target], "A number", &number_schema());
        let refused = rig.step(spec).await.unwrap_err();
        assert!(refused.verdict().contains(domain), "{}", refused.verdict());
        traces.push((domain, action));
    }
    for (domain, action) in traces {
        let tags = json!({"mainstay.failure.domain": domain, "mainstay.recovery.action": action});
        let path = format!("/api/traces?service={service}&tags={}", percent(&tags.to_string()));
        let search = async {
            loop {
                let found: Value =
                    serde_json::from_str(&get(&query, &path).await).unwrap_or(Value::Null);
                match found["data"].as_array() {
                    Some(data) if !data.is_empty() => return data.len(),
                    _ => tokio::time::sleep(Duration::from_millis(200)).await,
                }
            }
        };
        let found = tokio::time::timeout(Duration::from_secs(30), search).await;
        assert_eq!(found.expect("Jaeger finds the trace"), 1, "{domain} {action}");
    }
    rig.stop().await;
}

async fn model() -> Option<Rig> {
    let base = needs("MAINSTAY_TEST_MODEL")?;
    let target = format!(
        "{{dialect: openai, model: smollm2-135m-instruct, base_url: '{base}', timeouts: {{attempt: 120s}}}}"
    );
    let example = include_str!("../../config/pipelines/entity-report.yaml");
    // A small model may ramble: two calls a step are enough to see that each end is a known one.
    let policy = "policy: {execution: {max_attempts: 2}}";
    let rig = Plan::new()
        .raw_target("model", &target)
        .pipeline("entity-report", example)
        .policy("brief", policy)
        .config("default_policy: brief");
    Some(rig.start().await)
}

/// Ends as a checked output or as a classified failure; nothing else is an end.
fn known_end<T>(answer: Result<T, super::support::Refused>) {
    if let Err(refused) = answer {
        let failure = refused.refusal.failure.expect("a failed run has a failure");
        assert!(
            mainstay::failure::FailureCause::ALL.iter().any(|cause| cause.name() == failure.cause)
        );
    }
}

#[tokio::test]
async fn a_real_model_ends_as_a_checked_output_or_a_classified_failure() {
    let Some(rig) = model().await else { return };
    let mut spec =
        ask_json(&["model"], "Answer with a JSON object with a number n.", &number_schema());
    spec.sampling = Some(pb::Sampling { max_output_tokens: Some(40), ..Default::default() });
    known_end(rig.step_within(spec, Duration::from_secs(120)).await);

    let mut request = tonic::Request::new(pb::RunPipelineRequest {
        pipeline: "entity-report".to_owned(),
        input_json: json!({"document": "Ann Lee of Acme Ltd restarted billing-api on Monday."})
            .to_string(),
        ..Default::default()
    });
    request.set_timeout(Duration::from_secs(150));
    let answer = rig.client().run_pipeline(request).await;
    known_end(answer.map_err(super::support::Refused::from));

    let mut spec =
        ask_json(&["model"], "List many numbers.", &json!({"type": "array", "minItems": 50}));
    spec.sampling = Some(pb::Sampling { max_output_tokens: Some(4), ..Default::default() });
    spec.max_attempts = 1;
    let refused = rig.step_within(spec, Duration::from_secs(120)).await.unwrap_err();
    assert_eq!(refused.verdict(), "Aborted OUTPUT_SEMANTIC/truncated_output");

    let long = "one two three four five ".repeat(700);
    let refused =
        rig.step_within(say(&["model"], &long), Duration::from_secs(120)).await.unwrap_err();
    assert_eq!(refused.verdict(), "InvalidArgument INPUT_CONSTRAINT/context_length_exceeded");
    rig.stop().await;
}
