//! JSON exactly as RFC 8259 writes it.
//!
//! This is serde_json's grammar read by our own loop, for what serde_json's `Value` hides: a key
//! that comes twice (the last one silently wins there), the place where a value ends inside a
//! longer text, and the offset of the first fault. It has no recursion, keeps every number as it
//! was written, and refuses what no reader of JSON downstream can hold: nesting that serde_json
//! would not read back, lone surrogates, and numbers beyond a double.

use serde_json::{Map, Number, Value};

/// Deepest nesting that is read: what serde_json reads back by default.
pub const DEPTH_MAX: usize = 127;

/// A value and what has to be known about it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Strict {
    pub value: Value,
    /// Offset after the value.
    pub end: usize,
    /// Offsets of keys that came before with another value; the first few.
    pub duplicates: Vec<usize>,
}

/// Where the text stops being JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct StrictFault {
    pub at: usize,
    /// The text ended where more was due.
    pub at_end: bool,
}

/// Reads a text that is one JSON value and white space.
pub(super) fn parse(text: &str) -> Result<Strict, StrictFault> {
    let strict = parse_prefix(text, 0)?;
    let rest = skip_space(text.as_bytes(), strict.end);
    if rest == text.len() { Ok(strict) } else { Err(StrictFault { at: rest, at_end: false }) }
}

/// Reads the JSON value that begins at `start`, whatever follows it.
pub(super) fn parse_prefix(text: &str, start: usize) -> Result<Strict, StrictFault> {
    let mut parser = Parser {
        text,
        bytes: text.as_bytes(),
        at: start,
        stack: Vec::new(),
        duplicates: Vec::new(),
    };
    let value = parser.run()?;
    Ok(Strict { value, end: parser.at, duplicates: parser.duplicates })
}

/// One string literal, decoded; `start` is after its opening quote. Gives the offset after the
/// closing one.
pub(super) fn string_at(text: &str, start: usize) -> Result<(String, usize), StrictFault> {
    let mut parser = Parser {
        text,
        bytes: text.as_bytes(),
        at: start,
        stack: Vec::new(),
        duplicates: Vec::new(),
    };
    let string = parser.string()?;
    Ok((string, parser.at))
}

/// Whether this is a number as JSON writes it.
pub(super) fn is_number(text: &str) -> bool {
    let bytes = text.as_bytes();
    matches!(number_end(bytes, 0), Some(end) if end == bytes.len())
}

enum Frame {
    Array(Vec<Value>),
    Object(Map<String, Value>, String, usize),
}

struct Parser<'t> {
    text: &'t str,
    bytes: &'t [u8],
    at: usize,
    stack: Vec<Frame>,
    duplicates: Vec<usize>,
}

const DUPLICATES_LISTED_MAX: usize = 8;

