//! Embeddings, as OpenAI and everybody who is compatible with it speaks them: a text in, a vector
//! out. Pure, like a dialect; errors are judged on the same path as those of chats.

use http::HeaderMap;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::encode::to_bytes;
use super::shapes::{broken_off, error_inside};
use super::{DecodeContext, EncodeError};
use crate::exchange::{HttpResponse, Usage};
use crate::failure::Failure;
use crate::failure::classify::{self, Circumstances};
use crate::resilience::nearest::Unit;

/// Path after the base URL.
pub const PATH: &str = "/embeddings";

#[derive(Serialize)]
struct Body<'a> {
    model: &'a str,
    input: &'a str,
    encoding_format: &'static str,
}

/// The body that asks for the vector of a text, with the members of `extra` laid over it.
///
/// # Errors
/// When it cannot be said as JSON.
pub fn encode(model: &str, text: &str, extra: &Map<String, Value>) -> Result<Vec<u8>, EncodeError> {
    to_bytes("openai", &Body { model, input: text, encoding_format: "float" }, extra)
}

/// The vector of a text.
#[derive(Debug, Clone, PartialEq)]
pub struct Embedding {
    /// Its direction.
    pub unit: Unit,
    /// Tokens as counted by the provider.
    pub usage: Usage,
}

#[derive(Deserialize)]
struct Answer {
    data: Vec<Item>,
    #[serde(default)]
    usage: Option<Counted>,
}

#[derive(Deserialize)]
struct Item {
    embedding: Vec<f32>,
}

#[derive(Deserialize)]
struct Counted {
    #[serde(default)]
    prompt_tokens: u64,
}

/// Judges a whole response.
///
/// # Errors
/// The failure that it reports or is.
pub fn decode(
    response: &HttpResponse,
    context: DecodeContext<'_>,
) -> Result<Embedding, Box<Failure>> {
    if !matches!(response.status, 200..=299) {
        return Err(classify::of_response(response, context.provider, context.now).into());
    }
    let headers: &HeaderMap = &response.headers;
    let circumstances = Circumstances {
        status: response.status,
        headers,
        provider: context.provider,
        now: context.now,
    };
    if let Some(failure) = broken_off(response.end, circumstances) {
        return Err(failure.into());
    }
    let Ok(Answer { data, usage }) = serde_json::from_slice::<Answer>(&response.body) else {
        let value = serde_json::from_slice::<Value>(&response.body).ok();
        let failure = value.and_then(|value| error_inside(&value, circumstances));
        let malformed = || classify::malformed("unexpected_shape", circumstances);
        return Err(failure.unwrap_or_else(malformed).into());
    };
    let unit = match data.as_slice() {
        [one] => Unit::new(&one.embedding),
        [] | [_, _, ..] => None,
    };
    let input_tokens = usage.map_or(0, |counted| counted.prompt_tokens);
    match unit {
        Some(unit) => Ok(Embedding { unit, usage: Usage { input_tokens, ..Usage::default() } }),
        None => Err(classify::malformed("unusable_vector", circumstances).into()),
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use serde_json::json;

    use super::*;
    use crate::exchange::BodyEnd;
    use crate::failure::FailureCause;

    fn answer(status: u16, body: &str) -> Result<Embedding, String> {
        ended(status, body, BodyEnd::Complete)
    }

    fn ended(status: u16, body: &str, end: BodyEnd) -> Result<Embedding, String> {
        let body = Bytes::copy_from_slice(body.as_bytes());
        let response = HttpResponse { status, headers: HeaderMap::new(), body, end };
        let now = jiff::Timestamp::UNIX_EPOCH;
        decode(&response, DecodeContext { provider: "openai", now }).map_err(|failure| {
            format!("{} {}", failure.cause.name(), failure.detail.unwrap_or_default())
        })
    }

    #[test]
    fn a_text_is_asked_for_with_what_the_target_lays_over_it() {
        let said = |extra: Value| {
            let Value::Object(extra) = extra else { panic!("an object") };
            let body = encode("small", "a \"text\"", &extra).unwrap();
            serde_json::from_slice::<Value>(&body).unwrap()
        };
        let plain = json!({"model": "small", "input": "a \"text\"", "encoding_format": "float"});
        assert_eq!(said(json!({})), plain);
        let other = said(json!({"dimensions": 256, "encoding_format": null}));
        assert_eq!(other, json!({"model": "small", "input": "a \"text\"", "dimensions": 256}));
    }

    #[test]
    fn one_vector_is_an_answer_and_everything_else_a_failure() {
        let good = r#"{"object": "list", "data": [{"object": "embedding", "index": 0,
            "embedding": [3, 4.0e0]}], "model": "small", "usage": {"prompt_tokens": 7,
            "total_tokens": 7}}"#;
        let embedding = answer(200, good).unwrap();
        assert_eq!(**embedding.unit.numbers(), [0.6, 0.8]);
        assert_eq!(embedding.usage.input_tokens, 7);
        assert!(answer(200, r#"{"data": [{"embedding": [1]}]}"#).is_ok());
        for (status, body, wanted) in [
            (200, "", "malformed_response unexpected_shape"),
            (200, "<html>", "malformed_response unexpected_shape"),
            (200, r#"{"data": []}"#, "malformed_response unusable_vector"),
            (200, r#"{"data": [{"embedding": [0, 0]}]}"#, "malformed_response unusable_vector"),
            (200, r#"{"data": [{"embedding": "AAAA"}]}"#, "malformed_response unexpected_shape"),
            (
                200,
                r#"{"data": [{"embedding": [1]}, {"embedding": [2]}]}"#,
                "malformed_response unusable_vector",
            ),
            (401, r#"{"error": {"message": "no", "code": "invalid_api_key"}}"#, "authentication "),
            (429, r#"{"error": {"message": "Rate limit reached"}}"#, "rate_limited "),
        ] {
            assert_eq!(answer(status, body).unwrap_err(), wanted, "{body}");
        }
        let inside = answer(200, r#"{"error": {"message": "overloaded", "code": 503}}"#);
        assert_ne!(inside.unwrap_err(), "malformed_response unexpected_shape");
        let cut = ended(200, good, BodyEnd::Cut).unwrap_err();
        assert!(cut.starts_with(FailureCause::MalformedResponse.name()), "{cut}");
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_a_vector_or_a_failure(body in "\\PC*", status in 100_u16..600) {
            let _ = answer(status, &body);
        }
    }
}
