//! Documents that are taken out of service, handed over, or asked for in an older version.

use mainstay::api::pb;
use tokio_stream::StreamExt as _;

use super::{active, kept, pushing, retrying, told};
use crate::support::{Plan, Refused, Rig, run_of};

fn deleting(name: &str) -> pb::DeletePolicyRequest {
    pb::DeletePolicyRequest { name: name.to_owned(), ..Default::default() }
}

async fn refused(rig: &Rig, request: pb::DeletePolicyRequest) -> String {
    told(&Refused::from(rig.policies().delete_policy(request).await.unwrap_err()))
}

fn pipeline(words: &str, policy: &str) -> pb::PutPipelineRequest {
    let text = format!(
        "name: two\npolicy: {policy}\nsteps:\n  - name: say\n    prompt:\n      - user: {words}\n"
    );
    pb::PutPipelineRequest { name: "two".into(), text, ..Default::default() }
}

#[tokio::test]
async fn a_deleted_policy_serves_no_more_and_its_numbers_are_not_given_again() {
    let rig = kept().policy("filed", &retrying(1)).start().await;
    for attempts in 1..=2 {
        rig.push(pushing("careful", &retrying(attempts))).await.unwrap();
    }
    rig.policies().put_pipeline(pipeline("hello", "careful")).await.unwrap();
    assert_eq!(refused(&rig, deleting("careful")).await, "FailedPrecondition DOCUMENT_IN_USE");
    assert_eq!(refused(&rig, deleting("filed")).await, "FailedPrecondition DOCUMENT_OWNED");
    assert_eq!(refused(&rig, deleting("default")).await, "FailedPrecondition DOCUMENT_OWNED");
    assert_eq!(refused(&rig, deleting("none")).await, "NotFound POLICY_NOT_FOUND");
    let request = pb::DeletePipelineRequest { name: "two".into(), ..Default::default() };
    rig.policies().delete_pipeline(request).await.unwrap();
    let gone = rig.pipeline("two", serde_json::json!({})).await.unwrap_err();
    assert_eq!(told(&gone), "NotFound PIPELINE_NOT_FOUND");
    let stale = pb::DeletePolicyRequest { expected_version: Some(1), ..deleting("careful") };
    assert_eq!(refused(&rig, stale).await, "Aborted STALE_VERSION");
    let watching = pb::WatchPoliciesRequest { names: vec!["careful".into()] };
    let mut watched = rig.policies().watch_policies(watching).await.unwrap().into_inner();
    assert_eq!(active(&watched.next().await.unwrap().unwrap().policies[0]), 2);
    let deleted = rig.policies().delete_policy(deleting("careful")).await.unwrap().into_inner();
    assert_eq!(deleted.version.unwrap().version, 2);
    let last = watched.next().await.unwrap().unwrap();
    assert_eq!((last.policies[0].name.as_str(), active(&last.policies[0])), ("careful", 0));

    let rig = rig.restart().await;
    let missing = rig.policy_version("careful", 0).await.unwrap_err();
    assert_eq!(told(&missing.into()), "NotFound POLICY_NOT_FOUND");
    let listed = rig.policies().list_policies(pb::ListPoliciesRequest::default()).await.unwrap();
    let names: Vec<String> = listed.into_inner().policies.into_iter().map(|v| v.name).collect();
    assert_eq!(names, ["default", "filed"]);
    let run = pb::RunPipelineRequest {
        options: Some(pb::RunOptions { policy: "careful".into(), ..Default::default() }),
        ..run_of("two", &serde_json::json!({}))
    };
    assert!(rig.client().run_pipeline(run).await.is_err());
    assert_eq!(rig.push(pushing("careful", &retrying(2))).await.unwrap().version, 3);
    rig.stop().await;
}

#[tokio::test]
async fn a_run_may_ask_for_an_older_version_of_its_pipeline() {
    let rig = Plan::new().target("main", "m").start().await;
    for words in ["hello", "goodbye"] {
        rig.policies().put_pipeline(pipeline(words, "default")).await.unwrap();
    }
    let run = async |version| {
        let request = pb::RunPipelineRequest {
            pipeline_version: version,
            ..run_of("two", &serde_json::json!({}))
        };
        rig.client().run_pipeline(request).await.map(|answer| answer.into_inner().run.unwrap())
    };
    for (asked, given, words) in
        [(0, 2, "goodbye"), (2, 2, "goodbye"), (1, 1, "hello"), (1, 1, "hello")]
    {
        let run = run(asked).await.unwrap();
        assert_eq!(run.pipeline_version, given);
        assert!(run.output_json.contains(words), "{}", run.output_json);
    }
    let missing = run(7).await.unwrap_err();
    assert!(missing.message().contains("versions 1 to 2 are kept"), "{}", missing.message());
    assert_eq!(told(&missing.into()), "NotFound VERSION_NOT_FOUND");
    let reference = |pipeline_version| {
        let reference =
            pb::StepRef { pipeline: "two".into(), step: "say".into(), pipeline_version };
        pb::RunStepRequest {
            step: Some(pb::run_step_request::Step::Ref(reference)),
            ..Default::default()
        }
    };
    let said = rig.client().run_step(reference(1)).await.unwrap().into_inner();
    assert!(said.output.unwrap().text.contains("hello"));
    rig.stop().await;
}

/// A document of the API goes over to a file that says the same, and back when the file goes.
#[tokio::test]
async fn a_file_with_what_serves_takes_a_document_over() {
    let rig = Plan::new().target("main", "m").policy("other", &retrying(1)).start().await;
    rig.push(pushing("careful", &retrying(1))).await.unwrap();
    let owner = |wanted: pb::DocumentOwner| {
        move |status: &pb::DocumentStatus| {
            status.active.as_ref().is_some_and(|active| active.owner() == wanted)
        }
    };
    rig.write("policies/careful.yaml", &retrying(1));
    let status = rig.policy_when("careful", owner(pb::DocumentOwner::File)).await;
    assert_eq!((active(&status), status.last_rejection), (1, None));
    let error = rig.push(pushing("careful", &retrying(2))).await.unwrap_err();
    assert_eq!(told(&error), "FailedPrecondition DOCUMENT_OWNED");
    rig.write("policies/careful.yaml", &retrying(3));
    rig.policy_when("careful", |status| active(status) == 2).await;
    std::fs::remove_file(rig.path("policies/careful.yaml")).unwrap();
    rig.policy_when("careful", owner(pb::DocumentOwner::Api)).await;
    assert_eq!(rig.push(pushing("careful", &retrying(2))).await.unwrap().version, 3);
    rig.stop().await;
}
