//! Storing and reading policies and pipelines.

use std::sync::Arc;

use tonic::{Request, Response, Status};

use super::asked::{self, Asked};
use super::{PolicyApi, convert, diff, status};
use crate::api::pb;
use crate::control::ChangeError;
use crate::control::change::Push;
use crate::journal::documents::{Entry, Kind};

/// A change that was made, or the status of one that was refused.
fn made<T>(made: Result<T, ChangeError>) -> Result<T, Status> {
    made.map_err(|error| status::of_change(&error))
}

pub(super) async fn push_policy(
    api: &PolicyApi,
    request: Request<pb::PushPolicyRequest>,
) -> Result<Response<pb::PushPolicyResponse>, Status> {
    let (asked, message) = Asked::of(request)?;
    let rollout = asked::rollout(message.rollout_share, message.rollout_guards)?;
    let push = Push {
        proposal: asked.proposal(message.text, rollout)?,
        dry_run: message.dry_run,
        allow_outage: message.allow_outage,
    };
    let stored = made(api.library.push(push).await)?;
    let (changes, changes_left_out) = match (stored.before, stored.after) {
        (Some(before), Some(after)) if !Arc::ptr_eq(&before, &after) => {
            diff::changes(api, before, after).await
        }
        (Some(_) | None, _) => Default::default(),
    };
    Ok(Response::new(pb::PushPolicyResponse {
        version: Some(convert::version(&stored.version)),
        warnings: convert::problems(&stored.warnings),
        changes,
        changes_left_out,
        rollout: stored.rollout.as_deref().map(convert::rollout),
        replicas_applied: u32::from(!message.dry_run),
        replicas_total: 1,
    }))
}

pub(super) async fn put_pipeline(
    api: &PolicyApi,
    request: Request<pb::PutPipelineRequest>,
) -> Result<Response<pb::PutPipelineResponse>, Status> {
    let (asked, message) = Asked::of(request)?;
    let push = Push {
        proposal: asked.proposal(message.text, None)?,
        dry_run: message.dry_run,
        allow_outage: false,
    };
    let stored = made(api.library.push(push).await)?;
    Ok(Response::new(pb::PutPipelineResponse {
        version: Some(convert::version(&stored.version)),
        warnings: convert::problems(&stored.warnings),
    }))
}

fn read(
    api: &PolicyApi,
    kind: Kind,
    name: &str,
    version: u64,
) -> Result<pb::DocumentStatus, Status> {
    let entry = made(api.library.entry(kind, name))?;
    let mut shown = convert::status(&entry);
    let wanted = if version == 0 { entry.active } else { version };
    match entry.version(wanted) {
        Some(stored) => {
            shown.text = stored.text.to_string();
            shown.version = Some(convert::version(stored));
        }
        // Nothing serves yet; what was refused is still to be seen.
        None if version == 0 => {}
        None => return Err(status::of_change(&ChangeError::version_not_found(&entry, version))),
    }
    Ok(shown)
}

pub(super) async fn get_policy(
    api: &PolicyApi,
    request: Request<pb::GetPolicyRequest>,
) -> Result<Response<pb::GetPolicyResponse>, Status> {
    let message = request.into_inner();
    let status = Some(read(api, Kind::Policy, &message.name, message.version)?);
    Ok(Response::new(pb::GetPolicyResponse { status }))
}

pub(super) async fn get_pipeline(
    api: &PolicyApi,
    request: Request<pb::GetPipelineRequest>,
) -> Result<Response<pb::GetPipelineResponse>, Status> {
    let message = request.into_inner();
    let status = Some(read(api, Kind::Pipeline, &message.name, message.version)?);
    Ok(Response::new(pb::GetPipelineResponse { status }))
}

/// The version that serves, or a head without one: a file that was refused from its first day on is
/// to be seen too.
fn head(entry: &Entry) -> pb::DocumentVersion {
    convert::active(entry).unwrap_or_else(|| pb::DocumentVersion {
        name: entry.name.to_string(),
        owner: convert::owner(entry.owner).into(),
        ..Default::default()
    })
}

/// Active versions by name, after the name `token`, and the token of the next page.
fn page(
    api: &PolicyApi,
    kind: Kind,
    page_size: i32,
    token: &str,
) -> Result<(Vec<pb::DocumentVersion>, String), Status> {
    let most = asked::page_size(page_size)?;
    let book = api.library.book();
    let mut found: Vec<pb::DocumentVersion> = book
        .of(kind)
        .filter(|entry| &*entry.name > token)
        .map(|entry| head(entry))
        .take(most + 1)
        .collect();
    let more = found.len() > most;
    found.truncate(most);
    let next = found.last().filter(|_| more).map(|last| last.name.clone()).unwrap_or_default();
    Ok((found, next))
}

