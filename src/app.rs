//! The service as a whole: read, check, bind, serve, drain. In this order, so that a mistake in a
//! file stops the start before any port is bound.

mod cache;
mod prepare;
mod secrets;
mod targets;
mod tls;

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use tokio::net::TcpListener;
use tonic::codec::CompressionEncoding;
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;
use tonic_reflection::server::{v1, v1alpha};

use crate::api::auth::Authenticator;
use crate::api::pb::operations_service_server::OperationsServiceServer;
use crate::api::pb::pipeline_service_server::PipelineServiceServer;
use crate::api::pb::policy_service_server::PolicyServiceServer;
use crate::api::tls::{Tls, TlsKeeper};
use crate::api::{DeadlineLimits, OperationsApi, Paced, PipelineApi, PolicyApi, pb, server};
use crate::config::{Config, Limits, TelemetryConfig};
use crate::control::Library;
use crate::control::audit::{AuditFile, AuditLog};
use crate::engine::admission::AdmissionSettings;
use crate::engine::alerts::Alerts;
use crate::engine::recorder::RecordLimits;
use crate::engine::{Engine, EngineSettings};
use crate::simulate::{Script, Simulator};
use crate::tasks::Tasks;
use crate::telemetry::{self, Telemetry, TelemetrySettings};

pub use prepare::{Broken, Prepared, Read, counts, prepare, read, render};

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
    /// Leave the store alone, so that a command can run beside the service that owns it.
    pub forgetful: bool,
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
    /// The library's writer, its watchers and its store; stopped after the listeners.
    documents: Tasks,
    drain: Duration,
}

impl Service {
    /// Reads, checks, binds and serves.
    ///
    /// # Errors
    /// See [`prepare`]; or an address that cannot be listened on.
    pub async fn start(options: &Options) -> anyhow::Result<Self> {
        let documents = Tasks::new();
        let started = Self::started(options, &documents).await;
        if started.is_err() {
            // The store is open by then, and another process may want it.
            documents.stop();
            documents.wait(Duration::from_secs(5)).await;
        }
        started
    }

