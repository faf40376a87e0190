use http::HeaderValue;
use proptest::prelude::*;

use super::*;

const RUN: &str = "/mainstay.v1.PipelineService/RunStep";

fn authenticator() -> (Authenticator, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("a.token"), "token-of-a-0123456789").unwrap();
    let callers = dir.path().join("callers.yaml");
    let text = "callers:\n- {name: a, roles: [runner], tokens: [{file: a.token}], certificates: [a.example.org]}\n";
    std::fs::write(&callers, text).unwrap();
    let config = AuthConfig { callers_file: Some(callers), jwt: None };
    (Authentication::load(Some(&config)).unwrap().authenticator, dir)
}

fn certificate(names: &[&str]) -> CertificateDer<'static> {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let key = rcgen::KeyPair::generate().unwrap();
    rcgen::CertificateParams::new(names).unwrap().self_signed(&key).unwrap().der().clone()
}

fn headers(values: &[&[u8]]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for value in values {
        headers.append(AUTHORIZATION, HeaderValue::from_bytes(value).unwrap());
    }
    headers
}

#[test]
fn one_token_in_one_header_is_an_identity() {
    let (authenticator, _dir) = authenticator();
    let admit = |path: &str, values: &[&[u8]]| {
        authenticator.admit(path, &headers(values), None, SystemTime::now())
    };
    let good: &[u8] = b"Bearer token-of-a-0123456789";
    for fine in [good, b"bearer token-of-a-0123456789", b"BEARER   token-of-a-0123456789 "] {
        assert_eq!(&*admit(RUN, &[fine]).unwrap().name, "a");
    }
    let long = format!("Bearer {}", "x".repeat(TOKEN_BYTES_MAX + 1));
    for (values, why) in [
        (&[][..], Refused::Missing),
        (&[good, good], Refused::Invalid),
        (&[b""], Refused::Invalid),
        (&[b"Bearer"], Refused::Invalid),
        (&[b"Bearer "], Refused::Invalid),
        (&[b"Basic dG9rZW4tb2YtYS0wMTIzNDU2Nzg5"], Refused::Invalid),
        (&[b"token-of-a-0123456789"], Refused::Invalid),
        (&[b"Bearer token-of-a-0123456789 token-of-a-0123456789"], Refused::Invalid),
        (&[b"Bearer token-of-a-012345678"], Refused::Invalid),
        (&[b"Bearer token-of-a-0123456789\xff"], Refused::Invalid),
        (&[long.as_bytes()], Refused::Invalid),
    ] {
        assert_eq!(admit(RUN, values).unwrap_err(), why, "{values:?}");
    }
    let push = admit("/mainstay.v1.PolicyService/PushPolicy", &[good]).unwrap_err();
    let takes = Roles::of(&[Role::Author]);
    assert_eq!(push, Refused::Role { takes, has: Roles::of(&[Role::Runner]) });
    // A call that is not listed is nobody's, and who is unknown is not told that.
    for path in ["mainstay.v1.PipelineService/RunStep", "", "*", "/x.Y/Z"] {
        assert_eq!(admit(path, &[good]).unwrap_err(), Refused::NotListed, "{path}");
        assert_eq!(admit(path, &[]).unwrap_err(), Refused::Missing, "{path}");
    }
    assert!(admit("/grpc.health.v1.Health/Check", &[]).is_ok());
}

#[test]
fn a_certificate_counts_only_without_a_token() {
    let (authenticator, _dir) = authenticator();
    let admit = |values: &[&[u8]], certificate: &CertificateDer<'_>| {
        authenticator.admit(RUN, &headers(values), Some(certificate), SystemTime::now())
    };
    let own = certificate(&["x.example.org", "A.example.org"]);
    assert_eq!(&*admit(&[], &own).unwrap().name, "a");
    // A bad token is not made good.
    assert_eq!(admit(&[b"Bearer wrong-token-of-somebody"], &own), Err(Refused::Invalid));
    for stranger in
        [certificate(&["b.example.org"]), certificate(&[]), certificate(&["*.example.org"])]
    {
        assert_eq!(admit(&[], &stranger), Err(Refused::Invalid));
    }
    assert_eq!(
        admit(&[], &CertificateDer::from(b"no certificate".to_vec())),
        Err(Refused::Invalid)
    );
}

#[test]
fn without_auth_everybody_is_anonymous() {
    let open = Authentication::load(None).unwrap().authenticator;
    let identity = open.admit(RUN, &HeaderMap::new(), None, SystemTime::now()).unwrap();
    assert_eq!((&*identity.name, identity.roles), ("anonymous", Roles::ALL));
}

/// Headers that a scanner would send: near to right, or of any bytes that a header can have.
fn hostile_header() -> impl Strategy<Value = Vec<u8>> {
    let bytes = prop::collection::vec(prop_oneof![Just(9_u8), 32..=126_u8, 128..=255_u8], 0..300);
    let jwt = "(Bearer|bearer|Basic|) ?[A-Za-z0-9_=-]{0,80}[.]{0,2}[A-Za-z0-9_-]{0,80}[.]{0,2}[A-Za-z0-9_-]{0,80}";
    let near = "Bearer token-of-a-0123456789[ -~]{1,100}";
    prop_oneof![bytes, jwt.prop_map(String::into_bytes), near.prop_map(String::into_bytes)]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    /// No header but the right one is an identity, and none ends the process.
    #[test]
    fn no_other_header_is_an_identity(value in hostile_header(), path in "[ -~]{0,60}") {
        static AUTHENTICATOR: std::sync::OnceLock<Authenticator> = std::sync::OnceLock::new();
        let authenticator = AUTHENTICATOR.get_or_init(|| authenticator().0);
        let headers = headers(&[&value]);
        let trimmed = value.strip_prefix(b"Bearer ").map(<[u8]>::trim_ascii);
        prop_assume!(trimmed != Some(b"token-of-a-0123456789"));
        for path in [RUN, path.as_str()] {
            let refused = authenticator.admit(path, &headers, None, SystemTime::now());
            prop_assert_eq!(refused, Err(Refused::Invalid));
        }
    }
}
