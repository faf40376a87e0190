//! Starting, counting, repeating, stopping and being killed.

use std::io::ErrorKind;
use std::time::Duration;

use mainstay::simulate::{Ended, Script, Simulator};
use mainstay::tasks::Tasks;
use serde_json::{Value, json};
use tokio::io::AsyncReadExt;

use super::harness::{Api, PATIENCE, Question, provider, provider_with};

const MIXED: &str = r#"
seed: 11
models:
  "*":
    faults:
      - { fault: overloaded, probability: 0.3 }
      - { fault: fence, probability: 0.4 }
      - { fault: rate_limit, calls: [2, 5] }
      - { fault: broken_json, every: 7 }
"#;

/// Which rules were hit by twenty calls of a model, and what was said.
async fn sequence(script: &str, model: &str) -> Vec<(Vec<String>, Value)> {
    let provider = provider_with(script).await;
    let mut bodies = Vec::new();
    for _ in 0..20 {
        let mut body = provider.ask(Api::OpenAi, &Question::of(model)).await.json();
        body["created"] = json!(0);
        bodies.push(body);
    }
    let calls = provider.simulator.calls();
    provider.stop().await;
    calls.recent.into_iter().map(|call| call.rules).zip(bodies).collect()
}

#[tokio::test]
async fn the_same_seed_gives_the_same_sequence() {
    let first = sequence(MIXED, "m").await;
    assert_eq!(first, sequence(MIXED, "m").await);
    let rules = |calls: &[(Vec<String>, Value)]| -> Vec<Vec<String>> {
        calls.iter().map(|(rules, _)| rules.clone()).collect()
    };
    let other = sequence(&MIXED.replace("seed: 11", "seed: 12"), "m").await;
    assert_ne!(rules(&first), rules(&other));
    assert!(first[1].0.contains(&"faults[2] rate_limit".to_owned()), "{:?}", first[1].0);
}

#[tokio::test]
async fn a_models_luck_does_not_hang_on_other_models() {
    let alone = sequence(MIXED, "m").await;
    let provider = provider_with(MIXED).await;
    let mut beside = Vec::new();
    for n in 0..20 {
        let other = Question::of(&format!("other-{}", n % 3));
        provider.ask(Api::Anthropic, &other).await;
        let mut body = provider.ask(Api::OpenAi, &Question::of("m")).await.json();
        body["created"] = json!(0);
        beside.push(body);
    }
    provider.stop().await;
    assert_eq!(alone.into_iter().map(|(_, body)| body).collect::<Vec<_>>(), beside);
}

#[tokio::test]
async fn prompts_counted_apart_do_not_hang_on_their_order() {
    let script = "{seed: 4, models: {m: {faults: [\
        {fault: overloaded, probability: 0.5, counted: prompt}]}}}";
    let statuses = async |order: Vec<u32>| {
        let provider = provider_with(script).await;
        let mut found = Vec::new();
        for n in order {
            let question = Question { prompt: format!("prompt {n}"), ..Question::of("m") };
            found.push((n, provider.ask(Api::OpenAi, &question).await.status));
        }
        provider.stop().await;
        found.sort_unstable();
        found
    };
    assert_eq!(statuses((0..16).collect()).await, statuses((0..16).rev().collect()).await);
}

#[tokio::test]
async fn calls_are_counted_and_hold_no_secret() {
    let provider = provider().await;
    provider.ask(Api::OpenAi, &Question::of("a")).await;
    provider.ask(Api::OpenAi, &Question::of("a!rate_limit")).await;
    provider.ask(Api::Gemini, &Question::of("b!fence").stream()).await;
    let get = async |path: &str| {
        let url = format!("{}{path}", provider.simulator.url());
        provider.client.get(url).send().await.unwrap().text().await.unwrap()
    };
    let text = get("/_sim/calls").await;
    assert!(!text.contains("sim-key") && !text.contains("tides"), "{text}");
    let calls: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(calls["models"]["a"]["calls"], json!(2));
    assert_eq!(calls["models"]["a"]["statuses"], json!({"200": 1, "429": 1}));
    assert_eq!(calls["models"]["b"]["faults"], json!({"fence": 1}));
    assert_eq!(calls["recent"][2]["rules"], json!(["override fence", "echo"]));
    assert_eq!(calls["recent"][2]["dialect"], json!("gemini"));
    let reset = format!("{}/_sim/reset", provider.simulator.url());
    provider.client.post(reset).send().await.unwrap();
    assert_eq!(provider.simulator.calls().total, 0);
    assert_eq!(get("/healthz").await, "ok\n");
    assert!(get("/nowhere").await.contains("no such path"));
    provider.stop().await;
}

#[tokio::test]
async fn another_script_is_played_from_the_next_request_on() {
    let provider = provider_with("models: {m: {}}").await;
    let ask = async || provider.ask(Api::OpenAi, &Question::of("m")).await.status;
    let play = async |script: &'static str| {
        let url = format!("{}/_sim/script", provider.simulator.url());
        let answer = provider.client.post(url).body(script).send().await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    };
    assert_eq!(ask().await, 200);
    assert_eq!(play("models: {m: {faults: [{fault: overloaded}]}}").await.0, 200);
    assert_eq!(ask().await, 503);
    let (status, told) = play("models: {m: {faults: [{fault: tea}]}}").await;
    assert_eq!(status, 400);
    assert!(told.starts_with("script:1:") && told.contains("`tea`"), "{told}");
    assert_eq!(ask().await, 503, "a wrong script changes nothing");
    provider.simulator.play(Script::parse("models: {m: {}}", "x").unwrap());
    assert_eq!(ask().await, 200);
    let url = format!("{}/_sim/calls?recent=1", provider.simulator.url());
    let text = provider.client.get(url).send().await.unwrap().text().await.unwrap();
    let calls: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(calls["models"]["m"]["statuses"], json!({"200": 2, "503": 2}));
    assert_eq!(calls["recent"].as_array().unwrap().len(), 1);
    provider.stop().await;
}

