//! What spans say of answers that needed no call of their own.

use opentelemetry::KeyValue;
use opentelemetry::trace::SpanKind;

use super::super::names;
use super::super::trace::FinishedSpan;
use super::{TargetFacts, failure_attributes, int, text};
use crate::journal::{CacheUse, EmbeddingRecord, StepReport};

/// How an earlier output came to be the step's.
pub(super) fn attributes(step: &StepReport, attributes: &mut Vec<KeyValue>) {
    let Some(by) = step.cache else { return };
    attributes.push(text(names::CACHE, by.name()));
    if let Some(age) = step.cache_age {
        let ms = u64::try_from(age.as_millis()).unwrap_or(u64::MAX);
        attributes.push(int(names::CACHE_AGE_MS, ms));
    }
    match by {
        CacheUse::Semantic { similarity } => {
            attributes.push(KeyValue::new(names::CACHE_SIMILARITY, similarity));
        }
        CacheUse::Exact | CacheUse::Shared => {}
    }
}

/// The span of the call that made a vector of the step's prompt.
pub(super) fn embedding_span(
    step: &StepReport,
    embedding: &EmbeddingRecord,
    target: &TargetFacts,
) -> FinishedSpan {
    let mut attributes = vec![
        text(names::GEN_AI_OPERATION, "embeddings"),
        text(names::GEN_AI_PROVIDER, target.provider.clone()),
        text(names::GEN_AI_REQUEST_MODEL, target.model.clone()),
        text(names::SERVER_ADDRESS, target.address.clone()),
        int(names::SERVER_PORT, target.port.into()),
        text(names::TARGET, embedding.target.clone()),
        int(names::GEN_AI_INPUT_TOKENS, embedding.usage.input_tokens),
    ];
    if !embedding.called {
        attributes.push(KeyValue::new(names::CALLED, false));
    }
    if embedding.cost_usd > 0.0 {
        attributes.push(KeyValue::new(names::COST_USD, embedding.cost_usd));
    }
    if let Some(nearest) = embedding.nearest {
        attributes.push(KeyValue::new(names::CACHE_NEAREST, nearest));
    }
    if let Some(failure) = &embedding.failure {
        failure_attributes(failure, &mut attributes);
    }
    FinishedSpan {
        name: names::embedding_span(&target.model),
        span_id: embedding.span_id,
        parent_span_id: step.span_id,
        parent_is_remote: false,
        kind: SpanKind::Client,
        started: embedding.started,
        duration: embedding.duration,
        attributes,
        events: Vec::new(),
        error: embedding.failure.as_ref().map(|failure| failure.message.clone()),
    }
}
