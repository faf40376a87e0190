//! The sections of figures and switches.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use regex::RegexBuilder;

use super::super::document::{
    AfterContentName, BackoffSection, BudgetSection, ExecutionSection, GrowthName, HedgeAfterText,
    JitterName, PolicyBody, SemanticSection, WhenAllRefuseName,
};
use super::super::settings::{
    AfterContent, Alerts, CachePolicy, Execution, HedgeAfter, HedgeSettings, Observability,
    Redaction, SemanticPolicy, Validation, WhenAllRefuse,
};
use super::Known;
use super::report::{Report, suggestion};
use crate::document::DurationText;
use crate::failure::FailureCause::{self, *};
use crate::failure::FailureDomain;
use crate::resilience::backoff::{Backoff, Growth, Jitter};
use crate::resilience::budget::BudgetSettings;

/// Share of jitter where a form that needs one has none.
const RATIO_DEFAULT: f64 = 0.2;

/// First waits of causes for which the general one is too long or too short.
fn default_bases() -> BTreeMap<FailureCause, Duration> {
    let short = [Connect, Dns, ConnectTimeout, StreamInterrupted, Conflict, BulkheadFull];
    let ms = Duration::from_millis;
    let mut bases: BTreeMap<_, _> = short.into_iter().map(|cause| (cause, ms(100))).collect();
    bases.insert(RateLimited, ms(1_000));
    bases
}

pub(super) fn execution(body: &PolicyBody, report: &mut Report<'_>) -> Execution {
    let absent = ExecutionSection::default();
    let raw = body.execution.as_ref().unwrap_or(&absent);
    let (backoff, backoff_bases) = policy_backoff(raw, body.backoff.as_ref(), report);
    if raw.max_cost_usd == Some(0.0) {
        let message = "a ceiling of 0 allows no provider call beyond the first";
        report.warning("/execution/max_cost_usd", message, None);
    }
    Execution {
        max_attempts: raw.max_attempts.unwrap_or(8),
        run_extra_calls_max: raw.run_extra_calls_max.unwrap_or(32),
        backoff,
        backoff_bases,
        hint_limit: raw.hint_limit.map_or(Duration::from_secs(120), |limit| limit.0),
        hint_spread: raw.hint_spread.unwrap_or(0.25),
        max_cost_usd: raw.max_cost_usd,
        attempt_timeout: positive(raw.attempt_timeout, "/execution/attempt_timeout", report),
        when_all_refuse: match raw.when_all_refuse {
            None | Some(WhenAllRefuseName::FailFast) => WhenAllRefuse::FailFast,
            Some(WhenAllRefuseName::LeastBad) => WhenAllRefuse::LeastBad,
        },
    }
}

/// The policy's waits, from the section or from its shorthand in `execution`.
fn policy_backoff(
    raw: &ExecutionSection,
    section: Option<&BackoffSection>,
    report: &mut Report<'_>,
) -> (Backoff, BTreeMap<FailureCause, Duration>) {
    let seconds = |value: Option<f64>| value.map(Duration::from_secs_f64);
    let mut own = section.cloned().unwrap_or_default();
    let clashes = [
        ("base_delay_seconds", raw.base_delay_seconds.is_some(), "base", own.base.is_some()),
        ("max_delay_seconds", raw.max_delay_seconds.is_some(), "max", own.max.is_some()),
        (
            "jitter_factor",
            raw.jitter_factor.is_some(),
            "jitter",
            own.jitter.is_some() || own.ratio.is_some(),
        ),
    ];
    for (short, is_short, long, is_long) in clashes {
        if is_short && is_long {
            report.key_error(
                &format!("/execution/{short}"),
                format!("`{short}` is shorthand for `backoff.{long}`, which is given too"),
                Some("keep one of them".to_owned()),
            );
        }
    }
    let base = Backoff::default();
    let base = Backoff {
        base: seconds(raw.base_delay_seconds).unwrap_or(base.base),
        max: seconds(raw.max_delay_seconds).unwrap_or(base.max),
        jitter: match raw.jitter_factor {
            None => base.jitter,
            Some(0.0) => Jitter::None,
            Some(ratio) => Jitter::Proportional { ratio },
        },
        ..base
    };
    if base.max < base.base && own.base.is_none() && own.max.is_none() {
        let path = if raw.max_delay_seconds.is_some() {
            "/execution/max_delay_seconds"
        } else {
            "/execution/base_delay_seconds"
        };
        report.error(
            path,
            format!("the longest wait, {:?}, is shorter than the first, {:?}", base.max, base.base),
            None,
        );
    }
    let bases = match (own.causes.take(), raw.base_delay_seconds.is_some() || own.base.is_some()) {
        (Some(causes), _) => cause_bases(&causes, "/backoff/causes", report),
        (None, true) => BTreeMap::new(),
        (None, false) => default_bases(),
    };
    (backoff(&own, base, "/backoff", report), bases)
}

