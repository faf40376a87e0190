//! A policy as it is written.
//!
//! These types are the language: their doc comments become the descriptions of the JSON Schema
//! that editors complete from. What they cannot say is checked by [`compile`](mod@super::compile).
//! Every key has a default, and a section without content is a section with its defaults.

mod hedge_after;
mod sections;

use std::collections::BTreeMap;
use std::fmt;

pub use hedge_after::HedgeAfterText;
pub use sections::{
    AfterContentName, AlertsSection, BreakerSection, BudgetSection, CacheSection, HedgeSection,
    ObservabilitySection, RedactionSection, SemanticSection, StreamingSection, ValidationSection,
};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::value::MapAccessDeserializer;
use serde::de::{IntoDeserializer as _, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};

use crate::document::{DurationText, Shape};
use crate::failure::FailureCause;

/// The checked way from text to a [`PolicyDocument`].
pub static SHAPE: Shape<PolicyDocument> = Shape::new();

/// A Mainstay policy: which failure of an LLM step is answered with which actions.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(title = "Mainstay policy")]
pub struct PolicyDocument {
    /// The policy. `llm_pipeline` is another name for this key.
    #[serde(deserialize_with = "present")]
    pub policy: Option<PolicyBody>,
    /// The policy, under the name that existing configurations use.
    #[serde(deserialize_with = "present")]
    pub llm_pipeline: Option<PolicyBody>,
}

/// What a policy says. Every key has a default.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct PolicyBody {
    /// What the policy is for, in a sentence.
    pub description: Option<String>,
    /// How far recovery may go.
    pub execution: Option<ExecutionSection>,
    /// Waits of retries.
    pub backoff: Option<BackoffSection>,
    /// How outputs are judged.
    pub validation: Option<ValidationSection>,
    /// Which actions answer which failures. A domain that is left out keeps the default routing.
    pub routing: Option<RoutingSection>,
    /// Routes that come before `routing` where a condition holds; the first that holds wins.
    #[schemars(length(max = 10_000))]
    pub overrides: Option<Vec<OverrideEntry>>,
    /// When a target's breaker opens and closes.
    pub breaker: Option<BreakerSection>,
    /// The same for the outputs of one step on one target: unusable ones open it, and the step goes
    /// to its other targets for a while. The target itself stays in service.
    pub output_breaker: Option<BreakerSection>,
    /// Extra calls that a target takes, as a share of its fresh ones.
    pub retry_budget: Option<BudgetSection>,
    /// Re-asks after bad outputs that a target takes, as a share of its fresh calls.
    pub reprompt_budget: Option<BudgetSection>,
    /// Last good outputs as a source of degraded answers.
    pub cache: Option<CacheSection>,
    /// How streamed steps recover.
    pub streaming: Option<StreamingSection>,
    /// A second attempt beside a slow first one; off by default, since it pays twice.
    pub hedge: Option<HedgeSection>,
    /// When operators are told.
    pub alerts: Option<AlertsSection>,
    /// What is cut out of previews.
    pub redaction: Option<RedactionSection>,
    /// What is shown of runs.
    pub observability: Option<ObservabilitySection>,
}

/// How far recovery may go.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ExecutionSection {
    /// Provider calls of one step, the first included; 8 if absent. Where it is given, a retry
    /// rung without `attempts` gets one less.
    #[schemars(range(min = 1, max = 1_000))]
    pub max_attempts: Option<u32>,
    /// Extra provider calls of one run; 32 if absent.
    #[schemars(range(max = 100_000))]
    pub run_extra_calls_max: Option<u32>,
    /// Shorthand for `backoff.base`, in seconds.
    #[schemars(range(min = 0, max = 3_600))]
    pub base_delay_seconds: Option<f64>,
    /// Shorthand for `backoff.max`, in seconds.
    #[schemars(range(min = 0, max = 3_600))]
    pub max_delay_seconds: Option<f64>,
    /// Shorthand for `backoff` with proportional jitter of this share.
    #[schemars(range(min = 0, max = 1))]
    pub jitter_factor: Option<f64>,
    /// Names of exceptions of other libraries that count as infrastructure errors. Given, only
    /// the causes that they stand for are retried by the infrastructure route.
    #[schemars(length(max = 1_000))]
    pub infra_errors: Option<Vec<String>>,
    /// A longer hint of a server is not waited for; 120 s if absent.
    pub hint_limit: Option<DurationText>,
    /// Share of a hint that jitter may add to it; 0.25 if absent.
    #[schemars(range(min = 0, max = 1))]
    pub hint_spread: Option<f64>,
    /// No further provider call once a step has cost this much, in US dollars.
    #[schemars(range(min = 0))]
    pub max_cost_usd: Option<f64>,
    /// Limit of a whole attempt, where the target sets none.
    pub attempt_timeout: Option<DurationText>,
    /// What to do when every target of a step is refused by breaker or cool-down.
    pub when_all_refuse: Option<WhenAllRefuseName>,
}

