//! The one place where what came back becomes a [`Failure`].
//!
//! Evidence is weighed in the order of TAXONOMY.md section 4: the transport, then machine fields,
//! then wording within the status, then the status alone. Doing it in one function for all
//! providers means that a gateway in between, which mixes their forms, needs no case of its own.

use http::HeaderMap;
use jiff::Timestamp;
use serde_json::Value;

use super::evidence::Facts;
use super::machine::{self, Meaning};
use super::wording::{Period, Wording};
use super::{Failure, FailureCause, http_status, redact, retry_hint};
use crate::exchange::{BodyEnd, HttpResponse, TransportFault};

/// What a judgement needs beside the bytes.
#[derive(Debug, Clone, Copy)]
pub struct Circumstances<'a> {
    /// HTTP status of the response, 200 for an error inside a success.
    pub status: u16,
    /// Headers of the response.
    pub headers: &'a HeaderMap,
    /// The provider's name, for statuses and codes that are private to one.
    pub provider: &'a str,
    /// Wall time, against which dates in hints are read.
    pub now: Timestamp,
}

/// Judges a call that brought back no HTTP answer.
pub fn of_fault(fault: TransportFault) -> Failure {
    let (cause, message) = match fault {
        TransportFault::Connect => {
            (FailureCause::Connect, "the connection failed before an answer")
        }
        TransportFault::Dns => (FailureCause::Dns, "the target's name did not resolve"),
        TransportFault::Forbidden => return forbidden(),
        TransportFault::Tls => (FailureCause::Tls, "the TLS handshake with the target failed"),
        TransportFault::ConnectTimeout => {
            (FailureCause::ConnectTimeout, "the connection was not made in time")
        }
        TransportFault::RequestTimeout => {
            (FailureCause::RequestTimeout, "the provider did not answer in time")
        }
    };
    Failure::new(cause, message)
}

/// The name did resolve, to an address of a private network or of this machine. Asking again gives
/// no better address soon, so this target is not called again for it.
fn forbidden() -> Failure {
    let message = "the target's name leads to an address that is not public, and the target is not \
                   marked `private`";
    let mut failure = Failure::new(FailureCause::Dns, message).with_detail("target_forbidden");
    failure.retryable = false;
    failure
}

/// Judges an answer whose status is not a success. The body is read whatever its end was.
pub fn of_response(response: &HttpResponse, provider: &str, now: Timestamp) -> Failure {
    let circumstances =
        Circumstances { status: response.status, headers: &response.headers, provider, now };
    if response.end == BodyEnd::TooLarge {
        let cause = http_status::default_cause(response.status, provider);
        let failure = finish(cause, &Facts::default(), circumstances, false);
        return failure.with_detail("response_too_large");
    }
    judge(Facts::of_body(&response.body), circumstances, false)
}

/// Judges an error value that was found in the body or the stream of a success.
pub fn of_error_value(value: &Value, circumstances: Circumstances<'_>) -> Failure {
    judge(Facts::of_value(value), circumstances, true)
}

/// Judges an error event of a stream that is not JSON.
pub fn of_error_text(text: &str, circumstances: Circumstances<'_>) -> Failure {
    judge(Facts::of_body(text.as_bytes()), circumstances, true)
}

/// Judges an error that a framing names by itself, such as an exception of an AWS event stream.
pub fn of_named_error(name: &str, value: &Value, circumstances: Circumstances<'_>) -> Failure {
    let mut facts = Facts::of_value(value);
    facts.add_word(name);
    facts.shown.provider_type = facts.shown.provider_type.take().or_else(|| redact::word(name));
    judge(facts, circumstances, true)
}

/// A success that is not the protocol.
pub fn malformed(detail: &'static str, circumstances: Circumstances<'_>) -> Failure {
    let mut failure = Failure::new(
        FailureCause::MalformedResponse,
        format!(
            "the provider answered {} with a body that is not its protocol",
            circumstances.status
        ),
    );
    failure.evidence.status = Some(circumstances.status);
    failure.evidence.request_id = request_id(circumstances.headers);
    override_retryable(&mut failure, circumstances.headers);
    failure.with_detail(detail)
}

