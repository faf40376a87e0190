//! P10: who is let in no more loses the streams that are open, and nothing that is under way.

use std::time::{Duration, Instant};

use mainstay::api::client::{self, Credentials};
use mainstay::api::pb;
use tonic::{Code, Status, Streaming};

use super::super::support::{Plan, Rig, inline, say};
use super::tokens::{Issuer, claims, replace};
use super::{CALLERS, bearer, callers_file, control, data, plan, reason, token};

/// Waits for the end of a stream.
async fn end<T>(mut stream: Streaming<T>) -> Option<Status> {
    let ended = async {
        loop {
            match stream.message().await {
                Ok(Some(_)) => {}
                Ok(None) => return None,
                Err(status) => return Some(status),
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(20), ended).await.expect("the stream ends")
}

async fn policies(rig: &Rig, who: &Credentials) -> Streaming<pb::WatchPoliciesResponse> {
    let mut client = client::policies(control(rig, who).await);
    client.watch_policies(pb::WatchPoliciesRequest::default()).await.unwrap().into_inner()
}

async fn targets(rig: &Rig, who: &Credentials) -> Streaming<pb::WatchTargetsResponse> {
    let mut client = client::operations(control(rig, who).await);
    client.watch_targets(pb::WatchTargetsRequest {}).await.unwrap().into_inner()
}

/// A stream that has begun to tell.
async fn step(rig: &Rig, who: &Credentials, target: &str) -> Streaming<pb::StreamStepResponse> {
    let request = pb::StreamStepRequest { request: Some(inline(say(&[target], "Hello"))) };
    let mut client = client::pipelines(data(rig, who).await);
    client.stream_step(request).await.unwrap().into_inner()
}

#[tokio::test]
async fn open_streams_of_a_revoked_caller_end_and_calls_under_way_do_not() {
    let rig = plan()
        .target("dripping", "m!drip(bytes_per_second=1)")
        .target("slow", "s!latency(delay=3s)")
        .start()
        .await;
    let (runner, viewer) = (bearer(&token("runner")), bearer(&token("viewer")));
    let other = bearer(&token("operator"));
    let streamed = step(&rig, &runner, "dripping").await;
    let watched = (policies(&rig, &viewer).await, targets(&rig, &viewer).await);
    let mut kept = policies(&rig, &other).await;
    assert!(kept.message().await.unwrap().is_some());
    let mut unary = client::pipelines(data(&rig, &runner).await);
    let under_way =
        tokio::spawn(async move { unary.run_step(inline(say(&["slow"], "Hello"))).await });
    super::eventually("the call is under way", async || rig.calls("s") == 1).await;

    let stay: Vec<_> = CALLERS.iter().copied().filter(|(name, ..)| *name == "operator").collect();
    replace(&rig.path("callers.yaml"), &callers_file(&stay));
    let since = Instant::now();
    let ends = tokio::join!(end(streamed), end(watched.0), end(watched.1));
    println!("three streams ended within {:?} of the change of the file", since.elapsed());
    for ended in [ends.0, ends.1, ends.2] {
        let told = reason(ended.expect("with a status"));
        assert_eq!(told, (Code::Unauthenticated, "CREDENTIALS_INVALID".to_owned()));
    }
    assert!(under_way.await.unwrap().is_ok(), "what was let in is carried to its end");

    // Whoever stays keeps the stream, also through a change of the roles that the call does take.
    let author: Vec<_> = vec![("operator", "shop", "[author]")];
    replace(&rig.path("callers.yaml"), &callers_file(&author));
    let mut again = client::policies(control(&rig, &other).await);
    let push = pb::PushPolicyRequest {
        name: "p".to_owned(),
        text: "policy: {}".to_owned(),
        ..Default::default()
    };
    super::eventually("the new role counts", async || {
        again.clone().push_policy(push.clone()).await.is_ok()
    })
    .await;
    assert_eq!(kept.message().await.unwrap().unwrap().policies[0].name, "p");
    let runner: Vec<_> = vec![("operator", "shop", "[runner]")];
    replace(&rig.path("callers.yaml"), &callers_file(&runner));
    let told = reason(end(kept).await.unwrap());
    assert_eq!(told, (Code::PermissionDenied, "ROLE_MISSING".to_owned()));
    assert!(again.list_policies(pb::ListPoliciesRequest::default()).await.is_err());
    rig.stop().await;
}

/// The identity of a stream never becomes another's, even where its token does.
#[tokio::test]
async fn a_token_that_changes_hands_ends_the_streams_of_the_old_hand() {
    let rig = plan().start().await;
    let watched = policies(&rig, &bearer(&token("viewer"))).await;
    let renamed = callers_file(&[("viewer", "shop", "[viewer]")]);
    replace(&rig.path("callers.yaml"), &renamed.replace("name: viewer", "name: heir"));
    let told = reason(end(watched).await.unwrap());
    assert_eq!(told, (Code::Unauthenticated, "CREDENTIALS_INVALID".to_owned()));
    rig.stop().await;
}

fn jwt_plan(issuer: &Issuer) -> Plan {
    Plan::new()
        .target("dripping", "m!drip(bytes_per_second=1)")
        .file("jwks.json", &issuer.jwks)
        .config(
            "auth:\n  jwt:\n    issuer: https://id.example.com\n    audience: [mainstay]\n    \
             jwks_file: jwks.json\n    leeway: 0s",
        )
}

#[tokio::test]
async fn a_stream_ends_with_the_time_or_the_key_of_its_token() {
    let issuer = Issuer::new("one");
    let rig = jwt_plan(&issuer).start().await;
    let long = step(&rig, &bearer(&issuer.token(&claims(300))), "dripping").await;
    let short = step(&rig, &bearer(&issuer.token(&claims(2))), "dripping").await;
    let told = reason(end(short).await.unwrap());
    assert_eq!(told, (Code::Unauthenticated, "CREDENTIALS_EXPIRED".to_owned()));
    replace(&rig.path("jwks.json"), &Issuer::new("two").jwks);
    let told = reason(end(long).await.unwrap());
    assert_eq!(told, (Code::Unauthenticated, "CREDENTIALS_INVALID".to_owned()));
    rig.stop().await;
}