/// What to do when every target of a step is refused.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(transform = plain_enum)]
pub enum WhenAllRefuseName {
    /// Fail at once, with the time of the earliest reopening.
    FailFast,
    /// Call the one that reopens first, and mark the attempt as such.
    LeastBad,
}

/// A series of waits. What is left out comes from the policy's `backoff` section.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct BackoffSection {
    /// How waits grow; exponential if absent.
    pub kind: Option<GrowthName>,
    /// How waits are spread; full if absent.
    pub jitter: Option<JitterName>,
    /// The first wait, before jitter; 500 ms if absent.
    pub base: Option<DurationText>,
    /// Growth per retry of the exponential kind; 2 if absent.
    #[schemars(range(min = 1, max = 100))]
    pub factor: Option<f64>,
    /// No wait is shorter.
    pub min: Option<DurationText>,
    /// No wait is longer; 20 s if absent.
    pub max: Option<DurationText>,
    /// Share of proportional and additive jitter.
    #[schemars(range(min = 0, max = 1))]
    pub ratio: Option<f64>,
    /// Fixed part of additive jitter.
    pub spread: Option<DurationText>,
    /// First waits by cause, where they differ from `base`.
    #[schemars(with = "Option<ByCause<DurationText>>")]
    pub causes: Option<BTreeMap<String, DurationText>>,
}

/// How waits grow.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(transform = plain_enum)]
pub enum GrowthName {
    /// `base * factor^(retry - 1)`.
    Exponential,
    /// `base * retry`.
    Linear,
    /// `base`.
    Constant,
}

/// How waits are spread.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(transform = plain_enum)]
pub enum JitterName {
    /// Not at all.
    None,
    /// From 0 to the whole.
    Full,
    /// The upper half.
    Equal,
    /// From `base` to three times the wait before.
    Decorrelated,
    /// The share `ratio` below and above.
    Proportional,
    /// The share `ratio`, and `spread`, above only.
    Additive,
}

/// Which actions answer which failures, by domain.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RoutingSection {
    /// The way to the model or the model's service failed.
    pub infrastructure: Option<DomainRoute>,
    /// The request cannot be served as it is.
    pub input_constraint: Option<DomainRoute>,
    /// The model answered and the answer is unusable.
    pub output_semantic: Option<DomainRoute>,
    /// The pipeline or its configuration is wrong.
    pub pipeline_logic: Option<DomainRoute>,
}

/// What is done about the failures of a domain.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct DomainRoute {
    /// A ladder of one rung.
    pub action: Option<RungEntry>,
    /// Actions in order; the first feasible one is taken.
    #[schemars(length(max = 32))]
    pub ladder: Option<Vec<RungEntry>>,
    /// Causes of the domain that are answered in another way.
    #[schemars(with = "Option<ByCause<CauseRoute>>")]
    pub causes: Option<BTreeMap<String, CauseRoute>>,
    /// Failures of the domain within `alerts.window` that raise its alert.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub alert_threshold: Option<u32>,
}

/// What is done about a cause.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct CauseRoute {
    /// A ladder of one rung.
    pub action: Option<RungEntry>,
    /// Actions in order; the first feasible one is taken.
    #[schemars(length(max = 32))]
    pub ladder: Option<Vec<RungEntry>>,
}

