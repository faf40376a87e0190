//! Values meet their containers, and containers end: where they should, elsewhere, or never.
//!
//! A closing bracket of the wrong kind has two readings: a bracket before it is missing, or it is
//! itself mistyped. What follows it decides; where that leaves both, the note is lossy anyway.

use serde_json::Value;
use serde_json::map::Entry;

use super::glyph::plain;
use super::{ChangeKind, Frame, Kind, Reader, State, Step};

impl Reader<'_, '_> {
    /// Puts a value where it belongs.
    pub(super) fn attach(&mut self, value: Value) -> Step<State> {
        let Some(frame) = self.stack.last_mut() else {
            self.root = Some(value);
            return Ok(State::After);
        };
        if frame.kind != Kind::Object {
            frame.items.push(value);
            return Ok(State::After);
        }
        let Some((key, key_at)) = frame.key.take() else {
            return self.refuse();
        };
        match frame.map.entry(key) {
            Entry::Vacant(slot) => {
                slot.insert(value);
            }
            Entry::Occupied(mut slot) => {
                let differs = *slot.get() != value;
                slot.insert(value);
                if differs {
                    self.note(ChangeKind::KeyDuplicate, key_at);
                }
            }
        }
        Ok(State::After)
    }

    /// Ends the innermost container and attaches it.
    pub(super) fn finish_frame(&mut self) -> Step<State> {
        let Some(frame) = self.stack.pop() else {
            return self.refuse();
        };
        let value = self.finished(frame)?;
        self.attach(value)
    }

    fn finished(&mut self, frame: Frame) -> Step<Value> {
        let Frame { kind, mut items, map, keyless, commas, .. } = frame;
        match kind {
            Kind::Array => Ok(Value::Array(items)),
            Kind::Tuple => {
                self.note(ChangeKind::BracketStyle, self.at);
                match items.pop() {
                    Some(only) if items.is_empty() && commas == 0 => Ok(only),
                    Some(last) => {
                        items.push(last);
                        Ok(Value::Array(items))
                    }
                    None => Ok(Value::Array(items)),
                }
            }
            Kind::Object if keyless.is_empty() => Ok(Value::Object(map)),
            Kind::Object if map.is_empty() => {
                self.note(ChangeKind::TextGuessed, self.at);
                Ok(Value::Array(keyless))
            }
            Kind::Object => self.refuse(),
        }
    }

    /// Handles the closing bracket `c` at the current place.
    pub(super) fn close(&mut self, c: char) -> Step<State> {
        let at = self.at;
        let Some(kind) = self.stack.last().map(|frame| frame.kind) else {
            return self.refuse();
        };
        let wanted = opens(plain(c));
        if c != plain(c) {
            self.note(ChangeKind::PunctuationStyle, at);
        }
        if kind == wanted {
            return self.close_top(c);
        }
        let level =
            self.stack.iter().rposition(|frame| frame.kind == wanted && wanted != Kind::Tuple);
        let after = self.blank_end(at + c.len_utf8());
        match level {
            Some(level) if !self.mistyped(level, after) => {
                self.note(ChangeKind::CloserAdded, at);
                while self.stack.len() > level + 1 {
                    self.finish_frame()?;
                }
                self.close_top(c)
            }
            Some(_) => {
                self.note(ChangeKind::CloserMoved, at);
                self.bump(c);
                self.finish_frame()
            }
            None => self.close_unmatched(c, after),
        }
    }

    fn close_top(&mut self, c: char) -> Step<State> {
        let doubled = self.stack.last().is_some_and(|frame| frame.doubled);
        self.bump(c);
        if doubled {
            let next = self.blank_end(self.at);
            if self.char_at(next).map(plain) == Some('}') {
                self.at = next + 1;
            } else {
                self.note(ChangeKind::CloserAdded, self.at);
            }
        }
        // `{"a": 1}, "b": 2}`: the object was closed too early.
        if self.stack.len() == 1 && plain(c) == '}' {
            let comma = self.blank_end(self.at);
            if self.char_at(comma) == Some(',') {
                let next = self.blank_end(comma + 1);
                if self.key_colon(next) {
                    self.note(ChangeKind::CloserMoved, self.at);
                    return Ok(State::After);
                }
            }
        }
        self.finish_frame()
    }

    /// No container of that kind is open.
    fn close_unmatched(&mut self, c: char, after: usize) -> Step<State> {
        let at = self.at;
        let next = self.char_at(after).map(plain);
        let top_closes = match (next, self.stack.last().map(|frame| frame.kind)) {
            (Some(closer @ ('}' | ']' | ')')), Some(kind)) => opens(closer) == kind,
            _ => false,
        };
        self.bump(c);
        if next == Some(',') || (top_closes && self.stack.len() == 1) {
            self.note(ChangeKind::CloserMoved, at);
            return Ok(State::After);
        }
        let last = self.stack.len() == 1;
        self.note(if last { ChangeKind::CloserSurplus } else { ChangeKind::CloserMoved }, at);
        self.finish_frame()
    }

    /// Whether a bracket that would close the container at `level`, with all inside it, is rather
    /// a mistyped end of the innermost one.
    fn mistyped(&mut self, level: usize, after: usize) -> bool {
        let outer =
            level.checked_sub(1).and_then(|outer| self.stack.get(outer)).map(|frame| frame.kind);
        let parent = self.parent_kind();
        match self.char_at(after).map(plain) {
            Some(',') => {
                let next = self.blank_end(after + 1);
                let member = self.key_colon(next);
                member && outer != Some(Kind::Object) && parent == Some(Kind::Object)
            }
            Some('}' | ']' | ')') => outer.is_none(),
            _ => false,
        }
    }

    /// The text ends here: everything open is closed, and what was not finished is left out.
    pub(super) fn end_of_text(&mut self) -> Step<State> {
        if self.stack.is_empty() {
            return self.refuse();
        }
        let at = self.at;
        self.open = self.stack.len();
        self.note(ChangeKind::TailMissing, at);
        if self.stack.last().is_some_and(|frame| frame.key.is_some()) {
            self.note(ChangeKind::TailDropped, at);
            self.drop_key();
        }
        while !self.stack.is_empty() {
            self.finish_frame()?;
        }
        self.at = self.text.len();
        Ok(State::Done)
    }
}

fn opens(closer: char) -> Kind {
    match closer {
        '}' => Kind::Object,
        ')' => Kind::Tuple,
        _ => Kind::Array,
    }
}
