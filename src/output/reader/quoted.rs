//! Strings in any quotes, and where they end.
//!
//! Models forget to escape quotes, so a quote ends a string only if what follows continues the
//! structure around it (*strong*). A quote that is followed by something else is data, and one
//! that could be either is *weak*: it ends the string only when no strong one comes. Every look
//! behind a quote is bounded, and when the budget is spent the first weak quote wins.

use serde_json::Value;

use super::glyph::{self, Closing, closing, is_blank, is_quote, plain};
use super::{ChangeKind, Reader, State, Step};
use crate::output::strict;

/// What the string is in the structure around it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    Key,
    Member,
    Item,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Strength {
    Strong,
    Weak,
    /// Weak, and whichever way it is read, it is a guess.
    Doubtful,
    /// Data, and the end of a member at that: the text is muddled.
    Muddled,
    No,
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
struct Inside {
    inner: usize,
    /// Offset of a quotation mark that opened a quotation inside, not yet closed.
    quotation: Option<usize>,
    curly: usize,
    brackets: usize,
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
        Ok(self.no_strong_end(start, opener, &inside))
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
                let guessed = inside.muddled.then_some(ChangeKind::QuoteGuessed);
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

    /// How strongly what follows a quote says that the string ends with it.
    fn strength(
        &mut self,
        at: usize,
        after: usize,
        c: char,
        role: Role,
        inside: &Inside,
    ) -> Strength {
        if matches!(c, '\'' | '’')
            && self.char_before(at).is_some_and(char::is_alphanumeric)
            && self.char_at(after).is_some_and(char::is_alphanumeric)
        {
            return Strength::No;
        }
        if self.budget.spent() {
            return self.strength_at_once(after, role);
        }
        let next_at = self.blank_end(after);
        let Some(next) = self.char_at(next_at) else {
            return Strength::Strong;
        };
        match role {
            Role::Key => self.key_strength(at, after, next_at, next, inside),
            Role::Member => self.member_strength(after, next_at, next, inside),
            Role::Item => self.item_strength(after, next_at, next, inside),
        }
    }

    /// Without a budget to look further: the next character alone.
    fn strength_at_once(&self, after: usize, role: Role) -> Strength {
        match (self.char_at(after), role) {
            (None, _) | (Some(':'), Role::Key) => Strength::Strong,
            (Some(',' | '}' | ']'), Role::Member | Role::Item) => Strength::Strong,
            (Some(_), _) => Strength::No,
        }
    }

    fn key_strength(
        &mut self,
        at: usize,
        after: usize,
        next_at: usize,
        next: char,
        inside: &Inside,
    ) -> Strength {
        let word = self.char_before(at).is_some_and(glyph::is_word) && inside.inner == 0;
        match plain(next) {
            ':' | '=' => Strength::Strong,
            '-' if self.text[next_at..].starts_with("->") => Strength::Strong,
            '{' | '[' | '0'..='9' if word && next_at > after => Strength::Strong,
            't' | 'f' | 'n' | 'T' | 'F' | 'N'
                if word && next_at > after && self.literal_at(next_at) =>
            {
                Strength::Strong
            }
            ',' | '}' | '{' | '[' | '0'..='9' => Strength::Weak,
            c if is_quote(c) && word && next_at > after => {
                if self.quoted_value(next_at) {
                    Strength::Strong
                } else {
                    Strength::Weak
                }
            }
            _ => Strength::No,
        }
    }

    fn member_strength(
        &mut self,
        after: usize,
        next_at: usize,
        next: char,
        inside: &Inside,
    ) -> Strength {
        match plain(next) {
            '}' | ']' | ')' => self.closer_strength(next_at, inside),
            ',' | ';' => {
                let then = self.blank_end(next_at + next.len_utf8());
                self.separator_strength(then)
            }
            ':' => Strength::Muddled,
            '+' => self.plus_strength(next_at),
            '/' | '#' | '<' => self.comment_strength(after, next_at),
            '`' if self.text[next_at..].starts_with("```") => Strength::Strong,
            '.' | '…' if next_at > after && self.text[next_at..].starts_with(['…', '.']) => {
                Strength::Weak
            }
            '{' if self.line_break_before(next_at) => Strength::Strong,
            c if next_at > after && self.key_colon(next_at) => {
                if is_quote(c) || self.line_break_before(next_at) {
                    Strength::Strong
                } else {
                    Strength::Weak
                }
            }
            _ => Strength::No,
        }
    }

    /// After a string and a comma in an object: a name has to come.
    fn separator_strength(&mut self, then: usize) -> Strength {
        match self.char_at(then).map(plain) {
            None => Strength::Strong,
            Some('}' | ']') => self.closer_after_comma(then),
            Some('/' | '#' | '…') => Strength::Strong,
            Some('.') if self.text[then..].starts_with("...") => Strength::Strong,
            Some('{') if self.line_break_before(then) => Strength::Strong,
            Some('`') if self.text[then..].starts_with("```") => Strength::Strong,
            Some(_) if self.key_colon(then) || self.word_then_key(then) => Strength::Strong,
            Some(_) => Strength::Weak,
        }
    }

    /// A stray word before the next name: `"v", NOTE "n": 1`.
    fn word_then_key(&mut self, at: usize) -> bool {
        let length = self.text[at..].bytes().take(24).take_while(u8::is_ascii_uppercase).count();
        let next = self.blank_end(at + length);
        length > 0
            && next > at + length
            && self.char_at(next).is_some_and(is_quote)
            && self.key_colon(next)
    }

    fn item_strength(
        &mut self,
        after: usize,
        next_at: usize,
        next: char,
        inside: &Inside,
    ) -> Strength {
        match plain(next) {
            '}' | ']' | ')' => self.closer_strength(next_at, inside),
            ',' | ';' => {
                let then = self.blank_end(next_at + next.len_utf8());
                self.item_separator_strength(then, inside)
            }
            '+' => self.plus_strength(next_at),
            ':' => Strength::Muddled,
            '/' | '#' | '<' => self.comment_strength(after, next_at),
            '`' if self.text[next_at..].starts_with("```") => Strength::Strong,
            '{' | '[' if self.line_break_before(next_at) => Strength::Strong,
            c if is_quote(c) && next_at > after => {
                if self.line_break_before(next_at)
                    || inside.quotation.is_none() && inside.inner == 0
                {
                    Strength::Strong
                } else {
                    Strength::Weak
                }
            }
            '0'..='9' | '-' if self.line_break_before(next_at) => Strength::Strong,
            _ => Strength::No,
        }
    }

    fn item_separator_strength(&mut self, then: usize, inside: &Inside) -> Strength {
        match self.char_at(then).map(plain) {
            None | Some('/' | '#' | '…' | '{' | '[' | '(' | '-' | '0'..='9') => Strength::Strong,
            Some('}' | ']' | ')') => self.closer_after_comma(then),
            Some('.') if self.text[then..].starts_with("...") => Strength::Strong,
            Some(c) if is_quote(c) => {
                // `"He said "yes", "no" and left"`: a quotation inside ends here, or the string.
                if inside.quotation.is_some() { Strength::Muddled } else { Strength::Strong }
            }
            Some(_) if self.literal_at(then) => Strength::Strong,
            Some(_) if inside.inner == 0 && self.word_with_quote(then) => Strength::Strong,
            Some(_) => Strength::Weak,
        }
    }

    fn closer_after_comma(&mut self, then: usize) -> Strength {
        if self.closes_well(then) { Strength::Strong } else { Strength::Weak }
    }

    /// A closing bracket follows: it has to fit the stack, unless it closes one inside the string.
    fn closer_strength(&mut self, next_at: usize, inside: &Inside) -> Strength {
        // A round bracket closes nothing outside a tuple.
        if self.char_at(next_at).map(plain) == Some(')')
            && self.stack.iter().all(|frame| frame.kind != super::Kind::Tuple)
        {
            return Strength::No;
        }
        let well = self.closes_well(next_at);
        let closes_inside = inside.brackets > 0 && inside.inner > 0;
        match (well, closes_inside) {
            (true, false) => Strength::Strong,
            (true, true) | (false, false) => Strength::Doubtful,
            (false, true) => Strength::No,
        }
    }

    fn plus_strength(&mut self, next_at: usize) -> Strength {
        let then = self.blank_end(next_at + 1);
        if self.char_at(then).is_some_and(is_quote) { Strength::Strong } else { Strength::No }
    }

    fn comment_strength(&self, after: usize, next_at: usize) -> Strength {
        let rest = &self.text[next_at..];
        let comment = rest.starts_with("//") || rest.starts_with("/*") || rest.starts_with("<!--");
        if rest.starts_with("<|") || comment || (rest.starts_with("# ") && next_at > after) {
            Strength::Strong
        } else {
            Strength::No
        }
    }

    fn literal_at(&self, at: usize) -> bool {
        let rest = &self.text[at..];
        let length = rest.bytes().take(12).take_while(u8::is_ascii_alphabetic).count();
        glyph::is_literal(&rest[..length])
    }

    /// No quote certainly ended the string: the first that could, else the end of the text.
    fn no_strong_end(&mut self, start: usize, opener: char, inside: &Inside) -> Ending {
        if let Some(at) = inside.weak {
            let after = at + self.char_at(at).map_or(1, char::len_utf8);
            let guessed = Some(ChangeKind::QuoteGuessed);
            return Ending { content: at, after, cut: false, guessed, inner: 0 };
        }
        let _ = (start, opener);
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
        let unescaped = unescape(content, cut);
        if let Some(kind) = unescaped.change {
            self.note(kind, from);
        }
        unescaped.text
    }
}

/// A decoded string and what had to be done for it.
struct Unescaped {
    text: String,
    change: Option<ChangeKind>,
}

/// Decodes escapes. One that JSON does not know keeps its backslash (`\d` and `\Users` mean what
/// they say), except for quotes and the pairs that Markdown writes (`\_`, `\*`).
fn unescape(content: &str, cut: bool) -> Unescaped {
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
                if cut && rest[1..].bytes().all(|b| b.is_ascii_hexdigit()) && rest.len() < 5 =>
            {
                break_off(&mut at, content)
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

fn break_off(at: &mut usize, content: &str) {
    *at = content.len();
}
