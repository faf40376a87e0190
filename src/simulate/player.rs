//! Plays the moves of an answer on a socket.

use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::calls::Ended;
use super::compose::{Move, Score};

/// A peer that takes nothing for so long is gone.
const WRITE_MAX: Duration = Duration::from_secs(120);

/// Plays all moves, or as many as the peer stays for.
pub async fn play(stream: &mut TcpStream, score: &Score) -> Ended {
    for step in &score.moves {
        let went_on = match step {
            Move::Send(bytes) => send(stream, bytes).await,
            Move::Repeat(bytes, times) => repeat(stream, bytes, *times).await,
            Move::Drip { bytes, per_second } => drip(stream, bytes, *per_second).await,
            Move::Wait(time) => stays(stream, Instant::now() + *time).await,
            Move::WaitForPeer => {
                gone(stream).await;
                false
            }
            Move::Reset => {
                reset(stream);
                return Ended::Broken;
            }
            Move::Close => {
                // The FIN; a peer that already left makes no difference.
                let _ = stream.shutdown().await;
                return Ended::Broken;
            }
        };
        if !went_on {
            return Ended::PeerLeft;
        }
    }
    Ended::Sent
}

/// Makes the close of this socket a reset.
pub fn reset(stream: &TcpStream) {
    // Fails only on a socket that is gone, which is what was wanted.
    let _ = stream.set_zero_linger();
}

async fn send(stream: &mut TcpStream, bytes: &[u8]) -> bool {
    matches!(timeout(WRITE_MAX, stream.write_all(bytes)).await, Ok(Ok(())))
}

async fn repeat(stream: &mut TcpStream, bytes: &[u8], times: usize) -> bool {
    // Small pieces are joined, or a flood would be one system call for every few bytes.
    let joined = (64 << 10) / bytes.len().max(1);
    let block = bytes.repeat(joined.clamp(1, times.max(1)));
    let in_block = block.len() / bytes.len().max(1);
    let (blocks, rest) = (times / in_block.max(1), times % in_block.max(1));
    for _ in 0..blocks {
        if !send(stream, &block).await {
            return false;
        }
    }
    send(stream, &bytes.repeat(rest)).await
}

async fn drip(stream: &mut TcpStream, bytes: &[u8], per_second: u32) -> bool {
    // At most fifty writes a second; slower rates go byte by byte.
    let at_once = (per_second / 50).max(1);
    let pause = Duration::from_secs_f64(f64::from(at_once) / f64::from(per_second.max(1)));
    for piece in bytes.chunks(at_once as usize) {
        if !send(stream, piece).await || !stays(stream, Instant::now() + pause).await {
            return false;
        }
    }
    true
}

/// Waits; false if the peer left meanwhile.
async fn stays(stream: &TcpStream, until: Instant) -> bool {
    tokio::select! {
        () = sleep_until(until) => true,
        () = gone(stream) => false,
    }
}

/// Resolves when the peer has closed or reset. What it sends meanwhile stays unread, and as peeking
/// would then return at once, the socket is looked at now and then.
async fn gone(stream: &TcpStream) {
    let mut byte = [0; 1];
    loop {
        match stream.peek(&mut byte).await {
            Ok(0) | Err(_) => return,
            Ok(_) => sleep(Duration::from_millis(50)).await,
        }
    }
}
