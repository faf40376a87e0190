//! The judgement over a reply's text: one contract, one verdict.

use std::fmt;

use serde_json::Value;

use super::change::{ChangeKind, Changes};
use super::contract::{Contract, ContractOptions, Shape};
use super::reasoning::{self, Answer};
use super::recover::{Recovered, Wanted, recover};
use super::schema::Schema;
use super::strict;
use crate::exchange::Payload;
use crate::failure::{FailureCause, Violation};

/// What an output is worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Verdict {
    /// It satisfies the contract as the model wrote it.
    Clean,
    /// It satisfies the contract after changes that certainly keep its meaning.
    Repaired,
    /// A value is there, but something was cut, dropped, picked or guessed.
    Lossy,
    /// There is no value.
    Failed,
}

impl Verdict {
    /// The stable name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Clean => "clean",
            Self::Repaired => "repaired",
            Self::Lossy => "lossy",
            Self::Failed => "failed",
        }
    }
}

/// A judged output. It does not print what the model wrote.
#[derive(Clone, PartialEq)]
pub struct Checked {
    /// What the output is worth.
    pub verdict: Verdict,
    /// The value that satisfies the contract; for text contracts a JSON string. `None` exactly
    /// when the verdict is [`Verdict::Failed`].
    pub value: Option<Value>,
    /// What was changed on the way to the value.
    pub changes: Changes,
    /// The failure that this reply is when nothing is repaired: the cause that a policy routes
    /// on. `None` when the verdict is [`Verdict::Clean`], and for a text whose only change is that
    /// the reasoning before it was left out: reasoning is no part of an answer in text.
    pub cause: Option<FailureCause>,
    /// Where the reply breaks the contract as the model wrote it: the schema, or where the text
    /// stops being JSON; on failure also where the most that could be read breaks the schema.
    pub violations: Vec<Violation>,
    /// On failure the most that could be read, which does not satisfy the contract: the material
    /// of `accept_partial`, never a result.
    pub best: Option<Value>,
    /// Steps taken by the recovery; a measure of work for tests and metrics.
    pub steps: u64,
}

impl fmt::Debug for Checked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Checked")
            .field("verdict", &self.verdict)
            .field("cause", &self.cause)
            .field("changes", &self.changes)
            .field("violations", &self.violations)
            .field("has_value", &self.value.is_some())
            .field("has_best", &self.best.is_some())
            .finish_non_exhaustive()
    }
}

impl Checked {
    /// The text of a text contract.
    pub fn text(&self) -> Option<Payload> {
        self.value.as_ref().and_then(Value::as_str).map(Payload::from)
    }

    fn clean(value: Value) -> Self {
        Self {
            verdict: Verdict::Clean,
            value: Some(value),
            changes: Changes::default(),
            cause: None,
            violations: Vec::new(),
            best: None,
            steps: 0,
        }
    }

    fn failed(cause: FailureCause, violations: Vec<Violation>) -> Self {
        Self {
            verdict: Verdict::Failed,
            value: None,
            changes: Changes::default(),
            cause: Some(cause),
            violations,
            best: None,
            steps: 0,
        }
    }
}

/// Holds a reply's text against the contract.
///
/// `finish_was_length` is what the provider said: the reply was cut. Then a value that was closed
/// before the cut stands, and everything open-ended is lossy.
///
/// Total and pure. A text that satisfies the contract as it stands is parsed once, validated once
/// and returned untouched.
pub fn check(text: &str, finish_was_length: bool, contract: &Contract) -> Checked {
    match contract.shape() {
        Shape::Text => check_text(text, finish_was_length, contract.options()),
        Shape::Json(schema) => check_json(text, finish_was_length, schema.as_ref(), contract),
    }
}

fn check_text(whole: &str, finish_was_length: bool, options: &ContractOptions) -> Checked {
    let Answer { text, offset, .. } = reasoning::before_text(whole);
    let empty = is_empty(text) && !options.allow_empty;
    let broken = length_violation(text, options);
    let cause = match (finish_was_length, empty, broken.is_some()) {
        (true, _, _) => FailureCause::TruncatedOutput,
        (false, true, _) => FailureCause::EmptyOutput,
        (false, false, true) => FailureCause::SchemaMismatch,
        (false, false, false) => {
            let mut checked = Checked::clean(Value::String(text.to_owned()));
            if offset > 0 {
                checked.verdict = Verdict::Repaired;
                checked.changes.at(ChangeKind::ReasoningRemoved, 0);
            }
            return checked;
        }
    };
    let mut checked = Checked::failed(cause, broken.into_iter().collect());
    if finish_was_length && !empty {
        if offset > 0 {
            checked.changes.at(ChangeKind::ReasoningRemoved, 0);
        }
        checked.changes.at(ChangeKind::CutReply, whole.len());
        checked.best = Some(Value::String(text.to_owned()));
        if checked.violations.is_empty() {
            checked.verdict = Verdict::Lossy;
            checked.value = checked.best.take();
        }
    }
    checked
}

