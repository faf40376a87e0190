//! What is left when no bracket opens an answer: a bare scalar, items without brackets, an
//! answer whose opening bracket is missing.
//!
//! Only the whole text counts here. A word that is picked out of a sentence is no answer: the
//! sentence may have said the opposite.

use serde_json::Value;

use super::budget::Budget;
use super::change::{ChangeKind, Changes};
use super::choose::Accepted;
use super::extract::{Candidate, Found, Rank};
use super::fence;
use super::reader::{self, Head, is_blank};
use super::recover::{Wanted, accept};
use super::strict;

const SCALAR_BYTES_MAX: usize = 200;

/// Tries what needs the whole text.
pub(super) fn read(
    text: &str,
    found: &Found,
    wanted: Wanted<'_>,
    budget: &mut Budget,
) -> Option<Accepted> {
    let bare = fence::strip_fences(text);
    let bare = bare.trim_matches(is_blank);
    if bare.is_empty() {
        return None;
    }
    items(bare, wanted)
        .or_else(|| headless(bare, wanted, budget))
        .or_else(|| scalar(bare, found, wanted))
}

/// `1, 2, 3` for a list.
fn items(text: &str, wanted: Wanted<'_>) -> Option<Accepted> {
    if !wanted.only("array") || !text.contains(',') || text.ends_with([']', '}']) {
        return None;
    }
    let list = format!("[{text}]");
    let parsed = strict::parse(&list).ok()?;
    let several = parsed.value.as_array().is_some_and(|items| items.len() > 1);
    several.then(|| judge(parsed.value, ChangeKind::ValuesCollected, text, wanted)).flatten()
}

/// `"a": 1, "b": 2}` and `"x", "y"]`: the opening bracket was prefilled, or lost.
fn headless(text: &str, wanted: Wanted<'_>, budget: &mut Budget) -> Option<Accepted> {
    if !text.starts_with('"') {
        return None;
    }
    let (_, end) = strict::string_at(text, 1).ok()?;
    let head = match text[end..].trim_start_matches(is_blank).chars().next()? {
        ':' => Head::Members,
        ',' if wanted.only("array") || text.ends_with(']') => Head::Items,
        _ => return None,
    };
    let reading = reader::read(text, 0, head, budget).ok()?;
    if !text[reading.end..].chars().all(|c| is_blank(c) || matches!(c, '}' | ']')) {
        return None;
    }
    let mut candidate = Candidate {
        value: reading.value,
        changes: reading.changes,
        start: 0,
        end: text.len(),
        open: reading.open,
        rank: Rank::Prose,
        inside: false,
    };
    accept(&mut candidate, wanted)
}

/// `True` for a boolean, `TWO` for an enum: the whole text is the value.
fn scalar(text: &str, found: &Found, wanted: Wanted<'_>) -> Option<Accepted> {
    wanted.schema?;
    if text.len() > SCALAR_BYTES_MAX || !found.candidates.is_empty() || wanted.only("string") {
        return None;
    }
    let bare =
        text.trim_matches(|c: char| is_blank(c) || matches!(c, '*' | '`' | '"' | '\'' | '“' | '”'));
    let bare = bare.strip_suffix('.').filter(|rest| !rest.ends_with('.')).unwrap_or(bare);
    if bare.is_empty() || wanted.only("object") || wanted.only("array") {
        return None;
    }
    let value = match strict::parse(bare) {
        Ok(parsed) => parsed.value,
        Err(_) => Value::String(bare.to_owned()),
    };
    judge(value, ChangeKind::QuoteAdded, text, wanted)
}

fn judge(value: Value, kind: ChangeKind, text: &str, wanted: Wanted<'_>) -> Option<Accepted> {
    let mut changes = Changes::default();
    changes.at(kind, 0);
    if wanted.cut {
        changes.at(ChangeKind::CutReply, text.len());
    }
    let mut candidate = Candidate {
        value,
        changes,
        start: 0,
        end: text.len(),
        open: 0,
        rank: Rank::Prose,
        inside: false,
    };
    accept(&mut candidate, wanted)
}
