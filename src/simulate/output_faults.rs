//! What models do to an answer that was good.

use serde_json::{Value, json};

use super::answers::{Answer, Finish};
use super::chance::Luck;
use super::faults::{Breakage, OutputFault, Violation};
use super::matcher::compile_regex;

/// Spoils an answer. Of a tool call the arguments are spoilt.
pub fn apply(fault: OutputFault, answer: &mut Answer, schema: Option<&Value>, luck: Luck) {
    let content = match &mut answer.tool_call {
        Some(call) => &mut call.arguments,
        None => &mut answer.text,
    };
    match fault {
        OutputFault::Fence => *content = format!("```json\n{content}\n```"),
        OutputFault::Prose => {
            *content = format!(
                "Sure! Here is the JSON you asked for:\n\n{content}\n\n\
                 Let me know if you need anything else."
            );
        }
        OutputFault::Think => {
            *content = format!(
                "<think>\nThe user wants JSON, such as {{\"draft\": true}}. \
                 Let me write it.\n</think>\n\n{content}"
            );
        }
        OutputFault::Duplicate => *content = format!("{content}\n{content}"),
        OutputFault::Truncated { keep } => {
            cut(content, keep);
            answer.finish = Finish::Length;
        }
        OutputFault::Filtered => {
            cut(content, 0.5);
            answer.finish = Finish::Filtered;
        }
        OutputFault::BrokenJson(breakage) => *content = broken(content, breakage, luck),
        OutputFault::SchemaViolation(violation) => {
            *content = violating(content, violation, schema, luck);
        }
        OutputFault::Endless { bytes_max } => {
            if content.is_empty() {
                content.push_str("and so on");
            }
            content.push(' ');
            answer.endless = Some(bytes_max);
        }
        OutputFault::Refusal => {
            *answer = Answer {
                text: "I'm sorry, but I can't help with that.".to_owned(),
                finish: Finish::Refusal,
                ..Answer::default()
            };
        }
        OutputFault::Empty => *answer = Answer::default(),
    }
}

/// Keeps a share of the characters, and never all of them.
#[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)]
fn cut(text: &mut String, keep: f64) {
    let chars = text.chars().count();
    let kept = ((chars as f64 * keep) as usize).min(chars.saturating_sub(1));
    *text = text.chars().take(kept).collect();
}

fn broken(text: &str, breakage: Breakage, luck: Luck) -> String {
    let broken = match breakage {
        Breakage::TrailingComma => match text.rfind(['}', ']']) {
            Some(at) => format!("{},{}", &text[..at], &text[at..]),
            None => format!("{text},"),
        },
        Breakage::SingleQuotes => text
            .replace("\\\"", "\u{1}")
            .replace('\'', "\\'")
            .replace('"', "'")
            .replace('\u{1}', "\""),
        Breakage::MissingBrace => text.trim_end().trim_end_matches(['}', ']']).to_owned(),
        Breakage::Comment => match text.find(['{', '[']) {
            Some(at) => format!("{} // as requested\n{}", &text[..=at], &text[at + 1..]),
            None => format!("// as requested\n{text}"),
        },
        Breakage::RawNewline => raw_newline(text),
        Breakage::BareKeys => match compile_regex(r#""([A-Za-z_]\w*)"\s*:"#) {
            Ok(keys) => keys.replace_all(text, "$1:").into_owned(),
            Err(_) => text.to_owned(),
        },
        Breakage::Any => {
            const ALL: [Breakage; 6] = [
                Breakage::TrailingComma,
                Breakage::SingleQuotes,
                Breakage::MissingBrace,
                Breakage::Comment,
                Breakage::RawNewline,
                Breakage::BareKeys,
            ];
            let idx = usize::try_from(luck.below(ALL.len() as u64)).unwrap_or(0);
            return broken(text, ALL[idx], luck);
        }
    };
    // A number or a word may survive all this; it must not.
    if serde_json::from_str::<Value>(&broken).is_ok() { format!("{{{broken}") } else { broken }
}

/// A line end in place of the first space inside a string, else behind its first character.
fn raw_newline(text: &str) -> String {
    let mut in_text = false;
    let mut escaped = false;
    for (at, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => in_text = !in_text,
            ' ' if in_text => return format!("{}\n{}", &text[..at], &text[at + 1..]),
            _ => (),
        }
    }
    match text.find('"') {
        Some(at) => format!("{}\n{}", &text[..=at], &text[at + 1..]),
        None => format!("\"\n{text}"),
    }
}

fn violating(text: &str, violation: Violation, schema: Option<&Value>, luck: Luck) -> String {
    let Ok(mut value) = serde_json::from_str::<Value>(text) else {
        return text.to_owned();
    };
    let root = schema.cloned().unwrap_or(Value::Null);
    let violation = match violation {
        Violation::Any => {
            const ALL: [Violation; 4] = [
                Violation::DropRequired,
                Violation::WrongType,
                Violation::EnumCase,
                Violation::ExtraField,
            ];
            ALL[usize::try_from(luck.below(ALL.len() as u64)).unwrap_or(0)]
        }
        given => given,
    };
    match violation {
        Violation::EnumCase => {
            if !shout_enum(&mut value, &root, &root, 0) {
                drop_required(&mut value, &root, luck);
            }
        }
        Violation::WrongType => wrong_type(&mut value, luck),
        Violation::ExtraField => match &mut value {
            Value::Object(members) => {
                members.insert("unexpected_note".to_owned(), json!("not in the schema"));
            }
            other => *other = json!({ "unexpected_note": other.take() }),
        },
        Violation::DropRequired | Violation::Any => drop_required(&mut value, &root, luck),
    }
    value.to_string()
}

