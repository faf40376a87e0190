//! Documents of files, and secrets of files.

use std::time::Duration;

use mainstay::api::pb;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::{active, kept, pushing, retrying, told};
use crate::support::{Plan, say};

/// P13: a broken file takes nothing out of service, says so, and heals by itself.
#[tokio::test]
async fn a_broken_file_keeps_the_last_good_version_and_heals_when_it_is_mended() {
    let rig = Plan::new().target("main", "m").policy("careful", &retrying(1)).start().await;
    let status = rig.policy("careful").await;
    assert_eq!((active(&status), status.active.unwrap().owner()), (1, pb::DocumentOwner::File));
    rig.write("policies/careful.yaml", &retrying(2));
    rig.policy_when("careful", |status| active(status) == 2).await;
    rig.write("policies/careful.yaml", "policy: {routing: {infrastructure: {action: retri}}}");
    let status = rig.policy_when("careful", |status| status.last_rejection.is_some()).await;
    assert_eq!((active(&status), status.text), (2, retrying(2)));
    let rejection = status.last_rejection.unwrap();
    assert_eq!((rejection.owner(), rejection.problems[0].line), (pb::DocumentOwner::File, 1));
    let alerts = rig.standing_alerts().await;
    assert!(alerts.iter().any(|alert| alert.contains("careful.yaml is refused")), "{alerts:?}");
    assert!(rig.step(say(&["main"], "hello")).await.is_ok());
    rig.write("policies/careful.yaml", &retrying(3));
    let status = rig.policy_when("careful", |status| active(status) == 3).await;
    assert_eq!((status.last_rejection, rig.standing_alerts().await), (None, vec![]));
    // Back to what serves after a mistake is no new version.
    rig.write("policies/careful.yaml", "policy: 7");
    rig.policy_when("careful", |status| status.last_rejection.is_some()).await;
    rig.write("policies/careful.yaml", &retrying(3));
    let status = rig.policy_when("careful", |status| status.last_rejection.is_none()).await;
    assert_eq!((active(&status), rig.standing_alerts().await), (3, vec![]));
    rig.stop().await;
}

/// P14: what was refused is not what serves after a restart.
#[tokio::test]
async fn after_a_restart_over_a_broken_file_the_last_good_version_serves() {
    let rig = kept().policy("careful", &retrying(1)).start().await;
    rig.write("policies/careful.yaml", &retrying(2));
    rig.policy_when("careful", |status| active(status) == 2).await;
    rig.write("policies/careful.yaml", "policy: [");
    rig.policy_when("careful", |status| status.last_rejection.is_some()).await;
    let rig = rig.restart().await;
    let status = rig.policy("careful").await;
    assert_eq!((active(&status), status.text), (2, retrying(2)), "byte for byte");
    assert!(status.last_rejection.is_some());
    let alerts = rig.standing_alerts().await;
    assert!(alerts.iter().any(|alert| alert.contains("careful.yaml is refused")), "{alerts:?}");
    rig.write("policies/careful.yaml", &retrying(4));
    let status = rig.policy_when("careful", |status| active(status) == 3).await;
    assert_eq!(status.text, retrying(4));
    rig.stop().await;
}

#[tokio::test]
async fn without_a_last_good_version_a_broken_file_stops_the_start() {
    let rig = Plan::new().target("main", "m").policy("careful", &retrying(1)).start().await;
    rig.write("policies/careful.yaml", "policy: {nonsense: 1}");
    let why = rig.refuses_to_restart().await;
    assert!(why.contains("unknown key `nonsense`"), "{why}");
}

/// P15.
#[tokio::test]
async fn a_document_has_one_owner_and_the_loser_is_refused_and_shown() {
    let rig = Plan::new().target("main", "m").policy("filed", &retrying(1)).start().await;
    let error = rig.push(pushing("filed", &retrying(2))).await.unwrap_err();
    assert_eq!(told(&error), "FailedPrecondition DOCUMENT_OWNED");
    assert!(error.status.message().contains("filed.yaml"), "{}", error.status.message());
    let status = rig.policy("filed").await;
    assert_eq!((active(&status), status.text), (1, retrying(1)));
    let rejection = status.last_rejection.unwrap();
    assert_eq!(rejection.owner(), pb::DocumentOwner::Api);
    rig.push(pushing("pushed", &retrying(1))).await.unwrap();
    rig.write("policies/pushed.yaml", &retrying(2));
    let status = rig.policy_when("pushed", |status| status.last_rejection.is_some()).await;
    assert_eq!((active(&status), status.active.unwrap().owner()), (1, pb::DocumentOwner::Api));
    let rejection = status.last_rejection.unwrap();
    assert_eq!(rejection.owner(), pb::DocumentOwner::File);
    assert!(rejection.problems[0].message.contains("belongs to the API"));
    // The file gives way, and with it the alert.
    std::fs::remove_file(rig.path("policies/pushed.yaml")).unwrap();
    rig.push(pushing("pushed", &retrying(3))).await.unwrap();
    rig.stop().await;
}

