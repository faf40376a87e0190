//! Actions, rungs and ladders: what may be done about a failure, and in which order.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value};

use crate::document::DurationText;
use crate::failure::FailureDomain;
use crate::resilience::backoff::Backoff;

macro_rules! actions {
    ($($variant:ident $name:literal $calls:literal $terminal:literal $doc:literal;)*) => {
        /// What is done about a failure. The closed list; the names are stable on the wire.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Action { $(#[doc = $doc] $variant,)* }

        impl Action {
            /// Every action, in the order of the design.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The name on the wire, in policies, spans and metrics.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            /// Whether it makes a provider call.
            pub const fn calls_model(self) -> bool {
                match self { $(Self::$variant => $calls,)* }
            }

            /// Whether it ends the step whatever the conditions, so that it is always feasible and
            /// no rung after it is ever reached.
            pub const fn is_terminal(self) -> bool {
                match self { $(Self::$variant => $terminal,)* }
            }

            /// One line on what it does.
            pub const fn summary(self) -> &'static str {
                match self { $(Self::$variant => $doc,)* }
            }
        }
    };
}

actions! {
    RetryWithBackoff "retry_with_backoff" true false "The same call again on the same target, after backoff or the server's hint.";
    RepairOutput "repair_output" false false "Repairs the output deterministically.";
    RepromptWithErrors "reprompt_with_errors" true false "Asks again, showing the bad output and its violations.";
    FallbackToTarget "fallback_to_target" true false "Asks the next usable target.";
    FallbackToCache "fallback_to_cache" false false "Answers with the last good output of the same step and input.";
    FallbackToTemplate "fallback_to_template" false false "Answers with a fixed output.";
    AcceptPartial "accept_partial" false false "Keeps the fields that hold and fills in defaults.";
    AlertAndDegrade "alert_and_degrade" false true "Raises the alert, then answers from the first degraded source that exists.";
    RejectAndFix "reject_and_fix" false true "Fails at once, telling the caller what to fix.";
    AlertAndHalt "alert_and_halt" false true "Raises the alert and fails the whole run.";
}

impl Action {
    /// Whether it can do anything about failures of this domain. Three actions work on an output
    /// and so make sense for bad outputs only.
    pub const fn suits(self, domain: FailureDomain) -> bool {
        match self {
            Self::RepairOutput | Self::RepromptWithErrors | Self::AcceptPartial => {
                matches!(domain, FailureDomain::OutputSemantic)
            }
            Self::RetryWithBackoff
            | Self::FallbackToTarget
            | Self::FallbackToCache
            | Self::FallbackToTemplate
            | Self::AlertAndDegrade
            | Self::RejectAndFix
            | Self::AlertAndHalt => true,
        }
    }
}

impl Action {
    /// Whether its output would be another than the one in hand.
    pub const fn replaces_output(self) -> bool {
        match self {
            Self::RetryWithBackoff
            | Self::RepromptWithErrors
            | Self::FallbackToTarget
            | Self::FallbackToCache
            | Self::FallbackToTemplate => true,
            Self::RepairOutput
            | Self::AcceptPartial
            | Self::AlertAndDegrade
            | Self::RejectAndFix
            | Self::AlertAndHalt => false,
        }
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The name of the route that gave a ladder: its path in the policy document, such as
/// `routing.infrastructure.causes.rate_limited`.
pub type RuleName = Arc<str>;

/// How an answer that its token limit cut is asked for again. Without either, the model is asked for
/// a shorter one.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct AfterCut {
    /// The token limit of the new answer, as a multiple of the old one.
    pub raise_max_output_tokens: Option<f64>,
    /// Ask for the rest, to be joined with what came, and not for a new answer.
    pub continue_cut: bool,
}

impl fmt::Display for AfterCut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.continue_cut {
            f.write_str(", continuing what was cut")?;
        }
        match self.raise_max_output_tokens {
            Some(factor) => write!(f, ", {factor} times the token limit after a cut"),
            None => Ok(()),
        }
    }
}

/// One action with its parameters.
#[derive(Debug, Clone, PartialEq)]
pub enum Rung {
    /// [`Action::RetryWithBackoff`].
    RetryWithBackoff {
        /// Extra calls per source target.
        attempts: u32,
        /// How long to wait.
        backoff: Backoff,
        /// Retry even what is not known to be curable by a retry.
        also_when_not_retryable: bool,
    },
    /// [`Action::RepairOutput`], once per output.
    RepairOutput {
        /// Take repairs that lose or guess something.
        accept_lossy: bool,
    },
    /// [`Action::RepromptWithErrors`].
    RepromptWithErrors {
        /// Extra calls per source target.
        attempts: u32,
        /// What else is done about an answer that its token limit cut.
        after_cut: AfterCut,
    },
    /// [`Action::FallbackToTarget`].
    FallbackToTarget {
        /// Targets in order of preference; empty for the step's own list.
        targets: Vec<Arc<str>>,
        /// How often the rung may be taken per source target.
        attempts: u32,
    },
    /// [`Action::FallbackToCache`].
    FallbackToCache {
        /// Oldest entry that is good enough; the policy's `cache.max_age` if absent.
        max_age: Option<Duration>,
    },
    /// [`Action::FallbackToTemplate`].
    FallbackToTemplate {
        /// The output; the step's own template if absent.
        template: Option<Arc<Value>>,
    },
    /// [`Action::AcceptPartial`].
    AcceptPartial {
        /// Values for the fields that do not hold.
        defaults: Arc<Map<String, Value>>,
    },
    /// [`Action::AlertAndDegrade`].
    AlertAndDegrade,
    /// [`Action::RejectAndFix`].
    RejectAndFix {
        /// What to tell the caller, beside the failure's own sentence.
        message: Option<Arc<str>>,
    },
    /// [`Action::AlertAndHalt`].
    AlertAndHalt,
}

