//! Targets: what the server's configuration lets us call.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value};

use super::gates::Gate;
use super::groups::{Ability, Choice, Group};
use crate::exchange::Usage;
use crate::provider::Dialect;
use crate::provider::transport::Endpoint;
use crate::resilience::pace::PaceLimits;
use crate::resilience::select::Strategy;
use crate::telemetry::spans::TargetFacts;

/// Prices of a target, US dollars per million tokens.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Price {
    /// Prompt tokens.
    pub input: f64,
    /// Prompt tokens from the provider's cache; the price of prompt tokens if not given.
    pub cached_input: Option<f64>,
    /// Answer tokens.
    pub output: f64,
}

impl Price {
    /// Cost of this usage in US dollars.
    #[allow(clippy::cast_precision_loss)]
    pub fn cost(&self, usage: &Usage) -> f64 {
        let cached = usage.cached_input_tokens.min(usage.input_tokens);
        let fresh = usage.input_tokens - cached;
        let cached_price = self.cached_input.unwrap_or(self.input);
        (fresh as f64 * self.input
            + cached as f64 * cached_price
            + usage.output_tokens as f64 * self.output)
            / 1e6
    }
}

/// A target, ready to be called.
pub struct Target {
    /// Its name in configuration, policies and requests.
    pub name: Arc<str>,
    /// How its API is spoken.
    pub dialect: &'static dyn Dialect,
    /// `gen_ai.provider.name`; also tells private status codes apart.
    pub provider: String,
    /// The provider's name of the model.
    pub model: String,
    /// Its address and connections.
    pub endpoint: Endpoint,
    /// Longest time of one attempt.
    pub attempt_timeout: Duration,
    /// Limits of its streams.
    pub pace: PaceLimits,
    /// Prices.
    pub price: Price,
    /// Tokens of prompt and answer together, where known.
    pub context_window: Option<u32>,
    /// Most tokens of an answer; laid under a step's own limit.
    pub max_output_tokens: Option<u32>,
    /// What it cannot do.
    pub lacks: Vec<Ability>,
    /// Members laid over every body.
    pub extra: Map<String, Value>,
    /// What holds calls back.
    pub gate: Gate,
}

impl Target {
    /// What its attempts' spans say about it.
    pub fn facts(&self) -> TargetFacts {
        let (address, port) = self.endpoint.server();
        TargetFacts {
            provider: self.provider.clone(),
            model: self.model.clone(),
            address: address.to_owned(),
            port,
        }
    }
}

/// All targets, by name.
#[derive(Clone, Default)]
pub struct Targets {
    by_name: BTreeMap<Arc<str>, Arc<Target>>,
    groups: BTreeMap<Arc<str>, Arc<Group>>,
    /// Called by steps that name no target: the first is asked, the others are its fallbacks.
    default: Vec<Choice>,
}

/// A group as it is configured.
#[derive(Debug, Clone)]
pub struct GroupSettings {
    /// Its name.
    pub name: Arc<str>,
    /// How it orders its targets.
    pub strategy: Strategy,
    /// Names of its targets, and their weights.
    pub members: Vec<(Arc<str>, u32)>,
    /// Label that a sticky group goes by.
    pub sticky_by: Option<Arc<str>>,
}

impl Targets {
    /// Puts them together. Unknown names among defaults and members are left out; the configuration
    /// has refused them before.
    pub fn new(targets: Vec<Target>, groups: Vec<GroupSettings>, default: &[Arc<str>]) -> Self {
        let by_name: BTreeMap<Arc<str>, Arc<Target>> =
            targets.into_iter().map(|target| (target.name.clone(), Arc::new(target))).collect();
        let member = |(name, weight): (Arc<str>, u32)| Some((by_name.get(&name)?.clone(), weight));
        let group = |group: GroupSettings| Group {
            name: group.name,
            strategy: group.strategy,
            members: group.members.into_iter().filter_map(member).collect(),
            sticky_by: group.sticky_by,
        };
        let groups = groups.into_iter().map(group);
        let groups = groups.map(|group| (group.name.clone(), Arc::new(group))).collect();
        let mut all = Self { by_name, groups, default: Vec::new() };
        all.default = default.iter().filter_map(|name| all.choice(name)).collect();
        all
    }

    /// What a name stands for: a target or a group.
    pub fn choice(&self, name: &str) -> Option<Choice> {
        let group = || self.groups.get(name).cloned().map(Choice::Group);
        self.by_name.get(name).cloned().map(Choice::Target).or_else(group)
    }

    /// Every group, by name.
    pub fn groups(&self) -> impl Iterator<Item = &Arc<Group>> {
        self.groups.values()
    }

    /// The target of this name.
    pub fn get(&self, name: &str) -> Option<&Arc<Target>> {
        self.by_name.get(name)
    }

    /// Every target, by name.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Target>> {
        self.by_name.values()
    }

    /// Every name that a step or a policy may call: of targets, then of groups.
    pub fn names(&self) -> Vec<String> {
        self.by_name.keys().chain(self.groups.keys()).map(|name| name.to_string()).collect()
    }

    /// Targets of a step that names none.
    pub fn default_list(&self) -> &[Choice] {
        &self.default
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cost_counts_cached_tokens_apart() {
        let usage = Usage {
            input_tokens: 1_000_000,
            output_tokens: 500_000,
            cached_input_tokens: 400_000,
            reasoning_tokens: 0,
        };
        let price = Price { input: 2.0, cached_input: Some(0.5), output: 8.0 };
        assert!((price.cost(&usage) - (1.2 + 0.2 + 4.0)).abs() < 1e-9);
        let plain = Price { cached_input: None, ..price };
        assert!((plain.cost(&usage) - 6.0).abs() < 1e-9);
    }
}
