//! OpenAI's Responses. A stream's last event repeats the whole response, so the deltas before it
//! only serve those who watch; the last event counts.

use serde::Deserialize;
use serde_json::Value;

use super::{Absorbed, Framing, Shape, readers};
use crate::provider::draft::{Draft, Ending, arguments};
use crate::provider::wire::{Content, Present, Text, UsageWire};

/// `/v1/responses`.
pub static SHAPE: Shape =
    Shape { name: "responses", framing: Framing::Sse, read, read_tree, absorb };

#[derive(Deserialize)]
struct Body<'a> {
    #[serde(borrow, default)]
    id: Text<'a>,
    #[serde(borrow, default)]
    model: Text<'a>,
    #[serde(borrow, default)]
    status: Text<'a>,
    #[serde(borrow, default)]
    output: Option<Vec<Item<'a>>>,
    #[serde(borrow, default)]
    incomplete_details: Option<Incomplete<'a>>,
    #[serde(default)]
    usage: Option<UsageWire>,
    #[serde(default)]
    error: Present,
}

#[derive(Deserialize)]
struct Incomplete<'a> {
    #[serde(borrow, default)]
    reason: Text<'a>,
}

#[derive(Deserialize)]
struct Item<'a> {
    #[serde(borrow, default, rename = "type")]
    kind: Text<'a>,
    #[serde(borrow, default)]
    content: Content<'a>,
    #[serde(borrow, default)]
    summary: Content<'a>,
    #[serde(borrow, default)]
    call_id: Text<'a>,
    #[serde(borrow, default)]
    name: Text<'a>,
    #[serde(default)]
    arguments: Value,
}

readers!(Body);

impl Body<'_> {
    fn draft(self) -> Option<Draft> {
        if self.error.0 {
            return None;
        }
        let mut draft = Draft { answered: true, ..Draft::default() };
        draft.count(self.usage.as_ref());
        for item in self.output? {
            item.pour_into(&mut draft);
        }
        let reason = self.incomplete_details.map(|details| details.reason).unwrap_or_default();
        match self.status.as_str() {
            "failed" | "cancelled" => draft.ending = Some(Ending::Failed),
            "incomplete" if !reason.as_str().is_empty() => draft.end(reason.as_str()),
            "incomplete" => draft.ending = Some(Ending::Length),
            status => draft.end(status),
        }
        draft.closed = true;
        draft.identify(self.id.non_empty(), self.model.non_empty());
        Some(draft)
    }
}

impl Item<'_> {
    fn pour_into(&self, draft: &mut Draft) {
        match self.kind.as_str() {
            "message" => draft.pour(&self.content),
            "reasoning" => {
                draft.pour_reasoning(&self.summary);
                draft.pour_reasoning(&self.content);
            }
            "function_call" => {
                let index = u64::try_from(draft.calls.len()).ok();
                let call = draft.call(index, self.call_id.as_str());
                call.name.push_str(self.name.as_str());
                call.arguments = arguments(&self.arguments);
            }
            _ => (),
        }
    }
}

#[derive(Deserialize)]
struct Event<'a> {
    #[serde(borrow, default, rename = "type")]
    kind: Text<'a>,
    #[serde(borrow, default)]
    delta: Text<'a>,
    #[serde(borrow, default)]
    response: Option<Body<'a>>,
    #[serde(borrow, default)]
    item: Option<Item<'a>>,
    #[serde(default)]
    error: Present,
}

fn absorb(draft: &mut Draft, _: &str, data: &[u8]) -> Absorbed {
    if data == b"[DONE]" {
        draft.closed = true;
        return Absorbed::Idle;
    }
    let Ok(event) = serde_json::from_slice::<Event<'_>>(data) else {
        return Absorbed::Foreign;
    };
    if event.error.0 || event.response.as_ref().is_some_and(|response| response.error.0) {
        return Absorbed::Foreign;
    }
    match event.kind.as_str() {
        "response.output_text.delta" => draft.text.push_str(event.delta.as_str()),
        "response.refusal.delta" => draft.refusal.push_str(event.delta.as_str()),
        "response.reasoning_summary_text.delta" | "response.reasoning_text.delta" => {
            draft.reasoning.push_str(event.delta.as_str());
        }
        "response.output_item.done" => {
            if let Some(item) = event.item.filter(|item| item.kind.is("function_call")) {
                item.pour_into(draft);
            }
        }
        "response.completed" | "response.incomplete" | "response.done" | "response.failed" => {
            close(draft, event.response);
        }
        "" | "error" => return Absorbed::Foreign,
        kind if kind.starts_with("response.") => {
            if let Some(response) = event.response {
                draft.identify(response.id.non_empty(), response.model.non_empty());
            }
        }
        _ => return Absorbed::Idle,
    }
    draft.answered = true;
    Absorbed::Progress
}

/// The last event's response takes the place of the deltas, except where it leaves out what they
/// said; servers that copy the API do.
fn close(draft: &mut Draft, response: Option<Body<'_>>) {
    draft.closed = true;
    let Some(last) = response.and_then(Body::draft) else { return };
    let keep = |old: &mut String, new: String| {
        if !new.is_empty() {
            *old = new;
        }
    };
    keep(&mut draft.text, last.text);
    keep(&mut draft.reasoning, last.reasoning);
    keep(&mut draft.refusal, last.refusal);
    if !last.calls.is_empty() {
        draft.calls = last.calls;
    }
    draft.ending = draft.ending.take().or(last.ending);
    draft.identify(last.id, last.model);
    crate::provider::wire::merge(&mut draft.usage, last.usage);
}
