//! Requests read off a socket, with limits on everything.

use std::time::Duration;

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Largest body that is read.
pub const BODY_MAX: usize = 8 << 20;
const HEAD_MAX: usize = 32 << 10;
const HEADERS_MAX: usize = 100;
const IDLE_MAX: Duration = Duration::from_secs(60);
const READ_MAX: Duration = Duration::from_secs(60);

/// A request.
#[derive(Debug)]
pub struct Request {
    /// Method.
    pub method: String,
    /// Path without the query, percent-decoded.
    pub path: String,
    /// Query, as it came.
    pub query: String,
    /// Headers with lower-case names.
    pub headers: Vec<(String, String)>,
    /// Body.
    pub body: Vec<u8>,
    /// The peer means to send more.
    pub keep_alive: bool,
}

impl Request {
    /// The value of a header.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }

    /// The value of a query parameter, as it came.
    pub fn query_value(&self, name: &str) -> Option<&str> {
        self.query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))
    }
}

/// Why there is no request.
#[derive(Debug, PartialEq, Eq)]
pub enum NoRequest {
    /// The peer is done, or too slow, or gone.
    Gone,
    /// What came is refused with this status.
    Refused(u16),
}

struct Head {
    request: Request,
    length: Length,
    expects_continue: bool,
}

enum Length {
    Known(usize),
    Chunked,
}

/// Reads the next request. `buffer` holds what came after the last one.
///
/// # Errors
/// [`NoRequest`].
pub async fn read_request(
    stream: &mut TcpStream,
    buffer: &mut BytesMut,
) -> Result<Request, NoRequest> {
    if buffer.is_empty() {
        fill(stream, buffer, IDLE_MAX).await?;
    }
    timeout(READ_MAX, read_whole(stream, buffer)).await.map_err(|_| NoRequest::Refused(408))?
}

async fn read_whole(stream: &mut TcpStream, buffer: &mut BytesMut) -> Result<Request, NoRequest> {
    let head = loop {
        if let Some((head, bytes)) = parse_head(buffer)? {
            buffer.advance(bytes);
            break head;
        }
        if buffer.len() > HEAD_MAX {
            return Err(NoRequest::Refused(431));
        }
        fill(stream, buffer, READ_MAX).await?;
    };
    let mut request = head.request;
    if head.expects_continue {
        let go_on = stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await;
        go_on.map_err(|_| NoRequest::Gone)?;
    }
    request.body = match head.length {
        Length::Known(length) => {
            while buffer.len() < length {
                fill(stream, buffer, READ_MAX).await?;
            }
            buffer.split_to(length).to_vec()
        }
        Length::Chunked => read_chunks(stream, buffer).await?,
    };
    Ok(request)
}

async fn fill(
    stream: &mut TcpStream,
    buffer: &mut BytesMut,
    limit: Duration,
) -> Result<(), NoRequest> {
    match timeout(limit, stream.read_buf(buffer)).await {
        Ok(Ok(bytes)) if bytes > 0 => Ok(()),
        _ => Err(NoRequest::Gone),
    }
}

fn parse_head(bytes: &[u8]) -> Result<Option<(Head, usize)>, NoRequest> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut parsed = httparse::Request::new(&mut headers);
    let size = match parsed.parse(bytes) {
        Ok(httparse::Status::Complete(size)) => size,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(httparse::Error::TooManyHeaders) => return Err(NoRequest::Refused(431)),
        Err(_) => return Err(NoRequest::Refused(400)),
    };
    let target = parsed.path.unwrap_or_default();
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let request = Request {
        method: parsed.method.unwrap_or_default().to_owned(),
        path: percent_decoded(path),
        query: query.to_owned(),
        headers: parsed
            .headers
            .iter()
            .map(|header| {
                let value = String::from_utf8_lossy(header.value).into_owned();
                (header.name.to_ascii_lowercase(), value)
            })
            .collect(),
        body: Vec::new(),
        keep_alive: true,
    };
    let says = |name: &str, word: &str| {
        request.header(name).is_some_and(|value| value.to_ascii_lowercase().contains(word))
    };
    let length = if says("transfer-encoding", "chunked") {
        Length::Chunked
    } else {
        let text = request.header("content-length").unwrap_or("0").trim();
        let length: usize = text.parse().map_err(|_| NoRequest::Refused(400))?;
        if length > BODY_MAX {
            return Err(NoRequest::Refused(413));
        }
        Length::Known(length)
    };
    let keep_alive = parsed.version == Some(1) && !says("connection", "close");
    let expects_continue = says("expect", "100-continue");
    let request = Request { keep_alive, ..request };
    Ok(Some((Head { request, length, expects_continue }, size)))
}

