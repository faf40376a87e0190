//! The command line's side of the API: a channel, and failures made readable.

use std::time::Duration;

use prost::Message as _;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use super::pb;
use super::pb::pipeline_service_client::PipelineServiceClient;

/// A client of the data plane.
pub type PipelineClient = PipelineServiceClient<Channel>;

/// An address that cannot be called.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// Not an address.
    #[error("`{0}` is not an address; expected HOST:PORT")]
    Address(String),
    /// Nobody answers.
    #[error(
        "no service answers at {address}; start one with `mainstay serve --rehearse`, or leave the address out"
    )]
    Unreachable {
        /// The address.
        address: String,
        /// Why.
        #[source]
        source: tonic::transport::Error,
    },
}

/// Connects to a service.
///
/// # Errors
/// See [`ConnectError`].
pub async fn connect(address: &str) -> Result<Channel, ConnectError> {
    let url =
        if address.contains("://") { address.to_owned() } else { format!("http://{address}") };
    let endpoint =
        Endpoint::from_shared(url).map_err(|_| ConnectError::Address(address.to_owned()))?;
    endpoint
        .connect_timeout(Duration::from_secs(5))
        .tcp_nodelay(true)
        .http2_keep_alive_interval(Duration::from_secs(30))
        .keep_alive_while_idle(true)
        .connect()
        .await
        .map_err(|source| ConnectError::Unreachable { address: address.to_owned(), source })
}

/// A client of the data plane over a channel.
pub fn pipelines(channel: Channel) -> PipelineClient {
    PipelineClient::new(channel)
        .max_decoding_message_size(64 << 20)
        .max_encoding_message_size(64 << 20)
}

/// What a failed call says, taken apart.
#[derive(Debug, Clone, PartialEq)]
pub struct Refusal {
    /// gRPC status.
    pub code: Code,
    /// Its message.
    pub message: String,
    /// `ErrorInfo.reason`.
    pub reason: String,
    /// The failure of a run.
    pub failure: Option<Box<pb::Failure>>,
    /// Faults of a request: field and description.
    pub faults: Vec<(String, String)>,
    /// When to come again.
    pub retry_after: Option<Duration>,
    /// The run.
    pub run_id: String,
}

/// Takes a status apart.
pub fn refusal(status: &Status) -> Refusal {
    let details = status.get_error_details();
    let failure = tonic_types::Status::decode(status.details())
        .ok()
        .and_then(|status| {
            status.details.into_iter().find(|any| any.type_url.ends_with("mainstay.v1.Failure"))
        })
        .and_then(|any| pb::Failure::decode(&*any.value).ok())
        .map(Box::new);
    let run_id = status
        .metadata()
        .get("mainstay-run-id")
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    Refusal {
        code: status.code(),
        message: status.message().to_owned(),
        reason: details.error_info().map(|info| info.reason.clone()).unwrap_or_default(),
        faults: details
            .bad_request()
            .map(|bad| {
                bad.field_violations
                    .iter()
                    .map(|fault| (fault.field.clone(), fault.description.clone()))
                    .collect()
            })
            .unwrap_or_default(),
        retry_after: details.retry_info().and_then(|info| info.retry_delay),
        run_id: run_id.to_owned(),
        failure,
    }
}
