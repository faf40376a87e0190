//! Small load generator: HTTP/1.1 JSON (chat completions, also SSE) or gRPC (the floor's service).
//! Closed loop: --conns N.  Open loop: --conns CAP --rate R (each arrival gets its own idle or new connection,
//! so a slow reply never delays the next arrival).  Prints one JSON line.
//!   loadgen --url http://127.0.0.1:9100/v1/chat/completions --model mock --conns 32 --duration 10 --warmup 2
//!     [--rate 200] [--stream] [--header 'k: v']... [--body FILE] [--expect STR] [--timeout 60]
//!     [--pid P]... (CPU and memory of these processes and their descendants) [--label X] [--grpc --channels 4]
use hdrhistogram::Histogram;
use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

pub mod pb { tonic::include_proto!("floor.v1"); }
pub mod ms { tonic::include_proto!("mainstay.v1"); }

fn inline(model: &str) -> ms::RunStepRequest {
    let part = |t: &str| vec![ms::PromptPart { part: Some(ms::prompt_part::Part::Text(t.into())) }];
    let message = |role: ms::Role, t: &str| ms::PromptMessage { role: role.into(), parts: part(t) };
    ms::RunStepRequest {
        step: Some(ms::run_step_request::Step::Inline(ms::StepSpec {
            targets: vec![model.into()],
            messages: vec![message(ms::Role::System, SYSTEM), message(ms::Role::User, USER)],
            sampling: Some(ms::Sampling { temperature: Some(0.0), max_output_tokens: Some(256), ..Default::default() }),
            ..Default::default()
        })),
        ..Default::default()
    }
}

const SYSTEM: &str = "You are a support triage assistant. Classify the ticket and answer with one JSON object with the keys category, priority, summary, tags, next_step. Do not add any other text. Categories: billing, login, shipping, defect, other. Priority is 1 (low) to 5 (urgent).";
const USER: &str = "Ticket 10482: Hello, I ordered two lamps on Monday and your shop has charged my card twice, once for 84.90 and once again for 84.90 an hour later. I have only one order number. Please give me the second amount back and write to me when it is done. I have tried the chat twice and nobody answered. Regards, Anna";

struct Rec { hist: Histogram<u64>, ttfb: Histogram<u64>, ok: u64, status: BTreeMap<String, u64>, conns: u64, bytes: u64, stale: u64 }
impl Rec { fn new() -> Self { Rec { hist: Histogram::new_with_bounds(1, 600_000_000, 3).unwrap(), ttfb: Histogram::new_with_bounds(1, 600_000_000, 3).unwrap(), ok: 0, status: BTreeMap::new(), conns: 0, bytes: 0, stale: 0 } } }
struct Sh { rec: Mutex<Rec>, measuring: AtomicBool, stop: AtomicBool, inflight: AtomicU64, inflight_max: AtomicU64, done_all: AtomicU64 }
impl Sh {
    fn begin(&self) { let n = self.inflight.fetch_add(1, Relaxed) + 1; self.inflight_max.fetch_max(n, Relaxed); }
    fn end(&self, started: Instant, r: Result<(u16, Option<Duration>, bool, usize), String>) {
        self.inflight.fetch_sub(1, Relaxed);
        self.done_all.fetch_add(1, Relaxed);
        if !self.measuring.load(Relaxed) { return }
        let el = started.elapsed().as_micros() as u64;
        let mut g = self.rec.lock().unwrap();
        match r {
            Ok((200, t, true, n)) => { g.ok += 1; g.bytes += n as u64; let _ = g.hist.record(el.max(1)); if let Some(t) = t { let _ = g.ttfb.record((t.as_micros() as u64).max(1)); } }
            Ok((200, _, false, _)) => *g.status.entry("200-unexpected".into()).or_default() += 1,
            Ok((s, _, _, _)) => { *g.status.entry(s.to_string()).or_default() += 1; }
            Err(e) => *g.status.entry(e).or_default() += 1,
        }
    }
}

