//! Templates: minijinja held to what a prompt needs.
//!
//! A template comes from a pipeline document or along with a request, so it is not trusted: no
//! other templates, no access to anything but its variables, an unknown variable is an error and
//! not an empty text, and its work is paid for with fuel. Output is data: what was rendered is
//! never rendered again.
//!
//! Values that are no texts are written as JSON (`true`, `null`, `{"a":1}`), which is what a model
//! expects, and not in the spelling of Python.

mod scan;
mod value;

use std::collections::{BTreeSet, HashMap, HashSet};
use std::io;
use std::sync::{Arc, LazyLock};

use minijinja::syntax::SyntaxConfig;
use minijinja::value::ValueKind;
use minijinja::{Environment, Error, ErrorKind, UndefinedBehavior, Value as Shown};

use crate::document::nearest;
use crate::failure::{Failure, FailureCause};
pub(super) use scan::Refusal;
use scan::{Chain, Scan};
pub(super) use value::{Ordered, Reads, pruned, whole};

/// Longest template in bytes.
pub const SOURCE_BYTES_MAX: usize = 64 * 1024;
/// Longest rendered text in bytes.
pub const OUTPUT_BYTES_MAX: usize = 1024 * 1024;
/// Steps that rendering one template may take. A step pays for about 64 bytes of text.
pub const FUEL: u64 = 100_000;
/// Most variables, each path counted, that one template may read.
const VARIABLES_MAX: usize = 500;
/// Steps where texts are compared in loops: each may be a megabyte, and the engine counts it as one.
const COMPARING_FUEL: u64 = 10_000;
/// Deepest nesting of macro calls and blocks while rendering.
const RECURSION_MAX: usize = 32;

/// What keeps a template from rendering. No text names a value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// It reads what is not there.
    #[error("`{path}` is absent (line {line} of the template)")]
    Missing {
        /// The variable as the template writes it.
        path: String,
        /// Line in the template.
        line: usize,
    },
    /// It needs more steps, or writes more, than it may.
    #[error("the template {0}")]
    TooCostly(&'static str),
    /// It uses a value in a way that the value does not allow.
    #[error("{reason} (line {line} of the template)")]
    Broken {
        /// What is wrong.
        reason: &'static str,
        /// Line in the template.
        line: usize,
    },
}

impl From<TemplateError> for Failure {
    fn from(error: TemplateError) -> Self {
        let cause = match error {
            TemplateError::Missing { .. } => FailureCause::MissingInput,
            TemplateError::TooCostly(_) | TemplateError::Broken { .. } => {
                FailureCause::TemplateError
            }
        };
        Self::new(cause, error.to_string())
    }
}

/// The engine's settings; cheap to clone.
static BASE: LazyLock<Environment<'static>> = LazyLock::new(|| {
    let mut base = Environment::new();
    let known = scan::FILTERS;
    for name in ["zip", "chain", "batch", "slice", "pprint", "safe", "escape", "e"] {
        debug_assert!(!known.contains(&name));
        base.remove_filter(name);
    }
    for name in ["dict", "namespace", "debug"] {
        base.remove_global(name);
    }
    base.set_undefined_behavior(UndefinedBehavior::Strict);
    // Debug mode keeps the values of variables in its errors.
    base.set_debug(false);
    base.set_fuel(Some(FUEL));
    base.set_recursion_limit(RECURSION_MAX);
    base.set_formatter(|out, _, value| match value.kind() {
        ValueKind::String => out.write_str(value.as_str().unwrap_or_default()).map_err(Error::from),
        ValueKind::Number => write!(out, "{value}").map_err(Error::from),
        ValueKind::Undefined => Err(Error::from(ErrorKind::UndefinedError)),
        _ => match serde_json::to_string(value) {
            Ok(json) => out.write_str(&json).map_err(Error::from),
            Err(_) => Err(Error::from(ErrorKind::BadSerialization)),
        },
    });
    if let Ok(syntax) = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build() {
        base.set_syntax(syntax);
    }
    base
});

/// The templates of one prompt, compiled together.
#[derive(Debug, Clone)]
pub(super) struct Engine(Arc<Environment<'static>>);

/// One compiled template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Template {
    /// Text without any tag.
    Literal(Arc<str>),
    /// The template of this name in the engine.
    Named(Arc<str>),
}

