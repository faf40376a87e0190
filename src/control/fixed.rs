//! Fixed outputs of policies, held against the steps that they may be given out for.
//!
//! A policy is for many steps, and what it answers with is for one shape of output. Where the two
//! do not meet, the step gets no answer (`engine::act`), which nobody wants to learn in an outage.

use serde_json::Value;

use super::Source;
use crate::document::{Document, Node, NodeValue, Position, Problem};
use crate::engine::active_policy::{PipelineVersion, PolicyVersion, Snapshot};
use crate::failure::FailureCause;
use crate::pipeline::{OutputSpec, Schema};
use crate::policy::{Ladder, Rung};

/// A step whose output has a schema.
struct Shaped<'a> {
    pipeline: &'a str,
    step: &'a str,
    schema: &'a Schema,
}

impl std::fmt::Display for Shaped<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "step `{}` of pipeline `{}`", self.step, self.pipeline)
    }
}

/// Steps of a pipeline whose output has a schema, each with its index.
fn shaped(version: &PipelineVersion) -> impl Iterator<Item = (usize, Shaped<'_>)> {
    version.planned.steps.iter().enumerate().filter_map(|(at, planned)| {
        match &planned.step.output {
            OutputSpec::Json { schema: Some(schema), .. } => {
                let step = &*planned.step.name;
                Some((at, Shaped { pipeline: &version.name, step, schema }))
            }
            OutputSpec::Json { schema: None, .. } | OutputSpec::Text { .. } => None,
        }
    })
}

/// Something fixed that a policy holds, with its place.
struct Fixed<'a> {
    path: String,
    node: &'a Node,
    /// The override that it belongs to.
    within: Option<&'a str>,
}

/// What a policy would answer with, or fill in, that fits no step or not every step under it.
pub(super) fn of_policy(
    source: &Source,
    version: &PolicyVersion,
    snapshot: &Snapshot,
    default_policy: &str,
) -> Vec<Problem> {
    if !source.text.contains("template") && !source.text.contains("defaults") {
        return Vec::new(); // Most policies: nothing to look for.
    }
    let Ok(document) = Document::parse(source.origin.clone(), source.text.clone()) else {
        return Vec::new();
    };
    let mut found = [Vec::new(), Vec::new()];
    collect(&document.root, &mut String::new(), None, &mut found);
    let name = &*version.reference.name;
    let mut pipelines: Vec<&PipelineVersion> = snapshot.pipelines.values().map(|p| &**p).collect();
    pipelines
        .retain(|one| one.planned.pipeline.policy.as_deref().unwrap_or(default_policy) == name);
    pipelines.sort_by(|one, other| one.name.cmp(&other.name));
    let steps: Vec<Shaped<'_>> =
        pipelines.into_iter().flat_map(shaped).map(|(_, step)| step).collect();
    let [templates, defaults] = found;
    let templates = templates.iter().filter_map(|fixed| misfit(fixed, &steps, version));
    let defaults = defaults.iter().flat_map(|fixed| unknown(fixed, &steps));
    templates.chain(defaults).collect()
}

/// Fixed outputs and defaults below a node, each once even where an alias repeats it.
fn collect<'a>(
    node: &'a Node,
    path: &mut String,
    within: Option<&'a str>,
    found: &mut [Vec<Fixed<'a>>; 2],
) {
    let length = path.len();
    match &node.value {
        NodeValue::Map(members) => {
            for (key, _, value) in members {
                path.push('/');
                path.push_str(&key.replace('~', "~0").replace('/', "~1"));
                let parent = &path[..path.len() - key.len() - 1];
                let list = match key.as_str() {
                    "template" if parent.ends_with("/fallback_to_template") => Some(0),
                    "defaults" if parent.ends_with("/accept_partial") => Some(1),
                    _ => None,
                };
                match list {
                    Some(at) => {
                        if !found[at].iter().any(|one| one.node.position == value.position) {
                            found[at].push(Fixed { path: path.clone(), node: value, within });
                        }
                    }
                    None => collect(value, path, within, found),
                }
                path.truncate(length);
            }
        }
        NodeValue::List(items) => {
            let of_overrides = path.ends_with("/overrides");
            for (at, item) in items.iter().enumerate() {
                path.push_str(&format!("/{at}"));
                let within = if of_overrides { name_of(item) } else { within };
                collect(item, path, within, found);
                path.truncate(length);
            }
        }
        NodeValue::Null | NodeValue::Bool(_) | NodeValue::Number(_) | NodeValue::Text(_) => {}
    }
}

fn name_of(node: &Node) -> Option<&str> {
    let NodeValue::Map(members) = &node.value else { return None };
    members.iter().find(|(key, ..)| key == "name").and_then(|(_, _, value)| match &value.value {
        NodeValue::Text(name) => Some(name.as_str()),
        NodeValue::Null
        | NodeValue::Bool(_)
        | NodeValue::Number(_)
        | NodeValue::List(_)
        | NodeValue::Map(_) => None,
    })
}

