//! JSON inside a string.

use serde_json::Value;

use super::budget::Budget;
use super::reader::{self, Head};
use super::{fence, strict};

/// A structure that was found in a string.
#[derive(Debug)]
pub(super) struct Decoded {
    pub value: Value,
    pub lossy: bool,
}

const LAYERS_MAX: usize = 3;

/// Decodes a text that is JSON, in up to three layers of strings, and begins with `opener`.
/// Called only where a schema wants that structure: anywhere else a string is a string.
pub(super) fn structure(text: &str, opener: char) -> Option<Decoded> {
    let mut text = std::borrow::Cow::Borrowed(text);
    for _ in 0..LAYERS_MAX {
        let inner = fence::strip_fences(&text);
        if inner.starts_with(opener) {
            return read(inner);
        }
        if !inner.starts_with('"') {
            return None;
        }
        match strict::parse(inner).ok()?.value {
            Value::String(next) => text = std::borrow::Cow::Owned(next),
            _ => return None,
        }
    }
    None
}

fn read(text: &str) -> Option<Decoded> {
    if let Ok(parsed) = strict::parse(text) {
        return Some(Decoded { value: parsed.value, lossy: !parsed.duplicates.is_empty() });
    }
    let mut budget = Budget::for_length(text.len());
    let reading = reader::read(text, 0, Head::Bracket, &mut budget).ok()?;
    let whole = text[reading.end..].trim().is_empty();
    whole.then_some(Decoded { value: reading.value, lossy: reading.changes.is_lossy() })
}
