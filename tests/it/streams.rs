//! Streamed steps: what a reader is told, and what becomes of streams that break.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use mainstay::api::pb::stream_step_response::Event;
use mainstay::api::{client, pb};
use tonic::transport::Endpoint;
use tonic::{Code, Request, Streaming};

use super::support::raw::RawProvider;
use super::support::{
    Plan, Refused, Rig, action, ask_json, eventually, inline, message, number_schema, say, story,
};

/// Everything that a reader was told.
#[derive(Default)]
pub struct Told {
    pub started: Option<pb::StepStarted>,
    pub deltas: usize,
    /// Text since the last restart.
    pub text: String,
    /// Text before the last restart.
    pub void: String,
    pub restarts: Vec<String>,
    pub continued: Vec<String>,
    pub completed: Option<pb::RunStepResponse>,
    pub refused: Option<Refused>,
}

impl Told {
    pub fn story(&self) -> Vec<String> {
        story(self.completed.as_ref().expect("it completes").result.as_ref().unwrap())
    }

    pub fn output(&self) -> pb::Output {
        self.completed.as_ref().expect("it completes").output.clone().unwrap()
    }
}

fn request(spec: pb::StepSpec, key: &str, deadline: Duration) -> Request<pb::StreamStepRequest> {
    let mut step = inline(spec);
    let options = pb::RunOptions { idempotency_key: key.to_owned(), ..Default::default() };
    step.options = Some(options);
    let mut request = Request::new(pb::StreamStepRequest { request: Some(step) });
    request.set_timeout(deadline);
    request
}

async fn listen(mut events: Streaming<pb::StreamStepResponse>) -> Told {
    let mut told = Told::default();
    loop {
        let event = match events.message().await {
            Ok(Some(message)) => message.event.expect("an event"),
            Ok(None) => return told,
            Err(status) => {
                told.refused = Some(status.into());
                return told;
            }
        };
        assert!(told.completed.is_none(), "nothing comes behind the end");
        match event {
            Event::Started(started) => {
                assert!(told.started.replace(started).is_none() && told.deltas == 0);
            }
            Event::Delta(delta) => {
                assert!(!delta.text.is_empty());
                told.deltas += 1;
                told.text.push_str(&delta.text);
            }
            Event::Restarted(why) => {
                let (failure, decision) = (why.failure.unwrap(), why.decision.unwrap());
                told.restarts.push(format!("{} -> {}", failure.cause, action(decision.action())));
                told.void = std::mem::take(&mut told.text);
            }
            Event::Continued(why) => {
                let (failure, decision) = (why.failure.unwrap(), why.decision.unwrap());
                assert!(decision.continues && !told.text.is_empty());
                told.continued.push(format!("{} -> {}", failure.cause, action(decision.action())));
            }
            Event::Completed(response) => told.completed = Some(response),
        }
    }
}

async fn stream_within(rig: &Rig, spec: pb::StepSpec, deadline: Duration) -> Told {
    match rig.client().stream_step(request(spec, "", deadline)).await {
        Ok(response) => listen(response.into_inner()).await,
        Err(status) => Told { refused: Some(status.into()), ..Told::default() },
    }
}

pub async fn stream(rig: &Rig, spec: pb::StepSpec) -> Told {
    stream_within(rig, spec, Duration::from_secs(30)).await
}

/// Tokens leave one by one, so that there is a reader who has seen some of them.
const SLOWLY: &str = "latency(between=5ms)";

/// Long enough for many tokens in every dialect.
const WORDS: &str = "Erzähle mir bitte etwas über die Gezeiten, größere Flüsse 🌊, Ebbe und Flut.";

/// Streams in the words of every dialect.
const DIALECTS: [(&str, &str); 3] = [("openai", "v1"), ("anthropic", "v1"), ("gemini", "v1beta")];

