//! The one place that speaks HTTP to providers. Calls go through `reqwest`, streams through a client
//! that reads less ahead (`streams`).
//!
//! What the client library does by itself is switched off, because each of it has hurt somebody:
//! redirects (they re-send `x-api-key` to another origin), system proxies, the referer, and silent
//! retries (every attempt is ours to count). It has no time-outs by default; every call here has a
//! deadline. And it connects to whatever address a name has; here a target that is not marked
//! `private` is held to the public internet each time a connection is made.

use std::error::Error;
use std::io;
use std::sync::{Arc, OnceLock, PoisonError, RwLock};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::Uri;
use http::header::{ACCEPT, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use http_body_util::Full;
use reqwest::dns::Resolve;
use reqwest::{Client, Method, Request, Response, Url};
use rustls::{ClientConfig, RootCertStore};
use rustls_platform_verifier::BuilderVerifierExt as _;
use tokio::time::{Instant, timeout_at};

use self::names::{PublicOnly, SystemResolver, TargetForbidden, literal};
use self::streams::{StreamClient, StreamSettings};
use super::Dialect;
use super::address::address_allowed;
use crate::exchange::{BodyEnd, HttpResponse, Outcome, TransportFault};

mod names;
mod streams;
#[cfg(test)]
mod tests;

/// What a provider may send ahead on one HTTP/2 stream. A window that adapts grows to 16 MiB, and
/// each reader that stalls would have as much kept for it.
const STREAM_WINDOW: u32 = 128 << 10;

/// What a provider may send ahead on all streams of a connection: enough for 256 that stall, so that
/// they do not hold up the others.
const CONNECTION_WINDOW: u32 = 32 << 20;

/// Largest head of an answer, in bytes.
const HEADERS_BYTES_MAX: u32 = 64 << 10;

/// How long a connection that nobody uses is kept.
const IDLE_TIMEOUT: Duration = Duration::from_secs(90);

/// How often a peer that says nothing is asked whether it is there, by TCP and by HTTP/2.
const TCP_KEEPALIVE: Duration = Duration::from_secs(60);
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(30);

/// How long it may take to answer that.
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(20);

/// Which HTTP versions are spoken to a target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum HttpVersions {
    /// HTTP/2 where TLS negotiation offers it, else HTTP/1.1.
    #[default]
    Auto,
    /// HTTP/2 without asking.
    Http2Only,
    /// HTTP/1.1 only.
    Http1Only,
}

/// What an [`Endpoint`] is made of. All of it is server configuration; nothing here can come from
/// a request or a policy.
pub struct EndpointSettings<'a> {
    /// How its API is spoken.
    pub dialect: &'static dyn Dialect,
    /// Base URL, without a trailing slash.
    pub base_url: &'a str,
    /// The provider's name of the model.
    pub model: &'a str,
    /// Path instead of the dialect's own.
    pub path: Option<&'a str>,
    /// Query parameters laid on the path.
    pub query: &'a [(String, String)],
    /// Headers of every call.
    pub headers: HeaderMap,
    /// Header with the credential, marked sensitive.
    pub credential: Option<(HeaderName, HeaderValue)>,
    /// Longest time to make a connection, TLS included.
    pub connect_timeout: Duration,
    /// HTTP versions.
    pub versions: HttpVersions,
    /// Largest response body in bytes, after decompression.
    pub response_bytes_max: usize,
    /// Idle connections kept.
    pub idle_connections_max: usize,
    /// Whether addresses outside of the public internet may be called.
    pub private: bool,
}

