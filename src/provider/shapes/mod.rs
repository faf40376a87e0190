//! The wire shapes of answers, one file each.
//!
//! A shape knows how its success looks, whole and in pieces, and nothing about errors: what is not
//! its success falls through to one common path, which looks for an error in any form and judges
//! it as if it had come with a status. Three shapes belong to dialects; the others exist so that
//! what a gateway relays is recognised all the same.

pub mod chat_completions;
pub mod converse;
pub mod generate_content;
pub mod messages;
pub mod ollama;
pub mod responses;
pub mod text_generation;

use serde::Deserialize;
use serde_json::Value;

use super::draft::Draft;
use super::stream::StreamDecoder;
use super::wire::UsageWire;
use super::{DecodeContext, StreamEvent};
use crate::exchange::{BodyEnd, HttpResponse, ModelReply};
use crate::failure::classify::{self, Circumstances};
use crate::failure::{Failure, FailureCause};

/// How the events of a stream are told apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// `text/event-stream`.
    Sse,
    /// One JSON value a line.
    JsonLines,
    /// `application/vnd.amazon.eventstream`.
    AwsEvents,
}

/// What a piece of a stream was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Absorbed {
    /// Progress: it is in the draft now.
    Progress,
    /// A sign of life without progress.
    Idle,
    /// Not this shape's success; perhaps an error.
    Foreign,
}

/// One wire shape.
#[derive(Debug)]
pub struct Shape {
    /// Name of the API that answers in this shape.
    pub name: &'static str,
    /// How its streams are framed.
    pub framing: Framing,
    /// Reads a whole answer; `None` when it is not a success of this shape.
    pub(super) read: fn(&[u8]) -> Option<Draft>,
    /// The same from a tree, for answers that had to be unwrapped first.
    pub(super) read_tree: fn(&Value) -> Option<Draft>,
    /// Adds one event of a stream, given the event's name and data.
    pub(super) absorb: fn(&mut Draft, &str, &[u8]) -> Absorbed,
}

/// The table of shapes.
pub static SHAPES: &[&Shape] = &[
    &chat_completions::SHAPE,
    &messages::SHAPE,
    &generate_content::SHAPE,
    &responses::SHAPE,
    &converse::SHAPE,
    &ollama::SHAPE,
    &text_generation::SHAPE,
];

/// The shape of the API of this name.
pub fn shape(name: &str) -> Option<&'static Shape> {
    SHAPES.iter().copied().find(|shape| shape.name == name)
}

impl Shape {
    /// Judges a whole response.
    pub fn decode(
        &'static self,
        response: &HttpResponse,
        context: DecodeContext<'_>,
    ) -> Result<ModelReply, Failure> {
        if !matches!(response.status, 200..=299) {
            return Err(classify::of_response(response, context.provider, context.now));
        }
        let circumstances = Circumstances {
            status: response.status,
            headers: &response.headers,
            provider: context.provider,
            now: context.now,
        };
        if let Some(failure) = broken_off(response.end, circumstances) {
            return Err(failure);
        }
        let body = response.body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&response.body);
        match (self.read)(body) {
            Some(draft) => draft.judge(),
            None => self.decode_unusual(body, response, context, circumstances),
        }
        .map_err(|failure| with_origin(failure, circumstances))
    }

    /// Everything under a success status that is not this shape at first sight.
    fn decode_unusual(
        &'static self,
        body: &[u8],
        response: &HttpResponse,
        context: DecodeContext<'_>,
        circumstances: Circumstances<'_>,
    ) -> Result<ModelReply, Failure> {
        let body = body.trim_ascii();
        if body.is_empty() {
            return Err(classify::malformed("empty_body", circumstances));
        }
        let Ok(value) = serde_json::from_slice::<Value>(body) else {
            return self.decode_events(body, response, context, circumstances);
        };
        if let Some(failure) = error_inside(&value, circumstances) {
            return Err(self.salvage(&value).spoil(failure));
        }
        self.unwrap(value)
            .ok_or_else(|| classify::malformed("unexpected_shape", circumstances))?
            .judge()
    }

    /// A stream where a whole body was due: some servers know nothing else.
    fn decode_events(
        &'static self,
        body: &[u8],
        response: &HttpResponse,
        context: DecodeContext<'_>,
        circumstances: Circumstances<'_>,
    ) -> Result<ModelReply, Failure> {
        let is_events = [b"data:".as_slice(), b"event:", b":"].iter().any(|p| body.starts_with(p));
        if !is_events || self.framing != Framing::Sse {
            return Err(classify::malformed("not_json", circumstances));
        }
        let mut decoder = StreamDecoder::new(self, context).with_headers(&response.headers);
        let _: Vec<StreamEvent> = decoder.push(body)?;
        decoder.finish(BodyEnd::Complete)
    }

    /// A success inside a wrapper: a list of one, a list of stream pieces, a gateway's envelope, or
    /// a body whose counts are not counts.
    fn unwrap(&self, value: Value) -> Option<Draft> {
        match value {
            Value::Array(items) => match items.as_slice() {
                [single] => (self.read_tree)(single),
                pieces => {
                    let mut draft = Draft::default();
                    for piece in pieces {
                        let piece = serde_json::to_vec(piece).ok()?;
                        (self.absorb)(&mut draft, "", &piece);
                    }
                    draft.answered.then_some(draft)
                }
            },
            Value::Object(mut members) => {
                if members.remove("usage").is_some_and(|usage| !usage.is_null())
                    && let Some(draft) = (self.read_tree)(&Value::Object(members.clone()))
                {
                    return Some(draft);
                }
                ["provider", "data", "result", "response", "body"]
                    .iter()
                    .filter_map(|envelope| members.get(*envelope))
                    .filter(|inner| inner.is_object())
                    .find_map(|inner| (self.read_tree)(inner))
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => None,
        }
    }

    /// Text and counts that came along with an error.
    fn salvage(&self, value: &Value) -> Draft {
        let mut draft = Draft::default();
        if let Value::Object(members) = value {
            let mut members = members.clone();
            members.remove("error");
            if let Some(Value::Object(choice)) =
                members.get_mut("choices").and_then(|choices| choices.get_mut(0))
            {
                choice.remove("error");
            }
            draft = (self.read_tree)(&Value::Object(members)).unwrap_or_default();
        }
        let usage = value.get("usage").or_else(|| value.get("usageMetadata"));
        draft.count(usage.and_then(|usage| UsageWire::deserialize(usage).ok()).as_ref());
        draft
    }
}

