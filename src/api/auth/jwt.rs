//! JSON Web Tokens, verified with the keys of a JWKS file.
//!
//! The signature is the library's work; the claims are checked here. The library reads the time
//! itself, and does not read numbers as this crate's JSON has them (arbitrary precision): it would
//! find no `exp` in any token. Nothing that a token says is followed: a key id is compared with the
//! ids in the file, and key locations (`jku`, `x5u`, `jwk`) are not read.

use std::ops::RangeInclusive;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, DecodingKey};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::callers::{TOKEN_BYTES_MAX, is_plain};
use super::identity::{DEFAULT_TENANT, Identity, Role, Roles};
use crate::config::JwtRules;

/// Most keys in a file.
const KEYS_MAX: usize = 64;
/// Longest name of a caller; `sub` of some issuers is a long path.
const SUBJECT_CHARS_MAX: usize = 256;

/// A JWKS file that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeysError {
    /// Not a set of keys.
    #[error("is not a JSON Web Key Set: {{\"keys\": [ … ]}}")]
    Malformed,
    /// A key that should not be in it.
    #[error("key {0} is not a public key; only public keys belong into this file")]
    NotPublic(usize),
    /// A key that is damaged or too weak.
    #[error("key {0} cannot be used: {1}")]
    Unusable(usize, &'static str),
    /// Two keys of one name.
    #[error("two keys have the id `{0}`")]
    Twice(String),
    /// No key for signatures that are accepted here.
    #[error("has no key for RS256, ES256 or EdDSA signatures")]
    NoKey,
    /// Too many.
    #[error("has {0} keys; there may be {KEYS_MAX}")]
    TooMany(usize),
}

/// Why a token is not accepted. For the log; the caller is told less.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum JwtError {
    /// Not a token.
    #[error("it is not a JSON Web Token that can be read")]
    Malformed,
    /// Signed in a way that is not accepted, or not signed.
    #[error("its algorithm is not RS256, ES256 or EdDSA")]
    Algorithm,
    /// Signed with a key that is not in the file.
    #[error("its key is not known")]
    UnknownKey,
    /// Not signed by that key.
    #[error("its signature is wrong")]
    Signature,
    /// A claim is missing or has the wrong form.
    #[error("its claim `{0}` is missing or malformed")]
    Claim(&'static str),
    /// From another issuer.
    #[error("it is from another issuer")]
    Issuer,
    /// For somebody else.
    #[error("it is for another audience")]
    Audience,
    /// Over. Said only of tokens whose signature is right.
    #[error("it has expired")]
    Expired,
    /// Not begun. Said only of tokens whose signature is right.
    #[error("it is not valid yet")]
    NotYet,
}

/// Public keys by id.
#[derive(Debug, Clone, Default)]
pub struct Keys(Vec<Key>);

#[derive(Debug, Clone)]
struct Key {
    id: Option<String>,
    scheme: Scheme,
    key: DecodingKey,
}

/// The signatures that are accepted. A key is for one of them, whatever a token says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Scheme {
    Rs256,
    Es256,
    EdDsa,
}

impl Scheme {
    fn named(name: &str) -> Option<Self> {
        [Self::Rs256, Self::Es256, Self::EdDsa].into_iter().find(|scheme| scheme.name() == name)
    }

    fn name(self) -> &'static str {
        match self {
            Self::Rs256 => "RS256",
            Self::Es256 => "ES256",
            Self::EdDsa => "EdDSA",
        }
    }

    fn algorithm(self) -> Algorithm {
        match self {
            Self::Rs256 => Algorithm::RS256,
            Self::Es256 => Algorithm::ES256,
            Self::EdDsa => Algorithm::EdDSA,
        }
    }
}

#[derive(Deserialize)]
struct RawKeys {
    keys: Vec<RawKey>,
}

/// A key as written. What else stands in it means nothing here.
#[derive(Deserialize)]
struct RawKey {
    kty: String,
    kid: Option<String>,
    alg: Option<String>,
    #[serde(rename = "use")]
    purpose: Option<String>,
    key_ops: Option<Vec<String>>,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
    d: Option<Value>,
    k: Option<Value>,
}

