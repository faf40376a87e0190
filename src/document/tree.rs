//! Text to a tree that remembers where everything stood.

use std::sync::Arc;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};
use serde_saphyr::Spanned;

use super::{BYTES_MAX, Problem};

/// A place in a document; both counted from 1, columns in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    /// Line.
    pub line: u32,
    /// Column.
    pub column: u32,
}

impl Position {
    /// The first character.
    pub const START: Self = Self { line: 1, column: 1 };
}

/// A value with its place.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    /// Where the value starts.
    pub position: Position,
    /// The value.
    pub value: NodeValue,
}

/// What stands at a [`Node`].
#[derive(Debug, Clone, PartialEq)]
pub enum NodeValue {
    /// `null`
    Null,
    /// `true` or `false`
    Bool(bool),
    /// A number.
    Number(Number),
    /// A string.
    Text(String),
    /// A sequence.
    List(Vec<Node>),
    /// A mapping, in order, each key with its place. Keys are unique.
    Map(Vec<(String, Position, Node)>),
}

/// A document as written.
#[derive(Debug, Clone)]
pub struct Document {
    /// File name or the name under which it was pushed; for messages only.
    pub name: String,
    /// The text.
    pub text: Arc<str>,
    /// The tree.
    pub root: Node,
}

impl Document {
    /// Reads YAML or JSON.
    ///
    /// # Errors
    /// One [`Problem`] with its place: not YAML, a duplicate key, or over a limit (1 MiB, depth 32,
    /// 200,000 values, 100 aliases).
    pub fn parse(name: impl Into<String>, text: impl Into<Arc<str>>) -> Result<Self, Problem> {
        let (name, text) = (name.into(), text.into());
        if text.len() > BYTES_MAX {
            return Err(Problem::error(
                "",
                Position::START,
                format!("the document has {} bytes; at most {BYTES_MAX} are read", text.len()),
            ));
        }
        let options = serde_saphyr::options! {
            strict_booleans: true,
            budget: serde_saphyr::budget! {
                max_depth: 32,
                max_nodes: 200_000,
                max_events: 800_000,
                max_aliases: 100,
                max_anchors: 100,
            },
        };
        match serde_saphyr::from_str_with_options::<Spanned<NodeValue>>(&text, options) {
            Ok(spanned) => Ok(Self { name, text, root: spanned.into() }),
            Err(error) => Err(syntax_problem(&error)),
        }
    }

    /// The document as plain JSON.
    pub fn to_json(&self) -> Value {
        self.root.to_json()
    }

    /// Where the value at a JSON Pointer stands, or its nearest ancestor that exists.
    pub fn position_of(&self, pointer: &str) -> Position {
        let mut node = &self.root;
        for token in pointer.split('/').skip(1) {
            let token = token.replace("~1", "/").replace("~0", "~");
            match node.child(&token) {
                Some(child) => node = child,
                None => break,
            }
        }
        node.position
    }

    /// Where the key of the member at a JSON Pointer stands; falls back to its value's place.
    pub fn position_of_key(&self, pointer: &str) -> Position {
        let Some((parent, last)) = pointer.rsplit_once('/') else {
            return self.root.position;
        };
        let last = last.replace("~1", "/").replace("~0", "~");
        let mut node = &self.root;
        for token in parent.split('/').skip(1) {
            let token = token.replace("~1", "/").replace("~0", "~");
            match node.child(&token) {
                Some(child) => node = child,
                None => return node.position,
            }
        }
        match &node.value {
            NodeValue::Map(members) => members
                .iter()
                .find(|(key, ..)| *key == last)
                .map_or(node.position, |(_, position, _)| *position),
            NodeValue::Null
            | NodeValue::Bool(_)
            | NodeValue::Number(_)
            | NodeValue::Text(_)
            | NodeValue::List(_) => self.position_of(pointer),
        }
    }
}

impl Node {
    fn child(&self, token: &str) -> Option<&Node> {
        match &self.value {
            NodeValue::List(items) => items.get(token.parse::<usize>().ok()?),
            NodeValue::Map(members) => {
                members.iter().find(|(key, ..)| key == token).map(|(.., node)| node)
            }
            NodeValue::Null | NodeValue::Bool(_) | NodeValue::Number(_) | NodeValue::Text(_) => {
                None
            }
        }
    }

