//! Unusable outputs on their way: each fault has its cause, its recovery and a truthful result.

use mainstay::api::pb;
use serde_json::{Value, json};

use super::support::{Plan, Rig, story};

const EXAMPLE: &str = include_str!("../../config/pipelines/entity-report.yaml");
const DOCUMENT: &str = include_str!("../../examples/documents/incident.txt");

/// The shipped pipeline and its simulated answers; the first target has this fault, in every step.
async fn example(fault: &str, pipeline: &str) -> Rig {
    Plan::new()
        .script(include_str!("../../config/simulate/rehearsal.yaml"))
        .target("primary", &format!("sim-primary!{fault}"))
        .target("secondary", "sim-secondary!none")
        .pipeline("entity-report", pipeline)
        .start()
        .await
}

fn step<'a>(run: &'a pb::Run, name: &str) -> &'a pb::StepResult {
    run.steps.iter().find(|step| step.step == name).unwrap()
}

/// What became of the first step of the example, and of the run.
async fn check(fault: &str, expected: &[&str], verdict: pb::OutputVerdict) -> pb::Run {
    let rig = example(fault, EXAMPLE).await;
    let run = rig.pipeline("entity-report", json!({"document": DOCUMENT})).await.unwrap();
    let extract = step(&run, "extract");
    assert_eq!(story(extract), expected, "{fault}");
    let output = extract.output.as_ref().unwrap();
    assert_eq!(output.verdict(), verdict, "{fault}");
    assert_eq!(output.changes.is_empty(), verdict == pb::OutputVerdict::Clean, "{fault}");
    assert_eq!(extract.state(), pb::RunState::Succeeded, "{fault}");
    let report: Value = serde_json::from_str(&run.output_json).unwrap();
    assert!(report["entities"].as_array().unwrap().len() > 3, "{fault}: {report}");
    rig.stop().await;
    run
}

const REPAIRED: &[&str] = &["primary malformed_json -> repair_output"];

#[tokio::test]
async fn wrapped_answers_of_the_example_are_repaired() {
    use pb::OutputVerdict::Repaired;
    for fault in ["fence", "prose", "think", "fence+prose", "duplicate"] {
        check(fault, REPAIRED, Repaired).await;
    }
}

#[tokio::test]
async fn broken_json_of_the_example_is_repaired_where_it_has_one_reading() {
    use pb::OutputVerdict::{Clean, Repaired};
    for kind in ["trailing_comma", "single_quotes", "comment", "raw_newline", "bare_keys"] {
        check(&format!("broken_json(kind={kind})"), REPAIRED, Repaired).await;
    }
    // A missing brace is what a cut answer looks like: asked once more, then elsewhere.
    let run = check(
        "broken_json(kind=missing_brace)",
        &[
            "primary malformed_json -> reprompt_with_errors",
            "primary malformed_json -> fallback_to_target",
            "secondary ok",
        ],
        Clean,
    )
    .await;
    let first = &step(&run, "extract").attempts[0];
    let check = first.check.as_ref().unwrap();
    assert_eq!(check.verdict(), pb::OutputVerdict::Lossy);
    assert!(check.changes.iter().any(|change| change.lossy), "{check:?}");
    let skipped = &first.decision.as_ref().unwrap().skipped[0];
    assert_eq!(skipped.reason, "repair_is_lossy");
}

