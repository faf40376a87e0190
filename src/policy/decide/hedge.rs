//! Where a second attempt beside a slow one may go.

use std::sync::Arc;

use super::super::Policy;
use super::super::history::History;
use super::super::routing::Site;
use super::{Conditions, Judge, Moment};
use crate::failure::{Failure, FailureCause};

/// The target of a second attempt beside one of `site.target` that is slow: the first that the
/// policy names for it, or of the step's own, that a fallback could go to now. `history` counts the
/// attempts that are under way.
///
/// Pure and total like [`decide`](super::decide()), and bound by the same allowances.
pub fn hedge(
    policy: &Policy,
    site: &Site<'_>,
    history: &History,
    moment: Moment,
    conditions: &Conditions<'_>,
) -> Option<Arc<str>> {
    let settings = &policy.hedge;
    if !settings.enabled || history.is_ended() || history.hedges() >= settings.max_per_step {
        return None;
    }
    // To be slow is the failure that it may become.
    let failure = &Failure::new(FailureCause::RequestTimeout, "the attempt is slow");
    let ladder = policy.routing.of_cause(failure.cause);
    let judge = Judge { policy, failure, site, history, moment, conditions, ladder };
    judge.next_target(&settings.targets).ok()
}
