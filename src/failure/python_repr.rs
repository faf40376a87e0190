//! Reads the Python literals that gateways paste into their error texts.
//!
//! A Python service that formats a caught error writes `{'error': {'code': None}}`: JSON in all
//! but its quotes and its three constants. Replacing quotes by text breaks on every apostrophe, so
//! the literal is read properly, with a depth limit and in one pass.

use serde_json::{Map, Value};

const DEPTH_MAX: u8 = 16;

/// The dict or list that `text` begins with; what follows it is ignored.
pub(super) fn parse(text: &str) -> Option<Value> {
    let mut reader = Reader { rest: text };
    match text.as_bytes().first() {
        Some(b'{' | b'[' | b'(') => reader.value(DEPTH_MAX),
        _ => None,
    }
}

struct Reader<'a> {
    rest: &'a str,
}

impl Reader<'_> {
    fn peek(&mut self) -> Option<char> {
        self.rest = self.rest.trim_start();
        self.rest.chars().next()
    }

    fn take(&mut self, expected: char) -> Option<()> {
        let found = self.peek()?;
        if found != expected {
            return None;
        }
        self.rest = self.rest.get(found.len_utf8()..)?;
        Some(())
    }

    fn value(&mut self, depth: u8) -> Option<Value> {
        let depth = depth.checked_sub(1)?;
        match self.peek()? {
            '{' => self.dict(depth),
            '[' => self.list(depth, '[', ']'),
            '(' => self.list(depth, '(', ')'),
            '\'' | '"' => self.string().map(Value::String),
            _ => self.scalar(),
        }
    }

    fn dict(&mut self, depth: u8) -> Option<Value> {
        let mut members = Map::new();
        self.take('{')?;
        while self.peek()? != '}' {
            let key = match self.value(depth)? {
                Value::String(key) => key,
                Value::Null | Value::Bool(_) | Value::Number(_) => String::new(),
                Value::Array(_) | Value::Object(_) => return None,
            };
            self.take(':')?;
            members.insert(key, self.value(depth)?);
            if self.peek()? == ',' {
                self.take(',')?;
            }
        }
        self.take('}')?;
        Some(Value::Object(members))
    }

    fn list(&mut self, depth: u8, open: char, close: char) -> Option<Value> {
        let mut items = Vec::new();
        self.take(open)?;
        while self.peek()? != close {
            items.push(self.value(depth)?);
            if self.peek()? == ',' {
                self.take(',')?;
            }
        }
        self.take(close)?;
        Some(Value::Array(items))
    }

    fn string(&mut self) -> Option<String> {
        let quote = self.peek()?;
        let body = self.rest.get(quote.len_utf8()..)?;
        let mut text = String::new();
        let mut chars = body.char_indices();
        while let Some((at, c)) = chars.next() {
            match c {
                '\\' => match chars.next()?.1 {
                    'n' => text.push('\n'),
                    't' => text.push('\t'),
                    'r' => text.push('\r'),
                    other => text.push(other),
                },
                c if c == quote => {
                    self.rest = body.get(at + quote.len_utf8()..)?;
                    return Some(text);
                }
                c => text.push(c),
            }
        }
        None
    }

    /// Constants, numbers, and whatever else is written without quotes, an enum's repr for example.
    fn scalar(&mut self) -> Option<Value> {
        let end = self.rest.find([',', '}', ']', ')', ':']).unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at_checked(end)?;
        self.rest = rest;
        let word = word.trim();
        match word {
            "" => None,
            "None" | "null" => Some(Value::Null),
            "True" | "true" => Some(Value::Bool(true)),
            "False" | "false" => Some(Value::Bool(false)),
            _ => Some(word.parse::<i64>().map_or_else(|_| Value::from(word), Value::from)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: Option<Value>) {
        assert_eq!(parse(text), expected, "{text}");
    }

    #[test]
    fn dicts_are_read_and_broken_ones_are_not() {
        use serde_json::json;
        check("{'a': None, 'b': True}", Some(json!({"a": null, "b": true})));
        check("{'a': \"it's\", 'b': 'x\\'y'} tail", Some(json!({"a": "it's", "b": "x'y"})));
        check(
            "{'e': {'code': 429, 'l': ['x', ('y',)]}}",
            Some(json!({"e": {"code": 429, "l": ["x", ["y"]]}})),
        );
        check("{'a': <Code.X: 1>}", None);
        check("{'a'", None);
        check("plain", None);
        check(&"[".repeat(1000), None);
    }
}
