//! Plans: steps with everything resolved that running them needs.
//!
//! A step names targets and carries a schema; a planned step holds the targets and the compiled
//! contract. Planning happens when a document is loaded or, for a step that comes inline with a
//! request, once per text of it.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::{Arc, Mutex, PoisonError};

use super::gates::StepKey;
use super::groups::Choice;
use super::targets::{Target, Targets};
use crate::exchange::ResponseFormat;
use crate::output::{Contract, ContractOptions};
use crate::pipeline::{OutputSpec, Pipeline, Step};

/// A step that can be run.
pub struct PlannedStep {
    /// The step.
    pub step: Step,
    /// Its targets in order of preference; never empty.
    pub targets: Vec<Arc<Target>>,
    /// What its names stand for, where a group is among them: the order is that of the moment then.
    pub choices: Option<Vec<Choice>>,
    /// What its output must satisfy, compiled.
    pub contract: Contract,
    /// How the provider is asked to write the answer.
    pub response_format: ResponseFormat,
    /// The verifier's step, where there is one.
    pub verifier: Option<Box<PlannedStep>>,
    /// Digest of the step as written, for cache keys.
    pub digest: Vec<u8>,
    /// The same in short, for the breakers of its outputs.
    pub key: StepKey,
}

/// A pipeline that can be run.
pub struct PlannedPipeline {
    /// The pipeline.
    pub pipeline: Pipeline,
    /// Its steps, in the same order as in it.
    pub steps: Vec<Arc<PlannedStep>>,
}

/// A step that cannot be run on this server.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// A target that does not exist.
    #[error("there is no target `{name}`")]
    UnknownTarget {
        /// The name.
        name: String,
        /// The nearest one that exists.
        nearest: Option<String>,
    },
    /// No target is named and the server has no default.
    #[error("the step names no target and the server has no default one")]
    NoTarget,
    /// The contract does not compile.
    #[error("the output contract cannot be used: {0}")]
    Contract(String),
}

impl PlannedStep {
    /// Resolves a step. `scope` goes into the digest: the pipeline's name and version, or nothing
    /// for inline steps.
    ///
    /// # Errors
    /// See [`PlanError`].
    pub fn new(step: Step, targets: &Targets, scope: &str) -> Result<Self, PlanError> {
        let choices = if step.targets.is_empty() {
            targets.default_list().to_vec()
        } else {
            let choice = |name: &Arc<str>| {
                targets.choice(name).ok_or_else(|| {
                    let names = targets.names();
                    let nearest = crate::document::nearest(name, names.iter().map(String::as_str));
                    PlanError::UnknownTarget {
                        name: name.to_string(),
                        nearest: nearest.map(str::to_owned),
                    }
                })
            };
            step.targets.iter().map(choice).collect::<Result<Vec<_>, _>>()?
        };
        let mut resolved: Vec<Arc<Target>> = Vec::new();
        for target in choices.iter().flat_map(Choice::targets) {
            if !resolved.iter().any(|known| known.name == target.name) {
                resolved.push(target);
            }
        }
        if resolved.is_empty() {
            return Err(PlanError::NoTarget);
        }
        let has_group = choices.iter().any(|choice| matches!(choice, Choice::Group(_)));
        let choices = has_group.then_some(choices);
        let contract = contract(&step).map_err(PlanError::Contract)?;
        let response_format = step.response_format();
        let digest = format!("{scope}\u{0}{}", step.digest()).into_bytes();
        let verifier = match &step.verifier {
            Some(verifier) => Some(Self::new(verifier.step.clone(), targets, scope)?.into()),
            None => None,
        };
        let mut hasher = DefaultHasher::new();
        digest.hash(&mut hasher);
        let key = hasher.finish();
        Ok(Self {
            step,
            targets: resolved,
            contract,
            response_format,
            verifier,
            digest,
            key,
            choices,
        })
    }
}

fn contract(step: &Step) -> Result<Contract, String> {
    let options = ContractOptions::default();
    match &step.output {
        OutputSpec::Text { min_chars, max_chars } => Ok(Contract::text(ContractOptions {
            chars_min: *min_chars,
            chars_max: *max_chars,
            ..options
        })),
        OutputSpec::Json { schema: Some(schema), .. } => {
            Contract::json_schema(schema.source().clone(), options)
                .map_err(|error| error.to_string())
        }
        OutputSpec::Json { schema: None, .. } => Ok(Contract::json(options)),
    }
}

