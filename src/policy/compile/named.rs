//! Actions as a rung names them.

use super::super::document::{ActionName, RungMap};
use super::super::ladder::Action;

/// A rung of this action without parameters.
pub(super) fn by_name(name: ActionName) -> RungMap {
    let mut map = RungMap::default();
    match name {
        ActionName::RetryWithBackoff => map.retry_with_backoff = Some(Default::default()),
        ActionName::RepairOutput => map.repair_output = Some(Default::default()),
        ActionName::RepromptWithErrors => map.reprompt_with_errors = Some(Default::default()),
        ActionName::FallbackToTarget => map.fallback_to_target = Some(Default::default()),
        ActionName::FallbackToCache => map.fallback_to_cache = Some(Default::default()),
        ActionName::FallbackToTemplate => map.fallback_to_template = Some(Default::default()),
        ActionName::AcceptPartial => map.accept_partial = Some(Default::default()),
        ActionName::AlertAndDegrade => map.alert_and_degrade = Some(Default::default()),
        ActionName::RejectAndFix => map.reject_and_fix = Some(Default::default()),
        ActionName::AlertAndHalt => map.alert_and_halt = Some(Default::default()),
    }
    map
}

/// The actions that a rung names; one, if it is right.
pub(super) fn keys(map: &RungMap) -> Vec<Action> {
    let given = [
        (map.retry_with_backoff.is_some(), Action::RetryWithBackoff),
        (map.repair_output.is_some(), Action::RepairOutput),
        (map.reprompt_with_errors.is_some(), Action::RepromptWithErrors),
        (map.fallback_to_target.is_some(), Action::FallbackToTarget),
        (map.fallback_to_cache.is_some(), Action::FallbackToCache),
        (map.fallback_to_template.is_some(), Action::FallbackToTemplate),
        (map.accept_partial.is_some(), Action::AcceptPartial),
        (map.alert_and_degrade.is_some(), Action::AlertAndDegrade),
        (map.reject_and_fix.is_some(), Action::RejectAndFix),
        (map.alert_and_halt.is_some(), Action::AlertAndHalt),
    ];
    given.into_iter().filter(|(is_given, _)| *is_given).map(|(_, action)| action).collect()
}
