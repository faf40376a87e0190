use std::time::{Duration, Instant};

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

fn input() -> Value {
    json!({
        "title": "Ärger in Raum 7", "count": 3, "share": 0.25, "empty": null, "big": u64::MAX,
        "ok": true, "tags": ["a", "b"],
        "people": [
            {"name": "Ann", "kind": "person", "age": 41},
            {"name": "Acme", "kind": "organisation"},
        ],
    })
}

#[track_caller]
fn value(source: &str, expected: Value) {
    let input = input();
    let expression = Expression::compile(source, &["input", "x"]).unwrap();
    let found = expression.evaluate(&[("x", &json!(5)), ("input", &input)]);
    assert_eq!(found, Ok(expected), "{source}");
}

#[track_caller]
fn fails(source: &str, expected: &str) {
    let input = input();
    let expression = Expression::compile(source, &["input"]).unwrap();
    let error = expression.evaluate(&[("input", &input)]).unwrap_err();
    assert_eq!(error.to_string(), expected, "{source}");
}

#[track_caller]
fn refused(source: &str, expected: &str) {
    match Expression::compile(source, &["input", "steps"]).unwrap_err() {
        ExpressionError::Refused { line, column, message, suggestion } => {
            let hint = suggestion.map(|hint| format!(" ({hint})")).unwrap_or_default();
            assert_eq!(format!("{line}:{column}: {message}{hint}"), expected, "{source}");
        }
        other => panic!("{source}: {other:?}"),
    }
}

#[test]
fn values() {
    value("input.count + 1", json!(4));
    value("input.share * 2.0", json!(0.5));
    value("double(input.count) * input.share", json!(0.75));
    value("input.count > 2.5 && input.count == 3.0", json!(true));
    value("7 / 2 + 7 % 2 - -1", json!(5));
    value("input['count']", json!(3));
    value("input.tags[1]", json!("b"));
    value("size(input.title) == 15 && input.title.size() == 15", json!(true));
    value("input.title.startsWith('Ä') && input.title.contains('Raum')", json!(true));
    value("input.title.matches('[0-9]$') && matches('ab', '^a')", json!(true));
    value("'b' in input.tags && !('c' in input.tags) && 'ok' in input", json!(true));
    value("has(input.title) && !has(input.nothing) && !has(input.empty.deep)", json!(true));
    value("input.empty == null ? 'none' : input.empty", json!("none"));
    value("input.people.map(p, p.name)", json!(["Ann", "Acme"]));
    value("input.people.map(p, p.kind == 'person', p.age)", json!([41]));
    value("input.people.filter(p, has(p.age)).map(q, q.name)", json!(["Ann"]));
    value("input.people.exists(p, p.age == 41)", json!(true));
    value("input.people.exists_one(p, p.kind == 'person')", json!(true));
    value("input.people.all(p, p.name.startsWith('A'))", json!(true));
    value("[1, 2] + input.tags", json!([1, 2, "a", "b"]));
    value("{'a': x, 'b': [input.ok]}", json!({"a": 5, "b": [true]}));
    value("{'a': 1, 'b': 2} == {'b': 2.0, 'a': 1u}", json!(true));
    value("{'a': 1}.map(k, k)", json!(["a"]));
    value("input.big > 1 && input.big == 18446744073709551615u", json!(true));
    value("'1' == 1", json!(false));
    value("int('7') + int(2.9) + int(1u)", json!(10));
    value("string(1.5) + string(true) + '\\n'", json!("1.5true\n"));
    value("' aB '.trim().lowerAscii() + 'c'.upperAscii()", json!("abC"));
    value("'abc' < 'abd' && false < true", json!(true));
}

/// The deciding side of `||` and `&&` outweighs an error on the other, in either order.
#[test]
fn errors_are_absorbed_as_cel_does() {
    value("input.nothing == 1 || true", json!(true));
    value("true || input.nothing == 1", json!(true));
    value("input.nothing == 1 && false", json!(false));
    fails("input.nothing == 1 || false", "`input.nothing` is absent");
    value("input.people.exists(p, p.age > 40)", json!(true));
    fails("input.people.exists(p, p.age > 50)", "`p.age` is absent");
}

#[test]
fn errors_name_paths_and_types_and_never_values() {
    fails("input.a.b", "`input.a` is absent");
    fails("input.empty.b", "`input.empty.b` is absent");
    fails("input.tags[2]", "`input.tags[2]` is absent");
    fails("input.title.deep", "a string has no field `deep`");
    fails("input.title + 1", "`+` does not take a string and an int");
    fails("input.count * input.share", "`*` does not take an int and a double; write `double(x)`");
    fails("input.title > 1", "`>` does not take a string and an int");
    fails("input.title && true", "a boolean is needed, and a string was found");
    fails("input.count / 0", "division by zero");
    fails("9223372036854775807 + input.count", "the result is outside the range of integers");
    fails("int(input.title)", "the value cannot be converted");
    fails("1.0 / 0.0", "the value is not a finite number");
    fails("input.count.map(x, x)", "an int has no elements to go over");
}

