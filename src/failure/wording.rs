//! What a provider's sentences mean, where its codes are silent or say nothing.
//!
//! Half of all errors carry a generic code and only the text tells a full window from a bad
//! parameter. Texts change, so a pattern holds the words that carry the meaning and leaves the
//! rest open. The order is part of the meaning: "exceeded" is said of credit, pace, window and
//! size alike, and the narrower reading has to be tried first. A class is tried only under the
//! statuses where it can be meant. Answers of models never come here.

use std::sync::LazyLock;

use regex::Regex;
use regex::bytes::{RegexSet, RegexSetBuilder};

use super::FailureCause::{self, *};

mod patterns;

/// Patterns in ASCII are compiled over bytes: the bounded gaps between words then cost a state each
/// instead of ten, and word boundaries do not leave the fast automaton.
#[expect(clippy::expect_used, reason = "constant patterns, compiled by every test")]
fn set(patterns: &[&str]) -> RegexSet {
    let patterns = patterns.iter().map(|pattern| {
        if pattern.is_ascii() { format!("(?-u){pattern}") } else { (*pattern).to_owned() }
    });
    RegexSetBuilder::new(patterns)
        .dfa_size_limit(1 << 20)
        .build()
        .expect("the patterns are constant")
}

#[expect(clippy::expect_used, reason = "constant patterns, compiled by every test")]
fn one(pattern: &str) -> Regex {
    Regex::new(pattern).expect("the pattern is constant")
}

static QUOTA: LazyLock<RegexSet> = LazyLock::new(|| set(patterns::QUOTA));
static METERED: LazyLock<RegexSet> = LazyLock::new(|| set(patterns::METERED));
static NO_ALLOWANCE: LazyLock<RegexSet> = LazyLock::new(|| set(patterns::NO_ALLOWANCE));
static PER_REQUEST: LazyLock<RegexSet> = LazyLock::new(|| set(patterns::PER_REQUEST));
static CAPACITY: LazyLock<RegexSet> = LazyLock::new(|| set(patterns::CAPACITY));
static PACE: LazyLock<RegexSet> = LazyLock::new(|| set(patterns::PACE));
static WINDOW: LazyLock<RegexSet> = LazyLock::new(|| set(patterns::WINDOW));
static NOT_WINDOW: LazyLock<RegexSet> = LazyLock::new(|| set(patterns::NOT_WINDOW));
static OUTPUT_CAP: LazyLock<RegexSet> = LazyLock::new(|| set(patterns::OUTPUT_CAP));
static FILTER: LazyLock<RegexSet> = LazyLock::new(|| set(patterns::FILTER));
static ACCOUNT: LazyLock<RegexSet> = LazyLock::new(|| set(patterns::ACCOUNT));
static AUTH: LazyLock<RegexSet> = LazyLock::new(|| set(patterns::AUTH));
static PERMISSION: LazyLock<RegexSet> = LazyLock::new(|| set(patterns::PERMISSION));
static ROUTING: LazyLock<RegexSet> = LazyLock::new(|| set(patterns::ROUTING));
static MODEL: LazyLock<RegexSet> = LazyLock::new(|| set(patterns::MODEL));
static UNSUPPORTED: LazyLock<RegexSet> = LazyLock::new(|| set(patterns::UNSUPPORTED));
static MODEL_LACKS: LazyLock<RegexSet> = LazyLock::new(|| set(patterns::MODEL_LACKS));
static OTHER_RESOURCE: LazyLock<RegexSet> = LazyLock::new(|| set(patterns::OTHER_RESOURCE));
static TOO_LARGE: LazyLock<RegexSet> = LazyLock::new(|| set(patterns::TOO_LARGE));
static GATEWAY: LazyLock<RegexSet> = LazyLock::new(|| set(patterns::GATEWAY));
static TIMEOUT: LazyLock<RegexSet> = LazyLock::new(|| set(patterns::TIMEOUT));
static CRASH: LazyLock<RegexSet> = LazyLock::new(|| set(patterns::CRASH));
static SERVER_FAULT: LazyLock<RegexSet> = LazyLock::new(|| set(patterns::SERVER_FAULT));

