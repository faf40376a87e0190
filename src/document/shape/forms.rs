//! A value of another form than the one that is read, in words.

use jsonschema::error::{TypeKind, ValidationErrorKind as Kind};
use jsonschema::{JsonType, ValidationError};
use serde_json::Value;

use super::short;

/// What is said of a value that has not the one form, and what to write instead. Some types say in
/// their own words what they expect.
pub(super) fn of_one(
    kind: &TypeKind,
    expected: Option<&str>,
    found: &Value,
) -> (String, Option<String>) {
    match expected {
        Some(expected) => (format!("{expected}, {}", words_for(found)), None),
        None => told(types(kind), found),
    }
}

/// The same where each branch of a choice asks for a form of its own.
pub(super) fn of_another(
    context: &[Vec<ValidationError<'static>>],
    found: &Value,
) -> (String, Option<String>) {
    let mut expected: Vec<JsonType> = Vec::new();
    for error in context.iter().flatten() {
        if let Kind::Type { kind } = error.kind() {
            expected.extend(types(kind));
        }
    }
    told(expected, found)
}

fn types(kind: &TypeKind) -> Vec<JsonType> {
    match kind {
        TypeKind::Single(one) => vec![*one],
        TypeKind::Multiple(set) => set.iter().collect(),
    }
}

fn told(mut expected: Vec<JsonType>, found: &Value) -> (String, Option<String>) {
    // Every section may be left empty; whoever writes something into it does not want to know.
    expected.retain(|one| *one != JsonType::Null);
    let mut names: Vec<&str> = Vec::new();
    for name in expected.iter().map(|one| name(*one)) {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    let message = if names.is_empty() {
        format!("has none of the forms that are allowed here, {}", words_for(found))
    } else {
        format!("expected {}, {}", names.join(" or "), words_for(found))
    };
    (message, advice(&expected, found))
}

fn words_for(found: &Value) -> String {
    match found {
        Value::Null => "found nothing".to_owned(),
        Value::Array(_) => "found a list".to_owned(),
        Value::Object(_) => "found a map".to_owned(),
        Value::Bool(_) | Value::Number(_) | Value::String(_) => format!("found `{}`", short(found)),
    }
}

const fn name(form: JsonType) -> &'static str {
    match form {
        JsonType::Array => "a list",
        JsonType::Boolean => "true or false",
        JsonType::Integer => "a whole number",
        JsonType::Null => "nothing",
        JsonType::Number => "a number",
        JsonType::Object => "a map",
        JsonType::String => "a text",
    }
}

/// What to write instead, where the value says what was meant.
fn advice(expected: &[JsonType], found: &Value) -> Option<String> {
    let wants = |form| expected.contains(&form);
    match found {
        Value::String(text) if wants(JsonType::Boolean) => {
            // What YAML 1.1 read as booleans, and quoted ones.
            match text.to_ascii_lowercase().as_str() {
                "yes" | "on" | "true" => Some("write `true`".to_owned()),
                "no" | "off" | "false" => Some("write `false`".to_owned()),
                _ => None,
            }
        }
        Value::String(text)
            if (wants(JsonType::Integer) && text.parse::<i64>().is_ok())
                || (wants(JsonType::Number) && text.parse::<f64>().is_ok()) =>
        {
            Some("write it without quotes".to_owned())
        }
        Value::String(_) if wants(JsonType::Array) => {
            Some(format!("write it as a list: `[{}]`", short(found)))
        }
        Value::Object(_) if wants(JsonType::Array) && !wants(JsonType::Object) => {
            Some("write each item after a `-`".to_owned())
        }
        Value::Bool(_) | Value::Number(_) if expected == [JsonType::String] => {
            Some("put it in quotes".to_owned())
        }
        Value::Null
        | Value::Bool(_)
        | Value::Number(_)
        | Value::String(_)
        | Value::Array(_)
        | Value::Object(_) => None,
    }
}