fn judge(mut facts: Facts, circumstances: Circumstances<'_>, in_band: bool) -> Failure {
    if let Some(name) = error_type_header(circumstances.headers) {
        facts.add_word(name);
        facts.shown.provider_type = redact::word(name).or(facts.shown.provider_type.take());
    }
    let cause = weigh(&facts, circumstances, in_band);
    finish(cause, &facts, circumstances, in_band)
}

/// The order of evidence.
fn weigh(facts: &Facts, circumstances: Circumstances<'_>, in_band: bool) -> FailureCause {
    let meanings = meanings(facts, circumstances.provider);
    let text = if facts.html { "" } else { facts.text.as_str() };
    let wording = Wording::new(text, retry_hint::stated(facts));
    if let Some(cause) = meanings.iter().find_map(|meaning| match meaning {
        Meaning::Sure(cause) => Some(*cause),
        Meaning::Allowance | Meaning::Like(_) | Meaning::InBandLike(_) => None,
    }) {
        return cause;
    }
    match period(facts, &wording) {
        // A quota's own name is better evidence than the sentence that goes with it.
        Some(Period::Day) if !facts.quota_ids.is_empty() => return FailureCause::QuotaExhausted,
        Some(Period::UnderADay) => (),
        Some(Period::Day) | None if meanings.contains(&Meaning::Allowance) => {
            return FailureCause::QuotaExhausted;
        }
        Some(Period::Day) | None => (),
    }
    let status = effective_status(facts, &meanings, circumstances.status, in_band);
    if status == 429 && long_wait(facts) {
        return FailureCause::QuotaExhausted;
    }
    if status == 429
        && !facts.quota_ids.is_empty()
        && period(facts, &wording) == Some(Period::UnderADay)
    {
        return FailureCause::RateLimited;
    }
    if facts.html {
        return of_page(status, facts, circumstances.provider);
    }
    let heard = match status {
        // In a success a status that only a generic word suggests is weaker than the sentence.
        IN_BAND_UNKNOWN => wording.judge_in_band().or(Some(FailureCause::ServerError)),
        status if in_band && facts.status.is_none() && matches!(status, 400 | 500) => {
            wording.judge_in_band()
        }
        status => wording.judge(status),
    };
    heard.unwrap_or_else(|| http_status::default_cause(status, circumstances.provider))
}

/// Stands for the status of an in-band error that gives none.
const IN_BAND_UNKNOWN: u16 = 0;

fn meanings(facts: &Facts, provider: &str) -> Vec<Meaning> {
    let mut meanings: Vec<Meaning> =
        facts.words.iter().filter_map(|word| machine::meaning(word)).collect();
    if machine::is_zhipu(provider) {
        meanings.extend(facts.codes.iter().filter_map(|code| machine::zhipu(code)));
    }
    meanings.extend(facts.base_resp.and_then(machine::minimax));
    meanings
}

/// The status that scopes the wording: the real one, unless it is a mere wrapper.
fn effective_status(facts: &Facts, meanings: &[Meaning], real: u16, in_band: bool) -> u16 {
    let like = meanings.iter().find_map(|meaning| match meaning {
        Meaning::Like(status) => Some(*status),
        Meaning::Allowance => Some(429),
        Meaning::InBandLike(_) | Meaning::Sure(_) => None,
    });
    if in_band {
        let generic = meanings.iter().find_map(|meaning| match meaning {
            Meaning::InBandLike(status) => Some(*status),
            Meaning::Allowance | Meaning::Like(_) | Meaning::Sure(_) => None,
        });
        let inner = facts.inner_status.filter(|status| *status >= 400);
        let own = facts.status.filter(|status| *status >= 400);
        return inner.or(own).or(like).or(generic).unwrap_or(IN_BAND_UNKNOWN);
    }
    match real {
        // Statuses that gateways use for anything that went wrong behind them.
        400 | 422 | 500 | 502 => {
            let origin = facts.inner_status.filter(|status| matches!(status, 401..=499));
            // A gateway's own "unavailable" under a 502 is still the gateway's.
            like.filter(|like| (real, *like) != (502, 503)).or(origin).unwrap_or(real)
        }
        401 | 403 | 404 | 424 => {
            like.filter(|like| matches!(like, 401 | 403 | 429)).unwrap_or(real)
        }
        real => real,
    }
}

