//! Laws that several targets hold the core to.

use std::sync::{Arc, LazyLock};

use mainstay::output::{Checked, Contract, ContractOptions, PartialTerms, Verdict};
use mainstay::output::{accept_partial, check};
use serde_json::{Value, json};

/// Any JSON.
pub static ANY_JSON: LazyLock<Contract> =
    LazyLock::new(|| Contract::json(ContractOptions::default()));

/// Contracts of different shapes, any JSON first.
pub static CONTRACTS: LazyLock<Vec<Contract>> = LazyLock::new(|| {
    let schemas = [
        json!({"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}),
        json!({"type": "array", "items": {"type": "string"}}),
        json!({"anyOf": [
            {"type": "object", "additionalProperties": {"$ref": "#"}},
            {"type": "array", "items": {"$ref": "#"}},
            {"type": "integer"}]}),
        json!({"enum": ["a", "true", 12]}),
        json!({"type": "object", "additionalProperties": false, "properties": {
            "a": {"type": ["boolean", "null"]},
            "b": {"type": "array", "items": {"type": "object", "required": ["c"],
                "properties": {"c": {"type": "number", "minimum": 0}, "d": {"enum": ["On", "Off"]}}}}}}),
    ];
    let compiled = schemas.into_iter().filter_map(|schema| {
        Contract::json_schema(Arc::new(schema), ContractOptions::default()).ok()
    });
    std::iter::once(ANY_JSON.clone()).chain(compiled).collect()
});

/// Judges a text under a JSON contract with default options and asserts what holds of every text:
/// the parts of the verdict agree, the work is linear, and a recovered value is clean when it is
/// judged again.
pub fn judged(text: &str, cut: bool, contract: &Contract) -> Checked {
    let checked = check(text, cut, contract);
    assert_eq!(checked.value.is_none(), checked.verdict == Verdict::Failed);
    assert_eq!(checked.cause.is_none(), checked.verdict == Verdict::Clean);
    if checked.value.is_some() {
        assert_eq!(checked.changes.is_lossy(), checked.verdict == Verdict::Lossy);
    }
    let steps_max = 60 * text.len() as u64 + 40_000;
    assert!(checked.steps <= steps_max, "{} steps for {} bytes", checked.steps, text.len());
    if let Some(value) = &checked.value {
        assert_clean(value, contract);
    }
    if let Ok(partial) = accept_partial(&checked, contract, &PartialTerms::default())
        && partial.complete
    {
        assert_clean(&partial.value, contract);
    }
    checked
}

fn assert_clean(value: &Value, contract: &Contract) {
    let written = value.to_string();
    let again = check(&written, false, contract);
    assert_eq!(again.verdict, Verdict::Clean, "{written}");
    assert_eq!(again.value.as_ref(), Some(value), "{written}");
}

/// The text's value where it is JSON that everybody reads alike: no number beyond a double, no
/// member by which serde_json itself means something else.
pub fn plain_json(text: &str) -> Option<Value> {
    if text.contains("$serde_json") {
        return None;
    }
    let root: Value = serde_json::from_str(text).ok()?;
    let mut left = vec![&root];
    while let Some(value) = left.pop() {
        match value {
            Value::Number(number) if !number.as_f64().is_some_and(f64::is_finite) => return None,
            Value::Array(items) => left.extend(items),
            Value::Object(members) => left.extend(members.values()),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => (),
        }
    }
    Some(root)
}
