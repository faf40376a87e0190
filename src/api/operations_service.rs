//! Looking at targets and alerts, and taking a hand in it.

use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures_util::{Stream, stream};
use tonic::{Request, Response, Status};

use super::context::{self, DeadlineLimits};
use super::pb::operations_service_server::OperationsService;
use super::request;
use super::status::{self, FieldFault, NotFound};
use super::{convert, pb, watched};
use crate::control::audit::{AuditAction, AuditEntry, AuditLog};
use crate::document::nearest;
use crate::engine::alerts::Alert;
use crate::engine::cache::durable::Forgotten;
use crate::engine::gates::Disabled;
use crate::engine::targets::Target;
use crate::engine::{Engine, did_you_mean};
use crate::resilience::breaker::{BreakerState, Command};
use crate::resilience::cooldown::Pause;
use crate::tasks::Tasks;

/// The service.
#[derive(Clone)]
pub struct OperationsApi {
    engine: Engine,
    audit: AuditLog,
    serving: Tasks,
}

type Streaming<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

impl OperationsApi {
    /// The service over an engine, which records its changes in an audit log. Streams end when
    /// `serving` is asked to.
    pub fn new(engine: Engine, audit: AuditLog, serving: Tasks) -> Self {
        Self { engine, audit, serving }
    }
}

fn breaker_state(state: BreakerState) -> pb::BreakerState {
    match state {
        BreakerState::Closed => pb::BreakerState::Closed,
        BreakerState::Open => pb::BreakerState::Open,
        BreakerState::HalfOpen => pb::BreakerState::HalfOpen,
        BreakerState::ForcedOpen => pb::BreakerState::ForcedOpen,
        BreakerState::ForcedClosed => pb::BreakerState::ForcedClosed,
        BreakerState::MetricsOnly => pb::BreakerState::MetricsOnly,
    }
}

fn target_status(target: &Target) -> pb::TargetStatus {
    let view = target.gate.view();
    let now = SystemTime::now();
    let later = |left: Duration| convert::timestamp(now + left);
    let (quota_exhausted, pause) = match view.pause {
        None => (false, None),
        Some(Pause::Pace(left)) => (false, Some(left)),
        Some(Pause::Quota(left)) => (true, left),
    };
    pb::TargetStatus {
        name: target.name.to_string(),
        dialect: target.dialect.name().to_owned(),
        model: target.model.clone(),
        enabled: view.disabled.is_none(),
        disabled_reason: view.disabled.map(|why| why.reason.to_string()).unwrap_or_default(),
        breaker: breaker_state(view.breaker).into(),
        breaker_reopen_time: view.reopens_in.map(later),
        cool_down_end_time: pause.map(later),
        in_flight: view.in_flight,
        in_flight_max: view.in_flight_max,
        queued: view.queued,
        calls: view.calls,
        failures: view
            .failures
            .iter()
            .map(|(cause, count)| pb::CauseCount {
                domain: convert::domain(cause.domain()).into(),
                cause: cause.name().to_owned(),
                count: *count,
            })
            .collect(),
        latency_p50: view.latency_p50.and_then(convert::duration),
        latency_p95: view.latency_p95.and_then(convert::duration),
        retry_budget_left: view.retry_budget_left,
        transitions: view
            .transitions
            .iter()
            .map(|(age, change)| pb::BreakerTransition {
                time: Some(convert::timestamp(now.checked_sub(*age).unwrap_or(now))),
                from: breaker_state(change.from).into(),
                to: breaker_state(change.to).into(),
                reason: change.reason.to_string(),
            })
            .collect(),
        quota_exhausted,
        output_breakers_open: view.outputs_open,
    }
}

/// Everything that has a gate: the targets of steps, then what makes vectors of prompts.
fn operated(engine: &Engine) -> impl Iterator<Item = &Arc<Target>> {
    let embeds = engine.cache().similar().map(|similar| similar.target());
    engine.targets().iter().chain(embeds)
}

fn all_targets(engine: &Engine) -> Vec<pb::TargetStatus> {
    operated(engine).map(|target| target_status(target)).collect()
}

/// How often the state of the targets is streamed.
const WATCH_EVERY: Duration = Duration::from_secs(1);
/// A stream of what serves ends by itself; who still looks asks again.
const WATCH_LIMITS: DeadlineLimits =
    DeadlineLimits { default: Duration::from_secs(3_600), cap: Duration::from_secs(86_400) };

