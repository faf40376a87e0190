//! Breakers held against those of the systems that people know:
//! `tests/cases/vectors/breaker.jsonl`.
//!
//! Each timeline is played to a [`Breaker`] whose settings say what the peer does. A vector is
//! skipped only where Mainstay decided against what it shows, and every skip is printed with its
//! reason. Traps (what a peer does and should not) are scored apart. `MAINSTAY_CASES=DIR` scores
//! `DIR/vectors/breaker.jsonl` instead, and asserts nothing.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use mainstay::resilience::breaker::{
    Breaker, BreakerSettings, BreakerState, CallResult, CloseOn, Command, HalfOpenThen, JudgeOn,
    Outcome, Ticket,
};
use mainstay::resilience::window::{Alignment, BreakerWindow};
use serde_json::Value;

use super::support::vectors::{Score, Scores, read};

#[test]
fn breaker_cases() {
    let Some(vectors) = read("breaker") else { return };
    let (mut scores, mut traps) = (Scores::new("breaker"), Scores::new("breaker traps"));
    let mut profiles: BTreeMap<String, (u32, u32)> = BTreeMap::new();
    for vector in &vectors.all {
        let scored = score(vector);
        if vector["trap"] == Value::Bool(true) {
            traps.add(vector, scored);
            continue;
        }
        let profile = vector["profile"].as_str().unwrap_or("?").to_owned();
        let of_profile = profiles.entry(profile).or_default();
        of_profile.1 += 1;
        of_profile.0 += u32::from(matches!(scored, Score::Passed));
        scores.add(vector, scored);
    }
    for (profile, (passed, all)) in &profiles {
        println!("  profile {profile}: {passed}/{all}");
    }
    traps.print();
    scores.print();
    if !vectors.elsewhere {
        scores.assert(45, 11);
        assert_eq!(profiles["mainstay"], (6, 6));
    }
}

fn score(vector: &Value) -> Score {
    if vector["kind"] == "outlier" {
        return Score::Skipped(
            "outlier detection ejects hosts of a pool in sweeps; here each target has a breaker, \
             judged with each result",
        );
    }
    let trip = &vector["config"]["trip"];
    if trip["evaluate"] == "tick" {
        return Score::Skipped(
            "evaluate_tick: a timer lets a failing target be called until it fires; every result \
             is judged as it comes",
        );
    }
    let config = &vector["config"];
    if vector["trap"] == Value::Bool(true) {
        if config["excluded"] == "as_success" && has(vector, "excluded_as_success") {
            return Score::Skipped("excluded outcomes are neutral, never a success");
        }
        if has(vector, "late_results_count") {
            return Score::Skipped("a result of an earlier epoch decides nothing");
        }
    }
    match settings(config) {
        Ok(settings) => play(vector, settings).map_or_else(Score::Failed, |()| Score::Passed),
        Err(unknown) => Score::Failed(unknown),
    }
}

fn has(vector: &Value, need: &str) -> bool {
    vector["needs"].as_array().into_iter().flatten().any(|one| one == need)
}

fn ms(value: &Value) -> Option<Duration> {
    value.as_f64().map(|ms| Duration::from_secs_f64(ms / 1_000.0))
}

fn count(value: &Value) -> Option<u32> {
    value.as_u64().and_then(|count| u32::try_from(count).ok())
}

