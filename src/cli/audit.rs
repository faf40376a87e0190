//! `mainstay audit`

use clap::Args;
use comfy_table::{Table, presets};
use serde_json::json;

use super::connection::Connection;
use super::{Exit, show};
use crate::api::client;
use crate::api::pb;

/// Show who changed what in a running service, newest first.
#[derive(Debug, Args)]
pub struct AuditArgs {
    /// Only changes of this, `policy/default` for example.
    document: Option<String>,
    /// Only changes by this actor.
    #[arg(long)]
    actor: Option<String>,
    /// Most entries.
    #[arg(long, short = 'n', default_value_t = 50)]
    most: u16,
    #[command(flatten)]
    connection: Connection,
    /// One JSON object a line.
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(args: AuditArgs) -> anyhow::Result<Exit> {
    let mut client = client::operations(args.connection.open().await?);
    let mut entries: Vec<pb::AuditEntry> = Vec::new();
    let mut page_token = String::new();
    loop {
        let left = usize::from(args.most).saturating_sub(entries.len());
        if left == 0 {
            break;
        }
        let request = pb::ListAuditEntriesRequest {
            page_size: i32::try_from(left).unwrap_or(i32::MAX),
            page_token: std::mem::take(&mut page_token),
            document: args.document.clone().unwrap_or_default(),
            actor: args.actor.clone().unwrap_or_default(),
        };
        match client.list_audit_entries(request).await {
            Ok(response) => {
                let page = response.into_inner();
                entries.extend(page.entries);
                page_token = page.next_page_token;
            }
            Err(status) => {
                let refusal = client::refusal(&status);
                eprint!("{}", show::refusal(&refusal));
                return Ok(Exit::of(&refusal));
            }
        }
        if page_token.is_empty() {
            break;
        }
    }
    print(&entries, args.json);
    Ok(Exit::Done)
}

fn print(entries: &[pb::AuditEntry], as_json: bool) {
    if as_json {
        for entry in entries {
            println!("{}", line(entry));
        }
        return;
    }
    let mut table = Table::new();
    table
        .load_style(presets::NOTHING)
        .set_header(["time", "actor", "action", "document", "versions", "comment"]);
    for entry in entries {
        table.add_row([
            time(entry),
            entry.actor.clone(),
            entry.action.clone(),
            entry.document.clone(),
            versions(entry),
            entry.comment.clone(),
        ]);
    }
    println!("{table}");
}

fn time(entry: &pb::AuditEntry) -> String {
    let time = entry.time.unwrap_or_default();
    jiff::Timestamp::new(time.seconds, 0).unwrap_or_default().to_string()
}

fn versions(entry: &pb::AuditEntry) -> String {
    match (entry.from_version, entry.to_version) {
        (0, 0) => String::new(),
        (0, to) => format!("→ {to}"),
        (from, 0) => format!("{from} →"),
        (from, to) => format!("{from} → {to}"),
    }
}

fn line(entry: &pb::AuditEntry) -> serde_json::Value {
    json!({
        "number": entry.number,
        "time": time(entry),
        "actor": entry.actor,
        "action": entry.action,
        "document": entry.document,
        "from_version": entry.from_version,
        "to_version": entry.to_version,
        "comment": entry.comment,
    })
}
