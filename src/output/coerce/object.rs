//! Objects: their members, and values that should have been objects.

use serde_json::{Map, Value};

use super::enums::folded;
use super::view::{member_schema, types};
use super::{ChangeKind, Coercer, Fix, Out, taken};
use crate::output::change::{Change, Place};

/// The members in another form, where something had to change, and what it was.
type Mended = (Option<Map<String, Value>>, Vec<Change>);

impl<'s> Coercer<'s> {
    /// Brings the members of an object into form.
    pub(super) fn fix_object(
        &mut self,
        members: &'s Map<String, Value>,
        map: &Map<String, Value>,
        depth: usize,
    ) -> Out {
        let Some((renamed, mut changes)) = self.renamed(members, map) else {
            return Out::No;
        };
        let made = usize::from(renamed.is_some());
        self.made += made;
        let fixed = self.fix_members(members, renamed.as_ref().unwrap_or(map), depth);
        self.made -= made;
        let out = match (fixed, renamed) {
            (Some((fixed, more)), renamed) => {
                changes.extend(more);
                match fixed.or(renamed) {
                    Some(fixed) => Out::Fixed(Fix { value: Value::Object(fixed), changes }.into()),
                    None => Out::Keep,
                }
            }
            (None, _) => Out::No,
        };
        let holds = match &out {
            Out::Keep => required_present(members, map),
            Out::Fixed(fix) => self.own_holds(members, &fix.value),
            Out::No => false,
        };
        if holds { out } else { self.unwrapped(members, map, depth) }
    }

    /// The members in form; `None` inside when nothing had to change, `None` outside when one
    /// cannot be brought into form.
    fn fix_members(
        &mut self,
        members: &'s Map<String, Value>,
        map: &Map<String, Value>,
        depth: usize,
    ) -> Option<Mended> {
        let mut fixed: Option<Map<String, Value>> = None;
        let mut changes = Vec::new();
        for (index, (name, member)) in map.iter().enumerate() {
            let schema = member_schema(members, name);
            let out = match schema {
                Some(schema) => self.below(name, |this| this.fix(schema, member, depth + 1)),
                None => Out::Keep,
            };
            let dropped = match &out {
                Out::No if schema == Some(&Value::Bool(false)) => Some(ChangeKind::MemberDropped),
                Out::No if member.is_null() && !is_required(members, name) => {
                    Some(ChangeKind::NullRemoved)
                }
                Out::No => return None,
                Out::Keep | Out::Fixed(_) => None,
            };
            if dropped.is_some() || matches!(out, Out::Fixed(_)) {
                fixed.get_or_insert_with(|| {
                    map.iter().take(index).map(|(k, v)| (k.clone(), v.clone())).collect()
                });
            }
            if let Some(kind) = dropped {
                changes.push(self.below(name, |this| this.change(kind)));
                continue;
            }
            match (&mut fixed, out) {
                (Some(fixed), Out::Fixed(fix)) => {
                    let fix = taken(fix);
                    changes.extend(fix.changes);
                    fixed.insert(name.clone(), fix.value);
                }
                (Some(fixed), _) => {
                    fixed.insert(name.clone(), member.clone());
                }
                (None, _) => (),
            }
        }
        Some((fixed, changes))
    }

    /// Members whose names are those of the schema in another spelling. `None` when two of them
    /// claim the same name.
    fn renamed(
        &mut self,
        members: &Map<String, Value>,
        map: &Map<String, Value>,
    ) -> Option<Mended> {
        let Some(Value::Object(properties)) = members.get("properties") else {
            return Some((None, Vec::new()));
        };
        let closed = members.get("additionalProperties") == Some(&Value::Bool(false));
        let wanted: Vec<&String> = properties
            .keys()
            .filter(|name| !map.contains_key(*name) && (closed || is_required(members, name)))
            .collect();
        let strange: Vec<&String> =
            map.keys().filter(|name| !properties.contains_key(*name)).collect();
        if wanted.is_empty() || strange.is_empty() || strange.len() > 256 {
            return Some((None, Vec::new()));
        }
        let folds: Vec<(&String, String)> =
            strange.iter().map(|name| (*name, folded(name))).collect();
        let mut names: Vec<(&String, &String)> = Vec::new();
        for name in wanted {
            let fold = folded(name);
            let mut found =
                folds.iter().filter(|(_, strange)| *strange == fold && !fold.is_empty());
            match (found.next(), found.next()) {
                (Some((strange, _)), None) => names.push((strange, name)),
                (Some(_), Some(_)) => return None,
                (None, _) => (),
            }
        }
        if names.is_empty() {
            return Some((None, Vec::new()));
        }
        let mut renamed = Map::new();
        let mut changes = Vec::new();
        for (name, member) in map {
            let target = names
                .iter()
                .find(|(strange, _)| *strange == name)
                .map_or(name, |(_, target)| *target);
            if target != name {
                let path =
                    format!("{}/{}", self.path, target.replace('~', "~0").replace('/', "~1"));
                changes.push(Change { kind: ChangeKind::KeyRenamed, place: Place::Pointer(path) });
            }
            renamed.insert(target.clone(), member.clone());
        }
        (renamed.len() == map.len()).then_some((Some(renamed), changes))
    }

