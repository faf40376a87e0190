//! Answers that need no call of their own: a fresh output of the cache, or the output of an
//! identical call that is under way. Both only where the policy says so.

use std::time::Duration;

use tokio::time::Instant;

use super::cache::similar::Place;
use super::cache::{Kept, Origin};
use super::checks::Unusable;
use super::coalesce::{Followed, Part};
use super::step::Walk;
use crate::failure::{Failure, FailureCause};
use crate::journal::{CacheUse, RunState, StepOutput};
use crate::policy::Rung;

impl Walk<'_, '_> {
    /// Gives the step its output, by calls or without.
    pub(super) async fn solve(&mut self) {
        let cache = &self.cx.policy.policy.cache;
        // Who streams wants to see it written, at a pace that others must not wait for.
        let coalesces = cache.enabled && cache.coalesce && self.cx.outlet.is_none();
        loop {
            if self.take_fresh().await {
                return;
            }
            let part = match self.cache_key {
                Some(key) if coalesces => self.cx.engine.leaders().join(key),
                Some(_) | None => return self.answer_or_call().await,
            };
            match part {
                Part::Leader(lead) => {
                    self.answer_or_call().await;
                    lead.end(self.shareable());
                    return;
                }
                Part::Follower(follow) => match follow.led(self.until).await {
                    Followed::Output(kept) if self.still_holds(&kept.output) => {
                        let shared = CacheUse::Shared;
                        return self.adopt(Kept::clone(&kept), Duration::ZERO, shared);
                    }
                    Followed::Output(_) | Followed::Failed => {
                        return self.answer_or_call().await;
                    }
                    Followed::Left => {}
                    Followed::Late => return self.late(),
                },
            }
        }
    }

    /// Takes an output of the cache that is fresh enough to need no call.
    async fn take_fresh(&mut self) -> bool {
        let cache = &self.cx.policy.policy.cache;
        let fresh_for = cache.fresh_for.filter(|_| cache.enabled);
        let (Some(key), Some(fresh_for)) = (self.cache_key, fresh_for) else { return false };
        let cached = self.cx.engine.cache();
        let mut kept = cached.get(&key, fresh_for);
        if kept.is_none() && self.recall().await {
            kept = cached.get(&key, fresh_for);
        }
        let Some(kept) = kept.filter(|kept| self.still_holds(&kept.output)) else { return false };
        let age = Instant::now().duration_since(kept.stored);
        self.adopt(kept, age, CacheUse::Exact);
        true
    }

    /// Asks the disk for the step's last good output, once. Returns whether it was asked now.
    async fn recall(&mut self) -> bool {
        let (cached, is_journaled) = (self.cx.engine.cache(), self.cx.run.is_journaled());
        let Some(key) = self.cache_key.filter(|_| cached.is_durable(is_journaled)) else {
            return false;
        };
        if std::mem::replace(&mut self.has_recalled, true) {
            return false;
        }
        // Boxed, so that steps without a disk do not carry its size about.
        Box::pin(cached.recall(is_journaled, key, self.until)).await;
        true
    }

    /// Asks the disk before something is decided about a failure, where the answer may matter.
    pub(super) async fn recall_for(&mut self, unusable: &Unusable, attempt: u32) {
        let policy = &self.cx.policy.policy;
        let is_durable = self.cx.engine.cache().is_durable(self.cx.run.is_journaled());
        if !is_durable || !policy.cache.enabled || unusable.ended_by_caller {
            return;
        }
        let ladder = policy.ladder_for(&unusable.failure, &self.site(attempt));
        if ladder.rungs.iter().any(Rung::may_use_cache) {
            self.recall().await;
        }
    }

    /// Ends the step with an output that another call brought. It is what the asked model answered
    /// in full, so it is not degraded; that no call was made shows by its age.
    pub(super) fn adopt(&mut self, kept: Kept, age: Duration, by: CacheUse) {
        self.report.cache_age = Some(age);
        self.report.cache = Some(by);
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
    pub(super) fn keep(&mut self, output: &StepOutput) {
        if let Some(key) = self.cache_key
            && self.cx.policy.policy.cache.enabled
        {
            let (cached, origin) = (self.cx.engine.cache(), self.origin());
            let place = self.place.is_some().then(|| Place {
                key,
                pipeline: origin.pipeline.clone(),
                step: origin.step.clone(),
            });
            let is_journaled = self.cx.run.is_journaled();
            cached.put_durably(is_journaled, key, output, &origin, self.neighbour());
            cached.put(key, output, origin);
            if let Some(place) = place {
                self.keep_similar(place);
            }
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
