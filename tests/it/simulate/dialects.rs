//! Good answers in each dialect.

use serde_json::{Value, json};

use super::harness::{ALL, Api, Question, provider, provider_with};

#[tokio::test]
async fn whole_answers_have_ids_usage_and_a_finish_reason() {
    let provider = provider().await;
    for api in ALL {
        let answer = provider.ask(api, &Question::of("m")).await;
        assert_eq!((answer.status, answer.header("content-type")), (200, "application/json"));
        let said = answer.said(api);
        assert_eq!(said, "Simulated answer of m to 4 words: Tell me about tides.");
        let body = answer.json();
        let (id, finish, usage) = match api {
            Api::OpenAi | Api::Azure => {
                ("/id", "/choices/0/finish_reason", "/usage/completion_tokens")
            }
            Api::Anthropic => ("/id", "/stop_reason", "/usage/output_tokens"),
            Api::Gemini => {
                ("/responseId", "/candidates/0/finishReason", "/usageMetadata/candidatesTokenCount")
            }
        };
        assert!(body.pointer(id).unwrap().as_str().unwrap().contains("sim"), "{body}");
        let finish = body.pointer(finish).unwrap().as_str().unwrap();
        assert!(["stop", "end_turn", "STOP"].contains(&finish), "{body}");
        assert!(body.pointer(usage).unwrap().as_u64().unwrap() > 5, "{body}");
    }
    provider.stop().await;
}

