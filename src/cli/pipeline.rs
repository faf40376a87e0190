//! `mainstay pipeline`: pipelines as documents of the control plane.

mod diff;

use clap::{Args, Subcommand};
use serde_json::json;

use super::Exit;
use super::policy::{
    self, Delete, Get, Kind, List, Rollback, Status, Storing, Validate, Versions, json as wire,
    words,
};
use crate::api::client;
use crate::api::pb;

/// Check, put and roll back pipelines.
#[derive(Debug, Args)]
#[command(after_help = "Exit codes: 0 done, 1 refused, 2 wrong usage, 3 nobody answers.")]
pub struct PipelineArgs {
    #[command(subcommand)]
    command: PipelineCommand,
}

#[derive(Debug, Subcommand)]
enum PipelineCommand {
    /// Check files, with the place of every mistake.
    Validate(Validate),
    /// Store a pipeline and put it in force.
    Put(Put),
    /// Print the text of a pipeline.
    Get(Get),
    /// List pipelines with the versions that serve.
    List(List),
    /// Show what serves and what was refused.
    Status(Status),
    /// List the versions of a pipeline.
    Versions(Versions),
    /// Tell which members of two pipelines differ.
    Diff(diff::Diff),
    /// Put the content of an old version in force again.
    Rollback(Rollback),
    /// Take a pipeline out of service. Runs under way keep it to their end.
    Delete(Delete),
    /// Print the JSON Schema of pipelines, for editors.
    Schema,
}

pub(super) async fn run(args: PipelineArgs) -> anyhow::Result<Exit> {
    match args.command {
        PipelineCommand::Validate(args) => args.run(Kind::Pipeline).await,
        PipelineCommand::Put(args) => args.run().await,
        PipelineCommand::Get(args) => args.run(Kind::Pipeline).await,
        PipelineCommand::List(args) => args.run(Kind::Pipeline).await,
        PipelineCommand::Status(args) => args.run(Kind::Pipeline).await,
        PipelineCommand::Versions(args) => args.run(Kind::Pipeline).await,
        PipelineCommand::Diff(args) => args.run().await,
        PipelineCommand::Rollback(args) => args.run(Kind::Pipeline, false).await,
        PipelineCommand::Delete(args) => args.run(Kind::Pipeline).await,
        PipelineCommand::Schema => policy::schema(crate::pipeline::SHAPE.schema()),
    }
}

/// Store a pipeline and put it in force.
#[derive(Debug, Args)]
struct Put {
    #[command(flatten)]
    storing: Storing,
}

impl Put {
    async fn run(self) -> anyhow::Result<Exit> {
        let (name, text) = match self.storing.read(Kind::Pipeline) {
            Ok(read) => read,
            Err(error) => return policy::wrong(&error),
        };
        let Storing { expect, dry_run, comment, asking, .. } = self.storing;
        let request = pb::PutPipelineRequest {
            name,
            text: text.text,
            expected_version: expect,
            dry_run,
            comment,
        };
        let mut client = asking.client().await?;
        match client::call(client.put_pipeline(client::bounded(request))).await {
            Ok(response) => {
                eprint!("{}", words::problems(&text.origin, &response.warnings));
                let version = response.version.unwrap_or_default();
                let said = if dry_run {
                    format!("{}: fine; nothing was stored\n", version.name)
                } else {
                    format!("{}: version {} is in force\n", version.name, version.version)
                };
                let value = || {
                    json!({
                        "version": wire::version(&version),
                        "dry_run": dry_run,
                        "warnings": wire::problems(&response.warnings),
                    })
                };
                policy::print(asking.json, value, &said);
                Ok(Exit::Done)
            }
            Err(refusal) => Ok(policy::refused_text(asking.json, &text.origin, &refusal)),
        }
    }
}
