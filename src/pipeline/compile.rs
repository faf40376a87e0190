//! From a document to a pipeline, or to everything that is wrong with it.

use std::collections::BTreeMap;

use super::compile_step::{Surroundings, expression, step};
use super::digest::digest;
use super::document::{RawPipeline, RawSelect, RawStep};
use super::findings::{FieldProblem, Findings};
use super::graph::{self, Order};
use super::schema::Schema;
use super::scope::COMMON;
use super::spec::{OutputSelect, Pipeline, Step};
use super::template::did_you_mean;
use crate::document::{Document, Fillers, Problems, Shape};

/// Most steps of a pipeline.
pub const STEPS_MAX: usize = 64;
/// Most labels, and the longest label in bytes.
const LABELS_MAX: usize = 32;
const LABEL_BYTES_MAX: usize = 256;

/// What stands in for what is wrong, so that the rest can be checked.
const FILLERS: Fillers = Fillers {
    members: &[
        ("name", "x"),
        ("prompt", "x"),
        ("for_each", "'[]'"),
        ("items", "'[]'"),
        ("output", "{ json: {} }"),
        ("check", "'true'"),
        ("message", "x"),
        ("expression", "'1'"),
        ("minimum", "0"),
        ("accept", "'true'"),
        ("step", "{ name: x, prompt: x }"),
        ("media_type", "x"),
        ("data", "x"),
    ],
    items: &[
        ("rules", "{ check: 'true', message: x }"),
        ("prompt", "{ user: x }"),
        ("user", "{ text: x }"),
        ("tools", "{ name: x }"),
    ],
};

/// The shape of a pipeline document; also gives the JSON Schema for editors.
pub static SHAPE: Shape<RawPipeline> = Shape::new();

/// What a pipeline is compiled against.
#[derive(Debug, Clone, Copy, Default)]
pub struct Known<'a> {
    /// Names of targets and groups of targets; `None` leaves names unchecked.
    pub targets: Option<&'a [&'a str]>,
    /// Names of policies; `None` leaves names unchecked.
    pub policies: Option<&'a [&'a str]>,
}

/// Reads a pipeline document.
///
/// # Errors
/// Every mistake, in reading order, warnings among them.
pub fn compile(document: &Document, known: &Known<'_>) -> Result<(Pipeline, Problems), Problems> {
    let mistakes = match SHAPE.read(document) {
        Ok(raw) => {
            let mut findings = Findings::default();
            let pipeline = whole(&raw, known, &mut findings);
            let problems = findings.into_problems(document).sorted();
            return match pipeline {
                Some(pipeline) if problems.usable() => Ok((pipeline, problems)),
                Some(_) | None => Err(problems),
            };
        }
        Err(mistakes) => mistakes,
    };
    let mut problems = mistakes;
    problems.0.extend(rest(document, &problems, known).0);
    Err(problems.sorted())
}

/// What else is wrong with a document that has structural mistakes.
fn rest(document: &Document, mistakes: &Problems, known: &Known<'_>) -> Problems {
    let salvaged = FILLERS.without(document, mistakes);
    let of_names = |path: &String| {
        let tokens: Vec<&str> = path.split('/').skip(1).collect();
        matches!(*tokens.as_slice(), ["steps"] | ["steps", _] | ["steps", _, "name" | "needs", ..])
    };
    // Without the names and the order of all steps much would be said of others that is not so.
    if salvaged.touched.iter().any(of_names) {
        return Problems::default();
    }
    let Ok(raw) = serde_json::from_value(salvaged.document.to_json()) else {
        return Problems::default();
    };
    let mut findings = Findings::default();
    whole(&raw, known, &mut findings);
    let mut own = salvaged.own(findings.into_problems(document));
    if salvaged.touched.iter().any(|path| path.contains("/tools")) {
        own.0.retain(|problem| !problem.path.ends_with("/tool_choice"));
    }
    own
}

