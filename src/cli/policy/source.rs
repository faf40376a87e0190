//! Policies as arguments: files, names and versions.

use std::io::Read as _;
use std::path::Path;

use anyhow::Context as _;

use crate::api::pb;
use crate::api::pb::policy_source::Source;

/// A document from a file or standard input.
#[derive(Debug, Clone)]
pub(in crate::cli) struct Text {
    /// The file, for messages.
    pub(in crate::cli) origin: String,
    /// Its name without folder and ending.
    pub(in crate::cli) stem: Option<String>,
    /// What it says.
    pub(in crate::cli) text: String,
}

impl Text {
    /// Reads a file; `-` is standard input.
    pub(in crate::cli) fn read(path: &str) -> anyhow::Result<Self> {
        if path == "-" {
            let mut text = String::new();
            std::io::stdin().read_to_string(&mut text).context("cannot read standard input")?;
            return Ok(Self { origin: "standard input".to_owned(), stem: None, text });
        }
        let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {path}"))?;
        let stem = Path::new(path).file_stem().and_then(|stem| stem.to_str()).map(str::to_owned);
        Ok(Self { origin: path.to_owned(), stem, text })
    }
}

/// A policy as an argument: a file (with a folder or the ending of a document in its name, or `-`),
/// else `NAME` or `NAME@VERSION` of a stored one.
pub(in crate::cli) fn policy(argument: &str) -> anyhow::Result<pb::PolicySource> {
    let endings = [".yaml", ".yml", ".json"];
    let is_file = argument == "-"
        || argument.contains(['/', '\\'])
        || endings.iter().any(|ending| argument.ends_with(ending));
    let source = if is_file {
        Source::Text(Text::read(argument)?.text)
    } else {
        let (name, version) = crate::cli::run::named(argument)?;
        Source::Stored(pb::PolicyVersionRef { name, version })
    };
    Ok(pb::PolicySource { source: Some(source) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_versions_and_files() {
        let stored = |argument: &str| match policy(argument).unwrap().source {
            Some(Source::Stored(stored)) => (stored.name, stored.version),
            other => panic!("{other:?}"),
        };
        assert_eq!(stored("careful"), ("careful".to_owned(), 0));
        assert_eq!(stored("careful@3"), ("careful".to_owned(), 3));
        assert!(policy("careful@x").is_err());
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/config/policies/shorthand.yaml");
        assert!(matches!(policy(file).unwrap().source, Some(Source::Text(_))));
        assert!(policy("no-such-file.yaml").is_err());
    }
}
