//! One answer from many candidates.
//!
//! A choice that the text did not make is a guess: several different values that all fit the
//! contract give a lossy pick. What is no choice: the same value twice, a fence against an
//! example in running text, data against the middle of a program.

use serde_json::Value;

use super::change::{ChangeKind, Changes};
use super::extract::{self, Candidate, Rank};
use super::reader::is_blank;
use super::recover::{Wanted, accept};

/// A candidate that satisfies the contract.
#[derive(Debug)]
pub(super) struct Accepted {
    pub value: Value,
    pub changes: Changes,
    pub start: usize,
    pub end: usize,
    pub rank: Rank,
    pub inside: bool,
}

/// Words that announce the answer that counts.
const FINAL_WORDS: &[&str] = &[
    "final",
    "corrected",
    "correction",
    "fixed",
    "updated",
    "revised",
    "actual",
    "instead",
    "rather",
];

/// Chooses among what satisfies the contract.
pub(super) fn choose(
    text: &str,
    mut accepted: Vec<Accepted>,
    candidates: &[Candidate],
    wanted: Wanted<'_>,
) -> Option<Accepted> {
    narrow(&mut accepted, wanted);
    let several = accepted.iter().skip(1).any(|one| one.value != accepted[0].value);
    if several && wanted.schema.is_none() && only_blanks_between(text, &accepted) {
        return Some(listed(text, accepted, wanted));
    }
    let index = match several {
        true => pick(text, &accepted),
        false => least_changed(&accepted),
    };
    if index >= accepted.len() {
        return None;
    }
    let mut one = accepted.swap_remove(index);
    if several {
        one.changes.at(ChangeKind::CandidatePicked, one.start);
    }
    note_surroundings(text, &mut one, candidates);
    Some(one)
}

/// Leaves out what is clearly no answer beside something that is.
fn narrow(accepted: &mut Vec<Accepted>, wanted: Wanted<'_>) {
    // A part of a broken candidate counts only where the whole does not.
    let whole_holds = accepted.iter().any(|one| !one.inside && !one.changes.is_lossy());
    let has_whole = accepted.iter().any(|one| !one.inside);
    if wanted.schema.is_none() {
        accepted.retain(|one| !one.inside || (one.rank == Rank::Fenced && !has_whole));
    }
    if whole_holds {
        accepted.retain(|one| !one.inside);
    } else if accepted.iter().any(|one| one.inside && !one.changes.is_lossy()) {
        accepted.retain(|one| one.inside || !one.changes.is_lossy());
        for one in accepted.iter_mut() {
            one.changes.at(ChangeKind::WordsDropped, 0);
        }
    }
    let best = accepted.iter().map(|one| one.rank).max();
    if best > Some(Rank::Code) {
        accepted.retain(|one| one.rank > Rank::Code);
    }
    if wanted.schema.is_none() {
        if best > Some(Rank::Citation) {
            accepted.retain(|one| one.rank > Rank::Citation);
        } else {
            // A list of numbers in running text is no answer that anyone asked for.
            accepted.retain(|one| one.rank != Rank::Citation);
        }
        if best == Some(Rank::Fenced) {
            accepted.retain(|one| one.rank == Rank::Fenced);
        }
        let structured = accepted.iter().any(|one| !is_hollow(&one.value));
        if structured {
            accepted.retain(|one| !is_hollow(&one.value));
        }
    }
}

