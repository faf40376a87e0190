//! The control plane. This release checks documents; storing and pushing them joins here.

use std::pin::Pin;

use futures_util::Stream;
use tonic::{Request, Response, Status};

use super::pb;
use super::pb::policy_service_server::PolicyService;
use super::status;
use crate::control::Documents;
use crate::document::{Problem, Problems, Severity};

/// The service.
#[derive(Clone)]
pub struct PolicyApi {
    documents: Documents,
}

impl PolicyApi {
    /// The service over the documents of the server.
    pub fn new(documents: Documents) -> Self {
        Self { documents }
    }
}

fn problem(problem: &Problem) -> pb::Problem {
    let severity = match problem.severity {
        Severity::Error => pb::Severity::Error,
        Severity::Warning => pb::Severity::Warning,
    };
    pb::Problem {
        severity: severity.into(),
        path: problem.dotted_path(),
        line: problem.position.line,
        column: problem.position.column,
        message: problem.message.clone(),
        suggestion: problem.suggestion.clone().unwrap_or_default(),
    }
}

fn problems(problems: &Problems) -> Vec<pb::Problem> {
    problems.0.iter().map(problem).collect()
}

#[tonic::async_trait]
impl PolicyService for PolicyApi {
    async fn validate_policy(
        &self,
        request: Request<pb::ValidatePolicyRequest>,
    ) -> Result<Response<pb::ValidatePolicyResponse>, Status> {
        let found = self.documents.check_policy("policy", &request.into_inner().text);
        Ok(Response::new(pb::ValidatePolicyResponse {
            valid: found.usable(),
            problems: problems(&found),
        }))
    }

    async fn validate_pipeline(
        &self,
        request: Request<pb::ValidatePipelineRequest>,
    ) -> Result<Response<pb::ValidatePipelineResponse>, Status> {
        let found = self.documents.check_pipeline("pipeline", &request.into_inner().text);
        Ok(Response::new(pb::ValidatePipelineResponse {
            valid: found.usable(),
            problems: problems(&found),
        }))
    }

    async fn push_policy(
        &self,
        _: Request<pb::PushPolicyRequest>,
    ) -> Result<Response<pb::PushPolicyResponse>, Status> {
        Err(status::not_offered("PushPolicy"))
    }

    async fn get_policy(
        &self,
        _: Request<pb::GetPolicyRequest>,
    ) -> Result<Response<pb::GetPolicyResponse>, Status> {
        Err(status::not_offered("GetPolicy"))
    }

    async fn list_policies(
        &self,
        _: Request<pb::ListPoliciesRequest>,
    ) -> Result<Response<pb::ListPoliciesResponse>, Status> {
        Err(status::not_offered("ListPolicies"))
    }

    async fn list_policy_versions(
        &self,
        _: Request<pb::ListPolicyVersionsRequest>,
    ) -> Result<Response<pb::ListPolicyVersionsResponse>, Status> {
        Err(status::not_offered("ListPolicyVersions"))
    }

    async fn diff_policies(
        &self,
        _: Request<pb::DiffPoliciesRequest>,
    ) -> Result<Response<pb::DiffPoliciesResponse>, Status> {
        Err(status::not_offered("DiffPolicies"))
    }

    async fn rollback_policy(
        &self,
        _: Request<pb::RollbackPolicyRequest>,
    ) -> Result<Response<pb::RollbackPolicyResponse>, Status> {
        Err(status::not_offered("RollbackPolicy"))
    }

    type WatchPoliciesStream =
        Pin<Box<dyn Stream<Item = Result<pb::WatchPoliciesResponse, Status>> + Send>>;

    async fn watch_policies(
        &self,
        _: Request<pb::WatchPoliciesRequest>,
    ) -> Result<Response<Self::WatchPoliciesStream>, Status> {
        Err(status::not_offered("WatchPolicies"))
    }

    async fn end_rollout(
        &self,
        _: Request<pb::EndRolloutRequest>,
    ) -> Result<Response<pb::EndRolloutResponse>, Status> {
        Err(status::not_offered("EndRollout"))
    }

    async fn explain_failure(
        &self,
        _: Request<pb::ExplainFailureRequest>,
    ) -> Result<Response<pb::ExplainFailureResponse>, Status> {
        Err(status::not_offered("ExplainFailure"))
    }

    async fn simulate_policy(
        &self,
        _: Request<pb::SimulatePolicyRequest>,
    ) -> Result<Response<pb::SimulatePolicyResponse>, Status> {
        Err(status::not_offered("SimulatePolicy"))
    }

    async fn explain_policy(
        &self,
        _: Request<pb::ExplainPolicyRequest>,
    ) -> Result<Response<pb::ExplainPolicyResponse>, Status> {
        Err(status::not_offered("ExplainPolicy"))
    }

    async fn put_pipeline(
        &self,
        _: Request<pb::PutPipelineRequest>,
    ) -> Result<Response<pb::PutPipelineResponse>, Status> {
        Err(status::not_offered("PutPipeline"))
    }

    async fn get_pipeline(
        &self,
        _: Request<pb::GetPipelineRequest>,
    ) -> Result<Response<pb::GetPipelineResponse>, Status> {
        Err(status::not_offered("GetPipeline"))
    }

    async fn list_pipelines(
        &self,
        _: Request<pb::ListPipelinesRequest>,
    ) -> Result<Response<pb::ListPipelinesResponse>, Status> {
        Err(status::not_offered("ListPipelines"))
    }

    async fn list_pipeline_versions(
        &self,
        _: Request<pb::ListPipelineVersionsRequest>,
    ) -> Result<Response<pb::ListPipelineVersionsResponse>, Status> {
        Err(status::not_offered("ListPipelineVersions"))
    }

    async fn rollback_pipeline(
        &self,
        _: Request<pb::RollbackPipelineRequest>,
    ) -> Result<Response<pb::RollbackPipelineResponse>, Status> {
        Err(status::not_offered("RollbackPipeline"))
    }
}
