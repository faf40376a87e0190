//! Who may call, where changes are written down, and what a listener may be exposed to.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::check::Checker;
use super::raw::{RawAudit, RawAuth, RawJwt};
use super::{AuditConfig, AuthConfig, JwtConfig, JwtRules, Listener};
use crate::document::Problem;

/// Furthest that clocks may be apart.
const LEEWAY_MAX: Duration = Duration::from_secs(30);

/// A listener that would serve more people than was said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Exposed {
    /// Without TLS.
    #[error("{0} is not a loopback address and the listener has no TLS")]
    Plaintext(SocketAddr),
    /// Without credentials.
    #[error("{0} is not a loopback address and nobody is asked who they are")]
    Anonymous(SocketAddr),
}

impl Exposed {
    fn suggestion(self) -> &'static str {
        match self {
            Self::Plaintext(_) => "add `tls`, or say `allow_plaintext: true`",
            Self::Anonymous(_) => "add `auth`, or say `allow_anonymous: true`",
        }
    }
}

impl Listener {
    /// What is exposed that was not said to be. `authenticated` is whether callers are asked who
    /// they are.
    pub fn exposed(&self, authenticated: bool) -> Vec<Exposed> {
        let mut found = Vec::new();
        if self.address.ip().is_loopback() {
            return found;
        }
        if self.tls.is_none() && !self.allow_plaintext {
            found.push(Exposed::Plaintext(self.address));
        }
        if !authenticated && !self.allow_anonymous {
            found.push(Exposed::Anonymous(self.address));
        }
        found
    }
}

impl Checker<'_> {
    /// Holds a listener against what is said about access.
    pub(super) fn exposure(&mut self, path: &str, listener: &Listener, authenticated: bool) {
        for exposed in listener.exposed(authenticated) {
            let at = format!("{path}/address");
            let position = self.document.position_of(&at);
            self.problems.push(
                Problem::error(at, position, exposed.to_string())
                    .suggest(Some(exposed.suggestion())),
            );
        }
        if authenticated && listener.allow_anonymous {
            let at = format!("{path}/allow_anonymous");
            self.at(&at, "`auth` asks everybody who they are: nobody is anonymous");
        }
    }

    pub(super) fn auth(&mut self, raw: Option<RawAuth>) -> Option<AuthConfig> {
        let raw = raw?;
        if raw.callers_file.is_none() && raw.jwt.is_none() {
            self.at("/auth", "names neither `callers_file` nor `jwt`: nobody could call");
        }
        Some(AuthConfig {
            callers_file: raw.callers_file.map(|file| self.file("/auth/callers_file", &file)),
            jwt: raw.jwt.map(|jwt| self.jwt(jwt)),
        })
    }

    fn jwt(&mut self, raw: RawJwt) -> JwtConfig {
        let jwks_file: PathBuf = self.file("/auth/jwt/jwks_file", &raw.jwks_file);
        if raw.issuer.is_empty() {
            self.at("/auth/jwt/issuer", "is empty");
        }
        if raw.audience.is_empty() || raw.audience.iter().any(String::is_empty) {
            self.at("/auth/jwt/audience", "is empty: it is what tokens for this service say");
        }
        let leeway = raw.leeway.map_or(Duration::from_secs(10), |leeway| leeway.0);
        if leeway > LEEWAY_MAX {
            self.at("/auth/jwt/leeway", "is longer than 30 s: better set the clocks");
        }
        let claims = [
            ("roles_claim", raw.roles_claim.as_ref()),
            ("tenant_claim", raw.tenant_claim.as_ref()),
        ];
        for (key, claim) in claims {
            if claim.is_some_and(|claim| claim.is_empty() || claim == "/") {
                self.at(&format!("/auth/jwt/{key}"), "is empty");
            }
        }
        JwtConfig {
            jwks_file,
            rules: JwtRules {
                issuer: raw.issuer,
                audiences: raw.audience,
                leeway,
                roles_claim: raw.roles_claim.unwrap_or_else(|| "roles".to_owned()),
                tenant_claim: raw.tenant_claim,
            },
        }
    }

    pub(super) fn audit(&mut self, raw: RawAudit) -> Option<AuditConfig> {
        Some(AuditConfig {
            path: self.file("/audit/file", &raw.file?),
            bytes_max: raw.bytes_max.unwrap_or(16 << 20).into(),
            files_max: raw.files_max.unwrap_or(5),
        })
    }
}
