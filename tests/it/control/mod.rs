//! The control plane over the wire: documents that change while calls are in flight.

mod crashes;
mod files;
mod outages;
mod rejections;
mod removal;
mod rollouts;
mod swaps;
mod templates;
mod versions;
mod watching;

use std::time::Duration;

use mainstay::api::pb;
use tonic::Status;

use crate::support::{Plan, Refused, Rig};

/// A policy that retries so often; each figure is another text.
fn retrying(attempts: u32) -> String {
    format!(
        "policy:\n  routing:\n    infrastructure:\n      ladder:\n        - retry_with_backoff: {{ attempts: {attempts} }}\n        - alert_and_degrade\n"
    )
}

/// A policy under which every failure ends its run.
const HALTING: &str = "policy:\n  routing:\n    infrastructure: { action: alert_and_halt }\n    input_constraint: { action: alert_and_halt }\n    output_semantic: { action: alert_and_halt }\n    pipeline_logic: { action: alert_and_halt }\n";

fn pushing(name: &str, text: &str) -> pb::PushPolicyRequest {
    pb::PushPolicyRequest {
        name: name.to_owned(),
        text: text.to_owned(),
        ..pb::PushPolicyRequest::default()
    }
}

/// How often, or how many: as much as a test may take, or what the variable says.
fn scaled(variable: &str, usual: u64) -> u64 {
    std::env::var(variable).ok().and_then(|text| text.parse().ok()).unwrap_or(usual)
}

/// A service whose documents are kept in a file.
fn kept() -> Plan {
    Plan::new().target("main", "m").config("store: {path: store/mainstay.db}")
}

impl Rig {
    async fn push(&self, request: pb::PushPolicyRequest) -> Result<pb::DocumentVersion, Refused> {
        let response = self.policies().push_policy(request).await.map_err(Refused::from)?;
        Ok(response.into_inner().version.expect("a version"))
    }

    async fn policy(&self, name: &str) -> pb::DocumentStatus {
        self.policy_version(name, 0).await.expect("it exists")
    }

    async fn policy_version(&self, name: &str, version: u64) -> Result<pb::DocumentStatus, Status> {
        let request = pb::GetPolicyRequest { name: name.to_owned(), version };
        let response = self.policies().get_policy(request).await?;
        Ok(response.into_inner().status.expect("a status"))
    }

    /// Waits until a policy is as wanted, and returns it.
    async fn policy_when(
        &self,
        name: &str,
        wanted: impl Fn(&pb::DocumentStatus) -> bool,
    ) -> pb::DocumentStatus {
        let wait = async {
            loop {
                if let Ok(status) = self.policy_version(name, 0).await
                    && wanted(&status)
                {
                    return status;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(15), wait).await.expect("it never comes")
    }

    /// Alerts that stand, as sentences.
    async fn standing_alerts(&self) -> Vec<String> {
        let mut client =
            pb::operations_service_client::OperationsServiceClient::new(self.control.clone());
        let request = pb::ListAlertsRequest { state: pb::AlertState::Firing.into() };
        let alerts = client.list_alerts(request).await.unwrap().into_inner().alerts;
        alerts.into_iter().map(|alert| alert.summary).collect()
    }
}

/// `Aborted STALE_VERSION`, for assertions.
fn told(refused: &Refused) -> String {
    format!("{:?} {}", refused.status.code(), refused.refusal.reason)
}

fn active(status: &pb::DocumentStatus) -> u64 {
    status.active.as_ref().map_or(0, |active| active.version)
}