fn drop_required(value: &mut Value, schema: &Value, luck: Luck) {
    let Value::Object(members) = value else {
        *value = json!({});
        return;
    };
    let required: Vec<String> = schema
        .get("required")
        .and_then(Value::as_array)
        .map(|names| names.iter().filter_map(Value::as_str).map(str::to_owned).collect())
        .unwrap_or_else(|| members.keys().cloned().collect());
    if let Some(name) =
        required.get(usize::try_from(luck.below(required.len() as u64)).unwrap_or(0))
    {
        members.shift_remove(name);
    }
}

fn wrong_type(value: &mut Value, luck: Luck) {
    let slot = match value {
        Value::Object(members) => {
            let idx = usize::try_from(luck.below(members.len() as u64)).unwrap_or(0);
            match members.values_mut().nth(idx) {
                Some(member) => member,
                None => return,
            }
        }
        other => other,
    };
    *slot = match slot {
        Value::String(_) => json!({ "value": slot.take() }),
        Value::Number(_) | Value::Bool(_) | Value::Null => json!("about a dozen"),
        Value::Array(_) | Value::Object(_) => json!("see above"),
    };
}

/// Puts the first value of an enum into another case; without letters, into a word of its own.
fn shout_enum(value: &mut Value, schema: &Value, root: &Value, depth: u32) -> bool {
    if depth > 32 {
        return false;
    }
    if let Some(pointer) = schema.get("$ref").and_then(Value::as_str) {
        let target = pointer.strip_prefix('#').and_then(|pointer| root.pointer(pointer));
        return target.is_some_and(|target| shout_enum(value, target, root, depth + 1));
    }
    if let Some(allowed) = schema.get("enum").and_then(Value::as_array) {
        let shouted =
            value.as_str().map_or_else(|| json!("UNHEARD_OF"), |t| json!(t.to_uppercase()));
        *value = if allowed.contains(&shouted) { json!("UNHEARD_OF") } else { shouted };
        return true;
    }
    match value {
        Value::Object(members) => members.iter_mut().any(|(name, member)| {
            let property = schema.get("properties").and_then(|all| all.get(name));
            property.is_some_and(|schema| shout_enum(member, schema, root, depth + 1))
        }),
        Value::Array(items) => schema.get("items").is_some_and(|schema| {
            items.iter_mut().any(|item| shout_enum(item, schema, root, depth + 1))
        }),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::super::answers::ToolCall;
    use super::*;

    const GOOD: &str = r#"{"name":"Ann Lee's \"Bar\"","kind":"person","age":41}"#;

    fn spoilt(fault: OutputFault) -> String {
        let schema = json!({"required": ["age"], "properties": {"kind": {"enum": ["person"]}}});
        let mut answer = Answer { text: GOOD.to_owned(), ..Answer::default() };
        apply(fault, &mut answer, Some(&schema), Luck::seeded(1));
        answer.text
    }

    #[test]
    fn wrappings_keep_the_answer() {
        for fault in [OutputFault::Fence, OutputFault::Prose, OutputFault::Think] {
            let text = spoilt(fault);
            assert!(text.contains(GOOD) && text != GOOD, "{text}");
        }
        assert_eq!(spoilt(OutputFault::Fence), format!("```json\n{GOOD}\n```"));
    }

    #[test]
    fn broken_json_never_parses() {
        let kinds = [
            Breakage::TrailingComma,
            Breakage::SingleQuotes,
            Breakage::MissingBrace,
            Breakage::Comment,
            Breakage::RawNewline,
            Breakage::BareKeys,
            Breakage::Any,
        ];
        for kind in kinds {
            for text in [GOOD, "[1]", "7", "true", "\"x\"", "", "{}", "[\"a b\"]"] {
                let broken = broken(text, kind, Luck::seeded(4));
                assert!(serde_json::from_str::<Value>(&broken).is_err(), "{kind:?}: {broken}");
            }
        }
        assert!(broken(GOOD, Breakage::SingleQuotes, Luck::seeded(0)).contains("Lee\\'s \"Bar\""));
        assert!(broken(GOOD, Breakage::TrailingComma, Luck::seeded(0)).ends_with("41,}"));
    }

    #[test]
    fn violations_parse_and_violate() {
        let value = |kind| {
            let text = spoilt(OutputFault::SchemaViolation(kind));
            serde_json::from_str::<Value>(&text).unwrap()
        };
        assert!(value(Violation::DropRequired).get("age").is_none());
        assert_eq!(value(Violation::EnumCase)["kind"], json!("PERSON"));
        assert!(value(Violation::ExtraField).get("unexpected_note").is_some());
        let good: Value = serde_json::from_str(GOOD).unwrap();
        assert_ne!(value(Violation::WrongType), good);
        assert_ne!(value(Violation::Any), good);
    }

    #[test]
    fn arguments_of_tools_are_spoilt_too() {
        let call = ToolCall { name: "f".into(), arguments: "{\"a\":1}".into() };
        let mut answer = Answer { tool_call: Some(call), ..Answer::default() };
        let fault = OutputFault::BrokenJson(Breakage::MissingBrace);
        apply(fault, &mut answer, None, Luck::seeded(1));
        assert_eq!(answer.tool_call.unwrap().arguments, "{\"a\":1");
    }

    #[test]
    fn cuts_leave_whole_characters() {
        let mut text = "aäöü".to_owned();
        cut(&mut text, 0.5);
        assert_eq!(text, "aä");
        cut(&mut text, 1.0);
        assert_eq!(text, "a");
    }
}
