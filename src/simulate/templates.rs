//! Templates of answers, and the functions that fake an extractor or a classifier.
//!
//! A template sees `prompt` (the last user message), `user` (all user messages: after a re-ask the
//! document is no longer in the last one), `system`, `messages`, `schema`, `model` and `dialect`.
//!
//! | function | gives |
//! | --- | --- |
//! | `words(text)`, `sentences(text)` | lists |
//! | `sentence_with(text, part)` | the first sentence that contains the part |
//! | `find_all(text, pattern)` | what the first group (or all) matches, each once, in order |
//! | `capture(text, pattern)` | the first match of it, or an empty text |
//! | `matches(text, pattern)` | a boolean |
//! | `pick(list, key)`, `number(key, from, to)` | a choice that is always the same for the key |
//! | `at(value, '/a/b')` | a member of a member, or none |
//! | `json(text)` | the value, or none if the text is no JSON |

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use minijinja::{Environment, Error, ErrorKind, UndefinedBehavior, context};
use regex::Regex;
use serde_json::{Map, Value};

use super::ask::Ask;
use super::chance::Luck;
use super::matcher::compile_regex;

/// Steps that a template may take.
const FUEL: u64 = 500_000;

/// The template engine with its functions.
#[derive(Debug, Clone)]
pub struct Templates {
    environment: Arc<Environment<'static>>,
}

impl Default for Templates {
    fn default() -> Self {
        Self::new()
    }
}

impl Templates {
    /// An engine.
    pub fn new() -> Self {
        let mut environment = Environment::new();
        environment.set_undefined_behavior(UndefinedBehavior::Strict);
        environment.set_fuel(Some(FUEL));
        add_functions(&mut environment);
        Self { environment: Arc::new(environment) }
    }

    /// Whether a text is a template.
    ///
    /// # Errors
    /// Says what is wrong with it.
    pub fn check(&self, text: &str) -> Result<(), String> {
        match whole_expression(text) {
            Some(expression) => self.environment.compile_expression(expression).map(|_| ()),
            None => self.environment.template_from_str(text).map(|_| ()),
        }
        .map_err(|error| told(&error))
    }