/// A peer's configuration in our words.
fn settings(config: &Value) -> Result<BreakerSettings, String> {
    let (trip, open, half_open) = (&config["trip"], &config["open"], &config["half_open"]);
    let probes = count(&half_open["permits"]).unwrap_or(1);
    // "Strictly after the wait" is "at the wait and the shortest time more". An automatic change
    // of state comes with the wait.
    let strictly = open["boundary"] == "gt" && open["auto"] != Value::Bool(true);
    let instant = Duration::from_nanos(u64::from(strictly));
    let wait = ms(&open["wait_ms"]).ok_or("no wait")? + instant;
    let factor = open["multiplier"].as_f64().unwrap_or(1.0);
    let percent = |key: &str| trip[key].as_f64().map(|percent| percent / 100.0);
    let mut settings = BreakerSettings {
        window: BreakerWindow::Fixed { interval: None },
        min_calls: count(&trip["min_calls"]).unwrap_or(1),
        failure_rate: percent("failure_rate_pct"),
        consecutive_failures: None,
        slow_call: ms(&trip["slow_call_ms"]),
        slow_first_token: None,
        slow_call_rate: percent("slow_call_rate_pct").unwrap_or(1.0),
        count_rate_limits: false,
        judge_on: match trip["evaluate_on"].as_str() {
            None | Some("any") => JudgeOn::EveryResult,
            Some("failure") => JudgeOn::Failures,
            Some(other) => return Err(format!("evaluates on {other}")),
        },
        open: wait,
        open_factor: factor,
        open_max: ms(&open["max_wait_ms"]).map_or(Duration::MAX, |most| most + instant),
        open_jitter: 0.0,
        probes,
        probes_renew: half_open["reissue"] == Value::Bool(true),
        close_on: match half_open["decide"].as_str() {
            Some("rate") => CloseOn::Rates,
            Some("first_result") | None => CloseOn::Successes(1),
            Some("consecutive_success") => {
                CloseOn::Successes(count(&half_open["successes"]).unwrap_or(1))
            }
            Some(other) => return Err(format!("decides by {other}")),
        },
        half_open_max: ms(&half_open["max_wait_ms"]),
        half_open_then: match half_open["then"].as_str() {
            Some("closed") => HalfOpenThen::Close,
            Some("open") | None => HalfOpenThen::Open,
            Some(other) => return Err(format!("then {other}")),
        },
        ramp: Duration::ZERO,
    };
    trip_on(&mut settings, trip)?;
    Ok(settings)
}

fn trip_on(settings: &mut BreakerSettings, trip: &Value) -> Result<(), String> {
    settings.window = match trip["kind"].as_str().unwrap_or_default() {
        "count_window" => BreakerWindow::Count(count(&trip["size"]).ok_or("no size")?),
        "time_window" => BreakerWindow::Time {
            span: ms(&trip["window_ms"]).ok_or("no window")?,
            buckets: match trip["alignment"].as_str() {
                Some("exact") => 0,
                Some(_) | None => count(&trip["buckets"]).unwrap_or(10),
            },
            alignment: match trip["alignment"].as_str() {
                Some("epoch") => Alignment::Epoch,
                Some("origin") => Alignment::Cleared,
                Some("event" | "exact") | None => Alignment::Event,
                Some(other) => return Err(format!("alignment {other}")),
            },
        },
        "consecutive" => {
            settings.consecutive_failures = count(&trip["failures"]);
            BreakerWindow::Fixed { interval: None }
        }
        "fixed_window" => {
            settings.consecutive_failures = count(&trip["consecutive_failures"]);
            let interval = ms(&trip["interval_ms"]).filter(|interval| !interval.is_zero());
            BreakerWindow::Fixed { interval }
        }
        "unified" => {
            settings.consecutive_failures =
                count(&trip["max_consecutive_failures"]).filter(|most| *most > 0);
            // "Success under the ratio" is "failure over the rest of it".
            settings.failure_rate = trip["success_ratio"].as_f64().map(|ratio| 1.0 - ratio + 1e-7);
            settings.count_rate_limits = true;
            BreakerWindow::Time {
                span: ms(&trip["window_ms"]).ok_or("no window")?,
                buckets: 10,
                alignment: Alignment::Event,
            }
        }
        other => return Err(format!("trips on {other}")),
    };
    Ok(())
}

/// A timeline under way.
struct Player<'a> {
    vector: &'a Value,
    breaker: Breaker,
    tickets: HashMap<String, Ticket>,
    now: Duration,
}

