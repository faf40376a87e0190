//! From a failure to its ladder: overrides first, then the table of causes.
//!
//! The table is resolved when the policy is compiled, so that finding a ladder is one look-up.
//! Overrides are kept apart by cause: a rule that has nothing to say about a cause is never
//! evaluated for it, however many rules there are.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Map, Value};

use super::ladder::{Ladder, RuleName, Rung};
use crate::expression::{Expression, ExpressionError};
use crate::failure::{Failure, FailureCause};

/// Variables that the `when` of an override may read.
pub const VARIABLES: &[&str] = &["step", "target", "failure", "attempt", "labels", "pipeline"];

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
    ladders: Vec<Ladder>,
    by_cause: Vec<usize>,
    overrides: Vec<Override>,
    candidates: Vec<Vec<Candidate>>,
}

/// An override that has something to say about a cause.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Candidate {
    rule: usize,
    ladder: usize,
}

/// The ladder found for a failure.
#[derive(Debug, Clone)]
pub struct Route<'a> {
    /// The ladder.
    pub ladder: &'a Ladder,
    /// Overrides whose condition could not be evaluated, which counts as not holding. A field
    /// that is absent is no such mistake: a condition on it does not hold, that is all.
    pub broken: Vec<RuleName>,
}

impl Routing {
    /// A routing from the ladder of each cause and the overrides in order, each with the causes
    /// that it covers.
    pub fn new(
        mut ladder_of: impl FnMut(FailureCause) -> Ladder,
        overrides: Vec<(Override, Vec<(FailureCause, Ladder)>)>,
    ) -> Self {
        let mut routing = Self {
            ladders: Vec::new(),
            by_cause: Vec::with_capacity(FailureCause::ALL.len()),
            overrides: Vec::with_capacity(overrides.len()),
            candidates: vec![Vec::new(); FailureCause::ALL.len()],
        };
        for cause in FailureCause::ALL {
            let ladder = routing.keep(ladder_of(*cause), 0);
            routing.by_cause.push(ladder);
        }
        for (rule, covered) in overrides {
            let own = routing.ladders.len();
            for (cause, ladder) in covered {
                let ladder = routing.keep(ladder, own);
                let rule = routing.overrides.len();
                routing.candidates[cause as usize].push(Candidate { rule, ladder });
            }
            routing.overrides.push(rule);
        }
        routing
    }

    /// The same routing with other names for its rules.
    pub(super) fn renamed(mut self, mut name: impl FnMut(&str) -> RuleName) -> Self {
        for ladder in &mut self.ladders {
            ladder.rule = name(&ladder.rule);
        }
        self
    }

    /// Index of an equal ladder at `from` or after it, or of this one, added.
    fn keep(&mut self, ladder: Ladder, from: usize) -> usize {
        let known = self.ladders[from..].iter().position(|known| *known == ladder);
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
        let candidates = &self.candidates[failure.cause as usize];
        let mut broken = Vec::new();
        if !candidates.is_empty() {
            let seen = Seen::new(failure, site);
            for candidate in candidates {
                let rule = &self.overrides[candidate.rule];
                match seen.holds(&rule.when) {
                    Ok(true) => {
                        return Route { ladder: &self.ladders[candidate.ladder], broken };
                    }
                    Ok(false) | Err(ExpressionError::Missing(_)) => {}
                    Err(
                        ExpressionError::Refused { .. }
                        | ExpressionError::Type(_)
                        | ExpressionError::Range(_)
                        | ExpressionError::TooCostly(_),
                    ) => broken.push(Arc::clone(&rule.name)),
                }
            }
        }
        Route { ladder: self.of_cause(failure.cause), broken }
    }

    /// The ladder of a cause where no override holds.
    pub fn of_cause(&self, cause: FailureCause) -> &Ladder {
        &self.ladders[self.by_cause[cause as usize]]
    }

    /// The overrides in order, each with the causes that it covers and their ladders.
    pub fn overrides(&self) -> impl Iterator<Item = (&Override, Vec<(FailureCause, &Ladder)>)> {
        self.overrides.iter().enumerate().map(|(rule, one)| {
            let covered = FailureCause::ALL.iter().filter_map(|cause| {
                // Candidates stand in the order of their rules.
                let candidates = &self.candidates[*cause as usize];
                let at = candidates.binary_search_by_key(&rule, |c| c.rule).ok()?;
                Some((*cause, &self.ladders[candidates[at].ladder]))
            });
            (one, covered.collect())
        })
    }

    /// Every ladder, overrides included.
    pub fn ladders(&self) -> &[Ladder] {
        &self.ladders
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

/// The variables of a condition, built once per failure.
struct Seen {
    step: Value,
    target: Value,
    failure: Value,
    attempt: Value,
    labels: Value,
    pipeline: Value,
}

impl Seen {
    fn new(failure: &Failure, site: &Site<'_>) -> Self {
        let mut seen = Map::new();
        seen.insert("domain".into(), failure.domain().name().into());
        seen.insert("cause".into(), failure.cause.name().into());
        seen.insert("retryable".into(), failure.retryable.into());
        // What is not known is absent, not null, so that a condition on it does not hold instead
        // of being a mistake.
        if let Some(status) = failure.evidence.status {
            seen.insert("status".into(), status.into());
        }
        if let Some(code) = &failure.evidence.provider_code {
            seen.insert("provider_code".into(), code.as_str().into());
        }
        if let Some(detail) = failure.detail {
            seen.insert("detail".into(), detail.into());
        }
        if let Some(hint) = failure.retry_after {
            let ms = u64::try_from(hint.as_millis()).unwrap_or(u64::MAX);
            seen.insert("retry_after_ms".into(), ms.into());
        }
        let labels = site.labels.iter().map(|(k, v)| (k.clone(), v.as_str().into()));
        Self {
            step: site.step.into(),
            target: site.target.into(),
            failure: Value::Object(seen),
            attempt: site.attempt.into(),
            labels: Value::Object(labels.collect()),
            pipeline: site.pipeline.unwrap_or_default().into(),
        }
    }

    fn holds(&self, when: &Expression) -> Result<bool, ExpressionError> {
        when.evaluate_bool(&[
            ("step", &self.step),
            ("target", &self.target),
            ("failure", &self.failure),
            ("attempt", &self.attempt),
            ("labels", &self.labels),
            ("pipeline", &self.pipeline),
        ])
    }
}
