//! Wire messages of the control plane for people: words, and tables of them.

use comfy_table::presets::{NOTHING, UTF8_HORIZONTAL_ONLY};
use comfy_table::{ContentArrangement, Table, TableStyle};

use crate::api::pb;
use crate::document::{DurationText, printable};
use crate::failure::FailureCause;

/// A table without a frame, which takes as much room as its words need.
pub(in crate::cli) fn table(
    header: &[&str],
    rows: impl IntoIterator<Item = Vec<String>>,
) -> String {
    styled(NOTHING, header, rows)
}

/// A table whose rows may have several lines.
pub(in crate::cli) fn lined_table(
    header: &[&str],
    rows: impl IntoIterator<Item = Vec<String>>,
) -> String {
    styled(UTF8_HORIZONTAL_ONLY, header, rows)
}

/// Words that say how something went, with their colours: green, red, yellow.
const COLOURS: &[(&str, u8)] = &[
    ("serves", 32),
    ("feasible", 32),
    ("valid:", 32),
    ("promoted", 32),
    ("refused", 31),
    ("refused:", 31),
    ("rolled", 31),
    ("error:", 31),
    ("warning:", 33),
    ("unknown", 33),
    ("active", 33),
];

/// The text with these words in their colours. Widths were settled before.
pub(in crate::cli) fn coloured(text: &str) -> String {
    let paint = |word: &str| {
        let bare = word.trim_end_matches([' ', '\n', ',']);
        match COLOURS.iter().find(|(known, _)| *known == bare) {
            Some((_, colour)) => format!("\u{1b}[{colour}m{bare}\u{1b}[0m{}", &word[bare.len()..]),
            None => word.to_owned(),
        }
    };
    text.split_inclusive([' ', '\n']).map(paint).collect()
}

fn styled(
    style: TableStyle,
    header: &[&str],
    rows: impl IntoIterator<Item = Vec<String>>,
) -> String {
    let mut table = Table::new();
    table.load_style(style);
    table.set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(header.to_vec());
    for row in rows {
        // Lines of a cell are its own; whatever else is not seen came from a document or a caller.
        let cell = |text: String| text.split('\n').map(printable).collect::<Vec<_>>().join("\n");
        table.add_row(row.into_iter().map(cell).collect::<Vec<_>>());
    }
    format!("{}\n", table.trim_fmt())
}

pub(in crate::cli) fn owner(owner: pb::DocumentOwner) -> &'static str {
    match owner {
        pb::DocumentOwner::Unspecified => "-",
        pb::DocumentOwner::File => "file",
        pb::DocumentOwner::Api => "api",
        pb::DocumentOwner::BuiltIn => "built in",
    }
}

pub(in crate::cli) fn severity(severity: pb::Severity) -> &'static str {
    match severity {
        pb::Severity::Warning => "warning",
        pb::Severity::Error | pb::Severity::Unspecified => "error",
    }
}

pub(in crate::cli) fn rollout_state(state: pb::RolloutState) -> &'static str {
    match state {
        pb::RolloutState::Unspecified => "none",
        pb::RolloutState::Active => "active",
        pb::RolloutState::Promoted => "promoted",
        pb::RolloutState::RolledBack => "rolled back",
    }
}

/// Enough of a hash to tell versions apart.
pub(in crate::cli) fn short_hash(hash: &str) -> String {
    hash.chars().take(12).collect()
}

/// A time to the second, in UTC.
pub(in crate::cli) fn time(time: Option<prost_types::Timestamp>) -> String {
    let stamp = time.and_then(|time| jiff::Timestamp::new(time.seconds, 0).ok());
    stamp.map_or_else(|| "-".to_owned(), |stamp| stamp.to_string())
}

/// The action, or what no action means.
pub(in crate::cli) fn action(action: pb::RecoveryAction) -> String {
    match action {
        pb::RecoveryAction::Unspecified => "nothing feasible".to_owned(),
        other => crate::cli::show::action(other),
    }
}

/// Problems, one a line, as compilers print them.
pub(in crate::cli) fn problems(origin: &str, problems: &[pb::Problem]) -> String {
    let line = |problem: &pb::Problem| {
        let path =
            if problem.path.is_empty() { String::new() } else { format!("{}: ", problem.path) };
        let advice = match problem.suggestion.as_str() {
            "" => String::new(),
            advice => format!(" ({advice})"),
        };
        format!(
            "{origin}:{}:{}: {}: {path}{}{advice}\n",
            problem.line,
            problem.column,
            severity(problem.severity()),
            printable(&problem.message)
        )
    };
    problems.iter().map(line).collect()
}

/// How routes change: those that change in the same way together.
pub(in crate::cli) fn changes(
    changes: &[pb::RouteChange],
    left_out: u32,
    settings: &[String],
) -> String {
    let mut rows: Vec<(String, Vec<String>, String, String)> = Vec::new();
    for change in changes {
        let Some(route) = change.after.as_ref().or(change.before.as_ref()) else { continue };
        let domain = crate::cli::show::domain(route.domain()).to_owned();
        let target = if route.target.is_empty() { "any".to_owned() } else { route.target.clone() };
        let key = (&domain, &target, &change.summary);
        let known = rows.iter_mut().find(|row| (&row.0, &row.2, &row.3) == key);
        match known {
            Some(row) => row.1.push(route.cause.clone()),
            None => rows.push((domain, vec![route.cause.clone()], target, change.summary.clone())),
        }
    }
    let mut text = String::new();
    if !rows.is_empty() {
        let rows = rows.into_iter().map(|(domain, causes, target, summary)| {
            let causes =
                if is_whole(&domain, &causes) { "all".to_owned() } else { causes.join(", ") };
            vec![domain, causes, target, summary]
        });
        text.push_str(&table(&["domain", "causes", "target", "change"], rows));
    }
    if left_out > 0 {
        text.push_str(&format!("and {left_out} changes more\n"));
    }
    for setting in settings {
        text.push_str(setting);
        text.push('\n');
    }
    text
}

