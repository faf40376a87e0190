//! Operations on single values, as CEL defines them.

use std::cmp::Ordering;

use super::ExpressionError as Error;
use super::tree::{Binary, Function};
use super::value::{Text, Val};

const OVERFLOW: Error = Error::Range("the result is outside the range of integers");
const BY_ZERO: Error = Error::Range("division by zero");
const UNCONVERTIBLE: Error = Error::Range("the value cannot be converted");

/// The operation does not take values of these types.
pub(super) fn unfit(operation: &str, values: &[&Val<'_>]) -> Error {
    let types = values.iter().map(|value| value.type_name()).collect::<Vec<_>>().join(" and ");
    let mixed = values.iter().any(|value| matches!(value, Val::Double(_)))
        && values.iter().any(|value| matches!(value, Val::Int(_) | Val::UInt(_)));
    let hint = if mixed { "; write `double(x)`" } else { "" };
    Error::Type(format!("`{operation}` does not take {types}{hint}"))
}

pub(super) fn truth(value: Val<'_>) -> Result<bool, Error> {
    match value {
        Val::Bool(value) => Ok(value),
        other => {
            Err(Error::Type(format!("a boolean is needed, and {} was found", other.type_name())))
        }
    }
}

pub(super) fn negate(value: Val<'_>) -> Result<Val<'_>, Error> {
    match value {
        Val::Int(value) => value.checked_neg().map(Val::Int).ok_or(OVERFLOW),
        Val::Double(value) => Ok(Val::Double(-value)),
        other => Err(unfit("-", &[&other])),
    }
}

pub(super) fn int<'a>(operator: Binary, x: i64, y: i64) -> Result<Val<'a>, Error> {
    let result = match operator {
        Binary::Add => x.checked_add(y),
        Binary::Subtract => x.checked_sub(y),
        Binary::Multiply => x.checked_mul(y),
        Binary::Divide if y == 0 => return Err(BY_ZERO),
        Binary::Divide => x.checked_div(y),
        _ if y == 0 => return Err(BY_ZERO),
        _ => x.checked_rem(y),
    };
    result.map(Val::Int).ok_or(OVERFLOW)
}

pub(super) fn uint<'a>(operator: Binary, x: u64, y: u64) -> Result<Val<'a>, Error> {
    let result = match operator {
        Binary::Add => x.checked_add(y),
        Binary::Subtract => x.checked_sub(y),
        Binary::Multiply => x.checked_mul(y),
        Binary::Divide if y == 0 => return Err(BY_ZERO),
        Binary::Divide => x.checked_div(y),
        _ if y == 0 => return Err(BY_ZERO),
        _ => x.checked_rem(y),
    };
    result.map(Val::UInt).ok_or(OVERFLOW)
}

/// `None` for the remainder, which doubles do not have.
pub(super) fn double<'a>(operator: Binary, x: f64, y: f64) -> Option<Val<'a>> {
    match operator {
        Binary::Add => Some(Val::Double(x + y)),
        Binary::Subtract => Some(Val::Double(x - y)),
        Binary::Multiply => Some(Val::Double(x * y)),
        Binary::Divide => Some(Val::Double(x / y)),
        _ => None,
    }
}

/// How two numbers of any type compare; `None` where one is no number.
pub(super) fn numbers(a: &Val<'_>, b: &Val<'_>) -> Option<Ordering> {
    let whole = |value: &Val<'_>| match value {
        Val::Int(value) => Some(i128::from(*value)),
        Val::UInt(value) => Some(i128::from(*value)),
        _ => None,
    };
    match (a, b) {
        (Val::Int(x), Val::Int(y)) => Some(x.cmp(y)),
        (Val::Double(x), Val::Double(y)) => x.partial_cmp(y),
        (Val::Double(x), _) => whole(b).and_then(|y| against_whole(*x, y)),
        (_, Val::Double(y)) => whole(a).and_then(|x| against_whole(*y, x)).map(Ordering::reverse),
        _ => Some(whole(a)?.cmp(&whole(b)?)),
    }
}

/// Exact also where the whole number is too large for a double.
fn against_whole(x: f64, y: i128) -> Option<Ordering> {
    if x.is_nan() {
        return None;
    }
    // Saturates, and 128 bits hold every 64-bit integer, so the order is kept.
    let floor = x.floor();
    match (floor as i128).cmp(&y) {
        Ordering::Equal if x > floor => Some(Ordering::Greater),
        order => Some(order),
    }
}

/// `int(x)`, `double(x)` and the like; `None` for a type that the function does not take.
pub(super) fn convert<'a>(function: Function, value: &Val<'a>) -> Result<Option<Val<'a>>, Error> {
    let text = |text: String| Val::Text(Text::made(text));
    let converted = match (function, value) {
        (Function::Int, Val::Int(_))
        | (Function::UInt, Val::UInt(_))
        | (Function::Double, Val::Double(_))
        | (Function::Text, Val::Text(_))
        | (Function::Bool, Val::Bool(_)) => value.clone(),
        (Function::Int, Val::UInt(x)) => Val::Int(i64::try_from(*x).map_err(|_| OVERFLOW)?),
        (Function::Int, Val::Double(x)) => {
            Val::Int(whole(*x, -(2_f64.powi(63)), 2_f64.powi(63))? as i64)
        }
        (Function::Int, Val::Text(x)) => Val::Int(x.parse().map_err(|_| UNCONVERTIBLE)?),
        (Function::UInt, Val::Int(x)) => Val::UInt(u64::try_from(*x).map_err(|_| OVERFLOW)?),
        (Function::UInt, Val::Double(x)) => Val::UInt(whole(*x, -1.0, 2_f64.powi(64))? as u64),
        (Function::UInt, Val::Text(x)) => Val::UInt(x.parse().map_err(|_| UNCONVERTIBLE)?),
        (Function::Double, Val::Int(x)) => Val::Double(*x as f64),
        (Function::Double, Val::UInt(x)) => Val::Double(*x as f64),
        (Function::Double, Val::Text(x)) => Val::Double(x.parse().map_err(|_| UNCONVERTIBLE)?),
        (Function::Text, Val::Int(x)) => text(x.to_string()),
        (Function::Text, Val::UInt(x)) => text(x.to_string()),
        (Function::Text, Val::Double(x)) => text(x.to_string()),
        (Function::Text, Val::Bool(x)) => text(x.to_string()),
        (Function::Bool, Val::Text(x)) => match &**x {
            "true" | "True" | "TRUE" | "t" | "1" => Val::Bool(true),
            "false" | "False" | "FALSE" | "f" | "0" => Val::Bool(false),
            _ => return Err(UNCONVERTIBLE),
        },
        _ => return Ok(None),
    };
    Ok(Some(converted))
}

/// Towards zero, if that lies between the two bounds.
fn whole(x: f64, above: f64, below: f64) -> Result<f64, Error> {
    // The lowest int is in range and equals its bound; NaN is in no range.
    if x > above && x < below { Ok(x.trunc()) } else { Err(OVERFLOW) }
}
