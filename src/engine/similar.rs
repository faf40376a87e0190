//! Answers from outputs to prompts that say nearly the same, where the policy wants them.
//!
//! Prompts are compared within their neighbourhood only: the same tenant, step, contract, model
//! parameters and embedding model, the same words of the system, and the same numbers in the same
//! order, since a vector hardly tells one invoice from the next. What is found is held against the
//! contract and the rules anew. Whatever fails on the way is a miss, and stands on the span.

use std::time::SystemTime;

use sha2::{Digest as _, Sha256};
use tokio::time::Instant;

use super::cache::similar::{Place, Similar};
use super::checks;
use super::gates::{Ask, Report};
use super::step::{StepContext, Walk};
use super::targets::Target;
use crate::exchange::{Outcome, Part, Role, Usage};
use crate::failure::{Failure, FailureCause, classify};
use crate::journal::{CacheUse, EmbeddingRecord};
use crate::policy::SemanticPolicy;
use crate::provider::transport::Call;
use crate::provider::{DecodeContext, embeddings};
use crate::resilience::nearest::{Neighbourhood, Unit};
use crate::store::sqlite::outputs::Neighbour;
use crate::telemetry::trace;

/// Longest text that is embedded: about what models take.
const TEXT_BYTES_MAX: usize = 32 * 1024;
/// Outputs that are looked at; one that is gone or holds no more gives way to the next nearest.
const LOOKED_AT_MAX: usize = 4;

/// A prompt as it is compared.
struct Compared {
    neighbourhood: Neighbourhood,
    text: String,
}

impl Walk<'_, '_> {
    /// Answers from the output to a similar prompt, or by calls.
    pub(super) async fn answer_or_call(&mut self) {
        let cache = &self.cx.policy.policy.cache;
        if let Some(wanted) = cache.semantic.filter(|_| cache.enabled)
            && self.report.embedding.is_none()
            // Boxed, so that steps without it do not carry its size about.
            && Box::pin(self.take_similar(wanted)).await
        {
            return;
        }
        self.go().await;
    }

    /// Ends the step with the output to a similar prompt, if there is one.
    async fn take_similar(&mut self, wanted: SemanticPolicy) -> bool {
        let cached = self.cx.engine.cache();
        let Some(similar) = cached.similar() else { return false };
        let Some(Compared { neighbourhood, text }) = self.compared(similar.target()) else {
            return false;
        };
        // Nothing says more nearly the same than the same, and that needs no vector.
        let same = self.cache_key.and_then(|key| cached.get(&key, wanted.max_age));
        if let Some(kept) = same.filter(|kept| self.still_holds(&kept.output)) {
            let age = Instant::now().duration_since(kept.stored);
            self.adopt(kept, age, CacheUse::Exact);
            return true;
        }
        let (mut record, unit) = embed(self.cx, similar.target(), &text, self.until).await;
        self.history.record_cost(record.cost_usd);
        let near = unit.map(|unit| {
            let (nearest, near) = similar.near(&neighbourhood, &unit, wanted.threshold);
            record.nearest = nearest;
            self.place = Some((neighbourhood, unit));
            near
        });
        self.report.embedding = Some(Box::new(record));
        for (similarity, place) in near.into_iter().flatten().take(LOOKED_AT_MAX) {
            if self.take_if_it_holds(wanted, similar, similarity, &place).await {
                return true;
            }
        }
        false
    }

    async fn take_if_it_holds(
        &mut self,
        wanted: SemanticPolicy,
        similar: &Similar,
        similarity: f64,
        place: &Place,
    ) -> bool {
        let (cached, is_journaled) = (self.cx.engine.cache(), self.cx.run.is_journaled());
        if cached.stored_at(&place.key).is_none() {
            cached.recall(is_journaled, place.key, self.until).await;
        }
        let Some(kept) = cached.get(&place.key, wanted.max_age) else {
            // A disk that this step may not read may still have it for others.
            let may_be_elsewhere = cached.is_durable(true) && !is_journaled;
            if cached.stored_at(&place.key).is_none() && !may_be_elsewhere {
                let here = self.place.as_ref().map(|(neighbourhood, _)| *neighbourhood);
                here.into_iter().for_each(|here| similar.remove(here, place));
            }
            return false;
        };
        if !checks::satisfies(self.cx, &kept.output).await || !self.still_holds(&kept.output) {
            return false;
        }
        let age = Instant::now().duration_since(kept.stored);
        self.adopt(kept, age, CacheUse::Semantic { similarity });
        true
    }

