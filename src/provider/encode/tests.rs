use std::sync::Arc;

use serde_json::{Value, json};

use crate::exchange::{
    Message, ModelRequest, Part, ResponseFormat, Role, Sampling, Tool, ToolChoice,
};
use crate::provider::{Dialect, anthropic::Anthropic, gemini::Gemini, openai::OpenAi};

fn request() -> ModelRequest<'static> {
    let image = Part::ImageData { media_type: "image/png".into(), base64: "QUJD".into() };
    ModelRequest {
        model: "m".into(),
        messages: vec![
            Message::text(Role::System, "be brief"),
            Message {
                role: Role::User,
                parts: vec![Part::Text("look".into()), image, Part::ImageUrl("https://x/y".into())],
            },
            Message::text(Role::Assistant, "ok"),
        ]
        .into(),
        tools: vec![Tool {
            name: "f".into(),
            description: Some("does f".into()),
            parameters: Arc::new(json!({"type": "object"})),
        }]
        .into(),
        tool_choice: ToolChoice::Named("f".into()),
        sampling: Sampling {
            temperature: Some(0.5),
            max_output_tokens: Some(10),
            stop: vec!["END".into()],
            seed: Some(7),
            ..Sampling::default()
        },
        response_format: ResponseFormat::JsonSchema {
            name: "s".into(),
            schema: Arc::new(json!({"type": "string"})),
            strict: true,
        },
        stream: true,
        ..ModelRequest::default()
    }
}

#[track_caller]
fn check(dialect: &dyn Dialect, request: &ModelRequest<'_>, expected: Value) {
    let bytes = dialect.encode(request).unwrap();
    assert_eq!(serde_json::from_slice::<Value>(&bytes).unwrap(), expected);
}

#[test]
fn openai() {
    let expected = json!({
        "model": "m",
        "messages": [
            {"role": "system", "content": "be brief"},
            {"role": "user", "content": [
                {"type": "text", "text": "look"},
                {"type": "image_url", "image_url": {"url": "data:image/png;base64,QUJD"}},
                {"type": "image_url", "image_url": {"url": "https://x/y"}},
            ]},
            {"role": "assistant", "content": "ok"},
        ],
        "tools": [{"type": "function", "function": {
            "name": "f", "description": "does f", "parameters": {"type": "object"},
        }}],
        "tool_choice": {"type": "function", "function": {"name": "f"}},
        "temperature": 0.5, "max_tokens": 10, "stop": ["END"], "seed": 7,
        "response_format": {"type": "json_schema", "json_schema": {
            "name": "s", "schema": {"type": "string"}, "strict": true,
        }},
        "stream": true, "stream_options": {"include_usage": true},
    });
    check(&OpenAi, &request(), expected);
}

#[test]
fn anthropic() {
    let expected = json!({
        "model": "m", "max_tokens": 10, "system": "be brief",
        "messages": [
            {"role": "user", "content": [
                {"type": "text", "text": "look"},
                {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "QUJD"}},
                {"type": "image", "source": {"type": "url", "url": "https://x/y"}},
            ]},
            {"role": "assistant", "content": "ok"},
        ],
        "tools": [{"name": "f", "description": "does f", "input_schema": {"type": "object"}}],
        "tool_choice": {"type": "tool", "name": "f"},
        "temperature": 0.5, "stop_sequences": ["END"],
        "output_config": {"format": {"type": "json_schema", "schema": {"type": "string"}}},
        "stream": true,
    });
    check(&Anthropic, &request(), expected);
}

#[test]
fn gemini() {
    let expected = json!({
        "systemInstruction": {"parts": [{"text": "be brief"}]},
        "contents": [
            {"role": "user", "parts": [
                {"text": "look"},
                {"inlineData": {"mimeType": "image/png", "data": "QUJD"}},
                {"fileData": {"fileUri": "https://x/y"}},
            ]},
            {"role": "model", "parts": [{"text": "ok"}]},
        ],
        "generationConfig": {
            "temperature": 0.5, "maxOutputTokens": 10, "stopSequences": ["END"], "seed": 7,
            "responseMimeType": "application/json", "responseJsonSchema": {"type": "string"},
        },
        "tools": [{"functionDeclarations": [
            {"name": "f", "description": "does f", "parametersJsonSchema": {"type": "object"}},
        ]}],
        "toolConfig": {"functionCallingConfig": {"mode": "ANY", "allowedFunctionNames": ["f"]}},
    });
    check(&Gemini, &request(), expected);
}

fn plain(extra: Value) -> ModelRequest<'static> {
    let Value::Object(extra) = extra else { panic!("extras are an object") };
    ModelRequest {
        model: "m".into(),
        messages: vec![Message::text(Role::User, "hi")].into(),
        sampling: Sampling { max_output_tokens: Some(5), ..Sampling::default() },
        extra,
        ..ModelRequest::default()
    }
}

#[test]
fn extras_are_laid_over_and_null_removes() {
    let hi = json!([{"role": "user", "content": "hi"}]);
    let cases = [
        (json!({}), json!({"model": "m", "messages": hi, "max_tokens": 5})),
        (
            json!({"max_tokens": null, "top_k": 3}),
            json!({"model": "m", "messages": hi, "top_k": 3}),
        ),
        (json!({"model": "n"}), json!({"model": "n", "messages": hi, "max_tokens": 5})),
        (
            json!({"max_completion_tokens": null}),
            json!({"model": "m", "messages": hi, "max_completion_tokens": 5}),
        ),
        (
            json!({"max_completion_tokens": 9}),
            json!({"model": "m", "messages": hi, "max_completion_tokens": 9}),
        ),
    ];
    for (extra, expected) in cases {
        check(&OpenAi, &plain(extra), expected);
    }
}

#[test]
fn what_cannot_be_said_is_refused() {
    let mut request = plain(json!({}));
    request.messages = vec![Message::text(Role::System, "alone")].into();
    assert!(OpenAi.encode(&request).is_ok());
    assert!(Anthropic.encode(&request).is_err());
    assert!(Gemini.encode(&request).is_err());
    request.messages.to_mut().push(Message::text(Role::User, "hi"));
    request.messages.to_mut()[0].parts = vec![Part::ImageUrl("https://x".into())];
    assert!(Anthropic.encode(&request).is_err());
}

#[test]
fn a_model_name_stays_in_its_segment() {
    for (model, path) in [
        ("gemini-2.5-flash", "/models/gemini-2.5-flash:generateContent"),
        ("tunedModels/my-1", "/tunedModels/my-1:generateContent"),
        ("../../x?y#z", "/models/..%2F..%2Fx%3Fy%23z:generateContent"),
        ("models/../x", "/models/..%2Fx:generateContent"),
    ] {
        assert_eq!(Gemini.path(model, false), path);
    }
    assert_eq!(Gemini.path("m", true), "/models/m:streamGenerateContent?alt=sse");
}
