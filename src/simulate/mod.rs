//! A provider that misbehaves as told.
//!
//! An HTTP/1.1 server on a loopback port that speaks the wire shapes of OpenAI chat completions
//! (Azure's too), Anthropic messages and Gemini generateContent, whole and streamed, and fails in
//! the ways in which providers fail. It is for rehearsals, for tests and for a first run without
//! a key. What it says and what goes wrong stands in a [`Script`]; one request can ask for one
//! fault by its model's name or a header ([`overrides`]).
//!
//! A request goes `http` (read) → `wire_*` (into an [`ask::Ask`]) → `faults` (which are hit) →
//! `answers`, `output_faults` → `wire_*` (a reply) → `compose` (into moves) → `player` (onto the
//! socket). All but the first and the last are plain functions: the same script and the same
//! order of calls give the same bytes, up to dates.
//!
//! It is not built on an HTTP library because it must do what those prevent: reset, cut, stall and
//! send broken frames.

pub mod answers;
pub mod ask;
pub mod calls;
pub mod chance;
pub mod compose;
pub mod fault_document;
pub mod faults;
pub mod hints;
mod http;
pub mod matcher;
mod output_faults;
pub mod overrides;
mod pages;
mod pattern;
mod player;
mod respond;
pub mod schema_answer;
pub mod script;
pub mod templates;
pub mod times;
mod wire;
mod wire_anthropic;
mod wire_gemini;
mod wire_openai;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use jiff::Timestamp;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

pub use calls::{Call, Calls, Ended};
pub use script::{Script, ScriptError};

use crate::tasks::Tasks;
use calls::Book;
use http::NoRequest;

/// How long [`Simulator::stop`] lets answers finish before it cuts them.
const GRACE: Duration = Duration::from_secs(2);

/// Room for requests; grows up to their limits.
const BUFFER: usize = 8 << 10;

/// A running provider. Dropping it cuts all connections and frees the port.
#[derive(Debug)]
pub struct Simulator {
    addr: SocketAddr,
    shared: Arc<Shared>,
    /// Tasks of this simulator that run.
    alive: watch::Receiver<usize>,
}

#[derive(Debug)]
struct Shared {
    script: Script,
    book: Book,
    /// No more requests.
    closing: CancellationToken,
    /// Every connection is reset.
    killed: CancellationToken,
    alive: watch::Sender<usize>,
}

/// Counts a task for as long as it lives, also when its future is dropped.
struct Alive(Arc<Shared>);

impl Alive {
    fn new(shared: &Arc<Shared>) -> Self {
        shared.alive.send_modify(|count| *count += 1);
        Self(shared.clone())
    }
}

impl Drop for Alive {
    fn drop(&mut self) {
        self.0.alive.send_modify(|count| *count -= 1);
    }
}

impl Simulator {
    /// Starts a provider. Port 0 takes a free one.
    ///
    /// # Errors
    /// The address is not a loopback address ([`io::ErrorKind::InvalidInput`]) or cannot be bound.
    pub async fn bind(script: Script, addr: SocketAddr, tasks: &Tasks) -> io::Result<Self> {
        if !addr.ip().is_loopback() {
            let reason = "the simulated provider listens on loopback addresses only";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, reason));
        }
        let listener = TcpListener::bind(addr).await?;
        let addr = listener.local_addr()?;
        let (sender, alive) = watch::channel(0);
        let shared = Arc::new(Shared {
            script,
            book: Book::default(),
            closing: CancellationToken::new(),
            killed: CancellationToken::new(),
            alive: sender,
        });
        let guard = Alive::new(&shared);
        tasks.spawn_until_stopped(accept(listener, guard, tasks.clone()));
        Ok(Self { addr, shared, alive })
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// The base of its URLs, without a slash at the end.
    pub fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// What it was asked so far.
    pub fn calls(&self) -> Calls {
        self.shared.book.snapshot()
    }

    /// Forgets what it was asked; the script begins anew.
    pub fn reset(&self) {
        self.shared.book.reset();
    }

    /// Stops: no new connections, answers under way get two seconds. Returns when all of its tasks
    /// have ended.
    pub async fn stop(mut self) {
        self.shared.closing.cancel();
        if timeout(GRACE, self.ended()).await.is_err() {
            self.shared.killed.cancel();
            self.ended().await;
        }
    }

    /// Dies as a process does: the port is closed and every connection is reset, now.
    /// [`Simulator::stop`] can then be used to wait for the end.
    pub fn kill(&self) {
        self.shared.closing.cancel();
        self.shared.killed.cancel();
    }

    async fn ended(&mut self) {
        // Fails only if the sender is gone, and then so are the tasks.
        let _ = self.alive.wait_for(|alive| *alive == 0).await;
    }
}

