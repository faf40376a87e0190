//! The shape of the project, held by reading its sources. A change of a table here is a change of
//! architecture.

use std::path::{Path, PathBuf};

fn sources() -> Vec<(String, String)> {
    fn walk(dir: &Path, found: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path);
            }
        }
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = Vec::new();
    walk(&root.join("src"), &mut found);
    found
        .into_iter()
        .map(|path| {
            let name = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
            (name, std::fs::read_to_string(path).unwrap())
        })
        .collect()
}

/// The part of a source that ships: no tests, no comments.
fn shipped(name: &str, text: &str) -> String {
    if name.ends_with("tests.rs") || name.contains("/tests/") {
        return String::new();
    }
    let code = text.split("#[cfg(test)]\nmod tests").next().unwrap_or_default();
    code.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n")
}

/// Words that may stand in these places only.
const CROSSINGS: &[(&str, &[&str])] = &[
    ("tonic::", &["src/api/", "src/app.rs", "src/cli/run.rs"]),
    ("reqwest", &["src/provider/transport"]),
    ("hyper_util", &["src/provider/transport"]),
    ("arc_swap", &["src/engine/active_policy.rs"]),
    ("tokio::spawn", &[]),
    (".tracker.spawn", &["src/tasks.rs"]),
    ("\"gen_ai.", &["src/telemetry/names.rs"]),
    ("\"mainstay.failure", &["src/telemetry/names.rs"]),
    ("\"mainstay.recovery", &["src/telemetry/names.rs"]),
    ("todo!", &[]),
    ("unimplemented!", &[]),
    ("#[ignore", &[]),
    (".unwrap()", &[]),
    // Fixed patterns, compiled by a test; and the parser's own method of this name.
    (
        ".expect(",
        &[
            "src/failure/retry_hint.rs",
            "src/failure/wording.rs",
            "src/failure/redact.rs",
            "src/expression/parser.rs",
        ],
    ),
];

#[test]
fn crossings_stay_in_one_place() {
    let mut broken = Vec::new();
    for (name, text) in sources() {
        let code = shipped(&name, &text);
        for (word, allowed) in CROSSINGS {
            if code.contains(word) && !allowed.iter().any(|place| name.starts_with(place)) {
                broken.push(format!("{name} has `{word}`"));
            }
        }
    }
    assert!(broken.is_empty(), "{broken:#?}");
}

const PURE: &[&str] = &[
    "src/document/",
    "src/exchange.rs",
    "src/expression",
    "src/failure/",
    "src/journal/",
    "src/output/",
    "src/pipeline/",
    "src/policy/",
    "src/provider/",
    "src/resilience/",
];

const IMPURE: &[&str] = &[
    "tokio::",
    "std::fs",
    "std::net",
    "std::env::var",
    "Instant::now",
    "SystemTime::now",
    "rand::",
    "crate::engine",
    "crate::store",
    "crate::api",
    "crate::control",
    "crate::config",
    "crate::app",
    "crate::cli",
    "crate::telemetry",
    "crate::simulate",
];

#[test]
fn the_core_is_pure() {
    let mut broken = Vec::new();
    for (name, text) in sources() {
        let pure = PURE.iter().any(|place| name.starts_with(place));
        if !pure || name.starts_with("src/provider/transport") {
            continue;
        }
        let code = shipped(&name, &text);
        for word in IMPURE.iter().filter(|word| code.contains(**word)) {
            broken.push(format!("{name} has `{word}`"));
        }
    }
    assert!(broken.is_empty(), "{broken:#?}");
}

#[test]
fn files_have_at_most_500_lines() {
    let long: Vec<String> = sources()
        .into_iter()
        .map(|(name, text)| (name, text.lines().count()))
        .filter(|(_, lines)| *lines > 500)
        .map(|(name, lines)| format!("{name}: {lines}"))
        .collect();
    assert!(long.is_empty(), "{long:#?}");
}
