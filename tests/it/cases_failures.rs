//! The corpus of provider responses, judged case by case.
//!
//! `cases.jsonl` was given to us, `more.jsonl` is ours. A miss is either fixed or listed with its
//! reason; one that is not listed fails the test. With `MAINSTAY_CASES=DIR` the files under
//! `DIR/failures` are scored and printed instead, and nothing is asserted.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use base64::Engine as _;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use mainstay::exchange::{BodyEnd, FinishReason, HttpResponse, ModelReply, TransportFault};
use mainstay::failure::{Failure, FailureCause, classify};
use mainstay::provider::shapes::{self, Shape};
use mainstay::provider::{DecodeContext, Dialect, StreamDecoder, dialect};
use serde_json::Value;

/// Misses that stay, by case id, with the reason.
const KNOWN_MISSES: &[(&str, &str)] = &[];

#[test]
fn cases_of_failures() {
    if let Some(dir) = std::env::var_os("MAINSTAY_CASES") {
        score(&PathBuf::from(dir).join("failures/cases.jsonl"), "failures");
        return;
    }
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases/failures");
    for (file, name) in [("cases.jsonl", "failures"), ("more.jsonl", "failures-more")] {
        let score = score(&dir.join(file), name);
        let known = |id: &str| KNOWN_MISSES.iter().any(|(known, _)| *known == id);
        let unknown: Vec<_> = score.misses.iter().filter(|(id, _)| !known(id)).collect();
        assert!(unknown.is_empty(), "misses that are not listed: {unknown:#?}");
        assert!(score.right * 100 >= score.all * 99, "under 99 %");
    }
}

/// A stream gives the same reply or failure however the network cuts it.
#[test]
fn cases_of_streams_at_every_split() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases/failures");
    let mut streams = 0;
    let cases = ["cases.jsonl", "more.jsonl"].map(|file| read(&dir.join(file)));
    for case in cases.into_iter().flatten() {
        if !case["stream"].is_array() || case["status"] != 200 {
            continue;
        }
        streams += 1;
        let (bytes, end) = stream_bytes(&case["stream"]);
        let whole = decode_stream(&case, &[&bytes], end);
        let single: Vec<&[u8]> = bytes.chunks(1).collect();
        assert_eq!(decode_stream(&case, &single, end), whole, "{} byte by byte", case["id"]);
        for at in 0..=bytes.len() {
            let (head, tail) = bytes.split_at(at);
            assert_eq!(decode_stream(&case, &[head, tail], end), whole, "{} at {at}", case["id"]);
        }
    }
    assert!(streams >= 60, "only {streams} streams");
}

#[derive(Default)]
struct Score {
    all: usize,
    right: usize,
    misses: Vec<(String, String)>,
}

