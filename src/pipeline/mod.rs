//! Pipelines: what is written, what it means, and what a step says to a model.
//!
//! `document` holds the written form and `spec` the meaning; `compile` is the only way from one to
//! the other and notes every mistake. What templates and expressions can see is a [`Scope`]. All of
//! it is pure: the engine asks which steps are ready, renders their messages and does the rest.

mod compile;
mod compile_step;
mod digest;
pub mod document;
mod findings;
mod graph;
mod judge;
mod prompt;
mod schema;
mod scope;
mod spec;
mod template;

pub use compile::{Known, SHAPE, STEPS_MAX, compile, compile_step};
pub use document::RawStep as StepDraft;
pub use findings::FieldProblem;
pub use judge::Judgement;
pub use prompt::{MessageTemplate, Prompt};
pub use schema::Schema;
pub use scope::{Element, Scope, StepView};
pub use spec::{
    AskProvider, Confidence, ForEach, OnElementFailure, OutputSelect, OutputSpec, Pipeline, Rule,
    RuleSeverity, Step, Verifier,
};
pub use template::TemplateError;

#[cfg(test)]
mod tests;
