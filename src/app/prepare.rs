//! Reading and checking a configuration with everything that belongs to it.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;

use anyhow::Context as _;

use super::targets::{embeddings, targets};
use super::{BUILT_IN_PIPELINES, BUILT_IN_POLICIES, Options, REHEARSAL};
use crate::api::auth::Authentication;
use crate::api::tls::TlsKeeper;
use crate::config::{self, Config, Environment, Listener};
use crate::control::{
    self, AuditLog, Documents, FileDocument, Library, LibrarySettings, Report, SeedError, Source,
};
use crate::document::{Document, Position, Problem, Problems, Severity};
use crate::engine::active_policy::Snapshot;
use crate::engine::alerts::Alerts;
use crate::engine::targets::{Target, Targets};
use crate::store::sqlite::Sqlite;
use crate::tasks::Tasks;

/// Documents that cannot be served, with everything that is wrong.
#[derive(Debug, thiserror::Error)]
#[error("{} of the documents cannot be served", .0.iter().filter(|r| !r.problems.usable()).count())]
pub struct Broken(pub Vec<Report>);

impl Broken {
    /// Every problem under its line.
    pub fn render(&self, colours: bool) -> String {
        render(&self.0, colours)
    }
}

/// Reports for a terminal.
pub fn render(reports: &[Report], colours: bool) -> String {
    reports
        .iter()
        .map(|report| {
            crate::document::render(&report.origin, &report.text, &report.problems, colours)
        })
        .collect()
}

/// A configuration, read and checked.
pub struct Read {
    /// Configuration.
    pub config: Config,
    /// Targets.
    pub targets: Targets,
    /// Checks documents.
    pub documents: Documents,
    /// Tells callers apart.
    pub authentication: Authentication,
    /// TLS of the data listener and of the control listener.
    pub tls: [Option<TlsKeeper>; 2],
    /// What makes vectors of prompts, and the bytes of vectors in memory.
    pub embeddings: Option<(Arc<Target>, usize)>,
}

/// Reads and checks a configuration. `simulator` is where a rehearsal's targets are; without one,
/// they get an address that nobody answers at.
///
/// # Errors
/// [`Broken`] with every problem; or what cannot be read.
pub fn read(options: &Options, simulator: Option<SocketAddr>) -> anyhow::Result<Read> {
    let (name, text) = match &options.config {
        Some(path) => {
            let text = std::fs::read_to_string(path)
                .with_context(|| format!("cannot read {}", path.display()))?;
            (path.display().to_string(), text)
        }
        None => ("built-in rehearsal".to_owned(), REHEARSAL.to_owned()),
    };
    let broken = |problems: Problems| {
        Broken(vec![Report { origin: name.clone(), text: text.as_str().into(), problems }])
    };
    let document = Document::parse(name.clone(), text.as_str())
        .map_err(|problem| broken(Problems(vec![problem])))?;
    let simulator = simulator.unwrap_or(SocketAddr::from((Ipv4Addr::LOCALHOST, 9)));
    let variable = |variable: &str| match variable {
        "SIMULATOR" if options.config.is_none() => Some(simulator.to_string()),
        other => std::env::var(other).ok(),
    };
    let base_dir = options.config.as_deref().and_then(Path::parent).unwrap_or(Path::new("."));
    let environment = Environment { variable: &variable, base_dir };
    let config = config::read(&document, &environment).map_err(broken)?;
    let targets = targets(&config, &document).map_err(broken)?;
    let authentication = Authentication::load(config.auth.as_ref())?;
    let embeddings = embeddings(&config)?;
    let documents = Documents::new(targets.clone()).embedding(embeddings.is_some());
    let tls = |listener: &Listener| listener.tls.clone().map(TlsKeeper::load).transpose();
    let tls = [tls(&config.data)?, tls(&config.control)?];
    Ok(Read { config, targets, documents, authentication, tls, embeddings })
}

/// A configuration and the documents of its files, read and checked. What a store holds is not
/// looked at.
pub struct Prepared {
    /// Configuration.
    pub config: Config,
    /// Targets.
    pub targets: Targets,
    /// Policies and pipelines.
    pub snapshot: Snapshot,
    /// Warnings.
    pub warnings: Vec<Report>,
}

