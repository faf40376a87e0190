//! Groups of targets: the best first, wherever a target's name can stand.

use mainstay::api::{client, pb};

use super::support::{Plan, Rig, inline, say, story};

const GROUPS: &str = "groups:
  cheapest: {strategy: lowest_cost, targets: [dear, cheap]}
  same: {strategy: sticky, sticky_by: customer, targets: [dear, cheap]}
";

/// Two targets, of which the second named is the cheaper.
fn plan() -> Plan {
    let target = |model: &str, price: u32, more: &str| {
        format!(
            "{{dialect: openai, model: '{model}', base_url: 'http://SIM/v1', price: {{input: {price}}}{more}}}"
        )
    };
    Plan::new()
        .raw_target("dear", &target("d", 9, ""))
        .raw_target("cheap", &target("c", 1, ", context_window: 200"))
        .config(GROUPS)
}

async fn told(rig: &Rig, spec: pb::StepSpec) -> Vec<String> {
    story(&rig.step(spec).await.unwrap().result.unwrap())
}

async fn hold_open(rig: &Rig, target: &str) {
    let channel = client::connect(&rig.service.control_address.to_string()).await.unwrap();
    let request = pb::SetBreakerRequest {
        target: target.into(),
        state: pb::BreakerState::ForcedOpen.into(),
        reason: String::new(),
    };
    client::operations(channel).set_breaker(request).await.unwrap();
}

#[tokio::test]
async fn the_best_comes_first_and_what_refuses_comes_last() {
    let rig = plan().start().await;
    assert_eq!(told(&rig, say(&["cheapest"], "Hello")).await, ["cheap ok"]);
    // A prompt that does not fit its window goes to the other at once.
    let long = "word ".repeat(400);
    assert_eq!(told(&rig, say(&["cheapest"], &long)).await, ["dear ok"]);
    hold_open(&rig, "cheap").await;
    assert_eq!(told(&rig, say(&["cheapest"], "Hello")).await, ["dear ok"]);
    rig.stop().await;
}

#[tokio::test]
async fn a_sticky_group_goes_by_the_label() {
    let rig = plan().start().await;
    let ask = async |customer: u32| {
        let mut request = inline(say(&["same"], "Hello"));
        let labels = [("customer".to_owned(), customer.to_string())].into();
        request.options = Some(pb::RunOptions { labels, ..pb::RunOptions::default() });
        let response = rig.client().run_step(request).await.unwrap().into_inner();
        story(&response.result.unwrap()).remove(0)
    };
    let mut seen = std::collections::BTreeSet::new();
    for customer in 0..16 {
        let first = ask(customer).await;
        assert_eq!(ask(customer).await, first);
        seen.insert(first);
    }
    assert_eq!(seen.len(), 2, "both are used");
    rig.stop().await;
}

#[tokio::test]
async fn a_policy_falls_back_to_a_group() {
    let policy = "policy: {routing: {infrastructure: {ladder: [{fallback_to_target: \
                  {targets: [cheapest]}}, alert_and_degrade]}}}";
    let rig = plan()
        .target("broken", "m!server_error(status=500)")
        .policy("grouped", policy)
        .start()
        .await;
    let mut request = inline(say(&["broken"], "Hello"));
    request.options =
        Some(pb::RunOptions { policy: "grouped".into(), ..pb::RunOptions::default() });
    let response = rig.client().run_step(request).await.unwrap().into_inner();
    let result = response.result.unwrap();
    assert_eq!(story(&result), ["broken server_error -> fallback_to_target", "cheap ok"]);
    assert_eq!(result.attempts[0].decision.as_ref().unwrap().next_target, "cheap");
    rig.stop().await;
}
