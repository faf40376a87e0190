//! Settings beside the routes. Every field is taken by name, so that a new one does not compile
//! until it is told of here.

use std::fmt::Display;
use std::time::Duration;

use super::super::Policy;
use super::super::settings::{
    AfterContent, Alerts, CachePolicy, Execution, HedgeAfter, HedgeSettings, Observability,
    Redaction, Validation, WhenAllRefuse,
};
use crate::document::DurationText;
use crate::failure::FailureDomain;
use crate::resilience::breaker::BreakerSettings;
use crate::resilience::budget::BudgetSettings;
use crate::resilience::window::BreakerWindow;

/// Settings that differ, one sentence each.
pub(super) fn changes(before: &Policy, after: &Policy) -> Vec<String> {
    let (old, new) = (all(before), all(after));
    let changed = old.into_iter().zip(new).filter(|(old, new)| old != new);
    changed.map(|((name, old), (_, new))| format!("{name}: {old} becomes {new}")).collect()
}

type Settings = Vec<(String, String)>;

fn add(to: &mut Settings, name: impl Into<String>, value: impl Display) {
    to.push((name.into(), value.to_string()));
}

fn time(value: Duration) -> String {
    DurationText(value).to_string()
}

fn perhaps<T>(value: Option<T>, show: impl Fn(T) -> String) -> String {
    value.map_or_else(|| "none".to_owned(), show)
}

fn all(policy: &Policy) -> Settings {
    let Policy {
        execution,
        validation,
        routing: _,
        alerts,
        cache,
        observability,
        redaction,
        breaker,
        output_breaker,
        retry_budget,
        reprompt_budget,
        after_content,
        hedge,
    } = policy;
    let mut to = Settings::new();
    add_execution(execution, &mut to);
    add_validation(validation, &mut to);
    add_breaker("breaker", breaker, &mut to);
    add_breaker("output_breaker", output_breaker, &mut to);
    add_budget("retry_budget", retry_budget, &mut to);
    add_budget("reprompt_budget", reprompt_budget, &mut to);
    let CachePolicy { enabled, max_age, fresh_for, coalesce, semantic } = cache;
    add(&mut to, "cache.enabled", enabled);
    add(&mut to, "cache.max_age", time(*max_age));
    add(&mut to, "cache.fresh_for", perhaps(*fresh_for, time));
    add(&mut to, "cache.coalesce", coalesce);
    add(&mut to, "cache.semantic.threshold", perhaps(*semantic, |one| one.threshold.to_string()));
    add(&mut to, "cache.semantic.max_age", perhaps(*semantic, |one| time(one.max_age)));
    let after_content = match after_content {
        AfterContent::Restart => "restart",
        AfterContent::Fail => "fail",
        AfterContent::Continue => "continue",
    };
    add(&mut to, "streaming.after_content", after_content);
    let HedgeSettings { enabled, after, max_per_step, targets } = hedge;
    let after = match after {
        HedgeAfter::Fixed(after) => time(*after),
        HedgeAfter::P95 => "p95".to_owned(),
    };
    add(&mut to, "hedge.enabled", enabled);
    add(&mut to, "hedge.after", after);
    add(&mut to, "hedge.max_per_step", max_per_step);
    add(&mut to, "hedge.targets", list(targets, "the step's list"));
    add_alerts(alerts, &mut to);
    let Redaction { fields, patterns } = redaction;
    add(&mut to, "redaction.fields", list(fields, "none"));
    let patterns: Vec<&str> = patterns.iter().map(regex::Regex::as_str).collect();
    add(&mut to, "redaction.patterns", list(&patterns, "none"));
    let Observability { trace_errors, log_raw_payloads, metrics_prefix } = observability;
    add(&mut to, "observability.trace_errors", trace_errors);
    add(&mut to, "observability.log_raw_payloads", log_raw_payloads);
    add(&mut to, "observability.metrics_prefix", metrics_prefix);
    to
}

fn list<T: Display>(items: &[T], empty: &str) -> String {
    let items: Vec<String> = items.iter().map(ToString::to_string).collect();
    if items.is_empty() { empty.to_owned() } else { items.join(", ") }
}