struct HConn { s: TcpStream, buf: Vec<u8>, alive: bool }
fn find(h: &[u8], n: &[u8]) -> Option<usize> { if n.is_empty() { return Some(0) } h.windows(n.len()).position(|w| w == n) }
impl HConn {
    async fn open(addr: &str) -> Result<HConn, String> {
        let s = TcpStream::connect(addr).await.map_err(|e| format!("connect-{:?}", e.kind()))?;
        let _ = s.set_nodelay(true);
        Ok(HConn { s, buf: Vec::with_capacity(4096), alive: true })
    }
    async fn more(&mut self) -> Result<usize, String> {
        let n = self.s.read_buf(&mut self.buf).await.map_err(|e| format!("read-{:?}", e.kind()))?;
        if n == 0 { Err("eof".into()) } else { Ok(n) }
    }
    /// -> status, time to first body byte, expectation met, body bytes
    async fn call(&mut self, req: &[u8], expect: &[u8]) -> Result<(u16, Option<Duration>, bool, usize), String> {
        let t0 = Instant::now();
        self.alive = false;
        self.buf.clear();
        self.s.write_all(req).await.map_err(|e| format!("write-{:?}", e.kind()))?;
        let (hl, status, cl, ch, close);
        loop {
            self.more().await?;
            let mut hs = [httparse::EMPTY_HEADER; 96];
            let mut r = httparse::Response::new(&mut hs);
            if let httparse::Status::Complete(n) = r.parse(&self.buf).map_err(|e| format!("http-{e}"))? {
                let code = r.code.unwrap_or(0);
                let mut c = None; let mut k = false; let mut x = false;
                for h in r.headers.iter() {
                    if h.name.eq_ignore_ascii_case("content-length") { c = std::str::from_utf8(h.value).ok().and_then(|v| v.trim().parse::<usize>().ok()) }
                    else if h.name.eq_ignore_ascii_case("transfer-encoding") { k = find(h.value, b"chunked").is_some() }
                    else if h.name.eq_ignore_ascii_case("connection") { x = h.value.eq_ignore_ascii_case(b"close") }
                }
                hl = n; status = code; cl = c; ch = k; close = x;
                break;
            }
        }
        let mut ttfb = None;
        let ok; let n;
        if ch {
            let mut pos = hl; let mut seen = false; let mut tot = 0;
            loop {
                let nl = loop { if let Some(i) = find(&self.buf[pos..], b"\r\n") { break i } self.more().await?; };
                let sz = usize::from_str_radix(std::str::from_utf8(&self.buf[pos..pos + nl]).unwrap_or("0").split(';').next().unwrap().trim(), 16).map_err(|_| "chunk".to_string())?;
                pos += nl + 2;
                while self.buf.len() < pos + sz + 2 { self.more().await?; }
                if ttfb.is_none() && sz > 0 { ttfb = Some(t0.elapsed()) }
                if !seen { seen = find(&self.buf[pos..pos + sz], expect).is_some() }
                tot += sz;
                pos += sz + 2;
                if sz == 0 { break }
            }
            ok = seen; n = tot; self.alive = !close;
        } else if let Some(c) = cl {
            while self.buf.len() < hl + c { self.more().await?; }
            ok = find(&self.buf[hl..hl + c], expect).is_some(); n = c; self.alive = !close;
        } else {
            loop { match self.more().await { Ok(_) => {}, Err(e) if e == "eof" => break, Err(e) => return Err(e) } }
            ok = find(&self.buf[hl..], expect).is_some(); n = self.buf.len() - hl;
        }
        Ok((status, ttfb, ok, n))
    }
}

// ---- process tree accounting
fn stat_of(pid: u32) -> Option<(u32, u64, u64)> {
    let s = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let r = &s[s.rfind(')')? + 2..];
    let f: Vec<&str> = r.split(' ').collect();
    Some((f[1].parse().ok()?, f[11].parse().ok()?, f[12].parse().ok()?))
}
fn tree(roots: &[u32]) -> Vec<u32> {
    let mut kids: HashMap<u32, Vec<u32>> = HashMap::new();
    if let Ok(d) = std::fs::read_dir("/proc") {
        for e in d.flatten() { if let Some(p) = e.file_name().to_str().and_then(|n| n.parse::<u32>().ok()) { if let Some((pp, _, _)) = stat_of(p) { kids.entry(pp).or_default().push(p) } } }
    }
    let mut out: Vec<u32> = vec![]; let mut q = roots.to_vec();
    while let Some(p) = q.pop() { if !out.contains(&p) { out.push(p); if let Some(k) = kids.get(&p) { q.extend(k) } } }
    out
}
fn cpu_us(pids: &[u32]) -> (u64, u64) { // 100 Hz ticks
    pids.iter().filter_map(|p| stat_of(*p)).fold((0, 0), |a, (_, u, s)| (a.0 + u * 10_000, a.1 + s * 10_000))
}
fn rss_kb(pids: &[u32]) -> u64 { pids.iter().filter_map(|p| std::fs::read_to_string(format!("/proc/{p}/statm")).ok()).filter_map(|s| s.split(' ').nth(1).and_then(|v| v.parse::<u64>().ok())).sum::<u64>() * 4 }
fn pss_kb(pids: &[u32]) -> u64 { pids.iter().filter_map(|p| std::fs::read_to_string(format!("/proc/{p}/smaps_rollup")).ok()).filter_map(|s| s.lines().find(|l| l.starts_with("Pss:")).and_then(|l| l.split_whitespace().nth(1).and_then(|v| v.parse::<u64>().ok()))).sum() }
fn fds(pids: &[u32]) -> u64 { pids.iter().filter_map(|p| std::fs::read_dir(format!("/proc/{p}/fd")).ok()).map(|d| d.count() as u64).sum() }

