//! Who calls, and what they may.
//!
//! Every call passes [`AccessLayer`] in front of the services, which puts an [`Identity`] into its
//! extensions or refuses it. Handlers take name and tenant from there and from nowhere else; a
//! handler that finds none refuses, so a service that is served without the layer serves nobody.
//!
//! A caller shows a bearer token or a client certificate. A token is looked up by its digest in
//! the callers file, or is a JSON Web Token; a certificate is looked up by its names. A token that
//! is not accepted is not made good by a certificate, and nothing that was verified is remembered:
//! a cache of identities is where two callers become one.

mod access;
mod callers;
mod files;
mod identity;
mod jwt;
mod layer;
mod revocation;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use http::HeaderMap;
use http::header::AUTHORIZATION;
use rustls::pki_types::CertificateDer;
use tokio::sync::watch;
use webpki::EndEntityCert;

pub use access::{Access, TABLE, access, streams};
pub use callers::Callers;
pub use files::AccessFileError;
pub use identity::{DEFAULT_TENANT, Identity, Role, Roles};
pub use jwt::{JwtError, Keys, KeysError, verify};
pub use layer::{AccessLayer, Gate};

use crate::config::{AuthConfig, JwtRules};
use crate::engine::alerts::Alerts;
use crate::tasks::Tasks;
use callers::TOKEN_BYTES_MAX;
use files::AccessFiles;

/// Why a call is not let in. Holds nothing of what was presented.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Neither token nor certificate.
    #[error("this service asks for credentials: a bearer token or a client certificate")]
    Missing,
    /// Something that is nobody's.
    #[error("the credentials are not accepted")]
    Invalid,
    /// A token whose time is over.
    #[error("the token has expired")]
    Expired,
    /// A token whose time has not come.
    #[error("the token is not valid yet")]
    NotYet,
    /// Somebody who may not.
    #[error("this call takes one of the roles {takes}; the caller has {has}")]
    Role {
        /// Roles that may.
        takes: Roles,
        /// Roles of the caller.
        has: Roles,
    },
    /// A call that nobody may make.
    #[error("this call is not one that anybody may make")]
    NotListed,
}

/// Tells callers apart. Cheap to clone; clones see the same files.
#[derive(Clone)]
pub struct Authenticator {
    /// `None` where nobody is asked.
    sources: Option<Sources>,
    refusals: Arc<Refusals>,
}

#[derive(Clone)]
struct Sources {
    callers: Option<watch::Receiver<Arc<Callers>>>,
    jwt: Option<(watch::Receiver<Arc<Keys>>, Arc<JwtRules>)>,
}

/// An authenticator with the files that it goes by.
pub struct Authentication {
    /// The authenticator.
    pub authenticator: Authenticator,
    files: Option<AccessFiles>,
}

impl Authentication {
    /// Reads the files of a configuration; without one, everybody is `anonymous` and may do
    /// everything.
    ///
    /// # Errors
    /// A file that cannot be used.
    pub fn load(config: Option<&AuthConfig>) -> Result<Self, AccessFileError> {
        let files = config.map(AccessFiles::load).transpose()?;
        let sources =
            files.as_ref().map(|files| Sources { callers: files.callers(), jwt: files.jwt() });
        Ok(Self { authenticator: Authenticator { sources, refusals: Arc::default() }, files })
    }

    /// Reads the files again whenever they change, as part of a group of tasks. One that cannot be
    /// used is an alert until it can.
    pub fn keep_fresh(self, alerts: Arc<Alerts>, tasks: &Tasks) {
        if let Some(files) = self.files {
            tasks.spawn_until_stopped(files.keep_fresh(alerts, tasks.clone()));
        }
    }
}

impl Authenticator {
    /// Whether a call may be made, and by whom. `certificate` is the client's, verified by the
    /// listener.
    ///
    /// # Errors
    /// See [`Refused`].
    pub fn admit(
        &self,
        path: &str,
        headers: &HeaderMap,
        certificate: Option<&CertificateDer<'_>>,
        now: SystemTime,
    ) -> Result<Arc<Identity>, Refused> {
        if self.sources.is_none() {
            // The router says what it does not have.
            return Ok(Identity::anonymous());
        }
        let takes = match access(path) {
            Some(Access::Open) => return Ok(Identity::anonymous()),
            Some(Access::Roles(takes)) => Some(takes),
            None => None,
        };
        let admitted = self.identify(headers, certificate, now).and_then(|identity| match takes {
            Some(takes) if takes.meets(identity.roles) => Ok(identity),
            Some(takes) => Err(Refused::Role { takes, has: identity.roles }),
            None => Err(Refused::NotListed),
        });
        admitted.inspect_err(|refused| self.refusals.count(refused))
    }

