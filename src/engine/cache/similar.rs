//! Which cached output answers a prompt that says nearly the same as its own.
//!
//! Only vectors and keys are here. The outputs stay in the cache under their keys, so that what the
//! cache forgets is no answer here either.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::CacheKey;
use crate::engine::targets::Target;
use crate::resilience::nearest::{Candidate, Neighbourhood, Neighbours, Unit, nearest};
use crate::store::sqlite::outputs::{KeptVector, OutputStore};

/// A cached output, and where it comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Its key.
    pub key: CacheKey,
    /// Pipeline; empty for an inline step.
    pub pipeline: Arc<str>,
    /// Step.
    pub step: Arc<str>,
}

/// The vectors of prompts, and what makes them.
pub struct Similar {
    target: Arc<Target>,
    bytes_max: usize,
    known: Mutex<Neighbours<Place>>,
}

impl Similar {
    /// No vectors yet. They are made by this target, and never more than so many bytes.
    pub fn new(target: Arc<Target>, bytes_max: usize) -> Self {
        Self { target, bytes_max, known: Mutex::new(Neighbours::new(bytes_max)) }
    }

    fn known(&self) -> MutexGuard<'_, Neighbours<Place>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Vectors that are known now.
    pub fn known_now(&self) -> usize {
        self.known().len()
    }

    /// What makes the vectors.
    pub const fn target(&self) -> &Arc<Target> {
        &self.target
    }

    /// How near the nearest is, and those that are near enough, the nearest first. The scan is made
    /// over a copy of the list, not under the lock.
    pub fn near(
        &self,
        neighbourhood: &Neighbourhood,
        to: &Unit,
        threshold: f64,
    ) -> (Option<f64>, Vec<(f64, Place)>) {
        let among = self.known().of(neighbourhood);
        let all = nearest(to, &among, -1.0);
        let best = all.first().map(|(similarity, _)| *similarity);
        (best, all.into_iter().take_while(|(similarity, _)| *similarity >= threshold).collect())
    }

    /// Adds the vector of a cached output's prompt.
    pub fn add(&self, neighbourhood: Neighbourhood, place: Place, unit: Unit) {
        self.known().add(neighbourhood, Candidate { key: place, unit });
    }

    /// Takes out one whose output is gone.
    pub fn remove(&self, neighbourhood: Neighbourhood, place: &Place) {
        self.known().remove(neighbourhood, place);
    }

    /// Takes out those of a pipeline, a step, or both; all of them if neither is given.
    pub fn forget(&self, pipeline: Option<&str>, step: Option<&str>) {
        self.known().forget(|place| {
            pipeline.is_none_or(|name| *place.pipeline == *name)
                && step.is_none_or(|name| *place.step == *name)
        });
    }

    /// Adds the vectors that a store has from before. Those of another model are of neighbourhoods
    /// that nobody asks for any more, and give way to what is added later.
    pub async fn remember(&self, store: &OutputStore) {
        for kept in store.vectors(self.bytes_max).await {
            let KeptVector { key, neighbour, pipeline, step, .. } = kept;
            if let Some(unit) = Unit::new(&neighbour.vector) {
                let place = Place { key: CacheKey::of_bytes(key), pipeline, step };
                self.add(neighbour.neighbourhood, place, unit);
            }
        }
    }
}

impl std::fmt::Debug for Similar {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Similar").field("target", &self.target.name).finish_non_exhaustive()
    }
}
