//! Names of spans, attributes and events: the only place where they are written.
//!
//! `gen_ai.*` follows the OpenTelemetry GenAI conventions (repository semantic-conventions-genai,
//! all of it still in development); `mainstay.*` is ours, since nothing there names a failure
//! domain, a recovery action or an attempt number.

/// Instrumentation scope.
pub const SCOPE: &str = "mainstay";

// Where a failure stands and what was done about it.
/// Domain of a failure.
pub const FAILURE_DOMAIN: &str = "mainstay.failure.domain";
/// Cause of a failure.
pub const FAILURE_CAUSE: &str = "mainstay.failure.cause";
/// Finer name of a failure.
pub const FAILURE_DETAIL: &str = "mainstay.failure.detail";
/// Whether the same call may succeed later.
pub const FAILURE_RETRYABLE: &str = "mainstay.failure.retryable";
/// The provider's hint, milliseconds.
pub const RETRY_AFTER_MS: &str = "mainstay.retry_after_ms";
/// Action taken.
pub const RECOVERY_ACTION: &str = "mainstay.recovery.action";
/// Wait before the next call, milliseconds.
pub const RECOVERY_WAIT_MS: &str = "mainstay.recovery.wait_ms";
/// Target called next.
pub const RECOVERY_NEXT_TARGET: &str = "mainstay.recovery.next_target";
/// Rungs passed over, `index:action:reason` each.
pub const RECOVERY_SKIPPED: &str = "mainstay.recovery.skipped";
/// Name of the policy.
pub const POLICY_NAME: &str = "mainstay.policy.name";
/// Version of the policy.
pub const POLICY_VERSION: &str = "mainstay.policy.version";
/// Route that gave the ladder.
pub const POLICY_RULE: &str = "mainstay.policy.rule";
/// Rung taken, from 0.
pub const POLICY_RUNG: &str = "mainstay.policy.rung";

// What ran.
/// Run id.
pub const RUN_ID: &str = "mainstay.run.id";
/// State that a run or step ended in.
pub const STATE: &str = "mainstay.state";
/// Pipeline.
pub const PIPELINE_NAME: &str = "mainstay.pipeline.name";
/// Version of the pipeline.
pub const PIPELINE_VERSION: &str = "mainstay.pipeline.version";
/// Step.
pub const STEP: &str = "mainstay.step";
/// Element of a `for_each` step, from 0.
pub const ELEMENT: &str = "mainstay.element";
/// Attempt number, from 1.
pub const ATTEMPT: &str = "mainstay.attempt";
/// Attempts of a step.
pub const ATTEMPTS: &str = "mainstay.attempts";
/// Target.
pub const TARGET: &str = "mainstay.target";
/// False when nothing was sent.
pub const CALLED: &str = "mainstay.called";
/// True for an attempt beside a slow one.
pub const HEDGE: &str = "mainstay.attempt.hedge";
/// Why an attempt was given up: `outrun` by the one beside it, or `with_its_run`.
pub const CANCELLED: &str = "mainstay.attempt.cancelled";
/// True when every target refused and the least bad one was called all the same.
pub const PANIC: &str = "mainstay.panic";
/// What came of checking the output.
pub const OUTPUT_VERDICT: &str = "mainstay.output.verdict";
/// Changes made to the output, `kind@place` each.
pub const OUTPUT_CHANGES: &str = "mainstay.output.changes";
/// Where the output breaks its contract, JSON Pointers.
pub const OUTPUT_VIOLATIONS: &str = "mainstay.output.violations";
/// Where a degraded output came from.
pub const DEGRADED: &str = "mainstay.degraded";
/// How an earlier output came to be the step's.
pub const CACHE: &str = "mainstay.cache";
/// Age of that output, milliseconds.
pub const CACHE_AGE_MS: &str = "mainstay.cache.age_ms";
/// Cosine similarity to the prompt that it was given to.
pub const CACHE_SIMILARITY: &str = "mainstay.cache.similarity";
/// Cosine similarity of the nearest prompt that was known.
pub const CACHE_NEAREST: &str = "mainstay.cache.nearest";
/// Cost in US dollars.
pub const COST_USD: &str = "mainstay.cost_usd";

// OpenTelemetry's own.
/// Low-cardinality class of an error: the cause.
pub const ERROR_TYPE: &str = "error.type";
/// Operation.
pub const GEN_AI_OPERATION: &str = "gen_ai.operation.name";
/// Provider.
pub const GEN_AI_PROVIDER: &str = "gen_ai.provider.name";
/// Model asked.
pub const GEN_AI_REQUEST_MODEL: &str = "gen_ai.request.model";
/// Model that answered.
pub const GEN_AI_RESPONSE_MODEL: &str = "gen_ai.response.model";
/// Id of the response.
pub const GEN_AI_RESPONSE_ID: &str = "gen_ai.response.id";
/// Finish reasons.
pub const GEN_AI_FINISH_REASONS: &str = "gen_ai.response.finish_reasons";
/// Whether a stream was asked for.
pub const GEN_AI_REQUEST_STREAM: &str = "gen_ai.request.stream";
/// Seconds to the first content of a stream.
pub const GEN_AI_TIME_TO_FIRST_CHUNK: &str = "gen_ai.response.time_to_first_chunk";
/// Prompt tokens.
pub const GEN_AI_INPUT_TOKENS: &str = "gen_ai.usage.input_tokens";
/// Answer tokens.
pub const GEN_AI_OUTPUT_TOKENS: &str = "gen_ai.usage.output_tokens";
/// Workflow.
pub const GEN_AI_WORKFLOW: &str = "gen_ai.workflow.name";
/// Host of the provider.
pub const SERVER_ADDRESS: &str = "server.address";
/// Port of the provider.
pub const SERVER_PORT: &str = "server.port";
/// HTTP status.
pub const HTTP_STATUS: &str = "http.response.status_code";
/// RPC system.
pub const RPC_SYSTEM: &str = "rpc.system.name";
/// RPC method, `package.Service/Method`.
pub const RPC_METHOD: &str = "rpc.method";
/// gRPC status.
pub const RPC_STATUS: &str = "rpc.response.status_code";

/// Event of a decision.
pub const EVENT_DECISION: &str = "mainstay.decision";

/// Name of an attempt's span.
pub fn attempt_span(model: &str) -> String {
    format!("chat {model}")
}

/// Name of an embedding's span.
pub fn embedding_span(model: &str) -> String {
    format!("embeddings {model}")
}

/// Name of a step's span.
pub fn step_span(step: &str) -> String {
    format!("step {step}")
}
