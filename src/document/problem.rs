//! A mistake in a document, with its place.

use std::fmt;

use super::{Position, printable};

/// Whether a document with this problem can be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// The document is refused.
    Error,
    /// The document is legal and this is surely not meant.
    Warning,
}

impl Severity {
    /// `error` or `warning`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
        }
    }
}

/// One mistake.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Whether it refuses the document.
    pub severity: Severity,
    /// JSON Pointer to the value at fault; empty for the whole document.
    pub path: String,
    /// Where it stands.
    pub position: Position,
    /// What is wrong.
    pub message: String,
    /// What to write instead.
    pub suggestion: Option<String>,
}

impl Problem {
    /// An error. What the message quotes of the document is made fit to print.
    pub fn error(path: impl Into<String>, position: Position, message: impl Into<String>) -> Self {
        Self {
            severity: Severity::Error,
            path: path.into(),
            position,
            message: printable(&message.into()).into_owned(),
            suggestion: None,
        }
    }

    /// A warning.
    pub fn warning(
        path: impl Into<String>,
        position: Position,
        message: impl Into<String>,
    ) -> Self {
        Self { severity: Severity::Warning, ..Self::error(path, position, message) }
    }

    /// The same problem with a suggestion, if there is one.
    pub fn suggest(mut self, suggestion: Option<impl Into<String>>) -> Self {
        self.suggestion = suggestion.map(Into::into);
        self
    }

    /// The path in the form that people write: `routing.infrastructure.ladder[2]`.
    pub fn dotted_path(&self) -> String {
        let mut dotted = String::new();
        for token in self.path.split('/').skip(1) {
            let token = token.replace("~1", "/").replace("~0", "~");
            if token.bytes().all(|b| b.is_ascii_digit()) && !token.is_empty() {
                dotted.push_str(&format!("[{token}]"));
            } else {
                if !dotted.is_empty() {
                    dotted.push('.');
                }
                dotted.push_str(&printable(&token));
            }
        }
        dotted
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Position { line, column } = self.position;
        write!(f, "{line}:{column}: {}: ", self.severity.name())?;
        let path = self.dotted_path();
        if !path.is_empty() {
            write!(f, "{path}: ")?;
        }
        f.write_str(&self.message)?;
        match &self.suggestion {
            Some(suggestion) => write!(f, " ({suggestion})"),
            None => Ok(()),
        }
    }
}

/// What is said of a map that lacks a member.
pub(super) fn missing(key: &str) -> String {
    format!("`{key}` is missing")
}

/// The member whose lack this is about.
pub(super) fn missing_member(message: &str) -> Option<&str> {
    message.strip_prefix('`')?.strip_suffix("` is missing")
}

/// Most problems of one document that are told. A document with more is not read to its end by
/// anybody, and may be meant to do harm.
pub const PROBLEMS_MAX: usize = 1_000;

/// All problems of one document.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Problems(pub Vec<Problem>);

impl Problems {
    /// True when none of them refuses the document.
    pub fn usable(&self) -> bool {
        self.0.iter().all(|problem| problem.severity != Severity::Error)
    }

    /// Adds one.
    pub fn push(&mut self, problem: Problem) {
        self.0.push(problem);
    }

    /// In reading order, without repetitions; of very many the first [`PROBLEMS_MAX`], with the
    /// number of the others. What is sorted already stays as it is.
    pub fn sorted(mut self) -> Self {
        self.0.sort_by(|a, b| {
            (a.position, a.severity, &a.path, &a.message)
                .cmp(&(b.position, b.severity, &b.path, &b.message))
        });
        self.0.dedup();
        if self.0.len() > PROBLEMS_MAX + 1 {
            let rest = self.0.split_off(PROBLEMS_MAX);
            let last = self.0.last().map_or(Position::START, |problem| problem.position);
            // The document is as usable as if all were told.
            let severity =
                rest.iter().map(|problem| problem.severity).min().unwrap_or(Severity::Warning);
            let message = format!("{} more mistakes are not shown", rest.len());
            self.0.push(Problem { severity, ..Problem::error("", last, message) });
        }
        self
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, problem) in self.0.iter().enumerate() {
            if i > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{problem}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_it_quotes_cannot_reach_into_a_terminal() {
        let problem = Problem::error("/a/\u{1b}[2J", Position::START, "unknown key `\u{1b}[2J`");
        assert_eq!(problem.to_string(), "1:1: error: a.\\u{1b}[2J: unknown key `\\u{1b}[2J`");
    }

    #[test]
    fn very_many_are_cut_once() {
        let problem = |line| Problem::error("/a", Position { line, column: 1 }, "is wrong");
        let cut = Problems((1..=2_500).map(problem).collect()).sorted();
        assert_eq!(cut.0.len(), PROBLEMS_MAX + 1);
        let more = |all: &Problems| {
            all.0.iter().filter(|one| one.message == "1500 more mistakes are not shown").count()
        };
        let again = cut.clone().sorted();
        assert_eq!((more(&cut), more(&again), again.0.len()), (1, 1, PROBLEMS_MAX + 1));
    }
}