impl Keys {
    /// Reads a JWKS file. Keys for other uses and of other kinds are passed over, as the standard
    /// asks; private and symmetric ones refuse the file.
    ///
    /// # Errors
    /// See [`KeysError`].
    pub fn parse(text: &str) -> Result<Self, KeysError> {
        let raw: RawKeys = serde_json::from_str(text).map_err(|_| KeysError::Malformed)?;
        if raw.keys.len() > KEYS_MAX {
            return Err(KeysError::TooMany(raw.keys.len()));
        }
        let mut keys: Vec<Key> = Vec::new();
        for (index, raw) in raw.keys.iter().enumerate() {
            let Some(key) = read_key(index, raw)? else { continue };
            if let Some(id) = &key.id
                && keys.iter().any(|other| other.id.as_ref() == Some(id))
            {
                return Err(KeysError::Twice(id.chars().take(64).collect()));
            }
            keys.push(key);
        }
        if keys.is_empty() { Err(KeysError::NoKey) } else { Ok(Self(keys)) }
    }

    /// The key of this id for this algorithm. A token that names no key means the only one of its
    /// kind.
    fn find(&self, id: Option<&str>, scheme: Scheme) -> Option<&DecodingKey> {
        let mut fitting = self
            .0
            .iter()
            .filter(|key| key.scheme == scheme && (id.is_none() || key.id.as_deref() == id));
        let first = fitting.next()?;
        if fitting.next().is_some() { None } else { Some(&first.key) }
    }
}

fn read_key(index: usize, raw: &RawKey) -> Result<Option<Key>, KeysError> {
    if raw.kty == "oct" || raw.d.is_some() || raw.k.is_some() {
        return Err(KeysError::NotPublic(index));
    }
    let signs = raw.purpose.as_deref().is_none_or(|purpose| purpose == "sig")
        && raw.key_ops.as_ref().is_none_or(|ops| ops.iter().any(|op| op == "verify"));
    let scheme = match (raw.kty.as_str(), raw.crv.as_deref()) {
        ("RSA", _) => Scheme::Rs256,
        ("EC", Some("P-256")) => Scheme::Es256,
        ("OKP", Some("Ed25519")) => Scheme::EdDsa,
        _ => return Ok(None),
    };
    if !signs || raw.alg.as_deref().is_some_and(|alg| alg != scheme.name()) {
        return Ok(None);
    }
    let part = |text, length| part(index, text, length);
    let key = match scheme {
        // 2048 to 8192 bits: what the verifier takes.
        Scheme::Rs256 => DecodingKey::from_rsa_components(
            part(raw.n.as_deref(), 256..=1_024)?,
            part(raw.e.as_deref(), 1..=8)?,
        ),
        Scheme::Es256 => DecodingKey::from_ec_components(
            part(raw.x.as_deref(), 32..=32)?,
            part(raw.y.as_deref(), 32..=32)?,
        ),
        Scheme::EdDsa => DecodingKey::from_ed_components(part(raw.x.as_deref(), 32..=32)?),
    };
    let key = key.map_err(|_| KeysError::Unusable(index, "it is damaged"))?;
    Ok(Some(Key { id: raw.kid.clone(), scheme, key }))
}

/// A part of a key, if it is base64url of so many bytes.
fn part(
    index: usize,
    text: Option<&str>,
    length: RangeInclusive<usize>,
) -> Result<&str, KeysError> {
    let unusable = |why| KeysError::Unusable(index, why);
    let text = text.ok_or(unusable("a part of it is missing"))?;
    let bytes =
        URL_SAFE_NO_PAD.decode(text).map_err(|_| unusable("a part of it is not base64url"))?;
    match length.contains(&bytes.len()) {
        true => Ok(text),
        false => Err(unusable("a part of it has the wrong length")),
    }
}

/// What the header of a token says that matters. A member that stands twice refuses it.
#[derive(Deserialize)]
struct Header {
    alg: String,
    kid: Option<String>,
    /// Extensions that must be understood. None is.
    crit: Option<Value>,
}

/// Whether a text has the form of a token. Said before any work is done on it.
pub fn looks_like_jwt(text: &str) -> bool {
    text.len() <= TOKEN_BYTES_MAX && text.bytes().filter(|b| *b == b'.').count() == 2
}

/// Whose token this is.
///
/// # Errors
/// See [`JwtError`].
pub fn verify(
    token: &str,
    keys: &Keys,
    rules: &JwtRules,
    now: SystemTime,
) -> Result<Identity, JwtError> {
    if !looks_like_jwt(token) {
        return Err(JwtError::Malformed);
    }
    let (message, signature) = token.rsplit_once('.').ok_or(JwtError::Malformed)?;
    let (header, payload) = message.split_once('.').ok_or(JwtError::Malformed)?;
    let header: Header = decode(header).ok_or(JwtError::Malformed)?;
    if header.crit.is_some() {
        return Err(JwtError::Malformed);
    }
    let scheme = Scheme::named(&header.alg).ok_or(JwtError::Algorithm)?;
    let key = keys.find(header.kid.as_deref(), scheme).ok_or(JwtError::UnknownKey)?;
    let signed =
        jsonwebtoken::crypto::verify(signature, message.as_bytes(), key, scheme.algorithm());
    if !signed.unwrap_or(false) {
        return Err(JwtError::Signature);
    }
    let claims: Map<String, Value> = decode(payload).ok_or(JwtError::Malformed)?;
    check_claims(&claims, rules, now)?;
    identity(&claims, rules)
}

