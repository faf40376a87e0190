//! Several callers at once on one Mainstay, each with its own rate, deadline, targets and token, and
//! every call written down, so that whoever reads it can look at any window of time.
//!   storm --address 127.0.0.1:50051 --out samples.txt --flow name=quiet,targets=a+b,rate=80,to=30 [--flow …]
//! A flow: name; targets (joined by +); rate (calls a second, whatever the answers; 0: closed loop); at_once (most in
//! flight, or the workers of a closed loop, who begin over `ramp` seconds); calls (in all; 0: no end); from, to (seconds); deadline (ms, or from..to,
//! spread evenly over the calls); token; channels; mode (step, stream: read to its end, stall: opened and not read for
//! `hold` seconds).
//! A sample: flow, start, length and deadline in microseconds, outcome (ok, degraded, or the status with the cause
//! behind a slash).
//! Deadlines are told to the service and not enforced here: what comes late is seen to be late.
use std::collections::HashMap;
use std::io::Write;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tokio::time::Instant;
use tonic::{Code, Request, Status};

mod ms { tonic::include_proto!("mainstay.v1"); }
use ms::pipeline_service_client::PipelineServiceClient;

type Http = Client<HttpConnector, tonic::body::Body>;

/// How long past its deadline a call is waited for.
const PATIENCE: Duration = Duration::from_secs(5);

#[derive(Clone, Copy, PartialEq)]
enum Mode { Step, Stream, Stall }

struct Flow {
    name: String,
    targets: Vec<String>,
    rate: f64,
    at_once: u64,
    calls: u64,
    from: f64,
    to: f64,
    deadline: (u64, u64),
    token: Option<String>,
    channels: usize,
    mode: Mode,
    hold: f64,
    ramp: f64,
}

impl Flow {
    fn parse(text: &str) -> Self {
        let given: HashMap<&str, &str> = text.split(',').map(|pair| pair.split_once('=').expect("key=value")).collect();
        let number = |key: &str, or: f64| given.get(key).map_or(or, |text| text.parse().expect("a number"));
        let deadline = given.get("deadline").copied().unwrap_or("10000");
        let (least, most) = deadline.split_once("..").unwrap_or((deadline, deadline));
        Self {
            name: given.get("name").copied().unwrap_or("all").to_owned(),
            targets: given.get("targets").map(|t| t.split('+').map(str::to_owned).collect()).unwrap_or_default(),
            rate: number("rate", 0.0),
            at_once: number("at_once", 4_096.0) as u64,
            calls: number("calls", 0.0) as u64,
            from: number("from", 0.0),
            to: number("to", 3_600.0),
            deadline: (least.parse().expect("ms"), most.parse().expect("ms")),
            token: given.get("token").map(|text| (*text).to_owned()),
            channels: number("channels", 2.0) as usize,
            mode: match given.get("mode").copied() {
                Some("stream") => Mode::Stream,
                Some("stall") => Mode::Stall,
                _ => Mode::Step,
            },
            hold: number("hold", 0.0),
            ramp: number("ramp", 0.0),
        }
    }

    fn deadline_of(&self, n: u64) -> Duration {
        let (least, most) = self.deadline;
        // A stride with no factor in common with the spread goes through all of it.
        Duration::from_millis(least + (n * 7_919) % (most - least + 1))
    }

    /// No two calls ask the same, or a cache could answer.
    fn request(&self, n: u64) -> Request<ms::RunStepRequest> {
        let part = |t: String| vec![ms::PromptPart { part: Some(ms::prompt_part::Part::Text(t)) }];
        let message = |role: ms::Role, t: String| ms::PromptMessage { role: role.into(), parts: part(t) };
        let text = format!("Ticket {}-{n}: I was charged twice for one order. Please give me the second amount back.", self.name);
        let mut request = Request::new(ms::RunStepRequest {
            step: Some(ms::run_step_request::Step::Inline(ms::StepSpec {
                targets: self.targets.clone(),
                messages: vec![message(ms::Role::System, "You classify tickets.".into()), message(ms::Role::User, text)],
                ..Default::default()
            })),
            ..Default::default()
        });
        let ms = self.deadline_of(n).as_millis();
        request.metadata_mut().insert("grpc-timeout", format!("{ms}m").parse().expect("ASCII"));
        if let Some(token) = &self.token {
            request.metadata_mut().insert("authorization", format!("Bearer {token}").parse().expect("ASCII"));
        }
        request
    }
}

#[derive(Default)]
struct Book { samples: Vec<(u16, u64, u32, u32, u16)>, outcomes: Vec<String> }

impl Book {
    fn write(&mut self, flow: usize, start: Duration, length: Duration, deadline: Duration, outcome: &str) {
        let number = self.outcomes.iter().position(|known| known == outcome).unwrap_or_else(|| {
            self.outcomes.push(outcome.to_owned());
            self.outcomes.len() - 1
        });
        self.samples.push((flow as u16, start.as_micros() as u64, length.as_micros() as u32, deadline.as_micros() as u32, number as u16));
    }
}

struct Shared { book: Mutex<Book>, origin: Instant, origin_url: String }

fn outcome_of(status: &Status) -> String {
    let cause = status.metadata().get("mainstay-failure-cause").and_then(|value| value.to_str().ok());
    format!("{:?}/{}", status.code(), cause.unwrap_or(if status.code() == Code::Unknown { "transport" } else { "" }))
}

fn client() -> Http {
    let mut connector = HttpConnector::new();
    connector.set_nodelay(true);
    let mut builder = Client::builder(TokioExecutor::new());
    builder.timer(TokioTimer::new()).http2_only(true);
    // A reader that stalls holds up its own stream, never the others of its connection.
    builder.http2_initial_stream_window_size(64 << 10).http2_initial_connection_window_size(32 << 20);
    builder.build(connector)
}

