//! What an attempt brought, held against the step's contract: an output to judge further, or a
//! failure with whatever can still be made of the text.
//!
//! The layers follow each other: the provider's finish reason, a refusal and emptiness are the
//! dialect's to find; extraction and schema are checked here; rules and confidence by the step
//! ([`crate::pipeline::Judgement`]); the verifier comes last, in `verify`.

use std::borrow::Cow;
use std::sync::Arc;

use serde_json::{Map, Value};

use super::reask::Reask;
use super::step::StepContext;
use crate::exchange::{Message, ModelReply, Payload};
use crate::failure::{Failure, FailureCause, Violation};
use crate::journal::{
    CheckRecord, DegradedBy, OutputBody, OutputChange, OutputVerdict, StepOutput,
};
use crate::output::{
    self, Change, ChangeKind, Changes, Checked, Contract, PartialTerms, Place, Verdict,
};
use crate::policy::{ReaskRoom, RepairOffer};

/// An output of the right form, not yet held against rules, confidence and verifier.
#[derive(Clone)]
pub struct Candidate {
    /// The output.
    pub output: StepOutput,
    /// Set when it is less than was asked for.
    pub degraded: Option<DegradedBy>,
    /// What the model wrote, where the output is not it word for word.
    pub said: Option<Payload>,
    /// The verifier's verdict on it did not come from a model answering in full.
    pub verdict_degraded: bool,
}

impl Candidate {
    fn new(output: StepOutput) -> Self {
        Self { output, degraded: None, said: None, verdict_degraded: false }
    }
}

/// An attempt that gave no usable output as it stands.
pub struct Unusable {
    /// Why.
    pub failure: Failure,
    /// What deterministic repair makes of the output, where there is one.
    pub offer: Option<Checked>,
    /// The part of it that holds, with defaults for the rest, where that satisfies the rules.
    pub part: Option<Candidate>,
    /// The model's text, to be shown to it again.
    pub said: Option<Payload>,
    /// What goes behind the prompt of a call that shows the errors, where there is room for it.
    pub reask: Option<Vec<Message>>,
    /// What a re-ask has room for.
    pub room: ReaskRoom,
    /// True when the caller's deadline ended the attempt, not a limit of ours.
    pub ended_by_caller: bool,
    /// True when the verifier failed and nothing is known against the output.
    pub of_verifier: bool,
    /// True when that failure has to end the whole run.
    pub halts_run: bool,
}

impl From<Failure> for Unusable {
    fn from(failure: Failure) -> Self {
        Self {
            failure,
            offer: None,
            part: None,
            said: None,
            reask: None,
            room: ReaskRoom::default(),
            ended_by_caller: false,
            of_verifier: false,
            halts_run: false,
        }
    }
}

/// What came of checking a text.
pub struct CheckedReply {
    /// For the record; absent where no text was checked.
    pub record: Option<CheckRecord>,
    /// The output, or what is wrong with it.
    pub result: Result<Candidate, Box<Unusable>>,
}

/// The step's contract as the policy wants it held.
fn contract<'a>(cx: &StepContext<'a>) -> Cow<'a, Contract> {
    let validation = &cx.policy.policy.validation;
    cx.planned.contract.under(validation.strict_schema_mode, validation.strip_markdown_fences)
}

/// A text longer than this is checked on a thread of its own: the recovery of a megabyte takes long
/// enough to hold up everything else on the executor's.
const INLINE_BYTES_MAX: usize = 64 * 1024;

async fn check(cx: &StepContext<'_>, text: &str, cut: bool) -> Checked {
    let contract = contract(cx);
    if text.len() > INLINE_BYTES_MAX {
        let (text, contract) = (text.to_owned(), contract.clone().into_owned());
        let work = cx.engine.tasks().spawn_blocking(move || output::check(&text, cut, &contract));
        if let Ok(checked) = work.await {
            return checked;
        }
        // The runtime is being shut down and takes no such work any more.
    }
    output::check(text, cut, &contract)
}

/// Whether an output that was given to another request satisfies the step's contract.
pub async fn satisfies(cx: &StepContext<'_>, output: &StepOutput) -> bool {
    match &output.body {
        OutputBody::Text(text) | OutputBody::Json { text, .. } => {
            check(cx, text.expose(), false).await.cause.is_none()
        }
    }
}

