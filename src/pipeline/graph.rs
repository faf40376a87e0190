//! The order of steps.

use std::collections::BTreeSet;

/// The needs of each step by place in the document, put in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Order {
    /// Places in the document, each after all that it needs; otherwise as in the document.
    pub(super) sorted: Vec<usize>,
    /// By place in the document: every step that is surely done before it.
    pub(super) ancestors: Vec<BTreeSet<usize>>,
}

/// Sorts steps by their needs.
///
/// # Errors
/// One cycle as the steps on it, each needing the next, the first again at the end.
pub(super) fn order(needs: &[Vec<usize>]) -> Result<Order, Vec<usize>> {
    let mut sorted = Vec::with_capacity(needs.len());
    let mut done = vec![false; needs.len()];
    let mut ancestors = vec![BTreeSet::new(); needs.len()];
    while sorted.len() < needs.len() {
        let ready = |step: &usize| {
            !done[*step] && needs[*step].iter().all(|need| done.get(*need) == Some(&true))
        };
        let Some(step) = (0..needs.len()).find(ready) else {
            return Err(cycle(needs, &done));
        };
        for need in &needs[step] {
            let mut above = ancestors[*need].clone();
            above.insert(*need);
            ancestors[step].append(&mut above);
        }
        done[step] = true;
        sorted.push(step);
    }
    Ok(Order { sorted, ancestors })
}

/// A cycle among the steps that are not done: each of them needs another such step, so following
/// the first of these comes back to a step that was passed.
fn cycle(needs: &[Vec<usize>], done: &[bool]) -> Vec<usize> {
    let mut passed: Vec<usize> = Vec::new();
    let mut step = done.iter().position(|done| !done).unwrap_or(0);
    loop {
        if let Some(start) = passed.iter().position(|known| *known == step) {
            let mut found = passed.split_off(start);
            found.push(step);
            return found;
        }
        passed.push(step);
        let next = needs[step].iter().copied().find(|need| done.get(*need) != Some(&true));
        match next {
            Some(next) if next < needs.len() => step = next,
            Some(_) | None => return passed,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn document_order_is_kept_where_it_can_be() {
        let order = order(&[vec![], vec![0], vec![], vec![1, 2]]).unwrap();
        assert_eq!(order.sorted, [0, 1, 2, 3]);
        assert_eq!(order.ancestors[3], BTreeSet::from([0, 1, 2]));
        let later = super::order(&[vec![2], vec![], vec![1]]).unwrap();
        assert_eq!(later.sorted, [1, 2, 0]);
    }

    #[test]
    fn a_cycle_is_named_with_its_path() {
        assert_eq!(order(&[vec![], vec![3], vec![1], vec![2, 0]]), Err(vec![1, 3, 2, 1]));
        assert_eq!(order(&[vec![0]]), Err(vec![0, 0]));
        assert_eq!(order(&[vec![1], vec![2], vec![1]]), Err(vec![1, 2, 1]));
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        /// Every graph is put in an order in which each step stands after its needs, or a true
        /// cycle is shown.
        #[test]
        fn every_graph_is_ordered_or_has_a_cycle(
            needs in (1_usize..12).prop_flat_map(|n| {
                prop::collection::vec(prop::collection::vec(0..n, 0..3), n)
            }),
        ) {
            match order(&needs) {
                Ok(order) => {
                    prop_assert_eq!(order.sorted.len(), needs.len());
                    for (place, step) in order.sorted.iter().enumerate() {
                        for need in &needs[*step] {
                            prop_assert!(order.sorted[..place].contains(need));
                            prop_assert!(order.ancestors[*step].contains(need));
                        }
                        prop_assert!(!order.ancestors[*step].contains(step));
                    }
                }
                Err(cycle) => {
                    prop_assert!(cycle.len() > 1);
                    prop_assert_eq!(cycle.first(), cycle.last());
                    for pair in cycle.windows(2) {
                        prop_assert!(needs[pair[0]].contains(&pair[1]));
                    }
                }
            }
        }
    }
}
