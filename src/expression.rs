//! Expressions: CEL behind a type of our own.
//!
//! Policies and pipelines carry conditions (`when`, `rules`, `confidence`) and selections
//! (`for_each`, `output`) as text. They are written by people who may not be trusted with the
//! machine and read values that may not be trusted at all, so an expression is held to limits
//! before it is ever evaluated, and evaluation itself is paid for step by step. What is wrong with
//! an expression is said when its document is loaded, not when a run comes past it.
//!
//! No error ever contains the value of a variable: values are prompts and outputs.

mod arithmetic;
mod evaluate;
mod fuel;
mod lexer;
mod parser;
mod requires;
mod tree;
mod value;

use std::fmt;
use std::sync::Arc;

use serde_json::Value;

use tree::Node;

pub use requires::{Literal, Required, Requirements};

/// Longest source in bytes.
pub const SOURCE_BYTES_MAX: usize = 4 * 1024;
/// Deepest nesting of operators, calls and literals.
pub const DEPTH_MAX: usize = 32;
/// Longest list that an expression may be given.
pub const LIST_ITEMS_MAX: usize = 10_000;

/// A compiled expression. Cheap to clone; `Send` and `Sync`.
#[derive(Clone)]
pub struct Expression(Arc<Compiled>);

struct Compiled {
    source: String,
    root: Node,
}

/// A variable as it is handed to an evaluation. Nothing of it is copied.
#[derive(Debug, Clone)]
pub enum Variable<'a> {
    /// A JSON value.
    Json(&'a Value),
    /// A whole number.
    Int(i64),
    /// A boolean.
    Bool(bool),
    /// A text.
    Text(&'a str),
    /// A map whose members stand in different places.
    Map(Vec<(&'a str, Variable<'a>)>),
}

/// Why an expression cannot be used, or what kept it from having a value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ExpressionError {
    /// It is not an expression that we accept. Place within the source, both counted from 1.
    #[error("{message}")]
    Refused {
        /// Line.
        line: u32,
        /// Column in characters.
        column: u32,
        /// What is wrong.
        message: String,
        /// What to write instead.
        suggestion: Option<String>,
    },
    /// It read a field that the value does not have.
    #[error("`{0}` is absent")]
    Missing(String),
    /// It used a value of a type that the operation does not take.
    #[error("{0}")]
    Type(String),
    /// It divided by zero, left the range of integers or converted what cannot be converted.
    #[error("{0}")]
    Range(&'static str),
    /// It was given more, or did more, than the limits allow.
    #[error("{0}")]
    TooCostly(&'static str),
}

impl Expression {
    /// Reads an expression that may use `variables`.
    ///
    /// # Errors
    /// [`ExpressionError::Refused`] if it is too long or too deep, is not CEL, reads a variable or
    /// calls a function that does not exist, nests one comprehension in another, or matches
    /// against a pattern that is not written in the expression itself.
    pub fn compile(source: &str, variables: &[&str]) -> Result<Self, ExpressionError> {
        let root = parser::parse(source, variables)?;
        Ok(Self(Arc::new(Compiled { source: source.to_owned(), root })))
    }

    /// The text it was compiled from.
    pub fn source(&self) -> &str {
        &self.0.source
    }

    /// Its value.
    ///
    /// # Errors
    /// Why there is none; never [`ExpressionError::Refused`], and never with a value in it.
    pub fn evaluate(&self, variables: &[(&str, &Value)]) -> Result<Value, ExpressionError> {
        let variables: Vec<_> =
            variables.iter().map(|(name, value)| (*name, Variable::Json(value))).collect();
        self.evaluate_in(&variables)
    }

    /// Its value over variables that do not stand in memory as one JSON value.
    ///
    /// # Errors
    /// As [`Self::evaluate`].
    pub fn evaluate_in(
        &self,
        variables: &[(&str, Variable<'_>)],
    ) -> Result<Value, ExpressionError> {
        evaluate::evaluate(&self.0.root, variables)
    }

    /// The fields of variables that it reads, each as far as its path is fixed: `steps.a.b` and
    /// `steps["a"].b` are both `["steps", "a", "b"]`.
    pub fn reads(&self) -> Vec<Vec<&str>> {
        self.0.root.reads()
    }

    /// What has to hold for it to hold as a condition.
    pub fn requirements(&self) -> Requirements {
        Requirements::of(&self.0.root)
    }

    /// Its value, which has to be a boolean.
    ///
    /// # Errors
    /// As [`Self::evaluate`]; also [`ExpressionError::Type`] for any other value.
    pub fn evaluate_bool(&self, variables: &[(&str, &Value)]) -> Result<bool, ExpressionError> {
        boolean(self.evaluate(variables)?)
    }

    /// Its value, which has to be a list.
    ///
    /// # Errors
    /// As [`Self::evaluate`]; also [`ExpressionError::Type`] for any other value.
    pub fn evaluate_list(
        &self,
        variables: &[(&str, &Value)],
    ) -> Result<Vec<Value>, ExpressionError> {
        list(self.evaluate(variables)?)
    }
}

impl PartialEq for Expression {
    fn eq(&self, other: &Self) -> bool {
        self.0.source == other.0.source
    }
}

impl Eq for Expression {}

impl fmt::Debug for Expression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Expression({:?})", self.0.source)
    }
}

/// The boolean that a condition has to give.
///
/// # Errors
/// [`ExpressionError::Type`] for any other value.
pub fn boolean(value: Value) -> Result<bool, ExpressionError> {
    match value {
        Value::Bool(value) => Ok(value),
        other => Err(ExpressionError::Type(format!(
            "the expression gives {}, and a boolean is needed",
            type_name(&other)
        ))),
    }
}

/// The list that a selection has to give.
///
/// # Errors
/// [`ExpressionError::Type`] for any other value.
pub fn list(value: Value) -> Result<Vec<Value>, ExpressionError> {
    match value {
        Value::Array(items) => Ok(items),
        other => Err(ExpressionError::Type(format!(
            "the expression gives {}, and a list is needed",
            type_name(&other)
        ))),
    }
}

/// The refusal of what stands at a byte of the source.
fn refusal(
    source: &str,
    at: usize,
    message: impl Into<String>,
    suggestion: Option<String>,
) -> ExpressionError {
    let before = source.get(..at).unwrap_or_default();
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    let number = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    ExpressionError::Refused {
        line: number(line),
        column: number(column),
        message: message.into(),
        suggestion,
    }
}

/// The type of a JSON value in the words that people use for it.
fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "a map",
    }
}

#[cfg(test)]
mod tests;
