//! Values brought into the form that the schema asks for, where it leaves one reading.
//!
//! Coercion runs only where validation fails, changes as little as it can, and its result has to
//! validate in full afterwards. It never rounds, clamps, cuts, evaluates, translates or fills in:
//! `42.7` is no integer, `five` no number, `low or medium` no member of an enum.
//!
//! The walk follows the schema and the value together. Both are bounded in depth, every visit
//! counts against a budget, and what a union's branch makes of a value is remembered, so nested
//! unions cost their sum and not their product.

mod enums;
mod list;
mod memo;
mod number;
mod object;
mod scalar;
mod view;

use std::rc::Rc;

use serde_json::Value;

use super::change::{Change, ChangeKind, Place};
use memo::Memo;
use view::View;

pub(super) use view::{default_at, endless_reference, is_explosive, wants};

/// A value that was brought into form.
#[derive(Debug, Clone)]
pub(super) struct Fix {
    pub value: Value,
    pub changes: Vec<Change>,
}

/// What a schema makes of a value.
#[derive(Debug, Clone)]
enum Out {
    /// It holds as it is.
    Keep,
    /// It holds after changes.
    Fixed(Rc<Fix>),
    /// It cannot be brought into form.
    No,
}

/// Brings `value` into the form of the schema `document`. `frozen` is the address of a part that
/// must stay as it is, because it was cut.
pub(super) fn coerce(document: &Value, value: &Value, frozen: Option<usize>) -> Option<Fix> {
    let mut coercer = Coercer {
        view: View::new(document),
        path: String::new(),
        steps_left: steps_for(value),
        known: Memo::default(),
        unions: 0,
        made: 0,
        frozen,
    };
    match coercer.fix(document, value, 0) {
        Out::Keep | Out::No => None,
        Out::Fixed(fix) => Some(taken(fix)),
    }
}

/// The fix itself; copied only where it is remembered too.
fn taken(fix: Rc<Fix>) -> Fix {
    Rc::try_unwrap(fix).unwrap_or_else(|shared| (*shared).clone())
}

/// Whether the value may satisfy the schema, as far as coercion understands it: a no is certain.
pub(super) fn may_hold(document: &Value, value: &Value) -> bool {
    let mut coercer = Coercer {
        view: View::new(document),
        path: String::new(),
        steps_left: steps_for(value),
        known: Memo::default(),
        unions: 0,
        made: 0,
        frozen: None,
    };
    coercer.holds(document, value, 0)
}

const STEPS_MIN: usize = 20_000;
const STEPS_PER_NODE: usize = 24;

/// The visits that a value of this size may cost.
fn steps_for(value: &Value) -> usize {
    let mut nodes = 0_usize;
    let mut stack = vec![value];
    while let Some(value) = stack.pop() {
        nodes += 1;
        match value {
            Value::Array(items) => stack.extend(items),
            Value::Object(members) => stack.extend(members.values()),
            Value::String(text) => nodes += text.len() / 64,
            Value::Null | Value::Bool(_) | Value::Number(_) => (),
        }
    }
    nodes.saturating_mul(STEPS_PER_NODE).saturating_add(STEPS_MIN)
}
const DEPTH_MAX: usize = 200;

struct Coercer<'s> {
    view: View<'s>,
    path: String,
    steps_left: usize,
    /// What a schema (by address) makes of a part of the original value (by address).
    known: Memo<Out>,
    /// How many unions we are inside of: only there the same part is asked for again and again.
    unions: usize,
    /// How many values made on the way we are inside of: their addresses do not last.
    made: usize,
    frozen: Option<usize>,
}

impl Fix {
    fn one(value: Value, kind: ChangeKind, path: &str) -> Self {
        Self { value, changes: vec![Change { kind, place: Place::Pointer(path.to_owned()) }] }
    }

    fn cost(&self) -> usize {
        self.changes.iter().map(|change| cost(change.kind)).sum()
    }
}

