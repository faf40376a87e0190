//! What a scalar stands for: YAML 1.2 core schema (YAML 1.2.2, section 10.3.2).

use std::borrow::Cow;

use granit_parser::{ScalarStyle, Tag};
use serde_json::{Number, Value};

use super::NodeValue;

/// What a scalar with no quotes and no tag of its own says, quoted text being just that.
///
/// # Errors
/// Why it stands for nothing: a tag that it does not fit, or a number that JSON cannot hold.
pub(super) fn resolve(
    text: Cow<'_, str>,
    style: ScalarStyle,
    tag: Option<&Tag>,
) -> Result<NodeValue, String> {
    match tag.map(kind) {
        None if style == ScalarStyle::Plain => plain(text),
        None | Some(Kind::Text) => Ok(NodeValue::Text(text.into_owned())),
        Some(Kind::Typed(name)) => {
            // The library knows what may stand behind these; they are too rare to be fast.
            let value = by_library(&format!("!!{name} {}", Value::from(&*text)));
            value.ok_or_else(|| format!("is tagged !!{name} and is not one"))
        }
        Some(Kind::Unknown) => Err("has a tag; only YAML's own are known here".to_owned()),
    }
}

enum Kind {
    Text,
    Typed(&'static str),
    Unknown,
}

fn kind(tag: &Tag) -> Kind {
    match (tag.core_suffix(), tag.parts()) {
        (Some("str"), _) | (None, ("", "!") | ("!", "")) => Kind::Text,
        (Some("int"), _) => Kind::Typed("int"),
        (Some("float"), _) => Kind::Typed("float"),
        (Some("bool"), _) => Kind::Typed("bool"),
        (Some("null"), _) => Kind::Typed("null"),
        (Some(_) | None, _) => Kind::Unknown,
    }
}

/// True for tags that say that a scalar is text.
pub(super) fn is_text(tag: &Tag) -> bool {
    matches!(kind(tag), Kind::Text)
}

/// True for the spellings of nothing.
pub(super) fn is_null(text: &str) -> bool {
    matches!(text, "" | "~" | "null" | "Null" | "NULL")
}

fn plain(text: Cow<'_, str>) -> Result<NodeValue, String> {
    Ok(match &*text {
        nothing if is_null(nothing) => NodeValue::Null,
        "true" | "True" | "TRUE" => NodeValue::Bool(true),
        "false" | "False" | "FALSE" => NodeValue::Bool(false),
        number if looks_like_number(number) => match common_number(number) {
            Some(number) => NodeValue::Number(number),
            // Hexadecimal, octal, digits in groups, `.5`, `.inf`: what the library takes for one.
            None => by_library(number)
                .ok_or_else(|| format!("`{number}` is not a number that JSON can hold"))?,
        },
        _ => NodeValue::Text(text.into_owned()),
    })
}

/// Letters count, for `0x1f` and `1e9`; what holds anything else can only be text.
fn looks_like_number(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_digit() || matches!(c, '+' | '-' | '.'))
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.' | b'_'))
        && text.bytes().any(|b| b.is_ascii_alphanumeric())
}

/// A decimal number without a leading zero, a plus or gaps, as JSON writes it.
fn common_number(text: &str) -> Option<Number> {
    let unsigned = text.strip_prefix('-').unwrap_or(text);
    let whole = unsigned.bytes().take_while(u8::is_ascii_digit).count();
    if whole == 0 || (whole > 1 && unsigned.starts_with('0')) {
        return None;
    }
    let rest = &unsigned[whole..];
    if rest.is_empty() {
        return match text.parse::<u64>() {
            Ok(number) => Some(number.into()),
            Err(_) => text.parse::<i64>().ok().filter(|number| *number != 0).map(Into::into),
        };
    }
    let digits = rest.strip_prefix('.')?;
    let decimal = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    decimal.then(|| text.parse().ok().and_then(Number::from_f64)).flatten()
}

fn by_library(text: &str) -> Option<NodeValue> {
    let options = serde_saphyr::options! { strict_booleans: true };
    match serde_saphyr::from_str_with_options(text, options).ok()? {
        Value::Null => Some(NodeValue::Null),
        Value::Bool(value) => Some(NodeValue::Bool(value)),
        Value::Number(value) => Some(NodeValue::Number(value)),
        Value::String(text) => Some(NodeValue::Text(text)),
        // No scalar is one of these.
        Value::Array(_) | Value::Object(_) => None,
    }
}
