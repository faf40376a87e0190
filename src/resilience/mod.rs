//! Resilience: the figures and state machines that keep a struggling target from being hammered.
//!
//! Everything here is pure: time and randomness are arguments, nothing sleeps and nothing is
//! shared. The engine owns the state and asks.

pub mod adaptive;
pub mod backoff;
pub mod breaker;
pub mod budget;
pub mod cooldown;
pub mod fair_queue;
pub mod latency;
pub mod nearest;
pub mod pace;
pub mod pressure;
pub mod rate_limit;
pub mod select;
pub mod window;
