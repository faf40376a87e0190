//! One line per rule of the reader: what it reads, and the changes that it notes.

use serde_json::Value;

use super::{Head, read};
use crate::output::budget::Budget;

#[track_caller]
fn check(text: &str, expected: &str, changes: &[&str]) {
    let mut budget = Budget::for_length(text.len());
    let reading = read(text, 0, Head::Bracket, &mut budget)
        .unwrap_or_else(|refusal| panic!("{text}: {refusal:?}"));
    let expected: Value = serde_json::from_str(expected).unwrap();
    assert_eq!(reading.value, expected, "{text}");
    let mut names: Vec<_> =
        reading.changes.listed().iter().map(|change| change.kind.name()).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names, changes, "{text}");
}

#[track_caller]
fn refuses(text: &str) {
    let mut budget = Budget::for_length(text.len());
    assert!(read(text, 0, Head::Bracket, &mut budget).is_err(), "{text}");
}

#[test]
fn separators() {
    check("[1, 2,]", "[1,2]", &["comma_removed"]);
    check("{\"a\": 1,}", "{\"a\":1}", &["comma_removed"]);
    check("[1,, 2]", "[1,2]", &["value_missing"]);
    check("[1 2]", "[1,2]", &["comma_added"]);
    check("{\"a\": 1 \"b\": 2}", "{\"a\":1,\"b\":2}", &["comma_added"]);
    check("{\"a\": 1; \"b\": 2}", "{\"a\":1,\"b\":2}", &["comma_added"]);
    check("{\"a\" 1}", "{\"a\":1}", &["colon_fixed"]);
    check("{\"a\" => 1}", "{\"a\":1}", &["colon_fixed"]);
    check("{\"a\"：1，\"b\"：2}", "{\"a\":1,\"b\":2}", &["colon_fixed", "punctuation_style"]);
    check("{\"a\": , \"b\": 2}", "{\"b\":2}", &["value_missing"]);
}

#[test]
fn quotes() {
    check("{'a': 'b'}", "{\"a\":\"b\"}", &["quote_style"]);
    check("{“a”: “b”}", "{\"a\":\"b\"}", &["quote_style"]);
    check("['it's']", "[\"it's\"]", &["inner_quote", "quote_style"]);
    check("['''a \"b\"''']", "[\"a \\\"b\\\"\"]", &["quote_style"]);
    check("{\"a\": \"x \"y\" z\"}", "{\"a\":\"x \\\"y\\\" z\"}", &["inner_quote"]);
    check("{\"a\": \"Rome, \"b\": 1}", "{\"a\":\"Rome\",\"b\":1}", &["quote_guessed"]);
    check("{\"a: \"b\"}", "{\"a\":\"b\"}", &["quote_guessed"]);
    check("{\"\"a\"\": \"\"b\"\"}", "{\"a\":\"b\"}", &["quote_doubled"]);
    check("[\"a\" + \"b\"]", "[\"ab\"]", &["strings_joined"]);
    check("[\"x\ny\"]", "[\"x\\ny\"]", &["control_character"]);
}

#[test]
fn escapes() {
    check("[\"\\d+\"]", "[\"\\\\d+\"]", &["escape_fixed"]);
    check("[\"it\\'s\"]", "[\"it's\"]", &["escape_fixed"]);
    check("[\"a\\_b\"]", "[\"a_b\"]", &["escape_fixed"]);
    check("[\"C:\\new\\Users\"]", "[\"C:\\new\\\\Users\"]", &["escape_guessed"]);
    check("[\"x\\ud83dy\"]", "[\"x\u{fffd}y\"]", &["escape_guessed"]);
}

