//! Faults as they are written, in a script or in an override.

use serde::Deserialize;

use super::faults::{
    Breakage, Counted, Fault, FaultRule, Instead, OutputFault, Pace, Page, Place, StreamFault,
    Trigger, Trouble, TroubleKind, Violation, WireFault, WrongLength,
};
use super::hints::{HintForm, HintForms, HintValue, Hints};
use super::matcher::{When, WhenDocument};
use super::times::{SpreadDocument, TimeDocument};

/// All names, as listed when one is unknown.
pub const NAMES: &[&str] = &[
    "latency",
    "drip",
    "rate_limit",
    "quota_exhausted",
    "overloaded",
    "server_error",
    "timeout",
    "unauthorized",
    "forbidden",
    "model_not_found",
    "context_length",
    "bad_request",
    "too_large",
    "content_filter",
    "error_in_200",
    "html_200",
    "redirect",
    "refusal",
    "empty",
    "fence",
    "prose",
    "truncated_output",
    "broken_json",
    "schema_violation",
    "think",
    "duplicate",
    "endless",
    "no_done",
    "error_event",
    "bad_chunk",
    "split_utf8",
    "reset",
    "close",
    "hang",
    "truncate_json",
    "malformed_json",
    "wrong_content_length",
    "invalid_utf8",
    "interim",
    "many_headers",
    "big_body",
    "deep_json",
    "none",
];

/// Largest body that a fault sends.
const BODY_MAX: usize = 256 << 20;

/// Largest answer that a fault makes; a whole answer is held in memory.
const ANSWER_MAX: usize = 32 << 20;

/// A fault as written. Every fault uses some of the parameters and refuses the others.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct FaultDocument {
    fault: String,
    // For which calls, and on which of them.
    when: Option<WhenDocument>,
    calls: Option<Vec<u64>>,
    first: Option<u64>,
    every: Option<u64>,
    from: Option<u64>,
    probability: Option<f64>,
    counted: Option<Counted>,
    // Parameters.
    status: Option<u16>,
    page: Option<Page>,
    message: Option<String>,
    retry_after: Option<HintValue>,
    hint: Option<HintForms>,
    at: Option<Place>,
    kind: Option<String>,
    delay: Option<SpreadDocument>,
    first_token: Option<SpreadDocument>,
    between: Option<SpreadDocument>,
    #[serde(rename = "for")]
    lasting: Option<TimeDocument>,
    to: Option<u16>,
    keep: Option<f64>,
    count: Option<u32>,
    bytes: Option<usize>,
    bytes_per_second: Option<u32>,
}

impl FaultDocument {
    /// Reads a fault with its condition.
    ///
    /// # Errors
    /// Says what is wrong with it.
    pub fn compile(mut self) -> Result<FaultRule, String> {
        let Some(name) = NAMES.iter().find(|name| **name == self.fault) else {
            return Err(format!("no fault `{}`; there are {}", self.fault, NAMES.join(", ")));
        };
        let trigger = self.trigger()?;
        let when = When::compile(self.when.take().unwrap_or_default())?;
        let counted = self.counted.take().unwrap_or_default();
        let fault = self.fault(name)?;
        match self.unused() {
            Some(parameter) => Err(format!("`{name}` has no parameter `{parameter}`")),
            None => Ok(FaultRule { name, fault, when, trigger, counted }),
        }
    }

    fn trigger(&mut self) -> Result<Trigger, String> {
        let from = self.from.take();
        let mut triggers = Vec::new();
        triggers.extend(self.calls.take().map(Trigger::Calls));
        triggers.extend(self.first.take().map(Trigger::First));
        if let Some(every) = self.every.take() {
            if every == 0 || from == Some(0) {
                return Err("`every` and `from` count from 1".to_owned());
            }
            triggers.push(Trigger::Every { every, from: from.unwrap_or(every) });
        } else if from.is_some() {
            return Err("`from` belongs to `every`".to_owned());
        }
        if let Some(probability) = self.probability.take() {
            if !(0.0..=1.0).contains(&probability) {
                return Err("a probability is between 0 and 1".to_owned());
            }
            triggers.push(Trigger::Probability(probability));
        }
        if triggers.len() > 1 {
            return Err("only one of `calls`, `first`, `every` and `probability`".to_owned());
        }
        Ok(triggers.pop().unwrap_or(Trigger::Always))
    }

