//! Documents: policies and pipelines, read from files and checked against each other and against
//! the targets. Pushes, versions and watching join here.

pub mod audit;
mod files;

use std::collections::HashMap;
use std::sync::Arc;

use sha2::{Digest, Sha256};

use crate::document::{Document, Problem, Problems};
use crate::engine::active_policy::{PipelineVersion, PolicyVersion, Snapshot};
use crate::engine::plan::PlannedPipeline;
use crate::engine::targets::Targets;
use crate::journal::PolicyRef;
use crate::pipeline;
use crate::policy;

pub use files::{Found, LoadError, folder};

/// A document with where it came from.
#[derive(Debug, Clone)]
pub struct Source {
    /// Its name.
    pub name: String,
    /// File or built-in name, for messages.
    pub origin: String,
    /// Its text.
    pub text: Arc<str>,
}

/// What is wrong with one document.
#[derive(Debug, Clone)]
pub struct Report {
    /// Where the document came from.
    pub origin: String,
    /// Its text.
    pub text: Arc<str>,
    /// What is wrong.
    pub problems: Problems,
}

/// Checks documents against what this server has.
#[derive(Clone)]
pub struct Documents {
    targets: Targets,
    target_names: Arc<[String]>,
}

impl Documents {
    /// A checker against these targets.
    pub fn new(targets: Targets) -> Self {
        let target_names = targets.names().into();
        Self { targets, target_names }
    }

    /// Compiles everything; what compiles is in the snapshot, what does not is in the reports
    /// (warnings too).
    pub fn compile(&self, policies: &[Source], pipelines: &[Source]) -> (Snapshot, Vec<Report>) {
        let mut snapshot = Snapshot::default();
        let mut reports = Vec::new();
        for source in policies {
            match self.policy(source) {
                Ok((version, warnings)) => {
                    snapshot.policies.insert(version.reference.name.clone(), Arc::new(version));
                    report(&mut reports, source, warnings);
                }
                Err(problems) => report(&mut reports, source, problems),
            }
        }
        let names: Vec<String> = snapshot.policies.keys().map(|name| name.to_string()).collect();
        let mut found = HashMap::new();
        for source in pipelines {
            match self.pipeline(source, Some(&names)) {
                Ok((version, warnings)) => {
                    found.insert(version.name.clone(), Arc::new(version));
                    report(&mut reports, source, warnings);
                }
                Err(problems) => report(&mut reports, source, problems),
            }
        }
        snapshot.pipelines = found;
        (snapshot, reports)
    }

    fn policy(&self, source: &Source) -> Result<(PolicyVersion, Problems), Problems> {
        let document = parse(source)?;
        let known = policy::Known { targets: Some(&self.target_names) };
        let (policy, warnings) = policy::compile(&document, &known)?;
        let version = PolicyVersion {
            reference: PolicyRef { name: source.name.as_str().into(), version: 1 },
            content_hash: hash(&source.text),
            policy,
        };
        Ok((version, warnings))
    }

    fn pipeline(
        &self,
        source: &Source,
        policies: Option<&[String]>,
    ) -> Result<(PipelineVersion, Problems), Problems> {
        let document = parse(source)?;
        let targets: Vec<&str> = self.target_names.iter().map(String::as_str).collect();
        let policies: Option<Vec<&str>> =
            policies.map(|names| names.iter().map(String::as_str).collect());
        let known = pipeline::Known { targets: Some(&targets), policies: policies.as_deref() };
        let (mut pipeline, warnings) = pipeline::compile(&document, &known)?;
        pipeline.name = source.name.as_str().into();
        let planned =
            PlannedPipeline::new(pipeline, 1, &self.targets).map_err(|(step, error)| {
                let message = format!("step `{step}`: {error}");
                Problems(vec![Problem::error("/steps", document.position_of("/steps"), message)])
            })?;
        let version = PipelineVersion {
            name: source.name.as_str().into(),
            version: 1,
            content_hash: hash(&source.text),
            planned,
        };
        Ok((version, warnings))
    }

    /// Everything that is wrong with a policy.
    pub fn check_policy(&self, name: &str, text: &str) -> Problems {
        let source = Source { name: name.into(), origin: name.into(), text: text.into() };
        match self.policy(&source) {
            Ok((_, warnings)) => warnings,
            Err(problems) => problems,
        }
    }

    /// Everything that is wrong with a pipeline.
    pub fn check_pipeline(&self, name: &str, text: &str) -> Problems {
        let source = Source { name: name.into(), origin: name.into(), text: text.into() };
        match self.pipeline(&source, None) {
            Ok((_, warnings)) => warnings,
            Err(problems) => problems,
        }
    }
}

fn parse(source: &Source) -> Result<Document, Problems> {
    Document::parse(source.origin.clone(), source.text.clone())
        .map_err(|problem| Problems(vec![problem]))
}

fn report(reports: &mut Vec<Report>, source: &Source, problems: Problems) {
    if !problems.0.is_empty() {
        reports.push(Report {
            origin: source.origin.clone(),
            text: source.text.clone(),
            problems: problems.sorted(),
        });
    }
}

fn hash(text: &str) -> Arc<str> {
    let digest = Sha256::digest(text.as_bytes());
    digest.iter().map(|byte| format!("{byte:02x}")).collect::<String>().into()
}
