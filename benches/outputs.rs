//! What judging and recovering an output costs, beside what cannot be saved.
//!
//! `cargo bench --bench outputs` prints medians and ratios, and names every figure that is missed.
//! The two sides of a ratio run in turns, so that what else the machine does hits both; a limit in
//! milliseconds is held against the fastest run, which it disturbed least.
//! The robustness inputs come from `tests/cases/outputs/gen_robust.py` (needs python3).
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::hint::black_box;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use mainstay::output::{Contract, ContractOptions, check};
use serde_json::{Value, json};

/// The allocator of the service.
#[cfg(feature = "mimalloc")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const KB: usize = 1_000;
const MB: usize = 1_000_000;

/// The clean path may take this many times what parsing and validating take alone.
const CLEAN_RATIO_MAX: f64 = 1.3;
/// Repairing 100 KB.
const REPAIR_MS_MAX: f64 = 5.0;
/// A byte of a large text against a byte of a small one: above the noise of caches and pages.
const LINEAR_RATIO_MAX: f64 = 2.0;
/// A robustness input of 100 KB.
const ROBUST_MS_MAX: f64 = 50.0;

fn main() {
    let mut report = Report::default();
    clean_path(&mut report);
    repair_path(&mut report);
    linear(&mut report);
    robustness(&mut report);
    println!();
    match report.missed.as_slice() {
        [] => println!("every figure is reached"),
        missed => println!("missed: {}", missed.join("; ")),
    }
}

#[derive(Default)]
struct Report {
    missed: Vec<String>,
}

impl Report {
    /// Notes a figure that is over its limit.
    fn hold(&mut self, what: &str, seen: f64, limit: f64) {
        if seen > limit {
            self.missed.push(format!("{what} ({seen:.2}, at most {limit})"));
        }
    }
}

fn clean_path(report: &mut Report) {
    println!("clean path: check() against serde_json::from_str + jsonschema is_valid");
    println!("{:>8} {:>6} {:>14} {:>12} {:>7}", "bytes", "", "parse+validate", "check", "ratio");
    let schema = Arc::new(orders_schema());
    let validator = jsonschema::options().offline().build(&schema).unwrap();
    let contract = Contract::json_schema(schema, ContractOptions::default()).unwrap();
    for (size, pretty) in [(KB, false), (KB, true), (100 * KB, false), (100 * KB, true)] {
        let value = orders(size);
        let text =
            if pretty { serde_json::to_string_pretty(&value) } else { Ok(value.to_string()) };
        let text = text.unwrap();
        let (alone, checked) = in_turns(
            || {
                let value: Value = serde_json::from_str(black_box(&text)).unwrap();
                assert!(validator.is_valid(black_box(&value)));
                value
            },
            || {
                let checked = check(black_box(&text), false, &contract);
                assert!(checked.changes.is_empty() && checked.value.is_some());
                checked
            },
        );
        let ratio = checked / alone;
        let form = if pretty { "pretty" } else { "dense" };
        let [alone, checked] = [alone, checked].map(micros);
        println!("{:>8} {form:>6} {alone:>14} {checked:>12} {ratio:>7.2}", text.len());
        report.hold(&format!("clean path, {} bytes, {form}", text.len()), ratio, CLEAN_RATIO_MAX);
    }
}

/// A kind of breakage, and a contract with or without a schema to recover it under.
fn repairs(size: usize) -> Vec<(&'static str, String, Contract)> {
    let options = ContractOptions::default;
    let orders_contract = Contract::json_schema(Arc::new(orders_schema()), options()).unwrap();
    let value = orders(size);
    let (dense, pretty) = (value.to_string(), serde_json::to_string_pretty(&value).unwrap());
    let python = dense
        .replace('"', "'")
        .replace("true", "True")
        .replace("false", "False")
        .replace("null", "None")
        .replace('}', ",}");
    let fenced = format!("Here is the list:\n\n```json\n{pretty}\n```\nAnything else?");
    let cut = dense[..dense.len() - 60].to_owned();
    let texts = dense.replace("\"amount\":", "\"amount\":\"").replace(",\"paid\"", "\",\"paid\"");
    let bare = pretty
        .replace("\"id\"", "id")
        .replace("\"paid\"", "paid // settled\n")
        .replace("tall ", "\"tall\" ");
    let thought = format!("<think>A list {{\"orders\": []}} perhaps.</think>\nSure! {dense} Done.");
    let prose = "The order {1} is [2] not \"paid\", as its 'note' says. ".repeat(size / 52);
    [
        ("fence and prose", fenced, true),
        ("reasoning and prose", thought, true),
        ("python literals", python.clone(), true),
        ("python literals, no schema", python, false),
        ("bare keys, comments, quotes", bare.clone(), true),
        ("the same, no schema", bare, false),
        ("numbers as strings", texts, true),
        ("cut off", cut.clone(), true),
        ("cut off, no schema", cut, false),
        ("prose only", prose, true),
    ]
    .into_iter()
    .map(|(name, text, with_schema)| {
        let contract =
            if with_schema { orders_contract.clone() } else { Contract::json(options()) };
        (name, text, contract)
    })
    .collect()
}

