//! `mainstay run`

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use serde_json::{Map, Value};
use tonic::{Request, Response, Status};

use super::connection::CallerArgs;
use super::live::{Live, LiveText};
use super::{ConfigArgs, Exit, json, show};
use crate::api::client::{self, PipelineClient};
use crate::api::pb;
use crate::api::pb::run_event::Event;
use crate::api::pb::stream_step_response::Event as StepEvent;
use crate::app::{Options, Service};

/// Run a pipeline, or one of its steps, and watch it.
#[derive(Debug, Args)]
#[command(after_help = "Without --address the service is embedded: the one of --config, else the \
rehearsal, which needs no key. The output goes to standard output, what happens to standard error.")]
pub struct RunArgs {
    /// Pipeline: NAME, or NAME@VERSION for one that need not serve.
    pipeline: String,
    /// Run this step of it only.
    #[arg(long)]
    step: Option<String>,
    /// A text file, given to the pipeline as `input.document`.
    #[arg(long, value_name = "FILE")]
    document: Option<PathBuf>,
    /// The input as JSON text, or @FILE.
    #[arg(long, value_name = "JSON")]
    input: Option<String>,
    /// Outputs of other steps as a JSON object or @FILE, with --step.
    #[arg(long, value_name = "JSON", requires = "step")]
    steps: Option<String>,
    /// Show the step's text while it is written, on standard error; with --step.
    #[arg(long, requires = "step", conflicts_with = "quiet")]
    stream: bool,
    /// Policy; the pipeline's, else the server's, if absent.
    #[arg(long)]
    policy: Option<String>,
    /// A label, key=value; may be repeated.
    #[arg(long = "label", value_name = "KEY=VALUE")]
    labels: Vec<String>,
    /// Address of a running service's data plane.
    #[arg(long, short = 'a', value_name = "HOST:PORT", env = "MAINSTAY_ADDRESS")]
    address: Option<String>,
    #[command(flatten)]
    caller: CallerArgs,
    #[command(flatten)]
    config: ConfigArgs,
    /// Script of the simulated provider, for the embedded rehearsal.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["address", "config"])]
    script: Option<PathBuf>,
    /// Longest time to wait, in seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 600.0)]
    timeout: f64,
    /// Print the whole run as JSON instead of the output.
    #[arg(long)]
    json: bool,
    /// Exit with 4 when the output is degraded.
    #[arg(long)]
    fail_on_degraded: bool,
    /// Show nothing of the way.
    #[arg(long, short = 'q')]
    quiet: bool,
}

pub(super) async fn run(args: RunArgs) -> anyhow::Result<Exit> {
    let input = match input(&args) {
        Ok(input) => input,
        Err(error) => {
            eprintln!("error: {error:#}");
            return Ok(Exit::Wrong);
        }
    };
    let service = match &args.address {
        Some(_) => None,
        None => Some(embedded(&args).await?),
    };
    let caller = match (&args.address, &service) {
        (Some(address), _) => args.caller.connect(address).await,
        (None, Some(service)) => {
            // Its scheme is said: the caller's TLS files are for services elsewhere.
            args.caller.connect(&format!("http://{}", service.data_address)).await
        }
        (None, None) => return Ok(Exit::Wrong),
    };
    let exit = match caller {
        Ok(caller) => call(&args, client::pipelines(caller), &input).await,
        Err(error) => Err(error),
    };
    if let Some(service) = service {
        service.stop().await;
    }
    exit
}

async fn embedded(args: &RunArgs) -> anyhow::Result<Service> {
    let any = std::net::SocketAddr::from(([127, 0, 0, 1], 0));
    let options = Options {
        data_address: Some(any),
        control_address: Some(any),
        script: args.script.clone(),
        quiet: true,
        forgetful: true,
        ..args.config.options()
    };
    if options.config.is_none() && !args.quiet {
        eprintln!("rehearsal: the provider is simulated and misbehaves on purpose");
    }
    Service::start(&options).await
}

fn json_argument(text: &str) -> anyhow::Result<Value> {
    let text = match text.strip_prefix('@') {
        Some(path) => {
            std::fs::read_to_string(path).with_context(|| format!("cannot read {path}"))?
        }
        None => text.to_owned(),
    };
    serde_json::from_str(&text).context("the input is not JSON")
}

