//! What is refused, and that nothing changes then.

use mainstay::api::pb;

use super::{active, kept, pushing, retrying, told};
use crate::support::{Plan, Refused, Rig, say};

async fn rig() -> Rig {
    Plan::new().target("main", "m").config("limits: {changes_per_second: 100000}").start().await
}

/// P01: two hundred malformed policies, none accepted, each told where it is wrong.
#[tokio::test]
async fn malformed_policies_are_refused_with_places_and_nothing_changes() {
    let rig = rig().await;
    let good = format!(
        "{}    output_semantic:\n      causes:\n        truncated_output:\n          ladder: [fallback_to_cache, alert_and_degrade]\n  cache:\n    enabled: true\n    max_age: 1h\n  execution:\n    max_attempts: 4\n",
        retrying(2)
    );
    rig.push(pushing("good", &good)).await.unwrap();
    let mut refused = 0;
    for (number, line) in good.lines().enumerate().skip(1) {
        let replaced = |with: &str| {
            let lines: Vec<&str> = good
                .lines()
                .enumerate()
                .map(|(at, own)| if at == number { with } else { own })
                .collect();
            lines.join("\n")
        };
        let indent = " ".repeat(line.len() - line.trim_start().len());
        for broken in [
            "\t- tab".to_owned(),
            format!("{indent}nonsense: 1"),
            format!("{indent}? [a, b]"),
            format!("{indent}- {{ unclosed: 1"),
            format!("{indent}'unclosed"),
            format!("{indent}&a *a"),
            format!("{indent}- retry_with_backof"),
            format!("{indent}infrastructure: 7"),
        ] {
            let error = rig.push(pushing("good", &replaced(&broken))).await.unwrap_err();
            assert_eq!(told(&error), "InvalidArgument DOCUMENT_INVALID", "{broken}");
            assert!(!error.refusal.faults.is_empty(), "{broken}");
            refused += 1;
        }
    }
    for at in (1..good.len()).filter(|at| good.is_char_boundary(*at)) {
        // A file cut off, as by a full disk.
        let cut = &good[..at];
        if rig.push(pb::PushPolicyRequest { dry_run: true, ..pushing("good", cut) }).await.is_err()
        {
            refused += 1;
        }
    }
    assert!(refused >= 200, "{refused}");
    let status = rig.policy("good").await;
    assert_eq!((active(&status), status.text.as_str()), (1, good.as_str()));
    let rejection = status.last_rejection.unwrap();
    assert_eq!(rejection.owner(), pb::DocumentOwner::Api);
    assert!(rejection.problems.iter().all(|problem| problem.line > 0));
    rig.push(pushing("good", &retrying(3))).await.unwrap();
    assert!(rig.policy("good").await.last_rejection.is_none());
    rig.stop().await;
}

/// P02.
#[tokio::test]
async fn what_this_server_does_not_have_is_a_precondition_and_listed() {
    let rig = rig().await;
    let text = "policy:\n  routing:\n    infrastructure:\n      ladder:\n        - fallback_to_target: { targets: [nowhere, main, elsewhere] }\n        - alert_and_degrade\n";
    let error = rig.push(pushing("p", text)).await.unwrap_err();
    assert_eq!(told(&error), "FailedPrecondition DOCUMENT_UNMET");
    let told: Vec<&str> = error.refusal.faults.iter().map(|(_, why)| why.as_str()).collect();
    assert!(told.iter().any(|why| why.contains("nowhere")), "{told:?}");
    assert!(told.iter().any(|why| why.contains("elsewhere")), "{told:?}");
    rig.stop().await;
}

/// P03.
#[tokio::test]
async fn huge_documents_are_refused_before_they_are_compiled() {
    let rig = rig().await;
    let huge = format!("policy: {{}}\n#{}", "x".repeat(10 << 20));
    let error = rig.push(pushing("p", &huge)).await.unwrap_err();
    assert_eq!(error.status.code(), tonic::Code::ResourceExhausted);
    let large = format!("policy: {{}}\n#{}", "x".repeat(1 << 20));
    let deep = format!("policy: {}{}", "[".repeat(1_000), "]".repeat(1_000));
    let rule = "    - { name: r, when: 'true', routing: {} }\n";
    let many = format!("policy:\n  overrides:\n{}", rule.repeat(15_000));
    for (text, why) in [(large, "bytes"), (deep, ""), (many, "at most 10000")] {
        let error = rig.push(pushing("p", &text)).await.unwrap_err();
        assert_eq!(told(&error), "InvalidArgument DOCUMENT_INVALID");
        assert!(error.status.message().contains(why), "{}", error.status.message());
    }
    rig.stop().await;
}

