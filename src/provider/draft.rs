//! An answer in the making, and its verdict.
//!
//! Every shape, whole or streamed, is read into a [`Draft`]; whether the draft is a usable reply is
//! decided here, once, in the order of TAXONOMY.md section 4.6: how it ended, refusal, emptiness,
//! calls. The order matters: a reply cut by its budget is also empty or broken JSON, and only the
//! first of these names the remedy.

use serde_json::Value;

use super::wire::{Content, Sinks, UsageWire, merge};
use crate::exchange::{FinishReason, ModelReply, Payload, ToolCall, Usage};
use crate::failure::{Failure, FailureCause};

/// Why the model stopped, over all providers' words for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Ending {
    Stop,
    ToolCalls,
    Length,
    WindowFull,
    Filtered,
    Refused,
    Failed,
    NoCapacity,
    TimedOut,
    BadCall,
    WrongCall,
    /// The provider knows the reason and does not tell it.
    Untold(String),
    /// Not a value that we know.
    Unknown(String),
}

impl Ending {
    /// The meaning of a finish reason; `None` for none.
    pub(super) fn of(word: &str) -> Option<Self> {
        let plain: String = word
            .chars()
            .filter(char::is_ascii_alphanumeric)
            .map(|c| c.to_ascii_lowercase())
            .take(64)
            .collect();
        Some(match plain.as_str() {
            "" | "null" | "none" => return None,
            "stop" | "endturn" | "stopsequence" | "eos" | "eostoken" | "complete" | "completed"
            | "finished" | "done" | "endoftext" | "stopword" | "finishreasonstop" => Self::Stop,
            "toolcalls" | "toolcall" | "tooluse" | "functioncall" | "functioncalls" => {
                Self::ToolCalls
            }
            "length" | "maxtokens" | "maxoutputtokens" | "modellength" | "maxlength"
            | "tokenlimit" | "maxnewtokens" | "finishreasonlength" => Self::Length,
            "modelcontextwindowexceeded"
            | "contextlengthexceeded"
            | "contextlength"
            | "contextwindowexceeded" => Self::WindowFull,
            "contentfilter"
            | "contentfiltered"
            | "safety"
            | "recitation"
            | "blocklist"
            | "prohibitedcontent"
            | "spii"
            | "modelarmor"
            | "imagesafety"
            | "imageprohibitedcontent"
            | "imagerecitation"
            | "guardrailintervened"
            | "errortoxic"
            | "sensitive"
            | "language"
            | "moderation"
            | "jailbreak"
            | "guardrails"
            | "flagged" => Self::Filtered,
            "refusal" => Self::Refused,
            "error" | "networkerror" | "abort" | "aborted" | "failed" | "errorlimit"
            | "internalerror" | "servererror" | "cancelled" | "canceled" => Self::Failed,
            "insufficientsystemresource" | "engineoverloaded" | "overloaded" => Self::NoCapacity,
            "timeout" | "timedout" => Self::TimedOut,
            "malformedfunctioncall"
            | "malformedresponse"
            | "malformedmodeloutput"
            | "malformedtooluse" => Self::BadCall,
            "unexpectedtoolcall" | "toomanytoolcalls" => Self::WrongCall,
            "other" | "imageother" | "noimage" | "pauseturn" => Self::Untold(shorten(word)),
            _ => Self::Unknown(shorten(word)),
        })
    }
}

fn shorten(word: &str) -> String {
    word.chars().filter(|c| c.is_ascii_graphic()).take(64).collect()
}

/// A tool call in the making.
#[derive(Debug, Default)]
pub(super) struct CallDraft {
    /// The provider's index in a stream.
    pub index: u64,
    pub id: String,
    pub name: String,
    pub arguments: String,
}

