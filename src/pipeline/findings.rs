//! Mistakes found in a step, before it is known where the step came from.
//!
//! A step stands in a document or comes along with a request. Both are compiled by the same code,
//! which notes what is wrong by JSON Pointer; only at the end this becomes a problem with a line
//! and a column, or a violation with a field path.

use serde_json::Value;

use crate::document::{Document, Position, Problem, Problems, Severity};
use crate::expression::ExpressionError;

/// A mistake in a step that came with a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldProblem {
    /// JSON Pointer from the step: `/prompt/0/system`, …; empty for the step itself.
    pub field_path: String,
    /// What is wrong, with a suggestion if there is one.
    pub message: String,
}

#[derive(Debug)]
struct Finding {
    severity: Severity,
    path: String,
    on_key: bool,
    /// Line and column inside the text at `path`, both from 1.
    inside: Option<(u32, u32)>,
    message: String,
    suggestion: Option<String>,
}

/// What was found so far.
#[derive(Debug, Default)]
pub(super) struct Findings(Vec<Finding>);

impl Findings {
    fn push(
        &mut self,
        severity: Severity,
        path: impl Into<String>,
        message: impl Into<String>,
        suggestion: Option<String>,
    ) {
        self.0.push(Finding {
            severity,
            path: path.into(),
            on_key: false,
            inside: None,
            message: message.into(),
            suggestion,
        });
    }

    pub(super) fn error(&mut self, path: impl Into<String>, message: impl Into<String>) {
        self.push(Severity::Error, path, message, None);
    }

    pub(super) fn error_with(
        &mut self,
        path: impl Into<String>,
        message: impl Into<String>,
        suggestion: Option<String>,
    ) {
        self.push(Severity::Error, path, message, suggestion);
    }

    pub(super) fn warning(
        &mut self,
        path: impl Into<String>,
        message: impl Into<String>,
        suggestion: Option<String>,
    ) {
        self.push(Severity::Warning, path, message, suggestion);
    }

    /// Moves the last finding to the key of its member.
    pub(super) fn on_key(&mut self) {
        if let Some(last) = self.0.last_mut() {
            last.on_key = true;
        }
    }

    /// A mistake inside the text at `path`.
    pub(super) fn inside(
        &mut self,
        path: impl Into<String>,
        at: (u32, u32),
        message: impl Into<String>,
        suggestion: Option<String>,
    ) {
        self.push(Severity::Error, path, message, suggestion);
        if let Some(last) = self.0.last_mut() {
            last.inside = Some(at);
        }
    }

    pub(super) fn expression(&mut self, path: impl Into<String>, error: ExpressionError) {
        match error {
            ExpressionError::Refused { line, column, message, suggestion } => {
                self.inside(path, (line, column), message, suggestion);
            }
            other => self.error(path, other.to_string()),
        }
    }

    pub(super) fn append(&mut self, other: Self) {
        self.0.extend(other.0);
    }

    pub(super) fn usable(&self) -> bool {
        self.0.iter().all(|finding| finding.severity != Severity::Error)
    }

    /// As problems of the document that the step stands in.
    pub(super) fn into_problems(self, document: &Document) -> Problems {
        let json = document.to_json();
        let problems = self.0.into_iter().map(|finding| finding.place(document, &json)).collect();
        Problems(problems).sorted()
    }

    /// As violations of a request's fields; warnings are left out.
    pub(super) fn into_fields(self) -> Vec<FieldProblem> {
        self.0
            .into_iter()
            .filter(|finding| finding.severity == Severity::Error)
            .map(|finding| {
                let mut message = finding.message;
                if let Some((line, column)) = finding.inside {
                    message = format!("{message} (at {line}:{column} of the text)");
                }
                if let Some(suggestion) = finding.suggestion {
                    message = format!("{message} ({suggestion})");
                }
                FieldProblem { field_path: finding.path, message }
            })
            .collect()
    }
}

impl Finding {
    fn place(self, document: &Document, json: &Value) -> Problem {
        let mut message = self.message;
        let mut position = if self.on_key {
            document.position_of_key(&self.path)
        } else {
            document.position_of(&self.path)
        };
        if let Some(inside) = self.inside {
            match inside_text(document, json.pointer(&self.path), position, inside) {
                Some(found) => position = found,
                None if inside.0 > 1 => message = format!("{message} (line {} of it)", inside.0),
                None => {}
            }
        }
        let problem = Problem::error(self.path, position, message).suggest(self.suggestion);
        Problem { severity: self.severity, ..problem }
    }
}

/// Where a place inside a text value stands in the document.
///
/// YAML writes a text in many ways and the reader only knows where it starts. So the line is
/// looked for where it stands if it is written as it reads; what is not found there (escapes,
/// folded lines) keeps the place of the value.
fn inside_text(
    document: &Document,
    value: Option<&Value>,
    start: Position,
    (line, column): (u32, u32),
) -> Option<Position> {
    let text = value?.as_str()?;
    let wanted = text.lines().nth(line.checked_sub(1)? as usize)?;
    let needle = wanted.trim();
    if needle.is_empty() {
        return None;
    }
    let leading = wanted.chars().count() - wanted.trim_start().chars().count();
    let candidate = start.line.checked_add(line)?.checked_sub(1)?;
    let written = document.text.lines().nth(candidate.checked_sub(1)? as usize)?;
    let from = if candidate == start.line { start.column.checked_sub(1)? as usize } else { 0 };
    let from = written.char_indices().nth(from).map_or(written.len(), |(byte, _)| byte);
    let found = written[from..].find(needle)?;
    let before = written[..from + found].chars().count();
    let column = before + (column as usize).saturating_sub(leading);
    Some(Position { line: candidate, column: u32::try_from(column).ok()? })
}
