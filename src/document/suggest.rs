//! "Did you mean": the nearest of the words that would have been right.

/// Letters of a word that can stand for a longer one.
const PART_MIN: usize = 4;

/// The candidate nearest to `word`, if it is near enough to be what was meant: at most a third of
/// its letters differ (Damerau–Levenshtein, optimal string alignment), case and `-`/`_` aside; else
/// the only one that the word is a part of.
pub fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let folded = fold(word);
    let limit = (folded.len() / 3).max(1);
    let mut best: Option<(usize, &str)> = None;
    let mut wholes = Vec::new();
    for candidate in candidates {
        let other = fold(candidate);
        let distance = distance(&folded, &other);
        if distance <= limit && best.is_none_or(|(least, _)| distance < least) {
            best = Some((distance, candidate));
        }
        if is_part(&folded, &other) {
            wholes.push(candidate);
        }
    }
    match (best, wholes.as_slice()) {
        (Some((_, candidate)), _) => Some(candidate),
        (None, [only]) => Some(only),
        (None, _) => None,
    }
}

/// The candidates that `word` is a part of: `timeout` of `connect_timeout` and `request_timeout`.
pub fn longer<'a>(
    word: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> impl Iterator<Item = &'a str> {
    let folded = fold(word);
    candidates.into_iter().filter(move |candidate| is_part(&folded, &fold(candidate)))
}

fn is_part(word: &[char], of: &[char]) -> bool {
    word.len() >= PART_MIN && of.windows(word.len()).any(|part| part == word)
}

fn fold(word: &str) -> Vec<char> {
    word.chars()
        .take(64)
        .map(|c| if c == '-' || c == ' ' { '_' } else { c.to_ascii_lowercase() })
        .collect()
}

fn distance(a: &[char], b: &[char]) -> usize {
    let width = b.len() + 1;
    let mut rows = vec![0_usize; (a.len() + 1) * width];
    let at = |i: usize, j: usize| i * width + j;
    for i in 0..=a.len() {
        rows[at(i, 0)] = i;
    }
    for j in 0..=b.len() {
        rows[at(0, j)] = j;
    }
    for i in 1..=a.len() {
        for j in 1..=b.len() {
            let cost = usize::from(a[i - 1] != b[j - 1]);
            let mut best = (rows[at(i - 1, j)] + 1)
                .min(rows[at(i, j - 1)] + 1)
                .min(rows[at(i - 1, j - 1)] + cost);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(rows[at(i - 2, j - 2)] + 1);
            }
            rows[at(i, j)] = best;
        }
    }
    rows[at(a.len(), b.len())]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_words_are_found_and_far_ones_are_not() {
        let words = ["retry_with_backoff", "repair_output", "reject_and_fix"];
        assert_eq!(nearest("retry_with_backof", words), Some("retry_with_backoff"));
        assert_eq!(nearest("Retry-With-Backoff", words), Some("retry_with_backoff"));
        assert_eq!(nearest("rejcet_and_fix", words), Some("reject_and_fix"));
        assert_eq!(nearest("banana", words), None);
        assert_eq!(nearest("retry", words), Some("retry_with_backoff"));
        assert_eq!(nearest("and", words), None, "too short to stand for a longer word");
        let timeouts = ["connect_timeout", "tls", "request_timeout"];
        assert_eq!(nearest("timeout", timeouts), None, "more than one");
        assert!(longer("timeout", timeouts).eq(["connect_timeout", "request_timeout"]));
    }
}
