//! `push` of policies; `rollback` and `delete` of policies and pipelines.

use clap::Args;
use serde_json::json;

use super::calls::OldVersion;
use super::{Asking, Kind, Text, json as wire, refused, validate, words};
use crate::api::client;
use crate::api::pb;
use crate::cli::Exit;
use crate::document::DurationText;

/// What is stored, and how.
#[derive(Debug, Args)]
pub(in crate::cli) struct Storing {
    /// File; `-` is standard input.
    file: String,
    /// Name of the document; the file's if absent.
    #[arg(long)]
    name: Option<String>,
    /// The version that this one is based on: refused if another serves. 0 for a new document.
    #[arg(long, value_name = "VERSION")]
    pub(in crate::cli) expect: Option<u64>,
    /// Check everything and store nothing.
    #[arg(long)]
    pub(in crate::cli) dry_run: bool,
    /// Why, for the record.
    #[arg(long, short = 'm', value_name = "TEXT", default_value = "")]
    pub(in crate::cli) comment: String,
    #[command(flatten)]
    pub(in crate::cli) asking: Asking,
}

impl Storing {
    /// The name and the text.
    pub(in crate::cli) fn read(&self, kind: Kind) -> anyhow::Result<(String, Text)> {
        let text = Text::read(&self.file)?;
        let name = self.name.clone().or_else(|| text.stem.clone());
        let name = name.ok_or_else(|| anyhow::anyhow!("give the {} a --name", kind.word()))?;
        Ok((name, text))
    }
}

/// Store a policy and put it in force.
#[derive(Debug, Args)]
pub(super) struct Push {
    #[command(flatten)]
    storing: Storing,
    /// Accept a policy that would stop all traffic.
    #[arg(long)]
    allow_outage: bool,
    #[command(flatten)]
    rollout: Gradual,
}

/// A gradual rollout.
#[derive(Debug, Args)]
#[command(next_help_heading = "Gradual rollout")]
struct Gradual {
    /// Share of runs to start with: 0.1 or 10%.
    #[arg(long, value_name = "SHARE", value_parser = share)]
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
    #[arg(long, value_name = "TIME", requires = "share", value_parser = time)]
    promote_after: Option<prost_types::Duration>,
}

impl Gradual {
    fn guards(&self) -> Option<pb::RolloutGuards> {
        let guards = pb::RolloutGuards {
            sample_min: self.sample_min,
            failed_share_max_increase: self.failed_max,
            degraded_share_max_increase: self.degraded_max,
            cost_max_increase: self.cost_max,
            latency_p95_max_increase: self.p95_max,
            promote_after: self.promote_after,
        };
        self.share.is_some().then_some(guards)
    }
}

/// `0.1` or `10%`.
fn share(text: &str) -> Result<f64, String> {
    let (number, of) = match text.trim_end().strip_suffix('%') {
        Some(percent) => (percent.trim_end(), 100.0),
        None => (text, 1.0),
    };
    let share = number.parse::<f64>().map_err(|error| error.to_string())? / of;
    if (0.0..=1.0).contains(&share) { Ok(share) } else { Err("not between 0 and 1".to_owned()) }
}

/// `250ms`, `2s`, `1m30s` or `6h`.
pub(super) fn time(text: &str) -> Result<prost_types::Duration, String> {
    let DurationText(time) = DurationText::parse(text)?;
    prost_types::Duration::try_from(time).map_err(|error| error.to_string())
}

impl Push {
    pub(super) async fn run(self) -> anyhow::Result<Exit> {
        let (name, text) = match self.storing.read(Kind::Policy) {
            Ok(read) => read,
            Err(error) => return validate::wrong(&error),
        };
        let Storing { expect, dry_run, comment, asking, .. } = self.storing;
        let request = pb::PushPolicyRequest {
            name,
            text: text.text,
            expected_version: expect,
            dry_run,
            comment,
            rollout_share: self.rollout.share,
            rollout_guards: self.rollout.guards(),
            allow_outage: self.allow_outage,
        };
        let mut client = asking.client().await?;
        let response = client::call(client.push_policy(client::bounded(request))).await;
        let response = match response {
            Ok(response) => response,
            Err(refusal) => return Ok(super::refused_text(asking.json, &text.origin, &refusal)),
        };
        eprint!("{}", words::problems(&text.origin, &response.warnings));
        let value = || {
            json!({
                "version": response.version.as_ref().map(wire::version),
                "dry_run": dry_run,
                "warnings": wire::problems(&response.warnings),
                "changes": wire::changes(&response.changes),
                "changes_left_out": response.changes_left_out,
                "rollout": response.rollout.as_ref().map(wire::rollout),
                "replicas": {
                    "applied": response.replicas_applied,
                    "total": response.replicas_total,
                },
            })
        };
        super::print(asking.json, value, &told(&response, dry_run, self.rollout.share));
        Ok(Exit::Done)
    }
}

