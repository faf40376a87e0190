//! Names and values without quotes: numbers in any notation, literals of other languages, words,
//! calls.
//!
//! What is no number becomes a string as it stands; nothing is computed, rounded or translated.
//! `2024-10-18` is not 2024, `1/3` is not a third.

use serde_json::Value;

use super::glyph::{self, is_blank, is_quote, is_word, plain};
use super::{ChangeKind, Reader, State, Step};
use crate::output::strict;

/// Wrappers that say a type and nothing else.
const TYPE_CALLS: &[&str] =
    &["ObjectId", "NumberLong", "NumberInt", "ISODate", "NumberDecimal", "UUID", "str", "String"];
/// Letters before a quote that change how the string is written.
const PREFIXES: &[&str] =
    &["f", "b", "r", "u", "rb", "br", "fr", "rf", "F", "B", "R", "U", "@", "$", "$@", "L"];
const BARE_BYTES_MAX: usize = 4096;

impl Reader<'_, '_> {
    /// A member's name without quotes.
    pub(super) fn bare_key(&mut self) -> Step<State> {
        let begin = self.at;
        while let Some(c) = self.peek() {
            if !is_word(c) || self.at - begin > 256 {
                break;
            }
            self.bump(c);
        }
        let key = &self.text[begin..self.at];
        if key.is_empty() {
            return self.refuse();
        }
        let key = key.to_owned();
        self.budget.take(key.len());
        if self.peek().is_none() {
            self.note(ChangeKind::TailDropped, begin);
            return self.end_of_text();
        }
        if let Some(c) = self.peek().filter(|c| is_quote(*c)) {
            self.bump(c); // only the opening quote is missing
        } else {
            let next = self.blank_end(self.at);
            let quote = self.char_at(next).is_some_and(is_quote);
            if quote && next > self.at && self.key_colon(next) {
                self.note(ChangeKind::WordsDropped, begin);
                return Ok(State::Key);
            }
        }
        self.note(ChangeKind::QuoteAdded, begin);
        self.colon(key, begin, true)
    }

    /// A value without quotes.
    pub(super) fn bare_value(&mut self) -> Step<State> {
        let begin = self.at;
        if self.stack.is_empty() {
            return self.refuse();
        }
        if self.text[begin..].starts_with("- ") {
            return self.refuse(); // a YAML list: another format
        }
        if let Some(state) = self.number_or_literal()? {
            return Ok(state);
        }
        if let Some(state) = self.prefixed_string()? {
            return Ok(state);
        }
        if let Some(state) = self.type_call()? {
            return Ok(state);
        }
        let (end, guessed) = self.bare_end(begin)?;
        let raw = self.text[begin..end].trim_end_matches(is_blank);
        if raw.is_empty() {
            return self.refuse();
        }
        let value = raw.to_owned();
        self.at = end;
        if self.peek().is_none() {
            // A word at the very end may go on; it is left out, not completed.
            self.note(ChangeKind::TailDropped, begin);
            self.drop_key();
            return self.end_of_text();
        }
        if let Some(c) = self.peek().filter(|c| is_quote(*c) && *c != '`') {
            self.bump(c); // only the opening quote is missing
        }
        self.note(if guessed { ChangeKind::TextGuessed } else { ChangeKind::QuoteAdded }, begin);
        let value = self.bare_meaning(value, begin);
        self.attach(value)
    }

    /// A number or literal that is clearly the whole value.
    fn number_or_literal(&mut self) -> Step<Option<State>> {
        let begin = self.at;
        let token_end = self.token_end(begin);
        let token = &self.text[begin..token_end];
        let Some((value, change)) = scalar(token) else {
            return Ok(None);
        };
        let next = self.blank_end(token_end);
        let Some(c) = self.char_at(next) else {
            return self.scalar_at_end(value, change, token_end, next).map(Some);
        };
        let spaced = next > token_end;
        let ends = match plain(c) {
            ',' => !self.thousands(next),
            '}' | ']' | ')' | ';' => true,
            '/' | '#' | '<' => {
                spaced || self.text[next..].starts_with("//") || self.text[next..].starts_with("/*")
            }
            '`' | '~' => {
                self.text[next..].starts_with("```") || self.text[next..].starts_with("~~~")
            }
            '\\' => true,
            '.' | '…' => spaced,
            '{' | '[' | '-' | '0'..='9' | '(' => {
                spaced && self.in_list() || plain(c) == '{' && self.line_break_before(next)
            }
            c if is_quote(c) => spaced && (self.in_list() || self.key_colon(next)),
            _ if spaced && self.line_break_before(next) => self.in_list() || self.key_colon(next),
            _ if spaced && self.in_list() => glyph::is_literal(self.word_at(next)),
            _ => spaced && self.key_colon(next),
        };
        if !ends {
            return Ok(None);
        }
        if let Some(change) = change {
            self.note(change, begin);
        }
        self.at = token_end;
        self.attach(value).map(Some)
    }

