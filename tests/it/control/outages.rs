//! P20: what would stop all traffic has to be meant, whether the policy says so or operators have
//! taken every target away.

use mainstay::api::pb;
use mainstay::api::pb::operations_service_client::OperationsServiceClient;

use super::{HALTING, pushing, retrying, told};
use crate::support::{Plan, Rig};

const PIPELINE: &str = "name: two\npolicy: careful\nsteps:\n  - name: one\n    targets: [main, spare]\n    prompt: [{user: hello}]\n  - name: other\n    targets: [third]\n    prompt: [{user: hello}]\n";

/// Goes on to the step's other targets when one is taken away.
fn moving(mark: u32) -> String {
    format!("# {mark}\npolicy: {{}}\n")
}

async fn rig() -> Rig {
    Plan::new()
        .target("main", "m")
        .target("spare", "m")
        .raw_target("third", "{dialect: openai, model: m, base_url: 'http://SIM/v1'}")
        .policy("default", "policy: {}")
        .policy("first", "policy: {}")
        .config("limits: {changes_per_second: 100000}")
        .start()
        .await
}

async fn disable(rig: &Rig, name: &str, enabled: bool) -> Vec<String> {
    let mut client = OperationsServiceClient::new(rig.control.clone());
    let request =
        pb::SetTargetRequest { name: name.to_owned(), enabled, reason: "a test".to_owned() };
    client.set_target(request).await.unwrap().into_inner().warnings
}

async fn hold(rig: &Rig, target: &str, state: pb::BreakerState) -> Vec<String> {
    let mut client = OperationsServiceClient::new(rig.control.clone());
    let request = pb::SetBreakerRequest {
        target: target.to_owned(),
        state: state.into(),
        reason: String::new(),
    };
    client.set_breaker(request).await.unwrap().into_inner().warnings
}

#[tokio::test]
async fn a_policy_that_answers_nothing_has_to_be_meant() {
    let rig = rig().await;
    let error = rig.push(pushing("p", HALTING)).await.unwrap_err();
    assert_eq!(told(&error), "FailedPrecondition WOULD_STOP_ALL_TRAFFIC");
    assert!(error.status.message().starts_with("100 % of all failures"), "{error:?}");
    let meant = pb::PushPolicyRequest { allow_outage: true, ..pushing("p", HALTING) };
    assert_eq!(rig.push(meant).await.unwrap().version, 1);
    rig.push(pushing("p", &retrying(1))).await.unwrap();
    let back = |allow_outage| pb::RollbackPolicyRequest {
        name: "p".to_owned(),
        version: 1,
        allow_outage,
        ..Default::default()
    };
    let error = rig.policies().rollback_policy(back(false)).await.unwrap_err();
    assert_eq!(told(&error.into()), "FailedPrecondition WOULD_STOP_ALL_TRAFFIC");
    let back = rig.policies().rollback_policy(back(true)).await.unwrap().into_inner();
    assert_eq!(back.version.unwrap().version, 3);
    assert!(back.warnings[0].message.contains("stop all traffic"), "{:?}", back.warnings);
    rig.stop().await;
}

#[tokio::test]
async fn a_policy_whose_targets_were_all_taken_away_has_to_be_meant() {
    let rig = rig().await;
    rig.push(pushing("careful", &moving(1))).await.unwrap();
    let put = pb::PutPipelineRequest {
        name: "two".to_owned(),
        text: PIPELINE.to_owned(),
        ..Default::default()
    };
    rig.policies().put_pipeline(put).await.unwrap();

    // Some of it: told, and taken.
    assert_eq!(disable(&rig, "main", false).await, [] as [&str; 0], "others go on");
    let warned = disable(&rig, "third", false).await;
    assert_eq!(warned, ["no target is left for step other of pipeline two (third is disabled)"]);
    let request = pb::PushPolicyRequest { dry_run: true, ..pushing("careful", &moving(2)) };
    let response = rig.policies().push_policy(request).await.unwrap().into_inner();
    let warnings: Vec<&str> = response.warnings.iter().map(|one| one.message.as_str()).collect();
    assert_eq!(
        warnings,
        ["no target is left under this policy for step other of pipeline two (third is disabled)"]
    );

    // All of it, in one way and the other.
    let warned = hold(&rig, "spare", pb::BreakerState::ForcedOpen).await;
    assert_eq!(
        warned,
        [
            "no target is left for steps that name no target, step one of pipeline two (main is disabled, spare has its breaker held open, third is disabled)"
        ]
    );
    let error = rig.push(pushing("careful", &moving(3))).await.unwrap_err();
    assert_eq!(told(&error), "FailedPrecondition WOULD_STOP_ALL_TRAFFIC");
    let message = error.status.message();
    assert!(message.starts_with("100 % of all steps under it would find no target"), "{message}");
    let meant = pb::PushPolicyRequest { allow_outage: true, ..pushing("careful", &moving(3)) };
    assert_eq!(rig.push(meant).await.unwrap().version, 2);

    // A policy that answers without any of them is no outage, and so is a pipeline's own say.
    let fixed = "policy: {routing: {pipeline_logic: {ladder: [{fallback_to_template: {template: sorry}}]}}}";
    assert_eq!(rig.push(pushing("careful", fixed)).await.unwrap().version, 3);

    assert_eq!(disable(&rig, "main", true).await, [] as [&str; 0]);
    assert_eq!(hold(&rig, "spare", pb::BreakerState::Closed).await, [] as [&str; 0]);
    assert_eq!(rig.push(pushing("careful", &moving(4))).await.unwrap().version, 4);
    rig.stop().await;
}
