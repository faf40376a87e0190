//! What can go wrong, and when.
//!
//! Faults are of five kinds, by the place where they act. Kinds combine: a call can be slow, be
//! answered in a fence and lose its end. Of the faults that put something in the answer's place
//! and of those that break the connection only the first one of a call counts.

use std::time::Duration;

use serde::Deserialize;

use super::ask::Ask;
use super::chance::{Luck, Spread};
use super::hints::Hints;
use super::matcher::When;

/// One fault.
#[derive(Debug, Clone, PartialEq)]
pub enum Fault {
    /// The answer is slow.
    Pace(Pace),
    /// Something else comes in the answer's place.
    Instead(Instead),
    /// The answer's text is bad.
    Output(OutputFault),
    /// The stream's events are bad.
    Stream(StreamFault),
    /// The connection is bad.
    Wire(WireFault),
    /// Nothing goes wrong; as an override it switches the script's faults off.
    None,
}

/// Slowness.
#[derive(Debug, Clone, PartialEq)]
pub enum Pace {
    /// Waits.
    Latency {
        /// Before the headers.
        delay: Option<Spread>,
        /// Between the headers and the first token of a stream.
        first_token: Option<Spread>,
        /// Between the tokens of a stream.
        between: Option<Spread>,
    },
    /// The body comes at this rate.
    Drip {
        /// Bytes a second.
        bytes_per_second: u32,
    },
}

/// What is answered instead.
#[derive(Debug, Clone, PartialEq)]
pub enum Instead {
    /// An error in the dialect's words.
    Trouble(Trouble),
    /// An error as a page of something between the provider and us.
    Page {
        /// Status.
        status: u16,
        /// Whose page.
        page: Page,
    },
    /// An error body under status 200; in a stream, as its only event.
    ErrorIn200(TroubleKind),
    /// A sign-in page under status 200.
    Html200,
    /// A redirect to a loopback port.
    Redirect {
        /// The port.
        to: u16,
        /// 301, 302, 303, 307 or 308.
        status: u16,
    },
}

/// An error that a provider reports.
#[derive(Debug, Clone, PartialEq)]
pub struct Trouble {
    /// Which.
    pub kind: TroubleKind,
    /// In place of the kind's own status.
    pub status: Option<u16>,
    /// In place of the kind's own text.
    pub message: Option<String>,
    /// How long to wait, and how that is said.
    pub hints: Hints,
}

impl Trouble {
    /// The kind with its own status and text.
    pub fn plain(kind: TroubleKind) -> Self {
        Self { kind, status: None, message: None, hints: Hints::default() }
    }
}

/// Kinds of errors; each dialect has a shape for each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TroubleKind {
    /// No credential or a wrong one.
    Unauthorized,
    /// A known credential without the right.
    Forbidden,
    /// No such model.
    ModelNotFound,
    /// A pace limit.
    RateLimited,
    /// An allowance is used up.
    QuotaExhausted,
    /// No capacity.
    Overloaded,
    /// The provider failed inside.
    ServerError,
    /// The provider took too long.
    Timeout,
    /// The prompt does not fit.
    ContextLength {
        /// Tokens of the prompt.
        tokens: u64,
        /// The window.
        window: u64,
    },
    /// The request is wrong.
    BadRequest,
    /// The prompt was blocked.
    ContentFilter,
    /// The request is too large.
    TooLarge,
}

/// Whose error page.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Page {
    /// The dialect's JSON.
    Json,
    /// nginx, HTML.
    Nginx,
    /// Cloudflare, HTML.
    Cloudflare,
    /// Envoy, plain text.
    Envoy,
}

/// What is wrong with the text.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum OutputFault {
    /// In a Markdown fence.
    Fence,
    /// A sentence before and one after.
    Prose,
    /// Cut, with the finish reason that says so.
    Truncated {
        /// How much of it is left, 0 to 1.
        keep: f64,
    },
    /// Not JSON, in one of the ways models find.
    BrokenJson(Breakage),
    /// JSON that the schema does not allow.
    SchemaViolation(Violation),
    /// Reasoning in tags before the answer.
    Think,
    /// The answer twice.
    Duplicate,
    /// The answer again and again.
    Endless {
        /// No more than this.
        bytes_max: usize,
    },
    /// Stopped by the filter half way.
    Filtered,
    /// The model declines.
    Refusal,
    /// Nothing.
    Empty,
}

/// How JSON is broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Breakage {
    /// `{"a": 1,}`
    TrailingComma,
    /// `{'a': 1}`
    SingleQuotes,
    /// The last brace is missing.
    MissingBrace,
    /// A `//` comment.
    Comment,
    /// A line end inside a string.
    RawNewline,
    /// Keys without quotes.
    BareKeys,
    /// Any of them, by luck.
    Any,
}

/// How a schema is violated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Violation {
    /// A required member is missing.
    DropRequired,
    /// A member has another type.
    WrongType,
    /// A value of an enum in upper case, or one that does not exist.
    EnumCase,
    /// A member that the schema does not know.
    ExtraField,
    /// Any of them, by luck.
    Any,
}