/// When the time of a token that was verified is over, as these rules count it.
pub(super) fn end(token: &str, rules: &JwtRules) -> Option<SystemTime> {
    let claims: Map<String, Value> = decode(token.split('.').nth(1)?)?;
    let expires = Duration::try_from_secs_f64(seconds(&claims, "exp").ok()??).ok()?;
    UNIX_EPOCH.checked_add(expires)?.checked_add(rules.leeway)
}

fn decode<T: serde::de::DeserializeOwned>(part: &str) -> Option<T> {
    let bytes = URL_SAFE_NO_PAD.decode(part).ok()?;
    serde_json::from_slice(&bytes).ok()
}

fn check_claims(
    claims: &Map<String, Value>,
    rules: &JwtRules,
    now: SystemTime,
) -> Result<(), JwtError> {
    let now = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
    let leeway = rules.leeway.as_secs_f64();
    let expires = seconds(claims, "exp")?.ok_or(JwtError::Claim("exp"))?;
    let begins = seconds(claims, "nbf")?;
    if claims.get("iss").and_then(Value::as_str).ok_or(JwtError::Claim("iss"))? != rules.issuer {
        return Err(JwtError::Issuer);
    }
    let ours = |audience: &str| rules.audiences.iter().any(|own| own == audience);
    let for_us = match claims.get("aud").ok_or(JwtError::Claim("aud"))? {
        Value::String(audience) => ours(audience),
        Value::Array(all) => all.iter().filter_map(Value::as_str).any(ours),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => {
            return Err(JwtError::Claim("aud"));
        }
    };
    if !for_us {
        return Err(JwtError::Audience);
    }
    if expires + leeway <= now {
        return Err(JwtError::Expired);
    }
    if begins.is_some_and(|begins| begins - leeway > now) {
        return Err(JwtError::NotYet);
    }
    Ok(())
}

/// A claim that is a time, in seconds since 1970. A time written as a string is malformed, not
/// absent.
fn seconds(claims: &Map<String, Value>, name: &'static str) -> Result<Option<f64>, JwtError> {
    match claims.get(name) {
        None => Ok(None),
        Some(Value::Number(number)) => match number.as_f64() {
            Some(seconds) if seconds.is_finite() && seconds >= 0.0 => Ok(Some(seconds)),
            Some(_) | None => Err(JwtError::Claim(name)),
        },
        Some(
            Value::Null | Value::Bool(_) | Value::String(_) | Value::Array(_) | Value::Object(_),
        ) => Err(JwtError::Claim(name)),
    }
}

fn identity(claims: &Map<String, Value>, rules: &JwtRules) -> Result<Identity, JwtError> {
    let name = claims.get("sub").and_then(Value::as_str).ok_or(JwtError::Claim("sub"))?;
    let chars = name.chars().count();
    if chars == 0 || chars > SUBJECT_CHARS_MAX || name.chars().any(char::is_control) {
        return Err(JwtError::Claim("sub"));
    }
    let tenant = match &rules.tenant_claim {
        None => DEFAULT_TENANT,
        Some(claim) => member(claims, claim)
            .and_then(Value::as_str)
            .filter(|tenant| is_plain(tenant))
            .ok_or(JwtError::Claim("tenant"))?,
    };
    // Roles of other services may stand beside ours; they mean nothing here.
    let roles = match member(claims, &rules.roles_claim) {
        Some(Value::String(words)) => {
            words.split_ascii_whitespace().filter_map(Role::named).collect()
        }
        Some(Value::Array(all)) => {
            all.iter().filter_map(Value::as_str).filter_map(Role::named).collect()
        }
        None | Some(Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_)) => {
            Roles::NONE
        }
    };
    Ok(Identity { name: name.into(), tenant: tenant.into(), roles })
}

/// A claim by name, or by JSON Pointer.
fn member<'a>(claims: &'a Map<String, Value>, claim: &str) -> Option<&'a Value> {
    let Some(pointer) = claim.strip_prefix('/') else { return claims.get(claim) };
    let mut parts = pointer.split('/').map(|part| part.replace("~1", "/").replace("~0", "~"));
    let first = claims.get(&parts.next()?)?;
    parts.try_fold(first, |value, part| value.get(&part))
}

#[cfg(test)]
mod tests;
