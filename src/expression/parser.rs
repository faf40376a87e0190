//! From the text of an expression to a tree that can be evaluated, or to a refusal.
//!
//! The grammar is CEL's. It is parsed here and not by the `cel` crate, whose generated parser needs
//! up to several megabytes of stack for thirty hostile bytes and then takes the process with it.
//! That crate is the yardstick of our tests instead: both have to agree on the value of any
//! expression. Comprehensions become nodes of the tree and not the generic loops of the
//! specification, so that their cost can be seen and nesting refused.

use regex::{Regex, RegexBuilder};

use super::lexer::{Kind, Lexer, Token};
use super::tree::{Binary, Function, LoopKind, Node};
use super::{DEPTH_MAX, ExpressionError as Error, SOURCE_BYTES_MAX, refusal};
use crate::document::nearest;

/// Longest pattern of `matches` in bytes.
const PATTERN_BYTES_MAX: usize = 1024;
/// Largest compiled pattern in bytes.
const PATTERN_SIZE_MAX: usize = 256 * 1024;
/// Words that CEL keeps for itself.
const RESERVED: [&str; 18] = [
    "as",
    "break",
    "const",
    "continue",
    "else",
    "for",
    "function",
    "if",
    "import",
    "in",
    "let",
    "loop",
    "namespace",
    "package",
    "return",
    "var",
    "void",
    "while",
];

/// Reads `source`, which may use `variables`; each becomes its index in that list.
pub(super) fn parse(source: &str, variables: &[&str]) -> Result<Node, Error> {
    if source.len() > SOURCE_BYTES_MAX {
        let message = format!(
            "the expression has {} bytes; at most {SOURCE_BYTES_MAX} are read",
            source.len()
        );
        return Err(refusal(source, 0, message, None));
    }
    if source.trim().is_empty() {
        return Err(refusal(source, 0, "the expression is empty", None));
    }
    let tokens = Lexer::read(source)?;
    let mut parser = Parser { source, tokens, next: 0, variables, local: None, depth: 0 };
    let whole = parser.expression()?;
    match parser.peek() {
        Kind::End => Ok(whole.node),
        _ => Err(parser.unexpected()),
    }
}

/// A node with the height of the tree under it: evaluation recurses that deep.
struct Grown {
    node: Node,
    height: usize,
}

struct Parser<'a> {
    source: &'a str,
    tokens: Vec<Token>,
    next: usize,
    variables: &'a [&'a str],
    /// Name of the element inside a comprehension.
    local: Option<String>,
    /// How many expressions are open around this one.
    depth: usize,
}

