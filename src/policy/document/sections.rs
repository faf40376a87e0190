//! The sections of a policy that hold figures and switches only.

use schemars::JsonSchema;
use serde::Deserialize;

use super::hedge_after::HedgeAfterText;
use crate::document::DurationText;

/// How outputs are judged.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ValidationSection {
    /// Take an output out of a Markdown fence, whatever the ladder; true if absent. With false a
    /// fenced output is malformed and no repair takes the fence off.
    pub strip_markdown_fences: Option<bool>,
    /// Most characters of a preview in a log or an error; 200 if absent.
    #[schemars(range(max = 100_000))]
    pub max_content_preview_length: Option<u32>,
    /// Hold an output against its schema as the model wrote it: no value is coerced (`"42"` to 42,
    /// `High` to `high`, an extra field left out); false if absent.
    pub strict_schema_mode: Option<bool>,
    /// Let the fields that hold stand in for a whole output; true if absent.
    pub allow_partial_matches: Option<bool>,
}

/// When a target's breaker opens and closes.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct BreakerSection {
    /// Rates are taken over the calls of this long; 30 s if absent.
    pub window: Option<DurationText>,
    /// Buckets that the window moves by; 10 if absent.
    #[schemars(range(min = 1, max = 100))]
    pub buckets: Option<u32>,
    /// Rates are taken over this many calls instead of a time.
    #[schemars(range(min = 1, max = 100_000))]
    pub window_calls: Option<u32>,
    /// Fewer calls than this give no rate; 10 if absent.
    #[schemars(range(min = 1, max = 100_000))]
    pub min_calls: Option<u32>,
    /// Opens at this share of failures; 0.5 if absent.
    #[schemars(range(min = 0, max = 1))]
    pub failure_rate: Option<f64>,
    /// Opens at this many failures in a row; 5 if absent, 0 for never.
    #[schemars(range(max = 100_000))]
    pub consecutive_failures: Option<u32>,
    /// A call that takes longer is slow.
    pub slow_call: Option<DurationText>,
    /// A stream whose first token takes longer is slow.
    pub slow_first_token: Option<DurationText>,
    /// Opens at this share of slow calls; 1 if absent.
    #[schemars(range(min = 0, max = 1))]
    pub slow_call_rate: Option<f64>,
    /// Count pace limits (429) in the share of failures; false if absent, since a cool-down answers
    /// them.
    pub count_rate_limits: Option<bool>,
    /// Time that it stays open the first time; 5 s if absent.
    pub open: Option<DurationText>,
    /// Growth of that time with each trip in a row; 2 if absent.
    #[schemars(range(min = 1, max = 100))]
    pub open_factor: Option<f64>,
    /// Longest time that it stays open; 60 s if absent.
    pub open_max: Option<DurationText>,
    /// Share by which that time is spread; 0.2 if absent.
    #[schemars(range(min = 0, max = 1))]
    pub open_jitter: Option<f64>,
    /// Probes at once while half-open; 1 if absent.
    #[schemars(range(min = 1, max = 1_000))]
    pub probes: Option<u32>,
    /// Successful probes in a row that close it; 2 if absent.
    #[schemars(range(min = 1, max = 1_000))]
    pub successes: Option<u32>,
    /// Longest time half-open; the limit of an attempt if absent.
    pub probe_timeout: Option<DurationText>,
    /// Time after closing in which the target takes a growing share of its calls at once; 10 s if
    /// absent.
    pub ramp: Option<DurationText>,
}

/// Extra calls that a target takes, as a share of its fresh ones.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct BudgetSection {
    /// Extra calls per fresh call; 0.2 if absent.
    #[schemars(range(min = 0, max = 100))]
    pub ratio: Option<f64>,
    /// Extra calls a second that are always allowed; 0.2 if absent.
    #[schemars(range(min = 0, max = 10_000))]
    pub floor_per_second: Option<f64>,
    /// What the share is taken over; 30 s if absent.
    pub window: Option<DurationText>,
}

