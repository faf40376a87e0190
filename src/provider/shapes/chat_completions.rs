//! OpenAI's chat completions, and what the many servers that copy them make of it.

use serde::Deserialize;
use serde_json::Value;

use super::{Absorbed, Framing, Shape, readers};
use crate::provider::draft::{Draft, arguments};
use crate::provider::wire::{Content, Count, Present, Text, UsageWire};

/// `/chat/completions`; the older `/completions` reads the same way.
pub static SHAPE: Shape =
    Shape { name: "chat_completions", framing: Framing::Sse, read, read_tree, absorb };

#[derive(Deserialize)]
struct Body<'a> {
    #[serde(borrow, default)]
    id: Text<'a>,
    #[serde(borrow, default)]
    model: Text<'a>,
    #[serde(borrow, default)]
    object: Text<'a>,
    #[serde(borrow, default)]
    choices: Option<Vec<Choice<'a>>>,
    #[serde(default)]
    usage: Option<UsageWire>,
    #[serde(default)]
    error: Present,
    #[serde(default)]
    base_resp: Option<BaseResp>,
}

#[derive(Deserialize)]
struct BaseResp {
    #[serde(default)]
    status_code: Count,
}

#[derive(Deserialize)]
struct Choice<'a> {
    #[serde(default)]
    index: Count,
    #[serde(borrow, default)]
    message: Option<Message<'a>>,
    #[serde(borrow, default)]
    delta: Option<Message<'a>>,
    #[serde(borrow, default)]
    text: Text<'a>,
    #[serde(borrow, default)]
    finish_reason: Text<'a>,
    #[serde(default)]
    error: Present,
}

#[derive(Deserialize)]
struct Message<'a> {
    #[serde(borrow, default)]
    content: Content<'a>,
    #[serde(borrow, default)]
    refusal: Text<'a>,
    #[serde(borrow, default)]
    reasoning_content: Text<'a>,
    #[serde(borrow, default)]
    reasoning: Text<'a>,
    #[serde(borrow, default)]
    tool_calls: Option<Vec<Call<'a>>>,
    #[serde(borrow, default)]
    function_call: Option<Function<'a>>,
}

#[derive(Deserialize)]
struct Call<'a> {
    #[serde(default)]
    index: Option<Count>,
    #[serde(borrow, default)]
    id: Text<'a>,
    #[serde(borrow, default)]
    function: Option<Function<'a>>,
}

#[derive(Deserialize)]
struct Function<'a> {
    #[serde(borrow, default)]
    name: Text<'a>,
    #[serde(default)]
    arguments: Value,
}

readers!(Body);

impl<'a> Body<'a> {
    fn is_error(&self) -> bool {
        self.error.0
            || self.object.is("error")
            || self.base_resp.as_ref().is_some_and(|base| base.status_code.0 != 0)
            || self.choices.iter().flatten().any(|choice| choice.error.0)
    }

    /// The first choice: more than one is never asked for.
    fn take_choice(&mut self) -> Option<Choice<'a>> {
        let choices = self.choices.take()?;
        choices.into_iter().find(|choice| choice.index.0 == 0)
    }

    fn draft(mut self) -> Option<Draft> {
        if self.is_error() {
            return None;
        }
        let mut draft = Draft { answered: true, ..Draft::default() };
        draft.count(self.usage.as_ref());
        if !self.choices.as_ref()?.is_empty() {
            let choice = self.take_choice()?;
            match (&choice.message, &choice.delta, &choice.text.0) {
                (Some(message), _, _) | (None, Some(message), _) => message.pour_into(&mut draft),
                (None, None, Some(text)) => draft.text.push_str(text),
                (None, None, None) => return None,
            }
            draft.end(choice.finish_reason.as_str());
        }
        draft.identify(self.id.non_empty(), self.model.non_empty());
        Some(draft)
    }
}

impl Message<'_> {
    fn pour_into(&self, draft: &mut Draft) {
        draft.pour(&self.content);
        draft.refusal.push_str(self.refusal.as_str());
        // Gateways send both names with the same text.
        let reasoning = if self.reasoning_content.as_str().is_empty() {
            self.reasoning.as_str()
        } else {
            self.reasoning_content.as_str()
        };
        draft.reasoning.push_str(reasoning);
        for call in self.tool_calls.iter().flatten() {
            let index = call.index.map(|index| index.0);
            pour_call(draft, index, call.id.as_str(), call.function.as_ref());
        }
        if let Some(function) = &self.function_call {
            pour_call(draft, Some(0), "", Some(function));
        }
    }
}

fn pour_call(draft: &mut Draft, index: Option<u64>, id: &str, function: Option<&Function<'_>>) {
    // A new call without an index begins with its name; the pieces after it have none.
    let named = function.is_some_and(|function| !function.name.as_str().is_empty());
    let known = draft.calls.len();
    let index = if index.is_none() && named && id.is_empty() {
        Some(u64::try_from(known).unwrap_or(u64::MAX))
    } else {
        index
    };
    let call = draft.call(index, id);
    if call.id.is_empty() {
        call.id.push_str(id);
    }
    if let Some(function) = function {
        if call.name.is_empty() {
            call.name.push_str(function.name.as_str());
        }
        call.arguments.push_str(&arguments(&function.arguments));
    }
}

fn absorb(draft: &mut Draft, _: &str, data: &[u8]) -> Absorbed {
    if data == b"[DONE]" {
        draft.closed = true;
        return Absorbed::Idle;
    }
    let Ok(mut body) = serde_json::from_slice::<Body<'_>>(data) else {
        return Absorbed::Foreign;
    };
    if body.is_error() || (body.choices.is_none() && body.usage.is_none()) {
        return Absorbed::Foreign;
    }
    draft.answered = true;
    draft.count(body.usage.as_ref());
    if let Some(choice) = body.take_choice() {
        match (&choice.delta, &choice.message) {
            (Some(message), _) | (None, Some(message)) => message.pour_into(draft),
            (None, None) => draft.text.push_str(choice.text.as_str()),
        }
        draft.end(choice.finish_reason.as_str());
    }
    draft.identify(body.id.non_empty(), body.model.non_empty());
    Absorbed::Progress
}
