//! Outputs to prompts that say nearly the same, found by the vectors of a simulated model.

use std::time::Duration;

use mainstay::api::client::{self, Credentials};
use mainstay::api::pb;
use mainstay::config::{RawSecret, secret};
use serde_json::json;
use sha2::{Digest as _, Sha256};
use tonic::Request;

use super::support::collector::{Collector, attribute};
use super::support::{Plan, Rig, ask_json, inline, message, number_schema, say};

const POLICY: &str = "policy: {cache: {semantic: {threshold: 0.8}}}\n";
const CAPITAL: &str = "What is the capital of France, please?";
const NEARLY: &str = "What is the capital city of France, please?";

fn embeddings(model: &str) -> String {
    format!(
        "{{dialect: openai, model: '{model}', base_url: 'http://SIM/v1', price: {{input: 1000}}}}"
    )
}

fn plan(model: &str) -> Plan {
    let config = format!("cache: {{embeddings: {}}}", embeddings(model));
    Plan::new().target("t", "m").policy("similar", POLICY).config(&config)
}

fn asking(spec: pb::StepSpec, policy: &str) -> Request<pb::RunStepRequest> {
    let options = pb::RunOptions { policy: policy.to_owned(), ..pb::RunOptions::default() };
    let mut request = Request::new(pb::RunStepRequest { options: Some(options), ..inline(spec) });
    request.set_timeout(Duration::from_secs(20));
    request
}

async fn ask(rig: &Rig, spec: pb::StepSpec) -> pb::StepResult {
    ask_under(rig, spec, "similar").await
}

async fn ask_under(rig: &Rig, spec: pb::StepSpec, policy: &str) -> pb::StepResult {
    rig.client().run_step(asking(spec, policy)).await.unwrap().into_inner().result.unwrap()
}

#[tokio::test]
async fn a_prompt_that_says_nearly_the_same_is_answered_in_place_of_a_call() {
    let rig = plan("e").start().await;
    let first = ask(&rig, say(&["t"], CAPITAL)).await;
    let made = first.embedding.clone().unwrap();
    assert_eq!(
        (first.cache(), made.nearest, made.failure),
        (pb::CacheUse::Unspecified, None, None)
    );
    assert_eq!(made.target, "embeddings");
    let usage = made.usage.unwrap();
    assert!(usage.input_tokens > 0 && usage.cost_usd > 0.0);
    assert!(first.usage.unwrap().cost_usd >= usage.cost_usd);

    let second = ask(&rig, say(&["t"], NEARLY)).await;
    assert_eq!((second.cache(), second.attempts.len()), (pb::CacheUse::Semantic, 0));
    assert_eq!((second.target.as_str(), second.state()), ("t", pb::RunState::Succeeded));
    let similarity = second.cache_similarity.unwrap();
    assert!((0.8..1.0).contains(&similarity) && second.cache_age.is_some(), "{similarity}");
    assert_eq!(second.embedding.unwrap().nearest, Some(similarity));
    assert_eq!(second.output, first.output);
    assert_eq!((rig.calls("m"), rig.calls("e")), (1, 2));

    // The same prompt needs no vector.
    let same = ask(&rig, say(&["t"], CAPITAL)).await;
    assert_eq!((same.cache(), same.embedding), (pb::CacheUse::Exact, None));

    // Under a policy that does not ask for it no vector is made.
    let plain = ask_under(&rig, say(&["t"], NEARLY), "").await;
    assert_eq!((plain.attempts.len(), plain.embedding), (1, None));
    assert_eq!(rig.calls("e"), 2);
    // Operators see what makes the vectors, with its gate.
    let control = client::connect(&rig.service.control_address.to_string()).await.unwrap();
    let mut operations = client::operations(control);
    let listed = operations.list_targets(pb::ListTargetsRequest::default()).await.unwrap();
    let of = |target: &pb::TargetStatus| (target.name.clone(), target.calls);
    let listed: Vec<_> = listed.into_inner().targets.iter().map(of).collect();
    assert_eq!(listed, [("t".to_owned(), 2), ("embeddings".to_owned(), 2)]);
    drop(operations);
    rig.stop().await;
}

