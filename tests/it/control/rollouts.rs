//! Gradual rollouts.

use std::collections::BTreeMap;
use std::time::Duration;

use mainstay::api::pb;
use tonic_types::StatusExt as _;

use super::{active, kept, pushing, retrying, told};
use crate::support::{Plan, Rig, inline, say};

fn guards() -> pb::RolloutGuards {
    pb::RolloutGuards {
        sample_min: 10,
        failed_share_max_increase: Some(10.0),
        ..pb::RolloutGuards::default()
    }
}

fn rolling_out(text: &str, share: f64, guards: pb::RolloutGuards) -> pb::PushPolicyRequest {
    pb::PushPolicyRequest {
        rollout_share: Some(share),
        rollout_guards: Some(guards),
        ..pushing("p", text)
    }
}

/// Runs under policy `p`; how many ran under each version, and how many of them failed.
async fn runs(rig: &Rig, target: &str, ids: std::ops::Range<u32>) -> BTreeMap<u64, (u32, u32)> {
    let mut seen = BTreeMap::new();
    for id in ids {
        let options = pb::RunOptions {
            policy: "p".into(),
            run_id: format!("run-{id}"),
            ..pb::RunOptions::default()
        };
        let request =
            pb::RunStepRequest { options: Some(options), ..inline(say(&[target], "hello")) };
        let (version, failed) = match rig.client().run_step(request).await {
            Ok(response) => (response.into_inner().policy.unwrap().version, false),
            Err(status) => {
                let details = status.get_error_details();
                let metadata = &details.error_info().expect("a failed run").metadata;
                (metadata["policy_version"].parse().unwrap(), true)
            }
        };
        let count: &mut (u32, u32) = seen.entry(version).or_default();
        count.0 += 1;
        count.1 += u32::from(failed);
    }
    seen
}

fn state(status: &pb::DocumentStatus) -> pb::RolloutState {
    status.rollout.as_ref().map_or(pb::RolloutState::Unspecified, pb::Rollout::state)
}

#[tokio::test]
async fn a_share_of_the_runs_is_on_the_new_version_until_it_is_promoted_by_hand() {
    let rig = Plan::new().target("main", "m").start().await;
    rig.push(pushing("p", &retrying(1))).await.unwrap();
    let version = rig.push(rolling_out(&retrying(2), 0.3, guards())).await.unwrap();
    assert_eq!(version.version, 2);
    let first = runs(&rig, "main", 0..200).await;
    let on_new = first[&2].0;
    assert!((35..=85).contains(&on_new), "{first:?}");
    // What serves in the meantime is the old one, and no second push gets between.
    let status = rig.policy_when("p", |status| {
        let figures =
            status.rollout.as_ref().map(|r| r.figures.iter().map(|f| f.runs).sum::<u64>());
        figures == Some(200)
    });
    let status = status.await;
    assert_eq!((active(&status), state(&status)), (1, pb::RolloutState::Active));
    let figures = status.rollout.unwrap().figures;
    assert_eq!((figures[0].version, figures[1].version), (1, 2));
    assert_eq!(figures[1].runs, u64::from(on_new));
    assert!(figures[1].latency_p95.is_some_and(|p95| p95.nanos > 0 || p95.seconds > 0));
    let refused = rig.push(pushing("p", &retrying(3))).await.unwrap_err();
    assert_eq!(told(&refused), "FailedPrecondition ROLLOUT_UNDER_WAY");
    let end = |ending: pb::RolloutEnding| pb::EndRolloutRequest {
        name: "p".into(),
        ending: ending.into(),
        comment: "it looks good".into(),
    };
    let unclear = rig.policies().end_rollout(end(pb::RolloutEnding::Unspecified)).await;
    assert_eq!(told(&unclear.unwrap_err().into()), "InvalidArgument INVALID_REQUEST");
    let ended = rig.policies().end_rollout(end(pb::RolloutEnding::Promote)).await.unwrap();
    let ended = ended.into_inner().rollout.unwrap();
    assert_eq!(ended.state(), pb::RolloutState::Promoted);
    assert_eq!(ended.reason, "ended by anonymous: it looks good");
    assert_eq!(active(&rig.policy("p").await), 2);
    assert_eq!(runs(&rig, "main", 200..220).await.keys().copied().collect::<Vec<_>>(), [2]);
    let over = rig.policies().end_rollout(end(pb::RolloutEnding::RollBack)).await.unwrap_err();
    assert_eq!(told(&over.into()), "FailedPrecondition NO_ROLLOUT");
    rig.stop().await;
}

