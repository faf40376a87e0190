//! Policies as they change.

use tonic::{Request, Response, Status};

use super::PolicyApi;
use crate::api::pb::policy_service_server::PolicyService;
use crate::api::{pb, status};

pub(super) async fn watch_policies(
    _: &PolicyApi,
    _: Request<pb::WatchPoliciesRequest>,
) -> Result<Response<<PolicyApi as PolicyService>::WatchPoliciesStream>, Status> {
    Err(status::not_offered("WatchPolicies"))
}