fn input(args: &RunArgs) -> anyhow::Result<String> {
    let mut input = match &args.input {
        Some(text) => json_argument(text)?,
        None => Value::Object(Map::new()),
    };
    if let Some(path) = &args.document {
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("cannot read {}", path.display()))?;
        match &mut input {
            Value::Object(object) => {
                object.insert("document".to_owned(), Value::String(text));
            }
            _ => anyhow::bail!("--document needs an input that is an object"),
        }
    }
    Ok(input.to_string())
}

fn options(args: &RunArgs) -> anyhow::Result<pb::RunOptions> {
    let labels = args
        .labels
        .iter()
        .map(|label| {
            label
                .split_once('=')
                .map(|(key, value)| (key.to_owned(), value.to_owned()))
                .with_context(|| format!("`{label}` is not KEY=VALUE"))
        })
        .collect::<anyhow::Result<_>>()?;
    Ok(pb::RunOptions {
        policy: args.policy.clone().unwrap_or_default(),
        labels,
        ..pb::RunOptions::default()
    })
}

async fn call(args: &RunArgs, client: PipelineClient, input: &str) -> anyhow::Result<Exit> {
    let timeout = Duration::try_from_secs_f64(args.timeout).context("--timeout")?;
    let answer = match &args.step {
        Some(step) => run_step(args, client, step, input, timeout).await?,
        None => run_pipeline(args, client, input, timeout).await?,
    };
    match answer {
        Ok(ended) => {
            if args.json {
                println!("{}", serde_json::to_string_pretty(&ended.whole)?);
            } else if !ended.seen {
                println!("{}", ended.output);
            }
            if !args.quiet {
                eprintln!("{}", ended.summary);
            }
            Ok(if ended.degraded && args.fail_on_degraded { Exit::Degraded } else { Exit::Done })
        }
        Err(status) => {
            let refusal = client::refusal(&status);
            if args.json {
                println!("{}", serde_json::to_string_pretty(&json::refusal(&refusal))?);
            }
            eprint!("{}", show::refusal(&refusal));
            let wrong = refusal.failure.is_none() && !refusal.faults.is_empty()
                || status.code() == tonic::Code::NotFound
                || refusal.is_of_access();
            Ok(if wrong { Exit::Wrong } else { Exit::Failed })
        }
    }
}

/// A run that ended well, for printing.
struct Ended {
    output: String,
    /// Whether who would read the output has seen just that already.
    seen: bool,
    whole: Value,
    summary: String,
    degraded: bool,
}

async fn run_pipeline(
    args: &RunArgs,
    mut client: PipelineClient,
    input: &str,
    timeout: Duration,
) -> anyhow::Result<Result<Ended, Status>> {
    let (pipeline, pipeline_version) = named(&args.pipeline)?;
    let request = pb::RunPipelineRequest {
        pipeline,
        pipeline_version,
        input_json: input.to_owned(),
        options: Some(options(args)?),
        ..pb::RunPipelineRequest::default()
    };
    let mut request = Request::new(pb::StreamPipelineRequest { request: Some(request) });
    request.set_timeout(timeout);
    let mut events = match client.stream_pipeline(request).await {
        Ok(response) => response.into_inner(),
        Err(status) => return Ok(Err(status)),
    };
    let mut live = Live::new(args.quiet);
    let mut last = None;
    loop {
        match events.message().await {
            Ok(Some(message)) => {
                let Some(event) = message.event.and_then(|event| event.event) else { continue };
                live.event(&event);
                if let Event::Ended(run) = event {
                    last = Some(run);
                }
            }
            Ok(None) => break,
            Err(status) => {
                live.clear();
                return Ok(Err(status));
            }
        }
    }
    let run = last.context("the service ended the stream without the end of the run")?;
    Ok(Ok(ended(&run)))
}

fn ended(run: &pb::Run) -> Ended {
    let output: Value = serde_json::from_str(&run.output_json).unwrap_or(Value::Null);
    let calls: u32 = run.steps.iter().map(calls).sum();
    let usage = run.usage.unwrap_or_default();
    let wasted = run.wasted.unwrap_or_default();
    let summary = format!(
        "{}: {calls} calls, {}; wasted {} tokens; run {}, trace {}",
        show::state(run.state()),
        show::usage(&usage),
        wasted.input_tokens + wasted.output_tokens,
        run.run_id,
        run.trace_id
    );
    Ended {
        seen: false,
        output: pretty(&output),
        whole: json::run(run, &output),
        summary,
        degraded: run.state() == pb::RunState::Degraded,
    }
}