fn is_hollow(value: &Value) -> bool {
    match value {
        Value::Array(items) => items.is_empty(),
        Value::Object(map) => map.is_empty(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
    }
}

fn least_changed(accepted: &[Accepted]) -> usize {
    let cost = |one: &Accepted| (one.changes.is_lossy(), one.changes.listed().len());
    (0..accepted.len()).min_by_key(|index| cost(&accepted[*index])).unwrap_or(usize::MAX)
}

/// The first of several different answers, or the last where the text says that it counts.
fn pick(text: &str, accepted: &[Accepted]) -> usize {
    let last = accepted.len() - 1;
    let before = accepted[last - 1].end.min(accepted[last].start);
    let between = text[before..accepted[last].start].to_lowercase();
    let announced = FINAL_WORDS.iter().any(|word| between.contains(word));
    let fenced_last = accepted[last].rank > accepted[0].rank;
    let inside = accepted[last].inside;
    if announced || fenced_last || inside { last } else { 0 }
}

fn only_blanks_between(text: &str, accepted: &[Accepted]) -> bool {
    accepted.windows(2).all(|pair| {
        pair[0].end <= pair[1].start
            && text[pair[0].end..pair[1].start].chars().all(|c| is_blank(c) || c == ',')
    })
}

fn listed(text: &str, accepted: Vec<Accepted>, wanted: Wanted<'_>) -> Accepted {
    let mut changes = Changes::default();
    changes.at(ChangeKind::ValuesCollected, 0);
    if wanted.cut {
        changes.at(ChangeKind::CutReply, text.len());
    }
    let mut items = Vec::new();
    for one in accepted {
        changes.extend(&one.changes);
        items.push(one.value);
    }
    Accepted {
        value: Value::Array(items),
        changes,
        start: 0,
        end: text.len(),
        rank: Rank::Prose,
        inside: false,
    }
}

/// Several values that are the items of the list that the schema asks for.
pub(super) fn collect(
    text: &str,
    candidates: &[Candidate],
    wanted: Wanted<'_>,
) -> Option<Accepted> {
    let schema = wanted.schema?;
    let usable: Vec<&Candidate> =
        candidates.iter().filter(|one| !one.inside && one.rank != Rank::Code).collect();
    if usable.len() < 2
        || !wanted.only("array")
        || usable.iter().any(|one| schema.holds(&one.value))
    {
        return None;
    }
    let mut changes = Changes::default();
    changes.at(ChangeKind::ValuesCollected, usable[0].start);
    if wanted.cut {
        changes.at(ChangeKind::CutReply, text.len());
    }
    for one in &usable {
        changes.extend(&one.changes);
    }
    let open = usable.last().map_or(0, |last| last.open + usize::from(last.open > 0));
    let mut whole = Candidate {
        value: Value::Array(usable.iter().map(|one| one.value.clone()).collect()),
        changes,
        start: usable[0].start,
        end: text.len(),
        open,
        rank: Rank::Prose,
        inside: false,
    };
    accept(&mut whole, wanted)
}

/// Notes what stands around the value: a fence, prose, or something that looks like more of it.
fn note_surroundings(text: &str, one: &mut Accepted, candidates: &[Candidate]) {
    let before = &text[..one.start];
    if one.rank == Rank::Fenced {
        one.changes.at(ChangeKind::FenceRemoved, one.start);
    }
    let words = |text: &str| text.chars().any(char::is_alphanumeric);
    let label_only = one.rank == Rank::Fenced && before.trim_start().starts_with(['`', '~']);
    let after = &text[one.end.min(text.len())..];
    if words(before) && !label_only
        || words(after)
        || one.rank != Rank::Fenced && !(before.trim().is_empty() && after.trim().is_empty())
    {
        one.changes.at(ChangeKind::ProseRemoved, one.start);
    }
    let next = candidates
        .iter()
        .map(|one| one.start)
        .find(|start| *start >= one.end)
        .unwrap_or(text.len());
    let residue = &text[one.end.min(next)..next];
    if is_residue(residue) {
        one.changes.at(ChangeKind::ResidueDropped, one.end);
    }
}

/// Whether text after the value looks like a part of it.
fn is_residue(text: &str) -> bool {
    let rest = text.trim_start_matches(is_blank);
    if let Some(rest) = rest.strip_prefix(',') {
        let rest = rest.trim_start_matches(is_blank);
        return rest.starts_with(|c: char| matches!(c, '"' | '\'') || c.is_ascii_digit());
    }
    extract::closes_quote_on_line(rest)
}