/// The period of the exceeded allowance, from quota ids before words.
fn period(facts: &Facts, wording: &Wording) -> Option<Period> {
    let ids = &facts.quota_ids;
    let names = |part: &str| ids.iter().any(|id| id.contains(part));
    if names("perday") || names("per_day") || names("daily") || names("permonth") || names("/d/") {
        return Some(Period::Day);
    }
    if names("perminute") || names("per_minute") || names("persecond") || names("perhour") {
        return Some(Period::UnderADay);
    }
    wording.period()
}

/// A wait of a day, stated in words, is an allowance and not a pace.
fn long_wait(facts: &Facts) -> bool {
    !facts.html && retry_hint::in_text(&facts.text).is_some_and(|ms| ms >= retry_hint::HINT_MS_MAX)
}

/// A page for people was written by something between us and the model. Its words are not read:
/// templates explain every error at once.
fn of_page(status: u16, facts: &Facts, provider: &str) -> FailureCause {
    let page = Wording::new(&facts.text, None);
    match status {
        IN_BAND_UNKNOWN => FailureCause::MalformedResponse,
        503 => FailureCause::BadGateway,
        424 | 500..=599
            if page.is_of_a_gateway() && !matches!(status, 501 | 504 | 522 | 524 | 529) =>
        {
            FailureCause::BadGateway
        }
        status => http_status::default_cause(status, provider),
    }
}

fn finish(
    cause: FailureCause,
    facts: &Facts,
    circumstances: Circumstances<'_>,
    in_band: bool,
) -> Failure {
    let status = circumstances.status;
    let said = cause.name().replace('_', " ");
    let inside = if in_band && status < 300 { " with an error inside" } else { "" };
    let mut failure =
        Failure::new(cause, format!("the provider answered {status}{inside}: {said}"));
    failure.detail = if in_band { None } else { http_status::detail(status) };
    failure.evidence = Box::new(super::Evidence {
        status: Some(status),
        text: facts.shown_text(),
        request_id: request_id(circumstances.headers).or_else(|| facts.shown.request_id.clone()),
        provider_type: facts.shown.provider_type.clone(),
        provider_code: facts.shown.provider_code.clone(),
    });
    // No wait cures what is wrong with the request, the credential or the output.
    if failure.domain() == super::FailureDomain::Infrastructure && status >= 200 {
        failure.retry_after = retry_hint::find(circumstances.headers, facts, circumstances.now);
    }
    override_retryable(&mut failure, circumstances.headers);
    failure
}

/// The official OpenAI and Anthropic clients obey this header, so their servers mean it.
fn override_retryable(failure: &mut Failure, headers: &HeaderMap) {
    match headers.get("x-should-retry").map(|value| value.as_bytes().trim_ascii()) {
        Some(value) if value.eq_ignore_ascii_case(b"true") => failure.retryable = true,
        Some(value) if value.eq_ignore_ascii_case(b"false") => failure.retryable = false,
        Some(_) | None => (),
    }
}

/// `x-amzn-errortype: ThrottlingException:http://internal.amazon.com/coral/…`.
fn error_type_header(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get("x-amzn-errortype").or_else(|| headers.get("x-ms-error-code"))?;
    let name = value.to_str().ok()?;
    let name = name.split(':').next().unwrap_or(name);
    Some(name.rsplit('#').next().unwrap_or(name).trim())
}

/// The provider's id of the request, under the names in use.
pub(crate) fn request_id(headers: &HeaderMap) -> Option<String> {
    const NAMES: [&str; 7] = [
        "x-request-id",
        "request-id",
        "apim-request-id",
        "x-amzn-requestid",
        "x-goog-request-id",
        "x-ms-request-id",
        "cf-ray",
    ];
    NAMES.iter().find_map(|name| headers.get(*name)?.to_str().ok()).and_then(redact::word)
}

#[cfg(test)]
mod tests;
