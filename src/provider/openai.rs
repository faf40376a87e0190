//! OpenAI's chat completions, the dialect that most other servers speak too.
//!
//! The limit of the answer is sent as `max_tokens`, which compatible servers want and OpenAI's
//! reasoning models refuse. A target for those names `max_completion_tokens` in its extras: null
//! there sends the request's own limit under that name, a number sends that number, and either way
//! `max_tokens` is left out, since the two exclude each other.

use serde::{Serialize, Serializer};
use serde_json::Value;

use super::encode::{DataUrl, Items, to_bytes};
use super::shapes::{Shape, chat_completions};
use super::{CredentialHeader, Dialect, EncodeError};
use crate::exchange::{Message, ModelRequest, Part, ResponseFormat, Role, Tool, ToolChoice};

const MODERN_LIMIT: &str = "max_completion_tokens";

/// The dialect.
#[derive(Debug)]
pub struct OpenAi;

impl Dialect for OpenAi {
    fn name(&self) -> &'static str {
        "openai"
    }

    fn provider(&self) -> &'static str {
        "openai"
    }

    fn default_base_url(&self) -> &'static str {
        "https://api.openai.com/v1"
    }

    fn credential_header(&self) -> CredentialHeader {
        CredentialHeader { name: "authorization", prefix: "Bearer " }
    }

    fn fixed_headers(&self) -> &'static [(&'static str, &'static str)] {
        &[]
    }

    fn path(&self, _: &str, _: bool) -> String {
        "/chat/completions".to_owned()
    }

    fn encode(&self, request: &ModelRequest<'_>) -> Result<Vec<u8>, EncodeError> {
        let body = Body::of(request);
        match request.extra.get(MODERN_LIMIT) {
            Some(Value::Null) => {
                let mut extra = request.extra.clone();
                extra.shift_remove(MODERN_LIMIT);
                to_bytes(self.name(), &body, &extra)
            }
            Some(_) | None => to_bytes(self.name(), &body, &request.extra),
        }
    }

    fn shape(&self) -> &'static Shape {
        &chat_completions::SHAPE
    }
}

#[derive(Serialize)]
struct Body<'r, M: Serialize, T: Serialize> {
    model: &'r str,
    messages: M,
    #[serde(skip_serializing_if = "Option::is_none")]
    tools: Option<T>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_choice: Option<Choice<'r>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    temperature: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    top_p: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_tokens: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_completion_tokens: Option<u32>,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    stop: &'r [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    seed: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    response_format: Option<Format<'r>>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    stream: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    stream_options: Option<StreamOptions>,
}

impl<'r> Body<'r, (), ()> {
    fn of(request: &'r ModelRequest<'r>) -> Body<'r, impl Serialize, impl Serialize> {
        let limit = request.sampling.max_output_tokens;
        let modern = request.extra.contains_key(MODERN_LIMIT);
        let has_tools = !request.tools.is_empty();
        Body {
            model: &request.model,
            messages: Items(request.messages.iter().map(|message| Spoken {
                role: match message.role {
                    Role::System => "system",
                    Role::User => "user",
                    Role::Assistant => "assistant",
                },
                content: Content(message),
            })),
            tools: has_tools.then(|| Items(request.tools.iter().map(Declared::of))),
            tool_choice: Choice::of(&request.tool_choice).filter(|_| has_tools),
            temperature: request.sampling.temperature,
            top_p: request.sampling.top_p,
            max_tokens: limit.filter(|_| !modern),
            max_completion_tokens: limit.filter(|_| modern),
            stop: &request.sampling.stop,
            seed: request.sampling.seed,
            response_format: Format::of(&request.response_format),
            stream: request.stream,
            stream_options: request.stream.then_some(StreamOptions { include_usage: true }),
        }
    }
}

#[derive(Serialize)]
struct StreamOptions {
    include_usage: bool,
}

#[derive(Serialize)]
struct Spoken<'r> {
    role: &'static str,
    content: Content<'r>,
}

/// A single text is a string, which every server takes; anything else is a list of parts.
struct Content<'r>(&'r Message);

impl Serialize for Content<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0.parts.as_slice() {
            [Part::Text(text)] => serializer.serialize_str(text.expose()),
            parts => serializer.collect_seq(parts.iter().map(Piece::of)),
        }
    }
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Piece<'r> {
    Text { text: &'r str },
    ImageUrl { image_url: Image<'r> },
}

#[derive(Serialize)]
struct Image<'r> {
    url: ImageSource<'r>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum ImageSource<'r> {
    Url(&'r str),
    Data(DataUrl<'r>),
}

impl<'r> Piece<'r> {
    fn of(part: &'r Part) -> Self {
        let image = |url| Self::ImageUrl { image_url: Image { url } };
        match part {
            Part::Text(text) => Self::Text { text: text.expose() },
            Part::ImageUrl(url) => image(ImageSource::Url(url.expose())),
            Part::ImageData { media_type, base64 } => {
                image(ImageSource::Data(DataUrl { media_type, base64 }))
            }
        }
    }
}

#[derive(Serialize)]
struct Declared<'r> {
    #[serde(rename = "type")]
    kind: &'static str,
    function: Function<'r>,
}

#[derive(Serialize)]
struct Function<'r> {
    name: &'r str,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<&'r str>,
    parameters: &'r Value,
}

impl<'r> Declared<'r> {
    fn of(tool: &'r Tool) -> Self {
        let description = tool.description.as_deref();
        let function = Function { name: &tool.name, description, parameters: &tool.parameters };
        Self { kind: "function", function }
    }
}

#[derive(Serialize)]
#[serde(untagged)]
enum Choice<'r> {
    Word(&'static str),
    Named {
        #[serde(rename = "type")]
        kind: &'static str,
        function: Name<'r>,
    },
}

#[derive(Serialize)]
struct Name<'r> {
    name: &'r str,
}

impl<'r> Choice<'r> {
    fn of(choice: &'r ToolChoice) -> Option<Self> {
        match choice {
            ToolChoice::Auto => None,
            ToolChoice::None => Some(Self::Word("none")),
            ToolChoice::Required => Some(Self::Word("required")),
            ToolChoice::Named(name) => {
                Some(Self::Named { kind: "function", function: Name { name } })
            }
        }
    }
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Format<'r> {
    JsonObject,
    JsonSchema { json_schema: Schema<'r> },
}

#[derive(Serialize)]
struct Schema<'r> {
    name: &'r str,
    schema: &'r Value,
    strict: bool,
}

impl<'r> Format<'r> {
    fn of(format: &'r ResponseFormat) -> Option<Self> {
        match format {
            ResponseFormat::Text => None,
            ResponseFormat::Json => Some(Self::JsonObject),
            ResponseFormat::JsonSchema { name, schema, strict } => {
                Some(Self::JsonSchema { json_schema: Schema { name, schema, strict: *strict } })
            }
        }
    }
}
