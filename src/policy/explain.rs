//! What a policy would do, before it has to.
//!
//! [`table`] prints the resolved routes the way a router prints its own; [`failure`] shows one
//! decision with every rung of its ladder judged, by the code that decides.

use std::fmt;
use std::sync::Arc;

use super::Policy;
use super::decide::{Conditions, Judge, Moment, decide};
use super::decision::{Decision, SkipReason, Verdict};
use super::history::History;
use super::ladder::{Action, Ladder, RuleName};
use super::routing::Site;
use crate::failure::{Failure, FailureCause, FailureDomain};

/// The resolved routes of a policy.
#[derive(Debug, Clone, PartialEq)]
pub struct Table {
    /// Every cause with its ladder, in the order of the taxonomy.
    pub routes: Vec<Row>,
    /// Overrides, in their order. Whether one holds may depend on the failure itself, so they are
    /// listed rather than applied unless the table is for a site.
    pub overrides: Vec<OverrideRows>,
}

/// One route.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// Domain of the cause.
    pub domain: FailureDomain,
    /// Cause.
    pub cause: FailureCause,
    /// Whether the same call may succeed later.
    pub retryable: bool,
    /// The route that gives the ladder.
    pub rule: RuleName,
    /// The ladder, one text a rung.
    pub ladder: Vec<String>,
}

/// An override with its routes.
#[derive(Debug, Clone, PartialEq)]
pub struct OverrideRows {
    /// Its name.
    pub name: Arc<str>,
    /// Its condition.
    pub when: String,
    /// The causes that it covers.
    pub routes: Vec<Row>,
}

/// The resolved routes. With a site, the ladders are those of a plain failure of each cause there,
/// overrides applied; without one, those of the table.
pub fn table(policy: &Policy, site: Option<&Site<'_>>) -> Table {
    let routing = &policy.routing;
    let routes = FailureCause::ALL.iter().map(|cause| {
        let ladder = match site {
            Some(site) => {
                let failure = Failure::new(*cause, cause.summary());
                policy.ladder_for(&failure, site)
            }
            None => routing.of_cause(*cause),
        };
        row(*cause, ladder)
    });
    let overrides = routing.overrides().map(|rule| OverrideRows {
        name: Arc::clone(&rule.of().name),
        when: rule.of().when.source().to_owned(),
        routes: rule.ladders().map(|(cause, ladder)| row(cause, ladder)).collect(),
    });
    Table { routes: routes.collect(), overrides: overrides.collect() }
}

fn row(cause: FailureCause, ladder: &Ladder) -> Row {
    Row {
        domain: cause.domain(),
        cause,
        retryable: cause.retryable(),
        rule: Arc::clone(&ladder.rule),
        ladder: ladder.rungs.iter().map(ToString::to_string).collect(),
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, domain) in FailureDomain::ALL.iter().enumerate() {
            writeln!(f, "{}{domain}", if at > 0 { "\n" } else { "" })?;
            let rows = self.routes.iter().filter(|row| row.domain == *domain);
            write_rows(f, &rows.collect::<Vec<_>>())?;
        }
        for rule in &self.overrides {
            writeln!(f, "\noverride {} when {}", rule.name, rule.when)?;
            write_rows(f, &rule.routes.iter().collect::<Vec<_>>())?;
        }
        Ok(())
    }
}

/// Rows with causes of the same route together, in the order of their first.
fn write_rows(f: &mut fmt::Formatter<'_>, rows: &[&Row]) -> fmt::Result {
    let same = |a: &Row, b: &Row| a.rule == b.rule && a.ladder == b.ladder;
    for (at, row) in rows.iter().enumerate() {
        if rows[..at].iter().any(|before| same(before, row)) {
            continue;
        }
        let causes: Vec<&str> =
            rows.iter().filter(|other| same(other, row)).map(|other| other.cause.name()).collect();
        writeln!(f, "  {}", causes.join(", "))?;
        writeln!(f, "    by {}", row.rule)?;
        for (rung, text) in row.ladder.iter().enumerate() {
            writeln!(f, "    {}. {text}", rung + 1)?;
        }
        if row.ladder.is_empty() {
            writeln!(f, "    nothing is tried: the step fails")?;
        }
    }
    Ok(())
}

/// A decision with every rung judged.
#[derive(Debug, Clone, PartialEq)]
pub struct Explanation {
    /// What would be decided.
    pub decision: Decision,
    /// Every rung of the ladder, those after the one taken too.
    pub rungs: Vec<JudgedRung>,
}

/// A rung, judged for itself.
#[derive(Debug, Clone, PartialEq)]
pub struct JudgedRung {
    /// Its place on the ladder.
    pub rung: usize,
    /// Its action.
    pub action: Action,
    /// The rung in words.
    pub text: String,
    /// What it would do now, or why it is not feasible.
    pub judgement: Result<Verdict, SkipReason>,
}

/// Explains one decision. The arguments are those of [`decide`].
pub fn failure(
    policy: &Policy,
    failure: &Failure,
    site: &Site<'_>,
    history: &History,
    moment: Moment,
    conditions: &Conditions<'_>,
) -> Explanation {
    let decision = decide(policy, failure, site, history, moment, conditions);
    let ladder = policy.ladder_for(failure, site);
    let judge = Judge { policy, failure, site, history, moment, conditions, ladder };
    let rungs = judge.rungs().map(|(rung, action, judgement)| JudgedRung {
        rung,
        action,
        text: ladder.rungs[rung].to_string(),
        judgement,
    });
    Explanation { decision, rungs: rungs.collect() }
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "route {}", self.decision.rule)?;
        for rung in &self.rungs {
            let mark = if self.decision.rung == Some(rung.rung) { "→" } else { " " };
            let judgement = match &rung.judgement {
                Ok(_) => "feasible",
                Err(reason) => reason.name(),
            };
            writeln!(f, "{mark} {}. {:<64} {judgement}", rung.rung + 1, rung.text)?;
        }
        if self.decision.rung.is_none() {
            writeln!(f, "→ no rung is feasible: the step fails with this failure")?;
        }
        for name in &self.decision.broken_overrides {
            writeln!(f, "  override {name} could not be evaluated and was passed over")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
