//! `mainstay targets` and `mainstay watch`: the live state of every target.

use std::io::{IsTerminal as _, Write as _};
use std::time::{Duration, SystemTime};

use clap::Args;
use comfy_table::Table;
use comfy_table::presets::UTF8_HORIZONTAL_ONLY;
use serde_json::{Value, json};

use super::connection::Connection;
use super::{Exit, show};
use crate::api::client::{self, OperationsClient};
use crate::api::pb;

/// Show the live state of every target: breaker, cool-down, calls, latency, budget, failures.
#[derive(Debug, Args)]
pub struct TargetsArgs {
    #[command(flatten)]
    service: Connection,
    /// Go on looking, as `mainstay watch` does.
    #[arg(long)]
    watch: bool,
    /// Print JSON: one document, or one a line while looking.
    #[arg(long)]
    json: bool,
}

/// Watch targets live. On a terminal the view refreshes; elsewhere each change is a line.
#[derive(Debug, Args)]
pub struct WatchArgs {
    #[command(flatten)]
    service: Connection,
    /// Print one JSON document a line.
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(args: &TargetsArgs) -> anyhow::Result<Exit> {
    let mut client = client::operations(args.service.open().await?);
    if args.watch {
        return watch_with(client, args.json).await;
    }
    match client.list_targets(pb::ListTargetsRequest {}).await {
        Ok(response) => {
            let targets = response.into_inner().targets;
            if args.json {
                println!("{}", serde_json::to_string_pretty(&all_as_json(&targets))?);
            } else {
                print!("{}", page(&targets, SystemTime::now()));
            }
            Ok(Exit::Done)
        }
        Err(status) => {
            eprint!("{}", show::refusal(&client::refusal(&status)));
            Ok(Exit::Unavailable)
        }
    }
}

pub(super) async fn watch(args: &WatchArgs) -> anyhow::Result<Exit> {
    watch_with(client::operations(args.service.open().await?), args.json).await
}

async fn watch_with(mut client: OperationsClient, json: bool) -> anyhow::Result<Exit> {
    let mut stream = match client.watch_targets(pb::WatchTargetsRequest {}).await {
        Ok(response) => response.into_inner(),
        Err(status) => {
            eprint!("{}", show::refusal(&client::refusal(&status)));
            return Ok(Exit::Unavailable);
        }
    };
    let terminal = std::io::stdout().is_terminal();
    let mut before: Vec<pb::TargetStatus> = Vec::new();
    loop {
        let message = tokio::select! {
            message = stream.message() => message,
            _ = tokio::signal::ctrl_c() => return Ok(Exit::Done),
        };
        let targets = match message {
            Ok(Some(message)) => message.targets,
            Ok(None) => return Ok(Exit::Done),
            Err(status) => {
                eprint!("{}", show::refusal(&client::refusal(&status)));
                return Ok(Exit::Unavailable);
            }
        };
        let text = if json {
            format!("{}\n", all_as_json(&targets))
        } else if terminal {
            // Home, the new page over the old one, and away with what is left of that.
            let page = page(&targets, SystemTime::now()).replace('\n', "\x1b[K\n");
            format!("\x1b[H{}{page}\x1b[J", if before.is_empty() { "\x1b[2J" } else { "" })
        } else {
            changes(&before, &targets).concat()
        };
        // Who reads it may be gone: then there is nobody to show it to.
        let mut out = std::io::stdout().lock();
        if out.write_all(text.as_bytes()).and_then(|()| out.flush()).is_err() {
            return Ok(Exit::Done);
        }
        before = targets;
    }
}

/// What a change of a target stops.
pub(super) fn warn(warnings: &[String]) {
    for warning in warnings {
        eprintln!("warning: {warning}");
    }
}

pub(super) fn state(state: pb::BreakerState) -> String {
    state.as_str_name().trim_start_matches("BREAKER_STATE_").to_ascii_lowercase()
}

/// Time until then, in words; nothing for what is over.
fn left(time: Option<prost_types::Timestamp>, now: SystemTime) -> Option<String> {
    let time = SystemTime::try_from(time?).ok()?;
    let left = time.duration_since(now).ok().filter(|left| !left.is_zero())?;
    prost_types::Duration::try_from(left).ok().map(show::seconds)
}

/// What keeps calls away from a target, or that nothing does.
fn standing(target: &pb::TargetStatus, now: SystemTime) -> String {
    if !target.enabled {
        return format!("disabled: {}", target.disabled_reason);
    }
    let pause = left(target.cool_down_end_time, now);
    if target.quota_exhausted {
        return match pause {
            Some(left) => format!("quota exhausted, {left} left"),
            None => "quota exhausted".to_owned(),
        };
    }
    let mut text = state(target.breaker());
    if let Some(left) = left(target.breaker_reopen_time, now) {
        text.push_str(&format!(", {left} left"));
    }
    if let Some(left) = pause {
        text.push_str(&format!("; cooling down, {left} left"));
    }
    if target.output_breakers_open > 0 {
        text.push_str(&format!("; {} steps elsewhere", target.output_breakers_open));
    }
    text
}

/// The most frequent causes, most frequent first.
fn failures(target: &pb::TargetStatus) -> String {
    let mut causes: Vec<_> = target.failures.iter().collect();
    causes.sort_by_key(|cause| std::cmp::Reverse(cause.count));
    let shown: Vec<String> =
        causes.iter().take(3).map(|cause| format!("{} {}", cause.cause, cause.count)).collect();
    let more = causes.len().saturating_sub(3);
    let more = if more > 0 { format!(", {more} more") } else { String::new() };
    if shown.is_empty() { "none".to_owned() } else { format!("{}{more}", shown.join(", ")) }
}

/// Every target in a table, and the last changes of breakers.
fn page(targets: &[pb::TargetStatus], now: SystemTime) -> String {
    let mut table = Table::new();
    table.load_style(UTF8_HORIZONTAL_ONLY).set_header([
        "target",
        "breaker",
        "in flight",
        "queued",
        "calls",
        "p50",
        "p95",
        "budget",
        "failures",
    ]);
    let time =
        |time: Option<prost_types::Duration>| time.map_or_else(|| "–".to_owned(), show::seconds);
    for target in targets {
        table.add_row([
            target.name.clone(),
            standing(target, now),
            format!("{}/{}", target.in_flight, target.in_flight_max),
            target.queued.to_string(),
            target.calls.to_string(),
            time(target.latency_p50),
            time(target.latency_p95),
            format!("{:.0} %", target.retry_budget_left * 100.0),
            failures(target),
        ]);
    }
    let mut lines: Vec<(SystemTime, String)> = targets
        .iter()
        .flat_map(|target| target.transitions.iter().map(move |change| (target, change)))
        .filter_map(|(target, change)| {
            let at = SystemTime::try_from(change.time?).ok()?;
            Some((at, transition(target, change)))
        })
        .collect();
    lines.sort_by_key(|(at, _)| std::cmp::Reverse(*at));
    let ago = |at: SystemTime| {
        let ago = now.duration_since(at).unwrap_or(Duration::ZERO);
        prost_types::Duration::try_from(ago).map(show::seconds).unwrap_or_default()
    };
    let lines = lines.iter().take(10).map(|(at, line)| format!("{:>8} ago  {line}\n", ago(*at)));
    format!("{table}\n{}", lines.collect::<String>())
}

fn transition(target: &pb::TargetStatus, change: &pb::BreakerTransition) -> String {
    let (from, to) = (state(change.from()), state(change.to()));
    format!("{}: {from} → {to}, {}", target.name, change.reason)
}

/// What has changed, a line each; at first, how every target stands.
fn changes(before: &[pb::TargetStatus], now: &[pb::TargetStatus]) -> Vec<String> {
    let moment = SystemTime::now();
    let mut lines = Vec::new();
    for target in now {
        let Some(earlier) = before.iter().find(|earlier| earlier.name == target.name) else {
            lines.push(format!("{}: {}\n", target.name, standing(target, moment)));
            continue;
        };
        let known = |change: &&pb::BreakerTransition| !earlier.transitions.contains(change);
        // Newest come first; a reader wants them in order. Times differ a little with each look,
        // so the count tells what is new.
        let new = target.transitions.len().saturating_sub(earlier.transitions.len());
        let new =
            if new > 0 { new } else { target.transitions.iter().filter(known).count().min(1) };
        let moved = earlier.breaker != target.breaker;
        for change in target.transitions.iter().take(if moved { new.max(1) } else { 0 }).rev() {
            lines.push(format!("{}\n", transition(target, change)));
        }
        let was = (earlier.enabled, earlier.quota_exhausted, earlier.cool_down_end_time.is_some());
        let is = (target.enabled, target.quota_exhausted, target.cool_down_end_time.is_some());
        if was != is {
            lines.push(format!("{}: {}\n", target.name, standing(target, moment)));
        }
    }
    lines
}

fn all_as_json(targets: &[pb::TargetStatus]) -> Value {
    json!({ "targets": targets.iter().map(as_json).collect::<Vec<_>>() })
}

pub(super) fn as_json(target: &pb::TargetStatus) -> Value {
    let time = |time: Option<prost_types::Timestamp>| time.map(|time| time.to_string());
    let seconds = |time: Option<prost_types::Duration>| {
        time.and_then(|time| Duration::try_from(time).ok()).map(|time| time.as_secs_f64())
    };
    let failures = target.failures.iter().map(|one| (one.cause.clone(), one.count.into()));
    json!({
        "name": target.name,
        "dialect": target.dialect,
        "model": target.model,
        "enabled": target.enabled,
        "disabled_reason": target.disabled_reason,
        "breaker": state(target.breaker()),
        "breaker_reopen_time": time(target.breaker_reopen_time),
        "cool_down_end_time": time(target.cool_down_end_time),
        "quota_exhausted": target.quota_exhausted,
        "output_breakers_open": target.output_breakers_open,
        "in_flight": target.in_flight,
        "in_flight_max": target.in_flight_max,
        "queued": target.queued,
        "calls": target.calls,
        "latency_p50_seconds": seconds(target.latency_p50),
        "latency_p95_seconds": seconds(target.latency_p95),
        "retry_budget_left": target.retry_budget_left,
        "failures": failures.collect::<serde_json::Map<_, _>>(),
        "transitions": target
            .transitions
            .iter()
            .map(|change| json!({
                "time": time(change.time),
                "from": state(change.from()),
                "to": state(change.to()),
                "reason": change.reason,
            }))
            .collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Duration = Duration::from_secs(1_800_000_000);

    fn at(seconds: u64) -> Option<prost_types::Timestamp> {
        Some((SystemTime::UNIX_EPOCH + NOW + Duration::from_secs(seconds)).into())
    }

    fn targets() -> [pb::TargetStatus; 3] {
        let open = pb::TargetStatus {
            name: "primary".into(),
            enabled: true,
            breaker: pb::BreakerState::Open.into(),
            breaker_reopen_time: at(5),
            in_flight: 2,
            in_flight_max: 256,
            calls: 40,
            latency_p50: Some(prost_types::Duration { seconds: 0, nanos: 112_000_000 }),
            retry_budget_left: 0.25,
            failures: [("overloaded", 12), ("connect", 3), ("dns", 1), ("tls", 2)]
                .map(|(cause, count)| pb::CauseCount { cause: cause.into(), count, domain: 0 })
                .to_vec(),
            transitions: vec![pb::BreakerTransition {
                time: at(0),
                from: pb::BreakerState::Closed.into(),
                to: pb::BreakerState::Open.into(),
                reason: "5 consecutive failures".into(),
            }],
            ..pb::TargetStatus::default()
        };
        let disabled = pb::TargetStatus {
            name: "second".into(),
            disabled_reason: "its credential was refused".into(),
            ..pb::TargetStatus::default()
        };
        let quota = pb::TargetStatus {
            name: "third".into(),
            enabled: true,
            quota_exhausted: true,
            cool_down_end_time: at(3_600),
            ..pb::TargetStatus::default()
        };
        [open, disabled, quota]
    }

    #[test]
    fn a_page_tells_how_every_target_stands() {
        insta::assert_snapshot!(page(&targets(), SystemTime::UNIX_EPOCH + NOW));
    }

    #[test]
    fn lines_tell_what_has_changed() {
        let after = targets();
        let mut before = targets();
        before[0].breaker = pb::BreakerState::Closed.into();
        before[0].transitions.clear();
        before[1].enabled = true;
        assert_eq!(
            changes(&before, &after),
            [
                "primary: closed → open, 5 consecutive failures\n",
                "second: disabled: its credential was refused\n"
            ]
        );
        assert!(changes(&after, &after).is_empty());
        assert_eq!(changes(&[], &after).len(), 3);
    }
}
