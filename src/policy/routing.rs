//! From a failure to its ladder: overrides first, then the table of causes.
//!
//! The table is resolved when the policy is compiled, so that finding a ladder is one look-up.
//! Overrides are found by the values that their conditions ask for, so that an override that does
//! not apply costs nothing, however many there are.

mod index;
mod seen;

use std::collections::BTreeMap;
use std::sync::Arc;

use super::ladder::{Ladder, RuleName, Rung};
use crate::expression::{Expression, ExpressionError};
use crate::failure::{Failure, FailureCause};

use index::Index;
use seen::{Found, Seen};

pub(super) use seen::FAILURE_FIELDS;
pub use seen::VARIABLES;
pub(super) use seen::{Demand, Demands, Key};

/// Where a failure happened; what overrides see beside the failure.
#[derive(Debug, Clone, Copy)]
pub struct Site<'a> {
    /// Pipeline of the step; absent for a step of its own.
    pub pipeline: Option<&'a str>,
    /// Step.
    pub step: &'a str,
    /// Target that failed.
    pub target: &'a str,
    /// Number of the attempt that failed, from 1; 0 if no call was made yet.
    pub attempt: u32,
    /// Labels of the run.
    pub labels: &'a BTreeMap<String, String>,
}

/// A rule that comes before the table where its condition holds.
#[derive(Debug, Clone, PartialEq)]
pub struct Override {
    /// Its name, unique within the policy.
    pub name: Arc<str>,
    /// When it holds.
    pub when: Expression,
}

/// The routing of a policy, resolved.
#[derive(Debug, Clone, PartialEq)]
pub struct Routing {
    ladders: Vec<Arc<Ladder>>,
    by_cause: Vec<usize>,
    overrides: Vec<Rule>,
    index: Index,
}

/// An override, resolved.
#[derive(Debug, Clone, PartialEq)]
struct Rule {
    of: Override,
    demands: Demands,
    /// The causes that it covers and may hold for, in order, each with its ladder.
    covers: Vec<(FailureCause, usize)>,
}

impl Rule {
    fn ladder_of(&self, cause: FailureCause) -> Option<usize> {
        let at = self.covers.binary_search_by_key(&cause, |(covered, _)| *covered).ok()?;
        Some(self.covers[at].1)
    }
}

/// An override with the causes that it covers.
#[derive(Debug, Clone, Copy)]
pub struct Covering<'a> {
    rule: &'a Rule,
    ladders: &'a [Arc<Ladder>],
}

impl<'a> Covering<'a> {
    /// The override.
    pub fn of(&self) -> &'a Override {
        &self.rule.of
    }

    /// What its condition asks for.
    pub(super) fn demands(&self) -> &'a Demands {
        &self.rule.demands
    }

    /// Whether it may hold for a step of a pipeline.
    pub fn may_hold_for(&self, pipeline: &str, step: &str) -> bool {
        self.rule.demands.fields.iter().all(|demand| {
            let found = match &demand.key {
                Key::Step => step,
                Key::Pipeline => pipeline,
                Key::Target
                | Key::Attempt
                | Key::Status
                | Key::ProviderCode
                | Key::Detail
                | Key::Label(_) => return true,
            };
            demand.values.iter().any(|value| Found::Text(found).equals(value))
        })
    }

    /// The causes that it covers, in order, and their ladders. Causes for which its condition
    /// cannot hold are left out.
    pub fn ladders(&self) -> impl Iterator<Item = (FailureCause, &'a Ladder)> + use<'a> {
        let ladders = self.ladders;
        self.rule.covers.iter().map(|(cause, at)| (*cause, &*ladders[*at]))
    }
}

/// The ladder found for a failure.
#[derive(Debug, Clone)]
pub struct Route<'a> {
    /// The ladder.
    pub ladder: &'a Ladder,
    /// Overrides whose condition could not be evaluated, which counts as not holding. A field
    /// that is absent is no such mistake: a condition on it does not hold, that is all. Nor is an
    /// override looked at that asks for another value of a field than it has here.
    pub broken: Vec<RuleName>,
}

impl Routing {
    /// A routing from the ladder of each cause and the overrides in order, each with the causes
    /// that it covers.
    pub fn new<L: Into<Arc<Ladder>>>(
        ladder_of: impl FnMut(FailureCause) -> L,
        overrides: Vec<(Override, Vec<(FailureCause, L)>)>,
    ) -> Self {
        let demanding = |(of, covered): (Override, _)| (Demands::of(&of.when), of, covered);
        Self::of(ladder_of, overrides.into_iter().map(demanding))
    }

