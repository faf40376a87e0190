//! Strings in any quotes, and where they end.
//!
//! Models forget to escape quotes, so a quote ends a string only if what follows continues the
//! structure around it (*strong*). A quote that is followed by something else is data, and one
//! that could be either is *weak*: it ends the string only when no strong one comes. Every look
//! behind a quote is bounded, and when the budget is spent the first weak quote wins.

use serde_json::Value;

use super::glyph::{self, Closing, closing, is_blank, is_quote};
use super::strength::Strength;
use super::{ChangeKind, Reader, State, Step, escape};
use crate::output::strict;

/// What the string is in the structure around it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    Key,
    Member,
    Item,
}

/// Where a string ends.
#[derive(Debug, Clone, Copy)]
struct Ending {
    /// Offset after the last character of the content.
    content: usize,
    /// Offset after the closing quote.
    after: usize,
    /// The text ended inside the string.
    cut: bool,
    /// The end was guessed.
    guessed: Option<ChangeKind>,
    inner: usize,
}

/// What was seen inside the string so far.
#[derive(Debug, Default)]
pub(super) struct Inside {
    pub inner: usize,
    /// Offset of a quotation mark that opened a quotation inside, not yet closed.
    pub quotation: Option<usize>,
    curly: usize,
    pub brackets: usize,
    weak: Option<usize>,
    muddled: bool,
    colon: Option<usize>,
}

impl Reader<'_, '_> {
    pub(super) fn string_value(&mut self) -> Step<State> {
        let role = if self.in_list() { Role::Item } else { Role::Member };
        let (string, cut) = self.string(role)?;
        match string {
            Some(string) => {
                let state = self.attach(Value::String(string))?;
                if cut { self.end_of_text() } else { Ok(state) }
            }
            None => self.end_of_text(),
        }
    }

    pub(super) fn quoted_key(&mut self) -> Step<State> {
        let key_at = self.at;
        let (key, cut) = self.string(Role::Key)?;
        match key {
            Some(key) if !cut => self.colon(key, key_at, false),
            Some(_) | None => {
                self.note(ChangeKind::TailDropped, key_at);
                self.end_of_text()
            }
        }
    }

    /// Whether a string follows the plus sign at the current place, and one was before it.
    pub(super) fn joins_string(&mut self) -> bool {
        let next = self.blank_end(self.at + 1);
        self.char_at(next).is_some_and(is_quote) && self.last_string().is_some()
    }

    pub(super) fn join(&mut self) -> Step<State> {
        self.note(ChangeKind::StringsJoined, self.at);
        self.at += 1;
        self.skip(false);
        self.join_here()
    }

    pub(super) fn join_here(&mut self) -> Step<State> {
        let role = if self.in_list() { Role::Item } else { Role::Member };
        let (string, cut) = self.string(role)?;
        if let (Some(more), Some(last)) = (string, self.last_string()) {
            last.push_str(&more);
        }
        if cut { self.end_of_text() } else { Ok(State::After) }
    }

    fn last_string(&mut self) -> Option<&mut String> {
        let frame = self.stack.last_mut()?;
        let last = match frame.kind {
            super::Kind::Object => frame.map.iter_mut().next_back().map(|(_, value)| value),
            super::Kind::Array | super::Kind::Tuple => frame.items.last_mut(),
        };
        match last {
            Some(Value::String(string)) => Some(string),
            Some(_) | None => None,
        }
    }

    /// Reads the string whose opening quote is here. `None` when nothing of it was left.
    fn string(&mut self, role: Role) -> Step<(Option<String>, bool)> {
        let begin = self.at;
        let Some(opener) = self.peek() else {
            return self.refuse();
        };
        if self.is_json
            && let Ok((string, after)) = strict::string_at(self.text, begin + 1)
        {
            self.budget.take(after - begin);
            self.at = after;
            return Ok((Some(string), false));
        }
        if let Some(strict) = self.plain_string(opener, role) {
            return Ok((Some(strict), false));
        }
        if let Some(triple) = self.triple(opener) {
            return Ok((Some(triple), false));
        }
        if opener != '"' {
            self.note(ChangeKind::QuoteStyle, begin);
        }
        let start = begin + opener.len_utf8();
        let ending = self.ending(start, opener, role)?;
        self.at = ending.after;
        if let Some(kind) = ending.guessed {
            self.note(kind, ending.content);
        }
        let (from, to) = self.undoubled(start, ending, opener);
        if ending.cut {
            self.note(ChangeKind::TailMissing, to);
            let to = self.without_tail(from, to);
            if from == to {
                return Ok((None, true));
            }
            return Ok((Some(self.decode(from, to, true)), true));
        }
        if ending.inner > 0 && from == start {
            self.note(ChangeKind::InnerQuote, begin);
        }
        Ok((Some(self.decode(from, to, false)), false))
    }

