//! What a model that works would say.

use serde::Deserialize;
use serde_json::{Map, Value};

use super::ask::Ask;
use super::chance::Luck;
use super::matcher::{When, WhenDocument};
use super::schema_answer;
use super::templates::Templates;

/// An answer, in no provider's words.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Answer {
    /// The text.
    pub text: String,
    /// A tool that is called in place of the text.
    pub tool_call: Option<ToolCall>,
    /// Why it ends.
    pub finish: Finish,
    /// The text goes on from its start again and again, up to this many bytes.
    pub endless: Option<usize>,
}

/// A tool call of the model.
#[derive(Debug, Clone, PartialEq)]
pub struct ToolCall {
    /// Name.
    pub name: String,
    /// JSON text, or what a fault made of it.
    pub arguments: String,
}

/// Why an answer ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Finish {
    /// The model was done.
    #[default]
    Stop,
    /// The output budget ran out.
    Length,
    /// The filter stopped it.
    Filtered,
    /// The model declines; the text is its refusal.
    Refusal,
}

/// An answer as written.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AnswerDocument {
    #[serde(default)]
    when: WhenDocument,
    #[serde(default)]
    text: Option<String>,
    #[serde(default)]
    json: Option<Value>,
    #[serde(default)]
    tool_call: Option<ToolCallDocument>,
}

/// A tool call as written.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct ToolCallDocument {
    name: String,
    #[serde(default)]
    arguments: Value,
}

/// An answer with its condition.
#[derive(Debug, Clone)]
pub struct AnswerRule {
    when: When,
    form: Form,
}

#[derive(Debug, Clone)]
enum Form {
    Text(String),
    Json(Value),
    ToolCall { name: String, arguments: Value },
}

impl AnswerRule {
    /// Reads an answer.
    ///
    /// # Errors
    /// Says what cannot be used.
    pub fn compile(document: AnswerDocument, templates: &Templates) -> Result<Self, String> {
        let form = match (document.text, document.json, document.tool_call) {
            (Some(text), None, None) => Form::Text(text),
            (None, Some(json), None) => Form::Json(json),
            (None, None, Some(call)) => {
                Form::ToolCall { name: call.name, arguments: call.arguments }
            }
            _ => return Err("an answer has one of `text`, `json` and `tool_call`".to_owned()),
        };
        match &form {
            Form::Text(text) => templates.check(text)?,
            Form::Json(json) | Form::ToolCall { arguments: json, .. } => {
                templates.check_leaves(json)?;
            }
        }
        Ok(Self { when: When::compile(document.when)?, form })
    }
}

/// The answer to an ask, and which rule gave it: the first one whose condition holds; without one
/// the schema gives it; without a schema it is an echo.
///
/// # Errors
/// A template failed.
pub fn answer(
    rules: &[AnswerRule],
    templates: &Templates,
    ask: &Ask,
    luck: Luck,
) -> Result<(Answer, Option<usize>), String> {
    let found = rules.iter().enumerate().find(|(_, rule)| rule.when.matches(ask));
    let Some((idx, rule)) = found else {
        return Ok((made_up(ask, luck), None));
    };
    let answer = match &rule.form {
        Form::Text(text) => delivered(ask, templates.render(text, ask)?),
        Form::Json(json) => delivered(ask, templates.render_leaves(json, ask)?.to_string()),
        Form::ToolCall { name, arguments } => {
            let arguments = templates.render_leaves(arguments, ask)?.to_string();
            tool_call(name.clone(), arguments)
        }
    };
    Ok((answer, Some(idx)))
}

/// Text as the request wants it: in the call of a tool if one must be called.
fn delivered(ask: &Ask, text: String) -> Answer {
    match &ask.tool_forced {
        Some(name) => tool_call(name.clone(), text),
        None => Answer { text, ..Answer::default() },
    }
}

fn tool_call(name: String, arguments: String) -> Answer {
    Answer { tool_call: Some(ToolCall { name, arguments }), ..Answer::default() }
}

fn made_up(ask: &Ask, luck: Luck) -> Answer {
    if let Some(name) = &ask.tool_forced {
        let tool = ask.tools.iter().find(|tool| tool.name == *name);
        let schema = tool.map_or(Value::Null, |tool| tool.schema.clone());
        return tool_call(name.clone(), schema_answer::answer(&schema, luck).to_string());
    }
    let text = match &ask.schema {
        Some(schema) => schema_answer::answer(schema, luck).to_string(),
        None if ask.json_mode => {
            let mut object = Map::new();
            object.insert("answer".to_owned(), Value::String(echo(ask)));
            Value::Object(object).to_string()
        }
        None => echo(ask),
    };
    Answer { text, ..Answer::default() }
}

fn echo(ask: &Ask) -> String {
    let words: Vec<&str> = ask.prompt.split_whitespace().collect();
    let begin = words.iter().take(12).copied().collect::<Vec<_>>().join(" ");
    let more = if words.len() > 12 { " …" } else { "" };
    format!("Simulated answer of {} to {} words: {begin}{more}", ask.model, words.len())
}
