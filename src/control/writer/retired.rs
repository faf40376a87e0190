//! What served before, kept until no run holds it.
//!
//! A run that ended last under a version would have to free it, and with a thousand rules that
//! takes longer than the run's own work. So the writer holds each version that it replaced, and
//! frees it where nobody waits.

use std::sync::Arc;

use super::Compiled;

/// Overrides of a policy that is freed in a few microseconds.
const OVERRIDES_FEW: usize = 16;

/// Documents that serve no new run. As many as runs hold, and those of the last moment.
#[derive(Default)]
pub(super) struct Retired(Vec<Compiled>);

impl Retired {
    /// Keeps what a change replaced.
    pub(super) fn keep(&mut self, replaced: Option<Compiled>) {
        self.0.extend(replaced);
    }

    /// Whether freeing it takes less time than waking another thread.
    pub(super) fn is_small(retired: &Compiled) -> bool {
        match retired {
            Compiled::Policy(policy) => policy.policy.routing.overrides().len() <= OVERRIDES_FEW,
            Compiled::Pipeline(_) => false,
        }
    }

    /// Takes out what nobody else holds any more.
    pub(super) fn unused(&mut self) -> Vec<Compiled> {
        let is_unused = |kept: &mut Compiled| match kept {
            Compiled::Policy(policy) => Arc::strong_count(policy) == 1,
            Compiled::Pipeline(pipeline) => Arc::strong_count(pipeline) == 1,
        };
        self.0.extract_if(.., is_unused).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::active_policy::PolicyVersion;
    use crate::journal::PolicyRef;
    use crate::policy::Policy;

    #[test]
    fn what_a_run_holds_is_kept_until_it_ends() {
        let version = |version| {
            let reference = PolicyRef { name: "default".into(), version };
            let policy = Policy::built_in();
            Arc::new(PolicyVersion { reference, content_hash: "".into(), policy })
        };
        let (held, not_held) = (version(1), version(2));
        let gone = Arc::downgrade(&not_held);
        let mut retired = Retired::default();
        retired.keep(None);
        retired.keep(Some(Compiled::Policy(held.clone())));
        retired.keep(Some(Compiled::Policy(not_held)));
        assert_eq!(retired.unused().len(), 1);
        assert!(gone.upgrade().is_none());
        assert!(retired.unused().is_empty());
        drop(held);
        assert_eq!(retired.unused().len(), 1);
    }
}
