//! Pipelines: order, conditions, elements, isolation, and runs that can be found again.

use std::time::Duration;

use mainstay::api::pb;
use serde_json::{Value, json};
use tokio_stream::StreamExt as _;
use tonic::{Code, Request};

use super::support::{Plan, Rig, eventually, run_of, story};

const EXAMPLE: &str = include_str!("../../config/pipelines/entity-report.yaml");
const REHEARSAL: &str = include_str!("../../config/simulate/rehearsal.yaml");
const DOCUMENT: &str = include_str!("../../examples/documents/incident.txt");

fn output(run: &pb::Run) -> Value {
    serde_json::from_str(&run.output_json).unwrap()
}

/// Steps of two targets that say what they see.
const TWO: &str = r#"
name: two
steps:
  - { name: first, targets: [good], prompt: "One" }
  - { name: second, targets: [bad], prompt: "Then {{ steps.first }}" }
"#;

async fn two(fault: &str) -> Rig {
    Plan::new()
        .target("good", "good")
        .target("bad", &format!("m!{fault}"))
        .pipeline("two", TWO)
        .start()
        .await
}

#[tokio::test]
async fn the_shipped_example_recovers_as_the_readme_shows() {
    let rig = Plan::new()
        .script(REHEARSAL)
        .target("sim-primary", "sim-primary")
        .raw_target(
            "sim-secondary",
            "{dialect: anthropic, model: sim-secondary, base_url: 'http://SIM/v1'}",
        )
        .pipeline("entity-report", EXAMPLE)
        .start()
        .await;
    let run = rig.pipeline("entity-report", json!({"document": DOCUMENT})).await.unwrap();
    assert_eq!(run.state(), pb::RunState::Succeeded);
    let told = |step: &str| story(run.steps.iter().find(|s| s.step == step).unwrap());
    assert_eq!(
        told("extract"),
        ["sim-primary rate_limited -> retry_with_backoff", "sim-primary ok"]
    );
    assert_eq!(
        told("summarise"),
        [
            "sim-primary overloaded -> retry_with_backoff",
            "sim-primary overloaded -> fallback_to_target",
            "sim-secondary ok"
        ]
    );
    let classify = run.steps.iter().find(|s| s.step == "classify").unwrap();
    assert_eq!(classify.elements.len(), 7);
    assert_eq!(story(&classify.elements[1]), ["sim-primary malformed_json -> repair_output"]);
    let output = output(&run);
    assert_eq!(output["entities"].as_array().unwrap().len(), 7);
    assert!(output["summary"].as_str().unwrap().contains("lock"));
    rig.stop().await;
}

#[tokio::test]
async fn a_failed_step_names_itself_and_runs_nothing_finished_again() {
    let rig = two("server_error").await;
    let refused = rig.pipeline("two", json!({})).await.unwrap_err();
    assert_eq!(refused.verdict(), "Unavailable INFRASTRUCTURE/server_error");
    let failure = refused.refusal.failure.as_ref().unwrap();
    // The first call, two retries, then the other target has no part in this step's list.
    assert_eq!((failure.step.as_str(), failure.attempts, rig.calls("good")), ("second", 3, 1));
    let request = pb::GetRunRequest { run_id: refused.refusal.run_id.clone() };
    let run = rig.client().get_run(request).await.unwrap().into_inner().run.unwrap();
    assert_eq!(run.state(), pb::RunState::Failed);
    assert_eq!(run.steps[0].state(), pb::RunState::Succeeded);
    assert!(run.steps[0].output.is_some());
    assert_eq!(run.failure.unwrap().cause, "server_error");
    rig.stop().await;
}

#[tokio::test]
async fn conditions_elements_and_selected_outputs() {
    let text = r#"
name: shapes
steps:
  - { name: never, needs: [], when: "input.n > 5", prompt: "Never" }
  - name: each
    needs: [never]
    for_each: { items: input.list, parallelism: 2, on_element_failure: collect }
    prompt: "Item {{ index }} is {{ item }}"
  - { name: none, needs: [], for_each: { items: input.empty }, prompt: "{{ item }}" }
output: { never: steps.never, each: steps.each, none: steps.none, skipped: skipped.never }
"#;
    let script = r"
seed: 1
models:
  '*':
    answers:
      - { when: { contains: 'Item 1' }, text: 'one' }
      - { when: { contains: 'Item' }, text: '{{ user }}' }
    faults: [{ fault: content_filter, when: { contains: poison } }]
";
    let rig =
        Plan::new().script(script).target("good", "good").pipeline("shapes", text).start().await;
    let input = json!({"n": 1, "list": ["a", "b", "poison"], "empty": []});
    let run = rig.pipeline("shapes", input).await.unwrap();
    let output = output(&run);
    assert_eq!(output["never"], Value::Null);
    assert_eq!(output["skipped"], json!(true));
    assert_eq!(output["none"], json!([]));
    let each = output["each"].as_array().unwrap();
    assert_eq!((each[0].as_str(), each[1].as_str()), (Some("Item 0 is a"), Some("one")));
    assert_eq!(each[2]["error"]["cause"], "content_filtered");
    assert_eq!(run.state(), pb::RunState::Degraded);
    rig.stop().await;
}

