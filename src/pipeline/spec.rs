//! A pipeline as it is meant. Whatever is here has been checked: names exist, expressions and
//! templates compile, the order is possible.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value};

use super::prompt::Prompt;
use super::schema::Schema;
use super::scope::Scope;
use crate::exchange::{Message, ResponseFormat, Sampling, Tool, ToolChoice};
use crate::expression::{Expression, ExpressionError, boolean, list};
use crate::failure::{Failure, FailureCause, Violation};

/// A pipeline.
#[derive(Debug, Clone)]
pub struct Pipeline {
    /// Its name.
    pub name: Arc<str>,
    /// What it is for.
    pub description: Option<Arc<str>>,
    /// The policy that its runs follow; `None` is the server's default.
    pub policy: Option<Arc<str>>,
    /// Longest time of a run.
    pub run_timeout: Option<Duration>,
    /// The steps, each after all that it needs, otherwise as in the document.
    pub steps: Vec<Step>,
    /// What a run gives back.
    pub output: OutputSelect,
    /// What the input has to satisfy.
    pub input_schema: Option<Schema>,
    /// Labels of every run.
    pub labels: BTreeMap<String, String>,
    pub(super) digest: Arc<str>,
}

/// What a run gives back.
#[derive(Debug, Clone, PartialEq)]
pub enum OutputSelect {
    /// The output of the step at this place.
    Step(usize),
    /// An object with these members, in order.
    Members(Vec<(String, Expression)>),
}

/// A step.
#[derive(Debug, Clone)]
pub struct Step {
    /// Its name.
    pub name: Arc<str>,
    /// Targets or groups: the asked one first, then the fallbacks. Empty is the server's default.
    pub targets: Vec<Arc<str>>,
    /// Places of the steps that it needs.
    pub needs: Vec<usize>,
    /// Places of every step that is done before it, directly needed or not, in order.
    pub ancestors: Vec<usize>,
    /// Whether it runs at all.
    pub when: Option<Expression>,
    /// The list that it goes over.
    pub for_each: Option<ForEach>,
    /// Its messages.
    pub prompt: Prompt,
    /// Tools that may be called.
    pub tools: Vec<Tool>,
    /// Which of them.
    pub tool_choice: ToolChoice,
    /// Sampling options.
    pub sampling: Sampling,
    /// What a usable output is.
    pub output: OutputSpec,
    /// Business rules.
    pub rules: Vec<Rule>,
    /// How sure the output has to be.
    pub confidence: Option<Confidence>,
    /// JSON Pointers of members that a partial output may not lack.
    pub mandatory: Vec<Arc<str>>,
    /// The judge of the output.
    pub verifier: Option<Box<Verifier>>,
    /// The output of last resort.
    pub template_output: Option<Arc<Value>>,
    /// Longest time with all attempts.
    pub timeout: Option<Duration>,
    /// Longest time of one attempt.
    pub attempt_timeout: Option<Duration>,
    /// Most provider calls, the first included.
    pub max_attempts: Option<u32>,
    /// Most that all attempts may cost.
    pub max_cost_usd: Option<f64>,
    /// Members laid over the provider's request.
    pub extra: Map<String, Value>,
    pub(super) digest: Arc<str>,
    pub(super) digest_without_prompt: [u8; 32],
}

/// The list that a step goes over.
#[derive(Debug, Clone, PartialEq)]
pub struct ForEach {
    /// Gives the list.
    pub items: Expression,
    /// Elements at work at the same time, 1 to 64.
    pub parallelism: usize,
    /// What a failed element does.
    pub on_element_failure: OnElementFailure,
    /// Longest list.
    pub max_items: usize,
}

/// What a failed element of a list does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnElementFailure {
    /// Fails the step and stops its siblings.
    Fail,
    /// Leaves null in its place.
    Skip,
    /// Leaves `{error}` in its place.
    Collect,
}

/// What a usable output is.
#[derive(Debug, Clone, PartialEq)]
pub enum OutputSpec {
    /// Text that is not empty.
    Text {
        /// Fewest characters.
        min_chars: Option<usize>,
        /// Most characters.
        max_chars: Option<usize>,
    },
    /// JSON.
    Json {
        /// What it has to satisfy; without one, any JSON value.
        schema: Option<Schema>,
        /// The schema's name for the provider.
        name: String,
        /// What is asked of the provider.
        ask_provider: AskProvider,
    },
}

impl OutputSpec {
    /// Whether a fixed output is an answer of the step: whether its schema takes it.
    pub fn takes(&self, value: &Value) -> bool {
        match self {
            Self::Json { schema: Some(schema), .. } => schema.violations(value).is_empty(),
            Self::Json { schema: None, .. } | Self::Text { .. } => true,
        }
    }
}

/// What is asked of the provider so that JSON comes back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AskProvider {
    /// Enforcement of the schema.
    Schema,
    /// JSON mode.
    Json,
    /// Nothing.
    Nothing,
}

/// A business rule over `output`, `input`, `steps`, `skipped` and `run`.
#[derive(Debug, Clone, PartialEq)]
pub struct Rule {
    /// Holds for a usable output.
    pub check: Expression,
    /// What is wrong where it does not.
    pub message: Arc<str>,
    /// Whether the output is unusable then.
    pub severity: RuleSeverity,
}

/// What a broken rule does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RuleSeverity {
    /// The output is unusable.
    Error,
    /// The output carries a warning.
    Warning,
}

/// How sure an output has to be.
#[derive(Debug, Clone, PartialEq)]
pub struct Confidence {
    /// Gives a number.
    pub expression: Expression,
    /// Its least value.
    pub minimum: f64,
}