async fn call(http: Http, url: &str, flow: &Flow, n: u64) -> String {
    let mut client = PipelineServiceClient::with_origin(http, url.parse().expect("a URI"));
    let request = flow.request(n);
    if flow.mode == Mode::Step {
        return match client.run_step(request).await {
            Ok(response) if response.get_ref().degraded => "degraded".into(),
            Ok(_) => "ok".into(),
            Err(status) => outcome_of(&status),
        };
    }
    let (metadata, extensions, inner) = request.into_parts();
    let request = Request::from_parts(metadata, extensions, ms::StreamStepRequest { request: Some(inner) });
    let mut events = match client.stream_step(request).await {
        Ok(response) => response.into_inner(),
        Err(status) => return outcome_of(&status),
    };
    if flow.mode == Mode::Stall {
        tokio::time::sleep(Duration::from_secs_f64(flow.hold)).await;
        return "stalled".into();
    }
    let mut completed = "cut".to_owned();
    loop {
        match events.message().await {
            Ok(Some(ms::StreamStepResponse { event: Some(ms::stream_step_response::Event::Completed(done)) })) => {
                completed = if done.degraded { "degraded".into() } else { "ok".into() };
            }
            Ok(Some(_)) => {}
            Ok(None) => return completed,
            Err(status) => return outcome_of(&status),
        }
    }
}

async fn one(shared: Arc<Shared>, idx: usize, flow: Arc<Flow>, http: Http, n: u64) -> bool {
    let start = shared.origin.elapsed();
    let most = flow.deadline_of(n) + Duration::from_secs_f64(flow.hold) + PATIENCE;
    let outcome = tokio::time::timeout(most, call(http, &shared.origin_url, &flow, n)).await.unwrap_or_else(|_| "hung/".into());
    let length = shared.origin.elapsed() - start;
    shared.book.lock().unwrap().write(idx, start, length, flow.deadline_of(n), &outcome);
    outcome == "ok"
}

/// Runs one flow to its end, and waits for the calls that it has begun.
async fn run(shared: Arc<Shared>, idx: usize, flow: Arc<Flow>) {
    let clients: Vec<Http> = (0..flow.channels.max(1)).map(|_| client()).collect();
    let begin = shared.origin + Duration::from_secs_f64(flow.from);
    let end = shared.origin + Duration::from_secs_f64(flow.to);
    tokio::time::sleep_until(begin).await;
    let pick = |n: u64| clients[n as usize % clients.len()].clone();
    let last = if flow.calls == 0 { u64::MAX } else { flow.calls };
    let mut tasks = tokio::task::JoinSet::new();
    if flow.rate > 0.0 {
        let in_flight = Arc::new(AtomicU64::new(0));
        for n in 0..last {
            let at = begin + Duration::from_secs_f64(n as f64 / flow.rate);
            if at >= end { break }
            tokio::time::sleep_until(at).await;
            if in_flight.load(Relaxed) >= flow.at_once {
                let start = shared.origin.elapsed();
                shared.book.lock().unwrap().write(idx, start, Duration::ZERO, flow.deadline_of(n), "not_sent/too_many_in_flight");
                continue;
            }
            in_flight.fetch_add(1, Relaxed);
            let (shared, flow, http, in_flight) = (shared.clone(), flow.clone(), pick(n), in_flight.clone());
            tasks.spawn(async move {
                one(shared, idx, flow, http, n).await;
                in_flight.fetch_sub(1, Relaxed);
            });
            while tasks.try_join_next().is_some() {}
        }
    } else {
        let next = Arc::new(AtomicU64::new(0));
        for worker in 0..flow.at_once {
            let (shared, flow, http, next) = (shared.clone(), flow.clone(), pick(worker), next.clone());
            let first = begin + Duration::from_secs_f64(flow.ramp * worker as f64 / flow.at_once as f64);
            tasks.spawn(async move {
                tokio::time::sleep_until(first).await;
                while Instant::now() < end {
                    let n = next.fetch_add(1, Relaxed);
                    if n >= last { break }
                    // Who is refused at once does not come again at once.
                    if !one(shared.clone(), idx, flow.clone(), http.clone(), n).await { tokio::time::sleep(Duration::from_millis(5)).await }
                }
            });
        }
    }
    while tasks.join_next().await.is_some() {}
}

fn main() {
    let args: Vec<String> = std::env::args().collect();
    let all = |key: &str| -> Vec<&String> { args.iter().zip(args.iter().skip(1)).filter(|(k, _)| *k == key).map(|(_, v)| v).collect() };
    let address = *all("--address").first().expect("--address");
    let out = *all("--out").first().expect("--out");
    let flows: Vec<Arc<Flow>> = all("--flow").iter().map(|text| Arc::new(Flow::parse(text))).collect();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (shared, began) = runtime.block_on(async {
        let shared = Arc::new(Shared { book: Mutex::default(), origin: Instant::now(), origin_url: format!("http://{address}") });
        let began = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
        println!("began {}", began.as_micros());
        let mut tasks = tokio::task::JoinSet::new();
        for (idx, flow) in flows.iter().enumerate() { tasks.spawn(run(shared.clone(), idx, flow.clone())); }
        while let Some(ended) = tasks.join_next().await { ended.unwrap(); }
        (shared, began)
    });
    let book = shared.book.lock().unwrap();
    let mut file = std::io::BufWriter::new(std::fs::File::create(out).unwrap());
    writeln!(file, "began {}", began.as_micros()).unwrap();
    for (flow, start, length, deadline, outcome) in &book.samples {
        writeln!(file, "{} {start} {length} {deadline} {}", flows[*flow as usize].name, book.outcomes[*outcome as usize]).unwrap();
    }
}
