//! Who is let in, and to what: tokens, roles, tenants, and files that change while it serves.

mod certificates;
mod renewed;
mod revoked;
mod tokens;

use std::time::Duration;

use mainstay::api::auth::{Access, Role, TABLE};
use mainstay::api::client::{self, Caller, Credentials};
use mainstay::api::pb;
use mainstay::app::{Broken, Options, Service};
use mainstay::config::{RawSecret, secret};
use serde_json::json;
use tonic::{Code, Request, Status};

use super::support::{Plan, Refused, Rig, say};

/// The token of a caller of [`CALLERS`].
fn token(name: &str) -> String {
    format!("mainstay_test_token_of_{name}")
}

/// One caller for each role, a second tenant, and somebody who may run and write.
const CALLERS: &[(&str, &str, &str)] = &[
    ("runner", "shop", "[runner]"),
    ("viewer", "shop", "[viewer]"),
    ("author", "shop", "[author]"),
    ("operator", "shop", "[operator]"),
    ("other", "bank", "[runner]"),
];

fn callers_file(callers: &[(&str, &str, &str)]) -> String {
    let mut text = "callers:\n".to_owned();
    for (name, tenant, roles) in callers {
        let digest = sha256(&token(name));
        text += &format!(
            "- {{name: {name}, tenant: {tenant}, roles: {roles}, tokens: [{{sha256: {digest}}}]}}\n"
        );
    }
    text
}

