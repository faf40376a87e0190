//! Values of an evaluation: JSON that is borrowed, and what was made of it.

use std::ops::Deref;
use std::rc::Rc;

use serde_json::{Map, Number, Value};

use super::ExpressionError as Error;
use super::fuel::Fuel;

/// A text that is borrowed from a value or from the expression, or was made on the way.
#[derive(Clone)]
pub(super) enum Text<'a> {
    Borrowed(&'a str),
    Made(Rc<str>),
}

impl Text<'_> {
    pub(super) fn made(text: String) -> Self {
        Self::Made(text.into())
    }
}

impl Deref for Text<'_> {
    type Target = str;

    fn deref(&self) -> &str {
        match self {
            Self::Borrowed(text) => text,
            Self::Made(text) => text,
        }
    }
}

/// A value. Cloning it copies nothing of any length.
#[derive(Clone)]
pub(super) enum Val<'a> {
    Null,
    Bool(bool),
    Int(i64),
    UInt(u64),
    Double(f64),
    Text(Text<'a>),
    JsonList(&'a [Value]),
    JsonMap(&'a Map<String, Value>),
    List(Rc<Vec<Val<'a>>>),
    Map(Rc<Vec<(Text<'a>, Val<'a>)>>),
}

/// The elements of a list or the keys of a map, one after the other.
pub(super) enum Elements<'s, 'a> {
    Json(std::slice::Iter<'a, Value>, &'s Fuel),
    Made(std::slice::Iter<'s, Val<'a>>),
    Keys(serde_json::map::Keys<'a>),
    MadeKeys(std::slice::Iter<'s, (Text<'a>, Val<'a>)>),
}

impl<'a> Iterator for Elements<'_, 'a> {
    type Item = Result<Val<'a>, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        match self {
            Self::Json(items, fuel) => items.next().map(|item| Val::of(item, fuel)),
            Self::Made(items) => items.next().cloned().map(Ok),
            Self::Keys(keys) => keys.next().map(|key| Ok(Val::Text(Text::Borrowed(key)))),
            Self::MadeKeys(entries) => entries.next().map(|(key, _)| Ok(Val::Text(key.clone()))),
        }
    }
}

impl<'a> Val<'a> {
    /// A JSON value. Whole numbers are ints, or uints above the range of ints; all others doubles.
    pub(super) fn of(json: &'a Value, fuel: &Fuel) -> Result<Self, Error> {
        Ok(match json {
            Value::Null => Self::Null,
            Value::Bool(value) => Self::Bool(*value),
            Value::Number(number) => return Self::number(number, fuel),
            Value::String(text) => Self::Text(Text::Borrowed(text)),
            Value::Array(items) => Self::JsonList(items),
            Value::Object(map) => Self::JsonMap(map),
        })
    }

    /// Numbers are kept as they were written (serde_json's `arbitrary_precision`), so each is read
    /// here, where it is needed, and costs by its length.
    fn number(number: &Number, fuel: &Fuel) -> Result<Self, Error> {
        fuel.pay(1 + number.as_str().len() / 16)?;
        if let Some(value) = number.as_i64() {
            return Ok(Self::Int(value));
        }
        match (number.as_u64(), number.as_f64()) {
            (Some(value), _) => Ok(Self::UInt(value)),
            (None, Some(value)) if value.is_finite() => Ok(Self::Double(value)),
            _ => Err(Error::Range("a number is outside the range of doubles")),
        }
    }

    pub(super) fn list(items: Vec<Val<'a>>) -> Self {
        Self::List(Rc::new(items))
    }

    pub(super) fn map(entries: Vec<(Text<'a>, Val<'a>)>) -> Self {
        Self::Map(Rc::new(entries))
    }

    /// The member of a map; `None` where it is absent. Null has no members, so that a skipped
    /// step reads as a step without fields and not as a mistake of types.
    pub(super) fn field(&self, name: &str, fuel: &Fuel) -> Result<Option<Self>, Error> {
        match self {
            Self::Null => Ok(None),
            Self::JsonMap(map) => map.get(name).map(|value| Self::of(value, fuel)).transpose(),
            Self::Map(map) => {
                Ok(map.iter().find(|(key, _)| **key == *name).map(|(_, value)| value.clone()))
            }
            other => Err(Error::Type(format!("{} has no field `{name}`", other.type_name()))),
        }
    }

    /// The element of a list.
    pub(super) fn item(&self, index: usize, fuel: &Fuel) -> Result<Option<Self>, Error> {
        match self {
            Self::JsonList(items) => {
                items.get(index).map(|value| Self::of(value, fuel)).transpose()
            }
            Self::List(items) => Ok(items.get(index).cloned()),
            _ => Ok(None),
        }
    }

    /// How many elements a list, or members a map has.
    pub(super) fn count(&self) -> Option<usize> {
        match self {
            Self::JsonList(items) => Some(items.len()),
            Self::List(items) => Some(items.len()),
            Self::JsonMap(map) => Some(map.len()),
            Self::Map(map) => Some(map.len()),
            Self::Null
            | Self::Bool(_)
            | Self::Int(_)
            | Self::UInt(_)
            | Self::Double(_)
            | Self::Text(_) => None,
        }
    }

    /// The elements of a list, the keys of a map, nothing of any other value.
    pub(super) fn elements<'s>(&'s self, fuel: &'s Fuel) -> Elements<'s, 'a> {
        match self {
            Self::JsonList(items) => Elements::Json(items.iter(), fuel),
            Self::List(items) => Elements::Made(items.iter()),
            Self::JsonMap(map) => Elements::Keys(map.keys()),
            Self::Map(map) => Elements::MadeKeys(map.iter()),
            Self::Null
            | Self::Bool(_)
            | Self::Int(_)
            | Self::UInt(_)
            | Self::Double(_)
            | Self::Text(_) => Elements::Made([].iter()),
        }
    }

    pub(super) fn is_list(&self) -> bool {
        matches!(self, Self::JsonList(_) | Self::List(_))
    }

    pub(super) fn is_map(&self) -> bool {
        matches!(self, Self::JsonMap(_) | Self::Map(_))
    }

    pub(super) fn type_name(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool(_) => "a boolean",
            Self::Int(_) => "an int",
            Self::UInt(_) => "a uint",
            Self::Double(_) => "a double",
            Self::Text(_) => "a string",
            Self::JsonList(_) | Self::List(_) => "a list",
            Self::JsonMap(_) | Self::Map(_) => "a map",
        }
    }
}