#[test]
fn unquoted() {
    check("{a: 1}", "{\"a\":1}", &["quote_added"]);
    check("{\"a\": New York, \"b\": 1}", "{\"a\":\"New York\",\"b\":1}", &["quote_added"]);
    check("{\"a\": 2024-10-18}", "{\"a\":\"2024-10-18\"}", &["quote_added"]);
    check("{\"a\": foo\"}", "{\"a\":\"foo\"}", &["quote_added"]);
    check("[True, None]", "[true,null]", &["literal_style"]);
    check("[NaN]", "[null]", &["literal_guessed"]);
    check("[+1, .5, 0x1F, 1_000]", "[1,0.5,31,1000]", &["number_style"]);
    check("{\"a\": ４２, \"b\": -３.５}", "{\"a\":42,\"b\":-3.5}", &["number_style"]);
    check("{\"a\": 1,200, \"b\": 2}", "{\"a\":1200,\"b\":2}", &["number_guessed", "text_guessed"]);
    check("{\"a\": ObjectId(\"6\")}", "{\"a\":\"6\"}", &["call_removed"]);
    check("[(1, 2)]", "[[1,2]]", &["bracket_style"]);
}

#[test]
fn comments_and_ellipses() {
    check("[1, // one\n2]", "[1,2]", &["comment_removed"]);
    check("[1 /* x */]", "[1]", &["comment_removed"]);
    check("[1, /* 48 more items */]", "[1]", &["comma_removed", "elision_dropped"]);
    check("[1, 2 // and 12 more\n]", "[1,2]", &["elision_dropped"]);
    check("[1, 2 // one more thing\n]", "[1,2]", &["comment_removed"]);
    check("[1, -- one\n2]", "[1,2]", &["comment_removed"]);
    check("[1, ...]", "[1]", &["elision_dropped"]);
    check("{\"a\": 1, NOTE \"b\": 2}", "{\"a\":1,\"b\":2}", &["words_dropped"]);
}

#[test]
fn brackets() {
    check("{\"a\": [1}", "{\"a\":[1]}", &["closer_added"]);
    check("[1)", "[1]", &["closer_surplus"]);
    check("[{\"a\": 1}}, {\"a\": 2}]", "[{\"a\":1},{\"a\":2}]", &["closer_moved"]);
    check("{\"a\": 1}, \"b\": 2}", "{\"a\":1,\"b\":2}", &["closer_moved"]);
    check("[{\"a\": 1, {\"a\": 2}]", "[{\"a\":1},{\"a\":2}]", &["closer_added"]);
    check("{{\"a\": 1}}", "{\"a\":1}", &["bracket_style"]);
    check("{\"a\": [1, \"b\": 2}", "{\"a\":[1],\"b\":2}", &["closer_added"]);
}

#[test]
fn cut_texts_are_never_completed() {
    check("{\"a\": 1, \"b", "{\"a\":1}", &["tail_dropped", "tail_missing"]);
    check("{\"a\": 1, \"b\":", "{\"a\":1}", &["tail_dropped", "tail_missing"]);
    check("{\"a\": \"x\",\n \"", "{\"a\":\"x\"}", &["tail_dropped", "tail_missing"]);
    check("{\"a\": \"x\", \"b\"", "{\"a\":\"x\"}", &["tail_missing"]);
    check("{'a': 'x', 'b'\n", "{\"a\":\"x\"}", &["quote_style", "tail_missing"]);
    check("{\"a\": tru", "{}", &["tail_dropped", "tail_missing"]);
    check("[1, 23", "[1]", &["tail_dropped", "tail_missing"]);
    check("[\"x", "[\"x\"]", &["tail_missing"]);
    check("[\"x\"", "[\"x\"]", &["tail_missing"]);
}

#[test]
fn what_makes_no_sense_is_refused() {
    for text in [
        "{\"a\": {{name}}}",
        "{\"a\": <name>}",
        "{words in braces}",
        "{a b c}",
        "[- a]",
        "{\"a\": \"b\" : \"c\"}",
        "{\"rows\": [[1], 2], [3]]}",
        "{:",
        "{\"a\": - b}",
    ] {
        refuses(text);
    }
    refuses(&"[".repeat(1000));
}