/// Last good outputs as a source of degraded answers.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct CacheSection {
    /// Keep last good outputs, and answer with them where a rung says so; true if absent.
    pub enabled: Option<bool>,
    /// Oldest entry that is good enough; one day if absent.
    pub max_age: Option<DurationText>,
    /// An entry that is not older answers in place of a call; never, if absent.
    pub fresh_for: Option<DurationText>,
    /// Let identical calls under way share one provider call; false if absent.
    pub coalesce: Option<bool>,
    /// Answer with the output to another prompt that says nearly the same; never, if absent. Needs
    /// `cache.embeddings` in the server's configuration.
    pub semantic: Option<SemanticSection>,
}

/// Outputs to prompts that say nearly the same, in place of a call. Only steps without tools,
/// images and verifier are answered so; system messages and every number in the prompt have to be
/// the same.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SemanticSection {
    /// Least cosine similarity of the prompts, above 0 and at most 1; 0.95 if absent.
    #[schemars(range(min = 0, max = 1))]
    pub threshold: Option<f64>,
    /// Oldest output that is good enough; `cache.max_age` if absent.
    pub max_age: Option<DurationText>,
}

/// How a streamed step recovers.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct StreamingSection {
    /// What may be done once the reader has seen content; `restart` if absent.
    pub after_content: Option<AfterContentName>,
}

/// What may be done about a failure once the reader of a stream has seen content.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(transform = super::plain_enum)]
pub enum AfterContentName {
    /// Whatever the ladder says; the reader is told that what it has is void.
    Restart,
    /// Nothing that would take back what was shown: such rungs are passed over.
    Fail,
    /// Whatever the ladder says, but the next call is shown what was shown and asked for the rest,
    /// where the way to the model broke; the reader is told that it goes on. Where that cannot be,
    /// as with `restart`.
    Continue,
}

/// A second attempt beside a slow first one.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct HedgeSection {
    /// False if absent: hedging pays twice.
    pub enabled: Option<bool>,
    /// An attempt without an answer after this long is hedged; 5 s if absent. `p95` is the time
    /// within which 95 of 100 of its target's calls end lately; while fewer than 20 are known,
    /// nothing is hedged.
    pub after: Option<HedgeAfterText>,
    /// Most second attempts of one step; 1 if absent. Beside that the retry budget holds.
    #[schemars(range(min = 1, max = 8))]
    pub max_per_step: Option<u32>,
    /// Targets for the second attempt; the step's own list if absent.
    #[schemars(length(max = 64))]
    pub targets: Option<Vec<String>>,
}

/// When operators are told. The thresholds stand with the domains in `routing`.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct AlertsSection {
    /// Failures are counted over this time; 5 minutes if absent.
    pub window: Option<DurationText>,
    /// An alert resolves when no failure of its domain came for this long; 10 minutes if absent.
    pub resolve_after: Option<DurationText>,
}

/// What is cut out of previews.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RedactionSection {
    /// Names of JSON fields whose values are cut out, wherever they stand.
    #[schemars(length(max = 1_000))]
    pub fields: Option<Vec<String>>,
    /// Regular expressions of texts that are cut out.
    #[schemars(length(max = 100))]
    pub patterns: Option<Vec<String>>,
}

/// What is shown of runs.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ObservabilitySection {
    /// Record failures and decisions on spans; true if absent.
    pub trace_errors: Option<bool>,
    /// Write full payloads to the audit log; works only where the server allows it.
    pub log_raw_payloads: Option<bool>,
    /// Prefix of metric names; `llm.pipeline` if absent.
    #[schemars(
        regex(pattern = "^[a-z][a-z0-9_]*(\\.[a-z][a-z0-9_]*)*$"),
        extend("patternErrorMessage" = "expected lower-case words with dots between them, such as llm.pipeline")
    )]
    pub metrics_prefix: Option<String>,
}
