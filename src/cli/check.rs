//! `mainstay check`

use clap::Args;
use serde_json::json;

use super::{ConfigArgs, Exit, colours};
use crate::app::{self, Broken};
use crate::control::Report;
use crate::document::{Problem, Severity};

/// Check the server configuration, policies and pipelines, with the place of every mistake.
#[derive(Debug, Args)]
pub struct CheckArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// Print the problems as JSON.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &CheckArgs) -> anyhow::Result<Exit> {
    let (reports, summary) = match app::prepare(&args.config.options(), None) {
        Ok(prepared) => {
            let summary = format!(
                "{} targets, {} policies, {} pipelines",
                prepared.targets.iter().count(),
                prepared.snapshot.policies.len(),
                prepared.snapshot.pipelines.len()
            );
            (prepared.warnings, Some(summary))
        }
        Err(error) => match error.downcast::<Broken>() {
            Ok(Broken(reports)) => (reports, None),
            Err(error) => {
                eprintln!("error: {error:#}");
                return Ok(Exit::Wrong);
            }
        },
    };
    if args.json {
        let problems: Vec<_> = reports.iter().flat_map(problems).collect();
        println!("{}", json!({ "valid": summary.is_some(), "problems": problems }));
    } else {
        eprint!("{}", app::render(&reports, colours()));
    }
    let counts = app::counts(&reports);
    let count = |severity| counts.get(&severity).copied().unwrap_or_default();
    let (errors, warnings) = (count(Severity::Error), count(Severity::Warning));
    Ok(match summary {
        Some(summary) => {
            if !args.json {
                println!("ok: {summary}, {warnings} warnings");
            }
            Exit::Done
        }
        None => {
            if !args.json {
                eprintln!("{errors} errors, {warnings} warnings");
            }
            Exit::Wrong
        }
    })
}

fn problems(report: &Report) -> Vec<serde_json::Value> {
    report.problems.0.iter().map(|one| problem(&report.origin, one)).collect()
}

/// A problem as JSON.
pub(super) fn problem(document: &str, problem: &Problem) -> serde_json::Value {
    json!({
        "document": document,
        "severity": problem.severity.name(),
        "path": problem.dotted_path(),
        "line": problem.position.line,
        "column": problem.position.column,
        "message": problem.message,
        "suggestion": problem.suggestion,
    })
}
