//! The last layers of a step's judgement: rules and confidence over an output, and the verifier, a
//! step of its own on another target that looks at it.
//!
//! The verifier walks its own ladders: its retries, fallbacks and alerts are decided under its own
//! name. When it fails for good nothing is known against the output, so the step takes that failure
//! over as it is, but makes no further call because of it.

use std::pin::Pin;

use serde_json::Value;

use super::abandoned::Abandoned;
use super::checks::{Candidate, Unusable};
use super::events::RunEventKind;
use super::plan::PlannedStep;
use super::step::{self, StepContext, Walk};
use crate::failure::{Failure, FailureCause, Violation};
use crate::journal::{AttemptRecord, OutputBody, StepReport};
use crate::pipeline::Verifier;

impl Walk<'_, '_> {
    /// Holds a candidate against rules, confidence and verifier, in this order.
    pub(super) async fn judge(
        &mut self,
        mut candidate: Candidate,
        record: &mut AttemptRecord,
    ) -> Result<Candidate, Box<Unusable>> {
        let step = &self.cx.planned.step;
        let has_checks =
            !step.rules.is_empty() || step.confidence.is_some() || step.verifier.is_some();
        if !has_checks || !candidate.output.tool_calls.is_empty() {
            return Ok(candidate);
        }
        let value = candidate.output.body.to_value();
        let judged = step.judge(&self.cx.scope.with_output(&value));
        match judged {
            Ok(judgement) => {
                candidate.output.warnings.extend(judgement.warnings);
                candidate.output.confidence = judgement.confidence;
            }
            Err(failure) => return Err(rejected(failure, candidate)),
        }
        let (Some(verifier), Some(planned)) = (&step.verifier, &self.cx.planned.verifier) else {
            return Ok(candidate);
        };
        let report = self.verify(planned, &value, record.span_id).await;
        let verdict = self.verdict(verifier, &value, &report);
        self.history.record_cost(report.spend().cost_usd);
        candidate.verdict_degraded = report.degraded.is_some();
        record.verifications.push(report);
        match verdict {
            Ok(warnings) => {
                candidate.output.warnings.extend(warnings);
                Ok(candidate)
            }
            Err(Rejection::Of(failure)) => Err(rejected(failure, candidate)),
            Err(Rejection::VerifierFailed(unusable)) => Err(unusable),
        }
    }

    /// Runs the verifier over the output of the attempt with this span.
    async fn verify(&self, planned: &PlannedStep, output: &Value, of: u64) -> StepReport {
        let cx = StepContext {
            engine: self.cx.engine,
            run: self.cx.run,
            policy: self.cx.policy,
            planned,
            scope: self.cx.scope.with_output(output),
            element: self.cx.element,
            parent_span_id: of,
            until: self.until,
            // What the verifier writes is for nobody's eyes.
            outlet: None,
            abandoned: Abandoned::default(),
        };
        let report = boxed(&cx).await;
        self.cx.run.tell(|| RunEventKind::StepEnded(report.clone().into()));
        report
    }

    fn verdict(
        &self,
        verifier: &Verifier,
        output: &Value,
        report: &StepReport,
    ) -> Result<Vec<Violation>, Rejection> {
        let name = &verifier.step.name;
        let Some(verdict) = &report.output else {
            let mut failure = report.failure.clone().unwrap_or_else(|| {
                Failure::new(FailureCause::Internal, "it ended without a verdict")
            });
            failure.message = format!("the verifier `{name}` failed: {}", failure.message);
            failure.detail = failure.detail.or(Some("verifier_failed"));
            return Err(Rejection::VerifierFailed(Box::new(Unusable {
                ended_by_caller: report.ended_by_caller,
                halts_run: report.halts_run,
                of_verifier: true,
                ..failure.into()
            })));
        };
        let verdict = verdict.body.to_value();
        let scope = self.cx.scope.with_output(output).with_verdict(&verdict);
        verifier.accepts(&scope).map_err(Rejection::Of)?;
        Ok(match report.degraded {
            None => Vec::new(),
            Some(source) => {
                let message = format!(
                    "accepted by the verifier `{name}` on a verdict from: {}",
                    source.name()
                );
                vec![Violation { path: String::new(), message }]
            }
        })
    }
}

enum Rejection {
    /// The output is not accepted, or whether it is cannot be told.
    Of(Failure),
    /// There is no verdict.
    VerifierFailed(Box<Unusable>),
}

/// An output that has the right form and is refused. There is nothing to repair in it, and no part
/// of it that would fare better.
fn rejected(failure: Failure, candidate: Candidate) -> Box<Unusable> {
    let said = candidate.said.unwrap_or(match candidate.output.body {
        OutputBody::Text(text) | OutputBody::Json { text, .. } => text,
    });
    Box::new(Unusable { said: Some(said), ..failure.into() })
}

/// A step within a step: its future has to be behind a pointer, or it would contain itself.
fn boxed<'x>(cx: &'x StepContext<'_>) -> Pin<Box<dyn Future<Output = StepReport> + Send + 'x>> {
    Box::pin(step::run(cx))
}
