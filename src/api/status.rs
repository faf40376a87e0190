//! The one place where failures and errors become a gRPC status.
//!
//! A failed run is a non-OK status with `google.rpc.ErrorInfo` (reason = cause), our own `Failure`
//! and, where waiting helps, `RetryInfo`. The message is one printable line without any source.
//! Every status tells gRPC clients not to retry by themselves: retrying is this service's work.

use std::collections::HashMap;
use std::time::Duration;

use prost::Message as _;
use prost_types::Any;
use tonic::metadata::{MetadataMap, MetadataValue};
use tonic::{Code, Status};
use tonic_types::pb::{BadRequest, ErrorInfo, RetryInfo, bad_request::FieldViolation};

use super::auth::Refused;
use super::convert;
use crate::engine::SubmitError;
use crate::failure::{Failure, FailureCause, FailureDomain};
use crate::journal::{RunRecord, RunState};
use crate::store::sqlite::StoreError;
use crate::telemetry::redact::status_message;

/// `ErrorInfo.domain` of everything said here.
pub const ERROR_DOMAIN: &str = "mainstay";

/// A fault of a request, by field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldFault {
    /// Path of the field in proto names, `inline.messages[0].parts` for example.
    pub field: String,
    /// What is wrong with it.
    pub description: String,
}

impl FieldFault {
    /// A fault.
    pub fn new(field: impl Into<String>, description: impl Into<String>) -> Self {
        Self { field: field.into(), description: description.into() }
    }
}

/// Something that does not exist, by kind and name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotFound {
    /// Closed list: `PIPELINE_NOT_FOUND`, `STEP_NOT_FOUND`, `RUN_NOT_FOUND`, `POLICY_NOT_FOUND`,
    /// `TARGET_NOT_FOUND`.
    pub reason: &'static str,
    /// One line.
    pub message: String,
}

pub(super) fn any<M: prost::Message>(name: &str, message: &M) -> Any {
    Any { type_url: format!("type.googleapis.com/{name}"), value: message.encode_to_vec() }
}

pub(super) fn error_info(reason: &str, metadata: HashMap<String, String>) -> Any {
    let info = ErrorInfo { reason: reason.to_owned(), domain: ERROR_DOMAIN.to_owned(), metadata };
    any("google.rpc.ErrorInfo", &info)
}

pub(super) fn retry_info(after: Duration) -> Any {
    let delay = prost_types::Duration::try_from(after).unwrap_or_default();
    any("google.rpc.RetryInfo", &RetryInfo { retry_delay: Some(delay) })
}

pub(super) fn status(
    code: Code,
    message: &str,
    details: Vec<Any>,
    mut metadata: MetadataMap,
) -> Status {
    let message = status_message(message);
    let body = tonic_types::Status { code: code as i32, message: message.clone(), details };
    metadata.insert("grpc-retry-pushback-ms", MetadataValue::from_static("-1"));
    Status::with_details_and_metadata(code, message, body.encode_to_vec().into(), metadata)
}

/// Faults of a request, all at once.
pub fn of_faults(faults: &[FieldFault]) -> Status {
    let field_violations = faults
        .iter()
        .take(64)
        .map(|fault| FieldViolation {
            field: fault.field.clone(),
            description: fault.description.clone(),
            ..FieldViolation::default()
        })
        .collect();
    let message = match faults {
        [one] => format!("{}: {}", one.field, one.description),
        [first, ..] => {
            format!("{} faults; the first: {}: {}", faults.len(), first.field, first.description)
        }
        [] => "the request is malformed".to_owned(),
    };
    let details = vec![
        error_info("INVALID_REQUEST", HashMap::new()),
        any("google.rpc.BadRequest", &BadRequest { field_violations }),
    ];
    status(Code::InvalidArgument, &message, details, MetadataMap::new())
}

/// Something that does not exist.
pub fn of_not_found(missing: &NotFound) -> Status {
    let details = vec![error_info(missing.reason, HashMap::new())];
    status(Code::NotFound, &missing.message, details, MetadataMap::new())
}

