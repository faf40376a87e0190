use std::time::Duration;

use serde_json::{Value, json};

use super::super::{Action, Policy, Rung, WhenAllRefuse};
use super::*;
use crate::failure::{FailureCause, FailureDomain};
use crate::resilience::backoff::{Backoff, Jitter};
use crate::resilience::window::BreakerWindow;

const SHORTHAND: &str = include_str!("../../../config/policies/shorthand.yaml");

mod conditions;
mod mistakes;

fn read(text: &str) -> Result<(Policy, Problems), Problems> {
    compile(&Document::parse("policy.yaml", text).unwrap(), &Known::default())
}

#[track_caller]
fn good(text: &str) -> Policy {
    let (policy, problems) = read(text).unwrap_or_else(|problems| panic!("{problems}"));
    assert_eq!(problems.to_string(), "");
    policy
}

/// Problems of a text, as one line each.
fn problems(text: &str) -> String {
    match read(text) {
        Ok((_, warnings)) => warnings.to_string(),
        Err(problems) => {
            assert!(!problems.usable());
            problems.to_string()
        }
    }
}

fn rungs(policy: &Policy, cause: FailureCause) -> Vec<String> {
    policy.routing.of_cause(cause).rungs.iter().map(ToString::to_string).collect()
}

#[test]
fn the_default_policy_is_the_embedded_one_and_without_a_problem() {
    let policy = good(DEFAULT_TEXT);
    assert_eq!(policy, Policy::built_in());
    for cause in FailureCause::ALL {
        let ladder = policy.routing.of_cause(*cause);
        let last = ladder.rungs.last().expect("a rung");
        assert!(last.action().is_terminal(), "{cause}");
        let route = format!("routing.{}", cause.domain().key());
        assert!(ladder.rule.starts_with(&route), "{cause}: {}", ladder.rule);
    }
}

#[test]
fn what_is_left_out_is_answered_by_the_default_policy() {
    let empty = good("policy: {}");
    let default = Policy::built_in();
    assert_eq!(Policy { routing: default.routing.clone(), ..empty.clone() }, default);
    for cause in FailureCause::ALL {
        let (own, default) = (empty.routing.of_cause(*cause), default.routing.of_cause(*cause));
        assert_eq!(own.rungs, default.rungs, "{cause}");
        assert_eq!(*own.rule, format!("default.{}", default.rule), "{cause}");
    }
    assert_eq!(good("policy:"), empty, "a section without content has its defaults");
    let policy = good("policy:\n  execution:\n  routing:\n    infrastructure:\n  cache:\n");
    assert_eq!(policy, empty);
}

#[test]
fn the_shorthand_loads_unchanged() {
    let policy = good(SHORTHAND);
    let backoff = Backoff {
        base: Duration::from_secs(2),
        max: Duration::from_secs(20),
        jitter: Jitter::Proportional { ratio: 0.3 },
        ..Backoff::default()
    };
    assert_eq!(policy.execution.max_attempts, 3);
    assert_eq!(policy.execution.backoff, backoff);
    assert!(policy.validation.strip_markdown_fences);
    for cause in FailureCause::ALL {
        let expected = match cause.domain() {
            FailureDomain::Infrastructure => "retry_with_backoff (twice, 2s … 20s, ±30%)",
            FailureDomain::InputConstraint => "reject_and_fix",
            FailureDomain::OutputSemantic => "fallback_to_cache",
            FailureDomain::PipelineLogic => "alert_and_degrade",
        };
        assert_eq!(rungs(&policy, *cause), [expected], "{cause}");
    }
    let thresholds = FailureDomain::ALL.iter().map(|domain| policy.alerts.threshold(*domain));
    assert_eq!(thresholds.collect::<Vec<_>>(), [3, 1, 5, 1]);
    assert_eq!(&*policy.observability.metrics_prefix, "llm.pipeline");
}

#[test]
fn keys_may_be_written_as_paths() {
    let dotted = good(
        "llm_pipeline.execution.infra_errors: [openai.RateLimitError, TimeoutError]\n\
         llm_pipeline.execution.max_attempts: 3\n\
         llm_pipeline: {routing: {infrastructure: {action: retry_with_backoff}}}\n",
    );
    let nested = good(
        "llm_pipeline:\n  execution: {max_attempts: 3, infra_errors: [RateLimitError, Timeout]}\n  \
         routing: {infrastructure: {action: retry_with_backoff}}\n",
    );
    assert_eq!(dotted, nested);
    assert_eq!(
        problems("llm_pipeline: {cache: }\nllm_pipeline.execution.max_attempts: 0\nx: 1\n"),
        "2:38: error: llm_pipeline.execution.max_attempts: 0 is below the least, 1\n\
         3:1: error: x: unknown key `x` (known here: policy, llm_pipeline)"
    );
    let twice = "llm_pipeline: {cache: {enabled: true}}\nllm_pipeline.cache.enabled: false\n";
    assert!(problems(twice).contains("given twice"), "{}", problems(twice));
}

