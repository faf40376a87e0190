//! The structure of a document held against the schema of its Rust type.

mod forms;

use std::marker::PhantomData;
use std::sync::OnceLock;

use jsonschema::error::ValidationErrorKind as Kind;
use jsonschema::{ValidationError, Validator};
use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::problem::missing;
use super::{Document, Problem, Problems, nearest};

/// The checked way from a [`Document`] to `T`. Make one `static` per type: the schema is built
/// once.
pub struct Shape<T> {
    schema: OnceLock<(Value, Option<Validator>)>,
    of: PhantomData<fn() -> T>,
}

impl<T: JsonSchema + DeserializeOwned> Default for Shape<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T: JsonSchema + DeserializeOwned> Shape<T> {
    /// The shape of `T`.
    pub const fn new() -> Self {
        Self { schema: OnceLock::new(), of: PhantomData }
    }

    /// The JSON Schema (draft 2020-12) of `T`, for editors.
    pub fn schema(&self) -> &Value {
        &self.parts().0
    }

    fn parts(&self) -> &(Value, Option<Validator>) {
        self.schema.get_or_init(Self::made)
    }

    fn made() -> (Value, Option<Validator>) {
        let schema = schemars::schema_for!(T).to_value();
        let validator = jsonschema::options().build(&schema).ok();
        (schema, validator)
    }

    /// Reads the document as a `T`.
    ///
    /// # Errors
    /// Every structural mistake, in reading order.
    pub fn read(&self, document: &Document) -> Result<T, Problems> {
        Self::read_by(self.parts(), document)
    }

    /// [`Shape::read`] of a document that is read once in the life of a process, or nearly so: what
    /// it is held against takes a few hundred kilobytes and is not kept.
    ///
    /// # Errors
    /// Every structural mistake, in reading order.
    pub fn read_once(&self, document: &Document) -> Result<T, Problems> {
        Self::read_by(&Self::made(), document)
    }

    fn read_by(parts: &(Value, Option<Validator>), document: &Document) -> Result<T, Problems> {
        let (schema, validator) = parts;
        let json = document.to_json();
        let mut problems = Problems::default();
        // Saying what is wrong takes many times as long as finding that nothing is.
        if let Some(validator) = validator
            && !validator.is_valid(&json)
        {
            for error in validator.iter_errors(&json) {
                describe(&error, document, schema, "", &mut problems);
            }
        }
        if !problems.0.is_empty() {
            return Err(problems.sorted());
        }
        // `3.0` is a whole number to the schema, and none to a Rust type.
        let read = serde_json::from_value(json);
        read.or_else(|_| serde_json::from_value(with_whole_numbers(document.to_json()))).map_err(
            |error| Problems(vec![Problem::error("", document.root.position, error.to_string())]),
        )
    }
}

/// The value with whole numbers written as such.
fn with_whole_numbers(value: Value) -> Value {
    match value {
        Value::Number(number) => {
            let is_whole = number.is_i64() || number.is_u64();
            let float = number.as_f64().filter(|float| !is_whole && float.fract() == 0.0);
            let whole = float.and_then(|float| format!("{float:.0}").parse::<i64>().ok());
            Value::Number(whole.map_or(number, Into::into))
        }
        Value::Array(items) => items.into_iter().map(with_whole_numbers).collect(),
        Value::Object(members) => {
            members.into_iter().map(|(key, value)| (key, with_whole_numbers(value))).collect()
        }
        other @ (Value::Null | Value::Bool(_) | Value::String(_)) => other,
    }
}

