use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};

use reqwest::dns::{Addrs, Name, Resolving};
use tokio::net::TcpListener;

use super::*;
use crate::provider::openai::OpenAi;

/// Answers with these addresses in turn, whatever is asked.
struct Stub {
    answers: Vec<Vec<IpAddr>>,
    asked: AtomicUsize,
}

impl Resolve for Stub {
    fn resolve(&self, _: Name) -> Resolving {
        let turn = self.asked.fetch_add(1, Ordering::Relaxed);
        let answer = self.answers[turn.min(self.answers.len() - 1)].clone();
        let answer = answer.into_iter().map(|ip| SocketAddr::new(ip, 0));
        Box::pin(async move { Ok(Box::new(answer) as Addrs) })
    }
}

fn settings(base_url: &str, private: bool) -> EndpointSettings<'_> {
    EndpointSettings {
        dialect: &OpenAi,
        base_url,
        model: "m",
        path: None,
        query: &[],
        headers: HeaderMap::new(),
        credential: None,
        connect_timeout: Duration::from_secs(5),
        versions: HttpVersions::Http1Only,
        response_bytes_max: 1 << 20,
        idle_connections_max: 8,
        private,
    }
}

/// Calls and streams have clients of their own; what holds for one must hold for the other.
const BOTH: [bool; 2] = [false, true];

fn call(stream: bool) -> Call {
    let deadline = Instant::now() + Duration::from_secs(20);
    Call { body: Bytes::from_static(b"{}"), stream, traceparent: None, deadline }
}

/// A listener that answers every connection with an empty 204 and counts them.
async fn counting() -> (u16, Arc<AtomicUsize>) {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let count = Arc::new(AtomicUsize::new(0));
    let seen = count.clone();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            seen.fetch_add(1, Ordering::Relaxed);
            let mut request = [0; 4096];
            let _ = stream.read(&mut request).await;
            let answer = b"HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n";
            let _ = stream.write_all(answer).await;
        }
    });
    (port, count)
}

#[tokio::test]
async fn a_name_that_turns_private_is_not_called() {
    let (port, connections) = counting().await;
    let url = format!("http://models.example.com:{port}/v1");
    let here: IpAddr = Ipv4Addr::LOCALHOST.into();
    for hostile in ["169.254.169.254", "10.0.0.1", "::1", "::ffff:127.0.0.1", "127.0.0.1"] {
        let stub = Stub { answers: vec![vec![hostile.parse().unwrap()]], asked: 0.into() };
        let endpoint = Endpoint::with_resolver(settings(&url, false), Arc::new(stub)).unwrap();
        for stream in BOTH {
            let outcome = endpoint.call(call(stream)).await;
            assert!(matches!(outcome, Outcome::Fault(TransportFault::Forbidden)), "{hostile}");
        }
    }
    assert_eq!(connections.load(Ordering::Relaxed), 0);

    // The same name may be called when the operator says so, and is asked for anew each time that
    // a connection is made: the second answer counts as much as the first.
    for stream in BOTH {
        let before = connections.load(Ordering::Relaxed);
        let answers = vec![vec![here], vec![]];
        let stub = Arc::new(Stub { answers, asked: 0.into() });
        let endpoint = Endpoint::with_resolver(settings(&url, true), stub.clone()).unwrap();
        assert!(matches!(endpoint.call(call(stream)).await, Outcome::Response(_)));
        assert!(matches!(endpoint.call(call(stream)).await, Outcome::Fault(_)));
        assert_eq!(connections.load(Ordering::Relaxed) - before, 1);
        assert_eq!(stub.asked.load(Ordering::Relaxed), 2);
    }
}

/// Has no address for any name.
struct Nowhere;

impl Resolve for Nowhere {
    fn resolve(&self, _: Name) -> Resolving {
        Box::pin(async { Err(io::Error::other("no such name").into()) })
    }
}

/// What came of calling a server that does this with its first connection.
async fn met<F>(scheme: &str, versions: HttpVersions, stream: bool, server: F) -> Outcome
where
    F: AsyncFnOnce(tokio::net::TcpStream),
{
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let url = format!("{scheme}://{}/v1", listener.local_addr().unwrap());
    let settings = EndpointSettings {
        versions,
        connect_timeout: Duration::from_millis(300),
        ..settings(&url, true)
    };
    let endpoint = Endpoint::new(settings).unwrap();
    let serve = async {
        let (connection, _) = listener.accept().await.unwrap();
        server(connection).await;
    };
    tokio::join!(endpoint.call(call(stream)), serve).0
}