/// An output that breaks the schema of a step that it may be given out for.
fn misfit(fixed: &Fixed<'_>, steps: &[Shaped<'_>], version: &PolicyVersion) -> Option<Problem> {
    let value = fixed.node.to_json();
    let own = fixed
        .within
        .and_then(|name| version.policy.routing.overrides().find(|one| *one.of().name == *name));
    let may_hold =
        |step: &&Shaped<'_>| own.is_none_or(|own| own.may_hold_for(step.pipeline, step.step));
    let broken = steps.iter().filter(may_hold);
    let broken: Vec<_> =
        broken.filter_map(|step| Some((step, step.schema.violations(&value).pop()?))).collect();
    let (first, why) = broken.first()?;
    let others = match broken.len() - 1 {
        0 => String::new(),
        1 => ", and that of one other".to_owned(),
        more => format!(", and those of {more} others"),
    };
    let place = if why.path.is_empty() { String::new() } else { format!("{}: ", why.path) };
    let message = format!(
        "does not satisfy the output of {first} ({place}{}){others}: it fails instead",
        why.message
    );
    Some(Problem::warning(fixed.path.clone(), fixed.node.position, message))
}

/// Defaults for members that no step under the policy has.
fn unknown(fixed: &Fixed<'_>, steps: &[Shaped<'_>]) -> Vec<Problem> {
    let NodeValue::Map(members) = &fixed.node.value else { return Vec::new() };
    let nobodys = |name: &str| {
        !steps.is_empty() && steps.iter().all(|step| lacks(step.schema.source(), name))
    };
    let nobodys = members.iter().filter(|(name, ..)| nobodys(name));
    let warn = |(name, position, _): &(String, Position, Node)| {
        let path = format!("{}/{}", fixed.path, name.replace('~', "~0").replace('/', "~1"));
        let message = "no output of a step under this policy has such a member";
        Problem::warning(path, *position, message)
    };
    nobodys.map(warn).collect()
}

/// Whether a schema of plain objects has no member at a JSON Pointer, or of this name at its top.
/// What is put together from other schemas may have anything.
fn lacks(schema: &Value, name: &str) -> bool {
    let pointer = name.strip_prefix('/').unwrap_or(name);
    let mut tokens = pointer.split('/').take(if name.starts_with('/') { usize::MAX } else { 1 });
    let mut at = schema;
    tokens.any(|token| {
        let token = token.replace("~1", "/").replace("~0", "~");
        let plain = at.get("additionalProperties") == Some(&Value::Bool(false));
        let Some(properties) = at.get("properties").filter(|_| plain) else {
            at = &Value::Null;
            return false;
        };
        match properties.get(&token) {
            Some(inner) => {
                at = inner;
                false
            }
            None => true,
        }
    })
}

/// What the policy of a pipeline would answer with that does not fit the pipeline's steps.
pub(super) fn of_pipeline(
    source: &Source,
    version: &PipelineVersion,
    snapshot: &Snapshot,
    default_policy: &str,
) -> Vec<Problem> {
    let name = version.planned.pipeline.policy.as_deref().unwrap_or(default_policy);
    let Some(policy) = snapshot.policies.get(name) else { return Vec::new() };
    let routing = &policy.policy.routing;
    let mut problems = Vec::new();
    for (at, step) in shaped(version) {
        let overrides = routing
            .overrides()
            .filter(|one| one.may_hold_for(step.pipeline, step.step))
            .flat_map(|one| one.ladders().map(|(_, ladder)| ladder));
        let table = FailureCause::ALL.iter().map(|cause| routing.of_cause(*cause));
        let broken = overrides.chain(table).find(|ladder| breaks(ladder, step.schema));
        let Some(ladder) = broken else { continue };
        let path = format!("/steps/{at}/output");
        let document = Document::parse(source.origin.clone(), source.text.clone());
        let position = document.map_or(Position::START, |document| document.position_of(&path));
        let message = format!(
            "policy `{name}` would answer for this step with a template that does not satisfy its schema ({}): it fails instead",
            ladder.rule
        );
        problems.push(Problem::warning(path, position, message));
    }
    problems
}

fn breaks(ladder: &Ladder, schema: &Schema) -> bool {
    ladder.rungs.iter().any(|rung| match rung {
        Rung::FallbackToTemplate { template: Some(value) } => !schema.violations(value).is_empty(),
        Rung::FallbackToTemplate { template: None }
        | Rung::RetryWithBackoff { .. }
        | Rung::RepairOutput { .. }
        | Rung::RepromptWithErrors { .. }
        | Rung::FallbackToTarget { .. }
        | Rung::FallbackToCache { .. }
        | Rung::AcceptPartial { .. }
        | Rung::AlertAndDegrade
        | Rung::RejectAndFix { .. }
        | Rung::AlertAndHalt => false,
    })
}
