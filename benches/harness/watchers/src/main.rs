//! Watchers of policies that read nothing while policies are pushed, then everything.
//!
//! Goes on by one step for each line of standard input and writes a line of JSON when it has taken
//! it, so that who drives it can look at the service in between: open, pushed, read, gone.
use std::cell::Cell;
use std::collections::BTreeMap;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncWrite, BufReader, ReadBuf};
use tokio::net::TcpStream;
use tokio::task::{JoinSet, LocalSet};
use tonic::Streaming;
use tonic::transport::{Channel, Endpoint};

pub mod pb {
    tonic::include_proto!("mainstay.v1");
}
use pb::policy_service_client::PolicyServiceClient;

/// Policies that are pushed in turns.
const POLICIES: u64 = 10;
type Watched = Streaming<pb::WatchPoliciesResponse>;

/// Says whether connections are read from. Nothing of a held one leaves the socket, whatever the
/// client library would do.
#[derive(Default)]
struct Hold {
    held: AtomicBool,
    waiting: Mutex<Vec<Waker>>,
}

impl Hold {
    fn release(&self) {
        self.held.store(false, Ordering::SeqCst);
        self.waiting.lock().unwrap().drain(..).for_each(Waker::wake);
    }
}

struct Held {
    stream: TcpStream,
    hold: Arc<Hold>,
}

impl AsyncRead for Held {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.hold.held.load(Ordering::SeqCst) {
            self.hold.waiting.lock().unwrap().push(cx.waker().clone());
            return Poll::Pending;
        }
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Held {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// A connection that can be held. Its windows are those of the library, wide enough that it is the
/// service that has to hold back.
async fn connection(address: &str, hold: Arc<Hold>) -> Channel {
    let address = address.to_owned();
    let endpoint = Endpoint::from_shared(format!("http://{address}")).unwrap();
    let connector = tower::service_fn(move |_| {
        let (address, hold) = (address.clone(), hold.clone());
        async move {
            let stream = TcpStream::connect(address).await?;
            stream.set_nodelay(true)?;
            Ok::<_, io::Error>(TokioIo::new(Held { stream, hold }))
        }
    });
    endpoint.connect_with_connector(connector).await.expect("the service answers")
}

/// All streams, a few connections at a time.
async fn open(address: &str, connections: usize, streams: usize, hold: &Arc<Hold>) -> Vec<Watched> {
    let (mut opening, mut opened) = (JoinSet::new(), Vec::new());
    for started in 0..connections {
        let (address, hold) = (address.to_owned(), hold.clone());
        opening.spawn_local(async move {
            let mut client = PolicyServiceClient::new(connection(&address, hold).await);
            let mut watched = Vec::new();
            for _ in 0..streams {
                let request = pb::WatchPoliciesRequest::default();
                watched.push(client.watch_policies(request).await.expect("a stream").into_inner());
            }
            watched
        });
        if started >= 64 {
            opened.extend(opening.join_next().await.unwrap().unwrap());
        }
    }
    while let Some(watched) = opening.join_next().await {
        opened.extend(watched.unwrap());
    }
    opened
}

fn name(number: u64) -> String {
    format!("watched-{}", number % POLICIES)
}

/// Pushes one after the other; how long each took.
async fn push(address: &str, count: u64) -> Histogram<u64> {
    let mut client = PolicyServiceClient::new(connection(address, Arc::default()).await);
    let mut times = Histogram::new_with_bounds(1, 600_000_000, 3).unwrap();
    for number in 0..count {
        let text = format!("# {number}\npolicy: {{retry_budget: {{ratio: 1, floor_per_second: 1000}}}}\n");
        let request = pb::PushPolicyRequest { name: name(number), text, ..Default::default() };
        let began = Instant::now();
        let stored = client.push_policy(request).await.expect("the push is taken").into_inner();
        times.saturating_record(began.elapsed().as_micros() as u64);
        assert_eq!(stored.version.unwrap_or_default().version, number / POLICIES + 1);
    }
    times
}

/// Reads until the newest version of each policy; how many messages that took.
async fn read(mut watched: Watched, pushes: u64, behind: Rc<Cell<usize>>) -> (Watched, u64) {
    let newest: BTreeMap<String, u64> = (0..pushes).map(|number| (name(number), number / POLICIES + 1)).collect();
    let (mut messages, mut known) = (0, BTreeMap::new());
    while known != newest {
        let message = watched.message().await.expect("the stream goes on").expect("a message");
        messages += 1;
        // Everything comes first, what was there from the start among it.
        assert!(messages > 1 || message.policies.iter().any(|policy| policy.name == "default"));
        for policy in message.policies.into_iter().filter(|policy| newest.contains_key(&policy.name)) {
            let version = policy.active.map_or(0, |active| active.version);
            let before = known.insert(policy.name, version).unwrap_or(0);
            assert!(version > before, "a watcher went back from {before} to {version}");
        }
    }
    behind.set(behind.get() - 1);
    (watched, messages)
}

async fn drive(address: String, connections: usize, streams: usize, pushes: u64) {
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    let hold = Arc::new(Hold::default());
    let began = Instant::now();
    let watched = open(&address, connections, streams, &hold).await;
    hold.held.store(true, Ordering::SeqCst);
    println!("{{\"open\":{},\"seconds\":{:.1}}}", watched.len(), began.elapsed().as_secs_f64());
    lines.next_line().await.unwrap();

    let times = push(&address, pushes).await;
    let at = |q| times.value_at_quantile(q);
    println!("{{\"pushes\":{pushes},\"p50\":{},\"p99\":{},\"max\":{}}}", at(0.5), at(0.99), times.max());
    lines.next_line().await.unwrap();

    let (began, behind) = (Instant::now(), Rc::new(Cell::new(watched.len())));
    let mut reading = JoinSet::new();
    for watched in watched {
        reading.spawn_local(read(watched, pushes, behind.clone()));
    }
    hold.release();
    let (mut held, mut least, mut most) = (Vec::new(), u64::MAX, 0);
    while let Ok(Some(read)) = tokio::time::timeout(Duration::from_secs(60), reading.join_next()).await {
        let (watched, messages) = read.unwrap();
        (least, most) = (least.min(messages), most.max(messages));
        held.push(watched);
    }
    println!("{{\"behind\":{},\"messages_min\":{least},\"messages_max\":{most},\"seconds\":{:.1}}}", behind.get(), began.elapsed().as_secs_f64());
    lines.next_line().await.unwrap();
}

fn main() {
    let a: Vec<String> = std::env::args().collect();
    let arg = |k: &str| a.iter().position(|x| x == k).and_then(|i| a.get(i + 1).cloned());
    let number = |k: &str, d: usize| arg(k).map_or(d, |v| v.parse().unwrap());
    let address = arg("--control").expect("--control");
    let (connections, streams) = (number("--connections", 100), number("--streams", 100));
    let pushes = number("--pushes", 100) as u64;
    let rt = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    LocalSet::new().block_on(&rt, drive(address, connections, streams, pushes));
}
