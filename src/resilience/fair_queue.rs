//! Who is next for a place: by priority, then by turns between callers, then in order.
//!
//! A caller that asks a hundred times as often as the others waits behind itself, not before
//! them. When the queue is full, who has least in it still gets in: the one with most in it, of
//! the lowest priority first, gives up its newest.

use std::collections::VecDeque;
use std::sync::Arc;

/// How urgent a call is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub enum Priority {
    /// Before all others.
    High,
    /// As usual.
    #[default]
    Normal,
    /// When nobody else wants the place.
    Low,
}

impl Priority {
    /// Every priority, most urgent first.
    pub const ALL: &'static [Self] = &[Self::High, Self::Normal, Self::Low];

    /// Stable name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::High => "high",
            Self::Normal => "normal",
            Self::Low => "low",
        }
    }
}

/// A bounded queue.
#[derive(Debug)]
pub struct FairQueue<T> {
    classes: [VecDeque<Lane<T>>; Priority::ALL.len()],
    len: usize,
    max: usize,
    next_id: u64,
}

/// What one caller has in one class.
#[derive(Debug)]
struct Lane<T> {
    caller: Arc<str>,
    entries: VecDeque<(u64, T)>,
}

/// What came of joining.
#[derive(Debug, PartialEq, Eq)]
pub enum Joined<T> {
    /// It waits under this id.
    Waits(u64),
    /// It waits under this id, and another had to leave.
    InsteadOf(u64, T),
    /// The queue is full, and nobody in it has a lesser claim.
    Full(T),
}

impl<T> FairQueue<T> {
    /// An empty queue for at most so many.
    pub fn new(max: usize) -> Self {
        Self { classes: Default::default(), len: 0, max, next_id: 0 }
    }

    /// How many wait.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether nobody waits.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Whether another would only get in at somebody's cost.
    pub fn is_full(&self) -> bool {
        self.len >= self.max
    }

    /// Takes one in.
    pub fn join(&mut self, caller: &Arc<str>, priority: Priority, item: T) -> Joined<T> {
        let evicted = if self.is_full() {
            match self.evict_for(caller, priority) {
                Some(evicted) => Some(evicted),
                None => return Joined::Full(item),
            }
        } else {
            None
        };
        let id = self.next_id;
        self.next_id += 1;
        let class = &mut self.classes[priority as usize];
        match class.iter_mut().find(|lane| lane.caller == *caller) {
            Some(lane) => lane.entries.push_back((id, item)),
            None => class
                .push_back(Lane { caller: caller.clone(), entries: VecDeque::from([(id, item)]) }),
        }
        self.len += 1;
        match evicted {
            Some(evicted) => Joined::InsteadOf(id, evicted),
            None => Joined::Waits(id),
        }
    }

    /// The one whose turn it is, of those that may go.
    pub fn peek(&self, may_go: impl Fn(&T) -> bool) -> Option<&T> {
        let lanes = self.classes.iter().flatten();
        lanes.filter_map(|lane| lane.entries.front()).map(|(_, item)| item).find(|one| may_go(one))
    }

    /// Takes out the one whose turn it is, of those that may go. Who may not keeps its turn.
    pub fn pop(&mut self, may_go: impl Fn(&T) -> bool) -> Option<T> {
        for class in &mut self.classes {
            let is_next = |lane: &Lane<T>| lane.entries.front().is_some_and(|(_, one)| may_go(one));
            let Some(at) = class.iter().position(is_next) else { continue };
            let mut lane = class.remove(at)?;
            let (_, item) = lane.entries.pop_front()?;
            if !lane.entries.is_empty() {
                class.push_back(lane);
            }
            self.len -= 1;
            return Some(item);
        }
        None
    }

    /// Takes one out that waits no longer.
    pub fn leave(&mut self, caller: &str, priority: Priority, id: u64) -> Option<T> {
        let class = &mut self.classes[priority as usize];
        let at = class.iter().position(|lane| *lane.caller == *caller)?;
        let entries = &mut class.get_mut(at)?.entries;
        let entry = entries.binary_search_by_key(&id, |(id, _)| *id).ok()?;
        let (_, item) = entries.remove(entry)?;
        if entries.is_empty() {
            class.remove(at);
        }
        self.len -= 1;
        Some(item)
    }

