//! Anthropic messages.

use serde_json::{Value, json};

use super::answers::{Answer, Finish};
use super::ask::{Ask, AskedTool, Dialect, text_of};
use super::faults::{Trouble, TroubleKind};
use super::wire::{Frame, FrameKind, Meta, message, pieces};

/// Reads a request body.
pub fn read(body: &Value) -> Ask {
    let model = body.get("model").and_then(Value::as_str).unwrap_or_default();
    let mut ask = Ask::new(Dialect::Anthropic, model);
    if let Some(system) = body.get("system") {
        ask.say("system", text_of(system));
    }
    for message in body.get("messages").and_then(Value::as_array).into_iter().flatten() {
        let role = message.get("role").and_then(Value::as_str).unwrap_or("user");
        ask.say(role, message.get("content").map(text_of).unwrap_or_default());
    }
    // The settled member, and the one of the beta before it.
    ask.schema = ["/output_config/format/schema", "/output_format/schema"]
        .iter()
        .find_map(|pointer| body.pointer(pointer))
        .cloned();
    for tool in body.get("tools").and_then(Value::as_array).into_iter().flatten() {
        if let Some(name) = tool.get("name").and_then(Value::as_str) {
            let schema = tool.get("input_schema").cloned().unwrap_or(json!({}));
            ask.tools.push(AskedTool { name: name.to_owned(), schema });
        }
    }
    let choice = body.pointer("/tool_choice/type").and_then(Value::as_str);
    ask.tool_forced = match choice {
        Some("any") => ask.tools.first().map(|tool| tool.name.clone()),
        Some("tool") => {
            body.pointer("/tool_choice/name").and_then(Value::as_str).map(str::to_owned)
        }
        _ => None,
    };
    // A tool that must be called is how schemas were asked for before there was a format.
    if let (None, Some(name)) = (&ask.schema, &ask.tool_forced) {
        ask.schema = ask.tools.iter().find(|t| t.name == *name).map(|t| t.schema.clone());
    }
    ask.output_tokens_max = body.get("max_tokens").and_then(Value::as_u64);
    ask.stream = body.get("stream").and_then(Value::as_bool).unwrap_or(false);
    ask
}

/// A whole answer.
pub fn unary(ask: &Ask, answer: &Answer, meta: &Meta) -> Value {
    let content = match (&answer.tool_call, answer.finish) {
        (_, Finish::Refusal) => json!([]),
        (Some(call), _) => json!([{
            "type": "tool_use",
            "id": meta.id("toolu_"),
            "name": call.name,
            "input": input_of(&call.arguments),
        }]),
        (None, _) if answer.text.is_empty() => json!([]),
        (None, _) => json!([{"type": "text", "text": answer.text}]),
    };
    let mut body = json!({
        "id": meta.id("msg_"),
        "type": "message",
        "role": "assistant",
        "model": ask.model,
        "content": content,
        "stop_reason": stop_reason(answer),
        "stop_sequence": null,
        "usage": usage(meta.input_tokens, Meta::output_tokens(answer)),
    });
    if let Some(details) = stop_details(answer) {
        body["stop_details"] = details;
    }
    body
}

/// The same as events.
pub fn stream(ask: &Ask, answer: &Answer, meta: &Meta) -> Vec<Frame> {
    let frame = |kind, event: &'static str, data: Value| Frame::json(kind, Some(event), &data);
    let opening = json!({"type": "message_start", "message": {
        "id": meta.id("msg_"), "type": "message", "role": "assistant", "model": ask.model,
        "content": [], "stop_reason": null, "stop_sequence": null,
        "usage": usage(meta.input_tokens, 1),
    }});
    let mut frames = vec![frame(FrameKind::Opening, "message_start", opening)];
    let (block, deltas): (Value, Vec<Value>) = match (&answer.tool_call, answer.finish) {
        (_, Finish::Refusal) => (Value::Null, Vec::new()),
        (Some(call), _) => (
            json!({"type": "tool_use", "id": meta.id("toolu_"), "name": call.name, "input": {}}),
            pieces(&call.arguments)
                .into_iter()
                .map(|piece| json!({"type": "input_json_delta", "partial_json": piece}))
                .collect(),
        ),
        (None, _) => (
            json!({"type": "text", "text": ""}),
            pieces(&answer.text)
                .into_iter()
                .map(|piece| json!({"type": "text_delta", "text": piece}))
                .collect(),
        ),
    };
    if !block.is_null() {
        let start = json!({"type": "content_block_start", "index": 0, "content_block": block});
        frames.push(frame(FrameKind::Opening, "content_block_start", start));
    }
    frames.push(frame(FrameKind::Opening, "ping", json!({"type": "ping"})));
    for delta in deltas {
        let delta = json!({"type": "content_block_delta", "index": 0, "delta": delta});
        frames.push(frame(FrameKind::Token, "content_block_delta", delta));
    }
    if !block.is_null() {
        let stop = json!({"type": "content_block_stop", "index": 0});
        frames.push(frame(FrameKind::Finish, "content_block_stop", stop));
    }
    let mut delta = json!({"stop_reason": stop_reason(answer), "stop_sequence": null});
    if let Some(details) = stop_details(answer) {
        delta["stop_details"] = details;
    }
    let delta = json!({
        "type": "message_delta",
        "delta": delta,
        "usage": {"output_tokens": Meta::output_tokens(answer)},
    });
    frames.push(frame(FrameKind::Finish, "message_delta", delta));
    frames.push(frame(FrameKind::Mark, "message_stop", json!({"type": "message_stop"})));
    frames
}

