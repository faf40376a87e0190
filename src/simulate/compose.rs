//! From a reply and its faults to what the socket does.
//!
//! Everything that can go wrong on a connection is written down as [`Move`]s before the first byte
//! is sent. So the whole behaviour of a call is plain data that tests can look at, and the player
//! that owns the socket knows nothing of faults.

use std::time::Duration;

use super::chance::Luck;
use super::faults::{Place, StreamFault, WireFault, WrongLength};
use super::wire::{Body, Frame, FrameKind, Reply};

/// One thing that the socket does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Move {
    /// Sends bytes.
    Send(Vec<u8>),
    /// Sends bytes again and again, this often.
    Repeat(Vec<u8>, usize),
    /// Sends bytes at a rate.
    Drip {
        /// The bytes.
        bytes: Vec<u8>,
        /// Bytes a second.
        per_second: u32,
    },
    /// Waits.
    Wait(Duration),
    /// Waits until the peer goes away.
    WaitForPeer,
    /// Resets the connection, which ends it.
    Reset,
    /// Closes the connection, which ends it.
    Close,
}

/// All moves of an answer.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Score {
    /// In this order.
    pub moves: Vec<Move>,
    /// The connection can be used for another request.
    pub keep_alive: bool,
}

impl Score {
    /// The time that its waits take together.
    pub fn waits(&self) -> Duration {
        let wait = |step: &Move| match step {
            Move::Wait(time) => *time,
            Move::Send(_)
            | Move::Repeat(..)
            | Move::Drip { .. }
            | Move::WaitForPeer
            | Move::Reset
            | Move::Close => Duration::ZERO,
        };
        self.moves.iter().map(wait).sum()
    }
}

/// How slow the answer is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tempo {
    /// Before the headers.
    pub delay: Duration,
    /// Before the first token of a stream.
    pub first_token: Duration,
    /// Before each other token.
    pub between: Duration,
    /// Rate of the body.
    pub drip: Option<u32>,
}

/// What is wrong with an answer on its way.
#[derive(Debug, Clone, Default)]
pub struct Mishaps {
    /// The connection's fault.
    pub wire: Option<WireFault>,
    /// The stream's faults.
    pub stream: Vec<StreamFault>,
    /// The event for [`StreamFault::ErrorEvent`].
    pub error_event: Option<Frame>,
    /// The tokens of a stream go on up to this many bytes.
    pub endless: Option<usize>,
    /// For odd pieces.
    pub luck: Option<Luck>,
}

/// Writes the moves down.
pub fn compose(reply: Reply, tempo: Tempo, mishaps: &Mishaps) -> Score {
    let mut score = Score { moves: Vec::new(), keep_alive: true };
    wait(&mut score.moves, tempo.delay);
    if let Some(WireFault::Interim(count)) = mishaps.wire {
        let interim = b"HTTP/1.1 103 Early Hints\r\nlink: </simulated>; rel=preload\r\n\r\n";
        score.moves.push(Move::Repeat(interim.to_vec(), count as usize));
    }
    if happens(&mut score, mishaps, Place::BeforeHeaders) {
        return score;
    }
    match reply.body {
        Body::Whole(body) => {
            whole(&mut score, reply.status, &reply.headers, body, tempo, mishaps);
        }
        Body::Events(frames) => {
            let frames = spoil(frames, mishaps);
            let parts = frames.iter().map(|frame| (frame.kind, event_bytes(frame))).collect();
            streamed(&mut score, reply.status, &reply.headers, parts, tempo, mishaps);
        }
        Body::Items(frames) => {
            let frames = spoil(frames, mishaps);
            let last = frames.len().saturating_sub(1);
            let item = |(idx, frame): (usize, &Frame)| {
                let before = if idx == 0 { "[" } else { ",\r\n" };
                let after = if idx == last { "]" } else { "" };
                (frame.kind, format!("{before}{}{after}", frame.data).into_bytes())
            };
            let parts = frames.iter().enumerate().map(item).collect();
            streamed(&mut score, reply.status, &reply.headers, parts, tempo, mishaps);
        }
    }
    score
}

