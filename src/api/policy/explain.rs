//! What would be decided about a failure, and the table that a policy resolves to.

use tonic::{Request, Response, Status};

use super::PolicyApi;
use crate::api::{pb, status};

pub(super) async fn explain_failure(
    _: &PolicyApi,
    _: Request<pb::ExplainFailureRequest>,
) -> Result<Response<pb::ExplainFailureResponse>, Status> {
    Err(status::not_offered("ExplainFailure"))
}

pub(super) async fn explain_policy(
    _: &PolicyApi,
    _: Request<pb::ExplainPolicyRequest>,
) -> Result<Response<pb::ExplainPolicyResponse>, Status> {
    Err(status::not_offered("ExplainPolicy"))
}
