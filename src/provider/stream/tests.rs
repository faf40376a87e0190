use proptest::prelude::*;

use super::*;
use crate::exchange::FinishReason;
use crate::provider::shapes::{SHAPES, chat_completions, messages, shape};

fn context() -> DecodeContext<'static> {
    DecodeContext { provider: "", now: Timestamp::UNIX_EPOCH }
}

fn chat(chunks: &[&str], end: BodyEnd) -> (Vec<StreamEvent>, Result<ModelReply, Failure>) {
    let mut decoder = StreamDecoder::new(&chat_completions::SHAPE, context());
    let mut events = Vec::new();
    for chunk in chunks {
        match decoder.push(chunk.as_bytes()) {
            Ok(more) => events.extend(more),
            Err(failure) => return (events, Err(failure)),
        }
    }
    (events, decoder.finish(end))
}

const HELLO: &str =
    "data: {\"id\":\"c\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"Hel\"}}]}\n\n";
const LO: &str = "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"lo\"}}]}\n\n";
const STOP: &str =
    "data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n";

#[test]
fn events_are_told_as_they_come() {
    let (events, reply) =
        chat(&[HELLO, ": ping\n\n", LO, STOP, "data: [DONE]\n\n"], BodyEnd::Complete);
    let expected = [
        StreamEvent::Started { response_id: Some("c".into()), model: None },
        StreamEvent::Text("Hel".into()),
        StreamEvent::Text("lo".into()),
        StreamEvent::Finished,
    ];
    assert_eq!(events, expected);
    let reply = reply.unwrap();
    assert_eq!((reply.text.expose(), reply.finish), ("Hello", FinishReason::Stop));
}

#[track_caller]
fn check(chunks: &[&str], end: BodyEnd, expected: FailureCause, partial: Option<&str>) {
    let failure = chat(chunks, end).1.unwrap_err();
    assert_eq!(failure.cause, expected, "{chunks:?} {end:?}");
    assert_eq!(failure.partial_text.as_ref().map(|text| text.expose()), partial, "{chunks:?}");
}

#[test]
fn a_stream_without_its_end_is_no_answer() {
    use FailureCause::*;
    check(&[HELLO], BodyEnd::Complete, StreamInterrupted, Some("Hel"));
    check(&[HELLO], BodyEnd::Reset, StreamInterrupted, Some("Hel"));
    check(&[HELLO], BodyEnd::Idle, StreamIdleTimeout, Some("Hel"));
    check(&[HELLO, STOP], BodyEnd::TooLarge, MalformedResponse, Some("Hel"));
    check(&[HELLO, "data: {\"choices\":[{\"ind"], BodyEnd::Cut, StreamInterrupted, Some("Hel"));
    check(&[HELLO, "data: {bad}\n\n"], BodyEnd::Complete, MalformedResponse, Some("Hel"));
    check(
        &[HELLO, "{\"error\":{\"message\":\"overloaded\"}}\n"],
        BodyEnd::Complete,
        Overloaded,
        Some("Hel"),
    );
    check(&[": ping\n\n"], BodyEnd::Idle, StreamIdleTimeout, None);
    check(&[], BodyEnd::Complete, MalformedResponse, None);
    check(&["data: [DONE]\n\n"], BodyEnd::Complete, MalformedResponse, None);
    check(&["event: error\ndata: it broke\n\n"], BodyEnd::Complete, ServerError, None);
}

#[test]
fn behind_the_finish_reason_nothing_is_lost() {
    for end in [BodyEnd::Complete, BodyEnd::Cut, BodyEnd::Reset, BodyEnd::Idle] {
        assert_eq!(chat(&[HELLO, STOP], end).1.unwrap().text.expose(), "Hel");
    }
    assert!(chat(&[HELLO, STOP, "data: {bad}\n\n"], BodyEnd::Complete).1.is_ok());
}

#[test]
fn a_failed_stream_stays_failed() {
    let mut decoder = StreamDecoder::new(&chat_completions::SHAPE, context());
    let first = decoder.push(b"data: {bad}\n\n").unwrap_err();
    assert_eq!(decoder.push(STOP.as_bytes()), Err(first.clone()));
    assert_eq!(decoder.finish(BodyEnd::Complete), Err(first));
}