    /// `{"result": {...}}` where what is inside is due. A schema that was echoed looks the same
    /// (`{"type": "object", "properties": {...}}`) and is no answer.
    fn unwrapped(
        &mut self,
        members: &'s Map<String, Value>,
        map: &Map<String, Value>,
        depth: usize,
    ) -> Out {
        let declared = members.get("properties").and_then(Value::as_object);
        let Some(declared) =
            declared.filter(|declared| !map.keys().any(|name| declared.contains_key(name)))
        else {
            return Out::No;
        };
        let echo = ["properties", "$schema", "$defs", "required"]
            .iter()
            .any(|name| map.contains_key(*name));
        let mut objects = map.values().filter(|member| member.is_object());
        let (Some(Value::Object(inner)), None, false) =
            (objects.next(), objects.next(), echo || declared.is_empty())
        else {
            return Out::No;
        };
        if !inner.keys().any(|name| declared.contains_key(name)) {
            return Out::No;
        }
        let kind =
            if map.len() == 1 { ChangeKind::WrapperRemoved } else { ChangeKind::MemberDropped };
        let inner = Value::Object(inner.clone());
        self.with_made(inner, kind, |this, inner| match inner {
            Value::Object(map) => this.fix_object(members, map, depth + 1),
            _ => Out::No,
        })
    }

    /// Makes an object of something else.
    pub(super) fn make_object(
        &mut self,
        members: &'s Map<String, Value>,
        value: &Value,
        depth: usize,
    ) -> Out {
        match value {
            Value::String(text) => self.text_make_object(members, text, depth),
            Value::Array(items) => match items.as_slice() {
                [only @ Value::Object(_)] => {
                    let only = only.clone();
                    let taken =
                        self.with_made(only, ChangeKind::ListRemoved, |this, only| match only {
                            Value::Object(map) => this.fix_object(members, map, depth + 1),
                            _ => Out::No,
                        });
                    if matches!(taken, Out::No) {
                        self.under_only_member(members, value, depth)
                    } else {
                        taken
                    }
                }
                _ => self.under_only_member(members, value, depth),
            },
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => Out::No,
        }
    }

    /// A list where an object is due that consists of one list.
    fn under_only_member(
        &mut self,
        members: &'s Map<String, Value>,
        value: &Value,
        depth: usize,
    ) -> Out {
        let Some(Value::Object(properties)) = members.get("properties") else {
            return Out::No;
        };
        let mut names = properties.iter();
        let (Some((name, schema)), None) = (names.next(), names.next()) else {
            return Out::No;
        };
        let is_list = schema.as_object().is_some_and(|schema| types(schema) == ["array"]);
        if !is_list || !is_required(members, name) {
            return Out::No;
        }
        let wrapped = Value::Object(Map::from_iter([(name.clone(), value.clone())]));
        self.with_made(wrapped, ChangeKind::WrapperAdded, |this, wrapped| match wrapped {
            Value::Object(map) => this.fix_object(members, map, depth + 1),
            _ => Out::No,
        })
    }
}

fn is_required(members: &Map<String, Value>, name: &str) -> bool {
    let required = members.get("required").and_then(Value::as_array);
    required.is_some_and(|names| names.iter().any(|required| required.as_str() == Some(name)))
}

fn required_present(members: &Map<String, Value>, map: &Map<String, Value>) -> bool {
    let required = members.get("required").and_then(Value::as_array);
    required.is_none_or(|names| {
        names.iter().filter_map(Value::as_str).all(|name| map.contains_key(name))
    })
}