#[tokio::test]
async fn a_halting_failure_overrides_collect() {
    let text = r#"
name: halts
steps:
  - name: each
    for_each: { items: input.list, parallelism: 1, on_element_failure: collect }
    prompt: "{{ item.word }}"
"#;
    let rig = Plan::new().target("good", "good").pipeline("halts", text).start().await;
    let input = json!({"list": [{"word": "a"}, {"other": "b"}, {"word": "c"}]});
    let refused = rig.pipeline("halts", input).await.unwrap_err();
    assert_eq!(refused.verdict(), "FailedPrecondition PIPELINE_LOGIC/missing_input");
    assert_eq!((refused.action().as_str(), rig.calls("good")), ("alert_and_halt", 1));
    assert_eq!(refused.refusal.failure.unwrap().element, Some(1));
    rig.stop().await;
}

#[tokio::test]
async fn one_key_is_one_run() {
    let rig = two("none").await;
    let request = |word: &str| {
        let mut request = run_of("two", &json!({"word": word}));
        request.options =
            Some(pb::RunOptions { idempotency_key: "order-7".into(), ..Default::default() });
        request
    };
    let (mut one, mut other) = (rig.client(), rig.client());
    let (a, b) = tokio::join!(one.run_pipeline(request("x")), other.run_pipeline(request("x")));
    let id = |answer: Result<tonic::Response<pb::RunPipelineResponse>, _>| {
        answer.unwrap().into_inner().run.unwrap().run_id
    };
    assert_eq!(id(a), id(b));
    assert_eq!(rig.calls("good"), 1);
    let refused = one.run_pipeline(request("y")).await.unwrap_err();
    assert_eq!(refused.code(), Code::AlreadyExists);
    rig.stop().await;
}

#[tokio::test]
async fn a_run_that_nobody_waits_for_can_be_watched_listed_and_cancelled() {
    let rig = two("hang").await;
    let mut client = rig.client();
    let request = pb::RunPipelineRequest { no_wait: true, ..run_of("two", &json!({})) };
    let run = client.run_pipeline(request).await.unwrap().into_inner().run.unwrap();
    let request = pb::WatchRunRequest { run_id: run.run_id.clone() };
    let mut watch = client.watch_run(request).await.unwrap().into_inner();
    assert_eq!(watch.next().await.unwrap().unwrap().run.unwrap().state(), pb::RunState::Running);
    eventually("the second step hangs", || rig.calls("m") == 1).await;
    let listed = client.list_runs(pb::ListRunsRequest::default()).await.unwrap().into_inner();
    assert_eq!(listed.runs[0].run_id, run.run_id);
    let cancel = pb::CancelRunRequest { run_id: run.run_id, ..Default::default() };
    client.cancel_run(cancel).await.unwrap();
    let mut last = None;
    while let Some(Ok(state)) = watch.next().await {
        last = state.run;
    }
    assert_eq!(last.unwrap().state(), pb::RunState::Cancelled);
    rig.stop().await;
}

#[tokio::test]
async fn a_stream_tells_what_happens_and_ends_by_its_deadline() {
    let rig = two("server_error(first=1)").await;
    let request = pb::StreamPipelineRequest { request: Some(run_of("two", &json!({}))) };
    let events = rig.client().stream_pipeline(request.clone()).await.unwrap().into_inner();
    let kinds: Vec<String> = events
        .map(|event| match event.unwrap().event.unwrap().event.unwrap() {
            pb::run_event::Event::Started(_) => "started".to_owned(),
            pb::run_event::Event::StepStarted(step) => format!("+{}", step.step),
            pb::run_event::Event::AttemptFailed(ended) => format!("!{}", ended.step),
            pb::run_event::Event::StepEnded(step) => format!("-{}", step.step),
            pb::run_event::Event::ElementsKnown(step) => format!("*{}", step.step),
            pb::run_event::Event::Ended(_) => "ended".to_owned(),
        })
        .collect()
        .await;
    assert_eq!(kinds, ["started", "+first", "-first", "+second", "!second", "-second", "ended"]);
    rig.stop().await;

    let rig = two("hang").await;
    let mut request = Request::new(request);
    request.set_timeout(Duration::from_millis(1_000));
    let events = rig.client().stream_pipeline(request).await.unwrap().into_inner();
    let last = events.collect::<Vec<_>>().await.pop().unwrap().unwrap_err();
    // The run has the stream's time, so the stream's end says what took it.
    let refused = super::support::Refused::from(last);
    assert_eq!(refused.verdict(), "DeadlineExceeded INFRASTRUCTURE/request_timeout");
    let left =
        || rig.simulator.calls().recent.iter().any(|c| format!("{:?}", c.ended) == "PeerLeft");
    eventually("a run that ends with its call stops its provider call", left).await;
    rig.stop().await;
}

#[tokio::test]
async fn a_provider_killed_mid_run_ends_the_run_in_time() {
    let rig = two("hang").await;
    let mut client = rig.client();
    let mut request = Request::new(run_of("two", &json!({})));
    request.set_timeout(Duration::from_secs(20));
    let run = client.run_pipeline(request);
    let kill = async {
        eventually("the second step hangs", || rig.calls("m") == 1).await;
        rig.simulator.kill();
    };
    let (answer, ()) = tokio::join!(run, kill);
    let refused = super::support::Refused::from(answer.unwrap_err());
    assert_eq!(refused.verdict(), "Unavailable INFRASTRUCTURE/connect");
    assert_eq!(refused.action(), "alert_and_degrade");
    rig.stop().await;
}
