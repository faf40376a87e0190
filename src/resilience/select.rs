//! Which target of a group is asked, and which are its fallbacks, in order.

use std::cmp::Ordering;
use std::time::Duration;

/// How a group orders its targets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Strategy {
    /// As they are listed.
    #[default]
    Ordered,
    /// By chance, each as often as its weight says.
    Weighted,
    /// The one whose calls take least lately. One of which nothing is known goes first, so that
    /// something is.
    LowestLatency,
    /// The one with the lowest price.
    LowestCost,
    /// The one with the smallest part of its places in flight taken.
    LeastInFlight,
    /// The same one for the same key while it admits calls, by weight; when it does not, the same
    /// next one.
    Sticky,
}

impl Strategy {
    /// Stable name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ordered => "ordered",
            Self::Weighted => "weighted",
            Self::LowestLatency => "lowest_latency",
            Self::LowestCost => "lowest_cost",
            Self::LeastInFlight => "least_in_flight",
            Self::Sticky => "sticky",
        }
    }
}

/// A target of a group as it is now.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TargetView {
    /// How often it is to be asked, beside the others; 0 only when no other is left.
    pub weight: u32,
    /// Whether breaker, cool-down and limits let a call through now.
    pub admits: bool,
    /// Whether the request fits its window and asks nothing of it that it cannot do.
    pub suits: bool,
    /// What its calls take lately.
    pub latency: Option<Duration>,
    /// Price of a million tokens.
    pub price: f64,
    /// Part of its places in flight that is taken, 0 to 1.
    pub load: f64,
}

/// The targets of a group, by index, in the order in which they are to be asked.
///
/// What admits no call now comes last; what does not suit the request is left out, unless nothing
/// suits. `seed` is luck for `Weighted` and the key for `Sticky`.
pub fn order(strategy: Strategy, targets: &[TargetView], seed: u64) -> Vec<usize> {
    let any_suits = targets.iter().any(|target| target.suits);
    let mut order: Vec<usize> =
        (0..targets.len()).filter(|at| !any_suits || targets[*at].suits).collect();
    // The sort is stable: what is equal stays in the order of the list.
    order.sort_by(|a, b| {
        let (one, other) = (&targets[*a], &targets[*b]);
        other.admits.cmp(&one.admits).then_with(|| match strategy {
            Strategy::Ordered => Ordering::Equal,
            Strategy::Weighted | Strategy::Sticky => {
                let place = |at: &usize, view: &TargetView| place(seed, *at, view.weight);
                place(a, one).total_cmp(&place(b, other))
            }
            Strategy::LowestLatency => one.latency.cmp(&other.latency),
            Strategy::LowestCost => one.price.total_cmp(&other.price),
            Strategy::LeastInFlight => one.load.total_cmp(&other.load),
        })
    });
    order
}

/// Weighted rendezvous: the lowest is first with a chance of its weight over all weights, and
/// taking a target away moves nobody else.
fn place(seed: u64, at: usize, weight: u32) -> f64 {
    let luck = mixed(seed ^ mixed(at as u64 + 1));
    // 53 bits make a number from 0 to 1, neither included.
    let luck = ((luck >> 11) as f64 + 0.5) / (1_u64 << 53) as f64;
    -luck.ln() / f64::from(weight)
}

/// SplitMix64's finaliser.
fn mixed(seed: u64) -> u64 {
    let mut mixed = seed.wrapping_add(0x9E37_79B9_7F4A_7C15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, prop_assert_eq, proptest};

    use super::*;

    const UP: TargetView =
        TargetView { weight: 1, admits: true, suits: true, latency: None, price: 1.0, load: 0.0 };
    const DOWN: TargetView = TargetView { admits: false, ..UP };

    #[test]
    fn each_strategy_has_its_order() {
        let ms = |ms| Some(Duration::from_millis(ms));
        let targets = [
            TargetView { latency: ms(90), price: 3.0, load: 0.2, ..UP },
            TargetView { latency: ms(30), price: 2.0, load: 0.1, ..DOWN },
            TargetView { latency: ms(60), price: 9.0, load: 0.9, ..UP },
            TargetView { latency: None, price: 1.0, load: 0.5, ..UP },
        ];
        assert_eq!(order(Strategy::Ordered, &targets, 0), [0, 2, 3, 1]);
        assert_eq!(order(Strategy::LowestLatency, &targets, 0), [3, 2, 0, 1]);
        assert_eq!(order(Strategy::LowestCost, &targets, 0), [3, 0, 2, 1]);
        assert_eq!(order(Strategy::LeastInFlight, &targets, 0), [0, 3, 2, 1]);
    }

    #[test]
    fn what_does_not_suit_is_left_out_unless_nothing_does() {
        let unsuited = TargetView { suits: false, ..UP };
        assert_eq!(order(Strategy::Ordered, &[unsuited, UP, unsuited], 0), [1]);
        assert_eq!(order(Strategy::Ordered, &[unsuited, unsuited], 0), [0, 1]);
    }

    #[test]
    fn weights_are_shares_and_nothing_weighs_nothing() {
        let weights = [6, 3, 1, 0].map(|weight| TargetView { weight, ..UP });
        let mut first = [0_u32; 4];
        (0..10_000).for_each(|seed| first[order(Strategy::Weighted, &weights, seed)[0]] += 1);
        assert!((5_800..6_200).contains(&first[0]), "{first:?}");
        assert!((2_800..3_200).contains(&first[1]), "{first:?}");
        assert_eq!(first[3], 0);
    }

    proptest! {
        /// A key stays with its target while that admits calls, and comes back to it.
        #[test]
        fn a_key_sticks(seed in any::<u64>(), count in 2_usize..8, out in 0_usize..8) {
            let all = vec![UP; count];
            let before = order(Strategy::Sticky, &all, seed);
            let mut without = all.clone();
            without[out % count] = DOWN;
            let during = order(Strategy::Sticky, &without, seed);
            let stayed: Vec<_> = before.iter().filter(|at| **at != out % count).collect();
            prop_assert_eq!(during[..count - 1].iter().collect::<Vec<_>>(), stayed);
            prop_assert_eq!(order(Strategy::Sticky, &all, seed), before);
        }
    }
}
