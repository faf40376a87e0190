//! The server configuration as written. Doc comments become descriptions in the JSON Schema.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::raw_cache::RawCache;
use crate::document::{DurationText, Shape};
use crate::policy::document::{BreakerSection, BudgetSection};

/// The shape of the file.
pub static SHAPE: Shape<RawConfig> = Shape::new();

/// Configuration of a Mainstay server.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(title = "Mainstay server configuration")]
pub struct RawConfig {
    /// Where the server listens.
    pub listeners: RawListeners,
    /// What may be called, by name.
    pub targets: BTreeMap<String, RawTarget>,
    /// Groups of targets, by names that can stand wherever a target's can.
    pub groups: BTreeMap<String, RawGroup>,
    /// Targets of steps that name none: the first is asked, the others are its fallbacks. If
    /// absent: all targets, by name.
    pub default_targets: Option<Vec<String>>,
    /// Policy of runs that name none. `default` if absent.
    pub default_policy: Option<String>,
    /// Policies and pipelines in files.
    pub documents: RawDocuments,
    /// Where policies and pipelines are kept. In memory if absent: what was pushed is forgotten at
    /// the end of the process.
    pub store: Option<RawStore>,
    /// Outputs that are kept beyond the memory.
    pub cache: RawCache,
    /// Limits that protect the server.
    pub limits: RawLimits,
    /// Traces and logs.
    pub telemetry: RawTelemetry,
    /// Offer gRPC server reflection. On if absent; callers need a role for it if there is `auth`.
    pub reflection: Option<bool>,
    /// Who may call. Without it, everybody who reaches a listener may do everything, and the
    /// listeners take only loopback addresses.
    pub auth: Option<RawAuth>,
    /// Where it is written down who changed what.
    pub audit: RawAudit,
}

/// Where the server listens.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RawListeners {
    /// `PipelineService`. `127.0.0.1:50051` if absent.
    pub data: Option<RawListener>,
    /// `PolicyService` and `OperationsService`. `127.0.0.1:50052` if absent.
    pub control: Option<RawListener>,
}

/// One listener.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RawListener {
    /// Address and port; port 0 takes a free one.
    pub address: Option<String>,
    /// TLS. Without it, only a loopback address is taken.
    pub tls: Option<RawTls>,
    /// Serve without TLS on an address that is not loopback.
    pub allow_plaintext: bool,
    /// Let everybody do everything on an address that is not loopback. Only without `auth`.
    pub allow_anonymous: bool,
}

/// TLS of a listener.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawTls {
    /// File with the certificate chain, PEM.
    pub certificate_file: String,
    /// File with the private key, PEM.
    pub key_file: String,
    /// File with the authorities whose client certificates are asked for, PEM.
    #[serde(default)]
    pub client_ca_file: Option<String>,
    /// Take clients without a certificate too; they need a token.
    #[serde(default)]
    pub client_certificate_optional: bool,
}

/// Who may call.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RawAuth {
    /// File with callers, their tokens (as digests or by reference), certificates and roles. Read
    /// again when it changes. Beside the configuration file if relative.
    pub callers_file: Option<String>,
    /// JSON Web Tokens.
    pub jwt: Option<RawJwt>,
}

/// JSON Web Tokens: signed with RS256, ES256 or EdDSA; `exp`, `iss` and `aud` are required.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawJwt {
    /// `iss`, exactly.
    pub issuer: String,
    /// Audiences, one of which must be in `aud`.
    pub audience: Vec<String>,
    /// File with the issuer's public keys, a JSON Web Key Set. Read again when it changes.
    pub jwks_file: String,
    /// How far the clocks may be apart, at most 30 s. 10 s if absent.
    #[serde(default)]
    pub leeway: Option<DurationText>,
    /// Claim with the roles, by name or JSON Pointer. `roles` if absent.
    #[serde(default)]
    pub roles_claim: Option<String>,
    /// Claim with the tenant, by name or JSON Pointer; tokens without it are refused then. If
    /// absent, all tokens are of the tenant `default`.
    #[serde(default)]
    pub tenant_claim: Option<String>,
}

