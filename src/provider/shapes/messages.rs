//! Anthropic's messages. Blocks, deltas and events of unknown types are skipped, as its
//! documentation asks of clients.

use serde::Deserialize;
use serde_json::Value;

use super::{Absorbed, Framing, Shape, readers};
use crate::provider::draft::{Draft, arguments};
use crate::provider::wire::{Count, Present, Text, UsageWire};

/// `/v1/messages`.
pub static SHAPE: Shape =
    Shape { name: "messages", framing: Framing::Sse, read, read_tree, absorb };

#[derive(Deserialize)]
struct Body<'a> {
    #[serde(borrow, default, rename = "type")]
    kind: Text<'a>,
    #[serde(borrow, default)]
    id: Text<'a>,
    #[serde(borrow, default)]
    model: Text<'a>,
    #[serde(borrow)]
    content: Option<Vec<Block<'a>>>,
    #[serde(borrow, default)]
    stop_reason: Text<'a>,
    #[serde(borrow, default)]
    stop_details: Option<StopDetails<'a>>,
    #[serde(default)]
    usage: Option<UsageWire>,
    #[serde(default)]
    error: Present,
}

#[derive(Deserialize)]
struct Block<'a> {
    #[serde(borrow, default, rename = "type")]
    kind: Text<'a>,
    #[serde(borrow, default)]
    text: Text<'a>,
    #[serde(borrow, default)]
    thinking: Text<'a>,
    #[serde(borrow, default)]
    id: Text<'a>,
    #[serde(borrow, default)]
    name: Text<'a>,
    #[serde(default)]
    input: Value,
}

#[derive(Deserialize)]
struct StopDetails<'a> {
    #[serde(borrow, default)]
    explanation: Text<'a>,
}

readers!(Body);

impl Body<'_> {
    fn draft(self) -> Option<Draft> {
        if self.error.0 || self.kind.is("error") {
            return None;
        }
        let mut draft = Draft { answered: true, ..Draft::default() };
        draft.count(self.usage.as_ref());
        for block in self.content? {
            block.pour_into(&mut draft, None);
        }
        draft.end(self.stop_reason.as_str());
        if let Some(details) = self.stop_details {
            draft.explanation = details.explanation.non_empty().unwrap_or_default();
        }
        draft.identify(self.id.non_empty(), self.model.non_empty());
        Some(draft)
    }
}

impl Block<'_> {
    fn pour_into(&self, draft: &mut Draft, index: Option<u64>) {
        match self.kind.as_str() {
            "text" => draft.text.push_str(self.text.as_str()),
            "thinking" => draft.reasoning.push_str(self.thinking.as_str()),
            "tool_use" => {
                let index = index.or(u64::try_from(draft.calls.len()).ok());
                let call = draft.call(index, self.id.as_str());
                call.name = self.name.as_str().to_owned();
                // In a stream the input starts as `{}` and follows in pieces.
                if self.input.as_object().is_some_and(|input| !input.is_empty()) {
                    call.arguments = arguments(&self.input);
                }
            }
            _ => (),
        }
    }
}

#[derive(Deserialize)]
struct Event<'a> {
    #[serde(borrow, default, rename = "type")]
    kind: Text<'a>,
    #[serde(default)]
    index: Option<Count>,
    #[serde(borrow, default)]
    message: Option<Start<'a>>,
    #[serde(borrow, default)]
    content_block: Option<Block<'a>>,
    #[serde(borrow, default)]
    delta: Option<Delta<'a>>,
    #[serde(default)]
    usage: Option<UsageWire>,
    #[serde(default)]
    error: Present,
}

#[derive(Deserialize)]
struct Start<'a> {
    #[serde(borrow, default)]
    id: Text<'a>,
    #[serde(borrow, default)]
    model: Text<'a>,
    #[serde(default)]
    usage: Option<UsageWire>,
}

#[derive(Deserialize)]
struct Delta<'a> {
    #[serde(borrow, default)]
    text: Text<'a>,
    #[serde(borrow, default)]
    thinking: Text<'a>,
    #[serde(borrow, default)]
    partial_json: Text<'a>,
    #[serde(borrow, default)]
    stop_reason: Text<'a>,
    #[serde(borrow, default)]
    stop_details: Option<StopDetails<'a>>,
}

fn absorb(draft: &mut Draft, _: &str, data: &[u8]) -> Absorbed {
    let Ok(event) = serde_json::from_slice::<Event<'_>>(data) else {
        return Absorbed::Foreign;
    };
    if event.error.0 {
        return Absorbed::Foreign;
    }
    let index = event.index.map(|index| index.0);
    match event.kind.as_str() {
        "message_start" => {
            if let Some(start) = event.message {
                draft.count(start.usage.as_ref());
                draft.identify(start.id.non_empty(), start.model.non_empty());
            }
        }
        "content_block_start" => {
            if let Some(block) = event.content_block {
                block.pour_into(draft, index);
            }
        }
        "content_block_delta" => {
            let Some(delta) = event.delta else { return Absorbed::Foreign };
            draft.text.push_str(delta.text.as_str());
            draft.reasoning.push_str(delta.thinking.as_str());
            if let Some(piece) = delta.partial_json.0 {
                draft.call(index, "").arguments.push_str(&piece);
            }
        }
        "message_delta" => {
            draft.count(event.usage.as_ref());
            if let Some(delta) = event.delta {
                draft.end(delta.stop_reason.as_str());
                if let Some(details) = delta.stop_details {
                    draft.explanation = details.explanation.non_empty().unwrap_or_default();
                }
            }
        }
        "message_stop" => draft.closed = true,
        "ping" => return Absorbed::Idle,
        "content_block_stop" => (),
        "" | "error" => return Absorbed::Foreign,
        _ => return Absorbed::Idle,
    }
    draft.answered = true;
    Absorbed::Progress
}
