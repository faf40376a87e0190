//! Recorded failures decided again under another policy.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tonic::{Request, Response, Status};

use super::{PolicyApi, resolve};
use crate::api::{convert, pb};
use crate::policy::record::RecordedStep;
use crate::policy::simulate::{self, Baseline, Change, Interval, Simulation};

/// Failures of a request that names no number.
const FAILURES_DEFAULT: u32 = 100_000;

/// Nothing is called and no state of the engine is touched: the record is copied, and decided again
/// on a thread that serves no calls, one simulation at a time.
pub(super) async fn simulate_policy(
    api: &PolicyApi,
    request: Request<pb::SimulatePolicyRequest>,
) -> Result<Response<pb::SimulatePolicyResponse>, Status> {
    let message = request.into_inner();
    let candidate = resolve::policy(api, "candidate", message.candidate).await?;
    let baseline = match message.baseline {
        None => None,
        some => Some(resolve::policy(api, "baseline", some).await?),
    };
    let scope = message.scope.unwrap_or_default();
    let _one_at_a_time = api.simulations.acquire().await;
    let engine = api.engine.clone();
    let work = move || {
        let (steps, effects) = engine.recorder().recorded();
        let steps = within(&scope, &steps);
        let baseline = baseline.as_deref().map_or(Baseline::Recorded, Baseline::Policy);
        simulate::simulate(steps.iter().map(Arc::as_ref), &candidate, baseline, &effects)
    };
    let simulation = api.tasks.spawn_blocking(work).await;
    let simulation =
        simulation.map_err(|_| Status::internal("the simulation could not be carried out"))?;
    Ok(Response::new(response(&simulation)))
}

/// The steps of a scope: the newest as far as their failures are not too many.
fn within(scope: &pb::SimulationScope, steps: &[Arc<RecordedStep>]) -> Vec<Arc<RecordedStep>> {
    let start = scope.start_time.map_or(UNIX_EPOCH, time);
    let end = scope.end_time.map(time);
    let most = if scope.failures_max == 0 { FAILURES_DEFAULT } else { scope.failures_max };
    let most = usize::try_from(most).unwrap_or(usize::MAX);
    let mut failures = 0;
    let wanted = |step: &&Arc<RecordedStep>| {
        let met = step.failures.first().map_or(UNIX_EPOCH, |failure| failure.time);
        let pipeline = step.pipeline.as_deref().unwrap_or_default();
        met >= start
            && end.is_none_or(|end| met <= end)
            && (scope.pipeline.is_empty() || pipeline == scope.pipeline)
    };
    let newest = steps.iter().rev().filter(wanted).take_while(|step| {
        failures += step.failures.len();
        failures <= most
    });
    newest.cloned().collect()
}

/// A time as sent; what is before 1970 is 1970.
fn time(stamp: prost_types::Timestamp) -> SystemTime {
    let seconds = Duration::from_secs(u64::try_from(stamp.seconds).unwrap_or_default());
    let nanos = Duration::from_nanos(u64::try_from(stamp.nanos).unwrap_or_default());
    UNIX_EPOCH.checked_add(seconds + nanos).unwrap_or(UNIX_EPOCH)
}

fn response(simulation: &Simulation) -> pb::SimulatePolicyResponse {
    pb::SimulatePolicyResponse {
        failures: simulation.failures,
        unchanged: simulation.unchanged,
        changes: simulation.changes.iter().map(change).collect(),
        unknown: simulation.unknown,
        not_reached: simulation.not_reached,
    }
}

fn change(change: &Change) -> pb::SimulatedChange {
    let estimate = |interval: Interval| pb::Estimate {
        value: interval.value,
        low: interval.low,
        high: interval.high,
    };
    let known = change.estimate.as_ref();
    pb::SimulatedChange {
        domain: convert::domain(change.domain).into(),
        cause: change.cause.name().to_owned(),
        target: change.target.to_string(),
        before: convert::action(change.before).into(),
        after: convert::action(change.after).into(),
        count: change.count,
        recoveries: known.map(|known| estimate(known.recoveries)),
        calls: known.map(|known| estimate(known.calls)),
        cost_usd: known.map(|known| estimate(known.cost_usd)),
        latency_seconds: known.map(|known| estimate(known.latency_seconds)),
        unknown: change.unknown,
        degraded: known.map(|known| estimate(known.degraded)),
    }
}
