//! The JSON Schema of a contract: compiled once, asked often.
//!
//! References are local only: a schema that names another document does not compile, nothing is
//! ever fetched. Patterns run on the linear-time engine with a size limit, since both the pattern
//! and the text come from outside. What is told about a violation is its path and its rule; the
//! library's own messages print the offending value, so only their masked form is used.

use std::fmt;
use std::sync::Arc;

use jsonschema::error::ValidationErrorKind;
use jsonschema::{PatternOptions, ValidationError, Validator};
use serde_json::Value;

use super::coerce;
use crate::failure::Violation;

/// Violations listed at most.
pub const VIOLATIONS_MAX: usize = 32;

const MESSAGE_CHARS_MAX: usize = 240;
const PATTERN_BYTES_MAX: usize = 1 << 20;
const SCHEMA_DEPTH_MAX: usize = 150;
const REFERENCES_MAX: usize = 64;

/// A compiled schema and the document that it was compiled from.
#[derive(Clone)]
pub(super) struct Schema {
    validator: Arc<Validator>,
    document: Arc<Value>,
    /// Unions are nested so deeply that trying every branch of every one would not end.
    explosive: bool,
}

/// One place where a value breaks the schema, as `accept_partial` mends it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fault {
    pub path: String,
    /// The member that is missing there.
    pub missing: Option<String>,
    /// The members that may not be there.
    pub unexpected: Vec<String>,
    pub message: String,
}

/// Why a schema does not compile. The text names the place in the schema.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the schema does not compile at `{path}`: {message}")]
pub struct SchemaError {
    /// JSON Pointer into the schema.
    pub path: String,
    /// What is wrong there.
    pub message: String,
}

impl Schema {
    /// Compiles `document`. The draft is the one that `$schema` names, else 2020-12.
    pub fn compile(document: Arc<Value>) -> Result<Self, SchemaError> {
        if deeper_than(&document, SCHEMA_DEPTH_MAX) {
            return Err(SchemaError {
                path: String::new(),
                message: format!("it is nested deeper than {SCHEMA_DEPTH_MAX}"),
            });
        }
        if let Some(path) = coerce::endless_reference(&document, REFERENCES_MAX) {
            let message = "it refers to itself and to nothing else".to_owned();
            return Err(SchemaError { path, message });
        }
        let validator = jsonschema::options()
            .offline()
            .with_pattern_options(
                PatternOptions::regex()
                    .size_limit(PATTERN_BYTES_MAX)
                    .dfa_size_limit(PATTERN_BYTES_MAX),
            )
            .build(&document)
            .map_err(|error| SchemaError {
                path: error.instance_path().as_str().to_owned(),
                message: bounded(&error.to_string()),
            })?;
        let explosive = coerce::is_explosive(&document);
        Ok(Self { validator: Arc::new(validator), document, explosive })
    }

    /// The schema as it was written.
    pub fn document(&self) -> &Value {
        &self.document
    }

    /// Whether the value satisfies the schema.
    pub fn holds(&self, value: &Value) -> bool {
        // The library tries every branch anew; our own look remembers what it saw, and its no is
        // a no.
        (!self.explosive || coerce::may_hold(&self.document, value))
            && self.validator.is_valid(value)
    }

    /// Whether the value is the schema itself, given back instead of an answer.
    pub fn is_echoed_by(&self, value: &Value) -> bool {
        let (Value::Object(value), Value::Object(schema)) = (value, &*self.document) else {
            return false;
        };
        let declares =
            |name: &str| schema.get("properties").is_some_and(|names| names.get(name).is_some());
        let shape =
            value.get("properties").is_some_and(Value::is_object) && value.contains_key("type");
        shape && !declares("properties") && value.get("properties") == schema.get("properties")
    }

    /// Where the value breaks the schema, at most [`VIOLATIONS_MAX`] places.
    pub fn violations(&self, value: &Value) -> Vec<Violation> {
        if self.explosive && !coerce::may_hold(&self.document, value) {
            let message = "the value is not valid under any of the schema's branches".to_owned();
            return vec![Violation { path: String::new(), message }];
        }
        self.validator
            .iter_errors(value)
            .take(VIOLATIONS_MAX)
            .map(|error| violation(&error))
            .collect()
    }

