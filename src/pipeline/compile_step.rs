//! One step from its written form to its meaning, with every mistake noted.

mod output;
mod prompt;

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use super::compile::{Known, is_name};
use super::digest::digests;
use super::document::{
    RawForEach, RawForEachFull, RawOnElementFailure, RawSampling, RawStep, RawTool,
};
use super::findings::Findings;
use super::schema::Schema;
use super::scope::COMMON;
use super::spec::{ForEach, OnElementFailure, Step};
use super::template::did_you_mean;
use crate::document::DurationText;
use crate::exchange::{Sampling, Tool, ToolChoice};
use crate::expression::Expression;

/// Most messages, parts of a message, tools, and rules.
const ITEMS_MAX: usize = 64;
/// Members of a provider's request that no step may lay its own over.
const OWN_MEMBERS: [&str; 6] =
    ["model", "messages", "contents", "stream", "stream_options", "max_retries"];

/// What a step is compiled against.
pub(super) struct Surroundings<'a> {
    pub(super) known: &'a Known<'a>,
    /// Names of all steps.
    pub(super) steps: &'a [&'a str],
    /// Names of the steps that are surely done before this one.
    pub(super) visible: &'a [&'a str],
}

/// Compiles the step at `path`. Nothing comes back if an error was noted.
pub(super) fn step(
    raw: &RawStep,
    path: &str,
    around: &Surroundings<'_>,
    findings: &mut Findings,
) -> Option<Step> {
    let mut own = Findings::default();
    let mut compiler = StepCompiler { raw, path, around, findings: &mut own, judged: None };
    let step = compiler.whole();
    let usable = own.usable();
    findings.append(own);
    step.filter(|_| usable)
}

struct StepCompiler<'a> {
    raw: &'a RawStep,
    path: &'a str,
    around: &'a Surroundings<'a>,
    findings: &'a mut Findings,
    /// The step whose output this one judges, for the step of a verifier: its prompt sees that output
    /// and the element that it is of.
    judged: Option<&'a RawStep>,
}

