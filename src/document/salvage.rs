//! What can still be read of a document with structural mistakes, so that the author of two
//! mistakes is told of both.

use super::problem::missing_member;
use super::{Document, Node, NodeValue, Problem, Problems};

/// What stands in for a value at fault that cannot be left out, by the key that it stands under, as
/// a document of its own.
#[derive(Debug, Clone, Copy)]
pub struct Fillers {
    /// For members that their map has to have.
    pub members: &'static [(&'static str, &'static str)],
    /// For items of the list under a key: the places of those after it may not move.
    pub items: &'static [(&'static str, &'static str)],
}

/// A document without its structural mistakes.
#[derive(Debug, Clone)]
pub struct Salvaged {
    /// The rest, with what fills the gaps.
    pub document: Document,
    /// JSON Pointers to what is gone or filled.
    pub touched: Vec<String>,
}

impl Fillers {
    /// The document without the values at fault.
    pub fn without(&self, document: &Document, mistakes: &Problems) -> Salvaged {
        let mut salvaged = Salvaged { document: document.clone(), touched: Vec::new() };
        for mistake in &mistakes.0 {
            self.mend(mistake, &mut salvaged);
        }
        salvaged
    }

    fn mend(&self, mistake: &Problem, salvaged: &mut Salvaged) {
        let path = tokens(&mistake.path);
        let root = &mut salvaged.document.root;
        match missing_member(&mistake.message) {
            Some(key) => {
                let Some(node) = node_at(root, &path) else { return };
                let position = node.position;
                if let (NodeValue::Map(members), Some(filler)) =
                    (&mut node.value, filler(self.members, key))
                {
                    members.push((key.to_owned(), position, filler));
                    salvaged.touched.push(format!("{}/{key}", mistake.path));
                    return;
                }
                self.take_out(root, &path);
            }
            None => self.take_out(root, &path),
        }
        salvaged.touched.push(mistake.path.clone());
    }

    /// Takes out what stands at a path; where it cannot go, what holds it.
    fn take_out(&self, root: &mut Node, path: &[String]) {
        let Some((last, parent)) = path.split_last() else { return };
        let list_key = parent.last();
        let gone = match node_at(root, parent).map(|node| &mut node.value) {
            Some(NodeValue::Map(members)) => {
                let at = members.iter().position(|(key, ..)| key == last);
                match (at, filler(self.members, last)) {
                    (Some(at), Some(filler)) => members[at].2 = filler,
                    (Some(at), None) => {
                        members.remove(at);
                    }
                    // Gone already, with another mistake.
                    (None, _) => {}
                }
                true
            }
            Some(NodeValue::List(items)) => {
                let item = last.parse::<usize>().ok().and_then(|at| items.get_mut(at));
                match (item, list_key.and_then(|key| filler(self.items, key))) {
                    (Some(item), Some(filler)) => {
                        *item = filler;
                        true
                    }
                    (Some(_) | None, _) => false,
                }
            }
            Some(
                NodeValue::Null | NodeValue::Bool(_) | NodeValue::Number(_) | NodeValue::Text(_),
            ) => false,
            None => true,
        };
        if !gone {
            self.take_out(root, parent);
        }
    }
}

impl Salvaged {
    /// What was found in the rest, without what is only true of what is gone or fills a gap.
    pub fn own(&self, found: Problems) -> Problems {
        let within = |inner: &str, outer: &str| {
            inner.strip_prefix(outer).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        let is_own = |problem: &Problem| {
            !self
                .touched
                .iter()
                .any(|touched| within(touched, &problem.path) || within(&problem.path, touched))
        };
        Problems(found.0.into_iter().filter(is_own).collect())
    }
}

fn tokens(path: &str) -> Vec<String> {
    path.split('/').skip(1).map(|token| token.replace("~1", "/").replace("~0", "~")).collect()
}

fn node_at<'n>(root: &'n mut Node, path: &[String]) -> Option<&'n mut Node> {
    path.iter().try_fold(root, |node, token| match &mut node.value {
        NodeValue::Map(members) => {
            members.iter_mut().find(|(key, ..)| key == token).map(|(.., value)| value)
        }
        NodeValue::List(items) => token.parse::<usize>().ok().and_then(|at| items.get_mut(at)),
        NodeValue::Null | NodeValue::Bool(_) | NodeValue::Number(_) | NodeValue::Text(_) => None,
    })
}

fn filler(of: &[(&str, &str)], key: &str) -> Option<Node> {
    let (_, text) = of.iter().find(|(known, _)| *known == key)?;
    Document::parse(key, *text).ok().map(|document| document.root)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::document::Position;

    type Told = (&'static str, &'static str);

    const FILLERS: Fillers =
        Fillers { members: &[("name", "x")], items: &[("steps", "{ name: x }")] };

    fn rest(text: &str, mistakes: &[(&str, &str)]) -> (String, Vec<String>) {
        let document = Document::parse("x", text).unwrap();
        let problem =
            |(path, message): &(&str, &str)| Problem::error(*path, Position::START, *message);
        let mistakes = Problems(mistakes.iter().map(problem).collect());
        let salvaged = FILLERS.without(&document, &mistakes);
        (salvaged.document.to_json().to_string(), salvaged.touched)
    }

    #[test]
    fn only_what_is_wrong_goes() {
        let table: [(&str, &[Told], &str); 6] = [
            ("a: 1\nb: 2", &[("/a", "unknown key `a`")], r#"{"b":2}"#),
            (
                "steps: [{a: 1}]",
                &[("/steps/0", "`name` is missing")],
                r#"{"steps":[{"a":1,"name":"x"}]}"#,
            ),
            (
                "steps: [3, {name: b}]",
                &[("/steps/0", "expected a map")],
                r#"{"steps":[{"name":"x"},{"name":"b"}]}"#,
            ),
            (
                "steps: [{name: 3}]",
                &[("/steps/0/name", "expected a text")],
                r#"{"steps":[{"name":"x"}]}"#,
            ),
            ("a: 1\nothers: [3, b]", &[("/others/0", "expected a text")], r#"{"a":1}"#),
            ("a: {b: 1}", &[("/a", "wrong"), ("/a/b", "wrong")], "{}"),
        ];
        for (text, mistakes, expected) in table {
            assert_eq!(rest(text, mistakes).0, expected, "{text}");
        }
    }

    #[test]
    fn what_is_said_of_gaps_is_not_said() {
        let document = Document::parse("x", "steps: [{a: 1}]").unwrap();
        let problem = |path: &str, message: &str| Problem::error(path, Position::START, message);
        let mistakes = Problems(vec![problem("/steps/0", "`name` is missing")]);
        let salvaged = FILLERS.without(&document, &mistakes);
        let found = ["/steps/0/name", "/steps/0", "/steps/0/a", "/steps/0/names"];
        let found = Problems(found.iter().map(|path| problem(path, "is wrong")).collect());
        let own: Vec<String> = salvaged.own(found).0.into_iter().map(|one| one.path).collect();
        assert_eq!(own, ["/steps/0/a", "/steps/0/names"]);
    }
}