/// Holds a reply against the contract. A tool call is an output of its own; the contract is for
/// text.
pub async fn reply(cx: &StepContext<'_>, reply: ModelReply, asked: &Reask) -> CheckedReply {
    if !reply.tool_calls.is_empty() {
        let output = StepOutput {
            tool_calls: reply.tool_calls,
            ..StepOutput::plain(OutputBody::Text(reply.text))
        };
        return CheckedReply { record: None, result: Ok(Candidate::new(output)) };
    }
    let (text, joined) = whole(reply.text, asked);
    let checked = with_changes(check(cx, &text, false).await, joined);
    let record = Some(record_of(&checked));
    // No failure: clean, or changed in a way that needs nobody's leave.
    let Some(cause) = checked.cause else {
        let wants_json = cx.planned.contract.wants_json();
        let candidate = match checked.verdict {
            Verdict::Clean => {
                Candidate::new(into_output(text, checked, OutputVerdict::Clean, wants_json))
            }
            Verdict::Repaired | Verdict::Lossy | Verdict::Failed => Candidate {
                said: Some(text.as_str().into()),
                ..Candidate::new(into_output(text, checked, OutputVerdict::Repaired, wants_json))
            },
        };
        return CheckedReply { record, result: Ok(candidate) };
    };
    let mut failure = Failure::new(cause, cause.summary().trim_end_matches('.').to_lowercase());
    failure.violations.clone_from(&checked.violations);
    let unusable = Unusable { offer: Some(checked), said: Some(text.into()), ..failure.into() };
    CheckedReply { record, result: Err(Box::new(unusable)) }
}

/// What can still be made of a failed attempt. An answer that its token limit cut is never taken
/// for a whole one, but its text is material for what the policy may decide.
pub async fn failed(cx: &StepContext<'_>, mut failure: Failure, asked: &Reask) -> CheckedReply {
    let cut = failure.cause == FailureCause::TruncatedOutput;
    let partial = failure.partial_text.take();
    let Some(text) = partial.clone().filter(|_| cut) else {
        // What a reader has seen the beginning of may be gone on with.
        let said = partial.filter(|_| cx.outlet.is_some()).map(|text| whole(text, asked).0.into());
        let unusable = Unusable { said, ..failure.into() };
        return CheckedReply { record: None, result: Err(Box::new(unusable)) };
    };
    let (text, joined) = whole(text, asked);
    let mut checked = check(cx, &text, true).await;
    if checked.verdict == Verdict::Clean {
        checked.verdict = Verdict::Repaired;
        checked.changes.at(ChangeKind::CutAfterValue, text.len());
    }
    let checked = with_changes(checked, joined);
    failure.violations.clone_from(&checked.violations);
    let record = Some(record_of(&checked));
    let said = Some(Payload::from(text)).filter(|text| !text.expose().trim().is_empty());
    let unusable = Unusable { offer: Some(checked), said, ..failure.into() };
    CheckedReply { record, result: Err(Box::new(unusable)) }
}

/// The whole answer where only the rest of one was asked for.
fn whole(text: Payload, asked: &Reask) -> (String, Option<Changes>) {
    match &asked.continues {
        None => (text.into_inner(), None),
        Some(before) => {
            let (whole, changes) = output::join(before.expose(), text.expose());
            (whole, Some(changes))
        }
    }
}

/// Notes that the text was put together before it was checked.
fn with_changes(mut checked: Checked, joined: Option<Changes>) -> Checked {
    let Some(mut changes) = joined else { return checked };
    changes.extend(&checked.changes);
    checked.changes = changes;
    if checked.verdict == Verdict::Clean {
        checked.verdict = Verdict::Repaired;
    }
    checked
}

fn record_of(checked: &Checked) -> CheckRecord {
    CheckRecord { verdict: checked.verdict, changes: changes_of(&checked.changes) }
}

fn changes_of(changes: &Changes) -> Vec<OutputChange> {
    let change = |change: &Change| OutputChange {
        kind: change.kind.name(),
        place: change.place.to_string(),
        lossy: change.kind.is_lossy(),
    };
    changes.listed().iter().map(change).collect()
}

/// Whether an output is what the model wrote word for word, if in more than one piece.
pub fn only_joined(changes: &[OutputChange]) -> bool {
    let joins = [ChangeKind::Continued.name(), ChangeKind::OverlapRemoved.name()];
    changes.iter().all(|change| joins.contains(&change.kind))
}