/// A caller that is not let in, or may not make this call.
pub fn of_refused_caller(refused: &Refused) -> Status {
    let (code, reason) = match refused {
        Refused::Missing => (Code::Unauthenticated, "CREDENTIALS_MISSING"),
        Refused::Invalid => (Code::Unauthenticated, "CREDENTIALS_INVALID"),
        Refused::Expired => (Code::Unauthenticated, "CREDENTIALS_EXPIRED"),
        Refused::NotYet => (Code::Unauthenticated, "CREDENTIALS_NOT_YET_VALID"),
        Refused::Role { .. } => (Code::PermissionDenied, "ROLE_MISSING"),
        Refused::NotListed => (Code::PermissionDenied, "CALL_NOT_LISTED"),
    };
    let details = vec![error_info(reason, HashMap::new())];
    status(code, &refused.to_string(), details, MetadataMap::new())
}

/// A call that this release does not serve yet.
pub fn not_offered(what: &str) -> Status {
    let details = vec![error_info("NOT_OFFERED", HashMap::new())];
    status(
        Code::Unimplemented,
        &format!("{what} is not offered by this release"),
        details,
        MetadataMap::new(),
    )
}

/// A request that could not be served.
pub fn of_submit_error(error: &SubmitError) -> Status {
    let (code, reason, retry_after) = match error {
        SubmitError::QueueFull { retry_after } => {
            (Code::ResourceExhausted, "QUEUE_FULL", Some(*retry_after))
        }
        SubmitError::MemoryShort { retry_after } => {
            (Code::ResourceExhausted, "MEMORY_SHORT", Some(*retry_after))
        }
        SubmitError::ShuttingDown => (Code::Unavailable, "SHUTTING_DOWN", None),
        SubmitError::IdempotencyKeyReused => (Code::AlreadyExists, "IDEMPOTENCY_KEY_REUSED", None),
        SubmitError::RunIdTaken { .. } => (Code::AlreadyExists, "RUN_ID_TAKEN", None),
        SubmitError::PolicyNotFound { .. } => (Code::NotFound, "POLICY_NOT_FOUND", None),
        SubmitError::DeadlinePassed => (Code::DeadlineExceeded, "DEADLINE_PASSED", None),
        SubmitError::StillRunning { .. } => (Code::DeadlineExceeded, "STILL_RUNNING", None),
        SubmitError::ReaderStalled => (Code::ResourceExhausted, "READER_STALLED", None),
    };
    let mut metadata = HashMap::new();
    let mut trailers = MetadataMap::new();
    match error {
        SubmitError::StillRunning { run_id } | SubmitError::RunIdTaken { run_id } => {
            metadata.insert("run_id".to_owned(), run_id.clone());
            insert(&mut trailers, "mainstay-run-id", run_id);
        }
        SubmitError::QueueFull { .. }
        | SubmitError::MemoryShort { .. }
        | SubmitError::ShuttingDown
        | SubmitError::IdempotencyKeyReused
        | SubmitError::PolicyNotFound { .. }
        | SubmitError::ReaderStalled
        | SubmitError::DeadlinePassed => {}
    }
    let mut details = vec![error_info(reason, metadata)];
    details.extend(retry_after.map(retry_info));
    status(code, &error.to_string(), details, trailers)
}

/// Outputs that were to be forgotten and may still be on the disk.
pub fn of_kept_outputs(error: &StoreError) -> Status {
    let message = format!(
        "the outputs are forgotten in memory, but perhaps not on the disk; ask again: {error}"
    );
    let info = error_info("STORE_UNAVAILABLE", HashMap::new());
    status(Code::Unavailable, &message, vec![info], MetadataMap::new())
}

/// The code that a run's end becomes; `Ok` for runs that ended well or degraded.
pub fn code_of_run(record: &RunRecord) -> Code {
    match record.state {
        RunState::Succeeded | RunState::Degraded | RunState::Skipped => Code::Ok,
        RunState::Pending | RunState::Running => Code::Ok,
        RunState::Cancelled => Code::Cancelled,
        RunState::Failed => {
            if record.failed_step().is_some_and(|step| step.ended_by_caller) {
                return Code::DeadlineExceeded;
            }
            record.failure.as_ref().map_or(Code::Internal, |(_, failure)| code_of(failure))
        }
    }
}