/// Compiles templates into one [`Engine`].
pub(super) struct Compiler {
    environment: Environment<'static>,
    compiled: usize,
    /// Whether one of them compares variables again and again.
    compares: bool,
    /// What all of them read together.
    pub(super) reads: Reads,
}

/// What a template reads, as far as the paths are fixed, each with the byte where it stands.
pub(super) type ReadPaths = Vec<(Vec<String>, usize)>;

impl Compiler {
    pub(super) fn new() -> Self {
        let environment = BASE.clone();
        Self { environment, compiled: 0, compares: false, reads: Reads::default() }
    }

    /// Compiles one template. Its variables are returned, not judged.
    pub(super) fn add(&mut self, source: &str) -> Result<(Template, ReadPaths), Refusal> {
        if source.len() > SOURCE_BYTES_MAX {
            let message = format!(
                "the template has {} bytes; at most {SOURCE_BYTES_MAX} are read",
                source.len()
            );
            return Err(Refusal { at: 0, message, suggestion: None });
        }
        let Scan { dynamic, chains, compares, .. } = scan::scan(source)?;
        self.compares |= compares;
        if !dynamic {
            let text = source.strip_suffix('\n').unwrap_or(source);
            let text = text.strip_suffix('\r').unwrap_or(text);
            return Ok((Template::Literal(text.into()), Vec::new()));
        }
        let name: Arc<str> = self.compiled.to_string().into();
        self.compiled += 1;
        self.environment
            .add_template_owned(name.to_string(), source.to_owned())
            .map_err(|error| syntax(&error))?;
        let undeclared: BTreeSet<String> = match self.environment.get_template(&name) {
            Ok(template) => template.undeclared_variables(true).into_iter().collect(),
            Err(error) => return Err(syntax(&error)),
        };
        if undeclared.len() > VARIABLES_MAX {
            let message = format!("the template reads more than {VARIABLES_MAX} variables");
            return Err(Refusal { at: 0, message, suggestion: None });
        }
        let places = places(&chains);
        let mut reads = Vec::with_capacity(undeclared.len());
        for path in undeclared {
            let path: Vec<String> = path.split('.').map(str::to_owned).collect();
            self.reads.add(path.iter().map(String::as_str));
            let exact = places.get(path.as_slice());
            let at = exact.or_else(|| places.get(&path[..1])).copied().unwrap_or_default();
            reads.push((path, at));
        }
        // `steps["a-name"]` is a fixed path too, of which the engine sees `steps` only.
        let seen: HashSet<&[String]> = reads.iter().map(|(path, _)| path.as_slice()).collect();
        let mut more: Vec<(Vec<String>, usize)> = Vec::new();
        for path in ["steps", "skipped"].map(|root| [root.to_owned()]) {
            if seen.contains(path.as_slice()) {
                let deeper = places.iter().filter(|(p, _)| p.len() == 2 && p[0] == path[0]);
                more.extend(deeper.map(|(path, at)| (path.to_vec(), *at)));
            }
        }
        reads.append(&mut more);
        Ok((Template::Named(name), reads))
    }

    pub(super) fn finish(mut self) -> (Engine, Reads) {
        if self.compares {
            self.environment.set_fuel(Some(COMPARING_FUEL));
        }
        (Engine(Arc::new(self.environment)), self.reads)
    }
}

/// The first place of each path and of each beginning of one.
fn places(chains: &[Chain]) -> HashMap<&[String], usize> {
    let mut places = HashMap::new();
    for chain in chains {
        for length in 1..=chain.path.len() {
            places.entry(&chain.path[..length]).or_insert(chain.at);
        }
    }
    places
}

fn syntax(error: &Error) -> Refusal {
    Refusal {
        at: error.range().map_or(0, |range| range.start),
        message: error.detail().unwrap_or("the template cannot be read").to_owned(),
        suggestion: None,
    }
}

impl Engine {
    /// Renders one template, at most `bytes_max` of it.
    pub(super) fn render(
        &self,
        template: &Template,
        context: &Shown,
        bytes_max: usize,
    ) -> Result<String, TemplateError> {
        let name = match template {
            Template::Literal(text) => return Ok(text.to_string()),
            Template::Named(name) => name,
        };
        let broken = |reason| TemplateError::Broken { reason, line: 1 };
        let template = self.0.get_template(name).map_err(|_| broken("the template is lost"))?;
        let mut out = Capped { bytes: Vec::new(), bytes_max, full: false };
        match template.render_captured_to(context.clone(), &mut out) {
            Ok(_) => String::from_utf8(out.bytes).map_err(|_| broken("the text is not UTF-8")),
            Err(_) if out.full => Err(TemplateError::TooCostly("writes more than it may")),
            Err(error) => Err(failed(&error, template.source())),
        }
    }
}

