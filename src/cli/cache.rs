//! `mainstay cache`

use clap::{Args, Subcommand};

use super::connection::Connection;
use super::{Exit, show};
use crate::api::client;
use crate::api::pb::InvalidateCacheRequest;

/// Look after the outputs that a service keeps.
#[derive(Debug, Args)]
pub struct CacheArgs {
    #[command(subcommand)]
    command: CacheCommand,
}

#[derive(Debug, Subcommand)]
enum CacheCommand {
    /// Forget outputs: of a pipeline, of a step, or all of them.
    Invalidate(InvalidateArgs),
}

#[derive(Debug, Args)]
struct InvalidateArgs {
    /// Only outputs of this pipeline.
    #[arg(long)]
    pipeline: Option<String>,
    /// Only outputs of this step.
    #[arg(long)]
    step: Option<String>,
    #[command(flatten)]
    service: Connection,
}

pub(super) async fn run(args: CacheArgs) -> anyhow::Result<Exit> {
    let CacheCommand::Invalidate(args) = args.command;
    let mut service = client::operations(args.service.open().await?);
    let request = InvalidateCacheRequest {
        pipeline: args.pipeline.unwrap_or_default(),
        step: args.step.unwrap_or_default(),
    };
    match service.invalidate_cache(request).await {
        Ok(response) => {
            let response = response.into_inner();
            match response.dropped_durable {
                0 => println!("{} outputs forgotten", response.dropped),
                durable => {
                    println!("{} outputs forgotten, {durable} on the disk", response.dropped);
                }
            }
            Ok(Exit::Done)
        }
        Err(status) => {
            eprint!("{}", show::refusal(&client::refusal(&status)));
            Ok(Exit::Failed)
        }
    }
}
