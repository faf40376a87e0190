//! What a breaker's rates are taken over: the calls of a time, or the last so many.
//!
//! A window of time is kept in buckets, so that a call costs a few additions and no memory however
//! many calls there are. Instants are times since an origin that the owner keeps.

use std::collections::VecDeque;
use std::time::Duration;

/// What a breaker's rates are taken over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BreakerWindow {
    /// The calls of the last `span`.
    Time {
        /// How far it reaches back.
        span: Duration,
        /// Buckets that it moves by; 0 for as many as there are instants with calls.
        buckets: u32,
        /// Where buckets begin.
        alignment: Alignment,
    },
    /// The last so many calls.
    Count(u32),
    /// The calls since the window was cleared, which happens after each `interval`; never if
    /// absent.
    Fixed {
        /// How long it counts.
        interval: Option<Duration>,
    },
}

/// Where the buckets of a window of time begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Alignment {
    /// With the first call after the last bucket ended: what a quiet target did first counts for
    /// the whole span.
    #[default]
    Event,
    /// At multiples of a bucket since the owner's origin.
    Epoch,
    /// At multiples of a bucket since the window was last cleared.
    Cleared,
}

/// Calls and what was wrong with them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Calls.
    pub calls: u32,
    /// Calls that failed.
    pub failures: u32,
    /// Calls that were slow.
    pub slow: u32,
}

impl Counts {
    /// One call.
    pub fn of(is_failure: bool, is_slow: bool) -> Self {
        Self { calls: 1, failures: u32::from(is_failure), slow: u32::from(is_slow) }
    }

    /// Adds others.
    pub fn add(&mut self, other: Self) {
        self.calls = self.calls.saturating_add(other.calls);
        self.failures = self.failures.saturating_add(other.failures);
        self.slow = self.slow.saturating_add(other.slow);
    }

    fn remove(&mut self, other: Self) {
        self.calls = self.calls.saturating_sub(other.calls);
        self.failures = self.failures.saturating_sub(other.failures);
        self.slow = self.slow.saturating_sub(other.slow);
    }
}

/// Buckets of one window at most; a finer one merges its newest.
const BUCKETS_MAX: usize = 1_000;

/// The calls that count.
#[derive(Debug, Clone)]
pub struct Window {
    kind: BreakerWindow,
    total: Counts,
    buckets: VecDeque<(Duration, Counts)>,
    calls: VecDeque<Counts>,
    cleared: Duration,
}

impl Window {
    /// An empty window.
    pub fn new(kind: BreakerWindow, now: Duration) -> Self {
        let (buckets, calls) = match kind {
            BreakerWindow::Time { buckets: 0, .. } => (0, 0),
            BreakerWindow::Time { buckets, .. } => (buckets as usize + 1, 0),
            BreakerWindow::Count(size) => (0, size as usize),
            BreakerWindow::Fixed { .. } => (0, 0),
        };
        Self {
            kind,
            total: Counts::default(),
            buckets: VecDeque::with_capacity(buckets.min(BUCKETS_MAX)),
            calls: VecDeque::with_capacity(calls),
            cleared: now,
        }
    }

    /// What it is taken over.
    pub fn kind(&self) -> BreakerWindow {
        self.kind
    }

    /// Forgets everything.
    pub fn clear(&mut self, now: Duration) {
        self.total = Counts::default();
        self.buckets.clear();
        self.calls.clear();
        self.cleared = now;
    }

    /// Whether a fixed interval is over, so that the window must be cleared before it is used.
    pub fn is_over(&self, now: Duration) -> bool {
        match self.kind {
            BreakerWindow::Fixed { interval: Some(interval) } => {
                now > self.cleared.saturating_add(interval)
            }
            BreakerWindow::Fixed { interval: None }
            | BreakerWindow::Time { .. }
            | BreakerWindow::Count(_) => false,
        }
    }

    /// Adds a call.
    pub fn record(&mut self, now: Duration, call: Counts) {
        match self.kind {
            BreakerWindow::Time { span, buckets, alignment } => {
                self.expire(now, span);
                let length = span.checked_div(buckets).unwrap_or_default();
                let is_full = self.buckets.len() >= BUCKETS_MAX;
                match self.buckets.back_mut() {
                    Some((start, counts))
                        if is_full || now < start.saturating_add(length) || now == *start =>
                    {
                        counts.add(call);
                    }
                    Some(_) | None => {
                        let start = self.start_of_bucket(now, length, alignment);
                        self.buckets.push_back((start, call));
                    }
                }
            }
            BreakerWindow::Count(size) => {
                if self.calls.len() >= size as usize
                    && let Some(oldest) = self.calls.pop_front()
                {
                    self.total.remove(oldest);
                }
                self.calls.push_back(call);
            }
            BreakerWindow::Fixed { .. } => {}
        }
        self.total.add(call);
    }