/// Our own words for the engine's error: its words may hold values.
fn failed(error: &Error, source: &str) -> TemplateError {
    let line = error.line().unwrap_or(1);
    let broken = |reason| TemplateError::Broken { reason, line };
    match error.kind() {
        ErrorKind::OutOfFuel => TemplateError::TooCostly("needs more steps than it may take"),
        ErrorKind::UndefinedError => {
            let range = error.range().unwrap_or(0..0);
            let path = name_at(source, range).unwrap_or_else(|| "a variable".to_owned());
            TemplateError::Missing { path, line }
        }
        ErrorKind::InvalidOperation => match undefined_operand(error, source) {
            Some(path) => TemplateError::Missing { path, line },
            None => broken("a value does not fit the operation"),
        },
        ErrorKind::NonPrimitive | ErrorKind::NonKey => broken("a value is not a simple one"),
        ErrorKind::UnknownFilter => broken("a filter is unknown"),
        ErrorKind::UnknownTest => broken("a test is unknown"),
        ErrorKind::UnknownFunction | ErrorKind::UnknownMethod => broken("a function is unknown"),
        ErrorKind::MissingArgument | ErrorKind::TooManyArguments => {
            broken("a filter or function has the wrong number of arguments")
        }
        ErrorKind::CannotUnpack => broken("a list has not as many elements as names"),
        ErrorKind::BadSerialization => broken("a value cannot be written as JSON"),
        _ => broken("the template does not render"),
    }
}

/// The operand that is not there, where an operator met one. The engine reports it as a matter of
/// types, and only by their names: no value stands in the text that is looked at.
fn undefined_operand(error: &Error, source: &str) -> Option<String> {
    let types = error.detail()?.split_once("unsupported types ")?.1;
    let text = source.get(error.range()?)?;
    let is_part = |c: char| c.is_alphanumeric() || "_.[]'\"".contains(c);
    let operand = match types.split_once(" and ")? {
        ("undefined", _) => text.split(|c| !is_part(c)).next(),
        (_, "undefined") => text.rsplit(|c| !is_part(c)).next(),
        _ => return None,
    };
    Some(operand.filter(|path| !path.is_empty()).unwrap_or("a variable").to_owned())
}

/// The variable that an error stands at: the text there, or, where the error is about a filter,
/// the path before it. `None` where it does not read like a path.
fn name_at(source: &str, range: std::ops::Range<usize>) -> Option<String> {
    let is_path = |text: &str| {
        text.starts_with(|c: char| c.is_alphabetic() || c == '_')
            && text.len() <= 128
            && text.chars().all(|c| c.is_alphanumeric() || "_.[]'\"-".contains(c))
    };
    let before = source.get(..range.start)?.trim_end();
    let text = match before.strip_suffix('|') {
        Some(value) => {
            let value = value.trim_end();
            let start = value.rfind(|c: char| c.is_whitespace() || "{(|,".contains(c));
            &value[start.map_or(0, |start| start + 1)..]
        }
        None => source.get(range)?,
    };
    is_path(text).then(|| text.to_owned())
}

/// A buffer that refuses to grow beyond its limit.
struct Capped {
    bytes: Vec<u8>,
    bytes_max: usize,
    full: bool,
}

impl io::Write for &mut Capped {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.bytes.len() + bytes.len() > self.bytes_max {
            self.full = true;
            return Err(io::Error::from(io::ErrorKind::OutOfMemory));
        }
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Line and column, from 1, of a byte of a text.
pub(super) fn line_and_column(text: &str, at: usize) -> (u32, u32) {
    let before = text.get(..at).unwrap_or_default();
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    let number = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    (number(line), number(column))
}

/// "Did you mean" for a name.
pub(super) fn did_you_mean<'a>(
    name: &str,
    known: impl IntoIterator<Item = &'a str>,
) -> Option<String> {
    nearest(name, known).map(|near| format!("did you mean `{near}`?"))
}