/// Where it is written down who changed what.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RawAudit {
    /// File that entries are appended to, one JSON object a line. In memory only if absent.
    pub file: Option<String>,
    /// Size at which the file is renamed to `FILE.1`. 16 MiB if absent.
    #[schemars(range(min = 4096))]
    pub bytes_max: Option<u32>,
    /// Renamed files kept. 5 if absent.
    #[schemars(range(max = 1_000))]
    pub files_max: Option<u32>,
}

/// Something that may be called.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawTarget {
    /// How its HTTP API is spoken.
    pub dialect: RawDialect,
    /// The provider's name of the model.
    pub model: String,
    /// Base URL; the provider's own if absent. `${NAME}` is replaced by an environment variable,
    /// `${NAME:-text}` with a default for one that is not set.
    #[serde(default)]
    pub base_url: Option<String>,
    /// Path instead of the dialect's own, with a leading slash.
    #[serde(default)]
    pub path: Option<String>,
    /// Query parameters of every call, `api-version` for example.
    #[serde(default)]
    pub query: BTreeMap<String, String>,
    /// Where the credential is found. None if absent.
    #[serde(default)]
    pub credential: Option<RawSecret>,
    /// How the credential is sent; the dialect's own way if absent.
    #[serde(default)]
    pub credential_header: Option<RawCredentialHeader>,
    /// Further headers of every call. Not for secrets.
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    /// Members laid over every request body. `null` removes one.
    #[serde(default)]
    pub extra: Map<String, Value>,
    /// Name of the provider on spans (`gen_ai.provider.name`); the dialect's if absent.
    #[serde(default)]
    pub provider: Option<String>,
    /// Time limits.
    #[serde(default)]
    pub timeouts: RawTimeouts,
    /// Prices in US dollars per million tokens.
    #[serde(default)]
    pub price: RawPrice,
    /// Tokens of prompt and answer together.
    #[serde(default)]
    #[schemars(range(min = 1))]
    pub context_window: Option<u32>,
    /// Most tokens of an answer.
    #[serde(default)]
    #[schemars(range(min = 1))]
    pub max_output_tokens: Option<u32>,
    /// What it cannot do; a group leaves it out for requests that need it.
    #[serde(default)]
    pub lacks: Vec<RawAbility>,
    /// Most calls in flight. 256 if absent.
    #[serde(default)]
    #[schemars(range(min = 1, max = 100_000))]
    pub in_flight_max: Option<u32>,
    /// Most calls in flight of one caller, so that none takes all places. No limit if absent.
    #[serde(default)]
    #[schemars(range(min = 1, max = 100_000))]
    pub in_flight_per_caller_max: Option<u32>,
    /// Find out how many calls at once the target bears, up to `in_flight_max`. Off if absent.
    #[serde(default)]
    pub adaptive: Option<RawAdaptive>,
    /// Most calls that wait for a place. 256 if absent.
    #[serde(default)]
    #[schemars(range(max = 100_000))]
    pub queue_max: Option<u32>,
    /// Pace that the server keeps by itself. No limit if absent.
    #[serde(default)]
    pub rate_limit: RawRateLimit,
    /// When its breaker opens and closes, over what the default policy says.
    #[serde(default)]
    pub breaker: Option<BreakerSection>,
    /// Its retry budget, over what the default policy says.
    #[serde(default)]
    pub retry_budget: Option<BudgetSection>,
    /// HTTP versions. `auto` if absent.
    #[serde(default)]
    pub http: RawHttp,
    /// Largest response in bytes after decompression. 8 MiB if absent.
    #[serde(default)]
    #[schemars(range(min = 1024, max = 268_435_456))]
    pub response_bytes_max: Option<u32>,
    /// A stream that brings fewer bytes of content a second, taken over 10 s, is given up. No limit
    /// if absent.
    #[serde(default)]
    #[schemars(range(min = 0))]
    pub stream_bytes_per_second_min: Option<f64>,
    /// Call it over plain HTTP although it is not on this machine.
    #[serde(default)]
    pub allow_plaintext: bool,
    /// Its address is one of a private network. Without this, a name that leads to such an address
    /// is not called. For `localhost` and loopback addresses it goes without saying.
    #[serde(default)]
    pub private: bool,
}

