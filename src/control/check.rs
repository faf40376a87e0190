//! Documents checked against what this server has.

use std::collections::HashMap;
use std::sync::Arc;

use sha2::{Digest, Sha256};

use super::{Report, Source};
use crate::document::{Document, Problem, Problems};
use crate::engine::active_policy::{PipelineVersion, PolicyVersion, Snapshot};
use crate::engine::plan::PlannedPipeline;
use crate::engine::targets::Targets;
use crate::journal::PolicyRef;
use crate::{pipeline, policy};

/// Where a pipeline says what it is called.
const NAME: &str = "/name";

/// Checks documents against what this server has.
#[derive(Clone)]
pub struct Documents {
    targets: Targets,
    target_names: Arc<[String]>,
    embeds: bool,
}

/// A document that is not taken, with everything that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refused {
    /// It is wrong by itself.
    Invalid(Problems),
    /// It is right and names what this server does not have.
    Unmet(Problems),
}

impl Refused {
    /// Everything that is wrong.
    pub fn problems(&self) -> &Problems {
        match self {
            Self::Invalid(problems) | Self::Unmet(problems) => problems,
        }
    }

    /// Everything that is wrong.
    pub fn into_problems(self) -> Problems {
        match self {
            Self::Invalid(problems) | Self::Unmet(problems) => problems,
        }
    }
}

impl Documents {
    /// A checker against these targets.
    pub fn new(targets: Targets) -> Self {
        let target_names = targets.names().into();
        Self { targets, target_names, embeds: false }
    }

    /// The targets that it checks against.
    pub(super) const fn targets(&self) -> &Targets {
        &self.targets
    }

    /// The same for a server that has something that makes vectors of prompts, or has not.
    #[must_use]
    pub fn embedding(self, embeds: bool) -> Self {
        Self { embeds, ..self }
    }

    /// Compiles everything; what compiles is in the snapshot, what does not is in the reports
    /// (warnings too).
    pub fn compile(&self, policies: &[Source], pipelines: &[Source]) -> (Snapshot, Vec<Report>) {
        let mut snapshot = Snapshot::default();
        let mut reports = Vec::new();
        for source in policies {
            match self.policy(source, 1) {
                Ok((version, warnings)) => {
                    snapshot.policies.insert(version.reference.name.clone(), Arc::new(version));
                    report(&mut reports, source, warnings);
                }
                Err(refused) => report(&mut reports, source, refused.into_problems()),
            }
        }
        let names: Vec<String> = snapshot.policies.keys().map(|name| name.to_string()).collect();
        let mut found = HashMap::new();
        for source in pipelines {
            match self.pipeline(source, 1, Some(&names)) {
                Ok((version, warnings)) => {
                    found.insert(version.name.clone(), Arc::new(version));
                    report(&mut reports, source, warnings);
                }
                Err(refused) => report(&mut reports, source, refused.into_problems()),
            }
        }
        snapshot.pipelines = found;
        (snapshot, reports)
    }

    /// Compiles a policy as this version of it, with its warnings.
    ///
    /// # Errors
    /// Everything that is wrong.
    pub fn policy(
        &self,
        source: &Source,
        version: u64,
    ) -> Result<(PolicyVersion, Problems), Refused> {
        let document = parse(source)?;
        let known = policy::Known { targets: Some(&self.target_names), embeds: Some(self.embeds) };
        let (policy, warnings) = policy::compile(&document, &known).map_err(|problems| {
            let anywhere = policy::Known::default();
            refused(problems, policy::compile(&document, &anywhere).is_ok())
        })?;
        let version = PolicyVersion {
            reference: PolicyRef { name: source.name.as_str().into(), version },
            content_hash: hash(&source.text),
            policy,
        };
        Ok((version, warnings))
    }

    /// Compiles a pipeline as this version of it, with its warnings. Without `policies`, the name
    /// of its policy is not looked up.
    ///
    /// # Errors
    /// Everything that is wrong.
    pub fn pipeline(
        &self,
        source: &Source,
        version: u64,
        policies: Option<&[String]>,
    ) -> Result<(PipelineVersion, Problems), Refused> {
        let document = parse(source)?;
        let targets: Vec<&str> = self.target_names.iter().map(String::as_str).collect();
        let policies: Option<Vec<&str>> =
            policies.map(|names| names.iter().map(String::as_str).collect());
        let known = pipeline::Known { targets: Some(&targets), policies: policies.as_deref() };
        let (mut pipeline, mut warnings) =
            pipeline::compile(&document, &known).map_err(|problems| {
                let anywhere = pipeline::Known::default();
                refused(problems, pipeline::compile(&document, &anywhere).is_ok())
            })?;
        if *pipeline.name != *source.name {
            let message = format!("is `{}` here; it is stored as `{}`", pipeline.name, source.name);
            let position = document.position_of(NAME);
            warnings.push(Problem::warning(NAME, position, message));
        }
        pipeline.name = source.name.as_str().into();
        let planned =
            PlannedPipeline::new(pipeline, version, &self.targets).map_err(|(step, error)| {
                let message = format!("step `{step}`: {error}");
                let position = document.position_of("/steps");
                Refused::Invalid(Problems(vec![Problem::error("/steps", position, message)]))
            })?;
        let version = PipelineVersion {
            name: source.name.as_str().into(),
            version,
            content_hash: hash(&source.text),
            planned,
        };
        Ok((version, warnings))
    }

    /// Everything that is wrong with a policy.
    pub fn check_policy(&self, name: &str, text: &str) -> Problems {
        let source = Source { name: name.into(), origin: name.into(), text: text.into() };
        match self.policy(&source, 1) {
            Ok((_, warnings)) => warnings,
            Err(refused) => refused.into_problems(),
        }
    }

    /// Everything that is wrong with a pipeline; its policy is looked up among `policies`.
    pub fn check_pipeline(&self, name: &str, text: &str, policies: Option<&[String]>) -> Problems {
        let source = Source { name: name.into(), origin: name.into(), text: text.into() };
        match self.pipeline(&source, 1, policies) {
            // Nobody has said what it is to be called.
            Ok((_, mut warnings)) => {
                warnings.0.retain(|warning| warning.path != NAME);
                warnings
            }
            Err(refused) => refused.into_problems(),
        }
    }
}

fn refused(problems: Problems, right_elsewhere: bool) -> Refused {
    if right_elsewhere { Refused::Unmet(problems) } else { Refused::Invalid(problems) }
}

fn parse(source: &Source) -> Result<Document, Refused> {
    Document::parse(source.origin.clone(), source.text.clone())
        .map_err(|problem| Refused::Invalid(Problems(vec![problem])))
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

/// SHA-256 of a text, hex.
pub fn hash(text: &str) -> Arc<str> {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digest = Sha256::digest(text.as_bytes());
    let digit = |half: u8| char::from(DIGITS[usize::from(half)]);
    digest.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect::<String>().into()
}
