//! The command line's side of the API: a channel with the caller's credentials, and failures made
//! readable.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::task::{Context, Poll};
use std::time::Duration;

use http::header::AUTHORIZATION;
use http::{HeaderValue, Uri};
use prost::Message as _;
use tonic::body::Body;
use tonic::transport::channel::ResponseFuture;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};
use tonic::{Code, Request, Response, Status};
use tonic_types::StatusExt as _;
use tower::Service;

use super::pb;
use super::pb::operations_service_client::OperationsServiceClient;
use super::pb::pipeline_service_client::PipelineServiceClient;
use super::pb::policy_service_client::PolicyServiceClient;
use crate::config::Secret;

/// A client of the data plane.
pub type PipelineClient = PipelineServiceClient<Caller>;
/// A client of the control plane, for policies and pipelines.
pub type PolicyClient = PolicyServiceClient<Caller>;
/// A client of the control plane, for what serves.
pub type OperationsClient = OperationsServiceClient<Caller>;

/// What a caller shows of itself, and whom it trusts.
#[derive(Debug, Clone, Default)]
pub struct Credentials {
    /// Bearer token.
    pub token: Option<Secret>,
    /// PEM file with the authorities that the service's certificate may come from; the system's
    /// if absent. Given, it also means TLS for an address without a scheme.
    pub tls_ca: Option<PathBuf>,
    /// PEM files with the caller's own certificate and key.
    pub tls_identity: Option<(PathBuf, PathBuf)>,
    /// Send the token without TLS to a service that is not on this machine.
    pub allow_plaintext: bool,
}

/// An address that cannot be called.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// Not an address.
    #[error("`{0}` is not an address; expected HOST:PORT, http://HOST:PORT or https://HOST:PORT")]
    Address(String),
    /// Nobody answers.
    #[error("no service answers at {address}; `mainstay serve` starts one")]
    Unreachable {
        /// The address.
        address: String,
        /// Why.
        #[source]
        source: tonic::transport::Error,
    },
    /// A file of the caller's TLS cannot be read.
    #[error("cannot read {path}")]
    TlsFile {
        /// The file.
        path: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The files do not make a TLS configuration.
    #[error("the TLS files cannot be used")]
    Tls(#[source] tonic::transport::Error),
    /// The token would be readable on the way.
    #[error(
        "{0} is not on this machine and the connection has no TLS: the token would be readable on the way; use https://, or say --allow-plaintext"
    )]
    Plaintext(String),
    /// The token cannot stand in a header.
    #[error("the token holds characters that no token has")]
    Token,
}

/// A connection that shows the caller's token with every call.
#[derive(Debug, Clone)]
pub struct Caller {
    channel: Channel,
    authorization: Option<HeaderValue>,
}

impl From<Channel> for Caller {
    fn from(channel: Channel) -> Self {
        Self { channel, authorization: None }
    }
}

impl Service<http::Request<Body>> for Caller {
    type Response = http::Response<Body>;
    type Error = tonic::transport::Error;
    type Future = ResponseFuture;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.channel.poll_ready(cx)
    }

    fn call(&mut self, mut request: http::Request<Body>) -> Self::Future {
        if let Some(value) = &self.authorization {
            request.headers_mut().insert(AUTHORIZATION, value.clone());
        }
        self.channel.call(request)
    }
}

/// Connects to a service without credentials.
///
/// # Errors
/// See [`ConnectError`].
pub async fn connect(address: &str) -> Result<Channel, ConnectError> {
    Ok(connect_as(address, &Credentials::default()).await?.channel)
}

