//! Ending a gradual rollout by hand.

use tonic::{Request, Response, Status};

use super::{PolicyApi, asked, convert, status};
use crate::api::pb;
use crate::api::status::{FieldFault, of_faults};
use crate::control::change::RolloutEnd;

pub(super) async fn end_rollout(
    api: &PolicyApi,
    request: Request<pb::EndRolloutRequest>,
) -> Result<Response<pb::EndRolloutResponse>, Status> {
    let author = asked::author(&request)?;
    let message = request.into_inner();
    let mut faults: Vec<FieldFault> = asked::comment_fault(&message.comment).into_iter().collect();
    let promote = match pb::RolloutEnding::try_from(message.ending) {
        Ok(pb::RolloutEnding::Promote) => true,
        Ok(pb::RolloutEnding::RollBack) => false,
        Ok(pb::RolloutEnding::Unspecified) | Err(_) => {
            faults.push(FieldFault::new("ending", "is neither PROMOTE nor ROLL_BACK"));
            false
        }
    };
    if !faults.is_empty() {
        return Err(of_faults(&faults));
    }
    let end =
        RolloutEnd { name: message.name.into(), promote, author, comment: message.comment.into() };
    let rollout = api.library.end_rollout(end).await.map_err(|error| status::of_change(&error))?;
    let rollout = Some(convert::rollout(&rollout));
    Ok(Response::new(pb::EndRolloutResponse { rollout }))
}
