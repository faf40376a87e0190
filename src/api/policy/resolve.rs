//! Policies that requests name or hold, compiled.

use std::ops::Deref;
use std::sync::Arc;

use tonic::Status;

use super::PolicyApi;
use crate::api::pb;
use crate::api::pb::policy_source::Source;
use crate::api::status::{self, FieldFault};
use crate::control::ChangeError;
use crate::document::{Document, Problems};
use crate::engine::active_policy::PolicyVersion;
use crate::journal::documents::Kind;
use crate::policy::{self, Known, Policy};

/// Most mistakes of a text in one answer: they travel in a trailer, which has a bound.
/// `ValidatePolicy` tells all.
const FAULTS_MAX: usize = 20;

/// A policy to look at.
pub(super) enum Resolved {
    /// One that is stored.
    Stored(Arc<PolicyVersion>),
    /// One that came with the request.
    Given(Box<Policy>),
}

impl Deref for Resolved {
    type Target = Policy;

    fn deref(&self) -> &Policy {
        match self {
            Self::Stored(version) => &version.policy,
            Self::Given(policy) => policy,
        }
    }
}

/// The policy of a request's field.
pub(super) async fn policy(
    api: &PolicyApi,
    field: &'static str,
    source: Option<pb::PolicySource>,
) -> Result<Resolved, Status> {
    match source.and_then(|source| source.source) {
        None => Err(status::of_faults(&[FieldFault::new(
            field,
            "is needed: a stored policy, or a policy as text",
        )])),
        Some(Source::Stored(named)) => stored(api, field, &named).await,
        Some(Source::Text(text)) => given(api, field, text).await,
    }
}

/// The version that serves is compiled already; another is compiled again from its text.
async fn stored(
    api: &PolicyApi,
    field: &'static str,
    named: &pb::PolicyVersionRef,
) -> Result<Resolved, Status> {
    if let Some(found) = api.engine.documents().policy(&named.name)
        && (named.version == 0 || named.version == found.reference.version)
    {
        return Ok(Resolved::Stored(found));
    }
    let refused = |error| super::status::of_change(&error);
    let entry = api.library.entry(Kind::Policy, &named.name).map_err(refused)?;
    let wanted = if named.version == 0 { entry.active } else { named.version };
    match entry.version(wanted) {
        Some(version) => given(api, field, version.text.to_string()).await,
        None => Err(refused(ChangeError::version_not_found(&entry, named.version))),
    }
}

/// Compiles a text, off the threads that serve calls.
pub(super) async fn given(
    api: &PolicyApi,
    field: &'static str,
    text: String,
) -> Result<Resolved, Status> {
    let targets = api.engine.targets().names();
    let compile = move || {
        let document =
            Document::parse("policy", text).map_err(|problem| Problems(vec![problem]))?;
        policy::compile(&document, &Known { targets: Some(&targets), embeds: None })
    };
    let compiled = api.tasks.spawn_blocking(compile).await;
    match compiled {
        Ok(Ok((policy, _))) => Ok(Resolved::Given(Box::new(policy))),
        Ok(Err(problems)) => {
            let text = format!("{field}.text");
            let faults = problems.0.iter().take(FAULTS_MAX);
            let faults: Vec<FieldFault> =
                faults.map(|problem| FieldFault::new(text.as_str(), problem.to_string())).collect();
            Err(status::of_faults(&faults))
        }
        Err(_) => Err(Status::internal("the policy could not be compiled")),
    }
}
