//! Requests to runs: every fault of a request at once, each at its field.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};
use tokio::time::Instant;
use tonic::Status;

use super::pb;
use super::status::{self, FieldFault, NotFound};
use crate::document::{DurationText, nearest};
use crate::engine::active_policy::PipelineVersion;
use crate::engine::plan::{PlanError, PlannedStep};
use crate::engine::run::Earlier;
use crate::engine::{CallName, Engine, RunRequest, Work, did_you_mean};
use crate::pipeline::document::{
    RawAskProvider, RawConfidence, RawContent, RawImageData, RawJson, RawMessage, RawOutput,
    RawPart, RawPrompt, RawRule, RawRuleSeverity, RawSampling, RawStep, RawText, RawTool,
    RawVerifier,
};
use crate::pipeline::{self, compile_step};
use crate::resilience::fair_queue::Priority;
use crate::telemetry::trace::TraceContext;

/// Deepest JSON that is taken in.
const JSON_DEPTH_MAX: usize = 64;

/// What a call brings beside its message.
pub(super) struct Call {
    pub(super) tenant: Arc<str>,
    pub(super) trace: TraceContext,
    pub(super) deadline: Instant,
    pub(super) priority: Priority,
    pub(super) name: CallName,
}

#[derive(Default)]
struct Faults(Vec<FieldFault>);

impl Faults {
    fn add(&mut self, field: impl Into<String>, description: impl Into<String>) {
        self.0.push(FieldFault::new(field, description));
    }

    fn settle(self) -> Result<(), Status> {
        if self.0.is_empty() { Ok(()) } else { Err(status::of_faults(&self.0)) }
    }
}

/// A page size: 50 if 0, at most 1000.
pub(super) fn page_size(size: i32) -> Result<usize, Status> {
    match usize::try_from(size) {
        Ok(0) => Ok(50),
        Ok(size) => Ok(size.min(1_000)),
        Err(_) => Err(status::of_faults(&[FieldFault::new("page_size", "is negative")])),
    }
}

/// `RunStep` as a run.
pub(super) fn run_step(
    engine: &Engine,
    message: pb::RunStepRequest,
    call: Call,
    older: Older,
) -> Result<RunRequest, Status> {
    let options = message.options.clone().unwrap_or_default();
    // The digest tells requests apart under one key; without a key nobody asks.
    let digest = match options.idempotency_key.is_empty() {
        true => [0; 32],
        false => digest_of(&message),
    };
    let mut faults = Faults::default();
    let input = json(&message.input_json, "input_json", &mut faults);
    let steps = object(&message.steps_json, "steps_json", &mut faults);
    let (planned, of) = match &message.step {
        None => {
            faults.add("step", "exactly one of `inline` and `ref` must be set");
            (None, None)
        }
        Some(pb::run_step_request::Step::Inline(spec)) => {
            (inline(engine, spec, steps.as_ref(), &mut faults), None)
        }
        Some(pb::run_step_request::Step::Ref(reference)) => {
            let version = older.map_or_else(|| pipeline(engine, &reference.pipeline), Ok)?;
            let planned = version.planned.step(&reference.step).cloned().ok_or_else(|| {
                let names = version.planned.steps.iter().map(|step| &*step.step.name);
                let near = nearest(&reference.step, names).map(str::to_owned);
                status::of_not_found(&NotFound {
                    reason: "STEP_NOT_FOUND",
                    message: format!(
                        "pipeline `{}` has no step `{}`{}",
                        version.name,
                        reference.step,
                        did_you_mean(&near)
                    ),
                })
            })?;
            (Some(planned), Some(version))
        }
    };
    let request = assemble(call, options, true, digest, &mut faults);
    faults.settle()?;
    match (planned, input, steps) {
        (Some(planned), Some(input), Some(steps)) => {
            let earlier = Earlier::of_object(&steps);
            Ok(request(Work::Step { planned, earlier, of }, input))
        }
        // Whatever is absent has left a fault behind.
        (_, _, _) => Err(status::of_faults(&[])),
    }
}

/// `RunPipeline` as a run.
pub(super) fn run_pipeline(
    engine: &Engine,
    message: pb::RunPipelineRequest,
    call: Call,
    older: Older,
) -> Result<RunRequest, Status> {
    let digest = digest_of(&message);
    let mut faults = Faults::default();
    if message.pipeline.is_empty() {
        faults.add("pipeline", "is missing");
    }
    let input = json(&message.input_json, "input_json", &mut faults);
    let options = message.options.unwrap_or_default();
    let request = assemble(call, options, !message.no_wait, digest, &mut faults);
    faults.settle()?;
    let version = older.map_or_else(|| pipeline(engine, &message.pipeline), Ok)?;
    let input = input.unwrap_or(Value::Null);
    if let Err(failure) = version.planned.pipeline.check_input(&input) {
        let faults: Vec<FieldFault> = failure
            .violations
            .into_iter()
            .map(|fault| FieldFault::new(format!("input_json{}", fault.path), fault.message))
            .collect();
        return Err(status::of_faults(&faults));
    }
    Ok(request(Work::Pipeline(version), input))
}

