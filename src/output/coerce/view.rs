//! The schema as coercion sees it: enough of JSON Schema to tell where a value breaks it.
//!
//! What is not understood here counts as holding. That is safe: it can only make coercion do
//! less, and the library validates every result in full.

use serde_json::{Map, Value};

use super::Coercer;
use super::memo::Memo;

/// A schema document and its references.
#[derive(Debug)]
pub(super) struct View<'s> {
    root: &'s Value,
    held: Memo<bool>,
}

impl<'s> View<'s> {
    pub fn new(root: &'s Value) -> Self {
        Self { root, held: Memo::default() }
    }

    /// What the schema refers to, inside the same document.
    pub fn reference(&self, members: &Map<String, Value>) -> Option<&'s Value> {
        let target = members.get("$ref").or_else(|| members.get("$dynamicRef"))?.as_str()?;
        let pointer = target.strip_prefix('#')?;
        if pointer.is_empty() {
            return Some(self.root);
        }
        if pointer.starts_with('/') {
            return self.at(pointer);
        }
        let named = |schema: &&Value| {
            schema.get("$anchor").or_else(|| schema.get("$dynamicAnchor")).and_then(Value::as_str)
                == Some(pointer)
        };
        let definitions = self.root.get("$defs").or_else(|| self.root.get("definitions"))?;
        definitions.as_object()?.values().find(named)
    }
}

impl<'s> View<'s> {
    /// The part at a pointer in a URI's fragment. Asked at every visit of a reference, so nothing
    /// is copied where nothing is escaped, which is nearly always.
    fn at(&self, pointer: &str) -> Option<&'s Value> {
        if pointer.contains(['%', '~']) {
            let decoded = pointer.replace("%25", "%").replace("%22", "\"").replace("%20", " ");
            return self.root.pointer(&decoded);
        }
        pointer.split('/').skip(1).try_fold(self.root, |part, step| match part {
            Value::Object(members) => members.get(step),
            Value::Array(_) => part.pointer(&format!("/{step}")),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => None,
        })
    }

    /// The schema's members, behind its references.
    fn resolved(&self, schema: &'s Value) -> Option<&'s Map<String, Value>> {
        let mut members = schema.as_object()?;
        for _ in 0..16 {
            match self.reference(members) {
                Some(target) => members = target.as_object()?,
                None => break,
            }
        }
        Some(members)
    }
}

/// The types that the root of a schema asks for, through local references; empty for any.
pub(crate) fn wants(document: &Value) -> Vec<&str> {
    let view = View::new(document);
    let mut schema = document;
    for _ in 0..16 {
        let Value::Object(members) = schema else {
            return Vec::new();
        };
        let found = types(members);
        if !found.is_empty() {
            return found;
        }
        match view.reference(members) {
            Some(target) => schema = target,
            None => return Vec::new(),
        }
    }
    Vec::new()
}

/// The default that the schema gives for the member at `path`.
pub(crate) fn default_at<'s>(document: &'s Value, path: &str) -> Option<&'s Value> {
    let view = View::new(document);
    let mut schema = document;
    for step in path.split('/').skip(1) {
        let members = view.resolved(schema)?;
        let name = step.replace("~1", "/").replace("~0", "~");
        schema = match name.parse::<usize>() {
            Ok(index) if members.contains_key("items") => item_schema(members, index)?,
            Ok(_) | Err(_) => member_schema(members, &name)?,
        };
    }
    schema.get("default").or_else(|| view.resolved(schema)?.get("default"))
}

