//! Waits held against those of the systems that people know: `tests/cases/vectors/backoff.jsonl`.
//!
//! Arithmetic is checked on [`Backoff`] itself; whatever depends on a server's word or on the time
//! left goes through [`decide`]. A vector is skipped only where Mainstay decided against what it
//! shows, and every skip is printed with its reason. `MAINSTAY_CASES=DIR` scores
//! `DIR/vectors/backoff.jsonl` instead, and asserts nothing.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use mainstay::failure::{Failure, FailureCause};
use mainstay::policy::{
    Conditions, History, Ladder, Moment, Policy, ReaskRoom, Routing, Rung, Site, TargetCondition,
    Verdict, decide,
};
use mainstay::resilience::backoff::{Backoff, Growth, Jitter, after_hint};
use serde_json::Value;

use super::support::vectors::{Score, Scores, read};

/// Draws that stand for all.
const DRAWS: u32 = 2_000;

type Checked = Result<(), String>;

#[test]
fn backoff_cases() {
    let Some(vectors) = read("backoff") else { return };
    let mut scores = Scores::new("backoff");
    for vector in &vectors.all {
        scores.add(vector, score(vector));
    }
    scores.print();
    if !vectors.elsewhere {
        scores.assert(60, 5);
    }
}

fn score(vector: &Value) -> Score {
    let checked = match vector["algo"].as_str().unwrap_or_default() {
        "exponential" => plain(vector, Jitter::None),
        "full_jitter" => plain(vector, Jitter::Full),
        "equal_jitter" => plain(vector, Jitter::Equal),
        "proportional_jitter" => {
            let ratio = number(vector, "ratio").unwrap_or(0.0);
            plain(vector, Jitter::Proportional { ratio })
        }
        "linear_proportional_jitter" => linear(vector),
        "additive_jitter" => {
            let spread = ms(number(vector, "jitter_ms").unwrap_or(0.0));
            plain(vector, Jitter::Additive { ratio: 0.0, spread })
        }
        "additive_ratio_jitter" => {
            let ratio = number(vector, "jitter").unwrap_or(0.0);
            plain(vector, Jitter::Additive { ratio, spread: Duration::ZERO })
        }
        "full_jitter_mod" => integer_draw(vector),
        "decorrelated_jitter" => decorrelated(vector),
        "decorrelated_jitter_v2" => {
            return Score::Skipped(
                "decorrelated_jitter_v2: a series with a hidden state beside the last wait; \
                 `decorrelated` is offered instead",
            );
        }
        "lower_bound_jitter" => lower_bound(vector),
        "server_clamped" => {
            let own = number(vector, "own_ms").unwrap_or(0.0);
            let most = own + number(vector, "slack_ms").unwrap_or(0.0);
            if vector["input"]["retry_after_ms"].as_f64().unwrap_or(0.0) > most {
                return Score::Skipped(
                    "server_clamped above its slack: no wait is shorter than the server's hint",
                );
            }
            server_clamped(vector, own)
        }
        "server_directed" if vector["input"]["committed"] == Value::Bool(true) => {
            return Score::Skipped(
                "server_directed after the response began: a stream is restarted, and says so",
            );
        }
        "server_directed" => server_directed(vector),
        "provider_sdk" => return provider_sdk(vector),
        "retry_after_parse" => return retry_after(vector),
        "deadline_aware" => deadline_aware(vector),
        _ => return Score::Skipped("an unknown algorithm"),
    };
    scored(checked)
}

fn scored(checked: Checked) -> Score {
    checked.map_or_else(Score::Failed, |()| Score::Passed)
}

fn number(vector: &Value, parameter: &str) -> Option<f64> {
    vector["params"][parameter].as_f64()
}

fn ms(ms: f64) -> Duration {
    Duration::from_secs_f64(ms / 1_000.0)
}

fn as_ms(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1_000.0
}

/// A series as the parameters of a vector describe it. Without a cap the limit is the longest time
/// that the systems behind the vectors can hold: 2^63 ticks of 100 ns.
fn series(vector: &Value, jitter: Jitter) -> Backoff {
    let longest = Duration::new(922_337_203_685, 477_580_700);
    Backoff {
        growth: Growth::Exponential,
        jitter,
        base: ms(number(vector, "base_ms").unwrap_or(0.0)),
        factor: number(vector, "multiplier").unwrap_or(2.0),
        min: ms(number(vector, "floor_ms").unwrap_or(0.0)),
        max: number(vector, "cap_ms").map_or(longest, ms),
    }
}

/// Number of the retry; some peers begin one exponent later.
fn retry(vector: &Value) -> u32 {
    let count = |value: &Value| value.as_u64().and_then(|n| u32::try_from(n).ok());
    count(&vector["retry"]).unwrap_or(1) + count(&vector["params"]["first_exponent"]).unwrap_or(0)
}