/// A group of targets. The best comes first for each step, the others are its fallbacks; what
/// admits no call now comes last, and what the request does not fit is left out.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawGroup {
    /// What is best. `ordered` if absent.
    #[serde(default)]
    pub strategy: RawStrategy,
    /// Its targets.
    #[schemars(length(min = 1, max = 64))]
    pub targets: Vec<String>,
    /// Weights for `weighted` and `sticky`; 1 if absent.
    #[serde(default)]
    pub weights: BTreeMap<String, u32>,
    /// Label of a run whose value decides for `sticky`; the caller does if absent.
    #[serde(default)]
    pub sticky_by: Option<String>,
}

/// Which target of a group is best.
#[derive(Debug, Default, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RawStrategy {
    /// The first.
    #[default]
    Ordered,
    /// By chance, each as often as its weight says.
    Weighted,
    /// The one whose calls take least lately.
    LowestLatency,
    /// The one with the lowest price.
    LowestCost,
    /// The one with the smallest part of its places in flight taken.
    LeastInFlight,
    /// The same one for the same key.
    Sticky,
}

/// What a target may be unable to do.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RawAbility {
    /// Images in prompts.
    Images,
    /// Tool calls.
    Tools,
    /// Answers in the form of a JSON schema.
    JsonSchema,
}

/// How an HTTP API is spoken.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RawDialect {
    /// OpenAI chat completions, as OpenAI, Azure, vLLM, llama.cpp, Ollama, Groq, Mistral,
    /// OpenRouter, LM Studio and many others speak them.
    Openai,
    /// Anthropic messages.
    Anthropic,
    /// Gemini `generateContent`.
    Gemini,
}

/// Where a secret is found.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum RawSecret {
    /// In this environment variable.
    Env(String),
    /// In this file; surrounding white space does not belong to it.
    File(String),
}

/// How a credential is sent.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawCredentialHeader {
    /// Header.
    pub name: String,
    /// What stands before the secret, `"Bearer "` for example.
    #[serde(default)]
    pub prefix: String,
}

/// Time limits of a target.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RawTimeouts {
    /// To make a connection, TLS included. 5 s if absent.
    pub connect: Option<DurationText>,
    /// Of one attempt, from its start to the last byte. 60 s if absent.
    pub attempt: Option<DurationText>,
    /// To wait for a place in flight. 5 s if absent.
    pub queue: Option<DurationText>,
    /// Of a stream: to the head of the answer. 20 s if absent.
    pub first_byte: Option<DurationText>,
    /// Of a stream: to the first content. 45 s if absent.
    pub first_token: Option<DurationText>,
    /// Of a stream: without progress after that; pings are no progress. 20 s if absent.
    pub idle: Option<DurationText>,
}

/// Pace that the server keeps by itself.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RawRateLimit {
    /// Calls a minute.
    #[schemars(range(min = 1))]
    pub requests_per_minute: Option<u32>,
    /// Tokens of prompts and answers a minute: estimated before a call, put right after it.
    #[schemars(range(min = 1))]
    pub tokens_per_minute: Option<u32>,
}

/// A limit of calls in flight that follows what a target bears.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RawAdaptive {
    /// Never fewer calls at once. 1 if absent.
    #[schemars(range(min = 1, max = 100_000))]
    pub min: Option<u32>,
    /// Shrinks when a call takes this many times as long as usual. 3 if absent.
    #[schemars(range(min = 1, max = 1_000))]
    pub slow_factor: Option<f64>,
}

/// Prices in US dollars per million tokens.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RawPrice {
    /// Prompt tokens.
    #[schemars(range(min = 0))]
    pub input: f64,
    /// Prompt tokens from the provider's cache; the price of prompt tokens if absent.
    #[schemars(range(min = 0))]
    pub cached_input: Option<f64>,
    /// Answer tokens.
    #[schemars(range(min = 0))]
    pub output: f64,
}

/// HTTP versions.
#[derive(Debug, Default, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RawHttp {
    /// HTTP/2 where TLS negotiation offers it, else HTTP/1.1.
    #[default]
    Auto,
    /// HTTP/2 without asking.
    Http2,
    /// HTTP/1.1 only.
    Http1,
}

