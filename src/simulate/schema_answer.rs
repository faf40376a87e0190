//! An answer made from the schema alone, for requests that no rule answers.
//!
//! It satisfies the schemas that people write for models: types, enums, constants, bounds, lengths,
//! simple patterns, local references, `allOf`, and the first way of `anyOf` and `oneOf`. It is the
//! same for the same schema and luck. Amounts are capped, since a schema comes from outside.

use serde_json::{Map, Value, json};

use super::chance::Luck;
use super::pattern;

const DEPTH_MAX: u32 = 24;
const NODES_MAX: u32 = 20_000;
const ITEMS_MAX: u64 = 200;
const CHARS_MAX: u64 = 5_000;

/// A value that satisfies the schema.
pub fn answer(schema: &Value, luck: Luck) -> Value {
    Maker { root: schema, nodes: 0 }.value(schema, "answer", luck, 0)
}

struct Maker<'a> {
    root: &'a Value,
    nodes: u32,
}

impl Maker<'_> {
    fn value(&mut self, schema: &Value, name: &str, luck: Luck, depth: u32) -> Value {
        self.nodes += 1;
        if depth > DEPTH_MAX || self.nodes > NODES_MAX {
            return Value::Null;
        }
        let Some(members) = schema.as_object() else {
            return json!("anything");
        };
        if let Some(found) = self.referenced(members) {
            return self.value(&found, name, luck, depth + 1);
        }
        if let Some(value) = members.get("const") {
            return value.clone();
        }
        if let Some(values) = members.get("enum").and_then(Value::as_array) {
            return pick(values, luck);
        }
        if let Some(parts) = members.get("allOf").and_then(Value::as_array) {
            let merged = self.merged(members, parts);
            return self.value(&merged, name, luck, depth + 1);
        }
        for key in ["anyOf", "oneOf"] {
            if let Some(first) =
                members.get(key).and_then(Value::as_array).and_then(|ways| ways.first())
            {
                let mut rest = members.clone();
                rest.remove(key);
                let way = self.merged(&rest, std::slice::from_ref(first));
                return self.value(&way, name, luck, depth + 1);
            }
        }
        match type_of(members).as_str() {
            "object" => self.object(members, luck, depth),
            "array" => self.array(members, name, luck, depth),
            "string" => Value::String(text(members, name, luck)),
            "integer" => number(members, luck, true),
            "number" => number(members, luck, false),
            "boolean" => Value::Bool(luck.below(2) == 1),
            "null" => Value::Null,
            _ => json!(format!("simulated {name}")),
        }
    }

    /// The schema behind a local `$ref`, with the members beside it.
    fn referenced(&self, members: &Map<String, Value>) -> Option<Value> {
        let pointer = members.get("$ref")?.as_str()?.strip_prefix('#')?;
        let target = self.root.pointer(pointer)?;
        let mut rest = members.clone();
        rest.remove("$ref");
        Some(self.merged(&rest, std::slice::from_ref(target)))
    }

    /// One schema that asks for what all the parts ask for. Members that only one has are kept;
    /// `properties` and `required` are united; of others the last one counts.
    fn merged(&self, own: &Map<String, Value>, parts: &[Value]) -> Value {
        let mut merged = own.clone();
        merged.remove("allOf");
        for part in parts {
            let Some(part) = part.as_object() else { continue };
            let part = match part.get("$ref").and_then(Value::as_str) {
                Some(pointer) if part.len() == 1 => {
                    let target = pointer.strip_prefix('#').and_then(|p| self.root.pointer(p));
                    target.and_then(Value::as_object).unwrap_or(part)
                }
                _ => part,
            };
            for (key, value) in part {
                match (merged.get_mut(key), value) {
                    (Some(Value::Object(there)), Value::Object(more)) if key == "properties" => {
                        there.extend(more.clone());
                    }
                    (Some(Value::Array(there)), Value::Array(more)) if key == "required" => {
                        there.extend(more.iter().cloned());
                    }
                    _ => {
                        merged.insert(key.clone(), value.clone());
                    }
                }
            }
        }
        Value::Object(merged)
    }

    fn object(&mut self, members: &Map<String, Value>, luck: Luck, depth: u32) -> Value {
        let required: Vec<&str> = members
            .get("required")
            .and_then(Value::as_array)
            .map(|names| names.iter().filter_map(Value::as_str).collect())
            .unwrap_or_default();
        let mut object = Map::new();
        let properties = members.get("properties").and_then(Value::as_object);
        for (name, schema) in properties.into_iter().flatten() {
            // Deep down only what must be there, so that a schema that holds itself ends.
            if depth < 6 || required.contains(&name.as_str()) {
                let value = self.value(schema, name, luck.of_text(name), depth + 1);
                object.insert(name.clone(), value);
            }
        }
        for name in required {
            if !object.contains_key(name) {
                let schema = members.get("additionalProperties").cloned().unwrap_or(json!({}));
                let value = self.value(&schema, name, luck.of_text(name), depth + 1);
                object.insert(name.to_owned(), value);
            }
        }
        Value::Object(object)
    }

    fn array(&mut self, members: &Map<String, Value>, name: &str, luck: Luck, depth: u32) -> Value {
        let least = members.get("minItems").and_then(Value::as_u64);
        let most = members.get("maxItems").and_then(Value::as_u64).unwrap_or(u64::MAX);
        let leading = members.get("prefixItems").and_then(Value::as_array);
        let wanted = least
            .unwrap_or(0)
            .max(if depth < 6 { 1 } else { 0 })
            .max(leading.map_or(0, |items| items.len() as u64))
            .min(most)
            .min(ITEMS_MAX);
        let unique = members.get("uniqueItems").and_then(Value::as_bool).unwrap_or(false);
        let any = json!({});
        let mut items: Vec<Value> = Vec::new();
        for idx in 0..wanted {
            let schema = leading
                .and_then(|leading| leading.get(usize::try_from(idx).unwrap_or(usize::MAX)))
                .or_else(|| members.get("items"))
                .unwrap_or(&any);
            for attempt in 0..if unique { 50 } else { 1 } {
                let luck = luck.of_number(idx).of_number(attempt);
                let item = self.value(schema, name, luck, depth + 1);
                if !unique || !items.contains(&item) {
                    items.push(item);
                    break;
                }
            }
        }
        Value::Array(items)
    }
}