    /// The common case: a proper JSON string with an unmistakable end.
    fn plain_string(&mut self, opener: char, role: Role) -> Option<String> {
        if opener != '"' {
            return None;
        }
        let start = self.at + 1;
        let (string, after) = strict::string_at(self.text, start).ok()?;
        self.budget.take(after - start);
        let next = self.char_at(after)?;
        let obvious = match role {
            Role::Key => next == ':',
            Role::Member => {
                next == ',' && matches!(self.char_at(after + 1), Some(' ' | '\n' | '"')) && {
                    let key = self.blank_end(after + 1);
                    self.char_at(key) == Some('"') && self.key_colon(key)
                }
            }
            Role::Item => false,
        };
        if !obvious || self.looks_unclosed(&string, start, after - 1) {
            return None;
        }
        self.at = after;
        Some(string)
    }

    /// A string that swallowed a name: `"key: "value"` or `"Rome, "pop": 1`.
    fn looks_unclosed(&self, string: &str, start: usize, end: usize) -> bool {
        let tail = string.trim_end();
        tail.ends_with(',') || tail.ends_with(':') || tail.is_empty() && end > start
    }

    /// A string in triple quotes.
    fn triple(&mut self, opener: char) -> Option<String> {
        let (mark, slot) = match opener {
            '"' => ("\"\"\"", 0),
            '\'' => ("'''", 1),
            _ => return None,
        };
        let start = self.at + 3;
        let body = self.text[self.at..].strip_prefix(mark)?;
        if start >= self.triples_end[slot] {
            return None;
        }
        let Some(length) = body.find(mark) else {
            self.triples_end[slot] = start;
            return None;
        };
        if length == 0 {
            return None;
        }
        self.budget.take(length);
        self.note(ChangeKind::QuoteStyle, self.at);
        // The content may itself end in a quote: the last three of a run close it.
        let run = body[length..].bytes().take_while(|b| char::from(*b) == opener).count();
        let end = start + length + (run - 3).min(2);
        let string = self.decode(start, end, false);
        self.at = end + 3;
        Some(string)
    }

    /// Finds the end of the string whose content begins at `start`.
    fn ending(&mut self, start: usize, opener: char, role: Role) -> Step<Ending> {
        let mut inside = Inside::default();
        if self.is_json {
            return Ok(self.no_strong_end(&inside));
        }
        let mut at = start;
        while let Some(c) = self.char_at(at) {
            if !self.budget.take(1) && self.budget.spent() && inside.weak.is_some() {
                break;
            }
            match c {
                '\\' => {
                    at += 1;
                    at += self.char_at(at).map_or(0, char::len_utf8);
                    continue;
                }
                '{' | '[' => inside.brackets += 1,
                '}' | ']' => inside.brackets = inside.brackets.saturating_sub(1),
                ':' if inside.colon.is_none() => inside.colon = Some(at),
                _ => {
                    if let Some(ending) =
                        self.quote_inside(start, at, c, opener, role, &mut inside)?
                    {
                        return Ok(ending);
                    }
                }
            }
            at += c.len_utf8();
        }
        Ok(self.no_strong_end(&inside))
    }

    /// Handles a character that may be a quote; gives the ending when the string ends.
    fn quote_inside(
        &mut self,
        start: usize,
        at: usize,
        c: char,
        opener: char,
        role: Role,
        inside: &mut Inside,
    ) -> Step<Option<Ending>> {
        if c.is_ascii() && !matches!(c, '"' | '\'' | '`') {
            return Ok(None);
        }
        let class = closing(opener, c);
        if glyph::opens_inside(c) && !glyph::opens_inside(opener) {
            inside.curly += 1;
            return Ok(None);
        }
        if class == Closing::No {
            return Ok(None);
        }
        if class == Closing::Relative && c != '"' && inside.curly > 0 {
            inside.curly -= 1;
            return Ok(None);
        }
        if let Some(ending) = self.missing_end(start, at, role, inside) {
            return Ok(Some(ending));
        }
        let after = at + c.len_utf8();
        let strength = self.strength(at, after, c, role, inside);
        match (strength, class) {
            (Strength::Strong, _) => {
                if let Some(ending) = self.unmatched_quotation(start, after, role, inside) {
                    return Ok(Some(ending));
                }
                // A quotation inside that never closed: one of the two quotes is too few.
                let unbalanced = inside.quotation.is_some_and(|opened| opened > start);
                let guessed = (inside.muddled || unbalanced).then_some(ChangeKind::QuoteGuessed);
                return Ok(Some(Ending {
                    content: at,
                    after,
                    cut: false,
                    guessed,
                    inner: inside.inner,
                }));
            }
            (Strength::Weak, Closing::Partner) => {
                inside.weak = inside.weak.or(Some(at));
            }
            (Strength::Doubtful, Closing::Partner) => {
                inside.weak = inside.weak.or(Some(at));
                inside.muddled = true;
            }
            (Strength::Muddled, _)
                if role != Role::Key && inside.inner == 0 && inside.brackets == 0 =>
            {
                return self.refuse(); // `"a": "b" : "c"`
            }
            (Strength::Muddled | Strength::Doubtful, _) => inside.muddled = true,
            (Strength::Weak | Strength::No, _) => (),
        }
        inside.inner += 1;
        self.quotation(start, at, after, inside);
        Ok(None)
    }

