//! Assembles a streamed answer and judges how it went.
//!
//! Two things come out: events for those who watch, at once and unchecked, and in the end the same
//! [`ModelReply`] or failure that a whole response would have given. A stream that stops is not an
//! answer: it is complete with its finish reason or its terminal marker, and nothing else tells a
//! clean end from a lost connection.

use bytes::Bytes;
use http::HeaderMap;
use jiff::Timestamp;
use serde_json::Value;

use super::DecodeContext;
use super::aws_events::{AwsDecoder, Message};
use super::draft::Draft;
use super::lines::LineDecoder;
use super::shapes::{Absorbed, Framing, Shape, error_inside, with_origin};
use super::sse::{Event, SseDecoder};
use crate::exchange::{BodyEnd, HttpResponse, ModelReply, Payload};
use crate::failure::classify::{self, Circumstances};
use crate::failure::{Failure, FailureCause};

/// Most bytes of a body that turned out not to be a stream.
const WHOLE_BYTES_MAX: usize = 8 * 1024 * 1024;

/// White space before a body that is waited through before it is taken for a stream.
const SNIFF_BYTES: usize = 64;

/// Something that happened in a stream. Pings and comments are not events: they are no progress.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StreamEvent {
    /// The model has begun.
    Started {
        /// The provider's id of the response, if told by now.
        response_id: Option<String>,
        /// The model that answers, if told by now.
        model: Option<String>,
    },
    /// More text.
    Text(Payload),
    /// More reasoning.
    Reasoning(Payload),
    /// More of a tool call.
    ToolCall {
        /// Which of the calls, from 0.
        index: usize,
        /// Name of the tool.
        name: String,
    },
    /// The finish reason or the terminal marker was seen.
    Finished,
}

#[derive(Debug)]
enum Framer {
    /// No byte has told yet whether this is a stream at all.
    Unknown(Vec<u8>),
    Sse(SseDecoder),
    Lines(LineDecoder),
    Aws(AwsDecoder),
    /// Not a stream but one body, which is read at its end.
    Whole(Vec<u8>),
}

/// The decoder of one streamed answer of a success status. Answers of other statuses are no
/// streams; they go to the whole decoder.
#[derive(Debug)]
pub struct StreamDecoder {
    shape: &'static Shape,
    framer: Framer,
    draft: Draft,
    headers: HeaderMap,
    provider: String,
    now: Timestamp,
    failure: Option<Failure>,
    started: bool,
    finished: bool,
    any_bytes: bool,
}

impl StreamDecoder {
    /// A decoder of this shape.
    pub fn new(shape: &'static Shape, context: DecodeContext<'_>) -> Self {
        let framer = match shape.framing {
            Framing::Sse => Framer::Unknown(Vec::new()),
            Framing::JsonLines => Framer::Lines(LineDecoder::default()),
            Framing::AwsEvents => Framer::Aws(AwsDecoder::default()),
        };
        Self {
            shape,
            framer,
            draft: Draft::default(),
            headers: HeaderMap::new(),
            provider: context.provider.to_owned(),
            now: context.now,
            failure: None,
            started: false,
            finished: false,
            any_bytes: false,
        }
    }

    /// The same decoder, knowing the response's headers: they carry retry hints and request ids.
    pub fn with_headers(mut self, headers: &HeaderMap) -> Self {
        self.headers = headers.clone();
        self
    }

    /// The text so far.
    pub fn text(&self) -> &str {
        &self.draft.text
    }

    /// Takes the next bytes. After a failure every further call fails the same way, and the
    /// caller drops the connection; events before the failure in the same bytes are not told.
    pub fn push(&mut self, bytes: &[u8]) -> Result<Vec<StreamEvent>, Failure> {
        if let Some(failure) = &self.failure {
            return Err(failure.clone());
        }
        self.any_bytes |= !bytes.is_empty();
        let mut told = Vec::new();
        self.frame(bytes, &mut told).map_err(|failure| self.fail(failure))?;
        Ok(told)
    }

