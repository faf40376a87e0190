//! Escapes inside strings, known to JSON or not.
//!
//! `\d` and `\Users` mean what they say, so an unknown escape keeps its backslash. Where a string
//! mixes unknown ones with letters that JSON knows (`C:\new\Users`), nobody can tell which of the
//! known ones were meant.

use super::ChangeKind;
use crate::output::strict;

/// A decoded string and what had to be done for it.
pub(super) struct Unescaped {
    pub text: String,
    pub change: Option<ChangeKind>,
}

/// Decodes escapes. One that JSON does not know keeps its backslash (`\d` and `\Users` mean what
/// they say), except for quotes and the pairs that Markdown writes (`\_`, `\*`).
pub(super) fn unescape(content: &str, cut: bool) -> Unescaped {
    let bytes = content.as_bytes();
    let (known, unknown) = seen(content);
    let mut text = String::with_capacity(content.len());
    let mut change = unknown.then_some(ChangeKind::EscapeFixed);
    let mut at = 0;
    while let Some(offset) = content[at..].find('\\') {
        text.push_str(&content[at..at + offset]);
        at += offset;
        if let Some((c, end)) = strict::escape(bytes, at) {
            text.push(c);
            at = end;
            continue;
        }
        let rest = &content[at + 1..];
        match rest.chars().next() {
            Some(c @ ('\'' | '`' | '\n')) => {
                text.push(c);
                at += 2;
                change = change.or(Some(ChangeKind::EscapeFixed));
            }
            Some(c @ ('_' | '*' | '#' | '&' | '~')) if !unknown => {
                text.push(c);
                at += 2;
                change = change.or(Some(ChangeKind::EscapeFixed));
            }
            Some('u')
                if cut && rest.len() < 5 && rest[1..].bytes().all(|b| b.is_ascii_hexdigit()) =>
            {
                at = content.len();
            }
            Some('u') if strict::hex4(bytes, at + 2).is_some() => {
                if cut && content.len() < at + 12 {
                    at = content.len();
                } else {
                    text.push('\u{fffd}');
                    at += 6;
                }
                change = Some(ChangeKind::EscapeGuessed);
            }
            Some('u') => {
                text.push('\\');
                at += 1;
                change = Some(ChangeKind::EscapeGuessed);
            }
            Some(_) => {
                text.push('\\');
                at += 1;
            }
            None if cut => at += 1,
            None => {
                text.push('\\');
                at += 1;
            }
        }
    }
    text.push_str(&content[at..]);
    if unknown && known {
        change = Some(ChangeKind::EscapeGuessed);
    }
    Unescaped { text, change }
}

/// Whether there are escapes that are letters in JSON, and ones that JSON does not know.
fn seen(content: &str) -> (bool, bool) {
    let bytes = content.as_bytes();
    let (mut known, mut unknown) = (false, false);
    let mut at = 0;
    while let Some(offset) = content[at..].find('\\') {
        at += offset + 1;
        match bytes.get(at) {
            Some(b'b' | b'f' | b'n' | b'r' | b't') => known = true,
            Some(b'u') if strict::hex4(bytes, at + 1).is_some() => known = true,
            Some(b'"' | b'\\' | b'/' | b'\'' | b'`' | b'_' | b'*' | b'#' | b'&' | b'~' | b'\n')
            | None => (),
            Some(_) => unknown = true,
        }
        at += content[at..].chars().next().map_or(0, char::len_utf8);
    }
    (known, unknown)
}
