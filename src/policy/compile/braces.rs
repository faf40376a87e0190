//! Texts of a policy that look like templates.

use serde_json::Value;

use super::report::Report;

/// Who writes braces thinks of a pipeline's templates. A policy is for many steps and sees nothing
/// of any, so that its texts are fixed.
pub(super) fn told(text: Option<&Value>, path: &str, report: &mut Report<'_>) {
    if !text.is_some_and(has_braces) {
        return;
    }
    let message = "is given out as it is written: a policy's texts are no templates";
    let advice = "write plain text, or let the step's `template_output` answer";
    report.warning(path, message, Some(advice.to_owned()));
}

/// Whether some text of a value looks like a template.
fn has_braces(value: &Value) -> bool {
    match value {
        Value::String(text) => text.contains("{{") || text.contains("{%"),
        Value::Array(items) => items.iter().any(has_braces),
        Value::Object(members) => members.values().any(has_braces),
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
    }
}