    fn fault(&mut self, name: &str) -> Result<Fault, String> {
        let fault = match name {
            "latency" => Fault::Pace(self.latency()?),
            "drip" => {
                let bytes_per_second = self.bytes_per_second.take().unwrap_or(1).max(1);
                Fault::Pace(Pace::Drip { bytes_per_second })
            }
            "rate_limit" => self.trouble(TroubleKind::RateLimited, Some("1")),
            "quota_exhausted" => self.trouble(TroubleKind::QuotaExhausted, None),
            "overloaded" => self.trouble(TroubleKind::Overloaded, None),
            "server_error" => self.server_error()?,
            "timeout" => self.trouble(TroubleKind::Timeout, None),
            "unauthorized" => self.trouble(TroubleKind::Unauthorized, None),
            "forbidden" => self.trouble(TroubleKind::Forbidden, None),
            "model_not_found" => self.trouble(TroubleKind::ModelNotFound, None),
            "context_length" => {
                self.trouble(TroubleKind::ContextLength { tokens: 0, window: 0 }, None)
            }
            "bad_request" => self.trouble(TroubleKind::BadRequest, None),
            "too_large" => self.trouble(TroubleKind::TooLarge, None),
            "content_filter" => match self.kind.take().as_deref() {
                None | Some("prompt") => self.trouble(TroubleKind::ContentFilter, None),
                Some("output") => Fault::Output(OutputFault::Filtered),
                Some(kind) => return Err(no_kind(kind, "prompt, output")),
            },
            "error_in_200" => Fault::Instead(Instead::ErrorIn200(self.trouble_kind()?)),
            "html_200" => Fault::Instead(Instead::Html200),
            "redirect" => self.redirect()?,
            "none" => Fault::None,
            _ => match self.output_fault(name)? {
                Some(fault) => Fault::Output(fault),
                None => match self.stream_fault(name)? {
                    Some(fault) => Fault::Stream(fault),
                    None => Fault::Wire(self.wire_fault(name)?),
                },
            },
        };
        Ok(fault)
    }

    fn latency(&mut self) -> Result<Pace, String> {
        let mut spread = |given: fn(&mut Self) -> Option<SpreadDocument>| given(self).map(|s| s.0);
        let delay = spread(|s| s.delay.take());
        let first_token = spread(|s| s.first_token.take());
        let between = spread(|s| s.between.take());
        if delay.is_none() && first_token.is_none() && between.is_none() {
            return Err("`latency` needs `delay`, `first_token` or `between`".to_owned());
        }
        Ok(Pace::Latency { delay, first_token, between })
    }

    fn trouble(&mut self, kind: TroubleKind, retry_after: Option<&str>) -> Fault {
        let value = self.retry_after.take().map(|value| value.0);
        let forms = self.hint.take().map(|forms| forms.0);
        let forms = match (&value, forms) {
            (_, Some(forms)) => forms,
            (Some(_), None) => vec![HintForm::Header],
            (None, None) if retry_after.is_some() => vec![HintForm::Header],
            (None, None) => Vec::new(),
        };
        let value = value.unwrap_or_else(|| retry_after.unwrap_or("1").to_owned());
        Fault::Instead(Instead::Trouble(Trouble {
            kind,
            status: self.status.take(),
            message: self.message.take(),
            hints: Hints { forms, value },
        }))
    }

    fn server_error(&mut self) -> Result<Fault, String> {
        let page = self.page.take().unwrap_or(Page::Json);
        if page == Page::Json {
            return Ok(self.trouble(TroubleKind::ServerError, None));
        }
        let status = self.status.take().unwrap_or(if page == Page::Envoy { 503 } else { 502 });
        if !(400..600).contains(&status) {
            return Err("a page has a status between 400 and 599".to_owned());
        }
        Ok(Fault::Instead(Instead::Page { status, page }))
    }