#[tokio::test]
async fn a_file_that_goes_away_takes_nothing_out_of_service() {
    let rig = Plan::new().target("main", "m").policy("careful", &retrying(1)).start().await;
    std::fs::remove_file(rig.path("policies/careful.yaml")).unwrap();
    let api = |status: &pb::DocumentStatus| {
        status.active.as_ref().is_some_and(|active| active.owner() == pb::DocumentOwner::Api)
    };
    let status = rig.policy_when("careful", api).await;
    assert_eq!((active(&status), status.text.clone()), (1, retrying(1)));
    rig.write("policies/careful.yaml", &retrying(1));
    let status = rig.policy_when("careful", |status| !api(status)).await;
    assert_eq!(active(&status), 1, "the same file is the same version");
    rig.stop().await;
}

#[tokio::test]
async fn a_file_replaces_what_is_built_in_and_pipelines_wait_for_their_policy() {
    let rig = Plan::new().target("main", "m").start().await;
    rig.write("policies/default.yaml", &retrying(1));
    let status = rig.policy_when("default", |status| active(status) == 2).await;
    assert_eq!(status.active.unwrap().owner(), pb::DocumentOwner::File);
    let pipeline =
        "name: waiting\npolicy: later\nsteps:\n  - name: say\n    prompt:\n      - user: hello\n";
    rig.write("pipelines/waiting.yaml", pipeline);
    let when = async |wanted: &dyn Fn(&pb::DocumentStatus) -> bool| {
        let wait = async {
            loop {
                let request = pb::GetPipelineRequest { name: "waiting".into(), version: 0 };
                if let Ok(response) = rig.policies().get_pipeline(request).await
                    && let Some(status) = response.into_inner().status
                    && wanted(&status)
                {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), wait).await.expect("it never comes");
    };
    when(&|status| active(status) == 0 && status.last_rejection.is_some()).await;
    rig.push(pushing("later", &retrying(1))).await.unwrap();
    when(&|status| active(status) == 1 && status.last_rejection.is_none()).await;
    assert!(rig.pipeline("waiting", serde_json::json!({})).await.is_ok());
    rig.stop().await;
}

/// A provider that answers to one key only. Ends with the test's runtime.
async fn keyed_provider() -> std::net::SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let answer = async |mut stream: tokio::net::TcpStream| {
        let mut request = Vec::new();
        // The body is small enough to come with the head.
        while !request.windows(4).any(|end| end == b"\r\n\r\n") {
            if stream.read_buf(&mut request).await.unwrap_or(0) == 0 {
                return;
            }
        }
        let head = String::from_utf8_lossy(&request).to_lowercase();
        let (status, body) = if head.contains("authorization: bearer right") {
            (
                "200 OK",
                r#"{"id":"x","object":"chat.completion","model":"m","choices":[{"index":0,"finish_reason":"stop","message":{"role":"assistant","content":"hello"}}],"usage":{"prompt_tokens":1,"completion_tokens":1,"total_tokens":2}}"#,
            )
        } else {
            (
                "401 Unauthorized",
                r#"{"error":{"message":"Incorrect API key provided","type":"invalid_request_error","code":"invalid_api_key"}}"#,
            )
        };
        let length = body.len();
        let answer = format!(
            "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}"
        );
        let _ = stream.write_all(answer.as_bytes()).await;
    };
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            answer(stream).await;
        }
    });
    address
}

/// P10 for keys: a refused credential disables its target until its file holds another one.
#[tokio::test]
async fn a_reloaded_secret_enables_its_target_again() {
    let secret = tempfile::tempdir().unwrap();
    let file = secret.path().join("key");
    std::fs::write(&file, "wrong\n").unwrap();
    let provider = keyed_provider().await;
    let target = format!(
        "{{dialect: openai, model: m, base_url: 'http://{provider}/v1', credential: {{file: '{}'}}}}",
        file.display()
    );
    let rig = Plan::new().raw_target("main", &target).start().await;
    let refused = rig.step(say(&["main"], "hello")).await.unwrap_err();
    assert_eq!(refused.verdict(), "FailedPrecondition PIPELINE_LOGIC/authentication");
    let target = || rig.service.engine().targets().get("main").unwrap().clone();
    assert!(target().gate.view().disabled.is_some());
    std::fs::write(&file, "right\n").unwrap();
    let enabled = || target().gate.view().disabled.is_none();
    crate::support::eventually("the target is enabled", enabled).await;
    assert!(rig.step(say(&["main"], "hello")).await.is_ok());
    // A file that holds nothing is told and changes nothing.
    std::fs::write(&file, "").unwrap();
    let told = || {
        rig.service.engine().alerts().list().iter().any(|alert| {
            alert.ended.is_none() && alert.notice.as_ref().is_some_and(|n| n.contains("credential"))
        })
    };
    crate::support::eventually("the alert is raised", told).await;
    assert!(rig.step(say(&["main"], "hello")).await.is_ok());
    rig.stop().await;
}
