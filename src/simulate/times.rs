//! Times as they are written in scripts and overrides.

use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;

use super::chance::{Spread, WAIT_MAX, parse_duration};

/// A time as written: seconds or `250ms`.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(try_from = "Value")]
pub struct TimeDocument(pub Duration);

impl TryFrom<Value> for TimeDocument {
    type Error = String;

    fn try_from(value: Value) -> Result<Self, String> {
        time(&value).map(Self)
    }
}

fn time(value: &Value) -> Result<Duration, String> {
    match value {
        Value::String(text) => parse_duration(text),
        Value::Number(number) => parse_duration(&number.to_string()),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => {
            Err("expected a duration such as 250ms or 2s".to_owned())
        }
    }
}

/// A spread as written: a time, `10ms..50ms`, `{uniform: [10ms, 50ms]}` or
/// `{lognormal: {median: 200ms, sigma: 0.5, max: 5s}}`.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(try_from = "Value")]
pub struct SpreadDocument(pub Spread);

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
enum SpreadForm {
    Uniform(TimeDocument, TimeDocument),
    Lognormal {
        median: TimeDocument,
        sigma: f64,
        #[serde(default)]
        max: Option<TimeDocument>,
    },
}

impl TryFrom<Value> for SpreadDocument {
    type Error = String;

    fn try_from(value: Value) -> Result<Self, String> {
        let uniform = |from: Duration, to: Duration| {
            if from > to {
                return Err("the first bound is above the second".to_owned());
            }
            Ok(Self(Spread::Uniform(from, to)))
        };
        if let Some((from, to)) = value.as_str().and_then(|text| text.split_once("..")) {
            return uniform(parse_duration(from)?, parse_duration(to)?);
        }
        if !value.is_object() {
            return time(&value).map(|time| Self(Spread::Fixed(time)));
        }
        match serde_json::from_value(value).map_err(|error| error.to_string())? {
            SpreadForm::Uniform(from, to) => uniform(from.0, to.0),
            SpreadForm::Lognormal { median, sigma, max } => {
                if !(0.0..=5.0).contains(&sigma) {
                    return Err("sigma is between 0 and 5".to_owned());
                }
                let max = max.map_or(WAIT_MAX, |max| max.0);
                Ok(Self(Spread::LogNormal { median: median.0, sigma, max }))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spreads() {
        let spread = |yaml: &str| {
            let read = serde_saphyr::from_str::<SpreadDocument>(yaml);
            read.map(|document| document.0).map_err(|error| error.to_string())
        };
        let ms = Duration::from_millis;
        assert_eq!(spread("250ms"), Ok(Spread::Fixed(ms(250))));
        assert_eq!(spread("1.5"), Ok(Spread::Fixed(ms(1_500))));
        assert_eq!(spread("10ms..20ms"), Ok(Spread::Uniform(ms(10), ms(20))));
        assert_eq!(spread("{uniform: [10ms, 20ms]}"), Ok(Spread::Uniform(ms(10), ms(20))));
        let tail = Spread::LogNormal { median: ms(200), sigma: 0.5, max: ms(5_000) };
        assert_eq!(spread("{lognormal: {median: 200ms, sigma: 0.5, max: 5s}}"), Ok(tail));
        for wrong in
            ["9ms..2ms", "soon", "[1]", "{normal: 3}", "{lognormal: {median: 1s, sigma: 9}}"]
        {
            assert!(spread(wrong).is_err(), "{wrong}");
        }
    }
}