static DAY: LazyLock<Regex> = LazyLock::new(|| one(patterns::DAY));
static UNDER_A_DAY: LazyLock<Regex> = LazyLock::new(|| one(patterns::UNDER_A_DAY));
static LIMIT_AND_ASKED: LazyLock<Regex> = LazyLock::new(|| one(patterns::LIMIT_AND_ASKED));
static URL: LazyLock<Regex> = LazyLock::new(|| one(r"https?://\S+"));

const HOUR_MS: u64 = 3_600_000;

/// The period that an allowance is counted over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Period {
    /// A day or longer, or a plan's window: no wait inside a run cures it.
    Day,
    /// Shorter.
    UnderADay,
}

/// A text made ready to be looked at: lower case, no URLs, since paths like `/rate-limits` and
/// `/billing` stand under every kind of error.
pub(super) struct Wording {
    text: String,
    /// The server states a wait of less than an hour.
    short_wait: bool,
}

impl Wording {
    pub(super) fn new(text: &str, stated_wait_ms: Option<u64>) -> Self {
        let lower = super::evidence::clip(text, super::evidence::TEXT_BYTES_MAX).to_lowercase();
        let text = URL.replace_all(&lower, " ").replace(['\u{2019}', '\u{2018}'], "'");
        Self { text, short_wait: stated_wait_ms.is_some_and(|ms| ms < HOUR_MS) }
    }

    /// The first period that is named.
    pub(super) fn period(&self) -> Option<Period> {
        let day = DAY.find(&self.text).map(|found| found.start());
        let shorter = UNDER_A_DAY.find(&self.text).map(|found| found.start());
        match (day, shorter) {
            (None, None) => None,
            (Some(day), Some(shorter)) if shorter < day => Some(Period::UnderADay),
            (Some(_), _) => Some(Period::Day),
            (None, Some(_)) => Some(Period::UnderADay),
        }
    }

    fn says(&self, class: &RegexSet) -> bool {
        class.is_match(self.text.as_bytes())
    }

