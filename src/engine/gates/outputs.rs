//! Breakers of outputs: one for each step on a target, apart from the target's own.
//!
//! A model that suddenly answers rubbish to one step is well for all others, so the target stays
//! in service and only that step goes elsewhere. A breaker is made with a step's first unusable
//! output, so that steps without one cost nothing.

use std::collections::HashMap;
use std::time::Duration;

use crate::resilience::breaker::{
    Breaker, BreakerSettings, BreakerState, CallResult, Outcome, Outlook, Ticket,
};

/// Steps with a breaker at most. Beyond, the closed ones are forgotten.
const STEPS_MAX: usize = 512;

/// A step, by the digest of its plan.
pub type StepKey = u64;

/// Leave of one output's breaker.
#[derive(Debug)]
pub(super) struct OutputTicket(Option<Ticket>);

/// The breakers of a target's outputs.
#[derive(Debug, Default)]
pub(super) struct OutputBreakers {
    steps: HashMap<StepKey, Breaker>,
}

impl OutputBreakers {
    pub(super) fn configure(&mut self, settings: BreakerSettings, now: Duration) {
        self.steps.values_mut().for_each(|breaker| breaker.configure(settings, now));
    }

    /// Whether the step would go elsewhere now, and for how long.
    pub(super) fn refuses(&self, step: StepKey, now: Duration) -> Option<Duration> {
        match self.steps.get(&step)?.outlook(now) {
            Outlook::Admits => None,
            Outlook::AdmitsIn(left) => Some(left),
            // An output's check takes a call; a second is near enough.
            Outlook::Probing | Outlook::Held => Some(Duration::from_secs(1)),
        }
    }

    /// Leave to make a call for this step; always given where there is no other way.
    pub(super) fn acquire(&mut self, step: StepKey, now: Duration) -> OutputTicket {
        let breaker = self.steps.get_mut(&step);
        OutputTicket(breaker.and_then(|breaker| breaker.acquire(now, rand::random).ok()))
    }

    /// Takes leave back with what the output was: `None` when there was none.
    pub(super) fn settle(
        &mut self,
        step: StepKey,
        ticket: OutputTicket,
        is_usable: Option<bool>,
        settings: BreakerSettings,
        now: Duration,
    ) {
        let outcome = match is_usable {
            Some(true) => Outcome::Success,
            Some(false) => Outcome::Failure,
            None => Outcome::Neutral,
        };
        let result = CallResult::new(outcome, Duration::ZERO);
        if let (Some(ticket), Some(breaker)) = (ticket.0, self.steps.get_mut(&step)) {
            breaker.settle(ticket, result, now, rand::random);
            return;
        }
        if outcome != Outcome::Failure || self.steps.contains_key(&step) {
            return;
        }
        if self.steps.len() >= STEPS_MAX {
            self.steps.retain(|_, breaker| breaker.state() != BreakerState::Closed);
        }
        if self.steps.len() >= STEPS_MAX {
            return;
        }
        let breaker = self.steps.entry(step).or_insert_with(|| Breaker::new(settings, now));
        if let Ok(ticket) = breaker.acquire(now, rand::random) {
            breaker.settle(ticket, result, now, rand::random);
        }
    }

    /// Steps that go elsewhere now.
    pub(super) fn open(&self, now: Duration) -> usize {
        let refuse = |breaker: &&Breaker| breaker.outlook(now) != Outlook::Admits;
        self.steps.values().filter(refuse).count()
    }

    /// Whether there is a breaker for this step.
    pub(super) fn knows(&self, step: StepKey) -> bool {
        self.steps.contains_key(&step)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unusable_outputs_send_one_step_elsewhere_for_a_while() {
        let settings = BreakerSettings { open_jitter: 0.0, ..BreakerSettings::for_outputs() };
        let mut outputs = OutputBreakers::default();
        let now = Duration::from_secs(1);
        for _ in 0..5 {
            assert_eq!(outputs.refuses(1, now), None);
            let ticket = outputs.acquire(1, now);
            outputs.settle(1, ticket, Some(false), settings, now);
        }
        assert_eq!(outputs.refuses(1, now), Some(settings.open));
        assert_eq!((outputs.refuses(2, now), outputs.open(now)), (None, 1));
        let later = now + settings.open;
        for _ in 0..2 {
            let ticket = outputs.acquire(1, later);
            outputs.settle(1, ticket, Some(true), settings, later);
        }
        assert_eq!((outputs.refuses(1, later), outputs.open(later)), (None, 0));
    }

    #[test]
    fn steps_are_bounded() {
        let mut outputs = OutputBreakers::default();
        for step in 0..2_000 {
            let ticket = outputs.acquire(step, Duration::ZERO);
            let settings = BreakerSettings::for_outputs();
            outputs.settle(step, ticket, Some(false), settings, Duration::ZERO);
        }
        assert!(outputs.steps.len() <= STEPS_MAX);
    }
}
