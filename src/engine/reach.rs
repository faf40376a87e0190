//! Which work finds a target, with what operators have taken away.
//!
//! A disabled target and a breaker that is held open stay so until a person undoes it, so work whose
//! every way leads there stops. A push is held against this, and who takes the last target away is
//! told; nobody is kept from it, since stopping everything may be just what is meant.

use std::fmt;
use std::sync::Arc;

use super::Engine;
use super::active_policy::Snapshot;
use super::groups::Choice;
use super::plan::PlannedStep;
use super::targets::{Target, Targets};
use crate::failure::FailureCause;
use crate::policy::{Elsewhere, Policy, strands};
use crate::resilience::breaker::BreakerState;

/// Names that are told; of the others the number.
const NAMES_MAX: usize = 8;

/// A server at one moment.
pub struct Server<'a> {
    /// What serves.
    pub documents: &'a Snapshot,
    /// Its targets.
    pub targets: &'a Targets,
    /// Policy of runs that name none.
    pub default_policy: &'a str,
}

/// How much of some work finds no target.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reach {
    /// Pieces of work that were looked at: steps of pipelines, and the steps that are called alone.
    pub of: usize,
    /// Those that no target would answer.
    pub stranded: Vec<String>,
    /// The targets that are in the way, with how.
    pub off: Vec<String>,
}

impl Reach {
    /// The share that stops, 0 to 1.
    #[allow(clippy::cast_precision_loss)]
    pub fn share(&self) -> f64 {
        self.stranded.len() as f64 / self.of.max(1) as f64
    }

    /// Whether nothing is left.
    pub fn is_outage(&self) -> bool {
        self.of > 0 && self.stranded.len() == self.of
    }

    /// Whether something is stopped.
    pub fn strands_some(&self) -> bool {
        !self.stranded.is_empty()
    }

    fn look(&mut self, work: &Work<'_>, policy: &Policy, targets: &Targets) {
        self.of += 1;
        let Some((first, others)) = work.choices.split_first() else { return };
        let first = first.targets();
        if first.iter().any(|target| off(target).is_none()) {
            return;
        }
        let Some(cause) = first.first().and_then(off) else { return };
        let on = |target: &Arc<Target>| off(target).is_none();
        let elsewhere = Elsewhere {
            own: others.iter().flat_map(Choice::targets).any(|target| on(&target)),
            named: &|name| targets.choice(name).is_some_and(|one| one.targets().iter().any(on)),
            template: work.template,
        };
        if !strands(policy, cause.0, &elsewhere) {
            return;
        }
        self.stranded.push(work.name.clone());
        for target in work.choices.iter().flat_map(Choice::targets) {
            let Some((_, how)) = off(&target) else { continue };
            let told = format!("{} {how}", target.name);
            if !self.off.contains(&told) {
                self.off.push(told);
            }
        }
    }
}

/// The stranded work and what is in its way, each list cut where nobody would read on.
impl fmt::Display for Reach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        list(f, &self.stranded)?;
        f.write_str(" (")?;
        list(f, &self.off)?;
        f.write_str(")")
    }
}

fn list(f: &mut fmt::Formatter<'_>, names: &[String]) -> fmt::Result {
    let shown = &names[..names.len().min(NAMES_MAX)];
    f.write_str(&shown.join(", "))?;
    match names.len() - shown.len() {
        0 => Ok(()),
        more => write!(f, " and {more} more"),
    }
}

impl Engine {
    /// What has become of the work that could ask this target.
    pub fn reach(&self, target: &str) -> Reach {
        let documents = &self.documents().snapshot();
        let (targets, default_policy) = (self.targets(), self.default_policy());
        Server { documents, targets, default_policy }.asking(target)
    }
}

/// A step with what it may ask.
struct Work<'a> {
    name: String,
    /// Its policy; the server's default one if absent.
    policy: Option<&'a str>,
    choices: Vec<Choice>,
    template: bool,
}

impl Server<'_> {
    /// The work of one policy, taken to be in force.
    pub fn under(&self, name: &str, policy: &Policy) -> Reach {
        let mut reach = Reach::default();
        // Any call may name the policy, so the steps that are called alone always count.
        let alone = self.alone();
        let own = self.steps().filter(|work| work.policy.unwrap_or(self.default_policy) == name);
        for work in alone.into_iter().chain(own) {
            reach.look(&work, policy, self.targets);
        }
        reach
    }

    /// All work of the server that could ask this target.
    pub fn asking(&self, target: &str) -> Reach {
        let mut reach = Reach::default();
        for work in self.alone().into_iter().chain(self.steps()) {
            let name = work.policy.unwrap_or(self.default_policy);
            let Some(version) = self.documents.policies.get(name) else { continue };
            let mut own = work.choices.iter().flat_map(Choice::targets);
            let named = version.policy.routing.targets();
            let named = named.iter().filter_map(|name| self.targets.choice(name));
            let mut named = named.flat_map(|choice| choice.targets());
            let is_it = |one: Arc<Target>| *one.name == *target;
            if own.any(is_it) || named.any(is_it) {
                reach.look(&work, &version.policy, self.targets);
            }
        }
        reach
    }

    /// Steps without a target of their own; nothing if the server has no default.
    fn alone(&self) -> Option<Work<'_>> {
        let choices = self.targets.default_list().to_vec();
        let name = "steps that name no target".to_owned();
        (!choices.is_empty()).then_some(Work { name, policy: None, choices, template: false })
    }

    /// Steps of pipelines, in the order of their names.
    fn steps(&self) -> impl Iterator<Item = Work<'_>> {
        let mut pipelines: Vec<_> = self.documents.pipelines.values().collect();
        pipelines.sort_by(|one, other| one.name.cmp(&other.name));
        pipelines.into_iter().flat_map(|pipeline| {
            let policy = pipeline.planned.pipeline.policy.as_deref();
            pipeline.planned.steps.iter().map(move |planned| Work {
                name: format!("step {} of pipeline {}", planned.step.name, pipeline.name),
                policy,
                choices: choices(planned),
                template: planned.step.template_output.is_some(),
            })
        })
    }
}

fn choices(planned: &PlannedStep) -> Vec<Choice> {
    match &planned.choices {
        Some(choices) => choices.clone(),
        None => planned.targets.iter().cloned().map(Choice::Target).collect(),
    }
}

/// The failure with which a target refuses every call until a person undoes it, and how it was
/// taken away.
fn off(target: &Arc<Target>) -> Option<(FailureCause, &'static str)> {
    let view = target.gate.view();
    if let Some(disabled) = view.disabled {
        return Some((disabled.cause(), "is disabled"));
    }
    match view.breaker {
        BreakerState::ForcedOpen => Some((FailureCause::CircuitOpen, "has its breaker held open")),
        BreakerState::Closed
        | BreakerState::Open
        | BreakerState::HalfOpen
        | BreakerState::ForcedClosed
        | BreakerState::MetricsOnly => None,
    }
}
