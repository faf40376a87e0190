//! What policies cost: a decision by the number of overrides, the stages of a push, and a simulation
//! of a hundred thousand failures. Prints medians; `cargo bench --bench policies`.

#![allow(clippy::expect_used, missing_docs)]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use mainstay::control::hash;
use mainstay::document::Document;
use mainstay::failure::{Failure, FailureCause};
use mainstay::policy::diff::routes;
use mainstay::policy::record::{
    Aftermath, FailureFacts, RecordedConditions, RecordedFailure, RecordedStep, StepEnd,
};
use mainstay::policy::simulate::{Baseline, Effects, simulate};
use mainstay::policy::{
    Conditions, History, Known, Moment, Policy, ReaskRoom, Site, TargetCondition, compile, decide,
    outage,
};

/// The allocator of the service.
#[cfg(feature = "mimalloc")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// A policy with this many overrides, each for something that does not happen here. Short, so that
/// ten thousand of them fit in a document.
fn text(rules: usize) -> String {
    let mut text = String::from("policy:\n overrides:\n");
    for rule in 0..rules {
        let when = match rule % 4 {
            0 => format!("step=='s{rule}' && attempt>1"),
            1 => format!("labels.tenant=='t{rule}'"),
            2 => format!("failure.detail in ['c{rule}','d']"),
            _ => format!("target=='t{rule}'"),
        };
        let _ = writeln!(
            text,
            " - {{name: r{rule}, when: \"{when}\", routing: {{infrastructure: \
             {{action: alert_and_halt}}}}}}"
        );
    }
    text
}

fn policy(text: &str) -> Policy {
    let document = Document::parse("policy.yaml", text).expect("it is YAML");
    compile(&document, &Known::default()).expect("it is a policy").0
}

const TARGETS: [&str; 3] = ["primary", "secondary", "local"];

fn conditions<'a>(targets: &'a [TargetCondition<'a>]) -> Conditions<'a> {
    Conditions {
        max_attempts: 8,
        run_extra_calls_left: 32,
        max_cost_usd: None,
        targets,
        step_targets: 2,
        reprompt_budget: true,
        reask: ReaskRoom::default(),
        verifier_failed: false,
        repair: None,
        cache_age: None,
        step_template: false,
        unfit_templates: &[],
        partial: false,
    }
}

fn targets() -> Vec<TargetCondition<'static>> {
    let admitting = |name| TargetCondition {
        name,
        admits_in: Some(Duration::ZERO),
        refusal: None,
        retry_budget: true,
        context_window: None,
        likely_duration: None,
    };
    TARGETS.map(admitting).to_vec()
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}

fn decisions(rules: usize) -> Duration {
    const BATCH: u32 = 1_000;
    let policy = policy(&text(rules));
    let failure = Failure::new(FailureCause::RateLimited, "it failed");
    let labels = BTreeMap::from([("tenant".to_owned(), "tenant-x".to_owned())]);
    let mut history = History::default();
    history.record_call("primary");
    history.record_failure("primary", &failure);
    let targets = targets();
    let conditions = conditions(&targets);
    let site = Site {
        pipeline: Some("invoices"),
        step: "extract",
        target: "primary",
        attempt: 1,
        labels: &labels,
    };
    let moment = Moment { remaining: Duration::from_secs(60), dice: 0.5 };
    let batch = || {
        let began = Instant::now();
        for _ in 0..BATCH {
            let decision = decide(
                black_box(&policy),
                black_box(&failure),
                &site,
                &history,
                moment,
                &conditions,
            );
            black_box(decision);
        }
        began.elapsed() / BATCH
    };
    median((0..501).map(|_| batch()).collect())
}