fn every_dialect(fault: &str, more: &str) -> Plan {
    DIALECTS.into_iter().fold(Plan::new().target("good", "good"), |plan, (dialect, path)| {
        plan.raw_target(
            dialect,
            &format!(
                "{{dialect: {dialect}, model: '{dialect}!{fault}', \
                 base_url: 'http://SIM/{path}'{more}}}"
            ),
        )
    })
}

#[tokio::test]
async fn every_dialect_streams_text_as_it_comes() {
    let rig = every_dialect(SLOWLY, "").start().await;
    for (dialect, _) in DIALECTS {
        let told = stream(&rig, say(&[dialect], WORDS)).await;
        let started = told.started.as_ref().unwrap();
        let completed = told.completed.as_ref().unwrap();
        assert_eq!(started.target, dialect);
        assert_eq!((&started.run_id, &started.policy), (&completed.run_id, &completed.policy));
        assert!(told.deltas > 1 && told.restarts.is_empty(), "{dialect}: {}", told.deltas);
        assert_eq!(told.text, told.output().text, "{dialect}");
        let attempt = &completed.result.as_ref().unwrap().attempts[0];
        assert!(attempt.time_to_first_chunk.is_some(), "{dialect}");
        assert!(attempt.usage.unwrap().output_tokens > 0, "{dialect}");
    }
    assert!(rig.simulator.calls().recent.iter().all(|call| call.stream));
    rig.stop().await;
}

#[tokio::test]
async fn structured_outputs_and_tool_calls_are_judged_at_the_end() {
    let rig = every_dialect("fence", "").target("plain", "plain").start().await;
    for (dialect, _) in DIALECTS {
        let told = stream(&rig, ask_json(&[dialect], "A number", &number_schema())).await;
        assert!(told.text.starts_with("```"), "deltas are as they come: {}", told.text);
        assert_eq!(told.output().verdict(), pb::OutputVerdict::Repaired, "{dialect}");
        assert!(serde_json::from_str::<serde_json::Value>(&told.output().json).is_ok());
    }
    let told = stream(&rig, ask_json(&["plain"], "A number", &number_schema())).await;
    assert_eq!(told.text, told.output().json);
    let mut tool = say(&["plain"], "Call it");
    tool.tools = vec![pb::Tool {
        name: "look_up".into(),
        description: "Looks up".into(),
        parameters_json: number_schema().to_string(),
    }];
    tool.tool_choice = "required".into();
    let told = stream(&rig, tool).await;
    assert_eq!((told.deltas, told.output().tool_calls.len()), (0, 1));
    rig.stop().await;
}

#[tokio::test]
async fn what_fails_before_the_first_content_is_recovered_unseen() {
    // Without waits: what is looked at is the way to the next target.
    let policy = "policy: {routing: {infrastructure: {ladder: [fallback_to_target]}, output_semantic: {ladder: [fallback_to_target]}}}";
    for (fault, cause) in [
        ("rate_limit(retry_after=50)", "rate_limited"),
        ("error_event(kind=overloaded)", "overloaded"),
        ("error_in_200", "server_error"),
        ("html_200", "malformed_response"),
        ("bad_chunk", "malformed_response"),
        ("empty", "empty_output"),
        ("reset(at=after_headers)", "stream_interrupted"),
        ("close(at=after_headers)", ""),
        ("hang", "request_timeout"),
        ("hang(at=after_headers)", "stream_idle_timeout"),
    ] {
        let more = ", timeouts: {first_byte: 200ms, first_token: 200ms}";
        let rig = every_dialect(fault, more).policy("quick", policy);
        let rig = rig.config("default_policy: quick").start().await;
        for (dialect, _) in DIALECTS {
            let told = stream(&rig, say(&[dialect, "good"], WORDS)).await;
            let story = told.story();
            assert!(
                story[0].starts_with(&format!("{dialect} {cause}")),
                "{fault} {dialect}: {story:?}"
            );
            assert_eq!(story.last().unwrap(), "good ok", "{fault}: {story:?}");
            assert!(told.restarts.is_empty() && told.void.is_empty(), "{fault} {dialect}");
            assert_eq!(told.text, told.output().text, "{fault} {dialect}");
        }
        rig.stop().await;
    }
}

