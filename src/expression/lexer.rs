//! The words of an expression.

use super::{ExpressionError, refusal};

/// One word with the byte at which it starts.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Token {
    pub(super) at: usize,
    pub(super) kind: Kind,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Kind {
    Name(String),
    /// A whole number without its sign.
    Int(u64),
    UInt(u64),
    Double(f64),
    Text(String),
    /// An operator or a bracket.
    Sign(&'static str),
    End,
}

/// Longer signs first, so that `<=` is not read as `<`.
const SIGNS: [&str; 25] = [
    "==", "!=", "<=", ">=", "&&", "||", "<", ">", "+", "-", "*", "/", "%", "!", "?", ":", ".", ",",
    "(", ")", "[", "]", "{", "}", "=",
];

pub(super) struct Lexer<'a> {
    source: &'a str,
    at: usize,
}

impl<'a> Lexer<'a> {
    /// All words, the end among them.
    pub(super) fn read(source: &'a str) -> Result<Vec<Token>, ExpressionError> {
        let mut lexer = Self { source, at: 0 };
        let mut tokens = Vec::new();
        loop {
            lexer.skip_blanks();
            let at = lexer.at;
            let kind = lexer.word()?;
            let end = kind == Kind::End;
            tokens.push(Token { at, kind });
            if end {
                return Ok(tokens);
            }
        }
    }

    fn rest(&self) -> &'a str {
        &self.source[self.at..]
    }

    fn refuse<T>(&self, at: usize, message: impl Into<String>) -> Result<T, ExpressionError> {
        Err(refusal(self.source, at, message, None))
    }

    fn skip_blanks(&mut self) {
        loop {
            let rest = self.rest();
            let blanks = rest.len() - rest.trim_start().len();
            self.at += blanks;
            if !self.rest().starts_with("//") {
                return;
            }
            self.at += self.rest().find('\n').unwrap_or(self.rest().len());
        }
    }

    fn word(&mut self) -> Result<Kind, ExpressionError> {
        let rest = self.rest();
        let Some(first) = rest.chars().next() else {
            return Ok(Kind::End);
        };
        let digit_follows = rest[first.len_utf8()..].starts_with(|c: char| c.is_ascii_digit());
        if first.is_ascii_digit() || (first == '.' && digit_follows) {
            return self.number();
        }
        if first == '\'' || first == '"' {
            return self.text(false);
        }
        if first.is_ascii_alphabetic() || first == '_' {
            let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
            let length = rest.find(|c| !is_part(c)).unwrap_or(rest.len());
            let (name, after) = rest.split_at(length);
            if after.starts_with(['\'', '"']) {
                match name {
                    "r" | "R" => {
                        self.at += 1;
                        return self.text(true);
                    }
                    "b" | "B" | "br" | "rb" | "bR" | "Br" | "BR" | "rB" | "Rb" | "RB" => {
                        return self.refuse(self.at, "byte strings do not exist here");
                    }
                    _ => {}
                }
            }
            self.at += length;
            return Ok(Kind::Name(name.to_owned()));
        }
        match SIGNS.iter().find(|sign| rest.starts_with(**sign)) {
            Some(sign) => {
                self.at += sign.len();
                Ok(Kind::Sign(sign))
            }
            None => self.refuse(self.at, format!("unexpected `{first}`")),
        }
    }

    fn number(&mut self) -> Result<Kind, ExpressionError> {
        let (start, rest) = (self.at, self.rest());
        if let Some(hex) = rest.strip_prefix("0x").or_else(|| rest.strip_prefix("0X")) {
            let digits = hex.find(|c: char| !c.is_ascii_hexdigit()).unwrap_or(hex.len());
            self.at += 2 + digits;
            let value = u64::from_str_radix(&hex[..digits], 16);
            return self.whole(start, value.ok());
        }
        let digits = |text: &str| text.bytes().take_while(u8::is_ascii_digit).count();
        let mut length = digits(rest);
        let mut whole = true;
        let fraction = rest[length..].strip_prefix('.').map_or(0, digits);
        if fraction > 0 {
            (length, whole) = (length + 1 + fraction, false);
        }
        if let Some(exponent) = rest[length..].strip_prefix(['e', 'E']) {
            let sign = usize::from(exponent.starts_with(['+', '-']));
            let count = digits(&exponent[sign..]);
            if count > 0 {
                (length, whole) = (length + 1 + sign + count, false);
            }
        }
        self.at += length;
        let text = &rest[..length];
        if whole {
            return self.whole(start, text.parse().ok());
        }
        match text.parse::<f64>() {
            Ok(value) if value.is_finite() => Ok(Kind::Double(value)),
            Ok(_) | Err(_) => self.refuse(start, "the number is outside the range of doubles"),
        }
    }

    fn whole(&mut self, start: usize, value: Option<u64>) -> Result<Kind, ExpressionError> {
        let Some(value) = value else {
            return self.refuse(start, "the number is outside the range of integers");
        };
        if self.rest().starts_with(['u', 'U']) {
            self.at += 1;
            return Ok(Kind::UInt(value));
        }
        Ok(Kind::Int(value))
    }

    fn text(&mut self, raw: bool) -> Result<Kind, ExpressionError> {
        let start = self.at;
        let quote = if self.rest().starts_with('"') { "\"" } else { "'" };
        let triple = quote.repeat(3);
        let end = if self.rest().starts_with(&triple) { triple } else { quote.to_owned() };
        self.at += end.len();
        let mut text = String::new();
        loop {
            if self.rest().starts_with(&end) {
                self.at += end.len();
                return Ok(Kind::Text(text));
            }
            let Some(c) = self.rest().chars().next() else {
                return self.refuse(start, "the string has no end");
            };
            if end.len() == 1 && (c == '\n' || c == '\r') {
                return self.refuse(start, "the string has no end on its line");
            }
            self.at += c.len_utf8();
            if c == '\\' && !raw {
                text.push(self.escape()?);
            } else {
                text.push(c);
            }
        }
    }

    fn escape(&mut self) -> Result<char, ExpressionError> {
        let at = self.at - 1;
        let Some(c) = self.rest().chars().next() else {
            return self.refuse(at, "the string has no end");
        };
        self.at += c.len_utf8();
        let (digits, radix) = match c {
            'a' => return Ok('\u{7}'),
            'b' => return Ok('\u{8}'),
            'f' => return Ok('\u{c}'),
            'n' => return Ok('\n'),
            'r' => return Ok('\r'),
            't' => return Ok('\t'),
            'v' => return Ok('\u{b}'),
            '\\' | '?' | '"' | '\'' | '`' => return Ok(c),
            'x' | 'X' => (2, 16),
            'u' => (4, 16),
            'U' => (8, 16),
            '0'..='3' => {
                self.at -= 1;
                (3, 8)
            }
            _ => return self.refuse(at, format!("`\\{c}` is no escape")),
        };
        let code = self.rest().get(..digits).and_then(|d| u32::from_str_radix(d, radix).ok());
        match code.and_then(char::from_u32) {
            Some(c) => {
                self.at += digits;
                Ok(c)
            }
            None => self.refuse(at, "the escape is no character"),
        }
    }
}
