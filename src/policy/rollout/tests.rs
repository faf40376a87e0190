use proptest::prelude::*;

use super::*;

const MINUTE: Duration = Duration::from_secs(60);

/// Figures of a hundred runs.
fn hundred(failed: u32, degraded: u32, cost_usd: f64, milliseconds: u64) -> Summary {
    let mut figures = Figures::default();
    for index in 0..100 {
        figures.add(&RunFacts {
            failed: index < failed,
            degraded: index >= failed && index < failed + degraded,
            cost_usd,
            latency: Duration::from_millis(milliseconds),
        });
    }
    figures.summary()
}

fn guards() -> Guards {
    Guards {
        sample_min: 50,
        failed_share_max_increase: Some(5.0),
        degraded_share_max_increase: Some(10.0),
        cost_max_increase: Some(0.2),
        latency_p95_max_increase: Some(0.5),
        promote_after: Some(MINUTE),
    }
}

fn verdict(new: Summary, lasted: Duration) -> String {
    match judge(&guards(), &hundred(1, 5, 0.01, 1_000), &new, lasted) {
        Verdict::Continue => "continue".to_owned(),
        Verdict::Promote { reason } => format!("promote: {reason}"),
        Verdict::RollBack { reason } => format!("roll back: {reason}"),
    }
}

#[test]
fn each_guard_takes_back_when_it_is_passed_and_not_before() {
    for (new, wanted) in [
        (hundred(6, 5, 0.01, 1_000), "continue"),
        (
            hundred(7, 5, 0.01, 1_000),
            "roll back: the failed share is 7.0 %, against 1.0 % on the old version; at most 5 points more are allowed (100 runs)",
        ),
        (hundred(1, 15, 0.01, 1_000), "continue"),
        (
            hundred(1, 16, 0.01, 1_000),
            "roll back: the degraded share is 16.0 %, against 5.0 % on the old version; at most 10 points more are allowed (100 runs)",
        ),
        (hundred(1, 5, 0.012, 1_000), "continue"),
        (
            hundred(1, 5, 0.013, 1_000),
            "roll back: the cost per run is 0.013000 US dollars, against 0.010000 US dollars on the old version; at most 20 % more is allowed (100 runs)",
        ),
        (hundred(1, 5, 0.01, 1_400), "continue"),
    ] {
        assert_eq!(verdict(new, Duration::ZERO), wanted);
    }
    let slow = verdict(hundred(1, 5, 0.01, 1_700), Duration::ZERO);
    assert!(slow.starts_with("roll back: p95 latency is "), "{slow}");
}

#[test]
fn promotes_after_its_time_and_only_while_every_condition_holds() {
    assert_eq!(verdict(hundred(1, 5, 0.01, 1_000), MINUTE - Duration::from_nanos(1)), "continue");
    assert_eq!(
        verdict(hundred(1, 5, 0.01, 1_000), MINUTE),
        "promote: every condition held for 60s (100 runs)"
    );
    assert!(verdict(hundred(50, 5, 0.01, 1_000), MINUTE).starts_with("roll back"));
    let by_hand = Guards { promote_after: None, ..guards() };
    let same = hundred(1, 5, 0.01, 1_000);
    assert_eq!(judge(&by_hand, &same, &same, MINUTE * 1_000), Verdict::Continue);
}

#[test]
fn too_small_a_sample_decides_nothing() {
    let few = Summary { runs: 49, failed_share: 1.0, ..Summary::default() };
    let many = hundred(0, 0, 0.0, 1);
    for (old, new) in [(&many, &few), (&few, &many)] {
        assert_eq!(judge(&guards(), old, new, MINUTE), Verdict::Continue);
    }
}

#[test]
fn picks_about_the_share_and_always_the_same_runs() {
    let runs: Vec<String> = (0..10_000).map(|n| format!("run-{n}")).collect();
    for share in [0.0, 0.01, 0.1, 0.5, 1.0] {
        let picked = runs.iter().filter(|run| picks("default", run, share)).count();
        let expected = 10_000.0 * share;
        assert!((picked as f64 - expected).abs() <= 4.0 * (expected * (1.0 - share)).sqrt());
    }
    // Pinned: a replica of another version has to pick the same runs.
    let picked: Vec<&String> = runs.iter().filter(|run| picks("default", run, 0.001)).collect();
    insta::assert_debug_snapshot!(picked);
}

proptest! {
    #[test]
    fn a_greater_share_only_adds_runs(run in ".{0,40}", a in 0.0..=1.0_f64, b in 0.0..=1.0_f64) {
        let (less, more) = (a.min(b), a.max(b));
        prop_assert!(!picks("p", &run, less) || picks("p", &run, more));
    }

    #[test]
    fn without_conditions_nothing_is_ever_taken_back(
        failed in 0_u32..=100, cost in 0.0..10.0_f64, milliseconds in 0_u64..100_000,
    ) {
        let guards = Guards { sample_min: 1, ..Guards::default() };
        let new = hundred(failed, 0, cost, milliseconds);
        prop_assert_eq!(judge(&guards, &hundred(0, 0, 0.0, 1), &new, MINUTE), Verdict::Continue);
    }
}
