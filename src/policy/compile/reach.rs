//! Overrides that never apply: legal, and surely not meant.

use std::collections::HashMap;

use super::super::routing::{Demand, Demands, Key};
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

/// Values of fields, in order; at most [`FIELDS_MAX`].
type Values = Vec<(Key, Literal)>;

/// Fields and combinations of their values that are looked at. Beyond these nobody is warned.
const FIELDS_MAX: usize = 4;
const COMBINATIONS_MAX: usize = 16;

/// What the overrides before one leave for it.
#[derive(Default)]
pub(super) struct Reach<'a> {
    /// Overrides that hold wherever fields have these values, with the causes that they cover; those
    /// that hold always under none.
    by_values: HashMap<Values, Vec<(&'a str, Causes)>>,
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
        let combinations = combinations(demands);
        let shadow = self.shadow(source, &combinations, left);
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
        // One that is shadowed shadows nothing that its shadow does not: so the lists stay short.
        if demands.complete && left != Causes::NONE && shadow.is_none() {
            for values in combinations {
                self.by_values.entry(values).or_default().push((name, left));
            }
        }
        self.by_condition.entry(source).or_insert((name, left));
    }

    /// An override before this one that, with others before it, takes every failure that it could
    /// take.
    fn shadow(&self, source: &str, combinations: &[Values], causes: Causes) -> Option<&'a str> {
        if let Some((name, taken)) = self.by_condition.get(source)
            && causes.is_subset(*taken)
        {
            return Some(name);
        }
        let mut first = None;
        for values in combinations {
            let mut taken = Causes::NONE;
            for chosen in 0..1_usize << values.len() {
                let is_chosen = |(at, _): &(usize, &(Key, Literal))| chosen >> at & 1 == 1;
                let part: Values = values
                    .iter()
                    .enumerate()
                    .filter(is_chosen)
                    .map(|(_, value)| value.clone())
                    .collect();
                for (name, more) in self.by_values.get(&part).into_iter().flatten() {
                    if causes.0 & more.0 != 0 {
                        first.get_or_insert(*name);
                    }
                    taken = Causes(taken.0 | more.0);
                }
            }
            if !causes.is_subset(taken) {
                return None;
            }
        }
        first
    }
}

/// Every combination of values that the condition asks its fields for; none where there are too
/// many.
fn combinations(demands: &Demands) -> Vec<Values> {
    if demands.fields.len() > FIELDS_MAX || demands.never {
        return Vec::new();
    }
    let mut fields: Vec<&Demand> = demands.fields.iter().collect();
    fields.sort_by(|a, b| a.key.cmp(&b.key));
    let mut all: Vec<Values> = vec![Vec::new()];
    for Demand { key, values } in fields {
        if all.len() * values.len() > COMBINATIONS_MAX {
            return Vec::new();
        }
        let with = |known: &Values, value: &Literal| {
            let mut more = known.clone();
            more.push((key.clone(), value.clone()));
            more
        };
        all = all.iter().flat_map(|known| values.iter().map(move |one| with(known, one))).collect();
    }
    all
}

/// Words of a condition that nothing is called.
fn words(demands: &Demands, known: &Known<'_>, path: &str, report: &mut Report<'_>) {
    let causes = || FailureCause::ALL.iter().map(|cause| cause.name()).collect();
    unknown("failure.cause", "a cause", demands.causes.as_deref(), causes, path, report);
    let domains = || FailureDomain::ALL.iter().map(|domain| domain.name()).collect();
    unknown("failure.domain", "a domain", demands.domains.as_deref(), domains, path, report);
    for demand in &demands.fields {
        kinds(&demand.key, &demand.values, path, report);
    }
    let Some(targets) = known.targets else { return };
    let targets = || targets.iter().map(String::as_str).collect();
    let asked = demands.fields.iter().find(|demand| demand.key == Key::Target);
    let asked = asked.map(|demand| demand.values.as_slice());
    unknown("target", "a target", asked, targets, path, report);
}

/// Values of another type than the field's.
fn kinds(key: &Key, asked: &[Literal], path: &str, report: &mut Report<'_>) {
    for literal in asked {
        let (is, never, advice) = match (literal, key.is_number()) {
            (Literal::Text(text), true) => {
                ("a number", format!("the text `{text}`"), "write it without quotes")
            }
            (Literal::Int(number), false) => {
                ("a text", format!("the number {number}"), "put it in quotes")
            }
            (Literal::Text(_), false) | (Literal::Int(_), true) => continue,
        };
        let message = format!("`{}` is {is}, and never equal to {never}", key.path());
        report.warning(path, message, Some(advice.to_owned()));
    }
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
