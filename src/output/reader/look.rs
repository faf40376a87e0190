//! Looking around without moving. Each look is bounded, and its steps come out of the budget.

use super::glyph::{Closing, closing, is_blank, is_quote, is_word, plain};
use super::{Kind, Reader};

const BLANKS_MAX: usize = 2048;
const KEY_BYTES_MAX: usize = 160;

impl Reader<'_, '_> {
    pub(super) fn peek(&self) -> Option<char> {
        self.char_at(self.at)
    }

    pub(super) fn char_at(&self, at: usize) -> Option<char> {
        match self.bytes.get(at) {
            Some(byte) if byte.is_ascii() => Some(char::from(*byte)),
            Some(_) => self.text.get(at..).and_then(|rest| rest.chars().next()),
            None => None,
        }
    }

    /// The character that ends before `at`.
    pub(super) fn char_before(&self, at: usize) -> Option<char> {
        self.text[..at].chars().next_back()
    }

    pub(super) fn bump(&mut self, c: char) {
        self.at += c.len_utf8();
    }

    /// Offset of the first character from `at` on that is not blank.
    pub(super) fn blank_end(&mut self, at: usize) -> usize {
        let mut end = at;
        while let Some(c) = self.char_at(end) {
            if !is_blank(c) || end - at > BLANKS_MAX {
                break;
            }
            end += c.len_utf8();
        }
        self.budget.take(end - at + 1);
        end
    }

    /// The run of letters at the current place.
    pub(super) fn word(&self) -> &str {
        let rest = &self.text[self.at..];
        let length = rest.bytes().take(12).take_while(u8::is_ascii_alphabetic).count();
        let longer =
            rest.as_bytes().get(length).is_some_and(|b| b.is_ascii_alphanumeric() || *b == b'_');
        if longer { "" } else { &rest[..length] }
    }

    /// Whether a member's name and its colon stand at `at`.
    pub(super) fn key_colon(&mut self, at: usize) -> bool {
        match self.char_at(at) {
            Some(c) if is_quote(c) => self.quoted_key_colon(at, c),
            Some(c) if c.is_alphabetic() || matches!(c, '_' | '$') => self.bare_key_colon(at),
            Some(c) if c.is_ascii_digit() => self.digits_colon(at),
            _ => false,
        }
    }

    fn quoted_key_colon(&mut self, at: usize, opener: char) -> bool {
        let mut end = at + opener.len_utf8();
        // `""key"":` is one quote written twice.
        if self.char_at(end) == Some(opener) && self.char_at(end + opener.len_utf8()) != Some(':') {
            end += opener.len_utf8();
        }
        let limit = end + KEY_BYTES_MAX;
        while end < limit {
            let Some(c) = self.char_at(end) else {
                break;
            };
            if c == '\n' {
                break;
            }
            end += c.len_utf8();
            if c == '\\' {
                end += self.char_at(end).map_or(0, char::len_utf8);
            } else if closing(opener, c) != Closing::No {
                self.budget.take(end - at);
                if self.char_at(end) == Some(c) {
                    end += c.len_utf8();
                }
                let next = self.blank_end(end);
                return self.separates(next);
            }
        }
        self.budget.take(end.saturating_sub(at));
        false
    }

    /// Whether a quoted name stands at `at`, whole or begun, and the text ends with it: it was cut
    /// before the colon.
    pub(super) fn name_at_the_end(&mut self, at: usize) -> bool {
        let Some(opener) = self.char_at(at).filter(|c| is_quote(*c)) else {
            return false;
        };
        let mut end = at + opener.len_utf8();
        let limit = end + KEY_BYTES_MAX;
        self.budget.take(KEY_BYTES_MAX.min(self.bytes.len() - at));
        while let Some(c) = self.char_at(end) {
            end += c.len_utf8();
            if closing(opener, c) != Closing::No {
                let next = self.blank_end(end);
                return next == self.bytes.len();
            }
            if end > limit || matches!(c, '\n' | ':' | '{' | '[') {
                return false;
            }
        }
        true
    }

    /// A number as a name: only with a structure or a string as its value, since times and lists
    /// in a text look much the same.
    fn digits_colon(&mut self, at: usize) -> bool {
        let digits = self.bytes[at..].iter().take(8).take_while(|b| b.is_ascii_digit()).count();
        let colon = at + digits;
        if self.char_at(colon) != Some(':') {
            return false;
        }
        let value = self.blank_end(colon + 1);
        value > colon + 1 && matches!(self.char_at(value), Some('"' | '\'' | '{' | '['))
    }