fn add_execution(execution: &Execution, to: &mut Settings) {
    let Execution {
        max_attempts,
        run_extra_calls_max,
        backoff,
        backoff_bases,
        hint_limit,
        hint_spread,
        max_cost_usd,
        attempt_timeout,
        when_all_refuse,
    } = execution;
    add(to, "execution.max_attempts", max_attempts);
    add(to, "execution.run_extra_calls_max", run_extra_calls_max);
    add(to, "backoff", backoff);
    add(to, "backoff.factor", backoff.factor);
    let bases = backoff_bases.iter().map(|(cause, base)| format!("{cause} {}", time(*base)));
    add(to, "backoff.causes", list(&bases.collect::<Vec<_>>(), "none"));
    add(to, "execution.hint_limit", time(*hint_limit));
    add(to, "execution.hint_spread", hint_spread);
    add(to, "execution.max_cost_usd", perhaps(*max_cost_usd, |cost| cost.to_string()));
    add(to, "execution.attempt_timeout", perhaps(*attempt_timeout, time));
    add(
        to,
        "execution.when_all_refuse",
        match when_all_refuse {
            WhenAllRefuse::FailFast => "fail_fast",
            WhenAllRefuse::LeastBad => "least_bad",
        },
    );
}

fn add_validation(validation: &Validation, to: &mut Settings) {
    let Validation {
        strip_markdown_fences,
        max_content_preview_length,
        strict_schema_mode,
        allow_partial_matches,
    } = validation;
    add(to, "validation.strip_markdown_fences", strip_markdown_fences);
    add(to, "validation.max_content_preview_length", max_content_preview_length);
    add(to, "validation.strict_schema_mode", strict_schema_mode);
    add(to, "validation.allow_partial_matches", allow_partial_matches);
}

fn add_breaker(section: &str, breaker: &BreakerSettings, to: &mut Settings) {
    let BreakerSettings {
        window,
        min_calls,
        failure_rate,
        consecutive_failures,
        slow_call,
        slow_first_token,
        slow_call_rate,
        count_rate_limits,
        judge_on,
        open,
        open_factor,
        open_max,
        open_jitter,
        probes,
        probes_renew,
        close_on,
        half_open_max,
        half_open_then,
        ramp,
    } = breaker;
    let mut put = |name: &str, value: &dyn Display| add(to, format!("{section}.{name}"), value);
    put("window", &over(window));
    put("min_calls", min_calls);
    put("failure_rate", &perhaps(*failure_rate, |rate| rate.to_string()));
    put("consecutive_failures", &perhaps(*consecutive_failures, |n| n.to_string()));
    put("slow_call", &perhaps(*slow_call, time));
    put("slow_first_token", &perhaps(*slow_first_token, time));
    put("slow_call_rate", slow_call_rate);
    put("count_rate_limits", count_rate_limits);
    put("judge_on", &format!("{judge_on:?}"));
    put("open", &time(*open));
    put("open_factor", open_factor);
    put("open_max", &time(*open_max));
    put("open_jitter", open_jitter);
    put("probes", probes);
    put("probes_renew", probes_renew);
    put("close_on", &format!("{close_on:?}"));
    put("half_open_max", &perhaps(*half_open_max, time));
    put("half_open_then", &format!("{half_open_then:?}"));
    put("ramp", &time(*ramp));
}

/// What rates are taken over.
fn over(window: &BreakerWindow) -> String {
    match window {
        BreakerWindow::Time { span, buckets, alignment } => {
            format!("{} in {buckets} buckets ({alignment:?})", time(*span))
        }
        BreakerWindow::Count(calls) => format!("{calls} calls"),
        BreakerWindow::Fixed { interval } => perhaps(*interval, time),
    }
}

fn add_budget(section: &str, budget: &BudgetSettings, to: &mut Settings) {
    let BudgetSettings { ratio, floor_per_second, window } = budget;
    add(to, format!("{section}.ratio"), ratio);
    add(to, format!("{section}.floor_per_second"), floor_per_second);
    add(to, format!("{section}.window"), time(*window));
}

fn add_alerts(alerts: &Alerts, to: &mut Settings) {
    add(to, "alerts.window", time(alerts.window));
    add(to, "alerts.resolve_after", time(alerts.resolve_after));
    for domain in FailureDomain::ALL {
        let name = format!("routing.{}.alert_threshold", domain.key());
        add(to, name, alerts.threshold(*domain));
    }
}