/// `NAME` or `NAME@VERSION`.
pub(super) fn named(argument: &str) -> anyhow::Result<(String, u64)> {
    let (name, version) = match argument.split_once('@') {
        None => (argument, 0),
        Some((name, version)) => {
            let wrong = || format!("`{argument}`: after @ comes a version");
            (name, version.parse().with_context(wrong)?)
        }
    };
    Ok((name.to_owned(), version))
}

async fn run_step(
    args: &RunArgs,
    mut client: PipelineClient,
    step: &str,
    input: &str,
    timeout: Duration,
) -> anyhow::Result<Result<Ended, Status>> {
    let steps_json = match &args.steps {
        Some(text) => json_argument(text)?.to_string(),
        None => String::new(),
    };
    let (pipeline, pipeline_version) = named(&args.pipeline)?;
    let reference = pb::StepRef { pipeline, step: step.to_owned(), pipeline_version };
    let mut request = Request::new(pb::RunStepRequest {
        step: Some(pb::run_step_request::Step::Ref(reference)),
        input_json: input.to_owned(),
        steps_json,
        options: Some(options(args)?),
    });
    request.set_timeout(timeout);
    let mut shown = LiveText::default();
    let response = match args.stream {
        true => stream_step(client, request, &mut shown).await,
        false => client.run_step(request).await.map(Response::into_inner),
    };
    let response = match response {
        Ok(response) => response,
        Err(status) => return Ok(Err(status)),
    };
    let result = response.result.unwrap_or_default();
    // A stream has told of restarts; what was recovered unseen is told of here.
    if !args.quiet {
        for attempt in result.attempts.iter().filter(|attempt| attempt.failure.is_some()) {
            eprintln!(
                "  attempt {} on {}: {}",
                attempt.number,
                attempt.target,
                show::attempt(attempt)
            );
        }
    }
    let output = response.output.unwrap_or_default();
    let value = if output.json.is_empty() {
        Value::String(output.text)
    } else {
        serde_json::from_str(&output.json).unwrap_or(Value::Null)
    };
    let output = pretty(&value);
    Ok(Ok(Ended {
        seen: shown.was_seen(&output),
        output,
        whole: serde_json::json!({
            "run_id": response.run_id,
            "degraded": response.degraded,
            "output": value,
            "step": json::step(&result),
            "trace_id": response.trace_id,
        }),
        summary: format!(
            "{}; run {}, trace {}",
            show::step(&result),
            response.run_id,
            response.trace_id
        ),
        degraded: response.degraded,
    }))
}

/// The same as `RunStep`, with the text shown while it comes.
async fn stream_step(
    mut client: PipelineClient,
    request: Request<pb::RunStepRequest>,
    shown: &mut LiveText,
) -> Result<pb::RunStepResponse, Status> {
    let (metadata, extensions, step) = request.into_parts();
    let request = pb::StreamStepRequest { request: Some(step) };
    let request = Request::from_parts(metadata, extensions, request);
    let mut events = client.stream_step(request).await?.into_inner();
    loop {
        match events.message().await {
            Ok(Some(message)) => match message.event {
                Some(StepEvent::Completed(response)) => {
                    shown.end();
                    return Ok(response);
                }
                Some(event) => shown.event(&event),
                None => {}
            },
            Ok(None) => {
                shown.end();
                return Err(Status::internal("the stream ended without the end of the step"));
            }
            Err(status) => {
                shown.end();
                return Err(status);
            }
        }
    }
}

fn calls(step: &pb::StepResult) -> u32 {
    let own = step.attempts.iter().filter(|attempt| attempt.called).count();
    let verifications = step.attempts.iter().flat_map(|attempt| &attempt.verifications);
    let others = step.elements.iter().chain(verifications);
    others.map(calls).fold(u32::try_from(own).unwrap_or(u32::MAX), u32::saturating_add)
}

fn pretty(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => serde_json::to_string_pretty(other).unwrap_or_else(|_| other.to_string()),
    }
}