/// The place of a reference that leads to references only, without end.
pub(crate) fn endless_reference(document: &Value, hops_max: usize) -> Option<String> {
    let view = View::new(document);
    let mut stack = vec![(document, String::new())];
    while let Some((schema, path)) = stack.pop() {
        match schema {
            Value::Object(members) => {
                let mut target = view.reference(members);
                let mut hops = 0;
                while let Some(Value::Object(next)) = target {
                    hops += 1;
                    if hops > hops_max {
                        return Some(path);
                    }
                    target = view.reference(next);
                }
                let below = |(name, member)| (member, format!("{path}/{name}"));
                stack.extend(members.iter().map(below));
            }
            Value::Array(items) => {
                let below = |(index, item)| (item, format!("{path}/{index}"));
                stack.extend(items.iter().enumerate().map(below));
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => (),
        }
    }
    None
}

/// Whether unions stand in unions so often that trying all their branches would not end.
pub(crate) fn is_explosive(document: &Value) -> bool {
    const VISITS_MAX: usize = 20_000;
    const UNIONS_MAX: usize = 8;
    let view = View::new(document);
    let mut stack = vec![(document, 0_usize)];
    let mut visits = 0;
    while let Some((schema, unions)) = stack.pop() {
        visits += 1;
        if visits > VISITS_MAX || unions > UNIONS_MAX {
            return true;
        }
        match schema {
            Value::Object(members) => {
                // A schema that contains itself goes as deep as the value, and the library
                // remembers there.
                if let Some(target) =
                    view.reference(members).filter(|to| !std::ptr::eq(*to, document))
                {
                    stack.push((target, unions));
                }
                for (name, member) in members {
                    match name.as_str() {
                        "$defs" | "definitions" => (),
                        "anyOf" | "oneOf" => stack.push((member, unions + 1)),
                        _ => stack.push((member, unions)),
                    }
                }
            }
            Value::Array(items) => stack.extend(items.iter().map(|item| (item, unions))),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => (),
        }
    }
    false
}

/// The names in `type`.
pub(super) fn types(members: &Map<String, Value>) -> Vec<&str> {
    match members.get("type") {
        Some(Value::String(name)) => vec![name],
        Some(Value::Array(names)) => names.iter().filter_map(Value::as_str).collect(),
        Some(_) | None => Vec::new(),
    }
}

/// The values in `enum` or `const`.
pub(super) fn options(members: &Map<String, Value>) -> Option<Vec<&Value>> {
    match (members.get("enum"), members.get("const")) {
        (Some(Value::Array(options)), _) => Some(options.iter().collect()),
        (_, Some(only)) => Some(vec![only]),
        (_, None) => None,
    }
}

pub(super) fn is_type(value: &Value, name: &str) -> bool {
    match (name, value) {
        ("null", Value::Null) | ("boolean", Value::Bool(_)) | ("string", Value::String(_)) => true,
        ("array", Value::Array(_))
        | ("object", Value::Object(_))
        | ("number", Value::Number(_)) => true,
        ("integer", Value::Number(number)) => is_integer(&number.to_string()),
        (_, _) => false,
    }
}

fn is_integer(text: &str) -> bool {
    let digits = text.strip_prefix('-').unwrap_or(text);
    if digits.bytes().all(|b| b.is_ascii_digit()) {
        return true;
    }
    match digits.split_once('.') {
        Some((_, fraction)) if fraction.bytes().all(|b| b == b'0') => true,
        _ => {
            text.parse::<f64>().is_ok_and(|number| number.fract() == 0.0)
                && digits.contains(['e', 'E'])
        }
    }
}

/// Equality as JSON Schema has it: `1` is `1.0`.
pub(super) fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => {
            a == b
                || matches!((a.as_f64(), b.as_f64()), (Some(a), Some(b)) if a == b && a.abs() < 9e15)
        }
        (_, _) => a == b,
    }
}

impl<'s> Coercer<'s> {
    /// Whether the value holds, as far as this view understands the schema.
    pub(super) fn holds(&mut self, schema: &'s Value, value: &Value, depth: usize) -> bool {
        let members = match schema {
            Value::Object(members) => members,
            Value::Bool(allowed) => return *allowed,
            Value::Null | Value::Number(_) | Value::String(_) | Value::Array(_) => return true,
        };
        if self.steps_left == 0 || depth > super::DEPTH_MAX {
            return false;
        }
        self.steps_left -= 1;
        let key = (std::ptr::from_ref(schema) as usize, std::ptr::from_ref(value) as usize);
        if self.made == 0 {
            if let Some(held) = self.view.held.get(&key) {
                return *held;
            }
            self.view.held.insert(key, true); // a schema that only refers to itself says nothing
        }
        let holds = self.own_holds(members, value)
            && self.applied_hold(members, value, depth)
            && self.children_hold(members, value, depth);
        if self.made == 0 {
            self.view.held.insert(key, holds);
        }
        holds
    }

    /// Type, enum and the bounds of this schema itself.
    pub(super) fn own_holds(&self, members: &Map<String, Value>, value: &Value) -> bool {
        let types = types(members);
        if !types.is_empty() && !types.iter().any(|name| is_type(value, name)) {
            return false;
        }
        if let Some(options) = options(members)
            && !options.iter().any(|option| same(option, value))
        {
            return false;
        }
        match value {
            Value::Number(number) => number_holds(members, number.as_f64()),
            Value::String(text) => within(members, "minLength", "maxLength", text.chars().count()),
            Value::Array(items) => within(members, "minItems", "maxItems", items.len()),
            Value::Object(map) => {
                let required = members.get("required").and_then(Value::as_array);
                let all = required.is_none_or(|names| {
                    names.iter().filter_map(Value::as_str).all(|name| map.contains_key(name))
                });
                all && within(members, "minProperties", "maxProperties", map.len())
            }
            Value::Null | Value::Bool(_) => true,
        }
    }