/// P08, in small: a storm is taken at a pace, and runs do not notice.
#[tokio::test]
async fn a_storm_of_pushes_is_held_back_and_told_when_to_come_again() {
    let rig =
        Plan::new().target("main", "m").config("limits: {changes_per_second: 5}").start().await;
    let storm = (0..200_u32).map(|n| {
        let mut client = rig.policies();
        async move {
            let text = format!("# {n}\n{}", retrying(1));
            client.push_policy(pushing("stormy", &text)).await.map_err(Refused::from)
        }
    });
    let storm = futures_util::future::join_all(storm);
    let runs = futures_util::future::join_all((0..20).map(|_| rig.step(say(&["main"], "hello"))));
    let (storm, runs) = tokio::join!(storm, runs);
    assert!(runs.iter().all(Result::is_ok));
    let taken = storm.iter().filter(|push| push.is_ok()).count();
    assert!((1..100).contains(&taken), "{taken}");
    for refused in storm.iter().filter_map(|push| push.as_ref().err()) {
        assert_eq!(told(refused), "ResourceExhausted TOO_MANY_CHANGES");
        assert!(refused.refusal.retry_after.is_some());
    }
    assert_eq!(active(&rig.policy("stormy").await), taken as u64, "each that was taken counts");
    rig.stop().await;
}

/// What comes too fast is refused before it is read: what is wrong with it is not told.
#[tokio::test]
async fn a_push_beyond_the_pace_is_refused_unread() {
    let rig =
        Plan::new().target("main", "m").config("limits: {changes_per_second: 1}").start().await;
    let mut unread = None;
    for n in 0..100_u32 {
        let text = format!("# {n}\n{}", retrying(1));
        let _ = rig.push(pushing("p", &text)).await;
        let refused = rig.push(pushing("not a name", "")).await.unwrap_err();
        if told(&refused) != "InvalidArgument INVALID_REQUEST" {
            unread = Some(refused);
            break;
        }
    }
    let unread = unread.expect("a hundred in less than a hundred seconds");
    assert_eq!(told(&unread), "ResourceExhausted TOO_MANY_CHANGES");
    assert!(unread.refusal.retry_after.is_some());
    rig.stop().await;
}

/// P05: a condition that cannot be evaluated counts as not met, and is an alert until another version
/// serves.
#[tokio::test]
async fn an_override_that_breaks_at_run_time_counts_as_not_met_and_is_told() {
    let rig = Plan::new()
        .target("down", "m!overloaded")
        .config("limits: {changes_per_second: 100000}")
        .start()
        .await;
    let broken = "policy:\n  overrides:\n    - name: typo\n      when: labels.tier + 1 == 2\n      routing: { infrastructure: { action: alert_and_halt } }\n";
    rig.push(pushing("default", broken)).await.unwrap();
    let mut request = crate::support::inline(say(&["down"], "hello"));
    let labels = [("tier".to_owned(), "gold".to_owned())].into();
    request.options = Some(pb::RunOptions { labels, ..Default::default() });
    let refused = Refused::from(rig.client().run_step(request).await.unwrap_err());
    assert_eq!(refused.action(), "alert_and_degrade", "the route of the table");
    let told = |alerts: &[String]| alerts.iter().filter(|one| one.contains("typo")).count();
    assert_eq!(told(&rig.standing_alerts().await), 1);
    rig.push(pushing("default", &retrying(1))).await.unwrap();
    assert_eq!(told(&rig.standing_alerts().await), 0);
    rig.stop().await;
}

