//! Answers that need no call of their own: a fresh output of the cache, or the output of an
//! identical call that is under way. Both only where the policy says so.

use std::time::Duration;

use tokio::time::Instant;

use super::cache::{Kept, Origin};
use super::coalesce::{Followed, Part};
use super::step::Walk;
use crate::failure::{Failure, FailureCause};
use crate::journal::{RunState, StepOutput};

impl Walk<'_, '_> {
    /// Gives the step its output, by calls or without.
    pub(super) async fn solve(&mut self) {
        let cache = &self.cx.policy.policy.cache;
        // Who streams wants to see it written, at a pace that others must not wait for.
        let coalesces = cache.enabled && cache.coalesce && self.cx.outlet.is_none();
        loop {
            if self.take_fresh() {
                return;
            }
            let part = match self.cache_key {
                Some(key) if coalesces => self.cx.engine.leaders().join(key),
                Some(_) | None => return self.go().await,
            };
            match part {
                Part::Leader(lead) => {
                    self.go().await;
                    lead.end(self.shareable());
                    return;
                }
                Part::Follower(follow) => match follow.led(self.until).await {
                    Followed::Output(kept) if self.still_holds(&kept.output) => {
                        return self.adopt(Kept::clone(&kept), Duration::ZERO);
                    }
                    Followed::Output(_) | Followed::Failed => return self.go().await,
                    Followed::Left => {}
                    Followed::Late => return self.late(),
                },
            }
        }
    }

    /// Takes an output of the cache that is fresh enough to need no call.
    fn take_fresh(&mut self) -> bool {
        let cache = &self.cx.policy.policy.cache;
        let fresh_for = cache.fresh_for.filter(|_| cache.enabled);
        let kept = match (self.cache_key, fresh_for) {
            (Some(key), Some(fresh_for)) => self.cx.engine.cache().get(&key, fresh_for),
            (_, _) => None,
        };
        let Some(kept) = kept.filter(|kept| self.still_holds(&kept.output)) else { return false };
        let age = Instant::now().duration_since(kept.stored);
        self.adopt(kept, age);
        true
    }

    /// Ends the step with an output that another call brought. It is what the asked model answered
    /// in full, so it is not degraded; that no call was made shows by its age.
    fn adopt(&mut self, kept: Kept, age: Duration) {
        self.report.cache_age = Some(age);
        self.report.target = Some(kept.origin.target);
        self.report.output = Some(kept.output);
        self.report.state = RunState::Succeeded;
    }

    fn late(&mut self) {
        let message = "the identical call that this one waited for did not end in time";
        let failure = Failure::new(FailureCause::RequestTimeout, message);
        self.fail(failure.with_detail("caller_deadline"));
        self.report.ended_by_caller = true;
    }

    /// The step's output, if it is one that others may be given.
    fn shareable(&self) -> Option<Kept> {
        let output = self.report.output.as_ref().filter(|_| self.worth_keeping)?.clone();
        Some(Kept { output, origin: self.origin(), stored: Instant::now() })
    }

    fn origin(&self) -> Origin {
        Origin {
            pipeline: self.cx.run.pipeline.clone(),
            step: self.cx.planned.step.name.clone(),
            target: self.target.name.clone(),
        }
    }

    /// Keeps an output for later.
    pub(super) fn keep(&self, output: &StepOutput) {
        if let Some(key) = self.cache_key
            && self.cx.policy.policy.cache.enabled
        {
            self.cx.engine.cache().put(key, output, self.origin());
        }
    }

    /// Whether the step's rules hold for an output that is not of this call: they may read what is
    /// not part of its key.
    pub(super) fn still_holds(&self, output: &StepOutput) -> bool {
        let step = &self.cx.planned.step;
        if step.rules.is_empty() && step.confidence.is_none() {
            return true;
        }
        let value = output.body.to_value();
        step.judge(&self.cx.scope.with_output(&value)).is_ok()
    }
}