async fn read_chunks(stream: &mut TcpStream, buffer: &mut BytesMut) -> Result<Vec<u8>, NoRequest> {
    let mut body = Vec::new();
    loop {
        let size = match httparse::parse_chunk_size(buffer) {
            Ok(httparse::Status::Complete((used, size))) => {
                buffer.advance(used);
                usize::try_from(size).map_err(|_| NoRequest::Refused(413))?
            }
            Ok(httparse::Status::Partial) if buffer.len() < 1_024 => {
                fill(stream, buffer, READ_MAX).await?;
                continue;
            }
            _ => return Err(NoRequest::Refused(400)),
        };
        if body.len().saturating_add(size) > BODY_MAX {
            return Err(NoRequest::Refused(413));
        }
        // The chunk and the line end behind it; trailers are not supported and end in a 400.
        while buffer.len() < size + 2 {
            fill(stream, buffer, READ_MAX).await?;
        }
        body.extend_from_slice(&buffer.split_to(size));
        if buffer.split_to(2).as_ref() != b"\r\n" {
            return Err(NoRequest::Refused(400));
        }
        if size == 0 {
            return Ok(body);
        }
    }
}

fn percent_decoded(path: &str) -> String {
    let mut bytes = Vec::with_capacity(path.len());
    let mut rest = path.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        let hex = |b: u8| char::from(b).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
        let coded = match (first, tail) {
            (b'%', [high, low, ..]) => hex(*high).zip(hex(*low)),
            _ => None,
        };
        match coded {
            Some((high, low)) => {
                bytes.push(high * 16 + low);
                rest = &tail[2..];
            }
            None => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads() {
        let text =
            b"POST /v1/a%20b%21?x=1&alt=sse HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc";
        let Ok(Some((head, size))) = parse_head(text) else { panic!() };
        assert_eq!((size, head.request.path.as_str()), (text.len() - 3, "/v1/a b!"));
        assert_eq!(head.request.query_value("alt"), Some("sse"));
        assert!(head.request.keep_alive && matches!(head.length, Length::Known(3)));
    }

    #[test]
    fn what_is_too_much_is_refused() {
        let refused = |text: String| match parse_head(text.as_bytes()) {
            Err(NoRequest::Refused(status)) => status,
            _ => 0,
        };
        let head = |line: &str| format!("POST / HTTP/1.1\r\n{line}\r\n\r\n");
        assert_eq!(refused(head("content-length: 9000000")), 413);
        assert_eq!(refused(head("content-length: -1")), 400);
        assert_eq!(refused(head(&"a: b\r\n".repeat(200))), 431);
        assert_eq!(refused("nonsense\r\n\r\n".to_owned()), 400);
        assert!(parse_head(b"POST / HTTP").is_ok_and(|head| head.is_none()));
    }

    #[test]
    fn paths_are_decoded() {
        assert_eq!(percent_decoded("/m%21f%28a%3d1%29"), "/m!f(a=1)");
        assert_eq!(percent_decoded("/100%/%zz"), "/100%/%zz");
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(0_u8..=255, 0..300)) {
            let _ = parse_head(&bytes);
            let mut head = b"POST /a%".to_vec();
            head.extend(bytes);
            let _ = parse_head(&head);
            let _ = percent_decoded(&String::from_utf8_lossy(&head));
        }
    }
}
