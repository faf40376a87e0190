//! Documents in folders: one a file, named by the file.

use std::io;
use std::path::{Path, PathBuf};

use super::Source;
use crate::document::BYTES_MAX;

/// Documents found in a folder, by name.
pub type Found = Vec<Source>;

/// A folder or file that cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("cannot read {}", path.display())]
pub struct LoadError {
    /// The folder or file.
    pub path: PathBuf,
    /// Why.
    #[source]
    pub source: io::Error,
}

/// Reads every `*.yaml`, `*.yml` and `*.json` of a folder. Hidden files are left out: editors and
/// volume mounts put theirs there.
///
/// # Errors
/// The first that cannot be read.
pub fn folder(dir: &Path) -> Result<Found, LoadError> {
    let at = |path: &Path| {
        let path = path.to_path_buf();
        move |source| LoadError { path, source }
    };
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(at(dir))? {
        let path = entry.map_err(at(dir))?.path();
        let name = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
        let kind = path.extension().and_then(|extension| extension.to_str());
        if name.starts_with('.') || !matches!(kind, Some("yaml" | "yml" | "json")) {
            continue;
        }
        let length = std::fs::metadata(&path).map_err(at(&path))?.len();
        if length > BYTES_MAX as u64 {
            let source = io::Error::new(io::ErrorKind::InvalidData, "larger than 1 MiB");
            return Err(LoadError { path, source });
        }
        let text = std::fs::read_to_string(&path).map_err(at(&path))?;
        found.push(Source {
            name: name.to_owned(),
            origin: path.display().to_string(),
            text: text.into(),
        });
    }
    found.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(found)
}