fn repair_path(report: &mut Report) {
    println!("\nrepair path: milliseconds per 100 KB, median and fastest");
    for (name, text, contract) in repairs(100 * KB) {
        let verdict = check(&text, false, &contract).verdict;
        let seen = runs(15, || drop(check(black_box(&text), false, &contract)));
        let [median, fastest] = [seen.median, seen.fastest]
            .map(|seconds| seconds * 1e3 * (100 * KB) as f64 / text.len() as f64);
        println!("{name:<30} {median:>8.2} {fastest:>8.2}  {}", verdict.name());
        report.hold(&format!("repair of {name}, ms"), fastest, REPAIR_MS_MAX);
    }
}

fn linear(report: &mut Report) {
    println!("\nlinear: nanoseconds per byte (fastest), and the largest against 10 KB");
    println!(
        "{:<30} {:>8} {:>8} {:>8} {:>8} {:>7}",
        "", "10 KB", "100 KB", "1 MB", "10 MB", "ratio"
    );
    let mut rows: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
    for size in [10 * KB, 100 * KB, MB, 10 * MB] {
        for (name, text, contract) in repairs(size) {
            let samples = if size > MB { 3 } else { 15 };
            let seen = runs(samples, || drop(check(black_box(&text), false, &contract)));
            rows.entry(name).or_default().push(seen.fastest * 1e9 / text.len() as f64);
        }
    }
    for (name, row) in rows {
        let ratio = row.iter().skip(1).fold(0.0_f64, |most, seen| most.max(seen / row[0]));
        let cells = row.iter().fold(String::new(), |mut cells, seen| {
            let _ = write!(cells, " {seen:>8.1}");
            cells
        });
        println!("{name:<30}{cells} {ratio:>7.2}");
        report.hold(&format!("linear, {name}"), ratio, LINEAR_RATIO_MAX);
    }
}

const GENERATE: &str = "
import json, sys
sys.path.insert(0, sys.argv[1])
import gen_robust as robust
for case in robust.cases():
    print(json.dumps([case['id'], robust.case_input(case), robust.case_schema(case)]))
";

/// Every robustness input once or, when it is slow, as often as it takes to tell a slow input from
/// a run that was interrupted.
fn robustness(report: &mut Report) {
    println!("\nrobustness corpus: the slowest, milliseconds (best of up to 5 runs)");
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/cases/outputs");
    let generator =
        Command::new("python3").args(["-B", "-c", GENERATE, folder]).stdout(Stdio::piped()).spawn();
    let Ok(mut generator) = generator else {
        report.missed.push("the robustness corpus: python3 is not on the PATH".to_owned());
        return;
    };
    let mut seen: Vec<(f64, usize, String)> = Vec::new();
    for line in BufReader::new(generator.stdout.take().unwrap()).lines() {
        let (id, text, schema): (String, String, Value) =
            serde_json::from_str(&line.unwrap()).unwrap();
        let options = ContractOptions::default();
        let contract = match schema {
            Value::Null => Ok(Contract::json(options)),
            schema => Contract::json_schema(Arc::new(schema), options),
        };
        // A schema that does not compile is refused before any output is looked at.
        let Ok(contract) = contract else { continue };
        let mut best = f64::MAX;
        for _ in 0..5 {
            best = best.min(time(|| drop(check(black_box(&text), false, &contract))) * 1e3);
            if best < ROBUST_MS_MAX * text.len() as f64 / (500 * KB) as f64 {
                break;
            }
        }
        seen.push((best, text.len(), id));
    }
    assert!(generator.wait().unwrap().success(), "gen_robust.py failed");
    println!("{} inputs, none crashed", seen.len());
    seen.sort_by(|a, b| b.0.total_cmp(&a.0));
    for range in [500 * KB..usize::MAX, 0..500 * KB] {
        let group = seen.iter().filter(|(_, bytes, _)| range.contains(bytes));
        for (ms, bytes, id) in group.take(5) {
            println!("{ms:>8.2} ms {bytes:>9} bytes  {id}");
        }
    }
    for (ms, bytes, id) in &seen {
        let limit = ROBUST_MS_MAX * (*bytes as f64 / (100 * KB) as f64).max(1.0);
        report.hold(&format!("robustness {id}, ms"), *ms, limit);
    }
}

