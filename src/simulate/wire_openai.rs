//! OpenAI chat completions, and Azure's way of them.

use serde_json::{Value, json};

use super::answers::{Answer, Finish};
use super::ask::{Ask, AskedTool, Dialect, text_of};
use super::faults::{Trouble, TroubleKind};
use super::wire::{Frame, FrameKind, Meta, message, pieces};

/// Reads a request body. On Azure's paths the deployment is the model.
pub fn read(body: &Value, deployment: Option<&str>) -> Ask {
    let named = body.get("model").and_then(Value::as_str);
    let dialect = if deployment.is_some() { Dialect::Azure } else { Dialect::OpenAi };
    let mut ask = Ask::new(dialect, deployment.or(named).unwrap_or_default());
    for message in body.get("messages").and_then(Value::as_array).into_iter().flatten() {
        let role = message.get("role").and_then(Value::as_str).unwrap_or("user");
        ask.say(role, message.get("content").map(text_of).unwrap_or_default());
    }
    let format = body.get("response_format");
    match format.and_then(|format| format.get("type")).and_then(Value::as_str) {
        Some("json_schema") => {
            ask.schema = body.pointer("/response_format/json_schema/schema").cloned()
        }
        Some("json_object") => ask.json_mode = true,
        _ => (),
    }
    for tool in body.get("tools").and_then(Value::as_array).into_iter().flatten() {
        if let Some(name) = tool.pointer("/function/name").and_then(Value::as_str) {
            let schema = tool.pointer("/function/parameters").cloned().unwrap_or(json!({}));
            ask.tools.push(AskedTool { name: name.to_owned(), schema });
        }
    }
    ask.tool_forced = match body.get("tool_choice") {
        Some(Value::String(choice)) if choice == "required" => {
            ask.tools.first().map(|tool| tool.name.clone())
        }
        Some(choice) => choice.pointer("/function/name").and_then(Value::as_str).map(str::to_owned),
        None => None,
    };
    let limit = |key| body.get(key).and_then(Value::as_u64);
    ask.output_tokens_max = limit("max_completion_tokens").or_else(|| limit("max_tokens"));
    ask.stream = body.get("stream").and_then(Value::as_bool).unwrap_or(false);
    ask.include_usage =
        body.pointer("/stream_options/include_usage").and_then(Value::as_bool).unwrap_or(false);
    ask
}

/// A whole answer.
pub fn unary(ask: &Ask, answer: &Answer, meta: &Meta) -> Value {
    let mut said = json!({"role": "assistant", "content": null, "refusal": null});
    match (&answer.tool_call, answer.finish) {
        (_, Finish::Refusal) => said["refusal"] = json!(answer.text),
        (Some(call), _) => {
            said["tool_calls"] = json!([{
                "id": meta.id("call_"),
                "type": "function",
                "function": {"name": call.name, "arguments": call.arguments},
            }])
        }
        (None, _) => said["content"] = json!(answer.text),
    }
    json!({
        "id": meta.id("chatcmpl-"),
        "object": "chat.completion",
        "created": meta.now.as_second(),
        "model": ask.model,
        "choices": [{
            "index": 0,
            "message": said,
            "logprobs": null,
            "finish_reason": finish_reason(answer),
        }],
        "usage": usage(answer, meta),
        "service_tier": "default",
        "system_fingerprint": "fp_simulated",
    })
}

