//! Problems for a terminal, under the lines they stand in.

use std::ops::Range;

use annotate_snippets::{AnnotationKind, Level, Origin, Renderer, Snippet};

use super::{Document, Position, Problem, Problems, Severity};

/// Lines up to this many bytes are given whole to who renders them, and cut by the width there.
const WHOLE_BYTES_MAX: usize = 4_096;
/// Characters of a longer one shown before a word and after it, more than a terminal has. So what a
/// mistake costs to be shown does not depend on the length of the document.
const AROUND_CHARS: usize = 240;

/// Renders every problem with its line of the document, rustc style.
pub fn render(name: &str, text: &str, problems: &Problems, colours: bool) -> String {
    let renderer = if colours { Renderer::styled() } else { Renderer::plain() };
    let lines = Lines::of(text);
    let mut out = String::new();
    for problem in &problems.0 {
        let excerpt = lines.around(problem.position);
        let label = problem.suggestion.clone().unwrap_or_default();
        let level = match problem.severity {
            Severity::Error => Level::ERROR,
            Severity::Warning => Level::WARNING,
        };
        let annotation = AnnotationKind::Primary.span(excerpt.word).label(label);
        let snippet = Snippet::source(excerpt.text).line_start(excerpt.line).annotation(annotation);
        let title = level.primary_title(title(problem));
        let report = [match excerpt.is_whole {
            true => title.element(snippet.path(name)),
            // The column is that of the whole line, which the snippet does not know.
            false => {
                let origin = Origin::path(name).line(excerpt.line).char_column(excerpt.column);
                title.element(origin).element(snippet)
            }
        }];
        out.push_str(&renderer.render(&report));
        out.push('\n');
    }
    out
}

fn title(problem: &Problem) -> String {
    match problem.dotted_path() {
        path if path.is_empty() => problem.message.clone(),
        path => format!("{path}: {}", problem.message),
    }
}

/// A document by lines.
struct Lines<'a>(Vec<Line<'a>>);

struct Line<'a> {
    text: &'a str,
    /// Where columns are bytes, a far one is found at once.
    is_ascii: bool,
}

/// The part of a line that is shown.
struct Excerpt<'a> {
    text: &'a str,
    is_whole: bool,
    /// Both from 1.
    line: usize,
    column: usize,
    /// Bytes of `text` that are at fault; empty at the end of the document.
    word: Range<usize>,
}

impl<'a> Lines<'a> {
    fn of(text: &'a str) -> Self {
        let lines = text.split('\n').map(|line| line.strip_suffix('\r').unwrap_or(line));
        Self(lines.map(|text| Line { text, is_ascii: text.is_ascii() }).collect())
    }

    /// What stands at a position, and around it.
    fn around(&self, at: Position) -> Excerpt<'a> {
        let number = (at.line as usize).clamp(1, self.0.len().max(1));
        let line = self.0.get(number - 1).map_or("", |line| line.text);
        let is_ascii = self.0.get(number - 1).is_some_and(|line| line.is_ascii);
        let beyond = at.line as usize > self.0.len();
        let column = if beyond { usize::MAX } else { (at.column as usize).saturating_sub(1) };
        let from = match is_ascii {
            true => column.min(line.len()),
            false => line.char_indices().nth(column).map_or(line.len(), |(i, _)| i),
        }
        .min(line.trim_end().len());
        let ends = |c: char| c.is_whitespace() || matches!(c, ':' | ',' | '}' | ']');
        let rest = &line[from..];
        let first = rest.chars().next().map_or(0, char::len_utf8);
        let word = rest.find(ends).unwrap_or(rest.len()).max(first);
        let is_whole = line.len() <= WHOLE_BYTES_MAX;
        let (start, end) = if is_whole {
            (0, line.len())
        } else {
            let before = line[..from].char_indices().rev().take(AROUND_CHARS).last();
            let after = rest.char_indices().nth(AROUND_CHARS);
            (before.map_or(from, |(i, _)| i), after.map_or(line.len(), |(i, _)| from + i))
        };
        Excerpt {
            text: &line[start..end],
            is_whole,
            line: number,
            column: (at.column as usize).max(1),
            word: from - start..(from + word).min(end) - start,
        }
    }
}

impl Document {
    /// Renders problems of this document; see [`render`].
    pub fn render(&self, problems: &Problems, colours: bool) -> String {
        render(&self.name, &self.text, problems, colours)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_is_shown_with_the_word_marked() {
        let problem = Problem::error("/a/b", Position { line: 2, column: 3 }, "unknown key `b`")
            .suggest(Some("did you mean `c`?"));
        let shown = render("x.yaml", "a:\n  b: 1\n", &Problems(vec![problem]), false);
        insta::assert_snapshot!(shown);
    }

    #[test]
    fn a_long_line_is_shown_around_the_word() {
        let text = format!("{}, wrong: 1, {}", "é: 1, ".repeat(2_000), "b: 1, ".repeat(2_000));
        let at = Position { line: 1, column: 12_003 };
        let problem = Problem::error("/wrong", at, "unknown key `wrong`");
        let shown = render("x.yaml", &text, &Problems(vec![problem]), false);
        insta::assert_snapshot!(shown);
    }

    #[test]
    fn any_position_renders() {
        for line in 0..4 {
            for column in 0..9 {
                let at = Position { line, column };
                let problems = Problems(vec![Problem::error("", at, "x")]);
                assert!(!render("x", "ä: ö\n- é", &problems, false).is_empty());
                let long = "ä".repeat(WHOLE_BYTES_MAX);
                assert!(!render("x", &long, &problems, false).is_empty());
            }
        }
    }
}
