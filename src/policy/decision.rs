//! A decision: what is done about a failure, where that came from and what was passed over.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value};

use super::ladder::{Action, RuleName};

/// What to do, and how that came about.
#[derive(Debug, Clone, PartialEq)]
pub struct Decision {
    /// What to do.
    pub verdict: Verdict,
    /// The route of the ladder.
    pub rule: RuleName,
    /// The rung taken; absent when there was none.
    pub rung: Option<usize>,
    /// The rungs passed over, in order.
    pub skipped: Vec<Skipped>,
    /// Every target refuses and the least bad is called all the same, as the policy wants it.
    pub is_panic: bool,
    /// The next call waits for the end of a probe that is under way on its target.
    pub awaits_probe: bool,
    /// The next call is asked for the rest of what the reader of a stream has seen.
    pub continues: bool,
    /// Overrides whose condition could not be evaluated: an operator must look at them.
    pub broken_overrides: Vec<RuleName>,
}

/// What to do.
#[derive(Debug, Clone, PartialEq)]
pub enum Verdict {
    /// Wait, then make the same call on the same target.
    Retry {
        /// How long to wait.
        after: Duration,
    },
    /// Repair the output in hand.
    Repair {
        /// Take a repair that loses or guesses something.
        accept_lossy: bool,
    },
    /// Ask the same target again, with the output in hand and its violations.
    Reprompt {
        /// The token limit of the new answer, where it is raised.
        max_output_tokens: Option<u32>,
        /// Ask for the rest of a cut answer.
        continue_cut: bool,
    },
    /// Ask another target.
    Fallback {
        /// Which.
        target: Arc<str>,
    },
    /// Answer with the last good output.
    Cache {
        /// If it is not older than this.
        max_age: Option<Duration>,
    },
    /// Answer with a fixed output.
    Template {
        /// It; the step's own if absent.
        template: Option<Arc<Value>>,
    },
    /// Answer with the fields that hold.
    AcceptPartial {
        /// Values for the others.
        defaults: Arc<Map<String, Value>>,
    },
    /// Raise the alert, then answer from a degraded source or fail.
    Degrade {
        /// The source; with none the step fails.
        source: Option<DegradeSource>,
    },
    /// Fail, telling the caller what to fix.
    Reject {
        /// What the policy says about it.
        message: Option<Arc<str>>,
    },
    /// Raise the alert and fail the run.
    Halt,
    /// Fail: no rung was feasible.
    Exhausted,
}

impl Verdict {
    /// The action behind it; none when no rung was feasible.
    pub const fn action(&self) -> Option<Action> {
        match self {
            Self::Retry { .. } => Some(Action::RetryWithBackoff),
            Self::Repair { .. } => Some(Action::RepairOutput),
            Self::Reprompt { .. } => Some(Action::RepromptWithErrors),
            Self::Fallback { .. } => Some(Action::FallbackToTarget),
            Self::Cache { .. } => Some(Action::FallbackToCache),
            Self::Template { .. } => Some(Action::FallbackToTemplate),
            Self::AcceptPartial { .. } => Some(Action::AcceptPartial),
            Self::Degrade { .. } => Some(Action::AlertAndDegrade),
            Self::Reject { .. } => Some(Action::RejectAndFix),
            Self::Halt => Some(Action::AlertAndHalt),
            Self::Exhausted => None,
        }
    }
}

/// Where a degraded answer comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DegradeSource {
    /// The fields that hold.
    Partial,
    /// The last good output.
    Cache,
    /// The step's template.
    Template,
}

impl DegradeSource {
    /// Stable name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Partial => "partial",
            Self::Cache => "cache",
            Self::Template => "template",
        }
    }
}

/// A rung that was passed over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Skipped {
    /// Its place on the ladder.
    pub rung: usize,
    /// Its action.
    pub action: Action,
    /// Why.
    pub reason: SkipReason,
}

