//! What a call's metadata says: how long the caller waits, which trace it belongs to, who it is.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tonic::metadata::MetadataMap;
use tonic::{Request, Status};

use super::auth::{Identity, Refused};
use super::status;
use crate::resilience::fair_queue::Priority;
use crate::telemetry::trace::{TraceContext, Tracer};

/// Bounds on a caller's deadline.
#[derive(Debug, Clone, Copy)]
pub struct DeadlineLimits {
    /// For callers that set none.
    pub default: Duration,
    /// The longest that is granted.
    pub cap: Duration,
}

/// When a call came in. Its message may be read much later where many calls begin at once, and the
/// server library's own timer, whose answer has no details, runs from here.
#[derive(Debug, Clone, Copy)]
pub struct Arrival(pub Instant);

/// When the caller stops waiting. Counted from the [`Arrival`] of the call.
pub fn deadline<T>(request: &Request<T>, limits: DeadlineLimits) -> Instant {
    let asked = request
        .metadata()
        .get("grpc-timeout")
        .and_then(|value| value.to_str().ok())
        .and_then(parse_timeout)
        .unwrap_or(limits.default);
    let arrival = request.extensions().get::<Arrival>().map(|arrival| arrival.0);
    arrival.unwrap_or_else(Instant::now) + asked.min(limits.cap)
}

/// `TimeoutValue TimeoutUnit` of the gRPC wire protocol: at most 8 digits and one of `HMSmun`.
fn parse_timeout(text: &str) -> Option<Duration> {
    let unit = text.chars().next_back()?;
    let digits = text.strip_suffix(unit)?;
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let value: u64 = digits.parse().ok()?;
    Some(match unit {
        'H' => Duration::from_secs(value * 3_600),
        'M' => Duration::from_secs(value * 60),
        'S' => Duration::from_secs(value),
        'm' => Duration::from_millis(value),
        'u' => Duration::from_micros(value),
        'n' => Duration::from_nanos(value),
        _ => return None,
    })
}

/// Where the call stands in its trace.
pub fn trace(metadata: &MetadataMap, tracer: &Tracer) -> TraceContext {
    let text = |name| metadata.get(name).and_then(|value| value.to_str().ok());
    tracer.begin(text("traceparent"), text("tracestate"))
}

/// How urgent the call is: `mainstay-priority` of `high`, `normal` or `low`. What says something
/// else is as urgent as what says nothing.
pub fn priority(metadata: &MetadataMap) -> Priority {
    let asked = metadata.get("mainstay-priority").and_then(|value| value.to_str().ok());
    let named = |priority: &&Priority| asked == Some(priority.name());
    Priority::ALL.iter().find(named).copied().unwrap_or_default()
}

/// Whose call it is, as the layer in front of the services has found. Never from the message.
///
/// # Errors
/// When nobody has asked who calls: the service is not served as it has to be.
pub fn identity<T>(request: &Request<T>) -> Result<Arc<Identity>, Status> {
    let identity = request.extensions().get::<Arc<Identity>>().cloned();
    identity.ok_or_else(|| status::of_refused_caller(&Refused::Missing))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_the_layer_there_is_no_caller() {
        let mut request = Request::new(());
        let refused = identity(&request).unwrap_err();
        assert_eq!(refused.code(), tonic::Code::Unauthenticated);
        request.extensions_mut().insert(Identity::anonymous());
        assert_eq!(&*identity(&request).unwrap().tenant, "default");
    }

    #[tokio::test(start_paused = true)]
    async fn a_deadline_counts_from_the_arrival() {
        let limits =
            DeadlineLimits { default: Duration::from_secs(9), cap: Duration::from_secs(20) };
        let arrived = Instant::now();
        let mut request = Request::new(());
        assert_eq!(deadline(&request, limits) - arrived, limits.default);
        request.extensions_mut().insert(Arrival(arrived));
        tokio::time::advance(Duration::from_secs(5)).await;
        assert_eq!(deadline(&request, limits) - arrived, limits.default);
        for (asked, granted) in [("2S", 2), ("1H", 20), ("soon", 9)] {
            request.metadata_mut().insert("grpc-timeout", asked.parse().unwrap());
            assert_eq!((deadline(&request, limits) - arrived).as_secs(), granted, "{asked}");
        }
    }

    #[test]
    fn grpc_timeouts() {
        let ms = |text| parse_timeout(text).map(|d| d.as_micros());
        assert_eq!(ms("200m"), Some(200_000));
        assert_eq!(ms("1S"), Some(1_000_000));
        assert_eq!(ms("2H"), Some(7_200_000_000));
        assert_eq!(ms("99999999n"), Some(99_999));
        for bad in ["", "S", "1", "-1S", "1.5S", "123456789S", "1s", "١S"] {
            assert_eq!(ms(bad), None, "{bad}");
        }
    }
}
