//! Outputs on the disk: over restarts and kills, with a file in trouble, and forgotten.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use mainstay::api::{client, pb};
use mainstay::simulate::{Script, Simulator};
use mainstay::tasks::Tasks;
use tonic::{Code, Request, Status};

use super::support::{OBEDIENT, Plan, Rig, eventually, inline, say};

const THRIFTY: &str = "policy: {cache: {fresh_for: 1h}}\n";

fn plan(cache: &str) -> Plan {
    Plan::new().target("t", "m").policy("thrifty", THRIFTY).config(cache)
}

fn asking(words: &str, policy: &str, key: &str) -> Request<pb::RunStepRequest> {
    let options = pb::RunOptions {
        policy: policy.to_owned(),
        idempotency_key: key.to_owned(),
        ..pb::RunOptions::default()
    };
    let spec = say(&["t"], words);
    let mut request = Request::new(pb::RunStepRequest { options: Some(options), ..inline(spec) });
    request.set_timeout(Duration::from_secs(20));
    request
}

impl Rig {
    async fn ask_cached(&self, words: &str, policy: &str, key: &str) -> pb::StepResult {
        let response = self.client().run_step(asking(words, policy, key)).await.unwrap();
        let response = response.into_inner();
        assert!(response.output.unwrap().text.contains(words));
        response.result.unwrap()
    }

    async fn forget(&self) -> Result<pb::InvalidateCacheResponse, Status> {
        let control = client::connect(&self.service.control_address.to_string()).await.unwrap();
        let request = pb::InvalidateCacheRequest::default();
        let response = client::operations(control).invalidate_cache(request).await?;
        Ok(response.into_inner())
    }
}

#[tokio::test]
async fn outputs_survive_a_restart_until_they_are_forgotten() {
    let cache = "store: {path: data/mainstay.db}\ncache: {durable: {steps_without_key: true}}";
    let rig = plan(cache).start().await;
    rig.ask_cached("Hello", "thrifty", "").await;
    rig.ask_cached("Bye", "thrifty", "").await;
    let rig = rig.restart().await;
    assert!(rig.path("data/cache.db").exists());
    let result = rig.ask_cached("Hello", "thrifty", "").await;
    assert!(result.attempts.is_empty() && result.cache_age.is_some());
    assert_eq!((result.target.as_str(), rig.calls("m")), ("t", 2));
    let forgotten = rig.forget().await.unwrap();
    assert_eq!((forgotten.dropped, forgotten.dropped_durable), (1, 2));
    let rig = rig.restart().await;
    assert_eq!(rig.ask_cached("Hello", "thrifty", "").await.attempts.len(), 1);
    // With its provider gone, a step falls back to what the disk has.
    let rig = rig.restart().await;
    rig.simulator.kill();
    let result = rig.ask_cached("Hello", "", "").await;
    assert_eq!(result.degraded(), pb::DegradedSource::Cache);
    assert!(result.cache_age.is_some() && !result.attempts.is_empty());
    rig.stop().await;
}

#[tokio::test]
async fn a_step_without_a_key_leaves_nothing_on_the_disk() {
    let rig = plan("cache: {durable: {path: cache.db}}").start().await;
    rig.ask_cached("Hello", "thrifty", "").await;
    rig.ask_cached("Bye", "thrifty", "one").await;
    let rig = rig.restart().await;
    assert_eq!(rig.ask_cached("Hello", "thrifty", "two").await.attempts.len(), 1);
    assert!(rig.ask_cached("Bye", "thrifty", "three").await.attempts.is_empty());
    rig.stop().await;
}