    /// The same with what the conditions of the overrides ask for.
    pub(super) fn of<L: Into<Arc<Ladder>>>(
        mut ladder_of: impl FnMut(FailureCause) -> L,
        overrides: impl ExactSizeIterator<Item = (Demands, Override, Vec<(FailureCause, L)>)>,
    ) -> Self {
        let mut routing = Self {
            ladders: Vec::new(),
            by_cause: Vec::with_capacity(FailureCause::ALL.len()),
            overrides: Vec::with_capacity(overrides.len()),
            index: Index::default(),
        };
        for cause in FailureCause::ALL {
            let ladder = routing.keep(ladder_of(*cause).into(), 0);
            routing.by_cause.push(ladder);
        }
        for (demands, of, covered) in overrides {
            let own = routing.ladders.len();
            let mut covers = Vec::new();
            for (cause, ladder) in covered {
                let ladder = routing.keep(ladder.into(), own);
                if demands.admits(cause) {
                    covers.push((cause, ladder));
                }
            }
            covers.sort_by_key(|(cause, _)| *cause);
            routing.overrides.push(Rule { of, demands, covers });
        }
        let rules = routing.overrides.iter().map(|rule| (&rule.demands, rule.covers.as_slice()));
        routing.index = Index::new(rules);
        routing
    }

    /// The same routing with other names for its rules.
    pub(super) fn renamed(mut self, mut name: impl FnMut(&str) -> RuleName) -> Self {
        for ladder in &mut self.ladders {
            let ladder = Arc::make_mut(ladder);
            ladder.rule = name(&ladder.rule);
        }
        self
    }

    /// Index of an equal ladder at `from` or after it, or of this one, added.
    fn keep(&mut self, ladder: Arc<Ladder>, from: usize) -> usize {
        let is_it = |known: &Arc<Ladder>| Arc::ptr_eq(known, &ladder) || *known == ladder;
        let known = self.ladders[from..].iter().position(is_it);
        known.map_or_else(
            || {
                self.ladders.push(ladder);
                self.ladders.len() - 1
            },
            |at| from + at,
        )
    }

    /// The ladder for a failure: of the first override that holds and covers the cause, else of
    /// the table.
    pub fn route(&self, failure: &Failure, site: &Site<'_>) -> Route<'_> {
        let mut broken = Vec::new();
        let mut seen = None;
        for candidate in self.index.candidates(failure, site) {
            let rule = &self.overrides[candidate];
            let Some(ladder) = rule.ladder_of(failure.cause) else { continue };
            if !rule.demands.are_met(failure, site) {
                continue;
            }
            let holds = if rule.demands.complete {
                Ok(true)
            } else {
                seen.get_or_insert_with(|| Seen::new(failure, site)).holds(&rule.of.when)
            };
            match holds {
                Ok(true) => return Route { ladder: &self.ladders[ladder], broken },
                Ok(false) | Err(ExpressionError::Missing(_)) => {}
                Err(
                    ExpressionError::Refused { .. }
                    | ExpressionError::Type(_)
                    | ExpressionError::Range(_)
                    | ExpressionError::TooCostly(_),
                ) => broken.push(Arc::clone(&rule.of.name)),
            }
        }
        Route { ladder: self.of_cause(failure.cause), broken }
    }

    /// The ladder of a cause where no override holds.
    pub fn of_cause(&self, cause: FailureCause) -> &Ladder {
        &self.ladders[self.by_cause[cause as usize]]
    }

    /// Whether the ladders of this name are for one cause alone: the policy has said something of
    /// that very cause.
    pub fn is_of_one_cause(&self, rule: &str) -> bool {
        let has_it = |at: &usize| *self.ladders[*at].rule == *rule;
        let of_table = self.by_cause.iter().filter(|at| has_it(at)).count();
        let covers = self.overrides.iter().flat_map(|rule| &rule.covers);
        of_table + covers.filter(|(_, at)| has_it(at)).count() == 1
    }

    /// The ladder of a cause where nothing but the cause is known: of the first override that
    /// holds for every failure of it, else of the table.
    pub fn whatever(&self, cause: FailureCause) -> &Ladder {
        let always = self
            .overrides
            .iter()
            .filter(|rule| rule.demands.complete && rule.demands.fields.is_empty());
        let ladder = always.filter_map(|rule| rule.ladder_of(cause)).next();
        ladder.map_or_else(|| self.of_cause(cause), |at| &self.ladders[at])
    }

    /// The overrides in order.
    pub fn overrides(&self) -> impl ExactSizeIterator<Item = Covering<'_>> {
        self.overrides.iter().map(|rule| Covering { rule, ladders: &self.ladders })
    }

    /// Every ladder, overrides included.
    pub fn ladders(&self) -> impl Iterator<Item = &Ladder> {
        self.ladders.iter().map(|ladder| &**ladder)
    }

    /// Targets that fallback rungs name, each once, in order of appearance.
    pub fn targets(&self) -> Vec<Arc<str>> {
        let mut targets: Vec<Arc<str>> = Vec::new();
        for rung in self.ladders.iter().flat_map(|ladder| &ladder.rungs) {
            if let Rung::FallbackToTarget { targets: named, .. } = rung {
                for name in named {
                    if !targets.contains(name) {
                        targets.push(Arc::clone(name));
                    }
                }
            }
        }
        targets
    }
}

#[cfg(test)]
mod tests;