    /// Where the value breaks the schema, with what is missing and what is too much.
    pub fn faults(&self, value: &Value) -> Vec<Fault> {
        if self.explosive {
            return self.violations(value).into_iter().map(Fault::from).collect();
        }
        self.validator.iter_errors(value).take(VIOLATIONS_MAX).map(|error| fault(&error)).collect()
    }
}

impl From<Violation> for Fault {
    fn from(violation: Violation) -> Self {
        let Violation { path, message } = violation;
        Self { path, missing: None, unexpected: Vec::new(), message }
    }
}

impl fmt::Debug for Schema {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Schema").finish_non_exhaustive()
    }
}

fn fault(error: &ValidationError<'_>) -> Fault {
    let mut fault = Fault::from(violation(error));
    match error.kind() {
        ValidationErrorKind::Required { property: Value::String(name) } => {
            fault.missing = Some(name.clone());
        }
        ValidationErrorKind::AdditionalProperties { unexpected }
        | ValidationErrorKind::UnevaluatedProperties { unexpected } => {
            fault.unexpected.clone_from(unexpected);
        }
        _ => (),
    }
    fault
}

fn violation(error: &ValidationError<'_>) -> Violation {
    let path = error.instance_path().as_str().to_owned();
    let message = match error.kind() {
        // The masked text still lists the names of unexpected members, and those are the model's.
        ValidationErrorKind::AdditionalProperties { unexpected }
        | ValidationErrorKind::UnevaluatedProperties { unexpected } => {
            format!("{} member(s) that the schema does not allow", unexpected.len())
        }
        _ => bounded(&error.masked_with("the value").to_string()),
    };
    Violation { path, message }
}

fn bounded(text: &str) -> String {
    match text.char_indices().nth(MESSAGE_CHARS_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

fn deeper_than(value: &Value, depth_max: usize) -> bool {
    let mut level = vec![value];
    for _ in 0..depth_max {
        let mut below = Vec::new();
        for value in level {
            match value {
                Value::Array(items) => below.extend(items),
                Value::Object(members) => below.extend(members.values()),
                Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => (),
            }
        }
        if below.is_empty() {
            return false;
        }
        level = below;
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn schema(document: Value) -> Schema {
        Schema::compile(Arc::new(document)).unwrap()
    }

    #[test]
    fn a_violation_tells_path_and_rule_and_no_value() {
        let schema = schema(
            json!({"properties": {"age": {"type": "integer"}}, "additionalProperties": false}),
        );
        let violations = schema.violations(&json!({"age": "secret", "hidden": 1}));
        let text = format!("{violations:?}");
        assert!(text.contains("/age") && text.contains("integer"), "{text}");
        assert!(!text.contains("secret") && !text.contains("hidden"), "{text}");
    }

    #[test]
    fn a_reference_to_elsewhere_does_not_compile() {
        let remote = json!({"$ref": "https://example.com/schema.json"});
        assert!(Schema::compile(Arc::new(remote)).is_err());
    }

    #[test]
    fn every_draft_compiles() {
        for draft in ["draft-04", "draft-06", "draft-07"] {
            let document = json!({"$schema": format!("http://json-schema.org/{draft}/schema#"),
                "definitions": {"n": {"type": "integer"}}, "properties": {"a": {"$ref": "#/definitions/n"}}});
            assert!(schema(document.clone()).holds(&json!({"a": 1})));
            assert!(!schema(document).holds(&json!({"a": "x"})));
        }
    }

    #[test]
    fn big_integers_are_integers() {
        let schema = schema(json!({"type": "integer"}));
        for text in ["12345678901234567890123", "-12345678901234567890123", "9007199254740993"] {
            let value: Value = serde_json::from_str(text).unwrap();
            assert!(schema.holds(&value), "{text}");
        }
    }
}
