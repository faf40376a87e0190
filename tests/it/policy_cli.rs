//! `mainstay policy` and `mainstay pipeline` against a running service; and what that service
//! recorded, decided again.

use std::process::{Command, Output};

use mainstay::policy::Policy;
use mainstay::policy::simulate::{Baseline, simulate};
use serde_json::{Value, json};

use crate::support::{Plan, Rig, say};

/// A policy that asks once more, then another target.
const CAREFUL: &str = "policy:
  backoff: {base: 1ms, max: 2ms}
  breaker: {min_calls: 100000, consecutive_failures: 0}
  retry_budget: {ratio: 100, floor_per_second: 1000}
  routing:
    infrastructure:
      ladder: [{retry_with_backoff: {attempts: 1}}, fallback_to_target, alert_and_degrade]
";

async fn rig() -> Rig {
    Plan::new()
        .target("broken", "m!overloaded")
        .target("whole", "m")
        .policy("careful", CAREFUL)
        .config("default_policy: careful")
        .start()
        .await
}

/// Runs the command line against the control plane of a rig.
async fn mainstay(rig: &Rig, args: &[&str]) -> Output {
    let mut args: Vec<String> = args.iter().map(|arg| (*arg).to_owned()).collect();
    args.extend(["--address".to_owned(), rig.service.control_address.to_string()]);
    run(args).await
}

async fn run(args: Vec<String>) -> Output {
    let work = move || {
        Command::new(env!("CARGO_BIN_EXE_mainstay"))
            .args(args)
            .env_remove("MAINSTAY_TOKEN")
            .env("NO_COLOR", "1")
            .output()
            .unwrap()
    };
    tokio::task::spawn_blocking(work).await.unwrap()
}

fn told(output: &Output) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    format!("{}{}", text(&output.stdout), text(&output.stderr))
}

fn json_of(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", told(output)))
}

/// A file with a document, which is gone with the value.
fn file(text: &str) -> (tempfile::TempDir, String) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("candidate.yaml");
    std::fs::write(&path, text).unwrap();
    let path = path.to_str().unwrap().to_owned();
    (dir, path)
}

#[tokio::test]
async fn files_are_validated_with_and_without_a_service() {
    let (_good, fine) = file(CAREFUL);
    let (_bad, wrong) = file("policy:\n  routing:\n    infrastructure: {action: retri}\n");
    let (_far, far) = file(
        "policy: {routing: {infrastructure: {ladder: [{fallback_to_target: {targets: [far]}}, \
         alert_and_halt]}}}",
    );
    let here = |path: &str, more: &[&str]| {
        let mut args = vec!["policy".to_owned(), "validate".to_owned(), path.to_owned()];
        args.extend(more.iter().map(|arg| (*arg).to_owned()));
        run(args)
    };
    assert_eq!(here(&fine, &[]).await.status.code(), Some(0));
    let refused = here(&wrong, &["--json"]).await;
    assert_eq!(refused.status.code(), Some(1));
    let problem = &json_of(&refused)["documents"][0]["problems"][0];
    assert_eq!((problem["line"].as_u64(), problem["column"].as_u64()), (Some(3), Some(30)));
    assert_eq!(here(&far, &[]).await.status.code(), Some(0), "no target is known here");
    assert_eq!(here("no-such-file.yaml", &[]).await.status.code(), Some(2));
    let rig = rig().await;
    let there = mainstay(&rig, &["policy", "validate", &far, "--server"]).await;
    assert_eq!(there.status.code(), Some(1));
    assert!(told(&there).contains("unknown target `far`"), "{}", told(&there));
    rig.stop().await;
    let nobody = run(["policy", "status", "--address", "127.0.0.1:9"].map(str::to_owned).to_vec());
    assert_eq!(nobody.await.status.code(), Some(3));
    assert_eq!(run(vec!["policy".into(), "get".into()]).await.status.code(), Some(2));
}

#[tokio::test]
async fn policies_are_compared_and_explained() {
    let rig = rig().await;
    let same = mainstay(&rig, &["policy", "diff", "careful", "careful@1"]).await;
    assert_eq!((same.status.code(), told(&same).as_str()), (Some(0), "no difference\n"));
    let (_dir, path) = file(&CAREFUL.replace("attempts: 1", "attempts: 3"));
    let differs = mainstay(&rig, &["policy", "diff", "careful", &path]).await;
    assert_eq!(differs.status.code(), Some(1));
    assert!(told(&differs).contains("(3 times, "), "{}", told(&differs));
    let missing = mainstay(&rig, &["policy", "diff", "carefull", &path]).await;
    assert_eq!(missing.status.code(), Some(1));
    assert!(told(&missing).contains("did you mean `careful`?"), "{}", told(&missing));
    let table = mainstay(&rig, &["policy", "explain", "careful"]).await;
    assert!(told(&table).contains("1. retry_with_backoff (once"), "{}", told(&table));
    let args = ["policy", "explain", "careful", "--failure", "rate_limited", "--target", "broken"];
    let more = ["--retry-after", "10m", "--json"];
    let explained = json_of(&mainstay(&rig, &[&args[..], &more[..]].concat()).await);
    assert_eq!(explained["action"], "fallback_to_target");
    assert_eq!(explained["next_target"], "whole");
    assert_eq!(explained["rungs"][0]["reason"], "hint_too_long");
    let target = ["--failure", "rate_limited", "--target", "brokem"];
    let wrong = mainstay(&rig, &[&["policy", "explain", "careful"][..], &target].concat()).await;
    assert!(told(&wrong).contains("did you mean `broken`?"), "{}", told(&wrong));
    let wrong = mainstay(&rig, &["policy", "explain", "careful", "--failure", "rate_limit"]).await;
    assert_eq!(wrong.status.code(), Some(1));
    assert!(told(&wrong).contains("did you mean `rate_limited`?"), "{}", told(&wrong));
    rig.stop().await;
}

