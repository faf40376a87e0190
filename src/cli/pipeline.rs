//! `mainstay pipeline`: pipelines as documents of the control plane.

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::Exit;
use super::policy::{self, Asking, Deleted, Kind, Text, Validate, json as wire, words};
use crate::api::client::{self, PolicyClient, Refusal};
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
    /// Put the content of an old version in force again.
    Rollback(Rollback),
    /// Take a pipeline out of service. Runs under way keep it to their end.
    Delete(Deleted),
    /// Print the JSON Schema of pipelines, for editors.
    Schema,
}

pub(super) async fn run(args: PipelineArgs) -> anyhow::Result<Exit> {
    match args.command {
        PipelineCommand::Validate(args) => args.run(Kind::Pipeline).await,
        PipelineCommand::Put(args) => args.run().await,
        PipelineCommand::Get(args) => args.run().await,
        PipelineCommand::List(args) => args.run().await,
        PipelineCommand::Status(args) => args.run().await,
        PipelineCommand::Versions(args) => args.run().await,
        PipelineCommand::Rollback(args) => args.run().await,
        PipelineCommand::Delete(args) => delete(args).await,
        PipelineCommand::Schema => policy::schema(crate::pipeline::SHAPE.schema()),
    }
}

/// Store a pipeline and put it in force.
#[derive(Debug, Args)]
struct Put {
    /// File; `-` is standard input.
    file: String,
    /// Name of the pipeline; the file's if absent.
    #[arg(long)]
    name: Option<String>,
    /// The version that this one is based on: refused if another serves. 0 for a new pipeline.
    #[arg(long, value_name = "VERSION")]
    expect: Option<u64>,
    /// Check everything and store nothing.
    #[arg(long)]
    dry_run: bool,
    /// Why, for the record.
    #[arg(long, short = 'm', value_name = "TEXT", default_value = "")]
    comment: String,
    #[command(flatten)]
    asking: Asking,
}

impl Put {
    async fn run(self) -> anyhow::Result<Exit> {
        let named = Text::read(&self.file).and_then(|text| {
            let name = self.name.clone().or_else(|| text.stem.clone());
            Ok((name.ok_or_else(|| anyhow::anyhow!("give the pipeline a --name"))?, text))
        });
        let (name, text) = match named {
            Ok(named) => named,
            Err(error) => return policy::wrong(&error),
        };
        let request = pb::PutPipelineRequest {
            name,
            text: text.text,
            expected_version: self.expect,
            dry_run: self.dry_run,
            comment: self.comment,
        };
        let mut client = self.asking.client().await?;
        match client::call(client.put_pipeline(client::bounded(request))).await {
            Ok(response) => {
                eprint!("{}", words::problems(&text.origin, &response.warnings));
                let version = response.version.unwrap_or_default();
                let said = if self.dry_run {
                    format!("{}: fine; nothing was stored\n", version.name)
                } else {
                    format!("{}: version {} is in force\n", version.name, version.version)
                };
                let value = || {
                    json!({
                        "version": wire::version(&version),
                        "dry_run": self.dry_run,
                        "warnings": wire::problems(&response.warnings),
                    })
                };
                policy::print(self.asking.json, value, &said);
                Ok(Exit::Done)
            }
            Err(refusal) => Ok(policy::refused_text(&text.origin, &refusal)),
        }
    }
}

/// Print the text of a pipeline.
#[derive(Debug, Args)]
#[command(disable_version_flag = true)]
struct Get {
    /// Name.
    name: String,
    /// Version; the one that serves if absent.
    #[arg(long, default_value_t = 0, hide_default_value = true)]
    version: u64,
    #[command(flatten)]
    asking: Asking,
}

impl Get {
    async fn run(self) -> anyhow::Result<Exit> {
        let mut client = self.asking.client().await?;
        match get(&mut client, self.name, self.version).await {
            Ok(status) => {
                policy::print(self.asking.json, || wire::status(&status), &status.text);
                Ok(Exit::Done)
            }
            Err(refusal) => Ok(policy::refused(&refusal)),
        }
    }
}

async fn get(
    client: &mut PolicyClient,
    name: String,
    version: u64,
) -> Result<pb::DocumentStatus, Box<Refusal>> {
    let request = client::bounded(pb::GetPipelineRequest { name, version });
    let response = client::call(client.get_pipeline(request)).await?;
    Ok(response.status.unwrap_or_default())
}

/// List pipelines with the versions that serve.
#[derive(Debug, Args)]
struct List {
    #[command(flatten)]
    asking: Asking,
}

impl List {
    async fn run(self) -> anyhow::Result<Exit> {
        let mut client = self.asking.client().await?;
        let found = match all(&mut client).await {
            Ok(found) => found,
            Err(refusal) => return Ok(policy::refused(&refusal)),
        };
        let rows = found.iter().map(|version| {
            vec![
                version.name.clone(),
                version.version.to_string(),
                words::owner(version.owner()).to_owned(),
                words::time(version.create_time),
                words::short_hash(&version.content_hash),
            ]
        });
        let table = words::table(&["pipeline", "version", "owner", "stored", "hash"], rows);
        let value = || found.iter().map(wire::version).collect::<Value>();
        policy::print(self.asking.json, value, &table);
        Ok(Exit::Done)
    }
}

