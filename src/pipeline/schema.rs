//! JSON Schemas that users write.

use std::fmt;
use std::sync::Arc;

use jsonschema::error::ValidationErrorKind as Kind;
use jsonschema::{PatternOptions, Validator};
use serde_json::Value;

use crate::failure::Violation;

/// Most violations that are listed.
const VIOLATIONS_MAX: usize = 20;

/// A schema that compiles: drafts 4 to 2020-12, nothing fetched, patterns matched in linear time.
#[derive(Clone)]
pub struct Schema {
    source: Arc<Value>,
    validator: Arc<Validator>,
}

/// What is wrong with a schema.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SchemaProblem {
    /// JSON Pointer into the schema.
    pub(super) path: String,
    pub(super) message: String,
}

impl Schema {
    pub(super) fn compile(source: &Value) -> Result<Self, SchemaProblem> {
        let refuse = |path: &str, message: String| SchemaProblem { path: path.to_owned(), message };
        if !source.is_object() && !source.is_boolean() {
            return Err(refuse("", "a JSON Schema is an object".to_owned()));
        }
        if let Some(path) = remote_reference(source, &mut String::new()) {
            let message = "only references within the schema (`#/…`) are followed".to_owned();
            return Err(SchemaProblem { path, message });
        }
        let patterns = PatternOptions::regex().size_limit(1 << 20).dfa_size_limit(1 << 20);
        match jsonschema::options().offline().with_pattern_options(patterns).build(source) {
            Ok(validator) => {
                Ok(Self { source: Arc::new(source.clone()), validator: Arc::new(validator) })
            }
            Err(error) => {
                let at = error.instance_path().as_str().to_owned();
                let message = match error.kind() {
                    Kind::Referencing(_) => "a reference leads nowhere".to_owned(),
                    Kind::AnyOf { .. } | Kind::OneOfNotValid { .. } | Kind::Enum { .. } => {
                        "not a value that JSON Schema knows here".to_owned()
                    }
                    _ => format!("not a JSON Schema: {error}"),
                };
                Err(refuse(&at, message))
            }
        }
    }

    /// The schema as it was written.
    pub fn source(&self) -> &Arc<Value> {
        &self.source
    }

    /// The compiled schema.
    pub fn validator(&self) -> &Validator {
        &self.validator
    }

    /// Where a value breaks the schema: paths and rules, never the value. At most twenty.
    pub fn violations(&self, value: &Value) -> Vec<Violation> {
        self.validator
            .iter_errors(value)
            .take(VIOLATIONS_MAX)
            .map(|error| Violation {
                path: error.instance_path().as_str().to_owned(),
                message: match error.kind() {
                    Kind::Required { property } => {
                        format!("`{}` is missing", property.as_str().unwrap_or_default())
                    }
                    kind => format!("breaks the rule `{}` of the schema", kind.keyword()),
                },
            })
            .collect()
    }
}

impl PartialEq for Schema {
    fn eq(&self, other: &Self) -> bool {
        self.source == other.source
    }
}

impl fmt::Debug for Schema {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Schema(…)")
    }
}

/// The place of the first `$ref` that leaves the schema. Depth is bounded by the reader of the
/// document or of the request.
fn remote_reference(schema: &Value, path: &mut String) -> Option<String> {
    let length = path.len();
    match schema {
        Value::Object(map) => {
            for (key, value) in map {
                path.push('/');
                path.push_str(&key.replace('~', "~0").replace('/', "~1"));
                let is_reference = matches!(key.as_str(), "$ref" | "$dynamicRef" | "$recursiveRef");
                let leaves = value.as_str().is_some_and(|text| !text.starts_with('#'));
                if is_reference && leaves {
                    return Some(path.clone());
                }
                if let Some(found) = remote_reference(value, path) {
                    return Some(found);
                }
                path.truncate(length);
            }
            None
        }
        Value::Array(items) => items.iter().enumerate().find_map(|(index, value)| {
            path.push_str(&format!("/{index}"));
            let found = remote_reference(value, path);
            path.truncate(length);
            found
        }),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => None,
    }
}