/// Whether these are all causes of the domain.
fn is_whole(domain: &str, causes: &[String]) -> bool {
    let mut own = FailureCause::ALL.iter().filter(|cause| cause.domain().name() == domain);
    own.all(|cause| causes.iter().any(|one| one == cause.name()))
}

/// Versions, with a mark at the one that serves.
pub(in crate::cli) fn versions(versions: &[pb::DocumentVersion], active: u64) -> String {
    let rows = versions.iter().map(|version| {
        let mark = if version.version == active { "serves" } else { "" };
        let comment = match version.rollback_of {
            0 => version.comment.clone(),
            of => format!("[content of version {of}] {}", version.comment),
        };
        vec![
            version.version.to_string(),
            mark.to_owned(),
            owner(version.owner()).to_owned(),
            version.author.clone(),
            time(version.create_time),
            short_hash(&version.content_hash),
            printable(comment.trim_end()).into_owned(),
        ]
    });
    table(&["version", "", "owner", "author", "stored", "hash", "comment"], rows)
}

/// One line about a document, and more where there is more to say.
pub(in crate::cli) fn status(name: &str, status: &pb::DocumentStatus) -> String {
    let mut text = match &status.active {
        Some(active) => format!(
            "{name}: version {} serves, of {}, hash {}, stored {} by {}\n",
            active.version,
            owner(active.owner()),
            short_hash(&active.content_hash),
            time(active.create_time),
            printable(&active.author)
        ),
        None if status.last_rejection.is_none() => format!("{name}: gone\n"),
        None => format!("{name}: no version serves\n"),
    };
    if let Some(rejection) = &status.last_rejection {
        text.push_str(&format!(
            "  refused {} from {} (hash {}):\n",
            time(rejection.time),
            owner(rejection.owner()),
            short_hash(&rejection.content_hash)
        ));
        text.push_str(&problems("    ", &rejection.problems).replace("    :", "    "));
    }
    if let Some(rollout) = &status.rollout {
        text.push_str(&rollout_text(rollout));
    }
    text
}

/// `10 %`
pub(in crate::cli) fn percent(share: f64) -> String {
    // Two digits after the point are enough for any share that somebody would ask for.
    match (share * 10_000.0).round() / 100.0 {
        0.0 if share > 0.0 => "under 0.01 %".to_owned(),
        percent => format!("{percent} %"),
    }
}

/// When a rollout ends by itself, one line.
pub(in crate::cli) fn guards(guards: Option<&pb::RolloutGuards>) -> String {
    let Some(guards) = guards else { return String::new() };
    let ratio = |limit: Option<f64>| limit.map(|limit| format!("{} more", percent(limit)));
    let points = |limit: Option<f64>| limit.map(|limit| format!("{limit} points more"));
    let conditions = [
        ("failed", points(guards.failed_share_max_increase)),
        ("degraded", points(guards.degraded_share_max_increase)),
        ("cost a run", ratio(guards.cost_max_increase)),
        ("p95", ratio(guards.latency_p95_max_increase)),
    ];
    let limits: Vec<String> = conditions
        .into_iter()
        .filter_map(|(what, limit)| limit.map(|limit| format!("{what} {limit}")))
        .collect();
    let taken_back = if limits.is_empty() {
        "taken back by hand only".to_owned()
    } else {
        format!("taken back at {}", limits.join(", or "))
    };
    let promoted = guards.promote_after.map_or_else(
        || "promoted by hand only".to_owned(),
        |after| {
            let after = DurationText(after.try_into().unwrap_or_default());
            format!("promoted after {after}")
        },
    );
    format!("  {taken_back}; {promoted}; judged from {} runs on each\n", guards.sample_min)
}

/// A rollout with the figures of both versions.
pub(in crate::cli) fn rollout_text(rollout: &pb::Rollout) -> String {
    let mut text = format!(
        "  rollout of version {} at {}: {}, since {}",
        rollout.version,
        percent(rollout.share),
        rollout_state(rollout.state()),
        time(rollout.start_time)
    );
    if !rollout.reason.is_empty() {
        text.push_str(&format!(": {}", printable(&rollout.reason)));
    }
    text.push('\n');
    if rollout.state() == pb::RolloutState::Active {
        text.push_str(&guards(rollout.guards.as_ref()));
    }
    if rollout.figures.is_empty() {
        return text;
    }
    let rows = rollout.figures.iter().map(|figures| {
        let latency = figures.latency_p95.map(crate::cli::show::seconds);
        vec![
            figures.version.to_string(),
            figures.runs.to_string(),
            format!("{:.1} %", figures.failed_share * 100.0),
            format!("{:.1} %", figures.degraded_share * 100.0),
            format!("${:.6}", figures.cost_usd_per_run),
            latency.unwrap_or_else(|| "-".to_owned()),
        ]
    });
    text.push_str(&table(&["version", "runs", "failed", "degraded", "cost a run", "p95"], rows));
    text
}

#[cfg(test)]
mod tests;
