//! Traces without cost where nobody looks.
//!
//! A span object with its attributes costs microseconds even when the sampler then says no. So
//! nothing here makes span objects while a call runs: ids are drawn, facts go into records, and
//! spans are built from the records at the end, if the trace is sampled or the step did not go
//! well. They are handed to the SDK's batch processor, whose queue drops rather than waits.

use std::sync::{Arc, LazyLock};
use std::time::{Duration, SystemTime};

use http::HeaderValue;
use opentelemetry::trace::{
    SpanContext, SpanId, SpanKind, Status, TraceFlags, TraceId, TraceState,
};
use opentelemetry::{InstrumentationScope, KeyValue};
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{
    BatchSpanProcessor, Span, SpanData, SpanEvents, SpanLinks, SpanProcessor,
};

use super::names;

/// Where a run stands in its trace. Plain ids.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TraceContext {
    /// Trace id, never 0.
    pub trace_id: u128,
    /// The caller's span; 0 when the trace starts here.
    pub parent_span_id: u64,
    /// Our span for the call, never 0.
    pub span_id: u64,
    /// Whether the trace is recorded.
    pub sampled: bool,
    /// The caller's `tracestate`, passed on unread.
    pub state: TraceState,
}

impl TraceContext {
    /// The W3C header for a call made under a span of this trace.
    pub fn traceparent(&self, span_id: u64) -> Option<HeaderValue> {
        let mut text = *b"00-00000000000000000000000000000000-0000000000000000-00";
        hex(&mut text[3..35], self.trace_id);
        hex(&mut text[36..52], span_id.into());
        text[54] = b'0' + u8::from(self.sampled);
        HeaderValue::from_bytes(&text).ok()
    }
}

/// Writes a number over the digits of `text`, the last digit at its end. The formatter of the
/// standard library takes ten times as long, in every call.
fn hex(text: &mut [u8], mut number: u128) {
    for digit in text.iter_mut().rev() {
        *digit = b"0123456789abcdef"[(number & 0xf) as usize];
        number >>= 4;
    }
}

/// A fresh span id.
pub fn new_span_id() -> u64 {
    rand::random::<u64>().max(1)
}

static SCOPE: LazyLock<InstrumentationScope> = LazyLock::new(|| {
    InstrumentationScope::builder(names::SCOPE).with_version(env!("CARGO_PKG_VERSION")).build()
});

/// Starts contexts and takes finished spans.
#[derive(Debug, Clone, Default)]
pub struct Tracer {
    processor: Option<Arc<BatchSpanProcessor>>,
    sample_ratio: f64,
}

/// A finished span, in our words.
pub struct FinishedSpan {
    /// Name.
    pub name: String,
    /// Its id.
    pub span_id: u64,
    /// Its parent; 0 for none.
    pub parent_span_id: u64,
    /// Whether the parent is another process's.
    pub parent_is_remote: bool,
    /// Kind.
    pub kind: SpanKind,
    /// When it started.
    pub started: SystemTime,
    /// How long it took.
    pub duration: Duration,
    /// Attributes.
    pub attributes: Vec<KeyValue>,
    /// Events.
    pub events: Vec<opentelemetry::trace::Event>,
    /// Why it failed, one safe sentence.
    pub error: Option<String>,
}

impl Tracer {
    /// A tracer that hands spans to a processor and samples this share of new traces.
    pub fn new(processor: Arc<BatchSpanProcessor>, sample_ratio: f64) -> Self {
        Self { processor: Some(processor), sample_ratio }
    }

    /// False when spans go nowhere.
    pub fn enabled(&self) -> bool {
        self.processor.is_some()
    }

    /// Starts or continues a trace from the caller's W3C headers. The caller's sampling decision
    /// holds; without one the ratio decides, by trace id, as every W3C sampler does.
    pub fn begin(&self, traceparent: Option<&str>, tracestate: Option<&str>) -> TraceContext {
        let span_id = new_span_id();
        if let Some((trace_id, parent_span_id, sampled)) = traceparent.and_then(parse) {
            let state = tracestate
                .filter(|text| text.len() <= 512)
                .and_then(|text| text.parse().ok())
                .unwrap_or_default();
            let sampled = sampled && self.enabled();
            return TraceContext { trace_id, parent_span_id, span_id, sampled, state };
        }
        let trace_id = rand::random::<u128>().max(1);
        let sampled = self.enabled() && below_ratio(trace_id, self.sample_ratio);
        TraceContext { trace_id, parent_span_id: 0, span_id, sampled, state: TraceState::NONE }
    }

