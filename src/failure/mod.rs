//! Failures: what went wrong, in the closed taxonomy of four domains and thirty-four causes.
//!
//! An outcome is judged once, here; after that nobody looks at a status code or at a provider's
//! wording again. Causes are what policies route on, so the list is closed and every match over
//! it is exhaustive: a new cause does not compile until it is placed everywhere.

pub mod classify;
mod evidence;
mod http_status;
mod machine;
mod python_repr;
mod redact;
pub mod retry_hint;
mod wording;

pub(crate) use redact::text as safe_text;

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use crate::exchange::{Payload, Usage};

/// Finer names of refusals whose cause a provider gives too.
pub mod refusal {
    /// The target is cooling down after a rate limit.
    pub const COOLING_DOWN: &str = "cooling_down";
    /// The target's quota was used up before.
    pub const QUOTA_EXHAUSTED: &str = "quota_exhausted";
}

/// Where the remedy lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum FailureDomain {
    /// The way to the model or the model's service; waiting or another target helps.
    Infrastructure,
    /// The request cannot be served as it is; the caller must change it.
    InputConstraint,
    /// The model answered and the answer is unusable.
    OutputSemantic,
    /// The pipeline or its configuration is wrong; an operator must act.
    PipelineLogic,
}

macro_rules! causes {
    ($($variant:ident $name:literal $domain:ident $retryable:literal $breaker:literal $doc:literal;)*) => {
        /// The finer class inside a domain. The closed list; the names are stable on the wire.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum FailureCause { $(#[doc = $doc] $variant,)* }

        impl FailureCause {
            /// Every cause, in the order of the taxonomy.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The name on the wire, in policies, spans and metrics.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            /// The one domain of the cause.
            pub const fn domain(self) -> FailureDomain {
                match self { $(Self::$variant => FailureDomain::$domain,)* }
            }

            /// Whether the identical request to the same target may succeed later. For
            /// [`FailureDomain::OutputSemantic`]: whether sampling again is worth an attempt.
            pub const fn retryable(self) -> bool {
                match self { $(Self::$variant => $retryable,)* }
            }

            /// Whether it counts as a failure of the target's health.
            pub const fn counts_against_breaker(self) -> bool {
                match self { $(Self::$variant => $breaker,)* }
            }

            /// One line on what it means.
            pub const fn summary(self) -> &'static str {
                match self { $(Self::$variant => $doc,)* }
            }
        }
    };
}

causes! {
    Connect "connect" Infrastructure true true "Refused, unreachable, reset or closed before the first response byte.";
    Dns "dns" Infrastructure true true "The target's name did not resolve.";
    Tls "tls" Infrastructure false true "Certificate or protocol negotiation failed.";
    ConnectTimeout "connect_timeout" Infrastructure true true "The connection was not made in time.";
    RequestTimeout "request_timeout" Infrastructure true true "The attempt did not end in time.";
    StreamIdleTimeout "stream_idle_timeout" Infrastructure true true "The stream was open without progress for too long.";
    StreamInterrupted "stream_interrupted" Infrastructure true true "The stream ended without its terminal event.";
    RateLimited "rate_limited" Infrastructure true false "A pace limit with a period under a day.";
    Overloaded "overloaded" Infrastructure true true "The provider lacks capacity.";
    ServerError "server_error" Infrastructure true true "The provider failed inside.";
    BadGateway "bad_gateway" Infrastructure true true "Something between us and the model failed.";
    MalformedResponse "malformed_response" Infrastructure true true "A success status with a body that is not the protocol.";
    QuotaExhausted "quota_exhausted" Infrastructure false true "Credit, spend cap or a long-period allowance is used up.";
    Conflict "conflict" Infrastructure true false "The same request is in progress, or a lock is held.";
    CircuitOpen "circuit_open" Infrastructure true false "The target's breaker is open; nothing was sent.";
    BulkheadFull "bulkhead_full" Infrastructure true false "The target's concurrency or queue limit is reached; nothing was sent.";
    ContextLengthExceeded "context_length_exceeded" InputConstraint false false "The prompt, or prompt plus output budget, is over the model's window.";
    ContentFiltered "content_filtered" InputConstraint false false "A filter blocked the prompt or the output.";
    InvalidRequest "invalid_request" InputConstraint false false "The request is wrong in value or shape.";
    UnsupportedParameter "unsupported_parameter" InputConstraint false false "This model or backend lacks a parameter, value or modality.";
    RequestTooLarge "request_too_large" InputConstraint false false "The request is too large in bytes, or above the per-minute allowance alone.";
    TruncatedOutput "truncated_output" OutputSemantic false false "The output budget or window ran out.";
    EmptyOutput "empty_output" OutputSemantic true false "A complete response without usable text or tool call.";
    Refusal "refusal" OutputSemantic false false "The model or its classifier declined.";
    MalformedJson "malformed_json" OutputSemantic true false "JSON was due and does not parse.";
    SchemaMismatch "schema_mismatch" OutputSemantic true false "The output parses and violates the schema.";
    RuleViolation "rule_violation" OutputSemantic true false "The schema holds and a business rule does not.";
    LowConfidence "low_confidence" OutputSemantic true false "Confidence is under the threshold.";
    Authentication "authentication" PipelineLogic false false "The credential is missing, wrong or expired.";
    PermissionDenied "permission_denied" PipelineLogic false false "The credential is known and access is denied.";
    ModelNotFound "model_not_found" PipelineLogic false false "The model, deployment or endpoint is unknown or not served.";
    TemplateError "template_error" PipelineLogic false false "A template does not render.";
    MissingInput "missing_input" PipelineLogic false false "A variable or an earlier step's field is absent.";
    Internal "internal" PipelineLogic false false "A bug or an impossible configuration.";
}