/// Connects to a service with credentials.
///
/// # Errors
/// See [`ConnectError`].
pub async fn connect_as(address: &str, credentials: &Credentials) -> Result<Caller, ConnectError> {
    let bad = || ConnectError::Address(address.to_owned());
    let tls = credentials.tls_ca.is_some() || credentials.tls_identity.is_some();
    let url = match address.contains("://") {
        true => address.to_owned(),
        false => format!("{}://{address}", if tls { "https" } else { "http" }),
    };
    let uri: Uri = url.parse().map_err(|_| bad())?;
    let host = uri.host().ok_or_else(bad)?;
    let encrypted = uri.scheme_str() == Some("https");
    let authorization = credentials.token.as_ref().map(authorization).transpose()?;
    if authorization.is_some() && !encrypted && !is_here(host) && !credentials.allow_plaintext {
        return Err(ConnectError::Plaintext(host.to_owned()));
    }
    let mut endpoint = Endpoint::from(uri.clone())
        .connect_timeout(Duration::from_secs(5))
        .tcp_nodelay(true)
        .http2_keep_alive_interval(Duration::from_secs(30))
        .keep_alive_while_idle(true);
    if encrypted {
        endpoint = endpoint.tls_config(client_tls(credentials)?).map_err(ConnectError::Tls)?;
    }
    let connected = endpoint.connect().await;
    let channel = connected
        .map_err(|source| ConnectError::Unreachable { address: address.to_owned(), source })?;
    Ok(Caller { channel, authorization })
}

fn is_here(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    host.eq_ignore_ascii_case("localhost")
        || bare.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

fn authorization(token: &Secret) -> Result<HeaderValue, ConnectError> {
    let mut value = HeaderValue::from_str(&format!("Bearer {}", token.expose()))
        .map_err(|_| ConnectError::Token)?;
    value.set_sensitive(true);
    Ok(value)
}

fn client_tls(credentials: &Credentials) -> Result<ClientTlsConfig, ConnectError> {
    let read = |path: &Path| {
        std::fs::read(path)
            .map_err(|source| ConnectError::TlsFile { path: path.display().to_string(), source })
    };
    let mut tls = match &credentials.tls_ca {
        Some(path) => ClientTlsConfig::new().ca_certificate(Certificate::from_pem(read(path)?)),
        None => ClientTlsConfig::new().with_native_roots(),
    };
    if let Some((certificate, key)) = &credentials.tls_identity {
        tls = tls.identity(Identity::from_pem(read(certificate)?, read(key)?));
    }
    Ok(tls)
}

/// Largest message that the command line takes and sends.
const MESSAGE_BYTES_MAX: usize = 64 << 20;

/// A client of the data plane over a connection.
pub fn pipelines(caller: impl Into<Caller>) -> PipelineClient {
    PipelineClient::new(caller.into())
        .max_decoding_message_size(MESSAGE_BYTES_MAX)
        .max_encoding_message_size(MESSAGE_BYTES_MAX)
}

/// A client of the control plane over a connection, for policies and pipelines.
pub fn policies(caller: impl Into<Caller>) -> PolicyClient {
    PolicyClient::new(caller.into())
        .max_decoding_message_size(MESSAGE_BYTES_MAX)
        .max_encoding_message_size(MESSAGE_BYTES_MAX)
}

/// A client of the control plane over a connection, for what serves.
pub fn operations(caller: impl Into<Caller>) -> OperationsClient {
    OperationsClient::new(caller.into()).max_decoding_message_size(MESSAGE_BYTES_MAX)
}

/// Longest wait of a command for an answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(60);

/// A request that is not waited for without end.
pub fn bounded<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(ANSWER_WITHIN);
    request
}

/// The answer of a call, or why it was refused.
///
/// # Errors
/// See [`Refusal`].
pub async fn call<T>(
    answer: impl Future<Output = Result<Response<T>, Status>>,
) -> Result<T, Box<Refusal>> {
    answer.await.map(Response::into_inner).map_err(|status| Box::new(refusal(&status)))
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

impl Refusal {
    /// Whether the service could not be reached or could not answer, as against a call that is
    /// wrong or that this caller may not make.
    pub fn is_unavailable(&self) -> bool {
        match self.code {
            Code::Unavailable
            | Code::DeadlineExceeded
            | Code::ResourceExhausted
            | Code::Internal
            | Code::Unknown
            | Code::DataLoss
            | Code::Cancelled => true,
            Code::Ok
            | Code::InvalidArgument
            | Code::NotFound
            | Code::AlreadyExists
            | Code::PermissionDenied
            | Code::Unauthenticated
            | Code::FailedPrecondition
            | Code::Aborted
            | Code::OutOfRange
            | Code::Unimplemented => false,
        }
    }

    /// Whether the caller is not known or may not make this call.
    pub fn is_of_access(&self) -> bool {
        matches!(self.code, Code::Unauthenticated | Code::PermissionDenied)
    }
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
