//! Gemini generateContent and streamGenerateContent.

use serde_json::{Value, json};

use super::answers::{Answer, Finish};
use super::ask::{Ask, AskedTool, Dialect, text_of};
use super::faults::{Trouble, TroubleKind};
use super::wire::{Frame, FrameKind, Meta, message, pieces};

/// Reads a request body; the model and the wish for a stream stand in the path.
pub fn read(body: &Value, model: &str, stream: bool, sse: bool) -> Ask {
    let mut ask = Ask::new(Dialect::Gemini, model);
    (ask.stream, ask.sse) = (stream, sse);
    let either = |snake: &str, camel: &str| body.get(camel).or_else(|| body.get(snake));
    let parts = |content: &Value| content.get("parts").map(text_of).unwrap_or_default();
    if let Some(system) = either("system_instruction", "systemInstruction") {
        ask.say("system", parts(system));
    }
    for content in body.get("contents").and_then(Value::as_array).into_iter().flatten() {
        let role = content.get("role").and_then(Value::as_str).unwrap_or("user");
        ask.say(role, parts(content));
    }
    if let Some(config) = either("generation_config", "generationConfig") {
        ask.schema = ["responseJsonSchema", "responseSchema", "response_schema"]
            .iter()
            .find_map(|key| config.get(*key))
            .cloned();
        let json = config.get("responseMimeType").and_then(Value::as_str);
        ask.json_mode = ask.schema.is_none() && json == Some("application/json");
        ask.output_tokens_max = config.get("maxOutputTokens").and_then(Value::as_u64);
    }
    for group in body.get("tools").and_then(Value::as_array).into_iter().flatten() {
        let declared =
            group.get("functionDeclarations").or_else(|| group.get("function_declarations"));
        for tool in declared.and_then(Value::as_array).into_iter().flatten() {
            if let Some(name) = tool.get("name").and_then(Value::as_str) {
                let schema = tool
                    .get("parametersJsonSchema")
                    .or_else(|| tool.get("parameters"))
                    .cloned()
                    .unwrap_or(json!({}));
                ask.tools.push(AskedTool { name: name.to_owned(), schema });
            }
        }
    }
    if let Some(calling) = body.pointer("/toolConfig/functionCallingConfig")
        && calling.get("mode").and_then(Value::as_str) == Some("ANY")
    {
        let allowed = calling.pointer("/allowedFunctionNames/0").and_then(Value::as_str);
        let first = ask.tools.first().map(|tool| tool.name.clone());
        ask.tool_forced = allowed.map(str::to_owned).or(first);
    }
    ask
}

/// A whole answer.
pub fn unary(ask: &Ask, answer: &Answer, meta: &Meta) -> Value {
    let parts = match &answer.tool_call {
        Some(call) => json!([function_call(&call.name, &call.arguments)]),
        None if answer.text.is_empty() => json!([]),
        None => json!([{"text": answer.text}]),
    };
    json!({
        "candidates": [{
            "content": {"parts": parts, "role": "model"},
            "finishReason": finish_reason(answer),
            "index": 0,
        }],
        "usageMetadata": usage(answer, meta),
        "modelVersion": ask.model,
        "responseId": meta.id(""),
    })
}

/// The same in parts; the last one has the finish reason, and there is no mark behind it.
pub fn stream(ask: &Ask, answer: &Answer, meta: &Meta) -> Vec<Frame> {
    let mut parts: Vec<Value> = match &answer.tool_call {
        Some(call) => vec![function_call(&call.name, &call.arguments)],
        None => pieces(&answer.text).into_iter().map(|piece| json!({"text": piece})).collect(),
    };
    let last = parts.pop();
    let body = |candidate: Value| {
        json!({
            "candidates": [candidate],
            "usageMetadata": usage(answer, meta),
            "modelVersion": ask.model,
            "responseId": meta.id(""),
        })
    };
    let mut frames: Vec<Frame> = parts
        .into_iter()
        .map(|part| {
            let candidate = json!({"content": {"parts": [part], "role": "model"}, "index": 0});
            Frame::json(FrameKind::Token, None, &body(candidate))
        })
        .collect();
    let finish = json!({
        "content": {"parts": last.into_iter().collect::<Vec<_>>(), "role": "model"},
        "finishReason": finish_reason(answer),
        "index": 0,
    });
    frames.push(Frame::json(FrameKind::Finish, None, &body(finish)));
    frames
}

fn function_call(name: &str, arguments: &str) -> Value {
    let args = serde_json::from_str(arguments).unwrap_or_else(|_| json!(arguments));
    json!({"functionCall": {"name": name, "args": args}})
}

fn finish_reason(answer: &Answer) -> &'static str {
    match answer.finish {
        Finish::Stop | Finish::Refusal => "STOP",
        Finish::Length => "MAX_TOKENS",
        Finish::Filtered => "SAFETY",
    }
}