/// The status name of a run's end, for spans.
pub fn status_name_of_run(record: &RunRecord) -> &'static str {
    match code_of_run(record) {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::Unavailable => "UNAVAILABLE",
        Code::Internal
        | Code::Unknown
        | Code::NotFound
        | Code::AlreadyExists
        | Code::PermissionDenied
        | Code::OutOfRange
        | Code::Unimplemented
        | Code::DataLoss
        | Code::Unauthenticated => "INTERNAL",
    }
}

fn code_of(failure: &Failure) -> Code {
    match failure.domain() {
        FailureDomain::InputConstraint => Code::InvalidArgument,
        FailureDomain::OutputSemantic => Code::Aborted,
        FailureDomain::PipelineLogic => match failure.cause {
            FailureCause::Internal => Code::Internal,
            _ => Code::FailedPrecondition,
        },
        FailureDomain::Infrastructure => match failure.cause {
            FailureCause::RateLimited
            | FailureCause::QuotaExhausted
            | FailureCause::BulkheadFull => Code::ResourceExhausted,
            _ => Code::Unavailable,
        },
    }
}

/// When the caller may come again: the provider's hint; a second for what passes by itself; never
/// for what does not.
fn retry_after(failure: &Failure) -> Option<Duration> {
    match failure.domain() {
        FailureDomain::Infrastructure if failure.retryable => {
            Some(failure.retry_after.unwrap_or(Duration::from_secs(1)))
        }
        FailureDomain::Infrastructure if failure.cause == FailureCause::QuotaExhausted => {
            failure.retry_after
        }
        FailureDomain::Infrastructure
        | FailureDomain::InputConstraint
        | FailureDomain::OutputSemantic
        | FailureDomain::PipelineLogic => None,
    }
}

fn insert(metadata: &mut MetadataMap, key: &'static str, value: &str) {
    if let Ok(value) = value.parse() {
        metadata.insert(key, value);
    }
}

/// A run that ended without a usable output.
pub fn of_failed_run(record: &RunRecord) -> Status {
    let code = code_of_run(record);
    let mut trailers = MetadataMap::new();
    insert(&mut trailers, "mainstay-run-id", &record.run_id);
    let Some((step, failure)) = &record.failure else {
        let metadata = HashMap::from([("run_id".to_owned(), record.run_id.to_string())]);
        let reason = if code == Code::Cancelled { "CANCELLED" } else { "INTERNAL" };
        let details = vec![error_info(reason, metadata)];
        return status(code, "the run was cancelled", details, trailers);
    };
    insert(&mut trailers, "mainstay-failure-domain", failure.domain().name());
    insert(&mut trailers, "mainstay-failure-cause", failure.cause.name());
    let wire = convert::run_failure(record, step, failure);
    let action = convert::action_name(wire.action());
    let metadata = HashMap::from([
        ("failure_domain".to_owned(), failure.domain().name().to_owned()),
        ("cause".to_owned(), failure.cause.name().to_owned()),
        ("action".to_owned(), action.to_owned()),
        ("step".to_owned(), step.to_string()),
        ("target".to_owned(), wire.target.clone()),
        ("attempts".to_owned(), wire.attempts.to_string()),
        ("run_id".to_owned(), record.run_id.to_string()),
        ("policy_name".to_owned(), record.policy.name.to_string()),
        ("policy_version".to_owned(), record.policy.version.to_string()),
    ]);
    let attempts = if wire.attempts == 1 { "call" } else { "calls" };
    let message = format!(
        "step {step}: {} ({}/{}, {} {attempts}, last action {action})",
        failure.message,
        failure.domain(),
        failure.cause,
        wire.attempts,
    );
    let mut details =
        vec![error_info(failure.cause.name(), metadata), any("mainstay.v1.Failure", &wire)];
    details.extend(retry_after(failure).map(retry_info));
    if failure.domain() == FailureDomain::InputConstraint {
        let violation = FieldViolation {
            field: "input_json".to_owned(),
            description: failure.message.clone(),
            reason: failure.cause.name().to_ascii_uppercase(),
            ..FieldViolation::default()
        };
        let bad = BadRequest { field_violations: vec![violation] };
        details.push(any("google.rpc.BadRequest", &bad));
    }
    status(code, &message, details, trailers)
}