fn read(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    text.lines()
        .filter(|line| !line.trim().is_empty())
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

fn score(path: &Path, name: &str) -> Score {
    let mut score = Score::default();
    let mut by_cause: BTreeMap<String, (usize, usize)> = BTreeMap::new();
    for case in read(path) {
        let id = case["id"].as_str().unwrap_or("?").to_owned();
        let label = case["expect"]["cause"].as_str().unwrap_or("ok").to_owned();
        let row = by_cause.entry(label).or_default();
        score.all += 1;
        row.1 += 1;
        match check(&case) {
            Ok(()) => {
                score.right += 1;
                row.0 += 1;
            }
            Err(why) => score.misses.push((id, why)),
        }
    }
    for (cause, (right, all)) in &by_cause {
        println!("{cause:26} {right}/{all}");
    }
    for (id, why) in &score.misses {
        println!("miss {id}: {why}");
    }
    println!("cases: {name} {}/{}", score.right, score.all);
    score
}

fn check(case: &Value) -> Result<(), String> {
    let expect = &case["expect"];
    let judged = judge(case);
    if expect["ok"] == true {
        return match judged {
            Ok(reply) => check_reply(expect, &reply),
            Err(_) if case["optional"] == true => Ok(()),
            Err(failure) => {
                Err(format!("expected ok, got {} ({})", failure.cause, failure.message))
            }
        };
    }
    let failure = match judged {
        Ok(reply) => return Err(format!("expected a failure, got {:?}", reply.finish)),
        Err(failure) => failure,
    };
    let cause = expect["cause"].as_str().unwrap_or("");
    let mut accepted: Vec<&str> = vec![cause];
    accepted
        .extend(case["accept_causes"].as_array().into_iter().flatten().filter_map(Value::as_str));
    if !accepted.contains(&failure.cause.name()) {
        return Err(format!("expected {cause}, got {} ({:?})", failure.cause, failure.detail));
    }
    check_failure(expect, &failure, failure.cause.name() == cause)
}

fn check_reply(expect: &Value, reply: &ModelReply) -> Result<(), String> {
    let finish = match &reply.finish {
        FinishReason::Stop => "stop",
        FinishReason::ToolCalls => "tool_calls",
        FinishReason::Unknown(_) => "unknown",
    };
    same("finish", &expect["finish"], finish.into())?;
    same("text", &expect["text"], reply.text.expose().into())?;
    same("tool_calls", &expect["tool_calls"], reply.tool_calls.len().into())?;
    let reasoning = reply.reasoning.as_ref().map(|text| text.expose());
    same("reasoning", &expect["reasoning"], reasoning.into())
}

fn check_failure(expect: &Value, failure: &Failure, is_cause: bool) -> Result<(), String> {
    if is_cause {
        same("domain", &expect["domain"], failure.domain().name().into())?;
        same("retryable", &expect["retryable"], failure.retryable.into())?;
        let breaker = failure.cause.counts_against_breaker();
        same("breaker", &expect["counts_against_breaker"], breaker.into())?;
    }
    let hint = failure.retry_after.map(|hint| u64::try_from(hint.as_millis()).unwrap());
    if expect.get("retry_after_ms").is_some() && Value::from(hint) != expect["retry_after_ms"] {
        return Err(format!("retry_after_ms: expected {}, got {hint:?}", expect["retry_after_ms"]));
    }
    let partial = failure.partial_text.as_ref().map(|text| text.expose());
    same("partial_text", &expect["partial_text"], partial.into())?;
    let message = &failure.message;
    if message.len() > 200 || message.chars().any(|c| !(' '..='~').contains(&c)) {
        return Err(format!("unsafe message {message:?}"));
    }
    if failure.evidence.text.as_ref().is_some_and(|text| text.expose().chars().count() > 512) {
        return Err("evidence text too long".to_owned());
    }
    Ok(())
}

fn same(what: &str, expected: &Value, found: Value) -> Result<(), String> {
    if expected.is_null() || *expected == found {
        return Ok(());
    }
    Err(format!("{what}: expected {expected}, got {found}"))
}

fn judge(case: &Value) -> Result<ModelReply, Failure> {
    if case["local"].is_object() {
        return Err(of_local_state(&case["local"]));
    }
    if let Some(fault) = case["transport"].as_str().and_then(transport_fault) {
        return Err(classify::of_fault(fault));
    }
    let status = u16::try_from(case["status"].as_u64().unwrap_or(0)).unwrap();
    let reply = if case["stream"].is_array() && (200..300).contains(&status) {
        let (bytes, end) = stream_bytes(&case["stream"]);
        decode_stream(case, &[&bytes], end)?
    } else {
        decode_whole(case, status)?
    };
    judge_output(reply.text.expose(), &case["given"])?;
    Ok(reply)
}

fn of_local_state(local: &Value) -> Failure {
    match local["kind"].as_str() {
        Some("circuit_open") => {
            let mut failure =
                Failure::new(FailureCause::CircuitOpen, "the target's breaker is open");
            failure.retry_after = local["open_for_ms"].as_u64().map(Duration::from_millis);
            failure
        }
        Some("bulkhead_full") => Failure::new(FailureCause::BulkheadFull, "the target is full"),
        Some("template") => {
            let error = local["error"].as_str().unwrap_or("");
            let missing = error.contains("undefined") || error.contains("missing");
            let cause =
                if missing { FailureCause::MissingInput } else { FailureCause::TemplateError };
            Failure::new(cause, "the template does not render")
        }
        Some("missing_input" | "input") => {
            Failure::new(FailureCause::MissingInput, "an input is absent")
        }
        _ => Failure::new(FailureCause::Internal, "something impossible happened"),
    }
}

fn transport_fault(name: &str) -> Option<TransportFault> {
    Some(match name {
        "connect_refused" | "reset" | "closed" | "unreachable" | "connect" => {
            TransportFault::Connect
        }
        "dns" => TransportFault::Dns,
        "tls" => TransportFault::Tls,
        "connect_timeout" => TransportFault::ConnectTimeout,
        "read_timeout" | "request_timeout" | "timeout" => TransportFault::RequestTimeout,
        _ => return None,
    })
}

fn headers(case: &Value) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in case["headers"].as_object().into_iter().flatten() {
        let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        headers.insert(
            HeaderName::try_from(name.as_str()).unwrap(),
            HeaderValue::try_from(value.as_bytes()).unwrap(),
        );
    }
    headers
}