fn sha256(text: &str) -> String {
    use sha2::{Digest, Sha256};
    Sha256::digest(text).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Credentials with this token.
fn bearer(token: &str) -> Credentials {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("token");
    std::fs::write(&path, token).unwrap();
    let reference = RawSecret::File(path.to_str().unwrap().to_owned());
    Credentials { token: Some(secret::fetch(&reference).unwrap()), ..Credentials::default() }
}

fn plan() -> Plan {
    Plan::new()
        .target("good", "good")
        .file("callers.yaml", &callers_file(CALLERS))
        .config("auth: {callers_file: callers.yaml}\naudit: {file: audit.jsonl}")
        .credentials(bearer(&token("runner")))
}

/// A connection to the data plane of somebody.
async fn data(rig: &Rig, credentials: &Credentials) -> Caller {
    client::connect_as(&rig.service.data_address.to_string(), credentials).await.unwrap()
}

/// A connection to the control plane of somebody.
async fn control(rig: &Rig, credentials: &Credentials) -> Caller {
    client::connect_as(&rig.service.control_address.to_string(), credentials).await.unwrap()
}

/// Any call, with an empty message.
async fn raw_call(caller: &Caller, path: &str) -> Result<(), Status> {
    let mut grpc = tonic::client::Grpc::new(caller.clone());
    grpc.ready().await.unwrap();
    let codec = tonic_prost::ProstCodec::<(), ()>::default();
    let path = path.parse().unwrap();
    let streamed = grpc.server_streaming(Request::new(()), path, codec);
    // A stream that opens is a call that was let in.
    tokio::time::timeout(Duration::from_secs(20), streamed).await.unwrap().map(|_| ())
}

fn reason(status: Status) -> (Code, String) {
    let refused = Refused::from(status);
    (refused.status.code(), refused.refusal.reason)
}

#[tokio::test]
async fn each_call_takes_the_roles_of_the_table() {
    let rig = plan().start().await;
    for role in Role::ALL {
        let credentials = bearer(&token(role.name()));
        let (data, control) = (data(&rig, &credentials).await, control(&rig, &credentials).await);
        for (service, methods) in TABLE {
            for (method, access) in *methods {
                let caller =
                    if *service == "mainstay.v1.PipelineService" { &data } else { &control };
                let path = format!("/{service}/{method}");
                let refused = match raw_call(caller, &path).await {
                    Ok(()) => false,
                    Err(status) => {
                        assert_ne!(status.code(), Code::Unauthenticated, "{path}");
                        status.code() == Code::PermissionDenied
                    }
                };
                let may = match access {
                    Access::Open => true,
                    Access::Roles(roles) => roles.contains(role),
                };
                assert_eq!(refused, !may, "{path} by {}", role.name());
            }
        }
        for unlisted in ["/mainstay.v1.PolicyService/Drop", "/x.Y/Z"] {
            let status = raw_call(&control, unlisted).await.unwrap_err();
            assert_eq!(reason(status), (Code::PermissionDenied, "CALL_NOT_LISTED".to_owned()));
        }
    }
    rig.stop().await;
}

#[tokio::test]
async fn who_is_unknown_gets_health_and_nothing_else() {
    let rig = plan().start().await;
    let nobody = Credentials::default();
    for caller in [data(&rig, &nobody).await, control(&rig, &nobody).await] {
        for (service, methods) in TABLE {
            for (method, access) in *methods {
                let path = format!("/{service}/{method}");
                let outcome = raw_call(&caller, &path).await;
                match access {
                    Access::Open => {
                        let refused = outcome.err().map(|status| status.code());
                        assert_ne!(refused, Some(Code::Unauthenticated), "{path}");
                    }
                    Access::Roles(_) => {
                        let told = reason(outcome.unwrap_err());
                        let missing = "CREDENTIALS_MISSING".to_owned();
                        assert_eq!(told, (Code::Unauthenticated, missing), "{path}");
                    }
                }
            }
        }
    }
    rig.stop().await;
}

#[tokio::test]
async fn a_wrong_token_is_refused_and_not_repeated() {
    let rig = plan().start().await;
    // Right but for its end, a digest of the file, and what a scanner would look for.
    for wrong in [
        format!("{}x", token("runner")),
        sha256(&token("runner")),
        "canary-canary-canary-canary".to_owned(),
        "canary.canary.canary".to_owned(),
    ] {
        let caller = data(&rig, &bearer(&wrong)).await;
        let status = client::pipelines(caller).run_step(inline_hello()).await.unwrap_err();
        let shown = format!("{status:?} {}", String::from_utf8_lossy(status.details()));
        assert!(!shown.contains(&wrong) && !shown.contains("canary"), "{shown}");
        assert_eq!(reason(status), (Code::Unauthenticated, "CREDENTIALS_INVALID".to_owned()));
    }
    assert_eq!(rig.calls("good"), 0);
    rig.stop().await;
}

fn inline_hello() -> pb::RunStepRequest {
    super::support::inline(say(&["good"], "Hello"))
}

#[tokio::test]
async fn tenants_do_not_see_each_other() {
    let rig = plan()
        .target("once", "m!server_error(every=1,from=2)")
        .pipeline(
            "hello",
            "name: hello\nsteps:\n- {name: a, targets: [good], prompt: [{user: Hello}]}\n",
        )
        .start()
        .await;
    let mut ours = rig.client();
    let mut theirs = client::pipelines(data(&rig, &bearer(&token("other"))).await);
    let run = |run_id: &str, key: &str| pb::RunPipelineRequest {
        pipeline: "hello".to_owned(),
        input_json: "{}".to_owned(),
        options: Some(pb::RunOptions {
            run_id: run_id.to_owned(),
            idempotency_key: key.to_owned(),
            ..pb::RunOptions::default()
        }),
        ..pb::RunPipelineRequest::default()
    };
    let id = "01890000-0000-7000-8000-000000000001";
    let first = ours.run_pipeline(run(id, "key")).await.unwrap().into_inner().run.unwrap();
    assert_eq!(first.run_id, id);

    // Another tenant's run does not exist, in the same words as one that never did.
    let get = |run_id: &str| pb::GetRunRequest { run_id: run_id.to_owned() };
    assert!(ours.get_run(get(id)).await.is_ok());
    let hidden = theirs.get_run(get(id)).await.unwrap_err();
    let absent = theirs.get_run(get(&id.replace('1', "2"))).await.unwrap_err();
    assert_eq!(
        hidden.message().replace(id, "ID"),
        absent.message().replace(&id.replace('1', "2"), "ID")
    );
    assert_eq!(reason(hidden), (Code::NotFound, "RUN_NOT_FOUND".to_owned()));
    let watch = theirs.watch_run(pb::WatchRunRequest { run_id: id.to_owned() }).await.map(|_| ());
    assert_eq!(watch.unwrap_err().code(), Code::NotFound);
    let cancel = pb::CancelRunRequest { run_id: id.to_owned(), ..Default::default() };
    assert_eq!(theirs.cancel_run(cancel).await.unwrap_err().code(), Code::NotFound);
    let list = theirs.list_runs(pb::ListRunsRequest::default()).await.unwrap().into_inner();
    assert!(list.runs.is_empty());

    // Their key and id are their own.
    let second = theirs.run_pipeline(run(id, "key")).await.unwrap().into_inner().run.unwrap();
    assert_eq!((second.run_id.as_str(), rig.calls("good")), (id, 2));
    assert_ne!(second.create_time, first.create_time);

    // What one has cached is nothing to fall back to for the other.
    let hello = super::support::inline(say(&["once"], "Hello"));
    assert!(!ours.run_step(hello.clone()).await.unwrap().into_inner().degraded);
    assert!(ours.run_step(hello.clone()).await.unwrap().into_inner().degraded);
    assert!(theirs.run_step(hello).await.is_err());
    rig.stop().await;
}

#[tokio::test]
async fn changes_are_written_down_with_their_actor() {
    let rig = plan().start().await;
    let mut operator = client::operations(control(&rig, &bearer(&token("operator"))).await);
    for (enabled, reason) in [(false, "on fire\r\n\u{1b}[2J"), (true, "")] {
        let request =
            pb::SetTargetRequest { name: "good".to_owned(), enabled, reason: reason.to_owned() };
        operator.set_target(request).await.unwrap();
    }
    let page = pb::ListAuditEntriesRequest { page_size: 1, ..Default::default() };
    let first = operator.list_audit_entries(page.clone()).await.unwrap().into_inner();
    assert_eq!((first.entries.len(), first.entries[0].action.as_str()), (1, "target_enabled"));
    let next = pb::ListAuditEntriesRequest { page_token: first.next_page_token, ..page };
    let second = operator.list_audit_entries(next).await.unwrap().into_inner();
    let entry = &second.entries[0];
    assert_eq!((entry.actor.as_str(), entry.document.as_str()), ("operator", "target/good"));
    assert_eq!(entry.comment, "on fire\\u{d}\\u{a}\\u{1b}[2J");
    assert_eq!(entry.number + 1, first.entries[0].number);
    let other = pb::ListAuditEntriesRequest { actor: "ada".to_owned(), ..Default::default() };
    assert!(operator.list_audit_entries(other).await.unwrap().into_inner().entries.is_empty());
    let bad = pb::ListAuditEntriesRequest { page_token: "x".to_owned(), ..Default::default() };
    assert_eq!(operator.list_audit_entries(bad).await.unwrap_err().code(), Code::InvalidArgument);
    let written = std::fs::read_to_string(rig.path("audit.jsonl")).unwrap();
    let lines: Vec<serde_json::Value> =
        written.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    // What the server read at its start was written down too.
    let lines: Vec<_> = lines.iter().filter(|line| line["actor"] == "operator").collect();
    assert_eq!(lines.len(), 2);
    assert_eq!(
        (&lines[0]["actor"], &lines[0]["action"]),
        (&json!("operator"), &json!("target_disabled"))
    );

    let address = rig.service.control_address.to_string();
    std::fs::write(rig.path("token"), token("author")).unwrap();
    let token_file = rig.path("token").to_str().unwrap().to_owned();
    let shown = tokio::task::spawn_blocking(move || {
        let arguments =
            ["audit", "target/good", "--json", "--address", &address, "--token-file", &token_file];
        super::cli::mainstay(&arguments)
    });
    let shown = shown.await.unwrap();
    assert_eq!(shown.status.code(), Some(0), "{}", String::from_utf8_lossy(&shown.stderr));
    assert_eq!(String::from_utf8(shown.stdout).unwrap().lines().count(), 2);
    rig.stop().await;
}

/// Nothing is served to everybody by omission.
#[tokio::test]
async fn an_open_door_has_to_be_said() {
    const TARGETS: &str = "targets: {t: {dialect: openai, model: m}}\n";
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("mainstay.yaml");
    let any = "0.0.0.0:0".parse().unwrap();
    let start = async |text: &str, options: Options| {
        std::fs::write(&path, text).unwrap();
        let options = Options { config: Some(path.clone()), quiet: true, ..options };
        Service::start(&options).await
    };
    let open = |extra: &str| {
        format!(
            "{TARGETS}listeners: {{data: {{address: '0.0.0.0:0'{extra}}}, control: {{address: '127.0.0.1:0'}}}}\n"
        )
    };
    for (text, options) in [
        (open(""), Options::default()),
        (open(", allow_plaintext: true"), Options::default()),
        (open(", allow_anonymous: true"), Options::default()),
        // The command line does not open what the file keeps shut.
        (
            format!("{TARGETS}listeners: {{control: {{address: '127.0.0.1:0'}}}}\n"),
            Options { data_address: Some(any), ..Options::default() },
        ),
    ] {
        let Err(error) = start(&text, options).await else { panic!("it starts with {text}") };
        let shown = error.downcast_ref::<Broken>().map(|broken| broken.render(false));
        let shown = format!("{error:#} {}", shown.unwrap_or_default());
        assert!(shown.contains("is not a loopback address"), "{shown}");
    }
    let said = open(", allow_plaintext: true, allow_anonymous: true");
    start(&said, Options::default()).await.unwrap().stop().await;
}

/// Waits until something asked for holds, at most ten seconds.
async fn eventually(what: &str, holds: impl AsyncFn() -> bool) {
    let wait = async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    assert!(tokio::time::timeout(Duration::from_secs(10), wait).await.is_ok(), "never: {what}");
}
