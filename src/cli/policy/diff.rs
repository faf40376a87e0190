//! `mainstay policy diff`

use clap::Args;
use serde_json::json;

use super::{Asking, json as wire, refused, source, validate, words};
use crate::api::{client, pb};
use crate::cli::Exit;

/// Tell in words of the domain how two policies differ. Exit code 1 if they do.
#[derive(Debug, Args)]
pub(super) struct Diff {
    #[command(flatten)]
    sides: Sides,
}

/// What is compared, and how it is asked for.
#[derive(Debug, Args)]
pub(in crate::cli) struct Sides {
    /// Before: NAME, NAME@VERSION or a file.
    pub(in crate::cli) before: String,
    /// After: NAME, NAME@VERSION or a file.
    pub(in crate::cli) after: String,
    #[command(flatten)]
    pub(in crate::cli) asking: Asking,
}

impl Diff {
    pub(super) async fn run(self) -> anyhow::Result<Exit> {
        let Sides { before, after, asking } = self.sides;
        let sides =
            source::policy(&before).and_then(|before| Ok((before, source::policy(&after)?)));
        let (before, after) = match sides {
            Ok(sides) => sides,
            Err(error) => return validate::wrong(&error),
        };
        let request = pb::DiffPoliciesRequest { before: Some(before), after: Some(after) };
        let mut client = asking.client().await?;
        match client::call(client.diff_policies(client::bounded(request))).await {
            Ok(response) => {
                let same = response.changes.is_empty() && response.settings.is_empty();
                let value = || {
                    json!({
                        "changes": wire::changes(&response.changes),
                        "changes_left_out": response.changes_left_out,
                        "settings": response.settings,
                    })
                };
                let text = if same {
                    "no difference\n".to_owned()
                } else {
                    {
                        let (changes, left_out) = (&response.changes, response.changes_left_out);
                        words::changes(changes, left_out, &response.settings)
                    }
                };
                super::print(asking.json, value, &text);
                Ok(if same { Exit::Done } else { Exit::Failed })
            }
            Err(refusal) => Ok(refused(asking.json, &refusal)),
        }
    }
}
