//! `mainstay policy watch`

use std::io::Write as _;

use clap::Args;
use serde_json::json;

use super::{Asking, json as wire, refused, words};
use crate::api::{client, pb};
use crate::cli::Exit;

/// Show policies as they are, then every change, until interrupted.
#[derive(Debug, Args)]
pub(super) struct Watch {
    /// Names; all if absent.
    names: Vec<String>,
    /// End after this many messages.
    #[arg(long, value_name = "COUNT")]
    count: Option<u64>,
    #[command(flatten)]
    asking: Asking,
}

impl Watch {
    pub(super) async fn run(self) -> anyhow::Result<Exit> {
        let mut client = self.asking.client().await?;
        let request = pb::WatchPoliciesRequest { names: self.names };
        let mut stream = match client::call(client.watch_policies(request)).await {
            Ok(stream) => stream,
            Err(refusal) => return Ok(refused(self.asking.json, &refusal)),
        };
        let mut seen = 0;
        while self.count.is_none_or(|most| seen < most) {
            match stream.message().await {
                Ok(Some(message)) => show(&message, self.asking.json)?,
                Ok(None) => return Ok(Exit::Done),
                Err(status) => return Ok(refused(self.asking.json, &client::refusal(&status))),
            }
            seen += 1;
        }
        Ok(Exit::Done)
    }
}

fn show(message: &pb::WatchPoliciesResponse, as_json: bool) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    for status in &message.policies {
        let name = status.name.as_str();
        if as_json {
            writeln!(out, "{}", json!({"name": name, "status": wire::status(status)}))?;
        } else {
            write!(out, "{}", words::status(name, status))?;
        }
    }
    out.flush()
}
