//! `get`, `list`, `versions` and `status` of policies and pipelines.

use clap::Args;
use serde_json::{Value, json};

use super::{Asking, Kind, json as wire, refused, words};
use crate::api::client::{PolicyClient, Refusal};
use crate::api::pb;
use crate::cli::Exit;

/// Print the text of a document.
#[derive(Debug, Args)]
#[command(disable_version_flag = true)]
pub(in crate::cli) struct Get {
    /// Name.
    name: String,
    /// Version; the one that serves if absent.
    #[arg(long, default_value_t = 0, hide_default_value = true)]
    version: u64,
    #[command(flatten)]
    asking: Asking,
}

impl Get {
    pub(in crate::cli) async fn run(self, kind: Kind) -> anyhow::Result<Exit> {
        let mut client = self.asking.client().await?;
        match kind.get(&mut client, self.name, self.version).await {
            Ok(status) => {
                super::print(self.asking.json, || wire::status(&status), &status.text);
                Ok(Exit::Done)
            }
            Err(refusal) => Ok(refused(self.asking.json, &refusal)),
        }
    }
}

/// List documents with the versions that serve.
#[derive(Debug, Args)]
pub(in crate::cli) struct List {
    #[command(flatten)]
    asking: Asking,
}

impl List {
    pub(in crate::cli) async fn run(self, kind: Kind) -> anyhow::Result<Exit> {
        let mut client = self.asking.client().await?;
        let found = match kind.all(&mut client).await {
            Ok(found) => found,
            Err(refusal) => return Ok(refused(self.asking.json, &refusal)),
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
        let table = words::table(&[kind.word(), "version", "owner", "stored", "hash"], rows);
        let value = || found.iter().map(wire::version).collect::<Value>();
        super::print(self.asking.json, value, &table);
        Ok(Exit::Done)
    }
}

/// List the versions of a document, newest first.
#[derive(Debug, Args)]
pub(in crate::cli) struct Versions {
    /// Name.
    name: String,
    /// Most to list.
    #[arg(long, value_name = "COUNT", default_value_t = 50)]
    most: i32,
    #[command(flatten)]
    asking: Asking,
}

impl Versions {
    pub(in crate::cli) async fn run(self, kind: Kind) -> anyhow::Result<Exit> {
        let mut client = self.asking.client().await?;
        let active = match kind.get(&mut client, self.name.clone(), 0).await {
            Ok(status) => status.active.map_or(0, |active| active.version),
            Err(refusal) => return Ok(refused(self.asking.json, &refusal)),
        };
        match kind.versions(&mut client, self.name, self.most).await {
            Ok(versions) => {
                let value = || {
                    let versions: Vec<Value> = versions.iter().map(wire::version).collect();
                    json!({"active": active, "versions": versions})
                };
                super::print(self.asking.json, value, &words::versions(&versions, active));
                Ok(Exit::Done)
            }
            Err(refusal) => Ok(refused(self.asking.json, &refusal)),
        }
    }
}

/// Show what serves, what was refused last and how a rollout goes. Exit code 1 if something was
/// refused after what serves was stored.
#[derive(Debug, Args)]
pub(in crate::cli) struct Status {
    /// Names; all if absent.
    names: Vec<String>,
    #[command(flatten)]
    asking: Asking,
}

impl Status {
    pub(in crate::cli) async fn run(self, kind: Kind) -> anyhow::Result<Exit> {
        let mut client = self.asking.client().await?;
        match found(kind, &mut client, self.names).await {
            Ok(found) => {
                let value = || {
                    let of = |(name, status): &(String, pb::DocumentStatus)| json!({"name": name, "status": wire::status(status)});
                    found.iter().map(of).collect()
                };
                let text: String =
                    found.iter().map(|(name, status)| words::status(name, status)).collect();
                super::print(self.asking.json, value, &text);
                let rejected = found.iter().any(|(_, status)| status.last_rejection.is_some());
                Ok(if rejected { Exit::Failed } else { Exit::Done })
            }
            Err(refusal) => Ok(refused(self.asking.json, &refusal)),
        }
    }
}

async fn found(
    kind: Kind,
    client: &mut PolicyClient,
    mut names: Vec<String>,
) -> Result<Vec<(String, pb::DocumentStatus)>, Box<Refusal>> {
    if names.is_empty() {
        names = kind.all(client).await?.into_iter().map(|version| version.name).collect();
    }
    let mut found = Vec::with_capacity(names.len());
    for name in names {
        let status = kind.get(client, name.clone(), 0).await?;
        found.push((name, status));
    }
    Ok(found)
}
