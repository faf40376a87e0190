//! The reader beside the deserialiser of `serde_saphyr`, which stands on the same parser: what both
//! take they take for the same, at the same places.

use proptest::prelude::*;
use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Number, json};
use serde_saphyr::Spanned;

use super::*;

/// The tree by way of serde.
#[derive(Debug)]
struct ByLibrary(NodeValue);

fn by_library(text: &str) -> Result<Node, String> {
    let options = serde_saphyr::options! {
        strict_booleans: true,
        budget: serde_saphyr::budget! { max_depth: DEPTH_MAX, max_nodes: NODES_MAX },
    };
    serde_saphyr::from_str_with_options::<Spanned<ByLibrary>>(text, options)
        .map(placed)
        .map_err(|error| error.without_snippet().to_string())
}

fn placed(spanned: Spanned<ByLibrary>) -> Node {
    Node { position: position(spanned.referenced), value: spanned.value.0 }
}

fn position(location: serde_saphyr::Location) -> Position {
    let clamp = |n: u64| u32::try_from(n).unwrap();
    Position { line: clamp(location.line()), column: clamp(location.column()) }
}

impl<'de> Deserialize<'de> for ByLibrary {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ByVisits).map(ByLibrary)
    }
}

struct ByVisits;

impl<'de> Visitor<'de> for ByVisits {
    type Value = NodeValue;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a value that JSON can hold")
    }

    fn visit_unit<E>(self) -> Result<NodeValue, E> {
        Ok(NodeValue::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<NodeValue, E> {
        Ok(NodeValue::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<NodeValue, E> {
        Ok(NodeValue::Number(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<NodeValue, E> {
        Ok(NodeValue::Number(value.into()))
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<NodeValue, E> {
        Number::from_f64(value).map(NodeValue::Number).ok_or_else(|| E::custom("no number"))
    }

    fn visit_str<E>(self, value: &str) -> Result<NodeValue, E> {
        Ok(NodeValue::Text(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<NodeValue, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(placed(item));
        }
        Ok(NodeValue::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<NodeValue, A::Error> {
        let mut map = Vec::new();
        while let Some(key) = members.next_key::<Spanned<String>>()? {
            map.push((key.value, position(key.referenced), placed(members.next_value()?)));
        }
        Ok(NodeValue::Map(map))
    }
}

fn json(text: &str) -> Result<serde_json::Value, String> {
    read(text).map(|node| node.to_json()).map_err(|problem| problem.to_string())
}

#[test]
fn scalars_of_the_core_schema() {
    for (text, expected) in [
        ("", json!(null)),
        ("~", json!(null)),
        ("Null", json!(null)),
        ("TRUE", json!(true)),
        ("yes", json!("yes")),
        ("0", json!(0)),
        ("-12", json!(-12)),
        ("18446744073709551615", json!(18_446_744_073_709_551_615_u64)),
        ("2.50", json!(2.5)),
        ("-0.1", json!(-0.1)),
        ("1e3", json!(1_000.0)),
        ("0x1f", json!(31)),
        ("0o17", json!(15)),
        ("1_000", json!(1_000)),
        ("1.2.3", json!("1.2.3")),
        ("250ms", json!("250ms")),
        ("1h", json!("1h")),
        ("2d", json!("2d")),
        ("1é", json!("1é")),
        ("010", json!(10)),
        ("+7", json!(7)),
        ("-0", json!(0)),
        (".5", json!(0.5)),
        ("1.", json!(1.0)),
        ("-", json!([null])),
        ("'12'", json!("12")),
        ("!!str 12", json!("12")),
        ("! 12", json!("12")),
        ("!!int '12'", json!(12)),
        ("!!float 1", json!(1.0)),
        ("!!map {a: !!seq [1]}", json!({"a": [1]})),
    ] {
        assert_eq!(json(text), Ok(expected), "{text}");
    }
    for text in [".inf", "-.inf", ".nan", "1e999", "!!int x", "!mine 1", "!mine [1]", "!!seq {}"] {
        assert!(json(text).is_err(), "{text}");
    }
}

#[test]
fn aliases_repeat_and_merge_keys_fill_in() {
    let text = "base: &base {a: 1, b: &b [2]}\nagain: *b\nown: {<<: *base, a: 3}\n\
                both: {<<: [{c: 4, a: 5}, *base]}\n";
    assert_eq!(
        json(text),
        Ok(json!({
            "base": {"a": 1, "b": [2]},
            "again": [2],
            "own": {"a": 3, "b": [2]},
            "both": {"c": 4, "a": 5, "b": [2]},
        }))
    );
}

#[test]
fn what_is_refused_names_its_place() {
    let many = |n: usize| vec!["x"; n].join(", ");
    let anchors = |n: usize| (0..n).map(|i| format!("- &a{i} x\n")).collect::<String>();
    let members = |n: usize| (0..n).map(|i| format!("k{i}: x\n")).collect::<String>();
    let doubled =
        format!("- &a [{}]\n- &b [*a, *a, *a, *a, *a, *a]\n- [*b, *b, *b]\n", many(9_999));
    let lists = format!("- [{}]\n", vec!["x"; 9_999].join(",")).repeat(21);
    for (text, expected) in [
        ("a: {b: 1, c: 2, b: 3}", "1:17: error: a.b: cannot be read: this key stands here twice"),
        ("a: &a [*a]", "1:8: error: a[0]: cannot be read: an alias stands inside what it repeats"),
        ("a: {<<: 1}", "1:5: error: a: cannot be read: `<<` takes a mapping or a list of mappings"),
        ("a: 1\n---\nb: 2\n", "2:1: error: cannot be read: a second document begins; one is read"),
        ("? [a]\n: b\n", "1:3: error: cannot be read: a key is a text, not a list or mapping"),
        (": b\n", "1:1: error: cannot be read: a key is missing"),
        (
            "a: !mine b\n",
            "1:10: error: a: cannot be read: has a tag; only YAML's own are known here",
        ),
        ("a: *b\n", "1:4: error: cannot be read: while parsing node, found unknown anchor"),
        (&("[".repeat(33) + &"]".repeat(33)), "1:33: error: [0][0]"),
        (
            &format!("a: [{}]", many(10_001)),
            "1:30005: error: a[10000]: cannot be read: a list has at",
        ),
        (&members(10_001), "10001:1: error: k10000: cannot be read: a mapping has at most 10000 m"),
        (&anchors(101), "101:9: error: [100]: cannot be read: more than 100 anchors"),
        (&format!("&a x: [{}]", vec!["*a"; 101].join(",")), "1:308: error: x[100]: cannot be read"),
        (
            &doubled,
            "2:11: error: [1][1]: cannot be read: anchors and aliases repeat more than 20000",
        ),
        (&lists, "20:20000: error: [19][9998]: cannot be read: more than 200000 values"),
    ] {
        let told = json(text).unwrap_err();
        assert!(told.starts_with(expected), "{told}\n  is not {expected}");
    }
}

#[test]
fn as_much_as_is_allowed_is_read() {
    assert!(json(&"[".repeat(32).replace('[', "- ")).is_ok());
    let list = format!("[{}]", vec!["x"; ITEMS_MAX].join(", "));
    assert!(json(&list).is_ok());
    let members: String = (0..ITEMS_MAX).map(|i| format!("k{i}: x\n")).collect();
    assert!(json(&members).is_ok());
}

/// Pieces that mean something to YAML.
const PIECES: &[&str] = &[
    "a", "b", "a: ", "b: ", "- ", "- ", "\n", "\n", "  ", "\n  ", "[", "]", "{", "}", ", ", ": ",
    "&x ", "*x", "<<: ", "1", "-1", "0x1f", "1_000", "1e3", "'q'", "\"d\\n\"", "|\n  ", "# c\n",
    "~", "true", "yes", ".5", "+1", "!!str ", "!!int ", "? ", "---\n", "é", "\t",
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn both_read_the_same(pieces in prop::collection::vec(prop::sample::select(PIECES), 0..24)) {
        let text = pieces.concat();
        match (read(&text), by_library(&text)) {
            // Where nothing is, nothing has a place; what is merged has one of two.
            (Ok(ours), Ok(theirs)) if theirs.value == NodeValue::Null || text.contains("<<") => {
                prop_assert_eq!(ours.to_json(), theirs.to_json(), "{:?}", text);
            }
            (Ok(ours), Ok(theirs)) => prop_assert_eq!(ours, theirs, "{:?}", text),
            (Err(ours), Ok(theirs)) => {
                prop_assert!(false, "{:?}: {} but {:?}", text, ours, theirs);
            }
            (Ok(ours), Err(theirs)) => {
                prop_assert!(false, "{:?}: {:?} but {}", text, ours, theirs);
            }
            (Err(_), Err(_)) => {}
        }
    }

    #[test]
    fn scalars_stand_for_the_same(text in "[-+.]?[0-9a-fox_.e+-]{1,12}") {
        let ours = read(&text).map(|node| node.value).map_err(|problem| problem.to_string());
        match by_library(&text) {
            // A float of the library, a whole number of ours and of YAML.
            Ok(Node { value: NodeValue::Number(theirs), .. }) => {
                let Ok(NodeValue::Number(ours)) = ours else { panic!("{ours:?}") };
                prop_assert_eq!(ours.as_f64(), theirs.as_f64());
            }
            Ok(theirs) => prop_assert_eq!(ours, Ok(theirs.value)),
            Err(_) => prop_assert!(ours.is_err(), "{:?}", ours),
        }
    }
}
