//! OpenAI's embeddings: vectors that repeat, near each other for texts that share their spelling.
//!
//! Each word and each run of three letters points into a direction that is drawn from the seed, the
//! model and its spelling; a text is the sum of them. That knows nothing of meaning, but texts that
//! differ in a word are near, and texts that share none are not, which is what a rehearsal needs.

use serde_json::{Value, json};

use super::ask::{Ask, Dialect, estimate_tokens};
use super::chance::Luck;

/// Numbers of a vector, unless the request says otherwise.
const DIMENSIONS: usize = 256;
const DIMENSIONS_MAX: usize = 4_096;
/// Most texts of one request.
const TEXTS_MAX: usize = 2_048;
/// A word says more than its pieces.
const WORD_WEIGHT: f64 = 2.0;

/// Reads a request body; none if it names no text.
pub fn read(body: &Value) -> Option<Ask> {
    let model = body.get("model").and_then(Value::as_str).unwrap_or_default();
    let mut ask = Ask::new(Dialect::OpenAi, model);
    ask.embed = match body.get("input")? {
        Value::String(text) => vec![text.clone()],
        Value::Array(texts) if texts.len() <= TEXTS_MAX => {
            texts.iter().map(|text| text.as_str().map(str::to_owned)).collect::<Option<_>>()?
        }
        Value::Array(_) | Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => {
            return None;
        }
    };
    if ask.embed.is_empty() || ask.embed.iter().any(String::is_empty) {
        return None;
    }
    let dimensions = body.get("dimensions").and_then(Value::as_u64);
    ask.dimensions = dimensions.and_then(|dimensions| usize::try_from(dimensions).ok());
    for text in ask.embed.clone() {
        ask.say("user", text);
    }
    Some(ask)
}

/// The answer's body.
pub fn answer(ask: &Ask, seed: Luck) -> Value {
    let dimensions = ask.dimensions.unwrap_or(DIMENSIONS).clamp(1, DIMENSIONS_MAX);
    let luck = seed.of_text(&ask.model);
    let data: Vec<Value> = ask
        .embed
        .iter()
        .enumerate()
        .map(|(index, text)| {
            let embedding = vector(text, dimensions, luck);
            json!({"object": "embedding", "index": index, "embedding": embedding})
        })
        .collect();
    let tokens: u64 = ask.embed.iter().map(|text| estimate_tokens(text)).sum();
    json!({
        "object": "list", "data": data, "model": ask.model,
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
    })
}

/// The direction of a text, of length 1.
fn vector(text: &str, dimensions: usize, luck: Luck) -> Vec<f64> {
    let mut sums = vec![0.0_f64; dimensions];
    let mut point = |feature: &str, weight: f64| {
        let bits = luck.of_text(feature).bits();
        let sign = if bits >> 63 == 0 { 1.0 } else { -1.0 };
        let at = usize::try_from(bits & 0xffff_ffff).unwrap_or(0) % dimensions;
        if let Some(sum) = sums.get_mut(at) {
            *sum += sign * weight;
        }
    };
    let lower = text.to_lowercase();
    let words = lower.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty());
    for word in words {
        point(word, WORD_WEIGHT);
        let marked: Vec<char> = format!("<{word}>").chars().collect();
        for three in marked.windows(3) {
            point(&three.iter().collect::<String>(), 1.0);
        }
    }
    let length = sums.iter().map(|sum| sum * sum).sum::<f64>().sqrt();
    if length == 0.0 {
        // A text without a letter, or one whose pieces cancel out, still has a direction.
        sums.iter_mut().take(1).for_each(|first| *first = 1.0);
        return sums;
    }
    sums.iter_mut().for_each(|sum| *sum /= length);
    sums
}

#[cfg(test)]
mod tests {
    use super::*;

    fn likeness(a: &str, b: &str) -> f64 {
        let luck = Luck::seeded(1).of_text("m");
        let (a, b) = (vector(a, DIMENSIONS, luck), vector(b, DIMENSIONS, luck));
        a.iter().zip(&b).map(|(x, y)| x * y).sum()
    }

    #[test]
    fn alike_in_spelling_is_near_and_else_is_far() {
        let asked = "What is the capital of France, please?";
        assert!((likeness(asked, asked) - 1.0).abs() < 1e-9);
        assert!((likeness(asked, "what is the CAPITAL of France please") - 1.0).abs() < 1e-9);
        let near = likeness(asked, "Please, what is the capital of France?");
        assert!(near > 0.99, "{near}");
        let nearly = likeness(asked, "What is the capital city of France, please?");
        assert!((0.8..0.99).contains(&nearly), "{nearly}");
        let far = likeness(asked, "Summarise this incident for our on-call engineers.");
        assert!(far < 0.4, "{far}");
    }

    #[test]
    fn requests_are_read_and_answered_as_openai_does() {
        let body = json!({"model": "m!latency(delay=1ms)", "input": ["a", "b"], "dimensions": 8});
        let ask = read(&body).unwrap();
        assert_eq!((ask.model.as_str(), ask.messages.len()), ("m", 2));
        let said = answer(&ask, Luck::seeded(1));
        assert_eq!(said, answer(&ask, Luck::seeded(1)));
        assert_ne!(said, answer(&ask, Luck::seeded(2)));
        assert_eq!(said["data"].as_array().map(Vec::len), Some(2));
        assert_eq!(said["data"][1]["embedding"].as_array().map(Vec::len), Some(8));
        assert_eq!(said["usage"]["prompt_tokens"], 2);
        for wrong in [json!({}), json!({"input": []}), json!({"input": ""}), json!({"input": [1]})]
        {
            assert_eq!(read(&wrong), None, "{wrong}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_text_has_a_direction(text in "\\PC+", dimensions in 1_usize..64) {
            let numbers = vector(&text, dimensions, Luck::seeded(3));
            let length = numbers.iter().map(|x| x * x).sum::<f64>().sqrt();
            proptest::prop_assert!((length - 1.0).abs() < 1e-9, "{}", length);
        }
    }
}
