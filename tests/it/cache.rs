//! The response cache: fresh answers, identical calls under way, and forgetting.

use std::time::Duration;

use mainstay::api::client;
use mainstay::api::pb;
use tonic::Request;

use super::support::{Plan, Rig, inline, message, say, story};

const POLICY: &str = "policy: {cache: {fresh_for: 1h, coalesce: true}}\n";

async fn rig(model: &str) -> Rig {
    Plan::new().target("t", model).policy("thrifty", POLICY).start().await
}

fn request(spec: pb::StepSpec, policy: &str) -> Request<pb::RunStepRequest> {
    let options = pb::RunOptions { policy: policy.to_owned(), ..pb::RunOptions::default() };
    let mut request = Request::new(pb::RunStepRequest { options: Some(options), ..inline(spec) });
    request.set_timeout(Duration::from_secs(20));
    request
}

async fn ask(rig: &Rig, spec: pb::StepSpec, policy: &str) -> pb::StepResult {
    let response = rig.client().run_step(request(spec, policy)).await.unwrap().into_inner();
    assert!(!response.output.unwrap().text.is_empty() && !response.degraded);
    response.result.unwrap()
}

#[tokio::test]
async fn a_fresh_output_answers_in_place_of_a_call_where_the_policy_says_so() {
    let rig = rig("m").await;
    let first = ask(&rig, say(&["t"], "Hello"), "thrifty").await;
    assert_eq!((story(&first), first.cache_age), (vec!["t ok".to_owned()], None));
    let second = ask(&rig, say(&["t"], "Hello"), "thrifty").await;
    assert!(second.attempts.is_empty() && second.cache_age.is_some());
    assert_eq!((second.target.as_str(), second.degraded()), ("t", pb::DegradedSource::Unspecified));
    assert_eq!(rig.calls("m"), 1);
    // Not under a policy that does not ask for it, and not for another request.
    ask(&rig, say(&["t"], "Hello"), "").await;
    ask(&rig, say(&["t"], "Hello!"), "thrifty").await;
    let mut warmer = say(&["t"], "Hello");
    warmer.sampling = Some(pb::Sampling { temperature: Some(0.7), ..Default::default() });
    ask(&rig, warmer, "thrifty").await;
    let mut told = say(&["t"], "Hello");
    told.messages.insert(0, message(pb::Role::System, "Be brief."));
    ask(&rig, told, "thrifty").await;
    assert_eq!(rig.calls("m"), 5);
    rig.stop().await;
}

#[tokio::test]
async fn identical_calls_under_way_share_one_and_its_failure_is_nobody_elses() {
    let rig = Plan::new()
        .target("t", "m!latency(delay=300ms)")
        .target("bad", "n!latency(delay=300ms)+server_error(first=1)")
        .policy("thrifty", "policy: {cache: {coalesce: true}}\n")
        .start()
        .await;
    let many = (0..20).map(|_| ask(&rig, say(&["t"], "Hello"), "thrifty"));
    let results = futures_util::future::join_all(many).await;
    assert_eq!(rig.calls("m"), 1);
    let shared = results.iter().filter(|result| result.attempts.is_empty());
    assert_eq!(shared.clone().count(), 19);
    assert!(shared.clone().all(|result| result.cache_age.is_some() && result.target == "t"));
    // The leader recovers by itself, and its followers share what it ends with.
    let many = (0..5).map(|_| ask(&rig, say(&["bad"], "Hello"), "thrifty"));
    futures_util::future::join_all(many).await;
    assert_eq!(rig.calls("n"), 2);
    rig.stop().await;
    // A leader that fails for good fails itself alone.
    let rig = Plan::new()
        .target("t", "m!latency(delay=300ms)+content_filter(first=1)")
        .policy("thrifty", "policy: {cache: {coalesce: true}}\n")
        .start()
        .await;
    let many = (0..5).map(|_| async {
        rig.client().run_step(request(say(&["t"], "Hello"), "thrifty")).await.is_ok()
    });
    let ended = futures_util::future::join_all(many).await;
    assert_eq!(ended.iter().filter(|ok| **ok).count(), 4, "{ended:?}");
    assert_eq!(rig.calls("m"), 5);
    rig.stop().await;
}

#[tokio::test]
async fn when_the_leader_goes_away_another_leads() {
    let rig = rig("m!latency(delay=500ms)").await;
    let mut client = rig.client();
    let leader = client.run_step(request(say(&["t"], "Hello"), "thrifty"));
    tokio::select! {
        _ = leader => panic!("it takes longer"),
        () = super::support::eventually("it leads", || rig.calls("m") == 1) => {}
    }
    let followers = (0..3).map(|_| ask(&rig, say(&["t"], "Hello"), "thrifty"));
    futures_util::future::join_all(followers).await;
    assert_eq!(rig.calls("m"), 2);
    rig.stop().await;
}

#[tokio::test]
async fn an_operator_makes_outputs_forgotten() {
    let rig = rig("m").await;
    let mut named = say(&["t"], "Hello");
    named.name = "greet".to_owned();
    ask(&rig, named.clone(), "thrifty").await;
    ask(&rig, say(&["t"], "Hello"), "thrifty").await;
    let control = client::connect(&rig.service.control_address.to_string()).await.unwrap();
    let mut operations = client::operations(control);
    let mut invalidate = async |step: &str| {
        let request = pb::InvalidateCacheRequest { step: step.to_owned(), pipeline: String::new() };
        operations.invalidate_cache(request).await.unwrap().into_inner().dropped
    };
    assert_eq!((invalidate("other").await, invalidate("greet").await), (0, 1));
    ask(&rig, named, "thrifty").await;
    ask(&rig, say(&["t"], "Hello"), "thrifty").await;
    assert_eq!((rig.calls("m"), invalidate("").await), (3, 2));
    drop(operations);
    rig.stop().await;
}