/// An action: its name, or its name with parameters.
#[derive(Debug, Clone, JsonSchema)]
#[schemars(untagged)]
pub enum RungEntry {
    /// With its defaults.
    Name(ActionName),
    /// With parameters: a map of one key, the action's name.
    Full(Box<RungMap>),
}

/// By hand, since the derived way tries one form after the other on a copy of the entry.
impl<'de> Deserialize<'de> for RungEntry {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entry;
        impl<'de> Visitor<'de> for Entry {
            type Value = RungEntry;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an action or a map of one action")
            }
            fn visit_str<E: serde::de::Error>(self, name: &str) -> Result<RungEntry, E> {
                ActionName::deserialize(name.into_deserializer()).map(RungEntry::Name)
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<RungEntry, A::Error> {
                let map = RungMap::deserialize(MapAccessDeserializer::new(map))?;
                Ok(RungEntry::Full(Box::new(map)))
            }
        }
        deserializer.deserialize_any(Entry)
    }
}

/// The name of an action.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(transform = plain_enum)]
pub enum ActionName {
    /// The same call again on the same target, after backoff or the server's hint.
    RetryWithBackoff,
    /// Repairs the output deterministically.
    RepairOutput,
    /// Asks again, showing the bad output and its violations.
    RepromptWithErrors,
    /// Asks the next usable target.
    FallbackToTarget,
    /// Answers with the last good output of the same step and input.
    FallbackToCache,
    /// Answers with a fixed output.
    FallbackToTemplate,
    /// Keeps the fields that hold and fills in defaults.
    AcceptPartial,
    /// Raises the alert, then answers from the first degraded source that exists.
    AlertAndDegrade,
    /// Fails at once, telling the caller what to fix.
    RejectAndFix,
    /// Raises the alert and fails the whole run.
    AlertAndHalt,
}

/// An action with parameters; exactly one key.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RungMap {
    /// The same call again on the same target, after backoff or the server's hint.
    #[serde(deserialize_with = "present")]
    pub retry_with_backoff: Option<RetryParameters>,
    /// Repairs the output deterministically.
    #[serde(deserialize_with = "present")]
    pub repair_output: Option<RepairParameters>,
    /// Asks again, showing the bad output and its violations.
    #[serde(deserialize_with = "present")]
    pub reprompt_with_errors: Option<RepromptParameters>,
    /// Asks the next usable target.
    #[serde(deserialize_with = "present")]
    pub fallback_to_target: Option<TargetParameters>,
    /// Answers with the last good output of the same step and input.
    #[serde(deserialize_with = "present")]
    pub fallback_to_cache: Option<CacheParameters>,
    /// Answers with a fixed output.
    #[serde(deserialize_with = "present")]
    pub fallback_to_template: Option<TemplateParameters>,
    /// Keeps the fields that hold and fills in defaults.
    #[serde(deserialize_with = "present")]
    pub accept_partial: Option<PartialParameters>,
    /// Raises the alert, then answers from the first degraded source that exists.
    #[serde(deserialize_with = "present")]
    pub alert_and_degrade: Option<NoParameters>,
    /// Fails at once, telling the caller what to fix.
    #[serde(deserialize_with = "present")]
    pub reject_and_fix: Option<RejectParameters>,
    /// Raises the alert and fails the whole run.
    #[serde(deserialize_with = "present")]
    pub alert_and_halt: Option<NoParameters>,
}

/// A key without content is there, with its defaults.
fn present<'de, D, T>(deserializer: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de> + Default,
{
    Option::<T>::deserialize(deserializer).map(|content| Some(content.unwrap_or_default()))
}

/// Parameters of `retry_with_backoff`.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RetryParameters {
    /// Extra calls per target; one less than `execution.max_attempts` if that is given, else 2.
    #[schemars(range(min = 1, max = 1_000))]
    pub attempts: Option<u32>,
    /// Waits, where they differ from the policy's.
    pub backoff: Option<BackoffSection>,
    /// Retry even what a retry is not known to cure; false if absent.
    pub also_when_not_retryable: Option<bool>,
}

/// Parameters of `repair_output`.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RepairParameters {
    /// Take repairs that lose or guess something; false if absent.
    pub accept_lossy: Option<bool>,
}

