//! The difference of two ladders in words.

use super::super::ladder::{Ladder, Rung};

/// A ladder in one line.
pub(super) fn words(ladder: &Ladder) -> String {
    if ladder.rungs.is_empty() {
        return "nothing is tried".to_owned();
    }
    let rungs: Vec<String> = ladder.rungs.iter().map(ToString::to_string).collect();
    rungs.join(", then ")
}

/// How a ladder changes.
pub(super) fn change(before: &Ladder, after: &Ladder) -> String {
    let (old, new) = (before.rungs.as_slice(), after.rungs.as_slice());
    if is_reordered(old, new) {
        let actions: Vec<&str> = new.iter().map(|rung| rung.action().name()).collect();
        return format!("another order: {}", actions.join(", "));
    }
    let edits = edits(old, new);
    let mut said = Vec::new();
    for block in edits.split_inclusive(|edit| matches!(edit, Edit::Kept(..))) {
        tell(block, &mut said);
    }
    said.join("; ")
}

/// Tells of what is dropped and added in one place: one takes the place of the other, last for
/// last, as far as there are two.
fn tell(block: &[Edit<'_>], said: &mut Vec<String>) {
    let (mut dropped, mut added) = (Vec::new(), Vec::new());
    for edit in block {
        match edit {
            Edit::Dropped(rung) => dropped.push(*rung),
            Edit::Added(rung, after) => added.push((*rung, *after)),
            Edit::Kept(..) => {}
        }
    }
    let pairs = dropped.len().min(added.len());
    let (gone, replaced) = dropped.split_at(dropped.len() - pairs);
    let (come, replacing) = added.split_at(added.len() - pairs);
    said.extend(gone.iter().map(|rung| format!("drops {rung}")));
    said.extend(come.iter().map(|(rung, after)| match after {
        None => format!("adds {rung} at the top"),
        Some(after) => format!("adds {rung} after {}", after.action()),
    }));
    let pairs = replaced.iter().zip(replacing);
    said.extend(pairs.map(|(old, (new, _))| format!("{new} instead of {old}")));
    if let Some(Edit::Kept(old, new)) = block.last()
        && old != new
    {
        let (old, new) = (old.to_string(), new.to_string());
        // The texts of rungs leave out some of their parameters, such as templates.
        said.push(if old == new {
            format!("other parameters of {new}")
        } else {
            format!("{new} instead of {old}")
        });
    }
}

fn is_reordered(old: &[Rung], new: &[Rung]) -> bool {
    let mut left: Vec<&Rung> = new.iter().collect();
    old.len() == new.len()
        && old != new
        && old.iter().all(|rung| {
            let at = left.iter().position(|other| *other == rung);
            at.map(|at| left.swap_remove(at)).is_some()
        })
}

enum Edit<'a> {
    /// The same action on both sides.
    Kept(&'a Rung, &'a Rung),
    Dropped(&'a Rung),
    /// With the rung before it.
    Added(&'a Rung, Option<&'a Rung>),
}

/// The shortest way from one ladder to the other, by actions. Ladders have at most 32 rungs.
fn edits<'a>(old: &'a [Rung], new: &'a [Rung]) -> Vec<Edit<'a>> {
    let same = |a: usize, b: usize| old[a].action() == new[b].action();
    // Rungs that both have in common from each pair of places on.
    let mut common = vec![vec![0_usize; new.len() + 1]; old.len() + 1];
    for a in (0..old.len()).rev() {
        for b in (0..new.len()).rev() {
            common[a][b] = if same(a, b) {
                common[a + 1][b + 1] + 1
            } else {
                common[a + 1][b].max(common[a][b + 1])
            };
        }
    }
    let (mut a, mut b) = (0, 0);
    let mut edits = Vec::new();
    while a < old.len() || b < new.len() {
        if a < old.len() && b < new.len() && same(a, b) {
            edits.push(Edit::Kept(&old[a], &new[b]));
            (a, b) = (a + 1, b + 1);
        } else if b == new.len() || (a < old.len() && common[a + 1][b] >= common[a][b + 1]) {
            edits.push(Edit::Dropped(&old[a]));
            a += 1;
        } else {
            edits.push(Edit::Added(&new[b], b.checked_sub(1).map(|before| &new[before])));
            b += 1;
        }
    }
    edits
}
