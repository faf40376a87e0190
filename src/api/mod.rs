//! gRPC: handlers are thin, and only here is a status made.

pub mod auth;
pub mod client;
mod context;
mod convert;
mod operations_service;
pub mod pb;
mod pipeline_service;
mod policy;
mod request;
pub mod server;
mod status;
mod streamed;
pub mod tls;
mod watched;

pub use context::DeadlineLimits;
pub use operations_service::OperationsApi;
pub use pipeline_service::PipelineApi;
pub use policy::{Paced, PolicyApi};
