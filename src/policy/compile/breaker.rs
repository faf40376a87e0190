//! The figures of a breaker. The server's configuration says them per target in the same words, so
//! this is read there too.

use std::time::Duration;

use super::super::document::BreakerSection;
use super::report::Report;
use crate::document::DurationText;
use crate::resilience::breaker::{BreakerSettings, CloseOn};
use crate::resilience::window::{Alignment, BreakerWindow};

/// Something wrong with a key of the section.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The key.
    pub key: &'static str,
    /// What is wrong.
    pub message: String,
    /// Whether the key itself is at fault, not its value.
    pub at_key: bool,
}

pub(super) fn breaker(
    section: Option<&BreakerSection>,
    over: BreakerSettings,
    place: &str,
    report: &mut Report<'_>,
) -> BreakerSettings {
    let Some(section) = section else { return over };
    let (settings, faults) = section.over(over);
    for Fault { key, message, at_key } in faults {
        let path = format!("/{place}/{key}");
        if at_key {
            report.key_error(&path, message, None);
        } else {
            report.error(&path, message, None);
        }
    }
    settings
}

impl BreakerSection {
    /// What the section says, over what holds without it, and what is wrong with it.
    pub fn over(&self, over: BreakerSettings) -> (BreakerSettings, Vec<Fault>) {
        let mut faults = Vec::new();
        let mut fault = |key, message: String, at_key| faults.push(Fault { key, message, at_key });
        let mut positive = |key, raw: Option<DurationText>| {
            if raw.is_some_and(|duration| duration.0.is_zero()) {
                fault(key, "must be longer than nothing".to_owned(), false);
                return None;
            }
            raw.map(|duration| duration.0)
        };
        let span = positive("window", self.window);
        let slow_call = positive("slow_call", self.slow_call);
        let slow_first_token = positive("slow_first_token", self.slow_first_token);
        let open = positive("open", self.open);
        let half_open_max = positive("probe_timeout", self.probe_timeout);
        if self.window_calls.is_some() && span.is_some() {
            let message = "`window` and `window_calls` are two ways to say the same";
            fault("window_calls", message.to_owned(), true);
        }
        let window = self.window_over(over.window, span);
        let min_calls = self.min_calls.unwrap_or(match window {
            BreakerWindow::Time { .. } | BreakerWindow::Fixed { .. } => over.min_calls,
            BreakerWindow::Count(calls) => over.min_calls.min(calls),
        });
        if let BreakerWindow::Count(calls) = window
            && min_calls > calls
        {
            let message = format!("{min_calls} calls never stand in a window of {calls}");
            fault("min_calls", message, false);
        }
        for (key, share) in
            [("failure_rate", self.failure_rate), ("slow_call_rate", self.slow_call_rate)]
        {
            if share == Some(0.0) {
                fault(key, "a share of 0 opens the breaker with every call".to_owned(), false);
            }
        }
        let made = BreakerSettings {
            window,
            min_calls,
            failure_rate: self.failure_rate.or(over.failure_rate),
            consecutive_failures: match self.consecutive_failures {
                None => over.consecutive_failures,
                Some(0) => None,
                Some(failures) => Some(failures),
            },
            slow_call: slow_call.or(over.slow_call),
            slow_first_token: slow_first_token.or(over.slow_first_token),
            slow_call_rate: self.slow_call_rate.unwrap_or(over.slow_call_rate),
            count_rate_limits: self.count_rate_limits.unwrap_or(over.count_rate_limits),
            open: open.unwrap_or(over.open),
            open_factor: self.open_factor.unwrap_or(over.open_factor),
            open_max: self.open_max.map_or(over.open_max, |most| most.0),
            open_jitter: self.open_jitter.unwrap_or(over.open_jitter),
            probes: self.probes.unwrap_or(over.probes),
            close_on: self.successes.map_or(over.close_on, CloseOn::Successes),
            half_open_max: half_open_max.or(over.half_open_max),
            ramp: self.ramp.map_or(over.ramp, |ramp| ramp.0),
            ..over
        };
        if made.open_max < made.open {
            let key = if self.open_max.is_some() { "open_max" } else { "open" };
            let message = format!(
                "the longest time open, {:?}, is shorter than the first, {:?}",
                made.open_max, made.open
            );
            fault(key, message, false);
        }
        (made, faults)
    }

    fn window_over(&self, over: BreakerWindow, span: Option<Duration>) -> BreakerWindow {
        let (old_span, old_buckets) = match over {
            BreakerWindow::Time { span, buckets, .. } => (span, buckets),
            BreakerWindow::Count(_) | BreakerWindow::Fixed { .. } => (Duration::from_secs(30), 10),
        };
        match self.window_calls {
            Some(calls) => BreakerWindow::Count(calls),
            None if span.is_none() && self.buckets.is_none() => over,
            None => BreakerWindow::Time {
                span: span.unwrap_or(old_span),
                buckets: self.buckets.unwrap_or(old_buckets),
                alignment: Alignment::Event,
            },
        }
    }
}
