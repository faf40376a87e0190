//! What a step says about an output that already has the right form: its rules, how sure it has to
//! be, and whether a verifier's verdict accepts it.
//!
//! An expression that has no value here says nothing about the output. It is a failure of the
//! pipeline's logic, with its own cause, and never a pass.

use serde_json::Value;

use super::scope::Scope;
use super::spec::{Confidence, Rule, RuleSeverity, Step, Verifier, failed};
use crate::expression::{Expression, ExpressionError, Variable, boolean};
use crate::failure::{Failure, FailureCause, Violation};

/// What is told about an output that passed.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Judgement {
    /// Broken rules of the severity `warning`.
    pub warnings: Vec<Violation>,
    /// How sure the output is, where the step says how to tell.
    pub confidence: Option<f64>,
}

impl Step {
    /// Holds an output against rules and confidence; `scope` has the output.
    ///
    /// # Errors
    /// `rule_violation` with every broken rule, else `low_confidence`; `missing_input` or
    /// `template_error` where an expression has no value.
    pub fn judge(&self, scope: &Scope<'_>) -> Result<Judgement, Failure> {
        let mut judgement = Judgement::default();
        if self.rules.is_empty() && self.confidence.is_none() {
            return Ok(judgement);
        }
        let variables = scope.variables();
        let mut broken = Vec::new();
        for (index, rule) in self.rules.iter().enumerate() {
            let what = format!("rule {}", index + 1);
            let holds = rule.check.evaluate_in(&variables).and_then(boolean);
            if holds.map_err(|error| unjudged(&what, &error))? {
                continue;
            }
            match rule.severity {
                RuleSeverity::Error => broken.push(violation(rule)),
                RuleSeverity::Warning => judgement.warnings.push(violation(rule)),
            }
        }
        if !broken.is_empty() {
            return Err(rule_violation(broken));
        }
        if let Some(confidence) = &self.confidence {
            judgement.confidence = Some(sure(confidence, &variables)?);
        }
        Ok(judgement)
    }
}

impl Verifier {
    /// Whether the verdict accepts the output; `scope` has both.
    ///
    /// # Errors
    /// `rule_violation` with the detail `verifier_rejected`; `missing_input` or `template_error`
    /// where the condition has no value.
    pub fn accepts(&self, scope: &Scope<'_>) -> Result<(), Failure> {
        let accepted = self.accept.evaluate_in(&scope.variables()).and_then(boolean);
        if accepted.map_err(|error| unjudged("the verifier's `accept`", &error))? {
            return Ok(());
        }
        let message = format!("the verifier `{}` does not accept the output", self.step.name);
        let mut failure = Failure::new(FailureCause::RuleViolation, message.clone());
        failure.violations = vec![Violation { path: String::new(), message }];
        Err(failure.with_detail("verifier_rejected"))
    }
}

fn unjudged(what: &str, error: &ExpressionError) -> Failure {
    failed(what, error).with_detail("output_not_judged")
}

fn rule_violation(broken: Vec<Violation>) -> Failure {
    let more = match broken.len() {
        1 => String::new(),
        count => format!(" (and {} more)", count - 1),
    };
    let first = broken.first().map(|violation| violation.message.as_str()).unwrap_or_default();
    let message = format!("the output breaks a rule: {first}{more}");
    Failure { violations: broken, ..Failure::new(FailureCause::RuleViolation, message) }
}

fn violation(rule: &Rule) -> Violation {
    Violation { path: place(&rule.check), message: rule.message.to_string() }
}

/// The member that an expression is about: a JSON Pointer where it reads one member of the output
/// and no other, else the whole.
fn place(expression: &Expression) -> String {
    let mut members = expression.reads();
    members.retain(|read| read.first() == Some(&"output"));
    members.dedup();
    match members.as_slice() {
        [read] => read.iter().skip(1).fold(String::new(), |path, name| {
            path + "/" + &name.replace('~', "~0").replace('/', "~1")
        }),
        [] | [_, _, ..] => String::new(),
    }
}

/// How sure the output is, if that is enough.
fn sure(confidence: &Confidence, variables: &[(&str, Variable<'_>)]) -> Result<f64, Failure> {
    let value = confidence.expression.evaluate_in(variables).and_then(|value| match value {
        Value::Number(number) => {
            number.as_f64().ok_or(ExpressionError::Range("the number is out of range"))
        }
        Value::Null | Value::Bool(_) | Value::String(_) | Value::Array(_) | Value::Object(_) => {
            Err(ExpressionError::Type("expected a number".to_owned()))
        }
    });
    let value = value.map_err(|error| unjudged("`confidence`", &error))?;
    // Written so that what cannot be compared is not enough.
    if value >= confidence.minimum {
        return Ok(value);
    }
    let message = format!("the output's confidence is below {}", confidence.minimum);
    let mut failure = Failure::new(FailureCause::LowConfidence, message.clone());
    failure.violations = vec![Violation { path: place(&confidence.expression), message }];
    Err(failure)
}
