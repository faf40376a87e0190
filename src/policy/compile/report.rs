//! Where the checks put what they find.

use std::cell::OnceCell;

use crate::document::{Document, Position, Problem, Problems, longer, nearest};

/// Places within texts are told up to this column.
const COLUMN_MAX: u32 = 4 * 1024;

/// Collects problems of one document. Paths are relative to the policy's own key.
pub(super) struct Report<'a> {
    document: Option<&'a Document>,
    /// Where its lines begin, looked for once a place within a text is asked for.
    lines: OnceCell<Vec<&'a str>>,
    root: String,
    pub(super) problems: Problems,
}

impl<'a> Report<'a> {
    pub(super) fn new(document: &'a Document, root: String) -> Self {
        let (lines, problems) = (OnceCell::new(), Problems::default());
        Self { document: Some(document), lines, root, problems }
    }

    /// For what is part of the program: its mistakes have no place and no reader.
    pub(super) fn unheard() -> Self {
        let (lines, problems) = (OnceCell::new(), Problems::default());
        Self { document: None, lines, root: String::new(), problems }
    }

    fn position_of(&self, path: &str) -> Position {
        self.document.map_or(Position::START, |document| document.position_of(path))
    }

    pub(super) fn error(
        &mut self,
        path: &str,
        message: impl Into<String>,
        suggestion: Option<String>,
    ) {
        let path = format!("{}{path}", self.root);
        let at = self.position_of(&path);
        self.problems.push(Problem::error(path, at, message).suggest(suggestion));
    }

    /// An error about a key rather than its value.
    pub(super) fn key_error(
        &mut self,
        path: &str,
        message: impl Into<String>,
        suggestion: Option<String>,
    ) {
        let path = format!("{}{path}", self.root);
        let at = self.document.map_or(Position::START, |document| document.position_of_key(&path));
        self.problems.push(Problem::error(path, at, message).suggest(suggestion));
    }

    pub(super) fn warning(
        &mut self,
        path: &str,
        message: impl Into<String>,
        suggestion: Option<String>,
    ) {
        let path = format!("{}{path}", self.root);
        let at = self.position_of(&path);
        self.problems.push(Problem::warning(path, at, message).suggest(suggestion));
    }

    /// An error inside a text value, at a line and column of that text. Only where the text stands
    /// in the document as it is can its own place be told; elsewhere the value's place is.
    pub(super) fn error_within(
        &mut self,
        path: &str,
        text: &str,
        (line, column): (u32, u32),
        message: impl Into<String>,
        suggestion: Option<String>,
    ) {
        let path = format!("{}{path}", self.root);
        let mut at = self.position_of(&path);
        if let Some(quote) = self.quote_before(at, text)
            && line == 1
        {
            at.column += quote + column.saturating_sub(1);
        }
        self.problems.push(Problem::error(path, at, message).suggest(suggestion));
    }

    /// Width of the quote before a text that stands at this place on one line.
    fn quote_before(&self, at: Position, text: &str) -> Option<u32> {
        let document = self.document?;
        let lines = self.lines.get_or_init(|| document.text.lines().collect());
        let line = lines.get(at.line.checked_sub(1)? as usize)?;
        // Whole documents stand on one line; nobody counts columns in these.
        if at.column > COLUMN_MAX {
            return None;
        }
        let start = line.char_indices().nth(at.column.checked_sub(1)? as usize)?.0;
        let rest = &line[start..];
        if rest.starts_with(text) {
            Some(0)
        } else {
            rest.strip_prefix(['"', '\'']).is_some_and(|rest| rest.starts_with(text)).then_some(1)
        }
    }
}

/// "did you mean …?", or the whole list where it is short enough to be of use, or those of it that
/// the word is a part of.
pub(super) fn suggestion<'a>(
    word: &str,
    known: impl Iterator<Item = &'a str> + Clone,
) -> Option<String> {
    if let Some(near) = nearest(word, known.clone()) {
        return Some(format!("did you mean `{near}`?"));
    }
    let list: Vec<&str> = known.clone().take(13).collect();
    if (1..=12).contains(&list.len()) {
        return Some(format!("known here: {}", list.join(", ")));
    }
    let near: Vec<String> = longer(word, known).take(5).map(|one| format!("`{one}`")).collect();
    (2..=4).contains(&near.len()).then(|| format!("did you mean one of {}?", near.join(", ")))
}
