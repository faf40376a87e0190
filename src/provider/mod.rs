//! Providers: how each HTTP API is spoken, and the one transport that speaks.
//!
//! A dialect is pure: it encodes a [`ModelRequest`] and decodes an [`HttpResponse`]. To add one,
//! write one file and one line in [`DIALECTS`]; nothing in the engine changes.

pub mod address;
pub mod anthropic;
pub mod embeddings;
pub mod gemini;
pub mod openai;

mod draft;
pub mod shapes;
mod wire;

pub mod aws_events;
pub mod lines;
pub mod sse;
pub mod stream;
pub mod transport;

mod encode;

pub use stream::{StreamDecoder, StreamEvent};

use crate::exchange::{HttpResponse, ModelReply, ModelRequest};
use crate::failure::Failure;
use shapes::Shape;

/// How a credential is put on a request by default.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CredentialHeader {
    /// Lower-case header name.
    pub name: &'static str,
    /// What stands before the secret, `Bearer ` for example.
    pub prefix: &'static str,
}

/// What a decoder has to know beside the bytes.
#[derive(Debug, Clone, Copy)]
pub struct DecodeContext<'a> {
    /// The provider's name, for the few statuses that are private to one (`groq`, `cohere`, …).
    pub provider: &'a str,
    /// Wall time, against which dates in retry hints are read.
    pub now: jiff::Timestamp,
}

/// A request that cannot be said in a dialect.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the {dialect} dialect cannot express {what}")]
pub struct EncodeError {
    /// Name of the dialect.
    pub dialect: &'static str,
    /// What it cannot express.
    pub what: &'static str,
}

/// One way to speak HTTP to a model. Pure: no IO, no clock.
pub trait Dialect: Send + Sync + 'static {
    /// Name in the server configuration.
    fn name(&self) -> &'static str;

    /// Default of `gen_ai.provider.name`.
    fn provider(&self) -> &'static str;

    /// Base URL when the target gives none.
    fn default_base_url(&self) -> &'static str;

    /// Where the credential goes unless the target says otherwise.
    fn credential_header(&self) -> CredentialHeader;

    /// Headers that every call carries.
    fn fixed_headers(&self) -> &'static [(&'static str, &'static str)];

    /// Path after the base URL, with a leading `/` and perhaps a query; the model name is
    /// percent-encoded where it stands in the path.
    fn path(&self, model: &str, stream: bool) -> String;

    /// The JSON body.
    fn encode(&self, request: &ModelRequest<'_>) -> Result<Vec<u8>, EncodeError>;

    /// The shape of its answers.
    fn shape(&self) -> &'static Shape;

    /// Judges a whole response: one that was not streamed, or whose status is no success.
    fn decode(
        &self,
        response: &HttpResponse,
        context: DecodeContext<'_>,
    ) -> Result<ModelReply, Failure> {
        self.shape().decode(response, context)
    }

    /// Decodes the stream of a success.
    fn stream_decoder(&self, context: DecodeContext<'_>) -> StreamDecoder {
        StreamDecoder::new(self.shape(), context)
    }
}

/// The table of dialects: one line each.
pub static DIALECTS: &[&dyn Dialect] = &[&openai::OpenAi, &anthropic::Anthropic, &gemini::Gemini];

/// The dialect of this name.
pub fn dialect(name: &str) -> Option<&'static dyn Dialect> {
    DIALECTS.iter().copied().find(|dialect| dialect.name() == name)
}
