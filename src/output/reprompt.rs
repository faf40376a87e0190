//! The words of a re-ask: the model sees its own output and what is wrong with it.
//!
//! A re-ask costs a call and can make things worse when it is vague, so each cause has its own
//! words, the violations are named by path, and everything is bounded: a megabyte of broken
//! output does not go back to the model, and what does not fit the target's window is not sent.
//! Failures of the infrastructure say nothing about the output and never lead here.

use super::contract::Contract;
use crate::exchange::{Message, Part, Payload, Role};
use crate::failure::{FailureCause, FailureDomain, Violation};

/// Bounds of a re-ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RepromptLimits {
    /// Characters of the model's own output that are shown to it.
    pub output_chars_max: usize,
    /// Violations listed.
    pub violations_max: usize,
    /// Characters of the schema that are shown; a longer one is left out.
    pub schema_chars_max: usize,
    /// Tokens that the added messages may take: the target's window without the prompt and the
    /// answer due. `None` when the window is not known.
    pub room_tokens: Option<u64>,
}

impl Default for RepromptLimits {
    fn default() -> Self {
        Self {
            output_chars_max: 4000,
            violations_max: 12,
            schema_chars_max: 4000,
            room_tokens: None,
        }
    }
}

/// The messages that go behind the step's own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reprompt {
    /// The model's own output, where it is worth showing, and the request to correct it.
    pub messages: Vec<Message>,
    /// Estimated tokens of the messages.
    pub tokens: u64,
    /// The output is not shown in full.
    pub output_shortened: bool,
}

/// Builds the re-ask for a failure of the output. `None` when the cause is no failure of the
/// output, or when even the shortest form does not fit the room.
pub fn reprompt(
    cause: FailureCause,
    output: &Payload,
    violations: &[Violation],
    contract: &Contract,
    limits: &RepromptLimits,
) -> Option<Reprompt> {
    if cause.domain() != FailureDomain::OutputSemantic {
        return None;
    }
    let mut chars_max = if shows_output(cause) { limits.output_chars_max } else { 0 };
    let mut schema_chars_max = limits.schema_chars_max;
    loop {
        let built = build(cause, output, violations, contract, limits, chars_max, schema_chars_max);
        if limits.room_tokens.is_none_or(|room| built.tokens <= room) {
            return Some(built);
        }
        // The schema goes first: the first prompt already had it.
        if schema_chars_max > 0 {
            schema_chars_max = 0;
        } else if chars_max > 200 {
            chars_max /= 2;
        } else if chars_max > 0 {
            chars_max = 0;
        } else {
            return None;
        }
    }
}

/// Asks for the rest of an answer that was cut: what goes behind the step's own messages. All of
/// what came is shown, or the model could not go on from it.
pub fn continuation(said: &Payload) -> Vec<Message> {
    vec![
        Message::text(Role::Assistant, said.clone()),
        Message::text(
            Role::User,
            "Your answer was cut off. Go on exactly where it stopped, in the middle of a word if \
             need be. Write only the rest: repeat nothing, explain nothing, add no code fence.",
        ),
    ]
}

/// A careful estimate of the tokens in messages; an image counts as much as a large one costs.
pub fn estimate_message_tokens(messages: &[Message]) -> u64 {
    const IMAGE_TOKENS: u64 = 1500;
    let parts = messages.iter().flat_map(|message| &message.parts);
    parts
        .map(|part| match part {
            Part::Text(text) => estimate_tokens(text.expose()),
            Part::ImageUrl(_) | Part::ImageData { .. } => IMAGE_TOKENS,
        })
        .sum()
}

/// A careful estimate of the tokens in a text, without the model's tokenizer: English takes about
/// four characters a token, JSON about three, other scripts up to one.
pub fn estimate_tokens(text: &str) -> u64 {
    let (mut plain, mut other) = (0_u64, 0_u64);
    for c in text.chars() {
        if c.is_ascii() { plain += 1 } else { other += 1 }
    }
    plain.div_ceil(3) + other + MESSAGE_TOKENS
}

const MESSAGE_TOKENS: u64 = 4;

fn build(
    cause: FailureCause,
    output: &Payload,
    violations: &[Violation],
    contract: &Contract,
    limits: &RepromptLimits,
    chars_max: usize,
    schema_chars_max: usize,
) -> Reprompt {
    let shown = shortened(output.expose(), chars_max);
    let shortened = shown.len() < output.len();
    let mut messages = Vec::new();
    let mut tokens = 0;
    if !shown.trim().is_empty() {
        tokens += estimate_tokens(&shown);
        messages.push(Message::text(Role::Assistant, shown));
    }
    let mut request = opening(cause).to_owned();
    list_violations(&mut request, violations, limits.violations_max);
    request.push_str(closing(cause, contract));
    if let Some(schema) = contract.schema_document().filter(|_| wants_schema(cause)) {
        let schema = schema.to_string();
        if schema.chars().count() <= schema_chars_max {
            request.push_str("\nThe JSON Schema:\n");
            request.push_str(&schema);
        }
    }
    tokens += estimate_tokens(&request);
    messages.push(Message::text(Role::User, request));
    Reprompt { messages, tokens, output_shortened: shortened }
}

