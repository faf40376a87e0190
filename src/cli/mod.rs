//! The command line: one file a subcommand.
//!
//! Results go to standard output, everything about the way there to standard error, so that both
//! a person and a pipe are served.

mod audit;
mod cache;
mod check;
pub mod connection;
mod explain;
mod json;
mod live;
mod pipeline;
mod policy;
mod run;
mod serve;
mod show;
mod simulate;
mod target;
mod targets;
mod token;

use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use crate::api::auth::AccessFileError;
use crate::api::client::Refusal;
use crate::api::tls::TlsError;
use crate::app::{Broken, Options};
use crate::config::Exposed;

/// How a command ended. Scripts can rely on these.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// As asked.
    Done = 0,
    /// The run failed, or what was asked of a service was refused.
    Failed = 1,
    /// The command, a file or a document is wrong.
    Wrong = 2,
    /// The service cannot be reached or cannot be started.
    Unavailable = 3,
    /// The run was degraded and `--fail-on-degraded` was given.
    Degraded = 4,
}

impl Exit {
    /// How a command ends whose call was refused.
    fn of(refusal: &Refusal) -> Self {
        if refusal.is_unavailable() { Self::Unavailable } else { Self::Wrong }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        ExitCode::from(exit as u8)
    }
}

/// Runs LLM steps and pipelines over gRPC under recovery policies.
#[derive(Debug, Parser)]
#[command(name = "mainstay", version, about, long_about = None, propagate_version = true)]
#[command(
    after_help = "Exit codes: 0 done, 1 the run failed or was refused, 2 wrong usage or document, \
3 service unavailable, 4 degraded (with --fail-on-degraded)."
)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Subcommands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Serve the gRPC API until told to stop.
    Serve(serve::ServeArgs),
    /// Run a pipeline, or one of its steps, and watch it.
    Run(Box<run::RunArgs>),
    /// Check the server configuration, policies and pipelines, with the place of every mistake.
    Check(check::CheckArgs),
    /// Check, push, compare, try out and roll back policies of a running service.
    Policy(Box<policy::PolicyArgs>),
    /// Check, put and roll back pipelines of a running service.
    Pipeline(Box<pipeline::PipelineArgs>),
    /// Print which ladder of actions answers which failure.
    Explain(explain::ExplainArgs),
    /// Show who changed what in a running service.
    Audit(audit::AuditArgs),
    /// Make a bearer token for the callers file.
    Token(token::TokenArgs),
    /// Look after the outputs that a service keeps.
    Cache(cache::CacheArgs),
    /// Run the simulated provider by itself.
    Simulate(simulate::SimulateArgs),
    /// Show the live state of every target of a running service.
    Targets(targets::TargetsArgs),
    /// Watch the targets of a running service live.
    Watch(targets::WatchArgs),
    /// Take a target out of service, or give it back.
    Target(target::TargetArgs),
    /// Hold a target's breaker, or give it back to its own judgement.
    Breaker(target::BreakerArgs),
}

/// Which server is meant.
#[derive(Debug, Clone, Args)]
pub struct ConfigArgs {
    /// Server configuration file.
    #[arg(long, short = 'c', value_name = "FILE", env = "MAINSTAY_CONFIG")]
    config: Option<PathBuf>,
    /// Use the embedded rehearsal: example pipelines and a provider that misbehaves on purpose.
    #[arg(long, conflicts_with = "config")]
    rehearse: bool,
}

impl ConfigArgs {
    fn options(&self) -> Options {
        // clap's `conflicts_with` does not see a value that came from the environment.
        let config = if self.rehearse { None } else { self.config.clone() };
        Options { config, ..Options::default() }
    }
}

/// Carries a command out.
pub fn run(cli: Cli) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("error: the runtime cannot be started: {error}");
            return Exit::Unavailable.into();
        }
    };
    let exit = runtime.block_on(async {
        match cli.command {
            Command::Serve(args) => serve::run(args).await,
            Command::Run(args) => run::run(*args).await,
            Command::Check(args) => check::run(&args),
            Command::Policy(args) => policy::run(*args).await,
            Command::Pipeline(args) => pipeline::run(*args).await,
            Command::Explain(args) => explain::run(&args),
            Command::Audit(args) => audit::run(args).await,
            Command::Token(args) => token::run(&args),
            Command::Cache(args) => cache::run(args).await,
            Command::Simulate(args) => simulate::run(args).await,
            Command::Targets(args) => targets::run(&args).await,
            Command::Watch(args) => targets::watch(&args).await,
            Command::Target(args) => target::run(args).await,
            Command::Breaker(args) => target::breaker(args).await,
        }
    });
    runtime.shutdown_timeout(std::time::Duration::from_secs(1));
    exit.unwrap_or_else(|error| {
        complain(&error);
        if is_wrong(&error) { Exit::Wrong } else { Exit::Unavailable }
    })
    .into()
}

/// Whether a file or document is at fault.
fn is_wrong(error: &anyhow::Error) -> bool {
    error.is::<Broken>()
        || error.is::<AccessFileError>()
        || error.is::<TlsError>()
        || error.is::<Exposed>()
}

/// Whether standard error takes colours.
fn colours() -> bool {
    std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none()
}

/// An error with its causes; documents with every mistake under its line.
fn complain(error: &anyhow::Error) {
    if let Some(broken) = error.downcast_ref::<Broken>() {
        eprint!("{}", broken.render(colours()));
    }
    eprintln!("error: {error:#}");
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    /// No two flags of a command have the same name, for every command.
    #[test]
    fn the_command_line_is_sound() {
        super::Cli::command().debug_assert();
    }
}
