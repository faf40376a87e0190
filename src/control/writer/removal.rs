//! Documents taken out of service for good.

use std::sync::Arc;

use super::{Effect, Writer};
use crate::control::book::{TOMBSTONES_MAX, file_of};
use crate::control::change::{ChangeError, Removal};
use crate::control::{AuditAction, AuditEntry};
use crate::journal::documents::{Entry, Kind, Owner, Version};

impl Writer {
    /// Takes a document of the API out of service. Runs under way keep it to their end. What is
    /// kept of it is the number of its last version, so that none is ever given twice.
    pub(in crate::control) async fn remove(
        &mut self,
        removal: Removal,
    ) -> Result<Arc<Version>, ChangeError> {
        let Removal { kind, name, expected, author, comment } = removal;
        let entry = self.entry(kind, &name)?.clone();
        let active = entry.active_version().cloned();
        let Some(active) = active.filter(|_| entry.owner == Owner::Api) else {
            return Err(ChangeError::Owned { owner: entry.owner, origin: file_of(&entry) });
        };
        if expected.is_some_and(|expected| expected != entry.active) {
            return Err(ChangeError::Stale { current: entry.active });
        }
        if let Some(rollout) = entry.active_rollout() {
            return Err(ChangeError::RolloutUnderWay { version: rollout.version });
        }
        self.unused(kind, &name)?;
        let effect = Effect::Withdraw(kind, name.clone());
        self.commit(entry.removed(), effect).await?;
        self.alerts.mended(&format!("rollout of {}/{name}", kind.name()));
        let noted = AuditEntry::new(
            &author,
            AuditAction::DocumentRemoved,
            &format!("{}/{name}", kind.name()),
        )
        .versions(active.version, 0)
        .comment(&comment);
        self.audit.record(noted).await;
        self.forget_oldest(kind).await;
        Ok(active)
    }

    /// Refuses to take away what something else that serves names.
    fn unused(&self, kind: Kind, name: &Arc<str>) -> Result<(), ChangeError> {
        if kind == Kind::Pipeline {
            return Ok(()); // Nothing names a pipeline.
        }
        let mut users = Vec::new();
        if *name == self.default_policy {
            users.push("the server's `default_policy`".to_owned());
        }
        let snapshot = self.active.snapshot();
        let mut pipelines: Vec<String> = snapshot
            .pipelines
            .values()
            .filter(|pipeline| pipeline.planned.pipeline.policy.as_ref() == Some(name))
            .map(|pipeline| format!("pipeline `{}`", pipeline.name))
            .collect();
        pipelines.sort();
        users.append(&mut pipelines);
        if users.is_empty() { Ok(()) } else { Err(ChangeError::InUse { users }) }
    }

    /// Keeps the numbers of removed documents within their bound.
    async fn forget_oldest(&mut self, kind: Kind) {
        let removed: Vec<Arc<Entry>> = self.book.removed(kind).cloned().collect();
        if removed.len() <= TOMBSTONES_MAX {
            return;
        }
        let Some(oldest) = removed.iter().min_by_key(|entry| entry.stamp) else { return };
        if let Some(store) = &self.store
            && let Err(error) = store.forget_document(kind, oldest.name.clone()).await
        {
            // One number too many is kept until the next removal.
            tracing::warn!(%error, document = %oldest.name, "a removed document was not forgotten");
            return;
        }
        self.book.forget(kind, &oldest.name);
    }
}
