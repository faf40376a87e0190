//! Evaluation that borrows its values and pays for every step.
//!
//! The library's evaluator has no limit of cost: a list of ten thousand elements times a search in
//! a long text keeps a core busy for minutes. Ours walks the tree with fuel. A step costs one unit,
//! work that is linear in a text costs by its length, so that the memory and the time of an
//! evaluation have a bound whatever the values are. Values are borrowed JSON and are never copied
//! to be read, so a condition on one field of a large input costs as much as one on a small input.

use std::cmp::Ordering;

use serde_json::{Number, Value};

use super::arithmetic::{convert, double, int, negate, numbers, truth, uint, unfit};
use super::fuel::Fuel;
use super::tree::{Binary, Function, LoopKind, Node};
use super::value::{Text, Val};
use super::{ExpressionError as Error, LIST_ITEMS_MAX, Variable};

const LONG_LIST: Error = Error::TooCostly("the expression goes over a list that is too long");

/// Evaluates `node`; `variables` are found by name.
pub(super) fn evaluate(node: &Node, variables: &[(&str, Variable<'_>)]) -> Result<Value, Error> {
    let machine = Machine { variables, fuel: Fuel::full() };
    let value = machine.node(node, None)?;
    machine.to_json(&value)
}

struct Machine<'a> {
    variables: &'a [(&'a str, Variable<'a>)],
    fuel: Fuel,
}

impl<'a> Machine<'a> {
    fn pay(&self, steps: usize) -> Result<(), Error> {
        self.fuel.pay(steps)
    }

    fn node(&self, node: &'a Node, local: Option<&Val<'a>>) -> Result<Val<'a>, Error> {
        self.pay(1)?;
        let recur = |node: &'a Node| self.node(node, local);
        match node {
            Node::Null => Ok(Val::Null),
            Node::Bool(value) => Ok(Val::Bool(*value)),
            Node::Int(value) => Ok(Val::Int(*value)),
            Node::UInt(value) => Ok(Val::UInt(*value)),
            Node::Double(value) => Ok(Val::Double(*value)),
            Node::Text(value) => Ok(Val::Text(Text::Borrowed(value))),
            Node::Variable { index, name } => self.variable(*index, name),
            Node::Local(name) => local.cloned().ok_or_else(|| Error::Missing(name.clone())),
            Node::Field { of, name } => {
                recur(of)?.field(name, &self.fuel)?.ok_or_else(|| Error::Missing(node.path()))
            }
            Node::Has { of, name } => match recur(of)? {
                map @ (Val::JsonMap(_) | Val::Map(_) | Val::Null) => {
                    Ok(Val::Bool(map.field(name, &self.fuel)?.is_some()))
                }
                other => Err(Error::Type(format!("{} has no fields", other.type_name()))),
            },
            Node::Index { of, index } => self.index(node, recur(of)?, recur(index)?),
            Node::List(nodes) => Ok(Val::list(nodes.iter().map(recur).collect::<Result<_, _>>()?)),
            Node::Map(entries) => self.map_literal(entries, local),
            Node::Not(of) => Ok(Val::Bool(!truth(recur(of)?)?)),
            Node::Negate(of) => negate(recur(of)?),
            Node::And(sides) => self.either(false, sides, local),
            Node::Or(sides) => self.either(true, sides, local),
            Node::Conditional(condition, yes, no) => {
                if truth(recur(condition)?)? {
                    recur(yes)
                } else {
                    recur(no)
                }
            }
            Node::Binary(operator, a, b) => self.binary(*operator, recur(a)?, recur(b)?),
            Node::Call(function, args) => {
                let args = args.iter().map(recur).collect::<Result<Vec<_>, _>>()?;
                self.call(*function, &args)
            }
            Node::Matches { text, pattern } => match recur(text)? {
                Val::Text(text) => {
                    self.pay(text.len() / 16)?;
                    Ok(Val::Bool(pattern.is_match(&text)))
                }
                other => Err(unfit("matches", &[&other])),
            },
            Node::Loop { kind, over, filter, body } => {
                let over = recur(over)?;
                self.each(*kind, &over, filter.as_deref(), body)
            }
        }
    }

    fn variable(&self, index: usize, name: &str) -> Result<Val<'a>, Error> {
        // Callers mostly hand the variables in the order of the declaration.
        let found = match self.variables.get(index) {
            Some((known, value)) if *known == name => Some(value),
            _ => self.variables.iter().find(|(known, _)| *known == name).map(|(_, value)| value),
        };
        self.take(found.ok_or_else(|| Error::Missing(name.to_owned()))?)
    }

    fn take(&self, variable: &'a Variable<'a>) -> Result<Val<'a>, Error> {
        match variable {
            Variable::Json(value) => Val::of(value, &self.fuel),
            Variable::Int(value) => Ok(Val::Int(*value)),
            Variable::Bool(value) => Ok(Val::Bool(*value)),
            Variable::Text(value) => Ok(Val::Text(Text::Borrowed(value))),
            Variable::Map(entries) => {
                self.pay(entries.len())?;
                let take = |(name, value): &'a (&'a str, Variable<'a>)| {
                    Ok((Text::Borrowed(name), self.take(value)?))
                };
                entries.iter().map(take).collect::<Result<_, _>>().map(Val::map)
            }
        }
    }

    fn index(&self, node: &Node, of: Val<'a>, index: Val<'a>) -> Result<Val<'a>, Error> {
        let absent = || Error::Missing(node.path());
        match (&of, &index) {
            (Val::JsonMap(_) | Val::Map(_) | Val::Null, Val::Text(key)) => {
                of.field(key, &self.fuel)?.ok_or_else(absent)
            }
            (Val::JsonList(_) | Val::List(_), Val::Int(_) | Val::UInt(_) | Val::Double(_)) => {
                let index = match index {
                    Val::Int(index) => usize::try_from(index).ok(),
                    Val::UInt(index) => usize::try_from(index).ok(),
                    Val::Double(index) if index.fract() == 0.0 && index >= 0.0 => {
                        Some(index as usize)
                    }
                    _ => None,
                };
                match index {
                    Some(index) => of.item(index, &self.fuel)?.ok_or_else(absent),
                    None => Err(absent()),
                }
            }
            _ => Err(unfit("[]", &[&of, &index])),
        }
    }

    fn map_literal(
        &self,
        entries: &'a [(Node, Node)],
        local: Option<&Val<'a>>,
    ) -> Result<Val<'a>, Error> {
        let mut map: Vec<(Text<'a>, Val<'a>)> = Vec::with_capacity(entries.len());
        for (key, value) in entries {
            let Val::Text(key) = self.node(key, local)? else {
                return Err(Error::Type("the keys of a map have to be strings".to_owned()));
            };
            self.pay(map.len())?;
            if map.iter().any(|(known, _)| **known == *key) {
                return Err(Error::Range("a map has the same key twice"));
            }
            map.push((key, self.node(value, local)?));
        }
        Ok(Val::map(map))
    }

    /// `||` and `&&`: the deciding value (`true`, `false`) on any side decides, whatever is
    /// wrong with the others. Only a lack of fuel is never overlooked.
    fn either(
        &self,
        deciding: bool,
        sides: &'a [Node],
        local: Option<&Val<'a>>,
    ) -> Result<Val<'a>, Error> {
        let mut wrong = None;
        for side in sides {
            match self.node(side, local).and_then(truth) {
                Ok(value) if value == deciding => return Ok(Val::Bool(deciding)),
                Ok(_) => {}
                Err(error @ Error::TooCostly(_)) => return Err(error),
                Err(error) => wrong = wrong.or(Some(error)),
            }
        }
        wrong.map_or(Ok(Val::Bool(!deciding)), Err)
    }

    fn each(
        &self,
        kind: LoopKind,
        over: &Val<'a>,
        filter: Option<&'a Node>,
        body: &'a Node,
    ) -> Result<Val<'a>, Error> {
        let Some(count) = over.count() else {
            return Err(Error::Type(format!("{} has no elements to go over", over.type_name())));
        };
        if count > LIST_ITEMS_MAX {
            return Err(LONG_LIST);
        }
        let mut round = Round { found: 0, wrong: None, list: Vec::new() };
        for item in over.elements(&self.fuel) {
            let item = item?;
            if let Some(filter) = filter
                && !truth(self.node(filter, Some(&item))?)?
            {
                continue;
            }
            let value = self.node(body, Some(&item));
            if round.take(kind, item, value)? {
                break;
            }
        }
        round.result(kind)
    }

    fn binary(&self, operator: Binary, a: Val<'a>, b: Val<'a>) -> Result<Val<'a>, Error> {
        match operator {
            Binary::Equals => self.equal(&a, &b).map(Val::Bool),
            Binary::NotEquals => self.equal(&a, &b).map(|equal| Val::Bool(!equal)),
            Binary::In => self.contained(&a, &b).map(Val::Bool),
            Binary::Less | Binary::LessEquals | Binary::Greater | Binary::GreaterEquals => {
                let Some(order) = self.compare(&a, &b)? else {
                    return Err(unfit(operator.sign(), &[&a, &b]));
                };
                Ok(Val::Bool(match operator {
                    Binary::Less => order == Ordering::Less,
                    Binary::LessEquals => order != Ordering::Greater,
                    Binary::Greater => order == Ordering::Greater,
                    _ => order != Ordering::Less,
                }))
            }
            Binary::Add
            | Binary::Subtract
            | Binary::Multiply
            | Binary::Divide
            | Binary::Remainder => self.arithmetic(operator, a, b),
        }
    }

    fn arithmetic(&self, operator: Binary, a: Val<'a>, b: Val<'a>) -> Result<Val<'a>, Error> {
        match (&a, &b) {
            (Val::Int(x), Val::Int(y)) => int(operator, *x, *y),
            (Val::UInt(x), Val::UInt(y)) => uint(operator, *x, *y),
            (Val::Double(x), Val::Double(y)) => {
                double(operator, *x, *y).ok_or_else(|| unfit(operator.sign(), &[&a, &b]))
            }
            (Val::Text(x), Val::Text(y)) if operator == Binary::Add => {
                self.pay((x.len() + y.len()) / 32)?;
                Ok(Val::Text(Text::made([&**x, &**y].concat())))
            }
            _ if operator == Binary::Add && a.is_list() && b.is_list() => {
                self.pay(a.count().unwrap_or(0) + b.count().unwrap_or(0))?;
                let joined = a
                    .elements(&self.fuel)
                    .chain(b.elements(&self.fuel))
                    .collect::<Result<_, _>>()?;
                Ok(Val::list(joined))
            }
            _ => Err(unfit(operator.sign(), &[&a, &b])),
        }
    }

    fn contained(&self, needle: &Val<'a>, of: &Val<'a>) -> Result<bool, Error> {
        match of {
            Val::JsonMap(_) | Val::Map(_) => match needle {
                Val::Text(key) => Ok(of.field(key, &self.fuel)?.is_some()),
                _ => Ok(false),
            },
            Val::JsonList(_) | Val::List(_) => {
                for item in of.elements(&self.fuel) {
                    if self.equal(needle, &item?)? {
                        return Ok(true);
                    }
                }
                Ok(false)
            }
            _ => Err(unfit("in", &[needle, of])),
        }
    }

    /// Equality of CEL: numbers by value whatever their type, values of different types unequal.
    fn equal(&self, a: &Val<'a>, b: &Val<'a>) -> Result<bool, Error> {
        self.pay(1)?;
        match (a, b) {
            (Val::Null, Val::Null) => Ok(true),
            (Val::Bool(x), Val::Bool(y)) => Ok(x == y),
            (Val::Text(x), Val::Text(y)) => {
                if x.len() != y.len() {
                    return Ok(false);
                }
                self.pay(x.len() / 64)?;
                Ok(**x == **y)
            }
            _ if a.is_list() && b.is_list() => {
                if a.count() != b.count() {
                    return Ok(false);
                }
                for (x, y) in a.elements(&self.fuel).zip(b.elements(&self.fuel)) {
                    if !self.equal(&x?, &y?)? {
                        return Ok(false);
                    }
                }
                Ok(true)
            }
            _ if a.is_map() && b.is_map() => {
                if a.count() != b.count() {
                    return Ok(false);
                }
                for key in a.elements(&self.fuel) {
                    let Val::Text(key) = key? else { continue };
                    match (a.field(&key, &self.fuel)?, b.field(&key, &self.fuel)?) {
                        (Some(x), Some(y)) if self.equal(&x, &y)? => {}
                        _ => return Ok(false),
                    }
                }
                Ok(true)
            }
            _ => Ok(numbers(a, b) == Some(Ordering::Equal)),
        }
    }

    fn compare(&self, a: &Val<'a>, b: &Val<'a>) -> Result<Option<Ordering>, Error> {
        match (a, b) {
            (Val::Bool(x), Val::Bool(y)) => Ok(Some(x.cmp(y))),
            (Val::Text(x), Val::Text(y)) => {
                self.pay(x.len().min(y.len()) / 64)?;
                Ok(Some((**x).cmp(&**y)))
            }
            _ => Ok(numbers(a, b)),
        }
    }

    fn call(&self, function: Function, args: &[Val<'a>]) -> Result<Val<'a>, Error> {
        let wrong = || unfit(function.name(), &args.iter().collect::<Vec<_>>());
        match (function, args) {
            (Function::Dyn, [value]) => Ok(value.clone()),
            (Function::Size, [Val::Text(text)]) => {
                self.pay(text.len() / 1024)?;
                Ok(Val::Int(signed(text.chars().count())))
            }
            (Function::Size, [value]) => {
                value.count().map(|count| Val::Int(signed(count))).ok_or_else(wrong)
            }
            (
                Function::Contains | Function::StartsWith | Function::EndsWith,
                [Val::Text(text), Val::Text(part)],
            ) => {
                let read = if function == Function::Contains { text } else { part };
                self.pay(read.len().max(part.len()) / 64)?;
                Ok(Val::Bool(match function {
                    Function::Contains => text.contains(&**part),
                    Function::StartsWith => text.starts_with(&**part),
                    _ => text.ends_with(&**part),
                }))
            }
            (Function::LowerAscii | Function::UpperAscii | Function::Trim, [Val::Text(text)]) => {
                self.pay(text.len() / 64)?;
                Ok(Val::Text(Text::made(match function {
                    Function::LowerAscii => text.to_ascii_lowercase(),
                    Function::UpperAscii => text.to_ascii_uppercase(),
                    _ => text.trim().to_owned(),
                })))
            }
            (
                Function::Int | Function::UInt | Function::Double | Function::Text | Function::Bool,
                [value],
            ) => {
                if let Val::Text(text) = value {
                    self.pay(text.len() / 16)?;
                }
                convert(function, value)?.ok_or_else(wrong)
            }
            _ => Err(wrong()),
        }
    }

    fn to_json(&self, value: &Val<'a>) -> Result<Value, Error> {
        self.pay(1)?;
        Ok(match value {
            Val::Null => Value::Null,
            Val::Bool(value) => Value::Bool(*value),
            Val::Int(value) => Value::Number((*value).into()),
            Val::UInt(value) => Value::Number((*value).into()),
            Val::Double(value) => Value::Number(
                Number::from_f64(*value).ok_or(Error::Range("the value is not a finite number"))?,
            ),
            Val::Text(text) => {
                self.pay(text.len() / 64)?;
                Value::String((**text).to_owned())
            }
            Val::JsonList(_) | Val::List(_) => {
                let items = value.elements(&self.fuel).map(|item| self.to_json(&item?));
                Value::Array(items.collect::<Result<_, _>>()?)
            }
            Val::JsonMap(map) => {
                let mut copy = serde_json::Map::new();
                for (key, value) in *map {
                    copy.insert(key.clone(), self.to_json(&Val::of(value, &self.fuel)?)?);
                }
                Value::Object(copy)
            }
            Val::Map(map) => {
                let mut copy = serde_json::Map::new();
                for (key, value) in map.iter() {
                    copy.insert((**key).to_owned(), self.to_json(value)?);
                }
                Value::Object(copy)
            }
        })
    }
}

/// A comprehension under way.
struct Round<'a> {
    found: usize,
    wrong: Option<Error>,
    list: Vec<Val<'a>>,
}