impl Drop for Simulator {
    fn drop(&mut self) {
        self.kill();
    }
}

async fn accept(listener: TcpListener, guard: Alive, tasks: Tasks) {
    let shared = guard.0.clone();
    let permits = Arc::new(Semaphore::new(shared.script.connections_max));
    loop {
        let next = async {
            let permit = permits.clone().acquire_owned().await;
            (permit, listener.accept().await)
        };
        let (permit, accepted) = tokio::select! {
            () = shared.closing.cancelled() => return,
            next = next => next,
        };
        match accepted {
            Ok((stream, _)) => {
                let guard = Alive::new(&shared);
                tasks.spawn_until_stopped(async move {
                    connection(stream, &guard.0).await;
                    drop((permit, guard));
                });
            }
            // The peer left before we took it: not our trouble.
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => (),
            // Out of descriptors or memory: wait for connections to end instead of spinning.
            Err(_) => sleep(Duration::from_millis(100)).await,
        }
    }
}

async fn connection(mut stream: TcpStream, shared: &Shared) {
    // Without it small events would wait for each other; a failure costs only that.
    let _ = stream.set_nodelay(true);
    let limit = shared.script.connection_time_max;
    tokio::select! {
        () = shared.killed.cancelled() => (),
        ended = timeout(limit, serve(&mut stream, shared)) => {
            if ended.is_ok() {
                return;
            }
        }
    }
    player::reset(&stream);
}

/// Serves requests until the peer or the simulator has had enough.
async fn serve(stream: &mut TcpStream, shared: &Shared) {
    let mut buffer = BytesMut::with_capacity(BUFFER);
    loop {
        let request = tokio::select! {
            biased;
            request = http::read_request(stream, &mut buffer) => request,
            () = shared.closing.cancelled() => return,
        };
        let request = match request {
            Ok(request) => request,
            Err(NoRequest::Gone) => return,
            Err(NoRequest::Refused(status)) => return refuse(stream, status).await,
        };
        let response = respond::respond(&shared.script, &shared.book, &request, Timestamp::now());
        let open = OpenCall { book: &shared.book, entry: response.entry };
        let ended = player::play(stream, &response.score).await;
        open.end(ended);
        let again = ended == Ended::Sent && response.score.keep_alive && request.keep_alive;
        if !again {
            // A reset is made by the drop of the socket, which must come first then.
            return;
        }
    }
}

/// A call whose future may be dropped: then it was stopped.
struct OpenCall<'a> {
    book: &'a Book,
    entry: Option<calls::Entry>,
}

impl OpenCall<'_> {
    fn end(mut self, ended: Ended) {
        if let Some(entry) = self.entry.take() {
            self.book.end(entry, ended);
        }
    }
}

impl Drop for OpenCall<'_> {
    fn drop(&mut self) {
        if let Some(entry) = self.entry.take() {
            self.book.end(entry, Ended::Stopped);
        }
    }
}

async fn refuse(stream: &mut TcpStream, status: u16) {
    let reply = pages::text(status, "refused\n");
    let mishaps = compose::Mishaps::default();
    let score = compose::compose(reply, compose::Tempo::default(), &mishaps);
    player::play(stream, &score).await;
    let _ = stream.shutdown().await;
    // Closing a socket with unread bytes is a reset, which could overtake the refusal.
    let mut rest = BytesMut::with_capacity(BUFFER);
    let drained = async {
        for _ in 0..4_096 {
            rest.clear();
            if !matches!(stream.read_buf(&mut rest).await, Ok(bytes) if bytes > 0) {
                return;
            }
        }
    };
    let _ = timeout(Duration::from_secs(1), drained).await;
}