#[tokio::test]
async fn what_differs_in_more_than_words_is_another_prompt() {
    let rig = plan("e").start().await;
    let mut calls = 0;
    let mut is_called = async |spec: pb::StepSpec| {
        let result = ask(&rig, spec).await;
        calls += 1;
        assert_eq!((result.cache(), result.attempts.len()), (pb::CacheUse::Unspecified, 1));
        assert_eq!(rig.calls("m"), calls);
        result
    };
    is_called(say(&["t"], CAPITAL)).await;
    let far = is_called(say(&["t"], "Summarise this incident for the engineers on call.")).await;
    assert!(far.embedding.unwrap().nearest.unwrap() < 0.8);
    // Other numbers, although hardly another vector.
    is_called(say(&["t"], "Summarise invoice 1234 for our accountants.")).await;
    is_called(say(&["t"], "Summarise invoice 1235 for our accountants.")).await;
    // Another word of the system, another contract, other parameters, another step.
    let mut told = say(&["t"], NEARLY);
    told.messages.insert(0, message(pb::Role::System, "Answer in French."));
    is_called(told).await;
    is_called(ask_json(&["t"], NEARLY, &number_schema())).await;
    let mut warmer = say(&["t"], NEARLY);
    warmer.sampling = Some(pb::Sampling { temperature: Some(0.7), ..Default::default() });
    is_called(warmer).await;
    let mut named = say(&["t"], NEARLY);
    named.name = "other".to_owned();
    is_called(named).await;
    rig.stop().await;
}

/// The prompt of the pipeline is a template; its rule reads the input.
const PIPELINE: &str = "\
name: hotel
policy: similar
steps:
  - name: greet
    prompt: 'Write a friendly greeting for the guest {{ input.guest }} of the hotel, please'
    rules: [{check: 'output.contains(input.guest)', message: it greets somebody else}]
";

#[tokio::test]
async fn an_answer_has_to_satisfy_the_rules_of_this_request_too() {
    let rig = plan("e").pipeline("hotel", PIPELINE).start().await;
    let greet = async |guest: &str| {
        let run = rig.pipeline("hotel", json!({"guest": guest})).await.unwrap();
        run.steps[0].clone()
    };
    assert_eq!(greet("Annabella").await.cache(), pb::CacheUse::Unspecified);
    // What was said to her has her name in it, and so it has the beginning of it.
    assert_eq!(greet("Annabell").await.cache(), pb::CacheUse::Semantic);
    let other = greet("Annabellas").await;
    assert!(other.embedding.unwrap().nearest.unwrap() > 0.8);
    assert_eq!(rig.calls("m"), 2);
    rig.stop().await;
}

#[tokio::test]
async fn tenants_never_share() {
    let token = |name: &str| format!("mainstay_test_token_of_{name}");
    let mut callers = "callers:\n".to_owned();
    for (name, tenant) in [("a", "shop"), ("b", "bank")] {
        let digest = Sha256::digest(token(name));
        let digest: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        callers += &format!(
            "- {{name: {name}, tenant: {tenant}, roles: [runner], tokens: [{{sha256: {digest}}}]}}\n"
        );
    }
    let rig = plan("e")
        .file("callers.yaml", &callers)
        .config("auth: {callers_file: callers.yaml}")
        .start()
        .await;
    let ask_as = async |name: &str, words: &str| {
        let path = rig.path("token");
        std::fs::write(&path, token(name)).unwrap();
        let secret = secret::fetch(&RawSecret::File(path.to_str().unwrap().to_owned())).unwrap();
        let credentials = Credentials { token: Some(secret), ..Credentials::default() };
        let address = rig.service.data_address.to_string();
        let caller = client::connect_as(&address, &credentials).await.unwrap();
        let request = asking(say(&["t"], words), "similar");
        client::pipelines(caller).run_step(request).await.unwrap().into_inner().result.unwrap()
    };
    ask_as("a", CAPITAL).await;
    let other = ask_as("b", NEARLY).await;
    assert_eq!(
        (other.cache(), other.embedding.unwrap().nearest),
        (pb::CacheUse::Unspecified, None)
    );
    assert_eq!(ask_as("a", NEARLY).await.cache(), pb::CacheUse::Semantic);
    rig.stop().await;
}

