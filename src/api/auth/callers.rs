//! The callers file: who has which tokens and certificates, and what they may.
//!
//! The file is of the operator's making and is read again while the server runs. It holds no
//! credential: a token stands in it as its SHA-256 digest, or as the place where it is found. A
//! digest does not log in, because what is presented is digested before it is compared.

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::Deserialize;
use sha2::{Digest, Sha256};
use subtle::{Choice, ConditionallySelectable, ConstantTimeEq};

use super::identity::{DEFAULT_TENANT, Identity, Role};
use crate::config::RawSecret;
use crate::config::secret::{Secret, SecretError};
use crate::document::{Document, Problem, Problems, Shape};

/// Most tokens in a file. Every one is compared with what is presented, so this bounds the work
/// before a caller is known: some microseconds.
const TOKENS_MAX: usize = 1_000;
/// Most certificates in a file.
const CERTIFICATES_MAX: usize = 10_000;
/// Shortest token. Shorter ones can be guessed, and their digests reversed.
const TOKEN_BYTES_MIN: usize = 16;
/// Longest token.
pub(super) const TOKEN_BYTES_MAX: usize = 8 * 1024;

static SHAPE: Shape<RawCallers> = Shape::new();

/// Who may call.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "Mainstay callers")]
struct RawCallers {
    /// Everybody who may call. An empty list lets nobody in.
    callers: Vec<RawCaller>,
}

/// One caller.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct RawCaller {
    /// Its name, for the audit log.
    name: String,
    /// Whose runs it sees; `default` if absent.
    #[serde(default)]
    tenant: Option<String>,
    /// What it may.
    roles: Vec<RawRole>,
    /// Its tokens. Two at a time let a token be replaced without a gap.
    #[serde(default)]
    tokens: Vec<RawToken>,
    /// Subject alternative names of its client certificates: a URI
    /// (`spiffe://example.org/checkout`) or a DNS name.
    #[serde(default)]
    certificates: Vec<String>,
}

/// A role.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum RawRole {
    /// Runs steps and pipelines, and looks at the runs of its tenant.
    Runner,
    /// Looks at everything and changes nothing.
    Viewer,
    /// Writes policies and pipelines.
    Author,
    /// Takes a hand in what serves.
    Operator,
}

/// A token: never itself.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
enum RawToken {
    /// Its SHA-256 digest in hexadecimal digits.
    Sha256(String),
    /// It is in this environment variable.
    Env(String),
    /// It is in this file; surrounding white space does not belong to it.
    File(String),
}

/// A digest as words, so that comparing takes four steps.
type Words = [u64; 4];

/// Callers by what they present.
#[derive(Default)]
pub struct Callers {
    tokens: Vec<(Words, Arc<Identity>)>,
    certificates: HashMap<String, Arc<Identity>>,
    elsewhere: bool,
}

impl Callers {
    /// Reads a callers file. `fetch` has the tokens that stand elsewhere; relative paths start
    /// from `base_dir`.
    ///
    /// # Errors
    /// Every mistake, none of them with a word of what stands under `tokens`.
    pub fn read(
        name: &str,
        text: &str,
        base_dir: &Path,
        fetch: &dyn Fn(&RawSecret) -> Result<Secret, SecretError>,
    ) -> Result<Self, Problems> {
        let document = Document::parse(name, text).map_err(|problem| {
            Problems(vec![Problem::error("", problem.position, "is not YAML or JSON")])
        })?;
        let raw = SHAPE.read_once(&document).map_err(without_tokens)?;
        let mut reader = Reader {
            document: &document,
            base_dir,
            fetch,
            problems: Problems::default(),
            names: HashSet::new(),
            callers: Self::default(),
        };
        for (index, caller) in raw.callers.into_iter().enumerate() {
            reader.caller(&format!("/callers/{index}"), caller);
        }
        let bounds = [
            (reader.callers.tokens.len(), TOKENS_MAX, "tokens"),
            (reader.callers.certificates.len(), CERTIFICATES_MAX, "certificates"),
        ];
        for (count, most, what) in bounds {
            if count > most {
                reader.at("/callers", format!("has {count} {what}; there may be {most}"));
            }
        }
        if reader.problems.usable() { Ok(reader.callers) } else { Err(reader.problems.sorted()) }
    }