/// Compiles a step that came with a request. `given` names the earlier steps whose outputs came with
/// it: its templates and expressions see these and no others.
///
/// # Errors
/// Every mistake by field.
pub fn compile_step(
    draft: &RawStep,
    known: &Known<'_>,
    given: &[&str],
) -> Result<Step, Vec<FieldProblem>> {
    let mut findings = Findings::default();
    if draft.needs.as_ref().is_some_and(|needs| !needs.is_empty()) {
        findings.error("/needs", "a step on its own has no other steps to need");
    }
    let around = Surroundings { known, steps: given, visible: given };
    let compiled = step(draft, "", &around, &mut findings);
    match compiled {
        Some(step) if findings.usable() => Ok(step),
        Some(_) | None => Err(findings.into_fields()),
    }
}

/// Whether this can name a pipeline or a step.
pub(super) fn is_name(name: &str) -> bool {
    (1..=64).contains(&name.len())
        && name
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_' || b == b'-')
}

fn whole(raw: &RawPipeline, known: &Known<'_>, findings: &mut Findings) -> Option<Pipeline> {
    head(raw, known, findings);
    if raw.steps.is_empty() {
        findings.error("/steps", "a pipeline has at least one step");
        return None;
    }
    if raw.steps.len() > STEPS_MAX {
        let message = format!("{} steps; at most {STEPS_MAX} are allowed", raw.steps.len());
        findings.error("/steps", message);
        return None;
    }
    let input_schema = match raw.input_schema.as_ref().map(Schema::compile) {
        None => None,
        Some(Ok(schema)) => Some(schema),
        Some(Err(problem)) => {
            findings.error(format!("/input_schema{}", problem.path), problem.message);
            None
        }
    };
    let names: Vec<&str> = raw.steps.iter().map(|step| step.name.as_str()).collect();
    let needs = needs(raw, &names, findings);
    let order = match graph::order(&needs) {
        Ok(order) => Some(order),
        Err(cycle) => {
            let path: Vec<&str> = cycle.iter().map(|step| names[*step]).collect();
            let message = format!("the steps need each other: {}", path.join(" → "));
            let first = cycle.first().copied().unwrap_or_default();
            findings.error(format!("/steps/{first}/needs"), message);
            None
        }
    };
    let mut compiled = steps(raw, &names, order.as_ref(), known, findings);
    let places: BTreeMap<usize, usize> = match &order {
        Some(order) => order.sorted.iter().enumerate().map(|(new, old)| (*old, new)).collect(),
        None => (0..names.len()).map(|place| (place, place)).collect(),
    };
    let output = select(raw, &names, &places, known, findings);
    if findings.usable() {
        warn_of_unused(raw, &needs, findings);
    }
    let Order { sorted, ancestors } = order?;
    let mut steps = Vec::with_capacity(sorted.len());
    for place in sorted {
        let mut step = compiled.get_mut(place)?.take()?;
        let new = |old: &usize| places.get(old).copied();
        step.needs = needs[place].iter().filter_map(new).collect();
        step.needs.sort_unstable();
        step.ancestors = ancestors[place].iter().filter_map(new).collect();
        step.ancestors.sort_unstable();
        steps.push(step);
    }
    Some(Pipeline {
        name: raw.name.as_str().into(),
        description: raw.description.as_deref().map(Into::into),
        policy: raw.policy.as_deref().map(Into::into),
        run_timeout: raw.run_timeout.map(|timeout| timeout.0),
        steps,
        output: output?,
        input_schema,
        labels: raw.labels.clone(),
        digest: digest(raw).into(),
    })
}

/// Everything beside the steps and the output.
fn head(raw: &RawPipeline, known: &Known<'_>, findings: &mut Findings) {
    if !is_name(&raw.name) {
        findings.error("/name", "a name has 1 to 64 characters of a-z, 0-9, `_` and `-`");
    }
    if let (Some(policy), Some(known)) = (&raw.policy, known.policies)
        && !known.contains(&policy.as_str())
    {
        let hint = did_you_mean(policy, known.iter().copied());
        findings.error_with("/policy", format!("there is no policy `{policy}`"), hint);
    }
    if raw.run_timeout.is_some_and(|timeout| timeout.0.is_zero()) {
        findings.error("/run_timeout", "has to be longer than 0");
    }
    if raw.labels.len() > LABELS_MAX {
        findings.error("/labels", format!("at most {LABELS_MAX} labels"));
    }
    for (name, value) in &raw.labels {
        if !is_name(name) {
            let path = format!("/labels/{}", name.replace('~', "~0").replace('/', "~1"));
            findings.error(path, "a label's name has 1 to 64 characters of a-z, 0-9, `_`, `-`");
            findings.on_key();
        } else if value.len() > LABEL_BYTES_MAX {
            findings.error(
                format!("/labels/{name}"),
                format!("a label has at most {LABEL_BYTES_MAX} bytes"),
            );
        }
    }
}

