//! Which call takes which role: the whole table.
//!
//! A call that does not stand here is refused, whoever makes it, so that a new call of the API
//! serves nobody until somebody has decided here whom it serves. A test walks every method of the
//! descriptors and holds the matrix.

use super::identity::{Role, Roles};

/// Who may make a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Everybody, with credentials or without.
    Open,
    /// Callers with one of these roles.
    Roles(Roles),
}

/// Whoever is known and may do anything at all.
const ANY: Access = Access::Roles(Roles::ALL);
/// Runs things.
const RUN: Access = Access::Roles(Roles::of(&[Role::Runner]));
/// Ends a run: who began it, and who has to act at night.
const END: Access = Access::Roles(Roles::of(&[Role::Runner, Role::Operator]));
/// Looks at the runs of its tenant.
const SEE_RUNS: Access = Access::Roles(Roles::of(&[Role::Runner, Role::Viewer, Role::Operator]));
/// Looks at documents, targets and alerts, which belong to no tenant.
const SEE: Access = Access::Roles(Roles::of(&[Role::Viewer, Role::Author, Role::Operator]));
/// Makes the server compile or compute something that it does not serve.
const TRY: Access = Access::Roles(Roles::of(&[Role::Author, Role::Operator]));
/// Changes documents.
const WRITE: Access = Access::Roles(Roles::of(&[Role::Author]));
/// Goes back to what was: who writes documents, and who has to act at night.
const GO_BACK: Access = Access::Roles(Roles::of(&[Role::Author, Role::Operator]));
/// Takes a hand in what serves.
const OPERATE: Access = Access::Roles(Roles::of(&[Role::Operator]));

/// Calls of a service.
type Methods = &'static [(&'static str, Access)];

/// Every service with every call.
pub const TABLE: &[(&str, Methods)] = &[
    (
        "mainstay.v1.PipelineService",
        &[
            ("RunStep", RUN),
            ("StreamStep", RUN),
            ("RunPipeline", RUN),
            ("StreamPipeline", RUN),
            ("ResumeRun", RUN),
            ("CancelRun", END),
            ("GetRun", SEE_RUNS),
            ("ListRuns", SEE_RUNS),
            ("WatchRun", SEE_RUNS),
        ],
    ),
    (
        "mainstay.v1.PolicyService",
        &[
            ("ValidatePolicy", TRY),
            ("PushPolicy", WRITE),
            ("GetPolicy", SEE),
            ("ListPolicies", SEE),
            ("ListPolicyVersions", SEE),
            ("DiffPolicies", SEE),
            ("RollbackPolicy", GO_BACK),
            ("DeletePolicy", WRITE),
            ("WatchPolicies", SEE),
            ("EndRollout", GO_BACK),
            ("ExplainFailure", SEE),
            ("ExplainPolicy", SEE),
            ("SimulatePolicy", TRY),
            ("ValidatePipeline", TRY),
            ("PutPipeline", WRITE),
            ("GetPipeline", SEE),
            ("ListPipelines", SEE),
            ("ListPipelineVersions", SEE),
            ("RollbackPipeline", GO_BACK),
            ("DeletePipeline", WRITE),
        ],
    ),
    (
        "mainstay.v1.OperationsService",
        &[
            ("ListTargets", SEE),
            ("WatchTargets", SEE),
            ("SetTarget", OPERATE),
            ("SetBreaker", OPERATE),
            ("InvalidateCache", OPERATE),
            ("ListAlerts", SEE),
            ("WatchAlerts", SEE),
            ("ListAuditEntries", TRY),
        ],
    ),
    ("grpc.health.v1.Health", &[("Check", Access::Open), ("Watch", Access::Open)]),
    ("grpc.reflection.v1.ServerReflection", &[("ServerReflectionInfo", ANY)]),
    ("grpc.reflection.v1alpha.ServerReflection", &[("ServerReflectionInfo", ANY)]),
];

/// Who may make the call of this path; `None` if the path is no call of the table. A path is
/// `/SERVICE/METHOD` and nothing else: without the first slash, with another one or with a query
/// it is none.
pub fn access(path: &str) -> Option<Access> {
    let (service, method) = path.strip_prefix('/')?.split_once('/')?;
    let (_, methods) = TABLE.iter().find(|(name, _)| *name == service)?;
    methods.iter().find(|(name, _)| *name == method).map(|(_, access)| *access)
}

