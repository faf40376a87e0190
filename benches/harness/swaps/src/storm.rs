//! More pushes than are taken.
use std::cell::{Cell, RefCell};
use std::fmt::Write as _;
use std::rc::Rc;
use std::time::{Duration, Instant};

use tokio::task::spawn_local;
use tokio::time::{sleep, sleep_until};
use tonic::Code;

use crate::policies::marked;
use crate::{POLICY, Rig, pb, shown};

/// Policies that are pushed in turns, that of the runs among them, so that none outgrows the history
/// that is kept of it.
const POLICIES: u64 = 16;

/// What came of the pushes of all windows.
#[derive(Default)]
pub struct Storms {
    number: Cell<u64>,
    taken: Cell<u64>,
    refused: Cell<u64>,
    /// Neither taken nor told to come later.
    lost: Cell<u64>,
    under_way: Cell<u64>,
    /// Name, version and digest of the content of each that was taken.
    accepted: RefCell<String>,
}

fn count(cell: &Cell<u64>) {
    cell.set(cell.get() + 1);
}

impl Storms {
    pub fn json(&self) -> String {
        format!("{{\"sent\":{},\"taken\":{},\"refused\":{},\"lost\":{}}}", self.number.get(), self.taken.get(), self.refused.get(), self.lost.get())
    }

    pub fn accepted(&self) -> String {
        self.accepted.borrow().clone()
    }
}

async fn push(rig: &Rig, number: u64) {
    let storms = &rig.storms;
    let name = match number % POLICIES {
        0 => POLICY.to_owned(),
        other => format!("storm-{other}"),
    };
    // No two have the same content, and the number of none is a version: windows before this stored some.
    let number = 1_000_000 + number;
    let request = pb::PushPolicyRequest { name: name.clone(), text: marked(number), ..Default::default() };
    let mut control = rig.control.borrow().clone();
    let began = Instant::now();
    match control.push_policy(request).await {
        Ok(stored) => {
            let version = stored.into_inner().version.unwrap_or_default();
            let _ = writeln!(storms.accepted.borrow_mut(), "{name} {} {}", version.version, version.content_hash);
            if name == POLICY {
                rig.runs.borrow_mut().mark(version.version, &number.to_string());
                rig.pushed.set(version.version);
            }
            rig.push_times.borrow_mut().saturating_record(began.elapsed().as_micros() as u64);
            count(&storms.taken);
        }
        Err(status) if status.code() == Code::ResourceExhausted => count(&storms.refused),
        Err(status) => {
            eprintln!("{status}");
            count(&storms.lost);
        }
    }
    storms.under_way.set(storms.under_way.get() - 1);
}

/// So many pushes a second, whatever becomes of those before; returns what those that were taken took.
pub async fn storm(rig: &Rc<Rig>, rate: f64, window: Duration) -> String {
    let began = Instant::now();
    rig.push_times.borrow_mut().reset();
    for number in 0..(rate * window.as_secs_f64()) as u64 {
        sleep_until((began + Duration::from_secs_f64(number as f64 / rate)).into()).await;
        count(&rig.storms.number);
        rig.storms.under_way.set(rig.storms.under_way.get() + 1);
        let (rig, number) = (rig.clone(), rig.storms.number.get());
        spawn_local(async move { push(&rig, number).await });
    }
    while rig.storms.under_way.get() > 0 {
        sleep(Duration::from_millis(1)).await;
    }
    shown(&rig.push_times.borrow())
}
