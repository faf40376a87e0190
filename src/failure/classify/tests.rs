use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::exchange::BodyEnd;
use crate::failure::FailureCause::{self, *};

fn response(status: u16, headers: &[(&'static str, &str)], body: &str) -> HttpResponse {
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        map.insert(*name, value.parse().unwrap());
    }
    let body = Bytes::copy_from_slice(body.as_bytes());
    HttpResponse { status, headers: map, body, end: BodyEnd::Complete }
}

fn judged(status: u16, headers: &[(&'static str, &str)], body: &str) -> Failure {
    of_response(&response(status, headers, body), "", Timestamp::UNIX_EPOCH)
}

#[track_caller]
fn check(status: u16, body: &str, expected: FailureCause) {
    assert_eq!(judged(status, &[], body).cause, expected, "{status} {body}");
}

#[test]
fn machine_fields_come_before_words() {
    check(
        400,
        r#"{"error":{"code":"context_length_exceeded","message":"rate limit"}}"#,
        ContextLengthExceeded,
    );
    check(429, r#"{"error":{"type":"insufficient_quota","message":"slow down"}}"#, QuotaExhausted);
    check(
        400,
        r#"{"error":{"code":"json_validate_failed","message":"x","failed_generation":"quota"}}"#,
        MalformedJson,
    );
    check(403, r#"{"error":{"code":"unsupported_country_region_territory"}}"#, PermissionDenied);
    check(404, r#"{"error":{"type":"not_found_error","message":"model: x"}}"#, ModelNotFound);
}

#[test]
fn generic_words_decide_nothing() {
    check(
        503,
        r#"{"error":{"type":"invalid_request_error","message":"capacity exceeded"}}"#,
        Overloaded,
    );
    check(504, r#"{"error":{"type":"internal_server_error"}}"#, RequestTimeout);
    check(401, r#"{"error":{"type":"invalid_request_error","message":"x"}}"#, Authentication);
    check(
        400,
        r#"{"error":{"code":400,"status":"INVALID_ARGUMENT","message":"x"}}"#,
        InvalidRequest,
    );
}

#[test]
fn a_relayed_status_is_heard() {
    check(500, r#"{"error":{"message":"litellm.RateLimitError: x"}}"#, RateLimited);
    check(
        502,
        r#"{"error":{"message":"{\"error\":{\"code\":401,\"message\":\"x\"}}"}}"#,
        Authentication,
    );
    check(413, r#"{"error":{"code":"rate_limit_exceeded","message":"x"}}"#, RequestTooLarge);
}

#[test]
fn pages_speak_by_their_status() {
    let page = "<html><title>rate limit quota context length</title></html>";
    check(503, page, BadGateway);
    check(502, page, BadGateway);
    check(500, page, ServerError);
    check(403, page, PermissionDenied);
    check(429, page, RateLimited);
    assert_eq!(judged(429, &[], "<html>try again in 5 seconds</html>").retry_after, None);
}

#[test]
fn should_retry_changes_retryable_only() {
    let failure = judged(500, &[("x-should-retry", "false")], "");
    assert_eq!((failure.cause, failure.retryable), (ServerError, false));
    let failure = judged(400, &[("x-should-retry", "true")], "");
    assert_eq!((failure.cause, failure.retryable), (InvalidRequest, true));
    assert!(!judged(400, &[("x-should-retry", "perhaps")], "").retryable);
}

#[test]
fn no_hint_where_no_wait_helps() {
    let hint = [("retry-after", "5")];
    assert!(judged(503, &hint, "").retry_after.is_some());
    assert_eq!(judged(400, &hint, "").retry_after, None);
    assert_eq!(judged(401, &hint, "").retry_after, None);
}

#[test]
fn redirects_are_told_apart() {
    let failure = judged(302, &[("location", "https://elsewhere.example")], "");
    assert_eq!((failure.cause, failure.detail), (MalformedResponse, Some("unexpected_redirect")));
}

#[test]
fn evidence_is_bounded_and_free_of_keys() {
    let body = r#"{"error":{"message":"Incorrect API key provided: sk-abcdefgh12345678","type":"a b!","code":"c"},"request_id":"r-1"}"#;
    let evidence = *judged(401, &[], body).evidence;
    assert_eq!(evidence.status, Some(401));
    assert_eq!(evidence.provider_type.as_deref(), Some("a_b"));
    assert_eq!(evidence.provider_code.as_deref(), Some("c"));
    assert_eq!(evidence.request_id.as_deref(), Some("r-1"));
    assert!(!evidence.text.unwrap().expose().contains("abcdefgh"));
}

#[test]
fn too_large_bodies_are_judged_by_status() {
    let mut large = response(429, &[], "");
    large.end = BodyEnd::TooLarge;
    let failure = of_response(&large, "", Timestamp::UNIX_EPOCH);
    assert_eq!((failure.cause, failure.detail), (RateLimited, Some("response_too_large")));
}

fn any_body() -> impl Strategy<Value = Vec<u8>> {
    let words = prop::sample::select(vec![
        "{",
        "}",
        "[",
        "]",
        "\"",
        "'",
        ":",
        ",",
        "error",
        "message",
        "code",
        "type",
        "429",
        "None",
        "\\",
        "rate limit",
        "per day",
        "limit: ",
        "try again in ",
        "9s",
        "<html>",
        "data: ",
        "é",
        "{'error': {'message': '",
        "{\"error\":{\"message\":\"",
        "\\\"",
        "\n",
        "上下文",
        "context length",
    ]);
    prop_oneof![
        prop::collection::vec(any::<u8>(), 0..200),
        prop::collection::vec(words, 0..40).prop_map(|words| words.concat().into_bytes()),
    ]
}

proptest! {
    /// Whatever comes, there is a verdict, and it is fit to be shown.
    #[test]
    fn any_response_is_judged(
        status in any::<u16>(),
        body in any_body(),
        hint in prop::option::of("[ -~]{0,24}"),
        provider in prop::sample::select(vec!["", "groq", "zhipu", "cohere"]),
    ) {
        let mut response = response(status, &[], "");
        response.body = body.into();
        if let Some(hint) = hint {
            for name in ["retry-after", "retry-after-ms", "x-amzn-errortype", "x-ratelimit-reset"] {
                response.headers.insert(name, hint.parse().unwrap());
            }
        }
        let failure = of_response(&response, provider, Timestamp::UNIX_EPOCH);
        prop_assert!(failure.message.len() <= 200 && failure.message.is_ascii());
        prop_assert!(failure.retry_after.is_none_or(|hint| hint.as_millis() <= 86_400_000));
        let chars = failure.evidence.text.map_or(0, |text| text.expose().chars().count());
        prop_assert!(chars <= 512);
    }
}

/// Bodies at the limits are judged in a time that grows with their length and no faster.
#[test]
fn hostile_bodies_are_bounded() {
    let started = std::time::Instant::now();
    for body in [
        "[".repeat(1 << 20),
        "{\"error\":".repeat(1 << 17),
        "{'a':".repeat(1 << 18),
        format!("{{\"error\":{{\"message\":\"{}\"}}}}", "token limit exceed ".repeat(50_000)),
        format!("{{\"error\":[{}0]}}", "{\"message\":\"x y z\"},".repeat(40_000)),
        "x".repeat(8 << 20),
        format!("{{\"n\":{}}}", "9".repeat(1 << 20)),
        "<".repeat(1 << 20),
        "try again in ".repeat(1 << 16),
    ] {
        for status in [400, 429, 500, 503] {
            judged(status, &[], &body);
        }
    }
    assert!(started.elapsed().as_secs() < 20, "{:?}", started.elapsed());
}

#[test]
fn a_forbidden_address_is_not_tried_again() {
    let failure = of_fault(TransportFault::Forbidden);
    assert_eq!((failure.cause, failure.detail), (Dns, Some("target_forbidden")));
    assert!(!failure.retryable);
}
