//! Asking again: how the next call differs from the step's own, and what there is room for.

use super::checks::Unusable;
use super::step::{StepContext, Walk};
use super::targets::Target;
use crate::exchange::{Message, Payload};
use crate::output::{
    RepromptLimits, continuation, estimate_message_tokens, estimate_tokens, reprompt,
};
use crate::policy::{AfterContent, ReaskRoom};

/// How a call differs from the step's own. It stays for retries of that call, and ends with the
/// next fallback: another target gets the step's own prompt.
#[derive(Debug, Default)]
pub struct Reask {
    /// The prompt, where it is not the step's own.
    pub messages: Option<Vec<Message>>,
    /// The answer's token limit, where it is raised.
    pub max_output_tokens: Option<u32>,
    /// What came before, where only the rest of it is asked for.
    pub continues: Option<Payload>,
    /// Attempts, by index, whose text is part of that.
    pub continued: Vec<usize>,
}

/// Tokens set aside for an answer whose limit is not known.
const ANSWER_TOKENS: u64 = 1024;

impl Walk<'_, '_> {
    /// What a re-ask has room for, and the messages of one that shows the errors.
    pub(super) fn reask_room(&self, unusable: &Unusable) -> (ReaskRoom, Option<Vec<Message>>) {
        let limit = self.reask.max_output_tokens.or_else(|| limit(self.cx, &self.target));
        let prompt = estimate_message_tokens(&self.prompt);
        let window = self.target.context_window.map(u64::from);
        let answer = limit.map_or(ANSWER_TOKENS, u64::from);
        let room_tokens = window.map(|window| window.saturating_sub(prompt.saturating_add(answer)));
        let nothing = Payload::default();
        let said = unusable.said.as_ref().unwrap_or(&nothing);
        let failure = &unusable.failure;
        let limits = RepromptLimits { room_tokens, ..RepromptLimits::default() };
        let contract = &self.cx.planned.contract;
        let shown = reprompt(failure.cause, said, &failure.violations, contract, &limits);
        let rest =
            estimate_tokens(said.expose()) + estimate_message_tokens(&continuation(&nothing));
        let free = window.map(|window| window.saturating_sub(prompt));
        let limit_max = [self.target.max_output_tokens, free.map(saturated)];
        let room = ReaskRoom {
            shown: None,
            errors: shown.is_some(),
            rest: unusable.said.is_some() && room_tokens.is_none_or(|room| rest <= room),
            limit,
            limit_max: limit_max.into_iter().flatten().min(),
        };
        (room, shown.map(|shown| shown.messages))
    }

    /// Works out what it would take to go on with an answer that broke off, and whose beginning a
    /// reader has seen. Whether there is the window for it depends on who goes on.
    pub(super) fn consider_the_rest(&self, unusable: &mut Unusable) {
        let wanted = self.cx.policy.policy.after_content == AfterContent::Continue;
        let Some(outlet) = self.cx.outlet.filter(|outlet| wanted && outlet.has_given()) else {
            return;
        };
        // A call that brought nothing was perhaps one for the rest already.
        unusable.said = unusable.said.take().or_else(|| self.reask.continues.clone());
        let Some(said) = &unusable.said else { return };
        let limit = self.reask.max_output_tokens.or_else(|| limit(self.cx, &self.target));
        let asked = estimate_message_tokens(&self.prompt)
            + estimate_message_tokens(&continuation(said))
            + limit.map_or(ANSWER_TOKENS, u64::from);
        let is_whole = said.expose().len() >= outlet.given();
        unusable.room.shown = is_whole.then_some(asked);
    }

    /// Makes the next call one that asks for the rest of this, if there is anything.
    pub(super) fn go_on(&mut self, said: Option<Payload>) {
        let Some(said) = said else { return };
        let mut messages = self.prompt.clone();
        messages.extend(continuation(&said));
        let mut continued = std::mem::take(&mut self.reask.continued);
        // The attempt under way is recorded behind the others.
        continued.push(self.report.attempts.len());
        self.reask = Reask {
            messages: Some(messages),
            max_output_tokens: self.reask.max_output_tokens,
            continues: Some(said),
            continued,
        };
    }

    /// Makes the next call one that shows the errors, has a higher limit, or asks for the rest.
    pub(super) fn ask_again(
        &mut self,
        unusable: Unusable,
        max_output_tokens: Option<u32>,
        continue_cut: bool,
    ) {
        let behind_prompt = |added: Vec<Message>| {
            let mut messages = self.prompt.clone();
            messages.extend(added);
            Some(messages)
        };
        let limit = max_output_tokens.or(self.reask.max_output_tokens);
        self.reask = match (continue_cut, unusable.said, max_output_tokens) {
            (true, Some(said), _) => {
                let mut continued = std::mem::take(&mut self.reask.continued);
                // The attempt under way is recorded behind the others.
                continued.push(self.report.attempts.len());
                Reask {
                    messages: behind_prompt(continuation(&said)),
                    max_output_tokens: limit,
                    continues: Some(said),
                    continued,
                }
            }
            // A higher limit is all that the same prompt lacked.
            (false, _, Some(_)) => Reask { max_output_tokens: limit, ..Reask::default() },
            (true, None, _) | (false, _, None) => Reask {
                messages: unusable.reask.and_then(behind_prompt),
                max_output_tokens: limit,
                ..Reask::default()
            },
        };
    }
}

/// The token limit of an answer as it is asked of a target.
pub fn limit(cx: &StepContext<'_>, target: &Target) -> Option<u32> {
    let own = cx.planned.step.sampling.max_output_tokens;
    [own, target.max_output_tokens].into_iter().flatten().min()
}

fn saturated(tokens: u64) -> u32 {
    u32::try_from(tokens).unwrap_or(u32::MAX)
}
