//! Reasoning that a model shows before its answer.
//!
//! A draft inside reasoning looks exactly like an answer, and existing tools take it for one. So
//! everything up to the last closing tag goes, an opening tag that never closes means that no
//! answer came, and a tag inside a JSON string is data.

use super::reader::is_blank;
use super::strict;

const NAMES: &[&str] = &[
    "think",
    "thinking",
    "thought",
    "thoughts",
    "reasoning",
    "reason",
    "reflection",
    "scratchpad",
    "analysis",
    "internal",
    "inner_monologue",
    "monologue",
    "thought_process",
    "begin_of_thought",
    "plan",
    "rationale",
];
const FINAL_CHANNEL: &str = "<|channel|>final<|message|>";
const LONE_TAGS_MAX: usize = 8;

/// A text without its reasoning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Answer<'t> {
    pub text: &'t str,
    /// Where it begins in the whole text.
    pub offset: usize,
    /// Reasoning was taken off.
    pub stripped: bool,
    /// The reasoning never ends: there is no answer.
    pub unfinished: bool,
}

/// Takes off the reasoning before the answer.
pub(super) fn answer(text: &str) -> Answer<'_> {
    let mut at = final_channel(text).unwrap_or(0);
    let mut unfinished = at == 0 && is_analysis_only(text);
    loop {
        let begin = text.len() - text[at..].trim_start_matches(is_blank).len();
        let Some(tag) = opening_before_json(text, begin) else {
            break;
        };
        match closing_tag(text, tag, text.len()) {
            Some((_, end)) => at = end,
            None => {
                unfinished = true;
                break;
            }
        }
    }
    if !unfinished {
        at = after_lone_tags(text, at);
    }
    Answer { text: &text[at..], offset: at, stripped: at > 0, unfinished }
}

/// Takes off the reasoning before an answer in free text. Far more careful than [`answer`]: there is
/// no schema to tell what the answer is, and a text may well speak of tags. Only a pair of tags at
/// the very beginning goes, or what stands before a lone closing tag on a line of its own (the
/// opening one was part of the prompt), and only tags that nobody writes as an answer.
pub(super) fn before_text(text: &str) -> Answer<'_> {
    const TAGS: [(&str, &str); 4] = [
        ("<think>", "</think>"),
        ("<thinking>", "</thinking>"),
        ("<thought>", "</thought>"),
        ("<reasoning>", "</reasoning>"),
    ];
    let whole = Answer { text, offset: 0, stripped: false, unfinished: false };
    // Nearly every text has no tag at all, and one look for one byte tells.
    if !text.contains('<') {
        return whole;
    }
    let begin = text.len() - text.trim_start_matches(is_blank).len();
    let after = |at: usize| {
        let at = text.len() - text[at..].trim_start_matches(is_blank).len();
        Answer { text: &text[at..], offset: at, stripped: true, unfinished: false }
    };
    for (opening, closing) in TAGS {
        let closed = text.find(closing);
        if text[begin..].starts_with(opening) {
            return match closed {
                Some(at) => after(at + closing.len()),
                None => Answer { unfinished: true, ..after(text.len()) },
            };
        }
        if let Some(at) = closed
            && !text[..at].contains(opening)
            && (at == 0 || text[..at].ends_with('\n'))
            && text[at + closing.len()..].starts_with('\n')
        {
            return after(at + closing.len());
        }
    }
    whole
}

/// The channel of the final message, with its markers or with what a server leaves of them.
fn final_channel(text: &str) -> Option<usize> {
    if let Some(at) = text.rfind(FINAL_CHANNEL) {
        return Some(at + FINAL_CHANNEL.len());
    }
    if let Some(at) = text.rfind("<|channel|>final") {
        let rest = &text[at..];
        return rest.find("<|message|>").map(|offset| at + offset + "<|message|>".len());
    }
    if text.trim_start().starts_with("analysis") {
        return text.rfind("assistantfinal").map(|at| at + "assistantfinal".len());
    }
    None
}

fn is_analysis_only(text: &str) -> bool {
    let head = text.trim_start();
    head.starts_with("<|channel|>analysis")
        || head.starts_with("<|start|>assistant<|channel|>analysis")
}

/// Offset after an opening tag at `at`, or in the prose before the first bracket after it.
fn opening_before_json(text: &str, at: usize) -> Option<usize> {
    let mut from = at;
    for _ in 0..64 {
        let offset = text[from..].find(['<', '[', '{', '◁', '"', '`'])?;
        from += offset;
        if let Some(end) = tag_at(text, from, false) {
            return Some(end);
        }
        if !text[from..].starts_with(['<', '"', '`']) {
            return None;
        }
        from += 1;
    }
    None
}

/// Offsets of the first closing tag from `at` on that begins before `limit`.
fn closing_tag(text: &str, at: usize, limit: usize) -> Option<(usize, usize)> {
    let mut from = at;
    while let Some(offset) = text[from..].find(['<', '[', '◁']) {
        let begin = from + offset;
        if begin >= limit {
            return None;
        }
        if let Some(end) = tag_at(text, begin, true) {
            return Some((begin, end));
        }
        from = begin + text[begin..].chars().next().map_or(1, char::len_utf8);
    }
    None
}