#[tokio::test]
async fn without_a_vector_a_call_is_made_and_the_span_says_why() {
    let collector = Collector::start().await;
    let rig = plan("e!server_error")
        .config(&format!(
            "telemetry: {{otlp_endpoint: '{}', service_name: tests}}",
            collector.endpoint
        ))
        .start()
        .await;
    let result = ask(&rig, say(&["t"], CAPITAL)).await;
    assert_eq!((result.state(), result.attempts.len()), (pb::RunState::Succeeded, 1));
    let cause = result.embedding.unwrap().failure.unwrap().cause;
    let spans = collector.trace_with(|span| span.name == "step step").await;
    let step = spans.iter().find(|span| span.name == "step step").unwrap();
    let span = spans.iter().find(|span| span.name.starts_with("embeddings ")).unwrap();
    assert_eq!(span.parent_span_id, step.span_id);
    assert_eq!(attribute(span, "error.type"), Some(cause));
    assert_eq!(attribute(span, "gen_ai.operation.name").as_deref(), Some("embeddings"));
    // Answers that hang, that are no vectors, or that are refused for want of a credential.
    rig.stop().await;
    for model in ["e!hang", "e!html_200", "e!unauthorized", "e!malformed_json"] {
        let rig = plan(model).start().await;
        let mut request = asking(say(&["t"], CAPITAL), "similar");
        request.set_timeout(Duration::from_secs(10));
        let result = rig.client().run_step(request).await.unwrap().into_inner().result.unwrap();
        assert_eq!((result.state(), result.attempts.len()), (pb::RunState::Succeeded, 1));
        assert!(result.embedding.unwrap().failure.is_some(), "{model}");
        rig.stop().await;
    }
    collector.stop();
}

#[tokio::test]
async fn the_span_of_an_answered_step_says_by_what() {
    let collector = Collector::start().await;
    let rig = plan("e")
        .config(&format!(
            "telemetry: {{otlp_endpoint: '{}', service_name: tests}}",
            collector.endpoint
        ))
        .start()
        .await;
    ask(&rig, say(&["t"], CAPITAL)).await;
    let result = ask(&rig, say(&["t"], NEARLY)).await;
    let is_semantic = |span: &_| attribute(span, "mainstay.cache").as_deref() == Some("semantic");
    let spans = collector.trace_with(is_semantic).await;
    let step = spans.iter().find(|span| is_semantic(span)).unwrap();
    let similarity = result.cache_similarity.unwrap().to_string();
    assert_eq!(attribute(step, "mainstay.cache.similarity"), Some(similarity));
    rig.stop().await;
    collector.stop();
}

#[tokio::test]
async fn vectors_survive_a_restart_and_are_forgotten_with_their_outputs() {
    let cache = format!(
        "cache: {{durable: {{path: cache.db, steps_without_key: true}}, embeddings: {}}}",
        embeddings("e")
    );
    let rig = Plan::new().target("t", "m").policy("similar", POLICY).config(&cache).start().await;
    ask(&rig, say(&["t"], CAPITAL)).await;
    let rig = rig.restart().await;
    let engine = rig.service.engine().clone();
    let is_known = || engine.cache().similar().is_some_and(|similar| similar.known_now() == 1);
    super::support::eventually("the vector is read", is_known).await;
    let result = ask(&rig, say(&["t"], NEARLY)).await;
    assert_eq!((result.cache(), rig.calls("m")), (pb::CacheUse::Semantic, 1));
    let control = client::connect(&rig.service.control_address.to_string()).await.unwrap();
    let forget = pb::InvalidateCacheRequest::default();
    client::operations(control).invalidate_cache(forget).await.unwrap();
    assert_eq!(engine.cache().similar().map(|similar| similar.known_now()), Some(0));
    assert_eq!(ask(&rig, say(&["t"], NEARLY)).await.attempts.len(), 1);
    drop(engine);
    rig.stop().await;
}