fn list_violations(request: &mut String, violations: &[Violation], violations_max: usize) {
    for violation in violations.iter().take(violations_max) {
        let path = if violation.path.is_empty() { "the whole answer" } else { &violation.path };
        request.push_str("\n- ");
        request.push_str(path);
        request.push_str(": ");
        request.push_str(&violation.message);
    }
    if violations.len() > violations_max {
        request.push_str(&format!("\n- and {} more", violations.len() - violations_max));
    }
    if !violations.is_empty() {
        request.push('\n');
    }
}

/// Whether the model gains from seeing its output again. A refusal that it reads again is a
/// refusal that it repeats.
fn shows_output(cause: FailureCause) -> bool {
    !matches!(cause, FailureCause::Refusal | FailureCause::EmptyOutput)
}

fn wants_schema(cause: FailureCause) -> bool {
    matches!(
        cause,
        FailureCause::MalformedJson | FailureCause::SchemaMismatch | FailureCause::EmptyOutput
    )
}

fn opening(cause: FailureCause) -> &'static str {
    match cause {
        FailureCause::EmptyOutput => "Your previous answer was empty.",
        FailureCause::Refusal => {
            "Your previous answer did not carry out the task. Carry out what you can of it and leave out the rest."
        }
        FailureCause::MalformedJson => "Your previous answer is not valid JSON.",
        FailureCause::SchemaMismatch => "Your previous answer does not satisfy the required form:",
        FailureCause::TruncatedOutput => {
            "Your previous answer was cut off because it was too long. Answer again from the beginning, shorter."
        }
        FailureCause::RuleViolation => "Your previous answer breaks these rules:",
        FailureCause::LowConfidence => {
            "Your previous answer was not certain enough. Check it against the task and answer again."
        }
        other => other.summary(),
    }
}

fn closing(cause: FailureCause, contract: &Contract) -> &'static str {
    match (contract.wants_json(), cause) {
        (true, FailureCause::SchemaMismatch | FailureCause::RuleViolation) => {
            "\nCorrect exactly this and keep the rest. Reply with the complete corrected JSON only: no explanation, no code fence."
        }
        (true, _) => {
            "\nReply with the complete JSON only: no explanation, no code fence, nothing before or after it."
        }
        (false, _) => "\nReply with the complete answer only.",
    }
}

/// The beginning and the end of a text that is too long.
fn shortened(text: &str, chars_max: usize) -> String {
    let chars = text.chars().count();
    if chars <= chars_max {
        return text.to_owned();
    }
    if chars_max == 0 {
        return String::new();
    }
    let head: String = text.chars().take(chars_max * 2 / 3).collect();
    let tail: String = text.chars().skip(chars - chars_max / 3).collect();
    format!(
        "{head}\n[… {} characters left out …]\n{tail}",
        chars - chars_max * 2 / 3 - chars_max / 3
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::ContractOptions;

    fn ask(
        cause: FailureCause,
        output: &str,
        limits: &RepromptLimits,
    ) -> Option<(usize, String, Reprompt)> {
        let violations = [Violation { path: "/age".into(), message: "not an integer".into() }];
        let contract = Contract::json(ContractOptions::default());
        let reprompt = reprompt(cause, &Payload::from(output), &violations, &contract, limits)?;
        let text = match reprompt.messages.last().map(|message| message.parts.as_slice()) {
            Some([Part::Text(text)]) => text.expose().to_owned(),
            _ => String::new(),
        };
        Some((reprompt.messages.len(), text, reprompt))
    }

    #[test]
    fn violations_are_named_by_path() {
        let (messages, text, _) =
            ask(FailureCause::SchemaMismatch, "{}", &RepromptLimits::default()).unwrap();
        assert_eq!(messages, 2);
        assert!(text.contains("- /age: not an integer"), "{text}");
    }

    #[test]
    fn a_failure_of_the_infrastructure_is_never_asked_about() {
        assert!(ask(FailureCause::RateLimited, "{}", &RepromptLimits::default()).is_none());
        assert!(
            ask(FailureCause::ContextLengthExceeded, "{}", &RepromptLimits::default()).is_none()
        );
    }

    #[test]
    fn a_refusal_is_not_shown_again() {
        assert_eq!(
            ask(FailureCause::Refusal, "I can't.", &RepromptLimits::default()).unwrap().0,
            1
        );
    }

    #[test]
    fn size_is_bounded_by_characters_and_by_the_window() {
        let long = "x".repeat(1_000_000);
        let limits = RepromptLimits::default();
        let (_, _, asked) = ask(FailureCause::MalformedJson, &long, &limits).unwrap();
        assert!(asked.output_shortened && asked.tokens < 2500, "{}", asked.tokens);
        let narrow = RepromptLimits { room_tokens: Some(200), ..limits };
        let (messages, _, asked) = ask(FailureCause::MalformedJson, &long, &narrow).unwrap();
        assert!(asked.tokens <= 200 && messages <= 2);
        let none = RepromptLimits { room_tokens: Some(5), ..limits };
        assert!(ask(FailureCause::MalformedJson, &long, &none).is_none());
    }
}