/// An endpoint that cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum EndpointError {
    /// Base URL, path and query together are no URL.
    #[error("base URL and path are not a URL: {0}")]
    Url(String),
    /// The base URL holds an address that only a private target may have.
    #[error("the base URL is a private address and the target is not marked `private`")]
    Forbidden,
    /// The machine's authorities cannot be read.
    #[error("the certificates of authorities that this machine trusts cannot be read")]
    Tls(#[source] rustls::Error),
    /// The HTTP client could not be set up.
    #[error("the HTTP client cannot be set up")]
    Client(#[source] reqwest::Error),
}

/// A target's address with the connections to it. Cheap to clone.
#[derive(Clone)]
pub struct Endpoint {
    inner: Arc<Inner>,
}

struct Inner {
    client: Client,
    streams: StreamClient,
    unary: Url,
    stream: Uri,
    headers: HeaderMap,
    /// Apart from the other headers, since it may be another one tomorrow.
    credential: RwLock<Option<(HeaderName, HeaderValue)>>,
    response_bytes_max: usize,
}

impl Endpoint {
    /// Sets up the client; makes no connection yet.
    ///
    /// # Errors
    /// See [`EndpointError`].
    pub fn new(settings: EndpointSettings<'_>) -> Result<Self, EndpointError> {
        Self::with_resolver(settings, Arc::new(SystemResolver))
    }

    fn with_resolver(
        settings: EndpointSettings<'_>,
        resolver: Arc<dyn Resolve>,
    ) -> Result<Self, EndpointError> {
        let resolver: Arc<dyn Resolve> = match settings.private {
            true => resolver,
            false => Arc::new(PublicOnly(resolver)),
        };
        let tls = tls(settings.base_url, settings.versions)?;
        let client = client(&settings, tls.clone(), resolver.clone())?;
        let unary = url(&settings, false)?;
        let stream = Uri::try_from(url(&settings, true)?.as_str());
        let streams = StreamClient::new(StreamSettings {
            tls,
            resolver,
            connect_timeout: settings.connect_timeout,
            versions: settings.versions,
            idle_connections_max: settings.idle_connections_max,
        });
        let mut headers = settings.headers;
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        for (name, value) in settings.dialect.fixed_headers() {
            headers.entry(HeaderName::from_static(name)).or_insert(HeaderValue::from_static(value));
        }
        headers.entry(ACCEPT).or_insert(HeaderValue::from_static("*/*"));
        Ok(Self {
            inner: Arc::new(Inner {
                client,
                streams,
                unary,
                stream: stream.map_err(|error| EndpointError::Url(error.to_string()))?,
                headers,
                credential: RwLock::new(settings.credential),
                response_bytes_max: settings.response_bytes_max,
            }),
        })
    }

    /// Host and port, for spans.
    pub fn server(&self) -> (&str, u16) {
        let url = &self.inner.unary;
        (url.host_str().unwrap_or_default(), url.port_or_known_default().unwrap_or(0))
    }

    /// Sends this credential from the next call on. Says whether it is another one.
    pub fn set_credential(&self, header: HeaderName, value: HeaderValue) -> bool {
        let next = Some((header, value));
        let mut credential = self.inner.credential.write().unwrap_or_else(PoisonError::into_inner);
        let other = *credential != next;
        *credential = next;
        other
    }

    fn credential(&self) -> Option<(HeaderName, HeaderValue)> {
        self.inner.credential.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Makes one call and reads the whole answer, ending at the deadline at the latest. Dropping
    /// the future drops the connection's use at once.
    pub async fn call(&self, call: Call) -> Outcome {
        let deadline = call.deadline;
        // One timer for all of it: each one that is set costs as much as a small allocation.
        let answer = async {
            match self.send(call).await {
                Ok(incoming) => Outcome::Response(incoming.whole().await),
                Err(fault) => Outcome::Fault(fault),
            }
        };
        timeout_at(deadline, answer).await.unwrap_or(Outcome::Fault(TransportFault::RequestTimeout))
    }

    /// Makes one call and returns with the head of the answer; the body is pulled from it. Dropping
    /// the future or the answer drops the connection's use at once.
    ///
    /// # Errors
    /// When no head came by the deadline.
    pub async fn open(&self, call: Call) -> Result<Incoming, TransportFault> {
        let deadline = call.deadline;
        timeout_at(deadline, self.send(call)).await.unwrap_or(Err(TransportFault::RequestTimeout))
    }

    async fn send(&self, call: Call) -> Result<Incoming, TransportFault> {
        let inner = &*self.inner;
        let mut headers = inner.headers.clone();
        if let Some((header, value)) = self.credential() {
            headers.insert(header, value);
        }
        if let Some(traceparent) = call.traceparent {
            headers.insert(HeaderName::from_static("traceparent"), traceparent);
        }
        let response = if call.stream {
            let mut request = http::Request::new(Full::new(call.body));
            *request.method_mut() = Method::POST;
            *request.uri_mut() = inner.stream.clone();
            *request.headers_mut() = headers;
            // Boxed, so that calls do not carry its size with them.
            Box::pin(inner.streams.send(request)).await?
        } else {
            let mut request = Request::new(Method::POST, inner.unary.clone());
            *request.headers_mut() = headers;
            *request.body_mut() = Some(call.body.into());
            inner.client.execute(request).await.map_err(|error| fault(&error))?
        };
        Ok(Incoming::new(response, inner.response_bytes_max))
    }
}

/// One call.
pub struct Call {
    /// Encoded body.
    pub body: Bytes,
    /// Ask the dialect's streaming address.
    pub stream: bool,
    /// W3C trace context that goes with it.
    pub traceparent: Option<HeaderValue>,
    /// When the call ends at the latest.
    pub deadline: Instant,
}

/// An answer whose head has come. Its body is read only as fast as it is pulled, so that who reads
/// slowly holds the provider back and not our memory.
pub struct Incoming {
    response: Response,
    /// Status code.
    pub status: u16,
    /// Headers.
    pub headers: HeaderMap,
    bytes_left: usize,
}

impl Incoming {
    fn new(mut response: Response, bytes_max: usize) -> Self {
        let status = response.status().as_u16();
        let headers = std::mem::take(response.headers_mut());
        Self { response, status, headers, bytes_left: bytes_max }
    }

    /// The next bytes of the body, or how it ended. Has no time limit of its own; dropping the
    /// future loses nothing.
    ///
    /// # Errors
    /// The end of the body, a good one too.
    pub async fn next(&mut self) -> Result<Bytes, BodyEnd> {
        match self.response.chunk().await {
            Ok(Some(chunk)) => match self.bytes_left.checked_sub(chunk.len()) {
                Some(left) => {
                    self.bytes_left = left;
                    Ok(chunk)
                }
                None => Err(BodyEnd::TooLarge),
            },
            Ok(None) => Err(BodyEnd::Complete),
            Err(error) => Err(body_end(&error)),
        }
    }

    /// Reads the rest of it. Has no time limit of its own.
    pub async fn whole(mut self) -> HttpResponse {
        let mut body = Bytes::new();
        let mut joined = BytesMut::new();
        let end = loop {
            match self.next().await {
                Err(end) => break end,
                // Small answers come in one piece, which is then not copied.
                Ok(chunk) if body.is_empty() && joined.is_empty() => body = chunk,
                Ok(chunk) => {
                    if joined.is_empty() {
                        joined.extend_from_slice(&std::mem::take(&mut body));
                    }
                    joined.extend_from_slice(&chunk);
                }
            }
        };
        let body = if joined.is_empty() { body } else { joined.freeze() };
        let (status, headers) = (self.status, self.headers);
        HttpResponse { status, headers, body, end }
    }
}

fn fault(error: &reqwest::Error) -> TransportFault {
    // The order matters: a connect time-out is both a time-out and a connect error.
    if error.is_timeout() {
        if error.is_connect() {
            TransportFault::ConnectTimeout
        } else {
            TransportFault::RequestTimeout
        }
    } else if causes(error).any(|cause| cause.is::<TargetForbidden>()) {
        TransportFault::Forbidden
    } else if error.is_dns() {
        TransportFault::Dns
    } else if error.is_connect() && negotiation_failed(error) {
        TransportFault::Tls
    } else {
        TransportFault::Connect
    }
}

/// What an error came of, nearest first.
fn causes<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(error.source(), |&cause: &&'a (dyn Error + 'static)| {
        // `source` of an I/O error skips the error that it wraps, and these are wrapped twice.
        let wrapped = cause.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        match wrapped {
            Some(wrapped) => Some(wrapped),
            None => cause.source(),
        }
    })
}

