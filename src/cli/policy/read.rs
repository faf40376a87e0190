//! `mainstay policy get`, `versions` and `status`

use clap::Args;
use serde_json::{Value, json};

use super::{Asking, json as wire, refused, words};
use crate::api::client::{self, PolicyClient, Refusal};
use crate::api::pb;
use crate::cli::Exit;

/// Print the text of a policy.
#[derive(Debug, Args)]
#[command(disable_version_flag = true)]
pub(super) struct Get {
    /// Name.
    name: String,
    /// Version; the one that serves if absent.
    #[arg(long, default_value_t = 0, hide_default_value = true)]
    version: u64,
    #[command(flatten)]
    asking: Asking,
}

impl Get {
    pub(super) async fn run(self) -> anyhow::Result<Exit> {
        let mut client = self.asking.client().await?;
        match get(&mut client, self.name, self.version).await {
            Ok(status) => {
                super::print(self.asking.json, || wire::status(&status), &status.text);
                Ok(Exit::Done)
            }
            Err(refusal) => Ok(refused(&refusal)),
        }
    }
}

pub(super) async fn get(
    client: &mut PolicyClient,
    name: String,
    version: u64,
) -> Result<pb::DocumentStatus, Box<Refusal>> {
    let request = client::bounded(pb::GetPolicyRequest { name, version });
    let response = client::call(client.get_policy(request)).await?;
    Ok(response.status.unwrap_or_default())
}

/// List the versions of a policy, newest first.
#[derive(Debug, Args)]
pub(super) struct Versions {
    /// Name.
    name: String,
    /// Most to list.
    #[arg(long, value_name = "COUNT", default_value_t = 50)]
    most: i32,
    #[command(flatten)]
    asking: Asking,
}

impl Versions {
    pub(super) async fn run(self) -> anyhow::Result<Exit> {
        let mut client = self.asking.client().await?;
        let active = match get(&mut client, self.name.clone(), 0).await {
            Ok(status) => status.active.map_or(0, |active| active.version),
            Err(refusal) => return Ok(refused(&refusal)),
        };
        let request = pb::ListPolicyVersionsRequest {
            name: self.name,
            page_size: self.most,
            page_token: String::new(),
        };
        match client::call(client.list_policy_versions(client::bounded(request))).await {
            Ok(response) => {
                let value = || {
                    let versions: Vec<Value> =
                        response.versions.iter().map(wire::version).collect();
                    json!({"active": active, "versions": versions})
                };
                let table = words::versions(&response.versions, active);
                super::print(self.asking.json, value, &table);
                Ok(Exit::Done)
            }
            Err(refusal) => Ok(refused(&refusal)),
        }
    }
}

/// Show what serves, what was refused last and how a rollout goes. Exit code 1 if something was
/// refused after what serves was stored.
#[derive(Debug, Args)]
pub(super) struct Status {
    /// Names; all if absent.
    names: Vec<String>,
    #[command(flatten)]
    asking: Asking,
}

impl Status {
    pub(super) async fn run(self) -> anyhow::Result<Exit> {
        let mut client = self.asking.client().await?;
        match all(&mut client, self.names).await {
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
            Err(refusal) => Ok(refused(&refusal)),
        }
    }
}

async fn all(
    client: &mut PolicyClient,
    mut names: Vec<String>,
) -> Result<Vec<(String, pb::DocumentStatus)>, Box<Refusal>> {
    if names.is_empty() {
        let mut page_token = String::new();
        loop {
            let request = pb::ListPoliciesRequest { page_size: 1_000, page_token };
            let page = client::call(client.list_policies(client::bounded(request))).await?;
            names.extend(page.policies.into_iter().map(|version| version.name));
            page_token = page.next_page_token;
            if page_token.is_empty() {
                break;
            }
        }
    }
    let mut found = Vec::with_capacity(names.len());
    for name in names {
        let status = get(client, name.clone(), 0).await?;
        found.push((name, status));
    }
    Ok(found)
}
