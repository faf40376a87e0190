//! What templates and expressions of a step can see.

use std::collections::BTreeMap;

use minijinja::Value as Shown;
use serde_json::Value;

use super::template::{Ordered, Reads, pruned, whole};
use crate::expression::Variable;

/// An earlier step as later ones see it.
#[derive(Debug, Clone, Copy)]
pub struct StepView<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its output; null where it was skipped.
    pub output: &'a Value,
    /// Whether its condition was false.
    pub skipped: bool,
}

/// One element of the list that a step goes over.
#[derive(Debug, Clone, Copy)]
pub struct Element<'a> {
    /// The element.
    pub item: &'a Value,
    /// Its place in the list, from 0.
    pub index: usize,
}

/// The values at hand for one step (or one element of it), borrowed from the run.
#[derive(Debug, Clone, Copy)]
pub struct Scope<'a> {
    /// The run's input.
    pub input: &'a Value,
    /// The steps that are done; at least those that the step needs, directly or not.
    pub steps: &'a [StepView<'a>],
    /// The run's id.
    pub run_id: &'a str,
    /// The run's labels.
    pub labels: &'a BTreeMap<String, String>,
    /// The element, where the step goes over a list.
    pub element: Option<Element<'a>>,
    /// The output under judgement, for rules, confidence and verifier.
    pub output: Option<&'a Value>,
    /// The judging step's output, for the verifier's condition.
    pub verdict: Option<&'a Value>,
}

/// The variables of every template and expression.
pub(super) const COMMON: [&str; 4] = ["input", "steps", "skipped", "run"];

impl<'a> Scope<'a> {
    /// A scope with an input and nothing else.
    pub fn new(
        input: &'a Value,
        steps: &'a [StepView<'a>],
        run_id: &'a str,
        labels: &'a BTreeMap<String, String>,
    ) -> Self {
        Self { input, steps, run_id, labels, element: None, output: None, verdict: None }
    }

    /// The same for one element of the step's list.
    pub fn with_element(self, item: &'a Value, index: usize) -> Self {
        Self { element: Some(Element { item, index }), ..self }
    }

    /// The same with the output that is to be judged.
    pub fn with_output(self, output: &'a Value) -> Self {
        Self { output: Some(output), ..self }
    }

    /// The same with the judging step's output.
    pub fn with_verdict(self, verdict: &'a Value) -> Self {
        Self { verdict: Some(verdict), ..self }
    }

    /// For an expression, in the order of the declaration: `input`, `steps`, `skipped`, `run`, …
    pub fn variables(&self) -> Vec<(&'a str, Variable<'a>)> {
        let outputs = self.steps.iter().map(|step| (step.name, Variable::Json(step.output)));
        let skipped = self.steps.iter().map(|step| (step.name, Variable::Bool(step.skipped)));
        let labels = self.labels.iter().map(|(k, v)| (k.as_str(), Variable::Text(v)));
        let run =
            vec![("id", Variable::Text(self.run_id)), ("labels", Variable::Map(labels.collect()))];
        let mut variables = vec![
            ("input", Variable::Json(self.input)),
            ("steps", Variable::Map(outputs.collect())),
            ("skipped", Variable::Map(skipped.collect())),
            ("run", Variable::Map(run)),
        ];
        if let Some(element) = self.element {
            let index = i64::try_from(element.index).unwrap_or(i64::MAX);
            variables.push(("item", Variable::Json(element.item)));
            variables.push(("index", Variable::Int(index)));
        }
        variables.extend(self.output.map(|output| ("output", Variable::Json(output))));
        variables.extend(self.verdict.map(|verdict| ("verdict", Variable::Json(verdict))));
        variables
    }

    /// For templates: only what is read.
    pub(super) fn context(&self, reads: &Reads) -> Shown {
        let mut context: Vec<(&str, Shown)> = Vec::new();
        let mut put = |name: &'static str, make: &dyn Fn(&Reads) -> Shown| {
            if let Some(reads) = reads.of(name) {
                context.push((name, make(reads)));
            }
        };
        put("input", &|reads| pruned(self.input, reads));
        put("steps", &|reads| {
            Ordered::value(self.steps.iter().filter_map(|step| {
                let value = match reads.of(step.name) {
                    Some(reads) => pruned(step.output, reads),
                    None if reads.whole => whole(step.output),
                    None => return None,
                };
                Some((step.name.into(), value))
            }))
        });
        put("skipped", &|_| {
            Ordered::value(self.steps.iter().map(|s| (s.name.into(), Shown::from(s.skipped))))
        });
        put("run", &|_| {
            let labels = self.labels.iter().map(|(k, v)| (k.as_str().into(), v.as_str().into()));
            Ordered::value([
                ("id".into(), Shown::from(self.run_id)),
                ("labels".into(), Ordered::value(labels)),
            ])
        });
        if let Some(element) = self.element {
            put("item", &|reads| pruned(element.item, reads));
            put("index", &|_| Shown::from(element.index));
        }
        if let Some(output) = self.output {
            put("output", &|reads| pruned(output, reads));
        }
        Ordered::value(context.into_iter().map(|(name, value)| (name.into(), value)))
    }
}
