//! Rollouts: figures from the engine, verdicts from the policy's judge, and ends by hand.

use std::sync::Arc;

use tokio::time::Instant;

use super::{Compiled, Effect, Writer};
use crate::control::book::ended;
use crate::control::change::{ChangeError, RolloutEnd};
use crate::control::{AuditAction, AuditEntry};
use crate::engine::active_policy::{Candidate, PolicyVersion};
use crate::journal::documents::{Entry, Kind, Rollout, RolloutState};
use crate::policy::rollout::{Verdict, judge};

/// How the start of a rollout shows in what serves.
pub(super) fn candidate(policy: Arc<PolicyVersion>, rollout: &Rollout) -> Effect {
    let candidate = Candidate::new(policy, rollout.base, rollout.share, Instant::now());
    Effect::RollOut(Arc::new(candidate))
}

impl Writer {
    /// Ends a rollout by hand.
    pub(in crate::control) async fn end_rollout(
        &mut self,
        end: RolloutEnd,
    ) -> Result<Arc<Rollout>, ChangeError> {
        let entry = self.entry(Kind::Policy, &end.name)?.clone();
        let state = if end.promote { RolloutState::Promoted } else { RolloutState::RolledBack };
        let reason = if end.comment.is_empty() {
            format!("ended by {}", end.author)
        } else {
            format!("ended by {}: {}", end.author, end.comment)
        };
        self.settle(&entry, state, &reason, &end.author, &end.comment).await
    }

    /// Looks at the figures of every rollout; promotes and takes back.
    pub(in crate::control) async fn judge_rollouts(&mut self) {
        let snapshot = self.active.snapshot();
        for (name, candidate) in &snapshot.candidates {
            let Some(entry) = self.book.get(Kind::Policy, name).cloned() else { continue };
            let Some(rollout) = entry.active_rollout() else { continue };
            let figures = candidate.figures();
            let verdict =
                judge(&rollout.guards, &figures[0], &figures[1], candidate.since.elapsed());
            let (state, reason) = match verdict {
                Verdict::Continue => {
                    if figures != rollout.figures {
                        let shown = Rollout { figures, ..Rollout::clone(rollout) };
                        let mut entry = Entry::clone(&entry);
                        entry.rollout = Some(Arc::new(shown));
                        self.tell(entry);
                    }
                    continue;
                }
                Verdict::Promote { reason } => (RolloutState::Promoted, reason),
                Verdict::RollBack { reason } => (RolloutState::RolledBack, reason),
            };
            match self.settle(&entry, state, &reason, "mainstay", &reason).await {
                Ok(rollout) if state == RolloutState::RolledBack => {
                    let text = format!(
                        "the rollout of version {} was taken back: {}",
                        rollout.version, rollout.reason
                    );
                    self.alerts.notice(&format!("rollout of policy/{name}"), &text);
                }
                Ok(_) => {}
                // A verdict that cannot be stored is found again at the next look.
                Err(error) => tracing::error!(%error, policy = %name, "a rollout did not end"),
            }
        }
    }

    async fn settle(
        &mut self,
        entry: &Entry,
        state: RolloutState,
        reason: &str,
        actor: &str,
        comment: &str,
    ) -> Result<Arc<Rollout>, ChangeError> {
        let missing = || ChangeError::NoRollout { name: entry.name.clone() };
        let rollout = entry.active_rollout().ok_or_else(missing)?;
        let snapshot = self.active.snapshot();
        let candidate = snapshot.candidates.get(&entry.name).ok_or_else(missing)?;
        let mut over = ended(rollout, state, reason);
        over.figures = candidate.figures();
        let over = Arc::new(over);
        let mut next = Entry::clone(entry);
        next.rollout = Some(over.clone());
        let (action, from_version, effect) = match state {
            RolloutState::Promoted => {
                next.active = over.version;
                (
                    AuditAction::RolloutPromoted,
                    entry.active,
                    Effect::Serve(Compiled::Policy(candidate.policy.clone())),
                )
            }
            RolloutState::Active | RolloutState::RolledBack => {
                let effect = Effect::TakeBack(entry.name.clone());
                (AuditAction::RolloutRolledBack, over.version, effect)
            }
        };
        let to_version = next.active;
        self.commit(next, effect).await?;
        let noted = AuditEntry::new(actor, action, &format!("policy/{}", entry.name))
            .versions(from_version, to_version)
            .comment(comment);
        self.audit.record(noted).await;
        Ok(over)
    }

    /// Takes a rollout up again after a restart. Its figures are gone with the process, so they
    /// are gathered anew, and its time too.
    pub(in crate::control) async fn resume_rollout(
        &mut self,
        entry: &Entry,
    ) -> Result<(), ChangeError> {
        let Some(rollout) = entry.active_rollout() else { return Ok(()) };
        let mut next = Entry::clone(entry);
        let restored = self.restored(entry, rollout.version).await;
        let effect = match restored {
            Ok(Compiled::Policy(policy)) => {
                let mut going = Rollout::clone(rollout);
                going.reason = "the service was restarted; its figures count from then".into();
                going.figures = Default::default();
                next.rollout = Some(Arc::new(going));
                candidate(policy, rollout)
            }
            Ok(Compiled::Pipeline(_)) | Err(_) => {
                let reason =
                    "the service was restarted and the new version does not fit it any more";
                let over = ended(rollout, RolloutState::RolledBack, reason);
                next.rollout = Some(Arc::new(over));
                self.alerts.notice(&format!("rollout of policy/{}", entry.name), reason);
                Effect::None
            }
        };
        self.commit(next, effect).await.map(drop)
    }
}
