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
            Verdict::Retry { .. } => self.breaks_off_and_fits(self.site.target),
            Verdict::Fallback { target } => self.breaks_off_and_fits(target),
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

    /// Whether the way to the model broke, and the target that would go on has the window for that.
    fn breaks_off_and_fits(&self, name: &str) -> bool {
        let Some(asked) = self.conditions.reask.shown else { return false };
        let mut targets = self.conditions.targets.iter();
        let window = targets.find(|target| target.name == name).and_then(|it| it.context_window);
        self.failure.domain() == FailureDomain::Infrastructure
            && window.is_none_or(|window| asked <= u64::from(window))
    }
}
