//! Text Generation Inference's own `/generate`, and Hugging Face's inference API in front of it.

use serde::Deserialize;

use super::{Absorbed, Framing, Shape, readers};
use crate::exchange::Usage;
use crate::provider::draft::Draft;
use crate::provider::wire::{Count, Flag, Present, Text, merge};

/// `/generate`, `/generate_stream` and the bare model endpoint of Hugging Face.
pub static SHAPE: Shape =
    Shape { name: "hf_inference", framing: Framing::Sse, read, read_tree, absorb };

#[derive(Deserialize)]
struct Body<'a> {
    #[serde(borrow, default)]
    generated_text: Text<'a>,
    #[serde(borrow, default)]
    token: Option<Token<'a>>,
    #[serde(borrow, default)]
    details: Option<Details<'a>>,
    #[serde(default)]
    error: Present,
}

#[derive(Deserialize)]
struct Token<'a> {
    #[serde(borrow, default)]
    text: Text<'a>,
    #[serde(default)]
    special: Flag,
}

#[derive(Deserialize)]
struct Details<'a> {
    #[serde(borrow, default)]
    finish_reason: Text<'a>,
    #[serde(default)]
    generated_tokens: Count,
}

readers!(Body);

impl Body<'_> {
    fn draft(self) -> Option<Draft> {
        if self.error.0 {
            return None;
        }
        let text = self.generated_text.0.as_deref()?.to_owned();
        let mut draft = Draft { answered: true, text, ..Draft::default() };
        self.close(&mut draft);
        Some(draft)
    }

    fn close(self, draft: &mut Draft) {
        if let Some(details) = self.details {
            draft.end(details.finish_reason.as_str());
            let news = Usage { output_tokens: details.generated_tokens.0, ..Usage::default() };
            merge(&mut draft.usage, news);
        }
    }
}

fn absorb(draft: &mut Draft, _: &str, data: &[u8]) -> Absorbed {
    let Ok(body) = serde_json::from_slice::<Body<'_>>(data) else {
        return Absorbed::Foreign;
    };
    if body.error.0 || (body.token.is_none() && body.generated_text.0.is_none()) {
        return Absorbed::Foreign;
    }
    draft.answered = true;
    if let Some(token) = body.token.as_ref().filter(|token| !token.special.0) {
        draft.text.push_str(token.text.as_str());
    }
    if body.generated_text.0.is_some() {
        draft.closed = true;
        body.close(draft);
    }
    Absorbed::Progress
}