impl Rung {
    /// What the rung does.
    pub const fn action(&self) -> Action {
        match self {
            Self::RetryWithBackoff { .. } => Action::RetryWithBackoff,
            Self::RepairOutput { .. } => Action::RepairOutput,
            Self::RepromptWithErrors { .. } => Action::RepromptWithErrors,
            Self::FallbackToTarget { .. } => Action::FallbackToTarget,
            Self::FallbackToCache { .. } => Action::FallbackToCache,
            Self::FallbackToTemplate { .. } => Action::FallbackToTemplate,
            Self::AcceptPartial { .. } => Action::AcceptPartial,
            Self::AlertAndDegrade => Action::AlertAndDegrade,
            Self::RejectAndFix { .. } => Action::RejectAndFix,
            Self::AlertAndHalt => Action::AlertAndHalt,
        }
    }

    /// Whether an earlier output may come of it.
    pub const fn may_use_cache(&self) -> bool {
        match self {
            Self::FallbackToCache { .. } | Self::AlertAndDegrade => true,
            Self::RetryWithBackoff { .. }
            | Self::RepairOutput { .. }
            | Self::RepromptWithErrors { .. }
            | Self::FallbackToTarget { .. }
            | Self::FallbackToTemplate { .. }
            | Self::AcceptPartial { .. }
            | Self::RejectAndFix { .. }
            | Self::AlertAndHalt => false,
        }
    }

    /// How often the rung may be taken per source target and step.
    pub const fn allowance(&self) -> u32 {
        match self {
            Self::RetryWithBackoff { attempts, .. }
            | Self::RepromptWithErrors { attempts, .. }
            | Self::FallbackToTarget { attempts, .. } => *attempts,
            // A repair is counted per output instead: a re-ask brings a new output to repair.
            Self::RepairOutput { .. } => u32::MAX,
            Self::FallbackToCache { .. }
            | Self::FallbackToTemplate { .. }
            | Self::AcceptPartial { .. }
            | Self::AlertAndDegrade
            | Self::RejectAndFix { .. }
            | Self::AlertAndHalt => 1,
        }
    }

    /// Whether it is feasible whatever the conditions, so that nothing after it is reached.
    pub const fn always_feasible(&self) -> bool {
        match self {
            Self::FallbackToTemplate { template } => template.is_some(),
            Self::RetryWithBackoff { .. }
            | Self::RepairOutput { .. }
            | Self::RepromptWithErrors { .. }
            | Self::FallbackToTarget { .. }
            | Self::FallbackToCache { .. }
            | Self::AcceptPartial { .. }
            | Self::AlertAndDegrade
            | Self::RejectAndFix { .. }
            | Self::AlertAndHalt => self.action().is_terminal(),
        }
    }
}

impl fmt::Display for Rung {
    /// The rung in words: `retry_with_backoff (2 times, 1s … 20s, full jitter)`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.action().name())?;
        match self {
            Self::RetryWithBackoff { attempts, backoff, also_when_not_retryable } => {
                write!(f, " ({}, {backoff}", times(*attempts))?;
                f.write_str(if *also_when_not_retryable { ", always)" } else { ")" })
            }
            Self::RepairOutput { accept_lossy } => {
                f.write_str(if *accept_lossy { " (lossy too)" } else { "" })
            }
            Self::RepromptWithErrors { attempts, after_cut } => {
                write!(f, " ({}{after_cut})", times(*attempts))
            }
            Self::FallbackToTarget { targets, attempts } => {
                f.write_str(" (")?;
                if targets.is_empty() {
                    f.write_str("the step's list")?;
                }
                for (i, target) in targets.iter().enumerate() {
                    write!(f, "{}{target}", if i > 0 { ", " } else { "" })?;
                }
                if *attempts > 1 {
                    write!(f, "; {}", times(*attempts))?;
                }
                f.write_str(")")
            }
            Self::FallbackToCache { max_age: Some(age) } => {
                write!(f, " (at most {} old)", DurationText(*age))
            }
            Self::FallbackToTemplate { template: Some(_) } => f.write_str(" (of the policy)"),
            Self::FallbackToTemplate { template: None } => f.write_str(" (of the step)"),
            Self::AcceptPartial { defaults } if !defaults.is_empty() => {
                write!(f, " (defaults for {})", defaults.len())
            }
            Self::FallbackToCache { max_age: None }
            | Self::AcceptPartial { .. }
            | Self::AlertAndDegrade
            | Self::RejectAndFix { .. }
            | Self::AlertAndHalt => Ok(()),
        }
    }
}

fn times(attempts: u32) -> String {
    match attempts {
        1 => "once".to_owned(),
        2 => "twice".to_owned(),
        more => format!("{more} times"),
    }
}

/// The ordered rungs for a failure, and the route that they came from. The first feasible rung is
/// taken; with none the step fails.
#[derive(Debug, Clone, PartialEq)]
pub struct Ladder {
    /// The route.
    pub rule: RuleName,
    /// The rungs, first tried first.
    pub rungs: Vec<Rung>,
}