impl Parser<'_> {
    fn run(&mut self) -> Result<Value, StrictFault> {
        loop {
            let mut value = match self.next_value()? {
                Some(value) => value,
                None => continue,
            };
            loop {
                match self.attach(value)? {
                    Attached::Root(root) => return Ok(root),
                    Attached::Closed(closed) => value = closed,
                    Attached::More => break,
                }
            }
        }
    }

    /// Reads a scalar or an empty container; opens any other container and gives `None`.
    fn next_value(&mut self) -> Result<Option<Value>, StrictFault> {
        self.space();
        let value = match self.peek() {
            Some(b'"') => {
                self.at += 1;
                Value::String(self.string()?)
            }
            Some(b'{') => {
                self.deeper()?;
                self.at += 1;
                self.space();
                if self.peek() == Some(b'}') {
                    self.at += 1;
                    Value::Object(Map::new())
                } else {
                    let (key, key_at) = self.key()?;
                    self.stack.push(Frame::Object(Map::new(), key, key_at));
                    return Ok(None);
                }
            }
            Some(b'[') => {
                self.deeper()?;
                self.at += 1;
                self.space();
                if self.peek() == Some(b']') {
                    self.at += 1;
                    Value::Array(Vec::new())
                } else {
                    self.stack.push(Frame::Array(Vec::new()));
                    return Ok(None);
                }
            }
            Some(b't') => self.literal("true", Value::Bool(true))?,
            Some(b'f') => self.literal("false", Value::Bool(false))?,
            Some(b'n') => self.literal("null", Value::Null)?,
            Some(_) => Value::Number(self.number()?),
            None => return Err(self.fault()),
        };
        Ok(Some(value))
    }

    fn attach(&mut self, value: Value) -> Result<Attached, StrictFault> {
        let Some(frame) = self.stack.pop() else {
            return Ok(Attached::Root(value));
        };
        let at = skip_space(self.bytes, self.at);
        match frame {
            Frame::Array(mut items) => {
                items.push(value);
                self.at = at;
                match self.peek() {
                    Some(b',') => {
                        self.at += 1;
                        self.stack.push(Frame::Array(items));
                        Ok(Attached::More)
                    }
                    Some(b']') => {
                        self.at += 1;
                        Ok(Attached::Closed(Value::Array(items)))
                    }
                    _ => Err(self.fault()),
                }
            }
            Frame::Object(mut map, key, key_at) => {
                insert(&mut map, key, value, key_at, &mut self.duplicates);
                self.at = at;
                match self.peek() {
                    Some(b',') => {
                        self.at += 1;
                        self.space();
                        let (key, key_at) = self.key()?;
                        self.stack.push(Frame::Object(map, key, key_at));
                        Ok(Attached::More)
                    }
                    Some(b'}') => {
                        self.at += 1;
                        Ok(Attached::Closed(Value::Object(map)))
                    }
                    _ => Err(self.fault()),
                }
            }
        }
    }

    fn key(&mut self) -> Result<(String, usize), StrictFault> {
        let key_at = self.at;
        if self.peek() != Some(b'"') {
            return Err(self.fault());
        }
        self.at += 1;
        let key = self.string()?;
        self.space();
        if self.peek() != Some(b':') {
            return Err(self.fault());
        }
        self.at += 1;
        Ok((key, key_at))
    }

    fn string(&mut self) -> Result<String, StrictFault> {
        let start = self.at;
        let mut from = start;
        let mut decoded: Option<String> = None;
        loop {
            match self.peek() {
                Some(b'"') => {
                    let tail = &self.text[from..self.at];
                    self.at += 1;
                    return Ok(match decoded {
                        Some(mut head) => {
                            head.push_str(tail);
                            head
                        }
                        None => tail.to_owned(),
                    });
                }
                Some(b'\\') => {
                    let head = decoded.get_or_insert_with(String::new);
                    head.push_str(&self.text[from..self.at]);
                    let (c, end) = escape(self.bytes, self.at).ok_or(self.fault())?;
                    head.push(c);
                    self.at = end;
                    from = end;
                }
                Some(byte) if byte >= 0x20 => self.at += 1,
                Some(_) | None => return Err(self.fault()),
            }
        }
    }

    fn number(&mut self) -> Result<Number, StrictFault> {
        let end = number_end(self.bytes, self.at).ok_or(self.fault())?;
        let text = &self.text[self.at..end];
        let number = number(text).ok_or(self.fault())?;
        self.at = end;
        Ok(number)
    }

    fn literal(&mut self, word: &str, value: Value) -> Result<Value, StrictFault> {
        if self.text[self.at..].starts_with(word) {
            self.at += word.len();
            return Ok(value);
        }
        let cut = word.starts_with(&self.text[self.at..]);
        Err(StrictFault { at: self.at, at_end: cut })
    }

    fn deeper(&self) -> Result<(), StrictFault> {
        if self.stack.len() < DEPTH_MAX { Ok(()) } else { Err(self.fault()) }
    }

    fn space(&mut self) {
        self.at = skip_space(self.bytes, self.at);
    }

    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn fault(&self) -> StrictFault {
        StrictFault { at: self.at, at_end: self.at >= self.bytes.len() }
    }
}

enum Attached {
    Root(Value),
    Closed(Value),
    More,
}

/// Inserts a member; a key that came before with another value is noted, and the last one wins,
/// as with every parser that the caller may compare us with.
fn insert(
    map: &mut Map<String, Value>,
    key: String,
    value: Value,
    key_at: usize,
    duplicates: &mut Vec<usize>,
) {
    match map.entry(key) {
        serde_json::map::Entry::Vacant(slot) => {
            slot.insert(value);
        }
        serde_json::map::Entry::Occupied(mut slot) => {
            if *slot.get() != value && duplicates.len() < DUPLICATES_LISTED_MAX {
                duplicates.push(key_at);
            }
            slot.insert(value);
        }
    }
}

/// A number as a value, `None` when it is beyond a double: every reader downstream would turn it
/// into infinity or refuse it.
pub(super) fn number(text: &str) -> Option<Number> {
    // Most numbers are short integers, and those need no second reading of their digits. A
    // negative zero keeps its sign only as text.
    if text.len() < 19
        && text != "-0"
        && let Ok(integer) = text.parse::<i64>()
    {
        return Some(Number::from(integer));
    }
    let suspicious = text.len() > 300 || text.contains(['e', 'E']);
    if suspicious && !text.parse::<f64>().is_ok_and(f64::is_finite) {
        return None;
    }
    text.parse().ok()
}

