//! Runs under load while their policy is swapped.
//!
//! Every pushed policy holds a rule that is named after its version, and the first step of the
//! pipeline fails once in a while. So a run tells by its policy and by each decision which version it
//! was under, and a run that names two is found. Windows with and without
//! pushes take turns. With `--storm` there come so many pushes a second that most are refused. The last
//! line of standard output is JSON.
mod policies;
mod storm;

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use policies::{marked, ruled};
use tokio::sync::oneshot;
use tokio::task::{LocalSet, spawn_local};
use tokio::time::{sleep, sleep_until};
use tonic::transport::{Channel, Endpoint};

pub mod pb {
    tonic::include_proto!("mainstay.v1");
}
use pb::pipeline_service_client::PipelineServiceClient;
use pb::policy_service_client::PolicyServiceClient;

const POLICY: &str = "swapped";
const PIPELINE: &str = "load";

/// What came of the runs.
#[derive(Default)]
struct Runs {
    ended: u64,
    decisions: u64,
    mixed: u64,
    /// Versions that runs were under.
    seen: BTreeSet<u64>,
    failed: BTreeMap<String, u64>,
    /// The mark that each version holds, as the push or the first run under it says.
    versions: BTreeMap<u64, String>,
}

impl Runs {
    /// A version holds one mark; who says another is mixed up.
    fn mark(&mut self, version: u64, mark: &str) {
        let known = self.versions.entry(version).or_insert_with(|| mark.to_owned());
        self.mixed += u64::from(known != mark);
    }
}

struct Rig {
    clients: Vec<PipelineServiceClient<Channel>>,
    control: RefCell<PolicyServiceClient<Channel>>,
    runs: RefCell<Runs>,
    /// Latencies of the window, from the moment that a run was due.
    window: RefCell<Histogram<u64>>,
    in_flight: Cell<u64>,
    pushed: Cell<u64>,
    control_url: String,
    storms: storm::Storms,
}

fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 600_000_000, 3).unwrap()
}

async fn channel(url: &str) -> Channel {
    let endpoint = Endpoint::from_shared(url.to_owned()).unwrap().tcp_nodelay(true);
    endpoint.connect().await.expect("the service answers")
}

impl Rig {
    async fn run(&self, number: usize, due: Instant) {
        let mut client = self.clients[number % self.clients.len()].clone();
        let request = pb::RunPipelineRequest {
            pipeline: PIPELINE.into(),
            options: Some(pb::RunOptions { policy: POLICY.into(), ..Default::default() }),
            ..Default::default()
        };
        self.in_flight.set(self.in_flight.get() + 1);
        let answer = client.run_pipeline(request).await;
        self.in_flight.set(self.in_flight.get() - 1);
        let mut runs = self.runs.borrow_mut();
        match answer {
            Ok(answer) => {
                self.window.borrow_mut().saturating_record(due.elapsed().as_micros() as u64);
                judge(&answer.into_inner().run.unwrap_or_default(), &mut runs);
            }
            Err(status) => *runs.failed.entry(format!("{:?}: {}", status.code(), status.message())).or_default() += 1,
        }
    }

    /// Stores the next version.
    async fn push(&self, text: String) -> Duration {
        let (version, took) = stored(&mut self.control.borrow().clone(), text).await;
        self.came(version);
        took
    }

    /// Notes that the next version was stored.
    fn came(&self, version: u64) {
        self.pushed.set(self.pushed.get() + 1);
        assert_eq!(version, self.pushed.get(), "each content gets the next version");
        self.runs.borrow_mut().mark(version, &version.to_string());
    }
}

/// Holds everything that a run says about its policy against the one version that it names.
fn judge(run: &pb::Run, runs: &mut Runs) {
    let version = run.policy.as_ref().map_or(0, |policy| policy.version);
    runs.seen.insert(version);
    let attempts = run.steps.iter().flat_map(|step| &step.attempts);
    runs.mixed += u64::from(run.steps.len() != 2 || run.state() != pb::RunState::Succeeded);
    for decision in attempts.filter_map(|attempt| attempt.decision.as_ref()) {
        let parts = decision.rule.split(|c: char| !c.is_ascii_alphanumeric() && c != '-');
        let mark = parts.filter_map(|part| part.strip_prefix("mark-")).next().unwrap_or_default();
        runs.mark(version, mark);
        runs.decisions += 1;
    }
    runs.ended += 1;
}

