//! What the condition of an override sees, and the fields that it can be found by.

use std::sync::Arc;

use serde_json::{Map, Value};

use super::Site;
use crate::expression::{Expression, ExpressionError, Literal, Required, Requirements};
use crate::failure::{Failure, FailureCause, FailureDomain};

/// Variables that the `when` of an override may read.
pub const VARIABLES: &[&str] = &["step", "target", "failure", "attempt", "labels", "pipeline"];

/// What `failure` has.
pub(in crate::policy) const FAILURE_FIELDS: &[&str] =
    &["domain", "cause", "retryable", "status", "provider_code", "detail", "retry_after_ms"];

/// A field that conditions are found by.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Key {
    /// `step`
    Step,
    /// `target`
    Target,
    /// `pipeline`
    Pipeline,
    /// `attempt`
    Attempt,
    /// `failure.status`
    Status,
    /// `failure.provider_code`
    ProviderCode,
    /// `failure.detail`
    Detail,
    /// `labels.NAME`
    Label(Arc<str>),
}

/// The value of a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Found<'a> {
    Text(&'a str),
    Int(i64),
}

impl Key {
    /// Keys that are the same for every policy.
    pub(super) const FIXED: [Self; 7] = [
        Self::Step,
        Self::Target,
        Self::Pipeline,
        Self::Attempt,
        Self::Status,
        Self::ProviderCode,
        Self::Detail,
    ];

    fn of(path: &[String]) -> Option<Self> {
        let path: Vec<&str> = path.iter().map(String::as_str).collect();
        Some(match *path.as_slice() {
            ["step"] => Self::Step,
            ["target"] => Self::Target,
            ["pipeline"] => Self::Pipeline,
            ["attempt"] => Self::Attempt,
            ["failure", "status"] => Self::Status,
            ["failure", "provider_code"] => Self::ProviderCode,
            ["failure", "detail"] => Self::Detail,
            ["labels", name] => Self::Label(Arc::from(name)),
            _ => return None,
        })
    }

    /// Whether the field is a number; else it is a text.
    pub(in crate::policy) const fn is_number(&self) -> bool {
        match self {
            Self::Attempt | Self::Status => true,
            Self::Step
            | Self::Target
            | Self::Pipeline
            | Self::ProviderCode
            | Self::Detail
            | Self::Label(_) => false,
        }
    }

    /// The field as conditions write it.
    pub(in crate::policy) fn path(&self) -> String {
        match self {
            Self::Step => "step".to_owned(),
            Self::Target => "target".to_owned(),
            Self::Pipeline => "pipeline".to_owned(),
            Self::Attempt => "attempt".to_owned(),
            Self::Status => "failure.status".to_owned(),
            Self::ProviderCode => "failure.provider_code".to_owned(),
            Self::Detail => "failure.detail".to_owned(),
            Self::Label(name) => format!("labels.{name}"),
        }
    }

    /// What the field is here; nothing where it is absent. Says what [`Seen`] says.
    pub(super) fn look_up<'a>(&self, failure: &'a Failure, site: &Site<'a>) -> Option<Found<'a>> {
        match self {
            Self::Step => Some(Found::Text(site.step)),
            Self::Target => Some(Found::Text(site.target)),
            Self::Pipeline => Some(Found::Text(site.pipeline.unwrap_or_default())),
            Self::Attempt => Some(Found::Int(site.attempt.into())),
            Self::Status => failure.evidence.status.map(|status| Found::Int(status.into())),
            Self::ProviderCode => failure.evidence.provider_code.as_deref().map(Found::Text),
            Self::Detail => failure.detail.map(Found::Text),
            Self::Label(name) => site.labels.get(&**name).map(|value| Found::Text(value)),
        }
    }
}

impl Found<'_> {
    pub(super) fn equals(self, literal: &Literal) -> bool {
        match (self, literal) {
            (Self::Text(found), Literal::Text(asked)) => found == asked,
            (Self::Int(found), Literal::Int(asked)) => found == *asked,
            (Self::Text(_), Literal::Int(_)) | (Self::Int(_), Literal::Text(_)) => false,
        }
    }
}