    /// Judges the stream, given how its body ended.
    pub fn finish(mut self, end: BodyEnd) -> Result<ModelReply, Failure> {
        if let Some(failure) = self.failure.take() {
            return Err(failure);
        }
        if end == BodyEnd::TooLarge {
            let failure = classify::malformed("response_too_large", self.circumstances());
            return Err(self.fail(failure));
        }
        if let Err(failure) = self.flush() {
            return Err(self.fail(failure));
        }
        if let Framer::Whole(body) = self.framer {
            let headers = self.headers;
            let response = HttpResponse { status: 200, headers, body: Bytes::from(body), end };
            let context = DecodeContext { provider: &self.provider, now: self.now };
            return self.shape.decode(&response, context);
        }
        if self.draft.ending.is_none() && !self.draft.closed {
            let failure = self.broken_off(end);
            return Err(self.fail(failure));
        }
        if !self.draft.answered {
            let failure = classify::malformed("no_answer", self.circumstances());
            return Err(self.fail(failure));
        }
        let (headers, provider) = (self.headers, self.provider);
        let circumstances =
            Circumstances { status: 200, headers: &headers, provider: &provider, now: self.now };
        self.draft.judge().map_err(|failure| with_origin(failure, circumstances))
    }

    /// The failure of a stream that was given up for a reason of ours, with what was read so far as
    /// its evidence.
    pub fn abandon(mut self, failure: Failure) -> Failure {
        self.fail(failure)
    }

