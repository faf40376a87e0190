//! When an attempt is hedged, as it is written: a duration or `p95`.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Deserialize, Deserializer, IntoDeserializer as _, Visitor};

use crate::document::DurationText;

/// A duration, or the word for the target's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HedgeAfterText {
    /// After this long.
    Fixed(DurationText),
    /// After the 95th percentile of the target's calls.
    P95,
}

impl<'de> Deserialize<'de> for HedgeAfterText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl Visitor<'_> for Text {
            type Value = HedgeAfterText;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a duration such as 800ms, or p95")
            }
            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Self::Value, E> {
                if text.trim() == "p95" {
                    return Ok(HedgeAfterText::P95);
                }
                let wrong = |_| E::custom("expected a duration such as 800ms, or p95");
                DurationText::parse(text).map(HedgeAfterText::Fixed).map_err(wrong)
            }
            fn visit_f64<E: serde::de::Error>(self, seconds: f64) -> Result<Self::Value, E> {
                DurationText::deserialize(seconds.into_deserializer()).map(HedgeAfterText::Fixed)
            }
            fn visit_u64<E: serde::de::Error>(self, seconds: u64) -> Result<Self::Value, E> {
                DurationText::deserialize(seconds.into_deserializer()).map(HedgeAfterText::Fixed)
            }
            fn visit_i64<E: serde::de::Error>(self, seconds: i64) -> Result<Self::Value, E> {
                DurationText::deserialize(seconds.into_deserializer()).map(HedgeAfterText::Fixed)
            }
        }
        deserializer.deserialize_any(Text)
    }
}

impl JsonSchema for HedgeAfterText {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "HedgeAfter".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": ["string", "number"],
            "pattern": "^[ \\t]*(p95|([0-9]+(\\.[0-9]+)?[ \\t]*(ms|s|m|h|d)[ \\t]*)+)[ \\t]*$",
            "patternErrorMessage": "expected a duration such as 800ms, or p95",
            "minimum": 0,
            "maximum": 315_360_000,
            "description": "A duration such as 800ms, or p95."
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::json;

    use super::*;

    #[test]
    fn forms() {
        let read = |value| serde_json::from_value::<HedgeAfterText>(value).ok();
        let fixed = |ms| Some(HedgeAfterText::Fixed(DurationText(Duration::from_millis(ms))));
        assert_eq!(read(json!("800ms")), fixed(800));
        assert_eq!(read(json!(2)), fixed(2_000));
        assert_eq!(read(json!(0.5)), fixed(500));
        assert_eq!(read(json!("p95")), Some(HedgeAfterText::P95));
        for wrong in [json!("p99"), json!("soon"), json!(-1), json!(null), json!("")] {
            assert_eq!(read(wrong.clone()), None, "{wrong}");
        }
    }
}