/// What has been read of an answer.
#[derive(Debug, Default)]
pub(super) struct Draft {
    pub text: String,
    pub reasoning: String,
    pub refusal: String,
    pub calls: Vec<CallDraft>,
    pub ending: Option<Ending>,
    /// The marker after which a stream has nothing more to say.
    pub closed: bool,
    /// Something of the protocol was there, if only an empty list of choices.
    pub answered: bool,
    /// The message of a refusal or a filter by the provider itself, not by the model.
    pub explanation: String,
    pub usage: Usage,
    pub id: Option<String>,
    pub model: Option<String>,
}

impl Draft {
    pub(super) fn pour(&mut self, content: &Content<'_>) {
        content.pour(&mut Sinks {
            text: &mut self.text,
            reasoning: &mut self.reasoning,
            refusal: &mut self.refusal,
        });
    }

    /// Text that stands among the reasoning, whatever its parts are called.
    pub(super) fn pour_reasoning(&mut self, content: &Content<'_>) {
        let (mut text, mut refusal) = (String::new(), String::new());
        let reasoning = &mut self.reasoning;
        content.pour(&mut Sinks { text: &mut text, reasoning, refusal: &mut refusal });
        self.reasoning.push_str(&text);
    }

    pub(super) fn count(&mut self, usage: Option<&UsageWire>) {
        if let Some(usage) = usage {
            merge(&mut self.usage, usage.usage());
        }
    }

    /// Keeps the first id and model that are told.
    pub(super) fn identify(&mut self, id: Option<String>, model: Option<String>) {
        self.id = self.id.take().or(id);
        self.model = self.model.take().or(model);
    }

    /// A finish reason, if the word is one; a later word does not replace an earlier one.
    pub(super) fn end(&mut self, word: &str) {
        if self.ending.is_none() {
            self.ending = Ending::of(word);
        }
    }

    /// The call that a piece of a stream belongs to: by index, else by id, else the last one.
    pub(super) fn call(&mut self, index: Option<u64>, id: &str) -> &mut CallDraft {
        let known = match index {
            Some(index) => self.calls.iter().rposition(|call| {
                call.index == index && (id.is_empty() || call.id.is_empty() || call.id == id)
            }),
            None => self.calls.len().checked_sub(1).filter(|last| {
                id.is_empty() || self.calls.get(*last).is_some_and(|call| call.id == id)
            }),
        };
        let at = known.unwrap_or(self.calls.len());
        if at == self.calls.len() {
            let index = index.unwrap_or(u64::try_from(at).unwrap_or(u64::MAX));
            self.calls.push(CallDraft { index, id: id.to_owned(), ..CallDraft::default() });
        }
        &mut self.calls[at]
    }

    /// Adds what was read to a failure: nothing of it is a reply, all of it is evidence.
    pub(super) fn spoil(&mut self, mut failure: Failure) -> Failure {
        if failure.partial_text.is_none() && !self.text.is_empty() {
            failure.partial_text = Some(std::mem::take(&mut self.text).into());
        }
        merge(&mut failure.usage, self.usage);
        failure
    }

    /// The verdict over a complete answer.
    pub(super) fn judge(mut self) -> Result<ModelReply, Failure> {
        let empty = self.text.trim().is_empty() && self.calls.is_empty();
        let finish = match self.ending.take() {
            None => FinishReason::Unknown("missing".to_owned()),
            Some(Ending::Stop) => FinishReason::Stop,
            Some(Ending::ToolCalls) if self.calls.is_empty() => {
                FinishReason::Unknown("tool_calls".to_owned())
            }
            Some(Ending::ToolCalls) => FinishReason::ToolCalls,
            Some(Ending::Untold(word)) => FinishReason::Unknown(word),
            Some(Ending::Unknown(word)) if empty && self.refusal.is_empty() => {
                let failure =
                    fail(FailureCause::MalformedResponse, "the answer ended in an unknown way");
                let mut failure = failure.with_detail("unknown_finish_reason");
                failure.evidence.provider_code = Some(word);
                return Err(self.spoil(failure));
            }
            Some(Ending::Unknown(word)) => FinishReason::Unknown(word),
            Some(abnormal) => return Err(self.ended_badly(&abnormal, empty)),
        };
        if !self.refusal.is_empty() {
            return Err(self.refused());
        }
        if empty {
            let failure = fail(FailureCause::EmptyOutput, "the model answered without any output");
            return Err(self.spoil(failure));
        }
        self.reply(finish)
    }