/// P11.
#[tokio::test]
async fn rolling_back_to_what_is_not_there_changes_nothing() {
    let rig = rig().await;
    rig.push(pushing("p", &retrying(1))).await.unwrap();
    let back = |name: &str, version| pb::RollbackPolicyRequest {
        name: name.into(),
        version,
        ..pb::RollbackPolicyRequest::default()
    };
    for (request, wanted) in [
        (back("p", 7), "NotFound VERSION_NOT_FOUND"),
        (back("q", 1), "NotFound POLICY_NOT_FOUND"),
        (back("p", 0), "InvalidArgument INVALID_REQUEST"),
    ] {
        let error = rig.policies().rollback_policy(request).await.unwrap_err();
        assert_eq!(told(&error.into()), wanted);
    }
    let status = rig.policy("p").await;
    assert_eq!((active(&status), status.last_rejection), (1, None));
    rig.stop().await;
}

/// P12: the target of an old version is gone from the configuration.
#[tokio::test]
async fn rolling_back_to_what_no_longer_fits_changes_nothing() {
    let rig = kept().target("spare", "m").start().await;
    let using = "policy:\n  routing:\n    infrastructure:\n      ladder:\n        - fallback_to_target: { targets: [spare] }\n        - alert_and_degrade\n";
    rig.push(pushing("p", using)).await.unwrap();
    rig.push(pushing("p", &retrying(1))).await.unwrap();
    let config = std::fs::read_to_string(rig.path("mainstay.yaml")).unwrap();
    let without: Vec<&str> = config.lines().filter(|line| !line.starts_with("  spare:")).collect();
    rig.write("mainstay.yaml", &without.join("\n").replace("main, spare", "main"));
    let rig = rig.restart().await;
    let request = pb::RollbackPolicyRequest { name: "p".into(), version: 1, ..Default::default() };
    let error = rig.policies().rollback_policy(request).await.unwrap_err();
    assert_eq!(told(&error.into()), "FailedPrecondition DOCUMENT_UNMET");
    let status = rig.policy("p").await;
    assert_eq!((active(&status), status.text), (2, retrying(1)));
    rig.stop().await;
}

#[tokio::test]
async fn faults_of_a_request_are_told_all_at_once() {
    let rig = rig().await;
    let request =
        pb::PushPolicyRequest { comment: "x".repeat(1_025), ..pushing("Not A Name", " ") };
    let error = rig.push(request).await.unwrap_err();
    let fields: Vec<&str> = error.refusal.faults.iter().map(|(field, _)| field.as_str()).collect();
    assert_eq!(fields, ["name", "comment", "text"]);
    for (share, guards) in [
        (Some(1.5), None),
        (Some(f64::NAN), None),
        (None, Some(pb::RolloutGuards::default())),
        (
            Some(0.5),
            Some(pb::RolloutGuards { cost_max_increase: Some(-1.0), ..Default::default() }),
        ),
        // Conditions that nobody would watch.
        (Some(1.0), Some(pb::RolloutGuards { cost_max_increase: Some(1.0), ..Default::default() })),
    ] {
        let request = pb::PushPolicyRequest {
            rollout_share: share,
            rollout_guards: guards,
            ..pushing("p", &retrying(1))
        };
        let error = rig.push(request).await.unwrap_err();
        assert_eq!(told(&error), "InvalidArgument INVALID_REQUEST");
    }
    rig.stop().await;
}

/// With the store away what serves goes on serving, and changes are refused, not faked.
#[tokio::test]
async fn a_store_that_is_away_refuses_changes_and_nothing_else() {
    let rig = kept().start().await;
    rig.push(pushing("p", &retrying(1))).await.unwrap();
    let path = rig.path("store/mainstay.db");
    let thief = rusqlite::Connection::open(path).unwrap();
    thief.execute_batch("BEGIN IMMEDIATE").unwrap();
    let error = rig.push(pushing("p", &retrying(2))).await.unwrap_err();
    assert_eq!(told(&error), "Unavailable STORE_UNAVAILABLE");
    assert_eq!(active(&rig.policy("p").await), 1);
    assert!(rig.step(say(&["main"], "hello")).await.is_ok());
    thief.execute_batch("ROLLBACK").unwrap();
    assert_eq!(rig.push(pushing("p", &retrying(2))).await.unwrap().version, 2);
    rig.stop().await;
}
