//! What keeps a failing target from being hammered, and its callers from waiting for it.

use std::time::{Duration, Instant};

use mainstay::api::client::{self, OperationsClient};
use mainstay::api::pb;

use super::support::{Plan, Rig, ask_json, number_schema, say, story};

async fn operations(rig: &Rig) -> OperationsClient {
    let address = rig.service.control_address.to_string();
    client::operations(client::connect(&address).await.unwrap())
}

async fn targets(rig: &Rig) -> Vec<pb::TargetStatus> {
    let request = pb::ListTargetsRequest {};
    operations(rig).await.list_targets(request).await.unwrap().into_inner().targets
}

async fn set(rig: &Rig, target: &str, state: pb::BreakerState) -> pb::TargetStatus {
    let request =
        pb::SetBreakerRequest { target: target.into(), state: state.into(), reason: "test".into() };
    let response = operations(rig).await.set_breaker(request).await.unwrap();
    response.into_inner().target.unwrap()
}

fn told(response: &pb::RunStepResponse) -> Vec<String> {
    story(response.result.as_ref().unwrap())
}

#[tokio::test]
async fn a_lone_target_that_fails_is_left_alone_and_says_when_to_come_back() {
    let rig = Plan::new().target("bad", "m!server_error(status=500)").start().await;
    for _ in 0..3 {
        let _ = rig.step(say(&["bad"], "Hello")).await.unwrap_err();
    }
    let calls = rig.calls("m");
    assert_eq!(calls, 5, "the fifth failure in a row opens it, in the middle of a step");
    let began = Instant::now();
    let refused = rig.step(say(&["bad"], "Hello")).await.unwrap_err();
    assert!(began.elapsed() < Duration::from_secs(2));
    assert_eq!(refused.verdict(), "Unavailable INFRASTRUCTURE/circuit_open");
    let after = refused.refusal.retry_after.unwrap();
    assert!(after <= Duration::from_secs(6) && after > Duration::from_secs(1), "{after:?}");
    assert_eq!(rig.calls("m"), calls, "nothing was sent");
    let target = &targets(&rig).await[0];
    assert_eq!(target.breaker(), pb::BreakerState::Open);
    assert!(target.breaker_reopen_time.is_some());
    assert_eq!(target.transitions[0].reason, "5 consecutive failures");
    let failures: Vec<_> = target.failures.iter().map(|one| (&*one.cause, one.count)).collect();
    assert_eq!(failures, [("server_error", 5)]);
    rig.stop().await;
}

#[tokio::test]
async fn an_open_breaker_sends_steps_to_their_next_target_and_an_operator_has_the_last_word() {
    let rig = Plan::new().target("first", "a").target("second", "b").start().await;
    let held = set(&rig, "first", pb::BreakerState::ForcedOpen).await;
    assert_eq!(held.breaker(), pb::BreakerState::ForcedOpen);
    let response = rig.step(say(&["first", "second"], "Hello")).await.unwrap();
    assert_eq!(told(&response), ["first circuit_open -> fallback_to_target", "second ok"]);
    assert!(!response.result.as_ref().unwrap().attempts[0].called);
    set(&rig, "first", pb::BreakerState::Closed).await;
    let response = rig.step(say(&["first", "second"], "Hello")).await.unwrap();
    assert_eq!(told(&response), ["first ok"]);
    assert_eq!((rig.calls("a"), rig.calls("b")), (1, 1));
    let unknown = pb::SetBreakerRequest { target: "frist".into(), state: 1, reason: String::new() };
    let status = operations(&rig).await.set_breaker(unknown).await.unwrap_err();
    assert!(status.message().contains("did you mean `first`"), "{status:?}");
    rig.stop().await;
}

#[tokio::test]
async fn a_ladder_of_the_whole_domain_does_not_wait_for_a_breaker_while_another_target_answers() {
    let policy = "policy: {routing: {infrastructure: {ladder: [{retry_with_backoff: {attempts: 3}}, \
                  fallback_to_target, alert_and_degrade]}}}";
    let rig = Plan::new()
        .target("first", "a")
        .target("second", "b")
        .policy("default", policy)
        .start()
        .await;
    set(&rig, "first", pb::BreakerState::Open).await;
    let response = rig.step(say(&["first", "second"], "Hello")).await.unwrap();
    assert_eq!(told(&response), ["first circuit_open -> fallback_to_target", "second ok"]);
    let decision = response.result.unwrap().attempts[0].decision.clone().unwrap();
    assert_eq!(decision.skipped[0].reason, "breaker_open");
    assert_eq!((rig.calls("a"), rig.calls("b")), (0, 1));
    // Alone it fails at once and says when to come back.
    let refused = rig.step(say(&["first"], "Hello")).await.unwrap_err();
    assert_eq!(refused.verdict(), "Unavailable INFRASTRUCTURE/circuit_open");
    assert!(refused.refusal.retry_after.is_some());
    rig.stop().await;
}

