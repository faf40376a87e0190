//! How two policies differ, in words of the domain.

use tonic::{Request, Response, Status};

use super::{PolicyApi, resolve};
use crate::api::{convert, pb};
use crate::failure::FailureCause;
use crate::policy::diff::{self, RouteChange, Side};

pub(super) async fn diff_policies(
    api: &PolicyApi,
    request: Request<pb::DiffPoliciesRequest>,
) -> Result<Response<pb::DiffPoliciesResponse>, Status> {
    let message = request.into_inner();
    let before = resolve::policy(api, "before", message.before).await?;
    let after = resolve::policy(api, "after", message.after).await?;
    let difference = diff::diff(&before, &after);
    Ok(Response::new(pb::DiffPoliciesResponse {
        changes: changes(&difference.routes),
        settings: difference.settings,
    }))
}

/// Changes of routes as data.
pub(super) fn changes(changes: &[RouteChange]) -> Vec<pb::RouteChange> {
    let change = |change: &RouteChange| {
        let target = change.target.as_deref();
        let side = |side: &Side| route(change.cause, target, &side.rule, side.ladder.clone());
        pb::RouteChange {
            before: change.before.as_ref().map(side),
            after: change.after.as_ref().map(side),
            summary: change.summary.clone(),
        }
    };
    changes.iter().map(change).collect()
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