pub(super) async fn list_policies(
    api: &PolicyApi,
    request: Request<pb::ListPoliciesRequest>,
) -> Result<Response<pb::ListPoliciesResponse>, Status> {
    let message = request.into_inner();
    let (policies, next_page_token) =
        page(api, Kind::Policy, message.page_size, &message.page_token)?;
    Ok(Response::new(pb::ListPoliciesResponse { policies, next_page_token }))
}

pub(super) async fn list_pipelines(
    api: &PolicyApi,
    request: Request<pb::ListPipelinesRequest>,
) -> Result<Response<pb::ListPipelinesResponse>, Status> {
    let message = request.into_inner();
    let (pipelines, next_page_token) =
        page(api, Kind::Pipeline, message.page_size, &message.page_token)?;
    Ok(Response::new(pb::ListPipelinesResponse { pipelines, next_page_token }))
}

/// Versions of a document before the version `token`, newest first, and the token of the next page.
fn versions(
    api: &PolicyApi,
    (kind, name): (Kind, &str),
    page_size: i32,
    token: &str,
) -> Result<(Vec<pb::DocumentVersion>, String), Status> {
    let entry = made(api.library.entry(kind, name))?;
    let most = asked::page_size(page_size)?;
    let before = asked::version_token(token)?;
    let mut found: Vec<pb::DocumentVersion> = entry
        .versions
        .iter()
        .rev()
        .filter(|version| version.version < before)
        .take(most + 1)
        .map(|version| convert::version(version))
        .collect();
    let more = found.len() > most;
    found.truncate(most);
    let next = found.last().filter(|_| more).map(|last| last.version.to_string());
    Ok((found, next.unwrap_or_default()))
}

pub(super) async fn list_policy_versions(
    api: &PolicyApi,
    request: Request<pb::ListPolicyVersionsRequest>,
) -> Result<Response<pb::ListPolicyVersionsResponse>, Status> {
    let pb::ListPolicyVersionsRequest { name, page_size, page_token } = request.into_inner();
    let (versions, next_page_token) = versions(api, (Kind::Policy, &name), page_size, &page_token)?;
    Ok(Response::new(pb::ListPolicyVersionsResponse { versions, next_page_token }))
}

pub(super) async fn list_pipeline_versions(
    api: &PolicyApi,
    request: Request<pb::ListPipelineVersionsRequest>,
) -> Result<Response<pb::ListPipelineVersionsResponse>, Status> {
    let pb::ListPipelineVersionsRequest { name, page_size, page_token } = request.into_inner();
    let (versions, next_page_token) =
        versions(api, (Kind::Pipeline, &name), page_size, &page_token)?;
    Ok(Response::new(pb::ListPipelineVersionsResponse { versions, next_page_token }))
}

pub(super) async fn rollback_policy(
    api: &PolicyApi,
    request: Request<pb::RollbackPolicyRequest>,
) -> Result<Response<pb::RollbackPolicyResponse>, Status> {
    let (asked, message) = Asked::of(request)?;
    let rollback = asked.rollback(message.version, message.allow_outage)?;
    let stored = made(api.library.rollback(rollback).await)?;
    Ok(Response::new(pb::RollbackPolicyResponse {
        version: Some(convert::version(&stored.version)),
        warnings: convert::problems(&stored.warnings),
    }))
}

pub(super) async fn rollback_pipeline(
    api: &PolicyApi,
    request: Request<pb::RollbackPipelineRequest>,
) -> Result<Response<pb::RollbackPipelineResponse>, Status> {
    let (asked, message) = Asked::of(request)?;
    let stored = made(api.library.rollback(asked.rollback(message.version, false)?).await)?;
    Ok(Response::new(pb::RollbackPipelineResponse {
        version: Some(convert::version(&stored.version)),
        warnings: convert::problems(&stored.warnings),
    }))
}

pub(super) async fn delete_policy(
    api: &PolicyApi,
    request: Request<pb::DeletePolicyRequest>,
) -> Result<Response<pb::DeletePolicyResponse>, Status> {
    let (asked, _) = Asked::of(request)?;
    let removed = made(api.library.remove(asked.removal()?).await)?;
    Ok(Response::new(pb::DeletePolicyResponse { version: Some(convert::version(&removed)) }))
}

pub(super) async fn delete_pipeline(
    api: &PolicyApi,
    request: Request<pb::DeletePipelineRequest>,
) -> Result<Response<pb::DeletePipelineResponse>, Status> {
    let (asked, _) = Asked::of(request)?;
    let removed = made(api.library.remove(asked.removal()?).await)?;
    Ok(Response::new(pb::DeletePipelineResponse { version: Some(convert::version(&removed)) }))
}
