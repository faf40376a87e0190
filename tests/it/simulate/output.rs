//! Faults of the answer's text.

use serde_json::{Value, json};

use super::harness::{ALL, Answer, Api, Provider, Question, provider};

fn question(fault: &str) -> Question {
    let schema = json!({
        "type": "object", "required": ["kind", "note"], "additionalProperties": false,
        "properties": {"kind": {"enum": ["small"]}, "note": {"type": "string"}},
    });
    Question { schema: Some(schema), ..Question::of(&format!("m!{fault}")) }
}

const GOOD: &str = r#"{"kind":"small","note":"simulated note"}"#;

async fn said(provider: &Provider, api: Api, fault: &str) -> String {
    let whole = provider.ask(api, &question(fault)).await.said(api);
    let streamed = provider.ask(api, &question(fault).stream()).await.said_in_stream(api);
    assert_eq!(whole, streamed, "{api:?} {fault}: a stream says the same");
    whole
}

#[tokio::test]
async fn texts_are_spoilt_alike_in_every_dialect() {
    let provider = provider().await;
    for api in ALL {
        assert_eq!(said(&provider, api, "none").await, GOOD);
        assert_eq!(said(&provider, api, "fence").await, format!("```json\n{GOOD}\n```"));
        let prose = said(&provider, api, "prose").await;
        assert!(prose.starts_with("Sure!") && prose.contains(GOOD), "{prose}");
        let both = said(&provider, api, "fence+prose").await;
        assert!(both.starts_with("Sure!") && both.contains("```json\n{"), "{both}");
        assert!(said(&provider, api, "think").await.starts_with("<think>"));
        assert_eq!(said(&provider, api, "duplicate").await, format!("{GOOD}\n{GOOD}"));
        let comma = said(&provider, api, "broken_json(kind=trailing_comma)").await;
        assert!(comma.ends_with(",}"), "{comma}");
        for kind in ["single_quotes", "missing_brace", "comment", "raw_newline", "bare_keys"] {
            let broken = said(&provider, api, &format!("broken_json(kind={kind})")).await;
            assert!(serde_json::from_str::<Value>(&broken).is_err(), "{broken}");
        }
        // Which way `any` takes, and which member is dropped, is drawn anew for each call.
        let any = provider.ask(api, &question("broken_json")).await.said(api);
        assert!(serde_json::from_str::<Value>(&any).is_err(), "{any}");
        let shouted = said(&provider, api, "schema_violation(kind=enum_case)").await;
        assert!(shouted.contains("SMALL"), "{shouted}");
        let dropped = "schema_violation(kind=drop_required)";
        let dropped = provider.ask(api, &question(dropped)).await.said(api);
        let dropped: Value = serde_json::from_str(&dropped).unwrap();
        assert_eq!(dropped.as_object().unwrap().len(), 1);
        let extra = said(&provider, api, "schema_violation(kind=extra_field)").await;
        assert!(extra.contains("unexpected_note"), "{extra}");
        assert_eq!(said(&provider, api, "empty").await, "");
    }
    provider.stop().await;
}

#[tokio::test]
async fn endings_have_their_reasons() {
    let provider = provider().await;
    let finish = |api: Api, answer: &Answer| {
        let body = answer.json();
        let pointer = match api {
            Api::OpenAi | Api::Azure => "/choices/0/finish_reason",
            Api::Anthropic => "/stop_reason",
            Api::Gemini => "/candidates/0/finishReason",
        };
        body.pointer(pointer).unwrap().as_str().unwrap().to_owned()
    };
    let cases = [
        ("truncated_output", ["length", "length", "max_tokens", "MAX_TOKENS"]),
        ("content_filter(kind=output)", ["content_filter", "content_filter", "refusal", "SAFETY"]),
        ("refusal", ["stop", "stop", "refusal", "STOP"]),
        ("empty", ["stop", "stop", "end_turn", "STOP"]),
    ];
    for (fault, expected) in cases {
        for (api, expected) in ALL.into_iter().zip(expected) {
            let answer = provider.ask(api, &question(fault)).await;
            assert_eq!(finish(api, &answer), expected, "{api:?} {fault}");
            let streamed = provider.ask(api, &question(fault).stream()).await.text();
            assert!(streamed.contains(&format!("\"{expected}\"")), "{api:?} {fault}: {streamed}");
        }
    }
    let refused = provider.ask(Api::OpenAi, &question("refusal")).await.json();
    assert!(refused["choices"][0]["message"]["refusal"].as_str().unwrap().starts_with("I'm sorry"));
    assert!(refused["choices"][0]["message"]["content"].is_null());
    let kept = said(&provider, Api::OpenAi, "truncated_output(keep=0.25)").await;
    assert_eq!(kept, GOOD[..GOOD.len() / 4]);
    provider.stop().await;
}

#[tokio::test]
async fn endless_answers_end_at_their_cap() {
    let provider = provider().await;
    for api in ALL {
        let whole = provider.ask(api, &question("endless(bytes=100000)")).await;
        assert!((90_000..=100_000).contains(&whole.said(api).len()), "{}", whole.said(api).len());
        let streamed = provider.ask(api, &question("endless(bytes=100000)").stream()).await;
        assert!((90_000..110_000).contains(&streamed.body.len()), "{}", streamed.body.len());
    }
    provider.stop().await;
}
