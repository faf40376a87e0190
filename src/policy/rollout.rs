//! Gradual rollouts: which runs a new version serves, and when it is promoted or taken back.
//!
//! Figures in, verdict out; the time is an argument. Runs are compared with runs on the old version
//! in the same time, so that an outage of a provider, which both suffer, takes nothing back.

mod latency;

use std::time::Duration;

use sha2::{Digest, Sha256};

pub use latency::Latencies;

/// When a rollout is promoted or taken back. An absent condition does not count.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Guards {
    /// Least runs on each version before anything is judged.
    pub sample_min: u32,
    /// Most percentage points by which the failed share may be higher: 5 is from 1 % to 6 %.
    pub failed_share_max_increase: Option<f64>,
    /// Most percentage points by which the degraded share may be higher.
    pub degraded_share_max_increase: Option<f64>,
    /// Most by which the cost per run may be higher, as a ratio: 0.2 is 20 %.
    pub cost_max_increase: Option<f64>,
    /// Most by which p95 latency may be higher, as a ratio.
    pub latency_p95_max_increase: Option<f64>,
    /// Promote after this time with all conditions holding; by hand only if absent.
    pub promote_after: Option<Duration>,
}

/// What counts of a run that ended.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RunFacts {
    /// It ended without a usable output.
    pub failed: bool,
    /// It ended with a degraded one.
    pub degraded: bool,
    /// What it cost, US dollars.
    pub cost_usd: f64,
    /// How long it took.
    pub latency: Duration,
}

/// Figures of the runs on one version. Bounded, however many runs there are.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Figures {
    runs: u64,
    failed: u64,
    degraded: u64,
    cost_usd: f64,
    latencies: Latencies,
}

impl Figures {
    /// Counts a run.
    pub fn add(&mut self, run: &RunFacts) {
        self.runs += 1;
        self.failed += u64::from(run.failed);
        self.degraded += u64::from(run.degraded);
        self.cost_usd += run.cost_usd;
        self.latencies.add(run.latency);
    }

    /// The figures as shares and means.
    pub fn summary(&self) -> Summary {
        Summary {
            runs: self.runs,
            failed_share: self.share(self.failed),
            degraded_share: self.share(self.degraded),
            cost_usd_per_run: self.mean(self.cost_usd),
            latency_p95: self.latencies.quantile(0.95),
        }
    }

    #[allow(clippy::cast_precision_loss)]
    fn share(&self, part: u64) -> f64 {
        self.mean(part as f64)
    }

    #[allow(clippy::cast_precision_loss)]
    fn mean(&self, sum: f64) -> f64 {
        if self.runs == 0 { 0.0 } else { sum / self.runs as f64 }
    }
}

/// [`Figures`] for people and for the judge.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Summary {
    /// Runs that ended.
    pub runs: u64,
    /// Share that failed, 0 to 1.
    pub failed_share: f64,
    /// Share that was degraded, 0 to 1.
    pub degraded_share: f64,
    /// Mean cost in US dollars.
    pub cost_usd_per_run: f64,
    /// 95th percentile of the run's time, at most 4 % too long.
    pub latency_p95: Duration,
}

/// What is to become of a rollout.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Go on.
    Continue,
    /// The new version serves all from now on.
    Promote {
        /// One sentence.
        reason: String,
    },
    /// The old version serves all again.
    RollBack {
        /// One sentence, with the figures.
        reason: String,
    },
}

/// Judges a rollout that has lasted for this long.
pub fn judge(guards: &Guards, old: &Summary, new: &Summary, lasted: Duration) -> Verdict {
    let sample_min = u64::from(guards.sample_min.max(1));
    if old.runs < sample_min || new.runs < sample_min {
        return Verdict::Continue;
    }
    let points = |limit: Option<f64>, what: &str, old: f64, new: f64| {
        let limit = limit?;
        // A share of 0.06 over one of 0.01 is five points, whatever the last bit says.
        ((new - old) * 100.0 > limit + 1e-9).then(|| {
            format!(
                "the {what} share is {:.1} %, against {:.1} % on the old version; at most {limit} points more are allowed",
                new * 100.0,
                old * 100.0,
            )
        })
    };
    let ratio = |limit: Option<f64>, what: &str, unit: &str, old: f64, new: f64| {
        let limit = limit?;
        (new > old * (1.0 + limit) + 1e-9).then(|| {
            format!(
                "{what} is {new:.6}{unit}, against {old:.6}{unit} on the old version; at most {:.0} % more is allowed",
                limit * 100.0,
            )
        })
    };
    let broken =
        points(guards.failed_share_max_increase, "failed", old.failed_share, new.failed_share)
            .or_else(|| {
                let limit = guards.degraded_share_max_increase;
                points(limit, "degraded", old.degraded_share, new.degraded_share)
            })
            .or_else(|| {
                let (old, new) = (old.cost_usd_per_run, new.cost_usd_per_run);
                ratio(guards.cost_max_increase, "the cost per run", " US dollars", old, new)
            })
            .or_else(|| {
                let (old, new) = (old.latency_p95.as_secs_f64(), new.latency_p95.as_secs_f64());
                ratio(guards.latency_p95_max_increase, "p95 latency", " s", old, new)
            });
    match (broken, guards.promote_after) {
        (Some(reason), _) => Verdict::RollBack { reason: format!("{reason} ({} runs)", new.runs) },
        (None, Some(after)) if lasted >= after => Verdict::Promote {
            reason: format!("every condition held for {after:?} ({} runs)", new.runs),
        },
        (None, Some(_) | None) => Verdict::Continue,
    }
}

/// Whether the new version serves this run. Stable: the same on every replica and after every
/// restart. The policy's name goes in, so that two rollouts at once do not pick the same runs.
pub fn picks(policy: &str, run_id: &str, share: f64) -> bool {
    let digest =
        Sha256::new().chain_update(policy).chain_update([0]).chain_update(run_id).finalize();
    let mut head = [0; 4];
    head.copy_from_slice(&digest[..4]);
    f64::from(u32::from_be_bytes(head)) < share * 4_294_967_296.0
}

#[cfg(test)]
mod tests;
