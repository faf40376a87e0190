//! What of a broken output still holds.
//!
//! Members that break the schema go, and what is then missing is filled from the policy's
//! defaults, else from the schema's own, or stays missing and is listed. A filled value is never
//! passed as the model's: every one is named in the warnings, and members that the step declares
//! mandatory must have come from the model.

use serde_json::{Map, Value};

use super::check::Checked;
use super::coerce;
use super::contract::Contract;
use super::schema::{Fault, Schema};
use crate::failure::Violation;

/// What the policy and the step say about a partial output.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct PartialTerms {
    /// Values for members that are missing, by JSON Pointer (`/summary/topics`) or by the name of
    /// a top-level member.
    pub defaults: Map<String, Value>,
    /// Members that must have come from the model, by pointer or name.
    pub mandatory: Vec<String>,
}

/// An output of which only a part holds. It does not print its value.
#[derive(Clone, PartialEq)]
pub struct Partial {
    /// The members that hold, and the defaults.
    pub value: Value,
    /// What was left out, filled or is missing, by path.
    pub warnings: Vec<Violation>,
    /// Whether the value satisfies the schema as a whole.
    pub complete: bool,
}

impl std::fmt::Debug for Partial {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Partial")
            .field("warnings", &self.warnings)
            .field("complete", &self.complete)
            .finish_non_exhaustive()
    }
}

/// Why there is no partial output.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PartialRefused {
    /// Nothing could be read.
    #[error("nothing of the output can be used")]
    NothingHolds,
    /// Mandatory members are not among what holds.
    #[error("mandatory members are missing: {}", paths.join(", "))]
    MandatoryMissing {
        /// Their pointers.
        paths: Vec<String>,
    },
}

const ROUNDS_MAX: usize = 64;

/// Keeps the members of a checked output that hold.
pub fn accept_partial(
    checked: &Checked,
    contract: &Contract,
    terms: &PartialTerms,
) -> Result<Partial, PartialRefused> {
    let source =
        checked.value.as_ref().or(checked.best.as_ref()).ok_or(PartialRefused::NothingHolds)?;
    let echoed = |value: &Value| contract.schema().is_some_and(|schema| schema.is_echoed_by(value));
    if echoed(source) {
        return Err(PartialRefused::NothingHolds);
    }
    let mut salvage =
        Salvage { value: source.clone(), warnings: Vec::new(), filled: Vec::new(), terms };
    let complete = match contract.schema() {
        Some(schema) => salvage.run(schema)?,
        None => true,
    };
    let absent: Vec<String> = terms
        .mandatory
        .iter()
        .map(|name| pointer(name))
        .filter(|path| salvage.value.pointer(path).is_none() || salvage.filled.contains(path))
        .collect();
    if !absent.is_empty() {
        return Err(PartialRefused::MandatoryMissing { paths: absent });
    }
    let from_the_model = match &salvage.value {
        Value::Object(map) => {
            map.keys().any(|name| !salvage.filled.contains(&format!("/{}", escaped(name))))
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
            !is_hollow(&salvage.value)
        }
    };
    // An empty list or object may be the answer; what only defaults are in is not the model's.
    let empty_as_meant = complete && is_hollow(source) && salvage.filled.is_empty();
    if !(from_the_model || empty_as_meant) {
        return Err(PartialRefused::NothingHolds);
    }
    Ok(Partial { value: salvage.value, warnings: salvage.warnings, complete })
}

struct Salvage<'t> {
    value: Value,
    warnings: Vec<Violation>,
    filled: Vec<String>,
    terms: &'t PartialTerms,
}

impl Salvage<'_> {
    /// Takes out what breaks the schema and fills what is missing, until nothing changes; says
    /// whether the schema then holds.
    fn run(&mut self, schema: &Schema) -> Result<bool, PartialRefused> {
        for _ in 0..ROUNDS_MAX {
            let faults = schema.faults(&self.value);
            if faults.is_empty() {
                return Ok(true);
            }
            let mut changed = false;
            // Later items first, so that the earlier ones keep their index.
            for fault in faults.into_iter().rev() {
                changed |= self.mend(schema, fault)?;
            }
            if !changed {
                return Ok(false);
            }
        }
        Ok(false)
    }

    fn mend(&mut self, schema: &Schema, fault: Fault) -> Result<bool, PartialRefused> {
        if let Some(name) = fault.missing {
            let path = format!("{}/{}", fault.path, escaped(&name));
            return Ok(self.fill(schema, &fault.path, &name, path));
        }
        if !fault.unexpected.is_empty() {
            let mut changed = false;
            for name in &fault.unexpected {
                changed |= self.remove(
                    &format!("{}/{}", fault.path, escaped(name)),
                    "not allowed by the schema; left out",
                );
            }
            return Ok(changed);
        }
        if fault.path.is_empty() {
            return Err(PartialRefused::NothingHolds);
        }
        Ok(self.remove(&fault.path, &format!("left out: {}", fault.message)))
    }

    fn fill(&mut self, schema: &Schema, holder: &str, name: &str, path: String) -> bool {
        if self.value.pointer(&path).is_some() {
            return false;
        }
        let default = self
            .terms
            .defaults
            .get(&path)
            .or_else(|| self.terms.defaults.get(name).filter(|_| holder.is_empty()))
            .or_else(|| coerce::default_at(schema.document(), &path));
        let (message, filled) = match default {
            Some(default) => match self.value.pointer_mut(holder) {
                Some(Value::Object(map)) => {
                    map.insert(name.to_owned(), default.clone());
                    ("missing; filled with a default", true)
                }
                Some(_) | None => return false,
            },
            None => ("missing", false),
        };
        if filled {
            self.filled.push(path.clone());
        }
        self.warn(path, message.to_owned());
        filled
    }

    fn remove(&mut self, path: &str, message: &str) -> bool {
        let Some((holder, step)) = path.rsplit_once('/') else {
            return false;
        };
        let removed = match self.value.pointer_mut(holder) {
            Some(Value::Object(map)) => {
                map.shift_remove(&step.replace("~1", "/").replace("~0", "~")).is_some()
            }
            Some(Value::Array(items)) => match step.parse::<usize>() {
                Ok(index) if index < items.len() => {
                    items.remove(index);
                    true
                }
                Ok(_) | Err(_) => false,
            },
            Some(_) | None => false,
        };
        if removed {
            self.warn(path.to_owned(), message.to_owned());
        }
        removed
    }

    fn warn(&mut self, path: String, message: String) {
        let warning = Violation { path, message };
        if !self.warnings.contains(&warning) {
            self.warnings.push(warning);
        }
    }
}