    fn ended_badly(mut self, ending: &Ending, empty: bool) -> Failure {
        let failure = match ending {
            Ending::Length => truncated(&mut self, "the output budget ran out"),
            Ending::WindowFull if empty => {
                fail(FailureCause::ContextLengthExceeded, "the prompt fills the model's window")
            }
            Ending::WindowFull => truncated(&mut self, "the model's window ran out"),
            Ending::Filtered => {
                fail(FailureCause::ContentFiltered, "the provider's filter stopped the answer")
            }
            Ending::Refused => return self.refused(),
            Ending::NoCapacity => {
                fail(FailureCause::Overloaded, "the provider ran out of resources")
            }
            Ending::TimedOut => fail(FailureCause::RequestTimeout, "the provider ran out of time"),
            Ending::BadCall => {
                fail(FailureCause::MalformedJson, "the model's tool call does not parse")
            }
            Ending::WrongCall => {
                fail(FailureCause::SchemaMismatch, "the model called a tool that it does not have")
            }
            Ending::Failed
            | Ending::Stop
            | Ending::ToolCalls
            | Ending::Untold(_)
            | Ending::Unknown(_) => {
                fail(FailureCause::ServerError, "the provider broke the answer off")
            }
        };
        self.spoil(failure)
    }

    fn refused(mut self) -> Failure {
        let mut failure = fail(FailureCause::Refusal, "the model declined to answer");
        let said = if self.refusal.is_empty() { &self.explanation } else { &self.refusal };
        failure.evidence.text = crate::failure::safe_text(said).map(Payload::from);
        self.spoil(failure)
    }

    fn reply(mut self, finish: FinishReason) -> Result<ModelReply, Failure> {
        let mut tool_calls = Vec::with_capacity(self.calls.len());
        for call in std::mem::take(&mut self.calls) {
            match checked(call) {
                Some(call) => tool_calls.push(call),
                None => {
                    let failure = fail(
                        FailureCause::MalformedJson,
                        "the arguments of a tool call are not JSON",
                    );
                    return Err(self.spoil(failure.with_detail("tool_arguments")));
                }
            }
        }
        let finish = if tool_calls.is_empty() { finish } else { FinishReason::ToolCalls };
        Ok(ModelReply {
            text: self.text.into(),
            tool_calls,
            reasoning: (!self.reasoning.is_empty()).then(|| self.reasoning.into()),
            finish,
            usage: self.usage,
            response_id: self.id,
            model: self.model,
        })
    }
}

fn fail(cause: FailureCause, message: &str) -> Failure {
    Failure::new(cause, message)
}

/// Truncated text is told even when it is empty: that nothing came is the finding.
fn truncated(draft: &mut Draft, message: &str) -> Failure {
    let mut failure = fail(FailureCause::TruncatedOutput, message);
    failure.partial_text = Some(std::mem::take(&mut draft.text).into());
    failure
}

/// The call, if its arguments are JSON; no arguments at all are an empty object.
fn checked(call: CallDraft) -> Option<ToolCall> {
    let arguments = if call.arguments.trim().is_empty() { "{}".to_owned() } else { call.arguments };
    serde_json::from_str::<serde::de::IgnoredAny>(&arguments).ok()?;
    Some(ToolCall { id: call.id, name: call.name, arguments: arguments.into() })
}

/// Arguments as text: some servers send the object itself.
pub(super) fn arguments(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => value.to_string(),
    }
}
