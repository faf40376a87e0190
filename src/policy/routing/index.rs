//! Finds the overrides that may hold for a failure, without looking at the others.
//!
//! An override is kept under the literals of one field that its condition asks for. For a failure
//! the lists under the values that its fields have are merged, lowest number first, so that the
//! first override that holds is the first of the document. Overrides that ask for no such field
//! stand in a list of their own for each cause that they cover.

use std::collections::HashMap;
use std::sync::Arc;

use super::Site;
use super::seen::{Demands, Found, Key};
use crate::expression::Literal;
use crate::failure::{Failure, FailureCause};

type Rules = Vec<u32>;

/// The overrides under each value of one field.
#[derive(Debug, Clone, Default, PartialEq)]
struct ByValue {
    texts: HashMap<Box<str>, Rules>,
    ints: HashMap<i64, Rules>,
}

impl ByValue {
    fn place(&mut self, value: &Literal) -> &mut Rules {
        match value {
            Literal::Text(text) => self.texts.entry(text.as_str().into()).or_default(),
            Literal::Int(value) => self.ints.entry(*value).or_default(),
        }
    }

    fn get(&self, found: Found<'_>) -> Option<&Rules> {
        match found {
            Found::Text(text) => self.texts.get(text),
            Found::Int(value) => self.ints.get(&value),
        }
    }
}

/// The index of a policy's overrides.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Index {
    fixed: Vec<(Key, ByValue)>,
    labels: HashMap<Arc<str>, ByValue>,
    /// By cause, the overrides that ask for no field.
    others: Vec<Rules>,
}

impl Index {
    /// An index over the demands of each override and the causes that it covers, with their
    /// ladders.
    pub(super) fn new<'a>(
        rules: impl Iterator<Item = (&'a Demands, &'a [(FailureCause, usize)])> + Clone,
    ) -> Self {
        // An override is kept under the field that tells most overrides apart.
        let mut frequency: HashMap<(&Key, &Literal), u32> = HashMap::new();
        for demand in rules.clone().flat_map(|(demands, _)| &demands.fields) {
            for value in &demand.values {
                *frequency.entry((&demand.key, value)).or_default() += 1;
            }
        }
        let mut index =
            Self { others: vec![Rules::new(); FailureCause::ALL.len()], ..Self::default() };
        for (number, (demands, covered)) in (0_u32..).zip(rules) {
            let rarest = demands.fields.iter().min_by_key(|demand| {
                let of = |value| frequency.get(&(&demand.key, value)).copied().unwrap_or_default();
                demand.values.iter().map(of).max()
            });
            match rarest {
                _ if covered.is_empty() => {}
                Some(demand) => {
                    let by_value = index.by_value(&demand.key);
                    demand.values.iter().for_each(|value| by_value.place(value).push(number));
                }
                None => covered.iter().for_each(|(c, _)| index.others[*c as usize].push(number)),
            }
        }
        index
    }

    fn by_value(&mut self, key: &Key) -> &mut ByValue {
        if let Key::Label(name) = key {
            return self.labels.entry(Arc::clone(name)).or_default();
        }
        let at = self.fixed.iter().position(|(known, _)| known == key);
        let at = at.unwrap_or_else(|| {
            self.fixed.push((key.clone(), ByValue::default()));
            self.fixed.len() - 1
        });
        &mut self.fixed[at].1
    }

    /// The overrides that may hold, in their order.
    pub(super) fn candidates<'a>(&'a self, failure: &Failure, site: &Site<'_>) -> Candidates<'a> {
        let others = self.others.get(failure.cause as usize).map_or(&[][..], Vec::as_slice);
        let mut candidates =
            Candidates { fixed: [&[]; Key::FIXED.len()], labels: Vec::new(), others };
        for (place, (key, by_value)) in candidates.fixed.iter_mut().zip(&self.fixed) {
            let found = key.look_up(failure, site).and_then(|found| by_value.get(found));
            *place = found.map_or(&[][..], Vec::as_slice);
        }
        if !self.labels.is_empty() {
            candidates.labels = site
                .labels
                .iter()
                .filter_map(|(name, value)| {
                    self.labels.get(name.as_str())?.get(Found::Text(value)).map(Vec::as_slice)
                })
                .collect();
        }
        candidates
    }
}

/// Numbers of overrides from several lists, lowest first. Each number stands in one list only.
pub(super) struct Candidates<'a> {
    fixed: [&'a [u32]; Key::FIXED.len()],
    labels: Vec<&'a [u32]>,
    others: &'a [u32],
}

impl Iterator for Candidates<'_> {
    type Item = usize;

    fn next(&mut self) -> Option<usize> {
        let lists = self.fixed.iter_mut().chain(&mut self.labels).chain([&mut self.others]);
        let list = lists.filter(|list| !list.is_empty()).min_by_key(|list| list[0])?;
        let (first, rest) = list.split_first()?;
        *list = rest;
        usize::try_from(*first).ok()
    }
}
