//! Mainstay runs LLM steps and pipelines for backend services, over gRPC, and recovers from what
//! goes wrong with them under hot-reloadable policies.
//!
//! A functional core and an imperative shell: see `ARCHITECTURE.md`. Start reading at
//! [`failure`], [`policy`] and [`engine`].
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

// The core: plain data and total functions.
pub mod document;
pub mod exchange;
pub mod expression;
pub mod failure;
pub mod journal;
pub mod output;
pub mod pipeline;
pub mod policy;
pub mod resilience;

// The shell: does things and decides nothing.
pub mod api;
pub mod app;
pub mod cli;
pub mod config;
pub mod control;
pub mod engine;
pub mod provider;
pub mod simulate;
pub mod store;
pub mod tasks;
pub mod telemetry;
