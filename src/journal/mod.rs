//! Records: what is kept of runs, steps and attempts.
//!
//! Plain data. The engine writes it, answers and spans are made from it, and a store keeps it, so
//! that what a caller reads, what a trace shows and what survives a crash are the same facts.

mod cached;
pub mod documents;
pub mod encoding;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use serde_json::Value;

pub use cached::{CacheUse, EmbeddingRecord};

use crate::exchange::{Payload, ToolCall, Usage};
use crate::failure::{Failure, Violation};
use crate::output::Verdict;
use crate::policy::{Action, RuleName, Skipped};

/// How far a step or a run is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RunState {
    /// Accepted, not started.
    Pending,
    /// Under way.
    Running,
    /// Ended with a usable output.
    Succeeded,
    /// Ended with a usable output that says what is less about it.
    Degraded,
    /// Ended without a usable output.
    Failed,
    /// Ended by the caller or an operator.
    Cancelled,
    /// Not run, because its condition was false.
    Skipped,
}

impl RunState {
    /// True when nothing more will happen.
    pub const fn ended(self) -> bool {
        match self {
            Self::Pending | Self::Running => false,
            Self::Succeeded | Self::Degraded | Self::Failed | Self::Cancelled | Self::Skipped => {
                true
            }
        }
    }

    /// Lower-case name, for spans and people.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Running => "running",
            Self::Succeeded => "succeeded",
            Self::Degraded => "degraded",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::Skipped => "skipped",
        }
    }
}

/// Where a degraded output came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DegradedBy {
    /// An earlier good output.
    Cache,
    /// A fixed output.
    Template,
    /// The part of an output that held.
    Partial,
}

impl DegradedBy {
    /// Lower-case name, for spans and people.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Cache => "cache",
            Self::Template => "template",
            Self::Partial => "partial",
        }
    }
}

/// What came of checking an output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum OutputVerdict {
    /// As it came.
    Clean,
    /// Changed, meaning certainly kept.
    Repaired,
    /// Something was guessed or is missing.
    Lossy,
}

impl OutputVerdict {
    /// Lower-case name, for spans and people.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Clean => "clean",
            Self::Repaired => "repaired",
            Self::Lossy => "lossy",
        }
    }
}

/// A change made to an output, without values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutputChange {
    /// Stable name.
    pub kind: &'static str,
    /// JSON Pointer, or `text:OFFSET`.
    pub place: String,
    /// Whether something was guessed or lost.
    pub lossy: bool,
}

/// The body of an output.
#[derive(Debug, Clone, PartialEq)]
pub enum OutputBody {
    /// Of a text contract.
    Text(Payload),
    /// Of a JSON contract: the text to hand on, and the value that later steps see.
    Json {
        /// JSON text.
        text: Payload,
        /// The same, parsed.
        value: Arc<Value>,
    },
}

impl OutputBody {
    /// What later steps see: the JSON value, or the text as a JSON string.
    pub fn to_value(&self) -> Value {
        match self {
            Self::Text(text) => Value::String(text.expose().to_owned()),
            Self::Json { value, .. } => Value::clone(value),
        }
    }

    /// Size in bytes, for bounds.
    pub fn len(&self) -> usize {
        match self {
            Self::Text(text) | Self::Json { text, .. } => text.len(),
        }
    }

    /// True when there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A usable output.
#[derive(Debug, Clone, PartialEq)]
pub struct StepOutput {
    /// The body.
    pub body: OutputBody,
    /// Tools called.
    pub tool_calls: Vec<ToolCall>,
    /// What came of checking it.
    pub verdict: OutputVerdict,
    /// What was changed.
    pub changes: Vec<OutputChange>,
    /// What is missing or broken and accepted all the same.
    pub warnings: Vec<Violation>,
    /// How sure it is, where the step says how to tell.
    pub confidence: Option<f64>,
}

impl StepOutput {
    /// An output as it came, with nothing to tell about it.
    pub fn plain(body: OutputBody) -> Self {
        Self {
            body,
            tool_calls: Vec::new(),
            verdict: OutputVerdict::Clean,
            changes: Vec::new(),
            warnings: Vec::new(),
            confidence: None,
        }
    }
}

/// What came of holding a reply's text against its contract, without values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckRecord {
    /// What the text is worth.
    pub verdict: Verdict,
    /// What was changed on the way to a value, or would be by a repair.
    pub changes: Vec<OutputChange>,
}

/// Something found wrong in an attempt, and what was decided about it.
#[derive(Debug, Clone, PartialEq)]
pub struct Finding {
    /// What is wrong.
    pub failure: Failure,
    /// The decision; absent where the verifier's own ladder ended the run.
    pub decision: Option<DecisionRecord>,
}

