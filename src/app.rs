//! The service as a whole: read, check, bind, serve, drain. In this order, so that a mistake in a
//! file stops the start before any port is bound.

mod targets;

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use tokio::net::TcpListener;
use tonic::codec::CompressionEncoding;
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;
use tonic_reflection::server::{v1, v1alpha};

use crate::api::auth::{Authentication, Authenticator};
use crate::api::pb::operations_service_server::OperationsServiceServer;
use crate::api::pb::pipeline_service_server::PipelineServiceServer;
use crate::api::pb::policy_service_server::PolicyServiceServer;
use crate::api::{DeadlineLimits, OperationsApi, PipelineApi, PolicyApi, pb, server};
use crate::config::{self, Config, Environment};
use crate::control::audit::{AuditFile, AuditLog};
use crate::control::{self, Documents, Report, Source};
use crate::document::{Document, Problems, Severity};
use crate::engine::active_policy::{ActiveDocuments, Snapshot};
use crate::engine::targets::Targets;
use crate::engine::{Engine, EngineSettings};
use crate::simulate::{Script, Simulator};
use crate::tasks::Tasks;
use crate::telemetry::{self, Telemetry, TelemetrySettings};

/// Policies that every server has unless its own files replace them.
pub const BUILT_IN_POLICIES: &[(&str, &str)] =
    &[("default", include_str!("../config/policies/default.yaml"))];

/// The shipped pipelines, for the rehearsal.
pub const BUILT_IN_PIPELINES: &[(&str, &str)] = &[
    ("entity-report", include_str!("../config/pipelines/entity-report.yaml")),
    ("summarise", include_str!("../config/pipelines/summarise.yaml")),
];

const REHEARSAL: &str = include_str!("../config/rehearsal.yaml");
const REHEARSAL_SCRIPT: &str = include_str!("../config/simulate/rehearsal.yaml");

/// Script of the simulated provider in the rehearsal.
pub fn rehearsal_script() -> &'static str {
    REHEARSAL_SCRIPT
}

/// What to serve.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Configuration file; the embedded rehearsal if absent.
    pub config: Option<PathBuf>,
    /// Where to serve the data plane, over the configuration's word.
    pub data_address: Option<SocketAddr>,
    /// Where to serve the control plane, over the configuration's word.
    pub control_address: Option<SocketAddr>,
    /// Script of the simulated provider, over the embedded one; for the rehearsal only.
    pub script: Option<PathBuf>,
    /// Write the data plane's address to this file once it serves.
    pub address_file: Option<PathBuf>,
    /// No logs: the command line is the user's window.
    pub quiet: bool,
}

/// Documents that cannot be served, with everything that is wrong.
#[derive(Debug, thiserror::Error)]
#[error("{} of the documents cannot be served", .0.iter().filter(|r| !r.problems.usable()).count())]
pub struct Broken(pub Vec<Report>);

impl Broken {
    /// Every problem under its line.
    pub fn render(&self, colours: bool) -> String {
        render(&self.0, colours)
    }
}

/// Reports for a terminal.
pub fn render(reports: &[Report], colours: bool) -> String {
    reports
        .iter()
        .map(|report| {
            crate::document::render(&report.origin, &report.text, &report.problems, colours)
        })
        .collect()
}

/// Everything read and checked, nothing bound.
pub struct Prepared {
    /// Configuration.
    pub config: Config,
    /// Targets.
    pub targets: Targets,
    /// Policies and pipelines.
    pub snapshot: Snapshot,
    /// Warnings.
    pub warnings: Vec<Report>,
    /// Checks further documents.
    pub documents: Documents,
    /// Tells callers apart.
    pub authentication: Authentication,
}

