//! The calls that are the same for policies and pipelines, by kind.

use super::Kind;
use crate::api::client::{self, PolicyClient, Refusal};
use crate::api::pb;

/// A version that is to serve again.
pub(super) struct OldVersion {
    pub(super) name: String,
    pub(super) version: u64,
    pub(super) expected_version: Option<u64>,
    pub(super) comment: String,
    /// Only a policy can stop all traffic.
    pub(super) allow_outage: bool,
}

type Answer<T> = Result<T, Box<Refusal>>;

impl Kind {
    /// What is served of a document.
    pub(in crate::cli) async fn get(
        self,
        client: &mut PolicyClient,
        name: String,
        version: u64,
    ) -> Answer<pb::DocumentStatus> {
        let status = match self {
            Self::Policy => {
                let request = client::bounded(pb::GetPolicyRequest { name, version });
                client::call(client.get_policy(request)).await?.status
            }
            Self::Pipeline => {
                let request = client::bounded(pb::GetPipelineRequest { name, version });
                client::call(client.get_pipeline(request)).await?.status
            }
        };
        Ok(status.unwrap_or_default())
    }

    /// Every document with the version that serves.
    pub(super) async fn all(self, client: &mut PolicyClient) -> Answer<Vec<pb::DocumentVersion>> {
        let (mut found, mut page_token) = (Vec::new(), String::new());
        loop {
            let (documents, next) = self.page(client, page_token).await?;
            found.extend(documents);
            page_token = next;
            if page_token.is_empty() {
                return Ok(found);
            }
        }
    }

    async fn page(
        self,
        client: &mut PolicyClient,
        page_token: String,
    ) -> Answer<(Vec<pb::DocumentVersion>, String)> {
        let page_size = 1_000;
        match self {
            Self::Policy => {
                let request = client::bounded(pb::ListPoliciesRequest { page_size, page_token });
                let page = client::call(client.list_policies(request)).await?;
                Ok((page.policies, page.next_page_token))
            }
            Self::Pipeline => {
                let request = client::bounded(pb::ListPipelinesRequest { page_size, page_token });
                let page = client::call(client.list_pipelines(request)).await?;
                Ok((page.pipelines, page.next_page_token))
            }
        }
    }

    /// Versions of a document, newest first.
    pub(super) async fn versions(
        self,
        client: &mut PolicyClient,
        name: String,
        page_size: i32,
    ) -> Answer<Vec<pb::DocumentVersion>> {
        let page_token = String::new();
        match self {
            Self::Policy => {
                let request = pb::ListPolicyVersionsRequest { name, page_size, page_token };
                let asked = client.list_policy_versions(client::bounded(request));
                Ok(client::call(asked).await?.versions)
            }
            Self::Pipeline => {
                let request = pb::ListPipelineVersionsRequest { name, page_size, page_token };
                let asked = client.list_pipeline_versions(client::bounded(request));
                Ok(client::call(asked).await?.versions)
            }
        }
    }

    /// Takes an old version up again. Gives the new version and its warnings.
    pub(super) async fn roll_back(
        self,
        client: &mut PolicyClient,
        old: OldVersion,
    ) -> Answer<(pb::DocumentVersion, Vec<pb::Problem>)> {
        let OldVersion { name, version, expected_version, comment, allow_outage } = old;
        let (version, warnings) = match self {
            Self::Policy => {
                let request = client::bounded(pb::RollbackPolicyRequest {
                    name,
                    version,
                    expected_version,
                    comment,
                    allow_outage,
                });
                let response = client::call(client.rollback_policy(request)).await?;
                (response.version, response.warnings)
            }
            Self::Pipeline => {
                let request = client::bounded(pb::RollbackPipelineRequest {
                    name,
                    version,
                    expected_version,
                    comment,
                });
                let response = client::call(client.rollback_pipeline(request)).await?;
                (response.version, response.warnings)
            }
        };
        Ok((version.unwrap_or_default(), warnings))
    }

    /// Takes a document out of service. Gives the version that served.
    pub(super) async fn delete(
        self,
        client: &mut PolicyClient,
        name: String,
        expected_version: Option<u64>,
        comment: String,
    ) -> Answer<pb::DocumentVersion> {
        let version = match self {
            Self::Policy => {
                let request = pb::DeletePolicyRequest { name, expected_version, comment };
                client::call(client.delete_policy(client::bounded(request))).await?.version
            }
            Self::Pipeline => {
                let request = pb::DeletePipelineRequest { name, expected_version, comment };
                client::call(client.delete_pipeline(client::bounded(request))).await?.version
            }
        };
        Ok(version.unwrap_or_default())
    }
}
