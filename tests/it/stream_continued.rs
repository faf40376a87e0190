//! Streams that break after content and are gone on with, because the policy says so.

use mainstay::api::pb;

use super::streams::{Told, stream};
use super::support::raw::RawProvider;
use super::support::{Plan, Rig, ask_json, number_schema, say};

const POLICY: &str = "policy: {streaming: {after_content: continue}, routing: {infrastructure: \
                      {ladder: [fallback_to_target]}, output_semantic: {ladder: \
                      [fallback_to_target]}}}\n";

const STREAM: &str =
    "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n";
const WHOLE: &str =
    "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close\r\n\r\n";

/// The beginning of a stream that breaks off.
async fn broken(text: &str) -> RawProvider {
    let delta = serde_json::json!({"content": text});
    let chunk = serde_json::json!({"id": "r1", "choices": [{"index": 0, "delta": delta}]});
    RawProvider::start(STREAM, format!("data: {chunk}\n\n").as_bytes(), 65_536, 1).await
}

/// A whole answer.
async fn rest(text: &str) -> RawProvider {
    let message = serde_json::json!({"role": "assistant", "content": text});
    let body = serde_json::json!({
        "id": "r2", "object": "chat.completion", "model": "m",
        "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 9, "completion_tokens": 4, "total_tokens": 13},
    });
    RawProvider::start(WHOLE, body.to_string().as_bytes(), 65_536, 1).await
}

fn at(provider: &RawProvider) -> String {
    format!("{{dialect: openai, model: m, base_url: 'http://{}/v1'}}", provider.address)
}

async fn rig(targets: &[(&str, &RawProvider)], policy: &str) -> Rig {
    let plan = Plan::new().policy("default", policy);
    let plan = targets.iter().fold(plan, |plan, (name, raw)| plan.raw_target(name, &at(raw)));
    plan.target("down", "d!server_error").target("good", "g").start().await
}

fn whole_of(told: &Told, text: &str) {
    let output = told.output();
    assert_eq!(told.text, text, "the deltas are the whole, in order");
    assert_eq!(output.verdict(), pb::OutputVerdict::Repaired, "and it is marked as joined");
    assert_eq!(output.changes[0].kind, "continued");
    assert!(told.restarts.is_empty() && told.void.is_empty());
}

#[tokio::test]
async fn the_rest_comes_from_another_target_and_the_reader_is_told() {
    let first = broken("Die Gezeiten sind Ebbe und Flut, und").await;
    let second = rest("Gezeiten sind Ebbe und Flut, und sie kehren wieder.").await;
    let rig = rig(&[("first", &first), ("second", &second)], POLICY).await;
    let told = stream(&rig, say(&["first", "second"], "Hello")).await;
    assert_eq!(told.continued, ["stream_interrupted -> fallback_to_target"]);
    assert_eq!(told.story().last().unwrap(), "second ok");
    let whole = "Die Gezeiten sind Ebbe und Flut, und sie kehren wieder.";
    whole_of(&told, whole);
    assert_eq!(told.output().text, whole, "what was repeated is left out");
    let result = told.completed.as_ref().unwrap().result.as_ref().unwrap();
    assert!(result.attempts[0].decision.as_ref().unwrap().continues);
    rig.stop().await;
}

#[tokio::test]
async fn a_structured_answer_is_joined_and_checked() {
    let (first, second) = (broken("{\"n\"").await, rest(": 7}").await);
    let rig = rig(&[("first", &first), ("second", &second)], POLICY).await;
    let told = stream(&rig, ask_json(&["first", "second"], "A digit", &number_schema())).await;
    whole_of(&told, "{\"n\": 7}");
    assert_eq!(told.output().json, "{\"n\": 7}");
    rig.stop().await;
}

#[tokio::test]
async fn a_rest_that_does_not_come_is_asked_of_the_next() {
    let (first, second) = (broken("Ebbe ").await, rest("und Flut").await);
    let rig = rig(&[("first", &first), ("second", &second)], POLICY).await;
    let told = stream(&rig, say(&["first", "down", "second"], "Hello")).await;
    let why = ["stream_interrupted -> fallback_to_target", "server_error -> fallback_to_target"];
    assert_eq!(told.continued, why);
    whole_of(&told, "Ebbe und Flut");
    rig.stop().await;
}

#[tokio::test]
async fn a_rest_that_does_not_fit_makes_the_beginning_void() {
    let (first, second) = (broken("{\"n\"").await, rest("Sure! Here is the rest.").await);
    let rig = rig(&[("first", &first), ("second", &second)], POLICY).await;
    let told = stream(&rig, ask_json(&["first", "second", "good"], "A digit", &number_schema()));
    let told = told.await;
    assert_eq!(told.continued.len(), 1);
    assert_eq!(told.restarts.len(), 1, "{:?}", told.restarts);
    assert_eq!((told.void.as_str(), &told.text), ("{\"n\"", &told.output().json));
    assert_eq!(told.story().last().unwrap(), "good ok");
    rig.stop().await;
}

#[tokio::test]
async fn without_the_policys_word_it_starts_over() {
    let (first, second) = (broken("Ebbe ").await, rest("und Flut").await);
    let policy = POLICY.replace("continue", "restart");
    let rig = rig(&[("first", &first), ("second", &second)], &policy).await;
    let told = stream(&rig, say(&["first", "good"], "Hello")).await;
    assert!(told.continued.is_empty());
    assert_eq!((told.restarts.len(), told.void.as_str()), (1, "Ebbe "));
    assert_eq!(told.text, told.output().text);
    rig.stop().await;
}