impl<'a> Round<'a> {
    /// Takes the value for one element; true when the result is settled.
    fn take(
        &mut self,
        kind: LoopKind,
        item: Val<'a>,
        value: Result<Val<'a>, Error>,
    ) -> Result<bool, Error> {
        match kind {
            LoopKind::Map => self.list.push(value?),
            LoopKind::Filter => {
                if truth(value?)? {
                    self.list.push(item);
                }
            }
            LoopKind::ExistsOne => self.found += usize::from(truth(value?)?),
            // As with `||` and `&&`, one deciding element outweighs errors of the others.
            LoopKind::All | LoopKind::Exists => match value.and_then(truth) {
                Ok(holds) if holds == (kind == LoopKind::Exists) => {
                    self.found = 1;
                    return Ok(true);
                }
                Ok(_) => {}
                Err(error @ Error::TooCostly(_)) => return Err(error),
                Err(error) => self.wrong = self.wrong.take().or(Some(error)),
            },
        }
        Ok(false)
    }

    fn result(self, kind: LoopKind) -> Result<Val<'a>, Error> {
        let decided = self.found > 0;
        match (kind, self.wrong) {
            (LoopKind::Map | LoopKind::Filter, _) => Ok(Val::list(self.list)),
            (LoopKind::ExistsOne, _) => Ok(Val::Bool(self.found == 1)),
            (LoopKind::All | LoopKind::Exists, Some(error)) if !decided => Err(error),
            (LoopKind::All, _) => Ok(Val::Bool(!decided)),
            (LoopKind::Exists, _) => Ok(Val::Bool(decided)),
        }
    }
}

fn signed(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