impl PlannedPipeline {
    /// Resolves every step of a pipeline.
    ///
    /// # Errors
    /// The first step that cannot be run, by name.
    pub fn new(
        mut pipeline: Pipeline,
        version: u64,
        targets: &Targets,
    ) -> Result<Self, (Arc<str>, PlanError)> {
        let scope = format!("{}@{version}", pipeline.name);
        let steps = std::mem::take(&mut pipeline.steps);
        let mut planned = Vec::with_capacity(steps.len());
        for step in &steps {
            let one = PlannedStep::new(step.clone(), targets, &scope)
                .map_err(|error| (step.name.clone(), error))?;
            planned.push(Arc::new(one));
        }
        pipeline.steps = steps;
        Ok(Self { pipeline, steps: planned })
    }

    /// The step of this name.
    pub fn step(&self, name: &str) -> Option<&Arc<PlannedStep>> {
        self.steps.iter().find(|planned| *planned.step.name == *name)
    }
}

/// Plans of inline steps by the bytes that they came as, so that a caller who sends the same step
/// again and again does not pay for compiling templates and schema each time.
#[derive(Default)]
pub struct InlinePlans {
    plans: Mutex<Remembered<Arc<PlannedStep>>>,
}

impl InlinePlans {
    /// The plan for these bytes, if they came before.
    ///
    /// The bytes are the key, not a digest of them: comparing costs less than a hash that nobody
    /// can make collide.
    pub fn get(&self, key: &[u8]) -> Option<Arc<PlannedStep>> {
        self.plans().by_bytes.get(key).cloned()
    }

    /// Remembers a plan.
    pub fn put(&self, key: Vec<u8>, plan: Arc<PlannedStep>) {
        self.plans().put(key, plan);
    }

    fn plans(&self) -> std::sync::MutexGuard<'_, Remembered<Arc<PlannedStep>>> {
        self.plans.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Inline steps remembered, and the bytes that they came as.
const INLINE_PLANS_MAX: usize = 512;
const INLINE_BYTES_MAX: usize = 8 << 20;

struct Remembered<T> {
    by_bytes: HashMap<Box<[u8]>, T>,
    bytes: usize,
}

impl<T> Default for Remembered<T> {
    fn default() -> Self {
        Self { by_bytes: HashMap::new(), bytes: 0 }
    }
}

impl<T> Remembered<T> {
    /// When there is more than may be, all is forgotten at once: cheaper than order, and a caller
    /// with that many different steps has no use for the memory anyway. A key that would push out
    /// an eighth is not taken.
    fn put(&mut self, key: Vec<u8>, value: T) {
        let size = key.len();
        if size > INLINE_BYTES_MAX / 8 {
            return;
        }
        if self.by_bytes.len() >= INLINE_PLANS_MAX || self.bytes + size > INLINE_BYTES_MAX {
            *self = Self::default();
        }
        if self.by_bytes.insert(key.into(), value).is_none() {
            self.bytes += size;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_remembered_is_bounded_in_number_and_in_bytes() {
        let mut small = Remembered::default();
        for n in 0..10_000_u32 {
            small.put(n.to_le_bytes().into(), n);
            assert!(small.by_bytes.len() <= INLINE_PLANS_MAX);
        }
        assert_eq!(small.by_bytes.get(9_999_u32.to_le_bytes().as_slice()), Some(&9_999));

        let mut large = Remembered::default();
        for n in 0..100_u8 {
            large.put(vec![n; INLINE_BYTES_MAX / 10], n);
            large.put(vec![n; INLINE_BYTES_MAX / 10], n);
            let held: usize = large.by_bytes.keys().map(|key| key.len()).sum();
            assert!(held == large.bytes && held <= INLINE_BYTES_MAX);
        }
        large.put(vec![0; INLINE_BYTES_MAX / 8 + 1], 0);
        assert!(!large.by_bytes.keys().any(|key| key.len() > INLINE_BYTES_MAX / 8));
    }
}