#[test]
fn only_listed_errors_are_retried() {
    let policy = good(
        "llm_pipeline:\n  execution: {infra_errors: [RateLimitError, httpx.ReadTimeout]}\n  \
         routing: {infrastructure: {ladder: [retry_with_backoff, alert_and_degrade]}}\n",
    );
    let first = |cause| policy.routing.of_cause(cause).rungs[0].action();
    assert_eq!(first(FailureCause::RateLimited), Action::RetryWithBackoff);
    assert_eq!(first(FailureCause::RequestTimeout), Action::RetryWithBackoff);
    assert_eq!(first(FailureCause::CircuitOpen), Action::RetryWithBackoff);
    assert_eq!(first(FailureCause::ServerError), Action::AlertAndDegrade);
    let rule = &policy.routing.of_cause(FailureCause::ServerError).rule;
    assert_eq!(&**rule, "execution.infra_errors");
    assert_eq!(
        problems(
            "llm_pipeline:\n  execution:\n    infra_errors:\n      - FooError\n      \
             - AuthenticationError\n"
        ),
        "4:9: warning: llm_pipeline.execution.infra_errors[0]: `FooError` means nothing here and \
         is passed over (name a failure cause, such as `rate_limited`)\n\
         5:9: warning: llm_pipeline.execution.infra_errors[1]: `AuthenticationError` is \
         `authentication` here, of pipeline_logic, and is passed over (route it under \
         `routing.pipeline_logic.causes.authentication`)"
    );
}

#[test]
fn first_waits_depend_on_the_cause_unless_the_document_says_otherwise() {
    let base = |policy: &Policy, cause| match &policy.routing.of_cause(cause).rungs[0] {
        Rung::RetryWithBackoff { backoff, .. } => backoff.base.as_millis(),
        other => panic!("{other}"),
    };
    use FailureCause::{Connect, RateLimited, ServerError};
    let route = "  routing: {infrastructure: {ladder: [RUNG, alert_and_halt]}}\n";
    let check = |before: &str, rung: &str, expected: [u128; 3]| {
        let policy = good(&format!("policy:\n{before}{}", route.replace("RUNG", rung)));
        let bases = [Connect, ServerError, RateLimited].map(|cause| base(&policy, cause));
        assert_eq!(bases, expected, "{before} {rung}");
        let general = [Connect, ServerError, RateLimited]
            .map(|cause| policy.execution.backoff_for(cause).base.as_millis());
        if rung == "retry_with_backoff" {
            assert_eq!(general, expected);
        }
    };
    let plain = "retry_with_backoff";
    check("", plain, [100, 500, 1_000]);
    check("  backoff: {base: 3s}\n", plain, [3_000; 3]);
    check("  execution: {base_delay_seconds: 3}\n", plain, [3_000; 3]);
    check("  backoff: {base: 3s, causes: {connect: 1s}}\n", plain, [1_000, 3_000, 3_000]);
    check("", "{retry_with_backoff: {backoff: {max: 800ms}}}", [100, 500, 800]);
    check("", "{retry_with_backoff: {backoff: {base: 2s}}}", [2_000; 3]);
    let both = "{retry_with_backoff: {backoff: {base: 2s, causes: {connect: 1ms}}}}";
    check("", both, [1, 2_000, 2_000]);
    let one = "{retry_with_backoff: {backoff: {causes: {server_error: 7ms}}}}";
    check("", one, [100, 7, 1_000]);
}