#[tokio::test]
async fn what_fails_after_content_restarts_and_says_why() {
    for (fault, cause) in [
        ("error_event(at=mid_stream,kind=overloaded)", "overloaded"),
        ("close(at=mid_body)", "stream_interrupted"),
        ("hang(at=mid_body)", "stream_idle_timeout"),
        ("no_done(kind=finish)", "stream_interrupted"),
    ] {
        let rig = every_dialect(&format!("{SLOWLY}+{fault}"), ", timeouts: {idle: 200ms}");
        let rig = rig.start().await;
        for (dialect, _) in DIALECTS {
            let told = stream(&rig, say(&[dialect, "good"], WORDS)).await;
            assert!(!told.void.is_empty(), "{fault} {dialect}: content was seen");
            let last = told.restarts.last().expect("it restarts");
            assert_eq!(*last, format!("{cause} -> fallback_to_target"), "{fault} {dialect}");
            assert_eq!(told.story().last().unwrap(), "good ok", "{fault} {dialect}");
            assert_eq!(told.text, told.output().text, "{fault} {dialect}: no splice");
        }
        rig.stop().await;
    }
}

#[tokio::test]
async fn a_missing_mark_behind_the_finish_reason_is_a_success() {
    let rig = every_dialect("no_done", "").start().await;
    // Gemini has no mark of its own.
    for dialect in ["openai", "anthropic"] {
        let told = stream(&rig, say(&[dialect], WORDS)).await;
        assert_eq!(told.story(), [format!("{dialect} ok")]);
    }
    rig.stop().await;
}

#[tokio::test]
async fn a_stream_that_fails_ends_with_a_status_with_details_and_trailers() {
    let fault = format!("{SLOWLY}+close(at=mid_body)");
    let rig = every_dialect(&fault, "").start().await;
    let mut spec = say(&["openai"], WORDS);
    spec.max_attempts = 1;
    let told = stream(&rig, spec).await;
    let refused = told.refused.as_ref().unwrap();
    assert_eq!(refused.verdict(), "Unavailable INFRASTRUCTURE/stream_interrupted");
    assert!(told.completed.is_none() && told.deltas > 0 && told.restarts.is_empty());
    assert_eq!(refused.refusal.run_id, told.started.unwrap().run_id);
    assert!(refused.refusal.retry_after.is_some());
    let trailer = |name| refused.status.metadata().get(name).unwrap().to_str().unwrap();
    assert_eq!(trailer("mainstay-failure-cause"), "stream_interrupted");
    assert_eq!(trailer("mainstay-failure-domain"), "INFRASTRUCTURE");
    assert_eq!(trailer("grpc-retry-pushback-ms"), "-1");
    rig.stop().await;
}

#[tokio::test]
async fn a_policy_may_rather_fail_than_take_back_what_was_shown() {
    let fault = format!("{SLOWLY}+close(at=mid_body)");
    let policy = "policy: {streaming: {after_content: fail}}\n";
    let rig = every_dialect(&fault, "").policy("default", policy).start().await;
    let told = stream(&rig, say(&["openai", "good"], WORDS)).await;
    let refused = told.refused.as_ref().unwrap();
    assert_eq!(refused.verdict(), "Unavailable INFRASTRUCTURE/stream_interrupted");
    assert!(told.deltas > 0 && told.restarts.is_empty());
    assert_eq!((rig.calls("openai"), rig.calls("good")), (1, 0));
    rig.stop().await;
}

