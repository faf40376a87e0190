//! What a status code means when the body is silent.
//!
//! The table is the last word, not the first: gateways answer 500 for a full context window and
//! providers answer 429 for an empty account, so a body that says something is heard before.

use super::FailureCause;

/// The cause of a status, nothing else being known. Statuses under 300 are not errors: a caller
/// that asks for one has found a body that is not the protocol.
pub(super) fn default_cause(status: u16, provider: &str) -> FailureCause {
    match status {
        ..=399 => FailureCause::MalformedResponse,
        401 | 407 => FailureCause::Authentication,
        402 => FailureCause::QuotaExhausted,
        403 | 451 => FailureCause::PermissionDenied,
        404 | 410 => FailureCause::ModelNotFound,
        408 | 499 | 504 | 522 | 524 => FailureCause::RequestTimeout,
        409 | 423 | 425 => FailureCause::Conflict,
        413 => FailureCause::RequestTooLarge,
        429 => FailureCause::RateLimited,
        498 => private_498(provider),
        501 => FailureCause::UnsupportedParameter,
        502 | 520 | 521 | 523 | 525 | 526 => FailureCause::BadGateway,
        503 | 529 => FailureCause::Overloaded,
        424 | 500.. => FailureCause::ServerError,
        // A 4xx that nobody described is never guessed to be worth a retry.
        _ => FailureCause::InvalidRequest,
    }
}

/// 498 is nobody's standard: Groq's flex tier is out of capacity, Cohere's token is invalid.
fn private_498(provider: &str) -> FailureCause {
    match provider {
        "groq" => FailureCause::Overloaded,
        "cohere" => FailureCause::Authentication,
        _ => FailureCause::InvalidRequest,
    }
}

/// A finer name for statuses that say more than their cause.
pub(super) fn detail(status: u16) -> Option<&'static str> {
    match status {
        300..=399 => Some("unexpected_redirect"),
        499 => Some("client_closed_request"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(statuses: &[u16], expected: FailureCause) {
        for status in statuses {
            assert_eq!(default_cause(*status, ""), expected, "status {status}");
        }
    }

    #[test]
    fn every_status_has_its_default() {
        check(&[301, 302, 304, 307, 308], FailureCause::MalformedResponse);
        check(&[400, 405, 406, 411, 415, 418, 422, 431], FailureCause::InvalidRequest);
        check(&[401], FailureCause::Authentication);
        check(&[402], FailureCause::QuotaExhausted);
        check(&[403], FailureCause::PermissionDenied);
        check(&[404, 410], FailureCause::ModelNotFound);
        check(&[408, 499, 504, 522, 524], FailureCause::RequestTimeout);
        check(&[409, 423, 425], FailureCause::Conflict);
        check(&[413], FailureCause::RequestTooLarge);
        check(&[424, 500, 505, 507, 599, 600, 999], FailureCause::ServerError);
        check(&[429], FailureCause::RateLimited);
        check(&[501], FailureCause::UnsupportedParameter);
        check(&[502, 520, 521, 523, 525, 526], FailureCause::BadGateway);
        check(&[503, 529], FailureCause::Overloaded);
    }

    #[test]
    fn status_498_is_private_to_its_provider() {
        assert_eq!(default_cause(498, "groq"), FailureCause::Overloaded);
        assert_eq!(default_cause(498, "cohere"), FailureCause::Authentication);
        assert_eq!(default_cause(498, "x"), FailureCause::InvalidRequest);
    }
}
