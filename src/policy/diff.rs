//! How two policies differ, in words of the domain: which failures are answered in another way, and
//! which other settings change. Not how their texts differ: a comment or an order of keys is no
//! difference, and a changed default is one.

mod ladders;
mod settings;

use std::collections::HashMap;
use std::sync::Arc;

use super::Policy;
use super::ladder::{Ladder, RuleName};
use super::routing::{Covering, Key};
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
    let mut settings = settings::changes(before, after);
    if is_reordered(before, after) {
        settings.push("overrides are tried in another order".to_owned());
    }
    Difference { routes: routes(before, after), settings }
}

/// Failures that `after` answers in another way than `before`.
pub fn routes(before: &Policy, after: &Policy) -> Vec<RouteChange> {
    let mut routes = table(before, after);
    overrides(before, after, &mut routes);
    routes
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

/// The one target that the condition of an override asks for.
fn only_target(rule: &Covering<'_>) -> Option<Arc<str>> {
    let asked = rule.demands().fields.iter().find(|demand| demand.key == Key::Target)?;
    match asked.values.as_slice() {
        [Literal::Text(name)] => Some(Arc::from(name.as_str())),
        _ => None,
    }
}

fn by_name<'a>(policy: &'a Policy) -> HashMap<&'a str, Covering<'a>> {
    policy.routing.overrides().map(|rule| (&*rule.of().name, rule)).collect()
}

fn overrides(before: &Policy, after: &Policy, to: &mut Vec<RouteChange>) {
    let (old, new) = (by_name(before), by_name(after));
    for now in after.routing.overrides() {
        one(old.get(&*now.of().name), Some(&now), to);
    }
    for was in before.routing.overrides().filter(|was| !new.contains_key(&*was.of().name)) {
        one(Some(&was), None, to);
    }
}

/// Whether overrides that both have are tried in another order.
fn is_reordered(before: &Policy, after: &Policy) -> bool {
    let (old, new) = (by_name(before), by_name(after));
    let names = |policy: &'_ Policy, other: &HashMap<&str, Covering<'_>>| -> Vec<Arc<str>> {
        let names = policy.routing.overrides().map(|rule| rule.of().name.clone());
        names.filter(|name| other.contains_key(&**name)).collect()
    };
    names(before, &new) != names(after, &old)
}

/// How one override changes.
fn one(was: Option<&Covering<'_>>, now: Option<&Covering<'_>>, to: &mut Vec<RouteChange>) {
    let mut old = was.into_iter().flat_map(Covering::ladders).peekable();
    let mut new = now.into_iter().flat_map(Covering::ladders).peekable();
    // Most causes of an override share a ladder, and so what there is to say.
    let mut last: Option<(Option<&Ladder>, Option<&Ladder>, Option<RouteChange>)> = None;
    let is_same = |a: Option<&Ladder>, b: Option<&Ladder>| match (a, b) {
        (None, None) => true,
        (Some(a), Some(b)) => std::ptr::eq(a, b),
        (Some(_), None) | (None, Some(_)) => false,
    };
    for cause in FailureCause::ALL {
        let before = old.next_if(|(covered, _)| covered == cause).map(|(_, ladder)| ladder);
        let after = new.next_if(|(covered, _)| covered == cause).map(|(_, ladder)| ladder);
        let (.., change) = match last.take() {
            Some(told) if is_same(told.0, before) && is_same(told.1, after) => last.insert(told),
            Some(_) | None => {
                let change = one_cause(*cause, (was, before), (now, after));
                last.insert((before, after, change))
            }
        };
        to.extend(change.clone().map(|change| RouteChange { cause: *cause, ..change }));
    }
}

/// An override, if there is one, with its ladder for the cause, if it covers it.
type OneSide<'a> = (Option<&'a Covering<'a>>, Option<&'a Ladder>);

/// How one override changes for one cause.
fn one_cause(
    cause: FailureCause,
    (was, before): OneSide<'_>,
    (now, after): OneSide<'_>,
) -> Option<RouteChange> {
    let (old, new) = (was.map(Covering::of), now.map(Covering::of));
    let (held_when, holds_when) =
        (old.map(|rule| rule.when.source()), new.map(|rule| rule.when.source()));
    let how = match (before, after) {
        (None, None) => return None,
        (Some(before), Some(after)) if before.rungs == after.rungs => {
            if held_when == holds_when {
                return None;
            }
            "the same ladder".to_owned()
        }
        (Some(before), Some(after)) => ladders::change(before, after),
        (None, Some(after)) => ladders::words(after),
        (Some(_), None) => "the routes after it answer".to_owned(),
    };
    let name = &new.or(old)?.name;
    let words = match (held_when, holds_when) {
        (None, None) => return None,
        (None, Some(now)) => format!("new override `{name}` when {now}: "),
        (Some(was), None) => format!("override `{name}` when {was} is gone: "),
        (Some(was), Some(now)) if was != now => {
            format!("override `{name}` holds when {now}, before when {was}: ")
        }
        (Some(_), Some(_)) => format!("override `{name}`: "),
    };
    Some(RouteChange {
        cause,
        target: now.or(was).and_then(only_target),
        before: before.map(Side::of),
        after: after.map(Side::of),
        summary: format!("{words}{how}"),
    })
}

#[cfg(test)]
mod tests;
