//! Unwraps an error body into flat facts.
//!
//! Gateways wrap errors of providers in errors of their own, as objects, as JSON in a string, as
//! Python literals. Everything that a body says is gathered once, whatever its nesting, and only
//! then judged; so a new wrapping costs nothing in the rules. The walk follows the members that
//! providers use for errors and no others: members that echo the request or the model's output
//! (`failed_generation`, `input`, `flagged_input`) would bring foreign words in.

use std::fmt::Write as _;

use serde_json::{Map, Value};

use super::{Evidence, machine, python_repr, redact};
use crate::exchange::Payload;

/// Bytes of text that the wording is judged by.
pub(super) const TEXT_BYTES_MAX: usize = 8 * 1024;
/// Bytes of a body that is not JSON that are looked at.
const RAW_BYTES_MAX: usize = 64 * 1024;
/// Bodies above this are not parsed as a tree.
const TREE_BYTES_MAX: usize = 1024 * 1024;
/// Strings inside strings that are opened.
const LAYERS_MAX: u8 = 3;
const NODES_MAX: u16 = 512;
const WORDS_MAX: usize = 32;

/// What a body says, flat.
#[derive(Debug, Default)]
pub(super) struct Facts {
    /// Machine words, normalised, outermost first.
    pub words: Vec<String>,
    /// Short codes as written, for the providers that number their errors.
    pub codes: Vec<String>,
    /// Copy of an HTTP status inside the body.
    pub status: Option<u16>,
    /// An HTTP status found in a nested layer, which is nearer to the origin.
    pub inner_status: Option<u16>,
    /// All texts, as said.
    pub text: String,
    /// `QuotaFailure.quotaId` values in lower case.
    pub quota_ids: Vec<String>,
    /// MiniMax's `base_resp.status_code`.
    pub base_resp: Option<i64>,
    /// google.rpc.RetryInfo.
    pub retry_delay: Option<String>,
    /// Hugging Face's seconds until a model is loaded.
    pub estimated_time: Option<String>,
    /// Epoch milliseconds of a reset, from headers that a gateway quotes in the body.
    pub reset_epoch: Option<String>,
    /// The body is a page for people.
    pub html: bool,
    /// For the caller.
    pub shown: Evidence,
    nodes: u16,
}

impl Facts {
    /// The facts of a body of any form.
    pub fn of_body(body: &[u8]) -> Self {
        let mut facts = Self::default();
        if body.len() <= TREE_BYTES_MAX
            && let Ok(value) = serde_json::from_slice::<Value>(body)
        {
            facts.visit(&value, 0, 0);
            return facts;
        }
        let head = body.get(..RAW_BYTES_MAX).unwrap_or(body);
        let head = String::from_utf8_lossy(head);
        let head = head.trim_start_matches('\u{feff}').trim();
        if head.starts_with('<') && !head.starts_with("<4") && !head.starts_with("<5") {
            facts.html = true;
        }
        match event_data(head) {
            Some(data) => facts.visit_text(data, 0),
            None => facts.visit_text(head, 0),
        }
        facts
    }

    /// The facts of an error value that was found in a body or a stream.
    pub fn of_value(value: &Value) -> Self {
        let mut facts = Self::default();
        facts.visit(value, 0, 0);
        facts
    }

    fn visit(&mut self, value: &Value, depth: u8, layer: u8) {
        self.nodes = self.nodes.saturating_add(1);
        if self.nodes > NODES_MAX || depth > 10 {
            return;
        }
        match value {
            Value::Object(map) => self.visit_object(map, depth + 1, layer),
            Value::Array(items) => {
                items.iter().take(16).for_each(|item| self.visit(item, depth + 1, layer));
            }
            Value::String(text) => self.visit_text(text, layer),
            Value::Null | Value::Bool(_) | Value::Number(_) => (),
        }
    }

    fn visit_object(&mut self, map: &Map<String, Value>, depth: u8, layer: u8) {
        for (key, value) in map.iter().take(64) {
            match key.to_ascii_lowercase().as_str() {
                "message" | "msg" | "detail" | "details" | "title" | "description"
                | "error_msg" | "error_message" | "errormessage" | "error_description"
                | "status_msg" | "faultstring" | "statusmessage" | "status_message"
                | "explanation" => {
                    self.visit(value, depth, layer);
                }
                "error" => {
                    // A bare token here is a code as well: {"error":"rate_limited"}.
                    if let Value::String(word) = value {
                        self.word_in_text(word);
                    }
                    self.visit(value, depth, layer);
                }
                "errors" | "innererror" | "inner_error" | "fault" | "response" | "violations"
                | "upstream" | "exception" | "body" | "raw" | "cause" | "err" => {
                    // What a gateway quotes is nearer to the origin than what it says itself.
                    self.visit(value, depth, layer.saturating_add(u8::from(key != "errors")));
                }
                "metadata" => self.visit_metadata(value, depth, layer),
                "code" | "status" | "error_code" | "errorcode" | "err_code" | "statuscode"
                | "status_code" | "http_status" | "http_status_code" | "httpstatuscode"
                | "raw_status_code" | "http_code" => self.code(key, value, layer),
                "type" | "error_type" | "errortype" | "__type" | "reason" | "name" | "kind"
                | "exceptiontype" | "exception_type" | "error_name" => self.kind(value),
                "base_resp" => self.visit_base_resp(value, depth, layer),
                "quotaid" => {
                    if let Value::String(id) = value {
                        self.quota_ids.push(id.to_ascii_lowercase());
                    }
                }
                "retrydelay" => self.retry_delay = as_text(value),
                "estimated_time" => self.estimated_time = as_text(value),
                "request_id" | "requestid" | "error_id" | "trace_id" => {
                    if let (None, Value::String(id)) = (&self.shown.request_id, value) {
                        self.shown.request_id = redact::word(id);
                    }
                }
                // `external_model_error`, `upstreamError` and whatever comes next.
                key if key.ends_with("error") || key.ends_with("errors") => {
                    self.visit(value, depth, layer.saturating_add(1));
                }
                _ => (),
            }
        }
    }