/// Adds the problems behind one schema error. For a choice between forms (`anyOf`), the mistakes
/// of the form that was most likely meant: the one with the right type at the top, and among
/// these the one with the deepest mistake.
fn describe(
    error: &ValidationError<'_>,
    document: &Document,
    schema: &Value,
    base: &str,
    problems: &mut Problems,
) {
    let path = format!("{base}{}", error.instance_path().as_str());
    match error.kind() {
        Kind::AdditionalProperties { unexpected } => {
            let known = properties_at(schema, error.schema_path().as_str());
            for key in unexpected {
                let at = format!("{path}/{}", key.replace('~', "~0").replace('/', "~1"));
                problems.push(
                    Problem::error(
                        at.clone(),
                        document.position_of_key(&at),
                        format!("unknown key `{key}`"),
                    )
                    .suggest(key_suggestion(key, &known)),
                );
            }
        }
        Kind::AnyOf { context } | Kind::OneOfNotValid { context }
            if constants(context).is_some() && error.instance().is_string() =>
        {
            // An enum with documented variants: one constant a branch.
            let options = constants(context).unwrap_or_default();
            problems.push(not_one_of(&path, document, &short(error.instance()), &options));
        }
        Kind::AnyOf { context } | Kind::OneOfNotValid { context } => match likely_branch(context) {
            Some(branch) => {
                for inner in branch {
                    describe(inner, document, schema, base, problems);
                }
            }
            None => {
                let (message, advice) = forms::of_another(context, error.instance());
                let problem = Problem::error(path.clone(), document.position_of(&path), message);
                problems.push(problem.suggest(advice));
            }
        },
        Kind::Type { kind } => {
            let expected = own_form_at(schema, error.schema_path().as_str());
            let (message, advice) = forms::of_one(kind, expected, error.instance());
            let problem = Problem::error(path.clone(), document.position_of(&path), message);
            problems.push(problem.suggest(advice));
        }
        Kind::Enum { options } => {
            let options: Vec<&str> = options
                .as_array()
                .map(|all| all.iter().filter_map(Value::as_str).collect())
                .unwrap_or_default();
            problems.push(not_one_of(&path, document, &short(error.instance()), &options));
        }
        Kind::Pattern { .. } => {
            let expected = form_at(schema, error.schema_path().as_str());
            let message = format!("{expected}, found `{}`", short(error.instance()));
            problems.push(Problem::error(&path, document.position_of(&path), message));
        }
        kind => problems.push(Problem::error(
            path.clone(),
            document.position_of(&path),
            sentence(kind, error.instance()),
        )),
    }
}

/// The form that a `pattern` stands for, in the words of the type that has it. Editors know the
/// same key.
fn form_at<'a>(schema: &'a Value, keyword_path: &str) -> &'a str {
    own_form_at(schema, keyword_path).unwrap_or("expected a text of another form")
}

/// The same of a value that has a form of its own, if this one has.
fn own_form_at<'a>(schema: &'a Value, keyword_path: &str) -> Option<&'a str> {
    node_of(schema, keyword_path)?.get("patternErrorMessage")?.as_str()
}

fn not_one_of(path: &str, document: &Document, given: &str, options: &[&str]) -> Problem {
    let message = format!("`{given}` is not one of: {}", options.join(", "));
    let near = nearest(given, options.iter().copied());
    Problem::error(path, document.position_of(path), message)
        .suggest(near.map(|word| format!("did you mean `{word}`?")))
}

/// The words of a choice, if every branch of it is a word or a list of words.
fn constants<'a>(context: &'a [Vec<ValidationError<'static>>]) -> Option<Vec<&'a str>> {
    let mut words = Vec::new();
    for branch in context {
        let [error] = branch.as_slice() else { return None };
        match error.kind() {
            Kind::Constant { expected_value } => words.push(expected_value.as_str()?),
            Kind::Enum { options } => {
                words.extend(options.as_array().into_iter().flatten().filter_map(Value::as_str));
            }
            _ => return None,
        }
    }
    (!words.is_empty()).then_some(words)
}

fn key_suggestion(key: &str, known: &[String]) -> Option<String> {
    match nearest(key, known.iter().map(String::as_str)) {
        Some(word) => Some(format!("did you mean `{word}`?")),
        None if known.is_empty() || known.len() > 24 => None,
        None => Some(format!("known here: {}", known.join(", "))),
    }
}

/// Keys that the schema knows at the object whose `additionalProperties` failed.
fn properties_at(schema: &Value, keyword_path: &str) -> Vec<String> {
    node_of(schema, keyword_path)
        .and_then(|node| node.get("properties"))
        .and_then(Value::as_object)
        .map(|properties| properties.keys().cloned().collect())
        .unwrap_or_default()
}

/// The part of the schema that has the keyword at this path.
fn node_of<'a>(schema: &'a Value, keyword_path: &str) -> Option<&'a Value> {
    let object = keyword_path.rsplit_once('/').map_or("", |(object, _)| object);
    object.split('/').skip(1).try_fold(schema, |node, token| {
        let token = token.replace("~1", "/").replace("~0", "~");
        match node {
            Value::Array(items) => token.parse::<usize>().ok().and_then(|i| items.get(i)),
            other => other.get(&token),
        }
    })
}

