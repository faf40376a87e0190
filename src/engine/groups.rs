//! Groups of targets: one name for several, of which the best comes first for each step.
//!
//! A group can stand wherever a target can. What it means is settled per step and moment, from how
//! its targets stand: see [`crate::resilience::select`].

use std::borrow::Cow;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::Arc;

use super::step::Walk;
use super::targets::Target;
use crate::exchange::{Message, Part, ResponseFormat};
use crate::output::estimate_message_tokens;
use crate::policy::{Decision, TargetCondition, Verdict};
use crate::resilience::select::{Strategy, TargetView, order};

/// A group.
pub struct Group {
    /// Its name, which no target has.
    pub name: Arc<str>,
    /// How it orders its targets.
    pub strategy: Strategy,
    /// Its targets with their weights, as they are listed.
    pub members: Vec<(Arc<Target>, u32)>,
    /// Label of a run whose value a sticky group goes by; the caller if absent.
    pub sticky_by: Option<Arc<str>>,
}

/// What a name stands for.
#[derive(Clone)]
pub enum Choice {
    /// A target.
    Target(Arc<Target>),
    /// A group.
    Group(Arc<Group>),
}

impl Choice {
    /// Every target behind the name, as listed.
    pub fn targets(&self) -> Vec<Arc<Target>> {
        match self {
            Self::Target(target) => vec![target.clone()],
            Self::Group(group) => group.members.iter().map(|(target, _)| target.clone()).collect(),
        }
    }
}

/// What a target may be unable to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Ability {
    /// Images in prompts.
    Images,
    /// Tool calls.
    Tools,
    /// Answers in the form of a JSON schema.
    JsonSchema,
}

/// What a request asks of a target.
pub(super) struct Needs {
    tokens: u64,
    abilities: Vec<Ability>,
}

impl Walk<'_, '_> {
    /// Puts the step's targets into the order in which they are to be asked now.
    pub(super) fn select(&mut self) {
        let Some(choices) = &self.cx.planned.choices else { return };
        let needs = self.needs();
        let mut targets: Vec<Arc<Target>> = Vec::new();
        for choice in choices {
            let of_choice = match choice {
                Choice::Target(target) => vec![target.clone()],
                Choice::Group(group) => self.in_order(group, &needs),
            };
            for target in of_choice {
                if !targets.iter().any(|known| known.name == target.name) {
                    targets.push(target);
                }
            }
        }
        if let Some(first) = targets.first() {
            self.target = first.clone();
            self.targets = Cow::Owned(targets);
        }
    }

    pub(super) fn needs(&self) -> Needs {
        let step = &self.cx.planned.step;
        let answer = step.sampling.max_output_tokens.unwrap_or(0);
        let has_image = |message: &Message| {
            message
                .parts
                .iter()
                .any(|part| matches!(part, Part::ImageUrl(_) | Part::ImageData { .. }))
        };
        let mut abilities = Vec::new();
        if self.prompt.iter().any(has_image) {
            abilities.push(Ability::Images);
        }
        if !step.tools.is_empty() {
            abilities.push(Ability::Tools);
        }
        if matches!(self.cx.planned.response_format, ResponseFormat::JsonSchema { .. }) {
            abilities.push(Ability::JsonSchema);
        }
        let tokens = estimate_message_tokens(&self.prompt).saturating_add(answer.into());
        Needs { tokens, abilities }
    }

    fn in_order(&self, group: &Group, needs: &Needs) -> Vec<Arc<Target>> {
        let views: Vec<TargetView> =
            group.members.iter().map(|(target, weight)| view(target, *weight, needs)).collect();
        let ordered = order(group.strategy, &views, self.seed(group)).into_iter();
        ordered.filter_map(|at| group.members.get(at)).map(|(target, _)| target.clone()).collect()
    }

    /// The key of a sticky group, luck for the others.
    fn seed(&self, group: &Group) -> u64 {
        if group.strategy != Strategy::Sticky {
            return rand::random();
        }
        let label = group.sticky_by.as_ref().and_then(|label| self.cx.run.labels.get(&**label));
        let mut hasher = DefaultHasher::new();
        label.map_or(&*self.cx.run.tenant, String::as_str).hash(&mut hasher);
        hasher.finish()
    }

    /// For each group that a policy may name, the target that it means now: the first that was not
    /// asked in this step.
    pub(super) fn group_targets(&self) -> Vec<(Arc<str>, Arc<Target>)> {
        let mut groups = self.cx.engine.targets().groups().peekable();
        if groups.peek().is_none() {
            return Vec::new();
        }
        let needs = self.needs();
        let meant = groups.filter_map(|group| {
            let is_fresh = |target: &Arc<Target>| {
                target.name != self.target.name && self.history.is_fresh(&target.name)
            };
            let target = self.in_order(group, &needs).into_iter().find(is_fresh)?;
            Some((group.name.clone(), target))
        });
        meant.collect()
    }
}

/// A decision for a group is one for the target that it means.
pub(super) fn resolved(mut decision: Decision, meant: &[(Arc<str>, Arc<Target>)]) -> Decision {
    if let Verdict::Fallback { target } = &mut decision.verdict
        && let Some((_, of_group)) = meant.iter().find(|(name, _)| name == target)
    {
        *target = of_group.name.clone();
    }
    decision
}

/// Conditions of groups, under their names: those of the targets that they mean.
pub(super) fn conditions<'a>(
    meant: &'a [(Arc<str>, Arc<Target>)],
    of_targets: &[TargetCondition<'a>],
) -> Vec<TargetCondition<'a>> {
    let of = |(name, target): &'a (Arc<str>, Arc<Target>)| {
        let condition = of_targets.iter().find(|condition| *condition.name == *target.name)?;
        Some(TargetCondition { name, ..*condition })
    };
    meant.iter().filter_map(of).collect()
}

/// Whether a target has the window and the abilities for a request.
pub(super) fn suits(target: &Target, needs: &Needs) -> bool {
    let window = target.context_window.map(u64::from);
    let fits = window.is_none_or(|window| needs.tokens <= window);
    fits && !needs.abilities.iter().any(|ability| target.lacks.contains(ability))
}

fn view(target: &Target, weight: u32, needs: &Needs) -> TargetView {
    let standing = target.gate.load();
    TargetView {
        weight,
        admits: standing.admits,
        suits: suits(target, needs),
        latency: standing.likely_duration,
        price: target.price.input + target.price.output,
        load: standing.share,
    }
}
