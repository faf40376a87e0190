//! Faults of the connection, seen from the raw socket.

use std::io::ErrorKind;
use std::time::{Duration, Instant};

use mainstay::simulate::Ended;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::harness::{ALL, Api, PATIENCE, Question, provider};

fn question(fault: &str, stream: bool) -> Question {
    Question { stream, ..Question::of(&format!("m!{fault}")) }
}

#[tokio::test]
async fn resets_come_where_they_should() {
    let provider = provider().await;
    for api in ALL {
        for stream in [false, true] {
            let (bytes, ended) = provider.raw(api, &question("reset", stream)).await;
            assert_eq!((bytes.len(), ended), (0, Err(ErrorKind::ConnectionReset)));
            for place in ["after_headers", "mid_body"] {
                // What was sent before a reset may be dropped by the kernel, so only that it
                // ended is certain here; the order of the moves is tested where they are made.
                let fault = format!("reset(at={place})");
                let (bytes, ended) = provider.raw(api, &question(&fault, stream)).await;
                assert_eq!(ended, Err(ErrorKind::ConnectionReset), "{api:?} {place}");
                assert!(!bytes.ends_with(b"0\r\n\r\n"));
            }
        }
    }
    provider.until(|calls| calls.recent.iter().all(|call| call.ended == Ended::Broken)).await;
    provider.stop().await;
}

#[tokio::test]
async fn a_reset_mid_stream_follows_tokens_that_were_read() {
    let provider = provider().await;
    for api in ALL {
        let slow = "reset(at=mid_stream)+latency(between=30ms)";
        let error = provider.try_ask(api, &question(slow, true)).await.unwrap_err();
        assert!(error.is_body() || error.is_decode(), "{api:?}: {error:?}");
    }
    provider.stop().await;
}

#[tokio::test]
async fn closes_come_early_and_cleanly() {
    let provider = provider().await;
    for api in ALL {
        let (bytes, ended) = provider.raw(api, &question("close(at=before_headers)", false)).await;
        assert_eq!((bytes.len(), ended), (0, Ok(())));
        let (bytes, ended) = provider.raw(api, &question("close(at=after_headers)", false)).await;
        assert!(ended.is_ok() && bytes.ends_with(b"\r\n\r\n"), "{api:?}");
        let (bytes, ended) = provider.raw(api, &question("close", true)).await;
        let text = String::from_utf8_lossy(&bytes);
        assert!(ended.is_ok() && text.contains("data: ") && !text.ends_with("0\r\n\r\n"));
        assert!(provider.try_ask(api, &question("close", false)).await.is_err());
    }
    provider.stop().await;
}

#[tokio::test]
async fn hangs_last_until_the_peer_leaves_or_the_time_is_over() {
    let provider = provider().await;
    for place in ["before_headers", "after_headers", "mid_body"] {
        for stream in [false, true] {
            let fault = format!("hang(at={place})");
            let mut socket = provider.socket(Api::OpenAi, &question(&fault, stream)).await;
            let mut first = [0; 1];
            if place == "before_headers" {
                provider
                    .until(|calls| calls.recent.last().is_some_and(|c| c.ended == Ended::Running))
                    .await;
            } else {
                socket.read_exact(&mut first).await.unwrap();
            }
            drop(socket);
            let calls = provider
                .until(|calls| calls.recent.last().is_some_and(|c| c.ended != Ended::Running))
                .await;
            assert_eq!(calls.recent.last().unwrap().ended, Ended::PeerLeft, "{place} {stream}");
        }
        let started = Instant::now();
        let fault = format!("hang(at={place},for=150ms)");
        let answer = provider.ask(Api::Anthropic, &question(&fault, false)).await;
        assert!(answer.said(Api::Anthropic).starts_with("Simulated"));
        assert!(started.elapsed() >= Duration::from_millis(150));
    }
    provider.stop().await;
}

#[tokio::test]
async fn a_peer_that_leaves_during_a_wait_is_noticed() {
    let provider = provider().await;
    let socket = provider.socket(Api::Gemini, &question("latency(delay=1h)", false)).await;
    provider.until(|calls| calls.total == 1).await;
    drop(socket);
    provider.until(|calls| calls.recent[0].ended == Ended::PeerLeft).await;
    provider.stop().await;
}

#[tokio::test]
async fn drips_are_slow_and_whole() {
    let provider = provider().await;
    let started = Instant::now();
    let fault = "drip(bytes_per_second=4000)";
    let answer = provider.ask(Api::OpenAi, &question(fault, false)).await;
    assert!(answer.said(Api::OpenAi).starts_with("Simulated"));
    let floor = Duration::from_secs_f64(answer.body.len() as f64 / 4_000.0 * 0.7);
    assert!(started.elapsed() >= floor, "{:?} {:?}", started.elapsed(), floor);
    let fault = "drip(bytes_per_second=20000)";
    let streamed = provider.ask(Api::Anthropic, &question(fault, true)).await;
    assert!(streamed.text().contains("message_stop"));
    provider.stop().await;
}