/// A unary tool call carries a value, so arguments that are no JSON travel as a text.
fn input_of(arguments: &str) -> Value {
    serde_json::from_str(arguments).unwrap_or_else(|_| json!(arguments))
}

fn stop_reason(answer: &Answer) -> &'static str {
    match answer.finish {
        Finish::Stop if answer.tool_call.is_some() => "tool_use",
        Finish::Stop => "end_turn",
        Finish::Length => "max_tokens",
        // Anthropic has one reason for both.
        Finish::Filtered | Finish::Refusal => "refusal",
    }
}

fn stop_details(answer: &Answer) -> Option<Value> {
    matches!(answer.finish, Finish::Filtered | Finish::Refusal).then(|| {
        json!({
            "type": "refusal",
            "category": "cyber",
            "explanation": "This request was blocked under the usage policy.",
        })
    })
}

fn usage(input: u64, output: u64) -> Value {
    json!({
        "input_tokens": input,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": 0,
        "output_tokens": output,
        "service_tier": "standard",
    })
}

/// Anthropic's errors.
pub fn trouble(ask: &Ask, trouble: &Trouble, meta: &Meta) -> (u16, Value) {
    let (status, kind, text) = match trouble.kind {
        TroubleKind::Unauthorized => (401, "authentication_error", "invalid x-api-key".to_owned()),
        TroubleKind::Forbidden => (
            403,
            "permission_error",
            "Your API key does not have permission to use the specified resource.".to_owned(),
        ),
        TroubleKind::ModelNotFound => (404, "not_found_error", format!("model: {}", ask.model)),
        TroubleKind::RateLimited => (
            429,
            "rate_limit_error",
            "This request would exceed the rate limit for your organization of 50 requests per \
             minute."
                .to_owned(),
        ),
        TroubleKind::QuotaExhausted => (
            400,
            "invalid_request_error",
            "Your credit balance is too low to access the Anthropic API. Please go to Plans & \
             Billing to upgrade or purchase credits."
                .to_owned(),
        ),
        TroubleKind::Overloaded => (529, "overloaded_error", "Overloaded".to_owned()),
        TroubleKind::ServerError => (500, "api_error", "Internal server error".to_owned()),
        TroubleKind::Timeout => (504, "timeout_error", "Gateway timeout".to_owned()),
        TroubleKind::ContextLength { tokens, window } => (
            400,
            "invalid_request_error",
            format!("prompt is too long: {tokens} tokens > {window} maximum"),
        ),
        TroubleKind::BadRequest => (
            400,
            "invalid_request_error",
            "max_tokens: 64000 > 32000, which is the maximum allowed number of output tokens for \
             this model"
                .to_owned(),
        ),
        TroubleKind::ContentFilter => {
            (400, "invalid_request_error", "Output blocked by content filtering policy".to_owned())
        }
        TroubleKind::TooLarge => (
            413,
            "request_too_large",
            "Request exceeds the maximum allowed number of bytes.".to_owned(),
        ),
    };
    let body = json!({
        "type": "error",
        "error": {"type": kind, "message": message(trouble, text)},
        "request_id": meta.id("req_"),
    });
    (status, body)
}