/// The needs of each step by place in the document.
fn needs(raw: &RawPipeline, names: &[&str], findings: &mut Findings) -> Vec<Vec<usize>> {
    let mut all = Vec::with_capacity(names.len());
    for (place, step) in raw.steps.iter().enumerate() {
        if names[..place].contains(&step.name.as_str()) {
            let path = format!("/steps/{place}/name");
            findings.error(path, format!("there is a step `{}` already", step.name));
        }
        let Some(written) = &step.needs else {
            all.push(place.checked_sub(1).into_iter().collect());
            continue;
        };
        let mut needs: Vec<usize> = Vec::new();
        for (index, name) in written.iter().enumerate() {
            let path = format!("/steps/{place}/needs/{index}");
            match names.iter().position(|known| known == name) {
                Some(need) if needs.contains(&need) => {
                    findings.warning(path, format!("`{name}` stands here twice"), None);
                }
                Some(need) => needs.push(need),
                None => {
                    let hint = did_you_mean(name, names.iter().copied());
                    findings.error_with(path, format!("there is no step `{name}`"), hint);
                }
            }
        }
        all.push(needs);
    }
    all
}

fn steps(
    raw: &RawPipeline,
    names: &[&str],
    order: Option<&Order>,
    known: &Known<'_>,
    findings: &mut Findings,
) -> Vec<Option<Step>> {
    raw.steps
        .iter()
        .enumerate()
        .map(|(place, written)| {
            // Without an order every other step counts as seen, so that one mistake is said once.
            let visible: Vec<&str> = match order {
                Some(order) => order.ancestors[place].iter().map(|step| names[*step]).collect(),
                None => names.to_vec(),
            };
            let around = Surroundings { known, steps: names, visible: &visible };
            step(written, &format!("/steps/{place}"), &around, findings)
        })
        .collect()
}

fn select(
    raw: &RawPipeline,
    names: &[&str],
    places: &BTreeMap<usize, usize>,
    known: &Known<'_>,
    findings: &mut Findings,
) -> Option<OutputSelect> {
    match &raw.output {
        None => places.get(&names.len().checked_sub(1)?).copied().map(OutputSelect::Step),
        Some(RawSelect::Step(name)) => {
            let Some(place) = names.iter().position(|known| known == name) else {
                let hint = did_you_mean(name, names.iter().copied());
                findings.error_with("/output", format!("there is no step `{name}`"), hint);
                return None;
            };
            places.get(&place).copied().map(OutputSelect::Step)
        }
        Some(RawSelect::Members(written)) => {
            let around = Surroundings { known, steps: names, visible: names };
            let mut members = Vec::new();
            for (name, source) in written {
                let path = format!("/output/{}", name.replace('~', "~0").replace('/', "~1"));
                let Some(source) = source.as_str() else {
                    findings.error(path, "expected a CEL expression in a string");
                    continue;
                };
                let compiled = expression(&path, source, &COMMON, &around, findings);
                members.extend(compiled.map(|expression| (name.clone(), expression)));
            }
            if written.is_empty() {
                findings.error("/output", "an output has at least one member");
            }
            Some(OutputSelect::Members(members))
        }
    }
}

/// A step that nothing waits for and that is not the output is surely not meant.
fn warn_of_unused(raw: &RawPipeline, needs: &[Vec<usize>], findings: &mut Findings) {
    let last = raw.steps.len().saturating_sub(1);
    for (place, step) in raw.steps.iter().enumerate() {
        let needed = needs.iter().any(|needs| needs.contains(&place));
        let shown = match &raw.output {
            None => place == last,
            Some(RawSelect::Step(name)) => *name == step.name,
            // An expression may read any step; whoever writes expressions knows which.
            Some(RawSelect::Members(_)) => true,
        };
        if !needed && !shown {
            let message = format!("nothing uses the output of step `{}`", step.name);
            let hint = Some("name it in `needs` or in `output`".to_owned());
            findings.warning(format!("/steps/{place}/name"), message, hint);
        }
    }
}