/// Parameters of `reprompt_with_errors`.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RepromptParameters {
    /// Extra calls per target; 1 if absent.
    #[schemars(range(min = 1, max = 1_000))]
    pub attempts: Option<u32>,
    /// After an answer that its token limit cut: ask again with a limit so many times as high, as
    /// far as target and window allow. Without this and `continue_cut` a shorter answer is asked
    /// for.
    #[schemars(range(min = 1.1, max = 16.0))]
    pub raise_max_output_tokens: Option<f64>,
    /// After an answer that its token limit cut: ask for the rest and join it to what came; the
    /// whole is then checked. False if absent.
    pub continue_cut: Option<bool>,
}

/// Parameters of `fallback_to_target`.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TargetParameters {
    /// Targets in order of preference; the step's own list if absent.
    #[schemars(length(max = 64))]
    pub targets: Option<Vec<String>>,
    /// How often the rung may be taken per target that failed; 1 if absent. Each target is taken
    /// at most once per step anyway.
    #[schemars(range(min = 1, max = 64))]
    pub attempts: Option<u32>,
}

/// Parameters of `fallback_to_cache`.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct CacheParameters {
    /// Oldest entry that is good enough; `cache.max_age` if absent.
    pub max_age: Option<DurationText>,
}

/// Parameters of `fallback_to_template`.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TemplateParameters {
    /// The output, any JSON value but null; the step's own template if absent.
    pub template: Option<Value>,
}

/// Parameters of `accept_partial`.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct PartialParameters {
    /// Values for fields that do not hold, by name.
    pub defaults: Option<Map<String, Value>>,
}

/// Parameters of `reject_and_fix`.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RejectParameters {
    /// What to tell the caller, beside the failure's own sentence.
    #[schemars(length(min = 1, max = 500))]
    pub message: Option<String>,
}

/// The action has no parameters.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NoParameters {}

/// A route that comes before `routing` where its condition holds.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OverrideEntry {
    /// Its name, unique within the policy; decisions name it.
    #[schemars(
        regex(pattern = "^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$"),
        extend("patternErrorMessage" = "expected a name of 1 to 64 letters, digits, `_` and `-`, such as vip-customers")
    )]
    pub name: String,
    /// When it holds: CEL over `step`, `target`, `pipeline`, `attempt`, `labels` and `failure`
    /// (`domain`, `cause`, `retryable`, `status`, `provider_code`, `detail`, `retry_after_ms`).
    pub when: String,
    /// The routes.
    pub routing: RoutingSection,
}

/// A closed list of words as one `enum`, which tells more of a wrong word than a choice of constants
/// does. The words' descriptions stay, in the form that editors read.
fn plain_enum(schema: &mut Schema) {
    let Some(Value::Array(words)) = schema.remove("oneOf") else { return };
    let of = |key: &str| words.iter().filter_map(|word| word.get(key).cloned()).collect();
    let (names, descriptions): (Vec<Value>, Vec<Value>) = (of("const"), of("description"));
    schema.insert("type".to_owned(), "string".into());
    schema.insert("enum".to_owned(), names.into());
    schema.insert("enumDescriptions".to_owned(), descriptions.into());
}

/// Schema of a map by cause: editors complete the causes. Unknown ones are left to the compiler of
/// policies, which can say what was meant and where a cause belongs.
struct ByCause<T>(std::marker::PhantomData<T>);

impl<T: JsonSchema> JsonSchema for ByCause<T> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        "ByCause".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let value = generator.subschema_for::<T>();
        let properties: Map<String, Value> = FailureCause::ALL
            .iter()
            .map(|cause| (cause.name().to_owned(), value.clone().to_value()))
            .collect();
        json_schema!({
            "type": "object",
            "properties": properties,
            "additionalProperties": value,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_schema_names_every_action_and_cause() {
        let schema = SHAPE.schema().to_string();
        for action in crate::policy::Action::ALL {
            assert!(schema.contains(&format!("\"{}\"", action.name())), "{action}");
        }
        for cause in FailureCause::ALL {
            assert!(schema.contains(&format!("\"{}\"", cause.name())), "{cause}");
        }
    }
}