    /// `metadata` is a quoted error (OpenRouter) or a bag of labels (google.rpc.ErrorInfo).
    fn visit_metadata(&mut self, value: &Value, depth: u8, layer: u8) {
        let Value::Object(map) = value else { return };
        if let Some(Value::Object(headers)) = map.get("headers") {
            let reset = headers.iter().find(|(n, _)| n.eq_ignore_ascii_case("x-ratelimit-reset"));
            self.reset_epoch = reset.and_then(|(_, value)| as_text(value));
        }
        for (key, value) in map.iter().take(64) {
            match key.as_str() {
                "raw" | "error" | "message" | "details" | "provider_error" => {
                    self.visit(value, depth, layer.saturating_add(1));
                }
                "error_type" | "limit_source" => self.kind(value),
                // Only OpenRouter's moderation verdict has reasons.
                "reasons" | "flagged_input" => self.add_word("moderation"),
                "quota_limit" | "quota_id" | "quota_unit" => {
                    if let Value::String(id) = value {
                        self.quota_ids.push(id.to_ascii_lowercase());
                    }
                }
                _ => (),
            }
        }
    }

    fn visit_base_resp(&mut self, value: &Value, depth: u8, layer: u8) {
        if let Some(code) = value.get("status_code").and_then(Value::as_i64)
            && code != 0
        {
            self.base_resp = Some(code);
            self.shown.provider_code = redact::word(&code.to_string());
            if let Some(text) = value.get("status_msg") {
                self.visit(text, depth, layer);
            }
        }
    }

    fn code(&mut self, key: &str, value: &Value, layer: u8) {
        let Some(text) = as_text(value) else {
            return self.visit(value, 8, layer);
        };
        if let Ok(status @ 300..=599) = text.parse::<u16>() {
            let slot = if layer == 0 { &mut self.status } else { &mut self.inner_status };
            slot.get_or_insert(status);
        }
        if self.shown.provider_code.is_none() && key.eq_ignore_ascii_case("code") {
            self.shown.provider_code = redact::word(&text);
        } else if self.shown.provider_type.is_none() && key.eq_ignore_ascii_case("status") {
            self.shown.provider_type = redact::word(&text);
        }
        if text.len() <= 8 {
            self.codes.push(text.clone());
        }
        self.word_or_sentence(&text);
    }

    fn kind(&mut self, value: &Value) {
        if let Value::String(text) = value
            && text != "error"
        {
            if self.shown.provider_type.is_none() {
                self.shown.provider_type = redact::word(text);
            }
            self.word_or_sentence(text);
        }
    }

    /// xAI writes sentences where others write codes.
    fn word_or_sentence(&mut self, text: &str) {
        if text.contains(' ') {
            self.add_text(text);
        } else {
            self.add_word(text);
        }
    }

    /// A machine word from a header or from a place that holds only words.
    pub fn add_word(&mut self, word: &str) {
        if self.words.len() < WORDS_MAX {
            self.words.push(machine::normalise(word));
        }
    }

    fn word_in_text(&mut self, text: &str) {
        if !text.contains(' ') && text.len() <= 64 {
            self.add_word(text);
        }
    }

    fn visit_text(&mut self, text: &str, layer: u8) {
        let text = clip(text.trim(), RAW_BYTES_MAX);
        if layer < LAYERS_MAX
            && let Some((before, inner)) = embedded(text)
        {
            self.add_text(before);
            self.visit(&inner, 2, layer + 1);
            return;
        }
        self.add_text(text);
    }

    fn add_text(&mut self, text: &str) {
        let text = text.trim();
        if text.is_empty() || self.text.len() >= TEXT_BYTES_MAX {
            return;
        }
        let text = clip(text, TEXT_BYTES_MAX - self.text.len());
        if self.html {
            self.text.push_str(text);
            return;
        }
        if self.text.contains(text) {
            return;
        }
        if !self.text.is_empty() {
            self.text.push_str("; ");
        }
        let _ = write!(self.text, "{text}");
        self.exception_names(text);
        self.marked_status(text);
    }