#[test]
fn the_wanted_type_is_checked() {
    let number = Expression::compile("1", &[]).unwrap();
    assert_eq!(
        number.evaluate_bool(&[]).unwrap_err().to_string(),
        "the expression gives a number, and a boolean is needed"
    );
    assert_eq!(
        number.evaluate_list(&[]).unwrap_err().to_string(),
        "the expression gives a number, and a list is needed"
    );
    let list = Expression::compile("[1]", &[]).unwrap();
    assert_eq!(list.evaluate_list(&[]), Ok(vec![json!(1)]));
}

#[test]
fn refusals_have_a_place_and_a_suggestion() {
    refused("", "1:1: the expression is empty");
    refused("input.a ==", "1:11: the expression ends too early");
    refused("input.a\n  && )", "2:6: unexpected `)`");
    refused("imput.a", "1:1: unknown variable `imput` (did you mean `input`?)");
    refused("'ä' == foo", "1:8: unknown variable `foo` (known here: input, steps)");
    refused("input.contain('a')", "1:7: unknown function `contain` (did you mean `contains`?)");
    refused("size(1, 2)", "1:1: `size` takes 1 value(s), and 2 stand here");
    refused("input.a.matches(input.b)", "1:17: the pattern of `matches` has to be a literal");
    refused("input.a.matches('(')", "1:17: the pattern is no regular expression, or is too large");
    refused(
        "input.a.all(x, x.b.all(y, y))",
        "1:20: one comprehension inside another is not allowed",
    );
    refused("input.a.map(input, 1)", "1:13: the element hides the variable `input`");
    refused("has(input)", "1:1: `has` takes one field, as in `has(input.title)`");
    refused("b'abc'", "1:1: byte strings do not exist here");
    refused("input{a: 1}", "1:6: message literals do not exist here");
    refused(
        "timestamp('x')",
        "1:1: unknown function `timestamp` (known: size, contains, startsWith, endsWith, lowerAscii, upperAscii, trim, int, uint, double, string, bool, dyn, matches, has, all, exists, exists_one, map, filter)",
    );
    refused(&"(".repeat(200), "1:33: nested more than 32 deep");
    refused(&format!("input.a{}", " + 1".repeat(60)), "1:129: nested more than 32 deep");
}

/// Whatever is written, it is refused or compiled in a bounded time on a small stack.
#[test]
fn hostile_sources_are_stopped() {
    for unit in ["(", "a+", "[", "!", "-", "a?", "a.b(", "{", "a<", "'", "x.all(y,", "a in ", "a."]
    {
        let source = unit.repeat(SOURCE_BYTES_MAX / unit.len());
        assert!(Expression::compile(&source, &["a"]).is_err(), "{unit}");
        let source = format!("{}a", &source[..source.len() - 8]);
        assert!(Expression::compile(&source, &["a"]).is_err(), "{unit}");
    }
    assert!(Expression::compile(&"a".repeat(SOURCE_BYTES_MAX + 1), &["a"]).is_err());
    assert!(Expression::compile("input.a.matches('(a{1000}){1000}')", &["input"]).is_err());
}

#[test]
fn bombs_run_out_of_fuel() {
    let long = json!({
        "list": (0..LIST_ITEMS_MAX).collect::<Vec<_>>(),
        "longer": vec![1; LIST_ITEMS_MAX + 1],
        "text": "x".repeat(1 << 20),
        "zeros": "0".repeat(1 << 20),
        "number": serde_json::from_str::<Value>(&format!("0.{}", "1".repeat(1 << 20))).unwrap(),
    });
    let bombs = [
        "v.list.map(x, v.text + v.text)".to_owned(),
        "v.list.map(x, v.text)".to_owned(),
        "v.list.all(x, !v.text.contains('y'))".to_owned(),
        "v.list.all(x, !v.text.matches('(x+x+)+y'))".to_owned(),
        "v.list.map(x, v.list)".to_owned(),
        "v.list.all(x, v.number > 0.0)".to_owned(),
        "v.list.all(x, int(v.zeros) == 0)".to_owned(),
        "v.list.all(x, v.list == v.list)".to_owned(),
        "v.list.exists(x, -1 in v.list) || true".to_owned(),
        "v.longer.all(x, true)".to_owned(),
        "v.longer.all(x, true) || true".to_owned(),
        format!("size({}) > 0", vec!["v.text"; 14].join("+")),
        format!("[{}]", vec!["v.list.all(x, x >= 0)"; 60].join(",")),
    ];
    for bomb in bombs {
        let expression = Expression::compile(&bomb, &["v"]).unwrap();
        let began = Instant::now();
        let result = expression.evaluate(&[("v", &long)]);
        assert!(matches!(result, Err(ExpressionError::TooCostly(_))), "{bomb}: {result:?}");
        // Generous: a debug build on a busy machine. In release it is about a millisecond.
        assert!(began.elapsed() < Duration::from_secs(2), "{bomb}: {:?}", began.elapsed());
    }
    let fair = Expression::compile("v.list.filter(x, x % 2 == 0)", &["v"]).unwrap();
    assert_eq!(fair.evaluate_list(&[("v", &long)]).unwrap().len(), LIST_ITEMS_MAX / 2);
}