    /// The value as plain JSON. Depth is bounded by the reader.
    pub fn to_json(&self) -> Value {
        match &self.value {
            NodeValue::Null => Value::Null,
            NodeValue::Bool(value) => Value::Bool(*value),
            NodeValue::Number(value) => Value::Number(value.clone()),
            NodeValue::Text(value) => Value::String(value.clone()),
            NodeValue::List(items) => Value::Array(items.iter().map(Node::to_json).collect()),
            NodeValue::Map(members) => Value::Object(
                members
                    .iter()
                    .map(|(key, _, node)| (key.clone(), node.to_json()))
                    .collect::<Map<_, _>>(),
            ),
        }
    }
}

fn position(location: serde_saphyr::Location) -> Position {
    let clamp = |n: u64| u32::try_from(n).unwrap_or(u32::MAX).max(1);
    Position { line: clamp(location.line()), column: clamp(location.column()) }
}

fn syntax_problem(error: &serde_saphyr::Error) -> Problem {
    let place = error.location().map_or(Position::START, position);
    // The library's text carries its own snippet and position; its first line is the reason.
    let text = error.without_snippet().to_string();
    let reason = text.lines().next().unwrap_or("not a YAML or JSON document");
    Problem::error("", place, format!("cannot be read: {reason}"))
}

impl From<Spanned<NodeValue>> for Node {
    fn from(spanned: Spanned<NodeValue>) -> Self {
        Self { position: position(spanned.referenced), value: spanned.value }
    }
}

impl<'de> Deserialize<'de> for NodeValue {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(NodeVisitor)
    }
}

struct NodeVisitor;

impl<'de> Visitor<'de> for NodeVisitor {
    type Value = NodeValue;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a value that JSON can hold")
    }

    fn visit_unit<E>(self) -> Result<NodeValue, E> {
        Ok(NodeValue::Null)
    }

    fn visit_none<E>(self) -> Result<NodeValue, E> {
        Ok(NodeValue::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, inner: D) -> Result<NodeValue, D::Error> {
        inner.deserialize_any(self)
    }

    fn visit_bool<E>(self, value: bool) -> Result<NodeValue, E> {
        Ok(NodeValue::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<NodeValue, E> {
        Ok(NodeValue::Number(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<NodeValue, E> {
        Ok(NodeValue::Number(value.into()))
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<NodeValue, E> {
        Number::from_f64(value)
            .map(NodeValue::Number)
            .ok_or_else(|| E::custom("`.inf` and `.nan` are not numbers here"))
    }

    fn visit_str<E>(self, value: &str) -> Result<NodeValue, E> {
        Ok(NodeValue::Text(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<NodeValue, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element::<Spanned<NodeValue>>()? {
            list.push(item.into());
        }
        Ok(NodeValue::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<NodeValue, A::Error> {
        let mut map = Vec::new();
        while let Some(key) = members.next_key::<Spanned<String>>()? {
            let value = members.next_value::<Spanned<NodeValue>>()?;
            map.push((key.value, position(key.referenced), value.into()));
        }
        Ok(NodeValue::Map(map))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_of_values_and_keys() {
        let text = "a:\n  b: [1, two]\n  c: 2.5\n";
        let document = Document::parse("x", text).unwrap();
        assert_eq!(document.to_json(), serde_json::json!({"a": {"b": [1, "two"], "c": 2.5}}));
        assert_eq!(document.position_of("/a/b/1"), Position { line: 2, column: 10 });
        assert_eq!(document.position_of_key("/a/c"), Position { line: 3, column: 3 });
        assert_eq!(document.position_of("/a/nothing"), Position { line: 2, column: 3 });
    }

    #[test]
    fn duplicate_keys_are_placed() {
        let problem = Document::parse("x", "a: 1\nb: 2\na: 3\n").unwrap_err();
        assert_eq!(problem.position.line, 3, "{problem:?}");
    }

    #[test]
    fn json_is_read_too() {
        let document = Document::parse("x", r#"{"a": [true, null, "x\n"]}"#).unwrap();
        assert_eq!(document.to_json(), serde_json::json!({"a": [true, null, "x\n"]}));
    }

    #[test]
    fn hostile_depth_and_aliases_are_refused() {
        assert!(Document::parse("x", "[".repeat(20_000)).is_err());
        let mut bomb = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
        for i in 1..9 {
            let prior = format!("*a{}, ", i - 1).repeat(9);
            bomb.push_str(&format!("a{i}: &a{i} [{prior}*a{}]\n", i - 1));
        }
        assert!(Document::parse("x", bomb).is_err());
    }
}