fn plain(vector: &Value, jitter: Jitter) -> Checked {
    let (series, retry) = (series(vector, jitter), retry(vector));
    expect_wait(vector, |dice| series.delay(retry, None, dice))
}

fn linear(vector: &Value) -> Checked {
    let ratio = number(vector, "ratio").unwrap_or(0.0);
    let series = Backoff {
        growth: Growth::Linear,
        base: ms(number(vector, "step_ms").unwrap_or(0.0)),
        ..series(vector, Jitter::Proportional { ratio })
    };
    let retry = retry(vector);
    expect_wait(vector, |dice| series.delay(retry, None, dice))
}

/// An integer draw modulo the window is full jitter with the draw as a share of the window.
fn integer_draw(vector: &Value) -> Checked {
    let (series, retry) = (series(vector, Jitter::Full), retry(vector));
    let window = as_ms(series.window(retry));
    let draw = vector["draw"].as_f64().ok_or("no draw")?;
    let wait = series.delay(retry, None, (draw % window) / window);
    expect_wait(vector, |_| wait)
}

fn decorrelated(vector: &Value) -> Checked {
    let series = series(vector, Jitter::Decorrelated);
    let mut previous = vector["prev_ms"].as_f64().map(ms);
    let Some(expected) = vector["expect"]["sequence_ms"].as_array() else {
        return expect_wait(vector, |dice| series.delay(1, previous, dice));
    };
    let tolerance = vector["expect"]["tol_ms"].as_f64().unwrap_or(0.0);
    for (at, expected) in expected.iter().enumerate() {
        let dice = vector["u"][at].as_f64().ok_or("too few draws")?;
        let wait = series.delay(u32::try_from(at).unwrap() + 1, previous, dice);
        let expected = expected.as_f64().ok_or("not a number")?;
        if (as_ms(wait) - expected).abs() > tolerance + 1e-6 {
            return Err(format!("wait {at} is {wait:?}, not {expected} ms"));
        }
        previous = Some(wait);
    }
    Ok(())
}

fn lower_bound(vector: &Value) -> Checked {
    let reset = number(vector, "reset_ms").unwrap_or(0.0);
    let ratio = number(vector, "ratio").unwrap_or(0.0);
    let drawn = vector["draw"].as_f64().map(|draw| (draw % (ratio * reset)) / (ratio * reset));
    expect_wait(vector, |dice| after_hint(ms(reset), ratio, drawn.unwrap_or(dice)))
}

fn server_clamped(vector: &Value, own: f64) -> Checked {
    let backoff = Backoff { base: ms(own), ..series(vector, Jitter::None) };
    let hint = vector["input"]["retry_after_ms"].as_f64().map(ms);
    let step = Step { backoff, hint, ..Step::default() };
    expect_wait(vector, |dice| step.wait(dice).unwrap_or(Duration::MAX))
}

