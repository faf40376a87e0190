//! `mainstay policy push` and `rollback`

use clap::Args;
use serde_json::json;

use super::{Asking, Text, json as wire, refused, validate, words};
use crate::api::{client, pb};
use crate::cli::Exit;
use crate::document::DurationText;

/// Store a policy and put it in force.
#[derive(Debug, Args)]
pub(super) struct Push {
    /// File; `-` is standard input.
    file: String,
    /// Name of the policy; the file's if absent.
    #[arg(long)]
    name: Option<String>,
    /// The version that this one is based on: refused if another serves. 0 for a new policy.
    #[arg(long, value_name = "VERSION")]
    expect: Option<u64>,
    /// Check everything and store nothing.
    #[arg(long)]
    dry_run: bool,
    /// Why, for the record.
    #[arg(long, short = 'm', value_name = "TEXT", default_value = "")]
    comment: String,
    /// Accept a policy that would stop all traffic.
    #[arg(long)]
    allow_outage: bool,
    #[command(flatten)]
    rollout: Gradual,
    #[command(flatten)]
    asking: Asking,
}

/// A gradual rollout.
#[derive(Debug, Args)]
#[command(next_help_heading = "Gradual rollout")]
struct Gradual {
    /// Share of runs to start with, 0 to 1.
    #[arg(long, value_name = "SHARE")]
    share: Option<f64>,
    /// Least runs on each version before anything is judged.
    #[arg(long, value_name = "RUNS", requires = "share", default_value_t = 0)]
    sample_min: u32,
    /// Take back at a failed share higher by this many percentage points.
    #[arg(long, value_name = "POINTS", requires = "share")]
    failed_max: Option<f64>,
    /// Take back at a degraded share higher by this many percentage points.
    #[arg(long, value_name = "POINTS", requires = "share")]
    degraded_max: Option<f64>,
    /// Take back at a cost per run higher by this ratio; 0.2 is 20 %.
    #[arg(long, value_name = "RATIO", requires = "share")]
    cost_max: Option<f64>,
    /// Take back at a p95 latency higher by this ratio.
    #[arg(long, value_name = "RATIO", requires = "share")]
    p95_max: Option<f64>,
    /// Promote after this time with all conditions holding; by hand only if absent.
    #[arg(long, value_name = "TIME", requires = "share")]
    promote_after: Option<String>,
}

impl Gradual {
    fn guards(&self) -> anyhow::Result<Option<pb::RolloutGuards>> {
        let promote_after = self.promote_after.as_deref().map(time).transpose()?;
        let guards = pb::RolloutGuards {
            sample_min: self.sample_min,
            failed_share_max_increase: self.failed_max,
            degraded_share_max_increase: self.degraded_max,
            cost_max_increase: self.cost_max,
            latency_p95_max_increase: self.p95_max,
            promote_after,
        };
        Ok(self.share.is_some().then_some(guards))
    }
}

/// `250ms`, `2s`, `1m30s` or `6h`.
pub(super) fn time(text: &str) -> anyhow::Result<prost_types::Duration> {
    let DurationText(time) = DurationText::parse(text).map_err(anyhow::Error::msg)?;
    prost_types::Duration::try_from(time).map_err(|error| anyhow::anyhow!("`{text}`: {error}"))
}

impl Push {
    pub(super) async fn run(self) -> anyhow::Result<Exit> {
        let prepared = Text::read(&self.file).and_then(|text| {
            let name = self.name.clone().or_else(|| text.stem.clone());
            let name = name.ok_or_else(|| anyhow::anyhow!("give the policy a --name"))?;
            Ok((text, name, self.rollout.guards()?))
        });
        let (text, name, guards) = match prepared {
            Ok(prepared) => prepared,
            Err(error) => return validate::wrong(&error),
        };
        let request = pb::PushPolicyRequest {
            name,
            text: text.text,
            expected_version: self.expect,
            dry_run: self.dry_run,
            comment: self.comment,
            rollout_share: self.rollout.share,
            rollout_guards: guards,
            allow_outage: self.allow_outage,
        };
        let mut client = self.asking.client().await?;
        let response = client::call(client.push_policy(client::bounded(request))).await;
        let response = match response {
            Ok(response) => response,
            Err(refusal) => return Ok(refused(&refusal)),
        };
        eprint!("{}", words::problems(&text.origin, &response.warnings));
        let value = || {
            json!({
                "version": response.version.as_ref().map(wire::version),
                "dry_run": self.dry_run,
                "warnings": wire::problems(&response.warnings),
                "changes": wire::changes(&response.changes),
                "replicas": {
                    "applied": response.replicas_applied,
                    "total": response.replicas_total,
                },
            })
        };
        super::print(self.asking.json, value, &told(&response, self.dry_run));
        Ok(Exit::Done)
    }
}

/// What a push did, or would do.
pub(super) fn told(response: &pb::PushPolicyResponse, dry_run: bool) -> String {
    let mut text = words::changes(&response.changes, &[]);
    let version = response.version.clone().unwrap_or_default();
    let (name, number) = (&version.name, version.version);
    text.push_str(&if dry_run {
        format!("{name}: fine; nothing was stored\n")
    } else {
        let (applied, total) = (response.replicas_applied, response.replicas_total);
        format!("{name}: version {number} is in force on {applied} of {total} replicas\n")
    });
    text
}

/// Put the content of an old version in force again, as a new version.
#[derive(Debug, Args)]
pub(super) struct Rollback {
    /// Name of the policy.
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
    pub(super) async fn run(self) -> anyhow::Result<Exit> {
        let request = pb::RollbackPolicyRequest {
            name: self.name,
            version: self.to,
            expected_version: self.expect,
            comment: self.comment,
        };
        let mut client = self.asking.client().await?;
        match client::call(client.rollback_policy(client::bounded(request))).await {
            Ok(response) => {
                let version = response.version.unwrap_or_default();
                let text = format!(
                    "{}: version {} is in force, with the content of version {}\n",
                    version.name, version.version, version.rollback_of
                );
                super::print(self.asking.json, || wire::version(&version), &text);
                Ok(Exit::Done)
            }
            Err(refusal) => Ok(refused(&refusal)),
        }
    }
}