/// Reads and checks a configuration and its documents. `simulator` is where a rehearsal's targets
/// are; without one, they get an address that nobody answers at.
///
/// # Errors
/// [`Broken`] with every problem; or what cannot be read.
pub fn prepare(options: &Options, simulator: Option<SocketAddr>) -> anyhow::Result<Prepared> {
    let (name, text) = match &options.config {
        Some(path) => {
            let text = std::fs::read_to_string(path)
                .with_context(|| format!("cannot read {}", path.display()))?;
            (path.display().to_string(), text)
        }
        None => ("built-in rehearsal".to_owned(), REHEARSAL.to_owned()),
    };
    let broken = |problems: Problems| {
        Broken(vec![Report { origin: name.clone(), text: text.as_str().into(), problems }])
    };
    let document = Document::parse(name.clone(), text.as_str())
        .map_err(|problem| broken(Problems(vec![problem])))?;
    let simulator = simulator.unwrap_or(SocketAddr::from((Ipv4Addr::LOCALHOST, 9)));
    let variable = |variable: &str| match variable {
        "SIMULATOR" if options.config.is_none() => Some(simulator.to_string()),
        other => std::env::var(other).ok(),
    };
    let base_dir = options.config.as_deref().and_then(Path::parent).unwrap_or(Path::new("."));
    let environment = Environment { variable: &variable, base_dir };
    let config = config::read(&document, &environment).map_err(broken)?;
    let authentication = Authentication::load(config.auth.as_ref())?;
    let targets = targets::targets(&config)?;
    let documents = Documents::new(targets.clone());
    let policies = sources(config.policies_dir.as_deref(), BUILT_IN_POLICIES)?;
    let pipelines = match &config.pipelines_dir {
        Some(dir) => control::folder(dir)?,
        None => built_in(BUILT_IN_PIPELINES),
    };
    let (snapshot, reports) = documents.compile(&policies, &pipelines);
    if reports.iter().any(|report| !report.problems.usable()) {
        return Err(Broken(reports).into());
    }
    if !snapshot.policies.contains_key(&config.default_policy) {
        anyhow::bail!(
            "`default_policy` is `{}`, and there is no such policy",
            config.default_policy
        );
    }
    Ok(Prepared { config, targets, snapshot, warnings: reports, documents, authentication })
}

/// Files first; built-in documents whose names the files do not use.
fn sources(dir: Option<&Path>, built_in_ones: &[(&str, &str)]) -> anyhow::Result<Vec<Source>> {
    let mut found = match dir {
        Some(dir) => control::folder(dir)?,
        None => Vec::new(),
    };
    for source in built_in(built_in_ones) {
        if !found.iter().any(|own| own.name == source.name) {
            found.push(source);
        }
    }
    Ok(found)
}

fn built_in(documents: &[(&str, &str)]) -> Vec<Source> {
    documents
        .iter()
        .map(|(name, text)| Source {
            name: (*name).to_owned(),
            origin: format!("built-in {name}"),
            text: (*text).into(),
        })
        .collect()
}

/// A service that runs.
pub struct Service {
    /// Where the data plane is served.
    pub data_address: SocketAddr,
    /// Where the control plane is served.
    pub control_address: SocketAddr,
    /// The simulated provider of a rehearsal.
    pub simulator: Option<Simulator>,
    engine: Engine,
    telemetry: Telemetry,
    health: Vec<HealthReporter>,
    /// Listeners and what belongs to them; stopped first.
    listeners: Tasks,
    /// Runs that outlive their call; stopped after the drain.
    runs: Tasks,
    /// Closed once nothing changes any more.
    audit: AuditLog,
    drain: Duration,
}