    fn applied_hold(
        &mut self,
        members: &'s Map<String, Value>,
        value: &Value,
        depth: usize,
    ) -> bool {
        if let Some(target) = self.view.reference(members)
            && !self.holds(target, value, depth + 1)
        {
            return false;
        }
        let list = |name: &str| match members.get(name) {
            Some(Value::Array(schemas)) => Some(schemas),
            Some(_) | None => None,
        };
        if list("allOf")
            .is_some_and(|all| !all.iter().all(|part| self.holds(part, value, depth + 1)))
        {
            return false;
        }
        if list("anyOf")
            .is_some_and(|any| !any.iter().any(|part| self.holds(part, value, depth + 1)))
        {
            return false;
        }
        // Several holding branches are for the library to judge: no change would help.
        list("oneOf").is_none_or(|one| one.iter().any(|part| self.holds(part, value, depth + 1)))
    }

    fn children_hold(
        &mut self,
        members: &'s Map<String, Value>,
        value: &Value,
        depth: usize,
    ) -> bool {
        match value {
            Value::Object(map) => {
                map.iter().all(|(name, member)| match member_schema(members, name) {
                    Some(schema) => self.holds(schema, member, depth + 1),
                    None => true,
                })
            }
            Value::Array(items) => {
                items.iter().enumerate().all(|(index, item)| match item_schema(members, index) {
                    Some(schema) => self.holds(schema, item, depth + 1),
                    None => true,
                })
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => true,
        }
    }
}

/// The schema of a member: declared, or that of additional ones. Members that only a pattern
/// declares are left to the library.
pub(super) fn member_schema<'s>(members: &'s Map<String, Value>, name: &str) -> Option<&'s Value> {
    let declared = members.get("properties").and_then(|properties| properties.get(name));
    if declared.is_some() {
        return declared;
    }
    if members.contains_key("patternProperties") {
        return None;
    }
    members.get("additionalProperties")
}

/// The schema of an item, in the spelling of either draft.
pub(super) fn item_schema(members: &Map<String, Value>, index: usize) -> Option<&Value> {
    if let Some(Value::Array(prefix)) = members.get("prefixItems") {
        return prefix.get(index).or_else(|| members.get("items"));
    }
    match members.get("items") {
        Some(Value::Array(prefix)) => prefix.get(index).or_else(|| members.get("additionalItems")),
        Some(schema) => Some(schema),
        None => None,
    }
}

fn within(members: &Map<String, Value>, min: &str, max: &str, size: usize) -> bool {
    let bound = |name: &str| members.get(name).and_then(Value::as_f64);
    let size = size as f64;
    bound(min).is_none_or(|min| size >= min) && bound(max).is_none_or(|max| size <= max)
}

fn number_holds(members: &Map<String, Value>, number: Option<f64>) -> bool {
    let Some(number) = number else {
        return true;
    };
    let bound = |name: &str| members.get(name).and_then(Value::as_f64);
    bound("minimum").is_none_or(|min| number >= min)
        && bound("maximum").is_none_or(|max| number <= max)
        && bound("exclusiveMinimum").is_none_or(|min| number > min)
        && bound("exclusiveMaximum").is_none_or(|max| number < max)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn references_lead_to_the_part_that_they_name() {
        let document = json!({
            "$defs": {
                "plain": {"const": 1}, "a/b": {"const": 2}, "a~b": {"const": 3},
                "a b": {"const": 4}, "named": {"$anchor": "here", "const": 5},
            },
            "prefixItems": [{"const": 6}],
        });
        for (reference, expected) in [
            ("#", Some(&document)),
            ("#/$defs/plain", document.pointer("/$defs/plain")),
            ("#/$defs/a~1b", document.pointer("/$defs/a~1b")),
            ("#/$defs/a~0b", document.pointer("/$defs/a~0b")),
            ("#/$defs/a%20b", document.pointer("/$defs/a b")),
            ("#here", document.pointer("/$defs/named")),
            ("#/prefixItems/0", document.pointer("/prefixItems/0")),
            ("#/prefixItems/00", None),
            ("#/prefixItems/1", None),
            ("#/$defs/plain/const/deeper", None),
            ("#/nowhere", None),
            ("elsewhere#/$defs/plain", None),
        ] {
            let members = Map::from_iter([("$ref".to_owned(), json!(reference))]);
            assert_eq!(View::new(&document).reference(&members), expected, "{reference}");
        }
    }
}
