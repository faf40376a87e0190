//! What documents cost that are meant to do harm: how long each takes to be refused, or to be
//! stopped, and what memory is left of it. Prints the slowest of five;
//! `cargo bench --bench hostile`.

#![allow(clippy::expect_used, missing_docs)]

use std::collections::BTreeMap;
use std::hint::black_box;
use std::time::{Duration, Instant};

use mainstay::document::Document;
use mainstay::expression::Expression;
use mainstay::pipeline::document::RawPrompt;
use mainstay::pipeline::{self, Scope, StepDraft, compile_step};
use mainstay::policy::{self, Known};
use serde_json::json;

/// Whether a policy is refused.
fn refused(text: &str) -> bool {
    match Document::parse("policy.yaml", text) {
        Err(_) => true,
        Ok(document) => policy::compile(&document, &Known::default()).is_err(),
    }
}

/// The slowest of five.
fn slowest(mut one: impl FnMut()) -> Duration {
    let time = |()| {
        let began = Instant::now();
        one();
        began.elapsed()
    };
    (0..5).map(|_| ()).map(time).max().unwrap_or_default()
}

fn refusal(name: &str, limit_ms: u64, text: &str) {
    let before = resident();
    let took = slowest(|| assert!(black_box(refused(text)), "{name} is taken"));
    let grown = resident().zip(before).map(|(after, before)| after.saturating_sub(before) / 1_024);
    let grown = grown.map(|mib| format!(", {mib} MiB more")).unwrap_or_default();
    println!("{name}: {took:.1?} (at most {limit_ms} ms){grown}");
}

/// Resident memory of this process in KiB, where the system tells.
fn resident() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix(" kB")?.trim().parse().ok()
}

fn documents() {
    let rule = "{name: a, when: 'true', routing: {}},";
    refusal("10 MiB", 50, &" ".repeat(10 << 20));
    let many = |count| format!("policy: {{overrides: [{}]}}", rule.repeat(count));
    refusal("100,000 rules", 50, &many(100_000));
    // As many as a megabyte holds: over the count, under the size.
    refusal("20,000 rules", 50, &many(20_000));
    let deep =
        |open: &str, close: &str| format!("policy: {}1{}", open.repeat(1_000), close.repeat(1_000));
    refusal("lists 1,000 deep", 50, &deep("[", "]"));
    refusal("mappings 1,000 deep", 50, &deep("{a: ", "}"));
    let mut aliases = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
    for i in 1..9 {
        let prior = format!("*a{}, ", i - 1).repeat(9);
        aliases.push_str(&format!("a{i}: &a{i} [{prior}*a{}]\n", i - 1));
    }
    refusal("aliases of aliases", 50, &aliases);
    let wrong: Vec<_> = (0..10_000)
        .map(|n| json!({"name": format!("r{n}"), "when": "step ==", "routing": {}}))
        .collect();
    let wrong = format!("policy: {}", json!({"overrides": wrong}));
    refusal("10,000 rules, each with a mistake", 1_000, &wrong);
}

fn patterns() {
    let with = |pattern: &str| format!("policy: {}", json!({"redaction": {"patterns": [pattern]}}));
    refusal("pattern (a{1000}){1000}", 100, &with("(a{1000}){1000}"));
    refusal("pattern ((a{100}){100}){100}", 100, &with("((a{100}){100}){100}"));
    refusal("pattern of 1 MiB", 100, &with(&"a".repeat((1 << 20) - 100)));
    refusal("pattern of 1,000 open groups", 100, &with(&"(".repeat(1_000)));
    let many: Vec<String> = (0..10_000).map(|n| format!("p{n}")).collect();
    refusal(
        "10,000 patterns",
        100,
        &format!("policy: {}", json!({"redaction": {"patterns": many}})),
    );
}

fn conditions() {
    let long = json!((0..9_999).collect::<Vec<_>>());
    let bombs = ["v.all(x, x in v)", "v.filter(x, x in v).size() > 0", "v.map(x, v).size() > 0"];
    for bomb in bombs {
        let Ok(compiled) = Expression::compile(bomb, &["v"]) else {
            println!("condition {bomb}: refused when it is compiled");
            continue;
        };
        let stopped = compiled.evaluate(&[("v", &long)]).is_err();
        let took = slowest(|| drop(black_box(compiled.evaluate(&[("v", &long)]))));
        let end = if stopped { "out of fuel" } else { "within its fuel" };
        println!("condition {bomb} over 9,999 items: {took:.1?}, {end} (at most 1 ms)");
    }
}

fn templates() {
    let doubling: String =
        (0..60).map(|i| format!("{{% set a{} = a{i} ~ a{i} %}}", i + 1)).collect();
    let bombs = [
        (
            "text doubled 60 times",
            format!("{{% set a0 = input.doc %}}{doubling}{{{{ a60|length }}}}"),
        ),
        ("text 100,000 times", "{{ (input.doc * 100000)|length }}".to_owned()),
        (
            "10,000,000,000 turns",
            "{% for i in range(100000) %}{% for j in range(100000) %}{% endfor %}{% endfor %}"
                .into(),
        ),
        ("5 GB of output", "{% for i in range(20000) %}{{ input.doc }}{% endfor %}".to_owned()),
        ("endless macro", "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}".to_owned()),
        ("30,000 parentheses", "{{ ".to_owned() + &"(".repeat(30_000)),
        ("a tower of powers", "{{ 9**9**9 }}".to_owned()),
    ];
    let input = json!({"doc": "a".repeat(1 << 18)});
    let labels = BTreeMap::new();
    for (name, text) in bombs {
        let draft = StepDraft {
            name: "s".into(),
            prompt: RawPrompt::Text(text.as_str().into()),
            ..StepDraft::default()
        };
        let stopped = || match compile_step(&draft, &pipeline::Known::default(), &[]) {
            Ok(step) => step.messages(&Scope::new(&input, &[], "run", &labels)).is_err(),
            Err(_) => true,
        };
        let took = slowest(|| assert!(black_box(stopped()), "{name} is not stopped"));
        println!("template, {name}: {took:.1?} (at most 10 ms)");
    }
}

fn main() {
    // `cargo test --benches` runs it with this flag, for compiling's sake only.
    if std::env::args().any(|argument| argument == "--test") {
        return;
    }
    documents();
    patterns();
    conditions();
    templates();
}
