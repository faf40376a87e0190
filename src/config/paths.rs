//! `${NAME}` in what the server's file says: paths, addresses and URLs.

use std::path::PathBuf;

use super::check::Checker;

impl Checker<'_> {
    /// A file or folder. `at` is its place in the document; a relative one starts from the
    /// document's folder.
    pub(super) fn file(&mut self, at: &str, path: &str) -> PathBuf {
        let path = self.substituted(at, path).unwrap_or_else(|| path.to_owned());
        if path.trim().is_empty() {
            self.at(at, "is empty");
        }
        self.environment.base_dir.join(path)
    }

    /// The text with each `${NAME}` replaced by the environment variable, and `${NAME:-default}` by
    /// the default where that is not set. Nothing, and a problem, where it cannot be.
    pub(super) fn substituted(&mut self, at: &str, text: &str) -> Option<String> {
        match self.substitute(text) {
            Ok(text) => Some(text),
            Err(message) => {
                self.at(at, message);
                None
            }
        }
    }

    fn substitute(&self, text: &str) -> Result<String, String> {
        let mut out = String::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once("${") {
            out.push_str(before);
            let (name, tail) = after.split_once('}').ok_or("`${` without `}`")?;
            let (name, default) = match name.split_once(":-") {
                Some((name, default)) => (name, Some(default)),
                None => (name, None),
            };
            match (self.environment.variable)(name).filter(|value| !value.is_empty()) {
                Some(value) => out.push_str(&value),
                None => out.push_str(
                    default.ok_or_else(|| format!("environment variable {name} is not set"))?,
                ),
            }
            rest = tail;
        }
        out.push_str(rest);
        Ok(out)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use crate::config::{self, Config, Environment, RawSecret};
    use crate::document::Document;

    fn read(text: &str) -> Result<Config, String> {
        let document = Document::parse("mainstay.yaml", text).unwrap();
        let variable = |name: &str| match name {
            "DATA" => Some("/var/lib/mainstay".to_owned()),
            "ADDRESS" => Some("127.0.0.2".to_owned()),
            _ => None,
        };
        let environment = Environment { variable: &variable, base_dir: Path::new("/etc/mainstay") };
        config::read(&document, &environment).map_err(|problems| problems.to_string())
    }

    #[test]
    fn every_path_takes_variables() {
        let tls = "tls: {certificate_file: '${DATA}/c', key_file: '${DATA}/k', client_ca_file: '${DATA}/ca'}";
        let config = read(&format!(
            "listeners: {{data: {{address: '${{ADDRESS}}:50051', {tls}}}}}\n\
             documents: {{policies_dir: '${{DATA}}/p', pipelines_dir: '${{NONE:-own}}/q'}}\n\
             store: {{path: '${{DATA}}/m.db'}}\n\
             cache: {{durable: {{path: '${{DATA}}/c.db'}}}}\n\
             audit: {{file: '${{DATA}}/audit.jsonl'}}\n\
             auth: {{callers_file: '${{DATA}}/callers', jwt: {{jwks_file: '${{DATA}}/j', issuer: i, audience: [a]}}}}\n\
             targets: {{t: {{dialect: openai, model: m, credential: {{file: '${{DATA}}/key'}}}}}}\n"
        ))
        .unwrap();
        let tls = config.data.tls.unwrap();
        let auth = config.auth.unwrap();
        let key = match config.targets["t"].credential.clone().unwrap() {
            RawSecret::File(file) => file,
            RawSecret::Env(name) => panic!("{name}"),
        };
        assert_eq!(config.data.address.to_string(), "127.0.0.2:50051");
        assert_eq!(config.pipelines_dir.as_deref(), Some(Path::new("/etc/mainstay/own/q")));
        for (found, name) in [
            (tls.certificate, "c"),
            (tls.key, "k"),
            (tls.client_ca.unwrap(), "ca"),
            (config.policies_dir.unwrap(), "p"),
            (config.store.unwrap(), "m.db"),
            (config.cache.durable.unwrap().path, "c.db"),
            (config.audit.unwrap().path, "audit.jsonl"),
            (auth.callers_file.unwrap(), "callers"),
            (auth.jwt.unwrap().jwks_file, "j"),
            (key.into(), "key"),
        ] {
            assert_eq!(found, Path::new("/var/lib/mainstay").join(name));
        }
    }

    #[test]
    fn what_is_not_set_is_told_in_its_place() {
        for (text, wanted) in [
            (
                "store: {path: '${NONE}/m.db'}",
                "1:15: error: store.path: environment variable NONE is not set",
            ),
            ("audit: {file: '${DATA'}", "1:15: error: audit.file: `${` without `}`"),
            ("documents: {policies_dir: '${NONE:-}'}", "documents.policies_dir: is empty"),
            (
                "listeners: {data: {address: '${NONE}:1'}}",
                "listeners.data.address: environment variable",
            ),
        ] {
            let told = read(text).unwrap_err();
            assert!(told.contains(wanted), "{told}");
        }
    }
}