/// Policies and pipelines in files.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RawDocuments {
    /// Folder with one policy a file, named by the file. Beside the configuration file if relative.
    pub policies_dir: Option<String>,
    /// Folder with one pipeline a file, named by the file.
    pub pipelines_dir: Option<String>,
}

/// Where policies and pipelines are kept.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawStore {
    /// SQLite file; made if absent. Beside the configuration file if relative. One process owns it.
    pub path: String,
}

/// Limits that protect the server.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RawLimits {
    /// Most runs under way. 1000 if absent.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub runs_max: Option<u32>,
    /// Most runs of one caller under way. No limit of its own if absent.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub runs_per_caller_max: Option<u32>,
    /// Most runs that wait to begin, callers in turn. 1000 if absent.
    #[schemars(range(max = 1_000_000))]
    pub runs_queue_max: Option<u32>,
    /// Longest wait to begin. 5 s if absent.
    pub runs_queue_timeout: Option<DurationText>,
    /// Memory that the process may use: at 80 % of it re-asks and waiting end, at 90 % no new run is
    /// taken in. The control group's limit if absent; nothing is watched without either.
    #[schemars(range(min = 16_777_216))]
    pub memory_bytes_max: Option<u64>,
    /// Ended runs remembered. 10000 if absent.
    #[schemars(range(max = 10_000_000))]
    pub runs_remembered: Option<u32>,
    /// Largest request in bytes. 4 MiB if absent.
    #[schemars(range(min = 1024, max = 268_435_456))]
    pub request_bytes_max: Option<u32>,
    /// Largest response in bytes. 16 MiB if absent.
    #[schemars(range(min = 1024, max = 268_435_456))]
    pub response_bytes_max: Option<u32>,
    /// Most calls at once on one connection. 256 if absent.
    #[schemars(range(min = 1, max = 100_000))]
    pub streams_per_connection: Option<u32>,
    /// Most connections. 10000 if absent.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub connections_max: Option<u32>,
    /// Deadline of callers that set none. 10 min if absent.
    pub default_deadline: Option<DurationText>,
    /// Longest deadline. 1 h if absent.
    pub deadline_cap: Option<DurationText>,
    /// Longest time of a journaled run that sets none. 10 min if absent.
    pub run_timeout: Option<DurationText>,
    /// Longest time that the reader of a stream may take nothing. 30 s if absent.
    pub stream_stall: Option<DurationText>,
    /// How long runs may go on when the server is asked to stop. 25 s if absent.
    pub drain: Option<DurationText>,
    /// Bytes of outputs kept for `fallback_to_cache`. 64 MiB if absent.
    #[schemars(range(max = 4_294_967_295_u64))]
    pub cache_bytes: Option<u64>,
    /// Changes of policies and pipelines that are taken in a second; twice as many at once. 20 if
    /// absent.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub changes_per_second: Option<u32>,
    /// Failures recorded in memory, without payloads, for `SimulatePolicy`; 0 for none. 100000 if
    /// absent.
    #[schemars(range(max = 10_000_000))]
    pub failures_recorded: Option<u32>,
    /// Bytes that they may take. 64 MiB if absent.
    #[schemars(range(max = 4_294_967_295_u64))]
    pub failures_recorded_bytes: Option<u32>,
}

/// Traces and logs.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RawTelemetry {
    /// OTLP/gRPC endpoint; `OTEL_EXPORTER_OTLP_ENDPOINT` if absent; no traces without either.
    pub otlp_endpoint: Option<String>,
    /// `service.name`; `OTEL_SERVICE_NAME`, else `mainstay`, if absent.
    pub service_name: Option<String>,
    /// Share of new traces that is recorded; `OTEL_TRACES_SAMPLER_ARG`, else 1, if absent.
    #[schemars(range(min = 0, max = 1))]
    pub sample_ratio: Option<f64>,
    /// Log filter, `info` or `mainstay=debug` for example. `info` if absent.
    pub log: Option<String>,
    /// Logs as JSON lines.
    pub log_json: bool,
}