/// The failure of a success whose body did not come whole.
pub(super) fn broken_off(end: BodyEnd, circumstances: Circumstances<'_>) -> Option<Failure> {
    match end {
        BodyEnd::Complete => None,
        BodyEnd::Cut | BodyEnd::Reset => {
            Some(classify::malformed("incomplete_body", circumstances))
        }
        BodyEnd::TooLarge => Some(classify::malformed("response_too_large", circumstances)),
        BodyEnd::Idle => {
            let failure = Failure::new(
                FailureCause::RequestTimeout,
                "the provider stopped within its answer",
            );
            Some(with_origin(failure.with_detail("idle_body"), circumstances))
        }
    }
}

/// Notes where a failure came from, unless the classification did.
pub(super) fn with_origin(mut failure: Failure, circumstances: Circumstances<'_>) -> Failure {
    failure.evidence.status.get_or_insert(circumstances.status);
    if failure.evidence.request_id.is_none() {
        failure.evidence.request_id = classify::request_id(circumstances.headers);
    }
    failure
}

/// The failure that a JSON value under a success status reports, in whatever form.
pub(super) fn error_inside(value: &Value, circumstances: Circumstances<'_>) -> Option<Failure> {
    let members = match value {
        Value::Array(items) => {
            return items.first().and_then(|item| error_inside(item, circumstances));
        }
        Value::Object(members) => members,
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => return None,
    };
    let says = |key: &str| members.get(key).is_some_and(is_telling);
    let is = |key: &str, word: &str| members.get(key).and_then(Value::as_str) == Some(word);
    if says("error") || says("Error") || is("type", "error") || is("object", "error") {
        return Some(classify::of_error_value(value, circumstances));
    }
    for place in ["/choices/0/error", "/response/error", "/Response/Error", "/data/error"] {
        if let Some(inner) = value.pointer(place).filter(|inner| is_telling(inner)) {
            return Some(classify::of_error_value(inner, circumstances));
        }
    }
    let base = value.pointer("/base_resp/status_code").and_then(Value::as_i64);
    if base.is_some_and(|code| code != 0) {
        return Some(classify::of_error_value(value, circumstances));
    }
    const ANSWERS: [&str; 9] = [
        "choices",
        "content",
        "candidates",
        "output",
        "done",
        "generated_text",
        "response",
        "promptFeedback",
        "token",
    ];
    if ANSWERS.iter().any(|key| members.contains_key(*key)) {
        return None;
    }
    if says("errors") || is("status", "error") || is("status", "failed") {
        return Some(classify::of_error_value(value, circumstances));
    }
    // A bare message may be an error or anything else; only one that is understood counts.
    let bare = ["detail", "Message", "message", "msg", "error_msg", "error_message", "error_code"];
    if bare.iter().any(|key| says(key)) {
        let failure = classify::of_error_value(value, circumstances);
        return (failure.cause != FailureCause::ServerError).then_some(failure);
    }
    None
}

fn is_telling(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => false,
        Value::String(text) => !text.is_empty(),
        Value::Object(members) => !members.is_empty(),
        Value::Array(items) => !items.is_empty(),
        Value::Bool(true) => true,
        Value::Number(number) => number.as_i64() != Some(0),
    }
}

/// The two readers of a whole answer, from the shape's one body type.
macro_rules! readers {
    ($body:ident) => {
        fn read(bytes: &[u8]) -> Option<Draft> {
            serde_json::from_slice::<$body<'_>>(bytes).ok().and_then($body::draft)
        }

        fn read_tree(value: &serde_json::Value) -> Option<Draft> {
            <$body<'_> as serde::Deserialize>::deserialize(value).ok().and_then($body::draft)
        }
    };
}
use readers;
