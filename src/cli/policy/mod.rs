//! `mainstay policy`: the control plane for people and scripts, a file a subject. What is the same
//! for pipelines takes the kind, and `mainstay pipeline` uses it from here.
//!
//! What was asked goes to standard output, as a table or with `--json` as JSON; everything else to
//! standard error. Scripts read the exit code: 0 done, 1 refused (or, of `diff`, different), 2 wrong
//! usage, 3 nobody answers.

mod calls;
mod change;
mod diff;
mod explain;
pub(super) mod json;
mod read;
mod rollout;
mod simulate;
mod source;
mod validate;
mod watch;
pub(super) mod words;

use std::io::IsTerminal as _;

use clap::{Args, Subcommand};

use super::Exit;
use super::connection::Connection;
use crate::api::client::{self, PolicyClient, Refusal};

pub(super) use change::{Delete, Rollback, Storing};
pub(super) use diff::Sides;
pub(super) use read::{Get, List, Status, Versions};
pub(super) use source::{Text, policy as source};
pub(super) use validate::{Kind, Validate, wrong};

/// Check, push, compare, try out and roll back policies.
#[derive(Debug, Args)]
#[command(after_help = "Exit codes: 0 done, 1 refused (of diff: different), 2 wrong usage, 3 \
nobody answers.")]
pub struct PolicyArgs {
    #[command(subcommand)]
    command: PolicyCommand,
}

#[derive(Debug, Subcommand)]
enum PolicyCommand {
    /// Check files, with the place of every mistake.
    Validate(Validate),
    /// Store a policy and put it in force.
    Push(change::Push),
    /// Print the text of a policy.
    Get(read::Get),
    /// List policies with the versions that serve.
    List(read::List),
    /// List the versions of a policy.
    Versions(read::Versions),
    /// Tell in words how two policies differ.
    Diff(diff::Diff),
    /// Put the content of an old version in force again.
    Rollback(change::RollbackPolicy),
    /// Take a policy out of service. Runs under way keep it to their end.
    Delete(change::Delete),
    /// Show policies as they are, then every change.
    Watch(watch::Watch),
    /// Print which ladder answers which failure, or what would be done about one failure.
    Explain(explain::Explain),
    /// Decide recorded failures again under another policy.
    Simulate(simulate::Simulate),
    /// Show a gradual rollout, or end it.
    Rollout(rollout::RolloutArgs),
    /// Show what serves and what was refused.
    Status(read::Status),
    /// Print the JSON Schema of policies, for editors.
    Schema,
}

pub(super) async fn run(args: PolicyArgs) -> anyhow::Result<Exit> {
    match args.command {
        PolicyCommand::Validate(args) => args.run(Kind::Policy).await,
        PolicyCommand::Push(args) => args.run().await,
        PolicyCommand::Get(args) => args.run(Kind::Policy).await,
        PolicyCommand::List(args) => args.run(Kind::Policy).await,
        PolicyCommand::Versions(args) => args.run(Kind::Policy).await,
        PolicyCommand::Diff(args) => args.run().await,
        PolicyCommand::Rollback(args) => args.run().await,
        PolicyCommand::Delete(args) => args.run(Kind::Policy).await,
        PolicyCommand::Watch(args) => args.run().await,
        PolicyCommand::Explain(args) => args.run().await,
        PolicyCommand::Simulate(args) => args.run().await,
        PolicyCommand::Rollout(args) => args.run().await,
        PolicyCommand::Status(args) => args.run(Kind::Policy).await,
        PolicyCommand::Schema => schema(crate::policy::document::SHAPE.schema()),
    }
}

pub(super) fn schema(schema: &serde_json::Value) -> anyhow::Result<Exit> {
    println!("{}", serde_json::to_string_pretty(schema)?);
    Ok(Exit::Done)
}

/// How a service is reached and how its answer is shown.
#[derive(Debug, Args)]
pub(super) struct Asking {
    #[command(flatten)]
    connection: Connection,
    /// Print JSON.
    #[arg(long)]
    pub(super) json: bool,
}

impl Asking {
    /// A client of the control plane.
    pub(super) async fn client(&self) -> anyhow::Result<PolicyClient> {
        Ok(client::policies(self.connection.open().await?))
    }
}

/// Shows a refusal on standard error, and to scripts as JSON on standard output.
pub(super) fn refused(json: bool, refusal: &Refusal) -> Exit {
    if json {
        println!("{}", super::json::refusal(refusal));
    }
    eprint!("{}", super::show::refusal(refusal));
    if refusal.is_of_access() {
        Exit::Wrong
    } else if refusal.is_unavailable() {
        Exit::Unavailable
    } else {
        Exit::Failed
    }
}

/// Shows why a document was refused: each mistake in its place, as compilers print them.
pub(super) fn refused_text(json: bool, origin: &str, refusal: &Refusal) -> Exit {
    if !matches!(refusal.reason.as_str(), "DOCUMENT_INVALID" | "DOCUMENT_UNMET") {
        return refused(json, refusal);
    }
    if json {
        println!("{}", super::json::refusal(refusal));
    }
    for (place, description) in &refusal.faults {
        // The last one may say how many there are more, and is in no place.
        let at = if place.is_empty() && description.starts_with("and ") { " " } else { ":" };
        eprintln!("{origin}{at}{description}");
    }
    eprintln!("refused: nothing was stored, and what serves goes on serving");
    Exit::Failed
}

/// Prints a table, or as JSON what it was made from.
pub(super) fn print(json: bool, value: impl FnOnce() -> serde_json::Value, text: &str) {
    if json {
        println!("{}", value());
    } else if std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none() {
        print!("{}", words::coloured(text));
    } else {
        print!("{text}");
    }
}