/// gRPC A6: its policy as ours, its pushback as a hint or, where it forbids, as not retryable.
fn server_directed(vector: &Value) -> Checked {
    let input = &vector["input"];
    let policy = &input["policy"];
    let figure = |value: &Value| value.as_f64().unwrap_or(0.0);
    let count = |value: &Value| value.as_u64().and_then(|n| u32::try_from(n).ok());
    let attempt = count(&input["attempt"]).unwrap_or(1);
    let pushback: Vec<&str> =
        input["pushback"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let (hint, forbidden) = match pushback.as_slice() {
        [] => (None, false),
        [one] => (one.parse::<u32>().ok().map(|n| ms(f64::from(n))), one.parse::<u32>().is_err()),
        _ => (None, true),
    };
    let statuses = policy["retryable"].as_array().ok_or("no statuses")?;
    let step = Step {
        backoff: Backoff {
            growth: Growth::Exponential,
            jitter: Jitter::Proportional { ratio: figure(&policy["ratio"]) },
            base: ms(figure(&policy["base_ms"])),
            factor: figure(&policy["multiplier"]),
            min: Duration::ZERO,
            max: ms(figure(&policy["cap_ms"])),
        },
        hint,
        retryable: statuses.contains(&input["status"]) && !forbidden,
        calls: attempt,
        retries: count(&input["retries_since_pushback"]).unwrap_or(attempt - 1),
        // A6 reads more than five as five.
        max_attempts: count(&policy["max_attempts"]).unwrap_or(1).min(5),
        ..Step::default()
    };
    expect_decision(vector, &step)
}

/// The official SDKs: their waits as ours, their downward jitter as proportional jitter around the
/// middle of what it leaves.
fn provider_sdk(vector: &Value) -> Score {
    let (low, high) = (number(vector, "jitter_low"), number(vector, "jitter_high"));
    let (low, high) = (low.unwrap_or(1.0), high.unwrap_or(1.0));
    let (middle, ratio) = (f64::midpoint(low, high), (high - low) / (high + low));
    let plain = series(vector, Jitter::None);
    let retries = vector["input"]["retries_done"].as_u64().unwrap_or(0);
    let retries = u32::try_from(retries).unwrap();
    let header = |name: &str| vector["input"]["headers"][name].as_str();
    let now = number(vector, "now_unix").unwrap_or(0.0);
    let hint = header("retry-after-ms")
        .and_then(|text| decimal(text, 1.0))
        .or_else(|| header("retry-after").and_then(|text| seconds_or_date(text, now)));
    let limit = ms(number(vector, "retry_after_max_ms").unwrap_or(0.0));
    let is_used = hint.is_some_and(|hint| !hint.is_zero() && hint <= limit);
    if is_used && hint.is_some_and(|hint| hint < plain.window(retries + 1)) {
        return Score::Skipped(
            "provider_sdk with a hint under the own wait: the longer of the two is waited for",
        );
    }
    let backoff = Backoff {
        jitter: Jitter::Proportional { ratio },
        base: plain.base.mul_f64(middle),
        max: plain.max.mul_f64(middle),
        ..plain
    };
    let step = Step { backoff, hint, retries, hint_limit: limit, ..Step::default() };
    scored(expect_decision(vector, &step))
}

fn retry_after(vector: &Value) -> Score {
    let input = &vector["input"];
    if !matches!(input["status"].as_u64(), Some(429 | 503)) {
        return Score::Skipped(
            "retry_after_parse of other statuses: hints are read of every failing answer",
        );
    }
    let now = [&vector["params"]["now_unix"], &input["now_unix"]];
    let now = now.into_iter().find_map(Value::as_f64).unwrap_or(0.0);
    let hint = input["retry_after"].as_str().and_then(|text| seconds_or_date(text, now));
    let cap = number(vector, "cap_ms").map_or(Duration::MAX, ms);
    scored(match (hint, vector["expect"]["decision"].as_str()) {
        (None, Some("ignore")) => Ok(()),
        (Some(hint), None) => expect_wait(vector, |_| hint.min(cap)),
        (hint, _) => Err(format!("read as {hint:?}")),
    })
}

/// Our own rule. A decision draws before it looks at the clock, so the window is the wait drawn.
fn deadline_aware(vector: &Value) -> Checked {
    let window = ms(number(vector, "window_ms").unwrap_or(0.0));
    let step = Step {
        backoff: Backoff { base: window, max: window, ..Backoff::default() },
        likely: Some(ms(number(vector, "min_attempt_ms").unwrap_or(0.0))),
        remaining: ms(vector["input"]["deadline_left_ms"].as_f64().unwrap_or(0.0)),
        ..Step::default()
    };
    let longest = step.wait(1.0);
    match vector["expect"]["decision"].as_str() {
        Some("fail_now" | "fail") if longest.is_none() => Ok(()),
        Some("retry") if longest.is_some() => {
            expect_wait(vector, |dice| step.wait(dice).unwrap_or(Duration::MAX))
        }
        _ => Err(format!("waits {longest:?}")),
    }
}

/// Seconds with a fraction, or a date; what is neither is no hint, and a date gone by is now.
fn seconds_or_date(text: &str, now_unix: f64) -> Option<Duration> {
    decimal(text, 1_000.0).or_else(|| {
        let date = jiff::fmt::rfc2822::parse(text.trim()).ok()?;
        let left = date.timestamp().as_millisecond() as f64 - now_unix * 1_000.0;
        Some(ms(left.max(0.0)))
    })
}

/// Decimal digits; saturates at a day, as hints do.
fn decimal(text: &str, unit_ms: f64) -> Option<Duration> {
    let text = text.trim();
    let is_decimal = text.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    let value: f64 = text.parse().ok().filter(|_| is_decimal)?;
    Some(ms((value * unit_ms).min(86_400_000.0)))
}

/// One decision about a failed call to the only target, under a policy of one retry rung.
struct Step {
    backoff: Backoff,
    hint: Option<Duration>,
    hint_limit: Duration,
    retryable: bool,
    calls: u32,
    retries: u32,
    max_attempts: u32,
    likely: Option<Duration>,
    remaining: Duration,
}

impl Default for Step {
    fn default() -> Self {
        Self {
            backoff: Backoff::default(),
            hint: None,
            hint_limit: Duration::from_secs(86_400),
            retryable: true,
            calls: 1,
            retries: 0,
            max_attempts: 1_000,
            likely: None,
            remaining: Duration::from_secs(1_000_000),
        }
    }
}

impl Step {
    /// The wait decided on; none if the call is not made again.
    fn wait(&self, dice: f64) -> Option<Duration> {
        let rung = Rung::RetryWithBackoff {
            attempts: 1_000,
            backoff: self.backoff,
            also_when_not_retryable: false,
        };
        static DEFAULT: LazyLock<Policy> = LazyLock::new(Policy::built_in);
        let mut policy = DEFAULT.clone();
        policy.routing = Routing::new(
            |_| Ladder { rule: Arc::from("vector"), rungs: vec![rung.clone()] },
            Vec::new(),
        );
        policy.execution.max_attempts = self.max_attempts;
        policy.execution.hint_limit = self.hint_limit;
        policy.execution.hint_spread = 0.0;
        let labels = BTreeMap::new();
        let site = Site { pipeline: None, step: "s", target: "t", attempt: 1, labels: &labels };
        let target = TargetCondition {
            name: "t",
            admits_in: Some(Duration::ZERO),
            refusal: None,
            retry_budget: true,
            context_window: None,
            likely_duration: self.likely,
        };
        let conditions = Conditions {
            max_attempts: u32::MAX,
            run_extra_calls_left: u32::MAX,
            max_cost_usd: None,
            targets: &[target],
            step_targets: 1,
            reprompt_budget: false,
            reask: ReaskRoom::default(),
            verifier_failed: false,
            repair: None,
            cache_age: None,
            step_template: false,
            unfit_templates: &[],
            partial: false,
        };
        let mut failure = Failure::new(FailureCause::RateLimited, "vector");
        let mut history = History::default();
        let moment = Moment { remaining: Duration::MAX, dice };
        for _ in 0..self.retries {
            let earlier = decide(&policy, &failure, &site, &history, moment, &conditions);
            history.record_decision(&earlier, "t");
        }
        (0..self.calls).for_each(|_| history.record_call("t"));
        failure.retryable = self.retryable;
        failure.retry_after = self.hint;
        let moment = Moment { remaining: self.remaining, dice };
        match decide(&policy, &failure, &site, &history, moment, &conditions).verdict {
            Verdict::Retry { after } => Some(after),
            _ => None,
        }
    }
}

fn expect_decision(vector: &Value, step: &Step) -> Checked {
    let wait = step.wait(0.5);
    match (vector["expect"]["decision"].as_str(), wait) {
        (Some("fail" | "fail_now"), None) => Ok(()),
        (Some("retry") | None, Some(_)) => {
            expect_wait(vector, |dice| step.wait(dice).unwrap_or(Duration::MAX))
        }
        (expected, _) => Err(format!("waits {wait:?}, where {expected:?} is due")),
    }
}

/// Holds waits against `expect`: one exact wait, or a range and a mean over all draws.
fn expect_wait(vector: &Value, wait: impl Fn(f64) -> Duration) -> Checked {
    let expect = |key: &str| vector["expect"][key].as_f64();
    if let Some(exact) = expect("exact_ms") {
        let dice = vector["u"][0].as_f64().unwrap_or(0.5);
        let given = as_ms(wait(dice));
        // A double holds the longest waits to about a tenth of a millisecond.
        let tolerance = expect("tol_ms").unwrap_or(0.0) + exact * 1e-12 + 1e-6;
        if (given - exact).abs() > tolerance {
            return Err(format!("waits {given} ms, not {exact} ms"));
        }
    }
    if let (Some(least), Some(most)) = (expect("min_ms"), expect("max_ms")) {
        let draws = (0..=DRAWS).map(|draw| f64::from(draw) / f64::from(DRAWS));
        let waits: Vec<f64> = draws.map(|dice| as_ms(wait(dice))).collect();
        if let Some(wrong) = waits.iter().find(|wait| **wait < least - 1.0 || **wait > most + 1.0) {
            return Err(format!("waits {wrong} ms, outside {least} … {most} ms"));
        }
        if let Some(mean) = expect("mean_ms") {
            let share = expect("mean_tol_pct").unwrap_or(0.0) / 100.0;
            let given = waits.iter().sum::<f64>() / waits.len() as f64;
            if (given - mean).abs() > mean * share {
                return Err(format!("waits {given} ms in the mean, not {mean} ms"));
            }
        }
        if let Some(median) = expect("median_ms") {
            let share = expect("median_tol_pct").unwrap_or(0.0) / 100.0;
            let mut sorted = waits;
            sorted.sort_by(f64::total_cmp);
            let given = sorted[sorted.len() / 2];
            if (given - median).abs() > median * share {
                return Err(format!("waits {given} ms in the median, not {median} ms"));
            }
        }
    }
    Ok(())
}
