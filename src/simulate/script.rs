//! The script: which models there are, what they answer, and what goes wrong.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;
use serde_saphyr::{Location, Spanned};

use super::answers::{AnswerDocument, AnswerRule};
use super::chance::Spread;
use super::fault_document::FaultDocument;
use super::faults::FaultRule;
use super::templates::Templates;
use super::times::SpreadDocument;

/// Largest script in bytes.
const BYTES_MAX: usize = 1 << 20;

/// Most calls that a model can be told to answer at a time.
const AT_ONCE_MAX: usize = 65_536;

/// The choreography of the shipped example.
pub const REHEARSAL: &str = include_str!("../../config/simulate/rehearsal.yaml");

/// A script without faults or special answers: any model, any prompt.
pub const DEFAULT: &str = include_str!("../../config/simulate/default.yaml");

/// Why a script cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{source_name}:{line}:{column}: {message}")]
pub struct ScriptError {
    /// The name under which the text was given.
    pub source_name: String,
    /// Line, from 1.
    pub line: u64,
    /// Column, from 1.
    pub column: u64,
    /// What is wrong.
    pub message: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ScriptDocument {
    #[serde(default)]
    seed: u64,
    #[serde(default)]
    require_credential: bool,
    #[serde(default)]
    limits: Option<LimitsDocument>,
    models: BTreeMap<String, Spanned<ModelDocument>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct LimitsDocument {
    #[serde(default)]
    connections: Option<usize>,
    #[serde(default)]
    connection_seconds: Option<u64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct ModelDocument {
    #[serde(default)]
    context_window: Option<u64>,
    #[serde(default)]
    max_output_tokens: Option<u64>,
    #[serde(default)]
    at_once: Option<usize>,
    #[serde(default)]
    latency: Option<LatencyDocument>,
    #[serde(default)]
    answers: Vec<Spanned<AnswerDocument>>,
    #[serde(default)]
    faults: Vec<Spanned<FaultDocument>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct LatencyDocument {
    #[serde(default)]
    delay: Option<SpreadDocument>,
    #[serde(default)]
    first_token: Option<SpreadDocument>,
    #[serde(default)]
    between: Option<SpreadDocument>,
}

/// A script, ready for use.
#[derive(Debug, Clone)]
pub struct Script {
    /// Where all luck begins.
    pub seed: u64,
    /// Calls without a credential are refused.
    pub require_credential: bool,
    /// Most connections at once; more wait to be accepted.
    pub connections_max: usize,
    /// A connection is closed after this time, whatever it does.
    pub connection_time_max: Duration,
    /// Models by name; `*` is for all others.
    pub models: BTreeMap<String, Model>,
    /// The engine for the answers.
    pub templates: Templates,
}

/// A model.
#[derive(Debug, Clone, Default)]
pub struct Model {
    /// Prompts that are estimated longer are refused.
    pub context_window: Option<u64>,
    /// Answers that are estimated longer are cut.
    pub output_tokens_max: Option<u64>,
    /// Calls that are answered at a time; others stand in line.
    pub at_once: Option<usize>,
    /// How long it always takes.
    pub latency: Latency,
    /// What it says; the first that matches counts.
    pub answers: Vec<AnswerRule>,
    /// What goes wrong.
    pub faults: Vec<FaultRule>,
}

/// How long a model takes without any fault.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Latency {
    /// Before the headers.
    pub delay: Option<Spread>,
    /// Before the first token of a stream.
    pub first_token: Option<Spread>,
    /// Before each other token.
    pub between: Option<Spread>,
}

impl Script {
    /// Reads a script, YAML or JSON.
    ///
    /// # Errors
    /// The first mistake, with its place.
    pub fn parse(text: &str, source_name: &str) -> Result<Self, ScriptError> {
        let error = |place: Location, message: String| ScriptError {
            source_name: source_name.to_owned(),
            line: place.line().max(1),
            column: place.column().max(1),
            message,
        };
        if text.len() > BYTES_MAX {
            let message = format!("a script has at most {BYTES_MAX} bytes");
            return Err(error(Location::UNKNOWN, message));
        }
        let options = serde_saphyr::options! {
            strict_booleans: true,
            budget: serde_saphyr::budget! { max_depth: 64, max_aliases: 100, max_anchors: 100 },
        };
        let document: ScriptDocument =
            serde_saphyr::from_str_with_options(text, options).map_err(|problem| {
                let place = problem.location().unwrap_or(Location::UNKNOWN);
                let told = problem.without_snippet().to_string();
                error(place, told.lines().next().unwrap_or("not a script").to_owned())
            })?;
        let templates = Templates::new();
        let limits = document.limits.unwrap_or_default();
        let mut models = BTreeMap::new();
        for (name, model) in document.models {
            if name.contains('!') {
                let message = format!("`{name}`: `!` begins an override and is no part of a name");
                return Err(error(model.referenced, message));
            }
            let model = Model::compile(model.value, &templates)
                .map_err(|(place, message)| error(place, message))?;
            models.insert(name, model);
        }
        Ok(Self {
            seed: document.seed,
            require_credential: document.require_credential,
            connections_max: limits.connections.unwrap_or(1_024).clamp(1, 65_536),
            connection_time_max: Duration::from_secs(
                limits.connection_seconds.unwrap_or(600).clamp(1, 86_400),
            ),
            models,
            templates,
        })
    }

    /// The shipped choreography.
    ///
    /// # Errors
    /// Never, as a test holds.
    pub fn rehearsal() -> Result<Self, ScriptError> {
        Self::parse(REHEARSAL, "config/simulate/rehearsal.yaml")
    }

    /// The model of this name, else the one named `*`.
    pub fn model(&self, name: &str) -> Option<&Model> {
        self.models.get(name).or_else(|| self.models.get("*"))
    }
}

impl Model {
    fn compile(document: ModelDocument, templates: &Templates) -> Result<Self, (Location, String)> {
        let mut answers = Vec::new();
        for answer in document.answers {
            let place = answer.referenced;
            let rule =
                AnswerRule::compile(answer.value, templates).map_err(|message| (place, message))?;
            answers.push(rule);
        }
        let mut faults = Vec::new();
        for fault in document.faults {
            let place = fault.referenced;
            faults.push(fault.value.compile().map_err(|message| (place, message))?);
        }
        let latency = document.latency.unwrap_or_default();
        let spread = |given: Option<SpreadDocument>| given.map(|given| given.0);
        Ok(Self {
            context_window: document.context_window,
            output_tokens_max: document.max_output_tokens,
            at_once: document.at_once.map(|places| places.clamp(1, AT_ONCE_MAX)),
            latency: Latency {
                delay: spread(latency.delay),
                first_token: spread(latency.first_token),
                between: spread(latency.between),
            },
            answers,
            faults,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn refused(text: &str, line: u64, because: &str) {
        let error = Script::parse(text, "x.yaml").unwrap_err();
        assert_eq!(error.line, line, "{error}");
        assert!(error.message.contains(because), "{error}");
        assert!(error.to_string().starts_with(&format!("x.yaml:{line}:")), "{error}");
    }

    #[test]
    fn the_shipped_scripts_are_right() {
        let rehearsal = Script::rehearsal().unwrap();
        assert_eq!(rehearsal.models.len(), 4);
        assert!(Script::parse(DEFAULT, "default.yaml").unwrap().model("anything").is_some());
        for name in super::super::fault_document::NAMES {
            assert!(DEFAULT.contains(name), "the reference does not tell of {name}");
        }
    }

    #[test]
    fn mistakes_are_placed() {
        refused("seed: 1\nmodel: {}\n", 2, "model");
        refused("models:\n  a:\n    colour: red\n", 3, "colour");
        refused(
            "models:\n  a:\n    faults:\n      - {fault: fence}\n      - {fault: tea}\n",
            5,
            "`tea`",
        );
        refused(
            "models:\n  a:\n    faults:\n      - fault: fence\n        to: 5\n",
            4,
            "no parameter",
        );
        refused("models:\n  a:\n    answers:\n      - text: '{{ oops'\n", 4, "template");
        refused("models:\n  a:\n    answers:\n      - {text: a, json: {}}\n", 4, "one of");
        refused(
            "models:\n  a:\n    answers:\n      - {when: {regex: '('}, text: a}\n",
            4,
            "regular",
        );
        refused("models:\n  a:\n    context_window: many\n", 3, "");
        refused("models: [\n", 1, "mapping");
    }

    proptest::proptest! {
        /// Whatever is written, it is read or refused with a place inside the text.
        #[test]
        fn any_text_is_read_or_refused(text in "[ -~\n]{0,200}") {
            if let Err(error) = Script::parse(&text, "x") {
                proptest::prop_assert!(error.line >= 1 && error.column >= 1);
            }
        }
    }

    #[test]
    fn json_is_read_too() {
        let script = Script::parse(r#"{"seed": 3, "models": {"*": {}}}"#, "x.json").unwrap();
        assert_eq!(script.seed, 3);
    }
}