/// A field that has to equal one of some literals.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Demand {
    /// The field.
    pub key: Key,
    /// The literals.
    pub values: Vec<Literal>,
}

/// What the condition of an override asks for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Demands {
    /// Fields beside cause and domain.
    pub fields: Vec<Demand>,
    /// Names of causes, where it asks for some.
    pub causes: Option<Vec<Literal>>,
    /// Names of domains, where it asks for some.
    pub domains: Option<Vec<Literal>>,
    /// Whether it holds wherever all of this does.
    pub complete: bool,
    /// Whether it never holds.
    pub never: bool,
}

impl Demands {
    /// Those of a condition.
    pub fn of(when: &Expression) -> Self {
        let Requirements::All { fields, complete } = when.requirements() else {
            return Self { never: true, ..Self::default() };
        };
        let mut demands = Self { complete, ..Self::default() };
        for Required { path, values } in fields {
            match path.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
                ["failure", "cause"] => demands.causes = Some(values),
                ["failure", "domain"] => demands.domains = Some(values),
                _ => match Key::of(&path) {
                    Some(key) => demands.fields.push(Demand { key, values }),
                    None => demands.complete = false,
                },
            }
        }
        demands
    }

    /// Whether it may hold for failures of this cause.
    pub fn admits(&self, cause: FailureCause) -> bool {
        let names = |asked: &Option<Vec<Literal>>, name: &str| {
            asked.as_ref().is_none_or(|all| all.iter().any(|one| Found::Text(name).equals(one)))
        };
        let domain: FailureDomain = cause.domain();
        !self.never && names(&self.causes, cause.name()) && names(&self.domains, domain.name())
    }

    /// Whether the fields have what is asked for. Causes and domains are looked at with
    /// [`Self::admits`], once for each cause, when the policy is compiled.
    pub(super) fn are_met(&self, failure: &Failure, site: &Site<'_>) -> bool {
        self.fields.iter().all(|demand| {
            let found = demand.key.look_up(failure, site);
            found.is_some_and(|found| demand.values.iter().any(|value| found.equals(value)))
        })
    }
}

/// The variables of a condition, built once per failure and only if a condition must be evaluated.
pub(super) struct Seen {
    step: Value,
    target: Value,
    failure: Value,
    attempt: Value,
    labels: Value,
    pipeline: Value,
}

impl Seen {
    pub(super) fn new(failure: &Failure, site: &Site<'_>) -> Self {
        let mut seen = Map::new();
        seen.insert("domain".into(), failure.domain().name().into());
        seen.insert("cause".into(), failure.cause.name().into());
        seen.insert("retryable".into(), failure.retryable.into());
        // What is not known is absent, not null, so that a condition on it does not hold instead
        // of being a mistake.
        if let Some(status) = failure.evidence.status {
            seen.insert("status".into(), status.into());
        }
        if let Some(code) = &failure.evidence.provider_code {
            seen.insert("provider_code".into(), code.as_str().into());
        }
        if let Some(detail) = failure.detail {
            seen.insert("detail".into(), detail.into());
        }
        if let Some(hint) = failure.retry_after {
            let ms = u64::try_from(hint.as_millis()).unwrap_or(u64::MAX);
            seen.insert("retry_after_ms".into(), ms.into());
        }
        let labels = site.labels.iter().map(|(k, v)| (k.clone(), v.as_str().into()));
        Self {
            step: site.step.into(),
            target: site.target.into(),
            failure: Value::Object(seen),
            attempt: site.attempt.into(),
            labels: Value::Object(labels.collect()),
            pipeline: site.pipeline.unwrap_or_default().into(),
        }
    }

    pub(super) fn holds(&self, when: &Expression) -> Result<bool, ExpressionError> {
        when.evaluate_bool(&[
            ("step", &self.step),
            ("target", &self.target),
            ("failure", &self.failure),
            ("attempt", &self.attempt),
            ("labels", &self.labels),
            ("pipeline", &self.pipeline),
        ])
    }
}
