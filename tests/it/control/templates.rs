//! What a policy answers with is held against the steps that run under it, when either is pushed
//! and again when it would be given out.

use mainstay::api::pb;
use serde_json::json;

use super::{pushing, told};
use crate::support::{Plan, Rig};

const PIPELINE: &str = "name: report
policy: careful
steps:
  - name: titled
    targets: [down]
    prompt: [{user: hello}]
    output: {json: {schema: {type: object, required: [title], additionalProperties: false, properties: {title: {type: string}}}}}
  - name: told
    needs: []
    targets: [main]
    prompt: [{user: hello}]
";

/// A policy that answers every failure of a provider with this.
fn answering(template: &str) -> String {
    format!(
        "policy:\n  routing:\n    infrastructure:\n      ladder:\n        - fallback_to_template: {{ template: {template} }}\n"
    )
}

async fn rig() -> Rig {
    let limits = "limits: {changes_per_second: 100000}";
    Plan::new().target("main", "m").target("down", "m!overloaded").config(limits).start().await
}

/// Puts the pipeline; gives what is said of its policy.
async fn put(rig: &Rig) -> Vec<pb::Problem> {
    let put = pb::PutPipelineRequest {
        name: "report".to_owned(),
        text: PIPELINE.to_owned(),
        ..Default::default()
    };
    let mut warnings = rig.policies().put_pipeline(put).await.unwrap().into_inner().warnings;
    warnings.retain(|one| one.message.starts_with("policy"));
    warnings
}

async fn push(rig: &Rig, text: &str) -> Vec<pb::Problem> {
    let response = rig.policies().push_policy(pushing("careful", text)).await.unwrap();
    response.into_inner().warnings
}

fn words(problems: &[pb::Problem]) -> Vec<String> {
    let of = |one: &pb::Problem| format!("{}:{} {}", one.line, one.column, one.message);
    problems.iter().map(of).collect()
}

#[tokio::test]
async fn a_template_that_fits_no_step_is_told_of_at_the_push_and_never_given_out() {
    let rig = rig().await;
    push(&rig, &answering("{ title: unknown }")).await;
    assert_eq!(words(&put(&rig).await), [] as [&str; 0]);
    let run = rig.pipeline("report", json!({})).await.unwrap();
    assert_eq!(run.state(), pb::RunState::Degraded, "the policy's answer fits the step");

    let misfit = push(&rig, &answering("{ titel: unknown }")).await;
    assert_eq!(
        misfit[0].path,
        "policy.routing.infrastructure.ladder[0].fallback_to_template.template"
    );
    let told_of = &words(&misfit)[0];
    assert!(
        told_of
            .starts_with("5:45 does not satisfy the output of step `titled` of pipeline `report`"),
        "{told_of}"
    );
    let refused = rig.pipeline("report", json!({})).await.unwrap_err();
    assert_eq!(told(&refused), "Unavailable overloaded");

    // The same from the other side.
    let delete = pb::DeletePipelineRequest { name: "report".to_owned(), ..Default::default() };
    rig.policies().delete_pipeline(delete).await.unwrap();
    let warned = words(&put(&rig).await);
    assert!(
        warned[0].starts_with("7:13 policy `careful` would answer for this step with a template"),
        "{warned:?}"
    );
    rig.stop().await;
}

#[tokio::test]
async fn a_rung_with_a_template_that_does_not_fit_is_passed_over() {
    let rig = rig().await;
    let ladder = "[{fallback_to_template: {template: sorry}}, {fallback_to_template: {template: {title: unknown}}}, alert_and_halt]";
    push(&rig, &format!("policy: {{routing: {{infrastructure: {{ladder: {ladder}}}}}}}")).await;
    put(&rig).await;
    let run = rig.pipeline("report", json!({})).await.unwrap();
    assert_eq!(run.state(), pb::RunState::Degraded);
    let titled = run.steps.iter().find(|step| step.step == "titled").unwrap();
    let decided = titled.attempts[0].decision.clone().unwrap();
    assert_eq!((decided.rung, &*decided.skipped[0].reason), (Some(1), "template_unfit"));

    // What is explained is what was done.
    let explain = pb::ExplainFailureRequest {
        policy: Some(pb::PolicySource {
            source: Some(pb::policy_source::Source::Stored(pb::PolicyVersionRef {
                name: "careful".to_owned(),
                version: 0,
            })),
        }),
        pipeline: "report".to_owned(),
        step: "titled".to_owned(),
        failure: Some(pb::HypotheticalFailure {
            cause: "overloaded".to_owned(),
            ..Default::default()
        }),
        ..Default::default()
    };
    let explained = rig.policies().explain_failure(explain.clone()).await.unwrap().into_inner();
    let rungs: Vec<_> = explained.rungs.iter().map(|rung| (rung.feasible, &*rung.reason)).collect();
    assert_eq!(rungs, [(false, "template_unfit"), (true, ""), (true, "")]);
    assert_eq!(explained.decision.unwrap().rung, decided.rung);
    // Of a step without a schema any text is an answer.
    let explain = pb::ExplainFailureRequest { step: "told".to_owned(), ..explain };
    let explained = rig.policies().explain_failure(explain).await.unwrap().into_inner();
    assert_eq!(explained.decision.unwrap().rung, Some(0));
    rig.stop().await;
}

#[tokio::test]
async fn overrides_are_held_against_the_steps_that_they_are_for() {
    let rig = rig().await;
    push(&rig, "policy: {}").await;
    put(&rig).await;
    let overriding = |when: &str| {
        format!(
            "policy:\n  overrides:\n    - when: {when}\n      name: fixed\n      routing:\n        infrastructure: {{ ladder: [fallback_to_template: {{ template: sorry }}] }}\n"
        )
    };
    assert_eq!(words(&push(&rig, &overriding("step == 'told'")).await), [] as [&str; 0]);
    assert_eq!(words(&push(&rig, &overriding("pipeline == 'other'")).await), [] as [&str; 0]);
    assert_eq!(push(&rig, &overriding("step in ['told', 'titled']")).await.len(), 1);
    assert_eq!(push(&rig, &overriding("labels.tier == 'x'")).await.len(), 1);
    rig.stop().await;
}

#[tokio::test]
async fn defaults_of_no_step_and_braces_are_told_of() {
    let rig = rig().await;
    push(&rig, "policy: {}").await;
    put(&rig).await;
    let text = "policy:\n  routing:\n    output_semantic:\n      ladder:\n        - accept_partial:\n            defaults: { title: none, /titel: none }\n        - alert_and_degrade\n    input_constraint:\n      ladder:\n        - reject_and_fix: { message: 'see {{ input.document }}' }\n";
    assert_eq!(
        words(&push(&rig, text).await),
        [
            "6:38 no output of a step under this policy has such a member",
            "10:38 is given out as it is written: a policy's texts are no templates"
        ]
    );
    rig.stop().await;
}
