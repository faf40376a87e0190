use std::time::Duration;

use jsonwebtoken::EncodingKey;
use jsonwebtoken::jwk::{AlgorithmParameters, Jwk};
use serde_json::json;

use super::*;

/// The tests' present.
const NOW: u64 = 1_800_000_000;

/// A key that signs, and its public part.
struct Signer {
    algorithm: Algorithm,
    name: &'static str,
    key: EncodingKey,
    jwk: Value,
}

impl Signer {
    fn new(algorithm: Algorithm, kid: &str) -> Self {
        let (name, key, mut jwk) = match algorithm {
            Algorithm::ES256 => {
                let pair = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
                let raw = pair.public_key_raw();
                let (x, y) = (&raw[1..33], &raw[33..]);
                let jwk = json!({"kty": "EC", "crv": "P-256", "x": base64(x), "y": base64(y)});
                ("ES256", EncodingKey::from_ec_der(&pair.serialize_der()), jwk)
            }
            Algorithm::EdDSA => {
                let pair = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
                let x = base64(pair.public_key_raw());
                let jwk = json!({"kty": "OKP", "crv": "Ed25519", "x": x});
                ("EdDSA", EncodingKey::from_ed_der(&pair.serialize_der()), jwk)
            }
            _ => {
                let size = rcgen::RsaKeySize::_2048;
                let pair = rcgen::KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, size).unwrap();
                // The inner key of PKCS #8 begins here for every key of this size.
                let key = EncodingKey::from_rsa_der(&pair.serialize_der()[26..]);
                let jwk = Jwk::from_encoding_key(&key, Algorithm::RS256).unwrap();
                let AlgorithmParameters::RSA(parts) = jwk.algorithm else { panic!("not RSA") };
                ("RS256", key, json!({"kty": "RSA", "n": parts.n, "e": parts.e}))
            }
        };
        jwk["kid"] = json!(kid);
        jwk["use"] = json!("sig");
        Self { algorithm, name, key, jwk }
    }

    /// A token of this header and these claims, whatever they say.
    fn sign(&self, header: &Value, claims: &Value) -> String {
        self.sign_text(&header.to_string(), &claims.to_string())
    }

    fn sign_text(&self, header: &str, claims: &str) -> String {
        let message = format!("{}.{}", base64(header), base64(claims));
        let signature =
            jsonwebtoken::crypto::sign(message.as_bytes(), &self.key, self.algorithm).unwrap();
        format!("{message}.{signature}")
    }

    fn header(&self) -> Value {
        json!({"typ": "JWT", "alg": self.name, "kid": self.jwk["kid"]})
    }
}

