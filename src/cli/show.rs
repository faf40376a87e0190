//! Wire messages for people.

use std::fmt::Write as _;
use std::time::Duration;

use crate::api::client::Refusal;
use crate::api::pb;
use crate::document::printable;

/// `infrastructure/rate_limited → retry_with_backoff after 1.1s`
pub(super) fn attempt(attempt: &pb::Attempt) -> String {
    let mut line = finding(attempt.failure.as_ref(), attempt.decision.as_ref());
    for further in &attempt.further {
        let _ =
            write!(line, ", then {}", finding(further.failure.as_ref(), further.decision.as_ref()));
    }
    line
}

/// A failure with what was decided about it.
fn finding(failure: Option<&pb::Failure>, decision: Option<&pb::Decision>) -> String {
    let mut line = failure.map(cause).unwrap_or_default();
    if let Some(decision) = decision {
        let _ = write!(line, " → {}", action(decision.action()));
        if let Some(wait) = decision.wait {
            let _ = write!(line, " after {}", seconds(wait));
        }
        if !decision.next_target.is_empty() {
            let _ = write!(line, " to {}", decision.next_target);
        }
        if !decision.skipped.is_empty() {
            let skipped: Vec<String> = decision
                .skipped
                .iter()
                .map(|rung| format!("{}: {}", action(rung.action()), rung.reason))
                .collect();
            let _ = write!(line, " (passed over {})", skipped.join(", "));
        }
    }
    line
}

/// `INFRASTRUCTURE/rate_limited (HTTP 429)`
pub(super) fn cause(failure: &pb::Failure) -> String {
    let domain = domain(failure.domain());
    let mut text = format!("{domain}/{}", failure.cause);
    if failure.provider_status != 0 {
        let _ = write!(text, " (HTTP {})", failure.provider_status);
    }
    text
}

pub(super) fn domain(domain: pb::FailureDomain) -> &'static str {
    domain.as_str_name().trim_start_matches("FAILURE_DOMAIN_")
}

pub(super) fn action(action: pb::RecoveryAction) -> String {
    match action {
        pb::RecoveryAction::Unspecified => "none".to_owned(),
        other => other.as_str_name().trim_start_matches("RECOVERY_ACTION_").to_ascii_lowercase(),
    }
}

pub(super) fn state(state: pb::RunState) -> String {
    state.as_str_name().trim_start_matches("RUN_STATE_").to_ascii_lowercase()
}

pub(super) fn verdict(verdict: pb::OutputVerdict) -> String {
    verdict.as_str_name().trim_start_matches("OUTPUT_VERDICT_").to_ascii_lowercase()
}

/// Where a degraded output came from.
pub(super) fn degraded(source: pb::DegradedSource) -> Option<&'static str> {
    match source {
        pb::DegradedSource::Unspecified => None,
        pb::DegradedSource::Cache => Some("cache"),
        pb::DegradedSource::Template => Some("template"),
        pb::DegradedSource::Partial => Some("partial"),
    }
}

pub(super) fn seconds(duration: prost_types::Duration) -> String {
    let duration = Duration::try_from(duration).unwrap_or_default();
    if duration < Duration::from_secs(1) {
        format!("{}ms", duration.as_millis())
    } else {
        format!("{:.1}s", duration.as_secs_f64())
    }
}

/// `1,234 in, 56 out, $0.0012`
pub(super) fn usage(usage: &pb::Usage) -> String {
    let mut text = format!("{} tokens in, {} out", usage.input_tokens, usage.output_tokens);
    if usage.cost_usd > 0.0 {
        let _ = write!(text, ", ${:.6}", usage.cost_usd);
    }
    text
}

/// A step's result in one line.
pub(super) fn step(result: &pb::StepResult) -> String {
    let mut text = state(result.state());
    if let Some(output) = &result.output
        && matches!(output.verdict(), pb::OutputVerdict::Repaired | pb::OutputVerdict::Lossy)
    {
        let changes: Vec<&str> = output.changes.iter().map(|c| c.kind.as_str()).collect();
        let _ = write!(text, ", {} ({})", verdict(output.verdict()), changes.join(", "));
    }
    if let Some(source) = degraded(result.degraded()) {
        let _ = write!(text, " by {source}");
    }
    if !result.target.is_empty() {
        let _ = write!(text, " by {}", result.target);
    }
    match (result.cache(), result.cache_similarity) {
        (pb::CacheUse::Unspecified, _) => {}
        (pb::CacheUse::Semantic, Some(similarity)) => {
            let _ = write!(text, ", from a prompt that is {similarity:.3} alike");
        }
        (pb::CacheUse::Exact | pb::CacheUse::Semantic, _) => text.push_str(", from the cache"),
        (pb::CacheUse::Shared, _) => text.push_str(", shared with another call"),
    }
    let failed = result.attempts.iter().filter(|attempt| attempt.failure.is_some()).count();
    if failed > 0 {
        let _ = write!(text, ", {} attempts", result.attempts.len());
    }
    if let Some(duration) = result.duration {
        let _ = write!(text, " in {}", seconds(duration));
    }
    for warning in result.output.iter().flat_map(|output| &output.warnings) {
        let path = if warning.path.is_empty() { "(whole)" } else { &warning.path };
        let _ = write!(text, "\n    warning at {path}: {}", warning.message);
    }
    text
}

/// A failed call, readable.
pub(super) fn refusal(refusal: &Refusal) -> String {
    let mut text = format!("{:?}: {}\n", refusal.code, printable(&refusal.message));
    if let Some(failure) = &refusal.failure {
        let _ = writeln!(text, "  domain   {}", domain(failure.domain()));
        let _ = writeln!(text, "  cause    {}", failure.cause);
        if !failure.detail.is_empty() {
            let _ = writeln!(text, "  detail   {}", failure.detail);
        }
        if !failure.step.is_empty() {
            let _ = writeln!(text, "  step     {}", failure.step);
        }
        if !failure.target.is_empty() {
            let _ = writeln!(text, "  target   {}", failure.target);
        }
        let _ = writeln!(text, "  calls    {}", failure.attempts);
        let _ = writeln!(text, "  action   {}", action(failure.action()));
        if !failure.provider_text.is_empty() {
            let _ = writeln!(text, "  provider {}", failure.provider_text.replace('\n', " "));
        }
        for violation in &failure.violations {
            let path = if violation.path.is_empty() { "(whole)" } else { &violation.path };
            let _ = writeln!(text, "  at {path}: {}", violation.message);
        }
        let policy = (&failure.policy_name, failure.policy_version);
        let _ = writeln!(text, "  policy   {} version {}", policy.0, policy.1);
        let _ = writeln!(text, "  run      {}", failure.run_id);
    } else {
        for (field, description) in &refusal.faults {
            let _ = writeln!(text, "  {field}: {description}");
        }
    }
    if let Some(after) = refusal.retry_after {
        let _ = writeln!(text, "  come again after {:.1}s", after.as_secs_f64());
    }
    text
}
