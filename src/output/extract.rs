//! Where in a text an answer can begin, and what can be read from there.
//!
//! Candidates are read from left to right; after one that was read the search goes on behind it.
//! Fences are marks: they say how much a candidate is worth, and never where it ends, since a
//! fence may stand inside a string and its own end may be missing.

use serde_json::Value;

use super::budget::Budget;
use super::change::{ChangeKind, Changes};
use super::reader::{self, Head, is_blank};
use super::strict;

/// How much the place of a candidate speaks for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Rank {
    /// In the middle of a block of program code.
    Code,
    /// A list of bare numbers or words in running text: a citation, most likely.
    Citation,
    /// In the text.
    Prose,
    /// At the beginning of a code fence.
    Fenced,
}

/// A value that was read from somewhere in the text.
#[derive(Debug)]
pub(super) struct Candidate {
    pub value: Value,
    pub changes: Changes,
    pub start: usize,
    pub end: usize,
    /// Containers still open when the text ended.
    pub open: usize,
    pub rank: Rank,
    /// Found inside another candidate that was broken.
    pub inside: bool,
}

/// All that was found.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub candidates: Vec<Candidate>,
    /// Where the search was given up; what comes after it was not looked at.
    pub stopped: Option<usize>,
}

const LABEL_BYTES_MAX: usize = 24;
const CANDIDATES_MAX: usize = 50_000;
const ATTEMPTS_MAX: usize = 200_000;
/// Labels of fences whose content is data.
const DATA_LABELS: &[&str] =
    &["", "json", "json5", "jsonc", "jsonl", "ndjson", "javascript", "js", "output", "text", "txt"];

/// Reads every candidate of `text`.
pub(super) fn find(text: &str, budget: &mut Budget) -> Found {
    let mut finder = Finder {
        text,
        budget,
        found: Found::default(),
        at: 0,
        fence: None,
        attempts: 0,
        comments_open: false,
        first: blank_end(text, 0),
        inside_until: 0,
    };
    finder.run();
    finder.found
}

struct Finder<'t, 'b> {
    text: &'t str,
    budget: &'b mut Budget,
    found: Found,
    at: usize,
    /// The last fence: offset after its mark.
    fence: Option<usize>,
    attempts: usize,
    /// No comment is closed any more.
    comments_open: bool,
    /// Offset of the first character that is not blank.
    first: usize,
    /// Up to here the text belongs to a candidate that was broken.
    inside_until: usize,
}

impl Finder<'_, '_> {
    fn run(&mut self) {
        let bytes = self.text.as_bytes();
        while let Some(byte) = bytes.get(self.at) {
            if self.found.candidates.len() >= CANDIDATES_MAX
                || self.attempts >= ATTEMPTS_MAX
                || self.budget.spent()
            {
                self.found.stopped = Some(self.at);
                return;
            }
            match byte {
                b'`' | b'~' => self.fence_mark(*byte),
                b'{' | b'[' | b'(' => self.opener(char::from(*byte)),
                0xEF if self.text[self.at..].starts_with('｛') => self.opener('{'),
                0xEF if self.text[self.at..].starts_with('［') => self.opener('['),
                b'/' | b'#' if self.found.candidates.is_empty() => self.comment(),
                _ => self.at += 1,
            }
        }
    }

    /// A comment before the value: what it holds was commented out.
    fn comment(&mut self) {
        let rest = &self.text[self.at..];
        let line = rest.starts_with("//") || rest.starts_with("# ");
        let length = match rest.strip_prefix("/*") {
            Some(body) if !self.comments_open => body.find("*/").map(|end| end + 4),
            _ if line && self.at_line_start(self.at) => rest.find('\n'),
            _ => None,
        };
        self.comments_open |= length.is_none() && rest.starts_with("/*");
        self.at += length.unwrap_or(1);
    }

    fn fence_mark(&mut self, mark: u8) {
        let run = self.text.as_bytes()[self.at..].iter().take_while(|b| **b == mark).count();
        self.at += run;
        if run >= 3 || run == 2 && self.text[self.at..].starts_with("json") {
            self.fence = Some(self.at);
        }
    }

    fn opener(&mut self, opener: char) {
        let start = self.at;
        let length = self.text[start..].chars().next().map_or(1, char::len_utf8);
        self.at += length;
        let inside = start < self.inside_until || self.continues_broken(start);
        if inside && !self.at_line_start(start) && !self.directly_fenced(start) {
            self.inside_until = self.inside_until.max(start + length);
            return;
        }
        if !self.plausible(opener, start, start + length) {
            return;
        }
        self.attempts += 1;
        let Some(mut candidate) = self.read(start) else {
            return;
        };
        candidate.rank = self.rank(&candidate);
        candidate.inside = inside;
        if candidate.open > 0 || candidate.changes.has(ChangeKind::QuoteGuessed) {
            // What was swallowed may hold the true answer: a restart, or a fence.
            self.inside_until = self.inside_until.max(candidate.end);
        } else {
            self.at = self.at.max(candidate.end);
        }
        if inside {
            self.inside_until = self.inside_until.max(candidate.end);
        }
        self.found.candidates.push(candidate);
    }

