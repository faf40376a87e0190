//! Reads JSON that is not quite JSON, in one pass, and notes every liberty that it takes.
//!
//! The reader is a loop over an explicit stack: nesting that a model (or an attacker) writes can
//! exhaust the depth limit, never the thread's stack. It reads one value from a given place on;
//! where the value begins and whether it is the answer is not its business. A note is either
//! harmless or lossy (see [`ChangeKind`]), and that alone decides the verdict: that the text could
//! be read proves nothing. Where the text makes no sense at all, or holds the gap of an unfilled
//! template, the reader refuses; a wrong value is worse than none.

mod bare;
mod close;
mod escape;
mod glyph;
mod look;
mod quoted;
mod space;
mod strength;
#[cfg(test)]
mod tests;

use serde_json::{Map, Value};

use super::budget::Budget;
use super::change::{ChangeKind, Changes};
use super::strict::DEPTH_MAX;
use glyph::plain;

pub(super) use glyph::{is_blank, is_quote, wide_digit};

/// What the reader got out of the text.
#[derive(Debug)]
pub(super) struct Reading {
    pub value: Value,
    /// Offset after the value.
    pub end: usize,
    pub changes: Changes,
    /// How many containers were still open when the text ended; 0 for a closed value.
    pub open: usize,
}

/// The text makes no sense as JSON from here on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Refusal {
    /// Offset of the fault; told to the model in a re-ask.
    pub at: usize,
    /// The depth limit was met: nothing inside is worth reading either.
    pub too_deep: bool,
}

/// What the reader begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Head {
    /// An opening bracket stands in the text.
    Bracket,
    /// The same, and all that follows is JSON that breaks off with the text: nothing in it is to
    /// be guessed but where the rest went.
    Cut,
    /// The opening brace is missing.
    Members,
    /// The opening bracket is missing.
    Items,
}

/// Reads one value from `start` on.
pub(super) fn read(
    text: &str,
    start: usize,
    head: Head,
    budget: &mut Budget,
) -> Result<Reading, Refusal> {
    let mut reader = Reader {
        text,
        bytes: text.as_bytes(),
        at: start,
        stack: Vec::new(),
        changes: Changes::default(),
        budget,
        root: None,
        open: 0,
        triples_end: [text.len(); 2],
        is_json: head == Head::Cut,
    };
    reader.run(head)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Array,
    Tuple,
    Object,
}

#[derive(Debug)]
struct Frame {
    kind: Kind,
    items: Vec<Value>,
    map: Map<String, Value>,
    key: Option<(String, usize)>,
    /// Strings that stood where a member was due, without a value: a set.
    keyless: Vec<Value>,
    /// Opened by `{{`.
    doubled: bool,
    commas: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Value,
    Key,
    After,
    Done,
}

struct Reader<'t, 'b> {
    text: &'t str,
    bytes: &'t [u8],
    at: usize,
    stack: Vec<Frame>,
    changes: Changes,
    budget: &'b mut Budget,
    root: Option<Value>,
    open: usize,
    /// From where on no closing triple quote is left, by quote.
    triples_end: [usize; 2],
    /// Up to the end of the text this is JSON: every quote means what it says.
    is_json: bool,
}

type Step<T> = Result<T, Refusal>;

impl Reader<'_, '_> {
    fn run(&mut self, head: Head) -> Step<Reading> {
        let mut state = match head {
            Head::Bracket | Head::Cut => State::Value,
            Head::Members => self.open_missing(Kind::Object),
            Head::Items => self.open_missing(Kind::Array),
        };
        while state != State::Done {
            if !self.budget.take(1) {
                return self.refuse();
            }
            state = match state {
                State::Value => self.value()?,
                State::Key => self.key()?,
                State::After => self.after()?,
                State::Done => State::Done,
            };
        }
        let value = self.root.take().ok_or(Refusal { at: self.at, too_deep: false })?;
        let changes = std::mem::take(&mut self.changes);
        Ok(Reading { value, end: self.at, changes, open: self.open })
    }

    fn open_missing(&mut self, kind: Kind) -> State {
        self.note(ChangeKind::OpenerAdded, self.at);
        self.stack.push(Frame::new(kind));
        if kind == Kind::Object { State::Key } else { State::Value }
    }