/// The type, in lower case (Gemini writes it in upper case); of several, the first but null.
fn type_of(members: &Map<String, Value>) -> String {
    let named = match members.get("type") {
        Some(Value::String(name)) => Some(name.as_str()),
        Some(Value::Array(names)) => {
            let mut names = names.iter().filter_map(Value::as_str);
            names.find(|name| *name != "null").or(Some("null"))
        }
        _ => None,
    };
    let guessed = || {
        let has = |keys: &[&str]| keys.iter().any(|key| members.contains_key(*key));
        if has(&["properties", "required"]) {
            "object"
        } else if has(&["items", "prefixItems", "minItems"]) {
            "array"
        } else if has(&["minimum", "maximum", "multipleOf"]) {
            "number"
        } else if has(&["minLength", "maxLength", "pattern", "format"]) {
            "string"
        } else {
            ""
        }
    };
    named.map_or_else(|| guessed().to_owned(), str::to_ascii_lowercase)
}

fn pick(values: &[Value], luck: Luck) -> Value {
    let idx = usize::try_from(luck.below(values.len() as u64)).unwrap_or(0);
    values.get(idx).cloned().unwrap_or(Value::Null)
}

fn text(members: &Map<String, Value>, name: &str, luck: Luck) -> String {
    let limit = |key| members.get(key).and_then(Value::as_u64);
    if let Some(text) =
        members.get("pattern").and_then(Value::as_str).and_then(|p| pattern::example(p, luck))
    {
        return text;
    }
    let mut text = match members.get("format").and_then(Value::as_str) {
        Some("date-time") => return "2026-01-15T09:30:00Z".to_owned(),
        Some("date") => return "2026-01-15".to_owned(),
        Some("time") => return "09:30:00Z".to_owned(),
        Some("duration") => return "PT5M".to_owned(),
        Some("email") => return "someone@example.com".to_owned(),
        Some("uri") => return "https://example.com/simulated".to_owned(),
        Some("ipv4") => return "192.0.2.1".to_owned(),
        Some("uuid") => {
            let bits = luck.bits();
            let (a, b) = (bits >> 32, bits & 0xffff_ffff);
            return format!("{a:08x}-0000-4000-8000-0000{b:08x}");
        }
        _ => format!("simulated {}", name.replace('_', " ")),
    };
    let least = limit("minLength").unwrap_or(0).min(CHARS_MAX);
    while (text.chars().count() as u64) < least {
        text.push_str(" text");
    }
    match limit("maxLength") {
        Some(most) => text.chars().take(usize::try_from(most).unwrap_or(usize::MAX)).collect(),
        None => text,
    }
}

