//! How two policies differ, in words of the domain.

use tonic::{Request, Response, Status};

use super::PolicyApi;
use crate::api::{pb, status};

pub(super) async fn diff_policies(
    _: &PolicyApi,
    _: Request<pb::DiffPoliciesRequest>,
) -> Result<Response<pb::DiffPoliciesResponse>, Status> {
    Err(status::not_offered("DiffPolicies"))
}
