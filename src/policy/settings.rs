//! The sections of a compiled policy beside its routing: plain figures, checked and with their
//! defaults filled in. FAULTS.md section 1 says where the defaults come from.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::failure::{FailureCause, FailureDomain};
use crate::resilience::backoff::Backoff;

/// How far recovery may go.
#[derive(Debug, Clone, PartialEq)]
pub struct Execution {
    /// Provider calls of one step, the first included.
    pub max_attempts: u32,
    /// Provider calls of one run beyond the first of each step and element.
    pub run_extra_calls_max: u32,
    /// Waits of retry rungs that say nothing else.
    pub backoff: Backoff,
    /// First waits of causes that differ from `backoff.base`.
    pub backoff_bases: BTreeMap<FailureCause, Duration>,
    /// A longer hint, or a longer time until the target admits again, is not waited for.
    pub hint_limit: Duration,
    /// The share of a hint that jitter may add to it.
    pub hint_spread: f64,
    /// No further provider call once a step has cost this much.
    pub max_cost_usd: Option<f64>,
    /// Limit of a whole attempt, where the target sets none.
    pub attempt_timeout: Option<Duration>,
    /// What to do when every target of a step is refused.
    pub when_all_refuse: WhenAllRefuse,
}

impl Execution {
    /// The backoff of a retry rung that says nothing else, for this cause.
    pub fn backoff_for(&self, cause: FailureCause) -> Backoff {
        let base = self.backoff_bases.get(&cause).copied().unwrap_or(self.backoff.base);
        Backoff { base: base.min(self.backoff.max), ..self.backoff }
    }
}

/// What to do when every target of a step is refused by breaker or cool-down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum WhenAllRefuse {
    /// Fail at once, with the time of the earliest reopening.
    #[default]
    FailFast,
    /// Call the one that reopens first, and mark the attempt as such.
    LeastBad,
}

/// How outputs are judged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Validation {
    /// Take an output out of a Markdown fence, whatever the ladder. Without it a fenced output is
    /// malformed and no repair takes the fence off.
    pub strip_markdown_fences: bool,
    /// Most characters of a preview in a log or an error.
    pub max_content_preview_length: u32,
    /// Hold an output against its schema as the model wrote it, without coercing values.
    pub strict_schema_mode: bool,
    /// Let the fields that hold stand in for a whole output. Without it neither `accept_partial`
    /// nor `alert_and_degrade` answers with a part.
    pub allow_partial_matches: bool,
}

impl Default for Validation {
    fn default() -> Self {
        Self {
            strip_markdown_fences: true,
            max_content_preview_length: 200,
            strict_schema_mode: false,
            allow_partial_matches: true,
        }
    }
}

/// When operators are told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alerts {
    /// Failures are counted over this time.
    pub window: Duration,
    /// An alert resolves when no failure of its domain came for this long.
    pub resolve_after: Duration,
    thresholds: [u32; FailureDomain::ALL.len()],
}

impl Alerts {
    /// Failures of a domain within the window that raise its alert.
    pub const fn threshold(&self, domain: FailureDomain) -> u32 {
        self.thresholds[domain as usize]
    }

    pub(super) const fn set_threshold(&mut self, domain: FailureDomain, failures: u32) {
        self.thresholds[domain as usize] = failures;
    }
}

impl Default for Alerts {
    fn default() -> Self {
        Self {
            window: Duration::from_secs(300),
            resolve_after: Duration::from_secs(600),
            thresholds: [3, 1, 5, 1],
        }
    }
}

/// Outputs to prompts that say nearly the same, in place of a call.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SemanticPolicy {
    /// Least cosine similarity of the prompts, above 0 and at most 1.
    pub threshold: f64,
    /// Oldest output that is good enough.
    pub max_age: Duration,
}

/// Last good outputs as a source of degraded answers.
#[derive(Debug, Clone, PartialEq)]
pub struct CachePolicy {
    /// Keep last good outputs, and answer with them where a rung says so.
    pub enabled: bool,
    /// Oldest entry that is good enough.
    pub max_age: Duration,
    /// An entry that is not older answers in place of a call; never, if absent.
    pub fresh_for: Option<Duration>,
    /// Let identical calls under way share one provider call.
    pub coalesce: bool,
    /// Answer with the output to a prompt that says nearly the same; never, if absent.
    pub semantic: Option<SemanticPolicy>,
}

impl Default for CachePolicy {
    fn default() -> Self {
        Self {
            enabled: true,
            max_age: Duration::from_secs(86_400),
            fresh_for: None,
            coalesce: false,
            semantic: None,
        }
    }
}

/// What is shown of runs under this policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Observability {
    /// Record failures and decisions on spans.
    pub trace_errors: bool,
    /// Write full payloads to the audit log; works only where the server allows it.
    pub log_raw_payloads: bool,
    /// Prefix of metric names.
    pub metrics_prefix: Arc<str>,
}

impl Default for Observability {
    fn default() -> Self {
        Self {
            trace_errors: true,
            log_raw_payloads: false,
            metrics_prefix: Arc::from("llm.pipeline"),
        }
    }
}

/// What is cut out of previews.
#[derive(Debug, Clone, Default)]
pub struct Redaction {
    /// Names of JSON fields whose values are cut out, wherever they stand.
    pub fields: Vec<Arc<str>>,
    /// Texts that are cut out.
    pub patterns: Vec<regex::Regex>,
}

impl PartialEq for Redaction {
    fn eq(&self, other: &Self) -> bool {
        let texts = |all: &[regex::Regex]| {
            all.iter().map(|one| one.as_str().to_owned()).collect::<Vec<_>>()
        };
        self.fields == other.fields && texts(&self.patterns) == texts(&other.patterns)
    }
}

/// What may be done about a failure once the reader of a stream has seen content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum AfterContent {
    /// Whatever the ladder says; the reader is told that what it has is void.
    #[default]
    Restart,
    /// Nothing that would take back what was shown.
    Fail,
    /// Whatever the ladder says, but the next call is asked for the rest of what was shown, where
    /// that can be gone on with; the reader is told. Else as [`Self::Restart`].
    Continue,
}

/// When an attempt is slow enough for a second one beside it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HedgeAfter {
    /// After this long.
    Fixed(Duration),
    /// After the time within which 95 of 100 of its target's calls end lately; never while too few
    /// are known.
    P95,
}

/// A second attempt beside a slow first one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HedgeSettings {
    /// Off by default: it pays twice.
    pub enabled: bool,
    /// When an attempt without an answer is hedged.
    pub after: HedgeAfter,
    /// Most second attempts of one step.
    pub max_per_step: u32,
    /// Targets for the second attempt; empty for the step's own list.
    pub targets: Vec<Arc<str>>,
}

impl Default for HedgeSettings {
    fn default() -> Self {
        let after = HedgeAfter::Fixed(Duration::from_secs(5));
        Self { enabled: false, after, max_per_step: 1, targets: Vec::new() }
    }
}
