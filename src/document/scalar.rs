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

/// What may be a number; all else is text. Durations such as `250ms` are the most common texts that
/// begin with a digit, so they are told apart here and not by the library.
fn looks_like_number(text: &str) -> bool {
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    if !unsigned.starts_with(|c: char| c.is_ascii_digit() || c == '.') {
        return false;
    }
    let prefix = |prefixes: [&str; 6]| prefixes.iter().find_map(|p| unsigned.strip_prefix(p));
    if let Some(digits) = prefix(["0x", "0X", "0o", "0O", "0b", "0B"]) {
        return digits.bytes().all(|b| b.is_ascii_hexdigit() || b == b'_');
    }
    let decimal = |b: u8| b.is_ascii_digit() || b"._eE+-".contains(&b);
    matches!(unsigned, ".inf" | ".Inf" | ".INF" | ".nan" | ".NaN" | ".NAN")
        || unsigned.bytes().all(decimal) && unsigned.bytes().any(|b| b.is_ascii_digit())
}

/// A decimal number without gaps and exponent. With leading zeros it is decimal too (YAML 1.2.2,
/// section 10.3.2), for which the library has a float.
fn common_number(text: &str) -> Option<Number> {
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let (whole, fraction) = unsigned.split_once('.').unwrap_or((unsigned, "0"));
    let are_digits = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    if !are_digits(whole) || !are_digits(fraction) {
        return None;
    }
    if unsigned.contains('.') {
        return text.parse().ok().and_then(Number::from_f64);
    }
    match text.parse::<u64>() {
        Ok(number) => Some(number.into()),
        // Zero with a sign is zero.
        Err(_) => text.parse::<i64>().ok().map(Into::into),
    }
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
