//! Gemini's generateContent.
//!
//! The model stands in the path and the stream in the method's name. Schemas are sent as JSON
//! Schema (`responseJsonSchema`, `parametersJsonSchema`), not in the older OpenAPI subset, which
//! would need a translation that loses keywords. The API has no strict switch.

use serde::Serialize;
use serde_json::Value;

use super::encode::{Items, segment, spoken, standing, to_bytes};
use super::shapes::{Shape, generate_content};
use super::{CredentialHeader, Dialect, EncodeError};
use crate::exchange::{ModelRequest, Part, ResponseFormat, Role, Sampling, Tool, ToolChoice};

/// The dialect.
#[derive(Debug)]
pub struct Gemini;

impl Dialect for Gemini {
    fn name(&self) -> &'static str {
        "gemini"
    }

    fn provider(&self) -> &'static str {
        "gcp.gemini"
    }

    fn default_base_url(&self) -> &'static str {
        "https://generativelanguage.googleapis.com/v1beta"
    }

    fn credential_header(&self) -> CredentialHeader {
        CredentialHeader { name: "x-goog-api-key", prefix: "" }
    }

    fn fixed_headers(&self) -> &'static [(&'static str, &'static str)] {
        &[]
    }

    fn path(&self, model: &str, stream: bool) -> String {
        let method = if stream { "streamGenerateContent?alt=sse" } else { "generateContent" };
        // Tuned models are named with their collection.
        let (collection, name) = match model.split_once('/') {
            Some((collection @ ("models" | "tunedModels"), name)) => (collection, name),
            Some(_) | None => ("models", model),
        };
        format!("/{collection}/{}:{method}", segment(name))
    }

    fn encode(&self, request: &ModelRequest<'_>) -> Result<Vec<u8>, EncodeError> {
        if spoken(&request.messages).next().is_none() {
            return Err(EncodeError {
                dialect: self.name(),
                what: "a prompt of instructions only",
            });
        }
        let system = standing(self.name(), &request.messages)?;
        to_bytes(self.name(), &Body::of(request, &system), &request.extra)
    }

    fn shape(&self) -> &'static Shape {
        &generate_content::SHAPE
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Body<'r, S: Serialize, C: Serialize, T: Serialize> {
    #[serde(skip_serializing_if = "Option::is_none")]
    system_instruction: Option<Said<S>>,
    contents: C,
    #[serde(skip_serializing_if = "Option::is_none")]
    generation_config: Option<Config<'r>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tools: Option<[Tools<T>; 1]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_config: Option<ToolConfig<'r>>,
}

impl<'r> Body<'r, (), (), ()> {
    fn of<'s>(
        request: &'r ModelRequest<'r>,
        system: &'s [&'r str],
    ) -> Body<'r, impl Serialize + use<'s, 'r>, impl Serialize + use<'r>, impl Serialize + use<'r>>
    {
        let has_tools = !request.tools.is_empty();
        let declared =
            || Tools { function_declarations: Items(request.tools.iter().map(Declared::of)) };
        Body {
            system_instruction: (!system.is_empty()).then(|| Said {
                role: None,
                parts: Items(system.iter().map(|text| Piece::Text(text))),
            }),
            contents: Items(spoken(&request.messages).map(|message| Said {
                role: Some(match message.role {
                    Role::Assistant => "model",
                    Role::User | Role::System => "user",
                }),
                parts: Items(message.parts.iter().map(Piece::of)),
            })),
            generation_config: Config::of(&request.sampling, &request.response_format),
            tools: has_tools.then(|| [declared()]),
            tool_config: ToolConfig::of(&request.tool_choice).filter(|_| has_tools),
        }
    }
}

#[derive(Serialize)]
struct Said<P> {
    #[serde(skip_serializing_if = "Option::is_none")]
    role: Option<&'static str>,
    parts: P,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
enum Piece<'r> {
    Text(&'r str),
    InlineData(Inline<'r>),
    FileData(File<'r>),
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Inline<'r> {
    mime_type: &'r str,
    data: &'r str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct File<'r> {
    file_uri: &'r str,
}

impl<'r> Piece<'r> {
    fn of(part: &'r Part) -> Self {
        match part {
            Part::Text(text) => Self::Text(text.expose()),
            Part::ImageUrl(url) => Self::FileData(File { file_uri: url.expose() }),
            Part::ImageData { media_type, base64 } => {
                Self::InlineData(Inline { mime_type: media_type, data: base64.expose() })
            }
        }
    }
}

#[derive(Serialize, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
struct Config<'r> {
    #[serde(skip_serializing_if = "Option::is_none")]
    temperature: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    top_p: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_output_tokens: Option<u32>,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    stop_sequences: &'r [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    seed: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    response_mime_type: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    response_json_schema: Option<&'r Value>,
}

impl<'r> Config<'r> {
    fn of(sampling: &'r Sampling, format: &'r ResponseFormat) -> Option<Self> {
        let (is_json, schema) = match format {
            ResponseFormat::Text => (false, None),
            ResponseFormat::Json => (true, None),
            ResponseFormat::JsonSchema { schema, .. } => (true, Some(&**schema)),
        };
        let config = Self {
            temperature: sampling.temperature,
            top_p: sampling.top_p,
            max_output_tokens: sampling.max_output_tokens,
            stop_sequences: &sampling.stop,
            seed: sampling.seed,
            response_mime_type: is_json.then_some("application/json"),
            response_json_schema: schema,
        };
        (config != Self::default()).then_some(config)
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Tools<T> {
    function_declarations: T,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Declared<'r> {
    name: &'r str,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<&'r str>,
    parameters_json_schema: &'r Value,
}

impl<'r> Declared<'r> {
    fn of(tool: &'r Tool) -> Self {
        let description = tool.description.as_deref();
        Self { name: &tool.name, description, parameters_json_schema: &tool.parameters }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ToolConfig<'r> {
    function_calling_config: Calling<'r>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Calling<'r> {
    mode: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    allowed_function_names: Option<[&'r str; 1]>,
}

impl<'r> ToolConfig<'r> {
    fn of(choice: &'r ToolChoice) -> Option<Self> {
        let (mode, allowed) = match choice {
            ToolChoice::Auto => return None,
            ToolChoice::None => ("NONE", None),
            ToolChoice::Required => ("ANY", None),
            ToolChoice::Named(name) => ("ANY", Some([name.as_str()])),
        };
        Some(Self { function_calling_config: Calling { mode, allowed_function_names: allowed } })
    }
}
