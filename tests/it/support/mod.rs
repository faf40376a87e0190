//! A service, a provider and a collector, for one test each.

pub mod collector;
pub mod h2;
pub mod raw;
pub mod vectors;

use std::fmt::Write as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use mainstay::api::client::{self, Caller, Credentials, PipelineClient, Refusal};
use mainstay::api::pb;
use mainstay::api::pb::policy_service_client::PolicyServiceClient;
use mainstay::app::{Broken, Options, Service};
use mainstay::simulate::{Script, Simulator};
use mainstay::tasks::Tasks;
use tempfile::TempDir;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};

/// Answers anything and misbehaves only on request: a target's model `m!FAULT` is that fault.
pub const OBEDIENT: &str = "seed: 1\nmodels: {'*': {}}\n";

/// What a rig is made of.
#[derive(Default)]
pub struct Plan {
    script: Option<String>,
    targets: Vec<(String, String)>,
    policies: Vec<(String, String)>,
    pipelines: Vec<(String, String)>,
    files: Vec<(String, String)>,
    listeners: Option<String>,
    credentials: Credentials,
    extra: String,
}

impl Plan {
    pub fn new() -> Self {
        Self::default()
    }

    /// A script for the simulated provider.
    pub fn script(mut self, text: &str) -> Self {
        self.script = Some(text.to_owned());
        self
    }

    /// A target at the simulated provider, in the OpenAI dialect. Its model may be a fault.
    pub fn target(self, name: &str, model: &str) -> Self {
        self.raw_target(
            name,
            &format!("{{dialect: openai, model: '{model}', base_url: 'http://SIM/v1'}}"),
        )
    }

    /// A target written out; `SIM` in it is the simulated provider's address.
    pub fn raw_target(mut self, name: &str, text: &str) -> Self {
        self.targets.push((name.to_owned(), text.to_owned()));
        self
    }

    /// A policy file.
    pub fn policy(mut self, name: &str, text: &str) -> Self {
        self.policies.push((name.to_owned(), text.to_owned()));
        self
    }

    /// A pipeline file.
    pub fn pipeline(mut self, name: &str, text: &str) -> Self {
        self.pipelines.push((name.to_owned(), text.to_owned()));
        self
    }

    /// A file beside the server configuration.
    pub fn file(mut self, name: &str, text: &str) -> Self {
        self.files.push((name.to_owned(), text.to_owned()));
        self
    }

    /// The listeners, written out.
    pub fn listeners(mut self, text: &str) -> Self {
        self.listeners = Some(text.to_owned());
        self
    }

    /// What the rig's own client shows of itself.
    pub fn credentials(mut self, credentials: Credentials) -> Self {
        self.credentials = credentials;
        self
    }

    /// Further lines of the server configuration; `SIM` in them is the simulated provider's address.
    pub fn config(mut self, lines: &str) -> Self {
        self.extra.push_str(lines);
        self.extra.push('\n');
        self
    }

    /// Starts everything.
    pub async fn start(self) -> Rig {
        let tasks = Tasks::new();
        let script = self.script.as_deref().unwrap_or(OBEDIENT);
        let script = Script::parse(script, "test script").expect("the test's script parses");
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let simulator = Simulator::bind(script, any, &tasks).await.unwrap();
        let dir = TempDir::new().unwrap();
        let listeners = self
            .listeners
            .as_deref()
            .unwrap_or("{data: {address: '127.0.0.1:0'}, control: {address: '127.0.0.1:0'}}");
        let mut config = format!(
            "documents: {{policies_dir: policies, pipelines_dir: pipelines}}\n\
             listeners: {listeners}\n\
             targets:\n",
        );
        for (name, text) in &self.targets {
            let text = text.replace("SIM", &simulator.addr().to_string());
            writeln!(config, "  {name}: {text}").unwrap();
        }
        let names: Vec<&str> = self.targets.iter().map(|(name, _)| name.as_str()).collect();
        writeln!(config, "default_targets: [{}]", names.join(", ")).unwrap();
        config.push_str(&self.extra.replace("SIM", &simulator.addr().to_string()));
        let write = |folder: &str, documents: &[(String, String)]| {
            std::fs::create_dir(dir.path().join(folder)).unwrap();
            for (name, text) in documents {
                let path = dir.path().join(folder).join(format!("{name}.yaml"));
                std::fs::write(path, text).unwrap();
            }
        };
        write("policies", &self.policies);
        write("pipelines", &self.pipelines);
        for (name, text) in &self.files {
            std::fs::write(dir.path().join(name), text).unwrap();
        }
        let path = dir.path().join("mainstay.yaml");
        std::fs::write(&path, config).unwrap();
        let options = Options { config: Some(path), quiet: true, ..Options::default() };
        let credentials = self.credentials;
        let (service, channel, control) = serve(&options, &credentials).await;
        Rig { service, simulator, channel, control, dir, options, credentials, tasks }
    }
}

