//! `mainstay target`: an operator takes a target out of service, or gives it back.

use clap::{Args, ValueEnum};

use super::connection::Connection;
use super::{Exit, show, targets};
use crate::api::client;
use crate::api::pb;

/// Take a target out of service, or give it back. Counts from the next attempt on.
#[derive(Debug, Args)]
pub struct TargetArgs {
    /// Target.
    target: String,
    /// What becomes of it.
    #[arg(value_enum)]
    to: To,
    /// Why, for the record.
    #[arg(long, default_value = "")]
    reason: String,
    #[command(flatten)]
    service: Connection,
    /// Print the target as JSON.
    #[arg(long)]
    json: bool,
}

/// What can become of a target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum To {
    /// It is called again; a cool-down or a used-up quota is over with it.
    Enable,
    /// It gets no calls.
    Disable,
}

pub(super) async fn run(args: &TargetArgs) -> anyhow::Result<Exit> {
    let mut client = client::operations(args.service.open().await?);
    let request = pb::SetTargetRequest {
        name: args.target.clone(),
        enabled: args.to == To::Enable,
        reason: args.reason.clone(),
    };
    match client.set_target(request).await {
        Ok(response) => {
            let response = response.into_inner();
            targets::warn(&response.warnings);
            let target = response.target.unwrap_or_default();
            if args.json {
                println!("{}", serde_json::to_string_pretty(&targets::as_json(&target))?);
            } else if target.enabled {
                println!("{}: enabled", target.name);
            } else {
                println!("{}: disabled: {}", target.name, target.disabled_reason);
            }
            Ok(Exit::Done)
        }
        Err(status) => {
            eprint!("{}", show::refusal(&client::refusal(&status)));
            Ok(Exit::Wrong)
        }
    }
}
