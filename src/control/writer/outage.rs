//! Policies that would stop all traffic, by what they say or with what operators have taken away.

use super::{Compiled, Writer};
use crate::control::book::Proposal;
use crate::control::change::ChangeError;
use crate::document::{Position, Problem};
use crate::engine::Server;
use crate::policy::outage;

impl Writer {
    /// Refuses a policy under which nothing would be answered, unless that is meant. What part of
    /// the traffic finds no target is a warning. A pipeline has no say in it.
    pub(super) fn outage(
        &self,
        proposal: &Proposal,
        compiled: &Compiled,
        is_meant: bool,
    ) -> Result<Option<Problem>, ChangeError> {
        let Compiled::Policy(policy) = compiled else { return Ok(None) };
        let by_itself = outage(&policy.policy);
        if by_itself.is_total() && !is_meant {
            let why =
                "failures would halt their run at once: nothing is tried and a person is called";
            return Err(ChangeError::Outage { share: by_itself.share, why: why.to_owned() });
        }
        let snapshot = self.active.snapshot();
        let server = Server {
            documents: &snapshot,
            targets: self.checker.targets(),
            default_policy: &self.default_policy,
        };
        let reach = server.under(&proposal.name, &policy.policy);
        if reach.is_outage() && !is_meant {
            let why = format!("steps under it would find no target: {}", reach.off.join(", "));
            return Err(ChangeError::Outage { share: reach.share(), why });
        }
        let told = || format!("no target is left under this policy for {reach}");
        Ok(reach.strands_some().then(|| Problem::warning("", Position::START, told())))
    }
}
