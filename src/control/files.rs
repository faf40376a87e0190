//! Documents in folders: one a file, named by the file.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::book::DOCUMENTS_MAX;
use crate::document::BYTES_MAX;

/// A file of a watched folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileDocument {
    /// The document's name: the file's, without its ending.
    pub name: Arc<str>,
    /// Folder and file, for messages.
    pub path: String,
    /// Its text, or why it has none.
    pub text: Result<Arc<str>, String>,
}

/// A folder that cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("cannot read {}", path.display())]
pub struct LoadError {
    /// The folder.
    pub path: PathBuf,
    /// Why.
    #[source]
    pub source: io::Error,
}

/// Reads every `*.yaml`, `*.yml` and `*.json` of a folder, by name. Hidden files are left out:
/// editors and volume mounts put theirs there.
///
/// # Errors
/// The folder cannot be read, or holds more files than there may be documents. A file that cannot
/// be read says so itself, so that it takes nothing from the others.
pub fn folder(dir: &Path) -> Result<Vec<FileDocument>, LoadError> {
    let at = |source| LoadError { path: dir.to_path_buf(), source };
    let mut found: BTreeMap<String, FileDocument> = BTreeMap::new();
    let mut paths: Vec<PathBuf> = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(at)? {
        let path = entry.map_err(at)?.path();
        let hidden = stem(&path).starts_with('.');
        let kind = path.extension().and_then(|extension| extension.to_str());
        if hidden || !matches!(kind, Some("yaml" | "yml" | "json")) {
            continue;
        }
        if paths.len() >= DOCUMENTS_MAX {
            let message = format!("more than {DOCUMENTS_MAX} documents");
            return Err(at(io::Error::new(io::ErrorKind::InvalidData, message)));
        }
        paths.push(path);
    }
    paths.sort();
    for path in paths {
        let name = stem(&path).to_owned();
        let text = read(&path, &name).map(Arc::from);
        let document =
            FileDocument { name: name.as_str().into(), path: path.display().to_string(), text };
        if let Some(first) = found.get_mut(&name) {
            // Which of the two is meant, nobody can know.
            first.text = Err(format!("{} has the same name", document.path));
        } else {
            found.insert(name, document);
        }
    }
    Ok(found.into_values().collect())
}

fn stem(path: &Path) -> &str {
    path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default()
}

fn read(path: &Path, name: &str) -> Result<String, String> {
    if !is_name(name) {
        return Err("a document's file is named with 1 to 64 characters of a-z, 0-9, _ and -, and .yaml, .yml or .json".to_owned());
    }
    let length = std::fs::metadata(path).map_err(|error| error.to_string())?.len();
    if length > BYTES_MAX as u64 {
        return Err(format!("the document has {length} bytes; at most {BYTES_MAX} are read"));
    }
    std::fs::read_to_string(path).map_err(|error| error.to_string())
}

/// `[a-z0-9_-]{1,64}`.
pub fn is_name(name: &str) -> bool {
    (1..=64).contains(&name.len())
        && name
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_' || b == b'-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_bad_file_takes_nothing_from_the_others() {
        let dir = tempfile::tempdir().unwrap();
        let write =
            |name: &str, bytes: &[u8]| std::fs::write(dir.path().join(name), bytes).unwrap();
        write("good.yaml", b"policy: {}");
        write("twice.yaml", b"policy: {}");
        write("twice.json", b"{}");
        write("Bad Name.yaml", b"policy: {}");
        write("binary.yml", &[0xff, 0xfe]);
        write("huge.yaml", &vec![b'#'; BYTES_MAX + 1]);
        write("notes.txt", b"not a document");
        write(".hidden.yaml", b"not a document");
        std::fs::create_dir(dir.path().join("folder.yaml")).unwrap();
        let told: Vec<String> = folder(dir.path())
            .unwrap()
            .into_iter()
            .map(|file| format!("{}: {}", file.name, if file.text.is_ok() { "ok" } else { "bad" }))
            .collect();
        let wanted =
            ["Bad Name: bad", "binary: bad", "folder: bad", "good: ok", "huge: bad", "twice: bad"];
        assert_eq!(told, wanted);
        assert!(folder(&dir.path().join("none")).is_err());
    }
}