    fn circumstances(&self) -> Circumstances<'_> {
        Circumstances {
            status: 200,
            headers: &self.headers,
            provider: &self.provider,
            now: self.now,
        }
    }

    fn fail(&mut self, failure: Failure) -> Failure {
        let failure = self.draft.spoil(with_origin(failure, self.circumstances()));
        self.failure = Some(failure.clone());
        failure
    }

    fn broken_off(&self, end: BodyEnd) -> Failure {
        match end {
            BodyEnd::Complete if !self.any_bytes => {
                classify::malformed("empty_body", self.circumstances())
            }
            BodyEnd::Complete | BodyEnd::Cut | BodyEnd::Reset | BodyEnd::TooLarge => Failure::new(
                FailureCause::StreamInterrupted,
                "the stream ended without its terminal event",
            ),
            BodyEnd::Idle => Failure::new(
                FailureCause::StreamIdleTimeout,
                "the stream made no progress for too long",
            ),
        }
    }

    fn frame(&mut self, bytes: &[u8], told: &mut Vec<StreamEvent>) -> Result<(), Failure> {
        let mut events = Vec::new();
        let framed = match &mut self.framer {
            Framer::Unknown(held) => {
                held.extend_from_slice(bytes);
                let held = std::mem::take(held);
                return self.choose(held, told);
            }
            Framer::Sse(decoder) => decoder
                .push(bytes, &mut |event| events.push((event, false)))
                .map_err(|_| "event_too_large"),
            Framer::Lines(decoder) => decoder
                .push(bytes, &mut |event| events.push((event, false)))
                .map_err(|_| "event_too_large"),
            Framer::Aws(decoder) => decoder
                .push(bytes, &mut |message| match message {
                    Message::Event(event) => events.push((event, false)),
                    Message::Exception(event) => events.push((event, true)),
                })
                .map_err(|_| "damaged_event"),
            Framer::Whole(body) => {
                body.extend_from_slice(bytes);
                if body.len() > WHOLE_BYTES_MAX { Err("response_too_large") } else { Ok(()) }
            }
        };
        for (event, is_exception) in events {
            self.take(&event, is_exception, told)?;
        }
        framed.map_err(|detail| classify::malformed(detail, self.circumstances()))
    }

    /// A body that begins like JSON or a page is no event stream, whatever was asked for.
    fn choose(&mut self, held: Vec<u8>, told: &mut Vec<StreamEvent>) -> Result<(), Failure> {
        const MARK: &[u8] = b"\xef\xbb\xbf";
        if MARK.starts_with(&held) {
            self.framer = Framer::Unknown(held);
            return Ok(());
        }
        let start = held.strip_prefix(MARK).unwrap_or(&held);
        let head = start.get(..SNIFF_BYTES).unwrap_or(start);
        self.framer = match head.iter().find(|byte| !byte.is_ascii_whitespace()) {
            None if start.len() < SNIFF_BYTES => {
                self.framer = Framer::Unknown(held);
                return Ok(());
            }
            Some(b'{' | b'[' | b'<') => Framer::Whole(Vec::new()),
            Some(_) | None => Framer::Sse(SseDecoder::default()),
        };
        self.frame(&held, told)
    }

    /// What the framing still holds. Half an event of a stream that was cut is no event.
    fn flush(&mut self) -> Result<(), Failure> {
        let last = match &mut self.framer {
            Framer::Sse(decoder) => std::mem::take(decoder).finish(),
            Framer::Lines(decoder) => std::mem::take(decoder).finish(),
            Framer::Unknown(_) | Framer::Aws(_) | Framer::Whole(_) => None,
        };
        let whole = |event: &Event| {
            let data = event.data.trim_ascii();
            data == b"[DONE]" || serde_json::from_slice::<serde::de::IgnoredAny>(data).is_ok()
        };
        match last.filter(whole) {
            Some(event) => self.take(&event, false, &mut Vec::new()),
            None => Ok(()),
        }
    }

    fn take(
        &mut self,
        event: &Event,
        is_exception: bool,
        told: &mut Vec<StreamEvent>,
    ) -> Result<(), Failure> {
        let data = event.data.trim_ascii();
        if is_exception {
            let value = serde_json::from_slice(data).unwrap_or(Value::Null);
            return Err(classify::of_named_error(&event.name, &value, self.circumstances()));
        }
        if data.is_empty() {
            return Ok(());
        }
        let before = Marks::of(&self.draft);
        match (self.shape.absorb)(&mut self.draft, &event.name, data) {
            Absorbed::Progress => self.tell(before, told),
            Absorbed::Idle => self.tell_finish(told),
            Absorbed::Foreign => self.foreign(&event.name, data)?,
        }
        Ok(())
    }

    /// An event that is no piece of the answer: an error, something new, or garbage.
    fn foreign(&mut self, name: &str, data: &[u8]) -> Result<(), Failure> {
        let circumstances = self.circumstances();
        let Ok(value) = serde_json::from_slice::<Value>(data) else {
            if name == "error" {
                let text = String::from_utf8_lossy(data);
                return Err(classify::of_error_text(&text, circumstances));
            }
            // Behind the finish reason nothing can be lost any more.
            if self.draft.ending.is_some() {
                return Ok(());
            }
            return Err(classify::malformed("unparsable_event", circumstances));
        };
        match error_inside(&value, circumstances) {
            Some(failure) => Err(failure),
            None if name == "error" => Err(classify::of_error_value(&value, circumstances)),
            None => Ok(()),
        }
    }

    fn tell(&mut self, before: Marks, told: &mut Vec<StreamEvent>) {
        if !std::mem::replace(&mut self.started, true) {
            let (response_id, model) = (self.draft.id.clone(), self.draft.model.clone());
            told.push(StreamEvent::Started { response_id, model });
        }
        let now = Marks::of(&self.draft);
        if let Some(more) = self.draft.reasoning.get(before.reasoning..).filter(|m| !m.is_empty()) {
            told.push(StreamEvent::Reasoning(more.into()));
        }
        if let Some(more) = self.draft.text.get(before.text..).filter(|m| !m.is_empty()) {
            told.push(StreamEvent::Text(more.into()));
        }
        if now.calls != before.calls
            && let Some(call) = self.draft.calls.last()
        {
            let index = self.draft.calls.len() - 1;
            told.push(StreamEvent::ToolCall { index, name: call.name.clone() });
        }
        self.tell_finish(told);
    }

    fn tell_finish(&mut self, told: &mut Vec<StreamEvent>) {
        let over = self.draft.ending.is_some() || self.draft.closed;
        if over && !std::mem::replace(&mut self.finished, true) {
            told.push(StreamEvent::Finished);
        }
    }
}

/// How far a draft was, to see what an event added.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Marks {
    text: usize,
    reasoning: usize,
    calls: (usize, usize),
}

impl Marks {
    fn of(draft: &Draft) -> Self {
        let arguments = draft.calls.iter().map(|call| call.arguments.len()).sum();
        let (text, reasoning) = (draft.text.len(), draft.reasoning.len());
        Self { text, reasoning, calls: (draft.calls.len(), arguments) }
    }
}

#[cfg(test)]
mod tests;
