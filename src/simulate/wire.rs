//! What the dialects have in common: the shape of a reply before it becomes bytes.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::answers::Answer;
use super::ask::{Ask, Dialect, estimate_tokens};
use super::chance::Luck;
use super::faults::{Trouble, TroubleKind};
use super::{wire_anthropic, wire_gemini, wire_openai};

/// A reply, not yet framed.
#[derive(Debug, Clone, PartialEq)]
pub struct Reply {
    /// Status.
    pub status: u16,
    /// Headers without those of the framing.
    pub headers: Vec<(&'static str, String)>,
    /// Body.
    pub body: Body,
}

/// The body of a reply.
#[derive(Debug, Clone, PartialEq)]
pub enum Body {
    /// Known at once.
    Whole(Vec<u8>),
    /// Server-sent events.
    Events(Vec<Frame>),
    /// Items of a JSON array, one after another (Gemini without `alt=sse`).
    Items(Vec<Frame>),
}

/// One event of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// What it is for.
    pub kind: FrameKind,
    /// The event's name, where the dialect gives names.
    pub event: Option<&'static str>,
    /// The data.
    pub data: String,
}

/// What an event is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FrameKind {
    /// Before the first token.
    Opening,
    /// A piece of the answer.
    Token,
    /// The finish reason, and what belongs to it.
    Finish,
    /// The mark that the stream is whole.
    Mark,
    /// An error.
    Error,
}

impl Frame {
    /// A frame with JSON in it.
    pub fn json(kind: FrameKind, event: Option<&'static str>, data: &Value) -> Self {
        Self { kind, event, data: data.to_string() }
    }
}

/// What a reply says about itself.
#[derive(Debug, Clone)]
pub struct Meta {
    /// Makes ids.
    pub luck: Luck,
    /// The time.
    pub now: Timestamp,
    /// Tokens of the prompt.
    pub input_tokens: u64,
}

impl Meta {
    /// An id with the provider's prefix.
    pub fn id(&self, prefix: &str) -> String {
        format!("{prefix}sim{:016x}", self.luck.of_text(prefix).bits())
    }

    /// Tokens of an answer.
    pub fn output_tokens(answer: &Answer) -> u64 {
        let call = answer.tool_call.as_ref().map_or(0, |call| estimate_tokens(&call.arguments));
        estimate_tokens(&answer.text) + call
    }
}

/// An answer in the dialect of the ask.
pub fn reply(ask: &Ask, answer: &Answer, meta: &Meta) -> Reply {
    let mut headers = vec![("date", date(meta.now))];
    headers.extend(request_id(ask.dialect, meta));
    let body = match ask.dialect {
        Dialect::OpenAi | Dialect::Azure if ask.stream => {
            Body::Events(wire_openai::stream(ask, answer, meta))
        }
        Dialect::OpenAi | Dialect::Azure => whole(&wire_openai::unary(ask, answer, meta)),
        Dialect::Anthropic if ask.stream => Body::Events(wire_anthropic::stream(ask, answer, meta)),
        Dialect::Anthropic => whole(&wire_anthropic::unary(ask, answer, meta)),
        Dialect::Gemini if ask.stream && ask.sse => {
            Body::Events(wire_gemini::stream(ask, answer, meta))
        }
        Dialect::Gemini if ask.stream => Body::Items(wire_gemini::stream(ask, answer, meta)),
        Dialect::Gemini => whole(&wire_gemini::unary(ask, answer, meta)),
    };
    let content_type = match body {
        Body::Events(_) => "text/event-stream",
        Body::Whole(_) | Body::Items(_) => "application/json",
    };
    headers.push(("content-type", content_type.to_owned()));
    Reply { status: 200, headers, body }
}

/// A whole body with the headers of the ask's dialect.
pub fn headed(ask: &Ask, body: &Value, meta: &Meta) -> Reply {
    let mut headers = vec![("date", date(meta.now))];
    headers.extend(request_id(ask.dialect, meta));
    headers.push(("content-type", "application/json".to_owned()));
    Reply { status: 200, headers, body: whole(body) }
}