    /// A number right at the end of the text may go on (`12` of `1234`): it is left out. With
    /// white space after it, it is whole.
    fn scalar_at_end(
        &mut self,
        value: Value,
        change: Option<ChangeKind>,
        end: usize,
        next: usize,
    ) -> Step<State> {
        let begin = self.at;
        self.at = next;
        let may_go_on = matches!(value, Value::Number(_) | Value::String(_)) && end == next;
        if may_go_on {
            self.note(ChangeKind::TailDropped, begin);
            self.drop_key();
        } else {
            if let Some(change) = change {
                self.note(change, begin);
            }
            self.attach(value)?;
        }
        self.end_of_text()
    }

    /// `-2,000.00, "kind": …`: a comma that groups digits, where a name would have to follow it.
    fn thousands(&mut self, comma: usize) -> bool {
        if !self.in_object() || self.char_at(comma) != Some(',') {
            return false;
        }
        let rest = &self.bytes[comma + 1..];
        let digits = rest.iter().take(4).take_while(|b| b.is_ascii_digit()).count();
        digits == 3
    }

    fn token_end(&mut self, begin: usize) -> usize {
        let mut end = begin;
        while let Some(c) = self.char_at(end) {
            let part = c.is_ascii_alphanumeric()
                || glyph::wide_digit(c).is_some()
                || matches!(c, '+' | '-' | '.' | '_' | '−')
                || (c.is_alphanumeric() && end > begin);
            if !part {
                break;
            }
            end += c.len_utf8();
        }
        self.budget.take(end - begin + 1);
        end
    }

    fn word_at(&self, at: usize) -> &str {
        let rest = &self.text[at..];
        let length = rest.bytes().take(12).take_while(u8::is_ascii_alphabetic).count();
        &rest[..length]
    }

    /// `f'…'`, `b"…"`, `@"…"`.
    fn prefixed_string(&mut self) -> Step<Option<State>> {
        let begin = self.at;
        let length = self.text[begin..]
            .bytes()
            .take(3)
            .take_while(|b| b.is_ascii_alphabetic() || matches!(b, b'@' | b'$'))
            .count();
        let prefix = &self.text[begin..begin + length];
        let quote = self.char_at(begin + length);
        let body = self.char_at(begin + length + 1);
        let ends = matches!(body, None | Some(',' | ']' | '}' | ':')); // `b", "c"`: a lost quote
        if !PREFIXES.contains(&prefix) || ends || !matches!(quote, Some('"' | '\'')) {
            return Ok(None);
        }
        let harmless = matches!(prefix, "u" | "U" | "L");
        self.note(if harmless { ChangeKind::QuoteStyle } else { ChangeKind::TextGuessed }, begin);
        self.at += length;
        self.string_value().map(Some)
    }

    /// `ObjectId("65a1")`: a type around one value.
    fn type_call(&mut self) -> Step<Option<State>> {
        let begin = self.at;
        let rest = &self.text[begin..];
        let length = rest.bytes().take(16).take_while(|b| b.is_ascii_alphanumeric()).count();
        if length == 0
            || !TYPE_CALLS.contains(&&rest[..length])
            || rest.as_bytes().get(length) != Some(&b'(')
        {
            return Ok(None);
        }
        let argument = self.blank_end(begin + length + 1);
        let Some(close) = self.text[argument..].bytes().take(128).position(|b| b == b')') else {
            return Ok(None);
        };
        let inner = self.text[argument..argument + close].trim();
        let unquoted = inner.trim_matches(['"', '\'']);
        let value = match scalar(inner) {
            Some((value, _)) => value,
            None if unquoted.len() < inner.len() && !unquoted.contains(['"', '\'', '\\']) => {
                Value::String(unquoted.to_owned())
            }
            None => return Ok(None),
        };
        self.note(ChangeKind::CallRemoved, begin);
        self.at = argument + close + 1;
        self.attach(value).map(Some)
    }

