//! One attempt: through the gate, to the provider and back, judged.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use super::checks::{self, Candidate, Unusable};
use super::gates::Report;
use super::leave::{self, Leave};
use super::reask::{self, Reask};
use super::step::StepContext;
use super::stream::{self, StreamedCall};
use super::targets::Target;
use crate::exchange::{FinishReason, Message, ModelReply, ModelRequest, Outcome, ResponseFormat};
use crate::failure::{Failure, FailureCause};
use crate::journal::AttemptRecord;
use crate::provider::DecodeContext;
use crate::provider::transport::Call;
use crate::telemetry::trace;

/// What came of an attempt.
pub struct Attempted {
    /// What happened, for the record.
    pub record: AttemptRecord,
    /// The output, or what is wrong with it.
    pub result: Result<Candidate, Box<Unusable>>,
}

/// The record of an attempt that is about to be made.
pub(super) fn begin(target: &Target, number: u32, leave: Leave) -> AttemptRecord {
    AttemptRecord {
        number,
        target: target.name.clone(),
        started: SystemTime::now(),
        duration: Duration::ZERO,
        called: false,
        hedge: false,
        cancelled: None,
        span_id: trace::new_span_id(),
        time_to_first_chunk: None,
        usage: crate::exchange::Usage::default(),
        cost_usd: 0.0,
        response_id: None,
        response_model: None,
        finish: None,
        failure: None,
        decision: None,
        check: None,
        further: Vec::new(),
        verifications: Vec::new(),
        useful: false,
        panic: leave.is_panic,
    }
}

/// Notes what came of an attempt.
pub(super) fn settle(
    target: &Target,
    record: &mut AttemptRecord,
    began: Instant,
    result: &Result<Candidate, Box<Unusable>>,
) {
    record.duration = began.elapsed();
    if let Err(unusable) = result {
        record.usage += unusable.failure.usage;
        record.failure = Some(unusable.failure.clone());
    }
    record.cost_usd = target.price.cost(&record.usage);
}

/// A call that brought no reply.
pub(super) struct Unanswered {
    /// Why.
    pub(super) failure: Box<Failure>,
    /// True when the time of the run or of the caller ended it.
    pub(super) ended_by_caller: bool,
}

impl From<Failure> for Unanswered {
    fn from(failure: Failure) -> Self {
        Self { failure: Box::new(failure), ended_by_caller: false }
    }
}

fn refused(failure: Failure) -> Box<Unusable> {
    Box::new(failure.into())
}

/// Makes the call and checks what it brings.
pub(super) async fn go(
    cx: &StepContext<'_>,
    target: &Arc<Target>,
    messages: &[Message],
    asked: &Reask,
    leave: Leave,
    deadline: Instant,
    record: &mut AttemptRecord,
) -> Result<Candidate, Box<Unusable>> {
    let planned = cx.planned;
    // The rest of an answer is not shown as it comes: where it joins is found when it is whole.
    let outlet = cx.outlet.filter(|_| asked.continues.is_none());
    let request = request(cx, target, messages, asked, outlet.is_some());
    let body = target.dialect.encode(&request).map_err(|error| {
        refused(Failure::new(FailureCause::UnsupportedParameter, error.to_string()))
    })?;
    let answer = request.sampling.max_output_tokens;
    let ask = leave.ask(cx, body.len(), answer, deadline);
    let ticket = leave::admit(cx, target, ask, deadline).await.map_err(refused)?;
    let limit = planned.step.attempt_timeout.or(cx.policy.policy.execution.attempt_timeout);
    let limit = limit.unwrap_or(target.attempt_timeout);
    record.called = true;
    let call = Call {
        body: body.into(),
        stream: outlet.is_some(),
        traceparent: cx.run.trace.traceparent(record.span_id),
        deadline,
    };
    let began = Instant::now();
    let answered = match outlet {
        None => whole(target, call, limit).await,
        Some(outlet) => {
            let call = StreamedCall { target, outlet, call, limit, until: deadline };
            // Boxed, so that calls whose answer is read whole do not carry its size about.
            Box::pin(stream::call(call, record)).await
        }
    };
    let unanswered = answered.as_ref().err();
    let usage =
        answered.as_ref().map_or_else(|unanswered| unanswered.failure.usage, |reply| reply.usage);
    let output = ticket.settle(Report {
        failure: unanswered.map(|unanswered| &*unanswered.failure),
        ended_by_caller: unanswered.is_some_and(|unanswered| unanswered.ended_by_caller),
        first_token: record.time_to_first_chunk,
        total: began.elapsed(),
        tokens: Some(usage.input_tokens + usage.output_tokens).filter(|tokens| *tokens > 0),
    });
    let checked = match answered {
        Ok(reply) => {
            record.usage = reply.usage;
            record.finish = Some(finish_name(&reply.finish));
            record.response_id.clone_from(&reply.response_id);
            record.response_model.clone_from(&reply.model);
            checks::reply(cx, reply, asked).await
        }
        Err(Unanswered { failure, ended_by_caller: true }) => {
            return Err(Box::new(Unusable { ended_by_caller: true, ..Unusable::from(*failure) }));
        }
        Err(Unanswered { failure, ended_by_caller: false }) => {
            checks::failed(cx, *failure, asked).await
        }
    };
    leave::tell(output, &checked.result);
    record.check = checked.record;
    checked.result
}

/// One call whose answer is read whole.
async fn whole(target: &Target, mut call: Call, limit: Duration) -> Result<ModelReply, Unanswered> {
    let deadline = call.deadline;
    let own_deadline = Instant::now() + limit;
    call.deadline = own_deadline.min(deadline);
    let outcome = target.endpoint.call(call).await;
    judge(target, outcome).map_err(|failure| {
        let timed_out =
            failure.cause == FailureCause::RequestTimeout && failure.evidence.status.is_none();
        if timed_out && deadline <= own_deadline {
            let failure = failure.with_detail("caller_deadline");
            return Unanswered { ended_by_caller: true, ..failure.into() };
        }
        failure.into()
    })
}

fn request<'a>(
    cx: &StepContext<'a>,
    target: &'a Target,
    messages: &'a [Message],
    asked: &Reask,
    stream: bool,
) -> ModelRequest<'a> {
    let (planned, step) = (cx.planned, &cx.planned.step);
    let mut sampling = step.sampling.clone();
    sampling.max_output_tokens = asked.max_output_tokens.or_else(|| reask::limit(cx, target));
    let mut extra = target.extra.clone();
    for (key, value) in &step.extra {
        extra.insert(key.clone(), value.clone());
    }
    ModelRequest {
        model: (&*target.model).into(),
        messages: messages.into(),
        tools: (&*step.tools).into(),
        tool_choice: step.tool_choice.clone(),
        sampling,
        response_format: match asked.continues {
            None => planned.response_format.clone(),
            // A provider that enforces a form would make the model begin anew.
            Some(_) => ResponseFormat::Text,
        },
        extra,
        stream,
    }
}

fn judge(target: &Target, outcome: Outcome) -> Result<ModelReply, Failure> {
    match outcome {
        Outcome::Response(response) => {
            let context = DecodeContext { provider: &target.provider, now: jiff::Timestamp::now() };
            target.dialect.decode(&response, context)
        }
        Outcome::Fault(fault) => Err(crate::failure::classify::of_fault(fault)),
    }
}

fn finish_name(finish: &FinishReason) -> &'static str {
    match finish {
        FinishReason::Stop => "stop",
        FinishReason::ToolCalls => "tool_calls",
        FinishReason::Unknown(_) => "unknown",
    }
}