/// An error in the dialect of the ask.
pub fn trouble(ask: &Ask, trouble: &Trouble, meta: &Meta) -> Reply {
    let (status, body) = trouble_body(ask, trouble, meta);
    let mut headers = vec![("date", date(meta.now))];
    headers.extend(request_id(ask.dialect, meta));
    headers.extend(trouble.hints.headers(meta.now));
    // A prompt that Gemini blocks is no error: it comes in the form that was asked for.
    let (content_type, body) = if status == 200 && ask.stream && ask.sse {
        let frame = Frame::json(FrameKind::Finish, None, &body);
        ("text/event-stream", Body::Events(vec![frame]))
    } else {
        ("application/json", whole(&body))
    };
    headers.push(("content-type", content_type.to_owned()));
    Reply { status, headers, body }
}

/// The body of an error, with its status.
pub fn trouble_body(ask: &Ask, trouble: &Trouble, meta: &Meta) -> (u16, Value) {
    let (status, body) = match ask.dialect {
        Dialect::OpenAi => wire_openai::trouble(ask, trouble),
        Dialect::Azure => wire_openai::azure_trouble(ask, trouble),
        Dialect::Anthropic => wire_anthropic::trouble(ask, trouble, meta),
        Dialect::Gemini => wire_gemini::trouble(ask, trouble),
    };
    (trouble.status.unwrap_or(status), with_retry_delay(body, trouble))
}

/// RetryInfo is Google's, but a gateway may pass it on in any dialect.
fn with_retry_delay(mut body: Value, trouble: &Trouble) -> Value {
    if let (Some(delay), Some(error)) =
        (trouble.hints.retry_delay(), body.get_mut("error").and_then(Value::as_object_mut))
    {
        let info =
            json!({"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": delay});
        let details = error.entry("details").or_insert_with(|| json!([]));
        if let Some(details) = details.as_array_mut() {
            details.push(info);
        }
    }
    body
}

/// The error as an event of a stream, in the dialect of the ask.
pub fn error_frame(ask: &Ask, kind: TroubleKind, meta: &Meta) -> Frame {
    let (_, body) = trouble_body(ask, &Trouble::plain(kind), meta);
    let event = (ask.dialect == Dialect::Anthropic).then_some("error");
    Frame::json(FrameKind::Error, event, &body)
}

/// The kind's text, or the rule's, with the sentence about waiting.
pub fn message(trouble: &Trouble, own: impl Into<String>) -> String {
    let message = trouble.message.clone().unwrap_or_else(|| own.into());
    match trouble.hints.sentence() {
        Some(sentence) => format!("{message} {sentence}"),
        None => message,
    }
}

/// An answer's text in the pieces that a stream sends: words, and long words in parts.
pub fn pieces(text: &str) -> Vec<&str> {
    const BYTES_MAX: usize = 24;
    let mut pieces = Vec::new();
    for word in text.split_inclusive([' ', '\n']) {
        let mut rest = word;
        while rest.len() > BYTES_MAX {
            let mut at = BYTES_MAX;
            while !rest.is_char_boundary(at) {
                at -= 1;
            }
            let (piece, tail) = rest.split_at(at);
            pieces.push(piece);
            rest = tail;
        }
        pieces.push(rest);
    }
    pieces
}

/// A date for a header.
pub fn date(now: Timestamp) -> String {
    httpdate::fmt_http_date(std::time::SystemTime::from(now))
}

fn whole(body: &Value) -> Body {
    Body::Whole(body.to_string().into_bytes())
}

fn request_id(dialect: Dialect, meta: &Meta) -> Option<(&'static str, String)> {
    match dialect {
        Dialect::OpenAi => Some(("x-request-id", meta.id("req_"))),
        Dialect::Azure => Some(("apim-request-id", meta.id(""))),
        Dialect::Anthropic => Some(("request-id", meta.id("req_"))),
        Dialect::Gemini => None,
    }
}

#[cfg(test)]
mod tests {
    use super::pieces;

    #[test]
    fn pieces_join_to_the_text() {
        let text = format!("a few words\nand {}ä", "long".repeat(40));
        assert_eq!(pieces(&text).concat(), text);
        assert!(pieces(&text).iter().all(|piece| piece.len() <= 24));
    }
}
