//! A second attempt beside a slow one.

use mainstay::api::pb;

use super::support::collector::{Collector, attribute};
use super::support::{Plan, Rig, eventually, say, story};

const POLICY: &str = "policy: {hedge: {enabled: true, after: 150ms}}\n";

async fn rig(slow: &str, good: &str, policy: &str, config: &str) -> Rig {
    let target = |model: &str| {
        format!(
            "{{dialect: openai, model: '{model}', base_url: 'http://SIM/v1', price: {{input: 1}}}}"
        )
    };
    Plan::new()
        .raw_target("slow", &target(&format!("s!{slow}")))
        .raw_target("good", &target(&format!("g!{good}")))
        .policy("default", policy)
        .config(config)
        .start()
        .await
}

async fn ask(rig: &Rig) -> pb::StepResult {
    rig.step(say(&["slow", "good"], "Hello")).await.unwrap().result.unwrap()
}

fn left(rig: &Rig) -> usize {
    let calls = rig.simulator.calls().recent;
    calls.iter().filter(|call| format!("{:?}", call.ended) == "PeerLeft").count()
}

fn breaker_failures(rig: &Rig, target: &str) -> usize {
    rig.service.engine().targets().get(target).unwrap().gate.view().failures.len()
}

#[tokio::test]
async fn the_faster_one_wins_and_the_other_is_cancelled_and_counted() {
    let collector = Collector::start().await;
    let telemetry = format!("telemetry: {{otlp_endpoint: '{}'}}", collector.endpoint);
    let rig = rig("hang", "none", POLICY, &telemetry).await;
    let result = ask(&rig).await;
    assert_eq!(story(&result), ["slow cancelled", "good ok"]);
    let (lost, won) = (&result.attempts[0], &result.attempts[1]);
    assert_eq!((lost.number, lost.called, lost.hedge), (1, true, false));
    assert_eq!((won.number, won.hedge, won.cancelled), (2, true, false));
    assert_eq!(result.target, "good");
    let (prompt, wasted) = (won.usage.unwrap().input_tokens, result.wasted.unwrap());
    assert_eq!((wasted.input_tokens, wasted.output_tokens), (prompt, 0));
    assert!(wasted.cost_usd > 0.0);
    eventually("the provider sees that we left", || left(&rig) == 1).await;
    assert_eq!(breaker_failures(&rig, "slow"), 0, "to be slower is no failure");
    let spans = collector.trace_with(|span| span.name == "RunStep").await;
    let told = |name: &str| spans.iter().find_map(|span| attribute(span, name));
    assert_eq!(told("mainstay.attempt.cancelled").as_deref(), Some("outrun"));
    assert_eq!(told("mainstay.attempt.hedge").as_deref(), Some("true"));
    rig.stop().await;
    collector.stop();
}

#[tokio::test]
async fn a_loser_does_not_open_its_breaker_however_often_it_loses() {
    let policy = "policy: {hedge: {enabled: true, after: 20ms}, breaker: {consecutive_failures: 2}, \
                  retry_budget: {ratio: 1, floor_per_second: 100}}\n";
    let rig = rig("hang", "none", policy, "").await;
    for _ in 0..6 {
        assert_eq!(story(&ask(&rig).await), ["slow cancelled", "good ok"]);
    }
    assert_eq!((rig.calls("s"), rig.calls("g")), (6, 6));
    rig.stop().await;
}

#[tokio::test]
async fn nothing_is_hedged_without_need_or_leave() {
    let quick = rig("none", "none", POLICY, "").await;
    assert_eq!(story(&ask(&quick).await), ["slow ok"]);
    assert_eq!(quick.calls("g"), 0);
    quick.stop().await;
    let late = "latency(delay=400ms)";
    let empty = "retry_budget: {ratio: 0, floor_per_second: 0}";
    let hedge = "hedge: {enabled: true, after: 50ms}";
    for policy in [
        "policy: {}\n".to_owned(),
        format!("policy: {{{hedge}, {empty}}}\n"),
        format!("policy: {{{hedge}, execution: {{max_attempts: 1}}}}\n"),
        "policy: {hedge: {enabled: true, after: p95}}\n".to_owned(),
    ] {
        let rig = rig(late, "none", &policy, "").await;
        assert_eq!(story(&ask(&rig).await), ["slow ok"], "{policy}");
        assert_eq!(rig.calls("g"), 0, "{policy}");
        rig.stop().await;
    }
}

#[tokio::test]
async fn the_p95_of_the_target_is_waited_for_once_it_is_known() {
    let policy = "policy: {hedge: {enabled: true, after: p95}}\n";
    let rig = rig("hang(every=1,from=21)", "none", policy, "").await;
    for _ in 0..20 {
        assert_eq!(story(&ask(&rig).await), ["slow ok"]);
    }
    assert_eq!(story(&ask(&rig).await), ["slow cancelled", "good ok"]);
    rig.stop().await;
}

#[tokio::test]
async fn one_that_fails_leaves_the_field_to_the_other() {
    let rig = rig("latency(delay=600ms)", "server_error", POLICY, "").await;
    let result = ask(&rig).await;
    assert_eq!(story(&result), ["slow ok", "good server_error -> unspecified"]);
    assert_eq!((result.target.as_str(), result.attempts[1].hedge), ("slow", true));
    rig.stop().await;
    let rig = self::rig("latency(delay=300ms)+server_error", "latency(delay=600ms)", POLICY, "");
    let rig = rig.await;
    let result = ask(&rig).await;
    assert_eq!(story(&result), ["slow server_error -> unspecified", "good ok"]);
    rig.stop().await;
}

#[tokio::test]
async fn when_both_fail_the_ladder_sees_the_first_and_both_count() {
    let rig = rig("latency(delay=400ms)+server_error", "bad_request", POLICY, "").await;
    let mut spec = say(&["slow", "good"], "Hello");
    spec.max_attempts = 2;
    let refused = rig.step(spec).await.unwrap_err();
    assert_eq!(refused.verdict(), "Unavailable INFRASTRUCTURE/server_error");
    assert_eq!(refused.refusal.failure.unwrap().attempts, 2);
    assert_eq!((rig.calls("s"), rig.calls("g")), (1, 1));
    rig.stop().await;
}

#[tokio::test]
async fn the_caller_cancels_both() {
    let rig = rig("hang", "hang", POLICY, "").await;
    let mut client = rig.client();
    let call = super::support::inline(say(&["slow", "good"], "Hello"));
    let call = tokio::spawn(async move { client.run_step(call).await });
    eventually("both are under way", || rig.calls("s") + rig.calls("g") == 2).await;
    call.abort();
    eventually("the provider sees both leave", || left(&rig) == 2).await;
    assert_eq!((breaker_failures(&rig, "slow"), breaker_failures(&rig, "good")), (0, 0));
    rig.stop().await;
}

#[tokio::test]
async fn a_step_of_a_pipeline_is_hedged_and_its_record_says_so() {
    let plan = Plan::new()
        .target("slow", "s!hang")
        .target("good", "g")
        .policy("default", POLICY)
        .pipeline(
            "one",
            "name: one\nsteps: [{name: only, targets: [slow, good], prompt: Hello}]\n",
        );
    let rig = plan.start().await;
    let run = rig.pipeline("one", serde_json::json!({})).await.unwrap();
    let run = rig.get(&run.run_id).await;
    assert_eq!(story(&run.steps[0]), ["slow cancelled", "good ok"]);
    assert!(run.steps[0].attempts[1].hedge);
    rig.stop().await;
}
