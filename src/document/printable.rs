//! Text of unknown origin for a terminal or a log.

use std::borrow::Cow;
use std::fmt::Write as _;

/// The text with what could move a cursor, end a line or turn the writing direction shown as
/// `\u{..}`: a key of a document or a comment may say anything.
pub fn printable(text: &str) -> Cow<'_, str> {
    if !text.chars().any(is_unseen) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if is_unseen(c) {
            // Writing to a string does not fail.
            let _ = write!(out, "\\u{{{:x}}}", u32::from(c));
        } else {
            out.push(c);
        }
    }
    Cow::Owned(out)
}

fn is_unseen(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_seen_is_spelt_out() {
        assert!(matches!(printable("über 日本 ✓"), Cow::Borrowed("über 日本 ✓")));
        assert_eq!(
            printable("a\n\u{1b}[2J\u{202e}b\u{200b}"),
            "a\\u{a}\\u{1b}[2J\\u{202e}b\\u{200b}"
        );
    }
}