/// First waits by cause.
pub(super) fn cause_bases(
    raw: &BTreeMap<String, crate::document::DurationText>,
    path: &str,
    report: &mut Report<'_>,
) -> BTreeMap<FailureCause, Duration> {
    let mut bases = BTreeMap::new();
    for (name, base) in raw {
        match name.parse::<FailureCause>() {
            Ok(cause) => {
                bases.insert(cause, base.0);
            }
            Err(error) => {
                let causes = FailureCause::ALL.iter().map(|cause| cause.name());
                let near = suggestion(name, causes);
                report.key_error(&format!("{path}/{name}"), error.to_string(), near);
            }
        }
    }
    bases
}

/// A series of waits: what the section says, over what holds without it.
pub(super) fn backoff(
    raw: &BackoffSection,
    over: Backoff,
    path: &str,
    report: &mut Report<'_>,
) -> Backoff {
    let ratio = raw.ratio.or(match over.jitter {
        Jitter::Proportional { ratio } | Jitter::Additive { ratio, .. } => Some(ratio),
        Jitter::None | Jitter::Full | Jitter::Equal | Jitter::Decorrelated => None,
    });
    let jitter = match raw.jitter {
        Some(JitterName::None) => Jitter::None,
        Some(JitterName::Full) => Jitter::Full,
        Some(JitterName::Equal) => Jitter::Equal,
        Some(JitterName::Decorrelated) => Jitter::Decorrelated,
        Some(JitterName::Proportional) => {
            Jitter::Proportional { ratio: ratio.unwrap_or(RATIO_DEFAULT) }
        }
        Some(JitterName::Additive) => Jitter::Additive {
            ratio: match raw.spread {
                None => ratio.unwrap_or(RATIO_DEFAULT),
                Some(_) => raw.ratio.unwrap_or(0.0),
            },
            spread: raw.spread.map_or(Duration::ZERO, |spread| spread.0),
        },
        None => match (over.jitter, raw.ratio) {
            (Jitter::Proportional { .. }, Some(ratio)) => Jitter::Proportional { ratio },
            (Jitter::Additive { spread, .. }, Some(ratio)) => Jitter::Additive { ratio, spread },
            (inherited, _) => inherited,
        },
    };
    let takes_ratio = matches!(jitter, Jitter::Proportional { .. } | Jitter::Additive { .. });
    if raw.ratio.is_some() && !takes_ratio {
        let message = "only proportional and additive jitter have a `ratio`";
        report.error(&format!("{path}/ratio"), message, None);
    }
    if raw.spread.is_some() && !matches!(jitter, Jitter::Additive { .. }) {
        report.error(&format!("{path}/spread"), "only additive jitter has a `spread`", None);
    }
    let growth = match raw.kind {
        Some(GrowthName::Exponential) => Growth::Exponential,
        Some(GrowthName::Linear) => Growth::Linear,
        Some(GrowthName::Constant) => Growth::Constant,
        None => over.growth,
    };
    let made = Backoff {
        growth,
        jitter,
        base: raw.base.map_or(over.base, |base| base.0),
        factor: raw.factor.unwrap_or(over.factor),
        min: raw.min.map_or(over.min, |min| min.0),
        max: raw.max.map_or(over.max, |max| max.0),
    };
    if (raw.base.is_some() || raw.max.is_some()) && made.max < made.base {
        let key = if raw.max.is_some() { "max" } else { "base" };
        let message =
            format!("the longest wait, {:?}, is shorter than the first, {:?}", made.max, made.base);
        report.error(&format!("{path}/{key}"), message, None);
    }
    if raw.min.is_some() && made.max < made.min {
        let message = format!(
            "the shortest wait, {:?}, is longer than the longest, {:?}",
            made.min, made.max
        );
        report.error(&format!("{path}/min"), message, None);
    }
    made
}

pub(super) fn validation(body: &PolicyBody) -> Validation {
    let (Some(raw), default) = (&body.validation, Validation::default()) else {
        return Validation::default();
    };
    Validation {
        strip_markdown_fences: raw.strip_markdown_fences.unwrap_or(default.strip_markdown_fences),
        max_content_preview_length: raw
            .max_content_preview_length
            .unwrap_or(default.max_content_preview_length),
        strict_schema_mode: raw.strict_schema_mode.unwrap_or(default.strict_schema_mode),
        allow_partial_matches: raw.allow_partial_matches.unwrap_or(default.allow_partial_matches),
    }
}

