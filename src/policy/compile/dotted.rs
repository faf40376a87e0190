//! Keys written as paths.

use crate::document::{Document, Node, NodeValue, Position, Problem};

/// The document with keys such as `llm_pipeline.execution.infra_errors` written out, or none if it
/// has no such keys.
pub(super) fn without_dotted_keys(document: &Document) -> Result<Option<Document>, Problem> {
    let NodeValue::Map(members) = &document.root.value else { return Ok(None) };
    let is_dotted = |key: &str| key.starts_with("llm_pipeline.") || key.starts_with("policy.");
    if !members.iter().any(|(key, ..)| is_dotted(key)) {
        return Ok(None);
    }
    let mut root = Node { position: document.root.position, value: NodeValue::Map(Vec::new()) };
    for (key, position, value) in members {
        let path: Vec<&str> =
            if is_dotted(key) { key.split('.').collect() } else { vec![key.as_str()] };
        let mut place = &mut root;
        let (last, parents) = path.split_last().unwrap_or((&"", &[]));
        for token in parents {
            let NodeValue::Map(inner) = &mut place.value else {
                return Err(twice(key, *position));
            };
            let at = inner.iter().position(|(known, ..)| known == token).unwrap_or_else(|| {
                let node = Node { position: *position, value: NodeValue::Map(Vec::new()) };
                inner.push(((*token).to_owned(), *position, node));
                inner.len() - 1
            });
            place = &mut inner[at].2;
        }
        let NodeValue::Map(inner) = &mut place.value else { return Err(twice(key, *position)) };
        match inner.iter_mut().find(|(known, ..)| known == last) {
            None => inner.push(((*last).to_owned(), *position, value.clone())),
            Some((.., known)) => merge(known, value).map_err(|at| twice(key, at))?,
        }
    }
    Ok(Some(Document { root, ..document.clone() }))
}

/// Adds the members of `new` to `known`; the place of a value that both have is the error.
fn merge(known: &mut Node, new: &Node) -> Result<(), Position> {
    match (&mut known.value, &new.value) {
        (_, NodeValue::Null) => Ok(()),
        (NodeValue::Null, _) => {
            *known = new.clone();
            Ok(())
        }
        (NodeValue::Map(members), NodeValue::Map(more)) => {
            for (key, position, value) in more {
                match members.iter_mut().find(|(name, ..)| name == key) {
                    None => members.push((key.clone(), *position, value.clone())),
                    Some((.., inner)) => merge(inner, value)?,
                }
            }
            Ok(())
        }
        (
            NodeValue::Bool(_)
            | NodeValue::Number(_)
            | NodeValue::Text(_)
            | NodeValue::List(_)
            | NodeValue::Map(_),
            _,
        ) => Err(new.position),
    }
}

fn twice(key: &str, position: Position) -> Problem {
    let path = format!("/{}", key.replace('~', "~0").replace('/', "~1"));
    Problem::error(path, position, format!("`{key}` is given twice"))
}