/// How far a change goes; the branch with the least cost wins.
fn cost(kind: ChangeKind) -> usize {
    match kind {
        ChangeKind::ListAdded | ChangeKind::ListRemoved => 4,
        ChangeKind::WrapperAdded | ChangeKind::WrapperRemoved => 8,
        ChangeKind::BooleanFromText | ChangeKind::NullFromText => 2,
        kind if kind.is_lossy() => 20,
        _ => 1,
    }
}

impl<'s> Coercer<'s> {
    fn fix(&mut self, schema: &'s Value, value: &Value, depth: usize) -> Out {
        let left = self.steps_left.checked_sub(1);
        let (Some(left), true) = (left, depth < DEPTH_MAX) else {
            self.steps_left = 0;
            return Out::No;
        };
        self.steps_left = left;
        let members = match schema {
            Value::Object(members) => members,
            Value::Bool(false) => return Out::No,
            Value::Bool(true)
            | Value::Null
            | Value::Number(_)
            | Value::String(_)
            | Value::Array(_) => {
                return Out::Keep;
            }
        };
        let key = (std::ptr::from_ref(schema) as usize, std::ptr::from_ref(value) as usize);
        if self.made == 0 {
            if let Some(out) = self.known.get(&key) {
                return out.clone();
            }
            // A schema that refers to itself on the same value has no answer yet: no.
            self.known.insert(key, Out::No);
        }
        let out = if self.holds(schema, value, depth) {
            Out::Keep
        } else if self.frozen == Some(key.1) && self.made == 0 {
            Out::No
        } else {
            self.fix_parts(members, value, depth)
        };
        if self.made == 0 {
            // What is remembered has to be copied by whoever uses it, level by level.
            if matches!(out, Out::Fixed(_)) && self.unions == 0 {
                self.known.remove(&key);
            } else {
                self.known.insert(key, out.clone());
            }
        }
        out
    }

    /// The schema's parts in turn: what it refers to, what it joins, its own keywords, its unions.
    fn fix_parts(
        &mut self,
        members: &'s serde_json::Map<String, Value>,
        value: &Value,
        depth: usize,
    ) -> Out {
        let mut out = Out::Keep;
        if let Some(target) = self.view.reference(members) {
            out = self.then(out, value, |this, value| this.fix(target, value, depth + 1));
        }
        if let Some(Value::Array(all)) = members.get("allOf") {
            for part in all {
                out = self.then(out, value, |this, value| this.fix(part, value, depth + 1));
            }
        }
        out = self.then(out, value, |this, value| this.fix_own(members, value, depth));
        for name in ["anyOf", "oneOf"] {
            if let Some(Value::Array(branches)) = members.get(name) {
                out = self.then(out, value, |this, value| this.fix_union(branches, value, depth));
            }
        }
        out
    }

    /// Goes on with what came out so far.
    fn then(
        &mut self,
        out: Out,
        value: &Value,
        next: impl FnOnce(&mut Self, &Value) -> Out,
    ) -> Out {
        match out {
            Out::No => Out::No,
            Out::Keep => next(self, value),
            Out::Fixed(fix) => {
                self.made += 1;
                let more = next(self, &fix.value);
                self.made -= 1;
                match more {
                    Out::No => Out::No,
                    Out::Keep => Out::Fixed(fix),
                    Out::Fixed(more) => {
                        let Fix { value, changes: later } = taken(more);
                        let changes = fix.changes.iter().cloned().chain(later).collect();
                        Out::Fixed(Rc::new(Fix { value, changes }))
                    }
                }
            }
        }
    }

