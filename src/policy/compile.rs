//! From a policy document to a policy that cannot be wrong.
//!
//! Every mistake is reported at once, each at its place. What the schema of the document can say
//! is found by its [`Shape`](crate::document::Shape); a document with such mistakes is still read
//! as far as it goes, so that the author of two mistakes is told of both.

mod braces;
mod breaker;
mod condition;
mod dotted;
mod exceptions;
mod named;
mod overrides;
mod reach;
mod report;
mod routing;
mod sections;

use std::sync::LazyLock;

use report::Report;

use super::Policy;
use super::document::{PolicyBody, PolicyDocument, SHAPE};
use super::outage::outage;
use crate::document::{Document, Fillers, NodeValue, Problem, Problems};
use crate::resilience::breaker::BreakerSettings;

pub use breaker::Fault;

/// What a policy is checked against.
#[derive(Debug, Clone, Copy, Default)]
pub struct Known<'a> {
    /// Names of the server's targets; absent where no server is known, as in an editor.
    pub targets: Option<&'a [String]>,
    /// Whether the server has something that makes vectors of prompts; absent where none is known.
    pub embeds: Option<bool>,
}

/// What stands in for what is wrong, so that the rest can be checked: a rung that is none, and an
/// override that never holds.
const FILLERS: Fillers = Fillers {
    members: &[("name", "''"), ("when", "'false'"), ("routing", "{}")],
    items: &[("ladder", "{}"), ("overrides", "{ name: '', when: 'false', routing: {} }")],
};

/// The text of the default policy.
pub const DEFAULT_TEXT: &str = include_str!("../../config/policies/default.yaml");

/// The default policy as written; its routing answers what other policies leave out.
static DEFAULT_BODY: LazyLock<PolicyBody> = LazyLock::new(|| {
    let body = Document::parse("default.yaml", DEFAULT_TEXT)
        .ok()
        .and_then(|document| SHAPE.read(&document).ok())
        .and_then(|document| document.policy);
    // A test reads the embedded text; an empty body would route nothing and be noticed there.
    body.unwrap_or_default()
});

/// Compiles a policy.
///
/// # Errors
/// Every mistake in reading order, warnings included, when one of them refuses the document. With
/// warnings only, the policy comes with them.
pub fn compile(document: &Document, known: &Known<'_>) -> Result<(Policy, Problems), Problems> {
    let expanded;
    let document = match dotted::without_dotted_keys(document) {
        Ok(None) => document,
        Ok(Some(document)) => {
            expanded = document;
            &expanded
        }
        Err(problem) => return Err(Problems(vec![problem])),
    };
    if document.root.value == NodeValue::Null {
        return Err(Problems(vec![no_policy(document)]));
    }
    let mut problems = Problems::default();
    let mut salvaged = None;
    let raw: PolicyDocument = match SHAPE.read(document) {
        Ok(raw) => raw,
        Err(mistakes) => {
            let rest = FILLERS.without(document, &mistakes);
            problems = mistakes;
            // What fills the gaps need not have the shape, only the type.
            match serde_json::from_value(rest.document.to_json()) {
                Ok(raw) => {
                    salvaged = Some(rest);
                    raw
                }
                Err(_) => return Err(problems.sorted()),
            }
        }
    };
    let (key, body) = match (raw.policy, raw.llm_pipeline) {
        (Some(body), None) => ("policy", body),
        (None, Some(body)) => ("llm_pipeline", body),
        (Some(_), Some(_)) => {
            let at = document.position_of_key("/llm_pipeline");
            let message = "`policy` and `llm_pipeline` are two names for the same key";
            problems.push(
                Problem::error("/llm_pipeline", at, message).suggest(Some("keep one of them")),
            );
            return Err(problems.sorted());
        }
        (None, None) => {
            if problems.usable() {
                problems.push(no_policy(document));
            }
            return Err(problems.sorted());
        }
    };
    let mut report = Report::new(document, format!("/{key}"));
    let policy = policy(&body, known, &mut report);
    // What was left out to read the rest must not be missed by the checks of the rest.
    let own = report.problems.sorted();
    let own = match salvaged {
        Some(rest) => rest.own(own),
        None => own,
    };
    problems.0.extend(own.0);
    let problems = problems.sorted();
    if problems.usable() { Ok((policy, problems)) } else { Err(problems) }
}

fn no_policy(document: &Document) -> Problem {
    let at = document.root.position;
    let problem = Problem::error("", at, "there is no policy in this document");
    problem.suggest(Some("write it under the key `policy`"))
}

/// The policy that a body gives; mistakes go to the report, and what is wrong gets its default.
fn policy(body: &PolicyBody, known: &Known<'_>, report: &mut Report<'_>) -> Policy {
    let execution = sections::execution(body, report);
    let validation = sections::validation(body);
    let cache = sections::cache(body, known, report);
    let context = routing::Context {
        known,
        execution: &execution,
        validation: &validation,
        cache: &cache,
        body,
    };
    let routing = routing::routing(&context, report);
    let policy = Policy {
        routing,
        alerts: sections::alerts(body, &DEFAULT_BODY, report),
        observability: sections::observability(body),
        redaction: sections::redaction(body, report),
        breaker: breaker::breaker(
            body.breaker.as_ref(),
            BreakerSettings::default(),
            "breaker",
            report,
        ),
        output_breaker: breaker::breaker(
            body.output_breaker.as_ref(),
            BreakerSettings::for_outputs(),
            "output_breaker",
            report,
        ),
        retry_budget: sections::budget(body.retry_budget.as_ref(), "retry_budget", report),
        reprompt_budget: sections::budget(body.reprompt_budget.as_ref(), "reprompt_budget", report),
        hedge: sections::hedge(body, known, report),
        after_content: sections::after_content(body),
        execution,
        validation,
        cache,
    };
    stops_all_traffic(&policy, report);
    policy
}

/// Warns of a policy under which the first failure of anything ends its run.
fn stops_all_traffic(policy: &Policy, report: &mut Report<'_>) {
    let outage = outage(policy);
    if !outage.is_total() {
        return;
    }
    let path =
        if outage.attempt_timeout.is_some() { "/execution/attempt_timeout" } else { "/routing" };
    let message = format!("the policy would stop all traffic: {outage}");
    report.warning(path, message, Some("give failures that pass a retry or a fallback".to_owned()));
}

/// The default policy. The text is part of the program and a test compiles it, so that this cannot
/// fail.
pub(super) fn built_in() -> Policy {
    let mut report = Report::unheard();
    let known = Known::default();
    let body = PolicyBody { routing: None, ..DEFAULT_BODY.clone() };
    let mut built_in = policy(&body, &known, &mut report);
    built_in.routing = built_in.routing.renamed(|rule| {
        rule.strip_prefix(routing::INHERITED).map_or_else(|| rule.into(), Into::into)
    });
    built_in
}

#[cfg(test)]
mod tests;