impl OperationsApi {
    fn target(&self, name: &str) -> Result<&Target, Status> {
        let mut all = operated(&self.engine);
        all.find(|target| *target.name == *name).map(|target| &**target).ok_or_else(|| {
            let names = operated(&self.engine).map(|target| &*target.name);
            let near = nearest(name, names).map(str::to_owned);
            status::of_not_found(&NotFound {
                reason: "TARGET_NOT_FOUND",
                message: format!("there is no target `{name}`{}", did_you_mean(&near)),
            })
        })
    }
}

impl OperationsApi {
    /// What finds no target now. Told and not refused: in an emergency to stop everything may be
    /// just what is meant.
    fn stopped(&self, target: &Target) -> Vec<String> {
        let reach = self.engine.reach(&target.name);
        let told = || format!("no target is left for {reach}");
        reach.strands_some().then(told).into_iter().collect()
    }
}

fn check_reason(reason: &str) -> Result<(), Status> {
    if reason.chars().count() > 256 {
        let fault = FieldFault::new("reason", "is longer than 256 characters");
        return Err(status::of_faults(&[fault]));
    }
    Ok(())
}

fn alert(alert: &Alert) -> pb::Alert {
    let state =
        if alert.ended.is_some() { pb::AlertState::Resolved } else { pb::AlertState::Firing };
    pb::Alert {
        alert_id: alert.id.to_string(),
        policy: alert.policy.to_string(),
        domain: convert::domain(alert.domain).into(),
        cause: alert.cause.name().to_owned(),
        pipeline: alert.pipeline.to_string(),
        step: alert.step.to_string(),
        target: alert.target.to_string(),
        count: alert.count,
        state: state.into(),
        start_time: Some(convert::timestamp(alert.started)),
        last_time: Some(convert::timestamp(alert.last)),
        end_time: alert.ended.map(convert::timestamp),
        summary: match &alert.notice {
            Some(notice) => notice.to_string(),
            None => format!(
                "{} failures of {} under policy {}, the last: {} on {}",
                alert.count, alert.domain, alert.policy, alert.cause, alert.target
            ),
        },
    }
}

#[tonic::async_trait]
impl OperationsService for OperationsApi {
    async fn list_targets(
        &self,
        _: Request<pb::ListTargetsRequest>,
    ) -> Result<Response<pb::ListTargetsResponse>, Status> {
        Ok(Response::new(pb::ListTargetsResponse { targets: all_targets(&self.engine) }))
    }

    type WatchTargetsStream = Streaming<pb::WatchTargetsResponse>;

    async fn watch_targets(
        &self,
        request: Request<pb::WatchTargetsRequest>,
    ) -> Result<Response<Self::WatchTargetsStream>, Status> {
        let deadline = context::deadline(&request, WATCH_LIMITS);
        let mut tick = tokio::time::interval(WATCH_EVERY);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let (engine, serving) = (self.engine.clone(), self.serving.clone());
        let looks = stream::unfold((tick, engine, serving), |(mut tick, engine, serving)| async {
            tokio::select! {
                // Nobody waits for a stream that only looks.
                () = serving.stopping() => return None,
                _ = tick.tick() => {}
            }
            let targets = all_targets(&engine);
            Some((Ok(pb::WatchTargetsResponse { targets }), (tick, engine, serving)))
        });
        Ok(Response::new(Box::pin(watched::until(looks, deadline))))
    }

    async fn set_target(
        &self,
        request: Request<pb::SetTargetRequest>,
    ) -> Result<Response<pb::SetTargetResponse>, Status> {
        let caller = context::identity(&request)?;
        let message = request.into_inner();
        check_reason(&message.reason)?;
        let target = self.target(&message.name)?;
        let disabled = (!message.enabled).then(|| Disabled {
            reason: if message.reason.is_empty() {
                "disabled by an operator".into()
            } else {
                message.reason.as_str().into()
            },
            credential: false,
        });
        let action = match &disabled {
            Some(_) => AuditAction::TargetDisabled,
            None => AuditAction::TargetEnabled,
        };
        target.gate.set_disabled(disabled);
        let entry = AuditEntry::new(&caller.name, action, &format!("target/{}", target.name));
        self.audit.record(entry.comment(&message.reason)).await;
        let warnings = self.stopped(target);
        Ok(Response::new(pb::SetTargetResponse { target: Some(target_status(target)), warnings }))
    }

