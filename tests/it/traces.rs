//! Spans: one tree a call, with domain, cause, action and policy version on it.

use std::time::Duration;

use mainstay::api::pb;
use opentelemetry_proto::tonic::trace::v1::Span;
use tonic::Request;

use super::support::collector::{Collector, attribute, text_of};
use super::support::{Plan, Rig, ask_json, eventually, inline, number_schema, run_of, say};

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";

async fn rig(collector: &Collector, fault: &str) -> Rig {
    Plan::new()
        .target("bad", &format!("m!{fault}"))
        .target("good", "good")
        .config(&format!(
            "telemetry: {{otlp_endpoint: '{}', service_name: tests}}",
            collector.endpoint
        ))
        .start()
        .await
}

async fn call(rig: &Rig, flags: &str, targets: &[&str]) {
    let mut request = Request::new(inline(say(targets, "the secret prompt")));
    let parent = format!("00-{TRACE}-b7ad6b7169203331-{flags}");
    request.metadata_mut().insert("traceparent", parent.parse().unwrap());
    request.set_timeout(Duration::from_secs(20));
    let _ = rig.client().run_step(request).await;
}

fn named<'a>(spans: &'a [Span], name: &str) -> Vec<&'a Span> {
    spans.iter().filter(|span| span.name == name).collect()
}

#[tokio::test]
async fn one_tree_a_call_with_every_decision() {
    let collector = Collector::start().await;
    let rig = rig(&collector, "overloaded").await;
    call(&rig, "01", &["bad", "good"]).await;
    let spans = collector.trace_with(|span| span.name == "RunStep").await;
    let hex = |id: &[u8]| id.iter().map(|b| format!("{b:02x}")).collect::<String>();
    let server = named(&spans, "RunStep")[0];
    assert_eq!(hex(&server.trace_id), TRACE);
    assert_eq!(hex(&server.parent_span_id), "b7ad6b7169203331");
    assert_eq!(attribute(server, "rpc.response.status_code").as_deref(), Some("OK"));
    let step = named(&spans, "step step")[0];
    assert_eq!(step.parent_span_id, server.span_id);
    assert_eq!(attribute(step, "mainstay.recovery.action").as_deref(), Some("fallback_to_target"));
    let attempts: Vec<&Span> = spans.iter().filter(|span| span.name.starts_with("chat ")).collect();
    assert_eq!(attempts.len(), 3);
    for attempt in &attempts {
        assert_eq!(attempt.parent_span_id, step.span_id);
        assert_eq!(attribute(attempt, "mainstay.policy.version").as_deref(), Some("1"));
    }
    let first =
        attempts.iter().find(|a| attribute(a, "mainstay.attempt").as_deref() == Some("1")).unwrap();
    let second =
        attempts.iter().find(|a| attribute(a, "mainstay.attempt").as_deref() == Some("2")).unwrap();
    for (key, value) in [
        ("mainstay.failure.domain", "INFRASTRUCTURE"),
        ("mainstay.failure.cause", "overloaded"),
        ("error.type", "overloaded"),
        ("mainstay.recovery.action", "retry_with_backoff"),
        ("mainstay.policy.name", "default"),
        ("mainstay.policy.rule", "routing.infrastructure.causes.overloaded"),
        ("mainstay.target", "bad"),
        ("gen_ai.operation.name", "chat"),
        ("gen_ai.provider.name", "openai"),
        ("http.response.status_code", "503"),
        ("server.address", "127.0.0.1"),
    ] {
        assert_eq!(attribute(first, key).as_deref(), Some(value), "{key}");
    }
    let event = &second.events[0];
    assert_eq!(event.name, "mainstay.decision");
    assert_eq!(
        text_of(&event.attributes, "mainstay.recovery.skipped").as_deref(),
        Some("0:retry_with_backoff:allowance_used")
    );
    assert!(!format!("{spans:?}").contains("secret prompt"), "no prompt on any span");
    rig.stop().await;
    collector.stop();
}

#[tokio::test]
async fn an_unsampled_trace_costs_nothing_unless_it_fails() {
    let collector = Collector::start().await;
    let rig = rig(&collector, "content_filter").await;
    call(&rig, "00", &["good"]).await;
    call(&rig, "00", &["bad"]).await;
    let spans = collector.trace_with(|span| span.name == "RunStep").await;
    assert_eq!(named(&spans, "RunStep").len(), 1, "the good call left nothing");
    let server = named(&spans, "RunStep")[0];
    assert_eq!(attribute(server, "mainstay.failure.domain").as_deref(), Some("INPUT_CONSTRAINT"));
    assert_eq!(attribute(server, "rpc.response.status_code").as_deref(), Some("INVALID_ARGUMENT"));
    rig.stop().await;
    collector.stop();
}

#[tokio::test]
async fn a_call_that_its_caller_cancels_shows_what_it_had_done() {
    let collector = Collector::start().await;
    let rig = rig(&collector, "hang").await;
    let mut client = rig.client();
    let mut request = Request::new(inline(say(&["bad"], "the secret prompt")));
    let parent = format!("00-{TRACE}-b7ad6b7169203331-01");
    request.metadata_mut().insert("traceparent", parent.parse().unwrap());
    let call = tokio::spawn(async move { client.run_step(request).await });
    eventually("the call is under way", || rig.calls("m") == 1).await;
    call.abort();
    let spans = collector.trace_with(|span| span.name == "RunStep").await;
    let server = named(&spans, "RunStep")[0];
    assert_eq!(attribute(server, "rpc.response.status_code").as_deref(), Some("CANCELLED"));
    assert_eq!(attribute(server, "mainstay.state").as_deref(), Some("cancelled"));
    let step = named(&spans, "step step")[0];
    assert_eq!(attribute(step, "mainstay.state").as_deref(), Some("cancelled"));
    assert_eq!(step.parent_span_id, server.span_id);
    let attempt = spans.iter().find(|span| span.name.starts_with("chat ")).unwrap();
    assert_eq!(attempt.parent_span_id, step.span_id);
    assert_eq!(attribute(attempt, "mainstay.attempt.cancelled").as_deref(), Some("with_its_run"));
    assert_eq!(attribute(attempt, "mainstay.target").as_deref(), Some("bad"));
    assert_eq!(attribute(attempt, "mainstay.failure.cause"), None, "to leave is no failure");
    let gate = rig.service.engine().targets().get("bad").unwrap().gate.view();
    assert!(gate.failures.is_empty() && gate.in_flight == 0, "{gate:?}");
    rig.stop().await;
    collector.stop();
}