fn digest_of(message: &impl prost::Message) -> [u8; 32] {
    Sha256::digest(message.encode_to_vec()).into()
}

/// A pipeline that a call names by a number that does not serve.
pub(super) type Older = Option<Arc<PipelineVersion>>;

fn pipeline(engine: &Engine, name: &str) -> Result<Arc<PipelineVersion>, Status> {
    engine.documents().pipeline(name).ok_or_else(|| {
        let snapshot = engine.documents().snapshot();
        let near = nearest(name, snapshot.pipelines.keys().map(|name| &**name)).map(str::to_owned);
        status::of_not_found(&NotFound {
            reason: "PIPELINE_NOT_FOUND",
            message: format!("there is no pipeline `{name}`{}", did_you_mean(&near)),
        })
    })
}

/// What calls have in common. Faults go to `faults`; the request may only be used without any.
fn assemble(
    call: Call,
    options: pb::RunOptions,
    wait: bool,
    request_digest: [u8; 32],
    faults: &mut Faults,
) -> impl FnOnce(Work, Value) -> RunRequest + use<> {
    if options.idempotency_key.len() > 128
        || !options.idempotency_key.bytes().all(|b| b.is_ascii_graphic() || b == b' ')
    {
        faults.add("options.idempotency_key", "at most 128 printable ASCII characters");
    }
    let id_character = |b: u8| b.is_ascii_alphanumeric() || b"_.:-".contains(&b);
    if options.run_id.len() > 128 || !options.run_id.bytes().all(id_character) {
        faults.add("options.run_id", "at most 128 characters of A-Z, a-z, 0-9, _ . : -");
    }
    let run_timeout = options.run_timeout.and_then(|timeout| match Duration::try_from(timeout) {
        Ok(timeout) if !timeout.is_zero() => Some(timeout),
        Ok(_) | Err(_) => {
            faults.add("options.run_timeout", "must be above zero");
            None
        }
    });
    let labels = labels(options.labels, faults);
    move |work, input| RunRequest {
        tenant: call.tenant,
        work,
        input,
        policy: Some(options.policy).filter(|name| !name.is_empty()),
        run_id: Some(options.run_id).filter(|id| !id.is_empty()),
        idempotency_key: Some(options.idempotency_key).filter(|key| !key.is_empty()),
        request_digest,
        priority: call.priority,
        labels,
        run_timeout,
        caller_deadline: call.deadline,
        wait,
        bound_to_call: false,
        trace: call.trace,
        call: call.name,
        outlet: None,
    }
}

fn labels(
    labels: std::collections::HashMap<String, String>,
    faults: &mut Faults,
) -> BTreeMap<String, String> {
    if labels.len() > 16 {
        faults.add("options.labels", "at most 16 labels");
    }
    for (key, value) in &labels {
        let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"_.-".contains(&b);
        if key.is_empty() || key.len() > 63 || !key.bytes().all(allowed) {
            faults.add("options.labels", "keys have 1 to 63 characters of a-z, 0-9, _ . -");
        }
        if value.chars().count() > 256 {
            faults.add(format!("options.labels[{key}]"), "is longer than 256 characters");
        }
    }
    labels.into_iter().collect()
}

fn json(text: &str, field: &str, faults: &mut Faults) -> Option<Value> {
    if text.is_empty() {
        return Some(Value::Object(Map::new()));
    }
    match serde_json::from_str::<Value>(text) {
        Ok(value) if !deeper_than(&value, JSON_DEPTH_MAX) => Some(value),
        Ok(_) => {
            faults.add(field, format!("is nested deeper than {JSON_DEPTH_MAX}"));
            None
        }
        Err(error) => {
            // The library's own text would show a piece of the input.
            let (line, column) = (error.line(), error.column());
            faults.add(field, format!("is not JSON: line {line}, column {column}"));
            None
        }
    }
}

