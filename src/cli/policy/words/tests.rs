use super::*;
use crate::cli::policy::{change, explain, simulate};
use crate::failure::FailureDomain;

fn version(version: u64, comment: &str, rollback_of: u64) -> pb::DocumentVersion {
    pb::DocumentVersion {
        name: "careful".to_owned(),
        version,
        content_hash: "0123456789abcdef0123".to_owned(),
        owner: pb::DocumentOwner::Api.into(),
        author: "mona".to_owned(),
        comment: comment.to_owned(),
        create_time: Some(prost_types::Timestamp { seconds: 1_800_000_000, nanos: 5 }),
        rollback_of,
    }
}

fn route(cause: &str, rule: &str, ladder: &[&str]) -> pb::Route {
    pb::Route {
        domain: pb::FailureDomain::Infrastructure.into(),
        cause: cause.to_owned(),
        target: String::new(),
        rule: rule.to_owned(),
        ladder: ladder.iter().map(|rung| (*rung).to_owned()).collect(),
    }
}

#[test]
fn what_others_wrote_cannot_reach_into_a_terminal() {
    let shown = versions(&[version(1, "two\nlines \u{1b}[2J", 0)], 1);
    assert!(shown.contains("two\\u{a}lines \\u{1b}[2J"), "{shown}");
    let reason = "ended by mona: \u{1b}[31mred".to_owned();
    let shown = rollout_text(&pb::Rollout { reason, ..Default::default() });
    assert!(shown.contains("mona: \\u{1b}[31mred"), "{shown}");
}

#[test]
fn a_whole_domain_and_a_tiny_share_in_words() {
    let change = |cause: &FailureCause| pb::RouteChange {
        after: Some(route(cause.name(), "b", &[])),
        summary: "drops fallback_to_cache".to_owned(),
        ..Default::default()
    };
    let own = |cause: &&FailureCause| cause.domain() == FailureDomain::Infrastructure;
    let all: Vec<_> = FailureCause::ALL.iter().filter(own).map(change).collect();
    let row = |changed: &[pb::RouteChange]| {
        let shown = changes(changed, 0, &[]);
        shown.lines().nth(1).unwrap().split_whitespace().nth(1).unwrap().to_owned()
    };
    assert_eq!(row(&all), "all");
    assert_eq!(row(&all[1..2]), "dns");
    assert_eq!([0.1, 0.000_001, 0.0].map(percent), ["10 %", "under 0.01 %", "0 %"]);
}

#[test]
fn versions_as_a_table() {
    let all = [version(2, "", 1), version(1, "first", 0)];
    insta::assert_snapshot!(versions(&all, 2));
}

#[test]
fn changes_as_a_table() {
    let change = |cause: &str, summary: &str| pb::RouteChange {
        before: Some(route(cause, "a", &[])),
        after: Some(route(cause, "b", &[])),
        summary: summary.to_owned(),
    };
    let all = [
        change("connect", "drops fallback_to_cache"),
        change("dns", "drops fallback_to_cache"),
        change("rate_limited", "another order: fallback_to_target, alert_and_degrade"),
    ];
    let settings = ["cache.enabled: true becomes false".to_owned()];
    insta::assert_snapshot!(changes(&all, 0, &settings));
    assert!(changes(&all, 7, &settings).contains("\nand 7 changes more\n"));
    let response = pb::PushPolicyResponse {
        version: Some(version(3, "", 0)),
        replicas_applied: 1,
        replicas_total: 1,
        ..Default::default()
    };
    assert_eq!(
        change::told(&response, false, None),
        "careful: version 3 is in force on 1 of 1 replicas\n"
    );
    assert_eq!(
        change::told(&response, false, Some(0.1)),
        "careful: version 3 is in force on 1 of 1 replicas\n  no rollout: there is no other version to \
         compare it with\n"
    );
    let rollout = pb::Rollout {
        version: 3,
        share: 0.1,
        guards: Some(pb::RolloutGuards {
            sample_min: 20,
            failed_share_max_increase: Some(5.0),
            latency_p95_max_increase: Some(0.2),
            promote_after: Some(prost_types::Duration { seconds: 600, nanos: 0 }),
            ..Default::default()
        }),
        ..Default::default()
    };
    let response = pb::PushPolicyResponse { rollout: Some(rollout), ..response };
    assert_eq!(
        change::told(&response, false, None),
        "careful: version 3 serves 10 % of the runs, the version before it the others\n  taken back \
         at failed 5 points more, or p95 20 % more; promoted after 10m; judged from 20 runs on \
         each\n"
    );
}

