//! All the ways in which a provider says how long to wait.

use std::time::Duration;

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::Value;

/// One way to say it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HintForm {
    /// `retry-after: 2`; the value goes out as it was written, also if it is nonsense.
    Header,
    /// `retry-after: Wed, 21 Oct 2026 07:28:00 GMT`
    Date,
    /// `retry-after-ms: 2000`
    HeaderMs,
    /// `x-ms-retry-after-ms: 2000`
    AzureMs,
    /// google.rpc.RetryInfo in the error's details.
    RetryInfo,
    /// "try again in 2s" in the message.
    Text,
    /// `x-ratelimit-reset-requests: 2s` beside a remaining of 0.
    OpenaiReset,
    /// `anthropic-ratelimit-requests-reset` as an RFC 3339 time beside a remaining of 0.
    AnthropicReset,
    /// `x-ratelimit-reset` in epoch milliseconds, as OpenRouter sends it.
    EpochMs,
    /// Nothing is said.
    None,
}

/// What is said about waiting, and how.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Hints {
    /// In these ways.
    pub forms: Vec<HintForm>,
    /// Seconds as decimal text, or any text for the forms that pass it on.
    pub value: String,
}

/// The value of `retry_after` as written: a number of seconds or any text.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Value")]
pub struct HintValue(pub String);

impl TryFrom<Value> for HintValue {
    type Error = String;

    fn try_from(value: Value) -> Result<Self, String> {
        match value {
            Value::String(text) => Ok(Self(text)),
            Value::Number(number) => Ok(Self(number.to_string())),
            Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => {
                Err("expected seconds or a text".to_owned())
            }
        }
    }
}

/// `hint:` as written: one form or several.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Value")]
pub struct HintForms(pub Vec<HintForm>);

impl TryFrom<Value> for HintForms {
    type Error = String;

    fn try_from(value: Value) -> Result<Self, String> {
        let values = match value {
            Value::Array(values) => values,
            other => vec![other],
        };
        let read = |value| serde_json::from_value(value).map_err(|error| error.to_string());
        values.into_iter().map(read).collect::<Result<_, _>>().map(Self)
    }
}

impl Hints {
    fn seconds(&self) -> Option<f64> {
        let seconds: f64 = self.value.trim().parse().ok()?;
        seconds.is_finite().then_some(seconds)
    }

    fn duration(&self) -> Option<Duration> {
        Duration::try_from_secs_f64(self.seconds()?.min(1e9)).ok()
    }

    fn has(&self, form: HintForm) -> bool {
        self.forms.contains(&form)
    }

    /// Milliseconds as text; what is no number passes as it is.
    fn ms(&self) -> String {
        self.seconds().map_or_else(|| self.value.clone(), |s| format!("{:.0}", s * 1_000.0))
    }

    /// The moment that is meant. Negative values give a moment in the past.
    fn moment(&self, now: Timestamp) -> Timestamp {
        #[allow(clippy::cast_possible_truncation)]
        let ms = (self.seconds().unwrap_or(0.0).clamp(-1e9, 1e9) * 1_000.0) as i64;
        now.saturating_add(jiff::SignedDuration::from_millis(ms)).unwrap_or(Timestamp::MAX)
    }

    /// The headers.
    pub fn headers(&self, now: Timestamp) -> Vec<(&'static str, String)> {
        let mut headers = Vec::new();
        for form in &self.forms {
            match form {
                HintForm::Header => headers.push(("retry-after", self.value.clone())),
                HintForm::Date => {
                    let at = std::time::SystemTime::from(self.moment(now));
                    headers.push(("retry-after", httpdate::fmt_http_date(at)));
                }
                HintForm::HeaderMs => headers.push(("retry-after-ms", self.ms())),
                HintForm::AzureMs => headers.push(("x-ms-retry-after-ms", self.ms())),
                HintForm::OpenaiReset => {
                    let reset = self.duration().map_or_else(|| self.value.clone(), go_duration);
                    headers.push(("x-ratelimit-limit-requests", "60".to_owned()));
                    headers.push(("x-ratelimit-remaining-requests", "0".to_owned()));
                    headers.push(("x-ratelimit-reset-requests", reset));
                    headers.push(("x-ratelimit-remaining-tokens", "149984".to_owned()));
                    headers.push(("x-ratelimit-reset-tokens", "6ms".to_owned()));
                }
                HintForm::AnthropicReset => {
                    headers.push(("anthropic-ratelimit-requests-limit", "50".to_owned()));
                    headers.push(("anthropic-ratelimit-requests-remaining", "0".to_owned()));
                    let at = self.moment(now).to_string();
                    headers.push(("anthropic-ratelimit-requests-reset", at));
                }
                HintForm::EpochMs => {
                    headers.push(("x-ratelimit-remaining", "0".to_owned()));
                    let at = self.moment(now).as_millisecond().to_string();
                    headers.push(("x-ratelimit-reset", at));
                }
                HintForm::RetryInfo | HintForm::Text | HintForm::None => (),
            }
        }
        headers
    }

