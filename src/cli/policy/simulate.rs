//! `mainstay policy simulate`

use clap::Args;

use super::{Asking, change, json as wire, refused, source, validate, words};
use crate::api::{client, pb};
use crate::cli::{Exit, show};

/// Decide recorded failures again under another policy, and tell what would have changed. Nothing
/// is called, and no state is touched.
#[derive(Debug, Args)]
pub(super) struct Simulate {
    /// The candidate: NAME, NAME@VERSION or a file.
    candidate: String,
    /// What to compare with: NAME, NAME@VERSION or a file; what was decided if absent.
    #[arg(long, value_name = "POLICY")]
    baseline: Option<String>,
    /// Only failures of the last TIME.
    #[arg(long, value_name = "TIME", value_parser = change::time)]
    since: Option<prost_types::Duration>,
    /// Only of this pipeline.
    #[arg(long, default_value = "")]
    pipeline: String,
    /// Most failures, newest first.
    #[arg(long, value_name = "COUNT", default_value_t = 100_000)]
    most: u32,
    #[command(flatten)]
    asking: Asking,
}

impl Simulate {
    fn request(&self) -> anyhow::Result<pb::SimulatePolicyRequest> {
        let start_time = match self.since {
            None => None,
            Some(since) => {
                let back = std::time::Duration::try_from(since)?;
                Some(prost_types::Timestamp::from(std::time::SystemTime::now() - back))
            }
        };
        Ok(pb::SimulatePolicyRequest {
            candidate: Some(source::policy(&self.candidate)?),
            baseline: self.baseline.as_deref().map(source::policy).transpose()?,
            scope: Some(pb::SimulationScope {
                start_time,
                end_time: None,
                pipeline: self.pipeline.clone(),
                failures_max: self.most,
            }),
        })
    }

    pub(super) async fn run(self) -> anyhow::Result<Exit> {
        let request = match self.request() {
            Ok(request) => request,
            Err(error) => return validate::wrong(&error),
        };
        let mut client = self.asking.client().await?;
        match client::call(client.simulate_policy(client::bounded(request))).await {
            Ok(response) => {
                super::print(self.asking.json, || wire::simulation(&response), &told(&response));
                Ok(Exit::Done)
            }
            Err(refusal) => Ok(refused(self.asking.json, &refusal)),
        }
    }
}

/// The report of a simulation. Estimates are `more (or fewer) [lowest, highest]` at 95 %.
pub(super) fn told(response: &pb::SimulatePolicyResponse) -> String {
    let changed: u64 = response.changes.iter().map(|change| change.count).sum();
    let mut text = format!(
        "{} failures: {} decided the same, {changed} otherwise, {} not reached\n",
        response.failures, response.unchanged, response.not_reached
    );
    if response.changes.is_empty() {
        return text;
    }
    let rows = response.changes.iter().map(|change| {
        vec![
            format!("{}/{}", show::domain(change.domain()), change.cause),
            change.target.clone(),
            format!("{} → {}", words::action(change.before()), words::action(change.after())),
            change.count.to_string(),
            estimate(&change.recoveries, 1),
            estimate(&change.calls, 1),
            estimate(&change.cost_usd, 4),
            estimate(&change.latency_seconds, 2),
            change.unknown.to_string(),
        ]
    });
    let header = [
        "failure",
        "target",
        "action",
        "times",
        "recoveries",
        "calls",
        "cost $",
        "seconds each",
        "unknown",
    ];
    text.push_str(&words::table(&header, rows));
    if response.unknown > 0 {
        text.push_str(&format!(
            "of {} the record cannot tell what would have come of them\n",
            response.unknown
        ));
    }
    text
}

fn estimate(estimate: &Option<pb::Estimate>, digits: usize) -> String {
    let Some(one) = estimate else { return "unknown".to_owned() };
    // Minus nothing is nothing.
    let number = |value: f64| format!("{:+.digits$}", if value == 0.0 { 0.0 } else { value });
    if one.low == one.high {
        number(one.value)
    } else {
        format!("{} [{}, {}]", number(one.value), number(one.low), number(one.high))
    }
}
