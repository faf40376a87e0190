//! TLS files of a listener that change while it serves.

use std::path::Path;

use mainstay::api::client::{self, Credentials};
use rcgen::SanType;
use tonic::Code;

use super::super::support::Rig;
use super::certificates::{Authority, connect, rig, run, uri};
use super::tokens::replace;
use super::{eventually, inline_hello};

fn copy(from: &Path, to: &Path) {
    replace(to, &std::fs::read_to_string(from).unwrap());
}

fn alerts(rig: &Rig) -> Vec<String> {
    let standing = rig.service.engine().alerts().list();
    let standing = standing.into_iter().filter(|alert| alert.ended.is_none());
    standing.filter_map(|alert| alert.notice.map(|notice| notice.to_string())).collect()
}

async fn runs(rig: &Rig, credentials: &Credentials) -> bool {
    match connect(rig, credentials).await {
        Ok(caller) => client::pipelines(caller).run_step(inline_hello()).await.is_ok(),
        Err(_) => false,
    }
}

#[tokio::test]
async fn new_connections_are_made_with_the_files_as_they_are() {
    let (old, new) = (Authority::new(), Authority::new());
    let rig = rig(&old, false).await;
    let name = || vec![uri("spiffe://example.org/checkout")];
    // Whom the client trusts, and who vouches for the client.
    let before = old.client("client", name());
    let mut half = new.client("half", name());
    half.tls_ca = Some(old.file("ca.pem"));
    let after = new.client("client", name());
    assert_eq!(run(&rig, &before).await, (Code::Ok, String::new()));
    assert!(!runs(&rig, &half).await && !runs(&rig, &after).await);
    let open = connect(&rig, &before).await.unwrap();
    let mut open = client::pipelines(open);
    open.run_step(inline_hello()).await.unwrap();

    // The new certificate beside the old key: told, and nothing changes.
    let (certificate, key) = new.sign("server", vec![SanType::IpAddress([127, 0, 0, 1].into())]);
    copy(&certificate, &old.file("server.pem"));
    eventually("it is told", async || alerts(&rig).len() == 1).await;
    let told = &alerts(&rig)[0];
    assert!(told.contains("the TLS files of the data listener cannot be used"), "{told}");
    assert!(told.contains("cannot be used with its key"), "{told}");
    assert!(runs(&rig, &before).await);

    copy(&key, &old.file("server.key"));
    eventually("it is mended", async || alerts(&rig).is_empty()).await;
    assert!(!runs(&rig, &before).await, "the server is another's now");
    assert!(open.run_step(inline_hello()).await.is_ok(), "what is connected stays connected");

    // The authorities of clients.
    let mut known = before.clone();
    known.tls_ca = Some(new.file("ca.pem"));
    assert!(runs(&rig, &known).await && !runs(&rig, &after).await);
    let first = std::fs::read_to_string(old.file("ca.pem")).unwrap();
    replace(&old.file("ca.pem"), "no certificate");
    eventually("it is told", async || alerts(&rig).len() == 1).await;
    assert!(runs(&rig, &known).await);
    let second = std::fs::read_to_string(new.file("ca.pem")).unwrap();
    replace(&old.file("ca.pem"), &format!("{first}{second}"));
    eventually("both count", async || runs(&rig, &after).await).await;
    assert!(runs(&rig, &known).await && alerts(&rig).is_empty());
    copy(&new.file("ca.pem"), &old.file("ca.pem"));
    eventually("the old one counts no more", async || !runs(&rig, &known).await).await;
    assert!(runs(&rig, &after).await);
    drop(open);
    rig.stop().await;
}