fn hist_json(h: &Histogram<u64>) -> String {
    if h.is_empty() { return "null".into() }
    format!("{{\"n\":{},\"min\":{},\"mean\":{:.1},\"p50\":{},\"p90\":{},\"p99\":{},\"p999\":{},\"max\":{}}}", h.len(), h.min(), h.mean(), h.value_at_quantile(0.5), h.value_at_quantile(0.9), h.value_at_quantile(0.99), h.value_at_quantile(0.999), h.max())
}

fn main() {
    let a: Vec<String> = std::env::args().collect();
    let arg = |k: &str| a.iter().position(|x| x == k).and_then(|i| a.get(i + 1).cloned());
    let all = |k: &str| -> Vec<String> { a.iter().enumerate().filter(|(_, x)| *x == k).filter_map(|(i, _)| a.get(i + 1).cloned()).collect() };
    let has = |k: &str| a.iter().any(|x| x == k);
    let url = arg("--url").expect("--url");
    let model = arg("--model").unwrap_or("mock".into());
    let conns: usize = arg("--conns").unwrap_or("1".into()).parse().unwrap();
    let rate: f64 = arg("--rate").unwrap_or("0".into()).parse().unwrap();
    let duration: f64 = arg("--duration").unwrap_or("5".into()).parse().unwrap();
    let warmup: f64 = arg("--warmup").unwrap_or("1".into()).parse().unwrap();
    let timeout = Duration::from_secs_f64(arg("--timeout").unwrap_or("60".into()).parse().unwrap());
    let label = arg("--label").unwrap_or_default();
    let pids: Vec<u32> = all("--pid").iter().flat_map(|s| s.split(',').filter_map(|p| p.parse().ok()).collect::<Vec<u32>>()).collect();
    let stream = has("--stream");
    let grpc = has("--grpc");
    let mainstay = has("--mainstay");
    let channels: usize = arg("--channels").unwrap_or("4".into()).parse().unwrap();
    let expect = arg("--expect").unwrap_or(if stream { "tok".into() } else { "\"content\"".into() }).into_bytes();
    let rest = url.strip_prefix("http://").expect("http:// only");
    let (addr, path) = match rest.find('/') { Some(i) => (rest[..i].to_string(), rest[i..].to_string()), None => (rest.to_string(), "/".into()) };
    let body = match arg("--body") {
        Some(f) => std::fs::read_to_string(f).unwrap(),
        None => format!("{{\"model\":\"{model}\",\"messages\":[{{\"role\":\"system\",\"content\":\"{SYSTEM}\"}},{{\"role\":\"user\",\"content\":\"{USER}\"}}],\"temperature\":0,\"max_tokens\":256{}}}", if stream { ",\"stream\":true" } else { "" }),
    };
    let mut req = format!("POST {path} HTTP/1.1\r\nhost: {addr}\r\ncontent-type: application/json\r\naccept: */*\r\nuser-agent: loadgen\r\n");
    for h in all("--header") { req.push_str(&h); req.push_str("\r\n"); }
    req.push_str(&format!("content-length: {}\r\n\r\n{body}", body.len()));
    let req: Arc<Vec<u8>> = Arc::new(req.into_bytes());
    let expect = Arc::new(expect);

    let sh = Arc::new(Sh { rec: Mutex::new(Rec::new()), measuring: AtomicBool::new(false), stop: AtomicBool::new(false), inflight: AtomicU64::new(0), inflight_max: AtomicU64::new(0), done_all: AtomicU64::new(0) });
    let pid0 = tree(&pids);
    let rss_start = rss_kb(&pid0);
    let rt = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let sh2 = sh.clone();
    // memory sampler
    let rss_max = Arc::new(AtomicU64::new(rss_start)); let fd_max = Arc::new(AtomicU64::new(0)); let pss_last = Arc::new(AtomicU64::new(0));
    let sampler = if pids.is_empty() { None } else {
        let (sh, rss_max, fd_max, pss_last, pids) = (sh.clone(), rss_max.clone(), fd_max.clone(), pss_last.clone(), pids.clone());
        Some(std::thread::spawn(move || { let mut i = 0; let mut t = tree(&pids); while !sh.stop.load(Relaxed) {
            if i % 10 == 0 { t = tree(&pids); }
            rss_max.fetch_max(rss_kb(&t), Relaxed);
            if i % 5 == 4 { fd_max.fetch_max(fds(&t), Relaxed); pss_last.store(pss_kb(&t), Relaxed); }
            i += 1; std::thread::sleep(Duration::from_millis(300)); } }))
    };
    let pids2 = pids.clone();
    let (secs, cpu, selfcpu, rss_end) = rt.block_on(async move {
        let sh = sh2; let pids = pids2;
        let mut grpc_clients = vec![];
        if grpc { for _ in 0..channels {
            let ch = tonic::transport::Endpoint::from_shared(format!("http://{addr}")).unwrap().tcp_nodelay(true).initial_stream_window_size(1 << 20).initial_connection_window_size(1 << 22).connect().await.expect("grpc connect");
            grpc_clients.push(ch);
        } }
        let gate = Arc::new(tokio::sync::Semaphore::new(64));
        let gcall = move |c: tonic::transport::Channel, model: String| async move {
            if mainstay {
                let mut c = ms::pipeline_service_client::PipelineServiceClient::new(c);
                return match c.run_step(inline(&model)).await {
                    Ok(r) => { let o = r.into_inner().output.unwrap_or_default(); Ok((200, None, !o.text.is_empty(), o.text.len())) }
                    Err(s) => Err(format!("grpc-{:?}", s.code())),
                };
            }
            let mut c = pb::floor_client::FloorClient::new(c);
            match c.run_step(pb::RunStepRequest { model, system: SYSTEM.into(), user: USER.into(), max_tokens: 256 }).await {
                Ok(r) => { let r = r.into_inner(); Ok((r.http_status as u16, None, !r.text.is_empty() || r.http_status != 200, r.text.len())) }
                Err(s) => Err(format!("grpc-{:?}", s.code())),
            }
        };
        if rate <= 0.0 {
            for i in 0..conns {
                let (sh, req, expect, addr, gate) = (sh.clone(), req.clone(), expect.clone(), addr.clone(), gate.clone());
                let gc = if grpc { Some(grpc_clients[i % channels].clone()) } else { None };
                let model = model.clone();
                tokio::spawn(async move {
                    let mut c: Option<HConn> = None;
                    while !sh.stop.load(Relaxed) {
                        if let Some(g) = &gc {
                            sh.begin(); let t = Instant::now();
                            let r = match tokio::time::timeout(timeout, gcall(g.clone(), model.clone())).await { Ok(r) => r, Err(_) => Err("timeout".into()) };
                            let bad = r.is_err();
                            sh.end(t, r);
                            if bad { tokio::time::sleep(Duration::from_millis(5)).await }
                            continue;
                        }
                        if c.as_ref().is_none_or(|c| !c.alive) {
                            let _p = gate.acquire().await;
                            match HConn::open(&addr).await { Ok(n) => { sh.rec.lock().unwrap().conns += 1; c = Some(n) } Err(e) => { sh.begin(); sh.end(Instant::now(), Err(e)); tokio::time::sleep(Duration::from_millis(50)).await; continue } }
                        }
                        sh.begin(); let t = Instant::now();
                        let r = match tokio::time::timeout(timeout, c.as_mut().unwrap().call(&req, &expect)).await { Ok(r) => r, Err(_) => { c = None; Err("timeout".into()) } };
                        if r.is_err() { c = None; }
                        let bad = r.is_err();
                        sh.end(t, r);
                        if bad { tokio::time::sleep(Duration::from_millis(5)).await }
                    }
                });
            }
        } else {
            let pool: Arc<Mutex<Vec<HConn>>> = Arc::new(Mutex::new(vec![]));
            let sh = sh.clone();
            let req = req.clone(); let expect = expect.clone(); let addr = addr.clone(); let gate = gate.clone(); let model = model.clone();
            tokio::spawn(async move {
                let t0 = tokio::time::Instant::now(); let mut i: u64 = 0;
                while !sh.stop.load(Relaxed) {
                    tokio::time::sleep_until(t0 + Duration::from_secs_f64(i as f64 / rate)).await;
                    i += 1;
                    if sh.inflight.load(Relaxed) as usize >= conns { sh.begin(); sh.end(Instant::now(), Err("over-cap".into())); continue }
                    let gc = if grpc { Some(grpc_clients[i as usize % channels].clone()) } else { None };
                    let (sh, req, expect, addr, gate, pool, model) = (sh.clone(), req.clone(), expect.clone(), addr.clone(), gate.clone(), pool.clone(), model.clone());
                    tokio::spawn(async move {
                        sh.begin();
                        if let Some(g) = gc {
                            let t = Instant::now();
                            let r = match tokio::time::timeout(timeout, gcall(g, model)).await { Ok(r) => r, Err(_) => Err("timeout".into()) };
                            sh.end(t, r);
                            return;
                        }
                        let got = pool.lock().unwrap().pop(); let pooled = got.is_some();
                        let mut c = match got { Some(c) => c, None => { let _p = gate.acquire().await; match HConn::open(&addr).await { Ok(c) => { sh.rec.lock().unwrap().conns += 1; c } Err(e) => { sh.end(Instant::now(), Err(e)); return } } } };
                        let t = Instant::now();
                        let mut r = match tokio::time::timeout(timeout, c.call(&req, &expect)).await { Ok(r) => r, Err(_) => Err("timeout".into()) };
                        // an idle pooled connection that the server had closed: do as every HTTP client does, once, on a new one
                        if pooled && c.buf.is_empty() && matches!(&r, Err(e) if e != "timeout") {
                            sh.rec.lock().unwrap().stale += 1;
                            r = match HConn::open(&addr).await { Ok(n) => { c = n; match tokio::time::timeout(timeout, c.call(&req, &expect)).await { Ok(r) => r, Err(_) => Err("timeout".into()) } } Err(e) => Err(e) };
                        }
                        let good = r.is_ok() && c.alive;
                        sh.end(t, r);
                        if good { pool.lock().unwrap().push(c) }
                    });
                }
            });
        }
        tokio::time::sleep(Duration::from_secs_f64(warmup)).await;
        let me = std::process::id();
        let t1 = tree(&pids); let c1 = cpu_us(&t1); let s1 = cpu_us(&[me]);
        let m0 = Instant::now();
        sh.measuring.store(true, Relaxed);
        tokio::time::sleep(Duration::from_secs_f64(duration)).await;
        sh.measuring.store(false, Relaxed);
        let secs = m0.elapsed().as_secs_f64();
        let mut t2 = tree(&pids); for p in &t1 { if !t2.contains(p) { t2.push(*p) } }
        let c2 = cpu_us(&t2); let s2 = cpu_us(&[me]);
        let rss_end = rss_kb(&t2);
        sh.stop.store(true, Relaxed);
        (secs, (c2.0.saturating_sub(c1.0), c2.1.saturating_sub(c1.1)), (s2.0 + s2.1 - s1.0 - s1.1), rss_end)
    });
    drop(rt);
    if let Some(s) = sampler { let _ = s.join(); }
    let g = sh.rec.lock().unwrap();
    let errs: u64 = g.status.values().sum();
    let n = g.ok + errs;
    let per = |x: u64| if n > 0 { format!("{:.2}", x as f64 / n as f64) } else { "null".into() };
    let st: Vec<String> = g.status.iter().map(|(k, v)| format!("\"{k}\":{v}")).collect();
    println!("{{\"label\":\"{label}\",\"mode\":\"{}\",\"proto\":\"{}\",\"stream\":{stream},\"conns\":{conns},\"rate\":{rate},\"secs\":{secs:.3},\"ok\":{},\"errors\":{errs},\"err_kinds\":{{{}}},\"rps\":{:.1},\"ok_rps\":{:.1},\"lat_us\":{},\"ttfb_us\":{},\"cpu_user_us\":{},\"cpu_sys_us\":{},\"cpu_us_per_req\":{},\"cpu_util\":{:.3},\"loadgen_cpu_us_per_req\":{},\"rss_start_kb\":{rss_start},\"rss_max_kb\":{},\"rss_end_kb\":{rss_end},\"pss_kb\":{},\"fd_max\":{},\"inflight_max\":{},\"client_conns\":{},\"stale_reopened\":{},\"body_bytes\":{}}}",
        if rate > 0.0 { "open" } else { "closed" }, if grpc { "grpc" } else { "http" }, g.ok, st.join(","), n as f64 / secs, g.ok as f64 / secs, hist_json(&g.hist), hist_json(&g.ttfb),
        cpu.0, cpu.1, if pids.is_empty() { "null".into() } else { per(cpu.0 + cpu.1) }, (cpu.0 + cpu.1) as f64 / 1e6 / secs, per(selfcpu), rss_max.load(Relaxed), pss_last.load(Relaxed), fd_max.load(Relaxed), sh.inflight_max.load(Relaxed), g.conns, g.stale, body.len());
}
