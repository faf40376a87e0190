//! The words shared with providers: what is asked of a model and what came back.
//!
//! These types know neither a provider's JSON nor our policies. A dialect turns a
//! [`ModelRequest`] into bytes and an [`HttpResponse`] into a [`ModelReply`] or a failure;
//! everything above works with these types only. Nothing here imports from the rest of the crate.

use std::borrow::Cow;
use std::fmt;
use std::ops::AddAssign;
use std::sync::Arc;

use bytes::Bytes;
use http::HeaderMap;
use serde_json::{Map, Value};

/// Text written by a caller or by a model. It does not print: `Debug` shows its length only, so
/// that a prompt or an output cannot reach a log, a span or an error by accident.
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub struct Payload(String);

impl Payload {
    /// The text itself. Call this only where the text is sent, checked or returned to its owner.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// The text itself, by value.
    pub fn into_inner(self) -> String {
        self.0
    }

    /// Length in bytes.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// True for the empty text.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<T: Into<String>> From<T> for Payload {
    fn from(text: T) -> Self {
        Self(text.into())
    }
}

impl fmt::Debug for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Payload({} bytes)", self.0.len())
    }
}

/// Who speaks in a [`Message`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// Standing instructions.
    System,
    /// The caller.
    User,
    /// The model; used to show it its own earlier output.
    Assistant,
}

/// One message of a prompt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Who speaks.
    pub role: Role,
    /// What is said, in order; never empty.
    pub parts: Vec<Part>,
}

impl Message {
    /// A message with a single text part.
    pub fn text(role: Role, text: impl Into<Payload>) -> Self {
        Self { role, parts: vec![Part::Text(text.into())] }
    }
}

/// A piece of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    /// Plain text.
    Text(Payload),
    /// An image that the provider fetches itself.
    ImageUrl(Payload),
    /// An image sent along.
    ImageData {
        /// IANA media type, `image/png` for example.
        media_type: String,
        /// The bytes in standard base64, as every dialect wants them.
        base64: Payload,
    },
}

/// A tool that the model may call; a call of it is an output of the step.
#[derive(Debug, Clone, PartialEq)]
pub struct Tool {
    /// Name, as the model sees it.
    pub name: String,
    /// What it does, as the model sees it.
    pub description: Option<String>,
    /// JSON Schema of its arguments.
    pub parameters: Arc<Value>,
}

/// Which tools the model may or must call.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum ToolChoice {
    /// The model decides.
    #[default]
    Auto,
    /// No tool may be called.
    None,
    /// Some tool must be called.
    Required,
    /// This tool must be called.
    Named(String),
}

/// How the answer is to be written.
#[derive(Debug, Clone, PartialEq, Default)]
pub enum ResponseFormat {
    /// Free text.
    #[default]
    Text,
    /// Any JSON value ("JSON mode").
    Json,
    /// JSON that satisfies a schema, enforced by the provider where it can.
    JsonSchema {
        /// Name of the schema, `[a-zA-Z0-9_-]{1,64}`.
        name: String,
        /// The schema.
        schema: Arc<Value>,
        /// Ask for the provider's strict enforcement.
        strict: bool,
    },
}

/// Sampling options; `None` leaves the provider's default.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Sampling {
    /// Randomness, 0 to 2.
    pub temperature: Option<f64>,
    /// Nucleus sampling, 0 to 1.
    pub top_p: Option<f64>,
    /// Most tokens that the answer may have.
    pub max_output_tokens: Option<u32>,
    /// Texts at which the model stops.
    pub stop: Vec<String>,
    /// Asks for a repeatable answer.
    pub seed: Option<i64>,
}

