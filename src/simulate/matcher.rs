//! Which requests a rule is for.

use std::collections::BTreeMap;

use regex::{Regex, RegexBuilder};
use serde::Deserialize;
use serde_json::Value;

use super::ask::{Ask, Dialect};

/// Headers that a script may not look at.
pub const CREDENTIAL_HEADERS: [&str; 5] =
    ["authorization", "x-api-key", "api-key", "x-goog-api-key", "cookie"];

/// A condition as written. All that is given must hold; an empty one always holds.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WhenDocument {
    /// The last user message contains this, whatever the case.
    #[serde(default)]
    contains: Option<String>,
    /// The system text contains this, whatever the case.
    #[serde(default)]
    system: Option<String>,
    /// The last user message matches this.
    #[serde(default)]
    regex: Option<String>,
    /// The requested schema has a property of this name, at any depth.
    #[serde(default)]
    schema_has: Option<String>,
    /// A tool of this name is declared.
    #[serde(default)]
    tool: Option<String>,
    /// These headers contain these texts.
    #[serde(default)]
    header: BTreeMap<String, String>,
    /// A stream is asked for, or not.
    #[serde(default)]
    stream: Option<bool>,
    /// The dialect spoken.
    #[serde(default)]
    dialect: Option<Dialect>,
    /// This does not hold.
    #[serde(default)]
    not: Option<Box<WhenDocument>>,
}

/// A condition, ready for use.
#[derive(Debug, Clone, Default)]
pub struct When {
    contains: Option<String>,
    system: Option<String>,
    regex: Option<Regex>,
    schema_has: Option<String>,
    tool: Option<String>,
    header: BTreeMap<String, String>,
    stream: Option<bool>,
    dialect: Option<Dialect>,
    not: Option<Box<When>>,
}

impl When {
    /// Reads a condition.
    ///
    /// # Errors
    /// Says which part cannot be used.
    pub fn compile(document: WhenDocument) -> Result<Self, String> {
        let mut header = BTreeMap::new();
        for (name, text) in document.header {
            let name = name.to_ascii_lowercase();
            if CREDENTIAL_HEADERS.contains(&name.as_str()) {
                return Err(format!("`{name}` may hold a credential and cannot be matched"));
            }
            header.insert(name, text);
        }
        Ok(Self {
            contains: document.contains.map(|text| text.to_lowercase()),
            system: document.system.map(|text| text.to_lowercase()),
            regex: document.regex.as_deref().map(compile_regex).transpose()?,
            schema_has: document.schema_has,
            tool: document.tool,
            header,
            stream: document.stream,
            dialect: document.dialect,
            not: document.not.map(|not| Self::compile(*not)).transpose()?.map(Box::new),
        })
    }

    /// Whether the condition holds.
    pub fn matches(&self, ask: &Ask) -> bool {
        let has = |text: &Option<String>, within: &str| {
            text.as_ref().is_none_or(|text| within.to_lowercase().contains(text.as_str()))
        };
        has(&self.contains, &ask.prompt)
            && has(&self.system, &ask.system)
            && self.regex.as_ref().is_none_or(|regex| regex.is_match(&ask.prompt))
            && self.schema_has.as_ref().is_none_or(|name| {
                ask.schema.as_ref().is_some_and(|schema| has_property(schema, name))
            })
            && self.tool.as_ref().is_none_or(|name| ask.tools.iter().any(|tool| tool.name == *name))
            && self.header.iter().all(|(name, text)| {
                ask.headers.get(name).is_some_and(|value| value.contains(text.as_str()))
            })
            && self.stream.is_none_or(|stream| stream == ask.stream)
            && self.dialect.is_none_or(|dialect| dialect == ask.dialect)
            && self.not.as_ref().is_none_or(|not| !not.matches(ask))
    }
}

/// Compiles a pattern with limits on its size.
///
/// # Errors
/// The pattern is not a regular expression or too large.
pub fn compile_regex(pattern: &str) -> Result<Regex, String> {
    RegexBuilder::new(pattern).size_limit(1 << 20).build().map_err(|error| {
        let text = error.to_string();
        let reason = text.lines().last().unwrap_or_default().trim_start_matches("error: ");
        format!("`{pattern}` is not a regular expression: {reason}")
    })
}

/// Request bodies are parsed by serde_json, which stops at depth 128, so the recursion is bounded.
fn has_property(schema: &Value, name: &str) -> bool {
    match schema {
        Value::Object(members) => members.iter().any(|(key, value)| {
            (key == "properties" && value.get(name).is_some()) || has_property(value, name)
        }),
        Value::Array(items) => items.iter().any(|item| has_property(item, name)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[track_caller]
    fn check(yaml: &str, expected: bool) {
        let when = When::compile(serde_saphyr::from_str(yaml).unwrap()).unwrap();
        let mut ask = Ask::new(Dialect::Anthropic, "m");
        ask.say("system", "Please EXTRACT all entities".into());
        ask.say("user", "The ledger failed at 09:14".into());
        ask.schema =
            Some(json!({"properties": {"entities": {"items": {"properties": {"kind": {}}}}}}));
        ask.headers.insert("x-step".into(), "extract".into());
        assert_eq!(when.matches(&ask), expected, "{yaml}");
    }

    #[test]
    fn conditions() {
        check("{}", true);
        check("contains: LEDGER", true);
        check("contains: router", false);
        check("system: extract", true);
        check("regex: '\\d\\d:\\d\\d'", true);
        check("regex: '^ledger'", false);
        check("schema_has: kind", true);
        check("schema_has: role", false);
        check("header: {X-Step: extract}", true);
        check("header: {x-step: classify}", false);
        check("stream: true", false);
        check("dialect: anthropic", true);
        check("{system: extract, contains: router}", false);
        check("not: {contains: router}", true);
        check("not: {contains: ledger}", false);
    }

    #[test]
    fn credentials_cannot_be_matched() {
        let document = serde_saphyr::from_str("header: {Authorization: x}").unwrap();
        assert!(When::compile(document).unwrap_err().contains("credential"));
    }
}
