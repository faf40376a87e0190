//! Code fences, taken off cheaply: no JSON is read here.
//!
//! A fence may also stand inside a string of the value, and its end may be missing, so this is
//! for a text that *is* a fence and nothing else. Anything harder goes through `extract`, where
//! fences only mark where to look.

/// The text inside a code fence that wraps the whole of `text`; else `text` without outer white
/// space.
pub fn strip_fences(text: &str) -> &str {
    let trimmed = text.trim();
    inside(trimmed).unwrap_or(trimmed)
}

fn inside(text: &str) -> Option<&str> {
    let mark = text.chars().next().filter(|c| matches!(c, '`' | '~'))?;
    let after_mark = text.trim_start_matches(mark);
    let length = text.len() - after_mark.len();
    if length < 3 || after_mark.is_empty() {
        return None;
    }
    let body = after_mark.trim_end_matches(mark);
    let closing = after_mark.len() - body.len();
    // A shorter closing fence belongs to the content in CommonMark; models write it anyway.
    if closing < 3 {
        return None;
    }
    Some(after_info(body).trim())
}

/// What follows the info string of a fence (`json`, `json5 title="x"`), which may stand on the
/// same line.
pub(super) fn after_info(body: &str) -> &str {
    let word = body.trim_start_matches([' ', '\t']);
    let rest = word
        .trim_start_matches(|c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '+' | '.'));
    let line_end = rest.find('\n').unwrap_or(rest.len());
    let line = rest[..line_end].trim();
    if line.is_empty() || line.starts_with(['{', '[', '(', '"', '\'']) || line_end == rest.len() {
        return rest;
    }
    &rest[line_end..]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fences_are_taken_off() {
        for text in [
            "```json\n{\"a\": 1}\n```",
            "```\n{\"a\": 1}\n```\n",
            "~~~\n{\"a\": 1}\n~~~",
            "{\"a\": 1}",
            "```json {\"a\": 1} ```",
            "````JSON title=\"x\"\n{\"a\": 1}\n````",
            "  ```\r\n{\"a\": 1}\r\n```  ",
        ] {
            assert_eq!(strip_fences(text), "{\"a\": 1}", "{text}");
        }
    }

    #[test]
    fn what_is_no_whole_fence_stays() {
        for text in ["```", "``````", "``` x", "say ```x``` here", "", "`{}`"] {
            assert_eq!(strip_fences(text), text, "{text}");
        }
    }
}
