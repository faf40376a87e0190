//! Ending a gradual rollout by hand.

use tonic::{Request, Response, Status};

use super::PolicyApi;
use crate::api::{pb, status};

pub(super) async fn end_rollout(
    _: &PolicyApi,
    _: Request<pb::EndRolloutRequest>,
) -> Result<Response<pb::EndRolloutResponse>, Status> {
    Err(status::not_offered("EndRollout"))
}