async fn serve(options: &Options, credentials: &Credentials) -> (Service, Caller, Channel) {
    let service = Service::start(options).await.unwrap_or_else(|error| {
        let shown = error.downcast_ref::<Broken>().map(|broken| broken.render(false));
        panic!("the service does not start: {error:#}\n{}", shown.unwrap_or_default());
    });
    let address = service.data_address.to_string();
    let channel = client::connect_as(&address, credentials).await.unwrap();
    // Not before it is used: there are rigs whose control plane takes no such client.
    let control = Endpoint::try_from(format!("http://{}", service.control_address)).unwrap();
    (service, channel, control.connect_lazy())
}

/// A service that runs, with its provider.
pub struct Rig {
    pub service: Service,
    pub simulator: Simulator,
    pub channel: Caller,
    /// To the control plane, without credentials.
    pub control: Channel,
    options: Options,
    credentials: Credentials,
    tasks: Tasks,
    dir: TempDir,
}

impl Rig {
    pub fn client(&self) -> PipelineClient {
        client::pipelines(self.channel.clone())
    }

    /// A client of the control plane's documents.
    pub fn policies(&self) -> PolicyServiceClient<Channel> {
        PolicyServiceClient::new(self.control.clone()).max_decoding_message_size(8 << 20)
    }

    /// Writes a file of the configuration's folder, as careful people do: whole or not at all.
    pub fn write(&self, path: &str, text: &str) {
        let temporary = self.dir.path().join("written.tmp");
        std::fs::write(&temporary, text).unwrap();
        std::fs::rename(temporary, self.dir.path().join(path)).unwrap();
    }

    /// Stops the service and starts it again over the same files.
    pub async fn restart(self) -> Self {
        let Self { service, simulator, channel, control, dir, options, credentials, tasks } = self;
        drop((channel, control));
        service.stop().await;
        let (service, channel, control) = serve(&options, &credentials).await;
        Self { service, simulator, channel, control, dir, options, credentials, tasks }
    }

    /// Stops the service and says why it does not start again.
    pub async fn refuses_to_restart(self) -> String {
        let Self { service, simulator, channel, control, dir: _dir, options, tasks, .. } = self;
        drop((channel, control));
        service.stop().await;
        let Err(error) = Service::start(&options).await else { panic!("it starts") };
        simulator.stop().await;
        tasks.stop();
        match error.downcast_ref::<Broken>() {
            Some(broken) => broken.render(false),
            None => format!("{error:#}"),
        }
    }

    /// Runs an inline step.
    pub async fn step(&self, spec: pb::StepSpec) -> Result<pb::RunStepResponse, Refused> {
        self.step_within(spec, Duration::from_secs(30)).await
    }

    /// The same with a deadline.
    pub async fn step_within(
        &self,
        spec: pb::StepSpec,
        deadline: Duration,
    ) -> Result<pb::RunStepResponse, Refused> {
        let mut request = Request::new(inline(spec));
        request.set_timeout(deadline);
        let response = self.client().run_step(request).await;
        response.map(tonic::Response::into_inner).map_err(Refused::from)
    }

    /// Runs a pipeline.
    pub async fn pipeline(
        &self,
        pipeline: &str,
        input: serde_json::Value,
    ) -> Result<pb::Run, Refused> {
        let mut request = Request::new(run_of(pipeline, &input));
        request.set_timeout(Duration::from_secs(30));
        let response = self.client().run_pipeline(request).await;
        response.map(|response| response.into_inner().run.expect("a run")).map_err(Refused::from)
    }

    /// Reads a run back.
    pub async fn get(&self, run_id: &str) -> pb::Run {
        let request = pb::GetRunRequest { run_id: run_id.to_owned() };
        let response = self.client().get_run(request).await.expect("the run is kept");
        response.into_inner().run.expect("a run")
    }

    /// A file beside the server configuration.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Calls that the provider has seen for a model.
    pub fn calls(&self, model: &str) -> u64 {
        self.simulator.calls().of(model)
    }

