//! The control plane: a thin router; each file beside this one serves a subject.

mod asked;
mod check;
mod convert;
mod diff;
mod documents;
mod explain;
mod pace;
mod resolve;
mod rollout;
mod simulate;
pub(super) mod status;
mod watch;

use std::pin::Pin;
use std::sync::Arc;

use futures_util::Stream;
use tokio::sync::Semaphore;
use tonic::{Request, Response, Status};

pub use pace::Paced;

use super::pb;
use super::pb::policy_service_server::PolicyService;
use crate::control::Library;
use crate::engine::Engine;
use crate::tasks::Tasks;

/// The service.
#[derive(Clone)]
pub struct PolicyApi {
    library: Library,
    engine: Engine,
    tasks: Tasks,
    simulations: Arc<Semaphore>,
}

impl PolicyApi {
    /// The service over the library of the server and the engine that it serves. `tasks` owns what
    /// takes long, and watches end when it stops.
    pub fn new(library: Library, engine: Engine, tasks: Tasks) -> Self {
        Self { library, engine, tasks, simulations: Arc::new(Semaphore::new(1)) }
    }
}

#[tonic::async_trait]
impl PolicyService for PolicyApi {
    async fn validate_policy(
        &self,
        request: Request<pb::ValidatePolicyRequest>,
    ) -> Result<Response<pb::ValidatePolicyResponse>, Status> {
        check::validate_policy(self, request).await
    }

    async fn validate_pipeline(
        &self,
        request: Request<pb::ValidatePipelineRequest>,
    ) -> Result<Response<pb::ValidatePipelineResponse>, Status> {
        check::validate_pipeline(self, request).await
    }

    async fn push_policy(
        &self,
        request: Request<pb::PushPolicyRequest>,
    ) -> Result<Response<pb::PushPolicyResponse>, Status> {
        documents::push_policy(self, request).await
    }

    async fn get_policy(
        &self,
        request: Request<pb::GetPolicyRequest>,
    ) -> Result<Response<pb::GetPolicyResponse>, Status> {
        documents::get_policy(self, request).await
    }

    async fn list_policies(
        &self,
        request: Request<pb::ListPoliciesRequest>,
    ) -> Result<Response<pb::ListPoliciesResponse>, Status> {
        documents::list_policies(self, request).await
    }

    async fn list_policy_versions(
        &self,
        request: Request<pb::ListPolicyVersionsRequest>,
    ) -> Result<Response<pb::ListPolicyVersionsResponse>, Status> {
        documents::list_policy_versions(self, request).await
    }

    async fn rollback_policy(
        &self,
        request: Request<pb::RollbackPolicyRequest>,
    ) -> Result<Response<pb::RollbackPolicyResponse>, Status> {
        documents::rollback_policy(self, request).await
    }

    async fn put_pipeline(
        &self,
        request: Request<pb::PutPipelineRequest>,
    ) -> Result<Response<pb::PutPipelineResponse>, Status> {
        documents::put_pipeline(self, request).await
    }

    async fn get_pipeline(
        &self,
        request: Request<pb::GetPipelineRequest>,
    ) -> Result<Response<pb::GetPipelineResponse>, Status> {
        documents::get_pipeline(self, request).await
    }

    async fn list_pipelines(
        &self,
        request: Request<pb::ListPipelinesRequest>,
    ) -> Result<Response<pb::ListPipelinesResponse>, Status> {
        documents::list_pipelines(self, request).await
    }

    async fn list_pipeline_versions(
        &self,
        request: Request<pb::ListPipelineVersionsRequest>,
    ) -> Result<Response<pb::ListPipelineVersionsResponse>, Status> {
        documents::list_pipeline_versions(self, request).await
    }

    async fn rollback_pipeline(
        &self,
        request: Request<pb::RollbackPipelineRequest>,
    ) -> Result<Response<pb::RollbackPipelineResponse>, Status> {
        documents::rollback_pipeline(self, request).await
    }

    async fn delete_policy(
        &self,
        request: Request<pb::DeletePolicyRequest>,
    ) -> Result<Response<pb::DeletePolicyResponse>, Status> {
        documents::delete_policy(self, request).await
    }

    async fn delete_pipeline(
        &self,
        request: Request<pb::DeletePipelineRequest>,
    ) -> Result<Response<pb::DeletePipelineResponse>, Status> {
        documents::delete_pipeline(self, request).await
    }

    async fn diff_policies(
        &self,
        request: Request<pb::DiffPoliciesRequest>,
    ) -> Result<Response<pb::DiffPoliciesResponse>, Status> {
        diff::diff_policies(self, request).await
    }

    async fn explain_failure(
        &self,
        request: Request<pb::ExplainFailureRequest>,
    ) -> Result<Response<pb::ExplainFailureResponse>, Status> {
        explain::explain_failure(self, request).await
    }

    async fn explain_policy(
        &self,
        request: Request<pb::ExplainPolicyRequest>,
    ) -> Result<Response<pb::ExplainPolicyResponse>, Status> {
        explain::explain_policy(self, request).await
    }

    async fn simulate_policy(
        &self,
        request: Request<pb::SimulatePolicyRequest>,
    ) -> Result<Response<pb::SimulatePolicyResponse>, Status> {
        simulate::simulate_policy(self, request).await
    }

    async fn end_rollout(
        &self,
        request: Request<pb::EndRolloutRequest>,
    ) -> Result<Response<pb::EndRolloutResponse>, Status> {
        rollout::end_rollout(self, request).await
    }

    type WatchPoliciesStream =
        Pin<Box<dyn Stream<Item = Result<pb::WatchPoliciesResponse, Status>> + Send>>;

    async fn watch_policies(
        &self,
        request: Request<pb::WatchPoliciesRequest>,
    ) -> Result<Response<Self::WatchPoliciesStream>, Status> {
        watch::watch_policies(self, request).await
    }
}
