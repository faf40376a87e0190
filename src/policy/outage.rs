//! Policies that give up: which failures end their run at once.
//!
//! A policy that answers every failure by failing is legal and surely not meant: the first hiccup
//! of a provider stops all traffic. [`outage`] finds it before it is pushed. [`strands`] looks at
//! one step whose first target an operator has taken away.

use std::fmt;
use std::time::Duration;

use super::Policy;
use super::ladder::{Ladder, Rung};
use crate::failure::FailureCause;

/// No provider answers in less.
const ATTEMPT_TIMEOUT_MIN: Duration = Duration::from_millis(10);

/// How much of what can fail a policy gives up at once.
#[derive(Debug, Clone, PartialEq)]
pub struct Outage {
    /// Causes for which nothing is tried and nothing is answered.
    pub causes: Vec<FailureCause>,
    /// The share of all causes, 0 to 1.
    pub share: f64,
    /// The limit of an attempt, where it is shorter than any provider takes.
    pub attempt_timeout: Option<Duration>,
}

impl Outage {
    /// Whether the policy would stop all traffic.
    pub fn is_total(&self) -> bool {
        self.causes.len() == FailureCause::ALL.len()
    }
}

impl fmt::Display for Outage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(limit) = self.attempt_timeout {
            return write!(f, "`execution.attempt_timeout` of {limit:?} ends every call");
        }
        let (given_up, all) = (self.causes.len(), FailureCause::ALL.len());
        let percent = self.share * 100.0;
        write!(f, "{given_up} of {all} causes ({percent:.0} %) fail the run at once")
    }
}

/// What a policy gives up whatever the conditions: causes whose ladder has no rung that could ever
/// bring an output. An override counts where its condition always holds.
pub fn outage(policy: &Policy) -> Outage {
    let short = policy.execution.attempt_timeout.filter(|limit| *limit < ATTEMPT_TIMEOUT_MIN);
    let gives_up = |cause: &FailureCause| {
        short.is_some() || !may_recover(policy, *cause, policy.routing.whatever(*cause))
    };
    let causes: Vec<_> = FailureCause::ALL.iter().copied().filter(gives_up).collect();
    let share = causes.len() as f64 / FailureCause::ALL.len() as f64;
    Outage { causes, share, attempt_timeout: short }
}

/// Where a step may go that its first target refuses.
pub struct Elsewhere<'a> {
    /// Whether one of the other targets that the step lists takes calls.
    pub own: bool,
    /// Whether the target or group of this name takes calls.
    pub named: &'a dyn Fn(&str) -> bool,
    /// Whether the step has an output of its own to answer with.
    pub template: bool,
}

/// Whether a step gets no answer while its first target refuses every call for this cause. A cache
/// counts for nothing: nobody knows what is in it, and it empties while the refusal lasts.
pub fn strands(policy: &Policy, cause: FailureCause, elsewhere: &Elsewhere<'_>) -> bool {
    for rung in &policy.routing.whatever(cause).rungs {
        let answers = match rung {
            Rung::FallbackToTarget { attempts: 0, .. } => false,
            Rung::FallbackToTarget { targets, .. } if targets.is_empty() => elsewhere.own,
            Rung::FallbackToTarget { targets, .. } => {
                targets.iter().any(|name| (elsewhere.named)(name))
            }
            Rung::FallbackToTemplate { template } => template.is_some() || elsewhere.template,
            Rung::AlertAndDegrade => elsewhere.template,
            Rung::RetryWithBackoff { .. }
            | Rung::RepairOutput { .. }
            | Rung::RepromptWithErrors { .. }
            | Rung::FallbackToCache { .. }
            | Rung::AcceptPartial { .. }
            | Rung::RejectAndFix { .. }
            | Rung::AlertAndHalt => false,
        };
        if answers || rung.always_feasible() {
            return !answers;
        }
    }
    true
}

/// Whether some rung before the first one that always ends the step may bring an output.
fn may_recover(policy: &Policy, cause: FailureCause, ladder: &Ladder) -> bool {
    for rung in &ladder.rungs {
        if can_bring_an_output(policy, cause, rung) {
            return true;
        }
        if rung.always_feasible() {
            return false;
        }
    }
    false
}

