//! Versions: pushed, listed, read, taken up again.

use mainstay::api::pb;
use sha2::{Digest as _, Sha256};

use super::{active, kept, pushing, retrying, scaled, told};
use crate::support::{Plan, Refused, run_of, say};

fn hash(text: &str) -> String {
    Sha256::digest(text).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[tokio::test]
async fn a_push_serves_at_once_and_every_version_can_be_read_again() {
    let rig = Plan::new().target("main", "m").start().await;
    let first = rig
        .push(pb::PushPolicyRequest {
            expected_version: Some(0),
            comment: "a start".into(),
            ..pushing("careful", &retrying(1))
        })
        .await
        .unwrap();
    assert_eq!((first.version, first.owner()), (1, pb::DocumentOwner::Api));
    assert_eq!((first.author.as_str(), first.comment.as_str()), ("anonymous", "a start"));
    assert_eq!(first.content_hash, hash(&retrying(1)));
    let again = rig.push(pushing("careful", &retrying(1))).await.unwrap();
    assert_eq!(again, first, "the same content is the same version");
    let second =
        pb::PushPolicyRequest { expected_version: Some(1), ..pushing("careful", &retrying(2)) };
    assert_eq!(rig.push(second).await.unwrap().version, 2);
    let request = pb::RunStepRequest {
        options: Some(pb::RunOptions { policy: "careful".into(), ..Default::default() }),
        ..crate::support::inline(say(&["main"], "hello"))
    };
    let run = rig.client().run_step(request).await.unwrap().into_inner();
    assert_eq!(run.policy.unwrap().version, 2);
    let stale =
        pb::PushPolicyRequest { expected_version: Some(1), ..pushing("careful", &retrying(3)) };
    let stale = rig.push(stale).await.unwrap_err();
    assert_eq!(told(&stale), "Aborted STALE_VERSION");
    assert!(
        stale.status.message().contains("the active version is 2"),
        "{}",
        stale.status.message()
    );

    let status = rig.policy("careful").await;
    assert_eq!((active(&status), status.text), (2, retrying(2)));
    let old = rig.policy_version("careful", 1).await.unwrap();
    assert_eq!((active(&old), old.text, old.version.unwrap().version), (2, retrying(1), 1));
    let back = pb::RollbackPolicyRequest {
        name: "careful".into(),
        version: 1,
        expected_version: Some(2),
        comment: "it was better".into(),
        allow_outage: false,
    };
    let back = rig.policies().rollback_policy(back).await.unwrap().into_inner().version.unwrap();
    assert_eq!((back.version, back.rollback_of, back.content_hash), (3, 1, hash(&retrying(1))));
    assert_eq!(rig.policy("careful").await.text, retrying(1));
    rig.stop().await;
}

#[tokio::test]
async fn a_dry_run_checks_everything_and_stores_nothing() {
    let rig = Plan::new().target("main", "m").start().await;
    let dry = |text: &str| pb::PushPolicyRequest { dry_run: true, ..pushing("careful", text) };
    let response = rig.policies().push_policy(dry(&retrying(1))).await.unwrap().into_inner();
    assert_eq!((response.version.unwrap().version, response.replicas_applied), (1, 0));
    assert_eq!(
        told(&rig.push(dry("policy: {nonsense: 1}")).await.unwrap_err()),
        "InvalidArgument DOCUMENT_INVALID"
    );
    let missing = rig.policy_version("careful", 0).await.unwrap_err();
    assert_eq!(told(&missing.into()), "NotFound POLICY_NOT_FOUND");
    rig.stop().await;
}

#[tokio::test]
async fn lists_come_in_pages() {
    let rig =
        Plan::new().target("main", "m").config("limits: {changes_per_second: 1000}").start().await;
    for name in ["a", "b", "c"] {
        for attempts in 1..=3 {
            rig.push(pushing(name, &retrying(attempts))).await.unwrap();
        }
    }
    let mut names = Vec::new();
    let mut token = String::new();
    loop {
        let request = pb::ListPoliciesRequest { page_size: 2, page_token: token };
        let page = rig.policies().list_policies(request).await.unwrap().into_inner();
        names.extend(page.policies.into_iter().map(|p| (p.name, p.version, p.owner)));
        token = page.next_page_token;
        if token.is_empty() {
            break;
        }
    }
    let api = i32::from(pb::DocumentOwner::Api);
    let wanted = [("a", 3, api), ("b", 3, api), ("c", 3, api), ("default", 1, 3)];
    assert_eq!(names, wanted.map(|(name, version, owner)| (name.to_owned(), version, owner)));
    let versions = |page_size, token: &str| pb::ListPolicyVersionsRequest {
        name: "b".into(),
        page_size,
        page_token: token.into(),
    };
    let page = rig.policies().list_policy_versions(versions(2, "")).await.unwrap().into_inner();
    let numbers: Vec<u64> = page.versions.iter().map(|v| v.version).collect();
    assert_eq!((numbers, page.next_page_token.as_str()), (vec![3, 2], "2"));
    let rest = rig.policies().list_policy_versions(versions(2, "2")).await.unwrap().into_inner();
    assert_eq!((rest.versions.len(), rest.next_page_token.as_str()), (1, ""));
    let bad = rig.policies().list_policy_versions(versions(2, "x")).await.unwrap_err();
    assert_eq!(told(&bad.into()), "InvalidArgument INVALID_REQUEST");
    rig.stop().await;
}

/// P07, scaled down to what a test may take: a hundred races of eight, or `MAINSTAY_RACES`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_pushes_on_the_same_base_one_wins() {
    let rig = Plan::new()
        .target("main", "m")
        .config("limits: {changes_per_second: 100000}")
        .start()
        .await;
    rig.push(pushing("raced", &retrying(100))).await.unwrap();
    for round in 1..=scaled("MAINSTAY_RACES", 100) {
        let races = (0..8_u32).map(|racer| {
            let text = format!("# {round} {racer}\n{}", retrying(1));
            let request =
                pb::PushPolicyRequest { expected_version: Some(round), ..pushing("raced", &text) };
            let mut client = rig.policies();
            async move { client.push_policy(request).await.map_err(Refused::from) }
        });
        let ended = futures_util::future::join_all(races).await;
        let won: Vec<u64> = ended
            .iter()
            .filter_map(|end| end.as_ref().ok())
            .map(|won| won.get_ref().version.as_ref().unwrap().version)
            .collect();
        assert_eq!(won, [round + 1]);
        for lost in ended.iter().filter_map(|end| end.as_ref().err()) {
            assert_eq!(told(lost), "Aborted STALE_VERSION");
        }
    }
    rig.stop().await;
}

