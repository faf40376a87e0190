//! YAML or JSON text to a tree, counted while it is read.
//!
//! Built on the events of the parser below `serde_saphyr`, not on its deserialiser: that reads a
//! document to its end before anything can be counted, expands aliases event by event, and takes
//! three times as long to place values (`benches/README.md`, Control plane). What a document may
//! hold is refused here at the first value that is too many, before anything is made of it.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashSet};

use granit_parser::{Event, Marker, Parser, ScalarStyle, ScanError, Span, Tag};

use super::scalar::{is_null, is_text, resolve};
use super::{Node, NodeValue, Position, Problem};

/// Most levels of lists and mappings.
pub(super) const DEPTH_MAX: usize = 32;
/// Most values and keys.
pub(super) const NODES_MAX: usize = 200_000;
/// Most of what anchors keep and aliases repeat, so that a few hundred bytes are not a large document.
pub(super) const REPEATED_MAX: usize = 20_000;
/// Most items of one list, and members of one mapping.
pub(super) const ITEMS_MAX: usize = 10_000;
/// Most anchors, and most aliases.
pub(super) const ALIASES_MAX: usize = 100;
/// Mappings up to this size are searched for a key that is there already.
const SEARCHED_MAX: usize = 16;

/// Reads one document.
///
/// # Errors
/// The first thing that is no YAML, stands twice, or is over a limit.
pub(super) fn read(text: &str) -> Result<Node, Problem> {
    let mut reader = Reader::default();
    for event in Parser::new_from_str(text) {
        let (event, span) = event.map_err(|error| unreadable(&error))?;
        reader.take(event, span)?;
    }
    Ok(reader.root.unwrap_or(Node { position: Position::START, value: NodeValue::Null }))
}

#[derive(Default)]
struct Reader {
    open: Vec<Open>,
    anchored: BTreeMap<usize, Anchored>,
    anchors: usize,
    aliases: usize,
    nodes: usize,
    repeated: usize,
    documents: usize,
    root: Option<Node>,
}

/// A list or mapping whose end has not come.
struct Open {
    position: Position,
    anchor: usize,
    kind: Kind,
}

enum Kind {
    List(Vec<Node>),
    Map(OpenMap),
}

#[derive(Default)]
struct OpenMap {
    members: Vec<(String, Position, Node)>,
    /// The key whose value comes next.
    key: Option<Key>,
    /// The keys so far, once they are too many to be searched.
    keys: Option<HashSet<String>>,
    /// Mappings behind `<<`, in order: what they hold stands in for what is not there.
    merged: Vec<Node>,
}

enum Key {
    Named(String, Position),
    /// `<<`
    Merge(Position),
}

/// A value that aliases may repeat.
struct Anchored {
    node: Node,
    nodes: usize,
    depth: usize,
}

impl Reader {
    fn take(&mut self, event: Event<'_>, span: Span) -> Result<(), Problem> {
        let position = place_of(&span.start);
        match event {
            Event::DocumentStart(..) => {
                self.documents += 1;
                if self.documents > 1 {
                    return Err(self.problem(position, "a second document begins; one is read"));
                }
                Ok(())
            }
            Event::Scalar(text, style, anchor, tag) => {
                self.scalar(text, style, anchor, tag.as_deref(), position)
            }
            Event::SequenceStart(_, anchor, tag) => {
                self.begin(Kind::List(Vec::new()), anchor, tag.as_deref(), position)
            }
            Event::MappingStart(_, anchor, tag) => {
                self.begin(Kind::Map(OpenMap::default()), anchor, tag.as_deref(), position)
            }
            Event::SequenceEnd | Event::MappingEnd => self.end(),
            Event::Alias(anchor) => self.alias(anchor, position),
            // The parser's list of events is open; what has no value of its own says nothing here.
            _ => Ok(()),
        }
    }

    fn scalar(
        &mut self,
        text: Cow<'_, str>,
        style: ScalarStyle,
        anchor: usize,
        tag: Option<&Tag>,
        position: Position,
    ) -> Result<(), Problem> {
        if self.awaits_key() {
            if tag.is_some_and(|tag| !is_text(tag)) {
                return Err(self.problem(position, "a key is a text"));
            }
            let plain = style == ScalarStyle::Plain && tag.is_none();
            if plain && is_null(&text) {
                return Err(self.problem(position, "a key is missing"));
            }
            let merge = plain && text == "<<";
            if anchor > 0 {
                let value = NodeValue::Text(text.clone().into_owned());
                self.keep(anchor, &Node { position, value })?;
            }
            return if merge {
                self.put_key(Key::Merge(position))
            } else {
                self.put_key(Key::Named(text.into_owned(), position))
            };
        }
        let value = resolve(text, style, tag).map_err(|reason| self.problem(position, &reason))?;
        self.count(1, position)?;
        let node = Node { position, value };
        self.keep(anchor, &node)?;
        self.put(node)
    }

