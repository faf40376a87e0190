//! Requests of changes, parsed: everything that is wrong with one is told at once.

use std::mem::take;
use std::sync::Arc;
use std::time::Duration;

use tonic::{Request, Status};

use crate::api::pb;
use crate::api::status::{FieldFault, of_faults};
use crate::api::{context, request};
use crate::control::book::Proposal;
use crate::control::change::{Removal, Rollback, RolloutStart};
use crate::control::{hash, is_name};
use crate::journal::documents::{Kind, Owner};
use crate::policy::rollout::Guards;

/// Longest comment in characters.
const COMMENT_CHARS_MAX: usize = 1024;
/// Runs on each version before a rollout is judged, where the request does not say.
const SAMPLE_MIN: u32 = 20;

/// What changes of documents have in common.
pub(super) struct Asked {
    kind: Kind,
    name: String,
    expected: Option<u64>,
    comment: String,
    author: Arc<str>,
}

/// A request that changes a document.
pub(super) trait Change {
    /// What kind of document.
    const KIND: Kind;

    /// Takes the name, the expected version and the comment out of the message.
    fn head(&mut self) -> (String, Option<u64>, String);
}

macro_rules! changes {
    ($($message:ident $kind:ident;)*) => {
        $(impl Change for pb::$message {
            const KIND: Kind = Kind::$kind;

            fn head(&mut self) -> (String, Option<u64>, String) {
                (take(&mut self.name), self.expected_version, take(&mut self.comment))
            }
        })*
    };
}

changes! {
    PushPolicyRequest Policy;
    PutPipelineRequest Pipeline;
    RollbackPolicyRequest Policy;
    RollbackPipelineRequest Pipeline;
    DeletePolicyRequest Policy;
    DeletePipelineRequest Pipeline;
}

/// Whose request it is.
pub(super) fn author<T>(request: &Request<T>) -> Result<Arc<str>, Status> {
    Ok(context::identity(request)?.name.clone())
}

pub(super) fn page_size(asked: i32) -> Result<usize, Status> {
    request::page_size(asked)
}

/// The version that a page of versions ends before.
pub(super) fn version_token(token: &str) -> Result<u64, Status> {
    if token.is_empty() {
        return Ok(u64::MAX);
    }
    token
        .parse()
        .map_err(|_| of_faults(&[FieldFault::new("page_token", "is not from an earlier response")]))
}

pub(super) fn comment_fault(comment: &str) -> Option<FieldFault> {
    let long = comment.chars().count() > COMMENT_CHARS_MAX;
    long.then(|| {
        FieldFault::new("comment", format!("is longer than {COMMENT_CHARS_MAX} characters"))
    })
}

impl Asked {
    /// What a request asks, and the rest of its message.
    pub(super) fn of<T: Change>(request: Request<T>) -> Result<(Self, T), Status> {
        let author = author(&request)?;
        let mut message = request.into_inner();
        let (name, expected, comment) = message.head();
        Ok((Self { kind: T::KIND, name, expected, comment, author }, message))
    }

    fn faults(&self) -> Vec<FieldFault> {
        let mut faults = Vec::new();
        if !is_name(&self.name) {
            faults.push(FieldFault::new("name", "is 1 to 64 characters of a-z, 0-9, _ and -"));
        }
        faults.extend(comment_fault(&self.comment));
        faults
    }

    pub(super) fn proposal(
        self,
        text: String,
        rollout: Option<RolloutStart>,
    ) -> Result<Proposal, Status> {
        let mut faults = self.faults();
        if text.trim().is_empty() {
            faults.push(FieldFault::new("text", "is empty"));
        }
        if !faults.is_empty() {
            return Err(of_faults(&faults));
        }
        Ok(Proposal {
            kind: self.kind,
            name: self.name.into(),
            content_hash: hash(&text),
            text: text.into(),
            owner: Owner::Api,
            author: self.author,
            comment: self.comment.into(),
            expected: self.expected,
            rollback_of: 0,
            rollout,
        })
    }

    pub(super) fn removal(self) -> Result<Removal, Status> {
        let faults = self.faults();
        if !faults.is_empty() {
            return Err(of_faults(&faults));
        }
        Ok(Removal {
            kind: self.kind,
            name: self.name.into(),
            expected: self.expected,
            author: self.author,
            comment: self.comment.into(),
        })
    }

    pub(super) fn rollback(self, version: u64, allow_outage: bool) -> Result<Rollback, Status> {
        let mut faults = self.faults();
        if version == 0 {
            faults.push(FieldFault::new("version", "is missing"));
        }
        if !faults.is_empty() {
            return Err(of_faults(&faults));
        }
        Ok(Rollback {
            kind: self.kind,
            name: self.name.into(),
            version,
            expected: self.expected,
            author: self.author,
            comment: self.comment.into(),
            allow_outage,
        })
    }
}

/// How a rollout starts; `None` for all runs at once.
pub(super) fn rollout(
    share: Option<f64>,
    guards: Option<pb::RolloutGuards>,
) -> Result<Option<RolloutStart>, Status> {
    let mut faults = Vec::new();
    if share.is_some_and(|share| !(0.0..=1.0).contains(&share)) {
        faults.push(FieldFault::new("rollout_share", "is not between 0 and 1"));
    }
    if guards.is_some() && share.is_none() {
        faults.push(FieldFault::new("rollout_guards", "needs rollout_share"));
    }
    if share == Some(1.0) && guards.as_ref().is_some_and(is_conditional) {
        let why = "with every run on the new version nothing is left to compare it with";
        faults.push(FieldFault::new("rollout_guards", why));
    }
    let guards = guards.map(|guards| self::guards(&guards, &mut faults)).unwrap_or_default();
    if !faults.is_empty() {
        return Err(of_faults(&faults));
    }
    // With every run on the new version there is nothing to compare it with.
    Ok(share.filter(|share| *share < 1.0).map(|share| RolloutStart { share, guards }))
}

/// Whether it asks for anything to be watched.
const fn is_conditional(guards: &pb::RolloutGuards) -> bool {
    guards.failed_share_max_increase.is_some()
        || guards.degraded_share_max_increase.is_some()
        || guards.cost_max_increase.is_some()
        || guards.latency_p95_max_increase.is_some()
        || guards.promote_after.is_some()
}

fn guards(asked: &pb::RolloutGuards, faults: &mut Vec<FieldFault>) -> Guards {
    for (field, value, most) in [
        ("failed_share_max_increase", asked.failed_share_max_increase, 100.0),
        ("degraded_share_max_increase", asked.degraded_share_max_increase, 100.0),
        ("cost_max_increase", asked.cost_max_increase, 1e6),
        ("latency_p95_max_increase", asked.latency_p95_max_increase, 1e6),
    ] {
        if value.is_some_and(|value| !(0.0..=most).contains(&value)) {
            let field = format!("rollout_guards.{field}");
            faults.push(FieldFault::new(field, format!("is not between 0 and {most}")));
        }
    }
    let promote_after = asked.promote_after.and_then(|after| match Duration::try_from(after) {
        Ok(after) => Some(after),
        Err(_) => {
            faults.push(FieldFault::new("rollout_guards.promote_after", "is below zero"));
            None
        }
    });
    Guards {
        sample_min: if asked.sample_min == 0 { SAMPLE_MIN } else { asked.sample_min },
        failed_share_max_increase: asked.failed_share_max_increase,
        degraded_share_max_increase: asked.degraded_share_max_increase,
        cost_max_increase: asked.cost_max_increase,
        latency_p95_max_increase: asked.latency_p95_max_increase,
        promote_after,
    }
}
