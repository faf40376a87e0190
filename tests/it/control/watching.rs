//! Watching policies.

use mainstay::api::pb;
use tokio_stream::StreamExt as _;
use tonic::Code;

use super::{active, pushing, retrying};
use crate::support::Plan;

fn versions(message: &pb::WatchPoliciesResponse) -> Vec<(&str, u64)> {
    message.policies.iter().map(|status| (status.name.as_str(), active(status))).collect()
}

fn watching(names: &[&str]) -> pb::WatchPoliciesRequest {
    pb::WatchPoliciesRequest { names: names.iter().map(|name| (*name).to_owned()).collect() }
}

#[tokio::test]
async fn everything_first_then_each_change_until_the_service_stops() {
    let rig = Plan::new().target("main", "m").policy("careful", &retrying(1)).start().await;
    let mut all = rig.policies().watch_policies(watching(&[])).await.unwrap().into_inner();
    let mut one = rig.policies().watch_policies(watching(&["mine"])).await.unwrap().into_inner();
    let first = all.next().await.unwrap().unwrap();
    assert_eq!(versions(&first), [("careful", 1), ("default", 1)]);
    assert_eq!(versions(&one.next().await.unwrap().unwrap()), []);
    rig.push(pushing("other", &retrying(1))).await.unwrap();
    assert_eq!(versions(&all.next().await.unwrap().unwrap()), [("other", 1)]);
    rig.push(pushing("mine", &retrying(1))).await.unwrap();
    assert_eq!(versions(&all.next().await.unwrap().unwrap()), [("mine", 1)]);
    let mine = one.next().await.unwrap().unwrap();
    assert_eq!((versions(&mine), mine.policies[0].text.as_str()), (vec![("mine", 1)], ""));
    rig.push(pushing("mine", "policy: 7")).await.unwrap_err();
    let refused = one.next().await.unwrap().unwrap();
    assert!(refused.policies[0].last_rejection.is_some(), "a refusal is a change too");
    rig.stop().await;
    let last = one.next().await.unwrap().unwrap_err();
    assert_eq!(last.code(), Code::Unavailable);
    assert!(one.next().await.is_none());
}

/// P17, in small: a hundred watchers that never read hold no push back, and get the newest state
/// when they do read.
#[tokio::test]
async fn a_slow_watcher_is_coalesced_and_blocks_no_push() {
    let rig = Plan::new()
        .target("main", "m")
        .config("limits: {changes_per_second: 100000, streams_per_connection: 200}")
        .start()
        .await;
    let mut slow = Vec::new();
    for _ in 0..100 {
        slow.push(rig.policies().watch_policies(watching(&["p"])).await.unwrap().into_inner());
    }
    for attempts in 1..=200 {
        rig.push(pushing("p", &retrying(attempts))).await.unwrap();
    }
    for watcher in &mut slow {
        let mut messages = 0;
        loop {
            let message = watcher.next().await.unwrap().unwrap();
            messages += 1;
            if versions(&message) == [("p", 200)] {
                break;
            }
        }
        assert!(messages <= 201, "{messages}");
    }
    drop(slow);
    rig.stop().await;
}
