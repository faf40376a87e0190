//! Client certificates: which names are whom, and what a stranger's is worth.

use std::path::PathBuf;

use mainstay::api::client::{self, Caller, Credentials};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    SanType,
};
use tempfile::TempDir;
use tonic::Code;

use super::super::support::{Plan, Rig};
use super::{bearer, inline_hello, raw_call, reason, sha256, token};

/// An authority and a folder for what it signs.
pub(super) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    dir: TempDir,
}

impl Authority {
    pub(super) fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "test authority");
        let dir = tempfile::tempdir().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        std::fs::write(dir.path().join("ca.pem"), certificate.pem()).unwrap();
        Self { issuer: Issuer::new(params, key), dir }
    }

    pub(super) fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Certificate and key with these names, as files.
    pub(super) fn sign(&self, file: &str, names: Vec<SanType>) -> (PathBuf, PathBuf) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.subject_alt_names = names;
        params.distinguished_name.push(DnType::CommonName, "billing.example.org");
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ClientAuth, ExtendedKeyUsagePurpose::ServerAuth];
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let (pem, key_pem) = (self.file(&format!("{file}.pem")), self.file(&format!("{file}.key")));
        std::fs::write(&pem, certificate.pem()).unwrap();
        std::fs::write(&key_pem, key.serialize_pem()).unwrap();
        (pem, key_pem)
    }

    pub(super) fn client(&self, name: &str, names: Vec<SanType>) -> Credentials {
        Credentials {
            tls_ca: Some(self.file("ca.pem")),
            tls_identity: Some(self.sign(name, names)),
            ..Credentials::default()
        }
    }
}

pub(super) fn uri(name: &str) -> SanType {
    SanType::URI(name.try_into().unwrap())
}

fn dns(name: &str) -> SanType {
    SanType::DnsName(name.try_into().unwrap())
}

const CALLERS: &str = "callers:\n\
    - {name: checkout, roles: [runner], certificates: ['spiffe://example.org/checkout']}\n\
    - {name: billing, roles: [viewer], certificates: [billing.example.org]}\n";

pub(super) async fn rig(authority: &Authority, optional: bool) -> Rig {
    let (certificate, key) =
        authority.sign("server", vec![SanType::IpAddress([127, 0, 0, 1].into())]);
    let tls = format!(
        "{{certificate_file: '{}', key_file: '{}', client_ca_file: '{}', client_certificate_optional: {optional}}}",
        certificate.display(),
        key.display(),
        authority.file("ca.pem").display()
    );
    let with_token =
        format!("- {{name: t, roles: [runner], tokens: [{{sha256: {}}}]}}\n", sha256(&token("t")));
    Plan::new()
        .target("good", "good")
        .file("callers.yaml", &format!("{CALLERS}{with_token}"))
        .listeners(&format!(
            "{{data: {{address: '127.0.0.1:0', tls: {tls}}}, control: {{address: '127.0.0.1:0'}}}}"
        ))
        .config("auth: {callers_file: callers.yaml}")
        .credentials(authority.client("rig", vec![uri("spiffe://example.org/checkout")]))
        .start()
        .await
}

pub(super) async fn connect(
    rig: &Rig,
    credentials: &Credentials,
) -> Result<Caller, client::ConnectError> {
    client::connect_as(&rig.service.data_address.to_string(), credentials).await
}

pub(super) async fn run(rig: &Rig, credentials: &Credentials) -> (Code, String) {
    let caller = connect(rig, credentials).await.unwrap();
    match client::pipelines(caller).run_step(inline_hello()).await {
        Ok(_) => (Code::Ok, String::new()),
        Err(status) => reason(status),
    }
}

#[tokio::test]
async fn names_of_a_certificate_are_an_identity_with_roles() {
    let authority = Authority::new();
    let rig = rig(&authority, false).await;
    let client = |names| authority.client("client", names);
    let ok = (Code::Ok, String::new());
    assert_eq!(
        run(&rig, &client(vec![dns("x.org"), uri("spiffe://example.org/checkout")])).await,
        ok
    );
    let role = (Code::PermissionDenied, "ROLE_MISSING".to_owned());
    assert_eq!(run(&rig, &client(vec![dns("Billing.Example.ORG")])).await, role);
    // Signed by the authority and in nobody's list: known to TLS, a stranger here. A name in the
    // subject counts for nothing.
    let invalid = (Code::Unauthenticated, "CREDENTIALS_INVALID".to_owned());
    for names in [
        vec![],
        vec![uri("spiffe://example.org/checkout/x")],
        vec![uri("spiffe://evil.org/checkout")],
        vec![dns("x.billing.example.org")],
        vec![uri("billing.example.org")],
        vec![uri("spiffe://example.org/checkout"), dns("billing.example.org")],
    ] {
        assert_eq!(run(&rig, &client(names.clone())).await, invalid, "{names:?}");
    }
    // A bad token is not made good by a good certificate.
    let mut both = client(vec![uri("spiffe://example.org/checkout")]);
    both.token = bearer("mainstay_test_token_that_is_wrong").token;
    assert_eq!(run(&rig, &both).await, invalid);
    both.token = bearer(&token("t")).token;
    assert_eq!(run(&rig, &both).await, ok);
    rig.stop().await;
}

#[tokio::test]
async fn a_stranger_does_not_get_through_the_handshake() {
    let (authority, other) = (Authority::new(), Authority::new());
    let rig = rig(&authority, false).await;
    let mut stranger = other.client("stranger", vec![uri("spiffe://example.org/checkout")]);
    stranger.tls_ca = Some(authority.file("ca.pem"));
    let bare = Credentials { tls_identity: None, ..stranger.clone() };
    for credentials in [stranger, bare] {
        // The client may believe in the handshake until it calls.
        if let Ok(caller) = connect(&rig, &credentials).await {
            let status = raw_call(&caller, "/grpc.health.v1.Health/Check").await.unwrap_err();
            assert_ne!(status.code(), Code::Unauthenticated, "TLS ends it, not we");
        }
    }
    // And whom the client does not trust, it does not tell its token.
    let mistaken = Credentials { tls_ca: Some(other.file("ca.pem")), ..bearer(&token("t")) };
    assert!(connect(&rig, &mistaken).await.is_err());
    rig.stop().await;
}

#[tokio::test]
async fn certificates_can_be_one_way_of_two() {
    let authority = Authority::new();
    let rig = rig(&authority, true).await;
    let bare = Credentials { tls_ca: Some(authority.file("ca.pem")), ..Credentials::default() };
    let missing = (Code::Unauthenticated, "CREDENTIALS_MISSING".to_owned());
    assert_eq!(run(&rig, &bare).await, missing);
    let with_token = Credentials { token: bearer(&token("t")).token, ..bare };
    assert_eq!(run(&rig, &with_token).await, (Code::Ok, String::new()));
    let certified = authority.client("c", vec![uri("spiffe://example.org/checkout")]);
    assert_eq!(run(&rig, &certified).await, (Code::Ok, String::new()));
    rig.stop().await;
}
