//! Cool-down: a target that asked for a slower pace, or whose allowance is used up, is left alone
//! by all of its callers.
//!
//! A pace limit is no sign of illness, so it is none of the breaker's business. The server's hint
//! says how long; without one a short pause is taken that grows while the limits go on. A used-up
//! quota shuts the target until its reset, or until an operator says otherwise.

use std::time::Duration;

/// The first pause after a pace limit without a hint, and the longest.
const PAUSE: Duration = Duration::from_millis(250);
const PAUSE_MAX: Duration = Duration::from_secs(8);
/// A hint is not believed beyond this; providers name longer ones for quotas only.
const HINT_MAX: Duration = Duration::from_secs(86_400);

/// How long a target is left alone.
#[derive(Debug, Clone, Default)]
pub struct CoolDown {
    until: Option<Duration>,
    pauses: u32,
    quota: Option<Quota>,
}

/// A used-up quota.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Quota {
    Until(Duration),
    UntilTold,
}

/// What is in the way of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pause {
    /// The provider asked for a slower pace; over in this long.
    Pace(Duration),
    /// The quota is used up; over in this long, or when an operator says so.
    Quota(Option<Duration>),
}

impl CoolDown {
    /// What is in the way now.
    pub fn pause(&self, now: Duration) -> Option<Pause> {
        match self.quota {
            Some(Quota::UntilTold) => return Some(Pause::Quota(None)),
            Some(Quota::Until(until)) if until > now => {
                return Some(Pause::Quota(Some(until - now)));
            }
            Some(Quota::Until(_)) | None => {}
        }
        self.until.filter(|until| *until > now).map(|until| Pause::Pace(until - now))
    }

    /// A pace limit, with the server's hint. A shorter hint never shortens a longer one.
    pub fn rate_limited(&mut self, hint: Option<Duration>, now: Duration) {
        let length = match hint {
            Some(hint) => hint.min(HINT_MAX),
            None if self.until.is_some_and(|until| until > now) => return,
            None => {
                let grown = PAUSE.saturating_mul(1 << self.pauses.min(16));
                self.pauses = self.pauses.saturating_add(1);
                grown.min(PAUSE_MAX)
            }
        };
        self.asked_for(length, now);
    }

    /// The server asked to be left alone for so long.
    pub fn asked_for(&mut self, hint: Duration, now: Duration) {
        let until = now.saturating_add(hint.min(HINT_MAX));
        self.until = Some(self.until.map_or(until, |earlier| earlier.max(until)));
    }

    /// The quota is used up until the reset, if one is known.
    pub fn quota_used_up(&mut self, reset: Option<Duration>, now: Duration) {
        self.quota = Some(match reset {
            Some(reset) => Quota::Until(now.saturating_add(reset)),
            None => Quota::UntilTold,
        });
    }

    /// A call was served: the pace is right again.
    pub fn served(&mut self) {
        self.pauses = 0;
    }

    /// An operator ends it.
    pub fn end(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn the_longest_hint_holds() {
        let mut cool_down = CoolDown::default();
        cool_down.rate_limited(Some(s(10)), s(0));
        cool_down.rate_limited(Some(s(2)), s(1));
        assert_eq!(cool_down.pause(s(4)), Some(Pause::Pace(s(6))));
        assert_eq!(cool_down.pause(s(10)), None);
        cool_down.rate_limited(Some(Duration::MAX), s(20));
        assert_eq!(cool_down.pause(s(20)), Some(Pause::Pace(HINT_MAX)));
    }

    #[test]
    fn without_a_hint_the_pause_grows_while_it_goes_on() {
        let mut cool_down = CoolDown::default();
        let mut now = s(0);
        let mut pauses = Vec::new();
        for _ in 0..8 {
            cool_down.rate_limited(None, now);
            // What was under way already tells nothing more.
            cool_down.rate_limited(None, now);
            let Some(Pause::Pace(pause)) = cool_down.pause(now) else { panic!("no pause") };
            pauses.push(pause.as_millis());
            now += pause;
        }
        assert_eq!(pauses, [250, 500, 1_000, 2_000, 4_000, 8_000, 8_000, 8_000]);
        cool_down.served();
        cool_down.rate_limited(None, now);
        assert_eq!(cool_down.pause(now), Some(Pause::Pace(PAUSE)));
    }

    #[test]
    fn a_quota_shuts_until_its_reset_or_an_operator() {
        let mut cool_down = CoolDown::default();
        cool_down.quota_used_up(Some(s(100)), s(0));
        cool_down.rate_limited(Some(s(1)), s(0));
        assert_eq!(cool_down.pause(s(40)), Some(Pause::Quota(Some(s(60)))));
        assert_eq!(cool_down.pause(s(100)), None);
        cool_down.quota_used_up(None, s(100));
        assert_eq!(cool_down.pause(s(999_999)), Some(Pause::Quota(None)));
        cool_down.end();
        assert_eq!(cool_down.pause(s(999_999)), None);
    }
}