    /// One request asks for more than the allowance of a whole minute.
    fn over_the_allowance_alone(&self) -> bool {
        if self.says(&PER_REQUEST) {
            return true;
        }
        let number = |found: Option<regex::Match<'_>>| {
            found.and_then(|digits| digits.as_str().replace(',', "").parse::<u64>().ok())
        };
        LIMIT_AND_ASKED.captures(&self.text).is_some_and(|found| {
            matches!((number(found.get(1)), number(found.get(2))), (Some(limit), Some(asked)) if limit < asked && 0 < limit)
        })
    }

    fn says_window(&self) -> bool {
        const NAMES: [&str; 6] =
            ["context l", "context w", "context s", "prompt", "input", "messages"];
        let named = || NAMES.iter().any(|name| self.text.contains(name));
        self.says(&WINDOW) && !self.says(&NOT_WINDOW) && (!self.says(&OUTPUT_CAP) || named())
    }

    /// What the text says under this status; `None` leaves it to the status.
    pub(super) fn judge(&self, status: u16) -> Option<FailureCause> {
        if self.text.is_empty() {
            return None;
        }
        match status {
            401 | 407 => self.judge_401(),
            403 => self.judge_403(),
            404 | 410 => self.judge_404(),
            413 => self.says_window().then_some(ContextLengthExceeded),
            424 => self.judge_424(),
            429 => self.judge_429(),
            498 => self.says(&CAPACITY).then_some(Overloaded),
            501 => None,
            400..=499 if !matches!(status, 402 | 408 | 409 | 423 | 425 | 499) => self.judge_400(),
            500 => self.judge_5xx(None),
            502 => self.judge_5xx(Some(BadGateway)),
            504 | 522 | 524 | 529 => None,
            503 | 505..=599 => self.judge_503(),
            _ => None,
        }
    }

    fn judge_400(&self) -> Option<FailureCause> {
        if let Some(cause) = self.judge_allowances(false) {
            return Some(cause);
        }
        self.first(&[
            (&FILTER, ContentFiltered),
            (&ACCOUNT, PermissionDenied),
            (&AUTH, Authentication),
            (&PERMISSION, PermissionDenied),
            (&MODEL, ModelNotFound),
            (&UNSUPPORTED, UnsupportedParameter),
            (&TOO_LARGE, RequestTooLarge),
            (&CRASH, ServerError),
        ])
    }

    /// Quota, one request over the allowance, capacity, pace and window, in this order.
    fn judge_allowances(&self, pace_is_meant: bool) -> Option<FailureCause> {
        let metered = pace_is_meant || self.says(&PACE);
        match (metered, self.period()) {
            (true, Some(Period::Day)) => return Some(QuotaExhausted),
            (true, Some(Period::UnderADay)) => (),
            (true, None) if self.says(&NO_ALLOWANCE) => return Some(QuotaExhausted),
            (_, _) if self.says(&QUOTA) && !(metered && self.is_metered()) => {
                return Some(QuotaExhausted);
            }
            (_, _) => (),
        }
        if metered && self.over_the_allowance_alone() {
            return Some(RequestTooLarge);
        }
        if self.says(&CAPACITY) {
            return Some(Overloaded);
        }
        if metered {
            return Some(RateLimited);
        }
        self.says_window().then_some(ContextLengthExceeded)
    }

    /// Quota words under a pace limit: a credit that is spent does not come back in seconds.
    fn is_metered(&self) -> bool {
        self.short_wait || self.says(&METERED)
    }

    fn judge_429(&self) -> Option<FailureCause> {
        self.judge_allowances(true)
    }

    fn judge_401(&self) -> Option<FailureCause> {
        self.first(&[
            (&QUOTA, QuotaExhausted),
            (&ROUTING, PermissionDenied),
            (&AUTH, Authentication),
            (&PERMISSION, PermissionDenied),
        ])
    }

    fn judge_403(&self) -> Option<FailureCause> {
        if let Some(cause) = self.judge_allowances(false) {
            return Some(cause);
        }
        self.first(&[
            (&FILTER, ContentFiltered),
            (&ACCOUNT, PermissionDenied),
            (&AUTH, Authentication),
        ])
    }

    fn judge_404(&self) -> Option<FailureCause> {
        self.first(&[
            (&ROUTING, PermissionDenied),
            (&OTHER_RESOURCE, InvalidRequest),
            (&MODEL_LACKS, UnsupportedParameter),
        ])
    }

    fn judge_424(&self) -> Option<FailureCause> {
        if self.says_window() {
            return Some(ContextLengthExceeded);
        }
        self.first(&[(&FILTER, ContentFiltered), (&CAPACITY, Overloaded), (&GATEWAY, BadGateway)])
    }

    fn judge_503(&self) -> Option<FailureCause> {
        self.first(&[(&GATEWAY, BadGateway)]).or_else(|| self.judge_5xx(None))
    }

    /// Gateways and local servers relay errors of the request as their own failure.
    fn judge_5xx(&self, gateway: Option<FailureCause>) -> Option<FailureCause> {
        let pace = self.says(&PACE);
        match self.period() {
            Some(Period::Day) if pace => return Some(QuotaExhausted),
            Some(Period::UnderADay) if pace => return Some(RateLimited),
            Some(Period::Day | Period::UnderADay) | None => (),
        }
        if self.says(&QUOTA) {
            return Some(QuotaExhausted);
        }
        if self.says(&CAPACITY) {
            return Some(Overloaded);
        }
        if pace {
            return Some(RateLimited);
        }
        if self.says_window() {
            return Some(ContextLengthExceeded);
        }
        if self.says(&FILTER) && !self.says(&SERVER_FAULT) {
            return Some(ContentFiltered);
        }
        gateway
    }

    /// An error inside a success that gives no status, or a generic one: the text alone decides.
    pub(super) fn judge_in_band(&self) -> Option<FailureCause> {
        if self.says(&SERVER_FAULT) {
            return self.judge_5xx(None).or(Some(ServerError));
        }
        if self.says(&GATEWAY) {
            return Some(BadGateway);
        }
        self.judge_400().or_else(|| self.says(&TIMEOUT).then_some(RequestTimeout))
    }

    /// The text is that of something between us and the model.
    pub(super) fn is_of_a_gateway(&self) -> bool {
        self.says(&GATEWAY)
    }

    fn first(&self, classes: &[(&LazyLock<RegexSet>, FailureCause)]) -> Option<FailureCause> {
        classes.iter().find(|(class, _)| self.says(class)).map(|(_, cause)| *cause)
    }
}

#[cfg(test)]
mod tests;
