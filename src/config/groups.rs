//! Groups of targets, checked.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::TargetConfig;
use super::check::{Checker, is_name};
use super::raw::{RawAbility, RawGroup, RawStrategy};
use crate::document::{Problem, nearest};
use crate::engine::groups::Ability;
use crate::engine::targets::GroupSettings;
use crate::resilience::select::Strategy;

impl From<RawStrategy> for Strategy {
    fn from(raw: RawStrategy) -> Self {
        match raw {
            RawStrategy::Ordered => Self::Ordered,
            RawStrategy::Weighted => Self::Weighted,
            RawStrategy::LowestLatency => Self::LowestLatency,
            RawStrategy::LowestCost => Self::LowestCost,
            RawStrategy::LeastInFlight => Self::LeastInFlight,
            RawStrategy::Sticky => Self::Sticky,
        }
    }
}

impl From<RawAbility> for Ability {
    fn from(raw: RawAbility) -> Self {
        match raw {
            RawAbility::Images => Self::Images,
            RawAbility::Tools => Self::Tools,
            RawAbility::JsonSchema => Self::JsonSchema,
        }
    }
}

impl Checker<'_> {
    pub(super) fn groups(
        &mut self,
        raw: BTreeMap<String, RawGroup>,
        targets: &BTreeMap<Arc<str>, TargetConfig>,
    ) -> Vec<GroupSettings> {
        let mut groups = Vec::with_capacity(raw.len());
        for (name, group) in raw {
            let path = format!("/groups/{}", name.replace('~', "~0").replace('/', "~1"));
            if !is_name(&name) {
                self.at_key(&path, "a group's name is 1 to 64 characters of a-z, 0-9, _ and -");
            }
            if targets.contains_key(name.as_str()) {
                self.at_key(&path, "a target has this name already");
            }
            groups.push(self.group(&path, name, group, targets));
        }
        groups
    }

    fn group(
        &mut self,
        path: &str,
        name: String,
        raw: RawGroup,
        targets: &BTreeMap<Arc<str>, TargetConfig>,
    ) -> GroupSettings {
        if raw.targets.is_empty() {
            self.at(&format!("{path}/targets"), "is empty");
        }
        let mut members: Vec<(Arc<str>, u32)> = Vec::with_capacity(raw.targets.len());
        for (index, member) in raw.targets.iter().enumerate() {
            let at = format!("{path}/targets/{index}");
            match targets.get_key_value(member.as_str()) {
                Some((known, _)) if members.iter().any(|(one, _)| one == known) => {
                    self.at(&at, "stands here twice");
                }
                Some((known, _)) => {
                    let weight = raw.weights.get(member).copied().unwrap_or(1);
                    members.push((known.clone(), weight));
                }
                None => {
                    let near = nearest(member, targets.keys().map(|name| &**name));
                    let position = self.document.position_of(&at);
                    let problem = format!("there is no target `{member}`");
                    self.problems.push(
                        Problem::error(at, position, problem)
                            .suggest(near.map(|name| format!("did you mean `{name}`?"))),
                    );
                }
            }
        }
        for member in raw.weights.keys().filter(|member| !raw.targets.contains(member)) {
            self.at_key(&format!("{path}/weights/{member}"), "is no target of the group");
        }
        GroupSettings {
            name: name.into(),
            strategy: raw.strategy.into(),
            members,
            sticky_by: raw.sticky_by.map(Into::into),
        }
    }
}