    /// The keywords of this schema itself.
    fn fix_own(
        &mut self,
        members: &'s serde_json::Map<String, Value>,
        value: &Value,
        depth: usize,
    ) -> Out {
        if let Some(options) = view::options(members)
            && !options.iter().any(|option| view::same(option, value))
        {
            return self.fix_enum(&options, value);
        }
        let types = view::types(members);
        if !types.is_empty() && !types.iter().any(|name| view::is_type(value, name)) {
            return self.fix_type(members, &types, value, depth);
        }
        match value {
            Value::Object(map) => self.fix_object(members, map, depth),
            Value::Array(items) => self.fix_list(members, items, depth),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
                // The type fits; a bound, a length or a pattern that does not is never bent.
                if self.own_holds(members, value) { Out::Keep } else { Out::No }
            }
        }
    }

    fn fix_type(
        &mut self,
        members: &'s serde_json::Map<String, Value>,
        types: &[&str],
        value: &Value,
        depth: usize,
    ) -> Out {
        let mut outs = Vec::new();
        for name in types {
            let out = match *name {
                "integer" | "number" | "string" | "boolean" | "null" => {
                    self.fix_scalar(members, name, value)
                }
                "array" => self.make_list(members, value, depth),
                "object" => self.make_object(members, value, depth),
                _ => Out::No,
            };
            outs.push(out);
        }
        self.cheapest(outs)
    }

    fn fix_union(&mut self, branches: &'s [Value], value: &Value, depth: usize) -> Out {
        let mut outs = Vec::new();
        for branch in branches {
            self.unions += 1;
            let out = self.fix(branch, value, depth + 1);
            self.unions -= 1;
            let holds = match &out {
                Out::Keep => return Out::Keep,
                Out::No => false,
                Out::Fixed(fix) => {
                    self.made += 1;
                    let holds = self.holds(branch, &fix.value, depth + 1);
                    self.made -= 1;
                    holds
                }
            };
            outs.push(if holds { out } else { Out::No });
        }
        self.cheapest(outs)
    }

    /// The result with the least change; two different ones at the same price are a guess.
    fn cheapest(&mut self, outs: Vec<Out>) -> Out {
        let mut best: Option<Rc<Fix>> = None;
        let mut tied = false;
        for out in outs {
            let Out::Fixed(fix) = out else {
                continue;
            };
            match &best {
                Some(found) if found.cost() < fix.cost() => (),
                Some(found) if found.cost() == fix.cost() => tied |= found.value != fix.value,
                Some(_) | None => {
                    best = Some(fix);
                    tied = false;
                }
            }
        }
        match best {
            None => Out::No,
            Some(fix) if tied => {
                let mut fix = (*fix).clone();
                fix.changes.push(self.change(ChangeKind::BranchGuessed));
                Out::Fixed(Rc::new(fix))
            }
            Some(fix) => Out::Fixed(fix),
        }
    }

    fn change(&self, kind: ChangeKind) -> Change {
        Change { kind, place: Place::Pointer(self.path.clone()) }
    }

    fn fixed(&self, value: Value, kind: ChangeKind) -> Out {
        Out::Fixed(Rc::new(Fix::one(value, kind, &self.path)))
    }

    /// Runs `next` on a value that was made on the way, and puts `kind` before its changes.
    fn with_made(
        &mut self,
        value: Value,
        kind: ChangeKind,
        next: impl FnOnce(&mut Self, &Value) -> Out,
    ) -> Out {
        let first = self.change(kind);
        self.made += 1;
        let out = next(self, &value);
        self.made -= 1;
        match out {
            Out::No => Out::No,
            Out::Keep => Out::Fixed(Rc::new(Fix { value, changes: vec![first] })),
            Out::Fixed(fix) => {
                let Fix { value, changes: later } = taken(fix);
                let changes = std::iter::once(first).chain(later).collect();
                Out::Fixed(Rc::new(Fix { value, changes }))
            }
        }
    }

    /// Runs `next` with the path one step deeper.
    fn below<T>(&mut self, step: &str, next: impl FnOnce(&mut Self) -> T) -> T {
        let length = self.path.len();
        self.path.push('/');
        self.path.push_str(&step.replace('~', "~0").replace('/', "~1"));
        let result = next(self);
        self.path.truncate(length);
        result
    }
}