    /// Makes room at the cost of the least claim, if there is one under this one's.
    fn evict_for(&mut self, caller: &str, priority: Priority) -> Option<T> {
        let lowest = self.classes.iter().rposition(|class| !class.is_empty())?;
        let class = &mut self.classes[lowest];
        let longest = (0..class.len())
            .max_by_key(|at| class.get(*at).map_or(0, |lane| lane.entries.len()))?;
        let own = class.iter().find(|lane| *lane.caller == *caller);
        let own = own.map_or(0, |lane| lane.entries.len());
        let lane = class.get_mut(longest)?;
        let has_less_claim = lowest > priority as usize
            || (lowest == priority as usize && lane.entries.len() > own + 1);
        if !has_less_claim {
            return None;
        }
        let (_, item) = lane.entries.pop_back()?;
        if lane.entries.is_empty() {
            class.remove(longest);
        }
        self.len -= 1;
        Some(item)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn caller(name: &str) -> Arc<str> {
        name.into()
    }

    fn drain<T>(queue: &mut FairQueue<T>) -> Vec<T> {
        std::iter::from_fn(|| queue.pop(|_| true)).collect()
    }

    #[test]
    fn priority_then_turns_then_order() {
        let mut queue = FairQueue::new(100);
        let calls = [
            ("noisy", Priority::Normal, "n1"),
            ("noisy", Priority::Normal, "n2"),
            ("noisy", Priority::Normal, "n3"),
            ("quiet", Priority::Normal, "q1"),
            ("third", Priority::Low, "l1"),
            ("quiet", Priority::Normal, "q2"),
            ("third", Priority::High, "h1"),
        ];
        for (name, priority, item) in calls {
            queue.join(&caller(name), priority, item);
        }
        assert_eq!(queue.peek(|_| true), Some(&"h1"));
        assert_eq!(queue.peek(|item| item.starts_with('q')), Some(&"q1"));
        assert_eq!(queue.pop(|item| item.starts_with('l')), Some("l1"));
        assert_eq!(drain(&mut queue), ["h1", "n1", "q1", "n2", "q2", "n3"]);
    }

    #[test]
    fn a_full_queue_makes_room_at_the_cost_of_who_has_most() {
        let mut queue = FairQueue::new(3);
        for item in ["n1", "n2", "n3"] {
            queue.join(&caller("noisy"), Priority::Normal, item);
        }
        assert_eq!(queue.join(&caller("noisy"), Priority::Normal, "n4"), Joined::Full("n4"));
        assert_eq!(
            queue.join(&caller("quiet"), Priority::Normal, "q1"),
            Joined::InsteadOf(3, "n3")
        );
        assert_eq!(queue.join(&caller("quiet"), Priority::Normal, "q2"), Joined::Full("q2"));
        assert_eq!(queue.join(&caller("quiet"), Priority::Low, "q3"), Joined::Full("q3"));
        assert_eq!(queue.join(&caller("quiet"), Priority::High, "h1"), Joined::InsteadOf(4, "n2"));
        assert_eq!(queue.leave("quiet", Priority::High, 4), Some("h1"));
        assert_eq!(queue.leave("quiet", Priority::High, 4), None);
        assert_eq!(drain(&mut queue), ["n1", "q1"]);
    }

    proptest! {
        /// Nobody is lost or served twice, the bound holds, and the most urgent go first.
        #[test]
        fn the_laws_of_the_queue(
            steps in prop::collection::vec((0_u8..4, 0_u8..4, 0_u8..3), 1..200), max in 1_usize..20,
        ) {
            let mut queue = FairQueue::new(max);
            let mut inside: Vec<(u64, u8, Priority)> = Vec::new();
            for (what, who, class) in steps {
                let priority = Priority::ALL[class as usize];
                match what {
                    0 | 1 => {
                        let item = (queue.next_id, who, priority);
                        match queue.join(&caller(&who.to_string()), priority, item) {
                            Joined::Waits(_) => inside.push(item),
                            Joined::InsteadOf(_, gone) => {
                                inside.retain(|one| *one != gone);
                                inside.push(item);
                                prop_assert!(gone.2 >= priority);
                            }
                            Joined::Full(_) => prop_assert_eq!(queue.len(), max),
                        }
                    }
                    2 => if let Some(item) = queue.pop(|_| true) {
                        let best = inside.iter().map(|one| one.2).min();
                        prop_assert_eq!(best, Some(item.2), "most urgent first");
                        inside.retain(|one| *one != item);
                    } else { prop_assert!(inside.is_empty()) },
                    _ => if let Some(item) = inside.first().copied() {
                        prop_assert_eq!(queue.leave(&item.1.to_string(), item.2, item.0), Some(item));
                        inside.remove(0);
                    },
                }
                prop_assert_eq!(queue.len(), inside.len());
                prop_assert!(queue.len() <= max);
            }
        }

        /// Of callers that wait, none is served twice before another was served once.
        #[test]
        fn callers_take_turns(calls in prop::collection::vec(0_u8..4, 1..60)) {
            let mut queue = FairQueue::new(100);
            for who in &calls {
                queue.join(&caller(&who.to_string()), Priority::Normal, *who);
            }
            let served = drain(&mut queue);
            prop_assert_eq!(served.len(), calls.len());
            for (at, who) in served.iter().enumerate() {
                let next = served[at + 1..].iter().position(|one| one == who);
                let until = next.map_or(served.len(), |next| at + 1 + next);
                for other in served[until..].iter().filter(|other| *other != who) {
                    prop_assert!(served[at..until].contains(other), "{served:?}");
                }
            }
        }
    }
}
