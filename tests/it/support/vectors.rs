//! Tables of cases that are scored: read, counted, printed.

use std::collections::BTreeMap;

use serde_json::Value;

/// What came of one case.
pub enum Score {
    Passed,
    Failed(String),
    Skipped(&'static str),
}

/// Cases of one file.
pub struct Vectors {
    pub all: Vec<Value>,
    /// From a folder of the user's: scored, not asserted.
    pub elsewhere: bool,
}

/// Reads `vectors/NAME.jsonl` of this repository, or of the folder that `MAINSTAY_CASES` names.
/// `None` where that folder has no such file.
pub fn read(name: &str) -> Option<Vectors> {
    let own = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/cases");
    let elsewhere = std::env::var("MAINSTAY_CASES").ok();
    let folder = elsewhere.as_deref().unwrap_or(own);
    let path = format!("{folder}/vectors/{name}.jsonl");
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if elsewhere.is_some() => {
            println!("cases: {name} 0/0, 0 skipped: {path}: {error}");
            return None;
        }
        Err(error) => panic!("{path}: {error}"),
    };
    let lines = text.lines().filter(|line| !line.trim().is_empty());
    let all = lines.map(|line| serde_json::from_str(line).unwrap()).collect();
    Some(Vectors { all, elsewhere: elsewhere.is_some() })
}

/// The count of a table.
pub struct Scores {
    name: &'static str,
    passed: usize,
    missed: Vec<String>,
    skipped: BTreeMap<&'static str, Vec<String>>,
}

impl Scores {
    pub fn new(name: &'static str) -> Self {
        Self { name, passed: 0, missed: Vec::new(), skipped: BTreeMap::new() }
    }

    pub fn add(&mut self, vector: &Value, score: Score) {
        let id = vector["id"].as_str().unwrap_or("?").to_owned();
        match score {
            Score::Passed => self.passed += 1,
            Score::Failed(why) => self.missed.push(format!("{id}: {why} ({})", vector["title"])),
            Score::Skipped(why) => self.skipped.entry(why).or_default().push(id),
        }
    }

    /// Misses, skips with their reasons, and the line `cases: NAME N/M`.
    pub fn print(&self) {
        for miss in &self.missed {
            println!("  missed {miss}");
        }
        for (why, ids) in &self.skipped {
            println!("  skipped {}: {why}", ids.join(" "));
        }
        let reasons: Vec<_> =
            self.skipped.iter().map(|(why, ids)| format!("{why} ({})", ids.len())).collect();
        let reasons = if reasons.is_empty() { "none".to_owned() } else { reasons.join("; ") };
        let total = self.passed + self.missed.len();
        println!(
            "cases: {} {}/{total}, {} skipped: {reasons}",
            self.name,
            self.passed,
            self.skipped()
        );
    }

    fn skipped(&self) -> usize {
        self.skipped.values().map(Vec::len).sum()
    }

    /// For the repository's own table: none missed, and as many passed and skipped as are known.
    #[track_caller]
    pub fn assert(&self, passed: usize, skipped: usize) {
        assert!(self.missed.is_empty(), "{:#?}", self.missed);
        assert_eq!((self.passed, self.skipped()), (passed, skipped));
    }
}