fn usage(answer: &Answer, meta: &Meta) -> Value {
    let output = Meta::output_tokens(answer);
    json!({
        "promptTokenCount": meta.input_tokens,
        "candidatesTokenCount": output,
        "totalTokenCount": meta.input_tokens + output,
    })
}

/// Gemini's errors. A blocked prompt is no error but an answer without candidates.
pub fn trouble(ask: &Ask, trouble: &Trouble) -> (u16, Value) {
    let (code, status) = match trouble.kind {
        TroubleKind::ContentFilter => return (200, blocked(ask)),
        TroubleKind::Unauthorized | TroubleKind::ContextLength { .. } | TroubleKind::BadRequest => {
            (400, "INVALID_ARGUMENT")
        }
        TroubleKind::TooLarge => (413, "INVALID_ARGUMENT"),
        TroubleKind::Forbidden => (403, "PERMISSION_DENIED"),
        TroubleKind::ModelNotFound => (404, "NOT_FOUND"),
        TroubleKind::RateLimited | TroubleKind::QuotaExhausted => (429, "RESOURCE_EXHAUSTED"),
        TroubleKind::Overloaded => (503, "UNAVAILABLE"),
        TroubleKind::ServerError => (500, "INTERNAL"),
        TroubleKind::Timeout => (504, "DEADLINE_EXCEEDED"),
    };
    let mut error = json!({
        "code": trouble.status.unwrap_or(code),
        "message": message(trouble, text(trouble.kind, &ask.model)),
        "status": status,
    });
    if let Some(details) = details(trouble.kind) {
        error["details"] = details;
    }
    (code, json!({ "error": error }))
}

fn text(kind: TroubleKind, model: &str) -> String {
    let text = match kind {
        TroubleKind::Unauthorized => "API key not valid. Please pass a valid API key.",
        TroubleKind::Forbidden => "The caller does not have permission",
        TroubleKind::ModelNotFound => {
            return format!(
                "models/{model} is not found for API version v1beta, or is not supported for \
                 generateContent."
            );
        }
        TroubleKind::RateLimited => "You exceeded your current quota, please check your plan.",
        TroubleKind::QuotaExhausted => {
            "You exceeded your current quota, please check your plan and billing details."
        }
        TroubleKind::Overloaded => "The model is overloaded. Please try again later.",
        TroubleKind::ServerError => "An internal error has occurred. Please retry.",
        TroubleKind::Timeout => "The request timed out. Please try again.",
        TroubleKind::ContextLength { tokens, window } => {
            return format!(
                "The input token count ({tokens}) exceeds the maximum number of tokens allowed \
                 ({window})."
            );
        }
        TroubleKind::BadRequest => "Invalid request parameters",
        TroubleKind::ContentFilter => "The prompt was blocked.",
        TroubleKind::TooLarge => "Request payload size exceeds the limit.",
    };
    text.to_owned()
}

/// What Google says beside the text: the reason of a refused key, the id of a quota.
fn details(kind: TroubleKind) -> Option<Value> {
    let quota = |id: &str| {
        json!([{
            "@type": "type.googleapis.com/google.rpc.QuotaFailure",
            "violations": [{
                "quotaMetric": "generativelanguage.googleapis.com/generate_content_requests",
                "quotaId": id,
            }],
        }])
    };
    match kind {
        TroubleKind::Unauthorized => Some(json!([{
            "@type": "type.googleapis.com/google.rpc.ErrorInfo",
            "reason": "API_KEY_INVALID",
            "domain": "googleapis.com",
            "metadata": {"service": "generativelanguage.googleapis.com"},
        }])),
        TroubleKind::RateLimited => {
            Some(quota("GenerateRequestsPerMinutePerProjectPerModel-FreeTier"))
        }
        TroubleKind::QuotaExhausted => {
            Some(quota("GenerateRequestsPerDayPerProjectPerModel-FreeTier"))
        }
        TroubleKind::Forbidden
        | TroubleKind::ModelNotFound
        | TroubleKind::Overloaded
        | TroubleKind::ServerError
        | TroubleKind::Timeout
        | TroubleKind::ContextLength { .. }
        | TroubleKind::BadRequest
        | TroubleKind::ContentFilter
        | TroubleKind::TooLarge => None,
    }
}

fn blocked(ask: &Ask) -> Value {
    let tokens = ask.input_tokens();
    json!({
        "promptFeedback": {
            "blockReason": "SAFETY",
            "safetyRatings": [{
                "category": "HARM_CATEGORY_DANGEROUS_CONTENT",
                "probability": "HIGH",
                "blocked": true,
            }],
        },
        "usageMetadata": {"promptTokenCount": tokens, "totalTokenCount": tokens},
        "modelVersion": ask.model,
    })
}