    fn redirect(&mut self) -> Result<Fault, String> {
        let (to, status) = (self.to.take().unwrap_or(9), self.status.take().unwrap_or(307));
        if !matches!(status, 301 | 302 | 303 | 307 | 308) {
            return Err("a redirect has status 301, 302, 303, 307 or 308".to_owned());
        }
        Ok(Fault::Instead(Instead::Redirect { to, status }))
    }

    fn trouble_kind(&mut self) -> Result<TroubleKind, String> {
        Ok(match self.kind.take().as_deref() {
            None | Some("server_error") => TroubleKind::ServerError,
            Some("overloaded") => TroubleKind::Overloaded,
            Some("rate_limit") => TroubleKind::RateLimited,
            Some("quota_exhausted") => TroubleKind::QuotaExhausted,
            Some("context_length") => TroubleKind::ContextLength { tokens: 0, window: 0 },
            Some(kind) => {
                let known = "server_error, overloaded, rate_limit, quota_exhausted, context_length";
                return Err(no_kind(kind, known));
            }
        })
    }

    fn output_fault(&mut self, name: &str) -> Result<Option<OutputFault>, String> {
        Ok(Some(match name {
            "fence" => OutputFault::Fence,
            "prose" => OutputFault::Prose,
            "think" => OutputFault::Think,
            "duplicate" => OutputFault::Duplicate,
            "refusal" => OutputFault::Refusal,
            "empty" => OutputFault::Empty,
            "truncated_output" => {
                let keep = self.keep.take().unwrap_or(0.6);
                if !(0.0..=1.0).contains(&keep) {
                    return Err("`keep` is between 0 and 1".to_owned());
                }
                OutputFault::Truncated { keep }
            }
            "endless" => {
                let bytes_max = self.bytes.take().unwrap_or(4 << 20).min(ANSWER_MAX);
                OutputFault::Endless { bytes_max }
            }
            "broken_json" => OutputFault::BrokenJson(match self.kind.take().as_deref() {
                None | Some("any") => Breakage::Any,
                Some("trailing_comma") => Breakage::TrailingComma,
                Some("single_quotes") => Breakage::SingleQuotes,
                Some("missing_brace") => Breakage::MissingBrace,
                Some("comment") => Breakage::Comment,
                Some("raw_newline") => Breakage::RawNewline,
                Some("bare_keys") => Breakage::BareKeys,
                Some(kind) => {
                    let known = "any, trailing_comma, single_quotes, missing_brace, comment, \
                                 raw_newline, bare_keys";
                    return Err(no_kind(kind, known));
                }
            }),
            "schema_violation" => OutputFault::SchemaViolation(match self.kind.take().as_deref() {
                None | Some("any") => Violation::Any,
                Some("drop_required") => Violation::DropRequired,
                Some("wrong_type") => Violation::WrongType,
                Some("enum_case") => Violation::EnumCase,
                Some("extra_field") => Violation::ExtraField,
                Some(kind) => {
                    let known = "any, drop_required, wrong_type, enum_case, extra_field";
                    return Err(no_kind(kind, known));
                }
            }),
            _ => return Ok(None),
        }))
    }

    fn stream_fault(&mut self, name: &str) -> Result<Option<StreamFault>, String> {
        Ok(Some(match name {
            "no_done" => StreamFault::NoDone {
                finish: match self.kind.take().as_deref() {
                    None | Some("mark") => false,
                    Some("finish") => true,
                    Some(kind) => return Err(no_kind(kind, "mark, finish")),
                },
            },
            "error_event" => {
                let after = match self.at.take() {
                    Some(Place::MidBody) => true,
                    None | Some(Place::AfterHeaders) => false,
                    Some(Place::BeforeHeaders) => {
                        return Err("an event comes after_headers or mid_stream".to_owned());
                    }
                };
                StreamFault::ErrorEvent { after, kind: self.trouble_kind()? }
            }
            "bad_chunk" => StreamFault::BadChunk,
            "split_utf8" => StreamFault::SplitUtf8,
            _ => return Ok(None),
        }))
    }