impl StepCompiler<'_> {
    fn at(&self, field: &str) -> String {
        format!("{}/{field}", self.path)
    }

    fn error(&mut self, field: &str, message: impl Into<String>) {
        let path = self.at(field);
        self.findings.error(path, message);
    }

    fn whole(&mut self) -> Option<Step> {
        let raw = self.raw;
        if !is_name(&raw.name) {
            self.error("name", "a name has 1 to 64 characters of a-z, 0-9, `_` and `-`");
        }
        self.targets();
        let when = raw.when.as_deref().map(|source| self.expression("when", source, &[]));
        let for_each = raw.for_each.as_ref().map(|for_each| self.for_each(for_each));
        let prompt = self.prompt();
        let tools = self.tools();
        let tool_choice = self.tool_choice();
        let sampling = self.sampling();
        let output = self.output();
        let rules = self.rules();
        let confidence = self.confidence();
        let verifier = raw.verifier.as_deref().map(|verifier| self.verifier(verifier));
        if let Some(output) = &output {
            self.template_output(output);
        }
        let timeout = self.time("timeout", raw.timeout);
        let attempt_timeout = self.time("attempt_timeout", raw.attempt_timeout);
        self.limits();
        let (digest_without_prompt, digest) = digests(raw, "prompt");
        Some(Step {
            name: raw.name.as_str().into(),
            targets: raw.targets.iter().map(|name| name.as_str().into()).collect(),
            needs: Vec::new(),
            ancestors: Vec::new(),
            when: required(when)?,
            for_each: required(for_each)?,
            prompt: prompt?,
            tools,
            tool_choice,
            sampling,
            output: output?,
            rules,
            confidence,
            mandatory: raw.mandatory.iter().map(|name| pointer(name).into()).collect(),
            verifier: required(verifier)?.map(Box::new),
            template_output: raw.template_output.clone().map(Arc::new),
            timeout,
            attempt_timeout,
            max_attempts: raw.max_attempts,
            max_cost_usd: raw.max_cost_usd,
            extra: raw.extra.clone(),
            digest: digest.into(),
            digest_without_prompt,
        })
    }

    fn targets(&mut self) {
        let raw = self.raw;
        for (index, name) in raw.targets.iter().enumerate() {
            let path = self.at(&format!("targets/{index}"));
            if raw.targets[..index].contains(name) {
                self.findings.error(path, format!("target `{name}` stands here twice"));
            } else if let Some(known) = self.around.known.targets
                && !known.contains(&name.as_str())
            {
                let hint = did_you_mean(name, known.iter().copied());
                self.findings.error_with(path, format!("there is no target `{name}`"), hint);
            }
        }
    }

    /// Variables of this step's expressions, the most common first.
    fn variables(&self, more: &[&'static str]) -> Vec<&'static str> {
        let mut variables = COMMON.to_vec();
        if [Some(self.raw), self.judged].into_iter().flatten().any(|step| step.for_each.is_some()) {
            variables.extend(["item", "index"]);
        }
        variables.extend(more);
        variables
    }

    fn expression(
        &mut self,
        field: &str,
        source: &str,
        more: &[&'static str],
    ) -> Option<Expression> {
        let path = self.at(field);
        // The condition and the list are looked at before there is an element.
        let variables = match field.split('/').next() {
            Some("when" | "for_each") => COMMON.to_vec(),
            _ => self.variables(more),
        };
        expression(&path, source, &variables, self.around, self.findings)
    }

    fn for_each(&mut self, raw: &RawForEach) -> Option<ForEach> {
        let short;
        let (full, field) = match raw {
            RawForEach::Full(full) => (full, "for_each/items"),
            RawForEach::Items(items) => {
                short = RawForEachFull {
                    items: items.clone(),
                    parallelism: None,
                    on_element_failure: None,
                    max_items: None,
                };
                (&short, "for_each")
            }
        };
        let parallelism = self.within("for_each/parallelism", full.parallelism, 4, 1..=64);
        let max_items = self.within("for_each/max_items", full.max_items, 1_000, 1..=10_000);
        Some(ForEach {
            items: self.expression(field, &full.items, &[])?,
            parallelism,
            on_element_failure: match full.on_element_failure {
                None | Some(RawOnElementFailure::Fail) => OnElementFailure::Fail,
                Some(RawOnElementFailure::Skip) => OnElementFailure::Skip,
                Some(RawOnElementFailure::Collect) => OnElementFailure::Collect,
            },
            max_items,
        })
    }

    fn within(
        &mut self,
        field: &str,
        value: Option<u32>,
        default: u32,
        range: std::ops::RangeInclusive<u32>,
    ) -> usize {
        let value = value.unwrap_or(default);
        if !range.contains(&value) {
            self.error(field, format!("has to be from {} to {}", range.start(), range.end()));
        }
        value as usize
    }

    fn tools(&mut self) -> Vec<Tool> {
        let raw = self.raw;
        if raw.tools.len() > ITEMS_MAX {
            self.error("tools", format!("at most {ITEMS_MAX} tools"));
        }
        let mut tools: Vec<Tool> = Vec::new();
        for (index, RawTool { name, description, parameters }) in raw.tools.iter().enumerate() {
            if !is_label(name) {
                let message = "a tool's name has 1 to 64 characters of a-z, A-Z, 0-9, `_` and `-`";
                self.error(&format!("tools/{index}/name"), message);
            }
            if tools.iter().any(|tool| tool.name == *name) {
                self.error(&format!("tools/{index}/name"), format!("tool `{name}` exists already"));
            }
            if let Some(schema) = parameters {
                self.schema(&format!("tools/{index}/parameters"), schema);
            }
            let parameters = parameters.clone().unwrap_or_else(|| json!({"type": "object"}));
            tools.push(Tool {
                name: name.clone(),
                description: description.clone(),
                parameters: Arc::new(parameters),
            });
        }
        tools
    }

    fn tool_choice(&mut self) -> ToolChoice {
        let raw = self.raw;
        let names: Vec<&str> = raw.tools.iter().map(|tool| tool.name.as_str()).collect();
        let choice = match raw.tool_choice.as_deref() {
            None | Some("auto") => return ToolChoice::Auto,
            Some("none") => ToolChoice::None,
            Some("required") => ToolChoice::Required,
            Some(name) => {
                if !names.is_empty() && !names.contains(&name) {
                    let hint = did_you_mean(name, names.iter().copied());
                    let path = self.at("tool_choice");
                    self.findings.error_with(path, format!("there is no tool `{name}`"), hint);
                }
                ToolChoice::Named(name.to_owned())
            }
        };
        if names.is_empty() {
            self.error("tool_choice", "there are no tools to choose from");
        }
        choice
    }

    fn sampling(&mut self) -> Sampling {
        let Some(raw) = &self.raw.sampling else { return Sampling::default() };
        let RawSampling { temperature, top_p, max_output_tokens, stop, seed } = raw;
        for (field, value, most) in [("temperature", temperature, 2.0), ("top_p", top_p, 1.0)] {
            if value.is_some_and(|value| !(0.0..=most).contains(&value)) {
                self.error(&format!("sampling/{field}"), format!("has to be from 0 to {most}"));
            }
        }
        if *max_output_tokens == Some(0) {
            self.error("sampling/max_output_tokens", "has to be at least 1");
        }
        if stop.len() > 16 || stop.iter().any(String::is_empty) {
            self.error("sampling/stop", "at most 16 texts, none of them empty");
        }
        Sampling {
            temperature: *temperature,
            top_p: *top_p,
            max_output_tokens: *max_output_tokens,
            stop: stop.clone(),
            seed: *seed,
        }
    }

    fn schema(&mut self, field: &str, source: &Value) -> Option<Schema> {
        match Schema::compile(source) {
            Ok(schema) => Some(schema),
            Err(problem) => {
                let path = format!("{}{}", self.at(field), problem.path);
                self.findings.error(path, problem.message);
                None
            }
        }
    }

    fn time(&mut self, field: &str, raw: Option<DurationText>) -> Option<Duration> {
        let duration = raw?.0;
        if duration.is_zero() {
            self.error(field, "has to be longer than 0");
        }
        Some(duration)
    }

    fn limits(&mut self) {
        let raw = self.raw;
        if raw.max_attempts.is_some_and(|most| !(1..=32).contains(&most)) {
            self.error("max_attempts", "has to be from 1 to 32");
        }
        if raw.max_cost_usd.is_some_and(|most| !most.is_finite() || most < 0.0) {
            self.error("max_cost_usd", "has to be a number that is not negative");
        }
        for name in raw.extra.keys().filter(|name| OWN_MEMBERS.contains(&name.as_str())) {
            self.error(&format!("extra/{name}"), format!("`{name}` cannot be laid over"));
            self.findings.on_key();
        }
    }
}

impl Surroundings<'_> {
    /// What is wrong with reading this path, if it reads a step that is not surely done.
    fn unseen(&self, path: &[&str]) -> Option<(String, Option<String>)> {
        let ["steps" | "skipped", name, ..] = path else { return None };
        if self.visible.contains(name) {
            return None;
        }
        if self.steps.contains(name) {
            let message = format!("step `{name}` is not surely done before this one");
            return Some((message, Some(format!("add `{name}` to `needs`"))));
        }
        let hint = did_you_mean(name, self.visible.iter().copied());
        Some((format!("there is no step `{name}`"), hint))
    }
}

/// Compiles an expression and checks the steps that it reads.
pub(super) fn expression(
    path: &str,
    source: &str,
    variables: &[&str],
    around: &Surroundings<'_>,
    findings: &mut Findings,
) -> Option<Expression> {
    match Expression::compile(source, variables) {
        Ok(expression) => {
            for read in expression.reads() {
                if let Some((message, hint)) = around.unseen(&read) {
                    findings.error_with(path, message, hint);
                }
            }
            Some(expression)
        }
        Err(error) => {
            findings.expression(path, error);
            None
        }
    }
}

/// What is not asked for is fine; what is asked for and did not compile is not.
fn required<T>(value: Option<Option<T>>) -> Option<Option<T>> {
    match value {
        None => Some(None),
        Some(compiled) => compiled.map(Some),
    }
}

fn is_label(name: &str) -> bool {
    (1..=64).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
}

/// A member by its name, or a JSON Pointer as it is.
fn pointer(name: &str) -> String {
    if name.starts_with('/') {
        return name.to_owned();
    }
    format!("/{}", name.replace('~', "~0").replace('/', "~1"))
}