    /// The sentence for the message.
    pub fn sentence(&self) -> Option<String> {
        let wait = self.duration().map_or_else(|| self.value.clone(), go_duration);
        self.has(HintForm::Text).then(|| format!("Please try again in {wait}."))
    }

    /// The google.rpc.RetryInfo delay.
    pub fn retry_delay(&self) -> Option<String> {
        self.has(HintForm::RetryInfo).then(|| format!("{}s", self.value))
    }
}

/// `1h2m3s`, `2m59.56s`, `17ms`: the way in which Go prints durations.
pub fn go_duration(time: Duration) -> String {
    let ms = time.as_millis();
    if ms == 0 {
        return "0s".to_owned();
    }
    if ms < 1_000 {
        return format!("{ms}ms");
    }
    let (hours, minutes, rest) = (ms / 3_600_000, ms / 60_000 % 60, ms % 60_000);
    let mut text = String::new();
    if hours > 0 {
        text.push_str(&format!("{hours}h"));
    }
    if ms >= 60_000 {
        text.push_str(&format!("{minutes}m"));
    }
    let fraction = format!("{:03}", rest % 1_000);
    let fraction = fraction.trim_end_matches('0');
    let point = if fraction.is_empty() { "" } else { "." };
    text.push_str(&format!("{}{point}{fraction}s", rest / 1_000));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hints(form: HintForm, value: &str) -> Hints {
        Hints { forms: vec![form], value: value.to_owned() }
    }

    #[track_caller]
    fn check(form: HintForm, value: &str, header: &str, expected: &str) {
        let now: Timestamp = "2026-10-21T07:27:58Z".parse().unwrap();
        let headers = hints(form, value).headers(now);
        let found = headers.iter().find(|(name, _)| *name == header);
        assert_eq!(found.map(|(_, text)| text.as_str()), Some(expected), "{form:?} {value}");
    }

    #[test]
    fn headers() {
        check(HintForm::Header, "2", "retry-after", "2");
        check(HintForm::Header, "0.5", "retry-after", "0.5");
        check(HintForm::Header, "5, 10", "retry-after", "5, 10");
        check(HintForm::Date, "2", "retry-after", "Wed, 21 Oct 2026 07:28:00 GMT");
        check(HintForm::Date, "-8", "retry-after", "Wed, 21 Oct 2026 07:27:50 GMT");
        check(HintForm::HeaderMs, "0.25", "retry-after-ms", "250");
        check(HintForm::AzureMs, "6", "x-ms-retry-after-ms", "6000");
        check(HintForm::AzureMs, "nan", "x-ms-retry-after-ms", "nan");
        check(HintForm::OpenaiReset, "66", "x-ratelimit-reset-requests", "1m6s");
        check(HintForm::OpenaiReset, "66", "x-ratelimit-remaining-requests", "0");
        let reset = "anthropic-ratelimit-requests-reset";
        check(HintForm::AnthropicReset, "2", reset, "2026-10-21T07:28:00Z");
        check(HintForm::EpochMs, "2", "x-ratelimit-reset", "1792567680000");
    }

    #[test]
    fn bodies() {
        assert_eq!(hints(HintForm::RetryInfo, "34.4").retry_delay().unwrap(), "34.4s");
        let sentence = hints(HintForm::Text, "0.644").sentence().unwrap();
        assert_eq!(sentence, "Please try again in 644ms.");
        assert_eq!(hints(HintForm::None, "1").sentence(), None);
    }

    #[test]
    fn durations_as_go_prints_them() {
        let printed = |ms| go_duration(Duration::from_millis(ms));
        assert_eq!(printed(0), "0s");
        assert_eq!(printed(17), "17ms");
        assert_eq!(printed(2_000), "2s");
        assert_eq!(printed(179_560), "2m59.56s");
        assert_eq!(printed(3_723_000), "1h2m3s");
        assert_eq!(printed(3_600_000), "1h0m0s");
    }
}
