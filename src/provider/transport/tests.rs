use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicUsize, Ordering};

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

async fn called(endpoint: &Endpoint) -> Outcome {
    let deadline = Instant::now() + Duration::from_secs(20);
    endpoint
        .call(Call { body: Bytes::from_static(b"{}"), stream: false, traceparent: None, deadline })
        .await
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
        let outcome = called(&endpoint).await;
        assert!(matches!(outcome, Outcome::Fault(TransportFault::Forbidden)), "{hostile}");
    }
    assert_eq!(connections.load(Ordering::Relaxed), 0);

    // The same name may be called when the operator says so, and is asked for anew each time that
    // a connection is made: the second answer counts as much as the first.
    let answers = vec![vec![here], vec![]];
    let stub = Arc::new(Stub { answers, asked: 0.into() });
    let endpoint = Endpoint::with_resolver(settings(&url, true), stub.clone()).unwrap();
    assert!(matches!(called(&endpoint).await, Outcome::Response(_)));
    assert!(matches!(called(&endpoint).await, Outcome::Fault(_)));
    assert_eq!(connections.load(Ordering::Relaxed), 1);
    assert_eq!(stub.asked.load(Ordering::Relaxed), 2);
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
