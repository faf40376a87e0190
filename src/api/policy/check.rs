//! Checking documents without storing them.

use tonic::{Request, Response, Status};

use super::{PolicyApi, convert, status};
use crate::api::pb;
use crate::journal::documents::Kind;

pub(super) async fn validate_policy(
    api: &PolicyApi,
    request: Request<pb::ValidatePolicyRequest>,
) -> Result<Response<pb::ValidatePolicyResponse>, Status> {
    let text = request.into_inner().text;
    let found = api.library.check(Kind::Policy, text).await.map_err(|e| status::of_change(&e))?;
    Ok(Response::new(pb::ValidatePolicyResponse {
        valid: found.usable(),
        problems: convert::problems(&found),
    }))
}

pub(super) async fn validate_pipeline(
    api: &PolicyApi,
    request: Request<pb::ValidatePipelineRequest>,
) -> Result<Response<pb::ValidatePipelineResponse>, Status> {
    let text = request.into_inner().text;
    let found = api.library.check(Kind::Pipeline, text).await.map_err(|e| status::of_change(&e))?;
    Ok(Response::new(pb::ValidatePipelineResponse {
        valid: found.usable(),
        problems: convert::problems(&found),
    }))
}
