//! Server configuration: what the operator of the machine decides.
//!
//! Read once, before any port is bound, and refused as a whole when anything in it is wrong. Only
//! here are addresses, keys and headers; policies, pipelines and requests can only name targets.

mod access;
mod base_url;
mod check;
mod gate;
mod groups;
mod paths;
pub mod raw;
mod raw_cache;
pub mod secret;
mod store;
mod telemetry;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value};

use crate::document::{Document, Problems};
use crate::engine::groups::Ability;
use crate::engine::targets::GroupSettings;
use crate::policy::document::{BreakerSection, BudgetSection};
use crate::resilience::pace::PaceLimits;

pub use access::Exposed;
pub use check::Environment;
pub use raw::{RawDialect, RawHttp, RawSecret};
pub use secret::Secret;
pub use store::{CacheConfig, DurableCacheConfig, EMBEDDINGS};

/// Configuration that can be served.
#[derive(Debug)]
pub struct Config {
    /// `PipelineService`.
    pub data: Listener,
    /// `PolicyService` and `OperationsService`.
    pub control: Listener,
    /// Targets by name.
    pub targets: BTreeMap<Arc<str>, TargetConfig>,
    /// Groups of targets.
    pub groups: Vec<GroupSettings>,
    /// Targets of steps that name none.
    pub default_targets: Vec<Arc<str>>,
    /// Policy of runs that name none.
    pub default_policy: Arc<str>,
    /// Folder of policies.
    pub policies_dir: Option<PathBuf>,
    /// Folder of pipelines.
    pub pipelines_dir: Option<PathBuf>,
    /// SQLite file of the documents; in memory if absent.
    pub store: Option<PathBuf>,
    /// Outputs that are kept beyond the memory.
    pub cache: CacheConfig,
    /// Limits.
    pub limits: Limits,
    /// Traces and logs.
    pub telemetry: TelemetryConfig,
    /// Offer reflection.
    pub reflection: bool,
    /// Who may call; everybody if absent.
    pub auth: Option<AuthConfig>,
    /// File of the audit log.
    pub audit: Option<AuditConfig>,
}

/// A listener.
#[derive(Debug, Clone)]
pub struct Listener {
    /// Address.
    pub address: SocketAddr,
    /// TLS.
    pub tls: Option<TlsFiles>,
    /// Serve without TLS wherever it is.
    pub allow_plaintext: bool,
    /// Ask nobody who they are wherever it is.
    pub allow_anonymous: bool,
}

/// How callers are told apart.
#[derive(Debug, Clone)]
pub struct AuthConfig {
    /// Callers with tokens and certificates.
    pub callers_file: Option<PathBuf>,
    /// JSON Web Tokens.
    pub jwt: Option<JwtConfig>,
}

/// JSON Web Tokens.
#[derive(Debug, Clone)]
pub struct JwtConfig {
    /// Public keys.
    pub jwks_file: PathBuf,
    /// What a token must say.
    pub rules: JwtRules,
}

/// What a JSON Web Token must say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JwtRules {
    /// `iss`, exactly.
    pub issuer: String,
    /// One of these must be in `aud`.
    pub audiences: Vec<String>,
    /// How far the clocks may be apart.
    pub leeway: Duration,
    /// Claim with the roles: a name, or a JSON Pointer.
    pub roles_claim: String,
    /// Claim with the tenant, then required; the default tenant without it.
    pub tenant_claim: Option<String>,
}

/// File of the audit log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditConfig {
    /// The file.
    pub path: PathBuf,
    /// Size at which it is renamed.
    pub bytes_max: u64,
    /// Renamed files kept.
    pub files_max: u32,
}

/// Files of a listener's TLS.
#[derive(Debug, Clone)]
pub struct TlsFiles {
    /// Certificate chain.
    pub certificate: PathBuf,
    /// Private key.
    pub key: PathBuf,
    /// Authorities of clients.
    pub client_ca: Option<PathBuf>,
    /// Take clients without a certificate too.
    pub client_certificate_optional: bool,
}