pub(super) fn cache(body: &PolicyBody, known: &Known<'_>, report: &mut Report<'_>) -> CachePolicy {
    let default = CachePolicy::default();
    let Some(raw) = &body.cache else { return default };
    let max_age = raw.max_age.map_or(default.max_age, |age| age.0);
    let enabled = raw.enabled.unwrap_or(default.enabled);
    let semantic = raw.semantic.as_ref().map(|raw| semantic(raw, max_age, report));
    let needing = [
        ("fresh_for", raw.fresh_for.is_some()),
        ("coalesce", raw.coalesce == Some(true)),
        ("semantic", semantic.is_some()),
    ];
    for (key, _) in needing.into_iter().filter(|(_, is_asked)| *is_asked && !enabled) {
        let path = format!("/cache/{key}");
        report.warning(&path, "the cache is not enabled, so nothing comes of it", None);
    }
    if let Some(fresh_for) = raw.fresh_for
        && enabled
        && fresh_for.0 > max_age
    {
        let message = format!(
            "an output that is too old for a degraded answer after {} would still answer in place \
             of a call",
            DurationText(max_age)
        );
        report.warning("/cache/fresh_for", message, Some("raise `cache.max_age`".to_owned()));
    }
    if semantic.is_some() && known.embeds == Some(false) {
        let message =
            "the server's configuration has no `cache.embeddings`, so nothing comes of it";
        report.warning("/cache/semantic", message, None);
    }
    CachePolicy {
        enabled,
        max_age,
        fresh_for: raw.fresh_for.map(|age| age.0).filter(|age| !age.is_zero()),
        coalesce: raw.coalesce.unwrap_or(default.coalesce),
        semantic,
    }
}

fn semantic(raw: &SemanticSection, max_age: Duration, report: &mut Report<'_>) -> SemanticPolicy {
    const THRESHOLD: f64 = 0.95;
    /// Many models put prompts that have only their language in common as near as this.
    const LOW: f64 = 0.8;
    let path = "/cache/semantic/threshold";
    let threshold = raw.threshold.unwrap_or(THRESHOLD);
    if !(threshold > 0.0 && threshold <= 1.0) {
        report.error(path, "must be above 0 and at most 1", None);
    } else if threshold < LOW {
        let message = "so low a similarity has many a pair of prompts that ask for something else";
        report.warning(
            path,
            message,
            Some(format!("most embedding models want {THRESHOLD} or more")),
        );
    }
    let own = positive(raw.max_age, "/cache/semantic/max_age", report);
    SemanticPolicy { threshold, max_age: own.unwrap_or(max_age) }
}

pub(super) fn alerts(body: &PolicyBody, inherited: &PolicyBody, report: &mut Report<'_>) -> Alerts {
    let mut alerts = Alerts::default();
    if let Some(raw) = &body.alerts {
        let window = positive(raw.window, "/alerts/window", report);
        alerts.window = window.unwrap_or(alerts.window);
        alerts.resolve_after = raw.resolve_after.map_or(alerts.resolve_after, |after| after.0);
    }
    for domain in FailureDomain::ALL {
        let own = super::routing::domain_route(body.routing.as_ref(), *domain);
        let default = super::routing::domain_route(inherited.routing.as_ref(), *domain);
        let threshold = own
            .and_then(|route| route.alert_threshold)
            .or_else(|| default.and_then(|route| route.alert_threshold));
        if let Some(threshold) = threshold {
            alerts.set_threshold(*domain, threshold);
        }
    }
    alerts
}

pub(super) fn observability(body: &PolicyBody) -> Observability {
    let default = Observability::default();
    body.observability.as_ref().map_or_else(Observability::default, |raw| Observability {
        trace_errors: raw.trace_errors.unwrap_or(default.trace_errors),
        log_raw_payloads: raw.log_raw_payloads.unwrap_or(default.log_raw_payloads),
        metrics_prefix: raw
            .metrics_prefix
            .as_deref()
            .map_or_else(|| Arc::clone(&default.metrics_prefix), Arc::from),
    })
}