/// Every pipeline with the version that serves.
async fn all(client: &mut PolicyClient) -> Result<Vec<pb::DocumentVersion>, Box<Refusal>> {
    let (mut found, mut page_token) = (Vec::new(), String::new());
    loop {
        let request = pb::ListPipelinesRequest { page_size: 1_000, page_token };
        let page = client::call(client.list_pipelines(client::bounded(request))).await?;
        found.extend(page.pipelines);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return Ok(found);
        }
    }
}

/// Show what serves and what was refused last. Exit code 1 if something was refused after what
/// serves was stored.
#[derive(Debug, Args)]
struct Status {
    /// Names; all if absent.
    names: Vec<String>,
    #[command(flatten)]
    asking: Asking,
}

impl Status {
    async fn run(self) -> anyhow::Result<Exit> {
        let mut client = self.asking.client().await?;
        match self.found(&mut client).await {
            Ok(found) => {
                let of = |status: &pb::DocumentStatus| json!({"name": status.name, "status": wire::status(status)});
                let text: String =
                    found.iter().map(|status| words::status(&status.name, status)).collect();
                policy::print(self.asking.json, || found.iter().map(of).collect(), &text);
                let rejected = found.iter().any(|status| status.last_rejection.is_some());
                Ok(if rejected { Exit::Failed } else { Exit::Done })
            }
            Err(refusal) => Ok(policy::refused(&refusal)),
        }
    }

    async fn found(
        &self,
        client: &mut PolicyClient,
    ) -> Result<Vec<pb::DocumentStatus>, Box<Refusal>> {
        let names = if self.names.is_empty() {
            all(client).await?.into_iter().map(|version| version.name).collect()
        } else {
            self.names.clone()
        };
        let mut found = Vec::with_capacity(names.len());
        for name in names {
            found.push(get(client, name, 0).await?);
        }
        Ok(found)
    }
}

/// List the versions of a pipeline, newest first.
#[derive(Debug, Args)]
struct Versions {
    /// Name.
    name: String,
    /// Most to list.
    #[arg(long, value_name = "COUNT", default_value_t = 50)]
    most: i32,
    #[command(flatten)]
    asking: Asking,
}

impl Versions {
    async fn run(self) -> anyhow::Result<Exit> {
        let mut client = self.asking.client().await?;
        let active = match get(&mut client, self.name.clone(), 0).await {
            Ok(status) => status.active.map_or(0, |active| active.version),
            Err(refusal) => return Ok(policy::refused(&refusal)),
        };
        let request = pb::ListPipelineVersionsRequest {
            name: self.name,
            page_size: self.most,
            page_token: String::new(),
        };
        match client::call(client.list_pipeline_versions(client::bounded(request))).await {
            Ok(response) => {
                let value = || {
                    let versions: Vec<Value> =
                        response.versions.iter().map(wire::version).collect();
                    json!({"active": active, "versions": versions})
                };
                let table = words::versions(&response.versions, active);
                policy::print(self.asking.json, value, &table);
                Ok(Exit::Done)
            }
            Err(refusal) => Ok(policy::refused(&refusal)),
        }
    }
}

/// Put the content of an old version in force again, as a new version.
#[derive(Debug, Args)]
struct Rollback {
    /// Name of the pipeline.
    name: String,
    /// The version whose content is to serve again.
    #[arg(long, value_name = "VERSION")]
    to: u64,
    /// The version that serves now: refused if another does.
    #[arg(long, value_name = "VERSION")]
    expect: Option<u64>,
    /// Why, for the record.
    #[arg(long, short = 'm', value_name = "TEXT", default_value = "")]
    comment: String,
    #[command(flatten)]
    asking: Asking,
}

impl Rollback {
    async fn run(self) -> anyhow::Result<Exit> {
        let request = pb::RollbackPipelineRequest {
            name: self.name,
            version: self.to,
            expected_version: self.expect,
            comment: self.comment,
        };
        let mut client = self.asking.client().await?;
        match client::call(client.rollback_pipeline(client::bounded(request))).await {
            Ok(response) => {
                let version = response.version.unwrap_or_default();
                let said = format!(
                    "{}: version {} is in force, with the content of version {}\n",
                    version.name, version.version, version.rollback_of
                );
                policy::print(self.asking.json, || wire::version(&version), &said);
                Ok(Exit::Done)
            }
            Err(refusal) => Ok(policy::refused(&refusal)),
        }
    }
}

async fn delete(args: Deleted) -> anyhow::Result<Exit> {
    let Deleted { name, expect, comment, asking } = args;
    let request = pb::DeletePipelineRequest { name, expected_version: expect, comment };
    let mut client = asking.client().await?;
    let deleted = client::call(client.delete_pipeline(client::bounded(request))).await;
    Ok(policy::told_deleted(deleted.map(|response| response.version), asking.json))
}
