//! Recorded failures decided again under another policy.

use tonic::{Request, Response, Status};

use super::PolicyApi;
use crate::api::{pb, status};

pub(super) async fn simulate_policy(
    _: &PolicyApi,
    _: Request<pb::SimulatePolicyRequest>,
) -> Result<Response<pb::SimulatePolicyResponse>, Status> {
    Err(status::not_offered("SimulatePolicy"))
}
