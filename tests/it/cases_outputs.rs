//! The labelled corpus of broken outputs, scored as its `score.py` scores it.
//!
//! `MAINSTAY_CASES=DIR` reads `DIR/outputs/cases.jsonl` instead and only prints.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use mainstay::output::{Checked, Contract, ContractOptions, Verdict, check};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

struct Case {
    id: String,
    kind: String,
    input: String,
    schema: Option<Value>,
    expect: Vec<Value>,
    lossy: bool,
    cut: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Class {
    Right,
    Overflag,
    Refused,
    Missed,
    FlaggedBad,
    Unflagged,
    SilentBad,
}

fn load(path: &Path) -> Vec<Case> {
    let text =
        std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    text.lines().filter(|line| !line.trim().is_empty()).map(case).collect()
}

/// A line; what is expected is read apart, since one case nests deeper than serde_json reads.
#[derive(Deserialize)]
struct Line {
    id: String,
    kind: String,
    input: String,
    schema: Option<Value>,
    expect: Box<RawValue>,
    lossy: bool,
    finish_reason: Option<String>,
}

fn case(line: &str) -> Case {
    let line: Line = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
    let expect = match serde_json::from_str::<Value>(line.expect.get()) {
        Ok(expect) => {
            expect.get("any_of").and_then(Value::as_array).cloned().unwrap_or_else(|| vec![expect])
        }
        Err(_) => vec![json!({"unrecoverable": true})],
    };
    Case {
        id: line.id,
        kind: line.kind,
        input: line.input,
        schema: line.schema,
        expect,
        lossy: line.lossy,
        cut: line.finish_reason.is_some_and(|reason| reason == "length"),
    }
}

fn run(case: &Case) -> Checked {
    let options = ContractOptions::default();
    let contract = match &case.schema {
        Some(schema) => {
            Contract::json_schema(Arc::new(schema.clone()), options).expect("the schema compiles")
        }
        None => Contract::json(options),
    };
    check(&case.input, case.cut, &contract)
}

impl Case {
    fn flag(&self, alternative: &Value) -> bool {
        alternative.get("lossy").and_then(Value::as_bool).unwrap_or(self.lossy)
    }

    fn values(&self) -> impl Iterator<Item = &Value> {
        self.expect.iter().filter(|alternative| alternative.get("value").is_some())
    }

    fn may_fail(&self) -> bool {
        self.expect.iter().any(|alternative| alternative.get("unrecoverable").is_some())
    }

    fn unrecoverable(&self) -> bool {
        self.expect.iter().all(|alternative| alternative.get("unrecoverable").is_some())
    }

    fn risky(&self) -> bool {
        self.expect
            .iter()
            .all(|alternative| alternative.get("unrecoverable").is_some() || self.flag(alternative))
    }

    fn classify(&self, checked: &Checked) -> Class {
        let Some(value) = &checked.value else {
            if self.may_fail() {
                return Class::Right;
            }
            return if self.values().all(|alternative| self.flag(alternative)) {
                Class::Refused
            } else {
                Class::Missed
            };
        };
        let lossy = checked.verdict == Verdict::Lossy;
        let hits: Vec<bool> = self
            .values()
            .filter(|one| same(&one["value"], value))
            .map(|one| self.flag(one))
            .collect();
        match (hits.is_empty(), lossy) {
            (true, true) => Class::FlaggedBad,
            (true, false) => Class::SilentBad,
            (false, _) if hits.contains(&lossy) => Class::Right,
            (false, true) => Class::Overflag,
            (false, false) => Class::Unflagged,
        }
    }
}

/// JSON equality: 1 is 1.0, integers exactly, fractions to twelve digits.
fn same(a: &Value, b: &Value) -> bool {
    let mut stack = vec![(a, b)];
    while let Some((a, b)) = stack.pop() {
        match (a, b) {
            (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
                stack.extend(a.iter().zip(b))
            }
            (Value::Object(a), Value::Object(b)) if a.len() == b.len() => {
                for (name, member) in a {
                    match b.get(name) {
                        Some(other) => stack.push((member, other)),
                        None => return false,
                    }
                }
            }
            (Value::Number(a), Value::Number(b)) if same_number(&a.to_string(), &b.to_string()) => {
            }
            (a, b) if a == b => (),
            _ => return false,
        }
    }
    true
}

fn same_number(a: &str, b: &str) -> bool {
    let integer = |text: &str| !text.contains(['.', 'e', 'E']);
    if a == b {
        return true;
    }
    let (Ok(x), Ok(y)) = (a.parse::<f64>(), b.parse::<f64>()) else {
        return false;
    };
    let both_integers = integer(a) && integer(b);
    let near = x == y || (x - y).abs() <= 1e-12 * x.abs().max(y.abs());
    x == 0.0 && y == 0.0 || near && !both_integers
}

#[derive(Default)]
struct Tally {
    classes: BTreeMap<String, BTreeMap<Class, usize>>,
    total: usize,
    right: usize,
    recoverable: usize,
    recovered: usize,
    risky: usize,
    false_accepted: usize,
    values_for_unrecoverable: usize,
    clean_but_broken: usize,
    bad: Vec<String>,
}

impl Tally {
    fn add(&mut self, case: &Case, checked: &Checked) {
        let class = case.classify(checked);
        self.total += 1;
        self.right += usize::from(class == Class::Right);
        *self.classes.entry(case.kind.clone()).or_default().entry(class).or_default() += 1;
        if !case.may_fail() {
            self.recoverable += 1;
            self.recovered +=
                usize::from(matches!(class, Class::Right | Class::Overflag | Class::Unflagged));
        }
        if case.risky() {
            self.risky += 1;
            self.false_accepted +=
                usize::from(matches!(class, Class::Unflagged | Class::SilentBad));
        }
        if case.unrecoverable() {
            self.values_for_unrecoverable += usize::from(checked.value.is_some());
        }
        if checked.verdict == Verdict::Clean {
            let valid =
                serde_json::from_str::<Value>(case.input.trim_matches([' ', '\t', '\r', '\n']))
                    .is_ok();
            self.clean_but_broken += usize::from(!valid && !case.kind.contains("deep"));
        }
        if class != Class::Right {
            let kinds: Vec<_> =
                checked.changes.listed().iter().map(|change| change.kind.name()).collect();
            self.bad.push(format!(
                "{class:?} {} {:?} {:?} {kinds:?}",
                case.id,
                checked.verdict,
                checked.value.as_ref().map(Value::to_string)
            ));
        }
    }

