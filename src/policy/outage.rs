//! Whether a policy would stop all traffic.

use super::{Action, Policy};
use crate::failure::FailureCause;

/// The share of causes, 0 to 1, for which the first rung halts the run and calls a person: nothing
/// is tried. At 1 the first failure of any kind ends every run, which is an outage as soon as a
/// provider hiccups.
#[allow(clippy::cast_precision_loss)]
pub fn halting_share(policy: &Policy) -> f64 {
    let halts = |cause: &&FailureCause| {
        let ladder = policy.routing.of_cause(**cause);
        ladder.rungs.first().is_some_and(|rung| rung.action() == Action::AlertAndHalt)
    };
    let halting = FailureCause::ALL.iter().filter(halts).count();
    halting as f64 / FailureCause::ALL.len() as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::document::Document;
    use crate::policy::{Known, compile};

    fn share(text: &str) -> f64 {
        let document = Document::parse("p", text).unwrap();
        let known = Known { targets: None };
        halting_share(&compile(&document, &known).unwrap().0)
    }

    #[test]
    fn counts_the_causes_whose_first_rung_halts() {
        assert!(halting_share(&Policy::built_in()) < 0.5);
        let all = ["infrastructure", "input_constraint", "output_semantic", "pipeline_logic"];
        let halting = |domains: &[&str]| {
            let routes: Vec<String> = domains
                .iter()
                .map(|d| format!("    {d}: {{ action: alert_and_halt }}\n"))
                .collect();
            share(&format!("policy:\n  routing:\n{}", routes.concat()))
        };
        assert!((halting(&all) - 1.0).abs() < f64::EPSILON);
        let three = halting(&all[..3]);
        assert!(three > 0.7 && three < 1.0, "{three}");
    }
}