fn check_json(
    text: &str,
    finish_was_length: bool,
    schema: Option<&Schema>,
    contract: &Contract,
) -> Checked {
    if let Some(broken) = length_violation(text, contract.options()) {
        return Checked::failed(FailureCause::SchemaMismatch, vec![broken]);
    }
    let parsed = match strict::parse(text) {
        Ok(parsed) if parsed.duplicates.is_empty() && holds(schema, &parsed.value) => {
            let open_ended =
                finish_was_length && !parsed.value.is_object() && !parsed.value.is_array();
            let mut checked = Checked::clean(parsed.value);
            if open_ended {
                checked.verdict = Verdict::Lossy;
                checked.cause = Some(FailureCause::TruncatedOutput);
                checked.changes.at(ChangeKind::CutReply, text.len());
            }
            return checked;
        }
        parsed => parsed,
    };
    broken_json(text, parsed, finish_was_length, schema, contract)
}

/// The slow way: the text is not what the contract asks for.
fn broken_json(
    text: &str,
    parsed: Result<strict::Strict, strict::StrictFault>,
    finish_was_length: bool,
    schema: Option<&Schema>,
    contract: &Contract,
) -> Checked {
    let violations_of =
        |value: &Value| schema.map(|schema| schema.violations(value)).unwrap_or_default();
    let (mut cause, mut violations, whole) = match parsed {
        Ok(parsed) => {
            let mut changes = Changes::default();
            for at in &parsed.duplicates {
                changes.at(ChangeKind::KeyDuplicate, *at);
            }
            let violations = violations_of(&parsed.value);
            let cause = if violations.is_empty() {
                FailureCause::MalformedJson
            } else {
                FailureCause::SchemaMismatch
            };
            (cause, violations, Some((parsed.value, changes)))
        }
        Err(fault) => (FailureCause::MalformedJson, vec![fault_violation(text, fault)], None),
    };
    let fenced = whole.is_none() && !contract.options().strip_fences && text.contains("```");
    let recovered = match fenced {
        true => Recovered::default(),
        false => recover(text, whole, Wanted::new(contract, finish_was_length)),
    };
    if is_empty(text) || recovered.only_reasoning {
        cause = FailureCause::EmptyOutput;
    }
    if finish_was_length {
        cause = FailureCause::TruncatedOutput;
    }
    let verdict = match &recovered.value {
        None => Verdict::Failed,
        Some(_) if recovered.changes.is_lossy() => Verdict::Lossy,
        Some(_) => Verdict::Repaired,
    };
    if verdict == Verdict::Failed
        && let Some(best) = &recovered.best
        && cause == FailureCause::MalformedJson
    {
        violations.extend(violations_of(best));
    }
    Checked {
        verdict,
        value: recovered.value,
        changes: recovered.changes,
        cause: Some(cause),
        violations,
        best: recovered.best.filter(|_| verdict == Verdict::Failed),
        steps: recovered.steps,
    }
}

/// Where the text stops being JSON, for whoever has to correct it.
fn fault_violation(text: &str, fault: strict::StrictFault) -> Violation {
    let message = if fault.at_end {
        "the text ends before the JSON does".to_owned()
    } else {
        let before = &text[..fault.at];
        let line = before.matches('\n').count() + 1;
        let column = before.chars().rev().take_while(|c| *c != '\n').count() + 1;
        format!("not JSON from line {line}, column {column} on")
    };
    Violation { path: String::new(), message }
}

fn holds(schema: Option<&Schema>, value: &Value) -> bool {
    schema.is_none_or(|schema| schema.holds(value) && !schema.is_echoed_by(value))
}

/// Whether a text says nothing in any language: white space, control and format characters only.
pub(super) fn is_empty(text: &str) -> bool {
    text.chars().all(|c| {
        c.is_whitespace()
            || c.is_control()
            || matches!(c, '\u{ad}' | '\u{34f}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}')
    })
}

fn length_violation(text: &str, options: &ContractOptions) -> Option<Violation> {
    if options.chars_min.is_none() && options.chars_max.is_none() {
        return None;
    }
    let chars = text.chars().count();
    let message = match (options.chars_min, options.chars_max) {
        (Some(min), _) if chars < min => format!("shorter than {min} characters"),
        (_, Some(max)) if chars > max => format!("longer than {max} characters"),
        (_, _) => return None,
    };
    Some(Violation { path: String::new(), message })
}