impl Service {
    /// Reads, checks, binds and serves.
    ///
    /// # Errors
    /// See [`prepare`]; or an address that cannot be listened on.
    pub async fn start(options: &Options) -> anyhow::Result<Self> {
        let listeners = Tasks::new();
        // A group of its own: calls that drain still need the simulator.
        let simulator = rehearsal(options, &Tasks::new()).await?;
        let prepared = prepare(options, simulator.as_ref().map(Simulator::addr))?;
        let Prepared { mut config, targets, snapshot, warnings, documents, authentication } =
            prepared;
        config.data.address = options.data_address.unwrap_or(config.data.address);
        config.control.address = options.control_address.unwrap_or(config.control.address);
        refuse_exposure(&config)?;
        let audit = audit_log(&config)?;
        let data = server::bind(config.data.address).await?;
        let control = server::bind(config.control.address).await?;
        let telemetry = telemetry::start(&TelemetrySettings {
            otlp_endpoint: config.telemetry.otlp_endpoint.clone(),
            service_name: config.telemetry.service_name.clone(),
            resource: config.telemetry.resource.clone(),
            sample_ratio: config.telemetry.sample_ratio,
            log_filter: (!options.quiet).then(|| config.telemetry.log.clone()),
            log_json: config.telemetry.log_json,
        })?;
        for report in &warnings {
            tracing::warn!(document = %report.origin, "{}", report.problems);
        }
        let runs = Tasks::new();
        let engine = Engine::new(EngineSettings {
            targets,
            documents: ActiveDocuments::new(snapshot),
            default_policy: config.default_policy.clone(),
            runs_max: config.limits.runs_max,
            runs_remembered: config.limits.runs_remembered,
            cache_bytes: config.limits.cache_bytes,
            run_timeout: config.limits.run_timeout,
            stream_stall: config.limits.stream_stall,
            tracer: telemetry.tracer(),
            tasks: runs.clone(),
        });
        let watching = engine.clone();
        listeners.spawn_until_stopped(async move { watching.settle_alerts().await });
        let mut service = Self {
            data_address: data.local_addr()?,
            control_address: control.local_addr()?,
            simulator,
            engine,
            telemetry,
            health: Vec::new(),
            listeners,
            runs,
            audit,
            drain: config.limits.drain,
        };
        service.serve_data(&config, &authentication.authenticator, data).await?;
        service.serve_control(&config, &authentication.authenticator, documents, control).await?;
        authentication.keep_fresh(&service.listeners);
        if let Some(path) = &options.address_file {
            write_address(path, service.data_address)?;
        }
        tracing::info!(data = %service.data_address, control = %service.control_address, "serving");
        Ok(service)
    }

    async fn serve_data(
        &mut self,
        config: &Config,
        authenticator: &Authenticator,
        listener: TcpListener,
    ) -> anyhow::Result<()> {
        let limits = &config.limits;
        let deadlines =
            DeadlineLimits { default: limits.default_deadline, cap: limits.deadline_cap };
        let service = PipelineServiceServer::new(PipelineApi::new(self.engine.clone(), deadlines))
            .accept_compressed(CompressionEncoding::Gzip)
            .max_decoding_message_size(limits.request_bytes_max)
            .max_encoding_message_size(limits.response_bytes_max);
        let (reporter, health) = tonic_health::server::health_reporter();
        reporter.set_serving::<PipelineServiceServer<PipelineApi>>().await;
        self.health.push(reporter);
        let tls = config.data.tls.as_ref();
        let mut server = server::builder(self.data_address, limits, tls, authenticator)?;
        let router = server
            .add_service(health)
            .add_optional_service(reflection_v1(config.reflection)?)
            .add_optional_service(reflection_v1alpha(config.reflection)?)
            .add_service(service);
        let (stop, most) = (self.listeners.clone(), limits.connections_max);
        self.listeners.spawn(async move {
            let connections = server::connections(listener, most);
            let served = router
                .serve_with_incoming_shutdown(connections, async move { stop.stopping().await });
            if let Err(error) = served.await {
                tracing::error!(%error, "the data plane ended");
            }
        });
        Ok(())
    }

    async fn serve_control(
        &mut self,
        config: &Config,
        authenticator: &Authenticator,
        documents: Documents,
        listener: TcpListener,
    ) -> anyhow::Result<()> {
        let limits = &config.limits;
        let policy =
            PolicyServiceServer::new(PolicyApi::new(documents)).max_decoding_message_size(2 << 20);
        let (engine, audit) = (self.engine.clone(), self.audit.clone());
        let operations = OperationsApi::new(engine, audit, self.listeners.clone());
        let operations = OperationsServiceServer::new(operations);
        let (reporter, health) = tonic_health::server::health_reporter();
        reporter.set_serving::<PolicyServiceServer<PolicyApi>>().await;
        reporter.set_serving::<OperationsServiceServer<OperationsApi>>().await;
        self.health.push(reporter);
        let tls = config.control.tls.as_ref();
        let mut server = server::builder(self.control_address, limits, tls, authenticator)?;
        let router = server
            .add_service(health)
            .add_optional_service(reflection_v1(config.reflection)?)
            .add_optional_service(reflection_v1alpha(config.reflection)?)
            .add_service(policy)
            .add_service(operations);
        let (stop, most) = (self.listeners.clone(), limits.connections_max);
        self.listeners.spawn(async move {
            let connections = server::connections(listener, most);
            let served = router
                .serve_with_incoming_shutdown(connections, async move { stop.stopping().await });
            if let Err(error) = served.await {
                tracing::error!(%error, "the control plane ended");
            }
        });
        Ok(())
    }

