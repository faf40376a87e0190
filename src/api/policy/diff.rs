//! How two policies differ, in words of the domain.

use std::sync::Arc;

use tonic::{Request, Response, Status};

use super::{PolicyApi, resolve};
use crate::api::{convert, pb};
use crate::engine::active_policy::PolicyVersion;
use crate::failure::FailureCause;
use crate::policy::diff::{self, RouteChange, Side};

/// Most changes in one answer. A thousand overrides may change more routes than a client takes in
/// one message.
const CHANGES_MAX: usize = 1_000;
/// Overrides of two policies that take less time to compare than another thread to be woken.
const COMPARED_HERE_MAX: usize = 16;

pub(super) async fn diff_policies(
    api: &PolicyApi,
    request: Request<pb::DiffPoliciesRequest>,
) -> Result<Response<pb::DiffPoliciesResponse>, Status> {
    let message = request.into_inner();
    let before = resolve::policy(api, "before", message.before).await?;
    let after = resolve::policy(api, "after", message.after).await?;
    let compare = move || {
        let difference = diff::diff(&before, &after);
        let (changes, changes_left_out) = told(&difference.routes);
        pb::DiffPoliciesResponse { changes, settings: difference.settings, changes_left_out }
    };
    let compared = api.tasks.spawn_blocking(compare).await;
    compared.map(Response::new).map_err(|_| Status::internal("the policies could not be compared"))
}

/// How routes differ as data, and how many changes are left out.
pub(super) async fn changes(
    api: &PolicyApi,
    before: Arc<PolicyVersion>,
    after: Arc<PolicyVersion>,
) -> (Vec<pb::RouteChange>, u32) {
    let overrides = |policy: &PolicyVersion| policy.policy.routing.overrides().len();
    let is_short = overrides(&before) + overrides(&after) <= COMPARED_HERE_MAX;
    let compare = move || told(&diff::routes(&before.policy, &after.policy));
    if is_short {
        return compare();
    }
    // The push has taken place, whatever becomes of the comparison.
    api.tasks.spawn_blocking(compare).await.unwrap_or_default()
}

fn told(changes: &[RouteChange]) -> (Vec<pb::RouteChange>, u32) {
    let change = |change: &RouteChange| {
        let target = change.target.as_deref();
        let side = |side: &Side| route(change.cause, target, &side.rule, side.ladder.clone());
        pb::RouteChange {
            before: change.before.as_ref().map(side),
            after: change.after.as_ref().map(side),
            summary: change.summary.clone(),
        }
    };
    let left_out = changes.len().saturating_sub(CHANGES_MAX);
    let told = changes.iter().take(CHANGES_MAX).map(change).collect();
    (told, u32::try_from(left_out).unwrap_or(u32::MAX))
}

/// One line of a routing table.
pub(super) fn route(
    cause: FailureCause,
    target: Option<&str>,
    rule: &str,
    ladder: Vec<String>,
) -> pb::Route {
    pb::Route {
        domain: convert::domain(cause.domain()).into(),
        cause: cause.name().to_owned(),
        target: target.unwrap_or_default().to_owned(),
        rule: rule.to_owned(),
        ladder,
    }
}
