//! The client of streams. Over HTTP/1.1 a reader that stands still holds as much memory as the
//! client reads ahead, and `reqwest` has no setting for that: it lets the buffer of a provider that
//! floods grow to 400 KiB. So streams have the client that `reqwest` itself stands on, with a buffer
//! that stays small, and connections of their own, on which a stalled stream holds up no other call.

use std::error::Error;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::Uri;
use http_body_util::Full;
use hyper_rustls::{HttpsConnectorBuilder, MaybeHttpsStream};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::{Client, Error as ClientError};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use reqwest::dns::Resolve;
use reqwest::{Body, Response};
use rustls::ClientConfig;
use tokio::net::TcpStream;
use tower::timeout::Timeout;
use tower::util::BoxCloneSyncService;
use tower::{BoxError, Service as _, ServiceExt as _};
use tower_http::decompression::Decompression;

use super::names::{Names, TargetForbidden, Unresolved};
use super::{
    CONNECTION_WINDOW, HEADERS_BYTES_MAX, HttpVersions, IDLE_TIMEOUT, KEEP_ALIVE_INTERVAL,
    KEEP_ALIVE_TIMEOUT, STREAM_WINDOW, TCP_KEEPALIVE, causes, negotiation_failed,
};
use crate::exchange::TransportFault;

/// What is read ahead of a stream over HTTP/1.1 before it is decoded, in bytes. The head of an answer
/// must fit too.
const READ_AHEAD: usize = HEADERS_BYTES_MAX as usize;

/// The client asks for futures that can be moved; those of a time limit cannot unless boxed.
type Connector = BoxCloneSyncService<Uri, MaybeHttpsStream<TokioIo<TcpStream>>, BoxError>;

/// Makes calls whose answers are read slowly.
#[derive(Clone)]
pub(super) struct StreamClient(Decompression<Client<Connector, Full<Bytes>>>);

/// How connections are made.
pub(super) struct StreamSettings {
    pub tls: ClientConfig,
    pub resolver: Arc<dyn Resolve>,
    pub connect_timeout: Duration,
    pub versions: HttpVersions,
    pub idle_connections_max: usize,
}

impl StreamClient {
    /// Sets up the client; makes no connection yet.
    pub(super) fn new(settings: StreamSettings) -> Self {
        let mut tcp = HttpConnector::new_with_resolver(Names(settings.resolver));
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_keepalive(Some(TCP_KEEPALIVE));
        // The client library names the protocols itself and refuses settings that do.
        let mut tls = settings.tls;
        tls.alpn_protocols.clear();
        let https = HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http();
        let https = match settings.versions {
            HttpVersions::Auto => https.enable_all_versions().wrap_connector(tcp),
            HttpVersions::Http2Only => https.enable_http2().wrap_connector(tcp),
            HttpVersions::Http1Only => https.enable_http1().wrap_connector(tcp),
        };
        let client = Client::builder(TokioExecutor::new())
            .timer(TokioTimer::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE_TIMEOUT)
            .pool_max_idle_per_host(settings.idle_connections_max)
            .http1_max_buf_size(READ_AHEAD)
            .http2_only(settings.versions == HttpVersions::Http2Only)
            .http2_keep_alive_interval(KEEP_ALIVE_INTERVAL)
            .http2_keep_alive_timeout(KEEP_ALIVE_TIMEOUT)
            .http2_initial_stream_window_size(STREAM_WINDOW)
            .http2_initial_connection_window_size(CONNECTION_WINDOW)
            .http2_max_header_list_size(HEADERS_BYTES_MAX)
            .build(Connector::new(Timeout::new(https, settings.connect_timeout)));
        Self(Decompression::new(client))
    }

    /// Sends a request and returns with the head of the answer. Has no time limit of its own but
    /// that of making a connection.
    pub(super) async fn send(
        &self,
        request: http::Request<Full<Bytes>>,
    ) -> Result<Response, TransportFault> {
        let mut client = self.0.clone();
        let answer = match client.ready().await {
            Ok(ready) => ready.call(request).await,
            Err(error) => Err(error),
        };
        answer.map(|answer| answer.map(Body::wrap).into()).map_err(|error| fault(&error))
    }
}

fn fault(error: &ClientError) -> TransportFault {
    let any = |test: fn(&(dyn Error + 'static)) -> bool| causes(error).any(test);
    if any(|cause| cause.is::<TargetForbidden>()) {
        TransportFault::Forbidden
    } else if any(|cause| cause.is::<Unresolved>()) {
        TransportFault::Dns
    } else if any(timed_out) {
        match error.is_connect() {
            true => TransportFault::ConnectTimeout,
            false => TransportFault::RequestTimeout,
        }
    } else if error.is_connect() && negotiation_failed(error) {
        TransportFault::Tls
    } else {
        TransportFault::Connect
    }
}

fn timed_out(cause: &(dyn Error + 'static)) -> bool {
    let of_io = |error: &io::Error| error.kind() == io::ErrorKind::TimedOut;
    cause.is::<tower::timeout::error::Elapsed>()
        || cause.downcast_ref::<io::Error>().is_some_and(of_io)
}