/// What is wrong with a stream. Calls that did not ask for one are not touched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StreamFault {
    /// It ends without its last mark.
    NoDone {
        /// Without the finish reason too.
        finish: bool,
    },
    /// An error comes as an event, and the stream ends.
    ErrorEvent {
        /// After some tokens, else before the first.
        after: bool,
        /// Which error.
        kind: TroubleKind,
    },
    /// An event that cannot be parsed.
    BadChunk,
    /// The bytes come in odd pieces that cut characters and lines.
    SplitUtf8,
}

/// Where in the answer something happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Place {
    /// Before the first byte.
    BeforeHeaders,
    /// Between headers and body.
    AfterHeaders,
    /// Inside the body; of a stream, after some tokens.
    #[serde(alias = "mid_stream")]
    MidBody,
}

/// What is wrong with the connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WireFault {
    /// RST.
    Reset(Place),
    /// FIN before the answer is whole.
    Close(Place),
    /// Silence, for a time or until the peer goes away.
    Hang(Place, Option<Duration>),
    /// The JSON is cut, in a frame that is right for what is left.
    TruncateJson,
    /// A body that is not JSON.
    MalformedJson,
    /// A content-length that does not fit.
    WrongLength(WrongLength),
    /// Bytes that are not UTF-8 inside the body.
    InvalidUtf8,
    /// So many interim responses before the real one.
    Interim(u32),
    /// So many headers.
    ManyHeaders(u32),
    /// The JSON is padded to this many bytes.
    BigBody(usize),
    /// A body of nested arrays.
    DeepJson(u32),
}

/// How a content-length is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WrongLength {
    /// More than comes; the connection is closed.
    TooLong,
    /// Less than comes.
    TooShort,
    /// Two different values.
    Twice,
    /// Below zero.
    Negative,
}

/// On which of the calls that a rule is for its fault happens.
#[derive(Debug, Clone, PartialEq)]
pub enum Trigger {
    /// On each.
    Always,
    /// On these, counted from 1.
    Calls(Vec<u64>),
    /// On the first so many.
    First(u64),
    /// On call `from` and each `every`th after it.
    Every {
        /// The period.
        every: u64,
        /// The first.
        from: u64,
    },
    /// By luck.
    Probability(f64),
}

impl Trigger {
    /// Whether call `number` (from 1) of the rule is hit.
    pub fn hits(&self, number: u64, luck: Luck) -> bool {
        match self {
            Self::Always => true,
            Self::Calls(calls) => calls.contains(&number),
            Self::First(first) => number <= *first,
            Self::Every { every, from } => {
                number >= *from && (number - from).is_multiple_of(*every)
            }
            Self::Probability(probability) => luck.share() < *probability,
        }
    }
}

/// How the calls of a rule are numbered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Counted {
    /// One sequence for all calls of the model that the rule is for.
    #[default]
    Rule,
    /// One sequence for each prompt, so that calls side by side do not change each other's
    /// numbers.
    Prompt,
}

/// A fault with its condition.
#[derive(Debug, Clone)]
pub struct FaultRule {
    /// The name in the script.
    pub name: &'static str,
    /// The fault.
    pub fault: Fault,
    /// For which calls.
    pub when: When,
    /// On which of them.
    pub trigger: Trigger,
    /// How they are numbered.
    pub counted: Counted,
}

/// A rule that was hit.
#[derive(Debug, Clone)]
pub struct Hit<'a> {
    /// The rule.
    pub rule: &'a FaultRule,
    /// Luck for the fault's own choices.
    pub luck: Luck,
}

/// The rules that are hit by a call, in the order of the script. `number` gives the next number
/// of a sequence; it is asked once for each rule whose condition holds, hit or not.
pub fn hits<'a>(
    rules: &'a [FaultRule],
    ask: &Ask,
    luck: Luck,
    mut number: impl FnMut(&str) -> u64,
) -> Vec<Hit<'a>> {
    let mut hits = Vec::new();
    for (idx, rule) in rules.iter().enumerate() {
        if !rule.when.matches(ask) {
            continue;
        }
        let (sequence, luck) = match rule.counted {
            Counted::Rule => (format!("{idx}"), luck),
            Counted::Prompt => {
                let prompt = luck.of_text(&ask.system).of_text(&ask.prompt);
                (format!("{idx}/{:016x}", prompt.bits()), prompt)
            }
        };
        let number = number(&sequence);
        let luck = luck.of_number(idx as u64).of_number(number);
        if rule.trigger.hits(number, luck) {
            hits.push(Hit { rule, luck: luck.of_text(rule.name) });
        }
    }
    hits
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hit_numbers(trigger: &Trigger) -> Vec<u64> {
        let luck = Luck::seeded(5);
        (1..=9).filter(|n| trigger.hits(*n, luck.of_number(*n))).collect()
    }

    #[test]
    fn triggers() {
        assert_eq!(hit_numbers(&Trigger::Calls(vec![1, 3])), [1, 3]);
        assert_eq!(hit_numbers(&Trigger::First(2)), [1, 2]);
        assert_eq!(hit_numbers(&Trigger::Every { every: 3, from: 3 }), [3, 6, 9]);
        assert_eq!(hit_numbers(&Trigger::Every { every: 2, from: 1 }), [1, 3, 5, 7, 9]);
        assert_eq!(hit_numbers(&Trigger::Always).len(), 9);
        assert_eq!(hit_numbers(&Trigger::Probability(0.0)).len(), 0);
        assert_eq!(hit_numbers(&Trigger::Probability(1.0)).len(), 9);
    }
}
