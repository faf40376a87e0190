//! Fallbacks: which target a step may go to, now or after a probe that is under way.

use std::sync::Arc;
use std::time::Duration;

use super::super::decision::{Refusal, SkipReason, Verdict};
use super::{Judge, Judgement, TargetCondition, refused};
use crate::failure::FailureCause;

impl Judge<'_> {
    /// The first target of the list that was not asked yet and can be asked now, or else after a
    /// probe that is under way. With none, the reason of the first that was not asked yet.
    pub(super) fn fallback(&self, named: &[Arc<str>]) -> Judgement {
        let after_a_probe =
            |reason| self.first_target(named, waits_for_a_probe).map_err(|_| reason);
        let target = self.next_target(named).or_else(after_a_probe)?;
        Ok(Verdict::Fallback { target })
    }

    pub(super) fn next_target(&self, named: &[Arc<str>]) -> Result<Arc<str>, SkipReason> {
        self.first_target(named, |target| target.admits_in == Some(Duration::ZERO))
    }

    fn first_target(
        &self,
        named: &[Arc<str>],
        admits: impl Fn(&TargetCondition<'_>) -> bool,
    ) -> Result<Arc<str>, SkipReason> {
        self.room_for_a_call()?;
        let all = self.conditions.targets;
        let mut reason = SkipReason::NoTargetLeft;
        let can_take = |target: &TargetCondition<'_>| self.can_take(target, admits(target));
        let mut consider = |target: &TargetCondition<'_>| match can_take(target) {
            Ok(()) => true,
            Err(why) => {
                if reason == SkipReason::NoTargetLeft {
                    reason = why;
                }
                false
            }
        };
        let taken = if named.is_empty() {
            let own = &all[..self.conditions.step_targets.min(all.len())];
            own.iter().find(|target| consider(target)).map(|target| Arc::from(target.name))
        } else {
            let known = |name: &Arc<str>| all.iter().find(|target| *target.name == **name);
            named.iter().find(|name| known(name).is_some_and(&mut consider)).cloned()
        };
        taken.ok_or(reason)
    }

    fn can_take(&self, target: &TargetCondition<'_>, admits: bool) -> Result<(), SkipReason> {
        if target.name == self.site.target || !self.history.is_fresh(target.name) {
            return Err(SkipReason::NoTargetLeft);
        }
        if self.failure.cause == FailureCause::ContextLengthExceeded {
            let failed = self.source().ok().and_then(|source| source.context_window);
            if let (Some(failed), Some(offered)) = (failed, target.context_window)
                && offered <= failed
            {
                return Err(SkipReason::SmallerWindow);
            }
        }
        if !admits {
            return Err(refused(target));
        }
        self.retry_budget_of(target)?;
        self.fits(target.admits_in.unwrap_or_default(), target)
    }

    /// Whether the call of this verdict is one for the end of a probe.
    pub(super) fn awaits_probe(&self, verdict: &Verdict) -> bool {
        let name = match verdict {
            Verdict::Retry { .. } => self.site.target,
            Verdict::Fallback { target } => target,
            Verdict::Repair { .. }
            | Verdict::Reprompt { .. }
            | Verdict::Cache { .. }
            | Verdict::Template { .. }
            | Verdict::AcceptPartial { .. }
            | Verdict::Degrade { .. }
            | Verdict::Reject { .. }
            | Verdict::Halt
            | Verdict::Exhausted => return false,
        };
        let mut all = self.conditions.targets.iter();
        all.find(|target| target.name == name).is_some_and(waits_for_a_probe)
    }
}

/// Whether nothing but the end of a probe is in the way.
pub(super) fn waits_for_a_probe(target: &TargetCondition<'_>) -> bool {
    target.refusal == Some(Refusal::ProbeUnderWay) && target.admits_in.is_some()
}
