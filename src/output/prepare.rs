//! Whole texts that were escaped or prefixed once too often.
//!
//! These are undone for the text as a whole and only when its first bracket says so; undoing them
//! in places would change data.

use std::borrow::Cow;

use super::change::{ChangeKind, Changes};
use super::reader::is_blank;

/// A text as the readers take it.
#[derive(Debug)]
pub(super) struct Prepared<'t> {
    pub text: Cow<'t, str>,
    pub changes: Changes,
}

/// Undoes what was done to the whole text.
pub(super) fn prepare(text: &str) -> Prepared<'_> {
    let mut changes = Changes::default();
    let text = without_markers(text, &mut changes);
    let kind = match wrapping(text) {
        Some(Wrapping::Backslashes) => Some((unescaped(text), ChangeKind::EscapingRemoved)),
        Some(Wrapping::Entities) => Some((without_entities(text), ChangeKind::EscapingRemoved)),
        Some(Wrapping::Prefix(prefix)) => {
            Some((without_prefix(text, prefix), ChangeKind::LinePrefixRemoved))
        }
        None => None,
    };
    match kind {
        Some((text, kind)) => {
            changes.at(kind, 0);
            Prepared { text: Cow::Owned(text), changes }
        }
        None => Prepared { text: Cow::Borrowed(text), changes },
    }
}

enum Wrapping {
    Backslashes,
    Entities,
    Prefix(char),
}

const END_MARKERS: &[&str] =
    &["</s>", "<s>", "[/INST]", "[INST]", "<eos>", "<end_of_turn>", "<eot>", "[EOS]", "<bos>"];

/// Byte order mark and end-of-turn markers around the text.
fn without_markers<'t>(text: &'t str, changes: &mut Changes) -> &'t str {
    let mut rest = text;
    loop {
        let trimmed = rest.trim_matches(is_blank);
        let shorter = END_MARKERS.iter().find_map(|marker| {
            trimmed.strip_suffix(marker).or_else(|| trimmed.strip_prefix(marker))
        });
        let shorter = shorter.or_else(|| {
            let head = trimmed.strip_suffix("|>").or_else(|| trimmed.strip_suffix("｜>"))?;
            let begin = head.rfind("<|").or_else(|| head.rfind("<｜"))?;
            (head.len() - begin < 48 && !head[begin..].contains(['{', '}', '"', '\n']))
                .then(|| &head[..begin])
        });
        match shorter {
            Some(shorter) => {
                if changes.is_empty() {
                    changes.at(ChangeKind::MarkerRemoved, shorter.len());
                }
                rest = shorter;
            }
            None => return rest,
        }
    }
}

fn wrapping(text: &str) -> Option<Wrapping> {
    let mut lines = text.lines().filter(|line| !line.trim().is_empty()).peekable();
    let first = lines.peek().and_then(|line| line.trim_start().chars().next());
    if let Some(prefix @ ('>' | '+')) = first
        && lines.all(|line| line.trim_start().starts_with(prefix))
    {
        return Some(Wrapping::Prefix(prefix));
    }
    let bracket = text.find(['{', '['])?;
    let mut rest =
        text[bracket + 1..].trim_start_matches(|c: char| is_blank(c) || matches!(c, '{' | '['));
    while let Some(after) = rest.strip_prefix("\\n").or_else(|| rest.strip_prefix("\\t")) {
        rest = after.trim_start_matches(|c: char| is_blank(c) || matches!(c, '{' | '['));
    }
    if rest.starts_with("\\\"") {
        return Some(Wrapping::Backslashes);
    }
    (rest.starts_with("&quot;") || rest.starts_with("&#34;")).then_some(Wrapping::Entities)
}

/// One level of escapes undone; what is no escape stays.
fn unescaped(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            plain.push(c);
            continue;
        }
        match chars.next() {
            Some(c @ ('"' | '\\' | '/')) => plain.push(c),
            Some('n') => plain.push('\n'),
            Some('t') => plain.push('\t'),
            Some('r') => plain.push('\r'),
            Some(c) => {
                plain.push('\\');
                plain.push(c);
            }
            None => plain.push('\\'),
        }
    }
    plain
}

fn without_entities(text: &str) -> String {
    text.replace("&quot;", "\"")
        .replace("&#34;", "\"")
        .replace("&#39;", "'")
        .replace("&apos;", "'")
        .replace("&lt;", "<")
        .replace("&gt;", ">")
        .replace("&amp;", "&")
}

fn without_prefix(text: &str, prefix: char) -> String {
    let mut plain = String::with_capacity(text.len());
    for line in text.lines() {
        let trimmed = line.trim_start();
        plain.push_str(trimmed.strip_prefix(prefix).unwrap_or(trimmed));
        plain.push('\n');
    }
    plain
}
