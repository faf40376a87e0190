//! An HTTP/2 provider, frame by frame, for what no well-behaved server does.

use std::io;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

const PREFACE: usize = 24;
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const END_STREAM: u8 = 1;
const ACK: u8 = 1;
const END_HEADERS: u8 = 4;

/// `:status: 200` and `content-type: text/event-stream`, in HPACK without a table.
const HEAD: &[u8] = b"\x88\x0f\x10\x11text/event-stream";

/// Answers the first request of every connection with the beginning of a stream, then resets it
/// with this code.
pub struct ResettingProvider {
    pub address: String,
    _tasks: JoinSet<()>,
}

impl ResettingProvider {
    pub async fn start(body: &'static [u8], code: u32) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                connections.spawn(async move {
                    // A peer that leaves ends it.
                    let _ = answer(stream, body, code).await;
                });
            }
        });
        Self { address, _tasks: tasks }
    }
}

async fn answer(mut peer: TcpStream, body: &[u8], code: u32) -> io::Result<()> {
    let mut preface = [0; PREFACE];
    peer.read_exact(&mut preface).await?;
    send(&mut peer, SETTINGS, 0, 0, &[]).await?;
    let mut stream = 0;
    loop {
        let (kind, flags, of) = receive(&mut peer).await?;
        match kind {
            SETTINGS if flags & ACK == 0 => send(&mut peer, SETTINGS, ACK, 0, &[]).await?,
            HEADERS => stream = of,
            _ => {}
        }
        if matches!(kind, HEADERS | DATA) && flags & END_STREAM != 0 {
            break;
        }
    }
    send(&mut peer, HEADERS, END_HEADERS, stream, HEAD).await?;
    send(&mut peer, DATA, 0, stream, body).await?;
    send(&mut peer, RST_STREAM, 0, stream, &code.to_be_bytes()).await?;
    // The connection stays: what ended is the stream alone.
    loop {
        receive(&mut peer).await?;
    }
}

async fn send(peer: &mut TcpStream, kind: u8, flags: u8, of: u32, load: &[u8]) -> io::Result<()> {
    let length = u32::try_from(load.len()).unwrap().to_be_bytes();
    let mut frame = vec![length[1], length[2], length[3], kind, flags];
    frame.extend(of.to_be_bytes());
    frame.extend(load);
    peer.write_all(&frame).await
}

/// Kind, flags and stream of the next frame; its load is dropped.
async fn receive(peer: &mut TcpStream) -> io::Result<(u8, u8, u32)> {
    let mut head = [0; 9];
    peer.read_exact(&mut head).await?;
    let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
    let mut load = vec![0; length as usize];
    peer.read_exact(&mut load).await?;
    Ok((head[3], head[4], u32::from_be_bytes([head[5], head[6], head[7], head[8]]) & 0x7fff_ffff))
}