/// What was decided about a failure.
#[derive(Debug, Clone, PartialEq)]
pub struct DecisionRecord {
    /// The action; `None` when no rung was feasible.
    pub action: Option<Action>,
    /// The route that gave the ladder.
    pub rule: RuleName,
    /// Index of the rung taken.
    pub rung: Option<usize>,
    /// Rungs passed over.
    pub skipped: Vec<Skipped>,
    /// Wait before the next call.
    pub wait: Duration,
    /// The target called next, when it is another.
    pub next_target: Option<Arc<str>>,
    /// Whether the next call is asked for the rest of what the reader of a stream has seen.
    pub continues: bool,
}

/// One call to one target, or one that was refused before it was made.
#[derive(Debug, Clone, PartialEq)]
pub struct AttemptRecord {
    /// Number in the step, from 1.
    pub number: u32,
    /// Target.
    pub target: Arc<str>,
    /// When it started.
    pub started: SystemTime,
    /// How long it took.
    pub duration: Duration,
    /// Whether something was sent.
    pub called: bool,
    /// Whether it was made beside a slow one.
    pub hedge: bool,
    /// Why it was given up, if it was. Its tokens are then what is known of it: those of the prompt,
    /// as the attempt beside it counted them, or none.
    pub cancelled: Option<Cancelled>,
    /// Time to the first content, for streamed attempts that brought any.
    pub time_to_first_chunk: Option<Duration>,
    /// Span id that went to the provider; 0 without a trace.
    pub span_id: u64,
    /// Tokens.
    pub usage: Usage,
    /// Cost in US dollars.
    pub cost_usd: f64,
    /// The provider's id of the response.
    pub response_id: Option<String>,
    /// The model that answered.
    pub response_model: Option<String>,
    /// Finish reason of a usable reply.
    pub finish: Option<&'static str>,
    /// Why it failed.
    pub failure: Option<Failure>,
    /// What was decided about that.
    pub decision: Option<DecisionRecord>,
    /// What came of checking the text; absent where there was none.
    pub check: Option<CheckRecord>,
    /// What was found in the same output after that: a repaired output that breaks a rule, a
    /// verdict of the verifier.
    pub further: Vec<Finding>,
    /// Runs of the verifier over this attempt's output.
    pub verifications: Vec<StepReport>,
    /// Whether the step's output, or a part of it, is this attempt's.
    pub useful: bool,
    /// Whether it was made although every target refused: the policy wanted the least bad called.
    pub panic: bool,
}

/// Why an attempt was given up. It is no failure, and says nothing about its target's health.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Cancelled {
    /// The attempt beside it was faster.
    Outrun,
    /// Its run ended: the caller went away, or an operator or another step ended it.
    WithItsRun,
}

impl Cancelled {
    /// Stable name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Outrun => "outrun",
            Self::WithItsRun => "with_its_run",
        }
    }
}

impl AttemptRecord {
    fn spend(&self) -> Spend {
        let mut sum = Spend { usage: self.usage, cost_usd: self.cost_usd };
        self.verifications.iter().for_each(|report| sum.add_spend(report.spend()));
        sum
    }

    fn wasted(&self) -> Spend {
        if !self.useful {
            return self.spend();
        }
        let mut sum = Spend::default();
        self.verifications.iter().for_each(|report| sum.add_spend(report.wasted()));
        sum
    }
}

/// What came of a step, or of one element of it.
#[derive(Debug, Clone, PartialEq)]
pub struct StepReport {
    /// Name.
    pub step: Arc<str>,
    /// How it ended.
    pub state: RunState,
    /// Index of the element for `for_each`.
    pub element: Option<usize>,
    /// The output.
    pub output: Option<StepOutput>,
    /// Set when the output is degraded.
    pub degraded: Option<DegradedBy>,
    /// Age of a cached output.
    pub cache_age: Option<Duration>,
    /// How it came to be this step's; set when the age is.
    pub cache: Option<CacheUse>,
    /// The call that made a vector of the prompt, where the policy wants one.
    pub embedding: Option<Box<EmbeddingRecord>>,
    /// Target whose output this is.
    pub target: Option<Arc<str>>,
    /// Every attempt, in order.
    pub attempts: Vec<AttemptRecord>,
    /// Why it failed.
    pub failure: Option<Failure>,
    /// The last action taken before it failed.
    pub last_action: Option<Action>,
    /// A decision about a failure outside of any attempt (a template that does not render).
    pub decision: Option<DecisionRecord>,
    /// Whether the whole run must end with it.
    pub halts_run: bool,
    /// Whether time or the caller ended it, rather than a failure.
    pub ended_by_caller: bool,
    /// Results of the elements of a `for_each` step.
    pub elements: Vec<StepReport>,
    /// When it started.
    pub started: SystemTime,
    /// How long it took.
    pub duration: Duration,
    /// Its span; 0 without a trace.
    pub span_id: u64,
}

