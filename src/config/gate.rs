//! What holds calls to a target back: checks of the sections that policies have too, and the
//! figures of its gate.

use super::TargetConfig;
use super::check::Checker;
use super::raw::RawTarget;
use crate::engine::gates::GateSettings;
use crate::resilience::adaptive::AdaptiveSettings;
use crate::resilience::breaker::BreakerSettings;
use crate::resilience::rate_limit::RateLimitSettings;

impl TargetConfig {
    /// The figures of its gate.
    pub fn gate(&self) -> GateSettings {
        let (requests_per_minute, tokens_per_minute) = self.rate_limit;
        GateSettings {
            in_flight_max: self.in_flight_max,
            in_flight_per_caller_max: self.in_flight_per_caller_max,
            queue_max: self.queue_max,
            queue_timeout: self.queue_timeout,
            attempt_timeout: self.attempt_timeout,
            rate_limit: RateLimitSettings { requests_per_minute, tokens_per_minute },
            adaptive: self.adaptive.map(|(min, slow_factor)| AdaptiveSettings {
                min,
                max: self.in_flight_max,
                slow_factor,
            }),
            breaker: self.breaker.clone(),
            retry_budget: self.retry_budget.clone(),
        }
    }
}

impl Checker<'_> {
    /// Everything that is wrong with a target's breaker and budget. What the default policy will
    /// say is not known here, so the section is held against the defaults.
    pub(super) fn gate(&mut self, path: &str, raw: &RawTarget) {
        if let Some(section) = &raw.breaker {
            let (_, faults) = section.over(BreakerSettings::default());
            for fault in faults {
                let at = format!("{path}/breaker/{}", fault.key);
                if fault.at_key {
                    self.at_key(&at, fault.message);
                } else {
                    self.at(&at, fault.message);
                }
            }
        }
        let window = raw.retry_budget.as_ref().and_then(|budget| budget.window);
        if window.is_some_and(|window| window.0.is_zero()) {
            self.at(&format!("{path}/retry_budget/window"), "must be longer than nothing");
        }
        let (least, most) = (
            raw.adaptive.as_ref().and_then(|adaptive| adaptive.min).unwrap_or(1),
            raw.in_flight_max.unwrap_or(256),
        );
        if least > most {
            let message = format!("is more than `in_flight_max`, {most}");
            self.at(&format!("{path}/adaptive/min"), message);
        }
    }
}