/// True when TLS itself refused, not the connection under it: a handshake that is reset is
/// `connect`, a certificate that does not hold is `tls`.
fn negotiation_failed(error: &(dyn Error + 'static)) -> bool {
    causes(error).any(|cause| cause.is::<rustls::Error>())
}

/// The client of unary calls.
fn client(
    settings: &EndpointSettings<'_>,
    tls: ClientConfig,
    resolver: Arc<dyn Resolve>,
) -> Result<Client, EndpointError> {
    let client = Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .referer(false)
        .no_proxy()
        .tls_backend_preconfigured(tls)
        .dns_resolver(resolver)
        .retry(reqwest::retry::never())
        .connect_timeout(settings.connect_timeout)
        .tcp_nodelay(true)
        .tcp_keepalive(TCP_KEEPALIVE)
        .http2_keep_alive_interval(KEEP_ALIVE_INTERVAL)
        .http2_keep_alive_timeout(KEEP_ALIVE_TIMEOUT)
        .http2_initial_stream_window_size(STREAM_WINDOW)
        .http2_initial_connection_window_size(CONNECTION_WINDOW)
        .http2_max_header_list_size(HEADERS_BYTES_MAX)
        .pool_idle_timeout(IDLE_TIMEOUT)
        .pool_max_idle_per_host(settings.idle_connections_max);
    let client = match settings.versions {
        HttpVersions::Auto => client,
        HttpVersions::Http2Only => client.http2_prior_knowledge(),
        HttpVersions::Http1Only => client.http1_only(),
    };
    client.build().map_err(EndpointError::Client)
}

/// Where unary or streamed calls go.
fn url(settings: &EndpointSettings<'_>, stream: bool) -> Result<Url, EndpointError> {
    let own = settings.dialect.path(settings.model, stream);
    let path = settings.path.unwrap_or(&own);
    let mut url = Url::parse(&format!("{}{path}", settings.base_url))
        .map_err(|error| EndpointError::Url(error.to_string()))?;
    if !settings.query.is_empty() {
        url.query_pairs_mut().extend_pairs(settings.query);
    }
    // Names are resolved when a connection is made; literals never pass a resolver.
    match literal(&url) {
        Some(ip) if !settings.private && !address_allowed(ip) => Err(EndpointError::Forbidden),
        Some(_) | None => Ok(url),
    }
}

/// The TLS settings of a target. The machine's authorities are read once for all of them, which
/// takes milliseconds and a megabyte, and not at all for targets that are called without TLS.
fn tls(base_url: &str, versions: HttpVersions) -> Result<ClientConfig, EndpointError> {
    static TRUSTING: OnceLock<Result<ClientConfig, rustls::Error>> = OnceLock::new();
    let builder = || {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()
    };
    let trusting = || Ok(builder()?.with_platform_verifier()?.with_no_client_auth());
    let none = || -> Result<ClientConfig, rustls::Error> {
        Ok(builder()?.with_root_certificates(RootCertStore::empty()).with_no_client_auth())
    };
    let plain = base_url.get(..7).is_some_and(|scheme| scheme.eq_ignore_ascii_case("http://"));
    let config = match plain {
        true => none(),
        false => TRUSTING.get_or_init(trusting).clone(),
    };
    let mut config = config.map_err(EndpointError::Tls)?;
    let protocols: &[&[u8]] = match versions {
        HttpVersions::Auto => &[b"h2", b"http/1.1"],
        HttpVersions::Http2Only => &[b"h2"],
        HttpVersions::Http1Only => &[b"http/1.1"],
    };
    config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
    Ok(config)
}

fn body_end(error: &reqwest::Error) -> BodyEnd {
    let lost = |cause: &(dyn Error + 'static)| {
        cause.downcast_ref::<io::Error>().is_some_and(|error| {
            matches!(
                error.kind(),
                io::ErrorKind::ConnectionReset
                    | io::ErrorKind::ConnectionAborted
                    | io::ErrorKind::BrokenPipe
            )
        })
    };
    if causes(error).any(lost) { BodyEnd::Reset } else { BodyEnd::Cut }
}
