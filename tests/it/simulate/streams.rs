//! Faults of streams.

use std::time::{Duration, Instant};

use serde_json::Value;

use super::harness::{ALL, Api, Question, provider};

fn question(fault: &str) -> Question {
    let prompt = "Erzähle mir bitte etwas über die Gezeiten, größere Flüsse 🌊 und Ebbe.".into();
    Question { prompt, ..Question::of(&format!("m!{fault}")).stream() }
}

#[tokio::test]
async fn the_last_mark_may_be_missing() {
    let provider = provider().await;
    for api in ALL {
        let marked = provider.ask(api, &question("none")).await;
        let unmarked = provider.ask(api, &question("no_done")).await;
        let unfinished = provider.ask(api, &question("no_done(kind=finish)")).await;
        for mark in ["[DONE]", "message_stop"] {
            assert!(!unmarked.text().contains(mark) && !unfinished.text().contains(mark));
        }
        assert!(marked.events().len() > unmarked.events().len(), "{api:?}");
        let finish = |text: String| {
            text.contains("\"finish_reason\":\"stop\"") || text.contains("\"end_turn\"")
        };
        assert_eq!(finish(unmarked.text()), api != Api::Gemini);
        assert!(!finish(unfinished.text()) && !unfinished.text().contains("STOP"));
    }
    provider.stop().await;
}

#[tokio::test]
async fn errors_come_before_or_after_the_first_token() {
    let provider = provider().await;
    for api in ALL {
        let before = provider.ask(api, &question("error_event(kind=overloaded)")).await;
        assert_eq!((before.status, before.said_in_stream(api).len()), (200, 0));
        let after = provider.ask(api, &question("error_event(at=mid_stream)")).await;
        assert!(!after.said_in_stream(api).is_empty());
        for answer in [before, after] {
            let events = answer.events();
            let last: Value = serde_json::from_str(events.last().unwrap()).unwrap();
            assert!(last.get("error").is_some(), "{api:?}: {last}");
            assert_eq!(answer.text().contains("event: error\n"), api == Api::Anthropic);
        }
    }
    provider.stop().await;
}

#[tokio::test]
async fn one_event_may_be_unreadable() {
    let provider = provider().await;
    for api in ALL {
        let events = provider.ask(api, &question("bad_chunk")).await.events();
        let bad = events.iter().filter(|event| {
            event.as_str() != "[DONE]" && serde_json::from_str::<Value>(event).is_err()
        });
        assert_eq!(bad.count(), 1, "{api:?}");
    }
    provider.stop().await;
}

#[tokio::test]
async fn odd_pieces_join_to_the_same_stream() {
    let provider = provider().await;
    for api in ALL {
        let whole = provider.ask(api, &question("none")).await.said_in_stream(api);
        assert!(whole.contains('🌊'));
        let mut response = provider.start(api, &question("split_utf8")).await.unwrap();
        let (mut bytes, mut cut) = (Vec::new(), false);
        while let Some(piece) = response.chunk().await.unwrap() {
            cut |= std::str::from_utf8(&piece).is_err();
            bytes.extend_from_slice(&piece);
        }
        let text = String::from_utf8(bytes).unwrap();
        let mut events = text.lines().filter_map(|line| line.strip_prefix("data: "));
        let last = events.next_back().unwrap();
        assert!(last == "[DONE]" || last.contains("message_stop") || last.contains("STOP"));
        // The client may join pieces again; that a character was cut is certain on the wire only.
        let (wire, ended) = provider.raw(api, &question("split_utf8")).await;
        assert!(ended.is_ok());
        let chunks = wire.windows(3).filter(|w| w[0].is_ascii_digit() && w[1..] == *b"\r\n");
        assert!(cut || chunks.count() > 100, "{api:?}");
    }
    provider.stop().await;
}

#[tokio::test]
async fn faults_of_streams_leave_whole_answers_alone() {
    let provider = provider().await;
    for fault in ["no_done", "error_event", "bad_chunk", "split_utf8"] {
        let question = Question { stream: false, ..question(fault) };
        let answer = provider.ask(Api::OpenAi, &question).await;
        assert!(answer.said(Api::OpenAi).starts_with("Simulated answer"));
    }
    provider.stop().await;
}

#[tokio::test]
async fn waits_before_headers_tokens_and_between_them() {
    let provider = provider().await;
    let took = async |fault: &str, api: Api| {
        let started = Instant::now();
        let mut response = provider.start(api, &question(fault)).await.unwrap();
        let headers = started.elapsed();
        while response.chunk().await.unwrap().is_some() {}
        (headers, started.elapsed())
    };
    let ms = Duration::from_millis;
    let (headers, _) = took("latency(delay=120ms)", Api::OpenAi).await;
    assert!(headers >= ms(120), "{headers:?}");
    for api in ALL {
        let (_, all) = took("latency(first_token=150ms)", api).await;
        assert!(all >= ms(150), "{api:?} {all:?}");
        let (_, all) = took("latency(between=10ms)", api).await;
        assert!(all >= ms(100), "{api:?} {all:?}");
    }
    provider.stop().await;
}
