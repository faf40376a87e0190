//! `mainstay policy explain`

use std::collections::HashMap;

use clap::Args;
use serde_json::Value;

use super::{Asking, change, json as wire, refused, source, validate, words};
use crate::api::{client, pb};
use crate::cli::{Exit, show};

/// Print which ladder answers which failure; with --failure, what would be done about one.
#[derive(Debug, Args)]
pub(super) struct Explain {
    /// The policy: NAME, NAME@VERSION or a file.
    policy: String,
    /// Pipeline of the step.
    #[arg(long, default_value = "")]
    pipeline: String,
    /// Step.
    #[arg(long, default_value = "")]
    step: String,
    /// Target that failed.
    #[arg(long, default_value = "")]
    target: String,
    /// Cause of a failure to explain, `rate_limited` for example.
    #[arg(long, value_name = "CAUSE")]
    failure: Option<String>,
    /// HTTP status of the failure.
    #[arg(long, requires = "failure", default_value_t = 0, hide_default_value = true)]
    status: u32,
    /// The server's hint how long to wait.
    #[arg(long, value_name = "TIME", requires = "failure", value_parser = change::time)]
    retry_after: Option<prost_types::Duration>,
    /// Calls made so far, the failed one included.
    #[arg(long, value_name = "CALLS", requires = "failure", default_value_t = 1)]
    attempts: u32,
    /// Time left before the deadline; plenty if absent.
    #[arg(long, value_name = "TIME", requires = "failure", value_parser = change::time)]
    time_left: Option<prost_types::Duration>,
    /// Label of the run; may be given several times.
    #[arg(long, value_name = "NAME=VALUE", requires = "failure")]
    label: Vec<String>,
    #[command(flatten)]
    asking: Asking,
}

impl Explain {
    pub(super) async fn run(self) -> anyhow::Result<Exit> {
        match &self.failure {
            None => self.table().await,
            Some(cause) => {
                let request = match self.failure_request(cause) {
                    Ok(request) => request,
                    Err(error) => return validate::wrong(&error),
                };
                self.one(request).await
            }
        }
    }

    async fn table(&self) -> anyhow::Result<Exit> {
        let policy = match source::policy(&self.policy) {
            Ok(policy) => policy,
            Err(error) => return validate::wrong(&error),
        };
        let request = pb::ExplainPolicyRequest {
            policy: Some(policy),
            pipeline: self.pipeline.clone(),
            step: self.step.clone(),
            target: self.target.clone(),
        };
        let mut client = self.asking.client().await?;
        match client::call(client.explain_policy(client::bounded(request))).await {
            Ok(response) => {
                let value = || response.routes.iter().map(wire::route).collect::<Value>();
                super::print(self.asking.json, value, &routes(&response.routes));
                Ok(Exit::Done)
            }
            Err(refusal) => Ok(refused(self.asking.json, &refusal)),
        }
    }

    fn failure_request(&self, cause: &str) -> anyhow::Result<pb::ExplainFailureRequest> {
        let label = |label: &String| {
            let (name, value) = label
                .split_once('=')
                .ok_or_else(|| anyhow::anyhow!("`{label}`: a label is NAME=VALUE"))?;
            Ok((name.to_owned(), value.to_owned()))
        };
        Ok(pb::ExplainFailureRequest {
            policy: Some(source::policy(&self.policy)?),
            pipeline: self.pipeline.clone(),
            step: self.step.clone(),
            target: self.target.clone(),
            failure: Some(pb::HypotheticalFailure {
                cause: cause.to_owned(),
                retry_after: self.retry_after,
                provider_status: self.status,
            }),
            attempts: self.attempts,
            time_left: self.time_left,
            labels: self.label.iter().map(label).collect::<anyhow::Result<HashMap<_, _>>>()?,
        })
    }

    async fn one(&self, request: pb::ExplainFailureRequest) -> anyhow::Result<Exit> {
        let mut client = self.asking.client().await?;
        match client::call(client.explain_failure(client::bounded(request))).await {
            Ok(response) => {
                let value = || wire::explanation(&response);
                super::print(self.asking.json, value, &explained(&response));
                Ok(Exit::Done)
            }
            Err(refusal) => Ok(refused(self.asking.json, &refusal)),
        }
    }
}

/// Routes as a table: causes of the same ladder together.
pub(super) fn routes(routes: &[pb::Route]) -> String {
    let mut rows: Vec<(&pb::Route, Vec<&str>)> = Vec::new();
    for route in routes {
        let same = |row: &&mut (&pb::Route, Vec<&str>)| {
            let known = row.0;
            (known.domain, &known.rule, &known.ladder, &known.target)
                == (route.domain, &route.rule, &route.ladder, &route.target)
        };
        match rows.iter_mut().find(same) {
            Some(row) => row.1.push(&route.cause),
            None => rows.push((route, vec![&route.cause])),
        }
    }
    let rows = rows.into_iter().map(|(route, causes)| {
        let ladder = route.ladder.iter().enumerate();
        let ladder: Vec<String> = ladder.map(|(at, rung)| format!("{}. {rung}", at + 1)).collect();
        let ladder =
            if ladder.is_empty() { "nothing is tried".to_owned() } else { ladder.join("\n") };
        let domain = show::domain(route.domain()).to_owned();
        vec![domain, causes.join("\n"), route.rule.clone(), ladder]
    });
    words::lined_table(&["domain", "causes", "rule", "ladder"], rows)
}

/// A decision with every rung.
pub(super) fn explained(response: &pb::ExplainFailureResponse) -> String {
    let decision = response.decision.clone().unwrap_or_default();
    let mut text = format!("rule {}\n", decision.rule);
    let taken = response.rungs.iter().position(|rung| rung.feasible);
    let rows = response.rungs.iter().enumerate().map(|(at, rung)| {
        let mark = if Some(at) == taken { "→" } else { "" };
        let verdict = if rung.feasible { "feasible" } else { rung.reason.as_str() };
        vec![mark.to_owned(), (at + 1).to_string(), rung.text.clone(), verdict.to_owned()]
    });
    text.push_str(&words::table(&["", "rung", "action", "verdict"], rows));
    text.push_str(&format!("decision: {}", words::action(decision.action())));
    if let Some(wait) = decision.wait {
        text.push_str(&format!(" after {}", show::seconds(wait)));
    }
    if !decision.next_target.is_empty() {
        text.push_str(&format!(" to {}", decision.next_target));
    }
    text.push('\n');
    text
}