#[test]
fn tool_calls_are_put_together() {
    let piece = |index: u8, id: &str, name: &str, arguments: &str| {
        let arguments = Value::from(arguments);
        format!(
            "data: {{\"choices\":[{{\"index\":0,\"delta\":{{\"tool_calls\":[{{\"index\":{index},\"id\":\"{id}\",\"function\":{{\"name\":\"{name}\",\"arguments\":{arguments}}}}}]}}}}]}}\n\n"
        )
    };
    let (one, two) = (piece(0, "a", "f", "{\"x\""), piece(1, "b", "g", ""));
    let three = piece(0, "", "", ":1}");
    let reply = chat(&[&one, &two, &three, STOP], BodyEnd::Complete).1.unwrap();
    let calls: Vec<_> =
        reply.tool_calls.iter().map(|c| (c.name.as_str(), c.arguments.expose())).collect();
    assert_eq!(calls, [("f", "{\"x\":1}"), ("g", "{}")]);
    assert_eq!(reply.finish, FinishReason::ToolCalls);
}

#[test]
fn an_endless_event_is_cut() {
    let mut decoder = StreamDecoder::new(&messages::SHAPE, context());
    let chunk = [b'x'; 4096];
    let failure = (0..1000).find_map(|_| decoder.push(&chunk).err()).unwrap();
    assert_eq!(failure.detail, Some("event_too_large"));
}

fn any_stream() -> impl Strategy<Value = Vec<u8>> {
    let pieces = prop::sample::select(vec![
        HELLO,
        LO,
        STOP,
        "data: [DONE]\n\n",
        "\r",
        "\n",
        "\r\n",
        "data:",
        " ",
        "{",
        "}",
        "event: error\n",
        ": c\n",
        "{\"error\":\"x\"}\n",
        "[",
        "<",
        "é",
        "data: {\"error\":{\"code\":429}}\n\n",
        "data: {\"type\":\"message_stop\"}\n\n",
        "\u{feff}",
        "data: {\"candidates\":[]}\n\n",
    ]);
    prop_oneof![
        prop::collection::vec(any::<u8>(), 0..100),
        // What a body begins with decides how it is read.
        (
            prop::sample::select(vec![
                "",
                " ",
                "{",
                "[",
                "<",
                "\u{feff}",
                "{\"error\":\"x\"}",
                "data: "
            ]),
            prop::collection::vec(pieces.clone(), 0..6)
        )
            .prop_map(|(start, pieces)| [start, &pieces.concat()].concat().into_bytes()),
        prop::collection::vec(pieces, 0..12).prop_map(|pieces| pieces.concat().into_bytes()),
    ]
}

proptest! {
    /// No stream of any shape can panic, and the network's cuts do not show in the result.
    #[test]
    fn any_stream_is_judged_the_same_however_cut(
        bytes in any_stream(),
        cuts in prop::collection::vec(0usize..60, 0..10),
        name in prop::sample::select(SHAPES.iter().map(|shape| shape.name).collect::<Vec<_>>()),
        end in prop::sample::select(vec![BodyEnd::Complete, BodyEnd::Cut, BodyEnd::Idle]),
    ) {
        let run = |chunks: Vec<&[u8]>| {
            let mut decoder = StreamDecoder::new(shape(name).unwrap(), context());
            chunks.into_iter().try_for_each(|chunk| decoder.push(chunk).map(drop))?;
            decoder.finish(end)
        };
        let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(bytes.len())).collect();
        cuts.sort_unstable();
        let mut chunks = Vec::new();
        let mut from = 0;
        for cut in cuts {
            chunks.push(&bytes[from..cut]);
            from = cut;
        }
        chunks.push(&bytes[from..]);
        prop_assert_eq!(run(chunks), run(vec![&bytes]));
    }

    /// The same for whole bodies.
    #[test]
    fn any_body_is_judged(
        bytes in any_stream(),
        status in prop::sample::select(vec![200u16, 204, 400, 429, 500]),
        name in prop::sample::select(SHAPES.iter().map(|shape| shape.name).collect::<Vec<_>>()),
    ) {
        let response = HttpResponse {
            status,
            headers: HeaderMap::new(),
            body: bytes.into(),
            end: BodyEnd::Complete,
        };
        drop(shape(name).unwrap().decode(&response, context()));
    }
}
