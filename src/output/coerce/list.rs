//! Lists: their items, and values that should have been lists.

use serde_json::{Map, Value};

use super::view::item_schema;
use super::{ChangeKind, Coercer, Fix, Out, number, taken};
use crate::output::decode;

impl<'s> Coercer<'s> {
    /// Brings the items of a list into form.
    pub(super) fn fix_list(
        &mut self,
        members: &'s Map<String, Value>,
        items: &[Value],
        depth: usize,
    ) -> Out {
        let mut fixed: Option<Vec<Value>> = None;
        let mut changes = Vec::new();
        for (index, item) in items.iter().enumerate() {
            let out = match item_schema(members, index) {
                Some(schema) => {
                    self.below(&index.to_string(), |this| this.fix(schema, item, depth + 1))
                }
                None => Out::Keep,
            };
            match out {
                Out::Keep => {
                    if let Some(fixed) = &mut fixed {
                        fixed.push(item.clone());
                    }
                }
                Out::Fixed(fix) => {
                    let fix = taken(fix);
                    fixed.get_or_insert_with(|| items[..index].to_vec()).push(fix.value);
                    changes.extend(fix.changes);
                }
                Out::No => return self.unnested(members, items, depth),
            }
        }
        match fixed {
            Some(fixed) => {
                let value = Value::Array(fixed);
                if self.own_holds(members, &value) {
                    Out::Fixed(Fix { value, changes }.into())
                } else {
                    Out::No
                }
            }
            None => Out::Keep,
        }
    }

    /// `[["a", "b"]]` where a flat list is due.
    fn unnested(&mut self, members: &'s Map<String, Value>, items: &[Value], depth: usize) -> Out {
        let [Value::Array(inner)] = items else {
            return Out::No;
        };
        let inner = Value::Array(inner.clone());
        self.with_made(inner, ChangeKind::ListRemoved, |this, inner| match inner {
            Value::Array(items) if this.own_holds(members, inner) => {
                this.fix_list(members, items, depth + 1)
            }
            _ => Out::No,
        })
    }

    /// Makes a list of something else.
    pub(super) fn make_list(
        &mut self,
        members: &'s Map<String, Value>,
        value: &Value,
        depth: usize,
    ) -> Out {
        match value {
            Value::Null => Out::No,
            Value::String(text) => match decode::structure(text, '[') {
                Some(decoded) => self.decoded(members, decoded, depth),
                None => self.text_make_list(members, text, value, depth),
            },
            Value::Object(map) => {
                let wrapped = self.list_in_wrapper(members, map, depth);
                let added = self.list_of_one(members, value, depth);
                self.cheapest(vec![added, wrapped])
            }
            Value::Bool(_) | Value::Number(_) => self.list_of_one(members, value, depth),
            Value::Array(_) => Out::Keep,
        }
    }

    fn list_of_one(&mut self, members: &'s Map<String, Value>, value: &Value, depth: usize) -> Out {
        let list = Value::Array(vec![value.clone()]);
        self.with_made(list, ChangeKind::ListAdded, |this, list| match list {
            Value::Array(items) if this.own_holds(members, list) => {
                this.fix_flat(members, items, depth + 1)
            }
            _ => Out::No,
        })
    }

    /// As [`Self::fix_list`], without taking a level of nesting away again.
    fn fix_flat(&mut self, members: &'s Map<String, Value>, items: &[Value], depth: usize) -> Out {
        match items {
            [Value::Array(_)] => Out::No,
            _ => self.fix_list(members, items, depth),
        }
    }

    /// `"1,2,3"`: for a list of numbers each one; for a list of strings one item, and a guess.
    fn text_make_list(
        &mut self,
        members: &'s Map<String, Value>,
        text: &str,
        value: &Value,
        depth: usize,
    ) -> Out {
        if !text.contains(',') {
            return self.list_of_one(members, value, depth);
        }
        let parts: Vec<&str> = text.split(',').map(str::trim).collect();
        if parts.len() <= 256
            && parts
                .iter()
                .all(|part| number::parse(part, false).is_some_and(|n| n.guess.is_none()))
        {
            let list =
                Value::Array(parts.iter().map(|part| Value::String((*part).to_owned())).collect());
            return self.with_made(list, ChangeKind::TextGuessed, |this, list| match list {
                Value::Array(items) if this.own_holds(members, list) => {
                    this.fix_list(members, items, depth + 1)
                }
                _ => Out::No,
            });
        }
        match self.list_of_one(members, value, depth) {
            Out::Fixed(fix) => {
                let mut fix = (*fix).clone();
                fix.changes.push(self.change(ChangeKind::TextGuessed));
                Out::Fixed(fix.into())
            }
            out => out,
        }
    }

    /// `{"items": [...]}` where the list itself is due.
    fn list_in_wrapper(
        &mut self,
        members: &'s Map<String, Value>,
        map: &Map<String, Value>,
        depth: usize,
    ) -> Out {
        let mut lists = map.values().filter(|member| member.is_array());
        let (Some(list), None) = (lists.next(), lists.next()) else {
            return Out::No;
        };
        let kind =
            if map.len() == 1 { ChangeKind::WrapperRemoved } else { ChangeKind::MemberDropped };
        let list = list.clone();
        self.with_made(list, kind, |this, list| match list {
            Value::Array(items) if this.own_holds(members, list) => {
                this.fix_list(members, items, depth + 1)
            }
            _ => Out::No,
        })
    }

    fn decoded(
        &mut self,
        members: &'s Map<String, Value>,
        decoded: decode::Decoded,
        depth: usize,
    ) -> Out {
        let kind = if decoded.lossy { ChangeKind::TextGuessed } else { ChangeKind::TextDecoded };
        self.with_made(decoded.value, kind, |this, value| this.fix_own(members, value, depth + 1))
    }

    /// Decodes JSON inside a string where an object is due.
    pub(super) fn text_make_object(
        &mut self,
        members: &'s Map<String, Value>,
        text: &str,
        depth: usize,
    ) -> Out {
        match decode::structure(text, '{') {
            Some(decoded) => self.decoded(members, decoded, depth),
            None => Out::No,
        }
    }
}
