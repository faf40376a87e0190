//! Bad input is one clear error that lists every fault.

use std::process::Command;

use mainstay::api::pb;
use serde_json::json;
use tonic::Code;

use super::support::{Plan, Refused, Rig, inline, message, run_of, say};

async fn rig() -> Rig {
    let text = r#"
name: greet
input_schema: { type: object, required: [name], properties: { name: { type: string } } }
steps:
  - { name: greet, prompt: "Hello {{ input.name }} of {{ input.town }}" }
"#;
    Plan::new().target("good", "good").pipeline("greet", text).start().await
}

/// Holds for every answer that is no success.
fn well_formed(refused: &Refused) {
    let status = &refused.status;
    assert!(
        status.message().len() <= 256 && status.message().bytes().all(|b| (32..127).contains(&b))
    );
    assert_eq!(status.metadata().get("grpc-retry-pushback-ms").unwrap(), "-1", "{status:?}");
    assert!(!refused.refusal.reason.is_empty(), "{status:?}");
}

fn fields(refused: &Refused) -> Vec<&str> {
    refused.refusal.faults.iter().map(|(field, _)| field.as_str()).collect()
}

#[tokio::test]
async fn all_faults_of_a_request_at_once() {
    let rig = rig().await;
    let mut spec = say(&["goood"], "Hello {{ input.name ");
    spec.name = "No Spaces".into();
    let mut request = inline(spec);
    request.input_json = "not json".into();
    request.options = Some(pb::RunOptions { run_id: "a b".into(), ..Default::default() });
    let refused = Refused::from(rig.client().run_step(request).await.unwrap_err());
    well_formed(&refused);
    assert_eq!(refused.status.code(), Code::InvalidArgument);
    let fields = fields(&refused);
    for field in ["input_json", "options.run_id", "inline/name"] {
        assert!(fields.contains(&field), "{field} in {fields:?}");
    }
    assert!(fields.iter().any(|field| field.starts_with("inline/prompt")), "{fields:?}");
    assert!(!format!("{:?}", refused.status).contains("not json"), "no input in an error");
    rig.stop().await;
}

#[tokio::test]
async fn what_is_not_set_or_not_known() {
    let rig = rig().await;
    let run = async |request: pb::RunStepRequest| {
        let refused = Refused::from(rig.client().run_step(request).await.unwrap_err());
        well_formed(&refused);
        refused
    };
    let nothing = run(pb::RunStepRequest::default()).await;
    assert_eq!((nothing.status.code(), fields(&nothing)), (Code::InvalidArgument, vec!["step"]));
    let mut spec = say(&["good"], "Hello");
    spec.messages.push(pb::PromptMessage { role: 99, parts: vec![pb::PromptPart { part: None }] });
    spec.messages.push(message(pb::Role::Unspecified, "x"));
    let unknown = run(inline(spec)).await;
    assert_eq!(
        fields(&unknown),
        ["inline.messages[1].parts[0]", "inline.messages[1].role", "inline.messages[2].role"]
    );
    let target = run(inline(say(&["goood"], "Hello"))).await;
    assert_eq!(fields(&target), ["inline.targets"]);
    assert!(target.status.message().contains("did you mean `good`"), "{}", target.status.message());
    let mut schema = super::support::ask_json(&["good"], "x", &json!({"type": "nonsense"}));
    schema.max_cost_usd = -1.0;
    let schema = run(inline(schema)).await;
    assert_eq!(schema.status.code(), Code::InvalidArgument);
    rig.stop().await;
}

#[tokio::test]
async fn unknown_names_are_not_found_with_the_nearest() {
    let rig = rig().await;
    let refused = rig.pipeline("gret", json!({})).await.unwrap_err();
    well_formed(&refused);
    assert_eq!(
        (refused.status.code(), refused.refusal.reason.as_str()),
        (Code::NotFound, "PIPELINE_NOT_FOUND")
    );
    assert!(refused.status.message().contains("did you mean `greet`"));
    let step = pb::StepRef { pipeline: "greet".into(), step: "gret".into(), pipeline_version: 0 };
    let request = pb::RunStepRequest {
        step: Some(pb::run_step_request::Step::Ref(step)),
        ..Default::default()
    };
    let refused = Refused::from(rig.client().run_step(request).await.unwrap_err());
    assert_eq!(refused.refusal.reason, "STEP_NOT_FOUND");
    let mut request = run_of("greet", &json!({"name": "Ann", "town": "Ulm"}));
    request.options = Some(pb::RunOptions { policy: "defualt".into(), ..Default::default() });
    let refused = Refused::from(rig.client().run_pipeline(request).await.unwrap_err());
    assert_eq!(refused.refusal.reason, "POLICY_NOT_FOUND");
    assert!(refused.status.message().contains("did you mean `default`"));
    let run = pb::GetRunRequest { run_id: "none".into() };
    let refused = Refused::from(rig.client().get_run(run).await.unwrap_err());
    assert_eq!(refused.refusal.reason, "RUN_NOT_FOUND");
    rig.stop().await;
}

#[tokio::test]
async fn a_missing_variable_is_named_and_an_input_is_held_against_its_schema() {
    let rig = rig().await;
    let refused = rig.pipeline("greet", json!({"name": "Ann"})).await.unwrap_err();
    well_formed(&refused);
    assert_eq!(refused.verdict(), "FailedPrecondition PIPELINE_LOGIC/missing_input");
    assert!(refused.status.message().contains("town"), "{}", refused.status.message());
    let refused = rig.pipeline("greet", json!({"name": 7})).await.unwrap_err();
    assert_eq!(
        (refused.status.code(), fields(&refused)),
        (Code::InvalidArgument, vec!["input_json/name"])
    );
    assert_eq!(rig.calls("good"), 0);
    rig.stop().await;
}

#[tokio::test]
async fn an_oversized_message_is_refused() {
    let rig = rig().await;
    let refused = rig.step(say(&["good"], &"x".repeat(5 << 20))).await.unwrap_err();
    assert_eq!(refused.status.code(), Code::ResourceExhausted);
    rig.stop().await;
}

#[test]
fn a_broken_configuration_stops_the_start_with_the_place() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("mainstay.yaml");
    std::fs::write(&path, "targets:\n  a: {dialect: opnai, model: m}\nlimts: {}\n").unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_mainstay"))
        .args(["serve", "--data-address", "127.0.0.1:0", "--config"])
        .arg(&path)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(
        told.contains("mainstay.yaml:2:16") && told.contains("did you mean `openai`?"),
        "{told}"
    );
    assert!(
        told.contains("mainstay.yaml:3:1") && told.contains("did you mean `limits`?"),
        "{told}"
    );
    assert!(!told.contains("serves"), "{told}");
}
