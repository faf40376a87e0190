//! Problems for a terminal, under the lines they stand in.

use annotate_snippets::{AnnotationKind, Level, Renderer, Snippet};

use super::{Document, Position, Problem, Problems, Severity};

/// Renders every problem with its line of the document, rustc style.
pub fn render(name: &str, text: &str, problems: &Problems, colours: bool) -> String {
    let renderer = if colours { Renderer::styled() } else { Renderer::plain() };
    let mut out = String::new();
    for problem in &problems.0 {
        let span = span_of(text, problem.position);
        let label = problem.suggestion.clone().unwrap_or_default();
        let level = match problem.severity {
            Severity::Error => Level::ERROR,
            Severity::Warning => Level::WARNING,
        };
        let snippet = Snippet::source(text)
            .path(name)
            .annotation(AnnotationKind::Primary.span(span).label(label));
        let report = [level.primary_title(title(problem)).element(snippet)];
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

/// Bytes of the word at a position; empty at the end of the text.
fn span_of(text: &str, position: Position) -> std::ops::Range<usize> {
    let mut start = 0;
    for (number, line) in text.split_inclusive('\n').enumerate() {
        if number + 1 == position.line as usize {
            let column = (position.column as usize).saturating_sub(1);
            let from = line.char_indices().nth(column).map_or(line.trim_end().len(), |(i, _)| i);
            let word = line[from..]
                .find(|c: char| c.is_whitespace() || matches!(c, ':' | ',' | '}' | ']'))
                .unwrap_or(line.len() - from)
                .max(usize::from(from < line.trim_end().len()));
            let end = line
                .char_indices()
                .map(|(i, c)| i + c.len_utf8())
                .find(|i| *i >= from + word)
                .unwrap_or(line.len());
            return start + from..start + end.max(from);
        }
        start += line.len();
    }
    text.len()..text.len()
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
    fn any_position_renders() {
        for line in 0..4 {
            for column in 0..9 {
                let at = Position { line, column };
                let problems = Problems(vec![Problem::error("", at, "x")]);
                assert!(!render("x", "ä: ö\n- é", &problems, false).is_empty());
            }
        }
    }
}