    /// Where the prompt is compared, and by what. None for steps that are not answered so: those
    /// with tools, images or a verifier, whose verdict would be about something else; a verifier
    /// itself; and prompts that are the same each time or longer than models take.
    fn compared(&self, target: &Target) -> Option<Compared> {
        let (planned, run) = (self.cx.planned, self.cx.run);
        let step = &planned.step;
        let is_judge = self.cx.scope.output.is_some();
        if is_judge || step.verifier.is_some() || !step.tools.is_empty() {
            return None;
        }
        let shape: &[u8] = match (step.prompt.is_fixed(), run.pipeline.is_empty()) {
            (false, _) => &planned.digest,
            // What an inline step says is part of the step; everything else about it is compared.
            (true, true) => step.digest_without_prompt(),
            (true, false) => return None,
        };
        let mut place = Fields(Sha256::new());
        for field in [b"1", run.tenant.as_bytes(), run.pipeline.as_bytes(), shape] {
            place.add(field);
        }
        place.add(target.model.as_bytes());
        let mut text = String::new();
        for message in &self.prompt {
            let (says, stands) = match message.role {
                Role::System => ("", true),
                Role::User => ("user: ", false),
                Role::Assistant => ("assistant: ", false),
            };
            for part in &message.parts {
                let Part::Text(part) = part else { return None };
                if stands {
                    place.add(part.expose().as_bytes());
                } else {
                    text.push_str(says);
                    text.push_str(part.expose());
                    text.push('\n');
                }
            }
        }
        if text.is_empty() || text.len() > TEXT_BYTES_MAX {
            return None;
        }
        for number in text.split(|c: char| !c.is_numeric()).filter(|run| !run.is_empty()) {
            place.add(number.as_bytes());
        }
        Some(Compared { neighbourhood: place.0.finalize().into(), text })
    }

    /// Where the step's prompt stands, for the disk.
    pub(super) fn neighbour(&self) -> Option<Neighbour> {
        let (neighbourhood, unit) = self.place.as_ref()?;
        Some(Neighbour { neighbourhood: *neighbourhood, vector: unit.numbers().clone() })
    }

    /// Lets similar prompts find the output that was kept.
    pub(super) fn keep_similar(&mut self, place: Place) {
        if let (Some(similar), Some((neighbourhood, unit))) =
            (self.cx.engine.cache().similar(), self.place.take())
        {
            similar.add(neighbourhood, place, unit);
        }
    }
}

/// A hash of fields, each with its length, so that no two lists of fields read the same.
struct Fields(Sha256);

impl Fields {
    fn add(&mut self, field: &[u8]) {
        self.0.update((field.len() as u64).to_le_bytes());
        self.0.update(field);
    }
}

/// Has the vector of a text made. Takes at most half of the time that is left, so that a slow answer
/// leaves the call that it was to spare its chance.
async fn embed(
    cx: &StepContext<'_>,
    target: &Target,
    text: &str,
    until: Instant,
) -> (EmbeddingRecord, Option<Unit>) {
    let began = Instant::now();
    let mut record = EmbeddingRecord {
        target: target.name.clone(),
        started: SystemTime::now(),
        duration: std::time::Duration::ZERO,
        called: false,
        span_id: trace::new_span_id(),
        usage: Usage::default(),
        cost_usd: 0.0,
        failure: None,
        nearest: None,
    };
    let half = until.saturating_duration_since(began) / 2;
    let limit = target.attempt_timeout.min(half);
    let by_caller = half < target.attempt_timeout;
    let result = call(cx, target, text, (began + limit, by_caller), &mut record).await;
    record.duration = began.elapsed();
    record.cost_usd = target.price.cost(&record.usage);
    match result {
        Ok(unit) => (record, Some(unit)),
        Err(failure) => {
            record.failure = Some(*failure);
            (record, None)
        }
    }
}

async fn call(
    cx: &StepContext<'_>,
    target: &Target,
    text: &str,
    (deadline, by_caller): (Instant, bool),
    record: &mut EmbeddingRecord,
) -> Result<Unit, Box<Failure>> {
    let body = embeddings::encode(&target.model, text, &target.extra)
        .map_err(|error| Failure::new(FailureCause::UnsupportedParameter, error.to_string()))?;
    let ask = Ask {
        caller: cx.run.tenant.clone(),
        priority: cx.run.priority,
        tokens: u64::try_from(body.len() / 4).unwrap_or(u64::MAX),
        step: 0,
        is_fresh: true,
        has_alternative: false,
        remaining: deadline.saturating_duration_since(Instant::now()),
        is_panic: false,
        awaits_probe: false,
    };
    let ticket = target.gate.admit(&ask, deadline).await?;
    record.called = true;
    let began = Instant::now();
    let call = Call {
        body: body.into(),
        stream: false,
        traceparent: cx.run.trace.traceparent(record.span_id),
        deadline,
    };
    let answered = match target.endpoint.call(call).await {
        Outcome::Response(response) => {
            let context = DecodeContext { provider: &target.provider, now: jiff::Timestamp::now() };
            embeddings::decode(&response, context)
        }
        Outcome::Fault(fault) => Err(classify::of_fault(fault).into()),
    };
    let failure = answered.as_ref().err().map(|failure| &**failure);
    record.usage =
        answered.as_ref().map_or_else(|failure| failure.usage, |embedding| embedding.usage);
    let timed_out = failure.is_some_and(|failure| {
        failure.cause == FailureCause::RequestTimeout && failure.evidence.status.is_none()
    });
    // What the vector is worth is not known by its looks: there is no verdict about outputs here.
    drop(ticket.settle(Report {
        failure,
        ended_by_caller: timed_out && by_caller,
        first_token: None,
        total: began.elapsed(),
        tokens: Some(record.usage.input_tokens).filter(|tokens| *tokens > 0),
    }));
    answered.map(|embedding| embedding.unit)
}
