//! Streams that stay open and bring too little, or end in the middle of a living connection.

use super::streams::stream;
use super::support::h2::ResettingProvider;
use super::support::{Plan, say};

/// Long enough for the window that throughput is taken over.
const WORDS: &str = "Erzähle mir bitte etwas über die Gezeiten, größere Flüsse, Ebbe und Flut, \
                     über Häfen, Leuchttürme, Deiche und den Mond.";

/// A policy without waits: what is looked at is what the stream is found to be.
const NEXT: &str = "policy: {routing: {infrastructure: {ladder: [fallback_to_target]}}}\n";

fn failures(told: &super::streams::Told) -> Vec<(String, String)> {
    let result = told.completed.as_ref().unwrap().result.as_ref().unwrap();
    let failures = result.attempts.iter().filter_map(|attempt| attempt.failure.as_ref());
    failures.map(|failure| (failure.cause.clone(), failure.detail.clone())).collect()
}

#[tokio::test]
async fn a_stream_that_brings_nothing_more_is_given_up_and_says_so() {
    let target = "{dialect: openai, model: 'm!latency(between=5ms)+hang(at=mid_body)', \
                  base_url: 'http://SIM/v1', timeouts: {idle: 200ms}}";
    let rig = Plan::new().raw_target("bad", target).target("good", "g").policy("default", NEXT);
    let rig = rig.start().await;
    let told = stream(&rig, say(&["bad", "good"], WORDS)).await;
    assert_eq!(failures(&told), [("stream_idle_timeout".to_owned(), String::new())]);
    assert!(!told.void.is_empty() && told.text == told.output().text);
    rig.stop().await;
}

#[tokio::test]
async fn a_stream_that_drips_is_cut_and_told_from_one_that_stands_still() {
    // Bytes keep coming all the time, far below the floor.
    let target = "{dialect: openai, model: 'm!drip(bytes_per_second=150)', \
                  base_url: 'http://SIM/v1', stream_bytes_per_second_min: 200}";
    let rig = Plan::new().raw_target("bad", target).target("good", "g").policy("default", NEXT);
    let rig = rig.start().await;
    let told = stream(&rig, say(&["bad", "good"], WORDS)).await;
    assert_eq!(failures(&told), [("stream_idle_timeout".to_owned(), "too_slow".to_owned())]);
    assert_eq!(told.restarts, ["stream_idle_timeout -> fallback_to_target"]);
    assert!(!told.void.is_empty() && told.text == told.output().text);
    rig.stop().await;
}

const BEGINNING: &[u8] =
    b"data: {\"id\":\"r1\",\"object\":\"chat.completion.chunk\",\"model\":\"m\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"Ebbe\"}}]}\n\n";

#[tokio::test]
async fn a_stream_that_is_reset_alone_is_an_interrupted_one() {
    // INTERNAL_ERROR, REFUSED_STREAM, CANCEL, ENHANCE_YOUR_CALM.
    for code in [2, 7, 8, 11] {
        for (body, content) in [(BEGINNING, "Ebbe"), (&b": ping\n\n"[..], "")] {
            let provider = ResettingProvider::start(body, code).await;
            let target = format!(
                "{{dialect: openai, model: m, base_url: 'http://{}/v1', http: http2}}",
                provider.address
            );
            let rig = Plan::new().raw_target("bad", &target).target("good", "g");
            let rig = rig.policy("default", NEXT).start().await;
            let told = stream(&rig, say(&["bad", "good"], WORDS)).await;
            assert_eq!(told.story(), ["bad stream_interrupted -> fallback_to_target", "good ok"]);
            assert_eq!(told.void, content, "code {code}");
            assert_eq!(told.text, told.output().text, "no splice");
            rig.stop().await;
        }
    }
}