#[tokio::test]
async fn other_unusable_answers_of_the_example_go_on_as_the_policy_says() {
    use pb::OutputVerdict::{Clean, Repaired};
    let other =
        |cause: &str| vec![format!("primary {cause} -> fallback_to_target"), "secondary ok".into()];
    for (fault, cause) in [("truncated_output", "truncated_output"), ("refusal", "refusal")] {
        let told = other(cause);
        let told: Vec<&str> = told.iter().map(String::as_str).collect();
        let run = check(fault, &told, Clean).await;
        let extract = step(&run, "extract");
        let (lost, wasted) = (&extract.attempts[0], extract.wasted.unwrap());
        assert_eq!(lost.usage.unwrap().output_tokens, wasted.output_tokens, "{fault}");
        assert!(fault == "refusal" || wasted.output_tokens > 0, "{fault}");
    }
    check(
        "empty",
        &[
            "primary empty_output -> retry_with_backoff",
            "primary empty_output -> fallback_to_target",
            "secondary ok",
        ],
        Clean,
    )
    .await;
    let coerced = "schema_violation(kind=enum_case)";
    check(coerced, &["primary schema_mismatch -> repair_output"], Repaired).await;
    let dropped = "schema_violation(kind=drop_required)";
    check(
        dropped,
        &[
            "primary schema_mismatch -> reprompt_with_errors",
            "primary schema_mismatch -> fallback_to_target",
            "secondary ok",
        ],
        Clean,
    )
    .await;
}

#[tokio::test]
async fn a_filtered_answer_of_the_example_is_the_callers_to_change() {
    let rig = example("content_filter(kind=output)", EXAMPLE).await;
    let refused = rig.pipeline("entity-report", json!({"document": DOCUMENT})).await.unwrap_err();
    assert_eq!(refused.verdict(), "InvalidArgument INPUT_CONSTRAINT/content_filtered");
    assert_eq!(refused.action(), "reject_and_fix");
    rig.stop().await;
}

/// The example with a check on its summary.
fn checked(check: &str) -> String {
    EXAMPLE.replacen("\noutput:\n", &format!("    {check}\n\noutput:\n"), 1)
}

#[tokio::test]
async fn a_broken_rule_halts_the_example_and_a_warning_stands_beside_its_output() {
    let broken = checked("rules: [{check: size(output.actions) > 99, message: too few actions}]");
    for (fault, told) in [
        ("none", "primary rule_violation -> alert_and_halt"),
        // What a repair gives is held against the rules as well.
        ("fence", "primary malformed_json -> repair_output"),
    ] {
        let rig = example(fault, &broken).await;
        let refused =
            rig.pipeline("entity-report", json!({"document": DOCUMENT})).await.unwrap_err();
        assert_eq!(refused.verdict(), "Aborted OUTPUT_SEMANTIC/rule_violation", "{fault}");
        assert_eq!(refused.action(), "alert_and_halt");
        let failure = refused.refusal.failure.clone().unwrap();
        assert_eq!(failure.violations[0].path, "/actions");
        assert_eq!(failure.violations[0].message, "too few actions");
        let run = rig.get(&failure.run_id).await;
        let summarise = step(&run, "summarise");
        assert_eq!(story(summarise), [told], "{fault}");
        let further = &summarise.attempts[0].further;
        assert_eq!(further.len(), usize::from(fault == "fence"));
        rig.stop().await;
    }
    let warned = broken.replace("too few actions", "too few actions, severity: warning");
    let rig = example("none", &warned).await;
    let run = rig.pipeline("entity-report", json!({"document": DOCUMENT})).await.unwrap();
    assert_eq!(run.state(), pb::RunState::Succeeded);
    let warnings = &step(&run, "summarise").output.as_ref().unwrap().warnings;
    assert_eq!((warnings[0].path.as_str(), warnings.len()), ("/actions", 1));
    rig.stop().await;
}

#[tokio::test]
async fn low_confidence_of_the_example_is_drawn_again_and_then_asked_elsewhere() {
    let unsure =
        checked("confidence: {expression: 'double(size(output.actions)) / 100.0', minimum: 0.5}");
    let rig = example("none", &unsure).await;
    let refused = rig.pipeline("entity-report", json!({"document": DOCUMENT})).await.unwrap_err();
    assert_eq!(refused.verdict(), "Aborted OUTPUT_SEMANTIC/low_confidence");
    let run = rig.get(&refused.refusal.failure.as_ref().unwrap().run_id).await;
    assert_eq!(
        story(step(&run, "summarise")),
        [
            "primary low_confidence -> retry_with_backoff",
            "primary low_confidence -> fallback_to_target",
            "secondary low_confidence -> retry_with_backoff",
            "secondary low_confidence -> alert_and_degrade",
        ]
    );
    rig.stop().await;
}