#[tokio::test]
async fn retries_of_all_callers_together_stay_within_the_budget() {
    let policy = "policy: {retry_budget: {ratio: 0.2, floor_per_second: 0.1, window: 60s}, \
                  backoff: {base: 1ms, max: 1ms}}";
    let rig = Plan::new()
        .target("bad", "m!server_error(status=500)")
        .policy("default", policy)
        .start()
        .await;
    // Without the breaker the budget stands alone.
    set(&rig, "bad", pb::BreakerState::ForcedClosed).await;
    let steps = (0..50).map(|_| rig.step(say(&["bad"], "Hello")));
    let ended = futures_util::future::join_all(steps).await;
    assert!(ended.iter().all(Result::is_err));
    let calls = rig.calls("m");
    // A floor of six, and a fifth of fifty.
    assert!((50..=66).contains(&calls), "{calls} calls");
    assert!(targets(&rig).await[0].retry_budget_left < 0.1);
    let skipped = ended.iter().filter_map(|one| one.as_ref().err()).count();
    assert_eq!(skipped, 50);
    rig.stop().await;
}

#[tokio::test]
async fn a_target_that_was_idle_takes_over_what_the_failing_one_has_paid_for() {
    let policy = "policy: {retry_budget: {ratio: 0.2, floor_per_second: 0, window: 60s}, \
         routing: {infrastructure: {ladder: [fallback_to_target], causes: {\
         server_error: {ladder: [fallback_to_target]}}}}}";
    let script = "models: {a: {faults: [{fault: server_error, status: 500, from: 11, every: 1}]}, \
         b: {}}";
    let rig = Plan::new()
        .script(script)
        .target("first", "a")
        .target("second", "b")
        .policy("default", policy)
        .start()
        .await;
    // Without the breaker the budget stands alone.
    set(&rig, "first", pb::BreakerState::MetricsOnly).await;
    let ask = async || rig.step(say(&["first", "second"], "Hello")).await;
    for _ in 0..10 {
        ask().await.unwrap();
    }
    // Ten good calls and each failing one pay a fifth of an extra call.
    for _ in 0..2 {
        assert_eq!(told(&ask().await.unwrap()).last().unwrap(), "second ok");
    }
    let refused = ask().await.unwrap_err();
    assert_eq!(refused.verdict(), "Unavailable INFRASTRUCTURE/server_error");
    assert_eq!((rig.calls("a"), rig.calls("b")), (13, 2));
    rig.stop().await;
}

#[tokio::test]
async fn the_least_bad_target_is_called_where_the_policy_wants_it_and_marked() {
    let rig = Plan::new()
        .target("a", "a")
        .target("b", "b")
        .policy("brave", "policy: {execution: {when_all_refuse: least_bad}}")
        .start()
        .await;
    for target in ["a", "b"] {
        set(&rig, target, pb::BreakerState::Open).await;
    }
    let fast = rig.step(say(&["a", "b"], "Hello")).await.unwrap_err();
    assert_eq!(fast.verdict(), "Unavailable INFRASTRUCTURE/circuit_open");
    let mut request = super::support::inline(say(&["a", "b"], "Hello"));
    request.options = Some(pb::RunOptions { policy: "brave".into(), ..pb::RunOptions::default() });
    let response = rig.client().run_step(request).await.unwrap().into_inner();
    let attempts = &response.result.as_ref().unwrap().attempts;
    assert_eq!(attempts.iter().map(|one| one.panic).collect::<Vec<_>>(), [false, true]);
    let decision = attempts[0].decision.as_ref().unwrap();
    assert_eq!(decision.rule, "execution.when_all_refuse");
    rig.stop().await;
}

/// P10: what is under way is carried through, what waits goes elsewhere, what comes does not ask.
#[tokio::test]
async fn a_target_that_is_disabled_during_runs_gets_no_new_attempt_at_once() {
    let slow = "{dialect: openai, model: 's!latency(delay=2s)', base_url: 'http://SIM/v1', in_flight_max: 1}";
    let rig = Plan::new().raw_target("slow", slow).target("other", "o").start().await;
    let step = || rig.step(say(&["slow", "other"], "Hello"));
    let disable = async {
        while targets(&rig).await[1].queued != 1 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let request =
            pb::SetTargetRequest { name: "slow".into(), enabled: false, reason: "key".into() };
        operations(&rig).await.set_target(request).await.unwrap();
        told(&step().await.unwrap())
    };
    let (one, two, after) = tokio::join!(step(), step(), disable);
    let (one, two) = (told(&one.unwrap()), told(&two.unwrap()));
    let elsewhere = ["slow permission_denied -> fallback_to_target", "other ok"];
    assert_eq!(after, elsewhere);
    assert!([&one, &two].iter().any(|story| **story == ["slow ok"]), "{one:?} {two:?}");
    assert!([&one, &two].iter().any(|story| **story == elsewhere), "{one:?} {two:?}");
    assert_eq!((rig.calls("s"), rig.calls("o")), (1, 2));
    rig.stop().await;
}