#[tokio::test]
async fn a_cached_or_fixed_answer_after_content_is_restarted_and_then_whole() {
    let fault = "latency(between=5ms)+close(at=mid_body,every=1,from=2)";
    let rig = Plan::new().target("bad", &format!("m!{fault}")).start().await;
    let spec = say(&["bad"], WORDS);
    let first = stream(&rig, spec.clone()).await;
    let mut again = spec.clone();
    again.max_attempts = 1;
    let cached = stream(&rig, again.clone()).await;
    assert_eq!(cached.restarts, [] as [&str; 0], "another contract is another step");
    let cached = stream(&rig, spec).await;
    assert_eq!(cached.restarts.last().unwrap(), "stream_interrupted -> fallback_to_cache");
    assert_eq!((&cached.text, &cached.output().text), (&first.text, &first.text));
    assert!(cached.completed.unwrap().degraded);
    again.messages = vec![message(pb::Role::User, "Something new, long enough for tokens")];
    again.template_output_json = "\"try later\"".to_owned();
    let fixed = stream(&rig, again).await;
    assert_eq!(fixed.restarts, ["stream_interrupted -> alert_and_degrade"]);
    assert_eq!((fixed.text.as_str(), fixed.output().text.as_str()), ("try later", "try later"));
    rig.stop().await;
}

/// A recorded stream of each dialect, with what can stand in one: comments, CRLF, events of several
/// lines, characters of several bytes.
fn recording(dialect: &str) -> &'static [u8] {
    match dialect {
        "openai" => "\u{feff}: ping\r\n\r\ndata: {\"id\":\"r1\",\"object\":\"chat.completion.chunk\",\"model\":\"m\",\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\"}}]}\r\n\r\ndata: {\"id\":\"r1\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"Ebbe 🌊\"}}]}\r\n\r\n: ping\r\n\r\ndata: {\"id\":\"r1\",\r\ndata: \"choices\":[{\"index\":0,\"delta\":{\"content\":\" und Flut\"}}]}\r\n\r\ndata: {\"id\":\"r1\",\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\r\n\r\ndata: {\"id\":\"r1\",\"choices\":[],\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":5}}\r\n\r\ndata: [DONE]\r\n\r\n".as_bytes(),
        "anthropic" => "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"id\":\"r1\",\"type\":\"message\",\"role\":\"assistant\",\"model\":\"m\",\"content\":[],\"usage\":{\"input_tokens\":3,\"output_tokens\":1}}}\n\nevent: ping\ndata: {\"type\":\"ping\"}\n\nevent: content_block_start\ndata: {\"type\":\"content_block_start\",\"index\":0,\"content_block\":{\"type\":\"text\",\"text\":\"\"}}\n\nevent: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\"Ebbe 🌊\"}}\n\nevent: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\" und Flut\"}}\n\nevent: content_block_stop\ndata: {\"type\":\"content_block_stop\",\"index\":0}\n\nevent: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"end_turn\"},\"usage\":{\"output_tokens\":5}}\n\nevent: message_stop\ndata: {\"type\":\"message_stop\"}\n\n".as_bytes(),
        _ => "data: {\"candidates\":[{\"content\":{\"role\":\"model\",\"parts\":[{\"text\":\"Ebbe 🌊\"}]}}],\"responseId\":\"r1\"}\r\rdata: {\"candidates\":[{\"content\":{\"role\":\"model\",\"parts\":[{\"text\":\" und Flut\"}]},\"finishReason\":\"STOP\"}],\"usageMetadata\":{\"promptTokenCount\":3,\"candidatesTokenCount\":5},\"responseId\":\"r1\"}\r\r".as_bytes(),
    }
}

const HEAD: &str =
    "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n";

#[tokio::test]
async fn a_stream_reads_the_same_in_pieces_of_every_size() {
    for (dialect, _) in DIALECTS {
        for size in [1, 2, 3, 7, 64, 65_536] {
            let provider = RawProvider::start(HEAD, recording(dialect), size, 1).await;
            let target = format!(
                "{{dialect: {dialect}, model: m, base_url: 'http://{}/v1'}}",
                provider.address
            );
            let rig = Plan::new().raw_target("raw", &target).start().await;
            let told = stream(&rig, say(&["raw"], "Hello")).await;
            assert_eq!(told.text, "Ebbe 🌊 und Flut", "{dialect} {size}");
            assert_eq!(told.text, told.output().text, "{dialect} {size}");
            let result = told.completed.unwrap().result.unwrap();
            assert_eq!(result.usage.unwrap().output_tokens, 5, "{dialect} {size}");
            rig.stop().await;
        }
    }
}