#[test]
fn numbers_are_read_as_written() {
    let read = |text: &str, source: &str| {
        let value: Value = serde_json::from_str(text).unwrap();
        Expression::compile(source, &["v"]).unwrap().evaluate(&[("v", &value)])
    };
    assert_eq!(read("9007199254740993", "v == 9007199254740993"), Ok(json!(true)));
    assert_eq!(read("9007199254740993", "v == 9007199254740992.0"), Ok(json!(false)));
    assert_eq!(read("1.0", "v == 1 && v + 0.5 == 1.5"), Ok(json!(true)));
    assert_eq!(
        read("-9223372036854775808", "v < 0 && int(double(v) / 2.0) == v / 2"),
        Ok(json!(true))
    );
    assert!(matches!(read("1e999", "v > 1"), Err(ExpressionError::Range(_))));
}

fn any_source() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        Just("v.a".to_owned()),
        Just("v.b".to_owned()),
        Just("v.list".to_owned()),
        Just("v.none".to_owned()),
        Just("v.text".to_owned()),
        Just("true".to_owned()),
        Just("'t'".to_owned()),
        Just("null".to_owned()),
        Just("[1, 2.0, 'a']".to_owned()),
        (-3_i64..9).prop_map(|n| n.to_string()),
        (0_u8..9).prop_map(|n| format!("{n}.5")),
        (0_u8..9).prop_map(|n| format!("{n}u")),
    ];
    leaf.prop_recursive(4, 24, 3, |inner| {
        let two = (inner.clone(), inner.clone());
        prop_oneof![
            (
                two.clone(),
                prop::sample::select(vec![
                    "+", "-", "*", "/", "%", "==", "!=", "<", "<=", ">", ">=", "&&", "||", "in"
                ])
            )
                .prop_map(|((a, b), sign)| format!("({a} {sign} {b})")),
            (inner.clone(), inner.clone(), inner.clone())
                .prop_map(|(a, b, c)| format!("({a} ? {b} : {c})")),
            inner.clone().prop_map(|a| format!("!({a})")),
            inner.clone().prop_map(|a| format!("size({a})")),
            inner.clone().prop_map(|a| format!("double({a})")),
            inner.clone().prop_map(|a| format!("int({a})")),
            two.clone().prop_map(|(a, b)| format!("({a}).contains({b})")),
            two.clone().prop_map(|(a, b)| format!("[{a}, {b}]")),
            two.clone().prop_map(|(a, b)| format!("{{'k': {a}, 'l': {b}}}.k")),
            two.clone().prop_map(|(a, b)| format!("({a})[{b}]")),
            (
                prop::sample::select(vec!["map", "filter", "all", "exists", "exists_one"]),
                prop::sample::select(vec!["e == 2", "e > 1", "e in v.list", "size(e) > 0"])
            )
                .prop_map(|(name, body)| format!("v.list.{name}(e, {body})")),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Our evaluator and the library's have the same value, or fail both.
    #[test]
    fn agrees_with_the_library(source in any_source()) {
        let v = json!({"a": 2, "b": 1.5, "list": [1, 2, 3], "none": null, "text": "att"});
        let ours = Expression::compile(&source, &["v"]).unwrap().evaluate(&[("v", &v)]);
        let mut context = cel::Context::default();
        context.add_variable_from_value("v", std::collections::HashMap::from([
            ("a", cel::Value::from(2_i64)),
            ("b", cel::Value::from(1.5)),
            ("list", cel::Value::from(vec![1_i64, 2, 3])),
            ("none", cel::Value::Null),
            ("text", cel::Value::from("att")),
        ]));
        let theirs = cel::Program::compile(&source).unwrap().execute(&context);
        match (ours, theirs) {
            (Ok(ours), Ok(theirs)) => prop_assert_eq!(ours, theirs.json().unwrap(), "{}", source),
            (Err(_), Err(_)) => {}
            (ours, theirs) => prop_assert!(false, "{}: {:?} against {:?}", source, ours, theirs),
        }
    }

    /// Any text is compiled or refused, and what compiles evaluates or fails; nothing panics.
    #[test]
    fn any_text_ends(source in "[a-z0-9v.()\\[\\]{}+*/<>=!&|?:'\", -]{0,60}") {
        if let Ok(expression) = Expression::compile(&source, &["v", "a", "b"]) {
            let v = json!({"a": [1, {"b": "c"}]});
            let _ = expression.evaluate(&[("v", &v), ("a", &v), ("b", &json!(1))]);
        }
    }
}
