//! The tree of an expression as it is evaluated.

use regex::Regex;

/// One node. The depth is bounded when the tree is built, so recursion over it is safe.
pub(super) enum Node {
    Null,
    Bool(bool),
    Int(i64),
    UInt(u64),
    Double(f64),
    Text(String),
    Variable {
        index: usize,
        name: String,
    },
    /// The element of the one comprehension around it.
    Local(String),
    Field {
        of: Box<Node>,
        name: String,
    },
    Has {
        of: Box<Node>,
        name: String,
    },
    Index {
        of: Box<Node>,
        index: Box<Node>,
    },
    List(Vec<Node>),
    Map(Vec<(Node, Node)>),
    Not(Box<Node>),
    Negate(Box<Node>),
    And(Vec<Node>),
    Or(Vec<Node>),
    Conditional(Box<Node>, Box<Node>, Box<Node>),
    Binary(Binary, Box<Node>, Box<Node>),
    Call(Function, Vec<Node>),
    Matches {
        text: Box<Node>,
        pattern: Regex,
    },
    Loop {
        kind: LoopKind,
        over: Box<Node>,
        filter: Option<Box<Node>>,
        body: Box<Node>,
    },
}

impl Node {
    /// Every path from a variable, as far as it is fixed.
    pub(super) fn reads(&self) -> Vec<Vec<&str>> {
        let mut reads = Vec::new();
        self.collect_reads(&mut reads);
        reads
    }

