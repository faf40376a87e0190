//! Scalars of another type.

use serde_json::{Map, Value};

use super::{ChangeKind, Coercer, Out, number};

impl<'s> Coercer<'s> {
    /// The scalar type `name` from another one. The bounds of the schema have to hold after it.
    pub(super) fn fix_scalar(
        &mut self,
        members: &'s Map<String, Value>,
        name: &str,
        value: &Value,
    ) -> Out {
        let found = match (name, value) {
            (_, Value::Array(items)) => {
                return match items.as_slice() {
                    [Value::Array(_) | Value::Object(_)] => Out::No,
                    [only] => {
                        let only = only.clone();
                        self.with_made(only, ChangeKind::ListRemoved, |this, only| {
                            if this.own_holds(members, only) {
                                Out::Keep
                            } else {
                                this.fix_scalar(members, name, only)
                            }
                        })
                    }
                    _ => Out::No,
                };
            }
            ("integer" | "number", Value::String(text)) => number::parse(text, name == "integer")
                .map(|parsed| {
                    (
                        Value::Number(parsed.value),
                        parsed.guess.unwrap_or(ChangeKind::NumberFromText),
                    )
                }),
            ("string", Value::Number(_) | Value::Bool(_)) => {
                Some((Value::String(value.to_string()), ChangeKind::TextFromScalar))
            }
            ("boolean", Value::String(text)) => {
                boolean(text).map(|flag| (Value::Bool(flag), ChangeKind::BooleanFromText))
            }
            ("boolean", Value::Number(digit)) => match digit.to_string().as_str() {
                "0" => Some((Value::Bool(false), ChangeKind::BooleanGuessed)),
                "1" => Some((Value::Bool(true), ChangeKind::BooleanGuessed)),
                _ => None,
            },
            ("null", Value::String(text)) if is_null_literal(text) => {
                Some((Value::Null, ChangeKind::NullFromText))
            }
            ("null", Value::String(text)) if is_null_word(text) => {
                Some((Value::Null, ChangeKind::NullGuessed))
            }
            (_, _) => None,
        };
        match found {
            Some((fixed, kind)) if self.own_holds(members, &fixed) => self.fixed(fixed, kind),
            Some(_) | None => Out::No,
        }
    }
}

/// The boolean that a text spells.
pub(super) fn boolean(text: &str) -> Option<bool> {
    match text
        .trim()
        .trim_matches(['"', '\'', '*', '`'])
        .trim_end_matches('.')
        .to_lowercase()
        .as_str()
    {
        "true" | "yes" | "y" | "on" | "t" => Some(true),
        "false" | "no" | "n" | "off" | "f" => Some(false),
        _ => None,
    }
}

/// The null of some language.
pub(super) fn is_null_literal(text: &str) -> bool {
    matches!(text.trim(), "null" | "Null" | "NULL" | "None" | "none" | "NONE" | "nil" | "undefined")
}

/// A word that says that there is no value.
fn is_null_word(text: &str) -> bool {
    matches!(
        text.trim().to_lowercase().as_str(),
        "" | "n/a"
            | "na"
            | "unknown"
            | "not available"
            | "not applicable"
            | "-"
            | "—"
            | "unspecified"
            | "not specified"
    )
}