    /// Stops everything; nothing may be left.
    pub async fn stop(self) {
        drop((self.channel, self.control));
        self.service.stop().await;
        self.simulator.stop().await;
        self.tasks.stop();
        assert!(self.tasks.wait(Duration::from_secs(10)).await, "tasks are left");
    }
}

/// A refused call, with its status and what was read from it.
#[derive(Debug)]
pub struct Refused {
    pub status: Status,
    pub refusal: Refusal,
}

impl From<Status> for Refused {
    fn from(status: Status) -> Self {
        let refusal = client::refusal(&status);
        Self { status, refusal }
    }
}

impl Refused {
    /// `Unavailable INFRASTRUCTURE/overloaded`, in words for assertions.
    pub fn verdict(&self) -> String {
        let failure = self.refusal.failure.as_deref().cloned().unwrap_or_default();
        let domain = failure.domain().as_str_name().trim_start_matches("FAILURE_DOMAIN_");
        format!("{:?} {domain}/{}", self.status.code(), failure.cause)
    }

    /// The last action.
    pub fn action(&self) -> String {
        self.refusal.failure.as_deref().map(|failure| action(failure.action())).unwrap_or_default()
    }
}

/// An inline step as a request.
pub fn inline(spec: pb::StepSpec) -> pb::RunStepRequest {
    pb::RunStepRequest {
        step: Some(pb::run_step_request::Step::Inline(spec)),
        ..pb::RunStepRequest::default()
    }
}

/// A pipeline as a request.
pub fn run_of(pipeline: &str, input: &serde_json::Value) -> pb::RunPipelineRequest {
    pb::RunPipelineRequest {
        pipeline: pipeline.to_owned(),
        input_json: input.to_string(),
        ..pb::RunPipelineRequest::default()
    }
}

/// A message.
pub fn message(role: pb::Role, words: &str) -> pb::PromptMessage {
    let part = pb::PromptPart { part: Some(pb::prompt_part::Part::Text(words.to_owned())) };
    pb::PromptMessage { role: role.into(), parts: vec![part] }
}

/// A step that says something to these targets.
pub fn say(targets: &[&str], words: &str) -> pb::StepSpec {
    pb::StepSpec {
        targets: targets.iter().map(|target| (*target).to_owned()).collect(),
        messages: vec![message(pb::Role::User, words)],
        ..pb::StepSpec::default()
    }
}

/// A step that wants JSON of a schema.
pub fn ask_json(targets: &[&str], words: &str, schema: &serde_json::Value) -> pb::StepSpec {
    let contract = pb::JsonContract { schema_json: schema.to_string(), ..Default::default() };
    pb::StepSpec {
        output: Some(pb::OutputContract {
            kind: Some(pb::output_contract::Kind::Json(contract)),
            ..pb::OutputContract::default()
        }),
        ..say(targets, words)
    }
}

/// A schema of one integer.
pub fn number_schema() -> serde_json::Value {
    serde_json::json!({
        "type": "object", "required": ["n"], "additionalProperties": false,
        "properties": {"n": {"type": "integer", "minimum": 0, "maximum": 9}}
    })
}

/// The name of an action as policies write it.
pub fn action(action: pb::RecoveryAction) -> String {
    action.as_str_name().trim_start_matches("RECOVERY_ACTION_").to_lowercase()
}

/// What happened to each attempt: `target cause -> action`.
pub fn story(result: &pb::StepResult) -> Vec<String> {
    result
        .attempts
        .iter()
        .map(|attempt| match &attempt.failure {
            None if attempt.cancelled => format!("{} cancelled", attempt.target),
            None => format!("{} ok", attempt.target),
            Some(failure) => {
                let decision = attempt.decision.clone().unwrap_or_default();
                format!("{} {} -> {}", attempt.target, failure.cause, action(decision.action()))
            }
        })
        .collect()
}

/// Whether what a test needs is there; without it the test says so and, in CI, fails.
pub fn needs(variable: &str) -> Option<String> {
    let value = std::env::var(variable).ok().filter(|value| !value.is_empty());
    if value.is_none() {
        println!("SKIPPED: {variable} is not set; `scripts/test` starts what it names");
        assert!(std::env::var("CI").as_deref() != Ok("true"), "{variable} must be set in CI");
    }
    value
}

/// Waits until something holds, at most ten seconds.
pub async fn eventually(what: &str, holds: impl Fn() -> bool) {
    let wait = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    if tokio::time::timeout(Duration::from_secs(10), wait).await.is_err() {
        panic!("never: {what}");
    }
}
