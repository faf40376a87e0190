//! A request in no provider's words.
//!
//! The wire files turn what arrived into an [`Ask`]; matchers, faults and answers see only that.
//! Credentials never get in here: whether there was one is all that the server keeps.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

/// Whose HTTP API is spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Dialect {
    /// OpenAI chat completions.
    #[serde(rename = "openai")]
    OpenAi,
    /// The same under `/openai/deployments/NAME/`, with Azure's errors.
    Azure,
    /// Anthropic messages.
    Anthropic,
    /// Gemini generateContent and streamGenerateContent.
    Gemini,
}

impl Dialect {
    /// The name in scripts and call records.
    pub const fn name(self) -> &'static str {
        match self {
            Self::OpenAi => "openai",
            Self::Azure => "azure",
            Self::Anthropic => "anthropic",
            Self::Gemini => "gemini",
        }
    }
}

/// One message of the prompt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spoken {
    /// `system`, `user`, `assistant` or `tool`.
    pub role: &'static str,
    /// The text parts, joined by line ends.
    pub text: String,
}

/// A declared tool.
#[derive(Debug, Clone, PartialEq)]
pub struct AskedTool {
    /// Name.
    pub name: String,
    /// JSON Schema of the arguments.
    pub schema: Value,
}

/// A request as the simulator understands it.
#[derive(Debug, Clone, PartialEq)]
pub struct Ask {
    /// Whose API.
    pub dialect: Dialect,
    /// The model that was asked, without an override suffix.
    pub model: String,
    /// The override suffix: what stood behind `!` in the model's name.
    pub suffix: Option<String>,
    /// Answer as a stream of events.
    pub stream: bool,
    /// The stream is server-sent events; else (Gemini without `alt=sse`) one JSON array.
    pub sse: bool,
    /// Usage was asked for at the end of the stream (always, but for OpenAI).
    pub include_usage: bool,
    /// The prompt without system messages.
    pub messages: Vec<Spoken>,
    /// All system texts.
    pub system: String,
    /// The last user message.
    pub prompt: String,
    /// The schema that the answer must satisfy.
    pub schema: Option<Value>,
    /// JSON was asked for without a schema.
    pub json_mode: bool,
    /// Declared tools.
    pub tools: Vec<AskedTool>,
    /// The tool that must be called.
    pub tool_forced: Option<String>,
    /// Most tokens that the answer may have.
    pub output_tokens_max: Option<u64>,
    /// Texts whose vectors are wanted, in place of an answer.
    pub embed: Vec<String>,
    /// Numbers that each vector should have.
    pub dimensions: Option<usize>,
    /// Headers with lower-case names, without credentials.
    pub headers: BTreeMap<String, String>,
}

impl Ask {
    /// An ask with nothing in it but a model.
    pub fn new(dialect: Dialect, model_with_suffix: &str) -> Self {
        let (model, suffix) = match model_with_suffix.split_once('!') {
            Some((model, suffix)) => (model, Some(suffix.to_owned())),
            None => (model_with_suffix, None),
        };
        Self {
            dialect,
            model: model.to_owned(),
            suffix,
            stream: false,
            sse: true,
            include_usage: true,
            messages: Vec::new(),
            system: String::new(),
            prompt: String::new(),
            schema: None,
            json_mode: false,
            tools: Vec::new(),
            tool_forced: None,
            output_tokens_max: None,
            embed: Vec::new(),
            dimensions: None,
            headers: BTreeMap::new(),
        }
    }

    /// Adds a message, keeping `system` and `prompt` up to date.
    pub fn say(&mut self, role: &str, text: String) {
        match role {
            "system" | "developer" => {
                if !self.system.is_empty() {
                    self.system.push('\n');
                }
                self.system.push_str(&text);
            }
            "assistant" | "model" => self.messages.push(Spoken { role: "assistant", text }),
            "tool" | "function" => self.messages.push(Spoken { role: "tool", text }),
            _ => {
                self.prompt.clone_from(&text);
                self.messages.push(Spoken { role: "user", text });
            }
        }
    }

    /// Tokens of the prompt, estimated as a quarter of its characters plus four a message.
    pub fn input_tokens(&self) -> u64 {
        let texts = self.messages.iter().map(|m| m.text.as_str());
        texts.chain([self.system.as_str()]).map(|text| estimate_tokens(text) + 4).sum()
    }
}

/// Tokens of a text, estimated as a quarter of its characters.
pub fn estimate_tokens(text: &str) -> u64 {
    (text.chars().count() as u64).div_ceil(4)
}

/// The text of a message's content: a string, or a list of parts of which the texts count.
pub fn text_of(content: &Value) -> String {
    match content {
        Value::String(text) => text.clone(),
        Value::Array(parts) => {
            let texts: Vec<&str> = parts
                .iter()
                .filter_map(|part| part.get("text").and_then(Value::as_str).or(part.as_str()))
                .collect();
            texts.join("\n")
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_user_message_is_the_prompt() {
        let mut ask = Ask::new(Dialect::OpenAi, "m!fence");
        ask.say("system", "a".into());
        ask.say("developer", "b".into());
        ask.say("user", "first".into());
        ask.say("assistant", "reply".into());
        ask.say("user", "second".into());
        assert_eq!((ask.model.as_str(), ask.suffix.as_deref()), ("m", Some("fence")));
        assert_eq!((ask.system.as_str(), ask.prompt.as_str()), ("a\nb", "second"));
        assert_eq!(ask.messages.len(), 3);
    }
}