    /// Whether a short quoted text stands at `at`, with a separator or a closing brace behind it.
    pub(super) fn quoted_value(&mut self, at: usize) -> bool {
        let Some(opener) = self.char_at(at) else {
            return false;
        };
        let from = at + opener.len_utf8();
        let limit = self.bytes.len().min(from + KEY_BYTES_MAX);
        let mut end = from;
        while end < limit {
            let Some(c) = self.char_at(end) else {
                break;
            };
            end += c.len_utf8();
            if closing(opener, c) != Closing::No {
                let next = self.blank_end(end);
                return matches!(self.char_at(next).map(plain), Some(',' | '}'));
            }
        }
        self.budget.take(end - at);
        false
    }

    /// A single word with a closing quote: an item whose opening quote is missing.
    pub(super) fn word_with_quote(&mut self, at: usize) -> bool {
        let mut end = at;
        while let Some(c) = self.char_at(end) {
            if !is_word(c) || end - at > 64 {
                break;
            }
            end += c.len_utf8();
        }
        if end == at || self.char_at(end) != Some('"') {
            return false;
        }
        let next = self.blank_end(end + 1);
        matches!(self.char_at(next).map(plain), Some(',' | ']'))
    }

    fn bare_key_colon(&mut self, at: usize) -> bool {
        let mut end = at;
        while let Some(c) = self.char_at(end) {
            if !is_word(c) || end - at > 64 {
                break;
            }
            end += c.len_utf8();
        }
        self.budget.take(end - at + 1);
        if self.char_at(end).is_some_and(|c| matches!(c, '"' | '\'' | '”' | '’')) {
            end += self.char_at(end).map_or(0, char::len_utf8);
        }
        while matches!(self.char_at(end), Some(' ' | '\t')) {
            end += 1;
        }
        self.separates(end) && !self.text[end..].starts_with("://")
    }

    fn separates(&self, at: usize) -> bool {
        match self.char_at(at).map(plain) {
            Some(':') => true,
            Some('=') => !self.text[at..].starts_with("=="),
            Some('-') => self.text[at..].starts_with("->"),
            _ => false,
        }
    }

    /// A fence or a chat marker: nothing of the value comes after it.
    pub(super) fn at_end_mark(&self) -> bool {
        let rest = &self.bytes[self.at..];
        rest.starts_with(b"```") || rest.starts_with(b"<|") || rest.starts_with(b"~~~")
    }

    /// `{{name}}`, the gap of a template that nobody filled.
    pub(super) fn is_placeholder(&self) -> bool {
        let Some(body) = self.text[self.at..].strip_prefix("{{") else {
            return false;
        };
        let name = body.trim_start_matches(|c: char| is_word(c) || c == ' ');
        let length = body.len() - name.len();
        length > 0 && length < 80 && !body[..length].trim().is_empty() && name.starts_with('}')
    }

    /// What closing brackets from `at` on would leave: whether the text goes on as this stack
    /// wants it.
    pub(super) fn closes_well(&mut self, at: usize) -> bool {
        let mut level = self.stack.len();
        let mut at = at;
        while level > 0 {
            match self.char_at(at).map(plain) {
                Some('}' | ']' | ')') => {
                    level -= 1;
                    let length = self.char_at(at).map_or(1, char::len_utf8);
                    at = self.blank_end(at + length);
                }
                None => return true,
                Some(',' | ';') => return true,
                Some(c) if is_quote(c) || matches!(c, '{' | '[') => {
                    return self.line_break_before(at);
                }
                Some('/' | '#' | '<' | '\\' | '…' | '.') => return true,
                Some(_) => return false,
            }
        }
        !self.quote_closes_later(at)
    }

    pub(super) fn line_break_before(&self, at: usize) -> bool {
        self.text[..at].chars().rev().take(64).take_while(|c| is_blank(*c)).any(|c| c == '\n')
    }

    /// After the end of the outermost container: whether a later quote on the line looks like the
    /// true end of the string.
    fn quote_closes_later(&mut self, at: usize) -> bool {
        let mut end = at;
        while let Some(c) = self.char_at(end) {
            if matches!(c, '\n' | '{' | '[') || end - at > 512 {
                break;
            }
            end += c.len_utf8();
            if c == '"' {
                let next = self.blank_end(end);
                if matches!(self.char_at(next).map(plain), Some('}' | ']' | ':')) {
                    return true;
                }
            }
        }
        self.budget.take(end - at + 1);
        false
    }

    pub(super) fn in_list(&self) -> bool {
        self.stack.last().is_some_and(|frame| frame.kind != Kind::Object)
    }
}