fn no_dice() -> f64 {
    0.5
}

fn play(vector: &Value, settings: BreakerSettings) -> Result<(), String> {
    let breaker = Breaker::new(settings, Duration::ZERO);
    let mut player = Player { vector, breaker, tickets: HashMap::new(), now: Duration::ZERO };
    for (at, step) in vector["steps"].as_array().into_iter().flatten().enumerate() {
        player.step(step).map_err(|why| format!("step {at} {step}: {why}"))?;
    }
    Ok(())
}

impl Player<'_> {
    fn step(&mut self, step: &Value) -> Result<(), String> {
        self.now = ms(&step["t_ms"]).ok_or("no time")?;
        let call = step["call"].as_str().unwrap_or_default();
        match step["op"].as_str().unwrap_or_default() {
            "acquire" => {
                if let Some(ticket) = self.acquire(step)? {
                    self.tickets.insert(call.to_owned(), ticket);
                }
            }
            "result" => {
                let ticket = self.tickets.remove(call).ok_or("a call that is not under way")?;
                self.settle(ticket, step)?;
            }
            "call" => {
                for _ in 0..step["n"].as_u64().unwrap_or(1) {
                    if let Some(ticket) = self.acquire(step)? {
                        self.settle(ticket, step)?;
                    }
                }
            }
            "force" => {
                let command = match step["to"].as_str().unwrap_or_default() {
                    "open" => Command::Trip,
                    "half_open" => Command::Probe,
                    "closed" => Command::Release,
                    "forced_open" => Command::HoldOpen,
                    "disabled" => Command::HoldClosed,
                    "metrics_only" => Command::MetricsOnly,
                    other => return Err(format!("no command makes it {other}")),
                };
                self.breaker.command(command, self.now, no_dice);
            }
            "state" => {}
            other => return Err(format!("unknown operation {other}")),
        }
        self.expect_state(step)
    }

    fn acquire(&mut self, step: &Value) -> Result<Option<Ticket>, String> {
        let ticket = self.breaker.acquire(self.now, no_dice).ok();
        match step["allowed"].as_bool() {
            Some(allowed) if allowed != ticket.is_some() => {
                Err(format!("let through: {}", ticket.is_some()))
            }
            Some(_) | None => Ok(ticket),
        }
    }

    fn settle(&mut self, ticket: Ticket, step: &Value) -> Result<(), String> {
        let excluded = match self.vector["config"]["excluded"].as_str() {
            Some("as_success") => Outcome::Success,
            Some(_) | None => Outcome::Neutral,
        };
        let outcome = match step["outcome"].as_str().unwrap_or_default() {
            "success" => Outcome::Success,
            "failure" => Outcome::Failure,
            "excluded" => excluded,
            "cancelled" if self.vector["config"]["half_open"]["cancelled"] == "failure" => {
                Outcome::Failure
            }
            "cancelled" => Outcome::Neutral,
            "throttled" => Outcome::RateLimited,
            other => return Err(format!("unknown outcome {other}")),
        };
        let total = ms(&step["duration_ms"]).unwrap_or_default();
        self.breaker.settle(ticket, CallResult::new(outcome, total), self.now, no_dice);
        Ok(())
    }

    /// Some peers change their state when the time comes or when it is looked at, others with the
    /// next call. A half-open state that lasts too long ends by itself everywhere.
    fn expect_state(&mut self, step: &Value) -> Result<(), String> {
        let by_itself = self.vector["config"]["open"]["auto"] == Value::Bool(true)
            || self.vector["profile"] == "gobreaker";
        if by_itself || self.breaker.state() != BreakerState::Open {
            self.breaker.advance(self.now, no_dice);
        }
        let state = match self.breaker.state() {
            BreakerState::ForcedClosed => "disabled",
            other => other.name(),
        };
        match step["state"].as_str() {
            Some(expected) if expected != state => Err(format!("it is {state}")),
            Some(_) | None => Ok(()),
        }
    }
}