    /// A value is due.
    fn value(&mut self) -> Step<State> {
        self.skip(self.in_object() || self.stack.is_empty());
        let Some(c) = self.peek() else {
            return self.end_of_text();
        };
        match plain(c) {
            '{' if self.is_placeholder() => self.refuse(),
            '{' => self.open(Kind::Object, c),
            '[' => self.open(Kind::Array, c),
            '(' => self.open(Kind::Tuple, c),
            '}' | ']' | ')' => self.no_value(c),
            ',' => {
                self.bump(c);
                self.value_missing();
                Ok(if self.in_object() { State::Key } else { State::Value })
            }
            ':' | '=' if self.in_object() => {
                self.note(ChangeKind::ColonFixed, self.at);
                self.bump(c);
                Ok(State::Value)
            }
            '<' => self.refuse(),
            '.' | '…' if self.skip_ellipsis() => {
                self.drop_key();
                Ok(State::After)
            }
            _ if self.at_end_mark() => self.end_of_text(),
            _ if is_quote(c) && self.is_next_member() => {
                self.note(ChangeKind::CloserAdded, self.at);
                self.finish_frame()?;
                Ok(State::Key)
            }
            _ if is_quote(c) => self.string_value(),
            _ => self.bare_value(),
        }
    }

    /// A name and a colon where an item is due: the list inside the object was never closed.
    fn is_next_member(&mut self) -> bool {
        let in_list = self.stack.last().is_some_and(|frame| frame.kind == Kind::Array);
        in_list && self.parent_kind() == Some(Kind::Object) && self.key_colon(self.at)
    }

    /// A closing bracket stands where a value is due.
    fn no_value(&mut self, c: char) -> Step<State> {
        let Some(frame) = self.stack.last() else {
            return self.refuse();
        };
        if frame.key.is_some() {
            self.value_missing();
        } else if frame.commas > 0 && frame.kind == Kind::Array {
            self.note(ChangeKind::CommaRemoved, self.at);
        }
        self.close(c)
    }

    /// A member's name, or the end of the object, is due.
    fn key(&mut self) -> Step<State> {
        self.skip(false);
        let Some(c) = self.peek() else {
            return self.end_of_text();
        };
        match plain(c) {
            '}' | ']' | ')' => {
                if self.stack.last().is_some_and(|frame| frame.commas > 0) {
                    self.note(ChangeKind::CommaRemoved, self.at);
                }
                self.close(c)
            }
            ',' | ';' => {
                self.note(ChangeKind::ValueMissing, self.at);
                self.bump(c);
                self.count_comma();
                Ok(State::Key)
            }
            '{' => self.brace_for_key(),
            '.' | '…' if self.skip_ellipsis() => Ok(State::After),
            _ if self.at_end_mark() => self.end_of_text(),
            _ if is_quote(c) => self.quoted_key(),
            _ => self.bare_key(),
        }
    }

    /// An opening brace where a name is due: doubled braces, or the object was never closed.
    fn brace_for_key(&mut self) -> Step<State> {
        let parent_is_list = self.parent_kind().is_some_and(|kind| kind != Kind::Object);
        let at = self.at;
        let Some(frame) = self.stack.last_mut() else {
            return self.refuse();
        };
        if frame.map.is_empty() && frame.keyless.is_empty() && !frame.doubled && frame.commas == 0 {
            frame.doubled = true;
            self.note(ChangeKind::BracketStyle, at);
            self.at += 1;
            return Ok(State::Key);
        }
        if parent_is_list {
            self.note(ChangeKind::CloserAdded, at);
            self.finish_frame()?;
            return Ok(State::Value);
        }
        self.refuse()
    }

    /// The separator between a name and its value is due. `bare` names are held to stricter
    /// rules: prose in braces is full of words, and few of them are followed by a colon.
    fn colon(&mut self, key: String, key_at: usize, bare: bool) -> Step<State> {
        self.skip(false);
        let Some(c) = self.peek() else {
            return self.end_of_text();
        };
        let rest = &self.text[self.at..];
        let length = match plain(c) {
            ':' if rest.starts_with(":=") => 2,
            ':' => c.len_utf8(),
            '=' if rest.starts_with("==") => return self.refuse(),
            '=' if rest.starts_with("=>") => 2,
            '=' => c.len_utf8(),
            '-' if rest.starts_with("->") => 2,
            ',' | '}' if !bare => {
                self.keyless(key);
                return Ok(State::After);
            }
            _ if is_quote(c) => 0,
            '{' | '[' | '0'..='9' => 0,
            't' | 'f' | 'n' | 'T' | 'F' | 'N' if !bare && glyph::is_literal(self.word()) => 0,
            _ => return self.refuse(),
        };
        if length != 1 || c != ':' {
            self.note(ChangeKind::ColonFixed, self.at);
        }
        self.at += length;
        if let Some(frame) = self.stack.last_mut() {
            frame.key = Some((key, key_at));
        }
        Ok(State::Value)
    }

