use proptest::prelude::*;
use proptest::sample::select;

use super::*;

/// The walk that the index stands for: every override in order, each condition evaluated.
fn linear<'r>(routing: &'r Routing, failure: &Failure, site: &Site<'_>) -> Route<'r> {
    let seen = Seen::new(failure, site);
    let mut broken = Vec::new();
    for rule in &routing.overrides {
        let Some(ladder) = rule.ladder_of(failure.cause) else { continue };
        match seen.holds(&rule.of.when) {
            Ok(true) => return Route { ladder: &routing.ladders[ladder], broken },
            Ok(false) | Err(ExpressionError::Missing(_)) => {}
            Err(_) => broken.push(Arc::clone(&rule.of.name)),
        }
    }
    Route { ladder: routing.of_cause(failure.cause), broken }
}

const CAUSES: [FailureCause; 3] =
    [FailureCause::RateLimited, FailureCause::Overloaded, FailureCause::SchemaMismatch];

fn ladder(rule: String) -> Ladder {
    Ladder { rule: rule.into(), rungs: vec![Rung::AlertAndHalt] }
}

fn routing(conditions: &[(String, Vec<FailureCause>)]) -> Routing {
    let overrides = conditions.iter().enumerate().map(|(at, (when, covered))| {
        let when = Expression::compile(when, VARIABLES).unwrap();
        let of = Override { name: format!("o{at}").into(), when };
        (of, covered.iter().map(|cause| (*cause, ladder(format!("o{at}")))).collect())
    });
    Routing::new(|_| ladder("table".to_owned()), overrides.collect())
}

fn any_condition() -> impl Strategy<Value = String> {
    let leaf = select(vec![
        "step == 'a'",
        "'b' == step",
        "step in ['a', 'c']",
        "step != 'a'",
        "step < 3",
        "target == 'x'",
        "pipeline == ''",
        "pipeline == 'p'",
        "attempt == 1",
        "attempt == 2u",
        "attempt == 1.0",
        "attempt > 1",
        "labels.tier == 'gold'",
        "labels['tier'] == 'silver'",
        "labels.region in ['eu', 'us']",
        "labels.region == 3",
        "has(labels.tier)",
        "failure.cause == 'rate_limited'",
        "failure.cause in ['overloaded', 'schema_mismatch']",
        "failure.domain == 'INFRASTRUCTURE'",
        "failure.status == 429",
        "failure.status >= 500",
        "failure.provider_code == 'slow_down'",
        "failure.detail == 'x'",
        "failure.retryable",
        "failure.nothing == 'a'",
        "1 / (attempt - 1) > 0",
        "true",
        "false",
    ]);
    leaf.prop_map(str::to_owned).prop_recursive(3, 12, 3, |inner| {
        prop_oneof![
            4 => prop::collection::vec(inner.clone(), 2..4)
                .prop_map(|sides| format!("({})", sides.join(" && "))),
            2 => prop::collection::vec(inner.clone(), 2..4)
                .prop_map(|sides| format!("({})", sides.join(" || "))),
            1 => inner.prop_map(|one| format!("!({one})")),
        ]
    })
}

fn any_failure() -> impl Strategy<Value = Failure> {
    let evidence = (select(vec![None, Some(429), Some(503)]), any::<[bool; 2]>());
    (select(&CAUSES[..]), evidence).prop_map(|(cause, (status, has))| {
        let mut failure = Failure::new(cause, "it failed");
        failure.evidence.status = status;
        failure.evidence.provider_code = has[0].then(|| "slow_down".to_owned());
        failure.detail = has[1].then_some("x");
        failure
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    /// The index finds what the walk over all overrides finds, for any overrides; and it calls
    /// none broken that the walk does not.
    #[test]
    fn the_index_agrees_with_the_walk(
        conditions in prop::collection::vec(
            (any_condition(), prop::sample::subsequence(CAUSES.to_vec(), 1..=3)), 0..12),
        failure in any_failure(),
        step in select(vec!["a", "b", "c"]),
        target in select(vec!["x", "y"]),
        pipeline in select(vec![None, Some("p")]),
        attempt in 0_u32..4,
        tier in select(vec![None, Some("gold"), Some("silver")]),
        region in select(vec![None, Some("eu"), Some("3")]),
    ) {
        let routing = routing(&conditions);
        let labels = [("tier", tier), ("region", region)].into_iter()
            .filter_map(|(name, value)| Some((name.to_owned(), value?.to_owned())))
            .collect();
        let site = Site { pipeline, step, target, attempt, labels: &labels };
        let (found, walked) = (routing.route(&failure, &site), linear(&routing, &failure, &site));
        prop_assert_eq!(&found.ladder.rule, &walked.ladder.rule);
        prop_assert!(
            found.broken.iter().all(|name| walked.broken.contains(name)),
            "{:?} {:?}", found.broken, walked.broken
        );
    }
}

#[test]
fn overrides_that_do_not_apply_are_not_looked_at() {
    let all = CAUSES.to_vec();
    let mut conditions: Vec<_> = (0..1_000)
        .map(|n| match n % 4 {
            0 => format!("step == 's{n}' && attempt > 0"),
            1 => format!("labels.tenant == 't{n}' && step == 's'"),
            2 => format!("failure.provider_code in ['c{n}', 'd{n}']"),
            _ => format!("labels.l{n} == 'yes'"),
        })
        .map(|when| (when, all.clone()))
        .collect();
    conditions.push(("failure.cause == 'overloaded'".to_owned(), all.clone()));
    let routing = routing(&conditions);
    let labels = BTreeMap::from([("tenant".to_owned(), "t5".to_owned())]);
    let site = Site { pipeline: None, step: "s", target: "x", attempt: 1, labels: &labels };
    let looked_at = |cause| {
        let failure = Failure::new(cause, "it failed");
        routing.index.candidates(&failure, &site).collect::<Vec<_>>()
    };
    assert_eq!(looked_at(FailureCause::RateLimited), [5]);
    assert_eq!(looked_at(FailureCause::Overloaded), [5, 1_000]);
}