/// Why a rung is not feasible.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SkipReason {
    /// It was taken as often as it may be.
    AllowanceUsed,
    /// The step made as many calls as it may.
    AttemptsUsed,
    /// The run made as many extra calls as it may.
    RunCapReached,
    /// The step cost as much as it may.
    CostCeiling,
    /// The target takes no extra calls now.
    RetryBudget,
    /// No re-asks now.
    RepromptBudget,
    /// The re-ask does not fit the target's window beside the prompt and the answer due.
    ReaskTooLong,
    /// The answer's token limit is not known, or as high as it may be.
    TokenLimit,
    /// The verifier failed, not the step: no call of the step's own helps.
    VerifierFailed,
    /// The same call would fail again.
    NotRetryable,
    /// It would not end in the time left.
    WaitExceedsDeadline,
    /// The server asks for a longer wait than the policy grants.
    HintTooLong,
    /// The target admits no call, or not soon enough.
    TargetRefuses(Refusal),
    /// No target is left that was not asked in this step.
    NoTargetLeft,
    /// No target left has a larger context window.
    SmallerWindow,
    /// No repair gives a usable output.
    NothingToRepair,
    /// Only a repair that loses or guesses something does.
    RepairIsLossy,
    /// There is no earlier good output.
    NoCacheEntry,
    /// There is one, and it is too old.
    CacheEntryTooOld,
    /// There is no fixed output.
    NoTemplate,
    /// The step's schema refuses the fixed output.
    TemplateUnfit,
    /// No field of the output holds, or the policy takes no parts.
    NothingPartial,
    /// The action is about outputs and the failure is not.
    WrongDomain,
    /// It would take back what the reader of the stream has seen.
    ContentShown,
}

impl SkipReason {
    /// Stable name for spans and answers.
    pub const fn name(self) -> &'static str {
        match self {
            Self::AllowanceUsed => "allowance_used",
            Self::AttemptsUsed => "attempts_used",
            Self::RunCapReached => "run_cap_reached",
            Self::CostCeiling => "cost_ceiling",
            Self::RetryBudget => "retry_budget",
            Self::RepromptBudget => "reprompt_budget",
            Self::ReaskTooLong => "reask_too_long",
            Self::TokenLimit => "token_limit",
            Self::VerifierFailed => "verifier_failed",
            Self::NotRetryable => "not_retryable",
            Self::WaitExceedsDeadline => "wait_exceeds_deadline",
            Self::HintTooLong => "hint_too_long",
            Self::TargetRefuses(refusal) => refusal.name(),
            Self::NoTargetLeft => "no_target_left",
            Self::SmallerWindow => "smaller_window",
            Self::NothingToRepair => "nothing_to_repair",
            Self::RepairIsLossy => "repair_is_lossy",
            Self::NoCacheEntry => "no_cache_entry",
            Self::CacheEntryTooOld => "cache_entry_too_old",
            Self::NoTemplate => "no_template",
            Self::TemplateUnfit => "template_unfit",
            Self::NothingPartial => "nothing_partial",
            Self::WrongDomain => "wrong_domain",
            Self::ContentShown => "content_shown",
        }
    }
}

/// Why a target admits no call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// A provider asked for a pause.
    CoolingDown,
    /// The breaker is open.
    BreakerOpen,
    /// The breaker is half-open, and a probe under way will likely close it.
    ProbeUnderWay,
    /// Its outputs for the step were unusable lately.
    OutputBreakerOpen,
    /// Its quota is used up.
    QuotaExhausted,
    /// Concurrency and queue are full.
    BulkheadFull,
    /// Switched off by an operator, or its credential was refused.
    Disabled,
}

impl Refusal {
    /// Stable name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::CoolingDown => "cooling_down",
            Self::BreakerOpen => "breaker_open",
            Self::ProbeUnderWay => "probe_under_way",
            Self::OutputBreakerOpen => "output_breaker_open",
            Self::QuotaExhausted => "quota_exhausted",
            Self::BulkheadFull => "bulkhead_full",
            Self::Disabled => "target_disabled",
        }
    }
}

/// What a deterministic repair would give.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RepairOffer {
    /// A usable output, for which nothing but a Markdown fence has to go.
    FenceOnly,
    /// A usable output, with nothing lost or guessed.
    Lossless,
    /// A usable output, with something lost or guessed.
    Lossy,
}
