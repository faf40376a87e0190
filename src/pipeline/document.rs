//! A pipeline as it is written.
//!
//! These types say what may stand where; what it means, and whether names, expressions, templates
//! and schemas hold together, is the work of `compile`. The same step type is filled from a request
//! that brings its step along.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize, Serializer};
use serde_json::{Map, Value};

use crate::document::DurationText;

/// A pipeline: named steps, their order and what comes out.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawPipeline {
    /// Name, `[a-z0-9_-]{1,64}`.
    pub name: String,
    /// What it is for, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Name of the policy that its runs follow; without it the server's default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<String>,
    /// Longest time of a run, waits included.
    #[serde(default, skip_serializing_if = "Option::is_none", serialize_with = "duration")]
    pub run_timeout: Option<DurationText>,
    /// JSON Schema of the input. A run whose input breaks it is rejected before anything is called.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input_schema: Option<Value>,
    /// Labels of every run, beside those that the caller sets.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// The steps.
    pub steps: Vec<RawStep>,
    /// What the run gives back: a step's name, or members each with its CEL expression over
    /// `input`, `steps`, `skipped` and `run`. Default: the output of the last step.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output: Option<RawSelect>,
}

/// What the run gives back.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum RawSelect {
    /// The output of this step.
    Step(String),
    /// An object of expressions.
    Members(Map<String, Value>),
}

/// One step: a prompt, where it goes and what has to come back.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawStep {
    /// Name, `[a-z0-9_-]{1,64}`; later steps read the output as `steps.NAME`.
    pub name: String,
    /// Targets or groups of targets by name: the asked one first, then its fallbacks. Without
    /// it the server's default.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub targets: Vec<String>,
    /// Steps that have to be done before. Default: the step before in the document. Write `[]`
    /// for none: steps run side by side only with explicit needs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub needs: Option<Vec<String>>,
    /// CEL condition; where it is false the step is skipped and its output is null.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub when: Option<String>,
    /// Runs the step once for each element of a list.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub for_each: Option<RawForEach>,
    /// The messages; a single text is one message of the user. Texts are minijinja templates.
    pub prompt: RawPrompt,
    /// Tools that the model may call; a call is an output.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tools: Vec<RawTool>,
    /// `auto`, `none`, `required`, or the name of a tool that has to be called.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tool_choice: Option<String>,
    /// How the model draws its answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sampling: Option<RawSampling>,
    /// What a usable output is. Default: text that is not empty.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output: Option<RawOutput>,
    /// Business rules that hold for a usable output.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rules: Vec<RawRule>,
    /// How sure the output has to be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confidence: Option<RawConfidence>,
    /// Members of the output that a partial answer may not lack: names, or JSON Pointers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mandatory: Vec<String>,
    /// A second model that judges the output.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verifier: Option<Box<RawVerifier>>,
    /// The output of last resort, for the action `fallback_to_template`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub template_output: Option<Value>,
    /// Longest time of the step with all its attempts.
    #[serde(default, skip_serializing_if = "Option::is_none", serialize_with = "duration")]
    pub timeout: Option<DurationText>,
    /// Longest time of one attempt.
    #[serde(default, skip_serializing_if = "Option::is_none", serialize_with = "duration")]
    pub attempt_timeout: Option<DurationText>,
    /// Most provider calls, the first included; 8 unless the policy says otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 32))]
    pub max_attempts: Option<u32>,
    /// Most that all attempts together may cost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0.0))]
    pub max_cost_usd: Option<f64>,
    /// Members laid over the body of the provider's request as they are.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub extra: Map<String, Value>,
}

/// The list that a step goes over.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum RawForEach {
    /// Only the CEL expression of the list.
    Items(String),
    /// The long form.
    Full(RawForEachFull),
}

/// The long form of `for_each`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawForEachFull {
    /// CEL expression of the list.
    pub items: String,
    /// Elements at work at the same time; default 4.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 64))]
    pub parallelism: Option<u32>,
    /// What a failed element does; default `fail`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_element_failure: Option<RawOnElementFailure>,
    /// Longest list; a longer one fails the step. Default 1000.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 10_000))]
    pub max_items: Option<u32>,
}

