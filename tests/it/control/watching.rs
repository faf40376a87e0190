//! Watching policies.

use mainstay::api::pb;
use mainstay::api::pb::policy_service_client::PolicyServiceClient;
use mainstay::control::hash;
use tokio_stream::StreamExt as _;
use tonic::Code;
use tonic::transport::Endpoint;

use super::{active, kept, pushing, retrying, scaled};
use crate::support::Plan;

fn versions(message: &pb::WatchPoliciesResponse) -> Vec<(&str, u64)> {
    message.policies.iter().map(|status| (status.name.as_str(), active(status))).collect()
}

fn watching(names: &[&str]) -> pb::WatchPoliciesRequest {
    pb::WatchPoliciesRequest { names: names.iter().map(|name| (*name).to_owned()).collect() }
}

/// Resident memory of this process in KiB, where the system tells.
fn resident() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix(" kB")?.trim().parse().ok()
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

/// P16: who missed changes gets all of them at once when it is back, and no version ever goes back,
/// over a restart too: what is told first is never older than what was told last.
#[tokio::test]
async fn a_watcher_that_comes_back_gets_the_whole_state_and_no_older_one() {
    let rig = kept().config("limits: {changes_per_second: 100000}").start().await;
    rig.push(pushing("one", &retrying(1))).await.unwrap();
    rig.push(pushing("gone", &retrying(1))).await.unwrap();
    let mut watcher = rig.policies().watch_policies(watching(&[])).await.unwrap().into_inner();
    let before = watcher.next().await.unwrap().unwrap();
    assert_eq!(versions(&before), [("default", 1), ("gone", 1), ("one", 1)]);
    drop(watcher);
    for attempts in 2..=5 {
        rig.push(pushing("one", &retrying(attempts))).await.unwrap();
    }
    rig.push(pushing("new", &retrying(1))).await.unwrap();
    let delete = pb::DeletePolicyRequest { name: "gone".into(), ..Default::default() };
    rig.policies().delete_policy(delete).await.unwrap();
    let mut watcher = rig.policies().watch_policies(watching(&[])).await.unwrap().into_inner();
    let missed = watcher.next().await.unwrap().unwrap();
    assert_eq!(versions(&missed), [("default", 1), ("new", 1), ("one", 5)]);
    let newest = missed.policies[2].active.as_ref().unwrap();
    assert_eq!(newest.content_hash.as_str(), &*hash(&retrying(5)));
    drop(watcher);

    // A number is given once, whatever becomes of the document and of the process.
    let rig = rig.restart().await;
    let again = rig.push(pushing("gone", &retrying(1))).await.unwrap();
    assert_eq!(again.version, 2);
    let back = pb::RollbackPolicyRequest { name: "one".into(), version: 1, ..Default::default() };
    rig.policies().rollback_policy(back).await.unwrap();
    let mut watcher = rig.policies().watch_policies(watching(&[])).await.unwrap().into_inner();
    let now = watcher.next().await.unwrap().unwrap();
    assert_eq!(versions(&now), [("default", 1), ("gone", 2), ("new", 1), ("one", 6)]);
    rig.stop().await;
}

/// P17, in small: a hundred watchers (or `MAINSTAY_WATCHERS`) that never read hold no push back, and
/// get the newest state when they do read.
#[tokio::test]
async fn a_slow_watcher_is_coalesced_and_blocks_no_push() {
    let rig = Plan::new()
        .target("main", "m")
        .config("limits: {changes_per_second: 100000, streams_per_connection: 200}")
        .start()
        .await;
    let (count, before) = (scaled("MAINSTAY_WATCHERS", 100), resident());
    let mut slow = Vec::new();
    let mut client = rig.policies();
    for watcher in 0..count {
        if watcher % 100 == 0 {
            // Connections of their own: what nobody reads fills the window of a connection.
            let address = format!("http://{}", rig.service.control_address);
            client = PolicyServiceClient::new(Endpoint::try_from(address).unwrap().connect_lazy());
        }
        slow.push(client.watch_policies(watching(&["p"])).await.unwrap().into_inner());
    }
    for attempts in 1..=200 {
        rig.push(pushing("p", &retrying(attempts))).await.unwrap();
    }
    if let Some((before, after)) = before.zip(resident()) {
        let each = after.saturating_sub(before) / count;
        println!("{count} watchers that do not read: {each} KiB each, the client's side included");
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
