//! Ollama's own chat and generate calls, whole or as lines of JSON.

use serde::Deserialize;
use serde_json::Value;

use super::{Absorbed, Framing, Shape, readers};
use crate::exchange::Usage;
use crate::provider::draft::{Draft, arguments};
use crate::provider::wire::{Count, Flag, Present, Text, merge};

/// `/api/chat` and `/api/generate`.
pub static SHAPE: Shape =
    Shape { name: "ollama_chat", framing: Framing::JsonLines, read, read_tree, absorb };

#[derive(Deserialize)]
struct Body<'a> {
    #[serde(borrow, default)]
    model: Text<'a>,
    #[serde(borrow, default)]
    message: Option<Message<'a>>,
    #[serde(borrow, default)]
    response: Option<Text<'a>>,
    #[serde(borrow, default)]
    thinking: Text<'a>,
    #[serde(default)]
    done: Option<Flag>,
    #[serde(borrow, default)]
    done_reason: Text<'a>,
    #[serde(default)]
    prompt_eval_count: Count,
    #[serde(default)]
    eval_count: Count,
    #[serde(default)]
    error: Present,
}

#[derive(Deserialize)]
struct Message<'a> {
    #[serde(borrow, default)]
    content: Text<'a>,
    #[serde(borrow, default)]
    thinking: Text<'a>,
    #[serde(borrow, default)]
    tool_calls: Option<Vec<Call<'a>>>,
}

#[derive(Deserialize)]
struct Call<'a> {
    #[serde(borrow, default)]
    id: Text<'a>,
    #[serde(borrow)]
    function: Function<'a>,
}

#[derive(Deserialize)]
struct Function<'a> {
    #[serde(borrow, default)]
    name: Text<'a>,
    #[serde(default)]
    arguments: Value,
}

readers!(Body);

impl Body<'_> {
    fn draft(self) -> Option<Draft> {
        let mut draft = Draft::default();
        self.pour_into(&mut draft)?;
        Some(draft)
    }

    fn pour_into(self, draft: &mut Draft) -> Option<()> {
        if self.error.0 || (self.message.is_none() && self.response.is_none()) {
            return None;
        }
        draft.answered = true;
        let news = Usage {
            input_tokens: self.prompt_eval_count.0,
            output_tokens: self.eval_count.0,
            ..Usage::default()
        };
        merge(&mut draft.usage, news);
        draft.text.push_str(self.response.unwrap_or_default().as_str());
        draft.reasoning.push_str(self.thinking.as_str());
        if let Some(message) = self.message {
            draft.text.push_str(message.content.as_str());
            draft.reasoning.push_str(message.thinking.as_str());
            for call in message.tool_calls.unwrap_or_default() {
                let index = u64::try_from(draft.calls.len()).ok();
                let slot = draft.call(index, call.id.as_str());
                slot.name.push_str(call.function.name.as_str());
                slot.arguments = arguments(&call.function.arguments);
            }
        }
        if self.done.is_some_and(|done| done.0) {
            draft.closed = true;
            draft.end(self.done_reason.as_str());
        }
        draft.identify(None, self.model.non_empty());
        Some(())
    }
}

fn absorb(draft: &mut Draft, _: &str, data: &[u8]) -> Absorbed {
    let body = serde_json::from_slice::<Body<'_>>(data).ok();
    match body.and_then(|body| body.pour_into(draft)) {
        Some(()) => Absorbed::Progress,
        None => Absorbed::Foreign,
    }
}