/// The head of a response.
pub fn head(status: u16, headers: &[(&'static str, String)], framing: &str) -> Vec<u8> {
    let mut head = format!("HTTP/1.1 {status} {}\r\n", reason(status));
    for (name, value) in headers {
        // A value out of a script must not become two headers.
        let value = value.replace(['\r', '\n'], " ");
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str(framing);
    head.push_str("\r\n");
    head.into_bytes()
}

const fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        301 => "Moved Permanently",
        302 => "Found",
        303 => "See Other",
        307 => "Temporary Redirect",
        308 => "Permanent Redirect",
        400 => "Bad Request",
        401 => "Unauthorized",
        402 => "Payment Required",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        413 => "Payload Too Large",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        _ => "Simulated",
    }
}

fn whole(
    score: &mut Score,
    status: u16,
    headers: &[(&'static str, String)],
    mut body: Vec<u8>,
    tempo: Tempo,
    mishaps: &Mishaps,
) {
    damage(&mut body, mishaps.wire.as_ref());
    let padding = padding(mishaps.wire.as_ref(), body.len());
    let framing = framing(mishaps.wire.as_ref(), body.len() + padding);
    let mut head = head(status, headers, &framing);
    if let Some(WireFault::ManyHeaders(count)) = mishaps.wire {
        add_headers(&mut head, count);
    }
    if breaks_at(mishaps, Place::AfterHeaders) {
        score.moves.push(Move::Send(head));
        if happens(score, mishaps, Place::AfterHeaders) {
            return;
        }
        body_moves(&mut score.moves, body, tempo);
    } else if breaks_at(mishaps, Place::MidBody) {
        let rest = body.split_off(body.len() / 2);
        head.extend(body);
        score.moves.push(Move::Send(head));
        if happens(score, mishaps, Place::MidBody) {
            return;
        }
        body_moves(&mut score.moves, rest, tempo);
    } else if tempo.drip.is_some() {
        score.moves.push(Move::Send(head));
        body_moves(&mut score.moves, body, tempo);
    } else {
        head.extend(body);
        score.moves.push(Move::Send(head));
    }
    pad(&mut score.moves, padding);
    if matches!(mishaps.wire, Some(WireFault::WrongLength(_))) {
        score.moves.push(Move::Close);
        score.keep_alive = false;
    }
}

fn streamed(
    score: &mut Score,
    status: u16,
    headers: &[(&'static str, String)],
    mut parts: Vec<(FrameKind, Vec<u8>)>,
    tempo: Tempo,
    mishaps: &Mishaps,
) {
    let joined = |parts: &[(FrameKind, Vec<u8>)]| -> Vec<u8> {
        parts.iter().flat_map(|(_, bytes)| bytes.clone()).collect()
    };
    match &mishaps.wire {
        // A length takes the place of the chunks.
        Some(WireFault::WrongLength(_)) => {
            return whole(score, status, headers, joined(&parts), tempo, mishaps);
        }
        // An event in the place of all events.
        Some(fault @ (WireFault::MalformedJson | WireFault::DeepJson(_))) => {
            let mut event = Vec::new();
            damage(&mut event, Some(fault));
            event.splice(0..0, *b"data: ");
            event.extend(*b"\n\n");
            parts = vec![(FrameKind::Opening, event)];
        }
        Some(fault @ (WireFault::TruncateJson | WireFault::InvalidUtf8)) => {
            let mut bytes = joined(&parts);
            damage(&mut bytes, Some(fault));
            parts = vec![(FrameKind::Opening, bytes)];
        }
        _ => (),
    }
    let mut head = head(status, headers, "transfer-encoding: chunked\r\n");
    if let Some(WireFault::ManyHeaders(count)) = mishaps.wire {
        add_headers(&mut head, count);
    }
    score.moves.push(Move::Send(head));
    if happens(score, mishaps, Place::AfterHeaders) {
        return;
    }
    if mishaps.stream.contains(&StreamFault::SplitUtf8) {
        odd_pieces(&mut score.moves, &joined(&parts), mishaps.luck);
    } else if let Some(per_second) = tempo.drip {
        let bytes = parts.iter().flat_map(|(_, bytes)| chunk(bytes)).collect();
        score.moves.push(Move::Drip { bytes, per_second });
    } else if send_parts(score, &parts, tempo, mishaps) {
        return;
    }
    pad_stream(&mut score.moves, padding(mishaps.wire.as_ref(), 0));
    score.moves.push(Move::Send(b"0\r\n\r\n".to_vec()));
}

/// Sends the events one by one; true if the connection broke on the way.
fn send_parts(
    score: &mut Score,
    parts: &[(FrameKind, Vec<u8>)],
    tempo: Tempo,
    mishaps: &Mishaps,
) -> bool {
    let tokens = parts.iter().filter(|(kind, _)| *kind == FrameKind::Token).count();
    let break_at = tokens.div_ceil(2);
    let mut seen = 0;
    // Events without a wait between them leave in one write.
    let mut together = Vec::new();
    for (kind, bytes) in parts {
        let is_token = matches!(kind, FrameKind::Token);
        // The only piece of a short Gemini stream comes with its finish reason.
        let is_first = (is_token && seen == 0) || (tokens == 0 && *kind == FrameKind::Finish);
        let pause = match (is_first, is_token) {
            (true, _) => tempo.first_token,
            (false, true) => tempo.between,
            (false, false) => Duration::ZERO,
        };
        if !pause.is_zero() {
            flush(&mut score.moves, &mut together);
            wait(&mut score.moves, pause);
        }
        if tokens == 0 && *kind == FrameKind::Finish && breaks_at(mishaps, Place::MidBody) {
            flush(&mut score.moves, &mut together);
            if happens(score, mishaps, Place::MidBody) {
                return true;
            }
        }
        together.extend(chunk(bytes));
        seen += usize::from(is_token);
        if is_token && seen == break_at {
            if let Some(bytes_max) = mishaps.endless {
                flush(&mut score.moves, &mut together);
                let again = chunk(bytes);
                let times = bytes_max / again.len().max(1);
                score.moves.push(Move::Repeat(again, times));
            }
            if breaks_at(mishaps, Place::MidBody) {
                flush(&mut score.moves, &mut together);
                if happens(score, mishaps, Place::MidBody) {
                    return true;
                }
            }
        }
    }
    flush(&mut score.moves, &mut together);
    false
}

fn flush(moves: &mut Vec<Move>, together: &mut Vec<u8>) {
    if !together.is_empty() {
        moves.push(Move::Send(std::mem::take(together)));
    }
}

/// Puts the faults of a stream into its events.
fn spoil(mut frames: Vec<Frame>, mishaps: &Mishaps) -> Vec<Frame> {
    for fault in &mishaps.stream {
        match fault {
            StreamFault::NoDone { finish } => {
                let marked = frames.iter().any(|frame| frame.kind == FrameKind::Mark);
                frames.retain(|frame| match frame.kind {
                    FrameKind::Mark => false,
                    // Gemini has no mark: what it ends with is the finish reason.
                    FrameKind::Finish => marked && !finish,
                    FrameKind::Opening | FrameKind::Token | FrameKind::Error => true,
                });
            }
            StreamFault::ErrorEvent { after, .. } => {
                let first = frames
                    .iter()
                    .position(|frame| matches!(frame.kind, FrameKind::Token | FrameKind::Finish))
                    .unwrap_or(frames.len());
                let tokens = frames.iter().filter(|frame| frame.kind == FrameKind::Token).count();
                let kept = if *after { first + tokens.div_ceil(2) } else { first };
                frames.truncate(kept);
                frames.extend(mishaps.error_event.clone());
            }
            StreamFault::BadChunk => {
                let at = frames.iter().position(|frame| frame.kind == FrameKind::Token);
                if let Some(frame) = at.or(frames.len().checked_sub(1)).map(|at| &mut frames[at]) {
                    let mut half = frame.data.len() / 2;
                    while !frame.data.is_char_boundary(half) {
                        half -= 1;
                    }
                    frame.data.truncate(half);
                }
            }
            StreamFault::SplitUtf8 => (),
        }
    }
    frames
}

fn event_bytes(frame: &Frame) -> Vec<u8> {
    match frame.event {
        Some(event) => format!("event: {event}\ndata: {}\n\n", frame.data).into_bytes(),
        None => format!("data: {}\n\n", frame.data).into_bytes(),
    }
}

/// One chunk of the chunked transfer coding.
fn chunk(bytes: &[u8]) -> Vec<u8> {
    if bytes.is_empty() {
        return Vec::new(); // An empty chunk would end the body.
    }
    let mut chunk = format!("{:x}\r\n", bytes.len()).into_bytes();
    chunk.extend(bytes);
    chunk.extend(b"\r\n");
    chunk
}

/// Pieces of one to seven bytes, each a chunk and a write of its own.
fn odd_pieces(moves: &mut Vec<Move>, payload: &[u8], luck: Option<Luck>) {
    let luck = luck.unwrap_or(Luck::seeded(0));
    let mut rest = payload;
    let mut count = 0;
    while !rest.is_empty() {
        count += 1;
        let size = usize::try_from(luck.of_number(count).below(7)).unwrap_or(0) + 1;
        let (piece, tail) = rest.split_at(size.min(rest.len()));
        moves.push(Move::Send(chunk(piece)));
        rest = tail;
    }
}

fn wait(moves: &mut Vec<Move>, time: Duration) {
    if !time.is_zero() {
        moves.push(Move::Wait(time));
    }
}

fn body_moves(moves: &mut Vec<Move>, body: Vec<u8>, tempo: Tempo) {
    match tempo.drip {
        Some(per_second) => moves.push(Move::Drip { bytes: body, per_second }),
        None => moves.push(Move::Send(body)),
    }
}

fn breaks_at(mishaps: &Mishaps, place: Place) -> bool {
    match &mishaps.wire {
        Some(WireFault::Reset(at) | WireFault::Close(at) | WireFault::Hang(at, _)) => *at == place,
        _ => false,
    }
}

/// Breaks the connection if this is the place; true if nothing can follow.
fn happens(score: &mut Score, mishaps: &Mishaps, place: Place) -> bool {
    if !breaks_at(mishaps, place) {
        return false;
    }
    let (last, over) = match &mishaps.wire {
        Some(WireFault::Reset(_)) => (Move::Reset, true),
        Some(WireFault::Close(_)) => (Move::Close, true),
        Some(WireFault::Hang(_, Some(time))) => (Move::Wait(*time), false),
        _ => (Move::WaitForPeer, true),
    };
    score.moves.push(last);
    score.keep_alive &= !over;
    over
}

fn damage(body: &mut Vec<u8>, fault: Option<&WireFault>) {
    match fault {
        Some(WireFault::TruncateJson) => body.truncate(body.len() * 3 / 5),
        Some(WireFault::MalformedJson) => {
            *body = b"{\"id\": \"sim\", \"choices\": [oops, }".to_vec();
        }
        Some(WireFault::InvalidUtf8) => {
            let at = body.len() / 2;
            body.splice(at..at, [0xff, 0xfe, 0xc3, 0x28]);
        }
        Some(WireFault::DeepJson(depth)) => {
            *body = vec![b'['; *depth as usize];
            body.extend(vec![b']'; *depth as usize]);
        }
        _ => (),
    }
}

fn framing(fault: Option<&WireFault>, length: usize) -> String {
    match fault {
        Some(WireFault::WrongLength(wrong)) => match wrong {
            WrongLength::TooLong => format!("content-length: {}\r\n", length + 64),
            WrongLength::TooShort => format!("content-length: {}\r\n", length / 2),
            WrongLength::Twice => {
                format!("content-length: {length}\r\ncontent-length: {}\r\n", length + 7)
            }
            WrongLength::Negative => "content-length: -1\r\n".to_owned(),
        },
        _ => format!("content-length: {length}\r\n"),
    }
}

/// Puts headers before the empty line at the end of a head.
fn add_headers(head: &mut Vec<u8>, count: u32) {
    head.truncate(head.len().saturating_sub(2));
    for n in 0..count {
        head.extend(format!("x-filler-{n}: simulated\r\n").into_bytes());
    }
    head.extend(b"\r\n");
}

const BLOCK: usize = 64 << 10;

/// Bytes of padding, in whole blocks.
fn padding(fault: Option<&WireFault>, body: usize) -> usize {
    match fault {
        Some(WireFault::BigBody(bytes)) => bytes.saturating_sub(body).div_ceil(BLOCK) * BLOCK,
        _ => 0,
    }
}

fn pad(moves: &mut Vec<Move>, bytes: usize) {
    if bytes > 0 {
        moves.push(Move::Repeat(vec![b' '; BLOCK], bytes / BLOCK));
    }
}

/// Padding of a stream: comments, which are no progress.
fn pad_stream(moves: &mut Vec<Move>, bytes: usize) {
    if bytes > 0 {
        let mut comment = vec![b'.'; BLOCK - 3];
        comment[0] = b':';
        comment.extend(b"\n\n");
        moves.push(Move::Repeat(chunk(&comment), bytes / BLOCK));
    }
}
