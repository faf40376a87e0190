//! What a condition asks for, read from its tree: equalities of fields with literals.
//!
//! A condition such as `step == "extract" && labels.tier in ["gold", "silver"]` cannot hold where
//! `step` is something else. Whoever has many conditions can look the fitting ones up by these
//! values instead of evaluating each.

use super::tree::{Binary, Node};

/// A literal that a field is compared with.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Literal {
    /// A text.
    Text(String),
    /// A whole number.
    Int(i64),
}

/// A field that has to equal one of some literals.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Required {
    /// The path of the field: `["labels", "tier"]`.
    pub path: Vec<String>,
    /// The literals, sorted, each once. With none the condition never holds.
    pub values: Vec<Literal>,
}

/// What has to hold for a condition to hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Requirements {
    /// The condition holds only where every one of these does.
    All {
        /// One for each path.
        fields: Vec<Required>,
        /// Whether it also holds wherever all of them do.
        complete: bool,
    },
    /// The condition never holds.
    Never,
}

impl Requirements {
    const NOTHING_KNOWN: Self = Self::All { fields: Vec::new(), complete: false };

    pub(super) fn of(node: &Node) -> Self {
        match node {
            Node::Bool(true) => Self::All { fields: Vec::new(), complete: true },
            Node::Bool(false) => Self::Never,
            Node::And(sides) => all(sides.iter().map(Self::of)),
            Node::Or(sides) => any(sides.iter().map(Self::of)),
            Node::Binary(Binary::Equals, a, b) => equality(a, b)
                .or_else(|| equality(b, a))
                .map_or(Self::NOTHING_KNOWN, |(path, value)| Self::one(path, vec![value])),
            Node::Binary(Binary::In, needle, list) => {
                membership(needle, list).unwrap_or(Self::NOTHING_KNOWN)
            }
            Node::Binary(..)
            | Node::Not(_)
            | Node::Null
            | Node::Int(_)
            | Node::UInt(_)
            | Node::Double(_)
            | Node::Text(_)
            | Node::Variable { .. }
            | Node::Local(_)
            | Node::Field { .. }
            | Node::Has { .. }
            | Node::Index { .. }
            | Node::List(_)
            | Node::Map(_)
            | Node::Negate(_)
            | Node::Conditional(..)
            | Node::Call(..)
            | Node::Matches { .. }
            | Node::Loop { .. } => Self::NOTHING_KNOWN,
        }
    }

    fn one(path: Vec<&str>, mut values: Vec<Literal>) -> Self {
        values.sort();
        values.dedup();
        if values.is_empty() {
            return Self::Never;
        }
        let path = path.into_iter().map(str::to_owned).collect();
        Self::All { fields: vec![Required { path, values }], complete: true }
    }
}

/// Every side has to hold.
fn all(sides: impl Iterator<Item = Requirements>) -> Requirements {
    let mut fields: Vec<Required> = Vec::new();
    let mut complete = true;
    for side in sides {
        let Requirements::All { fields: more, complete: is_complete } = side else {
            return Requirements::Never;
        };
        complete &= is_complete;
        for field in more {
            let Some(known) = fields.iter_mut().find(|known| known.path == field.path) else {
                fields.push(field);
                continue;
            };
            known.values.retain(|value| field.values.contains(value));
            if known.values.is_empty() {
                return Requirements::Never;
            }
        }
    }
    Requirements::All { fields, complete }
}

/// One side has to hold: what every side asks of the same field.
fn any(sides: impl Iterator<Item = Requirements>) -> Requirements {
    let mut joined: Option<(Vec<Required>, bool)> = None;
    for side in sides {
        let Requirements::All { fields, complete } = side else { continue };
        let Some((known, is_complete)) = &mut joined else {
            joined = Some((fields, complete));
            continue;
        };
        // Only a choice among the values of one field is said in full by their union.
        *is_complete &=
            complete && known.len() == 1 && fields.len() == 1 && known[0].path == fields[0].path;
        known.retain_mut(|one| {
            let Some(other) = fields.iter().find(|other| other.path == one.path) else {
                return false;
            };
            one.values.extend(other.values.iter().cloned());
            one.values.sort();
            one.values.dedup();
            true
        });
    }
    joined.map_or(Requirements::Never, |(fields, complete)| Requirements::All { fields, complete })
}

fn equality<'n>(field: &'n Node, value: &Node) -> Option<(Vec<&'n str>, Literal)> {
    Some((path(field)?, literal(value)?))
}

fn membership(needle: &Node, list: &Node) -> Option<Requirements> {
    let Node::List(items) = list else { return None };
    let values = items.iter().map(literal).collect::<Option<Vec<_>>>()?;
    Some(Requirements::one(path(needle)?, values))
}

/// The path of a field that is read, not of one that is only asked for with `has`.
fn path(node: &Node) -> Option<Vec<&str>> {
    if matches!(node, Node::Has { .. }) { None } else { node.fixed_path() }
}

fn literal(node: &Node) -> Option<Literal> {
    match node {
        Node::Text(text) => Some(Literal::Text(text.clone())),
        Node::Int(value) => Some(Literal::Int(*value)),
        // CEL compares numbers by value, whatever their type.
        Node::UInt(value) => i64::try_from(*value).ok().map(Literal::Int),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::Expression;
    use super::*;

    fn shown(source: &str) -> String {
        let variables = &["step", "labels", "failure", "attempt"];
        match Expression::compile(source, variables).unwrap().requirements() {
            Requirements::Never => "never".to_owned(),
            Requirements::All { fields, complete } => {
                let of = |field: &Required| {
                    let values = field.values.iter().map(|value| match value {
                        Literal::Text(text) => text.clone(),
                        Literal::Int(value) => value.to_string(),
                    });
                    format!("{}={}", field.path.join("."), values.collect::<Vec<_>>().join("|"))
                };
                let fields: Vec<_> = fields.iter().map(of).collect();
                format!("{}{}", fields.join(" "), if complete { "" } else { " …" })
            }
        }
    }

    #[test]
    fn what_conditions_ask_for() {
        let table = [
            ("step == 'a'", "step=a"),
            ("'a' == step && attempt == 2u", "step=a attempt=2"),
            ("labels['tier'] in ['b', 'a']", "labels.tier=a|b"),
            ("step == 'a' || step == 'b' || step in ['c']", "step=a|b|c"),
            ("step == 'a' && attempt > 1", "step=a …"),
            ("(step == 'a' && attempt > 1) || step == 'b'", "step=a|b …"),
            ("step == 'a' || attempt == 1", " …"),
            (
                "step == 'a' && attempt == 1 || step == 'b' && attempt == 2",
                "step=a|b attempt=1|2 …",
            ),
            ("step == 'a' && step in ['a', 'b']", "step=a"),
            ("step == 'a' && step == 'b'", "never"),
            ("step == 'a' && false", "never"),
            ("false || step == 'a'", "step=a"),
            ("step in []", "never"),
            ("true", ""),
            ("true || step == 'a'", " …"),
            ("!(step == 'a')", " …"),
            ("step != 'a'", " …"),
            ("has(labels.tier)", " …"),
            ("labels.tier == labels.other", " …"),
            ("attempt == 1.0", " …"),
            ("['a'].exists(x, x == 'a')", " …"),
        ];
        for (source, expected) in table {
            assert_eq!(shown(source), expected, "{source}");
        }
    }
}