/// The end of a reasoning tag that begins at `at`.
fn tag_at(text: &str, at: usize, closing: bool) -> Option<usize> {
    let rest = &text[at..];
    let (body, close) = match rest.chars().next()? {
        '<' if rest.starts_with("<|") => (&rest[2..], "|>"),
        '<' => (&rest[1..], ">"),
        '[' => (&rest[1..], "]"),
        '◁' => (&rest['◁'.len_utf8()..], "▷"),
        _ => return None,
    };
    let slashed = body.strip_prefix('/');
    let ended = body.strip_prefix("end_of_").map(|_| body);
    let name_from = match (closing, slashed, ended) {
        (true, Some(body), _) => body,
        (true, None, Some(body)) => body,
        (true, None, None) | (false, Some(_), _) => return None,
        (false, None, _) => body,
    };
    let length =
        name_from.bytes().take(24).take_while(|b| b.is_ascii_alphabetic() || *b == b'_').count();
    let name = name_from[..length].to_ascii_lowercase();
    let name = name.replace("end_of_", "begin_of_");
    if !NAMES.contains(&name.as_str()) {
        return None;
    }
    let tail = &name_from[length..];
    let attributes =
        tail.bytes().take(64).position(|b| matches!(b, b'<' | b'{' | b'\n')).unwrap_or(64);
    let end = tail.find(close).filter(|end| *end <= attributes)?;
    let used = rest.len() - tail.len();
    Some(at + used + end + close.len())
}

/// A closing tag without an opening one (the opening one was part of the prompt).
fn after_lone_tags(text: &str, at: usize) -> usize {
    let mut answer = at;
    let mut from = at;
    for _ in 0..LONE_TAGS_MAX {
        let Some((begin, end)) = closing_tag(text, from, text.len()) else {
            break;
        };
        from = end;
        if !inside_string(text, answer, begin) {
            answer = end;
        }
    }
    answer
}

/// Whether `at` lies inside a JSON value that begins between `from` and it.
fn inside_string(text: &str, from: usize, at: usize) -> bool {
    let mut begin = from;
    for _ in 0..64 {
        let Some(offset) = text[begin..at].find(['{', '[']) else {
            return false;
        };
        begin += offset;
        match strict::parse_prefix(text, begin) {
            Ok(value) if value.end > at => return true,
            Ok(value) => begin = value.end,
            Err(_)
                if !text[begin + 1..at]
                    .trim_start_matches(is_blank)
                    .starts_with(['"', '{', '[']) =>
            {
                begin += 1
            }
            Err(_) => return quotes_are_open(&text[begin..at]),
        }
    }
    false
}

fn quotes_are_open(text: &str) -> bool {
    let mut open = false;
    let mut escaped = false;
    for byte in text.bytes() {
        match byte {
            b'\\' if !escaped => escaped = true,
            b'"' if !escaped => open = !open,
            _ => escaped = false,
        }
    }
    open
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: &str) {
        let answer = answer(text);
        assert_eq!((answer.text.trim(), answer.unfinished), (expected, false), "{text}");
    }

    #[test]
    fn reasoning_is_taken_off() {
        check("<think>a {\"x\": 1}</think>{}", "{}");
        check("<THINK>a</THINK>{}", "{}");
        check("[THINK]a[/THINK]{}", "{}");
        check("<think>a</think><think>b</think>{}", "{}");
        check("Well. <thinking>a</thinking>\n{}", "{}");
        check("draft {\"x\": 1}</think>{}", "{}");
        check("{\"x\": 1}</think>{}", "{}");
        check(
            "<|channel|>analysis<|message|>x<|end|><|start|>assistant<|channel|>final<|message|>{}",
            "{}",
        );
        check("analysisWe say {}? No.assistantfinal{\"a\": 1}", "{\"a\": 1}");
    }

    #[test]
    fn text_loses_only_what_is_surely_reasoning() {
        let check = |text: &str, expected: &str| {
            assert_eq!(before_text(text).text, expected, "{text}");
        };
        check("<think>\nHm, 4?\n</think>\n\nFour.", "Four.");
        check("Hm, 4?\n</think>\n\nFour.", "Four.");
        check(" <reasoning>x</reasoning> Four. ", "Four. ");
        check("<think>Hm, 4", "");
        check("<think>x</think>", "");
        for same in [
            "Four.",
            "The tag </think> ends reasoning.",
            "Write <think> before it.\nThen\n</think>\nfollows.",
            "<plan>one, two</plan>",
            "<thinker>Rodin</thinker>",
        ] {
            check(same, same);
        }
    }

    #[test]
    fn tags_inside_strings_stay() {
        check("{\"a\": \"<think>b</think>\",}", "{\"a\": \"<think>b</think>\",}");
        check("<think>r</think>{\"a\": \"x</think>\"}", "{\"a\": \"x</think>\"}");
    }

    #[test]
    fn reasoning_without_an_end_has_no_answer() {
        assert!(answer("<think>I will answer {\"a\": 1}").unfinished);
    }
}
