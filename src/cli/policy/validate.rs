//! `mainstay policy validate` and `mainstay pipeline validate`

use clap::Args;
use serde_json::{Value, json};

use super::{Text, json as wire, refused, words};
use crate::api::client;
use crate::api::pb;
use crate::cli::connection::Connection;
use crate::cli::{Exit, check, colours};
use crate::document::{Document, Problems, Severity};

/// What kind of document a file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::cli) enum Kind {
    /// A policy.
    Policy,
    /// A pipeline.
    Pipeline,
}

impl Kind {
    /// `policy` or `pipeline`.
    pub(super) const fn word(self) -> &'static str {
        match self {
            Self::Policy => "policy",
            Self::Pipeline => "pipeline",
        }
    }
}

/// Without --server the files are checked by themselves: targets that they name may not exist.
#[derive(Debug, Args)]
pub(in crate::cli) struct Validate {
    /// Files; `-` is standard input.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<String>,
    /// Check against the targets of the running service, too.
    #[arg(long)]
    server: bool,
    #[command(flatten)]
    connection: Connection,
    /// Refuse what has warnings, too.
    #[arg(long)]
    strict: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// What was found in one file.
struct Checked {
    origin: String,
    problems: Value,
    errors: usize,
    warnings: usize,
    shown: String,
}

impl Checked {
    /// What was found here.
    fn here(origin: String, found: &Problems, shown: String) -> Self {
        let count = |severity| found.0.iter().filter(|one| one.severity == severity).count();
        Self {
            problems: found.0.iter().map(|one| check::problem(&origin, one)).collect(),
            errors: count(Severity::Error),
            warnings: count(Severity::Warning),
            origin,
            shown,
        }
    }

    /// What a service found.
    fn there(origin: String, found: &[pb::Problem]) -> Self {
        let count = |severity| found.iter().filter(|one| one.severity() == severity).count();
        Self {
            problems: wire::problems(found),
            errors: count(pb::Severity::Error),
            warnings: count(pb::Severity::Warning),
            shown: words::problems(&origin, found),
            origin,
        }
    }
}

impl Validate {
    pub(in crate::cli) async fn run(self, kind: Kind) -> anyhow::Result<Exit> {
        let texts = match self.files.iter().map(|file| Text::read(file)).collect() {
            Ok(texts) => texts,
            Err(error) => return wrong(&error),
        };
        let checked = if self.server {
            match self.at_the_server(kind, texts).await? {
                Ok(checked) => checked,
                Err(exit) => return Ok(exit),
            }
        } else {
            texts.into_iter().map(|text| here(kind, text)).collect()
        };
        let errors: usize = checked.iter().map(|one| one.errors).sum();
        let warnings: usize = checked.iter().map(|one| one.warnings).sum();
        let valid = errors == 0 && (warnings == 0 || !self.strict);
        if self.json {
            let document =
                |one: &Checked| json!({"document": one.origin, "problems": one.problems});
            let documents: Vec<_> = checked.iter().map(document).collect();
            println!("{}", json!({"valid": valid, "documents": documents}));
        } else {
            checked.iter().for_each(|one| eprint!("{}", one.shown));
            println!(
                "{}: {} files, {errors} errors, {warnings} warnings",
                if valid { "valid" } else { "refused" },
                checked.len()
            );
        }
        Ok(if valid { Exit::Done } else { Exit::Failed })
    }

    async fn at_the_server(
        &self,
        kind: Kind,
        texts: Vec<Text>,
    ) -> anyhow::Result<Result<Vec<Checked>, Exit>> {
        let mut client = client::policies(self.connection.open().await?);
        let mut checked = Vec::with_capacity(texts.len());
        for Text { origin, text, .. } in texts {
            let found = match kind {
                Kind::Policy => {
                    let request = client::bounded(pb::ValidatePolicyRequest { text });
                    client::call(client.validate_policy(request)).await.map(|all| all.problems)
                }
                Kind::Pipeline => {
                    let request = client::bounded(pb::ValidatePipelineRequest { text });
                    client::call(client.validate_pipeline(request)).await.map(|all| all.problems)
                }
            };
            match found {
                Ok(problems) => checked.push(Checked::there(origin, &problems)),
                Err(refusal) => return Ok(Err(refused(self.json, &refusal))),
            }
        }
        Ok(Ok(checked))
    }
}

/// A file that cannot be read.
pub(in crate::cli) fn wrong(error: &anyhow::Error) -> anyhow::Result<Exit> {
    eprintln!("error: {error:#}");
    Ok(Exit::Wrong)
}

/// Checks a document without a server.
fn here(kind: Kind, text: Text) -> Checked {
    let Text { origin, text, .. } = text;
    match Document::parse(origin.clone(), text.as_str()) {
        Err(problem) => {
            let problems = Problems(vec![problem]);
            let shown = crate::document::render(&origin, &text, &problems, colours());
            Checked::here(origin, &problems, shown)
        }
        Ok(document) => {
            let problems = match kind {
                Kind::Policy => {
                    let known = crate::policy::Known::default();
                    match crate::policy::compile(&document, &known) {
                        Ok((_, warnings)) => warnings,
                        Err(problems) => problems,
                    }
                }
                Kind::Pipeline => {
                    let known = crate::pipeline::Known::default();
                    match crate::pipeline::compile(&document, &known) {
                        Ok((_, warnings)) => warnings,
                        Err(problems) => problems,
                    }
                }
            };
            let shown = document.render(&problems, colours());
            Checked::here(origin, &problems, shown)
        }
    }
}
