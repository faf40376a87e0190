//! Two halves of one answer: what was cut, and the rest that the model wrote when asked to go on.

use super::change::{ChangeKind, Changes};

/// The longest repetition that is looked for, in bytes.
const OVERLAP_MAX: usize = 2_000;
/// A shorter repetition may be meant: rows of a table begin alike.
const OVERLAP_MIN: usize = 24;

/// Joins the rest to what came before. Models like to begin the rest with the end of what they see;
/// a long verbatim repetition is left out, anything shorter is kept as it is. Whether the whole is
/// any good is for [`check`](super::check()) to say.
pub fn join(before: &str, rest: &str) -> (String, Changes) {
    let mut changes = Changes::default();
    changes.at(ChangeKind::Continued, before.len());
    let overlap = overlap(before.as_bytes(), rest.as_bytes());
    // It ends where `before` ends, so that no character is torn.
    let new = rest.get(overlap..).unwrap_or(rest);
    if overlap > 0 {
        changes.at(ChangeKind::OverlapRemoved, before.len());
    }
    (format!("{before}{new}"), changes)
}

/// Length of the longest beginning of `rest` that `before` ends with, by the failure function of
/// Knuth, Morris and Pratt: linear however repetitive the text is.
fn overlap(before: &[u8], rest: &[u8]) -> usize {
    let head = &rest[..rest.len().min(OVERLAP_MAX)];
    let tail = &before[before.len().saturating_sub(OVERLAP_MAX)..];
    let mut borders = vec![0_usize; head.len()];
    for at in 1..head.len() {
        let mut known = borders[at - 1];
        while known > 0 && head[at] != head[known] {
            known = borders[known - 1];
        }
        borders[at] = known + usize::from(head[at] == head[known]);
    }
    let mut matched = 0;
    for byte in tail {
        while matched > 0 && (matched == head.len() || head[matched] != *byte) {
            matched = borders[matched - 1];
        }
        matched += usize::from(head.get(matched) == Some(byte));
    }
    if matched < OVERLAP_MIN { 0 } else { matched }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[track_caller]
    fn check(before: &str, rest: &str, expected: &str) {
        let (whole, changes) = join(before, rest);
        assert_eq!(whole, expected);
        assert!(changes.has(ChangeKind::Continued) && !changes.is_lossy());
        let shortened = before.len() + rest.len() > whole.len();
        assert_eq!(changes.has(ChangeKind::OverlapRemoved), shortened);
    }

    #[test]
    fn halves_are_put_together() {
        check("{\"a\": \"on", "e\"}", "{\"a\": \"one\"}");
        check("", "all", "all");
        check("all", "", "all");
        check("| a |", "| a | b |", "| a || a | b |");
        let end = "and then the pool of connections ran dry";
        check(
            &format!("First, {end}"),
            &format!("{end}, and so on."),
            &format!("First, {end}, and so on."),
        );
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        /// Nothing of the first half is ever lost, and what is left out of the second stood there.
        #[test]
        fn the_first_half_stays(before in "[abé]{0,80}", rest in "[abé]{0,80}") {
            let (whole, _) = join(&before, &rest);
            prop_assert!(whole.starts_with(&before));
            let kept = whole.len() - before.len();
            prop_assert!(rest.ends_with(&whole[before.len()..]));
            prop_assert!(before.ends_with(&rest[..rest.len() - kept]));
        }
    }
}
