//! How long the server asks us to wait.
//!
//! Hints come as headers, as members of the body and as prose, in seconds, milliseconds, Go
//! durations and dates. Numbers are read as decimal text: a float parser takes `nan` and `inf` for
//! numbers and loses what is too large, and a hint that is lost is a retry storm. A huge number
//! saturates at the cap; garbage is no hint.

use std::sync::LazyLock;
use std::time::Duration;

use http::HeaderMap;
use jiff::Timestamp;
use regex::Regex;

use super::evidence::Facts;

/// The longest wait that is told: one day.
pub const HINT_MS_MAX: u64 = 86_400_000;

/// The hint of headers and body, the first in the order of precedence that can be read.
pub(super) fn find(headers: &HeaderMap, facts: &Facts, now: Timestamp) -> Option<Duration> {
    let header = |name| headers.get(name).and_then(|value| value.to_str().ok());
    header("retry-after-ms")
        .and_then(milliseconds)
        .or_else(|| header("x-ms-retry-after-ms").and_then(milliseconds))
        .or_else(|| header("retry-after").and_then(|text| seconds_or_date(text, now)))
        .or_else(|| facts.retry_delay.as_deref().and_then(go_duration))
        .or_else(|| facts.estimated_time.as_deref().and_then(seconds))
        .or_else(|| if facts.html { None } else { in_text(&facts.text) })
        .or_else(|| facts.reset_epoch.as_deref().and_then(|text| epoch(text, now)))
        .or_else(|| header("x-ratelimit-reset").and_then(|text| epoch(text, now)))
        .or_else(|| empty_bucket(headers, now))
        .map(|ms| Duration::from_millis(ms.min(HINT_MS_MAX)))
}

/// The wait that the body itself states, in a member or in words.
pub(super) fn stated(facts: &Facts) -> Option<u64> {
    let told = facts.retry_delay.as_deref().and_then(go_duration);
    told.or_else(|| if facts.html { None } else { in_text(&facts.text) })
}

/// Decimal digits with an optional fraction, times `unit_ms`, rounded up and saturating.
fn decimal(text: &str, unit_ms: u64) -> Option<u64> {
    let text = text.trim_matches([' ', '\t']);
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits = |part: &str| part.bytes().all(|b| b.is_ascii_digit());
    if (whole.is_empty() && fraction.is_empty()) || !digits(whole) || !digits(fraction) {
        return None;
    }
    let mut value: u64 = 0;
    for digit in whole.bytes() {
        value = value.saturating_mul(10).saturating_add(u64::from(digit - b'0'));
    }
    // Twelve digits of the fraction decide the milliseconds; any further digit only rounds up.
    let mut part: u128 = 0;
    let mut scale: u128 = 1;
    for digit in fraction.bytes().take(12) {
        part = part * 10 + u128::from(digit - b'0');
        scale *= 10;
    }
    let rest = fraction.bytes().skip(12).any(|digit| digit != b'0');
    let part_ms = (part * u128::from(unit_ms)).div_ceil(scale) + u128::from(rest);
    let part_ms = u64::try_from(part_ms).unwrap_or(u64::MAX);
    Some(value.saturating_mul(unit_ms).saturating_add(part_ms))
}

fn milliseconds(text: &str) -> Option<u64> {
    decimal(text, 1)
}

fn seconds(text: &str) -> Option<u64> {
    decimal(text, 1000)
}

fn seconds_or_date(text: &str, now: Timestamp) -> Option<u64> {
    seconds(text).or_else(|| {
        let date = httpdate::parse_http_date(text.trim_matches([' ', '\t'])).ok()?;
        Some(until(Timestamp::try_from(date).ok()?, now))
    })
}

/// Milliseconds from `now`, rounded up; 0 for the past.
fn until(then: Timestamp, now: Timestamp) -> u64 {
    let ns = then.as_nanosecond().saturating_sub(now.as_nanosecond());
    u64::try_from(ns.max(0).unsigned_abs().div_ceil(1_000_000)).unwrap_or(u64::MAX)
}

/// `1m6s`, `17ms`, `2m59.56s`, `1h2m3s`, `34.4s`.
fn go_duration(text: &str) -> Option<u64> {
    let mut rest = text.trim_matches([' ', '\t']);
    let mut total: Option<u64> = None;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, after) = rest.split_at_checked(end)?;
        let units = after.find(|c: char| c.is_ascii_digit()).unwrap_or(after.len());
        let (unit, after) = after.split_at_checked(units)?;
        let ms = match unit {
            "h" => decimal(number, 3_600_000),
            "m" => decimal(number, 60_000),
            "s" => decimal(number, 1000),
            "ms" => decimal(number, 1),
            "us" | "µs" | "μs" => decimal(number, 1).map(|us| us.div_ceil(1000)),
            "ns" => decimal(number, 1).map(|ns| ns.div_ceil(1_000_000)),
            _ => None,
        }?;
        total = Some(total.unwrap_or(0).saturating_add(ms));
        rest = after;
    }
    total
}