/// Sums over attempts.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Spend {
    /// Tokens.
    pub usage: Usage,
    /// Cost in US dollars.
    pub cost_usd: f64,
}

impl Spend {
    /// Adds another sum.
    pub fn add_spend(&mut self, other: Self) {
        self.usage += other.usage;
        self.cost_usd += other.cost_usd;
    }
}

impl StepReport {
    /// A report of a step that has only just started.
    pub fn begun(step: Arc<str>, element: Option<usize>, started: SystemTime) -> Self {
        Self {
            step,
            state: RunState::Running,
            element,
            output: None,
            degraded: None,
            cache_age: None,
            cache: None,
            embedding: None,
            target: None,
            attempts: Vec::new(),
            failure: None,
            last_action: None,
            decision: None,
            halts_run: false,
            ended_by_caller: false,
            elements: Vec::new(),
            started,
            duration: Duration::ZERO,
            span_id: 0,
        }
    }

    /// Provider calls made, those of elements and of verifiers included.
    pub fn calls(&self) -> u32 {
        let own = self.attempts.iter().filter(|attempt| attempt.called).count();
        let own = u32::try_from(own).unwrap_or(u32::MAX);
        let verifications = self.attempts.iter().flat_map(|attempt| &attempt.verifications);
        let others = self.elements.iter().chain(verifications);
        others.map(StepReport::calls).fold(own, u32::saturating_add)
    }

    /// Everything spent, that of elements and of the prompt's vector included.
    pub fn spend(&self) -> Spend {
        let mut sum = Spend::default();
        if let Some(embedding) = &self.embedding {
            sum.add_spend(Spend { usage: embedding.usage, cost_usd: embedding.cost_usd });
        }
        for attempt in &self.attempts {
            sum.add_spend(attempt.spend());
        }
        for element in &self.elements {
            sum.add_spend(element.spend());
        }
        sum
    }

    /// What was spent on attempts that gave no output: all of them for a step that failed or took
    /// its output from elsewhere, else all but those whose text is in it.
    pub fn wasted(&self) -> Spend {
        let mut sum = Spend::default();
        for attempt in &self.attempts {
            sum.add_spend(attempt.wasted());
        }
        for element in &self.elements {
            sum.add_spend(element.wasted());
        }
        sum
    }
}

/// A policy in force, by name and version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyRef {
    /// Name.
    pub name: Arc<str>,
    /// Version.
    pub version: u64,
}

/// One execution of a step or a pipeline.
#[derive(Debug, Clone, PartialEq)]
pub struct RunRecord {
    /// Id.
    pub run_id: Arc<str>,
    /// Whose it is.
    pub tenant: Arc<str>,
    /// Pipeline; empty for an inline step.
    pub pipeline: Arc<str>,
    /// Version of the pipeline.
    pub pipeline_version: u64,
    /// Policy in force.
    pub policy: PolicyRef,
    /// How far it is.
    pub state: RunState,
    /// Output of a run that ended well.
    pub output: Option<Arc<Value>>,
    /// Steps that have started, in the pipeline's order.
    pub steps: Vec<Arc<StepReport>>,
    /// Index in the pipeline of each of `steps`.
    pub step_order: Vec<usize>,
    /// Why it failed, with the step that failed it.
    pub failure: Option<(Arc<str>, Failure)>,
    /// The caller's labels.
    pub labels: Arc<BTreeMap<String, String>>,
    /// When it was accepted.
    pub created: SystemTime,
    /// When it ended.
    pub ended: Option<SystemTime>,
    /// Trace id; 0 without a trace.
    pub trace_id: u128,
    /// The caller's idempotency key.
    pub idempotency_key: Option<Arc<str>>,
}

impl RunRecord {
    /// Everything spent.
    pub fn spend(&self) -> Spend {
        let mut sum = Spend::default();
        self.steps.iter().for_each(|step| sum.add_spend(step.spend()));
        sum
    }

    /// What was spent in vain.
    pub fn wasted(&self) -> Spend {
        let mut sum = Spend::default();
        self.steps.iter().for_each(|step| sum.add_spend(step.wasted()));
        sum
    }

    /// The report of the step that failed the run.
    pub fn failed_step(&self) -> Option<&StepReport> {
        let (name, _) = self.failure.as_ref()?;
        self.steps.iter().map(Arc::as_ref).find(|step| step.step == *name)
    }
}
