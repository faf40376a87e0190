//! Retry budgets held against those of the systems that people know:
//! `tests/cases/vectors/budget.jsonl`.
//!
//! Mainstay's budget is a share of the fresh calls over a window, with a floor. Peers of the same
//! kind are played to it; other kinds are skipped, with the reason. `MAINSTAY_CASES=DIR` scores
//! `DIR/vectors/budget.jsonl` instead, and asserts nothing.

use std::time::Duration;

use mainstay::resilience::budget::{Budget, BudgetSettings};
use serde_json::Value;

use super::support::vectors::{Score, Scores, read};

#[test]
fn budget_cases() {
    let Some(vectors) = read("budget") else { return };
    let mut scores = Scores::new("budget");
    for vector in &vectors.all {
        scores.add(vector, score(vector));
    }
    scores.print();
    if !vectors.elsewhere {
        scores.assert(7, 14);
    }
}

fn score(vector: &Value) -> Score {
    let config = &vector["config"];
    let played = match vector["kind"].as_str().unwrap_or_default() {
        "window_percent" => play(vector, finagle(config)),
        "window_percent_tower" => play(vector, tower(config)),
        "token_ratio" => {
            return Score::Skipped(
                "token_ratio: failures would draw on the budget, and failing fast is the \
                 breaker's work; calls do here",
            );
        }
        "concurrent_percent" => {
            return Score::Skipped(
                "concurrent_percent: a share of the calls in flight bounds no amplification over \
                 time; the bulkhead bounds what is in flight",
            );
        }
        "quota" => {
            return Score::Skipped(
                "quota: it is filled by successes, and so has no share to promise; the window has",
            );
        }
        "sre_ratio" => {
            return Score::Skipped(
                "sre_ratio: a share of all calls ever made; a window forgets, so that an old \
                 success cannot pay for a storm",
            );
        }
        other => Err(format!("unknown kind {other}")),
    };
    played.map_or_else(Score::Failed, |()| Score::Passed)
}

fn figure(value: &Value) -> f64 {
    value.as_f64().unwrap_or(0.0)
}

fn ms(value: &Value) -> Duration {
    Duration::from_secs_f64(figure(value) / 1_000.0)
}

/// A request pays in 1000 there, and a retry costs 1000 by the share, cut to a whole number.
fn finagle(config: &Value) -> BudgetSettings {
    let share = figure(&config["percent_can_retry"]);
    let ratio = if share > 0.0 { 1_000.0 / (1_000.0 / share).floor() } else { 0.0 };
    BudgetSettings {
        ratio,
        floor_per_second: figure(&config["min_retries_per_s"]),
        window: ms(&config["ttl_ms"]),
    }
}

/// The same, in whole calls up to a share of one.
fn tower(config: &Value) -> BudgetSettings {
    let share = figure(&config["percent_can_retry"]);
    let ratio = match share {
        share if share <= 0.0 => 0.0,
        share if share <= 1.0 => 1.0 / (1.0 / share).floor(),
        share => 1_000.0 / (1_000.0 / share).floor(),
    };
    BudgetSettings { ratio, ..finagle(config) }
}

fn play(vector: &Value, settings: BudgetSettings) -> Result<(), String> {
    let mut budget = Budget::new(settings);
    for (at, step) in vector["steps"].as_array().into_iter().flatten().enumerate() {
        play_step(&mut budget, step).map_err(|why| format!("step {at} {step}: {why}"))?;
    }
    Ok(())
}

fn play_step(budget: &mut Budget, step: &Value) -> Result<(), String> {
    let now = ms(&step["t_ms"]);
    let times = step["n"].as_u64().unwrap_or(1);
    let mut taken = 0;
    let expected = match step["op"].as_str().unwrap_or_default() {
        "deposit" => {
            (0..times).for_each(|_| budget.deposit(now));
            return Ok(());
        }
        "withdraw" => {
            taken = (0..times).filter(|_| budget.withdraw(now)).count() as u64;
            &step["allowed"]
        }
        "deposit_then_withdraw" => {
            for _ in 0..times {
                budget.deposit(now);
                taken += u64::from(budget.withdraw(now));
            }
            &step["allowed"]
        }
        "outage_rps" => {
            let calls = step["calls"].as_u64().ok_or("no calls")?;
            let rps = figure(&step["rps"]);
            for call in 0..calls {
                let now = Duration::from_secs_f64(call as f64 / rps);
                budget.deposit(now);
                let most = step["max_attempts"].as_u64().unwrap_or(1).saturating_sub(1);
                taken += (0..most).take_while(|_| budget.withdraw(now)).count() as u64;
            }
            &step["retries_allowed"]
        }
        other => return Err(format!("unknown operation {other}")),
    };
    match expected.as_u64() {
        Some(expected) if expected == taken => Ok(()),
        _ => Err(format!("{taken} let through")),
    }
}
