//! P09, scaled down to a test: policies are swapped under real load, and no run notices.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use mainstay::api::pb;
use serde_json::json;

use super::{pushing, retrying};
use crate::support::{Plan, run_of};

const SWAPS: u64 = 2_000;

/// Two steps, of which the first fails once in a while, so that the policy is asked.
const PIPELINE: &str = "name: load\nsteps:\n  - name: first\n    targets: [flaky]\n    prompt:\n      - user: hello\n  - name: second\n    needs: [first]\n    targets: [main]\n    prompt:\n      - user: \"{{ steps.first }}\"\n";

/// Each version's rule is named after its number, so that a decision tells whose it is.
fn marked(mark: u64) -> String {
    format!(
        "policy:\n  overrides:\n    - name: mark-{mark}\n      when: \"true\"\n      routing:\n        infrastructure:\n          ladder:\n            - retry_with_backoff: {{ attempts: 20, backoff: {{ base: 1ms, max: 2ms }} }}\n            - alert_and_degrade\n"
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn thousands_of_swaps_under_load_fail_no_run_and_mix_no_versions() {
    let rig = Plan::new()
        .target("main", "m")
        .target("flaky", "m!overloaded(probability=0.2)")
        .policy("unused", &retrying(1))
        .pipeline("load", PIPELINE)
        .config("limits: {changes_per_second: 1000000}")
        .start()
        .await;
    // Content by number: version n holds the rule `mark-n`.
    rig.push(pushing("swapped", &marked(1))).await.unwrap();
    let (over, decided) = (AtomicBool::new(false), AtomicU64::new(0));
    let run = async || {
        let mut runs = 0_u64;
        while !over.load(Ordering::Relaxed) {
            let mut request = run_of("load", &json!({}));
            request.options =
                Some(pb::RunOptions { policy: "swapped".into(), ..Default::default() });
            let run = rig.client().run_pipeline(request).await.expect("no run fails");
            let run = run.into_inner().run.unwrap();
            let version = run.policy.as_ref().unwrap().version;
            for attempt in run.steps.iter().flat_map(|step| &step.attempts) {
                if let Some(decision) = &attempt.decision {
                    let rule = format!("mark-{version}");
                    assert!(decision.rule.contains(&rule), "{} under {version}", decision.rule);
                    decided.fetch_add(1, Ordering::Relaxed);
                }
            }
            runs += 1;
        }
        runs
    };
    let swap = async || {
        for mark in 2..=SWAPS {
            let version = rig.push(pushing("swapped", &marked(mark))).await.unwrap();
            assert_eq!(version.version, mark);
        }
        over.store(true, Ordering::Relaxed);
    };
    let load = futures_util::future::join_all((0..8).map(|_| run()));
    let (runs, ()) = tokio::join!(load, swap());
    let runs: u64 = runs.iter().sum();
    println!("{runs} runs, {} decisions, {SWAPS} swaps", decided.load(Ordering::Relaxed));
    assert!(runs > 100 && decided.load(Ordering::Relaxed) > 20);
    rig.stop().await;
}