    async fn set_breaker(
        &self,
        request: Request<pb::SetBreakerRequest>,
    ) -> Result<Response<pb::SetBreakerResponse>, Status> {
        let caller = context::identity(&request)?;
        let message = request.into_inner();
        check_reason(&message.reason)?;
        let command = match message.state() {
            pb::BreakerState::Unspecified => {
                let fault = FieldFault::new("state", "has to be a state that is known");
                return Err(status::of_faults(&[fault]));
            }
            pb::BreakerState::Closed => Command::Release,
            pb::BreakerState::Open => Command::Trip,
            pb::BreakerState::HalfOpen => Command::Probe,
            pb::BreakerState::ForcedOpen => Command::HoldOpen,
            pb::BreakerState::ForcedClosed => Command::HoldClosed,
            pb::BreakerState::MetricsOnly => Command::MetricsOnly,
        };
        let target = self.target(&message.target)?;
        target.gate.command(command);
        let action = match command {
            Command::Release => AuditAction::BreakerReleased,
            Command::HoldOpen
            | Command::HoldClosed
            | Command::MetricsOnly
            | Command::Trip
            | Command::Probe => AuditAction::BreakerHeld,
        };
        let entry = AuditEntry::new(&caller.name, action, &format!("target/{}", target.name));
        self.audit.record(entry.comment(&message.reason)).await;
        let warnings = self.stopped(target);
        Ok(Response::new(pb::SetBreakerResponse { target: Some(target_status(target)), warnings }))
    }

    async fn invalidate_cache(
        &self,
        request: Request<pb::InvalidateCacheRequest>,
    ) -> Result<Response<pb::InvalidateCacheResponse>, Status> {
        let caller = context::identity(&request)?;
        let message = request.into_inner();
        let given = |name: &str| (!name.is_empty()).then(|| name.to_owned());
        let (pipeline, step) = (given(&message.pipeline), given(&message.step));
        let forgotten = self.engine.cache().forget(pipeline.as_deref(), step.as_deref()).await;
        let entry = AuditEntry::new(&caller.name, AuditAction::CacheInvalidated, "cache");
        let what = [("pipeline", pipeline), ("step", step)];
        let what = what.into_iter().filter_map(|(kind, name)| Some(format!("{kind} {}", name?)));
        let what: Vec<String> = what.collect();
        self.audit.record(entry.comment(&what.join(", "))).await;
        let Forgotten { in_memory, on_disk } =
            forgotten.map_err(|error| status::of_kept_outputs(&error))?;
        let dropped = u64::try_from(in_memory).unwrap_or(u64::MAX);
        Ok(Response::new(pb::InvalidateCacheResponse { dropped, dropped_durable: on_disk }))
    }

    async fn list_alerts(
        &self,
        request: Request<pb::ListAlertsRequest>,
    ) -> Result<Response<pb::ListAlertsResponse>, Status> {
        let wanted = pb::AlertState::try_from(request.into_inner().state)
            .map_err(|_| status::of_faults(&[FieldFault::new("state", "is no known state")]))?;
        let alerts = self
            .engine
            .alerts()
            .list()
            .iter()
            .map(alert)
            .filter(|a| wanted == pb::AlertState::Unspecified || a.state() == wanted)
            .collect();
        Ok(Response::new(pb::ListAlertsResponse { alerts }))
    }

    async fn list_audit_entries(
        &self,
        request: Request<pb::ListAuditEntriesRequest>,
    ) -> Result<Response<pb::ListAuditEntriesResponse>, Status> {
        let message = request.into_inner();
        let page = request::page_size(message.page_size)?;
        let before = match message.page_token.as_str() {
            "" => None,
            token => Some(token.parse().map_err(|_| {
                status::of_faults(&[FieldFault::new("page_token", "is no token of a page")])
            })?),
        };
        let wanted = |entry: &AuditEntry| {
            (message.document.is_empty() || entry.document == message.document)
                && (message.actor.is_empty() || entry.actor == message.actor)
        };
        let found = self.audit.list(before, page + 1, wanted);
        let entries: Vec<pb::AuditEntry> = found
            .iter()
            .take(page)
            .map(|(number, entry)| convert::audit_entry(*number, entry))
            .collect();
        let next_page_token = match entries.last() {
            Some(last) if found.len() > page => last.number.to_string(),
            Some(_) | None => String::new(),
        };
        Ok(Response::new(pb::ListAuditEntriesResponse { entries, next_page_token }))
    }

    type WatchAlertsStream = Streaming<pb::WatchAlertsResponse>;

    async fn watch_alerts(
        &self,
        _: Request<pb::WatchAlertsRequest>,
    ) -> Result<Response<Self::WatchAlertsStream>, Status> {
        Err(status::not_offered("WatchAlerts"))
    }
}