/// Reads and checks a configuration and its files, as [`read`] does.
///
/// # Errors
/// [`Broken`] with every problem; or what cannot be read.
pub fn prepare(options: &Options, simulator: Option<SocketAddr>) -> anyhow::Result<Prepared> {
    let Read { config, targets, documents, .. } = read(options, simulator)?;
    let mut unreadable = Vec::new();
    let policies = match &config.policies_dir {
        Some(dir) => sources(control::folder(dir)?, &mut unreadable),
        None => Vec::new(),
    };
    let own: Vec<&str> = policies.iter().map(|source| source.name.as_str()).collect();
    let mut built_ins = built_in(BUILT_IN_POLICIES);
    built_ins.retain(|source| !own.contains(&source.name.as_str()));
    let policies: Vec<Source> = policies.into_iter().chain(built_ins).collect();
    let pipelines = match &config.pipelines_dir {
        Some(dir) => sources(control::folder(dir)?, &mut unreadable),
        None => built_in(BUILT_IN_PIPELINES),
    };
    let (snapshot, mut reports) = documents.compile(&policies, &pipelines);
    reports.append(&mut unreadable);
    if reports.iter().any(|report| !report.problems.usable()) {
        return Err(Broken(reports).into());
    }
    if !snapshot.policies.contains_key(&config.default_policy) {
        return Err(SeedError::NoDefault(config.default_policy).into());
    }
    Ok(Prepared { config, targets, snapshot, warnings: reports })
}

/// Files that can be read as sources; the others as reports.
fn sources(files: Vec<FileDocument>, unreadable: &mut Vec<Report>) -> Vec<Source> {
    let mut found = Vec::with_capacity(files.len());
    for FileDocument { name, path, text } in files {
        match text {
            Ok(text) => found.push(Source { name: name.to_string(), origin: path, text }),
            Err(why) => {
                let problem = Problem::error("", Position::START, why);
                let problems = Problems(vec![problem]);
                unreadable.push(Report { origin: path, text: "".into(), problems });
            }
        }
    }
    found
}

/// Opens the library of a configuration: what its store holds, what is built in, what its files
/// say. Warnings are in the reports.
pub(super) async fn library(
    options: &Options,
    config: &Config,
    checker: Documents,
    (alerts, audit): (Arc<Alerts>, AuditLog),
    tasks: &Tasks,
) -> anyhow::Result<(Library, Vec<Report>)> {
    let path = config.store.as_ref().filter(|_| !options.forgetful);
    let store = path.map(|path| Sqlite::open(path, tasks)).transpose()?;
    let settings = LibrarySettings {
        checker,
        store,
        policies_dir: config.policies_dir.clone(),
        pipelines_dir: config.pipelines_dir.clone(),
        built_in_policies: BUILT_IN_POLICIES,
        built_in_pipelines: match &config.pipelines_dir {
            Some(_) => &[],
            None => BUILT_IN_PIPELINES,
        },
        default_policy: config.default_policy.clone(),
        changes_per_second: config.limits.changes_per_second,
        alerts,
        audit,
        tasks: tasks.clone(),
    };
    Library::open(settings).await.map_err(|error| match error {
        SeedError::Broken(reports) => Broken(reports).into(),
        error @ (SeedError::Folder(_)
        | SeedError::Store(_)
        | SeedError::Change(_)
        | SeedError::NoDefault(_)) => error.into(),
    })
}

fn built_in(documents: &[(&str, &str)]) -> Vec<Source> {
    documents
        .iter()
        .map(|(name, text)| Source {
            name: (*name).to_owned(),
            origin: format!("built-in {name}"),
            text: (*text).into(),
        })
        .collect()
}

/// Warnings and errors of documents, counted.
pub fn counts(reports: &[Report]) -> HashMap<Severity, usize> {
    let mut counts = HashMap::new();
    for problem in reports.iter().flat_map(|report| &report.problems.0) {
        *counts.entry(problem.severity).or_default() += 1;
    }
    counts
}