    /// Whether this goes on where a value that could not be read broke off: `…], [1]]}`, or is what
    /// a member of it has: `…, "b": [1]}`.
    fn continues_broken(&self, start: usize) -> bool {
        if self.inside_until == 0 {
            return false;
        }
        let before = self.text[..start].trim_end_matches(is_blank);
        let named = before.strip_suffix(':').map(|name| name.trim_end_matches(is_blank));
        before.ends_with(',')
            || before.len() <= self.inside_until
            || named.is_some_and(|name| name.ends_with(['"', '\'']))
    }

    fn read(&mut self, start: usize) -> Option<Candidate> {
        let strict = strict::parse_prefix(self.text, start);
        let cost = match &strict {
            Ok(read) => read.end - start,
            Err(fault) => fault.at - start,
        };
        self.budget.take(cost + 1);
        if let Ok(read) = strict {
            let mut changes = Changes::default();
            for at in read.duplicates {
                changes.at(ChangeKind::KeyDuplicate, at);
            }
            let strict = self.candidate(read.value, changes, start, read.end, 0);
            if self.goes_on(read.end)
                && let Ok(reading) = reader::read(self.text, start, Head::Bracket, self.budget)
                && reading.end > read.end
                && reading.open == 0
            {
                return Some(self.candidate(reading.value, reading.changes, start, reading.end, 0));
            }
            return Some(strict);
        }
        let cut = matches!(strict, Err(fault) if fault.at_end);
        let head = if cut { Head::Cut } else { Head::Bracket };
        match reader::read(self.text, start, head, self.budget) {
            Ok(reading) => Some(self.candidate(
                reading.value,
                reading.changes,
                start,
                reading.end,
                reading.open,
            )),
            Err(refusal) => {
                // Parts of a value that could not be read are no answers of their own.
                let until = if refusal.too_deep { self.text.len() } else { refusal.at };
                self.inside_until = self.inside_until.max(until);
                if refusal.too_deep {
                    self.at = until;
                }
                None
            }
        }
    }

    fn candidate(
        &self,
        value: Value,
        mut changes: Changes,
        start: usize,
        end: usize,
        open: usize,
    ) -> Candidate {
        let after = blank_end(self.text, end);
        let surplus = self.text[after..].bytes().take_while(|b| matches!(b, b'}' | b']')).count();
        if surplus > 0 && open == 0 {
            changes.at(ChangeKind::CloserSurplus, after);
            return Candidate {
                value,
                changes,
                start,
                end: after + surplus,
                open,
                rank: Rank::Prose,
                inside: false,
            };
        }
        Candidate { value, changes, start, end, open, rank: Rank::Prose, inside: false }
    }

    /// Whether what follows a strict value looks like more of it.
    fn goes_on(&self, end: usize) -> bool {
        let after = blank_end(self.text, end);
        let rest = &self.text[after..];
        if let Some(rest) = rest.strip_prefix(',') {
            return rest.trim_start_matches(is_blank).starts_with(['"', '\'']);
        }
        closes_quote_on_line(rest)
    }

    /// Whether a value can begin with this bracket here, judged by what follows it.
    fn plausible(&self, opener: char, start: usize, inner: usize) -> bool {
        let text = self.text;
        // A terminal's colour, or the head of a CDATA section.
        let before = &text[..start];
        if before.ends_with('\u{1b}') || before.ends_with("<![CDATA") || before.ends_with("<!") {
            return false;
        }
        let mut at = blank_end(text, inner);
        while text[at..].starts_with("\\n") {
            at = blank_end(text, at + 2);
        }
        let rest = &text[at..];
        let Some(next) = rest.chars().next().filter(|_| !rest.starts_with("```")) else {
            return false; // a bracket alone is no value, not even an empty one
        };
        match opener {
            '(' => start == self.first && !next.is_alphabetic() && text.trim_end().ends_with(')'),
            '{' => {
                reader::is_quote(next)
                    || matches!(next, '}' | '{' | '.' | '…' | ',' | '#' | '｛')
                    || rest.starts_with("//")
                    || rest.starts_with("/*")
                    || rest.starts_with("<!--")
                    || named(rest)
            }
            _ => {
                reader::is_quote(next)
                    || matches!(
                        next,
                        '{' | '[' | ']' | '-' | '+' | '.' | '…' | ',' | '(' | '｛' | '［'
                    )
                    || next.is_ascii_digit()
                    || rest.starts_with("//")
                    || rest.starts_with("/*")
                    || literal_first(rest)
                    || (self.stands_alone(start) && next != '/')
            }
        }
    }

