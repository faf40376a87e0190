//! Text to a tree that remembers where everything stood.

use std::sync::Arc;

use serde_json::{Map, Number, Value};

use super::{BYTES_MAX, Problem, reader};

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
    /// One [`Problem`] with its place: not YAML, a key that stands twice, or over a limit (1 MiB, 32
    /// levels, 200,000 values, 10,000 items of a list or mapping, 100 anchors and 100 aliases that
    /// repeat 20,000 values).
    pub fn parse(name: impl Into<String>, text: impl Into<Arc<str>>) -> Result<Self, Problem> {
        let (name, text) = (name.into(), text.into());
        if text.len() > BYTES_MAX {
            return Err(Problem::error(
                "",
                Position::START,
                format!("the document has {} bytes; at most {BYTES_MAX} are read", text.len()),
            ));
        }
        let root = reader::read(&text)?;
        Ok(Self { name, text, root })
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