    /// The calls that count now.
    pub fn counts(&mut self, now: Duration) -> Counts {
        if let BreakerWindow::Time { span, .. } = self.kind {
            self.expire(now, span);
        }
        self.total
    }

    /// Fewer calls than this can never be asked for: a window of so many calls holds no more.
    pub fn calls_max(&self) -> u32 {
        match self.kind {
            BreakerWindow::Count(size) => size,
            BreakerWindow::Time { .. } | BreakerWindow::Fixed { .. } => u32::MAX,
        }
    }

    fn start_of_bucket(&self, now: Duration, length: Duration, alignment: Alignment) -> Duration {
        let origin = match alignment {
            Alignment::Event => return now,
            Alignment::Epoch => Duration::ZERO,
            Alignment::Cleared => self.cleared,
        };
        let since = now.saturating_sub(origin).as_nanos();
        let past = since.checked_rem(length.as_nanos()).unwrap_or_default();
        now.saturating_sub(Duration::from_nanos(u64::try_from(past).unwrap_or(u64::MAX)))
    }

    fn expire(&mut self, now: Duration, span: Duration) {
        while let Some((start, counts)) = self.buckets.front()
            && now >= start.saturating_add(span)
        {
            self.total.remove(*counts);
            self.buckets.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const FAILED: Counts = Counts { calls: 1, failures: 1, slow: 0 };

    fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn time(alignment: Alignment) -> BreakerWindow {
        BreakerWindow::Time { span: s(10), buckets: 10, alignment }
    }

    #[test]
    fn buckets_begin_where_they_are_told_to() {
        // A call at 0.5 s; when is it gone?
        let gone = |alignment| {
            let mut window = Window::new(time(alignment), Duration::from_millis(250));
            window.record(Duration::from_millis(500), FAILED);
            (0..30_000)
                .map(Duration::from_millis)
                .find(|now| *now >= s(1) && window.counts(*now).calls == 0)
        };
        assert_eq!(gone(Alignment::Epoch), Some(s(10)));
        assert_eq!(gone(Alignment::Cleared), Some(Duration::from_millis(10_250)));
        assert_eq!(gone(Alignment::Event), Some(Duration::from_millis(10_500)));
    }

    #[test]
    fn a_fixed_interval_ends_after_its_last_instant() {
        let kind = BreakerWindow::Fixed { interval: Some(s(30)) };
        let mut window = Window::new(kind, s(0));
        window.record(s(1), FAILED);
        assert!(!window.is_over(s(30)));
        assert!(window.is_over(s(30) + Duration::from_nanos(1)));
        window.clear(s(31));
        assert_eq!(window.counts(s(31)), Counts::default());
    }

    proptest! {
        /// The running total is what stands in the window, whatever came and went.
        #[test]
        fn the_total_is_the_sum(
            steps in prop::collection::vec((0_u64..4_000, any::<bool>(), any::<bool>()), 1..200),
            kind in prop_oneof![
                Just(time(Alignment::Event)), Just(time(Alignment::Epoch)), Just(time(Alignment::Cleared)),
                Just(BreakerWindow::Count(7)),
                Just(BreakerWindow::Time { span: s(10), buckets: 0, alignment: Alignment::Event })],
        ) {
            let mut window = Window::new(kind, Duration::ZERO);
            let mut now = Duration::ZERO;
            let mut all = Vec::new();
            for (wait, failed, slow) in steps {
                now += Duration::from_millis(wait);
                let call = Counts::of(failed, slow);
                window.record(now, call);
                all.push((now, call));
                let counts = window.counts(now);
                let sum = |calls: &[(Duration, Counts)]| {
                    calls.iter().fold(Counts::default(), |mut sum, (_, call)| { sum.add(*call); sum })
                };
                match kind {
                    BreakerWindow::Count(size) => {
                        let from = all.len().saturating_sub(size as usize);
                        prop_assert_eq!(counts, sum(&all[from..]));
                    }
                    BreakerWindow::Time { span, buckets, .. } => {
                        // Nothing older than the span counts; nothing younger than a bucket less is lost.
                        let bucket = span.checked_div(buckets).unwrap_or_default();
                        let within = |age: Duration| sum(&all.iter().copied()
                            .filter(|(at, _)| now - *at < age).collect::<Vec<_>>());
                        prop_assert!(counts.calls <= within(span + Duration::from_nanos(1)).calls);
                        prop_assert!(counts.calls >= within(span - bucket).calls);
                        prop_assert!(window.buckets.len() <= BUCKETS_MAX);
                    }
                    BreakerWindow::Fixed { .. } => {}
                }
            }
        }
    }
}