#[tokio::test]
async fn calls_that_have_nowhere_else_to_go_wait_for_the_probe_that_decides() {
    let rig = Plan::new()
        .script("models: {a: {}, b: {latency: {delay: 50ms}}}")
        .target("first", "a")
        .target("second", "b")
        .start()
        .await;
    set(&rig, "first", pb::BreakerState::ForcedOpen).await;
    set(&rig, "second", pb::BreakerState::HalfOpen).await;
    rig.step(say(&["first", "second"], "Hello")).await.unwrap();
    // One probe has ended well, and one more closes the breaker: the other calls wait for it.
    let steps = (0..8).map(|_| rig.step(say(&["first", "second"], "Hello")));
    for response in futures_util::future::join_all(steps).await {
        let story = told(&response.unwrap());
        assert_eq!(story, ["first circuit_open -> fallback_to_target", "second ok"]);
    }
    assert_eq!((rig.calls("a"), rig.calls("b")), (0, 9));
    assert_eq!(targets(&rig).await[1].breaker(), pb::BreakerState::Closed);
    rig.stop().await;
}

#[tokio::test]
async fn a_used_up_quota_shuts_the_target_until_an_operator_enables_it() {
    let rig =
        Plan::new().target("bad", "m!quota_exhausted(first=1)").target("good", "g").start().await;
    for _ in 0..3 {
        rig.step(say(&["bad", "good"], "Hello")).await.unwrap();
    }
    assert_eq!(rig.calls("m"), 1);
    assert!(targets(&rig).await[0].quota_exhausted);
    let request = pb::SetTargetRequest { name: "bad".into(), enabled: true, reason: "paid".into() };
    operations(&rig).await.set_target(request).await.unwrap();
    let response = rig.step(say(&["bad", "good"], "Hello")).await.unwrap();
    assert_eq!(told(&response), ["bad ok"]);
    rig.stop().await;
}

#[tokio::test]
async fn a_model_that_answers_rubbish_is_routed_around_for_that_step_only() {
    let policy = "policy: {output_breaker: {consecutive_failures: 4}}";
    let rig = Plan::new()
        .target("bad", "m!schema_violation")
        .target("good", "g")
        .policy("default", policy)
        .start()
        .await;
    let step = || ask_json(&["bad", "good"], "A digit", &number_schema());
    let mut stories = Vec::new();
    for _ in 0..4 {
        stories.push(told(&rig.step(step()).await.unwrap()).remove(0));
    }
    assert!(stories[..2].iter().all(|one| !one.contains("circuit_open")), "{stories:?}");
    assert!(stories[2..].iter().all(|one| one.contains("circuit_open")), "{stories:?}");
    let bad = &targets(&rig).await[0];
    assert_eq!((bad.breaker(), bad.output_breakers_open), (pb::BreakerState::Closed, 1));
    // Another step, and a step with nowhere else to go, are let through.
    let response = rig.step(say(&["bad", "good"], "Hello")).await.unwrap();
    assert_eq!(told(&response), ["bad ok"]);
    rig.stop().await;
}

#[tokio::test]
async fn targets_are_watched_as_they_change_and_the_stream_ends_with_the_service() {
    let rig = Plan::new().target("a", "a").start().await;
    let mut client = operations(&rig).await;
    let mut stream = client.watch_targets(pb::WatchTargetsRequest {}).await.unwrap().into_inner();
    let first = stream.message().await.unwrap().unwrap();
    assert_eq!(first.targets[0].breaker(), pb::BreakerState::Closed);
    set(&rig, "a", pb::BreakerState::MetricsOnly).await;
    let second = stream.message().await.unwrap().unwrap();
    assert_eq!(second.targets[0].breaker(), pb::BreakerState::MetricsOnly);
    let began = Instant::now();
    rig.stop().await;
    assert!(began.elapsed() < Duration::from_secs(10), "nobody waits for who only looks");
}

#[tokio::test]
async fn a_service_that_is_short_of_memory_takes_no_new_runs() {
    let limits = "limits: {memory_bytes_max: 16777216}";
    let rig = Plan::new().target("a", "a").config(limits).start().await;
    // This process holds more than that already; the guard looks four times a second.
    let refused = async {
        loop {
            if let Err(refused) = rig.step(say(&["a"], "Hello")).await {
                return refused;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let refused = tokio::time::timeout(Duration::from_secs(10), refused).await.unwrap();
    assert_eq!(refused.status.code(), tonic::Code::ResourceExhausted);
    assert_eq!(refused.refusal.reason, "MEMORY_SHORT");
    assert!(refused.refusal.retry_after.is_some());
    rig.stop().await;
}