#[tokio::test]
async fn each_way_that_a_connection_fails_has_its_fault() {
    use tokio::io::AsyncReadExt;
    let fault = |outcome: Outcome| match outcome {
        Outcome::Fault(fault) => fault,
        Outcome::Response(response) => panic!("answered with {}", response.status),
    };
    for stream in BOTH {
        let unknown = settings("http://models.example.com/v1", true);
        let endpoint = Endpoint::with_resolver(unknown, Arc::new(Nowhere)).unwrap();
        assert_eq!(fault(endpoint.call(call(stream)).await), TransportFault::Dns);

        let closed = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let url = format!("http://{}/v1", closed.local_addr().unwrap());
        drop(closed);
        let endpoint = Endpoint::new(settings(&url, true)).unwrap();
        assert_eq!(fault(endpoint.call(call(stream)).await), TransportFault::Connect);

        let no_tls = met("https", HttpVersions::Auto, stream, async |mut connection| {
            let mut hello = [0; 64];
            let _ = connection.read(&mut hello).await;
            let _ =
                tokio::io::AsyncWriteExt::write_all(&mut connection, b"HTTP/1.1 400\r\n\r\n").await;
        });
        assert_eq!(fault(no_tls.await), TransportFault::Tls);

        let silent = met("https", HttpVersions::Auto, stream, async |mut connection| {
            let mut all = Vec::new();
            let _ = connection.read_to_end(&mut all).await;
        });
        assert_eq!(fault(silent.await), TransportFault::ConnectTimeout);

        let hangs_up = met("http", HttpVersions::Http1Only, stream, async |mut connection| {
            let mut request = [0; 64];
            let _ = connection.read(&mut request).await;
        });
        assert_eq!(fault(hangs_up.await), TransportFault::Connect);
    }
}

#[tokio::test]
async fn little_is_read_ahead_of_a_stream() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    const BODY: usize = 8 << 20;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let url = format!("http://{}/v1", listener.local_addr().unwrap());
    let flood = tokio::spawn(async move {
        let (mut connection, _) = listener.accept().await.unwrap();
        let mut request = [0; 4096];
        let _ = connection.read(&mut request).await;
        let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {BODY}\r\n\r\n");
        connection.write_all(head.as_bytes()).await.unwrap();
        connection.write_all(&vec![b'x'; BODY]).await.unwrap();
    });
    let settings = EndpointSettings { response_bytes_max: BODY, ..settings(&url, true) };
    let mut answer = Endpoint::new(settings).unwrap().open(call(true)).await.unwrap();
    let (mut most, mut all) = (0, 0);
    let end = loop {
        match answer.next().await {
            Ok(chunk) => (most, all) = (most.max(chunk.len()), all + chunk.len()),
            Err(end) => break end,
        }
    };
    flood.await.unwrap();
    assert_eq!((end, all), (BodyEnd::Complete, BODY));
    // Where there is room in a buffer it is filled, which the limit rounded up allows for.
    assert!(most <= 128 << 10, "{most} bytes in one piece");
}

#[tokio::test]
async fn private_addresses_are_left_out_of_a_mixed_answer() {
    let answer = ["10.0.0.1", "8.8.8.8", "169.254.169.254"].map(|ip| ip.parse().unwrap());
    let stub = Stub { answers: vec![answer.to_vec()], asked: 0.into() };
    let resolved = PublicOnly(Arc::new(stub)).resolve("x".parse().unwrap()).await.unwrap();
    let resolved: Vec<String> = resolved.map(|found| found.ip().to_string()).collect();
    assert_eq!(resolved, ["8.8.8.8"]);
}

#[test]
fn literals_pass_no_resolver_and_are_checked_at_once() {
    for url in [
        "http://127.0.0.1:1/v1",
        "http://127.1/v1",
        "http://2130706433/v1",
        "http://0x7f000001/v1",
        "http://0177.0.0.1/v1",
        "http://[::1]/v1",
        "http://[::ffff:7f00:1]/v1",
        "http://169.254.169.254/v1",
        "http://\u{ff11}27.0.0.1/v1",
    ] {
        let made = Endpoint::new(settings(url, false));
        assert!(matches!(made, Err(EndpointError::Forbidden)), "{url}");
        assert!(Endpoint::new(settings(url, true)).is_ok(), "{url}");
    }
    assert!(Endpoint::new(settings("https://8.8.8.8/v1", false)).is_ok());
}