fn base64(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

fn keys(signers: &[&Signer]) -> Keys {
    let all: Vec<&Value> = signers.iter().map(|signer| &signer.jwk).collect();
    Keys::parse(&json!({"keys": all}).to_string()).unwrap()
}

fn rules() -> JwtRules {
    JwtRules {
        issuer: "https://id.example.com/".to_owned(),
        audiences: vec!["mainstay".to_owned(), "mainstay-staging".to_owned()],
        leeway: Duration::from_secs(10),
        roles_claim: "roles".to_owned(),
        tenant_claim: None,
    }
}

fn claims() -> Value {
    json!({
        "iss": "https://id.example.com/", "aud": "mainstay", "sub": "checkout",
        "exp": NOW + 300, "nbf": NOW - 5, "iat": NOW - 5, "roles": ["runner"],
    })
}

fn with(key: &str, value: Value) -> Value {
    let mut claims = claims();
    claims[key] = value;
    claims
}

fn without(key: &str) -> Value {
    let mut claims = claims();
    claims.as_object_mut().unwrap().remove(key);
    claims
}

fn verified(token: &str, keys: &Keys) -> Result<Identity, JwtError> {
    verify(token, keys, &rules(), UNIX_EPOCH + Duration::from_secs(NOW))
}

#[test]
fn each_accepted_algorithm_is_verified() {
    let signers = [Algorithm::RS256, Algorithm::ES256, Algorithm::EdDSA]
        .map(|algorithm| Signer::new(algorithm, &format!("{algorithm:?}")));
    let keys = keys(&signers.each_ref());
    for signer in &signers {
        let token = signer.sign(&signer.header(), &claims());
        let identity = verified(&token, &keys).unwrap();
        assert_eq!((&*identity.name, &*identity.tenant), ("checkout", "default"));
        assert_eq!(identity.roles.to_string(), "runner");
        // Without an id the only key of its kind is meant.
        let unnamed = signer.sign(&json!({"alg": signer.name}), &claims());
        assert!(verified(&unnamed, &keys).is_ok(), "{}", signer.name);
        // One changed bit of the signature, or another's signature.
        let (message, signature) = token.rsplit_once('.').unwrap();
        let mut bytes = URL_SAFE_NO_PAD.decode(signature).unwrap();
        bytes[7] ^= 1;
        let forged = format!("{message}.{}", base64(&bytes));
        assert_eq!(verified(&forged, &keys), Err(JwtError::Signature));
        let stranger = Signer::new(signer.algorithm, signer.name);
        let foreign = stranger.sign(&signer.header(), &claims());
        assert_eq!(verified(&foreign, &keys), Err(JwtError::Signature));
        assert_eq!(verified(&format!("{message}."), &keys), Err(JwtError::Signature));
    }
}

#[test]
fn what_claims_may_look_like() {
    let signer = Signer::new(Algorithm::ES256, "k");
    let keys = keys(&[&signer]);
    let fine = |claims: &Value| verified(&signer.sign(&signer.header(), claims), &keys).unwrap();
    fine(&with("aud", json!(["other", "mainstay-staging"])));
    fine(&with("exp", json!(NOW as f64 + 0.5)));
    fine(&without("nbf"));
    // Within the leeway on both sides.
    fine(&with("exp", json!(NOW - 9)));
    fine(&with("nbf", json!(NOW + 9)));
    let roles = |value: Value| fine(&with("roles", value)).roles.to_string();
    assert_eq!(roles(json!("runner viewer admin")), "runner, viewer");
    assert_eq!(roles(json!(["operator", "billing", 7])), "operator");
    for none in [json!(null), json!(3), json!({"runner": true}), json!([["runner"]])] {
        assert_eq!(roles(none), "no role");
    }
}

#[test]
fn roles_and_tenant_can_stand_anywhere() {
    let signer = Signer::new(Algorithm::EdDSA, "k");
    let keys = keys(&[&signer]);
    let rules = JwtRules {
        roles_claim: "/realm_access/roles".to_owned(),
        tenant_claim: Some("https://example.com/tenant".to_owned()),
        ..rules()
    };
    let verified = |claims: &Value| {
        let token = signer.sign(&signer.header(), claims);
        verify(&token, &keys, &rules, UNIX_EPOCH + Duration::from_secs(NOW))
    };
    let mut claims = with("realm_access", json!({"roles": ["author"]}));
    claims["https://example.com/tenant"] = json!("shop");
    let identity = verified(&claims).unwrap();
    assert_eq!((&*identity.tenant, identity.roles.to_string().as_str()), ("shop", "author"));
    for bad in
        [json!(null), json!(""), json!("a b"), json!("a\nb"), json!(7), json!("x".repeat(129))]
    {
        claims["https://example.com/tenant"] = bad;
        assert_eq!(verified(&claims), Err(JwtError::Claim("tenant")));
    }
}

/// The negative list: forged, stale, misaddressed and misshapen tokens.
#[test]
fn what_is_refused_and_why() {
    let signer = Signer::new(Algorithm::ES256, "k");
    let keys = keys(&[&signer]);
    for (what, claims, why) in [
        ("expired", with("exp", json!(NOW - 10)), JwtError::Expired),
        ("long expired", with("exp", json!(0)), JwtError::Expired),
        ("string exp", with("exp", json!((NOW + 300).to_string())), JwtError::Claim("exp")),
        ("null exp", with("exp", json!(null)), JwtError::Claim("exp")),
        ("negative exp", with("exp", json!(-1)), JwtError::Claim("exp")),
        ("no exp", without("exp"), JwtError::Claim("exp")),
        ("early", with("nbf", json!(NOW + 11)), JwtError::NotYet),
        ("string nbf", with("nbf", json!((NOW - 5).to_string())), JwtError::Claim("nbf")),
        ("null nbf", with("nbf", json!(null)), JwtError::Claim("nbf")),
        ("no aud", without("aud"), JwtError::Claim("aud")),
        ("another aud", with("aud", json!("mainstay2")), JwtError::Audience),
        ("other auds", with("aud", json!(["a", "b"])), JwtError::Audience),
        ("empty aud", with("aud", json!([])), JwtError::Audience),
        ("aud of numbers", with("aud", json!(7)), JwtError::Claim("aud")),
        ("no iss", without("iss"), JwtError::Claim("iss")),
        ("another iss", with("iss", json!("https://id.example.com")), JwtError::Issuer),
        ("iss list", with("iss", json!(["https://id.example.com/"])), JwtError::Claim("iss")),
        ("no sub", without("sub"), JwtError::Claim("sub")),
        ("empty sub", with("sub", json!("")), JwtError::Claim("sub")),
        ("sub with a line", with("sub", json!("a\r\nb")), JwtError::Claim("sub")),
        ("long sub", with("sub", json!("x".repeat(257))), JwtError::Claim("sub")),
        ("claims that are a list", json!([1]), JwtError::Malformed),
    ] {
        let token = signer.sign(&signer.header(), &claims);
        assert_eq!(verified(&token, &keys), Err(why), "{what}");
    }
    let huge = signer.sign_text(&signer.header().to_string(), r#"{"exp": 1e999, "iss": "x"}"#);
    assert_eq!(verified(&huge, &keys), Err(JwtError::Claim("exp")));
}

#[test]
fn headers_choose_neither_algorithm_nor_key() {
    let signer = Signer::new(Algorithm::ES256, "k");
    let rsa = Signer::new(Algorithm::RS256, "r");
    let keys = keys(&[&signer, &rsa]);
    for (what, header, why) in [
        ("alg none", json!({"alg": "none"}), JwtError::Algorithm),
        ("alg None", json!({"alg": "None", "kid": "k"}), JwtError::Algorithm),
        ("alg empty", json!({"alg": "", "kid": "k"}), JwtError::Algorithm),
        ("alg es256", json!({"alg": "es256", "kid": "k"}), JwtError::Algorithm),
        ("alg ES384", json!({"alg": "ES384", "kid": "k"}), JwtError::Algorithm),
        ("alg PS256", json!({"alg": "PS256", "kid": "r"}), JwtError::Algorithm),
        ("no alg", json!({"kid": "k"}), JwtError::Malformed),
        ("alg list", json!({"alg": ["ES256"], "kid": "k"}), JwtError::Malformed),
        ("another's kind", json!({"alg": "RS256", "kid": "k"}), JwtError::UnknownKey),
        ("EdDSA", json!({"alg": "EdDSA", "kid": "k"}), JwtError::UnknownKey),
        (
            "kid of a path",
            json!({"alg": "ES256", "kid": "../../../etc/passwd"}),
            JwtError::UnknownKey,
        ),
        ("kid of /dev/null", json!({"alg": "ES256", "kid": "/dev/null"}), JwtError::UnknownKey),
        ("kid of SQL", json!({"alg": "ES256", "kid": "k' OR '1'='1"}), JwtError::UnknownKey),
        ("empty kid", json!({"alg": "ES256", "kid": ""}), JwtError::UnknownKey),
        ("kid that is a number", json!({"alg": "ES256", "kid": 7}), JwtError::Malformed),
        (
            "crit",
            json!({"alg": "ES256", "kid": "k", "crit": ["b64"], "b64": false}),
            JwtError::Malformed,
        ),
    ] {
        let token = signer.sign(&header, &claims());
        assert_eq!(verified(&token, &keys), Err(why), "{what}");
    }
    // A key that the token brings along, or says where to find, is nothing.
    let stranger = Signer::new(Algorithm::ES256, "k");
    let mut brought = stranger.header();
    brought["jwk"] = stranger.jwk.clone();
    brought["jku"] = json!("https://evil.example/keys.json");
    let token = stranger.sign(&brought, &claims());
    assert_eq!(verified(&token, &keys), Err(JwtError::Signature));
    // Twice said is not said.
    let twice = signer.sign_text(r#"{"alg":"ES256","alg":"none","kid":"k"}"#, "{}");
    assert_eq!(verified(&twice, &keys), Err(JwtError::Malformed));
}

#[test]
fn a_public_key_is_no_shared_secret() {
    let rsa = Signer::new(Algorithm::RS256, "r");
    let keys = keys(&[&rsa]);
    let modulus = URL_SAFE_NO_PAD.decode(rsa.jwk["n"].as_str().unwrap()).unwrap();
    for secret in [modulus.as_slice(), rsa.jwk.to_string().as_bytes()] {
        let message = format!(
            "{}.{}",
            base64(json!({"alg": "HS256", "kid": "r"}).to_string()),
            base64(claims().to_string())
        );
        let key = EncodingKey::from_secret(secret);
        let signature =
            jsonwebtoken::crypto::sign(message.as_bytes(), &key, Algorithm::HS256).unwrap();
        assert_eq!(verified(&format!("{message}.{signature}"), &keys), Err(JwtError::Algorithm));
    }
}

#[test]
fn no_text_is_a_token_by_accident() {
    let signer = Signer::new(Algorithm::EdDSA, "k");
    let keys = keys(&[&signer]);
    let good = signer.sign(&signer.header(), &claims());
    let mega = format!("{}.{}.{}", "a".repeat(1 << 20), "b", "c");
    for text in [
        "",
        ".",
        "..",
        "...",
        "a.b",
        "a.b.c",
        "a.b.c.d",
        "e30.e30.",
        "e30.e30.e30",
        mega.as_str(),
        &good[1..],
        &format!("{good}."),
        &format!(" {good}"),
        &good.replace('.', ","),
    ] {
        assert!(verified(text, &keys).is_err(), "{}", &text[..text.len().min(40)]);
    }
    assert!(!looks_like_jwt(&mega));
    // The padded form of base64 is another text; one token has one spelling.
    let (head, rest) = good.split_once('.').unwrap();
    assert_eq!(verified(&format!("{head}=.{rest}"), &keys), Err(JwtError::Malformed));
}

#[test]
fn key_files_hold_public_keys_that_are_strong() {
    let signer = Signer::new(Algorithm::ES256, "k");
    let text = |keys: Value| json!({"keys": keys}).to_string();
    let of = |keys: Value| Keys::parse(&text(keys)).err();
    let mut private = signer.jwk.clone();
    private["d"] = json!("AAAA");
    let mut encrypts = signer.jwk.clone();
    encrypts["use"] = json!("enc");
    let weak = json!({"kty": "RSA", "n": base64([0xff; 128]), "e": "AQAB"});
    let half = json!({"kty": "EC", "crv": "P-256", "x": signer.jwk["x"]});
    let odd = json!({"kty": "EC", "crv": "P-256", "x": "A=", "y": signer.jwk["y"]});
    let unknown = json!({"kty": "EC", "crv": "secp256k1", "x": "AA", "y": "AA"});
    assert_eq!(of(json!([{"kty": "oct", "k": "c2VjcmV0"}])), Some(KeysError::NotPublic(0)));
    assert_eq!(of(json!([signer.jwk, private])), Some(KeysError::NotPublic(1)));
    assert_eq!(of(json!([encrypts])), Some(KeysError::NoKey));
    assert_eq!(of(json!([unknown])), Some(KeysError::NoKey));
    assert_eq!(of(json!([])), Some(KeysError::NoKey));
    assert_eq!(of(json!([signer.jwk, signer.jwk])), Some(KeysError::Twice("k".to_owned())));
    assert!(matches!(of(json!([weak])), Some(KeysError::Unusable(0, _))));
    assert!(matches!(of(json!([half])), Some(KeysError::Unusable(0, _))));
    assert!(matches!(of(json!([odd])), Some(KeysError::Unusable(0, _))));
    assert_eq!(of(json!(vec![signer.jwk.clone(); 65])), Some(KeysError::TooMany(65)));
    for text in ["", "[]", "{}", "{\"keys\": {}}", "{\"keys\": [7]}", "-----BEGIN PUBLIC KEY-----"]
    {
        assert_eq!(Keys::parse(text).err(), Some(KeysError::Malformed), "{text}");
    }
    // Beside one that is used, keys of other kinds and uses do no harm.
    assert!(Keys::parse(&text(json!([unknown, encrypts, signer.jwk]))).is_ok());
}

#[test]
fn a_token_without_a_key_id_does_not_choose_among_two() {
    let (one, two) = (Signer::new(Algorithm::EdDSA, "1"), Signer::new(Algorithm::EdDSA, "2"));
    let keys = keys(&[&one, &two]);
    let unnamed = one.sign(&json!({"alg": "EdDSA"}), &claims());
    assert_eq!(verified(&unnamed, &keys), Err(JwtError::UnknownKey));
    assert!(verified(&one.sign(&one.header(), &claims()), &keys).is_ok());
    let crossed = one.sign(&two.header(), &claims());
    assert_eq!(verified(&crossed, &keys), Err(JwtError::Signature));
}
