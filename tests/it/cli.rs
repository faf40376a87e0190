//! The command line, as a newcomer and as a script use it.

use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

const DOCUMENT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/documents/incident.txt");

pub fn mainstay(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_mainstay"))
        .args(arguments)
        .env_remove("MAINSTAY_CONFIG")
        .env_remove("MAINSTAY_ADDRESS")
        .output()
        .unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[test]
fn the_first_command_shows_the_recoveries() {
    let output = mainstay(&["run", "entity-report", "--document", DOCUMENT]);
    let told = text(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{told}");
    let value: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(value["entities"].as_array().unwrap().len(), 7);
    for line in [
        "extract: attempt 1 on sim-primary: INFRASTRUCTURE/rate_limited (HTTP 429) → retry_with_backoff after 1.",
        "OUTPUT_SEMANTIC/malformed_json → repair_output",
        "→ fallback_to_target to sim-secondary",
    ] {
        assert!(told.contains(line), "{line} in\n{told}");
    }
}

#[test]
fn json_and_exit_codes_for_scripts() {
    let output = mainstay(&["run", "entity-report", "--document", DOCUMENT, "--json", "-q"]);
    let run: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        (run["state"].as_str(), run["policy"]["name"].as_str()),
        (Some("succeeded"), Some("default"))
    );
    let input = r#"{"document": "the confidential medical record of a patient"}"#;
    let failed = mainstay(&["run", "entity-report", "--input", input, "--json", "-q"]);
    assert_eq!(failed.status.code(), Some(1));
    let told: Value = serde_json::from_slice(&failed.stdout).unwrap();
    assert_eq!(
        (told["cause"].as_str(), told["action"].as_str()),
        (Some("content_filtered"), Some("reject_and_fix"))
    );
    assert_eq!(mainstay(&["run", "entity-report", "--input", "no json"]).status.code(), Some(2));
    assert_eq!(mainstay(&["run", "no-such-pipeline"]).status.code(), Some(2));
    assert_eq!(mainstay(&["run", "summarise", "--address", "127.0.0.1:9"]).status.code(), Some(3));
    assert_eq!(mainstay(&["serve"]).status.code(), Some(2));
}

#[test]
fn check_places_every_mistake_and_explain_prints_the_table() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("policies")).unwrap();
    let policy = "policy:\n  routing:\n    infrastructure: { action: retry_with_backof }\n    output_semantic: { ladder: [accept_partial] }\n";
    std::fs::write(dir.path().join("policies/mine.yaml"), policy).unwrap();
    let config = dir.path().join("mainstay.yaml");
    std::fs::write(&config, "documents: {policies_dir: policies}\n").unwrap();
    let output = mainstay(&["check", "--json", "--config", config.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(2));
    let told: Value = serde_json::from_slice(&output.stdout).unwrap();
    let messages = told["problems"].to_string();
    assert!(messages.contains("did you mean `retry_with_backoff`?"), "{messages}");
    assert!(messages.contains("the ladder has no end"), "{messages}");
    let fine = mainstay(&["check", "--rehearse"]);
    assert_eq!(
        (fine.status.code(), text(&fine.stdout).starts_with("ok: 3 targets")),
        (Some(0), true)
    );
    let table = mainstay(&["explain", "--rehearse"]);
    insta::assert_snapshot!(text(&table.stdout));
}

#[test]
fn check_names_every_credential_that_is_not_there() {
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("mainstay.yaml");
    let target = |name: &str, credential: &str| {
        format!("  {name}: {{dialect: openai, model: m, credential: {credential}}}\n")
    };
    let targets = target("a", "{env: MAINSTAY_TEST_NOT_SET}") + &target("b", "{file: missing}");
    std::fs::write(&config, format!("targets:\n{targets}")).unwrap();
    let checked = mainstay(&["check", "--config", config.to_str().unwrap()]);
    let told = text(&checked.stderr);
    assert_eq!(checked.status.code(), Some(2));
    let not_set = "targets.a.credential: environment variable MAINSTAY_TEST_NOT_SET is not set";
    assert!(told.contains(not_set) && told.contains("mainstay.yaml:2:"), "{told}");
    assert!(told.contains("targets.b.credential: secret file "), "{told}");
}

#[test]
fn help_is_there_for_everything() {
    for command in ["serve", "run", "check", "explain", "audit", "token", "simulate"] {
        let help = mainstay(&[command, "--help"]);
        assert_eq!(help.status.code(), Some(0));
        assert!(text(&help.stdout).contains("Usage:"), "{command}");
    }
}

#[test]
fn a_made_token_is_known_by_its_entry_and_wrong_files_are_named() {
    let made = mainstay(&["token"]);
    let (token, entry) = (text(&made.stdout), text(&made.stderr));
    assert!(token.starts_with("mainstay_") && token.trim().len() == 52, "{token}");
    assert_ne!(token, text(&mainstay(&["token"]).stdout));
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("mainstay.yaml");
    let targets = "targets: {t: {dialect: openai, model: m}}\n";
    std::fs::write(&config, format!("{targets}auth: {{callers_file: callers.yaml}}\n")).unwrap();
    let check = |caller: &str| {
        let callers = format!("callers: [{{name: a, roles: [runner], {caller}}}]\n");
        std::fs::write(dir.path().join("callers.yaml"), callers).unwrap();
        mainstay(&["check", "--config", config.to_str().unwrap()])
    };
    assert_eq!(check(entry.trim()).status.code(), Some(0));
    // A token where its digest belongs is a mistake that the report does not repeat.
    let wrong = check(&format!("tokens: [{{sha256: {}}}]", token.trim()));
    let told = text(&wrong.stderr);
    assert_eq!(wrong.status.code(), Some(2));
    assert!(told.contains("callers[0].tokens[0]: `sha256` is not 64"), "{told}");
    assert!(!told.contains(token.trim()), "{told}");
}

/// Killed when the test ends, however it ends.
struct Served(Child);

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_service_serves_and_drains_on_sigterm() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("address");
    let child = Command::new(env!("CARGO_BIN_EXE_mainstay"))
        .args([
            "serve",
            "--rehearse",
            "--data-address",
            "127.0.0.1:0",
            "--control-address",
            "127.0.0.1:0",
        ])
        .arg("--address-file")
        .arg(&file)
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut served = Served(child);
    let started = Instant::now();
    let address = loop {
        if let Ok(address) = std::fs::read_to_string(&file) {
            break address.trim().to_owned();
        }
        assert!(started.elapsed() < Duration::from_secs(20), "it does not serve");
        std::thread::sleep(Duration::from_millis(10));
    };
    let output =
        mainstay(&["run", "summarise", "--document", DOCUMENT, "-q", "--address", &address]);
    assert_eq!((output.status.code(), output.stdout.is_empty()), (Some(0), false));
    let pid = served.0.id().to_string();
    assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    let ended = loop {
        if let Some(status) = served.0.try_wait().unwrap() {
            break status;
        }
        assert!(started.elapsed() < Duration::from_secs(40), "it does not end");
        std::thread::sleep(Duration::from_millis(10));
    };
    assert_eq!(ended.code(), Some(0));
}