    /// A value was read; a separator or a closing bracket is due.
    fn after(&mut self) -> Step<State> {
        if self.stack.is_empty() {
            return Ok(State::Done);
        }
        self.skip(false);
        let Some(c) = self.peek() else {
            return self.end_of_text();
        };
        match plain(c) {
            ',' | ';' => {
                if c != ',' {
                    let style = if plain(c) == ',' {
                        ChangeKind::PunctuationStyle
                    } else {
                        ChangeKind::CommaAdded
                    };
                    self.note(style, self.at);
                }
                self.bump(c);
                self.count_comma();
                Ok(if self.in_object() { State::Key } else { State::Value })
            }
            '}' | ']' | ')' => self.close(c),
            '+' if self.joins_string() => self.join(),
            '.' | '…' if self.skip_ellipsis() => Ok(State::After),
            _ if self.at_end_mark() => self.end_of_text(),
            _ => self.comma_missing(c),
        }
    }

    /// The next value or name follows without a comma, or there is something else.
    fn comma_missing(&mut self, c: char) -> Step<State> {
        let at = self.at;
        if self.in_object() {
            if self.key_colon(at) {
                self.note(ChangeKind::CommaAdded, at);
                return Ok(State::Key);
            }
            if plain(c) == '{' && self.parent_kind().is_some_and(|kind| kind != Kind::Object) {
                self.note(ChangeKind::CloserAdded, at);
                self.finish_frame()?;
                return Ok(State::Value);
            }
            return self.drop_words();
        }
        if is_quote(c) && self.stack.last().is_some_and(|frame| frame.kind == Kind::Tuple) {
            self.note(ChangeKind::TextGuessed, at);
            return self.join_here();
        }
        let starts = matches!(plain(c), '{' | '[' | '(' | '-' | '0'..='9') || is_quote(c);
        if starts || glyph::is_literal(self.word()) {
            self.note(ChangeKind::CommaAdded, at);
            return Ok(State::Value);
        }
        self.drop_words()
    }

    /// Leaves out words between values, up to where structure goes on.
    fn drop_words(&mut self) -> Step<State> {
        let begin = self.at;
        while let Some(c) = self.peek() {
            if !self.budget.take(1) {
                return self.refuse();
            }
            let structure = matches!(plain(c), ',' | '}' | ']' | '\n');
            if self.at > begin
                && (structure || (is_quote(c) && self.in_object() && self.key_colon(self.at)))
            {
                break;
            }
            // Letting go of brackets or colons would silently reshape the value.
            if matches!(plain(c), '{' | '[' | ':') || self.at - begin > WORDS_BYTES_MAX {
                return self.refuse();
            }
            self.bump(c);
        }
        self.note(ChangeKind::WordsDropped, begin);
        Ok(State::After)
    }

    fn open(&mut self, kind: Kind, c: char) -> Step<State> {
        if self.stack.len() >= DEPTH_MAX {
            return Err(Refusal { at: self.at, too_deep: true });
        }
        if c != plain(c) {
            self.note(ChangeKind::PunctuationStyle, self.at);
        }
        self.bump(c);
        self.stack.push(Frame::new(kind));
        Ok(if kind == Kind::Object { State::Key } else { State::Value })
    }

    fn value_missing(&mut self) {
        self.note(ChangeKind::ValueMissing, self.at);
        self.drop_key();
        self.count_comma();
    }

    fn drop_key(&mut self) {
        if let Some(frame) = self.stack.last_mut() {
            frame.key = None;
        }
    }

    fn keyless(&mut self, key: String) {
        if let Some(frame) = self.stack.last_mut() {
            frame.keyless.push(Value::String(key));
        }
    }

    fn count_comma(&mut self) {
        if let Some(frame) = self.stack.last_mut() {
            frame.commas += 1;
        }
    }

    fn in_object(&self) -> bool {
        self.stack.last().is_some_and(|frame| frame.kind == Kind::Object)
    }

    fn parent_kind(&self) -> Option<Kind> {
        let parent = self.stack.len().checked_sub(2)?;
        self.stack.get(parent).map(|frame| frame.kind)
    }

    fn note(&mut self, kind: ChangeKind, at: usize) {
        self.changes.at(kind, at);
    }

    fn refuse<T>(&self) -> Step<T> {
        Err(Refusal { at: self.at, too_deep: false })
    }
}

const WORDS_BYTES_MAX: usize = 400;

impl Frame {
    fn new(kind: Kind) -> Self {
        Self {
            kind,
            items: Vec::new(),
            map: Map::new(),
            key: None,
            keyless: Vec::new(),
            doubled: false,
            commas: 0,
        }
    }
}
