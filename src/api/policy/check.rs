//! Checking documents without storing them.

use tonic::{Request, Response, Status};

use super::PolicyApi;
use crate::api::pb;
use crate::document::{Problem, Problems, Severity};

fn problem(problem: &Problem) -> pb::Problem {
    let severity = match problem.severity {
        Severity::Error => pb::Severity::Error,
        Severity::Warning => pb::Severity::Warning,
    };
    pb::Problem {
        severity: severity.into(),
        path: problem.dotted_path(),
        line: problem.position.line,
        column: problem.position.column,
        message: problem.message.clone(),
        suggestion: problem.suggestion.clone().unwrap_or_default(),
    }
}

/// Problems as data.
pub(super) fn problems(problems: &Problems) -> Vec<pb::Problem> {
    problems.0.iter().map(problem).collect()
}

pub(super) async fn validate_policy(
    api: &PolicyApi,
    request: Request<pb::ValidatePolicyRequest>,
) -> Result<Response<pb::ValidatePolicyResponse>, Status> {
    let found = api.documents.check_policy("policy", &request.into_inner().text);
    Ok(Response::new(pb::ValidatePolicyResponse {
        valid: found.usable(),
        problems: problems(&found),
    }))
}

pub(super) async fn validate_pipeline(
    api: &PolicyApi,
    request: Request<pb::ValidatePipelineRequest>,
) -> Result<Response<pb::ValidatePipelineResponse>, Status> {
    let found = api.documents.check_pipeline("pipeline", &request.into_inner().text);
    Ok(Response::new(pb::ValidatePipelineResponse {
        valid: found.usable(),
        problems: problems(&found),
    }))
}
