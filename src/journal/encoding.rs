//! Outputs as bytes, for a store.
//!
//! JSON, so that what a later version adds is nothing to an earlier one. What is read back is an
//! output that was written, or nothing: a store may hold anything.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{OutputBody, OutputChange, OutputVerdict, StepOutput};
use crate::failure::Violation;
use crate::output::ChangeKind;

#[derive(Serialize, Deserialize)]
struct Written<'a> {
    text: std::borrow::Cow<'a, str>,
    /// Set for JSON contracts.
    #[serde(default)]
    json: bool,
    /// The JSON value, where the text read plainly is not it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    value: Option<std::borrow::Cow<'a, Value>>,
    verdict: u8,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    changes: Vec<(String, String)>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    warnings: Vec<(String, String)>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    confidence: Option<f64>,
}

/// The bytes of an output. An output with tool calls has none: it is nobody else's.
pub fn encode(output: &StepOutput) -> Option<Vec<u8>> {
    if !output.tool_calls.is_empty() {
        return None;
    }
    let (text, json, value) = match &output.body {
        OutputBody::Text(text) => (text, false, None),
        OutputBody::Json { text, value } => {
            let plain = serde_json::from_str::<Value>(text.expose()).ok();
            let value = (plain.as_ref() != Some(&**value)).then_some(&**value);
            (text, true, value)
        }
    };
    let written = Written {
        text: text.expose().into(),
        json,
        value: value.map(std::borrow::Cow::Borrowed),
        verdict: match output.verdict {
            OutputVerdict::Clean => 0,
            OutputVerdict::Repaired => 1,
            OutputVerdict::Lossy => 2,
        },
        changes: output
            .changes
            .iter()
            .map(|change| (change.kind.to_owned(), change.place.clone()))
            .collect(),
        warnings: output
            .warnings
            .iter()
            .map(|warning| (warning.path.clone(), warning.message.clone()))
            .collect(),
        confidence: output.confidence,
    };
    serde_json::to_vec(&written).ok()
}

/// The output that was written as these bytes.
pub fn decode(bytes: &[u8]) -> Option<StepOutput> {
    let written: Written<'_> = serde_json::from_slice(bytes).ok()?;
    let change = |(kind, place): (String, String)| {
        let kind = ChangeKind::ALL.iter().find(|known| known.name() == kind)?;
        Some(OutputChange { kind: kind.name(), place, lossy: kind.is_lossy() })
    };
    let body = if written.json {
        let value = match written.value {
            Some(value) => value.into_owned(),
            None => serde_json::from_str(&written.text).ok()?,
        };
        OutputBody::Json { text: written.text.into_owned().into(), value: Arc::new(value) }
    } else {
        OutputBody::Text(written.text.into_owned().into())
    };
    Some(StepOutput {
        verdict: match written.verdict {
            0 => OutputVerdict::Clean,
            1 => OutputVerdict::Repaired,
            2 => OutputVerdict::Lossy,
            3.. => return None,
        },
        changes: written.changes.into_iter().map(change).collect::<Option<_>>()?,
        warnings: written
            .warnings
            .into_iter()
            .map(|(path, message)| Violation { path, message })
            .collect(),
        confidence: written.confidence,
        ..StepOutput::plain(body)
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::exchange::ToolCall;

    fn body() -> impl Strategy<Value = OutputBody> {
        let json = (any::<String>(), any::<i64>(), any::<bool>()).prop_map(|(text, n, as_read)| {
            let value = json!({"text": text, "n": n});
            // A model's own spelling need not be what the value was read from.
            let text = if as_read { value.to_string() } else { text };
            OutputBody::Json { text: text.into(), value: Arc::new(value) }
        });
        prop_oneof![any::<String>().prop_map(|text| OutputBody::Text(text.into())), json]
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(
            body in body(),
            kinds in proptest::collection::vec(0..ChangeKind::ALL.len(), 0..4),
            message in any::<String>(),
            confidence in proptest::option::of(0.0..1.0_f64),
        ) {
            let change = |kind: usize| {
                let kind = ChangeKind::ALL[kind];
                OutputChange { kind: kind.name(), place: "/a".into(), lossy: kind.is_lossy() }
            };
            let output = StepOutput {
                verdict: OutputVerdict::Repaired,
                changes: kinds.into_iter().map(change).collect(),
                warnings: vec![Violation { path: "/b".into(), message }],
                confidence,
                ..StepOutput::plain(body)
            };
            prop_assert_eq!(decode(&encode(&output).unwrap()), Some(output));
        }

        #[test]
        fn any_bytes_are_an_output_or_nothing(bytes in proptest::collection::vec(0_u8..=255, 0..200)) {
            let _ = decode(&bytes);
        }
    }

    #[test]
    fn what_is_no_output_of_ours_is_nothing() {
        for text in [
            "",
            "{}",
            r#"{"text": "x", "verdict": 3}"#,
            r#"{"text": "x", "verdict": 0, "json": true}"#,
            r#"{"text": "x", "verdict": 0, "changes": [["made_up", "/a"]]}"#,
        ] {
            assert_eq!(decode(text.as_bytes()), None, "{text}");
        }
        let mut output = StepOutput::plain(OutputBody::Text("x".into()));
        output.tool_calls.push(ToolCall {
            id: "1".into(),
            name: "f".into(),
            arguments: "{}".into(),
        });
        assert_eq!(encode(&output), None);
    }
}
