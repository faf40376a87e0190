//! What the reader of a stream has seen: whether it must stand, and whether it is gone on with.

use super::super::decision::Verdict;
use super::super::settings::AfterContent;
use super::Judge;
use crate::failure::FailureDomain;

impl Judge<'_> {
    /// Whether nothing may take back what was shown.
    pub(super) fn keeps_what_was_shown(&self) -> bool {
        self.history.is_content_shown() && self.policy.after_content == AfterContent::Fail
    }

    /// Whether the next call goes on with what was shown: where the way to the model broke, or the
    /// ladder asks for the rest of a cut answer anyway. A bad output is not gone on with.
    pub(super) fn goes_on(&self, verdict: &Verdict) -> bool {
        let wanted = self.policy.after_content == AfterContent::Continue;
        if !wanted || !self.history.is_content_shown() {
            return false;
        }
        match verdict {
            Verdict::Retry { .. } | Verdict::Fallback { .. } => {
                self.failure.domain() == FailureDomain::Infrastructure
                    && self.conditions.reask.shown
            }
            Verdict::Reprompt { continue_cut, .. } => *continue_cut,
            Verdict::Repair { .. }
            | Verdict::Cache { .. }
            | Verdict::Template { .. }
            | Verdict::AcceptPartial { .. }
            | Verdict::Degrade { .. }
            | Verdict::Reject { .. }
            | Verdict::Halt
            | Verdict::Exhausted => false,
        }
    }
}