    fn wire_fault(&mut self, name: &str) -> Result<WireFault, String> {
        Ok(match name {
            "reset" => WireFault::Reset(self.at.take().unwrap_or(Place::BeforeHeaders)),
            "close" => WireFault::Close(self.at.take().unwrap_or(Place::MidBody)),
            "hang" => WireFault::Hang(
                self.at.take().unwrap_or(Place::BeforeHeaders),
                self.lasting.take().map(|time| time.0),
            ),
            "truncate_json" => WireFault::TruncateJson,
            "malformed_json" => WireFault::MalformedJson,
            "invalid_utf8" => WireFault::InvalidUtf8,
            "interim" => WireFault::Interim(self.count.take().unwrap_or(2).min(100_000)),
            "many_headers" => WireFault::ManyHeaders(self.count.take().unwrap_or(500).min(50_000)),
            "big_body" => WireFault::BigBody(self.bytes.take().unwrap_or(64 << 20).min(BODY_MAX)),
            "deep_json" => WireFault::DeepJson(self.count.take().unwrap_or(100_000).min(5_000_000)),
            "wrong_content_length" => WireFault::WrongLength(match self.kind.take().as_deref() {
                None | Some("too_long") => WrongLength::TooLong,
                Some("too_short") => WrongLength::TooShort,
                Some("twice") => WrongLength::Twice,
                Some("negative") => WrongLength::Negative,
                Some(kind) => return Err(no_kind(kind, "too_long, too_short, twice, negative")),
            }),
            other => return Err(format!("no fault `{other}`")),
        })
    }

    /// The first parameter that nothing took.
    fn unused(&self) -> Option<&'static str> {
        let given = [
            ("status", self.status.is_some()),
            ("page", self.page.is_some()),
            ("message", self.message.is_some()),
            ("retry_after", self.retry_after.is_some()),
            ("hint", self.hint.is_some()),
            ("at", self.at.is_some()),
            ("kind", self.kind.is_some()),
            ("delay", self.delay.is_some()),
            ("first_token", self.first_token.is_some()),
            ("between", self.between.is_some()),
            ("for", self.lasting.is_some()),
            ("to", self.to.is_some()),
            ("keep", self.keep.is_some()),
            ("count", self.count.is_some()),
            ("bytes", self.bytes.is_some()),
            ("bytes_per_second", self.bytes_per_second.is_some()),
        ];
        given.iter().find(|(_, given)| *given).map(|(name, _)| *name)
    }
}

fn no_kind(kind: &str, known: &str) -> String {
    format!("no kind `{kind}`; there are {known}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(yaml: &str) -> Result<FaultRule, String> {
        let document: FaultDocument =
            serde_saphyr::from_str(yaml).map_err(|error| error.to_string())?;
        document.compile()
    }

    #[track_caller]
    fn refused(yaml: &str, because: &str) {
        let error = read(yaml).unwrap_err();
        assert!(error.contains(because), "{yaml}: {error}");
    }

    #[test]
    fn every_name_is_known() {
        for name in NAMES {
            let extra = if *name == "latency" { ", delay: 1s" } else { "" };
            let rule = read(&format!("{{fault: {name}{extra}}}")).unwrap();
            assert_eq!(rule.name, *name);
        }
    }

    #[test]
    fn nonsense_is_refused() {
        refused("fault: teapot", "no fault `teapot`");
        refused("{fault: fence, retry_after: 1}", "`fence` has no parameter `retry_after`");
        refused("{fault: fence, colour: red}", "colour");
        refused("{fault: fence, every: 2, first: 1}", "only one of");
        refused("{fault: fence, from: 2}", "belongs to `every`");
        refused("{fault: fence, every: 0}", "count from 1");
        refused("{fault: fence, probability: 1.5}", "between 0 and 1");
        refused("{fault: broken_json, kind: odd}", "no kind `odd`");
        refused("fault: latency", "needs `delay`");
        refused("{fault: latency, delay: 9ms..2ms}", "above the second");
        refused("{fault: rate_limit, hint: smoke}", "smoke");
        refused("{fault: fence, when: {regex: '('}}", "not a regular expression");
    }
}
