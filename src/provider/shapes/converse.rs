//! Bedrock's Converse. Its streams are AWS event streams; their exceptions are named by the
//! framing and never come here.

use serde::Deserialize;
use serde_json::Value;

use super::{Absorbed, Framing, Shape, readers};
use crate::provider::draft::{Draft, arguments};
use crate::provider::wire::{Count, Present, Text, UsageWire};

/// `/model/…/converse` and `/converse-stream`.
pub static SHAPE: Shape =
    Shape { name: "converse", framing: Framing::AwsEvents, read, read_tree, absorb };

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Body<'a> {
    #[serde(borrow)]
    output: Option<Output<'a>>,
    #[serde(borrow, default)]
    stop_reason: Text<'a>,
    #[serde(default)]
    usage: Option<UsageWire>,
    #[serde(default)]
    error: Present,
}

#[derive(Deserialize)]
struct Output<'a> {
    #[serde(borrow)]
    message: Option<Message<'a>>,
}

#[derive(Deserialize)]
struct Message<'a> {
    #[serde(borrow, default)]
    content: Option<Vec<Block<'a>>>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Block<'a> {
    #[serde(borrow)]
    text: Text<'a>,
    #[serde(borrow)]
    tool_use: Option<ToolUse<'a>>,
    #[serde(borrow)]
    reasoning_content: Option<Reasoning<'a>>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ToolUse<'a> {
    #[serde(borrow)]
    tool_use_id: Text<'a>,
    #[serde(borrow)]
    name: Text<'a>,
    input: Value,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Reasoning<'a> {
    #[serde(borrow)]
    text: Text<'a>,
    #[serde(borrow)]
    reasoning_text: Option<ReasoningText<'a>>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct ReasoningText<'a> {
    #[serde(borrow)]
    text: Text<'a>,
}

readers!(Body);

impl Body<'_> {
    fn draft(self) -> Option<Draft> {
        if self.error.0 {
            return None;
        }
        let mut draft = Draft { answered: true, ..Draft::default() };
        draft.count(self.usage.as_ref());
        for block in self.output?.message?.content.unwrap_or_default() {
            let index = u64::try_from(draft.calls.len()).ok();
            block.pour_into(&mut draft, index);
        }
        draft.end(self.stop_reason.as_str());
        Some(draft)
    }
}

impl Block<'_> {
    fn pour_into(&self, draft: &mut Draft, index: Option<u64>) {
        draft.text.push_str(self.text.as_str());
        if let Some(tool_use) = &self.tool_use {
            let call = draft.call(index, tool_use.tool_use_id.as_str());
            call.name.push_str(tool_use.name.as_str());
            call.arguments.push_str(&arguments(&tool_use.input));
        }
        if let Some(reasoning) = &self.reasoning_content {
            draft.reasoning.push_str(reasoning.text.as_str());
            let nested = reasoning.reasoning_text.as_ref().map_or("", |inner| inner.text.as_str());
            draft.reasoning.push_str(nested);
        }
    }
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Event<'a> {
    content_block_index: Option<Count>,
    #[serde(borrow)]
    start: Option<Block<'a>>,
    #[serde(borrow)]
    delta: Option<Block<'a>>,
    #[serde(borrow)]
    stop_reason: Text<'a>,
    usage: Option<UsageWire>,
}

fn absorb(draft: &mut Draft, name: &str, data: &[u8]) -> Absorbed {
    let Ok(event) = serde_json::from_slice::<Event<'_>>(data) else {
        return Absorbed::Foreign;
    };
    let index = event.content_block_index.map(|index| index.0);
    match name {
        "contentBlockStart" | "contentBlockDelta" => {
            for block in event.start.iter().chain(&event.delta) {
                block.pour_into(draft, index);
            }
        }
        "messageStop" => {
            draft.end(event.stop_reason.as_str());
            draft.closed = true;
        }
        "metadata" => draft.count(event.usage.as_ref()),
        "messageStart" | "contentBlockStop" => (),
        _ => return Absorbed::Idle,
    }
    draft.answered = true;
    Absorbed::Progress
}
