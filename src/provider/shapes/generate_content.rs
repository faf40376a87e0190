//! Gemini's and Vertex AI's generateContent. A blocked prompt is a success without candidates, a
//! tool call ends with `STOP`, and a stream has no terminal marker but its last finish reason.

use serde::Deserialize;
use serde_json::Value;

use super::{Absorbed, Framing, Shape, readers};
use crate::provider::draft::{Draft, Ending, arguments};
use crate::provider::wire::{Flag, Present, Text, UsageWire};

/// `:generateContent` and `:streamGenerateContent`.
pub static SHAPE: Shape =
    Shape { name: "generate_content", framing: Framing::Sse, read, read_tree, absorb };

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Body<'a> {
    #[serde(borrow, default)]
    candidates: Option<Vec<Candidate<'a>>>,
    #[serde(borrow, default)]
    prompt_feedback: Option<Feedback<'a>>,
    #[serde(default)]
    usage_metadata: Option<UsageWire>,
    #[serde(borrow, default)]
    response_id: Text<'a>,
    #[serde(borrow, default)]
    model_version: Text<'a>,
    #[serde(default)]
    error: Present,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Candidate<'a> {
    #[serde(borrow, default)]
    content: Option<Content<'a>>,
    #[serde(borrow, default)]
    finish_reason: Text<'a>,
}

#[derive(Deserialize)]
struct Content<'a> {
    #[serde(borrow, default)]
    parts: Option<Vec<Piece<'a>>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Piece<'a> {
    #[serde(borrow, default)]
    text: Text<'a>,
    #[serde(default)]
    thought: Flag,
    #[serde(borrow, default)]
    function_call: Option<Call<'a>>,
}

#[derive(Deserialize)]
struct Call<'a> {
    #[serde(borrow, default)]
    id: Text<'a>,
    #[serde(borrow, default)]
    name: Text<'a>,
    #[serde(default)]
    args: Value,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Feedback<'a> {
    #[serde(borrow, default)]
    block_reason: Text<'a>,
}

readers!(Body);

impl Body<'_> {
    fn draft(self) -> Option<Draft> {
        let mut draft = Draft::default();
        self.pour_into(&mut draft)?;
        Some(draft)
    }

    /// `None` when nothing of it is this protocol.
    fn pour_into(self, draft: &mut Draft) -> Option<()> {
        let known = self.candidates.is_some()
            || self.prompt_feedback.is_some()
            || self.usage_metadata.is_some();
        if self.error.0 || !known {
            return None;
        }
        draft.answered = true;
        draft.count(self.usage_metadata.as_ref());
        if let Some(candidate) = self.candidates.and_then(|list| list.into_iter().next()) {
            for piece in candidate.content.and_then(|content| content.parts).unwrap_or_default() {
                piece.pour_into(draft);
            }
            let reason = candidate.finish_reason.as_str();
            if reason != "FINISH_REASON_UNSPECIFIED" {
                draft.end(reason);
            }
        }
        let block = self.prompt_feedback.map(|feedback| feedback.block_reason).unwrap_or_default();
        if !matches!(block.as_str(), "" | "BLOCK_REASON_UNSPECIFIED" | "BLOCKED_REASON_UNSPECIFIED")
        {
            draft.ending = Some(Ending::Filtered);
        }
        draft.identify(self.response_id.non_empty(), self.model_version.non_empty());
        Some(())
    }
}

impl Piece<'_> {
    fn pour_into(&self, draft: &mut Draft) {
        if let Some(call) = &self.function_call {
            let index = u64::try_from(draft.calls.len()).ok();
            let slot = draft.call(index, call.id.as_str());
            slot.name.push_str(call.name.as_str());
            slot.arguments = arguments(&call.args);
        } else if self.thought.0 {
            draft.reasoning.push_str(self.text.as_str());
        } else {
            draft.text.push_str(self.text.as_str());
        }
    }
}

fn absorb(draft: &mut Draft, _: &str, data: &[u8]) -> Absorbed {
    if data == b"[DONE]" {
        draft.closed = true;
        return Absorbed::Idle;
    }
    let body = serde_json::from_slice::<Body<'_>>(data).ok();
    match body.and_then(|body| body.pour_into(draft)) {
        Some(()) => Absorbed::Progress,
        None => Absorbed::Foreign,
    }
}
