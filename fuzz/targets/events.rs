//! Streams: however the bytes are cut into chunks, the same events, the same reply or failure.
//!
//! The first byte picks the wire shape, the second how the body ends, the third the cuts.
#![no_main]

use jiff::Timestamp;
use libfuzzer_sys::fuzz_target;
use mainstay::exchange::{BodyEnd, HttpResponse, ModelReply};
use mainstay::failure::Failure;
use mainstay::provider::aws_events::{AwsDecoder, Message};
use mainstay::provider::lines::LineDecoder;
use mainstay::provider::shapes::SHAPES;
use mainstay::provider::sse::{Event, SseDecoder};
use mainstay::provider::{DecodeContext, StreamDecoder, StreamEvent, embeddings};

const ENDS: &[BodyEnd] =
    &[BodyEnd::Complete, BodyEnd::Cut, BodyEnd::Reset, BodyEnd::Idle, BodyEnd::TooLarge];

fuzz_target!(|data: &[u8]| {
    let [shape, end, cuts, bytes @ ..] = data else { return };
    let whole: &[&[u8]] = &[bytes];
    let chunks = cut(bytes, *cuts);
    assert_eq!(sse(whole), sse(&chunks), "server-sent events");
    assert_eq!(lines(whole), lines(&chunks), "lines");
    assert_eq!(aws(whole), aws(&chunks), "binary events");

    let shape = SHAPES[usize::from(*shape) % SHAPES.len()];
    let end = ENDS[usize::from(*end) % ENDS.len()];
    let context = DecodeContext { provider: "some", now: Timestamp::UNIX_EPOCH };
    let read = |chunks: &[&[u8]]| stream(StreamDecoder::new(shape, context), chunks, end);
    assert_eq!(read(whole), read(&chunks), "{}", shape.name);

    let response = HttpResponse {
        status: if cuts & 1 == 0 { 200 } else { 400 + u16::from(*cuts) },
        headers: Default::default(),
        body: bytes.to_vec().into(),
        end,
    };
    let _ = shape.decode(&response, context);
    let _ = embeddings::decode(&response, context);
});

/// Chunks of one to seventeen bytes, empty ones among them.
fn cut(bytes: &[u8], cuts: u8) -> Vec<&[u8]> {
    let mut chunks: Vec<&[u8]> = Vec::new();
    let (mut rest, mut state) = (bytes, u32::from(cuts));
    while !rest.is_empty() {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let size = if cuts == 0 { 1 } else { (state >> 24) as usize % 18 };
        let (chunk, after) = rest.split_at(size.min(rest.len()));
        chunks.push(chunk);
        rest = after;
    }
    chunks
}

fn sse(chunks: &[&[u8]]) -> (Vec<Event>, bool) {
    let (mut decoder, mut events) = (SseDecoder::default(), Vec::new());
    for chunk in chunks {
        if decoder.push(chunk, &mut |event| events.push(event)).is_err() {
            return (events, false);
        }
    }
    events.extend(decoder.finish());
    (events, true)
}

fn lines(chunks: &[&[u8]]) -> (Vec<Event>, bool) {
    let (mut decoder, mut events) = (LineDecoder::default(), Vec::new());
    for chunk in chunks {
        if decoder.push(chunk, &mut |event| events.push(event)).is_err() {
            return (events, false);
        }
    }
    events.extend(decoder.finish());
    (events, true)
}

fn aws(chunks: &[&[u8]]) -> (Vec<Message>, bool) {
    let (mut decoder, mut messages) = (AwsDecoder::default(), Vec::new());
    for chunk in chunks {
        if decoder.push(chunk, &mut |message| messages.push(message)).is_err() {
            return (messages, false);
        }
    }
    (messages, true)
}

/// Events are compared where the stream was read to its end: those before a failure in the same
/// bytes are not told.
fn stream(
    mut decoder: StreamDecoder,
    chunks: &[&[u8]],
    end: BodyEnd,
) -> Result<(Vec<StreamEvent>, Result<ModelReply, Failure>), Failure> {
    let mut events = Vec::new();
    for chunk in chunks {
        events.extend(decoder.push(chunk)?);
    }
    Ok((events, decoder.finish(end)))
}
