//! What is wrong with the condition of an override beyond its grammar: fields that no failure has,
//! and values of one type taken for another.

use serde_json::{Map, Value, json};

use super::super::document::OverrideEntry;
use super::super::routing::{Demands, FAILURE_FIELDS, Key};
use super::report::{Report, suggestion};
use crate::expression::{Expression, ExpressionError, Literal};

/// Tells of both. True if there was nothing to tell.
pub(super) fn check(
    entry: &OverrideEntry,
    when: &Expression,
    demands: &Demands,
    path: &str,
    report: &mut Report<'_>,
) -> bool {
    let before = report.problems.0.len();
    let reads = when.reads();
    for read in &reads {
        field(entry, read, path, report);
    }
    if report.problems.0.len() == before && !demands.complete && !demands.never {
        types(when, demands, &reads, path, report);
    }
    report.problems.0.len() == before
}

/// A field that is read and does not exist.
fn field(entry: &OverrideEntry, read: &[&str], path: &str, report: &mut Report<'_>) {
    let (message, near) = match *read {
        ["failure", field, ..] if !FAILURE_FIELDS.contains(&field) => {
            let message = format!("a failure has no `{field}`");
            (message, suggestion(field, FAILURE_FIELDS.iter().copied()))
        }
        ["failure", field, inner, ..] => (format!("`failure.{field}` has no `{inner}`"), None),
        [text @ ("step" | "target" | "pipeline" | "attempt"), inner, ..] => {
            (format!("`{text}` has no `{inner}`"), None)
        }
        ["labels", label, inner, ..] => (format!("the label `{label}` is a text"), {
            let whole = format!("{label}.{inner}");
            Some(format!("write `labels[\"{whole}\"]` for a label with a dot in its name"))
        }),
        _ => return,
    };
    let at = place(&entry.when, &read.join("."));
    report.error_within(path, &entry.when, at, message, near);
}

/// Line and column of a read within its condition, or its beginning.
fn place(source: &str, read: &str) -> (u32, u32) {
    let before = source.find(read).and_then(|at| source.get(..at)).unwrap_or_default();
    let number = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    (number(before.matches('\n').count() + 1), number(column))
}

/// Evaluates the condition once, on a failure that has all that it asks for. The types of what it
/// reads are always the same, so that a mistake of types here is one wherever it gets so far.
fn types(
    when: &Expression,
    demands: &Demands,
    reads: &[Vec<&str>],
    path: &str,
    report: &mut Report<'_>,
) {
    let asked = |key: &Key, absent: Value| {
        let demand = demands.fields.iter().find(|demand| demand.key == *key);
        value(demand.and_then(|demand| demand.values.first())).unwrap_or(absent)
    };
    let named = |of: &Option<Vec<Literal>>, absent: &str| {
        value(of.as_ref().and_then(|values| values.first())).unwrap_or_else(|| absent.into())
    };
    let failure = json!({
        "domain": named(&demands.domains, "INFRASTRUCTURE"),
        "cause": named(&demands.causes, "rate_limited"),
        "retryable": true,
        "status": asked(&Key::Status, 429.into()),
        "provider_code": asked(&Key::ProviderCode, "code".into()),
        "detail": asked(&Key::Detail, "detail".into()),
        "retry_after_ms": 1_000,
    });
    let mut labels = Map::new();
    for read in reads {
        if let ["labels", name] = *read.as_slice() {
            labels.insert(name.to_owned(), asked(&Key::Label(name.into()), "value".into()));
        }
    }
    let held = when.evaluate_bool(&[
        ("step", &asked(&Key::Step, "step".into())),
        ("target", &asked(&Key::Target, "target".into())),
        ("pipeline", &asked(&Key::Pipeline, "pipeline".into())),
        ("attempt", &asked(&Key::Attempt, 2.into())),
        ("failure", &failure),
        ("labels", &Value::Object(labels)),
    ]);
    match held {
        Err(error @ ExpressionError::Type(_)) => {
            report.warning(path, format!("the condition never holds: {error}"), None);
        }
        // What a sample lacks, or has too much of, another failure may have.
        Ok(_)
        | Err(
            ExpressionError::Refused { .. }
            | ExpressionError::Missing(_)
            | ExpressionError::Range(_)
            | ExpressionError::TooCostly(_),
        ) => {}
    }
}

fn value(literal: Option<&Literal>) -> Option<Value> {
    Some(match literal? {
        Literal::Text(text) => text.as_str().into(),
        Literal::Int(number) => (*number).into(),
    })
}
