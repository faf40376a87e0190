//! Makes a provider's words safe to hand on: bounded, printable, without keys.
//!
//! Providers echo what they were sent, a mistyped API key first of all. A key is recognised by its
//! form or by the word before it; both are cut rather than masked, since half a key is still a clue.

use std::sync::LazyLock;

use regex::Regex;

/// Characters of a provider's text that are kept.
const TEXT_CHARS_MAX: usize = 512;
/// Characters of a provider's type, code or request id that are kept.
const WORD_CHARS_MAX: usize = 64;

#[expect(clippy::expect_used, reason = "a constant pattern, compiled by every test")]
static SECRETS: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(concat!(
        r"(?i)",
        // Known forms of keys, masked ones included.
        r"(?-i:\b(?:sk|pk|rk|gsk|xai|hf|nvapi|fw|csk|pplx|r8|key|ghp|gho|github_pat|glpat|xox[a-z])[-_][A-Za-z0-9*._-]{6,})",
        r"|(?-i:\bAIza[A-Za-z0-9_*-]{8,}|\bya29\.[A-Za-z0-9._-]+|\b(?:AKIA|ASIA)[A-Z0-9]{8,}|\beyJ[A-Za-z0-9._-]{10,})",
        // Credentials by the word before them.
        r"|\b(?:bearer|basic)\s+[A-Za-z0-9+/=._*~-]{6,}",
        r#"|\b(?:api[ _-]?key|access[ _-]?key|secret|token|password|credential|authorization)s?\b(?:\s+(?:provided|is|was))?\s*[:='"`(]+\s*(?:bearer\s+)?[A-Za-z0-9+/=._*~-]{6,}"#,
        // Long opaque runs: hashes, base64, session ids.
        r"|\b[A-Fa-f0-9]{32,}\b|\b[A-Za-z0-9+/]{48,}={0,2}",
    ))
    .expect("the pattern is constant")
});

#[expect(clippy::expect_used, reason = "a constant pattern, compiled by every test")]
static QUERIES: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"(?i)(\bhttps?://[^\s?#]+)[?#][^\s]*").expect("constant"));

#[expect(clippy::expect_used, reason = "a constant pattern, compiled by every test")]
static USER_INFO: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"(?i)(\bhttps?://)[^\s/@]+@").expect("constant"));

/// The text with white space folded, control characters dropped, keys and URL queries cut, and at
/// most 512 characters; `None` when nothing is left.
pub(crate) fn text(said: &str) -> Option<String> {
    // Cut before the patterns run, but late enough that a key at the border is still whole.
    let mut folded = String::new();
    for word in said.split_whitespace().take(TEXT_CHARS_MAX) {
        if !folded.is_empty() {
            folded.push(' ');
        }
        folded.extend(word.chars().filter(|c| !c.is_control()).take(2 * TEXT_CHARS_MAX));
        if folded.len() > 8 * TEXT_CHARS_MAX {
            break;
        }
    }
    let clean = QUERIES.replace_all(&folded, "$1?[redacted]");
    let clean = USER_INFO.replace_all(&clean, "$1[redacted]@");
    let clean = SECRETS.replace_all(&clean, "[redacted]");
    let mut clean = clean.into_owned();
    if let Some((end, _)) = clean.char_indices().nth(TEXT_CHARS_MAX) {
        clean.truncate(end);
    }
    (!clean.is_empty()).then_some(clean)
}

/// The word reduced to `[A-Za-z0-9_.:-]` and at most 64 characters; a space becomes `_`. `None`
/// when nothing is left.
pub(super) fn word(said: &str) -> Option<String> {
    let word: String = said
        .trim()
        .chars()
        .map(|c| if c == ' ' { '_' } else { c })
        .filter(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | ':' | '-'))
        .take(WORD_CHARS_MAX)
        .collect();
    (!word.is_empty() && !SECRETS.is_match(&word)).then_some(word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(said: &str, expected: &str) {
        assert_eq!(text(said).as_deref(), Some(expected));
    }

    #[test]
    fn keys_are_cut_and_words_stay() {
        check("Incorrect API key provided: sk-proj-abc123XYZ. Ok", "Incorrect [redacted] Ok");
        check("bad key AIzaSyA1234567890 here", "bad key [redacted] here");
        check("Bearer abcdef123456 refused", "[redacted] refused");
        check("token=deadbeefcafe!", "[redacted]!");
        check("see https://a.example/x?key=1&b=2 now", "see https://a.example/x?[redacted] now");
        check("https://u:p@a.example/x", "https://[redacted]@a.example/x");
        check("a\n\tb  c", "a b c");
        check("too many tokens: 5 > 4", "too many tokens: 5 > 4");
        assert_eq!(text(" \u{7} "), None);
        assert_eq!(text(&"ж".repeat(9000)).map(|t| t.chars().count()), Some(512));
    }

    #[test]
    fn words_are_plain() {
        assert_eq!(word("rate limit!").as_deref(), Some("rate_limit"));
        assert_eq!(word("  "), None);
        assert_eq!(word(&"a".repeat(99)).map(|w| w.len()), None, "long runs look like keys");
        assert_eq!(word(&"ab_".repeat(99)).map(|w| w.len()), Some(64));
    }
}