#[test]
fn rungs_with_parameters() {
    let text = r"
policy:
  routing:
    output_semantic:
      ladder:
        - retry_with_backoff: {attempts: 3, backoff: {kind: linear, jitter: none, base: 1s}, also_when_not_retryable: true}
        - repair_output: {accept_lossy: true}
        - reprompt_with_errors: {attempts: 2}
        - fallback_to_target: {targets: [b, c], attempts: 2}
        - fallback_to_cache: {max_age: 6h}
        - accept_partial: {defaults: {a: 1}}
        - fallback_to_template:
        - reject_and_fix: {message: shorten it}
";
    insta::assert_snapshot!(rungs(&good(text), FailureCause::Refusal).join("\n"), @r"
    retry_with_backoff (3 times, 1s … 20s, always)
    repair_output (lossy too)
    reprompt_with_errors (twice)
    fallback_to_target (b, c; twice)
    fallback_to_cache (at most 6h old)
    accept_partial (defaults for 1)
    fallback_to_template (of the step)
    reject_and_fix
    ");
}

#[test]
fn figures_of_the_other_sections() {
    let policy = good(
        "policy:
  execution: {when_all_refuse: least_bad, max_cost_usd: 0.5, attempt_timeout: 30s, hint_limit: 1m}
  breaker: {window_calls: 8, consecutive_failures: 0}
  retry_budget: {ratio: 0.1}
  hedge: {enabled: true, after: 800ms, targets: [b]}
  redaction: {fields: [iban], patterns: ['\\d{16}']}
  cache: {max_age: 1h}
",
    );
    assert_eq!(policy.execution.when_all_refuse, WhenAllRefuse::LeastBad);
    assert_eq!(policy.execution.attempt_timeout, Some(Duration::from_secs(30)));
    assert_eq!(policy.breaker.window, BreakerWindow::Count(8));
    assert_eq!((policy.breaker.min_calls, policy.breaker.consecutive_failures), (8, None));
    assert_eq!(policy.retry_budget.ratio, 0.1);
    assert_eq!(policy.reprompt_budget.ratio, 0.2);
    assert_eq!(policy.redaction.patterns.len(), 1);
    assert_eq!(policy.targets().iter().map(|t| &**t).collect::<Vec<_>>(), ["b"]);
}

#[test]
fn every_mistake_at_once_with_its_place() {
    let text = r"policy:
  execution: { max_attempts: 0, base_delay_seconds: 30, jitter_factor: 1.5 }
  backoff: { base: 5s, max: 1s, jitter: full, ratio: 0.5, causes: { conect: 1s } }
  rooting: {}
  routing:
    infrastructure:
      action: retry
      ladder: []
      causes:
        rate_limit: { action: retry_with_backoff }
        malformed_json: { action: repair_output }
        tls: { ladder: [retry_with_backoff, alert_and_halt] }
        dns: {}
        connect: { ladder: [reprompt_with_errors, fallback_to_target: { targets: [primry, far] }] }
    input_constraint:
      ladder:
        - reject_and_fix
        - accept_partial: { defaults: {} }
        - { fallback_to_cache: { max_age: soon } }
    output_semantic:
      ladder:
        - retry_with_backoff: { attempts: 9, backoff: { jitter_kind: full } }
        - repair_output: {}
          reprompt_with_errors: {}
        - fallback_to_template: { template: { answer: unknown } }
        - alert_and_degrade
  overrides:
    - { name: night, when: 'labels.shift == night', routing: { infrastructure: { action: alert_and_halt } } }
    - { name: night, when: step ==, routing: { pipeline_logic: { alert_threshold: 3 } } }
  breaker: { open: 90s, failure_rate: 0 }
  redaction: { patterns: ['(a{1000}){1000}', '(', 'x*'] }
  hedge: { targets: [nowhere] }
";
    let targets = ["primary".to_owned(), "backup".to_owned()];
    let known = Known { targets: Some(&targets), ..Known::default() };
    let document = Document::parse("policy.yaml", text).unwrap();
    let problems = compile(&document, &known).unwrap_err();
    insta::assert_snapshot!(problems.to_string());
    insta::assert_snapshot!("rendered_mistakes", document.render(&problems, false));
}

#[test]
fn legal_and_surely_not_meant() {
    let check = |text: &str, expected: &str| {
        assert_eq!(problems(text), expected);
        assert!(read(text).is_ok(), "{text}");
    };
    check(
        "policy: {routing: {infrastructure: {ladder: [retry_with_backoff]}}}",
        "1:45: warning: policy.routing.infrastructure.ladder: the ladder has no end: where no rung \
         is feasible the step fails without an alert (end it with `alert_and_degrade`, \
         `reject_and_fix` or `alert_and_halt`)",
    );
    check(
        "policy: {routing: {infrastructure: {ladder: [alert_and_halt, fallback_to_cache]}}}",
        "1:62: warning: policy.routing.infrastructure.ladder[1]: is never reached: \
         `alert_and_halt` before it is always feasible (remove it, or move it up)",
    );
    check(
        "policy: {routing: {pipeline_logic: {action: retry_with_backoff}}}",
        "1:45: warning: policy.routing.pipeline_logic.action: `retry_with_backoff` is never \
         feasible here: a retry cannot cure these failures",
    );
    check(
        "policy: {cache: {enabled: false}, routing: {pipeline_logic: {action: fallback_to_cache}}}",
        "1:70: warning: policy.routing.pipeline_logic.action: `fallback_to_cache` is never \
         feasible here: `cache.enabled` is false",
    );
    check(
        "policy: {execution: {max_attempts: 1}, routing: {infrastructure: {action: \
         retry_with_backoff}}}",
        "1:75: warning: policy.routing.infrastructure.action: `retry_with_backoff` is never \
         feasible here: `execution.max_attempts` leaves no call after the first",
    );
}

#[test]
fn answers_to_similar_prompts_are_asked_for_and_have_a_threshold() {
    let cache = |text: &str| read(&format!("policy: {{cache: {text}}}")).unwrap().0.cache;
    assert_eq!(cache("{fresh_for: 1h}").semantic, None);
    let given = cache("{max_age: 2h, semantic: {}}").semantic.unwrap();
    assert_eq!((given.threshold, given.max_age), (0.95, Duration::from_secs(7_200)));
    let own = cache("{semantic: {threshold: 1, max_age: 5m}}").semantic.unwrap();
    assert_eq!((own.threshold, own.max_age), (1.0, Duration::from_secs(300)));
    for (text, expected) in [
        ("{semantic: {threshold: 0}}", "must be above 0 and at most 1"),
        ("{semantic: {threshold: 1.5}}", "threshold"),
        ("{semantic: {max_age: 0s}}", "must be longer than nothing"),
        ("{semantic: {treshold: 0.9}}", "did you mean `threshold`"),
        ("{semantic: {threshold: 0.5}}", "warning: policy.cache.semantic.threshold"),
        ("{enabled: false, semantic: {}}", "the cache is not enabled"),
    ] {
        let told = problems(&format!("policy: {{cache: {text}}}"));
        assert!(told.contains(expected), "{text}: {told}");
    }
    let document = Document::parse("policy.yaml", "policy: {cache: {semantic: {}}}").unwrap();
    for (embeds, warns) in [(None, 0), (Some(true), 0), (Some(false), 1)] {
        let (_, warnings) = compile(&document, &Known { embeds, ..Known::default() }).unwrap();
        assert_eq!(warnings.0.len(), warns, "{warnings}");
    }
}

#[test]
fn a_policy_that_would_stop_all_traffic() {
    assert_eq!(
        problems("policy:\n  execution: {attempt_timeout: 1ms}\n"),
        "2:32: warning: policy.execution.attempt_timeout: the policy would stop all traffic: \
         `execution.attempt_timeout` of 1ms ends every call (give failures that pass a retry or a \
         fallback)"
    );
}

#[test]
fn a_document_without_a_policy() {
    let lacking = "1:1: error: there is no policy in this document (write it under the key \
                   `policy`)";
    assert_eq!(problems("{}"), lacking);
    assert_eq!(problems("policy: {}\nllm_pipeline: {}").lines().count(), 1);
    assert_eq!(problems("[]").lines().count(), 1);
    assert_eq!(problems("polcy: {}").lines().count(), 1);
    assert_eq!(problems("policy: 3").lines().count(), 1);
}

/// Every key of the default policy misspelt, and every value replaced by one of another type: none
/// of these hundreds of documents may be accepted.
#[test]
fn no_malformed_policy_is_accepted() {
    fn mutants(value: &Value, make: &mut dyn FnMut(Value)) {
        match value {
            Value::Object(members) => {
                for (key, inner) in members {
                    let mut misspelt = members.clone();
                    let content = misspelt.remove(key).unwrap();
                    misspelt.insert(format!("{key}_x"), content);
                    make(Value::Object(misspelt));
                    mutants(inner, &mut |mutant| {
                        let mut changed = members.clone();
                        changed.insert(key.clone(), mutant);
                        make(Value::Object(changed));
                    });
                }
                make(json!("text"));
                make(json!([1]));
            }
            Value::Array(items) => {
                for (at, inner) in items.iter().enumerate() {
                    mutants(inner, &mut |mutant| {
                        let mut changed = items.clone();
                        changed[at] = mutant;
                        make(Value::Array(changed));
                    });
                }
                make(json!("text"));
                make(json!({"a": 1}));
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
                make(json!({"a": 1}));
                make(json!(-1));
                if !value.is_string() {
                    make(json!("text"));
                }
            }
        }
    }
    let default = Document::parse("default.yaml", DEFAULT_TEXT).unwrap().to_json();
    let mut count = 0;
    mutants(&default, &mut |mutant| {
        count += 1;
        // Half of them are plenty, and take half of the time.
        if count % 2 > 0 {
            return;
        }
        let document = Document::parse("mutant.json", mutant.to_string()).unwrap();
        if let Ok((policy, _)) = compile(&document, &Known::default()) {
            panic!("accepted: {mutant}\n{policy:?}");
        }
    });
    assert!(count / 2 > 200, "{count}");
}

#[test]
fn a_huge_policy_is_refused_before_it_is_read_whole() {
    let entry = "{name: a, when: 'true', routing: {infrastructure: {action: alert_and_halt}}},";
    let many = format!("policy: {{overrides: [{}]}}", entry.repeat(10_001));
    let problem = Document::parse("huge.yaml", many.clone()).unwrap_err().to_string();
    assert!(problem.contains("policy.overrides[10000]: "), "{problem}");
    assert!(problem.contains("at most 10000 items"), "{problem}");
    assert!(Document::parse("huge.yaml", many.repeat(3)).is_err());
}