#[tokio::test]
async fn a_run_that_an_operator_cancels_shows_what_it_had_done() {
    let collector = Collector::start().await;
    let rig = Plan::new()
        .target("bad", "m!hang")
        .pipeline("one", "name: one\nsteps: [{name: only, targets: [bad], prompt: Hello}]\n")
        .config(&format!("telemetry: {{otlp_endpoint: '{}'}}", collector.endpoint))
        .start()
        .await;
    let mut request = run_of("one", &serde_json::json!({}));
    request.no_wait = true;
    let run = rig.client().run_pipeline(request).await.unwrap().into_inner().run.unwrap();
    eventually("the call is under way", || rig.calls("m") == 1).await;
    let cancel = pb::CancelRunRequest { run_id: run.run_id, ..Default::default() };
    rig.client().cancel_run(cancel).await.unwrap();
    let spans = collector.trace_with(|span| span.name == "RunPipeline").await;
    let attempt = spans.iter().find(|span| span.name.starts_with("chat ")).unwrap();
    assert_eq!(attribute(attempt, "mainstay.attempt.cancelled").as_deref(), Some("with_its_run"));
    rig.stop().await;
    collector.stop();
}

#[tokio::test]
async fn elements_that_are_cancelled_are_parts_of_their_step() {
    let collector = Collector::start().await;
    let steps = "name: each\nsteps: [{name: all, for_each: {items: input.list, parallelism: 2}, \
                 targets: [bad], prompt: Hello}]\n";
    let rig = Plan::new()
        .target("bad", "m!hang")
        .pipeline("each", steps)
        .config(&format!("telemetry: {{otlp_endpoint: '{}'}}", collector.endpoint))
        .start()
        .await;
    let mut client = rig.client();
    let request = run_of("each", &serde_json::json!({"list": [1, 2]}));
    let call = tokio::spawn(async move { client.run_pipeline(request).await });
    eventually("both calls are under way", || rig.calls("m") == 2).await;
    call.abort();
    let spans = collector.trace_with(|span| span.name == "RunPipeline").await;
    let server = named(&spans, "RunPipeline")[0];
    let steps = named(&spans, "step all");
    assert_eq!(steps.len(), 3, "the step and its elements");
    let whole = steps.iter().find(|step| step.parent_span_id == server.span_id).unwrap();
    assert_eq!(attribute(whole, "mainstay.state").as_deref(), Some("cancelled"));
    let elements = steps.iter().filter(|step| step.parent_span_id == whole.span_id);
    let mut elements: Vec<_> = elements.map(|one| attribute(one, "mainstay.element")).collect();
    elements.sort();
    assert_eq!(elements, [Some("0".to_owned()), Some("1".to_owned())]);
    rig.stop().await;
    collector.stop();
}

#[tokio::test]
async fn an_attempt_that_is_still_judged_is_shown_too() {
    let collector = Collector::start().await;
    let rig = rig(&collector, "hang").await;
    let mut spec = say(&["good"], "Hello");
    spec.verifier = Some(Box::new(pb::StepVerifier {
        step: Some(Box::new(pb::StepSpec {
            name: "review".to_owned(),
            ..ask_json(&["bad"], "Is it right?", &number_schema())
        })),
        accept: "verdict.n >= 0".to_owned(),
    }));
    let mut client = rig.client();
    let call = tokio::spawn(async move { client.run_step(inline(spec)).await });
    eventually("the verifier is under way", || rig.calls("m") == 1).await;
    call.abort();
    let spans = collector.trace_with(|span| span.name == "RunStep").await;
    let attempt_of = |target: &str| {
        let of_target = |span: &&Span| {
            attribute(span, "mainstay.target").as_deref() == Some(target)
                && span.name.starts_with("chat ")
        };
        spans.iter().find(of_target).unwrap()
    };
    let cancelled = |target: &str| attribute(attempt_of(target), "mainstay.attempt.cancelled");
    assert_eq!(cancelled("good"), None, "it had its answer");
    assert_eq!(cancelled("bad").as_deref(), Some("with_its_run"));
    let review = named(&spans, "step review")[0];
    assert_eq!(attempt_of("bad").parent_span_id, review.span_id);
    assert_eq!(review.parent_span_id, attempt_of("good").span_id, "a part of what it verifies");
    rig.stop().await;
    collector.stop();
}

#[tokio::test]
async fn a_collector_that_is_away_holds_nothing_up() {
    let rig = Plan::new()
        .target("good", "good")
        .config("telemetry: {otlp_endpoint: 'http://127.0.0.1:9'}")
        .start()
        .await;
    for _ in 0..20 {
        let response: pb::RunStepResponse = rig.step(say(&["good"], "Hello")).await.unwrap();
        assert!(!response.trace_id.is_empty());
    }
    rig.stop().await;
}