pub(super) fn redaction(body: &PolicyBody, report: &mut Report<'_>) -> Redaction {
    const PATTERN_BYTES_MAX: usize = 10 * 1024;
    const COMPILED_BYTES_MAX: usize = 1024 * 1024;
    let Some(raw) = &body.redaction else { return Redaction::default() };
    let mut patterns = Vec::new();
    for (at, pattern) in raw.patterns.iter().flatten().enumerate() {
        let path = format!("/redaction/patterns/{at}");
        if pattern.len() > PATTERN_BYTES_MAX {
            let message = format!("a pattern has at most {PATTERN_BYTES_MAX} bytes");
            report.error(&path, message, None);
            continue;
        }
        let built = RegexBuilder::new(pattern)
            .size_limit(COMPILED_BYTES_MAX)
            .dfa_size_limit(COMPILED_BYTES_MAX)
            .nest_limit(32)
            .build();
        match built {
            Ok(regex) if regex.is_match("") => {
                let message = "the pattern matches the empty text, and so cuts out everything";
                report.error(&path, message, None);
            }
            Ok(regex) => patterns.push(regex),
            Err(regex::Error::CompiledTooBig(_)) => {
                report.error(&path, "the pattern takes too much memory", None);
            }
            Err(error) => {
                let text = error.to_string();
                let reason = text.lines().last().unwrap_or("cannot be read");
                let reason = reason.trim_start_matches("error: ");
                report.error(&path, format!("not a regular expression: {reason}"), None);
            }
        }
    }
    Redaction {
        fields: raw.fields.iter().flatten().map(|name| Arc::from(name.as_str())).collect(),
        patterns,
    }
}

pub(super) fn budget(
    raw: Option<&BudgetSection>,
    key: &str,
    report: &mut Report<'_>,
) -> BudgetSettings {
    let default = BudgetSettings::default();
    let Some(raw) = raw else { return default };
    positive(raw.window, &format!("/{key}/window"), report);
    raw.over(default)
}

impl BudgetSection {
    /// What the section says, over what holds without it.
    pub fn over(&self, over: BudgetSettings) -> BudgetSettings {
        BudgetSettings {
            ratio: self.ratio.unwrap_or(over.ratio),
            floor_per_second: self.floor_per_second.unwrap_or(over.floor_per_second),
            window: self.window.map_or(over.window, |window| window.0),
        }
    }
}

pub(super) fn after_content(body: &PolicyBody) -> AfterContent {
    match body.streaming.as_ref().and_then(|raw| raw.after_content) {
        None | Some(AfterContentName::Restart) => AfterContent::Restart,
        Some(AfterContentName::Fail) => AfterContent::Fail,
        Some(AfterContentName::Continue) => AfterContent::Continue,
    }
}

pub(super) fn hedge(
    body: &PolicyBody,
    known: &Known<'_>,
    report: &mut Report<'_>,
) -> HedgeSettings {
    let default = HedgeSettings::default();
    let Some(raw) = &body.hedge else { return default };
    let enabled = raw.enabled.unwrap_or(default.enabled);
    if let Some(HedgeAfterText::Fixed(after)) = raw.after
        && enabled
        && after.0.is_zero()
    {
        let message = "every attempt would get its second one at once, which doubles the calls";
        report.warning("/hedge/after", message, Some("`p95` hedges slow attempts only".to_owned()));
    }
    HedgeSettings {
        enabled,
        after: match raw.after {
            None => default.after,
            Some(HedgeAfterText::Fixed(after)) => HedgeAfter::Fixed(after.0),
            Some(HedgeAfterText::P95) => HedgeAfter::P95,
        },
        max_per_step: raw.max_per_step.unwrap_or(default.max_per_step),
        targets: targets(raw.targets.as_deref(), "/hedge/targets", known, report),
    }
}

/// Names of targets, each of which must exist.
pub(super) fn targets(
    raw: Option<&[String]>,
    path: &str,
    known: &Known<'_>,
    report: &mut Report<'_>,
) -> Vec<Arc<str>> {
    let mut targets: Vec<Arc<str>> = Vec::new();
    for (at, name) in raw.into_iter().flatten().enumerate() {
        let path = format!("{path}/{at}");
        if targets.iter().any(|target| **target == **name) {
            report.warning(&path, format!("target `{name}` is named twice"), None);
            continue;
        }
        if let Some(all) = known.targets
            && !all.contains(name)
        {
            let near = suggestion(name, all.iter().map(String::as_str));
            report.error(&path, format!("unknown target `{name}`"), near);
        }
        targets.push(Arc::from(name.as_str()));
    }
    targets
}

/// A limit of nothing would stop everything.
fn positive(
    raw: Option<crate::document::DurationText>,
    path: &str,
    report: &mut Report<'_>,
) -> Option<Duration> {
    if raw.is_some_and(|duration| duration.0.is_zero()) {
        report.error(path, "must be longer than nothing", None);
        return None;
    }
    raw.map(|duration| duration.0)
}
