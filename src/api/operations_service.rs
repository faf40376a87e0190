//! Looking at targets and alerts, and taking a hand in it.

use std::pin::Pin;

use futures_util::Stream;
use tokio::time::Instant;
use tonic::{Request, Response, Status};

use super::context;
use super::convert;
use super::pb;
use super::pb::operations_service_server::OperationsService;
use super::request;
use super::status::{self, FieldFault, NotFound};
use crate::control::audit::{AuditAction, AuditEntry, AuditLog};
use crate::engine::Engine;
use crate::engine::alerts::Alert;
use crate::engine::gates::Disabled;
use crate::engine::targets::Target;

/// The service.
#[derive(Clone)]
pub struct OperationsApi {
    engine: Engine,
    audit: AuditLog,
}

type Streaming<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

impl OperationsApi {
    /// The service over an engine, which records its changes in an audit log.
    pub fn new(engine: Engine, audit: AuditLog) -> Self {
        Self { engine, audit }
    }
}

fn target_status(target: &Target) -> pb::TargetStatus {
    let gate = &target.gate;
    let disabled = gate.disabled();
    let cool_down = gate.cooling_down_for(Instant::now());
    pb::TargetStatus {
        name: target.name.to_string(),
        dialect: target.dialect.name().to_owned(),
        model: target.model.clone(),
        enabled: disabled.is_none(),
        disabled_reason: disabled.map(|why| why.reason.to_string()).unwrap_or_default(),
        cool_down_end_time: cool_down
            .map(|left| convert::timestamp(std::time::SystemTime::now() + left)),
        in_flight: u32::try_from(gate.in_flight()).unwrap_or(u32::MAX),
        in_flight_max: u32::try_from(gate.in_flight_max()).unwrap_or(u32::MAX),
        queued: gate.queued(),
        calls: gate.calls(),
        ..pb::TargetStatus::default()
    }
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
        summary: format!(
            "{} failures of {} under policy {}, the last: {} on {}",
            alert.count, alert.domain, alert.policy, alert.cause, alert.target
        ),
    }
}

#[tonic::async_trait]
impl OperationsService for OperationsApi {
    async fn list_targets(
        &self,
        _: Request<pb::ListTargetsRequest>,
    ) -> Result<Response<pb::ListTargetsResponse>, Status> {
        let targets = self.engine.targets().iter().map(|target| target_status(target)).collect();
        Ok(Response::new(pb::ListTargetsResponse { targets }))
    }

    type WatchTargetsStream = Streaming<pb::WatchTargetsResponse>;

    async fn watch_targets(
        &self,
        _: Request<pb::WatchTargetsRequest>,
    ) -> Result<Response<Self::WatchTargetsStream>, Status> {
        Err(status::not_offered("WatchTargets"))
    }

    async fn set_target(
        &self,
        request: Request<pb::SetTargetRequest>,
    ) -> Result<Response<pb::SetTargetResponse>, Status> {
        let caller = context::identity(&request)?;
        let message = request.into_inner();
        if message.reason.chars().count() > 256 {
            let fault = FieldFault::new("reason", "is longer than 256 characters");
            return Err(status::of_faults(&[fault]));
        }
        let target = self.engine.targets().get(&message.name).ok_or_else(|| {
            status::of_not_found(&NotFound {
                reason: "TARGET_NOT_FOUND",
                message: format!("there is no target `{}`", message.name),
            })
        })?;
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
        Ok(Response::new(pb::SetTargetResponse { target: Some(target_status(target)) }))
    }

    async fn set_breaker(
        &self,
        _: Request<pb::SetBreakerRequest>,
    ) -> Result<Response<pb::SetBreakerResponse>, Status> {
        Err(status::not_offered("SetBreaker"))
    }

    async fn invalidate_cache(
        &self,
        _: Request<pb::InvalidateCacheRequest>,
    ) -> Result<Response<pb::InvalidateCacheResponse>, Status> {
        Err(status::not_offered("InvalidateCache"))
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
