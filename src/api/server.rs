//! Listeners: how connections are taken and what every answer passes through.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::{Stream, stream};
use http::HeaderValue;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tonic::transport::server::{Connected, TcpConnectInfo};
use tonic::transport::{Certificate, Identity, Server, ServerTlsConfig};
use tower::layer::util::Stack;
use tower::util::MapResponseLayer;

use super::auth::{AccessLayer, Authenticator};
use crate::config::{Limits, TlsFiles};

/// A listener that cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// The address is taken or not ours.
    #[error("cannot listen on {address}")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A file of the listener's TLS cannot be read.
    #[error("cannot read {path}")]
    TlsFile {
        /// The file.
        path: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The files do not make a TLS configuration.
    #[error("the certificate and key of {address} cannot be used")]
    Tls {
        /// The listener.
        address: SocketAddr,
        /// Why.
        #[source]
        source: tonic::transport::Error,
    },
}

/// Binds an address.
///
/// # Errors
/// [`ListenError::Bind`]
pub async fn bind(address: SocketAddr) -> Result<TcpListener, ListenError> {
    TcpListener::bind(address).await.map_err(|source| ListenError::Bind { address, source })
}

/// What an answer passes on its way out: see `polish` below.
pub type Polish =
    MapResponseLayer<fn(http::Response<tonic::body::Body>) -> http::Response<tonic::body::Body>>;

/// What stands in front of the services of a listener, the last first.
pub type Layers = Stack<AccessLayer, Stack<Polish, tower::layer::util::Identity>>;

/// A server with our limits, none of which the library sets by itself, and nobody let in whom the
/// authenticator does not know.
///
/// # Errors
/// See [`ListenError`].
pub fn builder(
    address: SocketAddr,
    limits: &Limits,
    tls: Option<&TlsFiles>,
    authenticator: &Authenticator,
) -> Result<Server<Layers>, ListenError> {
    let mut server = Server::builder()
        .max_concurrent_streams(limits.streams_per_connection)
        .initial_stream_window_size(256 * 1024)
        .initial_connection_window_size(1024 * 1024)
        .http2_max_header_list_size(16 * 1024)
        .http2_keepalive_interval(Some(Duration::from_secs(60)))
        .http2_keepalive_timeout(Some(Duration::from_secs(20)))
        .http2_max_pending_accept_reset_streams(Some(64))
        .max_connection_age(Duration::from_secs(30 * 60))
        .max_connection_age_grace(Duration::from_secs(5 * 60));
    if let Some(files) = tls {
        let read = |path: &std::path::Path| {
            std::fs::read(path)
                .map_err(|source| ListenError::TlsFile { path: path.display().to_string(), source })
        };
        let identity = Identity::from_pem(read(&files.certificate)?, read(&files.key)?);
        let mut config = ServerTlsConfig::new().identity(identity).timeout(Duration::from_secs(10));
        if let Some(path) = &files.client_ca {
            config = config
                .client_ca_root(Certificate::from_pem(read(path)?))
                .client_auth_optional(files.client_certificate_optional);
        }
        server =
            server.tls_config(config).map_err(|source| ListenError::Tls { address, source })?;
    }
    let polish = MapResponseLayer::new(
        polish as fn(http::Response<tonic::body::Body>) -> http::Response<tonic::body::Body>,
    );
    Ok(server.layer(polish).layer(AccessLayer::new(authenticator.clone())))
}

/// Mends what the library answers by itself: an oversized message is `RESOURCE_EXHAUSTED` in the
/// gRPC table where the library says `OUT_OF_RANGE`, and no error invites the client library to
/// retry on its own.
fn polish(mut response: http::Response<tonic::body::Body>) -> http::Response<tonic::body::Body> {
    let headers = response.headers_mut();
    let Some(status) = headers.get("grpc-status").map(|value| value.as_bytes().to_vec()) else {
        return response;
    };
    if status == b"11" {
        headers.insert("grpc-status", HeaderValue::from_static("8"));
    }
    if status != b"0" {
        headers.entry("grpc-retry-pushback-ms").or_insert(HeaderValue::from_static("-1"));
    }
    response
}

/// Connections of a listener. Accepting pauses when the process is out of file descriptors instead
/// of spinning, and waits when there are as many connections as there may be.
pub fn connections(
    listener: TcpListener,
    most: usize,
) -> impl Stream<Item = Result<Connection, io::Error>> {
    let places = Arc::new(Semaphore::new(most.min(Semaphore::MAX_PERMITS)));
    stream::unfold((listener, places), |(listener, places)| async move {
        let place = places.clone().acquire_owned().await.ok()?;
        loop {
            match listener.accept().await {
                Ok((stream, _)) => {
                    // A failure here means the peer is gone; the first read will say so.
                    let _ = stream.set_nodelay(true);
                    let connection = Connection { stream, _place: place };
                    return Some((Ok(connection), (listener, places)));
                }
                Err(error) => {
                    if !is_of_one_connection(&error) {
                        tracing::warn!(%error, "cannot accept connections; trying again");
                        tokio::time::sleep(Duration::from_millis(100)).await;
                    }
                }
            }
        }
    })
}

fn is_of_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionRefused
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::Interrupted
    )
}

/// A connection that holds its place until it is closed.
pub struct Connection {
    stream: TcpStream,
    _place: OwnedSemaphorePermit,
}

impl Connected for Connection {
    type ConnectInfo = TcpConnectInfo;

    fn connect_info(&self) -> TcpConnectInfo {
        self.stream.connect_info()
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
