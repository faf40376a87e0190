//! Seeing it: traces to OTLP, logs to standard error.
//!
//! Everything about a run is exported from its record (`spans`); the `tracing` facade carries logs
//! and the spans of the control plane, where cost does not matter.

pub mod names;
pub mod redact;
pub mod spans;
pub mod trace;

use std::sync::Arc;
use std::time::Duration;

use opentelemetry::KeyValue;
use opentelemetry::trace::TracerProvider as _;
use opentelemetry_otlp::{SpanExporter, WithExportConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{
    BatchConfigBuilder, BatchSpanProcessor, SdkTracerProvider, SpanProcessor,
};
use tracing_subscriber::filter::{EnvFilter, filter_fn};
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;

use trace::{Shared, Tracer};

/// Target of the spans that the control plane makes.
pub const CONTROL_TARGET: &str = "mainstay::control";

/// What to set up.
#[derive(Debug, Clone)]
pub struct TelemetrySettings {
    /// OTLP/gRPC endpoint; `None` for no traces.
    pub otlp_endpoint: Option<String>,
    /// `service.name`.
    pub service_name: String,
    /// Further resource attributes.
    pub resource: Vec<(String, String)>,
    /// Share of new traces that is recorded, 0 to 1.
    pub sample_ratio: f64,
    /// Log filter, `info` or `mainstay=debug` for example; `None` for no logs.
    pub log_filter: Option<String>,
    /// Logs as JSON lines.
    pub log_json: bool,
}

/// Telemetry that cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// The exporter refuses its settings.
    #[error("the OTLP exporter cannot be set up for {endpoint}")]
    Exporter {
        /// Endpoint as configured.
        endpoint: String,
        /// What it said.
        #[source]
        source: opentelemetry_otlp::ExporterBuildError,
    },
}

/// Telemetry that runs; keep it and shut it down last.
#[derive(Debug, Default)]
pub struct Telemetry {
    tracer: Tracer,
    provider: Option<SdkTracerProvider>,
}

impl Telemetry {
    /// The tracer for runs.
    pub fn tracer(&self) -> Tracer {
        self.tracer.clone()
    }

    /// Sends what is queued and stops, within about five seconds. Blocks.
    pub fn shutdown(self) {
        if let Some(provider) = self.provider
            && let Err(error) = provider.shutdown_with_timeout(Duration::from_secs(5))
        {
            tracing::warn!(%error, "some spans were not delivered before the end");
        }
    }
}

/// Sets up logs and traces. Must be called inside the runtime, once a process (a second call keeps
/// the first one's log settings).
///
/// # Errors
/// See [`TelemetryError`].
pub fn start(settings: &TelemetrySettings) -> Result<Telemetry, TelemetryError> {
    let telemetry = match &settings.otlp_endpoint {
        Some(endpoint) => traces(settings, endpoint)?,
        None => Telemetry::default(),
    };
    let otel = telemetry.provider.as_ref().map(|provider| {
        tracing_opentelemetry::layer()
            .with_location(false)
            .with_threads(false)
            .with_target(false)
            .with_tracked_inactivity(false)
            .with_tracer(provider.tracer(names::SCOPE))
            .with_filter(filter_fn(|metadata| {
                metadata.is_span() && metadata.target() == CONTROL_TARGET
            }))
    });
    let logs = settings.log_filter.as_deref().map(|filter| {
        let filter = EnvFilter::try_new(filter).unwrap_or_else(|_| EnvFilter::new("info"));
        // Log lines are built from our own words only; control characters are escaped by the
        // formatter.
        let layer = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
        if settings.log_json {
            layer.json().with_filter(filter).boxed()
        } else {
            layer.with_target(false).with_filter(filter).boxed()
        }
    });
    let _ = tracing_subscriber::registry().with(otel).with(logs).try_init();
    Ok(telemetry)
}

fn traces(settings: &TelemetrySettings, endpoint: &str) -> Result<Telemetry, TelemetryError> {
    let exporter = SpanExporter::builder()
        .with_tonic()
        .with_endpoint(endpoint)
        .with_timeout(Duration::from_secs(10))
        .build()
        .map_err(|source| TelemetryError::Exporter { endpoint: endpoint.to_owned(), source })?;
    let attributes = settings.resource.iter().map(|(k, v)| KeyValue::new(k.clone(), v.clone()));
    let resource = Resource::builder()
        .with_service_name(settings.service_name.clone())
        .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
        .with_attributes(attributes)
        .build();
    let config = BatchConfigBuilder::default()
        .with_max_queue_size(4096)
        .with_max_export_batch_size(512)
        .with_scheduled_delay(Duration::from_secs(1))
        .build();
    let mut processor = BatchSpanProcessor::builder(exporter).with_batch_config(config).build();
    processor.set_resource(&resource);
    let processor = Arc::new(processor);
    let provider = SdkTracerProvider::builder()
        .with_resource(resource)
        .with_span_processor(Shared(processor.clone()))
        .build();
    Ok(Telemetry {
        tracer: Tracer::new(processor, settings.sample_ratio),
        provider: Some(provider),
    })
}