#[tokio::test]
async fn streams_say_the_same_and_end_as_the_dialect_ends() {
    let provider = provider().await;
    for api in ALL {
        let whole = provider.ask(api, &Question::of("m")).await.said(api);
        let answer = provider.ask(api, &Question::of("m").stream()).await;
        assert_eq!(answer.header("content-type"), "text/event-stream");
        assert_eq!(answer.said_in_stream(api), whole, "{api:?}");
        let events = answer.events();
        let last = events.last().unwrap();
        match api {
            Api::OpenAi | Api::Azure => {
                assert_eq!(last, "[DONE]");
                let usage: Value = serde_json::from_str(&events[events.len() - 2]).unwrap();
                assert_eq!(usage["choices"], json!([]));
                assert!(usage["usage"]["total_tokens"].as_u64().unwrap() > 5);
            }
            Api::Anthropic => {
                assert_eq!(last, r#"{"type":"message_stop"}"#);
                assert!(answer.text().starts_with("event: message_start\n"));
            }
            Api::Gemini => assert!(last.contains(r#""finishReason":"STOP""#), "{last}"),
        }
    }
    provider.stop().await;
}

#[tokio::test]
async fn gemini_streams_an_array_without_alt_sse() {
    let provider = provider().await;
    let url = format!("{}/v1beta/models/m:streamGenerateContent", provider.simulator.url());
    let body = Question::of("m").body(Api::Gemini).to_string();
    let text = provider.client.post(url).body(body).send().await.unwrap().text().await.unwrap();
    let items: Vec<Value> = serde_json::from_str(&text).unwrap();
    assert!(items.len() > 3);
    provider.stop().await;
}

#[tokio::test]
async fn paths_may_have_any_prefix() {
    let provider = provider().await;
    let paths = ["/openai/v1/chat/completions", "/a/b/c/chat/completions", "/chat/completions/"];
    for path in paths {
        let url = format!("{}{path}", provider.simulator.url());
        let body = Question::of("m").body(Api::OpenAi).to_string();
        assert_eq!(provider.client.post(url).body(body).send().await.unwrap().status(), 200);
    }
    provider.stop().await;
}

#[tokio::test]
async fn answers_are_made_from_the_schema() {
    let provider = provider().await;
    let schema = json!({
        "type": "object", "required": ["kind", "size"],
        "properties": {
            "kind": {"type": "string", "enum": ["a", "b"]},
            "size": {"type": "integer", "minimum": 4, "maximum": 6},
        },
    });
    for api in ALL {
        let question = Question { schema: Some(schema.clone()), ..Question::of("m") };
        let said = provider.ask(api, &question).await.said(api);
        let value: Value = serde_json::from_str(&said).unwrap();
        assert!(["a", "b"].contains(&value["kind"].as_str().unwrap()), "{value}");
        assert!((4..=6).contains(&value["size"].as_u64().unwrap()), "{value}");
        assert_eq!(provider.ask(api, &question).await.said(api), said, "again the same");
    }
    provider.stop().await;
}

#[tokio::test]
async fn tools_that_must_be_called_are_called() {
    let provider = provider().await;
    let parameters = json!({"type": "object", "properties": {"x": {"const": 5}}});
    let mut openai = Question::of("m").body(Api::OpenAi);
    openai["tools"] =
        json!([{"type": "function", "function": {"name": "f", "parameters": parameters}}]);
    openai["tool_choice"] = json!({"type": "function", "function": {"name": "f"}});
    let mut anthropic = Question::of("m").body(Api::Anthropic);
    anthropic["tools"] = json!([{"name": "f", "input_schema": parameters}]);
    anthropic["tool_choice"] = json!({"type": "any"});
    let mut gemini = Question::of("m").body(Api::Gemini);
    gemini["tools"] = json!([{"functionDeclarations": [{"name": "f", "parameters": parameters}]}]);
    gemini["toolConfig"] = json!({"functionCallingConfig": {"mode": "ANY"}});
    let cases = [
        (Api::OpenAi, openai, "/choices/0/message/tool_calls/0/function/arguments"),
        (Api::Anthropic, anthropic, "/content/0/input/x"),
        (Api::Gemini, gemini, "/candidates/0/content/parts/0/functionCall/args/x"),
    ];
    for (api, body, pointer) in cases {
        let url = format!("{}{}", provider.simulator.url(), Question::of("m").path(api));
        let text = provider.client.post(url).body(body.to_string()).send().await.unwrap();
        let reply: Value = serde_json::from_str(&text.text().await.unwrap()).unwrap();
        let found = reply.pointer(pointer).unwrap_or_else(|| panic!("{reply}"));
        assert!(*found == json!(5) || *found == json!(r#"{"x":5}"#), "{reply}");
    }
    provider.stop().await;
}

#[tokio::test]
async fn scripts_answer_with_templates_values_and_tool_calls() {
    let provider = provider_with(
        r#"
models:
  m:
    answers:
      - { when: { contains: tides }, text: "You said: {{ words(prompt)[3] }}" }
      - when: { contains: sum }
        json: { total: "{{ 1 + 2 }}", note: "of {{ model }}" }
      - when: { contains: call }
        tool_call: { name: lookup, arguments: { city: "{{ capture(prompt, 'in (\\w+)') }}" } }
      - { when: { contains: oops }, text: "{{ nothing.there }}" }
"#,
    )
    .await;
    let ask = async |prompt: &str| {
        let question = Question { prompt: prompt.into(), ..Question::of("m") };
        provider.ask(Api::OpenAi, &question).await
    };
    assert_eq!(ask("Tell me about tides.").await.said(Api::OpenAi), "You said: tides");
    assert_eq!(ask("the sum").await.said(Api::OpenAi), r#"{"total":3,"note":"of m"}"#);
    let call = ask("call in Oslo").await.json();
    let function = &call["choices"][0]["message"]["tool_calls"][0]["function"];
    assert_eq!(function["arguments"], json!(r#"{"city":"Oslo"}"#));
    assert_eq!(call["choices"][0]["finish_reason"], json!("tool_calls"));
    let failed = ask("oops").await;
    assert_eq!(failed.status, 500);
    assert!(failed.text().contains("simulated provider: template"), "{}", failed.text());
    provider.stop().await;
}

#[tokio::test]
async fn limits_of_the_model_hold() {
    let provider = provider_with("models: {m: {context_window: 100, max_output_tokens: 5}}").await;
    for api in ALL {
        let question = Question { prompt: "word ".repeat(200), ..Question::of("m") };
        let refused = provider.ask(api, &question).await;
        assert_eq!(refused.status, 400);
        assert!(refused.text().contains("100"), "{}", refused.text());
        let cut = provider.ask(api, &Question::of("m")).await;
        assert_eq!(cut.said(api).len(), 20);
        let reason = ["\"length\"", "\"max_tokens\"", "\"MAX_TOKENS\""];
        assert!(reason.iter().any(|r| cut.text().contains(r)), "{}", cut.text());
        let unknown = provider.ask(api, &Question::of("other")).await;
        assert_eq!(unknown.status, 404, "{}", unknown.text());
    }
    provider.stop().await;
}

#[tokio::test]
async fn a_credential_can_be_required() {
    let provider = provider_with("{require_credential: true, models: {'*': {}}}").await;
    for api in ALL {
        assert_eq!(provider.ask(api, &Question::of("m")).await.status, 200);
        let url = format!("{}{}", provider.simulator.url(), Question::of("m").path(api));
        let body = Question::of("m").body(api).to_string();
        let request = provider.client.post(url).body(body).header("authorization", "Bearer ");
        let refused = request.send().await.unwrap();
        let expected = if api == Api::Gemini { 400 } else { 401 };
        assert_eq!(refused.status(), expected);
        assert!(refused.text().await.unwrap().contains("key"));
    }
    provider.stop().await;
}