    /// Hands over a finished span. Never waits: a full queue drops and counts.
    pub fn export(&self, context: &TraceContext, span: FinishedSpan) {
        let Some(processor) = &self.processor else { return };
        let status = match span.error {
            Some(message) => Status::error(message),
            None => Status::Unset,
        };
        let mut events = SpanEvents::default();
        events.events = span.events;
        processor.on_end(SpanData {
            span_context: SpanContext::new(
                TraceId::from(context.trace_id),
                SpanId::from(span.span_id),
                TraceFlags::SAMPLED,
                false,
                context.state.clone(),
            ),
            parent_span_id: SpanId::from(span.parent_span_id),
            parent_span_is_remote: span.parent_is_remote,
            span_kind: span.kind,
            name: span.name.into(),
            start_time: span.started,
            end_time: span.started + span.duration,
            attributes: span.attributes,
            dropped_attributes_count: 0,
            events,
            links: SpanLinks::default(),
            status,
            instrumentation_scope: SCOPE.clone(),
        });
    }
}

/// `00-{trace}-{span}-{flags}` of W3C Trace Context. A version other than 00 is read as 00, as the
/// recommendation asks; anything malformed starts a new trace.
fn parse(header: &str) -> Option<(u128, u64, bool)> {
    let mut parts = header.trim().splitn(4, '-');
    let version = parts.next()?;
    let (trace, span, flags) = (parts.next()?, parts.next()?, parts.next()?);
    let lower_hex = |text: &str, length: usize| {
        text.len() == length
            && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
    };
    let flags = flags.get(..2)?;
    let well_formed = lower_hex(version, 2)
        && version != "ff"
        && lower_hex(trace, 32)
        && lower_hex(span, 16)
        && lower_hex(flags, 2);
    if !well_formed {
        return None;
    }
    let trace = u128::from_str_radix(trace, 16).ok().filter(|id| *id != 0)?;
    let span = u64::from_str_radix(span, 16).ok().filter(|id| *id != 0)?;
    Some((trace, span, u8::from_str_radix(flags, 16).ok()? & 1 == 1))
}

/// Compares the low 63 bits of the trace id with the ratio, like the SDK's ratio sampler.
fn below_ratio(trace_id: u128, ratio: f64) -> bool {
    if ratio >= 1.0 {
        return true;
    }
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss)]
    let bound = (ratio.max(0.0) * (1_u64 << 63) as f64) as u64;
    #[allow(clippy::cast_possible_truncation)]
    let low = (trace_id as u64) >> 1;
    low < bound
}

/// One processor for two sources of spans: ours, and the SDK's tracer behind `tracing`.
#[derive(Debug)]
pub(super) struct Shared(pub(super) Arc<BatchSpanProcessor>);

impl SpanProcessor for Shared {
    fn on_start(&self, _: &mut Span, _: &opentelemetry::Context) {}

    fn on_end(&self, span: SpanData) {
        self.0.on_end(span);
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.0.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.0.shutdown_with_timeout(timeout)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";

    #[test]
    fn w3c_headers() {
        let id = u128::from_str_radix(TRACE, 16).unwrap();
        let ok = |text: &str| parse(text);
        assert_eq!(
            ok(&format!("00-{TRACE}-b7ad6b7169203331-01")),
            Some((id, 0xb7ad_6b71_6920_3331, true))
        );
        assert_eq!(
            ok(&format!("00-{TRACE}-b7ad6b7169203331-00")),
            Some((id, 0xb7ad_6b71_6920_3331, false))
        );
        assert_eq!(
            ok(&format!("cc-{TRACE}-b7ad6b7169203331-01-x")),
            Some((id, 0xb7ad_6b71_6920_3331, true))
        );
        for bad in [
            "",
            "00",
            "00-0-0-0",
            &format!("ff-{TRACE}-b7ad6b7169203331-01"),
            &format!("00-{}-b7ad6b7169203331-01", "0".repeat(32)),
            &format!("00-{TRACE}-0000000000000000-01"),
            &format!("00-{}-b7ad6b7169203331-01", TRACE.to_uppercase()),
            &format!("00-{TRACE}-b7ad6b7169203331-ä1"),
        ] {
            assert_eq!(ok(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_context_without_caller_starts_a_trace() {
        let tracer = Tracer::default();
        let context = tracer.begin(None, None);
        assert!(context.trace_id != 0 && context.span_id != 0 && !context.sampled);
        let known = TraceContext {
            trace_id: u128::from_str_radix(TRACE, 16).unwrap(),
            sampled: true,
            ..context.clone()
        };
        let header = known.traceparent(0xb7ad_6b71_6920_3331).unwrap();
        assert_eq!(header, format!("00-{TRACE}-b7ad6b7169203331-01"));
        let header = context.traceparent(7).unwrap();
        let (trace, span, sampled) = parse(header.to_str().unwrap()).unwrap();
        assert_eq!((trace, span, sampled), (context.trace_id, 7, false));
    }

    #[test]
    fn ratio() {
        assert!(below_ratio(u128::MAX, 1.0));
        assert!(!below_ratio(0, 0.0));
        let kept = (0..10_000).filter(|_| below_ratio(rand::random(), 0.25)).count();
        assert!((2_000..3_000).contains(&kept), "{kept}");
    }
}