    /// Where unquoted text ends, and whether that was a guess.
    fn bare_end(&mut self, begin: usize) -> Step<(usize, bool)> {
        let mut end = begin;
        let mut guessed = false;
        let mut round = 0_usize;
        while let Some(c) = self.char_at(end) {
            if !self.budget.take(1) || end - begin > BARE_BYTES_MAX {
                return self.refuse();
            }
            match plain(c) {
                '(' if round > 0 || self.text[..end].ends_with(is_word) => round += 1,
                '[' | '{' if round > 0 => round += 1,
                ')' | ']' | '}' if round > 0 => round -= 1,
                '}' | ']' | ')' => break,
                ',' if round > 0 => (),
                ',' if self.in_list() || self.comma_ends(end) => break,
                ',' | ';' if !self.in_list() => {
                    let then = self.blank_end(end + c.len_utf8());
                    if plain(c) == ';' && self.key_colon(then) {
                        break;
                    }
                    guessed = true;
                }
                '\n' if round == 0 && self.line_ends(end) => break,
                '\n' => guessed = true,
                '{' | '[' if round == 0 && !self.text[begin..end].ends_with('$') => guessed = true,
                '`' if self.text[end..].starts_with("```") => break,
                '/' if end > begin && self.comment_here(end) => break,
                '#' if end > begin && self.text[..end].ends_with(is_blank) => break,
                '<' if self.text[end..].starts_with("<|")
                    || self.text[end..].starts_with("<!--") =>
                {
                    break;
                }
                _ if is_quote(c) && c != '`' && self.quote_ends(end, c, round) => break,
                _ => (),
            }
            end += c.len_utf8();
        }
        // A call that never closes swallowed what came after it.
        if round > 0 { self.refuse() } else { Ok((end, guessed)) }
    }

    fn comma_ends(&mut self, comma: usize) -> bool {
        let length = self.char_at(comma).map_or(1, char::len_utf8);
        let then = self.blank_end(comma + length);
        match self.char_at(then).map(plain) {
            None | Some('}' | ']' | '/' | '#' | '…') => true,
            Some(_) => self.key_colon(then),
        }
    }

    fn line_ends(&mut self, at: usize) -> bool {
        let then = self.blank_end(at);
        match self.char_at(then).map(plain) {
            None | Some('}' | ']' | ')') => true,
            Some('/') => self.comment_here(then),
            Some('`') => self.text[then..].starts_with("```"),
            Some(_) if self.in_list() => true,
            Some(_) => self.key_colon(then),
        }
    }

    fn comment_here(&self, at: usize) -> bool {
        let spaced = self.text[..at].ends_with(is_blank);
        let rest = &self.text[at..];
        spaced && (rest.starts_with("//") || rest.starts_with("/*"))
            || rest.starts_with("/*") && !self.text[..at].ends_with(':')
    }

    /// A quote inside unquoted text: the end of a string whose opening quote is missing, or the
    /// beginning of the next name.
    fn quote_ends(&mut self, at: usize, c: char, round: usize) -> bool {
        if round > 0 {
            return false;
        }
        let spaced = self.text[..at].ends_with(is_blank);
        if spaced && self.in_object() && self.key_colon(at) {
            return true;
        }
        let next = self.blank_end(at + c.len_utf8());
        match self.char_at(next).map(plain) {
            None => true,
            Some(',') if self.in_list() => true,
            Some(',') => self.comma_ends(next),
            Some('}' | ']') => self.closes_well(next),
            Some(_) => false,
        }
    }

    /// What unquoted text means that is no plain number or literal.
    fn bare_meaning(&mut self, text: String, at: usize) -> Value {
        let whole = text.replace(',', "");
        let grouped = self.in_object() && text.contains(',') && is_grouped(&text);
        if grouped
            && strict::is_number(&whole)
            && let Some(number) = strict::number(&whole)
        {
            self.note(ChangeKind::NumberGuessed, at);
            return Value::Number(number);
        }
        let says_nothing = !text.contains(char::is_alphanumeric);
        if says_nothing
            || text.contains('(') && text.ends_with(')')
            || text.starts_with('/') && text.len() > 1 && text.contains(['(', '['])
        {
            self.note(ChangeKind::TextGuessed, at);
        } else if matches!(text.as_bytes(), [b'0'..=b'9', .., b'e' | b'E'])
            && text[..text.len() - 1].bytes().all(|b| b.is_ascii_digit())
        {
            self.note(ChangeKind::NumberGuessed, at);
        }
        Value::String(text)
    }
}

