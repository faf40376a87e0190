//! A provider that misbehaves as told.
//!
//! An HTTP/1.1 server on a loopback port that speaks the wire shapes of OpenAI chat completions
//! (Azure's too), Anthropic messages and Gemini generateContent, whole and streamed, and OpenAI's
//! embeddings, and fails in the ways in which providers fail. It is for rehearsals, for tests and for a first run without
//! a key. What it says and what goes wrong stands in a [`Script`]; one request can ask for one
//! fault by its model's name or a header ([`overrides`]).
//!
//! A request goes `http` (read) → `wire_*` (into an [`ask::Ask`]) → `faults` (which are hit) →
//! `answers`, `output_faults` → `wire_*` (a reply) → `compose` (into moves) → `player` (onto the
//! socket). All but the first and the last are plain functions: the same script and the same
//! order of calls give the same bytes, up to dates.
//!
//! While it runs, `GET /_sim/calls` tells what it was asked (`?recent=0`: the counts alone),
//! `POST /_sim/reset` forgets it, and `POST /_sim/script` gives it another script from the next
//! request on: this is how an outage begins and ends at a moment of one's choice.
//!
//! It is not built on an HTTP library because it must do what those prevent: reset, cut, stall and
//! send broken frames.

pub mod answers;
pub mod ask;
pub mod calls;
pub mod chance;
pub mod compose;
mod embeddings;
pub mod fault_document;
pub mod faults;
pub mod hints;
mod http;
mod lines;
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
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use bytes::BytesMut;
use jiff::Timestamp;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

pub use calls::{Call, Calls, Ended};
pub use script::{Script, ScriptError};

use crate::tasks::Tasks;
use calls::Book;
use http::{NoRequest, Request};
use lines::Lines;
use respond::Response;

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
    /// Held for a moment only; never across an await.
    stage: RwLock<Arc<Stage>>,
    book: Book,
    /// No more requests.
    closing: CancellationToken,
    /// Every connection is reset.
    killed: CancellationToken,
    alive: watch::Sender<usize>,
}

/// The script that is played, and who waits for a model that takes a few calls at a time.
#[derive(Debug)]
struct Stage {
    script: Script,
    lines: Lines,
}

impl Shared {
    fn stage(&self) -> Arc<Stage> {
        self.stage.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Plays another script from the next request on. Answers under way end as they were begun.
    fn play(&self, script: Script) {
        let mut stage = self.stage.write().unwrap_or_else(PoisonError::into_inner);
        let lines = stage.lines.of_next(&script);
        *stage = Arc::new(Stage { script, lines });
    }
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
        let limits = (script.connections_max, script.connection_time_max);
        let stage = Arc::new(Stage { lines: Lines::default().of_next(&script), script });
        let shared = Arc::new(Shared {
            stage: RwLock::new(stage),
            book: Book::default(),
            closing: CancellationToken::new(),
            killed: CancellationToken::new(),
            alive: sender,
        });
        let guard = Alive::new(&shared);
        tasks.spawn_until_stopped(accept(listener, guard, tasks.clone(), limits));
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

    /// Plays another script from the next request on. Calls go on being counted, and limits stay
    /// those of the first script.
    pub fn play(&self, script: Script) {
        self.shared.play(script);
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

/// Takes connections in: how many at once, and how long one may last, is in `limits`.
async fn accept(
    listener: TcpListener,
    guard: Alive,
    tasks: Tasks,
    (connections_max, time_max): (usize, Duration),
) {
    let shared = guard.0.clone();
    let permits = Arc::new(Semaphore::new(connections_max));
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
                    connection(stream, &guard.0, time_max).await;
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

async fn connection(mut stream: TcpStream, shared: &Shared, time_max: Duration) {
    // Without it small events would wait for each other; a failure costs only that.
    let _ = stream.set_nodelay(true);
    tokio::select! {
        () = shared.killed.cancelled() => (),
        ended = timeout(time_max, serve(&mut stream, shared)) => {
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
        let response = answer(shared, &request);
        let open = OpenCall { book: &shared.book, entry: response.entry };
        let ended = in_line(stream, &response).await;
        open.end(ended);
        let again = ended == Ended::Sent && response.score.keep_alive && request.keep_alive;
        if !again {
            // A reset is made by the drop of the socket, which must come first then.
            return;
        }
    }
}

fn answer(shared: &Shared, request: &Request) -> Response {
    if (request.method.as_str(), request.path.as_str()) != ("POST", "/_sim/script") {
        let stage = shared.stage();
        let (script, lines) = (&stage.script, &stage.lines);
        return respond::respond(script, lines, &shared.book, request, Timestamp::now());
    }
    let text = String::from_utf8_lossy(&request.body);
    match Script::parse(&text, "script") {
        Ok(script) => {
            shared.play(script);
            respond::own(pages::text(200, "playing\n"))
        }
        Err(error) => respond::own(pages::text(400, &format!("{error}\n"))),
    }
}

/// Plays an answer when its turn has come. As at a real provider, an answer that nobody waits for
/// any more takes its time all the same: this is what makes overload last.
async fn in_line(stream: &mut TcpStream, response: &Response) -> Ended {
    let Some(line) = &response.line else { return player::play(stream, &response.score).await };
    // Fails only for a line that is closed, and none ever is.
    let _turn = line.acquire().await;
    let until = Instant::now() + response.score.waits();
    let ended = player::play(stream, &response.score).await;
    if ended == Ended::PeerLeft {
        sleep_until(until).await;
    }
    ended
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
