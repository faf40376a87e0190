//! Promises of the output contract, over arbitrary values and arbitrary text.

use mainstay::output::{Contract, ContractOptions, DEPTH_MAX, Verdict, check, strip_fences};
use proptest::prelude::*;
use serde_json::{Map, Value, json};
use std::sync::Arc;

fn any_json() -> impl Strategy<Value = Value> {
    let scalar = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::Bool),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_filter("finite", |number| number.is_finite()).prop_map(|number| {
            // As text, as a model writes it: the value keeps the number's spelling.
            serde_json::from_str(&format!("{number:?}")).unwrap_or(Value::Null)
        }),
        any::<String>().prop_map(Value::String),
        "[\\\\\"'{}\\[\\],:` a-z\n\u{201c}\u{201d}<>/-]{0,12}".prop_map(Value::String),
    ];
    scalar.prop_recursive(6, 48, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::Array),
            prop::collection::vec((any::<String>(), inner), 0..6)
                .prop_map(|members| Value::Object(Map::from_iter(members))),
        ]
    })
}

/// A document as models write them: names are words, texts hold what texts hold.
fn any_document() -> impl Strategy<Value = Value> {
    let scalar = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::Bool),
        any::<i32>().prop_map(Value::from),
        "[a-zé名 ,.:;(){}\\[\\]'\"\n/#-]{0,16}".prop_map(Value::String),
    ];
    let document = scalar.prop_recursive(4, 32, 5, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::Array),
            prop::collection::vec(("[a-z_]{1,8}", inner), 1..5)
                .prop_map(|members| Value::Object(Map::from_iter(members))),
        ]
    });
    prop::collection::vec(("[a-z_]{1,8}", document), 2..5)
        .prop_map(|members| Value::Object(Map::from_iter(members)))
}

/// Whether a value says nothing that the whole does not say.
fn is_part_of(value: &Value, whole: &Value) -> bool {
    match (value, whole) {
        (Value::Object(value), Value::Object(whole)) => value
            .iter()
            .all(|(name, value)| whole.get(name).is_some_and(|whole| is_part_of(value, whole))),
        (Value::Array(value), Value::Array(whole)) => {
            value.len() <= whole.len() && value.iter().zip(whole).all(|(v, w)| is_part_of(v, w))
        }
        (Value::String(value), Value::String(whole)) => whole.starts_with(value.trim_end()),
        (value, whole) => value == whole,
    }
}

/// Text made of the pieces that readers of JSON stumble over.
fn any_muddle() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        Just("{".to_owned()),
        Just("}".to_owned()),
        Just("[".to_owned()),
        Just("]".to_owned()),
        Just("(".to_owned()),
        Just(")".to_owned()),
        Just("\"".to_owned()),
        Just("'".to_owned()),
        Just(",".to_owned()),
        Just(":".to_owned()),
        Just("\\".to_owned()),
        Just("\\u12".to_owned()),
        Just("\\ud83d".to_owned()),
        Just("```".to_owned()),
        Just("```json\n".to_owned()),
        Just("<think>".to_owned()),
        Just("</think>".to_owned()),
        Just("//".to_owned()),
        Just("/*".to_owned()),
        Just("...".to_owned()),
        Just("…".to_owned()),
        Just("“".to_owned()),
        Just("”".to_owned()),
        Just("\n".to_owned()),
        Just(" ".to_owned()),
        Just("true".to_owned()),
        Just("None".to_owned()),
        Just("NaN".to_owned()),
        Just("12".to_owned()),
        Just("-".to_owned()),
        Just("+".to_owned()),
        Just("a".to_owned()),
        Just("\"a\": ".to_owned()),
        Just("{{".to_owned()),
        Just("<|im_end|>".to_owned()),
        Just("&quot;".to_owned()),
        Just("｛".to_owned()),
        Just("ß名".to_owned()),
        Just("'''".to_owned()),
        Just("ObjectId(".to_owned()),
        Just("=>".to_owned()),
        Just("#".to_owned()),
        Just("0x".to_owned()),
    ];
    prop::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat())
}