#[tokio::test]
async fn a_file_in_trouble_fails_no_call_and_is_an_alert() {
    let cache = "cache: {durable: {path: cache.db, steps_without_key: true}}";
    let rig = plan(cache).start().await;
    rig.ask_cached("Hello", "thrifty", "").await;
    // Somebody scribbles over the file, beginning and end, while it serves.
    let path = rig.path("cache.db");
    std::fs::write(&path, "x".repeat(64 << 10)).unwrap();
    for words in ["One", "Two"] {
        assert_eq!(rig.ask_cached(words, "thrifty", "").await.attempts.len(), 1);
        assert!(rig.ask_cached(words, "thrifty", "").await.attempts.is_empty());
    }
    // Nor does a start over what is left of it.
    let rig = rig.restart().await;
    assert_eq!(rig.ask_cached("Three", "thrifty", "").await.attempts.len(), 1);
    rig.stop().await;

    // In its place stands what cannot be opened.
    let rig = plan("cache: {durable: {path: policies, steps_without_key: true}}").start().await;
    assert_eq!(rig.ask_cached("Hello", "thrifty", "").await.attempts.len(), 1);
    assert!(rig.ask_cached("Hello", "thrifty", "").await.attempts.is_empty());
    let refused = rig.forget().await.unwrap_err();
    assert_eq!(refused.code(), Code::Unavailable);
    assert!(refused.message().contains("perhaps not on the disk"), "{}", refused.message());
    let engine = rig.service.engine().clone();
    let told = || {
        let alerts = engine.alerts().list();
        let notices = alerts.iter().filter_map(|alert| alert.notice.as_deref());
        notices.into_iter().any(|text| text.starts_with("outputs are cached in memory only"))
    };
    eventually("an alert about the file", told).await;
    rig.stop().await;
}

/// Killed when the test ends, however it ends.
struct Served(Child);

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

async fn serve(dir: &Path) -> (Served, client::PipelineClient) {
    let address = dir.join("address");
    let _ = std::fs::remove_file(&address);
    let child = Command::new(env!("CARGO_BIN_EXE_mainstay"))
        .args(["serve", "--config"])
        .arg(dir.join("mainstay.yaml"))
        .arg("--address-file")
        .arg(&address)
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut served = Served(child);
    for _ in 0..1_000 {
        if let Ok(address) = std::fs::read_to_string(&address)
            && let Ok(channel) = client::connect(address.trim()).await
        {
            return (served, client::pipelines(channel));
        }
        assert!(served.0.try_wait().unwrap().is_none(), "it ended by itself");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("it does not serve");
}

#[tokio::test]
async fn what_was_written_survives_kills() {
    let tasks = Tasks::new();
    let script = Script::parse(OBEDIENT, "test script").unwrap();
    let simulator = Simulator::bind(script, "127.0.0.1:0".parse().unwrap(), &tasks).await.unwrap();
    let dir = tempfile::tempdir().unwrap();
    let config = format!(
        "listeners: {{data: {{address: '127.0.0.1:0'}}, control: {{address: '127.0.0.1:0'}}}}\n\
         documents: {{policies_dir: policies}}\n\
         cache: {{durable: {{path: cache.db, steps_without_key: true}}}}\n\
         targets: {{t: {{dialect: openai, model: m, base_url: '{}/v1'}}}}\n",
        simulator.url()
    );
    std::fs::write(dir.path().join("mainstay.yaml"), config).unwrap();
    std::fs::create_dir(dir.path().join("policies")).unwrap();
    std::fs::write(dir.path().join("policies/thrifty.yaml"), THRIFTY).unwrap();
    let kills = 3_i64;
    for round in 0..=kills {
        let (mut served, mut client) = serve(dir.path()).await;
        for earlier in 0..round {
            let words = format!("Round {earlier}");
            let response = client.run_step(asking(&words, "thrifty", "")).await.unwrap();
            let response = response.into_inner();
            assert!(response.result.unwrap().attempts.is_empty());
            assert!(response.output.unwrap().text.contains(&words));
        }
        if round == kills {
            break;
        }
        client.run_step(asking(&format!("Round {round}"), "thrifty", "")).await.unwrap();
        let file = rusqlite::Connection::open(dir.path().join("cache.db")).unwrap();
        eventually("it is written", || {
            let count = file.query_row("SELECT count(*) FROM outputs", (), |row| row.get(0));
            count.is_ok_and(|count: i64| count == round + 1)
        })
        .await;
        drop(file);
        served.0.kill().unwrap();
        served.0.wait().unwrap();
    }
    assert_eq!(simulator.calls().of("m"), kills.unsigned_abs());
    simulator.stop().await;
    tasks.stop();
    assert!(tasks.wait(Duration::from_secs(10)).await);
}