#[tokio::test]
async fn a_model_with_one_place_answers_one_call_after_the_other() {
    let provider = provider_with("models: {m: {at_once: 1}, '*': {}}").await;
    let first = provider.socket(Api::OpenAi, &Question::of("m!hang")).await;
    provider.until(|calls| calls.total == 1).await;
    // The place is taken until the first has gone; other models are not held up.
    assert_eq!(provider.ask(Api::OpenAi, &Question::of("n")).await.status, 200);
    let question = Question::of("m");
    let (second, ()) = tokio::join!(provider.ask(Api::OpenAi, &question), async {
        provider.until(|calls| calls.total == 3).await;
        let calls = provider.simulator.calls();
        assert_eq!(calls.recent[2].ended, Ended::Running);
        drop(first);
    });
    assert_eq!(second.status, 200);
    provider.stop().await;
}

#[tokio::test]
async fn models_are_listed() {
    let provider = provider_with("models: {a: {}, b: {}, '*': {}}").await;
    let url = format!("{}/v1/models", provider.simulator.url());
    let text = provider.client.get(url).send().await.unwrap().text().await.unwrap();
    let list: Value = serde_json::from_str(&text).unwrap();
    let ids: Vec<_> = list["data"].as_array().unwrap().iter().map(|m| m["id"].clone()).collect();
    assert_eq!(ids, [json!("a"), json!("b")]);
    provider.stop().await;
}

#[tokio::test]
async fn stopping_cuts_what_hangs_and_leaves_no_task() {
    let provider = provider().await;
    let mut sockets = Vec::new();
    for _ in 0..8 {
        sockets.push(provider.socket(Api::OpenAi, &Question::of("m!hang")).await);
    }
    provider.until(|calls| calls.total == 8).await;
    assert!(provider.tasks.running() > 8);
    let addr = provider.simulator.addr();
    provider.stop().await;
    for mut socket in sockets {
        let error = socket.read_to_end(&mut Vec::new()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    }
    assert!(tokio::net::TcpStream::connect(addr).await.is_err());
}

#[tokio::test]
async fn stopping_lets_answers_finish() {
    let provider = provider().await;
    let question = Question::of("m!latency(delay=300ms)");
    let mut socket = provider.socket(Api::OpenAi, &question).await;
    provider.until(|calls| calls.total == 1).await;
    provider.stop().await;
    let mut bytes = Vec::new();
    socket.read_to_end(&mut bytes).await.unwrap();
    assert!(String::from_utf8_lossy(&bytes).contains("Simulated answer"));
}

#[tokio::test]
async fn a_kill_resets_every_connection_at_once() {
    let provider = provider().await;
    let slow = Question::of("m!latency(between=1s)").stream();
    let mut socket = provider.socket(Api::Anthropic, &slow).await;
    let mut first = [0; 64];
    socket.read_exact(&mut first).await.unwrap();
    provider.simulator.kill();
    let rest = tokio::time::timeout(PATIENCE, socket.read_to_end(&mut Vec::new())).await;
    assert_eq!(rest.unwrap().unwrap_err().kind(), ErrorKind::ConnectionReset);
    let calls = provider.until(|calls| calls.recent[0].ended != Ended::Running).await;
    assert_eq!(calls.recent[0].ended, Ended::Stopped);
    provider.stop().await;
}

#[tokio::test]
async fn the_group_stops_it_too() {
    let provider = provider().await;
    let _socket = provider.socket(Api::OpenAi, &Question::of("m!hang")).await;
    provider.until(|calls| calls.total == 1).await;
    provider.tasks.stop();
    assert!(provider.tasks.wait(PATIENCE).await);
    provider.stop().await;
}

#[tokio::test]
async fn connections_are_bounded_and_do_not_last_for_ever() {
    let script = "{limits: {connections: 2, connection_seconds: 1}, models: {'*': {}}}";
    let provider = provider_with(script).await;
    let hang = Question::of("m!hang");
    let _sockets =
        [provider.socket(Api::OpenAi, &hang).await, provider.socket(Api::OpenAi, &hang).await];
    provider.until(|calls| calls.total == 2).await;
    // The third waits for its turn until the deadline of the first two.
    let answer = provider.ask(Api::OpenAi, &Question::of("m")).await;
    assert_eq!(answer.status, 200);
    assert!(provider.simulator.calls().recent[..2].iter().all(|c| c.ended != Ended::Sent));
    provider.stop().await;
}

#[tokio::test]
async fn only_loopback_addresses_are_bound() {
    let script = Script::parse("models: {}", "x").unwrap();
    let tasks = Tasks::new();
    let error = Simulator::bind(script, "0.0.0.0:0".parse().unwrap(), &tasks).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert!(tasks.wait(Duration::from_secs(1)).await);
}

#[tokio::test]
async fn many_at_once() {
    let provider = std::sync::Arc::new(provider().await);
    let mut asked = tokio::task::JoinSet::new();
    for n in 0..200 {
        let provider = provider.clone();
        asked.spawn(async move {
            let api = super::harness::ALL[n % 4];
            let question = Question { stream: n % 3 == 0, ..Question::of("m") };
            assert_eq!(provider.ask(api, &question).await.status, 200);
        });
    }
    while let Some(done) = asked.join_next().await {
        done.unwrap();
    }
    assert_eq!(provider.simulator.calls().of("m"), 200);
    std::sync::Arc::into_inner(provider).unwrap().stop().await;
}
