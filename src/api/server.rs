//! Listeners: how connections are taken and what every answer passes through.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::{Stream, StreamExt as _, stream};
use http::HeaderValue;
use rustls::ServerConfig;
use rustls::pki_types::CertificateDer;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tonic::transport::Server;
use tonic::transport::server::Connected;
use tower::layer::util::Stack;
use tower::util::MapResponseLayer;

use super::auth::{AccessLayer, Authenticator};
use super::tls::Tls;
use crate::config::Limits;
use crate::tasks::Tasks;

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
pub fn builder(limits: &Limits, authenticator: &Authenticator) -> Server<Layers> {
    let server = Server::builder()
        .max_concurrent_streams(limits.streams_per_connection)
        .initial_stream_window_size(256 * 1024)
        .initial_connection_window_size(1024 * 1024)
        .http2_max_header_list_size(16 * 1024)
        .http2_keepalive_interval(Some(Duration::from_secs(60)))
        .http2_keepalive_timeout(Some(Duration::from_secs(20)))
        .http2_max_pending_accept_reset_streams(Some(64))
        .max_connection_age(Duration::from_secs(30 * 60))
        .max_connection_age_grace(Duration::from_secs(5 * 60));
    let polish = MapResponseLayer::new(
        polish as fn(http::Response<tonic::body::Body>) -> http::Response<tonic::body::Body>,
    );
    server.layer(polish).layer(AccessLayer::new(authenticator.clone()))
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

/// How long a client may take for its part of the handshake.
const HANDSHAKE_MAX: Duration = Duration::from_secs(10);

/// Connections of a listener. Accepting pauses when the process is out of file descriptors instead
/// of spinning, and waits when there are as many connections as there may be. With TLS each is made
/// with what the files say at that moment; handshakes go on side by side, as tasks of the group.
pub fn connections(
    listener: TcpListener,
    most: usize,
    tls: Option<Tls>,
    tasks: Tasks,
) -> impl Stream<Item = Result<Connection, io::Error>> {
    let places = Arc::new(Semaphore::new(most.min(Semaphore::MAX_PERMITS)));
    accepted(listener, places)
        .map(move |(stream, place)| {
            let tls = tls.as_ref().map(|tls| tls.borrow().clone());
            established(stream, place, tls, tasks.clone())
        })
        // The places bound them before this does.
        .buffer_unordered(most.max(1))
        .filter_map(|established| async { established.map(Ok) })
}

fn accepted(
    listener: TcpListener,
    places: Arc<Semaphore>,
) -> impl Stream<Item = (TcpStream, OwnedSemaphorePermit)> {
    stream::unfold((listener, places), |(listener, places)| async move {
        let place = places.clone().acquire_owned().await.ok()?;
        loop {
            match listener.accept().await {
                Ok((stream, _)) => {
                    // A failure here means the peer is gone; the first read will say so.
                    let _ = stream.set_nodelay(true);
                    return Some(((stream, place), (listener, places)));
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

/// A connection that calls can come on; nothing if the client does not bring the handshake to its
/// end.
async fn established(
    stream: TcpStream,
    place: OwnedSemaphorePermit,
    tls: Option<Arc<ServerConfig>>,
    tasks: Tasks,
) -> Option<Connection> {
    let Some(config) = tls else {
        return Some(Connection {
            stream: Transport::Plain(stream),
            peer: Peer::default(),
            _place: place,
        });
    };
    let stop = tasks.clone();
    let handshake = tasks.spawn(async move {
        let accepting = TlsAcceptor::from(config).accept(stream);
        tokio::select! {
            () = stop.stopping() => None,
            accepted = tokio::time::timeout(HANDSHAKE_MAX, accepting) => accepted.ok()?.ok(),
        }
    });
    let stream = handshake.await.ok()??;
    let (_, session) = stream.get_ref();
    let certificates = session.peer_certificates();
    let peer = Peer { certificates: certificates.map(|chain| chain.to_vec().into()) };
    Some(Connection { stream: Transport::Tls(Box::new(stream)), peer, _place: place })
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

/// Who is at the other end of a connection; with each of its requests.
#[derive(Debug, Clone, Default)]
pub struct Peer {
    /// The client's certificate first, then those that vouch for it; verified.
    pub certificates: Option<Arc<[CertificateDer<'static>]>>,
}

enum Transport {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// A connection that holds its place until it is closed.
pub struct Connection {
    stream: Transport,
    peer: Peer,
    _place: OwnedSemaphorePermit,
}

impl Connected for Connection {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        self.peer.clone()
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Transport::Plain(stream) => Pin::new(stream).poll_read(cx, buf),
            Transport::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        match &mut self.stream {
            Transport::Plain(stream) => Pin::new(stream).poll_write(cx, buf),
            Transport::Tls(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Transport::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Transport::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Transport::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Transport::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut self.stream {
            Transport::Plain(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
            Transport::Tls(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match &self.stream {
            Transport::Plain(stream) => stream.is_write_vectored(),
            Transport::Tls(stream) => stream.is_write_vectored(),
        }
    }
}