/// Epoch milliseconds; ten digits are epoch seconds, as other gateways write under the same name.
fn epoch(text: &str, now: Timestamp) -> Option<u64> {
    let value = decimal(text, 1)?;
    let ms = match value {
        ..1_000_000_000 => return None,
        1_000_000_000..100_000_000_000 => value.saturating_mul(1000),
        100_000_000_000.. => value,
    };
    let now_ms = u64::try_from(now.as_millisecond()).unwrap_or(0);
    Some(ms.saturating_sub(now_ms))
}

/// The longest reset among the buckets that are empty.
fn empty_bucket(headers: &HeaderMap, now: Timestamp) -> Option<u64> {
    let is_zero = |text: &str| decimal(text, 1) == Some(0);
    headers
        .iter()
        .filter(|(_, remaining)| remaining.to_str().is_ok_and(is_zero))
        .filter_map(|(name, _)| {
            let name = name.as_str();
            if let Some(bucket) = name.strip_prefix("x-ratelimit-remaining-") {
                let reset = headers.get(format!("x-ratelimit-reset-{bucket}"))?.to_str().ok()?;
                return go_duration(reset).or_else(|| seconds(reset));
            }
            let bucket = name.strip_prefix("anthropic-ratelimit-")?.strip_suffix("-remaining")?;
            let reset =
                headers.get(format!("anthropic-ratelimit-{bucket}-reset"))?.to_str().ok()?;
            Some(until(reset.trim().parse().ok()?, now))
        })
        .max()
}

#[expect(clippy::expect_used, reason = "a constant pattern, compiled by every test")]
static IN_TEXT: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(concat!(
        r"(?i)(?:try(?:ing)? again|retry(?:ing)?|retry[- _]after|wait|resets?|available|replenished)",
        r"(?: (?:again|your request|the request|it|shortly|later))?",
        r"(?: ?(?:in|after|for|at least|about|approximately|around|another|until|within|~|:|=))* ",
        r"?(\d[\d.]*(?:ms|[hms])(?:\d[\d.]*(?:ms|[hms]))*|\d[\d.]*) ?",
        r"(milliseconds?\b|msecs?\b|ms\b|seconds?\b|secs?\b|s\b|minutes?\b|mins?\b|m\b|hours?\b|hrs?\b|h\b|days?\b|d\b)?",
    ))
    .expect("the pattern is constant")
});

#[expect(clippy::expect_used, reason = "a constant pattern, compiled by every test")]
static IN_CHINESE: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"(\d[\d.]*) ?(毫秒|秒钟?|分钟|小时|天)(?:钟|之)?[后後]").expect("constant")
});

/// A wait that is stated in prose: "try again in 18.642s", "wait 52220 seconds".
pub(super) fn in_text(text: &str) -> Option<u64> {
    let found = IN_TEXT.captures_iter(text).find_map(|found| {
        let number = found.get(1)?.as_str().trim_end_matches('.');
        match found.get(2) {
            None => go_duration(&number.to_ascii_lowercase()),
            Some(unit) => decimal(number, unit_ms(&unit.as_str().to_ascii_lowercase())?),
        }
    });
    found.or_else(|| {
        let found = IN_CHINESE.captures(text)?;
        decimal(found.get(1)?.as_str(), unit_ms(found.get(2)?.as_str())?)
    })
}