    fn begin(
        &mut self,
        kind: Kind,
        anchor: usize,
        tag: Option<&Tag>,
        position: Position,
    ) -> Result<(), Problem> {
        if self.awaits_key() {
            return Err(self.problem(position, "a key is a text, not a list or mapping"));
        }
        let own = match &kind {
            Kind::List(_) => "seq",
            Kind::Map(_) => "map",
        };
        if tag.is_some_and(|tag| tag.core_suffix() != Some(own)) {
            return Err(self.problem(position, "has a tag; only YAML's own are known here"));
        }
        if self.open.len() >= DEPTH_MAX {
            return Err(self.too_deep(position));
        }
        self.count(1, position)?;
        self.open.push(Open { position, anchor, kind });
        Ok(())
    }

    fn end(&mut self) -> Result<(), Problem> {
        let Some(Open { position, anchor, kind }) = self.open.pop() else { return Ok(()) };
        let value = match kind {
            Kind::List(items) => NodeValue::List(items),
            Kind::Map(map) => NodeValue::Map(merge(map)),
        };
        let node = Node { position, value };
        self.keep(anchor, &node)?;
        self.put(node)
    }

    fn alias(&mut self, anchor: usize, position: Position) -> Result<(), Problem> {
        self.aliases += 1;
        if self.aliases > ALIASES_MAX {
            let reason = format!("more than {ALIASES_MAX} aliases");
            return Err(self.problem(position, &reason));
        }
        let Some(Anchored { node, nodes, depth }) = self.anchored.get(&anchor) else {
            return Err(self.problem(position, "an alias stands inside what it repeats"));
        };
        let (nodes, depth) = (*nodes, *depth);
        if self.awaits_key() {
            return match &node.value {
                NodeValue::Text(text) => self.put_key(Key::Named(text.clone(), position)),
                NodeValue::Null
                | NodeValue::Bool(_)
                | NodeValue::Number(_)
                | NodeValue::List(_)
                | NodeValue::Map(_) => Err(self.problem(position, "a key is a text")),
            };
        }
        if self.open.len() + depth > DEPTH_MAX {
            return Err(self.too_deep(position));
        }
        self.count_repeated(nodes, position)?;
        // Counted before it is made.
        match self.anchored.get(&anchor) {
            Some(anchored) => self.put(Node { position, value: anchored.node.value.clone() }),
            None => Ok(()),
        }
    }

    /// Keeps a value that has an anchor.
    fn keep(&mut self, anchor: usize, node: &Node) -> Result<(), Problem> {
        if anchor == 0 {
            return Ok(());
        }
        self.anchors += 1;
        if self.anchors > ALIASES_MAX {
            return Err(self.problem(node.position, &format!("more than {ALIASES_MAX} anchors")));
        }
        let (nodes, depth) = size(node);
        self.count_repeated(nodes, node.position)?;
        self.anchored.insert(anchor, Anchored { node: node.clone(), nodes, depth });
        Ok(())
    }

    fn awaits_key(&self) -> bool {
        matches!(self.open.last(), Some(Open { kind: Kind::Map(OpenMap { key: None, .. }), .. }))
    }

    fn put_key(&mut self, key: Key) -> Result<(), Problem> {
        let (Key::Named(_, position) | Key::Merge(position)) = key;
        self.count(1, position)?;
        let Some(Open { kind: Kind::Map(map), .. }) = self.open.last_mut() else { return Ok(()) };
        let full = map.members.len() >= ITEMS_MAX;
        let twice = match &key {
            Key::Named(name, _) => map.has(name),
            Key::Merge(_) => false,
        };
        map.key = Some(key);
        match (full, twice) {
            (true, _) => {
                let reason = format!("a mapping has at most {ITEMS_MAX} members");
                Err(self.problem(position, &reason))
            }
            (_, true) => Err(self.problem(position, "this key stands here twice")),
            (false, false) => Ok(()),
        }
    }

    /// Puts a whole value where it belongs.
    fn put(&mut self, node: Node) -> Result<(), Problem> {
        match self.open.last_mut().map(|open| &mut open.kind) {
            None => self.root = Some(node),
            Some(Kind::List(items)) if items.len() >= ITEMS_MAX => {
                let reason = format!("a list has at most {ITEMS_MAX} items");
                return Err(self.problem(node.position, &reason));
            }
            Some(Kind::List(items)) => items.push(node),
            Some(Kind::Map(map)) => match map.key.take() {
                Some(Key::Named(name, position)) => map.push(name, position, node),
                Some(Key::Merge(position)) => return self.put_merged(node, position),
                // A value comes after its key: the parser's grammar.
                None => {}
            },
        }
        Ok(())
    }