fn context(case: &Value) -> DecodeContext<'_> {
    let now = case["now"].as_str().unwrap_or("2026-01-01T00:00:00Z").parse().unwrap();
    DecodeContext { provider: case["provider"].as_str().unwrap_or(""), now }
}

enum Decoder {
    Dialect(&'static dyn Dialect),
    Shape(&'static Shape),
}

fn decoder(case: &Value) -> Decoder {
    let api = case["api"].as_str().unwrap_or("");
    let name = match api {
        "chat_completions" | "completions" | "unknown" => "openai",
        "messages" => "anthropic",
        "generate_content" => "gemini",
        _ => "",
    };
    if let Some(dialect) = dialect(name) {
        return Decoder::Dialect(dialect);
    }
    let shape = match api {
        "ollama_generate" => "ollama_chat",
        "tgi" | "text_generation" => "hf_inference",
        api => api,
    };
    Decoder::Shape(shapes::shape(shape).unwrap_or(&shapes::chat_completions::SHAPE))
}

fn decode_whole(case: &Value, status: u16) -> Result<ModelReply, Failure> {
    let body = match &case["body"] {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        value => value.to_string(),
    };
    let cut = case["transport"] == "truncated_body";
    let response = HttpResponse {
        status,
        headers: headers(case),
        body: Bytes::from(body),
        end: if cut { BodyEnd::Cut } else { BodyEnd::Complete },
    };
    match decoder(case) {
        Decoder::Dialect(dialect) => dialect.decode(&response, context(case)),
        Decoder::Shape(shape) => shape.decode(&response, context(case)),
    }
}

fn decode_stream(case: &Value, chunks: &[&[u8]], end: BodyEnd) -> Result<ModelReply, Failure> {
    let decoder = match decoder(case) {
        Decoder::Dialect(dialect) => dialect.stream_decoder(context(case)),
        Decoder::Shape(shape) => StreamDecoder::new(shape, context(case)),
    };
    let mut decoder = decoder.with_headers(&headers(case));
    for chunk in chunks {
        decoder.push(chunk)?;
    }
    decoder.finish(end)
}

fn stream_bytes(items: &Value) -> (Vec<u8>, BodyEnd) {
    let mut bytes = Vec::new();
    let mut end = BodyEnd::Complete;
    for item in items.as_array().unwrap() {
        if let Some(data) = item.get("data") {
            if let Some(name) = item["event"].as_str() {
                bytes.extend(format!("event: {name}\n").bytes());
            }
            let data = data.as_str().map_or_else(|| data.to_string(), str::to_owned);
            bytes.extend(format!("data: {data}\n\n").bytes());
        } else if let Some(comment) = item["comment"].as_str() {
            bytes.extend(format!(":{comment}\n\n").bytes());
        } else if let Some(raw) = item["raw"].as_str() {
            bytes.extend(raw.bytes());
        } else if let Some(raw) = item["raw_b64"].as_str() {
            bytes.extend(base64::engine::general_purpose::STANDARD.decode(raw).unwrap());
        } else if let Some(line) = item.get("json_line") {
            bytes.extend(format!("{line}\n").bytes());
        } else if let Some(event) = item.get("aws_event") {
            bytes.extend(aws_message(event));
        } else if let Some(name) = item["end"].as_str() {
            end = match name {
                "idle" => BodyEnd::Idle,
                "reset" => BodyEnd::Reset,
                _ => BodyEnd::Cut,
            };
        }
    }
    (bytes, end)
}

fn aws_message(event: &Value) -> Vec<u8> {
    let mut headers = Vec::new();
    let mut header = |name: &str, value: &str| {
        headers.push(u8::try_from(name.len()).unwrap());
        headers.extend(name.bytes());
        headers.push(7);
        headers.extend(u16::try_from(value.len()).unwrap().to_be_bytes());
        headers.extend(value.bytes());
    };
    if let Some(name) = event["exception_type"].as_str() {
        header(":message-type", "exception");
        header(":exception-type", name);
    } else {
        header(":message-type", "event");
        header(":event-type", event["event_type"].as_str().unwrap());
    }
    header(":content-type", "application/json");
    let payload = event["payload"].to_string();
    let total = u32::try_from(16 + headers.len() + payload.len()).unwrap();
    let mut message = total.to_be_bytes().to_vec();
    message.extend(u32::try_from(headers.len()).unwrap().to_be_bytes());
    message.extend(crc32(&message).to_be_bytes());
    message.extend(headers);
    message.extend(payload.bytes());
    message.extend(crc32(&message).to_be_bytes());
    message
}

fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0u32, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            if crc & 1 == 1 { (crc >> 1) ^ 0xEDB8_8320 } else { crc >> 1 }
        })
    })
}