/// Records of orders, as text about `size` bytes long.
fn orders(size: usize) -> Value {
    let mut orders = Vec::new();
    let mut bytes = 0;
    while bytes < size {
        let id = orders.len();
        let status = ["open", "shipped", "returned"][id % 3];
        let order = json!({
            "id": id,
            "customer": format!("Customer number {id}"),
            "amount": f64::from(u32::try_from(id).unwrap()) * 1.25 + 0.5,
            "paid": id % 3 == 0,
            "status": status,
            "tags": ["new", "gift"],
            "address": {"street": "Long street 12", "city": "São Paulo", "zip": "04538-133"},
            "note": "Leave it with the tall man next door,\nplease: nobody is at home before six.",
        });
        bytes += order.to_string().len() + 1;
        orders.push(order);
    }
    json!({ "orders": orders })
}

fn orders_schema() -> Value {
    json!({
        "type": "object",
        "required": ["orders"],
        "properties": {"orders": {"type": "array", "items": {"$ref": "#/$defs/order"}}},
        "$defs": {"order": {
            "type": "object",
            "required": ["id", "customer", "amount", "paid", "status"],
            "additionalProperties": false,
            "properties": {
                "id": {"type": "integer", "minimum": 0},
                "customer": {"type": "string", "minLength": 1},
                "amount": {"type": "number"},
                "paid": {"type": "boolean"},
                "status": {"enum": ["open", "shipped", "returned"]},
                "tags": {"type": "array", "items": {"type": "string"}},
                "address": {
                    "type": "object",
                    "properties": {
                        "street": {"type": "string"},
                        "city": {"type": "string"},
                        "zip": {"type": "string"},
                    },
                },
                "note": {"type": "string", "maxLength": 500},
            },
        }},
    })
}

/// Seconds of one run.
fn time(run: impl FnOnce()) -> f64 {
    let start = Instant::now();
    run();
    start.elapsed().as_secs_f64()
}

/// Seconds of a run.
struct Runs {
    median: f64,
    fastest: f64,
}

/// Times a run, in batches that are long enough to be timed.
fn runs(samples: usize, mut run: impl FnMut()) -> Runs {
    let batch = batch_of(&mut run);
    let mut seen: Vec<f64> = (0..samples).map(|_| time_batch(batch, &mut run)).collect();
    let median = middle(&mut seen);
    Runs { median, fastest: seen[0] }
}

/// Median seconds of two runs that take turns.
fn in_turns<A, B>(mut first: impl FnMut() -> A, mut second: impl FnMut() -> B) -> (f64, f64) {
    let (mut first, mut second) = (|| drop(black_box(first())), || drop(black_box(second())));
    let batch = batch_of(&mut first).max(batch_of(&mut second));
    let (mut firsts, mut seconds) = (Vec::new(), Vec::new());
    for _ in 0..61 {
        firsts.push(time_batch(batch, &mut first));
        seconds.push(time_batch(batch, &mut second));
    }
    (middle(&mut firsts), middle(&mut seconds))
}

fn time_batch(batch: u32, run: &mut impl FnMut()) -> f64 {
    time(|| (0..batch).for_each(|_| run())) / f64::from(batch)
}

fn batch_of(run: &mut impl FnMut()) -> u32 {
    const BATCH: Duration = Duration::from_millis(4);
    run();
    let once = time(&mut *run);
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    let batch = (BATCH.as_secs_f64() / once) as u32;
    batch.clamp(1, 10_000)
}

fn middle(seen: &mut [f64]) -> f64 {
    seen.sort_by(f64::total_cmp);
    seen[seen.len() / 2]
}

fn micros(seconds: f64) -> String {
    format!("{:.1} µs", seconds * 1e6)
}