/// Bounded by the parser, which stops at 128.
fn deeper_than(value: &Value, depth: usize) -> bool {
    let Some(left) = depth.checked_sub(1) else { return true };
    match value {
        Value::Array(items) => items.iter().any(|item| deeper_than(item, left)),
        Value::Object(members) => members.values().any(|member| deeper_than(member, left)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
    }
}

fn object(text: &str, field: &str, faults: &mut Faults) -> Option<Value> {
    let value = json(text, field, faults)?;
    if value.is_object() {
        return Some(value);
    }
    faults.add(field, "is not a JSON object");
    None
}

/// The plan of a step written inline, which sees the outputs in `steps`. What it sees is part of what
/// it compiles to, so the names are part of the key that its plan is remembered under.
fn inline(
    engine: &Engine,
    spec: &pb::StepSpec,
    steps: Option<&Value>,
    faults: &mut Faults,
) -> Option<Arc<PlannedStep>> {
    let given: Vec<&str> =
        steps.and_then(Value::as_object).into_iter().flatten().map(|(name, _)| &**name).collect();
    let mut key = prost::Message::encode_to_vec(spec);
    let spec_bytes = key.len() as u64;
    for name in &given {
        key.extend_from_slice(name.as_bytes());
        key.push(0);
    }
    // Tells where the step ends and the names begin.
    key.extend_from_slice(&spec_bytes.to_le_bytes());
    if let Some(plan) = engine.inline_plans().get(&key) {
        return Some(plan);
    }
    let raw = raw_step(spec, faults)?;
    // Unknown targets are told by planning, which also resolves them.
    let known = pipeline::Known { targets: None, policies: None };
    let step = match compile_step(&raw, &known, &given) {
        Ok(step) => step,
        Err(problems) => {
            for problem in problems {
                faults.add(format!("inline{}", problem.field_path), problem.message);
            }
            return None;
        }
    };
    match PlannedStep::new(step, engine.targets(), "") {
        Ok(planned) => {
            let planned = Arc::new(planned);
            engine.inline_plans().put(key, planned.clone());
            Some(planned)
        }
        Err(error) => {
            let field = match &error {
                PlanError::UnknownTarget { .. } | PlanError::NoTarget => "inline.targets",
                PlanError::Contract(_) => "inline.output",
            };
            let hint = match &error {
                PlanError::UnknownTarget { nearest, .. } => did_you_mean(nearest),
                PlanError::NoTarget | PlanError::Contract(_) => String::new(),
            };
            faults.add(field, format!("{error}{hint}"));
            None
        }
    }
}

/// `None` when what is there cannot even be said in a document.
fn raw_step(spec: &pb::StepSpec, faults: &mut Faults) -> Option<RawStep> {
    let before = faults.0.len();
    let messages = spec
        .messages
        .iter()
        .enumerate()
        .map(|(index, message)| raw_message(message, &format!("inline.messages[{index}]"), faults))
        .collect();
    let tools = raw_tools(&spec.tools, faults);
    let sampling = spec.sampling.as_ref().map(|sampling| RawSampling {
        temperature: sampling.temperature,
        top_p: sampling.top_p,
        max_output_tokens: sampling.max_output_tokens,
        stop: sampling.stop.clone(),
        seed: sampling.seed,
    });
    let output = spec.output.clone().unwrap_or_default();
    let verifier = spec.verifier.as_deref().and_then(|verifier| raw_verifier(verifier, faults));
    let attempt_timeout = spec.attempt_timeout.and_then(|timeout| {
        let timeout = Duration::try_from(timeout).ok().filter(|timeout| !timeout.is_zero());
        if timeout.is_none() {
            faults.add("inline.attempt_timeout", "must be above zero");
        }
        timeout.map(DurationText)
    });
    if !spec.max_cost_usd.is_finite() || spec.max_cost_usd < 0.0 {
        faults.add("inline.max_cost_usd", "must be a number of dollars, 0 for no ceiling");
    }
    let step = RawStep {
        name: if spec.name.is_empty() { "step".to_owned() } else { spec.name.clone() },
        targets: spec.targets.clone(),
        needs: Some(Vec::new()),
        prompt: RawPrompt::Messages(messages),
        tools,
        tool_choice: some(&spec.tool_choice),
        sampling,
        rules: output
            .rules
            .iter()
            .map(|rule| RawRule {
                check: rule.expression.clone(),
                message: rule.message.clone(),
                severity: rule.warning.then_some(RawRuleSeverity::Warning),
            })
            .collect(),
        confidence: some(&output.confidence_expression)
            .map(|expression| RawConfidence { expression, minimum: output.confidence_min }),
        output: raw_output(output.kind, faults),
        template_output: optional_json(
            &spec.template_output_json,
            "inline.template_output_json",
            faults,
        ),
        attempt_timeout,
        mandatory: spec.mandatory.clone(),
        verifier,
        max_attempts: Some(spec.max_attempts).filter(|most| *most > 0),
        max_cost_usd: Some(spec.max_cost_usd).filter(|most| *most > 0.0),
        extra: match object(&spec.extra_json, "inline.extra_json", faults) {
            Some(Value::Object(members)) => members,
            Some(_) | None => Map::new(),
        },
        ..RawStep::default()
    };
    (faults.0.len() == before).then_some(step)
}

fn raw_tools(tools: &[pb::Tool], faults: &mut Faults) -> Vec<RawTool> {
    let mut raw = |(index, tool): (usize, &pb::Tool)| {
        let field = format!("inline.tools[{index}].parameters_json");
        RawTool {
            name: tool.name.clone(),
            description: some(&tool.description),
            parameters: optional_json(&tool.parameters_json, &field, faults),
        }
    };
    tools.iter().enumerate().map(&mut raw).collect()
}

/// Nested no deeper than messages may be; whether a verifier may stand here is for compiling to say.
fn raw_verifier(verifier: &pb::StepVerifier, faults: &mut Faults) -> Option<Box<RawVerifier>> {
    let Some(spec) = verifier.step.as_deref() else {
        faults.add("inline.verifier.step", "is not set");
        return None;
    };
    let mut own = Faults::default();
    let step = raw_step(spec, &mut own);
    for fault in own.0 {
        faults.add(fault.field.replacen("inline", "inline.verifier.step", 1), fault.description);
    }
    // Alone, a step says that it needs no other; a judging step has no say in that.
    let name = if spec.name.is_empty() { "verifier" } else { &spec.name };
    let step = RawStep { needs: None, name: name.to_owned(), ..step? };
    Some(Box::new(RawVerifier { step, accept: verifier.accept.clone() }))
}

fn some(text: &str) -> Option<String> {
    Some(text.to_owned()).filter(|text| !text.is_empty())
}

fn optional_json(text: &str, field: &str, faults: &mut Faults) -> Option<Value> {
    if text.is_empty() { None } else { json(text, field, faults) }
}

fn raw_message(message: &pb::PromptMessage, field: &str, faults: &mut Faults) -> RawMessage {
    let parts = message
        .parts
        .iter()
        .enumerate()
        .map(|(index, part)| raw_part(part, &format!("{field}.parts[{index}]"), faults))
        .collect();
    let content = Some(RawContent::Parts(parts));
    match pb::Role::try_from(message.role) {
        Ok(pb::Role::System) => RawMessage { system: content, ..RawMessage::default() },
        Ok(pb::Role::User) => RawMessage { user: content, ..RawMessage::default() },
        Ok(pb::Role::Assistant) => RawMessage { assistant: content, ..RawMessage::default() },
        Ok(pb::Role::Unspecified) => {
            faults.add(format!("{field}.role"), "is not set");
            RawMessage::default()
        }
        Err(_) => {
            faults.add(format!("{field}.role"), format!("{} is no known role", message.role));
            RawMessage::default()
        }
    }
}

fn raw_part(part: &pb::PromptPart, field: &str, faults: &mut Faults) -> RawPart {
    match &part.part {
        Some(pb::prompt_part::Part::Text(text)) => {
            RawPart { text: Some(text.clone()), ..RawPart::default() }
        }
        Some(pb::prompt_part::Part::ImageUri(uri)) => {
            RawPart { image_url: Some(uri.clone()), ..RawPart::default() }
        }
        Some(pb::prompt_part::Part::ImageData(image)) => {
            if image.data.is_empty() {
                faults.add(format!("{field}.image_data.data"), "is empty");
            }
            let data = base64::engine::general_purpose::STANDARD.encode(&image.data);
            let image = RawImageData { media_type: image.media_type.clone(), data };
            RawPart { image_data: Some(image), ..RawPart::default() }
        }
        None => {
            faults.add(field, "exactly one of `text`, `image_uri` and `image_data` must be set");
            RawPart::default()
        }
    }
}

fn raw_output(kind: Option<pb::output_contract::Kind>, faults: &mut Faults) -> Option<RawOutput> {
    let chars = |count: u32| Some(count).filter(|count| *count > 0);
    match kind? {
        pb::output_contract::Kind::Text(text) => Some(RawOutput {
            text: Some(RawText {
                min_chars: chars(text.chars_min),
                max_chars: chars(text.chars_max),
            }),
            json: None,
        }),
        pb::output_contract::Kind::Json(contract) => {
            let schema =
                optional_json(&contract.schema_json, "inline.output.json.schema_json", faults);
            let ask_provider = match pb::ProviderEnforcement::try_from(contract.enforcement) {
                Ok(pb::ProviderEnforcement::Unspecified) => None,
                Ok(pb::ProviderEnforcement::Schema) => Some(RawAskProvider::Schema),
                Ok(pb::ProviderEnforcement::Json) => Some(RawAskProvider::Json),
                Ok(pb::ProviderEnforcement::None) => Some(RawAskProvider::Nothing),
                Err(_) => {
                    let message = format!("{} is no known enforcement", contract.enforcement);
                    faults.add("inline.output.json.enforcement", message);
                    None
                }
            };
            Some(RawOutput { text: None, json: Some(RawJson { schema, name: None, ask_provider }) })
        }
    }
}
