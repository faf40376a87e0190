//! `mainstay breaker`: an operator's hand on a breaker.

use clap::{Args, ValueEnum};

use super::connection::Connection;
use super::{Exit, show, targets};
use crate::api::client;
use crate::api::pb;

/// Hold a target's breaker, or give it back to its own judgement.
#[derive(Debug, Args)]
pub struct BreakerArgs {
    /// Target.
    target: String,
    /// What to do with its breaker.
    #[arg(value_enum)]
    to: To,
    /// Why, for the record.
    #[arg(long, default_value = "")]
    reason: String,
    #[command(flatten)]
    service: Connection,
    /// Print the target as JSON.
    #[arg(long)]
    json: bool,
}

/// What can be done with a breaker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum To {
    /// Hold it open: no calls.
    Open,
    /// Hold it closed: all calls, whatever comes of them.
    Close,
    /// Count, and never open.
    MetricsOnly,
    /// Close it and leave it to its own judgement.
    Auto,
    /// Open it for its time, as if it had tripped.
    Trip,
    /// Let probes through now.
    Probe,
}

impl From<To> for pb::BreakerState {
    fn from(to: To) -> Self {
        match to {
            To::Open => Self::ForcedOpen,
            To::Close => Self::ForcedClosed,
            To::MetricsOnly => Self::MetricsOnly,
            To::Auto => Self::Closed,
            To::Trip => Self::Open,
            To::Probe => Self::HalfOpen,
        }
    }
}

pub(super) async fn run(args: &BreakerArgs) -> anyhow::Result<Exit> {
    let mut client = client::operations(args.service.open().await?);
    let request = pb::SetBreakerRequest {
        target: args.target.clone(),
        state: pb::BreakerState::from(args.to).into(),
        reason: args.reason.clone(),
    };
    match client.set_breaker(request).await {
        Ok(response) => {
            let response = response.into_inner();
            targets::warn(&response.warnings);
            let target = response.target.unwrap_or_default();
            if args.json {
                println!("{}", serde_json::to_string_pretty(&targets::as_json(&target))?);
            } else {
                println!("{}: {}", target.name, targets::state(target.breaker()));
            }
            Ok(Exit::Done)
        }
        Err(status) => {
            eprint!("{}", show::refusal(&client::refusal(&status)));
            Ok(Exit::Wrong)
        }
    }
}