    fn collect_reads<'n>(&'n self, reads: &mut Vec<Vec<&'n str>>) {
        if let Some(path) = self.fixed_path() {
            reads.push(path);
            return;
        }
        match self {
            Self::Field { of, .. } | Self::Has { of, .. } => of.collect_reads(reads),
            Self::Index { of, index } => {
                of.collect_reads(reads);
                index.collect_reads(reads);
            }
            Self::Not(of) | Self::Negate(of) => of.collect_reads(reads),
            Self::List(nodes) | Self::And(nodes) | Self::Or(nodes) | Self::Call(_, nodes) => {
                nodes.iter().for_each(|node| node.collect_reads(reads));
            }
            Self::Map(entries) => {
                for (key, value) in entries {
                    key.collect_reads(reads);
                    value.collect_reads(reads);
                }
            }
            Self::Conditional(a, b, c) => {
                [a, b, c].iter().for_each(|node| node.collect_reads(reads));
            }
            Self::Binary(_, a, b) => [a, b].iter().for_each(|node| node.collect_reads(reads)),
            Self::Matches { text, .. } => text.collect_reads(reads),
            Self::Loop { over, filter, body, .. } => {
                over.collect_reads(reads);
                body.collect_reads(reads);
                filter.iter().for_each(|node| node.collect_reads(reads));
            }
            Self::Null
            | Self::Bool(_)
            | Self::Int(_)
            | Self::UInt(_)
            | Self::Double(_)
            | Self::Text(_)
            | Self::Variable { .. }
            | Self::Local(_) => {}
        }
    }

    pub(super) fn fixed_path(&self) -> Option<Vec<&str>> {
        let (of, name) = match self {
            Self::Variable { name, .. } => return Some(vec![name]),
            Self::Field { of, name } | Self::Has { of, name } => (of, name),
            Self::Index { of, index } => match index.as_ref() {
                Self::Text(key) => (of, key),
                _ => return None,
            },
            _ => return None,
        };
        let mut path = of.fixed_path()?;
        path.push(name);
        Some(path)
    }

    /// How the value was reached, `steps.extract.entities[0]` for example; for messages.
    pub(super) fn path(&self) -> String {
        match self {
            Self::Variable { name, .. } | Self::Local(name) => name.clone(),
            Self::Field { of, name } | Self::Has { of, name } => format!("{}.{name}", of.path()),
            Self::Index { of, index } => match index.as_ref() {
                Self::Int(index) => format!("{}[{index}]", of.path()),
                Self::Text(key) => format!("{}.{key}", of.path()),
                _ => format!("{}[…]", of.path()),
            },
            _ => "(…)".to_owned(),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Binary {
    Add,
    Subtract,
    Multiply,
    Divide,
    Remainder,
    Equals,
    NotEquals,
    Less,
    LessEquals,
    Greater,
    GreaterEquals,
    In,
}

impl Binary {
    /// Sign, operator, and how closely it binds: comparisons 0, sums 1, products 2.
    const ALL: [(&'static str, Self, u8); 12] = [
        ("==", Self::Equals, 0),
        ("!=", Self::NotEquals, 0),
        ("<", Self::Less, 0),
        ("<=", Self::LessEquals, 0),
        (">", Self::Greater, 0),
        (">=", Self::GreaterEquals, 0),
        ("in", Self::In, 0),
        ("+", Self::Add, 1),
        ("-", Self::Subtract, 1),
        ("*", Self::Multiply, 2),
        ("/", Self::Divide, 2),
        ("%", Self::Remainder, 2),
    ];

    pub(super) fn of(sign: &str, level: u8) -> Option<Self> {
        Self::ALL
            .iter()
            .find(|(known, _, binds)| *known == sign && *binds == level)
            .map(|(_, operator, _)| *operator)
    }

    pub(super) fn sign(self) -> &'static str {
        Self::ALL.iter().find(|(_, known, _)| *known == self).map_or("", |(sign, ..)| sign)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LoopKind {
    All,
    Exists,
    ExistsOne,
    Map,
    Filter,
}

impl LoopKind {
    pub(super) fn of(name: &str) -> Option<Self> {
        match name {
            "all" => Some(Self::All),
            "exists" => Some(Self::Exists),
            "exists_one" | "existsOne" => Some(Self::ExistsOne),
            "map" => Some(Self::Map),
            "filter" => Some(Self::Filter),
            _ => None,
        }
    }
}

/// The functions that exist, each callable as `f(x, …)` and as `x.f(…)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Function {
    Size,
    Contains,
    StartsWith,
    EndsWith,
    LowerAscii,
    UpperAscii,
    Trim,
    Int,
    UInt,
    Double,
    Text,
    Bool,
    Dyn,
}

impl Function {
    const ALL: [(&'static str, Self, usize); 13] = [
        ("size", Self::Size, 1),
        ("contains", Self::Contains, 2),
        ("startsWith", Self::StartsWith, 2),
        ("endsWith", Self::EndsWith, 2),
        ("lowerAscii", Self::LowerAscii, 1),
        ("upperAscii", Self::UpperAscii, 1),
        ("trim", Self::Trim, 1),
        ("int", Self::Int, 1),
        ("uint", Self::UInt, 1),
        ("double", Self::Double, 1),
        ("string", Self::Text, 1),
        ("bool", Self::Bool, 1),
        ("dyn", Self::Dyn, 1),
    ];

    /// Every name that can be called, the macros among them; for suggestions.
    pub(super) fn names() -> impl Iterator<Item = &'static str> {
        const MACROS: [&str; 7] =
            ["matches", "has", "all", "exists", "exists_one", "map", "filter"];
        Self::ALL.iter().map(|(name, ..)| *name).chain(MACROS)
    }

    pub(super) fn of(name: &str) -> Option<Self> {
        Self::ALL.iter().find(|(known, ..)| *known == name).map(|(_, function, _)| *function)
    }

    pub(super) fn name(self) -> &'static str {
        Self::ALL.iter().find(|(_, known, _)| *known == self).map_or("", |(name, ..)| name)
    }

    /// How many values it takes, the one before the point included.
    pub(super) fn arguments(self) -> usize {
        Self::ALL.iter().find(|(_, known, _)| *known == self).map_or(0, |(.., count)| *count)
    }
}