/// The same as events.
pub fn stream(ask: &Ask, answer: &Answer, meta: &Meta) -> Vec<Frame> {
    let id = meta.id("chatcmpl-");
    let created = meta.now.as_second();
    let chunk = |choices: Value, usage: Value| {
        let mut chunk = json!({
            "id": id, "object": "chat.completion.chunk", "created": created, "model": ask.model,
            "choices": choices,
        });
        if ask.include_usage {
            chunk["usage"] = usage;
        }
        chunk
    };
    let delta = |kind, delta: Value, finish: Value| {
        let choice =
            json!([{"index": 0, "delta": delta, "logprobs": null, "finish_reason": finish}]);
        Frame::json(kind, None, &chunk(choice, Value::Null))
    };
    let mut frames = Vec::new();
    if ask.dialect == Dialect::Azure {
        // Azure begins with the verdict on the prompt, in a chunk without choices.
        let mut first = chunk(json!([]), Value::Null);
        first["model"] = json!("");
        first["prompt_filter_results"] = json!([{"prompt_index": 0, "content_filter_results": {}}]);
        frames.push(Frame::json(FrameKind::Opening, None, &first));
    }
    frames.push(delta(
        FrameKind::Opening,
        json!({"role": "assistant", "content": ""}),
        Value::Null,
    ));
    if let Some(call) = &answer.tool_call {
        let begin = json!({"tool_calls": [{
            "index": 0, "id": meta.id("call_"), "type": "function",
            "function": {"name": call.name, "arguments": ""},
        }]});
        frames.push(delta(FrameKind::Token, begin, Value::Null));
        for piece in pieces(&call.arguments) {
            let more = json!({"tool_calls": [{"index": 0, "function": {"arguments": piece}}]});
            frames.push(delta(FrameKind::Token, more, Value::Null));
        }
    } else {
        let member = if answer.finish == Finish::Refusal { "refusal" } else { "content" };
        for piece in pieces(&answer.text) {
            frames.push(delta(FrameKind::Token, json!({ member: piece }), Value::Null));
        }
    }
    frames.push(delta(FrameKind::Finish, json!({}), json!(finish_reason(answer))));
    if ask.include_usage {
        frames.push(Frame::json(FrameKind::Finish, None, &chunk(json!([]), usage(answer, meta))));
    }
    frames.push(Frame { kind: FrameKind::Mark, event: None, data: "[DONE]".to_owned() });
    frames
}

fn finish_reason(answer: &Answer) -> &'static str {
    match answer.finish {
        Finish::Stop if answer.tool_call.is_some() => "tool_calls",
        Finish::Stop | Finish::Refusal => "stop",
        Finish::Length => "length",
        Finish::Filtered => "content_filter",
    }
}

fn usage(answer: &Answer, meta: &Meta) -> Value {
    let output = Meta::output_tokens(answer);
    json!({
        "prompt_tokens": meta.input_tokens,
        "completion_tokens": output,
        "total_tokens": meta.input_tokens + output,
        "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": 0, "audio_tokens": 0},
    })
}

/// OpenAI's errors.
pub fn trouble(ask: &Ask, trouble: &Trouble) -> (u16, Value) {
    const INVALID: &str = "invalid_request_error";
    let (status, kind, param, code) = match trouble.kind {
        TroubleKind::Unauthorized => (401, INVALID, None, Some("invalid_api_key")),
        TroubleKind::Forbidden => {
            (403, "request_forbidden", None, Some("unsupported_country_region_territory"))
        }
        TroubleKind::ModelNotFound => (404, INVALID, None, Some("model_not_found")),
        TroubleKind::RateLimited => (429, "requests", None, Some("rate_limit_exceeded")),
        TroubleKind::QuotaExhausted => {
            (429, "insufficient_quota", None, Some("insufficient_quota"))
        }
        TroubleKind::Overloaded => (503, "server_error", None, None),
        TroubleKind::ServerError => (500, "server_error", None, None),
        TroubleKind::Timeout => (504, "server_error", None, Some("timeout")),
        TroubleKind::ContextLength { .. } => {
            (400, INVALID, Some("messages"), Some("context_length_exceeded"))
        }
        TroubleKind::BadRequest => {
            (400, INVALID, Some("temperature"), Some("decimal_below_min_value"))
        }
        TroubleKind::ContentFilter => (400, INVALID, None, Some("invalid_prompt")),
        TroubleKind::TooLarge => (413, INVALID, None, None),
    };
    let text = message(trouble, text(trouble.kind, &ask.model));
    (status, json!({"error": {"message": text, "type": kind, "param": param, "code": code}}))
}

