//! The control plane: policies and pipelines as versioned documents.
//!
//! Read [`library`] first: everybody who wants something asks there. One `writer` makes every
//! change, one after the other: judged by the rules of the [`book`], compiled ([`check`]), stored,
//! and only then put in force; `rounds` tells whoever watches. Files are read by `files`, watched by
//! `watch`.

pub mod audit;
pub mod book;
pub mod change;
pub mod check;
mod files;
mod fixed;
pub mod library;
mod older;
mod rounds;
mod seed;
mod watch;
mod writer;

use std::sync::Arc;

use crate::document::Problems;

pub use audit::{AuditAction, AuditEntry, AuditLog};
pub use change::ChangeError;
pub use check::{Documents, Refused, hash};
pub use files::{FileDocument, LoadError, folder, is_name};
pub use library::Library;
pub(crate) use watch::Watch;

pub use seed::{LibrarySettings, SeedError};

/// A document with where it came from.
#[derive(Debug, Clone)]
pub struct Source {
    /// Its name.
    pub name: String,
    /// File or built-in name, for messages.
    pub origin: String,
    /// Its text.
    pub text: Arc<str>,
}

/// What is wrong with one document.
#[derive(Debug, Clone)]
pub struct Report {
    /// Where the document came from.
    pub origin: String,
    /// Its text.
    pub text: Arc<str>,
    /// What is wrong.
    pub problems: Problems,
}