    async fn started(options: &Options, documents: &Tasks) -> anyhow::Result<Self> {
        let listeners = Tasks::new();
        // A group of its own: calls that drain still need the simulator.
        let simulator = rehearsal(options, &Tasks::new()).await?;
        let read = read(options, simulator.as_ref().map(Simulator::addr))?;
        let Read { mut config, targets, documents: checker, authentication, embeddings, tls } =
            read;
        overlay(&mut config, options);
        refuse_exposure(&config)?;
        let audit = audit_log(&config)?;
        let alerts = Arc::<Alerts>::default();
        let keepers = (alerts.clone(), audit.clone());
        let (library, warnings) =
            prepare::library(options, &config, checker, keepers, documents).await?;
        let data = server::bind(config.data.address).await?;
        let control = server::bind(config.control.address).await?;
        let telemetry = telemetry::start(&telemetry_settings(&config, options.quiet))?;
        for report in &warnings {
            tracing::warn!(document = %report.origin, "{}", report.problems);
        }
        secrets::keep(&config, &targets, embeddings.as_ref(), alerts.clone(), documents);
        let runs = Tasks::new();
        let cache = cache::cache(&config, embeddings, &alerts, documents).await;
        let engine = Engine::new(EngineSettings {
            targets,
            documents: library.active().clone(),
            alerts: alerts.clone(),
            default_policy: config.default_policy.clone(),
            admission: admission(&config.limits),
            runs_remembered: config.limits.runs_remembered,
            cache,
            record: recorded(&config.limits),
            run_timeout: config.limits.run_timeout,
            stream_stall: config.limits.stream_stall,
            tracer: telemetry.tracer(),
            tasks: runs.clone(),
        });
        watch(&engine, config.limits.memory_bytes_max, &listeners);
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
            documents: documents.clone(),
            drain: config.limits.drain,
        };
        let (authenticator, of_data) = (&authentication.authenticator, library.clone());
        let [data_tls, control_tls] = &tls;
        let data = (data, data_tls.as_ref().map(TlsKeeper::tls));
        service.serve_data(&config, authenticator, of_data, data).await?;
        let control = (control, control_tls.as_ref().map(TlsKeeper::tls));
        service.serve_control(&config, authenticator, library, control).await?;
        for (listener, keeper) in ["data", "control"].into_iter().zip(tls) {
            if let Some(keeper) = keeper {
                tls::keep(listener, keeper, alerts.clone(), &service.listeners);
            }
        }
        authentication.keep_fresh(alerts, &service.listeners);
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
        library: Library,
        (listener, tls): (TcpListener, Option<Tls>),
    ) -> anyhow::Result<()> {
        let limits = &config.limits;
        let deadlines =
            DeadlineLimits { default: limits.default_deadline, cap: limits.deadline_cap };
        let service = PipelineApi::new(self.engine.clone(), library, deadlines);
        let service = PipelineServiceServer::new(service)
            .accept_compressed(CompressionEncoding::Gzip)
            .max_decoding_message_size(limits.request_bytes_max)
            .max_encoding_message_size(limits.response_bytes_max);
        let (reporter, health) = tonic_health::server::health_reporter();
        reporter.set_serving::<PipelineServiceServer<PipelineApi>>().await;
        self.health.push(reporter);
        let mut server = server::builder(limits, authenticator);
        let router = server
            .add_service(health)
            .add_optional_service(reflection_v1(config.reflection)?)
            .add_optional_service(reflection_v1alpha(config.reflection)?)
            .add_service(service);
        let (stop, most) = (self.listeners.clone(), limits.connections_max);
        self.listeners.spawn(async move {
            let connections = server::connections(listener, most, tls, stop.clone());
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
        library: Library,
        (listener, tls): (TcpListener, Option<Tls>),
    ) -> anyhow::Result<()> {
        let limits = &config.limits;
        let policy = PolicyApi::new(library.clone(), self.engine.clone(), self.listeners.clone());
        let policy = PolicyServiceServer::new(policy).max_decoding_message_size(2 << 20);
        let policy = Paced::new(policy, library);
        let (engine, audit) = (self.engine.clone(), self.audit.clone());
        let operations = OperationsApi::new(engine, audit, self.listeners.clone());
        let operations = OperationsServiceServer::new(operations);
        let (reporter, health) = tonic_health::server::health_reporter();
        reporter.set_serving::<PolicyServiceServer<PolicyApi>>().await;
        reporter.set_serving::<OperationsServiceServer<OperationsApi>>().await;
        self.health.push(reporter);
        let mut server = server::builder(limits, authenticator);
        let router = server
            .add_service(health)
            .add_optional_service(reflection_v1(config.reflection)?)
            .add_optional_service(reflection_v1alpha(config.reflection)?)
            .add_service(policy)
            .add_service(operations);
        let (stop, most) = (self.listeners.clone(), limits.connections_max);
        self.listeners.spawn(async move {
            let connections = server::connections(listener, most, tls, stop.clone());
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
        self.runs.stop();
        for run in self.engine.runs().running() {
            run.cancel.cancel();
        }
        self.runs.wait(Duration::from_secs(5)).await;
        self.documents.stop();
        if !self.documents.wait(Duration::from_secs(5)).await {
            tracing::error!("the store did not close in time");
        }
        self.audit.close().await;
        if let Some(simulator) = self.simulator {
            simulator.stop().await;
        }
        let telemetry = self.telemetry;
        let flushed = self.runs.spawn_blocking(move || telemetry.shutdown());
        let _ = tokio::time::timeout(Duration::from_secs(6), flushed).await;
    }
}

/// The command line may have put a listener where the configuration would not have.
/// What the command line says over the configuration's word.
fn overlay(config: &mut Config, options: &Options) {
    config.data.address = options.data_address.unwrap_or(config.data.address);
    config.control.address = options.control_address.unwrap_or(config.control.address);
    if options.forgetful {
        config.cache.durable = None;
    }
}

fn telemetry_settings(config: &Config, quiet: bool) -> TelemetrySettings {
    let TelemetryConfig { otlp_endpoint, service_name, resource, sample_ratio, log, log_json } =
        config.telemetry.clone();
    let log_filter = (!quiet).then_some(log);
    TelemetrySettings { otlp_endpoint, service_name, resource, sample_ratio, log_filter, log_json }
}

fn admission(limits: &Limits) -> AdmissionSettings {
    AdmissionSettings {
        runs_max: limits.runs_max,
        runs_per_caller_max: limits.runs_per_caller_max,
        queue_max: limits.runs_queue_max,
        queue_timeout: limits.runs_queue_timeout,
    }
}

fn recorded(limits: &Limits) -> RecordLimits {
    RecordLimits { failures: limits.failures_recorded, bytes: limits.failures_recorded_bytes }
}

/// What the engine does beside its runs, until the listeners stop.
fn watch(engine: &Engine, memory_bytes_max: Option<u64>, listeners: &Tasks) {
    let watching = engine.clone();
    listeners.spawn_until_stopped(async move { watching.settle_alerts().await });
    let watching = engine.clone();
    listeners.spawn_until_stopped(async move { watching.watch_memory(memory_bytes_max).await });
}

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
