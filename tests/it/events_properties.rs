//! Promises of the stream decoders: where the network cuts the bytes says nothing about them.

use std::path::Path;

use jiff::Timestamp;
use mainstay::exchange::{BodyEnd, ModelReply};
use mainstay::failure::Failure;
use mainstay::provider::aws_events::{AwsDecoder, Message};
use mainstay::provider::lines::LineDecoder;
use mainstay::provider::shapes::SHAPES;
use mainstay::provider::sse::{Event, SseDecoder};
use mainstay::provider::{DecodeContext, StreamDecoder, StreamEvent};
use proptest::prelude::*;
use proptest::sample::select;
use serde_json::Value;

/// Data of recorded events, of all providers.
fn recorded() -> Vec<Vec<u8>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases/failures/cases.jsonl");
    let text = std::fs::read_to_string(path).expect("the cases are there");
    let cases = text.lines().map(|line| serde_json::from_str::<Value>(line).expect("a case"));
    let items = cases.flat_map(|case| case["stream"].as_array().cloned().unwrap_or_default());
    items
        .filter_map(|item| {
            let data = item.get("data").or_else(|| item.get("json_line"))?;
            let name = item["event"].as_str().map(|name| format!("event: {name}\n"));
            Some(format!("{}data: {data}\n\n", name.unwrap_or_default()).into_bytes())
        })
        .collect()
}

fn any_piece() -> impl Strategy<Value = Vec<u8>> {
    let muddle: Vec<Vec<u8>> = [
        "data: ",
        "data",
        ":",
        "event: error\n",
        "\n",
        "\r",
        "\r\n",
        "\n\n",
        "\u{feff}",
        "é",
        "{\"",
        "id: 1\n",
        "[DONE]",
        "data: [DONE]\n\n",
        ": ping\n\n",
        " ",
        "{\"error\":{\"message\":\"no\"}}\n",
    ]
    .into_iter()
    .map(|piece| piece.as_bytes().to_vec())
    .collect();
    prop_oneof![
        3 => select(recorded()),
        3 => select(muddle),
        1 => prop::collection::vec(any::<u8>(), 0..12),
    ]
}

fn any_bytes() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(any_piece(), 0..16).prop_map(|pieces| pieces.concat())
}

/// The bytes in chunks of these sizes, the last of them as often as it takes.
fn cut<'b>(bytes: &'b [u8], sizes: &[usize]) -> Vec<&'b [u8]> {
    let (mut chunks, mut rest) = (Vec::new(), bytes);
    let mut sizes = sizes.iter().copied().cycle();
    while !rest.is_empty() {
        let size = sizes.next().unwrap_or(1).min(rest.len());
        let (chunk, after) = rest.split_at(size);
        chunks.push(chunk);
        rest = after;
    }
    chunks
}

fn sse(chunks: &[&[u8]]) -> Vec<Event> {
    let (mut decoder, mut events) = (SseDecoder::default(), Vec::new());
    for chunk in chunks {
        decoder.push(chunk, &mut |event| events.push(event)).expect("it is small");
    }
    events.extend(decoder.finish());
    events
}

fn lines(chunks: &[&[u8]]) -> Vec<Event> {
    let (mut decoder, mut events) = (LineDecoder::default(), Vec::new());
    for chunk in chunks {
        decoder.push(chunk, &mut |event| events.push(event)).expect("it is small");
    }
    events.extend(decoder.finish());
    events
}

fn aws(chunks: &[&[u8]]) -> (Vec<Message>, bool) {
    let (mut decoder, mut messages) = (AwsDecoder::default(), Vec::new());
    let whole = chunks
        .iter()
        .all(|chunk| decoder.push(chunk, &mut |message| messages.push(message)).is_ok());
    (messages, whole)
}

type Read = Result<(Vec<StreamEvent>, Result<ModelReply, Failure>), Failure>;

/// Events before a failure in the same bytes are not told, so a failed read is its failure.
fn read(mut decoder: StreamDecoder, chunks: &[&[u8]], end: BodyEnd) -> Read {
    let mut events = Vec::new();
    for chunk in chunks {
        events.extend(decoder.push(chunk)?);
    }
    Ok((events, decoder.finish(end)))
}

fn any_end() -> impl Strategy<Value = BodyEnd> {
    select(vec![BodyEnd::Complete, BodyEnd::Cut, BodyEnd::Reset, BodyEnd::Idle, BodyEnd::TooLarge])
}

fn any_sizes() -> impl Strategy<Value = Vec<usize>> {
    prop_oneof![Just(vec![1]), prop::collection::vec(prop_oneof![1_usize..9, 1_usize..200], 1..20),]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn events_are_the_same_in_any_chunks(bytes in any_bytes(), sizes in any_sizes()) {
        let (whole, chunks) = ([bytes.as_slice()], cut(&bytes, &sizes));
        prop_assert_eq!(sse(&whole), sse(&chunks));
        prop_assert_eq!(lines(&whole), lines(&chunks));
        prop_assert_eq!(aws(&whole), aws(&chunks));
    }

    #[test]
    fn a_stream_is_judged_the_same_in_any_chunks(bytes in any_bytes(), sizes in any_sizes(), end in any_end()) {
        let (whole, chunks) = ([bytes.as_slice()], cut(&bytes, &sizes));
        for shape in SHAPES {
            let context = DecodeContext { provider: "some", now: Timestamp::UNIX_EPOCH };
            let decoder = || StreamDecoder::new(shape, context);
            prop_assert_eq!(read(decoder(), &whole, end), read(decoder(), &chunks, end), "{}", shape.name);
        }
    }
}
