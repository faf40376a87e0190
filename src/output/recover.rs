//! From a text that is not its contract's JSON to the value that it certainly holds, or to the
//! one that it may hold, or to none.
//!
//! Order matters more than any single repair. Reasoning goes first, or its drafts win. Candidates
//! are all read before one is chosen, or the first example in the prose wins. Validation decides
//! between them, coercion runs only on those that do not validate, and only then an incomplete
//! tail is cut back further.

use serde_json::Value;

use super::budget::Budget;
use super::change::{ChangeKind, Changes};
use super::choose::{self, Accepted};
use super::contract::Contract;
use super::extract::{self, Candidate, Found};
use super::reader::is_blank;
use super::schema::Schema;
use super::{coerce, fallback, prepare, prune, reasoning};

/// What recovery made of a text.
#[derive(Debug, Default)]
pub(super) struct Recovered {
    /// The value that satisfies the contract.
    pub value: Option<Value>,
    pub changes: Changes,
    /// The most that could be read.
    pub best: Option<Value>,
    /// There was reasoning and nothing after it.
    pub only_reasoning: bool,
    pub steps: u64,
}

/// What is asked of a recovery.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wanted<'c> {
    pub schema: Option<&'c Schema>,
    pub coerce: bool,
    /// The provider said that the reply was cut.
    pub cut: bool,
}

impl<'c> Wanted<'c> {
    pub fn new(contract: &'c Contract, cut: bool) -> Self {
        Self { schema: contract.schema(), coerce: !contract.options().strict_schema_mode, cut }
    }

    /// Whether the root of the schema asks for this type and no other.
    pub fn only(&self, name: &str) -> bool {
        self.schema.is_some_and(|schema| coerce::wants(schema.document()) == [name])
    }
}

/// Recovers a value from `text`. `whole` is the text's value where the text is JSON already.
pub(super) fn recover(
    text: &str,
    whole: Option<(Value, Changes)>,
    wanted: Wanted<'_>,
) -> Recovered {
    let mut budget = Budget::for_length(text.len());
    let mut recovered = Recovered::default();
    if let Some((value, changes)) = whole {
        let mut candidate = whole_candidate(text, value, changes);
        if let Some(accepted) = accept(&mut candidate, wanted) {
            recovered.changes = accepted.changes;
            recovered.value = Some(accepted.value);
        }
        recovered.best = Some(candidate.value);
        return recovered;
    }
    let answer = reasoning::answer(text);
    recovered.only_reasoning =
        answer.unfinished || answer.stripped && answer.text.chars().all(is_blank);
    if recovered.only_reasoning {
        return recovered;
    }
    let prepared = prepare::prepare(answer.text);
    let text = prepared.text.as_ref();
    let mut changes = prepared.changes;
    if answer.stripped {
        changes.at(ChangeKind::ReasoningRemoved, 0);
    }
    let mut found = extract::find(text, &mut budget);
    let taken = take(text, &mut found, wanted, &mut budget);
    recovered.steps = budget.used();
    let stopped = found.stopped;
    if let Some(accepted) = taken {
        changes.extend(&accepted.changes);
        if let Some(at) = stopped {
            changes.at(ChangeKind::ResidueDropped, at);
        }
        recovered.changes = changes;
        recovered.value = Some(accepted.value);
    }
    recovered.best = largest(found);
    recovered
}

fn whole_candidate(text: &str, value: Value, changes: Changes) -> Candidate {
    Candidate {
        value,
        changes,
        start: 0,
        end: text.len(),
        open: 0,
        rank: extract::Rank::Fenced,
        inside: false,
    }
}

fn take(
    text: &str,
    found: &mut Found,
    wanted: Wanted<'_>,
    budget: &mut Budget,
) -> Option<Accepted> {
    if let Some(collected) = choose::collect(text, &found.candidates, wanted) {
        return Some(collected);
    }
    let mut accepted = Vec::new();
    for candidate in &mut found.candidates {
        if let Some(one) = accept(candidate, wanted) {
            accepted.push(one);
        }
    }
    choose::choose(text, accepted, &found.candidates, wanted)
        .or_else(|| fallback::read(text, found, wanted, budget))
}

/// The candidate as the contract wants it: as it is (then its value is taken out of it), coerced,
/// or cut back.
pub(super) fn accept(candidate: &mut Candidate, wanted: Wanted<'_>) -> Option<Accepted> {
    let mut accepted = Accepted {
        value: Value::Null,
        changes: candidate.changes.clone(),
        start: candidate.start,
        end: candidate.end,
        rank: candidate.rank,
        inside: candidate.inside,
    };
    let Some(schema) = wanted.schema else {
        accepted.value = candidate.value.take();
        return Some(accepted);
    };
    let frozen = (candidate.open > 0).then(|| prune::tail_address(&candidate.value));
    match fit(&candidate.value, schema, wanted, frozen, &mut accepted.changes) {
        Fit::AsIs => {
            accepted.value = candidate.value.take();
            return Some(accepted);
        }
        Fit::Coerced(value) => {
            accepted.value = value;
            return Some(accepted);
        }
        Fit::No => (),
    }
    if candidate.open == 0 || candidate.inside {
        return None;
    }
    let mut value = candidate.value.clone();
    for _ in 0..prune::CUTS_MAX {
        if !prune::cut_tail(&mut value) {
            return None;
        }
        let mut changes = candidate.changes.clone();
        changes.at(ChangeKind::TailDropped, candidate.end);
        let frozen = Some(prune::tail_address(&value));
        accepted.value = match fit(&value, schema, wanted, frozen, &mut changes) {
            Fit::AsIs => value,
            Fit::Coerced(fitting) => fitting,
            Fit::No => continue,
        };
        accepted.changes = changes;
        return Some(accepted);
    }
    None
}

enum Fit {
    AsIs,
    Coerced(Value),
    No,
}

fn fit(
    value: &Value,
    schema: &Schema,
    wanted: Wanted<'_>,
    frozen: Option<usize>,
    changes: &mut Changes,
) -> Fit {
    if schema.holds(value) {
        return if schema.is_echoed_by(value) { Fit::No } else { Fit::AsIs };
    }
    if !wanted.coerce {
        return Fit::No;
    }
    let fix = coerce::coerce(schema.document(), value, frozen);
    let Some(fix) = fix.filter(|fix| schema.holds(&fix.value)) else {
        return Fit::No;
    };
    for change in fix.changes {
        changes.push(change.kind, change.place);
    }
    Fit::Coerced(fix.value)
}

fn largest(found: Found) -> Option<Value> {
    found
        .candidates
        .into_iter()
        .max_by_key(|candidate| (candidate.rank, candidate.end - candidate.start))
        .map(|candidate| candidate.value)
}