/// The output that a check gives, in the given verdict.
fn into_output(
    text: String,
    checked: Checked,
    verdict: OutputVerdict,
    wants_json: bool,
) -> StepOutput {
    let changes = changes_of(&checked.changes);
    let body = match (checked.value, verdict) {
        // The model's own spelling is kept where nothing had to change.
        (Some(value), _) if wants_json && only_joined(&changes) => {
            OutputBody::Json { text: text.into(), value: Arc::new(value) }
        }
        (Some(_), _) if only_joined(&changes) => OutputBody::Text(text.into()),
        (Some(value), _) if wants_json => {
            OutputBody::Json { text: value.to_string().into(), value: Arc::new(value) }
        }
        (Some(Value::String(text)), OutputVerdict::Repaired | OutputVerdict::Lossy) => {
            OutputBody::Text(text.into())
        }
        (Some(_) | None, _) => OutputBody::Text(text.into()),
    };
    StepOutput { verdict, changes, ..StepOutput::plain(body) }
}

/// The output that deterministic repair gave. One that lost or guessed something is degraded.
pub fn repaired(cx: &StepContext<'_>, unusable: Unusable) -> Result<Candidate, Failure> {
    let Unusable { failure, offer, said, .. } = unusable;
    let Some(checked) = offer.filter(|checked| checked.value.is_some()) else {
        return Err(failure);
    };
    let lossy = checked.verdict == Verdict::Lossy;
    let verdict = if lossy { OutputVerdict::Lossy } else { OutputVerdict::Repaired };
    let warnings = lost(&checked.changes);
    let wants_json = cx.planned.contract.wants_json();
    let text = said.clone().unwrap_or_default().into_inner();
    let mut output = into_output(text, checked, verdict, wants_json);
    output.warnings = warnings;
    let degraded = lossy.then_some(DegradedBy::Partial);
    Ok(Candidate { degraded, said, ..Candidate::new(output) })
}

/// The part of an output that holds, filled up with defaults, if it has what is mandatory and
/// satisfies the rules.
pub fn part(
    cx: &StepContext<'_>,
    unusable: &Unusable,
    defaults: &Map<String, Value>,
) -> Option<Candidate> {
    let checked = unusable.offer.as_ref()?;
    let step = &cx.planned.step;
    let terms = PartialTerms {
        defaults: defaults.clone(),
        mandatory: step.mandatory.iter().map(|path| path.to_string()).collect(),
    };
    let part = output::accept_partial(checked, &contract(cx), &terms).ok()?;
    step.judge(&cx.scope.with_output(&part.value)).ok()?;
    let mut warnings = part.warnings;
    warnings.extend(lost(&checked.changes));
    let body = match part.value {
        Value::String(text) if !cx.planned.contract.wants_json() => OutputBody::Text(text.into()),
        value => OutputBody::Json { text: value.to_string().into(), value: Arc::new(value) },
    };
    let output = StepOutput {
        verdict: OutputVerdict::Lossy,
        changes: changes_of(&checked.changes),
        warnings,
        ..StepOutput::plain(body)
    };
    let said = unusable.said.clone();
    Some(Candidate { degraded: Some(DegradedBy::Partial), said, ..Candidate::new(output) })
}

/// What was lost or guessed on the way to an output, in words.
fn lost(changes: &Changes) -> Vec<Violation> {
    let lossy = changes.listed().iter().filter(|change| change.kind.is_lossy());
    let warning = |change: &Change| Violation {
        path: match &change.place {
            Place::Pointer(path) => path.clone(),
            Place::Offset(_) => String::new(),
        },
        message: change.kind.summary().to_owned(),
    };
    let mut warnings: Vec<Violation> = Vec::new();
    for warning in lossy.map(warning) {
        if !warnings.contains(&warning) {
            warnings.push(warning);
        }
    }
    warnings
}

/// Whether taking a code fence off is all that an output needs.
pub fn only_a_fence(offer: &Checked) -> bool {
    offer.verdict == Verdict::Repaired
        && offer.changes.omitted() == 0
        && offer.changes.listed().iter().all(|change| change.kind == ChangeKind::FenceRemoved)
}

/// What a deterministic repair gives.
pub(super) fn repair_offer(checked: &Checked) -> Option<RepairOffer> {
    match checked.verdict {
        Verdict::Repaired if only_a_fence(checked) => Some(RepairOffer::FenceOnly),
        Verdict::Repaired => Some(RepairOffer::Lossless),
        Verdict::Lossy => Some(RepairOffer::Lossy),
        Verdict::Clean | Verdict::Failed => None,
    }
}