#[tokio::test]
async fn a_stream_that_is_cut_anywhere_is_no_answer() {
    let whole = recording("anthropic");
    for cut in (0..whole.len()).step_by(29) {
        let provider = RawProvider::start(HEAD, &whole[..cut], 65_536, 1).await;
        let target =
            format!("{{dialect: anthropic, model: m, base_url: 'http://{}/v1'}}", provider.address);
        let rig = Plan::new().raw_target("raw", &target).start().await;
        let mut spec = say(&["raw"], "Hello");
        spec.max_attempts = 1;
        let told = stream(&rig, spec).await;
        let finished = cut > String::from_utf8_lossy(whole).find("end_turn").unwrap() + 50;
        assert_eq!(told.completed.is_some(), finished, "cut at {cut}");
        if let Some(refused) = told.refused {
            assert_eq!(refused.status.code(), Code::Unavailable, "cut at {cut}");
        }
        rig.stop().await;
    }
}

#[tokio::test]
async fn the_deadline_of_the_call_ends_the_stream_with_details() {
    let rig = Plan::new().target("bad", "m!hang(at=after_headers)").start().await;
    let started = Instant::now();
    let told = stream_within(&rig, say(&["bad"], WORDS), Duration::from_millis(200)).await;
    assert!(started.elapsed() < Duration::from_secs(4));
    let refused = told.refused.unwrap();
    assert_eq!(refused.verdict(), "DeadlineExceeded INFRASTRUCTURE/request_timeout");
    assert_eq!(refused.refusal.failure.as_ref().unwrap().detail, "caller_deadline");
    rig.stop().await;
}

fn peer_left(rig: &Rig) -> bool {
    rig.simulator.calls().recent.iter().any(|call| format!("{:?}", call.ended) == "PeerLeft")
}

#[tokio::test]
async fn going_away_stops_the_provider_call() {
    let rig = Plan::new().target("bad", &format!("m!{SLOWLY}+hang(at=mid_body)")).start().await;
    let call = request(say(&["bad"], WORDS), "", Duration::from_secs(30));
    let mut events = rig.client().stream_step(call).await.unwrap().into_inner();
    while !matches!(events.message().await.unwrap().unwrap().event, Some(Event::Delta(_))) {}
    drop(events);
    eventually("the provider sees that we left", || peer_left(&rig)).await;
    rig.stop().await;
}

/// A client whose own buffers are small, so that what is taken is taken by the service.
async fn narrow(rig: &Rig) -> client::PipelineClient {
    let address = format!("http://{}", rig.service.data_address);
    let endpoint = Endpoint::from_shared(address).unwrap().initial_stream_window_size(65_535);
    client::pipelines(endpoint.connect().await.unwrap())
}

#[tokio::test]
async fn a_reader_that_takes_nothing_holds_the_provider_back_and_is_given_up() {
    // The same delta again and again: 90 MB that nobody reads.
    let text = String::from_utf8_lossy(recording("openai"));
    let delta = format!("{}\r\n\r\n", text.split("\r\n\r\n").nth(2).unwrap()).repeat(1_000);
    let provider = RawProvider::start(HEAD, delta.as_bytes(), 65_536, 1_000).await;
    let target = format!(
        "{{dialect: openai, model: m, base_url: 'http://{}/v1', response_bytes_max: 134217728}}",
        provider.address
    );
    let rig = Plan::new()
        .raw_target("raw", &target)
        .config("limits: {stream_stall: 300ms}")
        .start()
        .await;
    let mut reader = narrow(&rig).await;
    let call = request(say(&["raw"], "Hello"), "", Duration::from_secs(60));
    let events = reader.stream_step(call).await.unwrap().into_inner();
    let in_flight = || rig.service.engine().targets().get("raw").unwrap().gate.view().in_flight;
    eventually("the call is made", || provider.sent.load(Ordering::Relaxed) > 0).await;
    eventually("the stalled reader is given up", || in_flight() == 0).await;
    let taken = provider.sent.load(Ordering::Relaxed);
    assert!(taken < 16 << 20, "{taken} bytes were taken although nobody reads");
    let told = listen(events).await;
    let refused = told.refused.unwrap();
    assert_eq!(refused.status.code(), Code::ResourceExhausted);
    assert_eq!(refused.refusal.reason, "READER_STALLED");
    assert!(told.text.starts_with("Ebbe 🌊") && told.text.len() < 1 << 20, "{}", told.text.len());
    drop(reader);
    rig.stop().await;
}

