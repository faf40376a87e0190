//! Policy documents: whatever the text, a policy that can be used, or problems that can be shown.
#![no_main]

use std::collections::BTreeMap;
use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use mainstay::document::{Document, Problem, Problems, render};
use mainstay::failure::{Failure, FailureCause};
use mainstay::policy::{Conditions, History, Known, Moment, ReaskRoom, Site, TargetCondition};
use mainstay::policy::{Policy, compile, decide, explain};

fuzz_target!(|text: &str| {
    let document = match Document::parse("policy.yaml", text) {
        Ok(document) => document,
        Err(problem) => return shown(text, vec![problem]),
    };
    match compile(&document, &Known::default()) {
        Ok((policy, warnings)) => {
            assert!(warnings.usable(), "a policy came with errors");
            let (again, _) = compile(&document, &Known::default()).expect("it compiled before");
            assert_eq!(policy, again);
            used(&policy);
            shown(text, warnings.0);
        }
        Err(problems) => {
            assert!(!problems.usable(), "a policy was refused without an error");
            shown(text, problems.0);
        }
    }
});

fn shown(text: &str, problems: Vec<Problem>) {
    // YAML ends lines with either character.
    let lines = 1 + text.matches(['\n', '\r']).count();
    for problem in &problems {
        let line = problem.position.line as usize;
        assert!((1..=lines).contains(&line), "a problem beyond the text: {problem}");
    }
    let _ = render("policy.yaml", text, &Problems(problems), false);
}

/// Every cause gets an answer, and a step that follows the policy ends.
fn used(policy: &Policy) {
    let labels = BTreeMap::new();
    let target = |name| TargetCondition {
        name,
        admits_in: Some(Duration::ZERO),
        refusal: None,
        retry_budget: true,
        context_window: None,
        likely_duration: None,
    };
    let conditions = Conditions {
        max_attempts: 8,
        run_extra_calls_left: 8,
        max_cost_usd: None,
        targets: &[target("a"), target("b")],
        step_targets: 2,
        reprompt_budget: true,
        reask: ReaskRoom::default(),
        verifier_failed: false,
        repair: None,
        cache_age: Some(Duration::from_secs(5)),
        step_template: false,
        unfit_templates: &[],
        partial: true,
    };
    let moment = Moment { remaining: Duration::from_secs(60), dice: 0.5 };
    for cause in FailureCause::ALL {
        let failure = Failure::new(*cause, "some failure");
        let site = Site { pipeline: None, step: "step", target: "a", attempt: 1, labels: &labels };
        let mut history = History::default();
        for walked in 0.. {
            assert!(walked < 100, "no end for {}", cause.name());
            history.record_call("a");
            history.record_failure("a", &failure);
            let decision = decide(policy, &failure, &site, &history, moment, &conditions);
            history.record_decision(&decision, "a");
            if decision.rung.is_none() || history.is_ended() {
                break;
            }
        }
    }
    let _ = explain::table(policy, None).to_string();
}
