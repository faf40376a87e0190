//! Durations as people write them: `250ms`, `2s`, `1m30s`, `6h`, or a number of seconds.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Deserialize, Deserializer, Visitor};

/// A duration in a document. At most ten years, so that arithmetic on it cannot overflow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct DurationText(pub Duration);

const MAX: Duration = Duration::from_secs(10 * 366 * 86_400);

impl DurationText {
    /// Reads the text form.
    ///
    /// # Errors
    /// Says what form was expected.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        const EXPECTED: &str = "expected a duration such as 250ms, 2s, 1m30s or 6h";
        let mut rest = text.trim();
        let mut total = Duration::ZERO;
        if rest.is_empty() {
            return Err(EXPECTED);
        }
        while !rest.is_empty() {
            let digits = rest.bytes().take_while(|b| b.is_ascii_digit() || *b == b'.').count();
            let (number, tail) = rest.split_at(digits);
            let letters = tail.bytes().take_while(u8::is_ascii_alphabetic).count();
            let (unit, tail) = tail.split_at(letters);
            let seconds = match unit {
                "ms" => 0.001,
                "s" => 1.0,
                "m" => 60.0,
                "h" => 3_600.0,
                "d" => 86_400.0,
                _ => return Err(EXPECTED),
            };
            let number: f64 = number.parse().map_err(|_| EXPECTED)?;
            let part = Duration::try_from_secs_f64(number * seconds).map_err(|_| EXPECTED)?;
            total = total.checked_add(part).ok_or(EXPECTED)?;
            rest = tail.trim_start();
        }
        if total > MAX { Err("a duration is at most ten years") } else { Ok(Self(total)) }
    }
}

impl fmt::Display for DurationText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = self.0.as_millis();
        if ms >= 3_600_000 && ms.is_multiple_of(3_600_000) {
            write!(f, "{}h", ms / 3_600_000)
        } else if ms >= 60_000 && ms.is_multiple_of(60_000) {
            write!(f, "{}m", ms / 60_000)
        } else if ms >= 1_000 && ms.is_multiple_of(1_000) {
            write!(f, "{}s", ms / 1_000)
        } else if ms >= 10_000 {
            write!(f, "{:.1}s", self.0.as_secs_f64())
        } else {
            write!(f, "{ms}ms")
        }
    }
}

impl<'de> Deserialize<'de> for DurationText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl Visitor<'_> for Text {
            type Value = DurationText;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a duration such as 250ms, 2s, 1m30s or a number of seconds")
            }
            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<DurationText, E> {
                DurationText::parse(text).map_err(E::custom)
            }
            fn visit_f64<E: serde::de::Error>(self, seconds: f64) -> Result<DurationText, E> {
                match Duration::try_from_secs_f64(seconds) {
                    Ok(duration) if duration <= MAX => Ok(DurationText(duration)),
                    Ok(_) | Err(_) => Err(E::custom("seconds from 0 to ten years")),
                }
            }
            fn visit_u64<E: serde::de::Error>(self, seconds: u64) -> Result<DurationText, E> {
                let duration = Duration::from_secs(seconds);
                if duration <= MAX {
                    Ok(DurationText(duration))
                } else {
                    Err(E::custom("seconds from 0 to ten years"))
                }
            }
            fn visit_i64<E: serde::de::Error>(self, seconds: i64) -> Result<DurationText, E> {
                let seconds =
                    u64::try_from(seconds).map_err(|_| E::custom("seconds from 0 to ten years"))?;
                self.visit_u64(seconds)
            }
        }
        deserializer.deserialize_any(Text)
    }
}

impl JsonSchema for DurationText {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Duration".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": ["string", "number"],
            "pattern": "^[ \\t]*([0-9]+(\\.[0-9]+)?[ \\t]*(ms|s|m|h|d)[ \\t]*)+$",
            "patternErrorMessage": "expected a duration such as 250ms, 2s, 1m30s or 6h",
            "minimum": 0,
            "maximum": 315_360_000,
            "description": "A duration such as 250ms, 2s, 1m30s or 6h, or a number of seconds."
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms() {
        let ms = |text| DurationText::parse(text).map(|d| d.0.as_millis());
        assert_eq!(ms("250ms"), Ok(250));
        assert_eq!(ms("2s"), Ok(2_000));
        assert_eq!(ms("1.5s"), Ok(1_500));
        assert_eq!(ms("1m30s"), Ok(90_000));
        assert_eq!(ms("6h"), Ok(21_600_000));
        for wrong in ["", "2", "s", "2 weeks", "-1s", "1e9s", "999999999d", "nan", "1..2s"] {
            assert!(ms(wrong).is_err(), "{wrong}");
        }
        assert_eq!(DurationText(Duration::from_millis(90_000)).to_string(), "90s");
        assert_eq!(DurationText(Duration::from_secs(120)).to_string(), "2m");
    }
}
