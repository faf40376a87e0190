//! Refused changes as statuses.

use std::collections::HashMap;

use tonic::metadata::MetadataMap;
use tonic::{Code, Status};
use tonic_types::pb::{BadRequest, bad_request::FieldViolation};

use crate::api::status::{any, error_info, retry_info, status};
use crate::control::ChangeError;
use crate::document::{Problem, Problems, Severity};

/// Bytes of violations that travel in a status: it is a trailer, and clients refuse long ones.
const VIOLATIONS_BYTES_MAX: usize = 5 * 1024;

/// A change that was refused.
pub(in crate::api) fn of_change(error: &ChangeError) -> Status {
    let (code, reason) = code(error);
    let mut metadata = HashMap::new();
    let mut details = Vec::new();
    let message = match error {
        ChangeError::Invalid(problems) | ChangeError::Unmet(problems) => {
            details.push(violations(problems));
            headline(problems)
        }
        ChangeError::Outage { share, .. } => {
            metadata.insert("halting_share".to_owned(), format!("{share:.3}"));
            error.to_string()
        }
        ChangeError::Stale { current } => {
            metadata.insert("current_version".to_owned(), current.to_string());
            error.to_string()
        }
        ChangeError::RolloutUnderWay { version } => {
            metadata.insert("rollout_version".to_owned(), version.to_string());
            error.to_string()
        }
        ChangeError::Busy { retry_after } => {
            details.push(retry_info(*retry_after));
            error.to_string()
        }
        ChangeError::Owned { .. }
        | ChangeError::InUse { .. }
        | ChangeError::NoRollout { .. }
        | ChangeError::NotFound { .. }
        | ChangeError::VersionNotFound { .. }
        | ChangeError::Full { .. }
        | ChangeError::StoreAway(_)
        | ChangeError::Stopping
        | ChangeError::Internal => error.to_string(),
    };
    details.insert(0, error_info(reason, metadata));
    status(code, &message, details, MetadataMap::new())
}

/// The code, and the reason from the closed list of `ErrorInfo`.
fn code(error: &ChangeError) -> (Code, &'static str) {
    use crate::journal::documents::Kind;
    match error {
        ChangeError::Invalid(_) => (Code::InvalidArgument, "DOCUMENT_INVALID"),
        ChangeError::Unmet(_) => (Code::FailedPrecondition, "DOCUMENT_UNMET"),
        ChangeError::Outage { .. } => (Code::FailedPrecondition, "WOULD_STOP_ALL_TRAFFIC"),
        ChangeError::Stale { .. } => (Code::Aborted, "STALE_VERSION"),
        ChangeError::Owned { .. } => (Code::FailedPrecondition, "DOCUMENT_OWNED"),
        ChangeError::InUse { .. } => (Code::FailedPrecondition, "DOCUMENT_IN_USE"),
        ChangeError::RolloutUnderWay { .. } => (Code::FailedPrecondition, "ROLLOUT_UNDER_WAY"),
        ChangeError::NoRollout { .. } => (Code::FailedPrecondition, "NO_ROLLOUT"),
        ChangeError::NotFound { kind: Kind::Policy, .. } => (Code::NotFound, "POLICY_NOT_FOUND"),
        ChangeError::NotFound { kind: Kind::Pipeline, .. } => {
            (Code::NotFound, "PIPELINE_NOT_FOUND")
        }
        ChangeError::VersionNotFound { .. } => (Code::NotFound, "VERSION_NOT_FOUND"),
        ChangeError::Full { .. } => (Code::ResourceExhausted, "LIBRARY_FULL"),
        ChangeError::Busy { .. } => (Code::ResourceExhausted, "TOO_MANY_CHANGES"),
        ChangeError::StoreAway(_) => (Code::Unavailable, "STORE_UNAVAILABLE"),
        ChangeError::Stopping => (Code::Unavailable, "SHUTTING_DOWN"),
        ChangeError::Internal => (Code::Internal, "INTERNAL"),
    }
}

fn errors(problems: &Problems) -> impl Iterator<Item = &Problem> {
    problems.0.iter().filter(|problem| problem.severity == Severity::Error)
}

fn headline(problems: &Problems) -> String {
    let count = errors(problems).count();
    match errors(problems).next() {
        Some(one) if count == 1 => one.to_string(),
        Some(first) => format!("{count} errors; the first: {first}"),
        None => "the document is refused".to_owned(),
    }
}

fn violations(problems: &Problems) -> prost_types::Any {
    let mut left = VIOLATIONS_BYTES_MAX;
    let mut field_violations = Vec::new();
    for problem in errors(problems) {
        let violation = FieldViolation {
            field: problem.dotted_path(),
            description: problem.to_string(),
            ..FieldViolation::default()
        };
        let size = violation.field.len() + violation.description.len() + 16;
        if size > left {
            break;
        }
        left -= size;
        field_violations.push(violation);
    }
    let more = errors(problems).count() - field_violations.len();
    if more > 0 {
        field_violations.push(FieldViolation {
            description: format!("and {more} more; validating the document lists all of them"),
            ..FieldViolation::default()
        });
    }
    any("google.rpc.BadRequest", &BadRequest { field_violations })
}

#[cfg(test)]
mod tests {
    use tonic_types::StatusExt as _;

    use super::*;
    use crate::document::Position;

    #[test]
    fn ten_thousand_problems_fit_into_a_trailer() {
        let at = |line| Position { line, column: 1 };
        let problem = |n| Problem::error(format!("/routing/x{n}"), at(n), "unknown key".repeat(5));
        let status =
            of_change(&ChangeError::Invalid(Problems((1..=10_000).map(problem).collect())));
        assert_eq!(status.code(), Code::InvalidArgument);
        assert!(status.details().len() < 7 * 1024, "{}", status.details().len());
        let details = status.get_error_details();
        let violations = &details.bad_request().unwrap().field_violations;
        assert_eq!(violations[0].field, "routing.x1");
        let last = &violations.last().unwrap().description;
        assert!(last.starts_with("and 99"), "{last}");
    }
}