#[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation)]
fn number(members: &Map<String, Value>, luck: Luck, whole: bool) -> Value {
    let bound = |key| members.get(key).and_then(Value::as_f64);
    let step = bound("multipleOf").filter(|step| *step > 0.0);
    let small = if whole { 1.0 } else { 0.01 };
    let least = match (bound("minimum"), bound("exclusiveMinimum")) {
        (_, Some(above)) => Some(above + step.unwrap_or(small)),
        (least, None) => least,
    };
    let most = match (bound("maximum"), bound("exclusiveMaximum")) {
        (_, Some(below)) => Some(below - step.unwrap_or(small)),
        (most, None) => most,
    };
    let (least, most) = match (least, most) {
        (Some(least), Some(most)) => (least, most.max(least)),
        (Some(least), None) => (least, least + 9.0),
        (None, Some(most)) => (most - 9.0, most),
        (None, None) => (1.0, 9.0),
    };
    let drawn = least + (most - least) * luck.share();
    if let Some(step) = step {
        let count = (drawn / step).floor().max((least / step).ceil());
        let drawn = count * step;
        return if drawn.fract() == 0.0 { json!(drawn as i64) } else { json!(drawn) };
    }
    if whole {
        return json!((drawn.round() as i64).clamp(least.ceil() as i64, most.floor() as i64));
    }
    let rounded = (drawn * 100.0).round() / 100.0;
    json!(if (least..=most).contains(&rounded) { rounded } else { drawn })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(schema: Value) -> Value {
        answer(&schema, Luck::seeded(1))
    }

    #[test]
    fn objects_have_all_members_in_order() {
        let schema = json!({
            "type": "object",
            "required": ["name", "tags", "size", "open"],
            "properties": {
                "name": {"type": "string"},
                "kind": {"enum": ["a", "b"]},
                "tags": {"type": "array", "items": {"type": "string"}, "minItems": 2},
                "size": {"type": "integer", "minimum": 3, "maximum": 5},
                "open": {"type": ["boolean", "null"]},
            },
        });
        let value = made(schema.clone());
        let keys: Vec<_> = value.as_object().unwrap().keys().collect();
        assert_eq!(keys, ["name", "kind", "tags", "size", "open"]);
        assert_eq!(value["tags"].as_array().unwrap().len(), 2);
        assert!((3..=5).contains(&value["size"].as_i64().unwrap()));
        assert!(value["open"].is_boolean());
        assert_eq!(value, made(schema), "the same for the same schema");
    }

    #[test]
    fn references_choices_and_merges() {
        let value = made(json!({
            "$defs": {"point": {"type": "object", "properties": {"x": {"const": 7}}}},
            "type": "object",
            "properties": {
                "at": {"$ref": "#/$defs/point"},
                "one": {"anyOf": [{"type": "boolean"}, {"type": "string"}]},
                "both": {"allOf": [
                    {"$ref": "#/$defs/point"},
                    {"properties": {"y": {"const": 8}}, "required": ["y"]},
                ]},
            },
        }));
        assert_eq!(value["at"]["x"], json!(7));
        assert!(value["one"].is_boolean());
        assert_eq!(value["both"], json!({"x": 7, "y": 8}));
    }

    #[test]
    fn numbers_stay_inside_their_bounds() {
        for n in 0..200 {
            let luck = Luck::seeded(n);
            let whole =
                answer(&json!({"type": "integer", "minimum": -3, "exclusiveMaximum": 3}), luck);
            assert!((-3..3).contains(&whole.as_i64().unwrap()), "{whole}");
            let share = answer(&json!({"type": "number", "minimum": 0, "maximum": 1}), luck);
            assert!((0.0..=1.0).contains(&share.as_f64().unwrap()), "{share}");
            let fives = answer(&json!({"type": "integer", "multipleOf": 5, "minimum": 11}), luck);
            assert!(fives.as_i64().unwrap() % 5 == 0 && fives.as_i64().unwrap() >= 11, "{fives}");
        }
    }

    #[test]
    fn texts_have_their_lengths_and_patterns() {
        let text = made(json!({"type": "string", "minLength": 40, "maxLength": 42}));
        assert!((40..=42).contains(&text.as_str().unwrap().len()));
        let code = made(json!({"type": "string", "pattern": "^[A-Z]{3}-\\d{4}$"}));
        assert!(regex::Regex::new("^[A-Z]{3}-[0-9]{4}$").unwrap().is_match(code.as_str().unwrap()));
        assert_eq!(made(json!({"type": "STRING", "maxLength": 3})), json!("sim"));
    }

    #[test]
    fn hostile_schemas_end() {
        let looped = json!({"$ref": "#"});
        assert_eq!(made(looped), Value::Null);
        let nested =
            json!({"type": "object", "required": ["a"], "properties": {"a": {"$ref": "#"}}});
        assert!(made(nested).is_object());
        let wide = json!({"type": "array", "minItems": 4_000_000_000_u64,
            "items": {"type": "array", "minItems": 4_000_000_000_u64}});
        assert!(made(wide).is_array());
        let unique = json!({"type": "array", "minItems": 9, "uniqueItems": true,
            "items": {"enum": ["a", "b"]}});
        assert!(made(unique).as_array().unwrap().len() <= 2);
    }
}