impl FailureDomain {
    /// Every domain.
    pub const ALL: &'static [Self] =
        &[Self::Infrastructure, Self::InputConstraint, Self::OutputSemantic, Self::PipelineLogic];

    /// The name on the wire, on spans and in metrics: `INFRASTRUCTURE`, ….
    pub const fn name(self) -> &'static str {
        match self {
            Self::Infrastructure => "INFRASTRUCTURE",
            Self::InputConstraint => "INPUT_CONSTRAINT",
            Self::OutputSemantic => "OUTPUT_SEMANTIC",
            Self::PipelineLogic => "PIPELINE_LOGIC",
        }
    }

    /// The key in a policy document: `infrastructure`, ….
    pub const fn key(self) -> &'static str {
        match self {
            Self::Infrastructure => "infrastructure",
            Self::InputConstraint => "input_constraint",
            Self::OutputSemantic => "output_semantic",
            Self::PipelineLogic => "pipeline_logic",
        }
    }
}

impl fmt::Display for FailureDomain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl fmt::Display for FailureCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A name that is no cause.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a failure cause")]
pub struct UnknownCause(pub String);

impl FromStr for FailureCause {
    type Err = UnknownCause;

    fn from_str(name: &str) -> Result<Self, UnknownCause> {
        Self::ALL
            .iter()
            .copied()
            .find(|cause| cause.name() == name)
            .ok_or_else(|| UnknownCause(name.to_owned()))
    }
}

/// What the provider itself said, bounded and printable, for the one who has to act on it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Evidence {
    /// HTTP status, where there was one.
    pub status: Option<u16>,
    /// The provider's error type or status word, at most 64 characters of `[A-Za-z0-9_.:-]`.
    pub provider_type: Option<String>,
    /// The provider's error code, same form.
    pub provider_code: Option<String>,
    /// The provider's id of the request, same form.
    pub request_id: Option<String>,
    /// The provider's own words, at most 512 characters, with key-like parts cut out. It may echo
    /// a prompt, so it goes back to the caller only: never to a log or a span.
    pub text: Option<Payload>,
}

/// One place where an output breaks its contract. Paths and rules only, never values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// JSON Pointer (RFC 6901) into the output; empty for the whole.
    pub path: String,
    /// What is wrong there, without the value.
    pub message: String,
}

/// A judged outcome that is not a usable reply.
#[derive(Debug, Clone, PartialEq)]
pub struct Failure {
    /// The class.
    pub cause: FailureCause,
    /// Whether the same call may succeed later. Starts as the cause's own answer; a provider's
    /// `x-should-retry` header may override it.
    pub retryable: bool,
    /// One safe sentence: no prompt, output, key or URL in it.
    pub message: String,
    /// A finer name for people and metrics, `unexpected_redirect` for example.
    pub detail: Option<&'static str>,
    /// The server's hint how long to wait.
    pub retry_after: Option<Duration>,
    /// What the provider said.
    pub evidence: Box<Evidence>,
    /// Text that came before the failure, incomplete or blocked.
    pub partial_text: Option<Payload>,
    /// Where the output breaks its contract.
    pub violations: Vec<Violation>,
    /// Tokens paid for and lost.
    pub usage: Usage,
}

impl Failure {
    /// A failure of this cause with a safe sentence and nothing else known.
    pub fn new(cause: FailureCause, message: impl Into<String>) -> Self {
        Self {
            cause,
            retryable: cause.retryable(),
            message: message.into(),
            detail: None,
            retry_after: None,
            evidence: Box::default(),
            partial_text: None,
            violations: Vec::new(),
            usage: Usage::default(),
        }
    }

    /// The domain of its cause.
    pub fn domain(&self) -> FailureDomain {
        self.cause.domain()
    }

    /// Whether it is a refusal of ours: nothing was sent, since the target takes no call now.
    pub fn is_refusal(&self) -> bool {
        matches!(self.cause, FailureCause::CircuitOpen | FailureCause::BulkheadFull)
            || matches!(self.detail, Some(refusal::COOLING_DOWN | refusal::QUOTA_EXHAUSTED))
    }

    /// The same failure with a finer name.
    pub fn with_detail(mut self, detail: &'static str) -> Self {
        self.detail = Some(detail);
        self
    }
}