    /// Whose token this is. The whole token is digested, every digest is compared, and none of it
    /// takes longer for a guess that is nearer.
    pub fn by_token(&self, token: &[u8]) -> Option<&Arc<Identity>> {
        let presented = digest(token);
        let mut found = u32::MAX;
        for (index, (words, _)) in (0_u32..).zip(&self.tokens) {
            let same: Choice = words[..].ct_eq(&presented[..]);
            found = u32::conditional_select(&found, &index, same);
        }
        self.tokens.get(found as usize).map(|(_, identity)| identity)
    }

    /// Digest of the tokens if some of them stand in other places, which change by themselves.
    pub(super) fn tokens_elsewhere(&self) -> Option<[u8; 32]> {
        if !self.elsewhere {
            return None;
        }
        let mut hash = Sha256::new();
        for word in self.tokens.iter().flat_map(|(words, _)| words) {
            hash.update(word.to_le_bytes());
        }
        Some(hash.finalize().into())
    }

    /// Whose certificate has one of these names. Names of two callers in one certificate make it
    /// nobody's.
    pub fn by_names<'a>(&self, names: impl Iterator<Item = &'a str>) -> Option<&Arc<Identity>> {
        let mut found: Option<&Arc<Identity>> = None;
        for identity in names.filter_map(|name| self.certificates.get(name)) {
            match found {
                Some(other) if other != identity => return None,
                Some(_) | None => found = Some(identity),
            }
        }
        found
    }
}

fn digest(token: &[u8]) -> Words {
    words(&Sha256::digest(token).into())
}

fn words(digest: &[u8; 32]) -> Words {
    let mut words = [0; 4];
    for (word, bytes) in words.iter_mut().zip(digest.chunks_exact(8)) {
        *word = bytes.iter().fold(0, |word, byte| (word << 8) | u64::from(*byte));
    }
    words
}

/// Problems of the shape with what they quote taken away: who writes a token where its digest
/// belongs, or another place, should not find it in a log.
fn without_tokens(mut problems: Problems) -> Problems {
    for problem in &mut problems.0 {
        if let Some((expected, _)) = problem.message.split_once(", found `") {
            problem.message = expected.to_owned();
        }
        let Some((caller, within)) = problem.path.split_once("/tokens/") else { continue };
        // The key below may be the token, so the path ends with the number.
        let number = within.split('/').next().unwrap_or_default();
        problem.path = format!("{caller}/tokens/{number}");
        problem.message = "is not a token: expected {sha256: …}, {file: …} or {env: …}".to_owned();
        problem.suggestion = None;
    }
    problems
}

/// A name that can stand in a log, a key and a file name: 1 to 128 printable ASCII characters
/// without spaces.
pub(super) fn is_plain(text: &str) -> bool {
    (1..=128).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic())
}

struct Reader<'a> {
    document: &'a Document,
    base_dir: &'a Path,
    fetch: &'a dyn Fn(&RawSecret) -> Result<Secret, SecretError>,
    problems: Problems,
    names: HashSet<String>,
    callers: Callers,
}