/// Load until the end of a window: at a rate, or as fast as `conns` callers go.
async fn load(rig: &Rc<Rig>, rate: f64, conns: usize, until: Instant) -> u64 {
    let began = Instant::now();
    if rate > 0.0 {
        let mut number = 0_usize;
        loop {
            let due = began + Duration::from_secs_f64(number as f64 / rate);
            if due >= until {
                break;
            }
            sleep_until(due.into()).await;
            let rig = rig.clone();
            spawn_local(async move { rig.run(number, due).await });
            number += 1;
        }
        while rig.in_flight.get() > 0 {
            sleep(Duration::from_millis(2)).await;
        }
        return number as u64;
    }
    let callers = (0..conns).map(|caller| {
        let rig = rig.clone();
        spawn_local(async move {
            let mut calls = 0;
            while Instant::now() < until {
                rig.run(caller, Instant::now()).await;
                calls += 1;
            }
            calls
        })
    });
    let callers: Vec<_> = callers.collect();
    let mut calls = 0;
    for caller in callers {
        calls += caller.await.unwrap();
    }
    calls
}

/// Does something on a thread of its own, so that whoever measures the runs has nothing to do with it.
async fn apart<T, F>(work: impl FnOnce() -> F + Send + 'static) -> T
where
    T: Send + 'static,
    F: Future<Output = T>,
{
    let (done, came) = oneshot::channel();
    std::thread::spawn(move || {
        let rt = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let _ = done.send(LocalSet::new().block_on(&rt, work()));
    });
    came.await.expect("it comes to its end")
}

/// Stores a policy; returns its version and how long that took.
async fn stored(control: &mut PolicyServiceClient<Channel>, text: String) -> (u64, Duration) {
    let began = Instant::now();
    let request = pb::PushPolicyRequest { name: POLICY.into(), text, ..Default::default() };
    let stored = control.push_policy(request).await.expect("the push is taken").into_inner();
    (stored.version.unwrap_or_default().version, began.elapsed())
}

/// Pushes spread evenly over a window; returns how long each took.
async fn swaps(rig: &Rig, count: u64, window: Duration) -> String {
    let (control, first) = (rig.control_url.clone(), rig.pushed.get() + 1);
    let pushes = apart(move || async move {
        let client = PolicyServiceClient::new(channel(&control).await);
        let mut client = client.max_decoding_message_size(64 << 20);
        let (began, mut pushes) = (Instant::now(), Vec::new());
        for number in 0..count {
            sleep_until((began + window.mul_f64(number as f64 / count as f64)).into()).await;
            pushes.push(stored(&mut client, marked(first + number)).await);
        }
        pushes
    });
    let mut times = histogram();
    for (version, took) in pushes.await {
        rig.came(version);
        times.saturating_record(took.as_micros() as u64);
    }
    shown(&times)
}

fn shown(h: &Histogram<u64>) -> String {
    let at = |q| h.value_at_quantile(q);
    format!("{{\"n\":{},\"p50\":{},\"p90\":{},\"p99\":{},\"p999\":{},\"max\":{}}}", h.len(), at(0.5), at(0.9), at(0.99), at(0.999), h.max())
}

/// What is pushed in a window.
#[derive(Clone, Copy)]
enum Pushes {
    None,
    /// So many, each after the one before.
    Swaps(u64),
    /// So many a second.
    Storm(f64),
}

/// One window, with pushes or without.
async fn window(rig: &Rc<Rig>, rate: f64, conns: usize, length: Duration, pushes: Pushes) -> String {
    rig.window.borrow_mut().reset();
    let began = Instant::now();
    let pushing = async {
        match pushes {
            Pushes::None => "null".to_owned(),
            Pushes::Swaps(count) => swaps(rig, count, length).await,
            Pushes::Storm(per_second) => storm::storm(rig, per_second, length).await,
        }
    };
    let (calls, push_us) = tokio::join!(load(rig, rate, conns, began + length), pushing);
    let secs = began.elapsed().as_secs_f64();
    format!("{{\"calls\":{calls},\"rps\":{:.1},\"lat_us\":{},\"push_us\":{push_us}}}", calls as f64 / secs, shown(&rig.window.borrow()))
}

/// From the start of a push to the end of the first run under its version, runs one after the other.
async fn effect(rig: &Rc<Rig>, rules: usize) -> (Duration, Duration) {
    let wanted = rig.pushed.get() + 1;
    let text = ruled(wanted, rules);
    let began = Instant::now();
    let probe = async {
        loop {
            if rig.runs.borrow().seen.last().is_some_and(|newest| *newest >= wanted) {
                return began.elapsed();
            }
            rig.run(0, Instant::now()).await;
        }
    };
    tokio::join!(probe, rig.push(text))
}

fn main() {
    let a: Vec<String> = std::env::args().collect();
    let arg = |k: &str| a.iter().position(|x| x == k).and_then(|i| a.get(i + 1).cloned());
    let number = |k: &str, d: f64| arg(k).map_or(d, |v| v.parse().unwrap());
    let (data, control) = (arg("--data").expect("--data"), arg("--control").expect("--control"));
    let (rate, conns) = (number("--rate", 0.0), number("--conns", 32.0) as usize);
    let (pairs, pushes) = (number("--pairs", 4.0) as u64, number("--pushes", 100.0) as u64);
    let length = Duration::from_secs_f64(number("--window", 5.0));
    let (effects, rules) = (number("--effects", 0.0) as usize, number("--rules", 1000.0) as usize);
    let pushed = number("--pushed", 0.0) as u64;
    let (storming, accepted) = (number("--storm", 0.0), arg("--accepted"));
    let pushing = match (storming, pushes) {
        (rate, _) if rate > 0.0 => Pushes::Storm(rate),
        (_, 0) => Pushes::None,
        (_, pushes) => Pushes::Swaps(pushes),
    };
    let rt = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let out = LocalSet::new().block_on(&rt, async move {
        let mut clients = Vec::new();
        for _ in 0..4 {
            clients.push(PipelineServiceClient::new(channel(&data).await));
        }
        let control_url = control;
        let control = PolicyServiceClient::new(channel(&control_url).await);
        let control = RefCell::new(control.max_decoding_message_size(64 << 20));
        let (runs, window_of) = (RefCell::default(), RefCell::new(histogram()));
        let rig = Rig { clients, control, runs, window: window_of, in_flight: Cell::new(0), pushed: Cell::new(pushed), control_url: control_url.clone(), storms: Default::default() };
        let rig = Rc::new(rig);
        rig.push(marked(pushed + 1)).await;
        load(&rig, rate, conns, Instant::now() + Duration::from_secs(2)).await;
        let mut windows = Vec::new();
        for pair in 0..pairs {
            // In turns, and each first as often as second.
            for swapping in [pair % 2 == 1, pair % 2 == 0] {
                windows.push(window(&rig, rate, conns, length, if swapping { pushing } else { Pushes::None }).await);
            }
        }
        let (mut effect_us, mut push_us) = (histogram(), histogram());
        for _ in 0..effects {
            let (effect, push) = effect(&rig, rules).await;
            effect_us.saturating_record(effect.as_micros() as u64);
            push_us.saturating_record(push.as_micros() as u64);
        }
        if let Some(path) = accepted {
            std::fs::write(path, rig.storms.accepted()).expect("the accepted versions are written");
        }
        let runs = rig.runs.borrow();
        let failed: u64 = runs.failed.values().sum();
        let kinds: Vec<String> = runs.failed.iter().map(|(k, v)| format!("{k:?}:{v}")).collect();
        format!(
            "{{\"windows\":[{}],\"runs\":{},\"failed\":{failed},\"failures\":{{{}}},\"mixed\":{},\"decisions\":{},\"versions_seen\":{},\"pushed\":{},\"storm\":{},\"effect_us\":{},\"effect_push_us\":{}}}",
            windows.join(","), runs.ended, kinds.join(","), runs.mixed, runs.decisions, runs.seen.len(), rig.pushed.get(), rig.storms.json(), shown(&effect_us), shown(&push_us)
        )
    });
    println!("{out}");
}