    /// Whether nothing but the bracket's own value stands in the text.
    fn stands_alone(&self, start: usize) -> bool {
        // Cheap first: asked at every bracket, the rest would make the search quadratic.
        if start > self.first + LABEL_BYTES_MAX {
            return false;
        }
        // `[TOOL_CALLS][{…}]` is a marker.
        let closer =
            self.text[start..].find([']', '］']).map_or(self.text.len(), |end| start + end + 1);
        let follows = self.text.get(closer..).unwrap_or_default().trim_start();
        if follows.starts_with(['[', '{']) {
            return false;
        }
        let before = self.text[..start].trim_matches(|c: char| is_blank(c) || c == '`');
        let label = before.len() <= 8 && before.chars().all(char::is_alphanumeric);
        label
            && self.text.trim_end_matches(|c: char| is_blank(c) || c == '`').ends_with([']', '］'])
    }

    fn rank(&self, candidate: &Candidate) -> Rank {
        let start = candidate.start;
        if self.directly_fenced(start) {
            return Rank::Fenced;
        }
        if let Some(fence) = self.fence.filter(|fence| *fence <= start)
            && let label = label(&self.text[fence..])
            && !DATA_LABELS.contains(&label.to_lowercase().as_str())
            && self.text[fence + label.len()..].starts_with(['\n', '\r', ' '])
        {
            return Rank::Code;
        }
        let flat = match &candidate.value {
            Value::Array(items) => items.iter().all(|item| !item.is_object() && !item.is_array()),
            _ => false,
        };
        let before = self.text[..start].trim_end_matches([' ', '\t']);
        let spoken = before.chars().next_back().is_some_and(|c| {
            !matches!(c, '\n' | ':' | '=' | '>' | '`' | '*' | '(' | ']' | '}' | ',')
        });
        if flat && spoken { Rank::Citation } else { Rank::Prose }
    }

    /// Whether only the label of a fence stands between the fence and `start`.
    fn directly_fenced(&self, start: usize) -> bool {
        let Some(fence) = self.fence.filter(|fence| *fence <= start && start - fence < 400) else {
            return false;
        };
        let between = &self.text[fence..start];
        let after_label = &between[label(between).len()..];
        let line_end = after_label.find('\n').unwrap_or(after_label.len());
        let (line, rest) = after_label.split_at(line_end);
        let attributes = line.trim().is_empty() || (line.contains('=') && !rest.is_empty());
        attributes && rest.chars().all(|c| is_blank(c) || c == '>')
    }

    fn at_line_start(&self, start: usize) -> bool {
        let before = self.text[..start].trim_end_matches([' ', '\t']);
        before.is_empty() || before.ends_with('\n')
    }
}

/// The label of a fence whose mark ends where `rest` begins.
fn label(rest: &str) -> &str {
    let length = rest
        .find(|c: char| !(c.is_alphanumeric() || matches!(c, '_' | '-' | '+' | '.')))
        .unwrap_or(rest.len());
    &rest[..length]
}

/// Whether a quote before a closing bracket or a colon comes on this line, before the next value.
pub(super) fn closes_quote_on_line(rest: &str) -> bool {
    let line: &str = rest.split(['\n', '{', '[']).next().unwrap_or_default();
    let line = line.char_indices().nth(512).map_or(line, |(end, _)| &line[..end]);
    line.match_indices('"').any(|(at, _)| {
        let next = line[at + 1..].trim_start();
        next.starts_with(['}', ']', ':'])
    })
}

pub(super) fn blank_end(text: &str, at: usize) -> usize {
    text.len() - text[at..].trim_start_matches(is_blank).len()
}

/// A name with its colon at the start.
fn named(rest: &str) -> bool {
    let length = rest
        .char_indices()
        .take(80)
        .find(|(_, c)| !(c.is_alphanumeric() || matches!(c, '_' | '$' | '-' | '.')))
        .map_or(0, |(at, _)| at);
    if length == 0 {
        return false;
    }
    let after = rest[length..].trim_start_matches([' ', '\t']);
    let quoted =
        rest[length..].starts_with('"') && rest[length + 1..].trim_start().starts_with(':');
    after.starts_with([':', '：']) || after.starts_with('=') && !after.starts_with("==") || quoted
}

fn literal_first(rest: &str) -> bool {
    let length = rest.bytes().take(10).take_while(u8::is_ascii_alphabetic).count();
    let literal = matches!(
        rest[..length].to_ascii_lowercase().as_str(),
        "true" | "false" | "null" | "none" | "nan" | "nil"
    );
    let after = rest[length..].trim_start();
    literal && (after.is_empty() || after.starts_with([',', ']', '}']))
}