    /// The same for every text in a value.
    ///
    /// # Errors
    /// Says what is wrong.
    pub fn check_leaves(&self, value: &Value) -> Result<(), String> {
        match value {
            Value::String(text) => self.check(text),
            Value::Array(items) => items.iter().try_for_each(|item| self.check_leaves(item)),
            Value::Object(members) => {
                members.values().try_for_each(|value| self.check_leaves(value))
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => Ok(()),
        }
    }

    /// Renders a text.
    ///
    /// # Errors
    /// The template fails on this ask.
    pub fn render(&self, text: &str, ask: &Ask) -> Result<String, String> {
        let template = self.environment.template_from_str(text).map_err(|error| told(&error))?;
        template.render(variables(ask)).map(|text| text.trim().to_owned()).map_err(|e| told(&e))
    }

    /// Renders every text in a value. A text that is one `{{ expression }}` becomes the value of
    /// that expression, whatever its type.
    ///
    /// # Errors
    /// A template fails on this ask.
    pub fn render_leaves(&self, value: &Value, ask: &Ask) -> Result<Value, String> {
        Ok(match value {
            Value::String(text) => match whole_expression(text) {
                Some(expression) => {
                    let expression = self
                        .environment
                        .compile_expression(expression)
                        .map_err(|error| told(&error))?;
                    let value = expression.eval(variables(ask)).map_err(|error| told(&error))?;
                    serde_json::to_value(&value).map_err(|error| error.to_string())?
                }
                None => Value::String(self.render(text, ask)?),
            },
            Value::Array(items) => Value::Array(
                items.iter().map(|item| self.render_leaves(item, ask)).collect::<Result<_, _>>()?,
            ),
            Value::Object(members) => {
                let mut object = Map::new();
                for (name, value) in members {
                    object.insert(name.clone(), self.render_leaves(value, ask)?);
                }
                Value::Object(object)
            }
            other => other.clone(),
        })
    }
}

fn whole_expression(text: &str) -> Option<&str> {
    let inner = text.trim().strip_prefix("{{")?.strip_suffix("}}")?;
    (!inner.contains("{{") && !inner.contains("}}")).then(|| inner.trim())
}

fn told(error: &Error) -> String {
    let reason = error.detail().map_or_else(|| error.kind().to_string(), str::to_owned);
    match error.line() {
        Some(line) => format!("template line {line}: {reason}"),
        None => format!("template: {reason}"),
    }
}

fn variables(ask: &Ask) -> minijinja::Value {
    let messages: Vec<_> = ask
        .messages
        .iter()
        .map(|message| context! { role => message.role, text => &message.text })
        .collect();
    let user: Vec<&str> = ask
        .messages
        .iter()
        .filter(|message| message.role == "user")
        .map(|message| message.text.as_str())
        .collect();
    context! {
        prompt => &ask.prompt,
        user => user.join("\n\n"),
        system => &ask.system,
        messages => messages,
        schema => ask.schema.as_ref().map(to_template),
        model => &ask.model,
        dialect => ask.dialect.name(),
    }
}

/// serde_json writes a number of arbitrary precision as a map, so values are carried over by hand.
fn to_template(value: &Value) -> minijinja::Value {
    match value {
        Value::Null => minijinja::Value::from(()),
        Value::Bool(value) => (*value).into(),
        Value::Number(number) => match number.as_i64() {
            Some(number) => number.into(),
            None => number.as_f64().unwrap_or_default().into(),
        },
        Value::String(text) => text.as_str().into(),
        Value::Array(items) => items.iter().map(to_template).collect::<Vec<_>>().into(),
        Value::Object(members) => minijinja::Value::from_pairs(
            members.iter().map(|(name, value)| (name.as_str(), to_template(value))),
        ),
    }
}

/// The functions, for making up what an extractor or a classifier would find.
fn add_functions(environment: &mut Environment<'static>) {
    let cache = PatternCache::default();
    environment.add_function("words", |text: &str| -> Vec<String> {
        text.split(|c: char| !c.is_alphanumeric() && c != '-' && c != '\'')
            .filter(|word| !word.is_empty())
            .map(str::to_owned)
            .collect()
    });
    environment.add_function("sentences", |text: &str| -> Vec<String> { sentences(text) });
    environment.add_function("sentence_with", |text: &str, part: &str| -> String {
        sentences(text).into_iter().find(|s| s.contains(part)).unwrap_or_default()
    });
    let patterns = cache.clone();
    environment.add_function("find_all", move |text: &str, pattern: &str| {
        let regex = patterns.get(pattern)?;
        let mut found: Vec<String> = Vec::new();
        for captures in regex.captures_iter(text).take(1_000) {
            let part = captures.get(1).or_else(|| captures.get(0));
            if let Some(part) = part.map(|part| part.as_str())
                && !found.iter().any(|known| known == part)
            {
                found.push(part.to_owned());
            }
        }
        Ok::<_, Error>(found)
    });
    let patterns = cache.clone();
    environment.add_function("capture", move |text: &str, pattern: &str| {
        let captures = patterns.get(pattern)?.captures(text).map(|captures| {
            captures.get(1).or_else(|| captures.get(0)).map_or("", |part| part.as_str()).to_owned()
        });
        Ok::<_, Error>(captures.unwrap_or_default())
    });
    environment.add_function("matches", move |text: &str, pattern: &str| {
        Ok::<_, Error>(cache.get(pattern)?.is_match(text))
    });
    environment.add_function("pick", |items: Vec<minijinja::Value>, key: &str| {
        let idx = Luck::seeded(0).of_text(key).below(items.len() as u64);
        items.get(usize::try_from(idx).unwrap_or(0)).cloned().unwrap_or_default()
    });
    environment.add_function("number", |key: &str, from: f64, to: f64| -> f64 {
        let drawn = from + (to - from) * Luck::seeded(0).of_text(key).share();
        (drawn * 100.0).round() / 100.0
    });
    environment.add_function("at", |value: minijinja::Value, pointer: &str| {
        // Strict templates cannot look into what may not be there; this can.
        pointer.split('/').skip(1).try_fold(value, |value, key| {
            value.get_attr(key).ok().filter(|member| !member.is_undefined())
        })
    });
    environment.add_function("json", |text: &str| {
        serde_json::from_str::<Value>(text).map_or_else(|_| ().into(), |value| to_template(&value))
    });
}

fn sentences(text: &str) -> Vec<String> {
    let flat = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let mut sentences = Vec::new();
    let mut start = 0;
    for (at, _) in flat.match_indices(['.', '!', '?']) {
        // An end is followed by a space and a capital; so times, versions and names stay whole.
        let mut next = flat[at + 1..].chars();
        let ends = match (next.next(), next.next()) {
            (None, _) => true,
            (Some(' '), Some(c)) => c.is_uppercase() || c.is_ascii_digit(),
            _ => false,
        };
        if ends {
            sentences.push(flat[start..=at].trim().to_owned());
            start = at + 1;
        }
    }
    let rest = flat[start..].trim();
    if !rest.is_empty() {
        sentences.push(rest.to_owned());
    }
    sentences
}

/// Patterns of templates, compiled once. Bounded: templates can make patterns from prompts.
#[derive(Debug, Clone, Default)]
struct PatternCache(Arc<Mutex<HashMap<String, Regex>>>);

impl PatternCache {
    const PATTERNS_MAX: usize = 256;

    fn get(&self, pattern: &str) -> Result<Regex, Error> {
        let mut patterns = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(regex) = patterns.get(pattern) {
            return Ok(regex.clone());
        }
        let regex = compile_regex(pattern)
            .map_err(|reason| Error::new(ErrorKind::InvalidOperation, reason))?;
        if patterns.len() >= Self::PATTERNS_MAX {
            patterns.clear();
        }
        patterns.insert(pattern.to_owned(), regex.clone());
        Ok(regex)
    }
}
