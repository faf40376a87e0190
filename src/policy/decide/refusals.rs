//! Refusals: whether to wait for a target that sends calls away.
//!
//! A ladder for a whole domain means to wait when it says `retry_with_backoff`, and surely not for a
//! breaker to open again while another target would answer now. Who wants to wait for a refusing
//! target says so in a route of that very cause.

use super::super::decision::{Refusal, SkipReason};
use super::super::ladder::Action;
use super::{Judge, TargetCondition, refused};
use crate::failure::FailureCause;

impl Judge<'_> {
    /// Why a retry on this target is worse than what the ladder has after it, where the target
    /// refuses calls or has just refused one.
    ///
    /// A breaker is not waited for. The end of another pause is, and that of a probe under way,
    /// where nothing after the rung reaches another target. A pause that the failure itself has asked for is none of this: to
    /// wait for it is what a retry of that failure means.
    pub(super) fn not_worth_the_wait(
        &self,
        at: usize,
        target: &TargetCondition<'_>,
    ) -> Option<SkipReason> {
        let failed = self.failure.cause;
        let refuses_now = !target.admits_in.is_some_and(|wait| wait.is_zero());
        let refusal = if refuses_now { target.refusal } else { None };
        let own_pause = !self.failure.is_refusal()
            && matches!(refusal, Some(Refusal::CoolingDown | Refusal::QuotaExhausted))
            && matches!(
                failed,
                FailureCause::RateLimited | FailureCause::Overloaded | FailureCause::QuotaExhausted
            );
        let is_refused = refuses_now || self.failure.is_refusal();
        if !is_refused || own_pause || self.says_to_wait(refusal) {
            return None;
        }
        let is_open = matches!(refusal, Some(Refusal::BreakerOpen | Refusal::OutputBreakerOpen));
        if !is_open && !self.another_answers(at) {
            return None;
        }
        Some(match (refuses_now, failed) {
            (true, _) => refused(target),
            (false, FailureCause::BulkheadFull) => SkipReason::TargetRefuses(Refusal::BulkheadFull),
            (false, FailureCause::CircuitOpen) => SkipReason::TargetRefuses(Refusal::BreakerOpen),
            (false, _) => SkipReason::TargetRefuses(Refusal::CoolingDown),
        })
    }

    /// Whether the ladder is a route of nothing but the failure's cause, and what the target says
    /// now is that cause.
    fn says_to_wait(&self, refusal: Option<Refusal>) -> bool {
        let failed = self.failure.cause;
        let agrees = match refusal {
            None => true,
            Some(Refusal::BreakerOpen | Refusal::ProbeUnderWay | Refusal::OutputBreakerOpen) => {
                failed == FailureCause::CircuitOpen
            }
            Some(Refusal::CoolingDown) => {
                matches!(failed, FailureCause::RateLimited | FailureCause::Overloaded)
            }
            Some(Refusal::QuotaExhausted) => failed == FailureCause::QuotaExhausted,
            Some(Refusal::BulkheadFull) => failed == FailureCause::BulkheadFull,
            Some(Refusal::Disabled) => false,
        };
        agrees && self.policy.routing.is_of_one_cause(&self.ladder.rule)
    }

    /// Whether what the ladder would do next, other than to retry, is a call to another target.
    fn another_answers(&self, at: usize) -> bool {
        let after = self.ladder.rungs.iter().enumerate().skip(at + 1);
        let mut others = after.filter(|(_, rung)| rung.action() != Action::RetryWithBackoff);
        let next = others.find(|(at, rung)| self.rung(*at, rung).is_ok());
        next.is_some_and(|(_, rung)| rung.action() == Action::FallbackToTarget)
    }
}
