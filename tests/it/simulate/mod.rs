//! The simulated provider over real sockets.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod connection;
mod dialects;
mod harness;
mod life;
mod output;
mod rehearsal;
mod replies;
mod streams;
