//! The service through its API, on loopback, against the simulated provider; and the tables of
//! cases. One binary: it links once.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod support;

mod access;
mod bad_input;
mod cache;
mod cache_durable;
mod cache_semantic;
mod cases_backoff;
mod cases_breaker;
mod cases_budget;
mod cases_failures;
mod cases_outputs;
mod cli;
mod control;
mod events_properties;
mod groups;
mod hedges;
mod hostile_documents;
mod outputs_checks;
mod outputs_properties;
mod outputs_recovery;
mod pipelines;
mod policy_cli;
mod real_peers;
mod resilience;
mod simulate;
mod steps;
mod stream_continued;
mod stream_limits;
mod streams;
mod tidy;
mod traces;