/// Whether a rung may bring an output for failures of a cause under some conditions.
pub(super) fn can_bring_an_output(policy: &Policy, cause: FailureCause, rung: &Rung) -> bool {
    let another_call = policy.execution.max_attempts > 1 || is_refusal_of_ours(cause);
    if !rung.action().suits(cause.domain()) {
        return false;
    }
    match rung {
        Rung::RetryWithBackoff { attempts, also_when_not_retryable, .. } => {
            // A provider may say of a single failure that a retry helps, whatever its cause; that
            // is no recovery to count on.
            *attempts > 0 && another_call && (cause.retryable() || *also_when_not_retryable)
        }
        Rung::RepromptWithErrors { attempts, .. } => *attempts > 0 && another_call,
        Rung::FallbackToTarget { attempts, .. } => *attempts > 0 && another_call,
        Rung::FallbackToCache { .. } => policy.cache.enabled,
        Rung::AcceptPartial { .. } => policy.validation.allow_partial_matches,
        Rung::RepairOutput { .. } | Rung::FallbackToTemplate { .. } | Rung::AlertAndDegrade => true,
        Rung::RejectAndFix { .. } | Rung::AlertAndHalt => false,
    }
}

/// Refusals of ours make no call, so that the call after one is the first.
const fn is_refusal_of_ours(cause: FailureCause) -> bool {
    matches!(cause, FailureCause::CircuitOpen | FailureCause::BulkheadFull)
}

#[cfg(test)]
mod tests {
    use super::super::compile::{Known, compile};
    use super::*;
    use crate::document::Document;

    fn of(text: &str) -> Outage {
        let document = Document::parse("policy.yaml", text).unwrap();
        let (policy, _) = compile(&document, &Known::default()).unwrap_or_else(|e| panic!("{e}"));
        outage(&policy)
    }

    const HALTS: &str = "{infrastructure: {action: alert_and_halt}, input_constraint: {action: \
         reject_and_fix}, output_semantic: {action: alert_and_halt}, pipeline_logic: {action: \
         reject_and_fix}}";

    #[test]
    fn policies_that_stop_all_traffic() {
        let total = [
            format!("policy: {{routing: {HALTS}}}"),
            format!("policy: {{overrides: [{{name: a, when: 'true', routing: {HALTS}}}]}}"),
            "policy: {execution: {attempt_timeout: 5ms}}".to_owned(),
            format!(
                "policy: {{cache: {{enabled: false}}, routing: {}}}",
                HALTS.replace("action: alert_and_halt", "action: fallback_to_cache")
            ),
            format!(
                "policy: {{execution: {{max_attempts: 1}}, routing: {}, overrides: [{{name: a, \
                 when: 'true', routing: {{infrastructure: {{causes: {{circuit_open: {{action: \
                 alert_and_halt}}, bulkhead_full: {{action: alert_and_halt}}}}}}}}}}]}}",
                HALTS.replace("action: alert_and_halt", "action: retry_with_backoff")
            ),
        ];
        for text in total {
            let outage = of(&text);
            assert!(outage.is_total(), "{text}: {outage}");
            assert_eq!(outage.share, 1.0);
        }
    }

    #[test]
    fn a_step_without_its_first_target_goes_where_the_ladder_says() {
        let default = "policy: {}";
        let named = "policy: {routing: {pipeline_logic: {ladder: [{fallback_to_target: {targets: [spare]}}, alert_and_halt]}}}";
        let fixed = "policy: {routing: {pipeline_logic: {ladder: [{fallback_to_template: {template: sorry}}]}}}";
        let halts = "policy: {routing: {pipeline_logic: {action: alert_and_halt}}}";
        let late =
            "policy: {routing: {pipeline_logic: {ladder: [alert_and_halt, fallback_to_target]}}}";
        for (text, own, spare, template, stranded) in [
            (default, true, false, false, false),
            (default, false, true, false, true),
            (default, false, false, true, false),
            (named, true, false, false, true),
            (named, false, true, false, false),
            (fixed, false, false, false, false),
            (halts, true, true, true, true),
            (late, true, true, true, true),
        ] {
            let document = Document::parse("policy.yaml", text).unwrap();
            let (policy, _) = compile(&document, &Known::default()).unwrap();
            let named = |name: &str| name == "spare" && spare;
            let elsewhere = Elsewhere { own, named: &named, template };
            let found = strands(&policy, FailureCause::PermissionDenied, &elsewhere);
            assert_eq!(found, stranded, "{text} {own} {spare} {template}");
        }
    }

    #[test]
    fn policies_that_do_not() {
        let default = of("policy: {}");
        assert!(!default.is_total());
        assert_eq!(default.to_string(), "6 of 34 causes (18 %) fail the run at once");
        let conditional =
            format!("policy: {{overrides: [{{name: a, when: step == 'x', routing: {HALTS}}}]}}");
        assert_eq!(of(&conditional), default);
        let partly = of("policy: {routing: {infrastructure: {action: alert_and_halt}}}");
        assert_eq!((partly.is_total(), partly.causes.len()), (false, 22));
        assert_eq!(
            of("policy: {execution: {attempt_timeout: 5ms}}").to_string(),
            "`execution.attempt_timeout` of 5ms ends every call"
        );
    }
}
