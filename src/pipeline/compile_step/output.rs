//! What a usable output of a step is, and what judges it.

use super::{ITEMS_MAX, StepCompiler, is_label};
use crate::pipeline::document::{RawAskProvider, RawRuleSeverity, RawVerifier};
use crate::pipeline::spec::{AskProvider, Confidence, OutputSpec, Rule, RuleSeverity, Verifier};

impl StepCompiler<'_> {
    pub(super) fn output(&mut self) -> Option<OutputSpec> {
        let text = |min_chars: Option<u32>, max_chars: Option<u32>| OutputSpec::Text {
            min_chars: min_chars.map(|n| n as usize),
            max_chars: max_chars.map(|n| n as usize),
        };
        let Some(raw) = &self.raw.output else { return Some(text(None, None)) };
        match (&raw.text, &raw.json) {
            (Some(raw), None) => {
                if let (Some(min), Some(max)) = (raw.min_chars, raw.max_chars)
                    && min > max
                {
                    self.error("output/text/min_chars", "is above `max_chars`");
                }
                Some(text(raw.min_chars, raw.max_chars))
            }
            (None, Some(raw)) => {
                let name = raw.name.clone().unwrap_or_else(|| self.raw.name.clone());
                if raw.name.as_deref().is_some_and(|name| !is_label(name)) {
                    let message =
                        "a schema's name has 1 to 64 characters of a-z, A-Z, 0-9, `_`, `-`";
                    self.error("output/json/name", message);
                }
                let schema = match &raw.schema {
                    Some(source) => Some(self.schema("output/json/schema", source)?),
                    None => None,
                };
                let ask_provider = match raw.ask_provider {
                    Some(RawAskProvider::Schema) if schema.is_none() => {
                        self.error("output/json/ask_provider", "`schema` needs a schema");
                        AskProvider::Json
                    }
                    None if schema.is_none() => AskProvider::Json,
                    None | Some(RawAskProvider::Schema) => AskProvider::Schema,
                    Some(RawAskProvider::Json) => AskProvider::Json,
                    Some(RawAskProvider::Nothing) => AskProvider::Nothing,
                };
                Some(OutputSpec::Json { schema, name, ask_provider })
            }
            (Some(_), Some(_)) | (None, None) => {
                self.error("output", "exactly one of `text` and `json`");
                None
            }
        }
    }

    pub(super) fn rules(&mut self) -> Vec<Rule> {
        let raw = self.raw;
        if raw.rules.is_empty() {
            return Vec::new();
        }
        if raw.rules.len() > ITEMS_MAX {
            self.error("rules", format!("at most {ITEMS_MAX} rules"));
        }
        let mut rules = Vec::new();
        for (index, rule) in raw.rules.iter().enumerate() {
            let field = format!("rules/{index}/check");
            let Some(check) = self.expression(&field, &rule.check, &["output"]) else { continue };
            rules.push(Rule {
                check,
                message: rule.message.as_str().into(),
                severity: match rule.severity {
                    None | Some(RawRuleSeverity::Error) => RuleSeverity::Error,
                    Some(RawRuleSeverity::Warning) => RuleSeverity::Warning,
                },
            });
        }
        rules
    }

    pub(super) fn confidence(&mut self) -> Option<Confidence> {
        let raw = self.raw.confidence.as_ref()?;
        if !raw.minimum.is_finite() {
            self.error("confidence/minimum", "has to be a finite number");
        }
        let expression = self.expression("confidence/expression", &raw.expression, &["output"])?;
        Some(Confidence { expression, minimum: raw.minimum })
    }

    pub(super) fn verifier(&mut self, raw: &RawVerifier) -> Option<Verifier> {
        for (field, present) in [
            ("needs", raw.step.needs.is_some()),
            ("when", raw.step.when.is_some()),
            ("for_each", raw.step.for_each.is_some()),
            ("verifier", raw.step.verifier.is_some()),
        ] {
            if present {
                self.error(&format!("verifier/step/{field}"), "a judging step has no such field");
                return None;
            }
        }
        let accept = self.expression("verifier/accept", &raw.accept, &["output", "verdict"]);
        let path = self.at("verifier/step");
        let mut judge = StepCompiler {
            raw: &raw.step,
            path: &path,
            around: self.around,
            findings: self.findings,
            judged: Some(self.raw),
        };
        Some(Verifier { step: judge.whole()?, accept: accept? })
    }

    pub(super) fn template_output(&mut self, output: &OutputSpec) {
        let Some(value) = &self.raw.template_output else { return };
        match output {
            OutputSpec::Text { .. } if !value.is_string() => {
                self.error("template_output", "the output of this step is text");
            }
            OutputSpec::Json { schema: Some(schema), .. } => {
                for violation in schema.violations(value) {
                    let message = format!(
                        "does not satisfy the schema of the step's output: {}",
                        violation.message
                    );
                    self.error(&format!("template_output{}", violation.path), message);
                }
            }
            OutputSpec::Text { .. } | OutputSpec::Json { schema: None, .. } => {}
        }
    }
}
