//! More pushes than are taken.
use std::cell::{Cell, RefCell};
use std::fmt::Write as _;
use std::rc::Rc;
use std::time::{Duration, Instant};

use tokio::task::spawn_local;
use tokio::time::{sleep, sleep_until};
use tonic::Code;
use tonic::transport::Channel;

use crate::pb::policy_service_client::PolicyServiceClient;
use crate::policies::marked;
use crate::{POLICY, Rig, apart, channel, histogram, pb, shown};

/// Policies that are pushed in turns, that of the runs among them, so that none outgrows the history
/// that is kept of it.
const POLICIES: u64 = 16;

/// What came of the pushes of all windows.
#[derive(Default)]
pub struct Storms {
    sent: Cell<u64>,
    taken: Cell<u64>,
    refused: Cell<u64>,
    /// Neither taken nor told to come later.
    lost: Cell<u64>,
    /// Name, version and digest of the content of each that was taken.
    accepted: RefCell<String>,
}

impl Storms {
    pub fn json(&self) -> String {
        format!("{{\"sent\":{},\"taken\":{},\"refused\":{},\"lost\":{}}}", self.sent.get(), self.taken.get(), self.refused.get(), self.lost.get())
    }

    pub fn accepted(&self) -> String {
        self.accepted.borrow().clone()
    }
}

/// What came of the pushes of one window.
#[derive(Default)]
struct Came {
    taken: Vec<Taken>,
    refused: u64,
    lost: u64,
    under_way: u64,
}

struct Taken {
    name: String,
    number: u64,
    version: pb::DocumentVersion,
    took: Duration,
}

async fn push(mut control: PolicyServiceClient<Channel>, number: u64, came: &RefCell<Came>) {
    let name = match number % POLICIES {
        0 => POLICY.to_owned(),
        other => format!("storm-{other}"),
    };
    let request = pb::PushPolicyRequest { name: name.clone(), text: marked(number), ..Default::default() };
    let began = Instant::now();
    let answer = control.push_policy(request).await;
    let mut came = came.borrow_mut();
    match answer {
        Ok(stored) => {
            let version = stored.into_inner().version.unwrap_or_default();
            came.taken.push(Taken { name, number, version, took: began.elapsed() });
        }
        Err(status) if status.code() == Code::ResourceExhausted => came.refused += 1,
        Err(status) => {
            eprintln!("{status}");
            came.lost += 1;
        }
    }
    came.under_way -= 1;
}

async fn pushes(control: String, numbers: std::ops::Range<u64>, rate: f64) -> Came {
    let client = PolicyServiceClient::new(channel(&control).await).max_decoding_message_size(64 << 20);
    let (began, came) = (Instant::now(), Rc::new(RefCell::new(Came::default())));
    for (at, number) in numbers.enumerate() {
        sleep_until((began + Duration::from_secs_f64(at as f64 / rate)).into()).await;
        came.borrow_mut().under_way += 1;
        let (client, came) = (client.clone(), came.clone());
        spawn_local(async move { push(client, number, &came).await });
    }
    while came.borrow().under_way > 0 {
        sleep(Duration::from_millis(1)).await;
    }
    came.take()
}

/// So many pushes a second, whatever becomes of those before; returns what those that were taken took.
pub async fn storm(rig: &Rc<Rig>, rate: f64, window: Duration) -> String {
    let storms = &rig.storms;
    let count = (rate * window.as_secs_f64()) as u64;
    // No two have the same content, and the number of none is a version: windows before this stored some.
    let first = 1_000_000 + storms.sent.get();
    let control = rig.control_url.clone();
    let came = apart(move || pushes(control, first..first + count, rate)).await;
    storms.sent.set(storms.sent.get() + count);
    storms.taken.set(storms.taken.get() + came.taken.len() as u64);
    storms.refused.set(storms.refused.get() + came.refused);
    storms.lost.set(storms.lost.get() + came.lost);
    let mut times = histogram();
    for Taken { name, number, version, took } in came.taken {
        let _ = writeln!(storms.accepted.borrow_mut(), "{name} {} {}", version.version, version.content_hash);
        if name == POLICY {
            rig.runs.borrow_mut().mark(version.version, &number.to_string());
            rig.pushed.set(rig.pushed.get().max(version.version));
        }
        times.saturating_record(took.as_micros() as u64);
    }
    shown(&times)
}
