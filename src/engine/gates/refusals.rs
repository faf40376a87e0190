//! What is told to a call that is not let through, and what a failure says of a target's health.

use std::time::Duration;

use super::Disabled;
use crate::failure::refusal::{COOLING_DOWN, QUOTA_EXHAUSTED};
use crate::failure::{Failure, FailureCause, FailureDomain};
use crate::resilience::breaker::{Outcome, Outlook};

/// What a failed call says about the target's health.
///
/// An unusable output comes from a target that works; a faulty request or configuration says
/// nothing about it.
pub(super) fn outcome_of(cause: FailureCause) -> Outcome {
    if cause.counts_against_breaker() {
        return Outcome::Failure;
    }
    match cause.domain() {
        FailureDomain::Infrastructure if cause == FailureCause::RateLimited => Outcome::RateLimited,
        FailureDomain::Infrastructure
        | FailureDomain::InputConstraint
        | FailureDomain::PipelineLogic => Outcome::Neutral,
        FailureDomain::OutputSemantic => Outcome::Success,
    }
}

const CANNOT_FINISH: &str = "cannot_finish_in_time";
const OUTPUTS_OPEN: &str = "output_breaker_open";

fn refusal(
    cause: FailureCause,
    message: impl Into<String>,
    detail: &'static str,
    retry_after: Option<Duration>,
) -> Failure {
    Failure { retry_after, ..Failure::new(cause, message).with_detail(detail) }
}

impl Disabled {
    /// What a call fails of meanwhile.
    pub const fn cause(&self) -> FailureCause {
        if self.credential { FailureCause::Authentication } else { FailureCause::PermissionDenied }
    }
}

pub(super) fn disabled(disabled: &Disabled) -> Failure {
    let message = format!("the target is disabled: {}", disabled.reason);
    refusal(disabled.cause(), message, "target_disabled", None)
}

pub(super) fn cooling_down(left: Duration) -> Failure {
    let message = "the target is cooling down after a rate limit; nothing was sent";
    refusal(FailureCause::RateLimited, message, COOLING_DOWN, Some(left))
}

pub(super) fn quota(left: Option<Duration>) -> Failure {
    let message = match left {
        Some(_) => "the target's quota is used up until its reset; nothing was sent",
        None => "the target's quota is used up until an operator enables it; nothing was sent",
    };
    refusal(FailureCause::QuotaExhausted, message, QUOTA_EXHAUSTED, left)
}

pub(super) fn breaker(outlook: Outlook) -> Failure {
    let (message, left) = match outlook {
        Outlook::AdmitsIn(left) => ("the target's breaker is open; nothing was sent", Some(left)),
        Outlook::Probing | Outlook::Admits => {
            ("the target's breaker is half-open and has its probes; nothing was sent", None)
        }
        Outlook::Held => {
            ("the target's breaker is held open by an operator; nothing was sent", None)
        }
    };
    refusal(FailureCause::CircuitOpen, message, "breaker_open", left)
}

pub(super) fn outputs(left: Duration) -> Failure {
    let message = "the target's outputs for this step were unusable lately; nothing was sent";
    refusal(FailureCause::CircuitOpen, message, OUTPUTS_OPEN, Some(left))
}

pub(super) fn full() -> Failure {
    let message =
        "the target has as many calls in flight and waiting as it may have; nothing was sent";
    refusal(FailureCause::BulkheadFull, message, "queue_full", None)
}

pub(super) fn waited_too_long() -> Failure {
    let message = "no place in flight came free in time; nothing was sent";
    refusal(FailureCause::BulkheadFull, message, "queue_timeout", None)
}

pub(super) fn too_slow() -> Failure {
    let message = "the target's calls take longer than the time that is left; nothing was sent";
    refusal(FailureCause::RequestTimeout, message, CANNOT_FINISH, None)
}

/// Whether this refusal only sends a call to another target of its step, which must exist.
pub(in crate::engine) fn sends_elsewhere(failure: &Failure) -> bool {
    matches!(failure.detail, Some(CANNOT_FINISH | OUTPUTS_OPEN))
}

pub(super) fn over_rate(left: Duration) -> Failure {
    let message = "the target's own rate limit in the configuration is reached; nothing was sent";
    refusal(FailureCause::BulkheadFull, message, "rate_limit_reached", Some(left))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_counts_is_the_taxonomys_word() {
        for cause in FailureCause::ALL {
            let outcome = outcome_of(*cause);
            assert_eq!(outcome == Outcome::Failure, cause.counts_against_breaker(), "{cause}");
        }
        assert_eq!(outcome_of(FailureCause::RateLimited), Outcome::RateLimited);
        assert_eq!(outcome_of(FailureCause::InvalidRequest), Outcome::Neutral);
        assert_eq!(outcome_of(FailureCause::Authentication), Outcome::Neutral);
        assert_eq!(outcome_of(FailureCause::MalformedJson), Outcome::Success);
    }
}
