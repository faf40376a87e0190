//! How two policies differ, in words of the domain: which failures are answered in another way, and
//! which other settings change. Not how their texts differ: a comment or an order of keys is no
//! difference, and a changed default is one.

mod ladders;
mod settings;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::Policy;
use super::ladder::{Ladder, RuleName};
use super::routing::{Demands, Key, Override};
use crate::expression::Literal;
use crate::failure::FailureCause;

/// How two policies differ.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Difference {
    /// Failures that are answered in another way, by the order of the taxonomy; those of overrides
    /// after those of the table.
    pub routes: Vec<RouteChange>,
    /// Other settings that differ, one sentence each.
    pub settings: Vec<String>,
}

impl Difference {
    /// Whether nothing differs.
    pub fn is_none(&self) -> bool {
        self.routes.is_empty() && self.settings.is_empty()
    }
}

/// A failure that is answered in another way.
#[derive(Debug, Clone, PartialEq)]
pub struct RouteChange {
    /// What fails.
    pub cause: FailureCause,
    /// Where, if the route is for one target only.
    pub target: Option<Arc<str>>,
    /// The route before; absent if there was none.
    pub before: Option<Side>,
    /// The route after; absent if there is none.
    pub after: Option<Side>,
    /// The difference in words.
    pub summary: String,
}

/// One side of a change.
#[derive(Debug, Clone, PartialEq)]
pub struct Side {
    /// The rule that gives the ladder.
    pub rule: RuleName,
    /// The ladder, one text a rung.
    pub ladder: Vec<String>,
}

impl Side {
    fn of(ladder: &Ladder) -> Self {
        Self {
            rule: Arc::clone(&ladder.rule),
            ladder: ladder.rungs.iter().map(ToString::to_string).collect(),
        }
    }
}

/// How `after` differs from `before`.
pub fn diff(before: &Policy, after: &Policy) -> Difference {
    let mut difference =
        Difference { routes: table(before, after), settings: settings::changes(before, after) };
    overrides(before, after, &mut difference);
    difference
}

fn table(before: &Policy, after: &Policy) -> Vec<RouteChange> {
    let changed = FailureCause::ALL.iter().filter_map(|cause| {
        let (old, new) = (before.routing.of_cause(*cause), after.routing.of_cause(*cause));
        (old.rungs != new.rungs).then(|| RouteChange {
            cause: *cause,
            target: None,
            before: Some(Side::of(old)),
            after: Some(Side::of(new)),
            summary: ladders::change(old, new),
        })
    });
    changed.collect()
}

/// An override with the ladders of the causes that it covers.
struct Known<'a> {
    when: &'a str,
    target: Option<Arc<str>>,
    ladders: BTreeMap<FailureCause, &'a Ladder>,
}

impl<'a> Known<'a> {
    fn all(policy: &'a Policy) -> Vec<(&'a str, Self)> {
        let known = |(rule, covered): (&'a Override, Vec<(FailureCause, &'a Ladder)>)| {
            let target = only_target(rule);
            let ladders = covered.into_iter().collect();
            (&*rule.name, Self { when: rule.when.source(), target, ladders })
        };
        policy.routing.overrides().map(known).collect()
    }
}

/// The one target that the condition of an override asks for.
fn only_target(rule: &Override) -> Option<Arc<str>> {
    let demands = Demands::of(&rule.when);
    let asked = demands.fields.iter().find(|demand| demand.key == Key::Target)?;
    match asked.values.as_slice() {
        [Literal::Text(name)] => Some(Arc::from(name.as_str())),
        _ => None,
    }
}

fn overrides(before: &Policy, after: &Policy, difference: &mut Difference) {
    let (old, new) = (Known::all(before), Known::all(after));
    let find = |all: &BTreeMap<&str, usize>, name: &str| all.get(name).copied();
    let places = |all: &[(&str, Known<'_>)]| -> BTreeMap<String, usize> {
        all.iter().enumerate().map(|(at, (name, _))| ((*name).to_owned(), at)).collect()
    };
    let (old_places, new_places) = (places(&old), places(&new));
    let old_by: BTreeMap<&str, usize> =
        old_places.iter().map(|(n, at)| (n.as_str(), *at)).collect();
    let new_by: BTreeMap<&str, usize> =
        new_places.iter().map(|(n, at)| (n.as_str(), *at)).collect();
    for (name, now) in &new {
        let was = find(&old_by, name).map(|at| &old[at].1);
        one(name, was, Some(now), difference);
    }
    for (name, was) in old.iter().filter(|(name, _)| !new_by.contains_key(name)) {
        one(name, Some(was), None, difference);
    }
    let order = |all: &[(&str, Known<'_>)], other: &BTreeMap<&str, usize>| -> Vec<String> {
        let kept = all.iter().filter(|(name, _)| other.contains_key(name));
        kept.map(|(name, _)| (*name).to_owned()).collect()
    };
    if order(&old, &new_by) != order(&new, &old_by) {
        difference.settings.push("overrides are tried in another order".to_owned());
    }
}

/// How one override changes.
fn one(name: &str, was: Option<&Known<'_>>, now: Option<&Known<'_>>, to: &mut Difference) {
    let words = match (was, now) {
        (None, None) => return,
        (None, Some(now)) => format!("new override `{name}` when {}: ", now.when),
        (Some(was), None) => format!("override `{name}` when {} is gone: ", was.when),
        (Some(was), Some(now)) if was.when != now.when => {
            format!("override `{name}` holds when {}, before when {}: ", now.when, was.when)
        }
        (Some(_), Some(_)) => format!("override `{name}`: "),
    };
    let same_condition = was.map(|was| was.when) == now.map(|now| now.when);
    let none = BTreeMap::new();
    let old = was.map_or(&none, |was| &was.ladders);
    let new = now.map_or(&none, |now| &now.ladders);
    let causes: BTreeSet<FailureCause> = old.keys().chain(new.keys()).copied().collect();
    for cause in causes {
        let (before, after) = (old.get(&cause), new.get(&cause));
        let how = match (before, after) {
            (None, None) => continue,
            (Some(before), Some(after)) if before.rungs == after.rungs => {
                if same_condition {
                    continue;
                }
                "the same ladder".to_owned()
            }
            (Some(before), Some(after)) => ladders::change(before, after),
            (None, Some(after)) => ladders::words(after),
            (Some(_), None) => "the routes after it answer".to_owned(),
        };
        let target = now.or(was).and_then(|known| known.target.clone());
        to.routes.push(RouteChange {
            cause,
            target,
            before: before.map(|ladder| Side::of(ladder)),
            after: after.map(|ladder| Side::of(ladder)),
            summary: format!("{words}{how}"),
        });
    }
}

#[cfg(test)]
mod tests;