fn unit_ms(unit: &str) -> Option<u64> {
    Some(match unit {
        "ms" | "毫秒" => 1,
        _ if unit.starts_with("milli") || unit.starts_with("msec") => 1,
        _ if unit.starts_with('s') || unit.starts_with('秒') => 1000,
        _ if unit.starts_with('m') || unit == "分钟" => 60_000,
        _ if unit.starts_with('h') || unit == "小时" => 3_600_000,
        _ if unit.starts_with('d') || unit == "天" => 86_400_000,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: &str = "2023-09-29T16:26:37Z";

    #[track_caller]
    fn check(headers: &[(&'static str, &str)], expected_ms: impl Into<Option<u64>>) {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.insert(*name, value.parse().unwrap());
        }
        let hint = find(&map, &Facts::default(), NOW.parse().unwrap());
        assert_eq!(hint, expected_ms.into().map(Duration::from_millis), "{headers:?}");
    }

    /// The table of openai-python's `test_parse_retry_after_header`, and what it leaves out.
    #[test]
    fn retry_after() {
        check(&[("retry-after", "20")], 20_000);
        check(&[("retry-after", " 20\t")], 20_000);
        check(&[("retry-after", "0")], 0);
        check(&[("retry-after", "0.1")], 100);
        check(&[("retry-after", "0.0001")], 1);
        check(&[("retry-after", "0.0000000000000001")], 1);
        check(&[("retry-after", "1.")], 1000);
        check(&[("retry-after", "-10")], None);
        check(&[("retry-after", "60")], 60_000);
        check(&[("retry-after", "61")], 61_000);
        check(&[("retry-after", "99999999999999999999999999999999999")], HINT_MS_MAX);
        check(&[("retry-after", "1e3")], None);
        check(&[("retry-after", "+5")], None);
        check(&[("retry-after", "Fri, 29 Sep 2023 16:26:57 GMT")], 20_000);
        check(&[("retry-after", "Fri, 29 Sep 2023 16:26:37 GMT")], 0);
        check(&[("retry-after", "Fri, 29 Sep 2023 16:26:27 GMT")], 0);
        check(&[("retry-after", "Friday, 29-Sep-23 16:26:57 GMT")], 20_000);
        check(&[("retry-after", "Fri, 29 Sep 2023 16:27:37 GMT")], 60_000);
        check(&[("retry-after", "Zun, 29 Sep 2023 16:26:27 GMT")], None);
        check(&[("retry-after", "5, 10")], None);
        for garbage in
            ["", " ", ".", "nan", "NaN", "inf", "-inf", "infinity", "soon", "99x", "0x10", "1 0"]
        {
            check(&[("retry-after", garbage)], None);
        }
    }

    #[test]
    fn precedence() {
        check(&[("retry-after-ms", "3000"), ("retry-after", "10")], 3000);
        check(&[("retry-after-ms", "0"), ("retry-after", "10")], 0);
        check(&[("retry-after-ms", "1530.62")], 1531);
        check(&[("retry-after-ms", "x"), ("retry-after", "10")], 10_000);
        check(&[("x-ms-retry-after-ms", "6001"), ("retry-after", "6")], 6001);
        check(&[("retry-after", "x"), ("x-ratelimit-reset", "1696004857000")], 60_000);
    }

    #[test]
    fn buckets() {
        check(
            &[
                ("x-ratelimit-remaining-requests", "0"),
                ("x-ratelimit-reset-requests", "1m6s"),
                ("x-ratelimit-remaining-tokens", "5"),
                ("x-ratelimit-reset-tokens", "17ms"),
            ],
            66_000,
        );
        check(&[("x-ratelimit-remaining-tokens", "5"), ("x-ratelimit-reset-tokens", "17ms")], None);
        check(
            &[
                ("anthropic-ratelimit-tokens-remaining", "0"),
                ("anthropic-ratelimit-tokens-reset", "2023-09-29T16:26:38Z"),
            ],
            1000,
        );
    }

    #[test]
    fn go_durations() {
        for (text, ms) in [
            ("1m6s", Some(66_000)),
            ("17ms", Some(17)),
            ("2m59.56s", Some(179_560)),
            ("1h2m3s", Some(3_723_000)),
            ("34.4s", Some(34_400)),
            ("0s", Some(0)),
            ("1500us", Some(2)),
            ("", None),
            ("5", None),
            ("-5s", None),
            ("5x", None),
            ("s", None),
        ] {
            assert_eq!(go_duration(text), ms, "{text}");
        }
    }

    #[test]
    fn prose() {
        for (text, ms) in [
            ("Please try again in 18.642s. Visit", Some(18_642)),
            ("try again in 9m38.016s", Some(578_016)),
            ("Please try again in 644ms.", Some(644)),
            ("Please retry after 6 seconds.", Some(6000)),
            ("Please retry in 47.434392449s.", Some(47_435)),
            ("Please wait 52220 seconds before", Some(52_220_000)),
            ("try again in 2 minutes", Some(120_000)),
            ("Try again after 1h.", Some(3_600_000)),
            ("Retry-After: 3 sec", Some(3000)),
            ("请 30 秒后重试", Some(30_000)),
            ("within the last 5 minutes, please wait a moment and try again.", None),
            ("Request was throttled. Expected available in 6 seconds.", Some(6000)),
            ("Try again in ~61 min.", Some(3_660_000)),
            ("try again after 11:34 AM", None),
            ("try again later", None),
            ("retry 3 times", None),
            ("Please try again in 5", None),
        ] {
            assert_eq!(in_text(text), ms, "{text}");
        }
    }
}