/// What a push did, or would do. `share` is the share of runs that was asked for.
pub(super) fn told(response: &pb::PushPolicyResponse, dry_run: bool, share: Option<f64>) -> String {
    let mut text = words::changes(&response.changes, response.changes_left_out, &[]);
    let version = response.version.clone().unwrap_or_default();
    let (name, number) = (&version.name, version.version);
    text.push_str(&match &response.rollout {
        _ if dry_run => format!("{name}: fine; nothing was stored\n"),
        Some(rollout) => format!(
            "{name}: version {number} serves {} of the runs, the version before it the others\n{}",
            words::percent(rollout.share),
            words::guards(rollout.guards.as_ref()),
        ),
        None => {
            let (applied, total) = (response.replicas_applied, response.replicas_total);
            format!("{name}: version {number} is in force on {applied} of {total} replicas\n")
        }
    });
    if response.rollout.is_none() && share.is_some_and(|share| share < 1.0) {
        text.push_str("  no rollout: there is no other version to compare it with\n");
    }
    text
}

/// Which version is to serve again, and why.
#[derive(Debug, Args)]
pub(in crate::cli) struct Rollback {
    /// Name.
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
    pub(in crate::cli) async fn run(self, kind: Kind, allow_outage: bool) -> anyhow::Result<Exit> {
        let old = OldVersion {
            name: self.name,
            version: self.to,
            expected_version: self.expect,
            comment: self.comment,
            allow_outage,
        };
        let mut client = self.asking.client().await?;
        match kind.roll_back(&mut client, old).await {
            Ok((version, warnings)) => {
                let origin = format!("{} version {}", version.name, version.rollback_of);
                eprint!("{}", words::problems(&origin, &warnings));
                let text = format!(
                    "{}: version {} is in force, with the content of version {}\n",
                    version.name, version.version, version.rollback_of
                );
                super::print(self.asking.json, || wire::version(&version), &text);
                Ok(Exit::Done)
            }
            Err(refusal) => Ok(refused(self.asking.json, &refusal)),
        }
    }
}

/// Put the content of an old version in force again, as a new version.
#[derive(Debug, Args)]
pub(super) struct RollbackPolicy {
    #[command(flatten)]
    rollback: Rollback,
    /// Accept a policy that would stop all traffic.
    #[arg(long)]
    allow_outage: bool,
}

impl RollbackPolicy {
    pub(super) async fn run(self) -> anyhow::Result<Exit> {
        self.rollback.run(Kind::Policy, self.allow_outage).await
    }
}

/// What is taken out of service, and why. Runs under way keep it to their end.
#[derive(Debug, Args)]
pub(in crate::cli) struct Delete {
    /// Name.
    name: String,
    /// The version that serves now: refused if another does.
    #[arg(long, value_name = "VERSION")]
    expect: Option<u64>,
    /// Why, for the record.
    #[arg(long, short = 'm', value_name = "TEXT", default_value = "")]
    comment: String,
    #[command(flatten)]
    asking: Asking,
}

impl Delete {
    pub(in crate::cli) async fn run(self, kind: Kind) -> anyhow::Result<Exit> {
        let Self { name, expect, comment, asking } = self;
        let mut client = asking.client().await?;
        match kind.delete(&mut client, name, expect, comment).await {
            Ok(version) => {
                let text = format!("{}: gone; version {} served\n", version.name, version.version);
                super::print(asking.json, || wire::version(&version), &text);
                Ok(Exit::Done)
            }
            Err(refusal) => Ok(refused(asking.json, &refusal)),
        }
    }
}
