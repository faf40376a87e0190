//! Resilience: the figures and state machines that keep a struggling target from being hammered.
//!
//! Everything here is pure: time and randomness are arguments, nothing sleeps and nothing is
//! shared. The engine owns the state and asks.

pub mod backoff;