/// Whether the answer of a call is a stream, which may last as long as a connection.
pub fn streams(path: &str) -> bool {
    let method = path.rsplit_once('/').map_or(path, |(_, method)| method);
    matches!(
        method,
        "StreamStep"
            | "StreamPipeline"
            | "WatchRun"
            | "WatchPolicies"
            | "WatchTargets"
            | "WatchAlerts"
            | "Watch"
            | "ServerReflectionInfo"
    )
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fmt::Write as _;

    use prost::Message as _;
    use prost_types::FileDescriptorSet;

    use super::*;
    use crate::api::pb;

    /// `/SERVICE/METHOD` of everything in the descriptors.
    fn described() -> Vec<String> {
        methods().into_iter().map(|(path, _)| path).collect()
    }

    #[test]
    fn streams_are_those_of_the_descriptors() {
        for (path, is_stream) in methods() {
            assert_eq!(streams(&path), is_stream, "{path}");
        }
    }

    /// Every method, and whether its answer is a stream.
    fn methods() -> Vec<(String, bool)> {
        let sets = [
            pb::DESCRIPTORS,
            tonic_health::pb::FILE_DESCRIPTOR_SET,
            tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET,
            tonic_reflection::pb::v1alpha::FILE_DESCRIPTOR_SET,
        ];
        let mut paths = Vec::new();
        for set in sets {
            for file in FileDescriptorSet::decode(set).unwrap().file {
                for service in &file.service {
                    for method in &service.method {
                        let service = format!("{}.{}", file.package(), service.name());
                        let path = format!("/{service}/{}", method.name());
                        paths.push((path, method.server_streaming()));
                    }
                }
            }
        }
        paths
    }

    /// Each call × each role.
    #[test]
    fn the_matrix() {
        let mut table = String::new();
        for path in described() {
            let told = match access(&path) {
                None => "NOT LISTED".to_owned(),
                Some(Access::Open) => "open".to_owned(),
                Some(Access::Roles(roles)) => Role::ALL
                    .map(|role| if roles.contains(role) { role.name() } else { "-" })
                    .join(" "),
            };
            writeln!(table, "{path}: {told}").unwrap();
        }
        assert!(!table.contains("NOT LISTED"), "decide whom it serves, in TABLE:\n{table}");
        insta::assert_snapshot!(table);
    }

    #[test]
    fn the_table_has_what_the_descriptors_have() {
        let described: BTreeSet<String> = described().into_iter().collect();
        let listed: BTreeSet<String> = TABLE
            .iter()
            .flat_map(|(service, methods)| {
                methods.iter().map(move |(method, _)| format!("/{service}/{method}"))
            })
            .collect();
        assert_eq!(listed, described);
        let rows: usize = TABLE.iter().map(|(_, methods)| methods.len()).sum();
        assert_eq!(rows, listed.len(), "a call stands in the table twice");
    }

    /// A caller with the right to run does not change anything else, and nobody without one runs.
    #[test]
    fn running_and_writing_are_apart() {
        for (service, methods) in TABLE {
            for (method, access) in *methods {
                let Access::Roles(roles) = access else {
                    assert_eq!(*service, "grpc.health.v1.Health");
                    continue;
                };
                let runner = roles.contains(Role::Runner);
                let data = *service == "mainstay.v1.PipelineService";
                let reflection = service.starts_with("grpc.reflection.");
                assert_eq!(runner, data || reflection, "{service}/{method}");
            }
        }
    }

    #[test]
    fn only_whole_paths_are_calls() {
        assert_eq!(access("/mainstay.v1.PipelineService/RunStep"), Some(RUN));
        for path in [
            "",
            "/",
            "*",
            "mainstay.v1.PipelineService/RunStep",
            "//mainstay.v1.PipelineService/RunStep",
            "/mainstay.v1.PipelineService/RunStep/",
            "/mainstay.v1.PipelineService//RunStep",
            "/mainstay.v1.PipelineService/runstep",
            "/mainstay.v1.PipelineService",
            "/mainstay.v1.PipelineService/",
            "/mainstay.v1.PipelineService/Run%53tep",
            "/mainstay.v1.PipelineService/RunStep?x",
            "/x/../mainstay.v1.PipelineService/RunStep",
            "/mainstay.v2.PipelineService/RunStep",
            "/grpc.health.v1.Health/Check/",
            "/grpc.channelz.v1.Channelz/GetServers",
        ] {
            assert_eq!(access(path), None, "{path}");
        }
    }
}
