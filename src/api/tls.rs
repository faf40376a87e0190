//! TLS of a listener, as its files say now.
//!
//! Certificates end, so the files are read again whenever they change: connections that come later
//! are made with what stands there then, those that are there stay as they are until their age ends
//! them. Files that cannot be used together change nothing, which also bridges the moment in which
//! the certificate is the new one and the key still the old.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{VerifierBuilderError, WebPkiClientVerifier};
use rustls::{RootCertStore, ServerConfig};
use sha2::{Digest as _, Sha256};
use tokio::sync::watch;

use crate::config::TlsFiles;

/// Longest file; a chain has some kilobytes, a bundle of all public authorities 250.
const FILE_BYTES_MAX: u64 = 4 << 20;

/// Files that do not make a TLS configuration. Says nothing of what is in them.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// One cannot be read.
    #[error("{path} cannot be read")]
    Unreadable {
        /// The file.
        path: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// One holds something else.
    #[error("{path} holds no {wanted} in the form of PEM")]
    NotPem {
        /// The file.
        path: String,
        /// What it should hold.
        wanted: &'static str,
    },
    /// The key is not the certificate's, or one of them is of a kind that is not known.
    #[error("the certificate in {path} cannot be used with its key")]
    Certificate {
        /// The certificate's file.
        path: String,
        /// Why.
        #[source]
        source: rustls::Error,
    },
    /// The authorities of clients cannot be used.
    #[error("the authorities in {path} cannot be used")]
    Authorities {
        /// Their file.
        path: String,
        /// Why.
        #[source]
        source: VerifierBuilderError,
    },
}

/// What connections of a listener are made with. Clones see the same.
pub type Tls = watch::Receiver<Arc<ServerConfig>>;

/// Keeps a listener's TLS as its files say.
pub struct TlsKeeper {
    files: TlsFiles,
    read: [u8; 32],
    current: watch::Sender<Arc<ServerConfig>>,
}

impl TlsKeeper {
    /// Reads the files for the first time.
    ///
    /// # Errors
    /// See [`TlsError`].
    pub fn load(files: TlsFiles) -> Result<Self, TlsError> {
        let texts = Texts::of(&files)?;
        let current = watch::Sender::new(Arc::new(texts.config(&files)?));
        Ok(Self { read: texts.digest(), files, current })
    }

    /// What connections are made with.
    pub fn tls(&self) -> Tls {
        self.current.subscribe()
    }

    /// Folders of the files.
    pub fn folders(&self) -> Vec<PathBuf> {
        let TlsFiles { certificate, key, client_ca, client_certificate_optional: _ } = &self.files;
        let files = [Some(certificate), Some(key), client_ca.as_ref()];
        files.into_iter().flatten().filter_map(|file| Some(file.parent()?.to_owned())).collect()
    }

    /// Reads the files again. Whether they say something new.
    ///
    /// # Errors
    /// See [`TlsError`]; nothing has changed then.
    pub fn refresh(&mut self) -> Result<bool, TlsError> {
        let texts = Texts::of(&self.files)?;
        let digest = texts.digest();
        if digest == self.read {
            return Ok(false);
        }
        self.current.send_replace(Arc::new(texts.config(&self.files)?));
        self.read = digest;
        Ok(true)
    }
}

/// What the files hold.
struct Texts {
    certificate: Vec<u8>,
    key: zeroize::Zeroizing<Vec<u8>>,
    client_ca: Option<Vec<u8>>,
}

impl Texts {
    fn of(files: &TlsFiles) -> Result<Self, TlsError> {
        Ok(Self {
            certificate: bytes_of(&files.certificate)?,
            key: bytes_of(&files.key)?.into(),
            client_ca: files.client_ca.as_deref().map(bytes_of).transpose()?,
        })
    }

    fn digest(&self) -> [u8; 32] {
        let mut hash = Sha256::new();
        let parts = [Some(&self.certificate), Some(&*self.key), self.client_ca.as_ref()];
        for part in parts {
            let length = part.map_or(u64::MAX, |part| part.len() as u64);
            hash.update(length.to_le_bytes());
            hash.update(part.map_or(&[][..], Vec::as_slice));
        }
        hash.finalize().into()
    }

    fn config(&self, files: &TlsFiles) -> Result<ServerConfig, TlsError> {
        let wrong = |source| TlsError::Certificate { path: shown(&files.certificate), source };
        let provider = Arc::new(aws_lc_rs::default_provider());
        let builder = ServerConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .map_err(wrong)?;
        let builder = match files.client_ca.as_deref().zip(self.client_ca.as_deref()) {
            None => builder.with_no_client_auth(),
            Some((path, pem)) => {
                let mut roots = RootCertStore::empty();
                for certificate in certificates(path, pem)? {
                    roots
                        .add(certificate)
                        .map_err(|source| TlsError::Certificate { path: shown(path), source })?;
                }
                let verifier =
                    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
                let verifier = match files.client_certificate_optional {
                    true => verifier.allow_unauthenticated(),
                    false => verifier,
                };
                let verifier = verifier
                    .build()
                    .map_err(|source| TlsError::Authorities { path: shown(path), source })?;
                builder.with_client_cert_verifier(verifier)
            }
        };
        let chain = certificates(&files.certificate, &self.certificate)?;
        let key = PrivateKeyDer::from_pem_slice(&self.key)
            .map_err(|_| TlsError::NotPem { path: shown(&files.key), wanted: "private key" })?;
        let mut config = builder.with_single_cert(chain, key).map_err(wrong)?;
        config.alpn_protocols = vec![b"h2".to_vec()];
        Ok(config)
    }
}

fn certificates(path: &Path, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let not_pem = || TlsError::NotPem { path: shown(path), wanted: "certificate" };
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    found.ok().filter(|found| !found.is_empty()).ok_or_else(not_pem)
}

fn bytes_of(path: &Path) -> Result<Vec<u8>, TlsError> {
    use std::io::Read as _;
    let unreadable = |source| TlsError::Unreadable { path: shown(path), source };
    let mut bytes = Vec::new();
    // A device or a wrong path may have no end.
    let file = std::fs::File::open(path).map_err(unreadable)?;
    file.take(FILE_BYTES_MAX).read_to_end(&mut bytes).map_err(unreadable)?;
    Ok(bytes)
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}
