//! From what an attempt brought to what comes next.
//!
//! An output may be found wanting more than once: what a repair gave may break a rule, and a part
//! that was accepted may not please the verifier. Each finding is a failure with a decision of its
//! own, and all of them stand on the attempt's record.

use std::time::Duration;

use tokio::time::Instant;

use super::act::{self, Next};
use super::checks::{self, Candidate, Unusable};
use super::outlet::Outlet;
use super::step::Walk;
use crate::failure::FailureDomain;
use crate::journal::{AttemptRecord, Finding};
use crate::policy::{Rung, Site};

impl Walk<'_, '_> {
    /// Judges what an attempt brought and does what is decided about it, until another call is due,
    /// after a wait, or the step has ended.
    pub(super) async fn settle(
        &mut self,
        mut result: Result<Candidate, Box<Unusable>>,
        record: &mut AttemptRecord,
    ) -> Option<Duration> {
        loop {
            let unusable = match result {
                Err(unusable) => unusable,
                Ok(candidate) => match self.judge(candidate, record).await {
                    Ok(candidate) => {
                        self.take(candidate, record);
                        return None;
                    }
                    Err(unusable) => unusable,
                },
            };
            self.recall_for(&unusable, record.number).await;
            match self.answer(*unusable, record) {
                Next::Judge(candidate) => result = Ok(*candidate),
                Next::Call { after } => return Some(after),
                Next::Done => return None,
            }
        }
    }

    /// Decides about one finding and begins to carry the decision out.
    fn answer(&mut self, mut unusable: Unusable, record: &mut AttemptRecord) -> Next {
        let failure = unusable.failure.clone();
        let ended_by_caller = unusable.ended_by_caller;
        if unusable.halts_run {
            // The verifier's own ladder has decided this, and raised the alert.
            self.report.halts_run = true;
            self.fail(failure.clone());
            find(record, Finding { failure, decision: None });
            return Next::Done;
        }
        // The verifier has counted its failures itself.
        if !ended_by_caller && !unusable.of_verifier {
            self.note(&failure);
        }
        self.consider(&mut unusable, record.number);
        self.history.set_content_shown(self.cx.outlet.is_some_and(Outlet::has_given));
        let (decision, payer) = self.decide(&unusable, record.number);
        self.payer = payer;
        self.is_panic = decision.is_panic;
        self.awaits_probe = decision.awaits_probe;
        let action = decision.verdict.action();
        self.history.record_decision(&decision, &self.target.name);
        let (next, decided) = act::carry_out(self, decision, unusable);
        self.report.last_action = action.or(self.report.last_action);
        find(record, Finding { failure, decision: Some(decided) });
        if matches!(next, Next::Done) {
            self.report.ended_by_caller = ended_by_caller && self.report.failure.is_some();
        }
        next
    }

    /// Works out what could be done about an output, for the policy to choose from.
    fn consider(&self, unusable: &mut Unusable, attempt: u32) {
        if unusable.failure.domain() != FailureDomain::OutputSemantic {
            return self.consider_the_rest(unusable);
        }
        let policy = &self.cx.policy.policy;
        let ladder = policy.ladder_for(&unusable.failure, &self.site(attempt));
        let defaults = ladder.rungs.iter().find_map(|rung| match rung {
            Rung::AcceptPartial { defaults } => Some(defaults.clone()),
            Rung::RetryWithBackoff { .. }
            | Rung::RepairOutput { .. }
            | Rung::RepromptWithErrors { .. }
            | Rung::FallbackToTarget { .. }
            | Rung::FallbackToCache { .. }
            | Rung::FallbackToTemplate { .. }
            | Rung::AlertAndDegrade
            | Rung::RejectAndFix { .. }
            | Rung::AlertAndHalt => None,
        });
        unusable.part = checks::part(self.cx, unusable, &defaults.unwrap_or_default());
        (unusable.room, unusable.reask) = self.reask_room(unusable);
    }

    pub(super) fn site(&self, attempt: u32) -> Site<'_> {
        Site {
            pipeline: Some(&*self.cx.run.pipeline).filter(|name| !name.is_empty()),
            step: &self.cx.planned.step.name,
            target: &self.target.name,
            attempt,
            labels: &self.cx.run.labels,
        }
    }

    /// When the last good output was stored, if the rules hold for it now: they may read what is
    /// not part of its key.
    pub(super) fn cache_stored(&self) -> Option<Instant> {
        let (cache, key) = (self.cx.engine.cache(), self.cache_key.as_ref()?);
        let step = &self.cx.planned.step;
        if step.rules.is_empty() && step.confidence.is_none() {
            return cache.stored_at(key);
        }
        let kept = cache.get(key, Duration::MAX)?;
        self.still_holds(&kept.output).then_some(kept.stored)
    }

    /// The candidate is the step's output.
    fn take(&mut self, candidate: Candidate, record: &mut AttemptRecord) {
        record.useful = true;
        for index in std::mem::take(&mut self.reask.continued) {
            if let Some(earlier) = self.report.attempts.get_mut(index) {
                earlier.useful = true;
            }
        }
        match candidate.degraded {
            None => self.succeed(candidate.output, !candidate.verdict_degraded),
            Some(by) => {
                self.degrade(candidate.output, by);
                self.report.target = Some(self.target.name.clone());
            }
        }
    }
}

/// The first finding is the attempt's failure; what was found after it stands behind.
fn find(record: &mut AttemptRecord, finding: Finding) {
    if record.failure.is_none() {
        record.failure = Some(finding.failure);
        record.decision = finding.decision;
    } else if record.decision.is_none() && record.further.is_empty() {
        record.decision = finding.decision;
    } else {
        record.further.push(finding);
    }
}
