//! Tokens on the wire: files that change while it serves, and JSON Web Tokens.

use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, EncodingKey};
use mainstay::api::client;
use mainstay::api::pb;
use serde_json::{Value, json};
use tonic::{Code, Request};

use super::super::support::{Plan, Rig};
use super::{
    CALLERS, bearer, callers_file, control, data, eventually, inline_hello, plan, reason, token,
};

/// Written whole and put in place, as every careful writer does.
pub(super) fn replace(path: &Path, text: &str) {
    let temporary = path.with_extension("new");
    std::fs::write(&temporary, text).unwrap();
    std::fs::rename(&temporary, path).unwrap();
}

async fn may_run(rig: &Rig, token: &str) -> bool {
    let caller = data(rig, &bearer(token)).await;
    match client::pipelines(caller).run_step(inline_hello()).await {
        Ok(_) => true,
        Err(status) => {
            assert_eq!(status.code(), Code::Unauthenticated, "{status:?}");
            false
        }
    }
}

#[tokio::test]
async fn a_changed_file_counts_without_a_restart() {
    let rig = plan().start().await;
    let callers = rig.path("callers.yaml");
    let new = "mainstay_test_token_of_newcomer";
    assert!(may_run(&rig, &token("other")).await && !may_run(&rig, new).await);

    // One is revoked and one is let in, at once.
    let mut changed: Vec<_> =
        CALLERS.iter().copied().filter(|(name, ..)| *name != "other").collect();
    changed.push(("newcomer", "bank", "[runner]"));
    replace(&callers, &callers_file(&changed));
    eventually("the newcomer is let in", async || may_run(&rig, new).await).await;
    assert!(!may_run(&rig, &token("other")).await);

    // What cannot be used, and what is not there, changes nothing.
    replace(&callers, "callers: [{name: other, roles: [admin]}]");
    let marker = "mainstay_test_token_of_marker";
    let broken_then = rig.path("callers.bak");
    std::fs::rename(&callers, &broken_then).unwrap();
    assert!(may_run(&rig, new).await);

    // It heals by itself; an empty list lets nobody in.
    replace(&callers, &callers_file(&[("marker", "bank", "[runner]")]));
    eventually("the mended file counts", async || may_run(&rig, marker).await).await;
    assert!(!may_run(&rig, new).await);
    replace(&callers, "callers: []");
    eventually("nobody is let in", async || !may_run(&rig, marker).await).await;
    rig.stop().await;
}

#[tokio::test]
async fn a_token_that_stands_elsewhere_is_read_again() {
    let rig = Plan::new()
        .target("good", "good")
        .file("ops.token", "the-first-token-of-ops")
        .file(
            "callers.yaml",
            "callers: [{name: ops, roles: [runner], tokens: [{file: ops.token}]}]",
        )
        .config("auth: {callers_file: callers.yaml}")
        .start()
        .await;
    assert!(may_run(&rig, "the-first-token-of-ops").await);
    replace(&rig.path("ops.token"), "the-second-token-of-ops\n");
    eventually("the second counts", async || may_run(&rig, "the-second-token-of-ops").await).await;
    assert!(!may_run(&rig, "the-first-token-of-ops").await);
    rig.stop().await;
}

/// An issuer with one key.
pub(super) struct Issuer {
    key: EncodingKey,
    kid: &'static str,
    pub(super) jwks: String,
}

impl Issuer {
    pub(super) fn new(kid: &'static str) -> Self {
        let pair = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
        let x = URL_SAFE_NO_PAD.encode(pair.public_key_raw());
        let jwk = json!({"kty": "OKP", "crv": "Ed25519", "kid": kid, "alg": "EdDSA", "x": x});
        let jwks = json!({"keys": [jwk]}).to_string();
        Self { key: EncodingKey::from_ed_der(&pair.serialize_der()), kid, jwks }
    }

    pub(super) fn token(&self, claims: &Value) -> String {
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let message =
            format!("{}.{}", part(&json!({"alg": "EdDSA", "kid": self.kid})), part(claims));
        let signature =
            jsonwebtoken::crypto::sign(message.as_bytes(), &self.key, Algorithm::EdDSA).unwrap();
        format!("{message}.{signature}")
    }
}

pub(super) fn claims(exp_in: i64) -> Value {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs().cast_signed();
    json!({
        "iss": "https://id.example.com", "aud": ["mainstay"], "sub": "alice",
        "exp": now + exp_in, "roles": ["runner"], "tenant": "shop",
    })
}

fn jwt_plan(issuer: &Issuer) -> Plan {
    Plan::new().target("good", "good").file("jwks.json", &issuer.jwks).config(
        "auth:\n  jwt:\n    issuer: https://id.example.com\n    audience: [mainstay]\n    \
         jwks_file: jwks.json\n    tenant_claim: tenant",
    )
}

#[tokio::test]
async fn json_web_tokens_are_verified_and_keys_turn_over() {
    let issuer = Issuer::new("2026-01");
    let rig = jwt_plan(&issuer).start().await;
    let good = issuer.token(&claims(300));
    assert!(may_run(&rig, &good).await);
    let expired = data(&rig, &bearer(&issuer.token(&claims(-60)))).await;
    let status = client::pipelines(expired).run_step(inline_hello()).await.unwrap_err();
    assert_eq!(reason(status), (Code::Unauthenticated, "CREDENTIALS_EXPIRED".to_owned()));
    let push = control(&rig, &bearer(&good)).await;
    let status = client::policies(push).push_policy(pb::PushPolicyRequest::default()).await;
    assert_eq!(reason(status.unwrap_err()), (Code::PermissionDenied, "ROLE_MISSING".to_owned()));

    let next = Issuer::new("2026-02");
    assert!(!may_run(&rig, &next.token(&claims(300))).await);
    replace(&rig.path("jwks.json"), "{\"keys\": []}");
    replace(&rig.path("jwks.json"), &next.jwks);
    eventually("the next key counts", async || may_run(&rig, &next.token(&claims(300))).await)
        .await;
    assert!(!may_run(&rig, &good).await);
    rig.stop().await;
}

/// What comes before the caller is known is bounded: the transport refuses the header.
#[tokio::test]
async fn a_huge_token_is_refused_and_harms_nobody() {
    let issuer = Issuer::new("k");
    let rig = jwt_plan(&issuer).start().await;
    for bytes in [9_000, 1 << 20] {
        let mut request = Request::new(inline_hello());
        let value = format!("Bearer {}.b.c", "a".repeat(bytes));
        request.metadata_mut().insert("authorization", value.parse().unwrap());
        let caller = data(&rig, &client::Credentials::default()).await;
        let status = client::pipelines(caller).run_step(request).await.unwrap_err();
        assert_ne!(status.code(), Code::Ok);
        assert!(!format!("{status:?}").contains("aaaaaaaa"));
    }
    assert!(may_run(&rig, &issuer.token(&claims(300))).await);
    assert_eq!(rig.calls("good"), 1);
    rig.stop().await;
}
