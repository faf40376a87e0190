//! Expressions: refused, or evaluated to the same value every time, and silent about values.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use mainstay::expression::{Expression, ExpressionError};
use serde_json::{Value, json};

/// Stands in every variable and must not come out of an error.
const SECRET: &str = "ZQ7-SECRET-7QZ";

static VALUE: LazyLock<Value> = LazyLock::new(|| {
    json!({
        "n": 3, "big": 9_223_372_036_854_775_807_i64, "x": 1.5, "t": SECRET, "b": true, "z": null,
        "l": [1, 2.5, "a", SECRET, null, [true]],
        "m": {"k": SECRET, "deep": {"er": [{"a": 1}, {"a": 2}]}},
    })
});

fuzz_target!(|source: &str| {
    let compiled = match Expression::compile(source, &["input", "output"]) {
        Ok(compiled) => compiled,
        Err(ExpressionError::Refused { line, column, .. }) => {
            assert!(line >= 1 && column >= 1);
            assert!(line as usize <= source.split('\n').count(), "beyond the source");
            return;
        }
        Err(other) => panic!("compiling gave {other:?}"),
    };
    assert_eq!(compiled.source(), source);
    let _ = compiled.reads();
    let variables = [("input", &*VALUE), ("output", &*VALUE)];
    let value = compiled.evaluate(&variables);
    assert_eq!(value, compiled.evaluate(&variables), "another value the second time");
    if let Err(error) = value {
        assert!(!matches!(error, ExpressionError::Refused { .. }), "refused when evaluated");
        assert!(source.contains(SECRET) || !format!("{error} {error:?}").contains(SECRET));
    }
    let _ = compiled.evaluate_bool(&variables);
    let _ = compiled.evaluate_list(&variables);
});
