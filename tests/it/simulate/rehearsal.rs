//! The shipped choreography over the shipped document.

use serde_json::{Value, json};

use super::harness::{Api, Provider, Question, provider_with};

const DOCUMENT: &str = include_str!("../../../examples/documents/incident.txt");

async fn rehearsal() -> Provider {
    provider_with(mainstay::simulate::script::REHEARSAL).await
}

fn extract(model: &str) -> Question {
    let entity = json!({
        "type": "object",
        "properties": {
            "name": {"type": "string"},
            "kind": {"enum": ["person", "organisation", "system", "place"]},
            "mention": {"type": "string"},
        },
    });
    Question {
        system: "Extract the entities of the report.".into(),
        prompt: DOCUMENT.into(),
        schema: Some(json!({"properties": {"entities": {"type": "array", "items": entity}}})),
        ..Question::of(model)
    }
}

fn classify(model: &str, entity: &Value) -> Question {
    let schema = json!({"properties": {
        "name": {"type": "string"},
        "role": {"enum": ["cause", "affected", "responder", "bystander", "tool"]},
        "impact": {"enum": ["low", "medium", "high"]},
        "confidence": {"type": "number"},
    }});
    Question {
        system: "You classify an entity of an incident.".into(),
        prompt: entity.to_string(),
        schema: Some(schema),
        ..Question::of(model)
    }
}

fn summarise(model: &str) -> Question {
    let system = "Summarise the incident for managers.".into();
    Question { system, prompt: DOCUMENT.into(), ..Question::of(model) }
}

#[tokio::test]
async fn extraction_is_limited_once_and_then_finds_what_is_there() {
    let provider = rehearsal().await;
    for _run in 0..2 {
        let limited = provider.ask(Api::OpenAi, &extract("sim-primary")).await;
        assert_eq!((limited.status, limited.header("retry-after")), (429, "1"));
        let answer = provider.ask(Api::OpenAi, &extract("sim-primary")).await;
        let found: Value = serde_json::from_str(&answer.said(Api::OpenAi)).unwrap();
        let entities = found["entities"].as_array().unwrap();
        let pairs: Vec<(&str, &str)> = entities
            .iter()
            .map(|e| (e["name"].as_str().unwrap(), e["kind"].as_str().unwrap()))
            .collect();
        assert_eq!(
            pairs,
            [
                ("Marta Oliveira", "person"),
                ("Jonas Weber", "person"),
                ("Halden Networks", "organisation"),
                ("Northwind Bank", "organisation"),
                ("checkout-api", "system"),
                ("ledger-db", "system"),
                ("Rotterdam", "place"),
            ]
        );
        let flat = DOCUMENT.split_whitespace().collect::<Vec<_>>().join(" ");
        for entity in entities {
            let mention = entity["mention"].as_str().unwrap();
            assert!(flat.contains(mention) && mention.contains(entity["name"].as_str().unwrap()));
        }
    }
    provider.stop().await;
}

#[tokio::test]
async fn only_the_second_entity_comes_in_a_fence() {
    let provider = rehearsal().await;
    provider.ask(Api::OpenAi, &extract("sim-primary")).await;
    let answer = provider.ask(Api::OpenAi, &extract("sim-primary")).await;
    let found: Value = serde_json::from_str(&answer.said(Api::OpenAi)).unwrap();
    let mut roles = Vec::new();
    for (idx, entity) in found["entities"].as_array().unwrap().iter().enumerate() {
        let text =
            provider.ask(Api::OpenAi, &classify("sim-primary", entity)).await.said(Api::OpenAi);
        assert_eq!(text.starts_with("```json\n"), idx == 1, "{text}");
        let json = text.trim_start_matches("```json").trim_end_matches("```");
        let verdict: Value = serde_json::from_str(json).unwrap();
        assert_eq!(verdict["name"], entity["name"]);
        assert!((0.8..1.0).contains(&verdict["confidence"].as_f64().unwrap()), "{verdict}");
        assert!(["low", "medium", "high"].contains(&verdict["impact"].as_str().unwrap()));
        roles.push(verdict["role"].as_str().unwrap().to_owned());
    }
    let expected =
        ["responder", "responder", "bystander", "bystander", "affected", "cause", "bystander"];
    assert_eq!(roles, expected);
    provider.stop().await;
}

#[tokio::test]
async fn the_summary_needs_another_target() {
    let provider = rehearsal().await;
    for _ in 0..3 {
        assert_eq!(provider.ask(Api::OpenAi, &summarise("sim-primary")).await.status, 503);
    }
    for (api, model) in [(Api::Anthropic, "sim-secondary"), (Api::Gemini, "sim-small")] {
        let answer = provider.ask(api, &summarise(model)).await;
        let summary: Value = serde_json::from_str(&answer.said(api)).unwrap();
        assert_eq!(summary["title"], "card payments failed at checkout, 14 March");
        assert!(summary["summary"].as_str().unwrap().contains("held a lock"), "{summary}");
        assert_eq!(summary["actions"].as_array().unwrap().len(), 3, "{summary}");
    }
    provider.stop().await;
}