#[tokio::test]
async fn the_same_runs_are_picked_again() {
    let rig = Plan::new().target("main", "m").start().await;
    rig.push(pushing("p", &retrying(1))).await.unwrap();
    rig.push(rolling_out(&retrying(2), 0.5, guards())).await.unwrap();
    let once = runs(&rig, "main", 0..40).await;
    assert_eq!(runs(&rig, "main", 0..40).await, once);
    rig.stop().await;
}

/// The old version retries what the provider refuses once; the new one gives up, and is taken
/// back by itself.
#[tokio::test]
async fn a_regression_is_taken_back_by_itself_and_told() {
    let giving_up = "policy:\n  routing:\n    infrastructure: { action: reject_and_fix }\n";
    let rig = Plan::new()
        .target("flaky", "m!overloaded(probability=0.5)")
        .policy("unused", &retrying(1))
        .start()
        .await;
    let patient = "policy:\n  execution: { max_attempts: 12 }\n  routing:\n    infrastructure:\n      ladder:\n        - retry_with_backoff: { attempts: 12, backoff: { base: 1ms, max: 1ms } }\n        - alert_and_degrade\n";
    rig.push(pushing("p", patient)).await.unwrap();
    rig.push(rolling_out(giving_up, 0.5, guards())).await.unwrap();
    let mut id = 0;
    while state(&rig.policy("p").await) == pb::RolloutState::Active {
        runs(&rig, "flaky", id..id + 10).await;
        id += 10;
        assert!(id < 2_000, "it is never taken back");
    }
    let status = rig.policy("p").await;
    assert_eq!((active(&status), state(&status)), (1, pb::RolloutState::RolledBack));
    let rollout = status.rollout.unwrap();
    assert!(rollout.reason.starts_with("the failed share is "), "{}", rollout.reason);
    assert!(rollout.figures[1].failed_share > rollout.figures[0].failed_share + 0.1);
    let alerts = rig.standing_alerts().await;
    assert!(alerts.iter().any(|alert| alert.contains("was taken back")), "{alerts:?}");
    assert_eq!(runs(&rig, "flaky", id..id + 20).await.keys().copied().collect::<Vec<_>>(), [1]);
    // The next version is the next number; the alert is over.
    assert_eq!(rig.push(pushing("p", &retrying(3))).await.unwrap().version, 3);
    assert!(rig.standing_alerts().await.iter().all(|alert| !alert.contains("was taken back")));
    rig.stop().await;
}

#[tokio::test]
async fn a_rollout_without_regression_is_promoted_after_its_time() {
    let rig = Plan::new().target("main", "m").start().await;
    rig.push(pushing("p", &retrying(1))).await.unwrap();
    let promote_after = prost_types::Duration::try_from(Duration::from_millis(300)).ok();
    let guards = pb::RolloutGuards { promote_after, ..guards() };
    rig.push(rolling_out(&retrying(2), 0.5, guards)).await.unwrap();
    runs(&rig, "main", 0..60).await;
    let status = rig.policy_when("p", |s| state(s) == pb::RolloutState::Promoted).await;
    assert_eq!(active(&status), 2);
    assert!(status.rollout.unwrap().reason.starts_with("every condition held for 300ms"));
    rig.stop().await;
}

#[tokio::test]
async fn a_rollout_goes_on_after_a_restart_and_says_so() {
    let rig = kept().start().await;
    rig.push(pushing("p", &retrying(1))).await.unwrap();
    rig.push(rolling_out(&retrying(2), 0.5, guards())).await.unwrap();
    let before = runs(&rig, "main", 0..40).await;
    let rig = rig.restart().await;
    let status = rig.policy("p").await;
    assert_eq!((active(&status), state(&status)), (1, pb::RolloutState::Active));
    let rollout = status.rollout.unwrap();
    assert!(rollout.reason.contains("restarted"), "{}", rollout.reason);
    assert_eq!((rollout.share, rollout.guards.unwrap()), (0.5, guards()));
    assert_eq!(runs(&rig, "main", 0..40).await, before, "the same runs");
    // Taking an old version up again is allowed in the middle of it, and ends it.
    let back = pb::RollbackPolicyRequest { name: "p".into(), version: 1, ..Default::default() };
    let back = rig.policies().rollback_policy(back).await.unwrap().into_inner().version.unwrap();
    let status = rig.policy("p").await;
    assert_eq!(
        (back.version, active(&status), state(&status)),
        (3, 3, pb::RolloutState::RolledBack)
    );
    assert_eq!(runs(&rig, "main", 40..60).await.keys().copied().collect::<Vec<_>>(), [3]);
    let rig = rig.restart().await;
    let status = rig.policy("p").await;
    assert_eq!((active(&status), state(&status)), (3, pb::RolloutState::RolledBack));
    rig.stop().await;
}