    /// The engine, for those in the same process.
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// Says that it is going, lets calls and runs end within the drain time, then stops.
    pub async fn stop(self) {
        for reporter in &self.health {
            reporter.set_service_status("", ServingStatus::NotServing).await;
        }
        self.listeners.stop();
        if !self.listeners.wait(self.drain).await {
            tracing::warn!("calls were cut at the end of the drain time");
        }
        self.audit.close().await;
        self.runs.stop();
        for run in self.engine.runs().running() {
            run.cancel.cancel();
        }
        self.runs.wait(Duration::from_secs(5)).await;
        if let Some(simulator) = self.simulator {
            simulator.stop().await;
        }
        let telemetry = self.telemetry;
        let flushed = self.runs.spawn_blocking(move || telemetry.shutdown());
        let _ = tokio::time::timeout(Duration::from_secs(6), flushed).await;
    }
}

/// The command line may have put a listener where the configuration would not have.
fn refuse_exposure(config: &Config) -> anyhow::Result<()> {
    let listeners = [&config.data, &config.control];
    let exposed = listeners.iter().flat_map(|listener| listener.exposed(config.auth.is_some()));
    match exposed.into_iter().next() {
        Some(exposed) => Err(exposed).context("an address of the command line is refused"),
        None => Ok(()),
    }
}

fn audit_log(config: &Config) -> anyhow::Result<AuditLog> {
    let Some(file) = &config.audit else { return Ok(AuditLog::default()) };
    let settings =
        AuditFile { path: file.path.clone(), bytes_max: file.bytes_max, files_max: file.files_max };
    AuditLog::open(Some(settings))
        .with_context(|| format!("cannot open the audit log {}", file.path.display()))
}

async fn rehearsal(options: &Options, tasks: &Tasks) -> anyhow::Result<Option<Simulator>> {
    if options.config.is_some() {
        return Ok(None);
    }
    let script = match &options.script {
        Some(path) => {
            let text = std::fs::read_to_string(path)
                .with_context(|| format!("cannot read {}", path.display()))?;
            Script::parse(&text, &path.display().to_string())?
        }
        None => Script::parse(REHEARSAL_SCRIPT, "built-in rehearsal script")?,
    };
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let simulator = Simulator::bind(script, address, tasks).await?;
    Ok(Some(simulator))
}

/// Atomically, so that who waits for the file never reads half an address.
fn write_address(path: &Path, address: SocketAddr) -> anyhow::Result<()> {
    let temporary = path.with_extension("tmp");
    std::fs::write(&temporary, format!("{address}\n"))
        .and_then(|()| std::fs::rename(&temporary, path))
        .with_context(|| format!("cannot write {}", path.display()))
}

fn reflection() -> tonic_reflection::server::Builder<'static> {
    tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(pb::DESCRIPTORS)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
}

fn reflection_v1(
    on: bool,
) -> anyhow::Result<Option<v1::ServerReflectionServer<impl v1::ServerReflection>>> {
    Ok(if on { Some(reflection().build_v1()?) } else { None })
}

/// What most tools in the field still ask for.
fn reflection_v1alpha(
    on: bool,
) -> anyhow::Result<Option<v1alpha::ServerReflectionServer<impl v1alpha::ServerReflection>>> {
    Ok(if on { Some(reflection().build_v1alpha()?) } else { None })
}

/// Warnings and errors of documents, counted.
pub fn counts(reports: &[Report]) -> HashMap<Severity, usize> {
    let mut counts = HashMap::new();
    for problem in reports.iter().flat_map(|report| &report.problems.0) {
        *counts.entry(problem.severity).or_default() += 1;
    }
    counts
}