fn any_contract() -> impl Strategy<Value = Contract> {
    prop_oneof![
        Just(Value::Null),
        Just(json!({"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]})),
        Just(json!({"type": "array", "items": {"type": "string"}})),
        Just(json!({"anyOf": [{"type": "object", "additionalProperties": {"$ref": "#"}}, {"type": "array", "items": {"$ref": "#"}}, {"type": "integer"}]})),
        Just(json!({"enum": ["a", "true", 12]})),
    ]
    .prop_map(|schema| match schema {
        Value::Null => Contract::json(ContractOptions::default()),
        schema => Contract::json_schema(Arc::new(schema), ContractOptions::default()).expect("it compiles"),
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, failure_persistence: None, ..ProptestConfig::default() })]

    /// Valid JSON without duplicate keys comes back untouched.
    #[test]
    fn valid_json_is_untouched(value in any_json(), pretty in any::<bool>()) {
        let text = if pretty { serde_json::to_string_pretty(&value) } else { serde_json::to_string(&value) };
        let text = text.expect("a value can be written");
        let checked = check(&text, false, &Contract::json(ContractOptions::default()));
        prop_assert_eq!(checked.verdict, Verdict::Clean);
        prop_assert!(checked.changes.is_empty() && checked.cause.is_none());
        prop_assert_eq!(checked.value, Some(value));
    }

    /// Nesting is no reason to touch it, down to the last level that serde_json reads.
    #[test]
    fn valid_json_of_any_depth_is_untouched(layers in prop::collection::vec(any::<bool>(), 0..=DEPTH_MAX), leaf in any::<i64>()) {
        let value = layers.iter().fold(Value::from(leaf), |inner, listed| {
            if *listed { json!([inner]) } else { json!({"in": inner}) }
        });
        let checked = check(&value.to_string(), false, &Contract::json(ContractOptions::default()));
        prop_assert_eq!(checked.verdict, Verdict::Clean);
        prop_assert_eq!(checked.value, Some(value));
    }

    /// A number is what serde_json reads, however it is spelled; none loses a digit.
    #[test]
    fn numbers_are_untouched(text in "-?(0|[1-9][0-9]{0,30})(\\.[0-9]{1,20})?([eE][+-]?[0-9]{1,2})?") {
        let checked = check(&text, false, &Contract::json(ContractOptions::default()));
        prop_assert_eq!(checked.verdict, Verdict::Clean);
        prop_assert_eq!(checked.value, serde_json::from_str::<Value>(&text).ok());
    }

    /// Whatever the text, a verdict comes back, it is consistent, and a value that was recovered
    /// is clean when it is checked again.
    #[test]
    fn repair_is_idempotent(text in any_muddle(), cut in any::<bool>(), contract in any_contract()) {
        let checked = check(&text, cut, &contract);
        prop_assert_eq!(checked.value.is_none(), checked.verdict == Verdict::Failed);
        prop_assert_eq!(checked.cause.is_none(), checked.verdict == Verdict::Clean);
        prop_assert_eq!(checked.changes.is_lossy(), checked.verdict == Verdict::Lossy);
        if let Some(value) = checked.value {
            let again = check(&value.to_string(), false, &contract);
            prop_assert_eq!(again.verdict, Verdict::Clean, "{} from {}", value, text);
            prop_assert_eq!(again.value, Some(value));
        }
    }

    /// No text makes anything panic, and the work stays linear in its length.
    #[test]
    fn no_text_panics(text in any::<String>(), muddle in any_muddle(), times in 1_usize..40, contract in any_contract()) {
        for text in [text, muddle.repeat(times)] {
            let checked = check(&text, false, &contract);
            prop_assert!(checked.steps <= 60 * text.len() as u64 + 40_000, "{} steps for {} bytes", checked.steps, text.len());
            let _ = strip_fences(&text);
            let _ = format!("{checked:?}");
        }
    }

    /// Fences and prose around an object change nothing about it.
    #[test]
    fn a_fence_changes_nothing(value in any_json().prop_filter("an object", |value| value.as_object().is_some_and(|map| !map.is_empty()))) {
        let text = format!("Here you are:\n```json\n{value}\n```\nBye.");
        let checked = check(&text, false, &Contract::json(ContractOptions::default()));
        prop_assert_eq!(checked.value, Some(value));
    }

    /// Of a text that was cut nothing comes back that the whole does not say, and what comes back
    /// is marked.
    #[test]
    fn a_cut_text_is_not_completed(value in any_document(), pretty in any::<bool>(), at in 0.0..1.0) {
        let text = if pretty { serde_json::to_string_pretty(&value) } else { serde_json::to_string(&value) };
        let text = text.expect("a value can be written");
        let cut = text.floor_char_boundary((text.len() as f64 * at) as usize);
        let checked = check(&text[..cut], false, &Contract::json(ContractOptions::default()));
        if let Some(part) = checked.value {
            prop_assert!(is_part_of(&part, &value), "{part} of {}", &text[..cut]);
            prop_assert_eq!(checked.verdict, Verdict::Lossy);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, failure_persistence: None, ..ProptestConfig::default() })]

    /// A megabyte of the same nonsense neither ends the process nor costs more a byte than a line
    /// of it.
    #[test]
    fn a_megabyte_is_survived(head in any_muddle(), unit in any_muddle(), tail in any_muddle(), contract in any_contract()) {
        const BYTES: usize = 1 << 20;
        let unit = if unit.is_empty() { "{[" } else { unit.as_str() };
        let text = [head.as_str(), &unit.repeat(BYTES / unit.len()), tail.as_str()].concat();
        let checked = check(&text, false, &contract);
        prop_assert!(checked.steps <= 60 * text.len() as u64 + 40_000, "{} steps for {} bytes", checked.steps, text.len());
        prop_assert_eq!(checked.value.is_none(), checked.verdict == Verdict::Failed);
    }
}

/// Found by the property above: what a member of an unreadable value has is no answer of its own.
#[test]
fn a_part_of_a_cut_text_is_not_its_answer() {
    let text = r#"{"a":["",":"],"b":[["#;
    let checked = check(text, false, &Contract::json(ContractOptions::default()));
    let whole = serde_json::json!({"a": ["", ":"], "b": [[null]]});
    assert!(checked.value.is_none_or(|part| is_part_of(&part, &whole)));
}

/// Nesting that no stack would hold, and floods of what starts a new guess.
#[test]
fn floods_are_survived() {
    const BYTES: usize = 1 << 20;
    let contract = Contract::json(ContractOptions::default());
    for (head, unit, tail) in [
        ("", "[", ""),
        ("", "{\"a\":", ""),
        ("", "{a:[", ""),
        ("", "f(", ""),
        ("", "[}", ""),
        ("{\"a\": \"", "\\", "\"}"),
        ("{\"a\": \"", "x\" y ", "\"}"),
        ("{\"a\": \"", "x\": y, ", "\"}"),
        ("", "{\" ", "{\"a\": 1}"),
        ("", "<think>{", "</think>{\"a\": 1}"),
        ("", "```json\n", ""),
        ("{\"a\": ", "9", "}"),
    ] {
        let text = [head, &unit.repeat(BYTES / unit.len()), tail].concat();
        let checked = check(&text, false, &contract);
        assert_eq!(checked.value.is_none(), checked.verdict == Verdict::Failed, "{unit}");
        assert!(checked.steps <= 60 * text.len() as u64 + 40_000, "{unit}: {}", checked.steps);
    }
}