    fn put_merged(&mut self, node: Node, position: Position) -> Result<(), Problem> {
        let sources = match node.value {
            NodeValue::Map(_) => vec![node],
            NodeValue::List(items) => items,
            NodeValue::Null => return Ok(()),
            NodeValue::Bool(_) | NodeValue::Number(_) | NodeValue::Text(_) => vec![node],
        };
        let merges = |node: &Node| matches!(node.value, NodeValue::Map(_) | NodeValue::Null);
        if !sources.iter().all(merges) {
            return Err(self.problem(position, "`<<` takes a mapping or a list of mappings"));
        }
        if let Some(Open { kind: Kind::Map(map), .. }) = self.open.last_mut() {
            map.merged.extend(sources);
        }
        Ok(())
    }

    fn count(&mut self, nodes: usize, position: Position) -> Result<(), Problem> {
        self.nodes += nodes;
        if self.nodes <= NODES_MAX {
            return Ok(());
        }
        Err(self.problem(position, &format!("more than {NODES_MAX} values")))
    }

    fn count_repeated(&mut self, nodes: usize, position: Position) -> Result<(), Problem> {
        self.repeated += nodes;
        if self.repeated <= REPEATED_MAX {
            return Ok(());
        }
        let reason = format!("anchors and aliases repeat more than {REPEATED_MAX} values");
        Err(self.problem(position, &reason))
    }

    fn too_deep(&self, position: Position) -> Problem {
        self.problem(position, &format!("more than {DEPTH_MAX} levels"))
    }

    fn problem(&self, position: Position, reason: &str) -> Problem {
        Problem::error(self.path(), position, format!("cannot be read: {reason}"))
    }

    /// JSON Pointer to what is being read.
    fn path(&self) -> String {
        let mut path = String::new();
        for open in &self.open {
            match &open.kind {
                Kind::List(items) => path.push_str(&format!("/{}", items.len())),
                Kind::Map(OpenMap { key: Some(Key::Named(name, _)), .. }) => {
                    path.push('/');
                    path.push_str(&name.replace('~', "~0").replace('/', "~1"));
                }
                Kind::Map(OpenMap { key: Some(Key::Merge(_)), .. }) => path.push_str("/<<"),
                Kind::Map(OpenMap { key: None, .. }) => {}
            }
        }
        path
    }
}

impl OpenMap {
    fn has(&self, name: &str) -> bool {
        match &self.keys {
            Some(keys) => keys.contains(name),
            None => self.members.iter().any(|(key, ..)| key == name),
        }
    }

    fn push(&mut self, name: String, position: Position, node: Node) {
        match &mut self.keys {
            Some(keys) => drop(keys.insert(name.clone())),
            None if self.members.len() == SEARCHED_MAX => {
                let keys = self.members.iter().map(|(key, ..)| key.clone());
                self.keys = Some(keys.chain([name.clone()]).collect());
            }
            None => {}
        }
        self.members.push((name, position, node));
    }
}

/// The members with what `<<` adds to them: of a key that is there, or stood in a mapping before,
/// nothing (<https://yaml.org/type/merge.html>).
fn merge(mut map: OpenMap) -> Vec<(String, Position, Node)> {
    for source in std::mem::take(&mut map.merged) {
        if let NodeValue::Map(members) = source.value {
            for (name, position, node) in members {
                if !map.has(&name) {
                    map.push(name, position, node);
                }
            }
        }
    }
    map.members
}

/// Values and keys of a node, and its levels. Depth is bounded by the reader.
fn size(node: &Node) -> (usize, usize) {
    let sum = |(nodes, depth): (usize, usize), inner: (usize, usize)| {
        (nodes + inner.0, depth.max(inner.1 + 1))
    };
    match &node.value {
        NodeValue::Null | NodeValue::Bool(_) | NodeValue::Number(_) | NodeValue::Text(_) => (1, 0),
        NodeValue::List(items) => items.iter().map(size).fold((1, 1), sum),
        NodeValue::Map(members) => members
            .iter()
            .map(|(.., node)| size(node))
            .map(|(nodes, depth)| (nodes + 1, depth))
            .fold((1, 1), sum),
    }
}

fn place_of(mark: &Marker) -> Position {
    let clamp = |n: usize| u32::try_from(n).unwrap_or(u32::MAX).max(1);
    Position { line: clamp(mark.line()), column: clamp(mark.col().saturating_add(1)) }
}

fn unreadable(error: &ScanError) -> Problem {
    // The library's text carries its own position behind the reason.
    let text = error.kind().to_string();
    let reason = text.lines().next().unwrap_or("not a YAML or JSON document");
    Problem::error("", place_of(error.marker()), format!("cannot be read: {reason}"))
}

#[cfg(test)]
mod tests;