fn pointer(name: &str) -> String {
    if name.starts_with('/') { name.to_owned() } else { format!("/{}", escaped(name)) }
}

fn escaped(name: &str) -> String {
    name.replace('~', "~0").replace('/', "~1")
}

fn is_hollow(value: &Value) -> bool {
    match value {
        Value::Array(items) => items.is_empty(),
        Value::Object(map) => map.is_empty(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::{ContractOptions, check};
    use serde_json::json;
    use std::sync::Arc;

    fn contract() -> Contract {
        let schema = json!({"type": "object", "additionalProperties": false,
            "properties": {"name": {"type": "string"}, "age": {"type": "integer"},
                "tags": {"type": "array", "items": {"type": "string"}}, "level": {"enum": ["a", "b"], "default": "a"}},
            "required": ["name", "age", "level"]});
        Contract::json_schema(Arc::new(schema), ContractOptions::default()).unwrap()
    }

    fn partial(text: &str, terms: &PartialTerms) -> Result<Partial, PartialRefused> {
        let contract = contract();
        accept_partial(&check(text, false, &contract), &contract, terms)
    }

    #[test]
    fn members_that_hold_are_kept_and_defaults_fill_the_rest() {
        let terms = PartialTerms {
            defaults: Map::from_iter([("age".to_owned(), json!(0))]),
            mandatory: vec!["name".into()],
        };
        let partial =
            partial(r#"{"name": "Ida", "age": "many", "tags": ["x", {}], "odd": 1}"#, &terms)
                .unwrap();
        assert_eq!(partial.value, json!({"name": "Ida", "tags": ["x"], "age": 0, "level": "a"}));
        assert!(partial.complete);
        let paths: Vec<_> = partial.warnings.iter().map(|warning| warning.path.as_str()).collect();
        for path in ["/age", "/tags/1", "/odd", "/level"] {
            assert!(paths.contains(&path), "{path} in {paths:?}");
        }
    }

    #[test]
    fn an_echo_of_the_schema_is_no_part() {
        let text = r#"{"type":"object","properties":{"a":{"type":"integer"}}}"#;
        let schema = Arc::new(serde_json::from_str(text).unwrap());
        let contract = Contract::json_schema(schema, ContractOptions::default()).unwrap();
        let refused =
            accept_partial(&check(text, false, &contract), &contract, &PartialTerms::default());
        assert_eq!(refused, Err(PartialRefused::NothingHolds));
    }

    #[test]
    fn what_cannot_be_filled_is_listed() {
        let partial =
            partial(r#"{"name": "Ida", "age": "many"}"#, &PartialTerms::default()).unwrap();
        assert!(!partial.complete);
        assert!(
            partial
                .warnings
                .iter()
                .any(|warning| warning.path == "/age" && warning.message == "missing")
        );
    }

    #[test]
    fn a_mandatory_member_must_come_from_the_model() {
        let terms = PartialTerms {
            defaults: Map::from_iter([("age".to_owned(), json!(0))]),
            mandatory: vec!["/age".into()],
        };
        let refused = partial(r#"{"name": "Ida"}"#, &terms).unwrap_err();
        assert_eq!(refused, PartialRefused::MandatoryMissing { paths: vec!["/age".into()] });
    }

    #[test]
    fn defaults_alone_are_no_part() {
        let terms = PartialTerms {
            defaults: Map::from_iter([
                ("age".to_owned(), json!(0)),
                ("name".to_owned(), json!("nobody")),
            ]),
            mandatory: Vec::new(),
        };
        for text in ["{}", r#"{"age": "many"}"#, r#"{"odd": 1}"#] {
            assert_eq!(partial(text, &terms), Err(PartialRefused::NothingHolds), "{text}");
        }
        assert_eq!(
            partial(r#"{"tags": []}"#, &terms).unwrap().value,
            json!({"tags": [], "name": "nobody", "age": 0, "level": "a"})
        );
    }

    #[test]
    fn prose_has_no_part_that_holds() {
        assert_eq!(
            partial("I cannot help.", &PartialTerms::default()),
            Err(PartialRefused::NothingHolds)
        );
    }
}
