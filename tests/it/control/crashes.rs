//! P19, scaled down to a test: the process is killed while it is being pushed to. After the
//! restart what serves is what was answered last, or what was on its way; whole in any case.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use mainstay::api::pb::policy_service_client::PolicyServiceClient;
use mainstay::api::{client, pb};
use sha2::{Digest as _, Sha256};
use tonic::transport::Channel;

use super::{pushing, retrying, scaled};

/// Kills, unless `MAINSTAY_KILLS` says how many.
const KILLS: u64 = 8;

/// Killed when the test ends, however it ends.
struct Served(Child);

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

async fn serve(dir: &Path) -> (Served, PolicyServiceClient<Channel>) {
    let control = format!("127.0.0.1:{}", free_port());
    let child = Command::new(env!("CARGO_BIN_EXE_mainstay"))
        .args(["serve", "--data-address", "127.0.0.1:0", "--control-address", &control, "--config"])
        .arg(dir.join("mainstay.yaml"))
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut served = Served(child);
    for _ in 0..1_000 {
        if let Ok(channel) = client::connect(&control).await {
            return (served, PolicyServiceClient::new(channel));
        }
        assert!(served.0.try_wait().unwrap().is_none(), "it ended by itself");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("it does not serve");
}

/// The version that serves: none that was answered is lost, none was made up, and text and hash
/// are its own.
fn whole(status: &pb::DocumentStatus, answered: u64, asked: u64) -> u64 {
    let version = status.active.as_ref().unwrap();
    assert!((answered..=asked).contains(&version.version), "{answered} {asked} {version:?}");
    let digest = Sha256::digest(&status.text);
    let digest: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(version.content_hash, digest);
    assert_eq!(status.text, format!("# {}\n{}", version.version, retrying(1)));
    version.version
}

#[tokio::test]
async fn a_kill_between_journal_and_swap_leaves_the_old_or_the_new_version_whole() {
    let dir = tempfile::tempdir().unwrap();
    let config = "store: {path: mainstay.db}\nlimits: {changes_per_second: 1000000}\ntargets:\n  main: {dialect: openai, model: m, base_url: 'http://127.0.0.1:9/v1'}\n";
    std::fs::write(dir.path().join("mainstay.yaml"), config).unwrap();
    let kills = scaled("MAINSTAY_KILLS", KILLS);
    let (mut asked, mut answered) = (0, 0);
    for round in 0..=kills {
        let (mut served, mut client) = serve(dir.path()).await;
        if round > 0 {
            let request = pb::GetPolicyRequest { name: "p".into(), version: 0 };
            match client.get_policy(request).await {
                Ok(response) => {
                    asked = whole(&response.into_inner().status.unwrap(), answered, asked)
                }
                Err(none) => {
                    assert_eq!((none.code(), answered), (tonic::Code::NotFound, 0), "{none}");
                    asked = 0;
                }
            }
        }
        if round == kills {
            break;
        }
        // The kill comes at another point of some push each time.
        let deadline = Duration::from_micros(60_000 + 7_919 * (round % 32) * 3);
        let pid = served.0.id();
        let killer = async {
            tokio::time::sleep(deadline).await;
            served.0.kill().unwrap();
            served.0.wait().unwrap();
        };
        let pusher = async {
            loop {
                let next = asked + 1;
                let text = format!("# {next}\n{}", retrying(1));
                asked = next;
                match client.push_policy(pushing("p", &text)).await {
                    Ok(response) => answered = response.into_inner().version.unwrap().version,
                    Err(_) => return,
                }
                assert_eq!(answered, next, "{pid}");
            }
        };
        tokio::join!(killer, pusher);
    }
    println!("{kills} kills, {answered} versions");
    assert!(answered > kills, "{answered}");
}

#[tokio::test]
async fn a_second_process_on_the_same_store_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let config = "store: {path: mainstay.db}\nlisteners: {data: {address: '127.0.0.1:0'}, control: {address: '127.0.0.1:0'}}\ntargets:\n  main: {dialect: openai, model: m, base_url: 'http://127.0.0.1:9/v1'}\n";
    let path = dir.path().join("mainstay.yaml");
    std::fs::write(&path, config).unwrap();
    let (served, _client) = serve(dir.path()).await;
    let second = Command::new(env!("CARGO_BIN_EXE_mainstay"))
        .args(["serve", "--config"])
        .arg(&path)
        .output()
        .unwrap();
    let told = String::from_utf8(second.stderr).unwrap();
    assert_eq!(second.status.code(), Some(3), "{told}");
    assert!(
        told.contains(&format!("in use by another process (process {})", served.0.id())),
        "{told}"
    );
}
