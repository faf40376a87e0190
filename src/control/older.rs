//! Pipelines in versions that serve no more, compiled for runs that ask for one by number.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use crate::engine::active_policy::PipelineVersion;
use crate::journal::documents::Version;

/// Versions kept compiled.
const KEPT_MAX: usize = 32;

/// The versions that were asked for last.
#[derive(Default)]
pub(super) struct Older {
    kept: Mutex<VecDeque<Arc<PipelineVersion>>>,
}

impl Older {
    /// A version that was asked for before.
    pub(super) fn get(&self, version: &Version) -> Option<Arc<PipelineVersion>> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let is_it = |known: &Arc<PipelineVersion>| {
            (&known.name, known.version) == (&version.name, version.version)
                && known.content_hash == version.content_hash
        };
        let found = kept.iter().position(is_it).and_then(|at| kept.remove(at))?;
        kept.push_back(found.clone());
        Some(found)
    }

    /// Keeps a version in place of the one that was not asked for the longest.
    pub(super) fn keep(&self, version: Arc<PipelineVersion>) -> Arc<PipelineVersion> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() >= KEPT_MAX {
            kept.pop_front();
        }
        kept.push_back(version.clone());
        version
    }
}
