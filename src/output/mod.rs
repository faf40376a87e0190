//! The output contract of a step, and how a broken output is recovered.
//!
//! Two to five in a hundred model calls succeed and are useless. [`check`] holds a reply's text
//! against its [`Contract`] and says what it is worth, in one of four verdicts that are never
//! mixed up: *clean* (as the model wrote it), *repaired* (only what leaves one reading was
//! changed), *lossy* (a value is there, but something was cut, dropped, picked or guessed) and
//! *failed*. Every change is named with its place; a value is never completed, rounded, clamped
//! or made up.
//!
//! The trap that all of this avoids: text that was cut off and text that lacks a bracket are the
//! same text. So whatever had to be closed is lossy, always, and only the caller's policy may
//! accept it.
//!
//! All of it is pure and total, linear in the length of the text (a step budget bounds the work
//! of every guess), without recursion over the input, and silent about values: no type here
//! prints what the model wrote.

mod budget;
mod change;
mod check;
mod choose;
mod coerce;
mod contract;
mod decode;
mod extract;
mod fallback;
mod fence;
mod join;
mod partial;
mod prepare;
mod prune;
mod reader;
mod reasoning;
mod recover;
mod reprompt;
mod schema;
mod strict;

pub use change::{Change, ChangeKind, Changes, Place};
pub use check::{Checked, Verdict, check};
pub use contract::{Contract, ContractOptions};
pub use fence::strip_fences;
pub use join::join;
pub use partial::{Partial, PartialRefused, PartialTerms, accept_partial};
pub use reprompt::{
    Reprompt, RepromptLimits, continuation, estimate_message_tokens, estimate_tokens, reprompt,
};
pub use schema::{SchemaError, VIOLATIONS_MAX};
pub use strict::DEPTH_MAX;