    /// Keeps track of quotations inside the string.
    fn quotation(&self, start: usize, at: usize, after: usize, inside: &mut Inside) {
        if inside.quotation.is_some() {
            inside.quotation = None;
            return;
        }
        let before = if at == start { None } else { self.char_before(at) };
        let opens_after = before.is_none_or(|c| {
            is_blank(c) || matches!(c, '(' | '[' | '{' | '<' | ',' | '=' | '-' | '—' | ':' | '>')
        });
        let goes_on = self.char_at(after).is_some_and(|c| !is_blank(c));
        if opens_after && goes_on {
            inside.quotation = Some(at);
        }
    }

    /// The string's own closing quote was forgotten: this quote begins the next name or item.
    fn missing_end(
        &mut self,
        start: usize,
        at: usize,
        role: Role,
        inside: &Inside,
    ) -> Option<Ending> {
        if at == start || inside.quotation.is_some() || inside.brackets > 0 {
            return None;
        }
        let trimmed = self.text[start..at].trim_end_matches(is_blank);
        let last = trimmed.chars().next_back()?;
        let broken = start + trimmed.len();
        let line_break = self.text[broken..at].contains('\n');
        let content = match role {
            Role::Key => {
                let colon = if last == ':' { Some(broken - 1) } else { inside.colon };
                colon?
            }
            Role::Member if last == ',' || line_break => {
                if !self.key_colon(at) {
                    return None;
                }
                if last == ',' { broken - 1 } else { broken }
            }
            Role::Item if last == ',' && line_break => broken - 1,
            Role::Member | Role::Item => return None,
        };
        let kind = Some(ChangeKind::QuoteGuessed);
        Some(Ending { content, after: content, cut: false, guessed: kind, inner: inside.inner })
    }

    /// `["abc, "def"]`: a quotation that opened after a comma and never closed is the next item.
    fn unmatched_quotation(
        &self,
        start: usize,
        after: usize,
        role: Role,
        inside: &Inside,
    ) -> Option<Ending> {
        let opened = inside
            .quotation
            .filter(|opened| role == Role::Item && *opened > start && *opened < after)?;
        let before = self.text[start..opened].trim_end_matches(is_blank);
        if !before.ends_with(',') || inside.muddled {
            return None;
        }
        let content = start + before.len() - 1;
        let guessed = Some(ChangeKind::QuoteGuessed);
        Some(Ending { content, after: content, cut: false, guessed, inner: inside.inner - 1 })
    }

    /// No quote certainly ended the string: the first that could, else the end of the text.
    fn no_strong_end(&self, inside: &Inside) -> Ending {
        if let Some(at) = inside.weak {
            let after = at + self.char_at(at).map_or(1, char::len_utf8);
            let guessed = Some(ChangeKind::QuoteGuessed);
            return Ending { content: at, after, cut: false, guessed, inner: 0 };
        }
        let end = self.text.len();
        Ending { content: end, after: end, cut: true, guessed: None, inner: inside.inner }
    }

    /// `""value"` and `""value""`: a quote written twice.
    fn undoubled(&mut self, start: usize, ending: Ending, opener: char) -> (usize, usize) {
        let end = ending.content;
        let quote = opener.len_utf8();
        if ending.inner == 0 || end <= start + quote || self.char_at(start) != Some(opener) {
            return (start, end);
        }
        let closes_twice = self.char_before(end) == Some(opener) && end - quote > start;
        match (ending.inner, closes_twice) {
            (1, false) => {
                self.note(ChangeKind::QuoteDoubled, start);
                (start + quote, end)
            }
            (2, true) => {
                self.note(ChangeKind::QuoteDoubled, start);
                (start + quote, end - quote)
            }
            (_, _) => (start, end),
        }
    }

    /// Where the content of a cut string ends: without a closing fence after it.
    fn without_tail(&self, from: usize, to: usize) -> usize {
        let content = &self.text[from..to];
        let trimmed = content.trim_end();
        match trimmed.strip_suffix("```") {
            Some(body) => from + body.trim_end().len(),
            None => to,
        }
    }

    /// The string that the text between the offsets spells.
    fn decode(&mut self, from: usize, to: usize, cut: bool) -> String {
        let content = &self.text[from..to];
        self.budget.take(content.len() / 8);
        if content.bytes().any(|byte| byte < 0x20) {
            self.note(ChangeKind::ControlCharacter, from);
        }
        if !content.contains('\\') {
            return content.to_owned();
        }
        let unescaped = escape::unescape(content, cut);
        if let Some(kind) = unescaped.change {
            self.note(kind, from);
        }
        unescaped.text
    }
}
