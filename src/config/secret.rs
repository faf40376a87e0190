//! Secrets: found by reference, held without printing.

use std::fmt;
use std::io::Read;

use zeroize::Zeroizing;

use super::raw::RawSecret;

/// Longest secret in bytes; a service account's key file has about 2 KiB.
const SECRET_BYTES_MAX: u64 = 64 * 1024;

/// A secret text. It prints as `[secret]`, is not serialisable, and is wiped when dropped.
#[derive(Clone)]
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// The text itself; call this only where it is sent.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[secret]")
    }
}

/// A secret that cannot be had. Names the reference, never a value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SecretError {
    /// The environment variable is not set or empty.
    #[error("environment variable {0} is not set")]
    NotSet(String),
    /// The file cannot be read.
    #[error("secret file {path} cannot be read: {kind}")]
    Unreadable {
        /// The file.
        path: String,
        /// Why.
        kind: std::io::ErrorKind,
    },
    /// The file has nothing in it.
    #[error("secret file {0} is empty")]
    Empty(String),
}

/// Fetches a secret. The only function of this folder that reads anything.
///
/// # Errors
/// See [`SecretError`].
pub fn fetch(reference: &RawSecret) -> Result<Secret, SecretError> {
    match reference {
        RawSecret::Env(name) => match std::env::var(name) {
            Ok(value) if !value.trim().is_empty() => Ok(keep(value)),
            Ok(_) | Err(_) => Err(SecretError::NotSet(name.clone())),
        },
        RawSecret::File(path) => {
            let unreadable = |error: std::io::Error| SecretError::Unreadable {
                path: path.clone(),
                kind: error.kind(),
            };
            // A device or a wrong path may have no end.
            let mut text = String::new();
            let file = std::fs::File::open(path).map_err(unreadable)?;
            file.take(SECRET_BYTES_MAX).read_to_string(&mut text).map_err(unreadable)?;
            if text.trim().is_empty() {
                return Err(SecretError::Empty(path.clone()));
            }
            Ok(keep(text))
        }
    }
}

fn keep(text: String) -> Secret {
    let text = Zeroizing::new(text);
    Secret(Zeroizing::new(text.trim().to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_does_not_print() {
        let secret = keep(" sk-canary \n".to_owned());
        assert_eq!(format!("{secret:?}"), "[secret]");
        assert_eq!(secret.expose(), "sk-canary");
    }

    #[test]
    fn what_is_missing_is_named() {
        let error = fetch(&RawSecret::Env("MAINSTAY_TEST_NO_SUCH".into())).unwrap_err();
        assert_eq!(error.to_string(), "environment variable MAINSTAY_TEST_NO_SUCH is not set");
        let error = fetch(&RawSecret::File("/nonexistent/key".into())).unwrap_err();
        assert!(error.to_string().contains("/nonexistent/key"));
    }
}