impl Reader<'_> {
    fn at(&mut self, path: &str, message: impl Into<String>) {
        let position = self.document.position_of(path);
        self.problems.push(Problem::error(path, position, message));
    }

    fn caller(&mut self, path: &str, raw: RawCaller) {
        const PLAIN: &str = "is 1 to 128 printable ASCII characters without spaces";
        if !is_plain(&raw.name) {
            self.at(&format!("{path}/name"), PLAIN);
        } else if !self.names.insert(raw.name.clone()) {
            self.at(&format!("{path}/name"), format!("there are two callers `{}`", raw.name));
        }
        let tenant = raw.tenant.as_deref().unwrap_or(DEFAULT_TENANT);
        if !is_plain(tenant) {
            self.at(&format!("{path}/tenant"), PLAIN);
        }
        if raw.roles.is_empty() {
            self.at(&format!("{path}/roles"), "is empty: this caller may do nothing");
        }
        if raw.tokens.is_empty() && raw.certificates.is_empty() {
            self.at(path, "has neither tokens nor certificates: nobody can be this caller");
        }
        let identity = Arc::new(Identity {
            name: raw.name.as_str().into(),
            tenant: tenant.into(),
            roles: raw.roles.into_iter().map(role).collect(),
        });
        for (index, token) in raw.tokens.into_iter().enumerate() {
            self.token(&format!("{path}/tokens/{index}"), token, &identity);
        }
        for (index, name) in raw.certificates.iter().enumerate() {
            self.certificate(&format!("{path}/certificates/{index}"), name, &identity);
        }
    }

    fn token(&mut self, path: &str, raw: RawToken, identity: &Arc<Identity>) {
        let words = match raw {
            RawToken::Sha256(hex) => match of_hex(&hex) {
                Some(digest) => words(&digest),
                None => return self.at(path, "`sha256` is not 64 hexadecimal digits"),
            },
            RawToken::Env(name) => match self.elsewhere(path, RawSecret::Env(name)) {
                Some(words) => words,
                None => return,
            },
            RawToken::File(file) => {
                let file = self.base_dir.join(file).to_string_lossy().into_owned();
                match self.elsewhere(path, RawSecret::File(file)) {
                    Some(words) => words,
                    None => return,
                }
            }
        };
        if self.callers.tokens.iter().any(|(other, _)| *other == words) {
            return self.at(path, "this token stands in the file twice");
        }
        self.callers.tokens.push((words, identity.clone()));
    }

    fn elsewhere(&mut self, path: &str, reference: RawSecret) -> Option<Words> {
        self.callers.elsewhere = true;
        let secret = match (self.fetch)(&reference) {
            Ok(secret) => secret,
            Err(error) => {
                self.at(path, error.to_string());
                return None;
            }
        };
        let token = secret.expose();
        if !(TOKEN_BYTES_MIN..=TOKEN_BYTES_MAX).contains(&token.len()) {
            let message = format!("a token has {TOKEN_BYTES_MIN} to {TOKEN_BYTES_MAX} characters");
            self.at(path, message);
            return None;
        }
        if !token.bytes().all(|b| b.is_ascii_graphic()) {
            self.at(path, "a token is printable ASCII without spaces");
            return None;
        }
        Some(digest(token.as_bytes()))
    }

    fn certificate(&mut self, path: &str, name: &str, identity: &Arc<Identity>) {
        if name.is_empty() || name.len() > 2_048 || !name.bytes().all(|b| b.is_ascii_graphic()) {
            return self.at(path, "is neither a URI nor a DNS name");
        }
        if name.contains('*') {
            return self.at(path, "names are compared as they are; there are no wildcards");
        }
        let key = match name.contains("://") {
            true => name.to_owned(),
            false => name.to_ascii_lowercase(),
        };
        if self.callers.certificates.insert(key, identity.clone()).is_some() {
            self.at(path, format!("`{name}` stands in the file twice"));
        }
    }
}

fn role(raw: RawRole) -> Role {
    match raw {
        RawRole::Runner => Role::Runner,
        RawRole::Viewer => Role::Viewer,
        RawRole::Author => Role::Author,
        RawRole::Operator => Role::Operator,
    }
}

fn of_hex(text: &str) -> Option<[u8; 32]> {
    let text = text.as_bytes();
    if text.len() != 64 {
        return None;
    }
    let mut out = [0; 32];
    for (byte, pair) in out.iter_mut().zip(text.chunks_exact(2)) {
        let [high, low] = pair else { return None };
        let digit = |c: u8| char::from(c).to_digit(16).and_then(|d| u8::try_from(d).ok());
        *byte = (digit(*high)? << 4) | digit(*low)?;
    }
    Some(out)
}

#[cfg(test)]
mod tests;
