//! JSON for the template engine.
//!
//! Only what a template reads is converted, so that a prompt made of one field costs as much with a
//! large input as with a small one. Maps keep the order of their keys: they are shown to models.

use std::collections::HashMap;
use std::sync::Arc;

use minijinja::Value as Shown;
use minijinja::value::{Enumerator, Object, ObjectRepr};
use serde_json::Value;

/// Which parts of a value are read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in crate::pipeline) struct Reads {
    /// All of it.
    pub(in crate::pipeline) whole: bool,
    /// These members.
    pub(in crate::pipeline) members: Vec<(String, Reads)>,
}

impl Reads {
    /// Adds a path.
    pub(in crate::pipeline) fn add<'a>(&mut self, mut path: impl Iterator<Item = &'a str>) {
        let Some(first) = path.next() else {
            self.whole = true;
            return;
        };
        let index = match self.members.iter().position(|(name, _)| name == first) {
            Some(index) => index,
            None => {
                self.members.push((first.to_owned(), Self::default()));
                self.members.len() - 1
            }
        };
        if let Some((_, reads)) = self.members.get_mut(index) {
            reads.add(path);
        }
    }

    /// What is read of a member, if anything is.
    pub(in crate::pipeline) fn of(&self, name: &str) -> Option<&Self> {
        self.members.iter().find(|(known, _)| known == name).map(|(_, reads)| reads)
    }
}

/// A map with its keys in the order in which they stood.
#[derive(Debug)]
pub(in crate::pipeline) struct Ordered {
    entries: Vec<(Arc<str>, Shown)>,
    index: HashMap<Arc<str>, usize>,
}

impl Ordered {
    /// As a value; a later entry of the same name wins.
    pub(in crate::pipeline) fn value(
        entries: impl IntoIterator<Item = (Arc<str>, Shown)>,
    ) -> Shown {
        let entries: Vec<_> = entries.into_iter().collect();
        let index = entries.iter().enumerate().map(|(i, (key, _))| (Arc::clone(key), i)).collect();
        Shown::from_object(Self { entries, index })
    }
}

impl Object for Ordered {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Map
    }

    fn get_value(self: &Arc<Self>, key: &Shown) -> Option<Shown> {
        self.get_value_by_str(key.as_str()?)
    }

    fn get_value_by_str(self: &Arc<Self>, key: &str) -> Option<Shown> {
        self.index.get(key).and_then(|i| self.entries.get(*i)).map(|(_, value)| value.clone())
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        let keys = self.entries.iter().map(|(key, _)| Shown::from(Arc::clone(key)));
        Enumerator::Values(keys.collect())
    }

    fn enumerator_len(self: &Arc<Self>) -> Option<usize> {
        Some(self.entries.len())
    }
}

/// The parts of `json` that are read.
pub(in crate::pipeline) fn pruned(json: &Value, reads: &Reads) -> Shown {
    match json {
        Value::Object(map) if !reads.whole => Ordered::value(
            reads
                .members
                .iter()
                .filter_map(|(name, reads)| Some((name, map.get(name)?, reads)))
                .map(|(name, value, reads)| (Arc::from(name.as_str()), pruned(value, reads))),
        ),
        other => whole(other),
    }
}

/// All of `json`. Its depth is bounded by whoever read it.
pub(in crate::pipeline) fn whole(json: &Value) -> Shown {
    match json {
        Value::Null => Shown::from(()),
        Value::Bool(value) => Shown::from(*value),
        // Numbers are kept as they were written (serde_json's `arbitrary_precision`); one that no
        // machine type holds is shown as it was written.
        Value::Number(number) => match number.as_i64() {
            Some(value) => Shown::from(value),
            None => match (number.as_u64(), number.as_f64()) {
                (Some(value), _) => Shown::from(value),
                (None, Some(value)) if value.is_finite() => Shown::from(value),
                _ => Shown::from(number.to_string()),
            },
        },
        Value::String(text) => Shown::from(text.as_str()),
        Value::Array(items) => Shown::from(items.iter().map(whole).collect::<Vec<_>>()),
        Value::Object(map) => {
            Ordered::value(map.iter().map(|(k, v)| (Arc::from(k.as_str()), whole(v))))
        }
    }
}
