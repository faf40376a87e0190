//! An OTLP/gRPC collector that keeps what it gets.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use mainstay::tasks::Tasks;
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::Span;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status};

#[derive(Clone, Default)]
struct Sink(Arc<Mutex<Vec<Span>>>);

#[tonic::async_trait]
impl TraceService for Sink {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let spans = request
            .into_inner()
            .resource_spans
            .into_iter()
            .flat_map(|resource| resource.scope_spans)
            .flat_map(|scope| scope.spans);
        self.0.lock().unwrap().extend(spans);
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

/// The collector.
pub struct Collector {
    sink: Sink,
    tasks: Tasks,
    pub endpoint: String,
}

impl Collector {
    pub async fn start() -> Self {
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let listener = tokio::net::TcpListener::bind(any).await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let (sink, tasks) = (Sink::default(), Tasks::new());
        let server = tonic::transport::Server::builder()
            .add_service(TraceServiceServer::new(sink.clone()))
            .serve_with_incoming(TcpListenerStream::new(listener));
        tasks.spawn_until_stopped(async move {
            server.await.unwrap();
        });
        Self { sink, tasks, endpoint }
    }

    /// Spans so far.
    pub fn spans(&self) -> Vec<Span> {
        self.sink.0.lock().unwrap().clone()
    }

    /// Waits until a span is there that fits, at most ten seconds, and returns all of its trace.
    pub async fn trace_with(&self, fits: impl Fn(&Span) -> bool) -> Vec<Span> {
        let wait = async {
            loop {
                let spans = self.spans();
                if let Some(found) = spans.iter().find(|span| fits(span)) {
                    let id = found.trace_id.clone();
                    return spans.into_iter().filter(|span| span.trace_id == id).collect();
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        match tokio::time::timeout(Duration::from_secs(10), wait).await {
            Ok(spans) => spans,
            Err(_) => panic!("no such span came; {} others did", self.spans().len()),
        }
    }

    pub fn stop(self) {
        self.tasks.stop();
    }
}

/// An attribute of a span as text.
pub fn attribute(span: &Span, key: &str) -> Option<String> {
    text_of(&span.attributes, key)
}

/// An attribute among others as text.
pub fn text_of(attributes: &[KeyValue], key: &str) -> Option<String> {
    let found = attributes.iter().find(|pair| pair.key == key)?;
    match found.value.as_ref()?.value.as_ref()? {
        Value::StringValue(text) => Some(text.clone()),
        Value::IntValue(number) => Some(number.to_string()),
        Value::BoolValue(yes) => Some(yes.to_string()),
        Value::DoubleValue(number) => Some(number.to_string()),
        Value::ArrayValue(array) => {
            let texts = array.values.iter().filter_map(|value| match value.value.as_ref()? {
                Value::StringValue(text) => Some(text.clone()),
                _ => None,
            });
            Some(texts.collect::<Vec<_>>().join(","))
        }
        _ => None,
    }
}