    /// `litellm.RateLimitError: …` and `An error occurred (ThrottlingException) when …`.
    fn exception_names(&mut self, text: &str) {
        let names = text.split(|c: char| !c.is_ascii_alphanumeric());
        for name in names.take(256) {
            let named = name.ends_with("Error") || name.ends_with("Exception");
            if named && name.len() > "Exception".len() {
                self.add_word(name);
            }
        }
    }

    /// `<400> InternalError.Algo…` (DashScope) and `Error code: 429 - …` (OpenAI's Python client).
    fn marked_status(&mut self, text: &str) {
        let lower = text.get(..64).unwrap_or(text).to_ascii_lowercase();
        let after = ["<", "error code: ", "status code: ", "status_code: ", "http error "]
            .iter()
            .find_map(|mark| lower.split_once(mark).map(|(_, after)| after));
        let digits: String =
            after.unwrap_or("").chars().take_while(char::is_ascii_digit).take(4).collect();
        if let (3, Ok(status @ 400..=599)) = (digits.len(), digits.parse::<u16>()) {
            self.inner_status.get_or_insert(status);
        }
    }

    /// The provider's words for the caller; a page is reduced to its text.
    pub fn shown_text(&self) -> Option<Payload> {
        let text = if self.html { strip_tags(&self.text) } else { self.text.clone() };
        redact::text(&text).map(Payload::from)
    }
}

/// The first `data:` line of a body in event-stream form.
fn event_data(body: &str) -> Option<&str> {
    if !body.starts_with("data:") && !body.starts_with("event:") {
        return None;
    }
    body.lines().find_map(|line| line.strip_prefix("data:")).map(str::trim)
}

/// A JSON or Python value inside a text, with what stands before it.
fn embedded(text: &str) -> Option<(&str, Value)> {
    let at = text.find(['{', '[']).filter(|at| opens_value(text, *at)).or_else(|| {
        ["{\"", "{'", "[{", "{\n", "{\r"].iter().filter_map(|mark| text.find(mark)).min()
    })?;
    let (before, rest) = text.split_at_checked(at)?;
    let parsed = serde_json::Deserializer::from_str(rest).into_iter::<Value>().next();
    let value = match parsed {
        Some(Ok(value)) => value,
        Some(Err(_)) | None => python_repr::parse(rest)?,
    };
    let before = before.trim_end_matches(['b', '\'', '"', ' ']).trim_end_matches(['-', ':', ' ']);
    let telling = match &value {
        Value::Object(map) => !map.is_empty(),
        Value::Array(items) => items.iter().any(Value::is_object),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
    };
    telling.then_some((before, value))
}

fn opens_value(text: &str, at: usize) -> bool {
    let next = text.get(at + 1..).and_then(|rest| rest.trim_start().chars().next());
    matches!(next, Some('"' | '\'' | '{'))
}

fn strip_tags(page: &str) -> String {
    let mut text = String::with_capacity(page.len());
    let mut inside = false;
    for c in page.chars() {
        match c {
            '<' => inside = true,
            '>' => {
                inside = false;
                text.push(' ');
            }
            c if !inside => text.push(c),
            _ => (),
        }
    }
    text
}

/// At most `bytes_max` bytes of `text`, cut between characters.
pub(super) fn clip(text: &str, bytes_max: usize) -> &str {
    text.get(..text.floor_char_boundary(bytes_max)).unwrap_or(text)
}

fn as_text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(clip(text, 256).to_owned()),
        Value::Number(number) => Some(number.to_string()),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(body: &str, words: &[&str], text: &str) {
        let facts = Facts::of_body(body.as_bytes());
        assert_eq!(facts.text, text, "{body}");
        assert_eq!(facts.words, words, "{body}");
    }

    #[test]
    fn wrappings_are_opened() {
        check(r#"{"error":{"message":"m","type":"t_x"}}"#, &["tx"], "m");
        check(r#"[{"error":{"message":"m","status":"S"}}]"#, &["s"], "m");
        check(r#"{"error":"m n"}"#, &[], "m n");
        check(
            r#"{"error":{"message":"{\"error\":{\"message\":\"m\",\"code\":\"c\"}}"}}"#,
            &["c"],
            "m",
        );
        check(
            r#"{"detail":"Error code: 400 - {'error': {'message': \"it's\", 'code': None}}"}"#,
            &[],
            "Error code: 400; it's",
        );
        check(r#"{"detail":[{"msg":"m","type":"y","input":"no"}]}"#, &["y"], "m");
        check(
            r#"{"error":{"message":"f","metadata":{"raw":"{\"message\":\"inner\"}"}}}"#,
            &[],
            "f; inner",
        );
        check("data: {\"error\":\"x y\"}\n\n", &[], "x y");
        check("plain {not json}", &[], "plain {not json}");
    }

    #[test]
    fn status_inside_a_layer_is_told_apart() {
        let facts = Facts::of_body(br#"{"code":500,"message":"{\"error\":{\"code\":429}}"}"#);
        assert_eq!((facts.status, facts.inner_status), (Some(500), Some(429)));
    }
}
