//! Whether a quote ends its string, judged by what comes after it.

use super::glyph::{self, is_quote, plain};
use super::quoted::{Inside, Role};
use super::{Kind, Reader};

/// What follows a quote, as evidence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Strength {
    /// The structure around the string goes on: it ends here.
    Strong,
    /// It may end here.
    Weak,
    /// Weak, and whichever way it is read, it is a guess.
    Doubtful,
    /// Data, and the end of a member at that: the text is muddled.
    Muddled,
    /// Data.
    No,
}

impl Reader<'_, '_> {
    /// How strongly what follows a quote says that the string ends with it.
    pub(super) fn strength(
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
            Some(_) if self.name_at_the_end(then) => Strength::Strong,
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
            && self.stack.iter().all(|frame| frame.kind != Kind::Tuple)
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
}