/// The output contract of a case. Stands in for the output module.
fn judge_output(text: &str, given: &Value) -> Result<(), Failure> {
    let fail = |cause| Err(Failure::new(cause, "the output breaks its contract"));
    let mut value = Value::Null;
    if given["expect_json"] == true {
        match serde_json::from_str(text) {
            Ok(parsed) => value = parsed,
            Err(_) => return fail(FailureCause::MalformedJson),
        }
        if let Some(schema) = given.get("schema")
            && !jsonschema::is_valid(schema, &value)
        {
            return fail(FailureCause::SchemaMismatch);
        }
    }
    for rule in given["rules"].as_array().into_iter().flatten() {
        if let Some(pattern) = rule["must_not_match"].as_str()
            && regex::Regex::new(pattern).unwrap().is_match(text)
        {
            return fail(FailureCause::RuleViolation);
        }
        if let Some(pattern) = rule["must_match"].as_str()
            && !regex::Regex::new(pattern).unwrap().is_match(text)
        {
            return fail(FailureCause::RuleViolation);
        }
        if let Some(number) = number_at(&value, &rule["path"]) {
            let low = rule["min"].as_f64().is_some_and(|min| number < min);
            let high = rule["max"].as_f64().is_some_and(|max| number > max);
            if low || high {
                return fail(FailureCause::RuleViolation);
            }
        }
    }
    if let Some(wanted) = given.get("min_confidence") {
        let confidence = number_at(&value, &wanted["path"]);
        if confidence.is_some_and(|c| wanted["min"].as_f64().is_some_and(|min| c < min)) {
            return fail(FailureCause::LowConfidence);
        }
    }
    Ok(())
}

/// The number at a path of the form `$.a.b`.
fn number_at(value: &Value, path: &Value) -> Option<f64> {
    let path = path.as_str()?.strip_prefix('$')?;
    path.split('.').filter(|key| !key.is_empty()).try_fold(value, |v, key| v.get(key))?.as_f64()
}
