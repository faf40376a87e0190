//! `mainstay target` and `mainstay breaker`: an operator's hand on a target.

use clap::{Args, ValueEnum};

use super::connection::Connection;
use super::{Exit, show, targets};
use crate::api::client::{self, OperationsClient, Refusal};
use crate::api::pb;

/// Take a target out of service, or give it back. Counts from the next attempt on.
#[derive(Debug, Args)]
pub struct TargetArgs {
    /// Target.
    target: String,
    /// What becomes of it.
    #[arg(value_enum)]
    to: Service,
    #[command(flatten)]
    hand: Hand,
}

/// What can become of a target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Service {
    /// It is called again; a cool-down or a used-up quota is over with it.
    Enable,
    /// It gets no calls.
    Disable,
}

/// Hold a target's breaker, or give it back to its own judgement.
#[derive(Debug, Args)]
pub struct BreakerArgs {
    /// Target.
    target: String,
    /// What to do with its breaker.
    #[arg(value_enum)]
    to: Breaker,
    #[command(flatten)]
    hand: Hand,
}

/// What can be done with a breaker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Breaker {
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

impl From<Breaker> for pb::BreakerState {
    fn from(to: Breaker) -> Self {
        match to {
            Breaker::Open => Self::ForcedOpen,
            Breaker::Close => Self::ForcedClosed,
            Breaker::MetricsOnly => Self::MetricsOnly,
            Breaker::Auto => Self::Closed,
            Breaker::Trip => Self::Open,
            Breaker::Probe => Self::HalfOpen,
        }
    }
}

/// What both have in common.
#[derive(Debug, Args)]
struct Hand {
    /// Why, for the record.
    #[arg(long, default_value = "")]
    reason: String,
    #[command(flatten)]
    service: Connection,
    /// Print the target as JSON.
    #[arg(long)]
    json: bool,
}

impl Hand {
    async fn client(&self) -> anyhow::Result<OperationsClient> {
        Ok(client::operations(self.service.open().await?))
    }

    /// Shows the target as it is now, or why nothing was done.
    fn show(
        &self,
        done: Result<(Option<pb::TargetStatus>, Vec<String>), Box<Refusal>>,
        words: impl FnOnce(&pb::TargetStatus) -> String,
    ) -> anyhow::Result<Exit> {
        let (target, warnings) = match done {
            Ok(done) => done,
            Err(refusal) => {
                eprint!("{}", show::refusal(&refusal));
                return Ok(Exit::Wrong);
            }
        };
        targets::warn(&warnings);
        let target = target.unwrap_or_default();
        if self.json {
            println!("{}", serde_json::to_string_pretty(&targets::as_json(&target))?);
        } else {
            println!("{}: {}", target.name, words(&target));
        }
        Ok(Exit::Done)
    }
}

pub(super) async fn run(args: TargetArgs) -> anyhow::Result<Exit> {
    let mut client = args.hand.client().await?;
    let request = pb::SetTargetRequest {
        name: args.target,
        enabled: args.to == Service::Enable,
        reason: args.hand.reason.clone(),
    };
    let done = client::call(client.set_target(request)).await;
    let done = done.map(|response| (response.target, response.warnings));
    args.hand.show(done, |target| match target.enabled {
        true => "enabled".to_owned(),
        false => format!("disabled: {}", target.disabled_reason),
    })
}

pub(super) async fn breaker(args: BreakerArgs) -> anyhow::Result<Exit> {
    let mut client = args.hand.client().await?;
    let request = pb::SetBreakerRequest {
        target: args.target,
        state: pb::BreakerState::from(args.to).into(),
        reason: args.hand.reason.clone(),
    };
    let done = client::call(client.set_breaker(request)).await;
    let done = done.map(|response| (response.target, response.warnings));
    args.hand.show(done, |target| targets::state(target.breaker()))
}
