//! `mainstay policy rollout`

use clap::Args;

use super::{Asking, Kind, json as wire, refused, words};
use crate::api::{client, pb};
use crate::cli::Exit;

/// Show a gradual rollout, or end it by hand.
#[derive(Debug, Args)]
pub(super) struct RolloutArgs {
    /// Name of the policy.
    name: String,
    /// The new version serves all.
    #[arg(long, conflicts_with = "roll_back")]
    promote: bool,
    /// The old version serves all again.
    #[arg(long)]
    roll_back: bool,
    /// Why, for the record.
    #[arg(long, short = 'm', value_name = "TEXT", default_value = "")]
    comment: String,
    #[command(flatten)]
    asking: Asking,
}

impl RolloutArgs {
    pub(super) async fn run(self) -> anyhow::Result<Exit> {
        let mut client = self.asking.client().await?;
        let ending = match (self.promote, self.roll_back) {
            (true, _) => Some(pb::RolloutEnding::Promote),
            (false, true) => Some(pb::RolloutEnding::RollBack),
            (false, false) => None,
        };
        let found = match ending {
            None => {
                Kind::Policy.get(&mut client, self.name.clone(), 0).await.map(|found| found.rollout)
            }
            Some(ending) => {
                let request = client::bounded(pb::EndRolloutRequest {
                    name: self.name.clone(),
                    ending: ending.into(),
                    comment: self.comment,
                });
                client::call(client.end_rollout(request)).await.map(|ended| ended.rollout)
            }
        };
        match found {
            Ok(rollout) => {
                let value = || rollout.as_ref().map(wire::rollout).into();
                let text = match &rollout {
                    Some(rollout) => format!("{}\n{}", self.name, words::rollout_text(rollout)),
                    None => format!("{}: there was no rollout\n", self.name),
                };
                super::print(self.asking.json, value, &text);
                Ok(Exit::Done)
            }
            Err(refusal) => Ok(refused(self.asking.json, &refusal)),
        }
    }
}