/// What a failed element of a list does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RawOnElementFailure {
    /// Fails the step and stops the other elements.
    Fail,
    /// Null stands in its place.
    Skip,
    /// `{error: …}` stands in its place.
    Collect,
}

/// The messages of a step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum RawPrompt {
    /// One message of the user.
    Text(String),
    /// Messages in order.
    Messages(Vec<RawMessage>),
}

impl Default for RawPrompt {
    fn default() -> Self {
        Self::Messages(Vec::new())
    }
}

/// One message: exactly one of the three speakers with what is said.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawMessage {
    /// Standing instructions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub system: Option<RawContent>,
    /// What the caller says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<RawContent>,
    /// What the model said before, for examples.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub assistant: Option<RawContent>,
}

/// What is said.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum RawContent {
    /// A text template.
    Text(String),
    /// Parts in order.
    Parts(Vec<RawPart>),
}

/// A piece of a message: exactly one of the three.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawPart {
    /// A text template.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// Template of the URL of an image that the provider fetches.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_url: Option<String>,
    /// An image sent along.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_data: Option<RawImageData>,
}

/// An image sent along.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawImageData {
    /// Template of the IANA media type, `image/png` for example.
    pub media_type: String,
    /// Template of the bytes in standard base64.
    pub data: String,
}

/// A tool that the model may call.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawTool {
    /// Name, `[a-zA-Z0-9_-]{1,64}`.
    pub name: String,
    /// What it does, for the model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// JSON Schema of its arguments; default: an object of anything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parameters: Option<Value>,
}

/// How the model draws its answer; what is left out is the provider's default.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawSampling {
    /// Randomness.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0.0, max = 2.0))]
    pub temperature: Option<f64>,
    /// Nucleus sampling.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub top_p: Option<f64>,
    /// Most tokens of the answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub max_output_tokens: Option<u32>,
    /// Texts at which the model stops.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub stop: Vec<String>,
    /// Seed, where the provider has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seed: Option<i64>,
}

/// What a usable output is: exactly one of the two.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawOutput {
    /// Text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<RawText>,
    /// JSON.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub json: Option<RawJson>,
}

/// Text as an output.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawText {
    /// Fewest characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_chars: Option<u32>,
    /// Most characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_chars: Option<u32>,
}

/// JSON as an output.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawJson {
    /// JSON Schema (drafts 4 to 2020-12, references only within it); without it any JSON value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schema: Option<Value>,
    /// Name of the schema for the provider, `[a-zA-Z0-9_-]{1,64}`; default: the step's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// What is asked of the provider; default `schema` with a schema, else `json`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ask_provider: Option<RawAskProvider>,
}

/// What is asked of the provider so that JSON comes back. The output is checked in any case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RawAskProvider {
    /// That it enforces the schema.
    Schema,
    /// That it writes JSON.
    Json,
    /// Nothing; the prompt has to say it.
    Nothing,
}

/// A business rule.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawRule {
    /// CEL condition over `output`, `input`, `steps`, `skipped` and `run` that holds for a usable
    /// output.
    pub check: String,
    /// What is wrong where it does not hold; shown to the caller and to a model that is asked
    /// again.
    pub message: String,
    /// Whether the output is unusable or only worth a warning; default `error`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub severity: Option<RawRuleSeverity>,
}

/// What a broken rule does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RawRuleSeverity {
    /// The output is unusable.
    Error,
    /// The output is used, with a warning.
    Warning,
}

/// How sure the output has to be.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawConfidence {
    /// CEL expression of a number over `output`, `input`, `steps`, `skipped` and `run`.
    pub expression: String,
    /// Least value.
    pub minimum: f64,
}

/// A second model that judges the output.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawVerifier {
    /// The judging step; its prompt also sees `output`. It may not itself go over a list, be
    /// conditional, need steps or have a verifier.
    pub step: RawStep,
    /// CEL condition over `verdict` (the judging step's output), `output`, `input`, `steps`,
    /// `skipped` and `run` under which the output is accepted.
    pub accept: String,
}

fn duration<S: Serializer>(value: &Option<DurationText>, out: S) -> Result<S::Ok, S::Error> {
    // Seconds as a number, so that `60s` and `1m` are the same pipeline.
    match value {
        Some(duration) => out.serialize_f64(duration.0.as_secs_f64()),
        None => out.serialize_none(),
    }
}
