//! What a step's output must be, compiled once and shared by every attempt.

use std::borrow::Cow;
use std::sync::Arc;

use serde_json::Value;

use super::schema::{Schema, SchemaError};

/// The options of a contract beside its shape.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContractOptions {
    /// Values are not coerced to the schema: the JSON must satisfy it as the model wrote it.
    pub strict_schema_mode: bool,
    /// Code fences may be taken off. Without it a fenced reply is malformed.
    pub strip_fences: bool,
    /// Fewest characters that the text may have.
    pub chars_min: Option<usize>,
    /// Most characters that the text may have.
    pub chars_max: Option<usize>,
    /// An empty text is a good answer (text contracts only).
    pub allow_empty: bool,
}

impl Default for ContractOptions {
    fn default() -> Self {
        Self {
            strict_schema_mode: false,
            strip_fences: true,
            chars_min: None,
            chars_max: None,
            allow_empty: false,
        }
    }
}

/// What a step's output must be. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Contract {
    shape: Shape,
    options: ContractOptions,
}

/// Text, any JSON, or JSON with a schema.
#[derive(Debug, Clone)]
pub(super) enum Shape {
    Text,
    Json(Option<Schema>),
}

impl Contract {
    /// Free text.
    pub fn text(options: ContractOptions) -> Self {
        Self { shape: Shape::Text, options }
    }

    /// Any JSON value.
    pub fn json(options: ContractOptions) -> Self {
        Self { shape: Shape::Json(None), options }
    }

    /// JSON that satisfies `schema` (2020-12, or the draft that its `$schema` names).
    pub fn json_schema(schema: Arc<Value>, options: ContractOptions) -> Result<Self, SchemaError> {
        Ok(Self { shape: Shape::Json(Some(Schema::compile(schema)?)), options })
    }

    /// The same contract as a policy's `validation` wants it held. Nothing is compiled anew.
    pub fn under(&self, strict_schema_mode: bool, strip_fences: bool) -> Cow<'_, Self> {
        let own = &self.options;
        if (own.strict_schema_mode, own.strip_fences) == (strict_schema_mode, strip_fences) {
            return Cow::Borrowed(self);
        }
        let options = ContractOptions { strict_schema_mode, strip_fences, ..own.clone() };
        Cow::Owned(Self { shape: self.shape.clone(), options })
    }

    /// The options.
    pub fn options(&self) -> &ContractOptions {
        &self.options
    }

    /// The schema as it was written, where there is one.
    pub fn schema_document(&self) -> Option<&Value> {
        self.schema().map(Schema::document)
    }

    /// Whether JSON is asked for.
    pub fn wants_json(&self) -> bool {
        matches!(self.shape, Shape::Json(_))
    }

    pub(super) fn shape(&self) -> &Shape {
        &self.shape
    }

    pub(super) fn schema(&self) -> Option<&Schema> {
        match &self.shape {
            Shape::Text => None,
            Shape::Json(schema) => schema.as_ref(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_changes_options_and_compiles_nothing() {
        let contract = Contract::json(ContractOptions { chars_max: Some(9), ..Default::default() });
        assert!(matches!(contract.under(false, true), Cow::Borrowed(_)));
        let strict = contract.under(true, false);
        let options = strict.options();
        assert!(options.strict_schema_mode && !options.strip_fences);
        assert_eq!(options.chars_max, Some(9));
    }

    #[test]
    fn a_contract_can_be_shared() {
        fn shared<T: Send + Sync + Clone>() {}
        shared::<Contract>();
    }
}