/// The README shows these lines.
#[tokio::test]
async fn the_command_line_tells_each_finding_and_what_was_decided() {
    let tasks = mainstay::tasks::Tasks::new();
    let script = include_str!("../../examples/outputs/provider.yaml");
    let script = mainstay::simulate::Script::parse(script, "provider.yaml").unwrap();
    let any = std::net::SocketAddr::from((std::net::Ipv4Addr::LOCALHOST, 0));
    let simulator = mainstay::simulate::Simulator::bind(script, any, &tasks).await.unwrap();
    let config = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/outputs/mainstay.yaml");
    let run = |more: &'static [&'static str]| {
        let address = simulator.addr().to_string();
        tokio::task::spawn_blocking(move || {
            std::process::Command::new(env!("CARGO_BIN_EXE_mainstay"))
                .args(["run", "invoice", "--input", r#"{"document": "x"}"#, "--config", config])
                .args(more)
                .env("SIMULATOR", address)
                .env_remove("MAINSTAY_ADDRESS")
                .output()
                .unwrap()
        })
    };
    let output = run(&[]).await.unwrap();
    let told = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(0), "{told}");
    let line = "read: attempt 1 on clerk: OUTPUT_SEMANTIC/malformed_json → repair_output, then \
                OUTPUT_SEMANTIC/rule_violation → reprompt_with_errors";
    assert!(told.contains(line), "{told}");
    let output = run(&["--json", "-q"]).await.unwrap();
    let run: Value = serde_json::from_slice(&output.stdout).unwrap();
    let first = &run["steps"][0]["attempts"][0];
    assert_eq!(first["check"]["verdict"], "repaired");
    assert_eq!(first["check"]["changes"][0]["lossy"], false);
    assert_eq!(
        first["further"][0]["violations"][0]["message"],
        "net and VAT do not make the gross sum"
    );
    assert_eq!(run["steps"][0]["output"]["verdict"], "clean");
    simulator.stop().await;
    tasks.stop();
}

/// The README shows this run.
#[tokio::test]
async fn one_broken_answer_on_its_way_through() {
    let rig = Plan::new()
        .script(include_str!("../../examples/outputs/provider.yaml"))
        .target("clerk", "clerk")
        .pipeline("invoice", include_str!("../../examples/outputs/pipelines/invoice.yaml"))
        .policy("invoices", include_str!("../../examples/outputs/policies/invoices.yaml"))
        .start()
        .await;
    let run = rig.pipeline("invoice", json!({"document": "An invoice."})).await.unwrap();
    let read = step(&run, "read");
    assert_eq!(story(read), ["clerk malformed_json -> repair_output", "clerk ok"]);
    let first = &read.attempts[0];
    let changes = &first.check.as_ref().unwrap().changes;
    let changes: Vec<String> =
        changes.iter().map(|change| format!("{}@{}", change.kind, change.place)).collect();
    insta::assert_snapshot!(changes.join("\n"));
    let found: Vec<_> = first
        .further
        .iter()
        .map(|finding| {
            let action = super::support::action(finding.decision.as_ref().unwrap().action());
            (finding.failure.as_ref().unwrap().cause.as_str(), action)
        })
        .collect();
    assert_eq!(found, [("rule_violation", "reprompt_with_errors".to_owned())]);
    assert_eq!(serde_json::from_str::<Value>(&run.output_json).unwrap()["gross"], 1190);
    assert_eq!(read.output.as_ref().unwrap().verdict(), pb::OutputVerdict::Clean);
    rig.stop().await;
}