/// One call to a model, in no provider's words.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ModelRequest<'a> {
    /// The provider's name of the model.
    pub model: Cow<'a, str>,
    /// The prompt, in order.
    pub messages: Cow<'a, [Message]>,
    /// Tools declared to the model.
    pub tools: Cow<'a, [Tool]>,
    /// Which of them may or must be called; ignored without tools.
    pub tool_choice: ToolChoice,
    /// Sampling options.
    pub sampling: Sampling,
    /// How the answer is to be written.
    pub response_format: ResponseFormat,
    /// Provider-specific members laid over the encoded body (top level, last word wins).
    pub extra: Map<String, Value>,
    /// Ask for a stream of events.
    pub stream: bool,
}

/// Tokens of one attempt as the provider counted them; absent counts are 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    /// Prompt tokens, cached ones included.
    pub input_tokens: u64,
    /// Answer tokens, reasoning included.
    pub output_tokens: u64,
    /// Prompt tokens read from the provider's cache.
    pub cached_input_tokens: u64,
    /// Answer tokens spent on reasoning.
    pub reasoning_tokens: u64,
}

impl AddAssign for Usage {
    fn add_assign(&mut self, other: Self) {
        self.input_tokens = self.input_tokens.saturating_add(other.input_tokens);
        self.output_tokens = self.output_tokens.saturating_add(other.output_tokens);
        self.cached_input_tokens =
            self.cached_input_tokens.saturating_add(other.cached_input_tokens);
        self.reasoning_tokens = self.reasoning_tokens.saturating_add(other.reasoning_tokens);
    }
}

/// A call of a declared tool, made by the model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ToolCall {
    /// The provider's id of the call; empty where the provider has none.
    pub id: String,
    /// Name of the tool.
    pub name: String,
    /// Arguments as JSON text, checked to be JSON.
    pub arguments: Payload,
}

/// Why a usable reply ended. Endings that make a reply unusable (length, filter, refusal, error)
/// are failures and never appear here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FinishReason {
    /// The model was done, or met a stop text.
    Stop,
    /// The model called tools.
    ToolCalls,
    /// A value that we do not know, beside usable text; kept for metrics.
    Unknown(String),
}

/// A complete, usable answer of a model, not yet held against an output contract.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelReply {
    /// The answer's text; may be empty when tools are called.
    pub text: Payload,
    /// Tools called.
    pub tool_calls: Vec<ToolCall>,
    /// Reasoning shown apart from the answer.
    pub reasoning: Option<Payload>,
    /// Why it ended.
    pub finish: FinishReason,
    /// Tokens as counted by the provider.
    pub usage: Usage,
    /// The provider's id of the response.
    pub response_id: Option<String>,
    /// The model that answered, as the provider names it.
    pub model: Option<String>,
}

/// How a response body ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BodyEnd {
    /// The transport says that the body is whole.
    Complete,
    /// The connection ended before the announced end.
    Cut,
    /// The connection was reset.
    Reset,
    /// Nothing came for longer than the idle limit.
    Idle,
    /// The body went over our size limit and was dropped.
    TooLarge,
}

/// A provider's HTTP answer, whole.
#[derive(Debug, Clone)]
pub struct HttpResponse {
    /// Status code.
    pub status: u16,
    /// Headers.
    pub headers: HeaderMap,
    /// Body as far as it came, decoded from its content encoding.
    pub body: Bytes,
    /// How the body ended.
    pub end: BodyEnd,
}

/// What kept a call from bringing back an HTTP answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TransportFault {
    /// Refused, unreachable, reset or closed before the first response byte.
    Connect,
    /// The name did not resolve.
    Dns,
    /// The target's address is one that it may not be called at; nothing was sent.
    Forbidden,
    /// Certificate or protocol negotiation failed.
    Tls,
    /// The connect limit (TLS included) passed.
    ConnectTimeout,
    /// The limit of the attempt, or of its first byte, passed.
    RequestTimeout,
}

/// What came back from an attempt, not yet judged.
#[derive(Debug, Clone)]
pub enum Outcome {
    /// An HTTP answer of any status.
    Response(HttpResponse),
    /// No HTTP answer.
    Fault(TransportFault),
}
