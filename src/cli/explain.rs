//! `mainstay explain`

use std::collections::BTreeMap;

use clap::Args;
use serde_json::json;

use super::{ConfigArgs, Exit};
use crate::app::{self, Broken};
use crate::document::nearest;
use crate::policy::{Site, explain};

/// Print which ladder of actions answers which failure.
#[derive(Debug, Args)]
pub struct ExplainArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// Policy; the server's default if absent.
    policy: Option<String>,
    /// Resolve overrides for this pipeline.
    #[arg(long)]
    pipeline: Option<String>,
    /// Resolve overrides for this step.
    #[arg(long)]
    step: Option<String>,
    /// Resolve overrides for this target.
    #[arg(long)]
    target: Option<String>,
    /// Print the table as JSON.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &ExplainArgs) -> anyhow::Result<Exit> {
    let prepared = match app::prepare(&args.config.options(), None) {
        Ok(prepared) => prepared,
        Err(error) => {
            super::complain(&error);
            return Ok(if error.is::<Broken>() { Exit::Wrong } else { Exit::Unavailable });
        }
    };
    let name = args.policy.as_deref().unwrap_or(&prepared.config.default_policy);
    let Some(version) = prepared.snapshot.policies.get(name) else {
        let names = prepared.snapshot.policies.keys().map(|name| &**name);
        let hint = nearest(name, names).map(|near| format!("; did you mean `{near}`?"));
        eprintln!("error: there is no policy `{name}`{}", hint.unwrap_or_default());
        return Ok(Exit::Wrong);
    };
    let labels = BTreeMap::new();
    let asked = args.pipeline.is_some() || args.step.is_some() || args.target.is_some();
    let site = Site {
        pipeline: args.pipeline.as_deref(),
        step: args.step.as_deref().unwrap_or_default(),
        target: args.target.as_deref().unwrap_or_default(),
        attempt: 1,
        labels: &labels,
    };
    let table = explain::table(&version.policy, asked.then_some(&site));
    if args.json {
        let row = |row: &explain::Row| {
            json!({
                "domain": row.domain.name(),
                "cause": row.cause.name(),
                "retryable": row.retryable,
                "rule": &*row.rule,
                "ladder": row.ladder,
            })
        };
        let overrides: Vec<_> = table
            .overrides
            .iter()
            .map(|rule| {
                json!({
                    "name": &*rule.name,
                    "when": rule.when,
                    "routes": rule.routes.iter().map(row).collect::<Vec<_>>(),
                })
            })
            .collect();
        let routes: Vec<_> = table.routes.iter().map(row).collect();
        println!("{}", json!({ "policy": name, "routes": routes, "overrides": overrides }));
    } else {
        println!("policy {name}\n\n{table}");
    }
    Ok(Exit::Done)
}
