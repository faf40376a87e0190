//! Our own rate limits of a target: requests and tokens a minute.
//!
//! Token buckets that hold ten seconds' worth, so that the first minute is not twice as full as the
//! others. A call takes its estimated tokens before it is made; what it really used is put right
//! afterwards, into debt if need be. A call larger than the bucket goes when the bucket is full.

use std::time::Duration;

/// What a bucket holds of its minute.
const BURST: f64 = 1.0 / 6.0;

/// Limits a minute; absent ones do not limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RateLimitSettings {
    /// Requests.
    pub requests_per_minute: Option<u32>,
    /// Tokens of prompts and answers.
    pub tokens_per_minute: Option<u32>,
}

/// The rate limits of a target.
#[derive(Debug, Clone)]
pub struct RateLimit {
    requests: Option<Bucket>,
    tokens: Option<Bucket>,
}

impl RateLimit {
    /// Full buckets.
    pub fn new(settings: RateLimitSettings, now: Duration) -> Self {
        let bucket = |per_minute: Option<u32>| per_minute.map(|limit| Bucket::new(limit, now));
        Self {
            requests: bucket(settings.requests_per_minute),
            tokens: bucket(settings.tokens_per_minute),
        }
    }

    /// How long until a call of so many tokens may go; zero for now.
    pub fn wait(&mut self, tokens: u64, now: Duration) -> Duration {
        let requests = self.requests.as_mut().map_or(Duration::ZERO, |one| one.wait(1.0, now));
        let tokens =
            self.tokens.as_mut().map_or(Duration::ZERO, |one| one.wait(as_level(tokens), now));
        requests.max(tokens)
    }

    /// Takes a call of so many tokens.
    pub fn take(&mut self, tokens: u64, now: Duration) {
        if let Some(requests) = &mut self.requests {
            requests.change(-1.0, now);
        }
        if let Some(bucket) = &mut self.tokens {
            bucket.change(-as_level(tokens), now);
        }
    }

    /// Puts right what a call took: it was estimated at one figure and used another.
    pub fn correct(&mut self, estimated: u64, used: u64, now: Duration) {
        if let Some(bucket) = &mut self.tokens {
            bucket.change(as_level(estimated) - as_level(used), now);
        }
    }

    /// Puts back a call that was not made.
    pub fn put_back(&mut self, tokens: u64, now: Duration) {
        if let Some(requests) = &mut self.requests {
            requests.change(1.0, now);
        }
        self.correct(tokens, 0, now);
    }
}

#[allow(clippy::cast_precision_loss)]
fn as_level(tokens: u64) -> f64 {
    tokens as f64
}

#[derive(Debug, Clone)]
struct Bucket {
    size: f64,
    per_second: f64,
    level: f64,
    at: Duration,
}

impl Bucket {
    fn new(per_minute: u32, now: Duration) -> Self {
        let size = (f64::from(per_minute) * BURST).max(1.0);
        Self { size, per_second: f64::from(per_minute) / 60.0, level: size, at: now }
    }

    fn fill(&mut self, now: Duration) {
        let since = now.saturating_sub(self.at).as_secs_f64();
        self.level = (self.level + since * self.per_second).min(self.size);
        self.at = self.at.max(now);
    }

    fn wait(&mut self, cost: f64, now: Duration) -> Duration {
        self.fill(now);
        let missing = cost.min(self.size) - self.level;
        // A billionth of a unit is the double's own error, not a debt.
        if missing <= 1e-9 {
            return Duration::ZERO;
        }
        Duration::try_from_secs_f64(missing / self.per_second).unwrap_or(Duration::MAX)
    }

    fn change(&mut self, by: f64, now: Duration) {
        self.fill(now);
        self.level = (self.level + by).min(self.size);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn ten_seconds_worth_at_once_then_the_pace() {
        let settings = RateLimitSettings { requests_per_minute: Some(60), tokens_per_minute: None };
        let mut limit = RateLimit::new(settings, s(0));
        for _ in 0..10 {
            assert_eq!(limit.wait(0, s(0)), Duration::ZERO);
            limit.take(0, s(0));
        }
        assert_eq!(limit.wait(0, s(0)), s(1));
        assert_eq!(limit.wait(0, s(1)), Duration::ZERO);
    }

    #[test]
    fn an_estimate_is_put_right_even_into_debt() {
        let settings =
            RateLimitSettings { requests_per_minute: None, tokens_per_minute: Some(60_000) };
        let mut limit = RateLimit::new(settings, s(0));
        limit.take(1_000, s(0));
        limit.correct(1_000, 31_000, s(0));
        assert_eq!(limit.wait(1_000, s(0)), s(22));
        limit.correct(1_000, 0, s(0));
        assert_eq!(limit.wait(1_000, s(0)), s(21));
        // More than the bucket holds goes when it is full.
        assert_eq!(limit.wait(1_000_000, s(20)), s(10));
    }

    proptest! {
        /// In any minute at most the limit and the burst go, however callers press.
        #[test]
        fn no_minute_has_more_than_its_limit_and_the_burst(
            per_minute in 1_u32..500, waits in prop::collection::vec(0_u64..2_000, 1..300),
        ) {
            let settings = RateLimitSettings { requests_per_minute: Some(per_minute), ..Default::default() };
            let mut limit = RateLimit::new(settings, s(0));
            let (mut now, mut made) = (Duration::ZERO, Vec::new());
            for wait in waits {
                now += Duration::from_millis(wait);
                while limit.wait(1, now).is_zero() {
                    limit.take(1, now);
                    made.push(now);
                }
                let minute = made.iter().filter(|at| now - **at < s(60)).count() as f64;
                let most = f64::from(per_minute) + (f64::from(per_minute) * BURST).max(1.0);
                prop_assert!(minute <= most + 1e-6, "{minute} of {per_minute}");
            }
        }
    }
}
