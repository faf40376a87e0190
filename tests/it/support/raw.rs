//! A provider that answers with bytes that a test wrote, in the pieces that it wants.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// Answers every connection's one request with the same bytes, one answer a connection.
pub struct RawProvider {
    pub address: String,
    /// Bytes that were taken by the peers so far.
    pub sent: Arc<AtomicUsize>,
    _tasks: JoinSet<()>,
}

impl RawProvider {
    /// Sends `head` and `body` in pieces of `size` bytes, the body `times` times.
    pub async fn start(head: &str, body: &[u8], size: usize, times: usize) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let sent = Arc::new(AtomicUsize::new(0));
        let (head, body) = (head.as_bytes().to_vec(), Arc::new(body.to_vec()));
        let counter = sent.clone();
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((mut stream, _)) = listener.accept().await {
                let (head, body, counter) = (head.clone(), body.clone(), counter.clone());
                connections.spawn(async move {
                    stream.set_nodelay(true).unwrap();
                    if read_request(&mut stream).await.is_none() {
                        return;
                    }
                    let all = std::iter::once(&head[..])
                        .chain(std::iter::repeat_n(&body[..], times))
                        .flat_map(|bytes| bytes.chunks(size));
                    for piece in all {
                        if stream.write_all(piece).await.is_err() {
                            return;
                        }
                        counter.fetch_add(piece.len(), Ordering::Relaxed);
                        // So that the peer reads the pieces as they are, not joined.
                        tokio::task::yield_now().await;
                    }
                    let _ = stream.shutdown().await;
                });
            }
        });
        Self { address, sent, _tasks: tasks }
    }
}

/// Reads a request with a content-length to its end.
async fn read_request(stream: &mut TcpStream) -> Option<()> {
    let mut bytes = Vec::new();
    loop {
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
        let text = String::from_utf8_lossy(&bytes);
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let length = head.lines().find_map(|line| {
            let (name, value) = line.split_once(':')?;
            name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>())
        });
        if body.len() >= length?.ok()? {
            return Some(());
        }
    }
}
