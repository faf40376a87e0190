//! Storing and reading policies and pipelines.

use tonic::{Request, Response, Status};

use super::PolicyApi;
use crate::api::{pb, status};

pub(super) async fn push_policy(
    _: &PolicyApi,
    _: Request<pb::PushPolicyRequest>,
) -> Result<Response<pb::PushPolicyResponse>, Status> {
    Err(status::not_offered("PushPolicy"))
}

pub(super) async fn get_policy(
    _: &PolicyApi,
    _: Request<pb::GetPolicyRequest>,
) -> Result<Response<pb::GetPolicyResponse>, Status> {
    Err(status::not_offered("GetPolicy"))
}

pub(super) async fn list_policies(
    _: &PolicyApi,
    _: Request<pb::ListPoliciesRequest>,
) -> Result<Response<pb::ListPoliciesResponse>, Status> {
    Err(status::not_offered("ListPolicies"))
}

pub(super) async fn list_policy_versions(
    _: &PolicyApi,
    _: Request<pb::ListPolicyVersionsRequest>,
) -> Result<Response<pb::ListPolicyVersionsResponse>, Status> {
    Err(status::not_offered("ListPolicyVersions"))
}

pub(super) async fn rollback_policy(
    _: &PolicyApi,
    _: Request<pb::RollbackPolicyRequest>,
) -> Result<Response<pb::RollbackPolicyResponse>, Status> {
    Err(status::not_offered("RollbackPolicy"))
}

pub(super) async fn put_pipeline(
    _: &PolicyApi,
    _: Request<pb::PutPipelineRequest>,
) -> Result<Response<pb::PutPipelineResponse>, Status> {
    Err(status::not_offered("PutPipeline"))
}

pub(super) async fn get_pipeline(
    _: &PolicyApi,
    _: Request<pb::GetPipelineRequest>,
) -> Result<Response<pb::GetPipelineResponse>, Status> {
    Err(status::not_offered("GetPipeline"))
}

pub(super) async fn list_pipelines(
    _: &PolicyApi,
    _: Request<pb::ListPipelinesRequest>,
) -> Result<Response<pb::ListPipelinesResponse>, Status> {
    Err(status::not_offered("ListPipelines"))
}

pub(super) async fn list_pipeline_versions(
    _: &PolicyApi,
    _: Request<pb::ListPipelineVersionsRequest>,
) -> Result<Response<pb::ListPipelineVersionsResponse>, Status> {
    Err(status::not_offered("ListPipelineVersions"))
}

pub(super) async fn rollback_pipeline(
    _: &PolicyApi,
    _: Request<pb::RollbackPipelineRequest>,
) -> Result<Response<pb::RollbackPipelineResponse>, Status> {
    Err(status::not_offered("RollbackPipeline"))
}