fn likely_branch<'a>(
    context: &'a [Vec<ValidationError<'static>>],
) -> Option<&'a [ValidationError<'static>]> {
    let depth = |error: &ValidationError<'_>| error.instance_path().as_str().matches('/').count();
    let top = context.iter().flatten().map(depth).min()?;
    let wrong_form = |branch: &[ValidationError<'static>]| {
        branch.iter().any(|e| depth(e) == top && matches!(e.kind(), Kind::Type { .. }))
    };
    context
        .iter()
        .map(Vec::as_slice)
        .filter(|branch| !branch.is_empty() && !wrong_form(branch))
        .max_by_key(|branch| branch.iter().map(depth).max())
}

fn sentence(kind: &Kind, instance: &Value) -> String {
    match kind {
        Kind::Required { property } => missing(property.as_str().unwrap_or_default()),
        Kind::Minimum { limit } => format!("{} is below the least, {limit}", short(instance)),
        Kind::Maximum { limit } => format!("{} is above the most, {limit}", short(instance)),
        Kind::ExclusiveMinimum { limit } => format!("must be above {limit}"),
        Kind::ExclusiveMaximum { limit } => format!("must be below {limit}"),
        Kind::MinItems { limit } => format!("needs at least {limit} items"),
        Kind::MaxItems { limit } => format!("may have at most {limit} items"),
        Kind::MinLength { limit } => format!("needs at least {limit} characters"),
        Kind::MaxLength { limit } => format!("may have at most {limit} characters"),
        // The open rest of the schema vocabulary, which our types do not use.
        other => format!("breaks the rule `{}`", other.keyword()),
    }
}

/// A value in a message: documents hold no secrets, but a long text helps nobody.
fn short(value: &Value) -> String {
    let text = match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    match text.char_indices().nth(40) {
        Some((cut, _)) => format!("{}…", &text[..cut]),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;

    #[derive(Debug, Deserialize, JsonSchema)]
    #[allow(dead_code)]
    #[serde(deny_unknown_fields)]
    struct Thing {
        #[serde(default)]
        colour: Option<Colour>,
        #[serde(default)]
        parts: Vec<Part>,
    }

    #[derive(Debug, Deserialize, JsonSchema)]
    #[serde(rename_all = "snake_case")]
    enum Colour {
        Red,
        DeepBlue,
    }

    #[derive(Debug, Deserialize, JsonSchema)]
    #[allow(dead_code)]
    #[serde(untagged)]
    enum Part {
        Name(String),
        Full(Full),
    }

    #[derive(Debug, Deserialize, JsonSchema)]
    #[serde(deny_unknown_fields)]
    struct Full {
        #[allow(dead_code)]
        weight: f64,
    }

    fn problems(text: &str) -> String {
        static SHAPE: Shape<Thing> = Shape::new();
        let document = Document::parse("x", text).unwrap();
        SHAPE.read(&document).map(|_| String::new()).unwrap_or_else(|e| e.to_string())
    }

    #[test]
    fn every_mistake_at_once_with_place_and_suggestion() {
        assert_eq!(problems("colour: red\nparts: [a, {weight: 1}]"), "");
        assert_eq!(
            problems("color: red\nparts:\n  - {weigth: 1}\n  - 3\n"),
            "1:1: error: color: unknown key `color` (did you mean `colour`?)\n\
             3:5: error: parts[0]: `weight` is missing\n\
             3:6: error: parts[0].weigth: unknown key `weigth` (did you mean `weight`?)\n\
             4:5: error: parts[1]: expected a text or a map, found `3`"
        );
        assert_eq!(
            problems("colour: deep-blu"),
            "1:9: error: colour: `deep-blu` is not one of: red, deep_blue (did you mean `deep_blue`?)"
        );
    }
}
