//! Anthropic's messages API.
//!
//! It has no plain JSON mode and no seed: both are left out, since a prompt that asks for JSON
//! usually gets it and the output contract is checked anyway. A schema goes into
//! `output_config.format`, the form that took the place of the beta `output_format`.

use serde::{Serialize, Serializer};
use serde_json::Value;

use super::encode::{Items, spoken, standing, to_bytes};
use super::shapes::{Shape, messages};
use super::{CredentialHeader, Dialect, EncodeError};
use crate::exchange::{Message, ModelRequest, Part, ResponseFormat, Role, Tool, ToolChoice};

/// The API wants a limit in every request.
const MAX_TOKENS_DEFAULT: u32 = 4096;

/// The dialect.
#[derive(Debug)]
pub struct Anthropic;

impl Dialect for Anthropic {
    fn name(&self) -> &'static str {
        "anthropic"
    }

    fn provider(&self) -> &'static str {
        "anthropic"
    }

    fn default_base_url(&self) -> &'static str {
        "https://api.anthropic.com/v1"
    }

    fn credential_header(&self) -> CredentialHeader {
        CredentialHeader { name: "x-api-key", prefix: "" }
    }

    fn fixed_headers(&self) -> &'static [(&'static str, &'static str)] {
        &[("anthropic-version", "2023-06-01")]
    }

    fn path(&self, _: &str, _: bool) -> String {
        "/messages".to_owned()
    }

    fn encode(&self, request: &ModelRequest<'_>) -> Result<Vec<u8>, EncodeError> {
        if spoken(&request.messages).next().is_none() {
            return Err(EncodeError {
                dialect: self.name(),
                what: "a prompt of instructions only",
            });
        }
        let system = standing(self.name(), &request.messages)?;
        to_bytes(self.name(), &Body::of(request, system), &request.extra)
    }

    fn shape(&self) -> &'static Shape {
        &messages::SHAPE
    }
}

#[derive(Serialize)]
struct Body<'r, M: Serialize, T: Serialize> {
    model: &'r str,
    max_tokens: u32,
    #[serde(skip_serializing_if = "System::is_absent")]
    system: System<'r>,
    messages: M,
    #[serde(skip_serializing_if = "Option::is_none")]
    tools: Option<T>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_choice: Option<Choice<'r>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    temperature: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    top_p: Option<f64>,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    stop_sequences: &'r [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    output_config: Option<OutputConfig<'r>>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    stream: bool,
}

impl<'r> Body<'r, (), ()> {
    fn of(
        request: &'r ModelRequest<'r>,
        system: Vec<&'r str>,
    ) -> Body<'r, impl Serialize, impl Serialize> {
        let has_tools = !request.tools.is_empty();
        Body {
            model: &request.model,
            max_tokens: request.sampling.max_output_tokens.unwrap_or(MAX_TOKENS_DEFAULT),
            system: System(system),
            messages: Items(spoken(&request.messages).map(|message| Spoken {
                role: match message.role {
                    Role::Assistant => "assistant",
                    Role::User | Role::System => "user",
                },
                content: Content(message),
            })),
            tools: has_tools.then(|| Items(request.tools.iter().map(Declared::of))),
            tool_choice: Choice::of(&request.tool_choice).filter(|_| has_tools),
            temperature: request.sampling.temperature,
            top_p: request.sampling.top_p,
            stop_sequences: &request.sampling.stop,
            output_config: OutputConfig::of(&request.response_format),
            stream: request.stream,
        }
    }
}

struct System<'r>(Vec<&'r str>);

impl System<'_> {
    fn is_absent(&self) -> bool {
        self.0.is_empty()
    }
}

impl Serialize for System<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0.as_slice() {
            [single] => serializer.serialize_str(single),
            texts => serializer.collect_seq(texts.iter().map(|text| Block::Text { text })),
        }
    }
}

#[derive(Serialize)]
struct Spoken<'r> {
    role: &'static str,
    content: Content<'r>,
}

struct Content<'r>(&'r Message);

impl Serialize for Content<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0.parts.as_slice() {
            [Part::Text(text)] => serializer.serialize_str(text.expose()),
            parts => serializer.collect_seq(parts.iter().map(Block::of)),
        }
    }
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Block<'r> {
    Text { text: &'r str },
    Image { source: Source<'r> },
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Source<'r> {
    Url { url: &'r str },
    Base64 { media_type: &'r str, data: &'r str },
}

impl<'r> Block<'r> {
    fn of(part: &'r Part) -> Self {
        match part {
            Part::Text(text) => Self::Text { text: text.expose() },
            Part::ImageUrl(url) => Self::Image { source: Source::Url { url: url.expose() } },
            Part::ImageData { media_type, base64 } => {
                Self::Image { source: Source::Base64 { media_type, data: base64.expose() } }
            }
        }
    }
}

#[derive(Serialize)]
struct Declared<'r> {
    name: &'r str,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<&'r str>,
    input_schema: &'r Value,
}

impl<'r> Declared<'r> {
    fn of(tool: &'r Tool) -> Self {
        let description = tool.description.as_deref();
        Self { name: &tool.name, description, input_schema: &tool.parameters }
    }
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Choice<'r> {
    None,
    Any,
    Tool { name: &'r str },
}

impl<'r> Choice<'r> {
    fn of(choice: &'r ToolChoice) -> Option<Self> {
        match choice {
            ToolChoice::Auto => None,
            ToolChoice::None => Some(Self::None),
            ToolChoice::Required => Some(Self::Any),
            ToolChoice::Named(name) => Some(Self::Tool { name }),
        }
    }
}

#[derive(Serialize)]
struct OutputConfig<'r> {
    format: Format<'r>,
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Format<'r> {
    JsonSchema { schema: &'r Value },
}

impl<'r> OutputConfig<'r> {
    fn of(format: &'r ResponseFormat) -> Option<Self> {
        match format {
            ResponseFormat::Text | ResponseFormat::Json => None,
            ResponseFormat::JsonSchema { schema, .. } => {
                Some(Self { format: Format::JsonSchema { schema } })
            }
        }
    }
}
