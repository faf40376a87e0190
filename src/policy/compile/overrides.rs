//! What comes before the table of causes, and what narrows it: overrides and the list of errors
//! that are retried.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::super::document::OverrideEntry;
use super::super::ladder::Ladder;
use super::super::routing::{Demands, Override, VARIABLES};
use super::reach::Reach;
use super::report::Report;
use super::routing::{Context, domain_route, domains};
use super::{condition, exceptions};
use crate::expression::{Expression, ExpressionError};
use crate::failure::{FailureCause, FailureDomain};

/// Rules in a policy.
const OVERRIDES_MAX: usize = 10_000;

type Covered = Vec<(FailureCause, Arc<Ladder>)>;

pub(super) fn overrides(
    context: &Context<'_>,
    report: &mut Report<'_>,
) -> Vec<(Demands, Override, Covered)> {
    let entries = context.body.overrides.as_deref().unwrap_or_default();
    if entries.len() > OVERRIDES_MAX {
        let message = format!("a policy has at most {OVERRIDES_MAX} overrides");
        report.error("/overrides", message, None);
        return Vec::new();
    }
    let mut names = BTreeSet::new();
    let mut reach = Reach::default();
    let mut compiled = Vec::with_capacity(entries.len());
    for (at, entry) in entries.iter().enumerate() {
        let path = format!("/overrides/{at}");
        if !names.insert(entry.name.as_str()) {
            let message = format!("another override is named `{}`", entry.name);
            report.error(&format!("{path}/name"), message, None);
        }
        let when = compiled_condition(entry, &format!("{path}/when"), report);
        let covered = covered(context, entry, &path, report);
        if let Some(when) = when {
            let called = (entry.name.as_str(), entry.when.as_str());
            let causes = covered.iter().map(|(cause, _)| *cause);
            let demands = Demands::of(&when);
            if condition::check(entry, &when, &demands, &format!("{path}/when"), report) {
                reach.check(called, &demands, causes, context.known, &path, report);
            }
            let rule = Override { name: Arc::from(entry.name.as_str()), when };
            compiled.push((demands, rule, covered));
        }
    }
    compiled
}

fn compiled_condition(
    entry: &OverrideEntry,
    path: &str,
    report: &mut Report<'_>,
) -> Option<Expression> {
    match Expression::compile(&entry.when, VARIABLES) {
        Ok(when) => Some(when),
        Err(ExpressionError::Refused { line, column, message, suggestion }) => {
            report.error_within(path, &entry.when, (line, column), message, suggestion);
            None
        }
        Err(error) => {
            report.error(path, error.to_string(), None);
            None
        }
    }
}

/// The causes that an override speaks of, with their ladders.
fn covered(
    context: &Context<'_>,
    entry: &OverrideEntry,
    path: &str,
    report: &mut Report<'_>,
) -> Covered {
    let path = format!("{path}/routing");
    let prefix = format!("overrides.{}.", entry.name);
    let domains = domains(context, Some(&entry.routing), &prefix, &path, report);
    let mut covered = Vec::new();
    for cause in FailureCause::ALL {
        if let Some(steps) = domains[cause.domain() as usize].of(*cause) {
            covered.push((*cause, steps.ladder(*cause, context.execution)));
        }
    }
    for domain in FailureDomain::ALL {
        let route = domain_route(Some(&entry.routing), *domain);
        if route.is_some_and(|route| route.alert_threshold.is_some()) {
            report.key_error(
                &format!("{path}/{}/alert_threshold", domain.key()),
                "an override changes ladders only",
                Some(format!("it belongs under `routing.{}` of the policy", domain.key())),
            );
        }
    }
    if covered.is_empty() {
        let advice = "name a domain with an `action` or a `ladder`".to_owned();
        report.error(&path, "the override changes nothing", Some(advice));
    }
    covered
}

/// The causes that `execution.infra_errors` lists; none if it is absent or says nothing.
pub(super) fn retried_causes(
    context: &Context<'_>,
    report: &mut Report<'_>,
) -> Option<BTreeSet<FailureCause>> {
    let names = context.body.execution.as_ref()?.infra_errors.as_ref()?;
    if names.is_empty() {
        let message = "an empty list says nothing, and all causes are retried as they would be";
        let advice = "leave it out, or take `retry_with_backoff` out of the ladder".to_owned();
        report.warning("/execution/infra_errors", message, Some(advice));
    }
    let mut retried = BTreeSet::new();
    for (at, name) in names.iter().enumerate() {
        let path = format!("/execution/infra_errors/{at}");
        let Some(causes) = exceptions::causes(name) else {
            let message = format!("`{name}` means nothing here and is passed over");
            let advice = "name a failure cause, such as `rate_limited`".to_owned();
            report.warning(&path, message, Some(advice));
            continue;
        };
        for cause in causes {
            if cause.domain() == FailureDomain::Infrastructure {
                retried.insert(*cause);
            } else {
                let home = cause.domain().key();
                let message = format!("`{name}` is `{cause}` here, of {home}, and is passed over");
                let advice = format!("route it under `routing.{home}.causes.{cause}`");
                report.warning(&path, message, Some(advice));
            }
        }
    }
    if retried.is_empty() {
        return None;
    }
    // Refusals of our own make no call that could raise an exception elsewhere.
    retried.extend([FailureCause::CircuitOpen, FailureCause::BulkheadFull]);
    Some(retried)
}