#[test]
fn a_status_with_a_rejection_and_a_rollout() {
    let figures = |version, failed_share| pb::RolloutFigures {
        version,
        runs: 200,
        failed_share,
        degraded_share: 0.01,
        cost_usd_per_run: 0.0021,
        latency_p95: Some(prost_types::Duration { seconds: 2, nanos: 0 }),
    };
    let shown = status(
        "careful",
        &pb::DocumentStatus {
            active: Some(version(2, "", 0)),
            last_rejection: Some(pb::Rejection {
                content_hash: "fedcba9876543210".to_owned(),
                owner: pb::DocumentOwner::File.into(),
                time: Some(prost_types::Timestamp { seconds: 1_800_000_100, nanos: 0 }),
                problems: vec![pb::Problem {
                    severity: pb::Severity::Error.into(),
                    path: "policy.routing".to_owned(),
                    line: 3,
                    column: 5,
                    message: "unknown key `a`".to_owned(),
                    suggestion: "did you mean `b`?".to_owned(),
                }],
            }),
            rollout: Some(pb::Rollout {
                version: 3,
                share: 0.1,
                guards: None,
                state: pb::RolloutState::RolledBack.into(),
                reason: "failed share 9 points higher".to_owned(),
                figures: vec![figures(2, 0.01), figures(3, 0.1)],
                start_time: None,
            }),
            ..Default::default()
        },
    );
    insta::assert_snapshot!(shown);
}

#[test]
fn routes_and_a_failure_explained() {
    let ladder = ["retry_with_backoff (twice, 1s … 20s, full jitter)", "alert_and_degrade"];
    let routes = [
        route("connect", "routing.infrastructure", &ladder),
        route("dns", "routing.infrastructure", &ladder),
        route("tls", "routing.infrastructure.causes.tls", &[]),
    ];
    insta::assert_snapshot!(explain::routes(&routes));
    let rung = |rung, text: &str, feasible, reason: &str| pb::RungExplanation {
        rung,
        text: text.to_owned(),
        action: pb::RecoveryAction::RetryWithBackoff.into(),
        feasible,
        reason: reason.to_owned(),
    };
    let response = pb::ExplainFailureResponse {
        decision: Some(pb::Decision {
            action: pb::RecoveryAction::FallbackToTarget.into(),
            rule: "routing.infrastructure".to_owned(),
            next_target: "backup".to_owned(),
            ..Default::default()
        }),
        rungs: vec![
            rung(0, "retry_with_backoff (twice)", false, "hint_too_long"),
            rung(1, "fallback_to_target (the step's list)", true, ""),
            rung(2, "alert_and_degrade", true, ""),
        ],
    };
    insta::assert_snapshot!("a_failure_explained", explain::explained(&response));
}

#[test]
fn a_simulation_as_a_table() {
    let estimate = |value, low, high| Some(pb::Estimate { value, low, high });
    let change = |unknown, recoveries| pb::SimulatedChange {
        domain: pb::FailureDomain::Infrastructure.into(),
        cause: "overloaded".to_owned(),
        target: "primary".to_owned(),
        before: pb::RecoveryAction::RetryWithBackoff.into(),
        after: pb::RecoveryAction::FallbackToTarget.into(),
        count: 20,
        recoveries,
        degraded: None,
        calls: estimate(-20.0, -20.0, -20.0),
        cost_usd: estimate(-0.25, -0.3, -0.2),
        latency_seconds: estimate(-2.0, -2.5, -1.5),
        unknown,
    };
    let response = pb::SimulatePolicyResponse {
        failures: 120,
        unchanged: 60,
        changes: vec![change(0, estimate(3.0, 1.25, 4.5)), change(20, None)],
        unknown: 20,
        not_reached: 20,
    };
    insta::assert_snapshot!(simulate::told(&response));
}

#[test]
fn words_in_colours() {
    let text = "valid: 1 files\n 2  serves  api\ninvalid\n";
    let expected =
        "\u{1b}[32mvalid:\u{1b}[0m 1 files\n 2  \u{1b}[32mserves\u{1b}[0m  api\ninvalid\n";
    assert_eq!(coloured(text), expected);
}