fn text(kind: TroubleKind, model: &str) -> String {
    let text = match kind {
        TroubleKind::Unauthorized => {
            "Incorrect API key provided: sk-****. You can find your API key at \
             https://platform.openai.com/account/api-keys."
        }
        TroubleKind::Forbidden => "Country, region, or territory not supported",
        TroubleKind::ModelNotFound => {
            return format!("The model `{model}` does not exist or you do not have access to it.");
        }
        TroubleKind::RateLimited => {
            return format!(
                "Rate limit reached for {model} in organization org-sim on requests per min \
                 (RPM): Limit 60, Used 60, Requested 1."
            );
        }
        TroubleKind::QuotaExhausted => {
            "You exceeded your current quota, please check your plan and billing details."
        }
        TroubleKind::Overloaded => "The server is overloaded or not ready yet.",
        TroubleKind::ServerError => {
            "The server had an error while processing your request. Sorry about that!"
        }
        TroubleKind::Timeout => "The request timed out.",
        TroubleKind::ContextLength { tokens, window } => {
            return format!(
                "This model's maximum context length is {window} tokens. However, your messages \
                 resulted in {tokens} tokens. Please reduce the length of the messages."
            );
        }
        TroubleKind::BadRequest => {
            "Invalid 'temperature': decimal below minimum value. Expected a value >= 0, but got \
             -1 instead."
        }
        TroubleKind::ContentFilter => {
            "Invalid prompt: your prompt was flagged as potentially violating our usage policy. \
             Please try again with a different prompt."
        }
        TroubleKind::TooLarge => "The request body is too large.",
    };
    text.to_owned()
}

/// Azure's errors: string codes where OpenAI has words.
pub fn azure_trouble(ask: &Ask, wanted: &Trouble) -> (u16, Value) {
    let (status, code, text) = match wanted.kind {
        TroubleKind::Unauthorized => (
            401,
            "401",
            "Access denied due to invalid subscription key or wrong API endpoint. Make sure to \
             provide a valid key for an active subscription and use a correct regional API \
             endpoint for your resource.",
        ),
        TroubleKind::ModelNotFound => (
            404,
            "DeploymentNotFound",
            "The API deployment for this resource does not exist. If you created the deployment \
             within the last 5 minutes, please wait a moment and try again.",
        ),
        TroubleKind::RateLimited => (
            429,
            "429",
            "Requests to the ChatCompletions_Create Operation under Azure OpenAI API version \
             2024-10-21 have exceeded call rate limit of your current OpenAI S0 pricing tier.",
        ),
        TroubleKind::QuotaExhausted => (
            429,
            "429",
            "Requests to the ChatCompletions_Create Operation under Azure OpenAI API version \
             2024-10-21 have exceeded token rate limit of your current AIServices S0 pricing \
             tier. Please retry after 86400 seconds.",
        ),
        TroubleKind::Timeout => (408, "Timeout", "The operation was timeout."),
        TroubleKind::ContentFilter => {
            let text = "The response was filtered due to the prompt triggering Azure OpenAI's \
                        content management policy. Please modify your prompt and retry.";
            let filtered = json!({"filtered": true, "severity": "medium"});
            return (
                400,
                json!({"error": {
                    "message": message(wanted, text), "type": null, "param": "prompt",
                    "code": "content_filter", "status": 400,
                    "innererror": {
                        "code": "ResponsibleAIPolicyViolation",
                        "content_filter_result": {"violence": filtered},
                    },
                }}),
            );
        }
        TroubleKind::Forbidden
        | TroubleKind::Overloaded
        | TroubleKind::ServerError
        | TroubleKind::ContextLength { .. }
        | TroubleKind::BadRequest
        | TroubleKind::TooLarge => return trouble(ask, wanted),
    };
    (status, json!({"error": {"code": code, "message": message(wanted, text)}}))
}
