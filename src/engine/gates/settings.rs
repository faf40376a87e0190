//! Figures of a gate: the target's own from the server's configuration, the others from the
//! server's default policy.
//!
//! A target is shared by the runs of every policy, so its breaker and budgets cannot be any one
//! run's: they follow the policy of runs that name none, and a target may say otherwise for itself.

use std::time::Duration;

use crate::policy::Policy;
use crate::policy::document::{BreakerSection, BudgetSection};
use crate::resilience::adaptive::AdaptiveSettings;
use crate::resilience::breaker::{BreakerSettings, CloseOn};
use crate::resilience::budget::BudgetSettings;
use crate::resilience::rate_limit::RateLimitSettings;

/// A target's own figures.
#[derive(Debug, Clone, Default)]
pub struct GateSettings {
    /// Most calls in flight.
    pub in_flight_max: u32,
    /// Most calls in flight of one caller; no limit of its own if absent.
    pub in_flight_per_caller_max: Option<u32>,
    /// Most calls that wait for a place.
    pub queue_max: u32,
    /// Longest wait for a place.
    pub queue_timeout: Duration,
    /// Longest attempt; the longest time half-open where nothing else is said.
    pub attempt_timeout: Duration,
    /// Requests and tokens a minute.
    pub rate_limit: RateLimitSettings,
    /// A limit of calls in flight that follows what the target bears; off if absent.
    pub adaptive: Option<AdaptiveSettings>,
    /// The breaker, over the default policy's.
    pub breaker: Option<BreakerSection>,
    /// The retry budget, over the default policy's.
    pub retry_budget: Option<BudgetSection>,
}

/// What a policy says of the targets.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct GatePolicy {
    /// The breaker.
    pub breaker: BreakerSettings,
    /// The breakers of outputs.
    pub output_breaker: BreakerSettings,
    /// Extra calls.
    pub retry_budget: BudgetSettings,
    /// Re-asks.
    pub reprompt_budget: BudgetSettings,
}

impl Default for GatePolicy {
    fn default() -> Self {
        Self {
            breaker: BreakerSettings::default(),
            output_breaker: BreakerSettings::for_outputs(),
            retry_budget: BudgetSettings::default(),
            reprompt_budget: BudgetSettings::default(),
        }
    }
}

impl GatePolicy {
    /// What this policy says.
    pub fn of(policy: &Policy) -> Self {
        Self {
            breaker: policy.breaker,
            output_breaker: policy.output_breaker,
            retry_budget: policy.retry_budget,
            reprompt_budget: policy.reprompt_budget,
        }
    }
}

impl GateSettings {
    /// What holds for this target where the default policy says this.
    pub fn over(&self, policy: &GatePolicy) -> GatePolicy {
        // The configuration was refused if a section had a fault.
        let breaker = match &self.breaker {
            Some(section) => section.over(policy.breaker).0,
            None => policy.breaker,
        };
        let retry_budget = match &self.retry_budget {
            Some(section) => section.over(policy.retry_budget),
            None => policy.retry_budget,
        };
        GatePolicy {
            breaker: self.bounded(breaker),
            output_breaker: self.bounded(policy.output_breaker),
            retry_budget,
            reprompt_budget: policy.reprompt_budget,
        }
    }

    /// A half-open state always ends: by default when its probes could have ended one after the
    /// other.
    fn bounded(&self, breaker: BreakerSettings) -> BreakerSettings {
        let probes = match breaker.close_on {
            CloseOn::Successes(successes) => successes,
            CloseOn::Rates => breaker.probes,
        };
        let most = self.attempt_timeout.saturating_mul(probes.max(1));
        let half_open_max = breaker.half_open_max.or(Some(most + Duration::from_secs(1)));
        BreakerSettings { half_open_max, ..breaker }
    }
}