#[tokio::test]
async fn pipelines_are_documents_of_the_same_kind() {
    let rig = kept().start().await;
    let put = |text: &str| pb::PutPipelineRequest {
        name: "two".into(),
        text: text.into(),
        ..pb::PutPipelineRequest::default()
    };
    let pipeline = |words: &str, policy: &str| {
        format!("name: two\n{policy}steps:\n  - name: say\n    prompt:\n      - user: {words}\n")
    };
    let named = pipeline("hello", "policy: careful\n");
    let refused = Refused::from(rig.policies().put_pipeline(put(&named)).await.unwrap_err());
    assert_eq!(told(&refused), "FailedPrecondition DOCUMENT_UNMET", "{:?}", refused.refusal);
    rig.push(pushing("careful", &retrying(1))).await.unwrap();
    let first = rig.policies().put_pipeline(put(&named)).await.unwrap().into_inner();
    assert_eq!(first.version.unwrap().version, 1);
    let other = pipeline("goodbye", "policy: careful\n").replacen("two", "three", 1);
    let stored = rig.policies().put_pipeline(put(&other)).await.unwrap().into_inner();
    assert_eq!(stored.warnings[0].message, "is `three` here; it is stored as `two`");
    let run = rig.pipeline("two", serde_json::json!({})).await.unwrap();
    assert_eq!((run.pipeline_version, run.policy.unwrap().name.as_str()), (2, "careful"));
    let rig = rig.restart().await;
    let back = pb::RollbackPipelineRequest { name: "two".into(), version: 1, ..Default::default() };
    let back = rig.policies().rollback_pipeline(back).await.unwrap().into_inner().version.unwrap();
    assert_eq!((back.version, back.rollback_of), (3, 1));
    let request = pb::GetPipelineRequest { name: "two".into(), version: 0 };
    let status = rig.policies().get_pipeline(request).await.unwrap().into_inner().status.unwrap();
    assert_eq!(status.text, named);
    let request = pb::ListPipelineVersionsRequest { name: "two".into(), ..Default::default() };
    let versions = rig.policies().list_pipeline_versions(request).await.unwrap().into_inner();
    assert_eq!(versions.versions.len(), 3);
    let pipelines = rig.policies().list_pipelines(pb::ListPipelinesRequest::default()).await;
    assert_eq!(pipelines.unwrap().into_inner().pipelines.len(), 1);
    let run = rig.client().run_pipeline(run_of("two", &serde_json::json!({}))).await.unwrap();
    assert_eq!(run.into_inner().run.unwrap().pipeline_version, 3);
    rig.stop().await;
}