/// The judge of an output.
#[derive(Debug, Clone)]
pub struct Verifier {
    /// The judging step; its prompt also sees `output`.
    pub step: Step,
    /// Accepts; also sees `output` and `verdict`.
    pub accept: Expression,
}

impl Pipeline {
    /// Place of the step of this name.
    pub fn step_index(&self, name: &str) -> Option<usize> {
        self.steps.iter().position(|step| &*step.name == name)
    }

    /// Steps that are not done and whose needs are all done. Running ones are the caller's to leave
    /// out.
    pub fn ready<'a>(&'a self, done: &'a [bool]) -> impl Iterator<Item = usize> + 'a {
        let is_done = |index: usize| done.get(index) == Some(&true);
        self.steps.iter().enumerate().filter_map(move |(index, step)| {
            let ready = !is_done(index) && step.needs.iter().all(|need| is_done(*need));
            ready.then_some(index)
        })
    }

    /// Steps that need this one, directly or not: what a failure of it stops.
    pub fn dependents(&self, step: usize) -> impl Iterator<Item = usize> + '_ {
        let needs =
            move |(index, other): (usize, &Step)| other.ancestors.contains(&step).then_some(index);
        self.steps.iter().enumerate().filter_map(needs)
    }

    /// SHA-256 in hex of the pipeline as written, order of keys aside.
    pub fn digest(&self) -> &str {
        &self.digest
    }

    /// Holds an input against the input schema.
    ///
    /// # Errors
    /// `invalid_request` with the violations by path.
    pub fn check_input(&self, input: &Value) -> Result<(), Failure> {
        let violations: Vec<Violation> =
            self.input_schema.as_ref().map(|schema| schema.violations(input)).unwrap_or_default();
        if violations.is_empty() {
            return Ok(());
        }
        let text = "the input does not satisfy the pipeline's input schema";
        let mut failure = Failure::new(FailureCause::InvalidRequest, text);
        failure.violations = violations;
        Err(failure.with_detail("input_schema"))
    }

    /// The run's output once every step is done. `scope` holds all steps.
    ///
    /// # Errors
    /// `missing_input` or `template_error` where an expression of `output` has no value.
    pub fn result(&self, scope: &Scope<'_>) -> Result<Value, Failure> {
        match &self.output {
            OutputSelect::Step(step) => {
                let name = self.steps.get(*step).map(|step| &step.name);
                let view = scope.steps.iter().find(|view| name.is_some_and(|n| **n == *view.name));
                Ok(view.map_or(Value::Null, |view| view.output.clone()))
            }
            OutputSelect::Members(members) => {
                let variables = scope.variables();
                let mut result = Map::new();
                for (name, expression) in members {
                    let value = expression
                        .evaluate_in(&variables)
                        .map_err(|error| failed(&format!("output `{name}`"), &error))?;
                    result.insert(name.clone(), value);
                }
                Ok(Value::Object(result))
            }
        }
    }
}

impl Step {
    /// SHA-256 in hex of the step as written, order of keys aside.
    pub fn digest(&self) -> &str {
        &self.digest
    }

    /// SHA-256 of everything about the step but its prompt.
    pub const fn digest_without_prompt(&self) -> &[u8; 32] {
        &self.digest_without_prompt
    }

    /// Whether the step runs, by its `when`.
    ///
    /// # Errors
    /// `missing_input` or `template_error` where the condition has no boolean value.
    pub fn runs(&self, scope: &Scope<'_>) -> Result<bool, Failure> {
        let Some(when) = &self.when else { return Ok(true) };
        when.evaluate_in(&scope.variables())
            .and_then(boolean)
            .map_err(|error| failed("`when`", &error))
    }

    /// The elements that the step goes over; `None` if it runs once.
    ///
    /// # Errors
    /// `missing_input` or `template_error` where there is no list, `invalid_request` where it is
    /// longer than `max_items`.
    pub fn elements(&self, scope: &Scope<'_>) -> Result<Option<Vec<Value>>, Failure> {
        let Some(for_each) = &self.for_each else { return Ok(None) };
        let items = for_each
            .items
            .evaluate_in(&scope.variables())
            .and_then(list)
            .map_err(|error| failed("`for_each`", &error))?;
        if items.len() > for_each.max_items {
            let message = format!(
                "`for_each` gives {} elements; at most {} are allowed",
                items.len(),
                for_each.max_items
            );
            let failure = Failure::new(FailureCause::InvalidRequest, message);
            return Err(failure.with_detail("too_many_items"));
        }
        Ok(Some(items))
    }

    /// The messages for one attempt; see [`Prompt::render`].
    ///
    /// # Errors
    /// As [`Prompt::render`].
    pub fn messages(&self, scope: &Scope<'_>) -> Result<Vec<Message>, Failure> {
        self.prompt.render(scope)
    }

    /// How the answer is asked for.
    pub fn response_format(&self) -> ResponseFormat {
        match &self.output {
            OutputSpec::Text { .. }
            | OutputSpec::Json { ask_provider: AskProvider::Nothing, .. } => ResponseFormat::Text,
            OutputSpec::Json { schema: Some(schema), name, ask_provider: AskProvider::Schema } => {
                ResponseFormat::JsonSchema {
                    name: name.clone(),
                    schema: schema.source().clone(),
                    strict: true,
                }
            }
            OutputSpec::Json { .. } => ResponseFormat::Json,
        }
    }
}

/// The failure of a step whose expression has no value.
pub(super) fn failed(what: &str, error: &ExpressionError) -> Failure {
    let cause = match error {
        ExpressionError::Missing(_) => FailureCause::MissingInput,
        ExpressionError::Refused { .. }
        | ExpressionError::Type(_)
        | ExpressionError::Range(_)
        | ExpressionError::TooCostly(_) => FailureCause::TemplateError,
    };
    Failure::new(cause, format!("{what}: {error}"))
}