/// What a push does with a text, stage by stage; the text before it differs in one override.
fn stages(rules: usize, times: usize) {
    let [before, after] = ["before", "after"].map(|name| {
        let last = format!(
            " - {{name: {name}, when: \"true\", routing: {{infrastructure: \
             {{action: alert_and_halt}}}}}}\n"
        );
        text(rules) + &last
    });
    let names = TARGETS.map(str::to_owned);
    let known = Known { targets: Some(&names), embeds: Some(false) };
    let read = || Document::parse("policy.yaml", after.as_str()).expect("it is YAML");
    let (document, old, new) = (read(), policy(&before), policy(&after));
    let of = |stage: &dyn Fn()| {
        let once = || {
            let began = Instant::now();
            stage();
            began.elapsed()
        };
        median((0..times).map(|_| once()).collect())
    };
    let stages: [(&str, &dyn Fn()); 5] = [
        ("hash", &|| drop(black_box(hash(&after)))),
        ("read", &|| drop(black_box(read()))),
        ("check and compile", &|| drop(black_box(compile(&document, &known)))),
        ("look for an outage", &|| drop(black_box(outage(&new)))),
        ("compare", &|| drop(black_box(routes(&old, &new)))),
    ];
    for (name, stage) in stages {
        println!(
            "push of {} overrides, {} KB: {name}: {:?}",
            rules + 1,
            after.len() >> 10,
            of(stage)
        );
    }
}

/// Steps that met two failures each.
fn steps(policy: &Policy, count: usize) -> Vec<RecordedStep> {
    let targets = targets();
    let conditions = conditions(&targets);
    let labels = Arc::new(BTreeMap::from([("tenant".to_owned(), "tenant-x".to_owned())]));
    let causes = [FailureCause::RateLimited, FailureCause::Overloaded, FailureCause::ServerError];
    let moment = Moment { remaining: Duration::from_secs(60), dice: 0.5 };
    let step = |number: usize| {
        let mut history = History::default();
        let failure = Failure::new(causes[number % causes.len()], "it failed");
        let failures = (1..=2).map(|attempt| {
            history.record_call("primary");
            history.record_failure("primary", &failure);
            let site = Site {
                pipeline: Some("invoices"),
                step: "extract",
                target: "primary",
                attempt,
                labels: &labels,
            };
            let decision = decide(policy, &failure, &site, &history, moment, &conditions);
            let before = history.clone();
            history.record_decision(&decision, "primary");
            RecordedFailure {
                time: SystemTime::UNIX_EPOCH,
                facts: FailureFacts::from(&failure),
                target: "primary".into(),
                attempt,
                history: before,
                moment,
                conditions: RecordedConditions::keep(&conditions, |name| Arc::from(name)),
                decision,
                aftermath: Some(Aftermath {
                    end: StepEnd::Recovered,
                    calls: 1,
                    cost_usd: 0.001,
                    work: Duration::from_secs(1),
                }),
            }
        });
        let failures = failures.collect();
        RecordedStep {
            policy: "default".into(),
            policy_version: 1,
            pipeline: Some("invoices".into()),
            step: "extract".into(),
            labels: Arc::clone(&labels),
            failures,
        }
    };
    (0..count).map(step).collect()
}

fn main() {
    // `cargo test --benches` runs it with this flag, for compiling's sake only.
    if std::env::args().any(|argument| argument == "--test") {
        return;
    }
    for rules in [10, 1_000, 10_000] {
        println!("decision, {rules} overrides that do not apply: {:?}", decisions(rules));
    }
    stages(0, 1_001);
    stages(1_000, 31);
    let (before, after) = (Policy::built_in(), policy(&text(1_000)));
    let steps = steps(&before, 50_000);
    let mut effects = Effects::default();
    steps.iter().for_each(|step| effects.note(step));
    let bytes: usize = steps.iter().map(RecordedStep::bytes).sum();
    let began = Instant::now();
    let simulation = simulate(&steps, &after, Baseline::Recorded, &effects);
    println!(
        "simulation of {} failures ({} MB): {:?}",
        simulation.failures,
        bytes >> 20,
        began.elapsed()
    );
}