    fn percent(part: usize, whole: usize) -> f64 {
        100.0 * part as f64 / whole.max(1) as f64
    }

    fn print(&self) {
        for (kind, classes) in &self.classes {
            let all: usize = classes.values().sum();
            let right = classes.get(&Class::Right).copied().unwrap_or_default();
            let mut rest = String::new();
            for (class, count) in classes.iter().filter(|(class, _)| **class != Class::Right) {
                let _ = write!(rest, " {class:?} {count}");
            }
            println!("{kind:22} {right:3}/{all:<3}{rest}");
        }
        for line in &self.bad {
            println!("  {}", line.chars().take(400).collect::<String>());
        }
        println!(
            "right {:.1} %, recovered by value {:.1} %, false acceptance {:.1} %, values for unrecoverable texts {}",
            Self::percent(self.right, self.total),
            Self::percent(self.recovered, self.recoverable),
            Self::percent(self.false_accepted, self.risky),
            self.values_for_unrecoverable,
        );
        println!("cases: outputs {}/{}", self.right, self.total);
    }

    fn assert_targets(&self) {
        assert!(Self::percent(self.right, self.total) >= 97.0, "right");
        assert!(Self::percent(self.recovered, self.recoverable) >= 97.0, "recovered by value");
        assert!(Self::percent(self.false_accepted, self.risky) < 2.0, "false acceptance");
        assert_eq!(self.values_for_unrecoverable, 0, "values for unrecoverable texts");
        assert_eq!(self.clean_but_broken, 0, "clean but not JSON");
        for (kind, classes) in &self.classes {
            let all: usize = classes.values().sum();
            let right = classes.get(&Class::Right).copied().unwrap_or_default();
            let enough =
                if all < 10 { right + 1 >= all } else { Self::percent(right, all) >= 90.0 };
            assert!(enough, "{kind}: {right} of {all}");
        }
    }
}

fn results_line(case: &Case, checked: &Checked) -> String {
    let mut line = json!({"id": case.id, "status": checked.verdict.name()});
    if let Some(value) = &checked.value {
        line["value"] = value.clone();
    }
    line.to_string()
}

fn score(cases: &[Case], results: Option<&Path>) -> Tally {
    let mut tally = Tally::default();
    let mut lines = String::new();
    for case in cases {
        let checked = run(case);
        tally.add(case, &checked);
        lines.push_str(&results_line(case, &checked));
        lines.push('\n');
    }
    if let Some(path) = results {
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("the folder can be made");
        std::fs::write(path, lines).expect("the results can be written");
    }
    tally.print();
    tally
}

fn here(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

#[test]
fn cases_of_broken_outputs_are_recovered() {
    let other = std::env::var_os("MAINSTAY_CASES")
        .map(|folder| Path::new(&folder).join("outputs/cases.jsonl"));
    let path = other.clone().unwrap_or_else(|| here("tests/cases/outputs/cases.jsonl"));
    let tally = score(&load(&path), Some(&here("target/cases/outputs-results.jsonl")));
    if other.is_none() {
        tally.assert_targets();
    }
}

#[test]
fn cases_of_our_own_are_recovered() {
    let path = here("tests/cases/outputs/more.jsonl");
    let tally = score(&load(&path), Some(&here("target/cases/outputs-more-results.jsonl")));
    tally.assert_targets();
}

#[test]
fn cases_of_many_lines_are_all_collected() {
    let text: String = (0..5000).map(|index| format!("{{\"n\": {index}}}\n")).collect();
    let schema = json!({"type": "array", "items": {"type": "object", "required": ["n"]}});
    let contract =
        Contract::json_schema(Arc::new(schema), ContractOptions::default()).expect("it compiles");
    let checked = check(&text, false, &contract);
    assert_eq!(checked.verdict, Verdict::Repaired);
    assert_eq!(checked.value.and_then(|value| value.as_array().map(Vec::len)), Some(5000));
}