fn number_end(bytes: &[u8], start: usize) -> Option<usize> {
    let digits = |from: usize| {
        let count =
            bytes[from.min(bytes.len())..].iter().take_while(|b| b.is_ascii_digit()).count();
        (count > 0).then_some(from + count)
    };
    let whole = if bytes.get(start) == Some(&b'-') { start + 1 } else { start };
    let mut end = digits(whole)?;
    if bytes[whole] == b'0' && end > whole + 1 {
        return None;
    }
    if bytes.get(end) == Some(&b'.') {
        end = digits(end + 1)?;
    }
    if matches!(bytes.get(end), Some(b'e' | b'E')) {
        let sign = matches!(bytes.get(end + 1), Some(b'+' | b'-'));
        end = digits(end + 1 + usize::from(sign))?;
    }
    Some(end)
}

/// The character of the escape at `at`, and the offset after it.
pub(super) fn escape(bytes: &[u8], at: usize) -> Option<(char, usize)> {
    let c = match bytes.get(at + 1)? {
        b'"' => '"',
        b'\\' => '\\',
        b'/' => '/',
        b'b' => '\u{8}',
        b'f' => '\u{c}',
        b'n' => '\n',
        b'r' => '\r',
        b't' => '\t',
        b'u' => return unicode_escape(bytes, at),
        _ => return None,
    };
    Some((c, at + 2))
}

fn unicode_escape(bytes: &[u8], at: usize) -> Option<(char, usize)> {
    let first = hex4(bytes, at + 2)?;
    if !(0xD800..0xE000).contains(&first) {
        return char::from_u32(first).map(|c| (c, at + 6));
    }
    if first >= 0xDC00 || bytes.get(at + 6..at + 8) != Some(b"\\u".as_slice()) {
        return None;
    }
    let second = hex4(bytes, at + 8)?;
    if !(0xDC00..0xE000).contains(&second) {
        return None;
    }
    let joined = 0x1_0000 + ((first - 0xD800) << 10) + (second - 0xDC00);
    char::from_u32(joined).map(|c| (c, at + 12))
}

/// Four hexadecimal digits at `at`.
pub(super) fn hex4(bytes: &[u8], at: usize) -> Option<u32> {
    let mut value = 0;
    for byte in bytes.get(at..at + 4)? {
        value = value * 16 + char::from(*byte).to_digit(16)?;
    }
    Some(value)
}

fn skip_space(bytes: &[u8], mut at: usize) -> usize {
    while let Some(b' ' | b'\n' | b'\r' | b'\t') = bytes.get(at) {
        at += 1;
    }
    at
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn agrees_with_serde_json(text: &str) {
        let theirs = serde_json::from_str::<Value>(text).ok();
        let ours = parse(text).ok().map(|strict| strict.value);
        assert_eq!(ours, theirs, "{text}");
    }

    #[test]
    fn reads_what_serde_json_reads() {
        for text in [
            "{}",
            "[]",
            " [ ] ",
            "{\"a\":[1,2,{\"b\":null}]}",
            "1",
            "-0",
            "-0.0",
            "1e5",
            "1E-5",
            "\"\"",
            "\"a\\u00e9\\n\"",
            "\"\\ud83d\\ude80\"",
            "true",
            "false",
            "null",
            "[1,]",
            "{,}",
            "{\"a\"}",
            "{\"a\":}",
            "01",
            "1.",
            ".5",
            "+1",
            "1e",
            "tru",
            "nulll",
            "\"\u{1}\"",
            "\"a",
            "\"\\x\"",
            "\"\\ud83d\"",
            "\"\\udc00\"",
            "[1 2]",
            "",
            " ",
            "{\"a\":1}}",
            "{\"a\":1 \"b\":2}",
        ] {
            agrees_with_serde_json(text);
        }
    }

    #[test]
    fn nesting_ends_where_serde_json_ends() {
        for depth in [126, 127, 128, 129, 100_000] {
            let text = "[".repeat(depth) + &"]".repeat(depth);
            let theirs = serde_json::from_str::<Value>(&text).is_ok();
            assert_eq!(parse(&text).is_ok(), theirs, "depth {depth}");
        }
    }

    #[test]
    fn duplicates_with_another_value_are_noted() {
        assert_eq!(parse("{\"a\":1,\"a\":2}").unwrap().duplicates, [7]);
        assert_eq!(parse("{\"a\":1,\"a\":1}").unwrap().duplicates, [0; 0]);
        assert_eq!(parse("{\"a\":{\"b\":1,\"b\":2}}").unwrap().duplicates, [12]);
    }

    #[test]
    fn numbers_beyond_a_double_are_refused() {
        assert!(parse("1e400").is_err());
        assert!(parse(&"9".repeat(400)).is_err());
        assert_eq!(
            parse("18446744073709551616").unwrap().value.to_string(),
            "18446744073709551616"
        );
    }
}
