//! Policies: which failure is answered with which actions.
//!
//! A policy is written as a document ([`document`]), checked and resolved once ([`mod@compile`]), and
//! then only read: a [`Policy`] cannot be wrong. [`decide()`] picks what to do about a failure, and
//! [`explain`] shows what a policy would do before it has to.
//!
//! Everything here is pure. A run keeps the policy that it began with.

mod decision;
mod history;
mod ladder;
mod routing;
mod settings;

pub mod document;

pub mod compile;

mod decide;

pub mod diff;

pub mod explain;

mod outage;

pub mod record;

pub mod rollout;

pub mod simulate;

use std::sync::Arc;

pub use compile::{Known, compile};
pub use decide::{Conditions, Moment, ReaskRoom, TargetCondition, decide, hedge};
pub use decision::{Decision, DegradeSource, Refusal, RepairOffer, SkipReason, Skipped, Verdict};
pub use history::History;
pub use ladder::{Action, AfterCut, Ladder, RuleName, Rung};
pub use outage::{Elsewhere, Outage, outage, strands};
pub use routing::{Override, Route, Routing, Site, VARIABLES};
pub use settings::{
    AfterContent, Alerts, CachePolicy, Execution, HedgeAfter, HedgeSettings, Observability,
    Redaction, SemanticPolicy, Validation, WhenAllRefuse,
};

use crate::failure::Failure;
use crate::resilience::breaker::BreakerSettings;
use crate::resilience::budget::BudgetSettings;

/// A compiled policy.
#[derive(Debug, Clone, PartialEq)]
pub struct Policy {
    /// How far recovery may go.
    pub execution: Execution,
    /// How outputs are judged.
    pub validation: Validation,
    /// Which ladder answers which failure.
    pub routing: Routing,
    /// When operators are told.
    pub alerts: Alerts,
    /// Last good outputs.
    pub cache: CachePolicy,
    /// What is shown of runs.
    pub observability: Observability,
    /// What is cut out of previews.
    pub redaction: Redaction,
    /// Figures of each target's breaker.
    pub breaker: BreakerSettings,
    /// Figures of the breaker of each target's outputs for a step.
    pub output_breaker: BreakerSettings,
    /// Extra calls that a target takes.
    pub retry_budget: BudgetSettings,
    /// Re-asks that a target takes.
    pub reprompt_budget: BudgetSettings,
    /// What may be done once the reader of a stream has seen content.
    pub after_content: AfterContent,
    /// Second attempts beside slow ones.
    pub hedge: HedgeSettings,
}

impl Policy {
    /// The default policy: `config/policies/default.yaml`, which is part of the program.
    pub fn built_in() -> Self {
        compile::built_in()
    }

    /// The ladder for a failure; see [`Routing::route`].
    pub fn ladder_for(&self, failure: &Failure, site: &Site<'_>) -> &Ladder {
        self.routing.route(failure, site).ladder
    }

    /// Targets that the policy names, each once.
    pub fn targets(&self) -> Vec<Arc<str>> {
        let mut targets = self.routing.targets();
        for name in &self.hedge.targets {
            if !targets.contains(name) {
                targets.push(Arc::clone(name));
            }
        }
        targets
    }
}
