//! Overrides that never apply: legal, and surely not meant.

use std::collections::HashMap;

use super::super::routing::{Demands, Key};
use super::Known;
use super::report::{Report, suggestion};
use crate::expression::Literal;
use crate::failure::{FailureCause, FailureDomain};

/// A set of causes, one bit each.
#[derive(Clone, Copy, PartialEq)]
struct Causes(u64);

const _: () = assert!(FailureCause::ALL.len() <= 64);

impl Causes {
    const NONE: Self = Self(0);

    fn of(causes: impl Iterator<Item = FailureCause>) -> Self {
        causes.fold(Self::NONE, |Self(set), cause| Self(set | (1 << cause as u64)))
    }

    fn is_subset(self, of: Self) -> bool {
        self.0 & !of.0 == 0
    }
}

/// What the overrides before one leave for it.
#[derive(Default)]
pub(super) struct Reach<'a> {
    /// Overrides that hold always, with the causes that they cover.
    always: Vec<(&'a str, Causes)>,
    /// The first override of each condition.
    by_condition: HashMap<&'a str, (&'a str, Causes)>,
}

impl<'a> Reach<'a> {
    /// Warns where an override can never apply. `path` is that of the override.
    pub(super) fn check(
        &mut self,
        (name, source): (&'a str, &'a str),
        demands: &Demands,
        covered: impl Iterator<Item = FailureCause> + Clone,
        known: &Known<'_>,
        path: &str,
        report: &mut Report<'_>,
    ) {
        let before = report.problems.0.len();
        let path = format!("{path}/when");
        words(demands, known, &path, report);
        let is_empty = covered.clone().next().is_none();
        let left = Causes::of(covered.filter(|cause| demands.admits(*cause)));
        let shadow = self.shadow(source, left);
        if report.problems.0.len() > before || is_empty {
            // A word that means nothing explains it already.
        } else if demands.never {
            report.warning(&path, "the condition never holds", None);
        } else if left == Causes::NONE {
            let message = "the override never applies: its routes are for other causes than its \
                           condition asks for";
            report.warning(&path, message, None);
        } else if let Some(first) = shadow {
            let message = format!("the override never applies: `{first}` before it always does");
            report.warning(&path, message, Some("remove it, or move it up".to_owned()));
        }
        // One that is shadowed shadows nothing that its shadow does not: so the list stays short.
        let is_always = demands.complete && demands.fields.is_empty();
        if is_always && left != Causes::NONE && shadow.is_none() {
            self.always.push((name, left));
        }
        self.by_condition.entry(source).or_insert((name, left));
    }

    /// An override before this one that takes every failure that it could take.
    fn shadow(&self, source: &str, causes: Causes) -> Option<&'a str> {
        let same = self.by_condition.get(source).into_iter();
        let mut all = same.chain(&self.always);
        all.find(|(_, taken)| causes.is_subset(*taken)).map(|(name, _)| *name)
    }
}

/// Words of a condition that nothing is called.
fn words(demands: &Demands, known: &Known<'_>, path: &str, report: &mut Report<'_>) {
    let causes = || FailureCause::ALL.iter().map(|cause| cause.name()).collect();
    unknown("failure.cause", "a cause", demands.causes.as_deref(), causes, path, report);
    let domains = || FailureDomain::ALL.iter().map(|domain| domain.name()).collect();
    unknown("failure.domain", "a domain", demands.domains.as_deref(), domains, path, report);
    let Some(targets) = known.targets else { return };
    let targets = || targets.iter().map(String::as_str).collect();
    let asked = demands.fields.iter().find(|demand| demand.key == Key::Target);
    let asked = asked.map(|demand| demand.values.as_slice());
    unknown("target", "a target", asked, targets, path, report);
}

fn unknown<'a>(
    field: &str,
    what: &str,
    asked: Option<&[Literal]>,
    known: impl Fn() -> Vec<&'a str>,
    path: &str,
    report: &mut Report<'_>,
) {
    let Some(asked) = asked else { return };
    let known = known();
    for literal in asked {
        let word = match literal {
            Literal::Text(word) => word.clone(),
            Literal::Int(number) => number.to_string(),
        };
        if known.contains(&word.as_str()) {
            continue;
        }
        // Domains are written in capitals here and in small letters as keys.
        let capital = word.to_ascii_uppercase();
        let near = if known.contains(&capital.as_str()) {
            Some(format!("did you mean `{capital}`?"))
        } else {
            suggestion(&word, known.iter().copied())
        };
        let message = format!("`{word}` is not {what}, so that `{field}` is never equal to it");
        report.warning(path, message, near);
    }
}