#[tokio::test]
async fn pipelines_are_compared_member_by_member() {
    let rig = rig().await;
    let pipeline = |target: &str| {
        format!(
            "name: two\nsteps:\n  - {{name: say, targets: [{target}], prompt: [{{user: hello}}]}}\n"
        )
    };
    let (_first, path) = file(&pipeline("whole"));
    let put = mainstay(&rig, &["pipeline", "put", &path, "--name", "two"]).await;
    assert_eq!(put.status.code(), Some(0), "{}", told(&put));
    let same = mainstay(&rig, &["pipeline", "diff", "two", "two@1"]).await;
    assert_eq!((same.status.code(), told(&same).as_str()), (Some(0), "no difference\n"));
    let (_second, path) = file(&pipeline("broken"));
    let differs = mainstay(&rig, &["pipeline", "diff", "two", &path]).await;
    let expected = "steps.say.targets: [\"whole\"] -> [\"broken\"]\n";
    assert_eq!((differs.status.code(), told(&differs).as_str()), (Some(1), expected));
    let as_json = json_of(&mainstay(&rig, &["pipeline", "diff", "two", &path, "--json"]).await);
    assert_eq!(as_json["differences"][0]["path"], "steps.say.targets");
    let missing = mainstay(&rig, &["pipeline", "diff", "twoo", &path]).await;
    assert_eq!(missing.status.code(), Some(1), "{}", told(&missing));
    rig.stop().await;
}

/// Traffic of the engine's own making, decided again: under the policy that was active every
/// decision is the recorded one, in full; under another the report says what would have changed.
#[tokio::test]
async fn recorded_traffic_is_replayed_and_simulated() {
    let rig = rig().await;
    for _ in 0..6 {
        rig.step(say(&["broken", "whole"], "hello")).await.unwrap();
    }
    rig.step(say(&["broken"], "alone")).await.unwrap_err();
    rig.step(say(&["whole"], "hello")).await.unwrap();
    let engine = rig.service.engine();
    let (steps, effects) = engine.recorder().recorded();
    assert_eq!((steps.len(), engine.recorder().failures()), (7, 14));
    let version = engine.documents().policy("careful").unwrap();
    let policy: &Policy = &version.policy;
    for step in &steps {
        for failure in &step.failures {
            let again = step.decide(policy, failure, &failure.history);
            assert_eq!(again, failure.decision);
            assert!(failure.aftermath.is_some());
        }
    }
    let replay = simulate(steps.iter().map(AsRef::as_ref), policy, Baseline::Recorded, &effects);
    assert_eq!((replay.failures, replay.unchanged), (14, 14));
    let shown = mainstay(&rig, &["policy", "simulate", "careful", "--json"]).await;
    let expected = json!({
        "failures": 14, "unchanged": 14, "not_reached": 0, "unknown": 0, "changes": []
    });
    assert_eq!(json_of(&shown), expected);
    let calls = rig.calls("m");
    let (_dir, path) = file(
        "policy: {routing: {infrastructure: {ladder: [fallback_to_target, alert_and_degrade]}}}",
    );
    let changed = json_of(&mainstay(&rig, &["policy", "simulate", &path, "--json"]).await);
    assert_eq!(rig.calls("m"), calls, "a simulation calls nobody");
    assert_eq!(changed["not_reached"], 7);
    let changes = changed["changes"].as_array().unwrap();
    let recovered = changes.iter().find(|change| change["after"] == "fallback_to_target").unwrap();
    assert_eq!((recovered["count"].as_u64(), recovered["unknown"].as_u64()), (Some(6), Some(0)));
    // One call less for each: the retry that did not help.
    assert_eq!(recovered["calls"]["value"].as_f64(), Some(-6.0));
    let table = told(&mainstay(&rig, &["policy", "simulate", &path]).await);
    assert!(table.contains("retry_with_backoff → fallback_to_target"), "{table}");
    rig.stop().await;
}

/// The schemas for editors are those of the types that read documents.
#[test]
fn the_schemas_in_config_are_those_of_the_types() {
    let check = |name: &str, schema: &Value| {
        let path = format!("{}/config/{name}.schema.json", env!("CARGO_MANIFEST_DIR"));
        let expected = serde_json::to_string_pretty(schema).unwrap() + "\n";
        let found = std::fs::read_to_string(&path).unwrap_or_default();
        assert_eq!(found, expected, "write it with: mainstay {name} schema > {path}");
        // Nobody is shown a regular expression.
        let (patterns, words) = ("\"pattern\":", "\"patternErrorMessage\":");
        assert_eq!(found.matches(patterns).count(), found.matches(words).count(), "{name}");
    };
    check("policy", mainstay::policy::document::SHAPE.schema());
    check("pipeline", mainstay::pipeline::SHAPE.schema());
}