/// Digits in groups of three.
fn is_grouped(text: &str) -> bool {
    let whole = text.trim_start_matches(['-', '+']);
    let whole = whole.split('.').next().unwrap_or_default();
    let mut groups = whole.split(',');
    let first = groups.next().unwrap_or_default();
    (1..=3).contains(&first.len())
        && groups.all(|group| group.len() == 3 && group.bytes().all(|b| b.is_ascii_digit()))
}

/// A number in any notation with one value, or a literal of any language; with the change.
pub(super) fn scalar(token: &str) -> Option<(Value, Option<ChangeKind>)> {
    if strict::is_number(token) {
        return Some(match strict::number(token) {
            Some(number) => (Value::Number(number), None),
            None => (Value::String(token.to_owned()), Some(ChangeKind::LiteralGuessed)),
        });
    }
    let literal = match token {
        "true" => (Value::Bool(true), None),
        "false" => (Value::Bool(false), None),
        "null" => (Value::Null, None),
        "True" | "TRUE" => (Value::Bool(true), Some(ChangeKind::LiteralStyle)),
        "False" | "FALSE" => (Value::Bool(false), Some(ChangeKind::LiteralStyle)),
        "None" | "NONE" | "Null" | "NULL" | "nil" | "NIL" => {
            (Value::Null, Some(ChangeKind::LiteralStyle))
        }
        "NaN" | "nan" | "NAN" | "Infinity" | "-Infinity" | "+Infinity" | "inf" | "-inf"
        | "undefined" => (Value::Null, Some(ChangeKind::LiteralGuessed)),
        _ => return other_scalar(token),
    };
    Some(literal)
}

fn other_scalar(token: &str) -> Option<(Value, Option<ChangeKind>)> {
    match token.to_ascii_lowercase().as_str() {
        "true" => return Some((Value::Bool(true), Some(ChangeKind::LiteralGuessed))),
        "false" => return Some((Value::Bool(false), Some(ChangeKind::LiteralGuessed))),
        "null" | "none" => return Some((Value::Null, Some(ChangeKind::LiteralGuessed))),
        _ => (),
    }
    if token.chars().any(|c| glyph::wide_digit(c).is_some()) {
        let narrow: String = token.chars().map(|c| glyph::wide_digit(c).unwrap_or(c)).collect();
        let (value, change) = scalar(&narrow)?;
        return Some((value, change.or(Some(ChangeKind::NumberStyle))));
    }
    let number = |text: &str| {
        strict::is_number(text).then(|| strict::number(text)).flatten().map(Value::Number)
    };
    let (negative, digits) = match token.strip_prefix(['-', '−']) {
        Some(digits) => (true, digits),
        None => (false, token.strip_prefix('+').unwrap_or(token)),
    };
    let number_first = digits.trim_start_matches('.').starts_with(|c: char| c.is_ascii_digit());
    if !number_first || digits.len() > 400 {
        return None;
    }
    let sign = if negative { "-" } else { "" };
    if let Some(value) = radix(digits) {
        return number(&format!("{sign}{value}"))
            .map(|value| (value, Some(ChangeKind::NumberStyle)));
    }
    // Leading zeros are what an identifier has: the text is kept, and a schema may decide.
    let whole = digits.split('.').next().unwrap_or_default();
    if whole.len() > 1
        && whole.starts_with('0')
        && digits.bytes().all(|b| b.is_ascii_digit() || b == b'.')
    {
        return Some((Value::String(token.to_owned()), Some(ChangeKind::QuoteAdded)));
    }
    let mut spelled = digits.replace('_', "");
    if digits.starts_with('_') || digits.ends_with('_') || digits.contains("__") {
        return None;
    }
    if spelled.starts_with('.') {
        spelled.insert(0, '0');
    }
    if let Some(whole) = spelled.strip_suffix('.') {
        spelled = whole.to_owned();
    }
    number(&format!("{sign}{spelled}")).map(|value| (value, Some(ChangeKind::NumberStyle)))
}

fn radix(digits: &str) -> Option<u64> {
    let body = digits.get(2..).filter(|body| !body.is_empty())?;
    let radix = match &digits[..2] {
        "0x" | "0X" => 16,
        "0b" | "0B" => 2,
        "0o" | "0O" => 8,
        _ => return None,
    };
    u64::from_str_radix(body, radix).ok()
}