    /// Who calls.
    ///
    /// # Errors
    /// See [`Refused`].
    pub fn identify(
        &self,
        headers: &HeaderMap,
        certificate: Option<&CertificateDer<'_>>,
        now: SystemTime,
    ) -> Result<Arc<Identity>, Refused> {
        let Some(sources) = &self.sources else { return Ok(Identity::anonymous()) };
        let mut presented = headers.get_all(AUTHORIZATION).iter();
        match (presented.next(), presented.next(), certificate) {
            (Some(header), None, _) => sources.by_token(bearer(header.as_bytes())?, now),
            // Which of two counts is a matter of taste, so neither does.
            (Some(_), Some(_), _) => Err(Refused::Invalid),
            (None, _, Some(certificate)) => sources.by_certificate(certificate),
            (None, _, None) => Err(Refused::Missing),
        }
    }
}

/// Says in the log that calls are refused, at most once a second: who guesses tokens does not
/// write the log.
#[derive(Default)]
struct Refusals(Mutex<(Option<Instant>, u64)>);

impl Refusals {
    fn count(&self, refused: &Refused) {
        let now = Instant::now();
        let calls = {
            let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            state.1 += 1;
            if state.0.is_some_and(|last| now.duration_since(last) < Duration::from_secs(1)) {
                return;
            }
            state.0 = Some(now);
            std::mem::take(&mut state.1)
        };
        tracing::warn!(calls, last = %refused, "calls were refused");
    }
}

/// The token of `Bearer TOKEN`.
fn bearer(value: &[u8]) -> Result<&str, Refused> {
    let value = std::str::from_utf8(value).map_err(|_| Refused::Invalid)?;
    let (scheme, token) = value.split_once(' ').ok_or(Refused::Invalid)?;
    let token = token.trim_matches(' ');
    let plain =
        (1..=TOKEN_BYTES_MAX).contains(&token.len()) && token.bytes().all(|b| b.is_ascii_graphic());
    if scheme.eq_ignore_ascii_case("bearer") && plain { Ok(token) } else { Err(Refused::Invalid) }
}

impl Sources {
    fn by_token(&self, token: &str, now: SystemTime) -> Result<Arc<Identity>, Refused> {
        if let Some(callers) = &self.callers
            && let Some(identity) = callers.borrow().by_token(token.as_bytes())
        {
            return Ok(identity.clone());
        }
        let Some((keys, rules)) = &self.jwt else { return Err(Refused::Invalid) };
        if !jwt::looks_like_jwt(token) {
            return Err(Refused::Invalid);
        }
        let keys = keys.borrow().clone();
        match jwt::verify(token, &keys, rules, now) {
            Ok(identity) => Ok(Arc::new(identity)),
            Err(error) => {
                tracing::debug!(why = %error, "a JSON Web Token is not accepted");
                Err(refused(error))
            }
        }
    }

    fn by_certificate(&self, certificate: &CertificateDer<'_>) -> Result<Arc<Identity>, Refused> {
        let callers = self.callers.as_ref().ok_or(Refused::Invalid)?;
        let parsed = EndEntityCert::try_from(certificate).map_err(|_| Refused::Invalid)?;
        let lower: Vec<String> = parsed.valid_dns_names().map(str::to_ascii_lowercase).collect();
        let names = parsed.valid_uri_names().filter(|name| name.contains("://"));
        let names = names.chain(lower.iter().map(String::as_str));
        callers.borrow().by_names(names).cloned().ok_or(Refused::Invalid)
    }
}

/// What the caller is told. Only who has signed a token learns that its time is wrong.
fn refused(error: JwtError) -> Refused {
    match error {
        JwtError::Expired => Refused::Expired,
        JwtError::NotYet => Refused::NotYet,
        JwtError::Malformed
        | JwtError::Algorithm
        | JwtError::UnknownKey
        | JwtError::Signature
        | JwtError::Claim(_)
        | JwtError::Issuer
        | JwtError::Audience => Refused::Invalid,
    }
}

#[cfg(test)]
mod tests;