impl Parser<'_> {
    fn peek(&self) -> &Kind {
        self.tokens.get(self.next).map_or(&Kind::End, |token| &token.kind)
    }

    fn at(&self) -> usize {
        self.tokens.get(self.next).map_or(self.source.len(), |token| token.at)
    }

    fn advance(&mut self) -> Kind {
        let kind = self.peek().clone();
        self.next += 1;
        kind
    }

    fn is(&self, sign: &str) -> bool {
        matches!(self.peek(), Kind::Sign(found) if *found == sign)
    }

    fn take(&mut self, sign: &str) -> bool {
        let found = self.is(sign);
        self.next += usize::from(found);
        found
    }

    fn expect(&mut self, sign: &str) -> Result<(), Error> {
        if self.take(sign) { Ok(()) } else { Err(self.unexpected()) }
    }

    fn refuse(&self, at: usize, message: impl Into<String>) -> Error {
        refusal(self.source, at, message, None)
    }

    fn unexpected(&self) -> Error {
        let message = match self.peek() {
            Kind::End => "the expression ends too early".to_owned(),
            Kind::Sign("=") => {
                return refusal(
                    self.source,
                    self.at(),
                    "unexpected `=`",
                    Some("write `==`".to_owned()),
                );
            }
            Kind::Sign(sign) => format!("unexpected `{sign}`"),
            Kind::Name(name) => format!("unexpected `{name}`"),
            Kind::Int(_) | Kind::UInt(_) | Kind::Double(_) => "unexpected number".to_owned(),
            Kind::Text(_) => "unexpected string".to_owned(),
        };
        self.refuse(self.at(), message)
    }

    /// A node over others, unless the tree gets too high.
    fn grow(&self, at: usize, node: Node, height: usize) -> Result<Grown, Error> {
        if height > DEPTH_MAX {
            return Err(self.too_deep(at));
        }
        Ok(Grown { node, height })
    }

    fn too_deep(&self, at: usize) -> Error {
        self.refuse(at, format!("nested more than {DEPTH_MAX} deep"))
    }

    fn expression(&mut self) -> Result<Grown, Error> {
        let at = self.at();
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return Err(self.too_deep(at));
        }
        let mut whole = self.joined("||")?;
        if self.take("?") {
            let yes = self.joined("||")?;
            self.expect(":")?;
            let no = self.expression()?;
            let height = whole.height.max(yes.height).max(no.height) + 1;
            let [a, b, c] = [whole, yes, no].map(|part| Box::new(part.node));
            whole = self.grow(at, Node::Conditional(a, b, c), height)?;
        }
        self.depth -= 1;
        Ok(whole)
    }

    /// Sides of `||`, each of sides of `&&`. A chain of any length is one node.
    fn joined(&mut self, sign: &str) -> Result<Grown, Error> {
        let at = self.at();
        let mut sides = Vec::new();
        let mut height = 0;
        loop {
            let side = if sign == "||" { self.joined("&&")? } else { self.binary(0)? };
            height = height.max(side.height);
            sides.push(side);
            if !self.take(sign) {
                break;
            }
        }
        if sides.len() == 1
            && let Some(only) = sides.pop()
        {
            return Ok(only);
        }
        let sides = sides.into_iter().map(|side| side.node).collect();
        let node = if sign == "||" { Node::Or(sides) } else { Node::And(sides) };
        self.grow(at, node, height + 1)
    }

    /// Comparisons (0), sums (1), products (2), all joining to the left.
    fn binary(&mut self, level: u8) -> Result<Grown, Error> {
        if level > 2 {
            return self.unary();
        }
        let mut left = self.binary(level + 1)?;
        loop {
            let word = match self.peek() {
                Kind::Sign(sign) => sign,
                Kind::Name(name) if name == "in" => "in",
                _ => return Ok(left),
            };
            let Some(operator) = Binary::of(word, level) else { return Ok(left) };
            let at = self.at();
            self.next += 1;
            let right = self.binary(level + 1)?;
            let height = left.height.max(right.height) + 1;
            let node = Node::Binary(operator, Box::new(left.node), Box::new(right.node));
            left = self.grow(at, node, height)?;
        }
    }

    fn unary(&mut self) -> Result<Grown, Error> {
        let at = self.at();
        let (mut nots, mut minuses) = (0, 0);
        while self.take("!") {
            nots += 1;
        }
        while nots == 0 && self.take("-") {
            minuses += 1;
        }
        if minuses > 0
            && let Kind::Int(digits) = *self.peek()
        {
            // The sign belongs to the number: the lowest int has no positive counterpart.
            self.next += 1;
            minuses -= 1;
            let value = 0_i64.checked_sub_unsigned(digits).ok_or_else(|| self.range(at))?;
            let literal = Grown { node: Node::Int(value), height: 1 };
            let of = self.postfix(literal)?;
            return self.signed(at, of, 0, minuses);
        }
        let of = self.member()?;
        self.signed(at, of, nots, minuses)
    }

    fn signed(
        &self,
        at: usize,
        mut of: Grown,
        nots: usize,
        minuses: usize,
    ) -> Result<Grown, Error> {
        if nots + minuses > DEPTH_MAX {
            return Err(self.too_deep(at));
        }
        for _ in 0..nots {
            of = self.grow(at, Node::Not(Box::new(of.node)), of.height + 1)?;
        }
        for _ in 0..minuses {
            of = self.grow(at, Node::Negate(Box::new(of.node)), of.height + 1)?;
        }
        Ok(of)
    }

    fn range(&self, at: usize) -> Error {
        self.refuse(at, "the number is outside the range of integers")
    }

    fn member(&mut self) -> Result<Grown, Error> {
        let primary = self.primary()?;
        self.postfix(primary)
    }

    fn postfix(&mut self, mut of: Grown) -> Result<Grown, Error> {
        loop {
            let at = self.at();
            if self.take(".") {
                let name_at = self.at();
                let Kind::Name(name) = self.peek().clone() else { return Err(self.unexpected()) };
                self.next += 1;
                if self.take("(") {
                    of = self.call(name_at, &name, Some(of))?;
                } else {
                    let node = Node::Field { of: Box::new(of.node), name };
                    of = self.grow(name_at, node, of.height + 1)?;
                }
            } else if self.take("[") {
                let index = self.expression()?;
                self.expect("]")?;
                let height = of.height.max(index.height) + 1;
                let node = Node::Index { of: Box::new(of.node), index: Box::new(index.node) };
                of = self.grow(at, node, height)?;
            } else if self.is("{") {
                return Err(self.refuse(at, "message literals do not exist here"));
            } else {
                return Ok(of);
            }
        }
    }

    fn primary(&mut self) -> Result<Grown, Error> {
        let at = self.at();
        let leaf = |node| Ok(Grown { node, height: 1 });
        match self.advance() {
            Kind::Int(value) => leaf(Node::Int(i64::try_from(value).map_err(|_| self.range(at))?)),
            Kind::UInt(value) => leaf(Node::UInt(value)),
            Kind::Double(value) => leaf(Node::Double(value)),
            Kind::Text(value) => leaf(Node::Text(value)),
            Kind::Sign("(") => {
                let inner = self.expression()?;
                self.expect(")")?;
                Ok(inner)
            }
            Kind::Sign("[") => {
                let (items, height) = self.items("]")?;
                self.grow(at, Node::List(items), height + 1)
            }
            Kind::Sign("{") => self.map(at),
            Kind::Name(name) => match name.as_str() {
                "true" => leaf(Node::Bool(true)),
                "false" => leaf(Node::Bool(false)),
                "null" => leaf(Node::Null),
                word if RESERVED.contains(&word) => {
                    self.next -= 1;
                    Err(self.unexpected())
                }
                _ if self.take("(") => self.call(at, &name, None),
                _ => leaf(self.variable(at, name)?),
            },
            Kind::Sign(_) | Kind::End => {
                self.next -= 1;
                Err(self.unexpected())
            }
        }
    }

    /// Expressions up to a closing bracket, a comma after the last allowed.
    fn items(&mut self, end: &str) -> Result<(Vec<Node>, usize), Error> {
        let (mut items, mut height) = (Vec::new(), 0);
        while !self.take(end) {
            let item = self.expression()?;
            height = height.max(item.height);
            items.push(item.node);
            if !self.take(",") {
                self.expect(end)?;
                break;
            }
        }
        Ok((items, height))
    }

    fn map(&mut self, at: usize) -> Result<Grown, Error> {
        let (mut entries, mut height) = (Vec::new(), 0);
        while !self.take("}") {
            let key = self.expression()?;
            self.expect(":")?;
            let value = self.expression()?;
            height = height.max(key.height).max(value.height);
            entries.push((key.node, value.node));
            if !self.take(",") {
                self.expect("}")?;
                break;
            }
        }
        self.grow(at, Node::Map(entries), height + 1)
    }

    fn variable(&self, at: usize, name: String) -> Result<Node, Error> {
        if self.local.as_ref() == Some(&name) {
            return Ok(Node::Local(name));
        }
        if let Some(index) = self.variables.iter().position(|known| *known == name) {
            return Ok(Node::Variable { index, name });
        }
        let known = self.variables.iter().copied().chain(self.local.as_deref());
        let hint = match nearest(&name, known.clone()) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("known here: {}", known.collect::<Vec<_>>().join(", ")),
        };
        Err(refusal(self.source, at, format!("unknown variable `{name}`"), Some(hint)))
    }

    /// A call, after its opening bracket.
    fn call(&mut self, at: usize, name: &str, target: Option<Grown>) -> Result<Grown, Error> {
        match (LoopKind::of(name), target) {
            (Some(kind), Some(over)) => self.comprehension(at, name, kind, over),
            (None, None) if name == "has" => self.has(at),
            (None, target) if name == "matches" => self.matches(at, target),
            (_, target) => self.function(at, name, target),
        }
    }

    fn has(&mut self, at: usize) -> Result<Grown, Error> {
        let inner = self.expression()?;
        if let Node::Field { of, name } = inner.node
            && self.take(")")
        {
            return Ok(Grown { node: Node::Has { of, name }, height: inner.height });
        }
        Err(self.refuse(at, "`has` takes one field, as in `has(input.title)`"))
    }

    fn comprehension(
        &mut self,
        at: usize,
        name: &str,
        kind: LoopKind,
        over: Grown,
    ) -> Result<Grown, Error> {
        let form = format!("the form is `list.{name}(element, …)`");
        if self.local.is_some() {
            // Two nested loops over the longest lists are a hundred million rounds.
            return Err(self.refuse(at, "one comprehension inside another is not allowed"));
        }
        let element_at = self.at();
        let element = match self.advance() {
            Kind::Name(element) if !RESERVED.contains(&element.as_str()) && self.take(",") => {
                element
            }
            _ => return Err(self.refuse(element_at, form)),
        };
        if self.variables.contains(&element.as_str()) {
            let message = format!("the element hides the variable `{element}`");
            return Err(self.refuse(element_at, message));
        }
        self.local = Some(element);
        let mut body = self.expression()?;
        let mut filter = None;
        if kind == LoopKind::Map && self.take(",") {
            filter = Some(std::mem::replace(&mut body, self.expression()?));
        }
        self.local = None;
        if !self.take(")") {
            return Err(self.refuse(at, form));
        }
        let filter_height = filter.as_ref().map_or(0, |filter| filter.height);
        let height = over.height.max(body.height).max(filter_height) + 1;
        let node = Node::Loop {
            kind,
            over: Box::new(over.node),
            filter: filter.map(|filter| Box::new(filter.node)),
            body: Box::new(body.node),
        };
        self.grow(at, node, height)
    }

    fn function(&mut self, at: usize, name: &str, target: Option<Grown>) -> Result<Grown, Error> {
        let Some(function) = Function::of(name) else {
            let hint = nearest(name, Function::names()).map_or_else(
                || format!("known: {}", Function::names().collect::<Vec<_>>().join(", ")),
                |near| format!("did you mean `{near}`?"),
            );
            return Err(refusal(self.source, at, format!("unknown function `{name}`"), Some(hint)));
        };
        let (mut args, mut height) = (Vec::new(), 0);
        if let Some(target) = target {
            height = target.height;
            args.push(target.node);
        }
        let (rest, rest_height) = self.items(")")?;
        args.extend(rest);
        let wanted = function.arguments();
        if args.len() != wanted {
            let message =
                format!("`{name}` takes {wanted} value(s), and {} stand here", args.len());
            return Err(self.refuse(at, message));
        }
        self.grow(at, Node::Call(function, args), height.max(rest_height) + 1)
    }

    fn matches(&mut self, at: usize, target: Option<Grown>) -> Result<Grown, Error> {
        let text = match target {
            Some(target) => target,
            None => {
                let text = self.expression()?;
                self.expect(",")?;
                text
            }
        };
        let pattern_at = self.at();
        let Kind::Text(pattern) = self.advance() else {
            // A pattern from a value would be compiled at each evaluation, whatever its size.
            return Err(self.refuse(pattern_at, "the pattern of `matches` has to be a literal"));
        };
        self.expect(")")?;
        let pattern = self.pattern(pattern_at, &pattern)?;
        let node = Node::Matches { text: Box::new(text.node), pattern };
        self.grow(at, node, text.height + 1)
    }

    fn pattern(&self, at: usize, pattern: &str) -> Result<Regex, Error> {
        if pattern.len() > PATTERN_BYTES_MAX {
            let message = format!("a pattern may have at most {PATTERN_BYTES_MAX} bytes");
            return Err(self.refuse(at, message));
        }
        RegexBuilder::new(pattern)
            .size_limit(PATTERN_SIZE_MAX)
            .dfa_size_limit(PATTERN_SIZE_MAX)
            .build()
            .map_err(|_| self.refuse(at, "the pattern is no regular expression, or is too large"))
    }
}
