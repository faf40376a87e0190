//! What stands between tokens: white space, comments, ellipses, escaped line breaks.

use super::glyph::is_blank;
use super::{ChangeKind, Reader};

impl Reader<'_, '_> {
    /// Skips white space and comments. `value_due` says that a value comes next: then `#fff` is
    /// one and no comment.
    pub(super) fn skip(&mut self, value_due: bool) {
        while let Some(c) = self.peek() {
            if !self.budget.take(1) {
                return;
            }
            let rest = &self.text[self.at..];
            let length = match c {
                '\\' => escaped_space(rest),
                '/' | '#' | '<' | '-' => match comment(rest, value_due) {
                    Some(length) => {
                        self.note_comment(length);
                        length
                    }
                    None => return,
                },
                _ if is_blank(c) => {
                    self.at += c.len_utf8();
                    continue;
                }
                _ => return,
            };
            if length == 0 {
                return;
            }
            if c == '\\' {
                self.note(ChangeKind::EscapingRemoved, self.at);
            }
            self.at += length;
        }
    }

    fn note_comment(&mut self, length: usize) {
        let begin = self.at;
        let comment = &self.text[begin..begin + length];
        let unclosed = comment.starts_with("/*") && (length < 4 || !comment.ends_with("*/"))
            || comment.starts_with("<!--") && !comment.ends_with("-->");
        let kind = if unclosed {
            ChangeKind::WordsDropped
        } else if announces_elision(comment) {
            ChangeKind::ElisionDropped
        } else {
            ChangeKind::CommentRemoved
        };
        self.note(kind, begin);
        self.budget.take(length);
    }

    /// Skips `...` or `…` with words after it on the same line (`... 48 more items`).
    pub(super) fn skip_ellipsis(&mut self) -> bool {
        let rest = &self.text[self.at..];
        let dots = rest.len() - rest.trim_start_matches(['.', '…']).len();
        let is_ellipsis = rest.starts_with('…') || rest[..dots].len() >= 3;
        if !is_ellipsis {
            return false;
        }
        self.note(ChangeKind::ElisionDropped, self.at);
        self.at += dots;
        while let Some(c) = self.peek() {
            if matches!(c, ',' | ']' | '}' | '\n' | '"' | '{' | '[') || !self.budget.take(1) {
                break;
            }
            self.bump(c);
        }
        true
    }
}

/// `\n`, `\t`, `\r` between tokens, or a stray backslash before a separator.
fn escaped_space(rest: &str) -> usize {
    match rest.as_bytes().get(1) {
        Some(b'n' | b'r' | b't') => 2,
        Some(b',' | b']' | b'}' | b':' | b'\n' | b' ') => 1,
        _ => 0,
    }
}

/// The length of the comment at the start of `rest`.
fn comment(rest: &str, value_due: bool) -> Option<usize> {
    let line = |rest: &str| rest.find('\n').unwrap_or(rest.len());
    if rest.starts_with("//") {
        return Some(line(rest));
    }
    if let Some(body) = rest.strip_prefix("/*") {
        return Some(body.find("*/").map_or(rest.len(), |end| end + 4));
    }
    if rest.starts_with("<!--") {
        return Some(rest.find("-->").map_or(rest.len(), |end| end + 3));
    }
    // SQL's and Lua's; a dash alone is a way to say that there is no value.
    if rest.strip_prefix("-- ").is_some_and(|body| body.starts_with(char::is_alphabetic)) {
        return Some(line(rest));
    }
    if let Some(body) = rest.strip_prefix('#') {
        let is_value = value_due && body.starts_with(|c: char| c.is_alphanumeric());
        return (!is_value).then(|| line(rest));
    }
    None
}

/// Whether a comment says that data was left out.
fn announces_elision(comment: &str) -> bool {
    let head: String = comment.chars().take(200).collect::<String>().to_lowercase();
    let body = head
        .trim_start_matches(['/', '*', '#', '<', '!', '-', ' '])
        .trim_end_matches(['*', '/', '-', '>', ' ']);
    const PHRASES: &[&str] = &[
        "...",
        "…",
        "omitted",
        "truncated",
        "remaining",
        "the rest",
        "rest of",
        "and so on",
        "and more",
        "etc.",
        "usw.",
        "и т.д",
        "省略",
        "等等",
        "elided",
        "abbreviated",
        "for brevity",
        "left out",
        "continue",
        "same for",
        "same as above",
        "similar for",
        "similarly",
        "more items",
        "more entries",
        "more rows",
        "more records",
        "others here",
        "other items",
        "other entries",
        "repeat for",
        "snip",
    ];
    if PHRASES.iter().any(|phrase| body.contains(phrase)) {
        return true;
    }
    // `48 more`, `and 12 more`, `more of the same`
    let words: Vec<&str> = body.split_whitespace().collect();
    let counted = |pair: &[&str]| matches!(pair, [count, "more"] if count.parse::<u64>().is_ok());
    matches!(words.as_slice(), ["more"] | ["more", "of" | "to" | "data", ..])
        || words.get(..2).is_some_and(counted)
        || words.len().checked_sub(2).and_then(|at| words.get(at..)).is_some_and(counted)
}