/// A target as configured.
#[derive(Debug, Clone)]
pub struct TargetConfig {
    /// Dialect.
    pub dialect: RawDialect,
    /// Model.
    pub model: String,
    /// Base URL without a trailing slash; the dialect's own if absent.
    pub base_url: Option<String>,
    /// Path.
    pub path: Option<String>,
    /// Query parameters.
    pub query: Vec<(String, String)>,
    /// Where the credential is found.
    pub credential: Option<RawSecret>,
    /// Header and prefix of the credential.
    pub credential_header: Option<(String, String)>,
    /// Further headers.
    pub headers: Vec<(String, String)>,
    /// Members laid over the body.
    pub extra: Map<String, Value>,
    /// Provider's name.
    pub provider: Option<String>,
    /// To connect.
    pub connect_timeout: Duration,
    /// Of an attempt.
    pub attempt_timeout: Duration,
    /// For a place in flight.
    pub queue_timeout: Duration,
    /// Of streams.
    pub pace: PaceLimits,
    /// Prices: input, cached input, output.
    pub price: (f64, Option<f64>, f64),
    /// Window.
    pub context_window: Option<u32>,
    /// Most tokens of an answer.
    pub max_output_tokens: Option<u32>,
    /// What it cannot do.
    pub lacks: Vec<Ability>,
    /// Calls in flight.
    pub in_flight_max: u32,
    /// Calls in flight of one caller.
    pub in_flight_per_caller_max: Option<u32>,
    /// A limit that follows what the target bears: least calls, and what is slow.
    pub adaptive: Option<(u32, f64)>,
    /// Calls that wait.
    pub queue_max: u32,
    /// Requests a minute, and tokens.
    pub rate_limit: (Option<u32>, Option<u32>),
    /// Breaker, over the default policy's.
    pub breaker: Option<BreakerSection>,
    /// Retry budget, over the default policy's.
    pub retry_budget: Option<BudgetSection>,
    /// HTTP versions.
    pub http: RawHttp,
    /// Largest response.
    pub response_bytes_max: usize,
    /// Whether a private address may be connected to.
    pub private: bool,
}

/// Limits that protect the server.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Runs under way.
    pub runs_max: usize,
    /// Runs under way of one caller.
    pub runs_per_caller_max: Option<usize>,
    /// Runs that wait.
    pub runs_queue_max: usize,
    /// Longest wait.
    pub runs_queue_timeout: Duration,
    /// Memory that may be used.
    pub memory_bytes_max: Option<u64>,
    /// Ended runs remembered.
    pub runs_remembered: usize,
    /// Largest request.
    pub request_bytes_max: usize,
    /// Largest response.
    pub response_bytes_max: usize,
    /// Calls at once on a connection.
    pub streams_per_connection: u32,
    /// Connections.
    pub connections_max: usize,
    /// Deadline of callers that set none.
    pub default_deadline: Duration,
    /// Longest deadline.
    pub deadline_cap: Duration,
    /// Longest journaled run.
    pub run_timeout: Duration,
    /// Longest time that the reader of a stream may take nothing.
    pub stream_stall: Duration,
    /// Time to drain.
    pub drain: Duration,
    /// Cache.
    pub cache_bytes: usize,
    /// Changes of documents in a second.
    pub changes_per_second: u32,
    /// Failures recorded for simulations.
    pub failures_recorded: usize,
    /// Bytes that they may take.
    pub failures_recorded_bytes: usize,
}

/// Traces and logs.
#[derive(Debug, Clone, PartialEq)]
pub struct TelemetryConfig {
    /// OTLP/gRPC endpoint.
    pub otlp_endpoint: Option<String>,
    /// `service.name`.
    pub service_name: String,
    /// Further resource attributes.
    pub resource: Vec<(String, String)>,
    /// Share of new traces that is recorded.
    pub sample_ratio: f64,
    /// Log filter.
    pub log: String,
    /// Logs as JSON lines.
    pub log_json: bool,
}

/// Reads a configuration document.
///
/// # Errors
/// Every mistake, in reading order.
pub fn read(document: &Document, environment: &Environment<'_>) -> Result<Config, Problems> {
    let raw = raw::SHAPE.read_once(document)?;
    check::resolve(raw, document, environment)
}