#[tokio::test]
async fn a_slow_reader_is_no_slow_provider() {
    let chunk = |delta: &str, finish: &str| {
        format!(
            "data: {{\"id\":\"r1\",\"choices\":[{{\"index\":0,\"delta\":{{{delta}}}{finish}}}]}}\n\n"
        )
    };
    let text = format!("\"content\":\"{}\"", "0123456789".repeat(100));
    let last = chunk("", ",\"finish_reason\":\"stop\"");
    let body = format!("{}{last}data: [DONE]\n\n", chunk(&text, "").repeat(2_000));
    let provider = RawProvider::start(HEAD, body.as_bytes(), 65_536, 1).await;
    let target = format!(
        "{{dialect: openai, model: m, base_url: 'http://{}/v1', timeouts: {{attempt: 3s}}}}",
        provider.address
    );
    let rig = Plan::new().raw_target("raw", &target).start().await;
    let mut reader = narrow(&rig).await;
    let call = request(say(&["raw"], "Hello"), "", Duration::from_secs(60));
    let events = reader.stream_step(call).await.unwrap().into_inner();
    // Longer than the attempt may take; the stall limit is 30 s.
    tokio::time::sleep(Duration::from_secs(4)).await;
    let told = listen(events).await;
    assert_eq!(told.story(), ["raw ok"]);
    assert_eq!(told.text.len(), 2_000_000);
    drop(reader);
    rig.stop().await;
}

#[tokio::test]
async fn a_request_that_is_wrong_or_cannot_begin_is_refused_at_once() {
    let rig = Plan::new().target("slow", "m!hang").config("limits: {runs_max: 1}").start().await;
    let nothing = Request::new(pb::StreamStepRequest { request: None });
    let refused = Refused::from(rig.client().stream_step(nothing).await.unwrap_err());
    assert_eq!(refused.refusal.faults[0].0, "request");
    let unknown = request(say(&["nobody"], "Hello"), "", Duration::from_secs(5));
    let refused = Refused::from(rig.client().stream_step(unknown).await.unwrap_err());
    assert_eq!(refused.refusal.faults[0].0, "inline.targets");
    let first = request(say(&["slow"], "Hello"), "", Duration::from_secs(30));
    let first = rig.client().stream_step(first).await.unwrap();
    let second = request(say(&["slow"], "Hello"), "", Duration::from_secs(30));
    let refused = Refused::from(rig.client().stream_step(second).await.unwrap_err());
    assert_eq!(refused.refusal.reason, "QUEUE_FULL");
    drop(first);
    rig.stop().await;
}

#[tokio::test]
async fn with_a_key_the_run_outlives_its_reader_and_is_found_again() {
    let rig = Plan::new().target("good", "good!latency(between=20ms)").start().await;
    let call = || request(say(&["good"], WORDS), "once", Duration::from_secs(30));
    let mut events = rig.client().stream_step(call()).await.unwrap().into_inner();
    let Some(Event::Started(started)) = events.message().await.unwrap().unwrap().event else {
        panic!("it starts")
    };
    drop(events);
    let told = listen(rig.client().stream_step(call()).await.unwrap().into_inner()).await;
    assert_eq!(told.started.as_ref().unwrap().run_id, started.run_id);
    assert_eq!(told.deltas, 0, "who comes later gets the whole");
    assert!(!told.output().text.is_empty());
    assert_eq!(rig.calls("good"), 1);
    rig.stop().await;
}