#[tokio::test]
async fn bodies_may_be_no_json_in_a_right_frame() {
    let provider = provider().await;
    for api in ALL {
        for fault in ["truncate_json", "malformed_json"] {
            let answer = provider.ask(api, &question(fault, false)).await;
            assert_eq!(answer.status, 200);
            let read = serde_json::from_slice::<serde_json::Value>(&answer.body);
            assert!(read.is_err() && !answer.body.is_empty(), "{api:?} {fault}");
            let streamed = provider.ask(api, &question(fault, true)).await;
            assert!(!streamed.text().contains("[DONE]"), "{api:?} {fault}");
        }
        for stream in [false, true] {
            let answer = provider.ask(api, &question("invalid_utf8", stream)).await;
            assert!(std::str::from_utf8(&answer.body).is_err());
            let deep = provider.ask(api, &question("deep_json(count=5000)", stream)).await;
            assert!(deep.text().contains(&"[".repeat(5_000)));
        }
    }
    provider.stop().await;
}

#[tokio::test]
async fn lengths_may_be_wrong() {
    let provider = provider().await;
    for stream in [false, true] {
        let fault = "wrong_content_length(kind=too_long)";
        assert!(provider.try_ask(Api::OpenAi, &question(fault, stream)).await.is_err());
        let head = async |kind: &str| {
            let fault = format!("wrong_content_length(kind={kind})");
            let (bytes, _) = provider.raw(Api::OpenAi, &question(&fault, stream)).await;
            String::from_utf8_lossy(&bytes).into_owned()
        };
        assert_eq!(head("twice").await.matches("content-length: ").count(), 2);
        assert!(head("negative").await.contains("content-length: -1\r\n"));
        let short = head("too_short").await;
        let (head, body) = short.split_once("\r\n\r\n").unwrap();
        let length = head.split("content-length: ").nth(1).unwrap();
        assert!(length.trim().parse::<usize>().unwrap() < body.len());
    }
    provider.stop().await;
}

#[tokio::test]
async fn floods_have_the_size_that_was_asked_for() {
    let provider = provider().await;
    let (bytes, _) = provider.raw(Api::OpenAi, &question("interim(count=3)", false)).await;
    let text = String::from_utf8_lossy(&bytes);
    assert_eq!(text.matches("HTTP/1.1 103 ").count(), 3);
    assert_eq!(text.matches("HTTP/1.1 200 OK").count(), 1);
    let (bytes, _) = provider.raw(Api::OpenAi, &question("many_headers(count=300)", false)).await;
    assert_eq!(String::from_utf8_lossy(&bytes).matches("x-filler-").count(), 300);
    for stream in [false, true] {
        let answer = provider.ask(Api::OpenAi, &question("big_body(bytes=1000000)", stream)).await;
        assert!((1_000_000..1_200_000).contains(&answer.body.len()), "{}", answer.body.len());
    }
    provider.stop().await;
}

#[tokio::test]
async fn connections_are_kept_and_used_again() {
    let provider = provider().await;
    // Two requests on one socket; the second one ends it.
    let mut socket = tokio::net::TcpStream::connect(provider.simulator.addr()).await.unwrap();
    let get = b"GET /healthz HTTP/1.1\r\nhost: h\r\n\r\nGET /healthz HTTP/1.0\r\nhost: h\r\n\r\n";
    socket.write_all(get).await.unwrap();
    let mut bytes = Vec::new();
    tokio::time::timeout(PATIENCE, socket.read_to_end(&mut bytes)).await.unwrap().unwrap();
    assert_eq!(String::from_utf8_lossy(&bytes).matches("200 OK").count(), 2);
    provider.stop().await;
}

#[tokio::test]
async fn requests_are_bounded_and_chunked_ones_are_read() {
    let provider = provider().await;
    let send = async |bytes: Vec<u8>| {
        let mut socket = tokio::net::TcpStream::connect(provider.simulator.addr()).await.unwrap();
        socket.write_all(&bytes).await.unwrap();
        let mut line = [0; 12];
        socket.read_exact(&mut line).await.unwrap();
        String::from_utf8_lossy(&line[9..]).into_owned()
    };
    let head = "POST /v1/chat/completions HTTP/1.1\r\nhost: h\r\n";
    let large = format!("{head}content-length: 9000000\r\n\r\n");
    assert_eq!(send(large.into_bytes()).await, "413");
    let body = Question::of("m").body(Api::OpenAi).to_string();
    let (one, two) = body.split_at(10);
    let chunked = format!(
        "{head}transfer-encoding: chunked\r\n\r\n{:x}\r\n{one}\r\n{:x}\r\n{two}\r\n0\r\n\r\n",
        one.len(),
        two.len()
    );
    assert_eq!(send(chunked.into_bytes()).await, "200");
    let no_json = format!("{head}content-length: 3\r\n\r\nabc");
    assert_eq!(send(no_json.into_bytes()).await, "400");
    assert_eq!(send(b"nonsense\r\n\r\n".to_vec()).await, "400");
    provider.stop().await;
}
