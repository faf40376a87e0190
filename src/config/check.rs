//! From what is written to what it means, with every mistake placed.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, HeaderValue, Uri};

use super::base_url::{self, Allowed};
use super::raw::{RawConfig, RawLimits, RawListener, RawSecret, RawTarget};
use super::{Config, Limits, Listener, TargetConfig, TlsFiles};
use crate::document::{Document, DurationText, Problem, Problems, nearest};
use crate::resilience::pace::PaceLimits;

/// Headers that hold secrets.
const SECRET_HEADERS: [&str; 7] = [
    "authorization",
    "proxy-authorization",
    "x-api-key",
    "api-key",
    "x-goog-api-key",
    "cookie",
    "x-auth-token",
];
/// Headers that belong to the transport.
const TRANSPORT_HEADERS: [&str; 9] = [
    "host",
    "connection",
    "content-length",
    "content-type",
    "content-encoding",
    "transfer-encoding",
    "te",
    "upgrade",
    "accept-encoding",
];
/// Members of a request's body that no target may lay its own over.
const OWN_MEMBERS: [&str; 4] = ["model", "messages", "contents", "stream"];

/// What a configuration reads beside its text.
pub struct Environment<'a> {
    /// Environment variables.
    pub variable: &'a dyn Fn(&str) -> Option<String>,
    /// Folder that relative paths start from.
    pub base_dir: &'a Path,
}

pub(super) struct Checker<'a> {
    pub(super) document: &'a Document,
    pub(super) environment: &'a Environment<'a>,
    pub(super) problems: Problems,
}

pub(super) fn resolve(
    raw: RawConfig,
    document: &Document,
    environment: &Environment<'_>,
) -> Result<Config, Problems> {
    let mut check = Checker { document, environment, problems: Problems::default() };
    let data = check.listener("/listeners/data", raw.listeners.data, 50_051);
    let control = check.listener("/listeners/control", raw.listeners.control, 50_052);
    let auth = check.auth(raw.auth);
    check.exposure("/listeners/data", &data, auth.is_some());
    check.exposure("/listeners/control", &control, auth.is_some());
    if data.address == control.address && data.address.port() != 0 {
        check.at("/listeners/control", format!("{} is the data listener's address", data.address));
    }
    let mut targets = BTreeMap::new();
    for (name, target) in raw.targets {
        let path = format!("/targets/{}", name.replace('~', "~0").replace('/', "~1"));
        if !is_name(&name) {
            check.at_key(&path, "a target's name is 1 to 64 characters of a-z, 0-9, _ and -");
        }
        let target = check.target(&path, target);
        targets.insert(Arc::from(name), target);
    }
    let groups = check.groups(raw.groups, &targets);
    let names = targets.keys().chain(groups.iter().map(|group| &group.name)).cloned().collect();
    let default_targets = match raw.default_targets {
        Some(named) => check.default_targets(&named, &names),
        None => targets.keys().cloned().collect(),
    };
    let policies_dir = raw.documents.policies_dir;
    let policies_dir = policies_dir.map(|dir| check.file("/documents/policies_dir", &dir));
    let pipelines_dir = raw.documents.pipelines_dir;
    let pipelines_dir = pipelines_dir.map(|dir| check.file("/documents/pipelines_dir", &dir));
    let store = raw.store.map(|store| check.file("/store/path", &store.path));
    let limits = limits(&raw.limits);
    let cache = check.cache(raw.cache, store.as_deref(), limits.cache_bytes, &names);
    if limits.default_deadline > limits.deadline_cap {
        check.at("/limits/default_deadline", "is longer than `deadline_cap`");
    }
    if limits.stream_stall.is_zero() {
        check.at("/limits/stream_stall", "has to be longer than 0");
    }
    let telemetry = check.telemetry(raw.telemetry);
    let audit = check.audit(raw.audit);
    if !check.problems.usable() {
        return Err(check.problems.sorted());
    }
    Ok(Config {
        data,
        control,
        targets,
        groups,
        default_targets,
        default_policy: raw.default_policy.as_deref().unwrap_or("default").into(),
        policies_dir,
        pipelines_dir,
        store,
        cache,
        limits,
        telemetry,
        reflection: raw.reflection.unwrap_or(true),
        auth,
        audit,
    })
}

/// `[a-z0-9_-]{1,64}`.
pub(super) fn is_name(name: &str) -> bool {
    (1..=64).contains(&name.len())
        && name
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_' || b == b'-')
}

pub(super) fn or(duration: Option<DurationText>, default: Duration) -> Duration {
    duration.map_or(default, |text| text.0)
}

fn limits(raw: &RawLimits) -> Limits {
    let size = |value: Option<u32>, default: u32| value.unwrap_or(default) as usize;
    Limits {
        runs_max: size(raw.runs_max, 1_000),
        runs_per_caller_max: raw.runs_per_caller_max.map(|most| most as usize),
        runs_queue_max: size(raw.runs_queue_max, 1_000),
        runs_queue_timeout: or(raw.runs_queue_timeout, Duration::from_secs(5)),
        memory_bytes_max: raw.memory_bytes_max,
        runs_remembered: size(raw.runs_remembered, 10_000),
        request_bytes_max: size(raw.request_bytes_max, 4 << 20),
        response_bytes_max: size(raw.response_bytes_max, 16 << 20),
        streams_per_connection: raw.streams_per_connection.unwrap_or(256),
        connections_max: size(raw.connections_max, 10_000),
        default_deadline: or(raw.default_deadline, Duration::from_secs(600)),
        deadline_cap: or(raw.deadline_cap, Duration::from_secs(3_600)),
        run_timeout: or(raw.run_timeout, Duration::from_secs(600)),
        stream_stall: or(raw.stream_stall, Duration::from_secs(30)),
        drain: or(raw.drain, Duration::from_secs(25)),
        cache_bytes: usize::try_from(raw.cache_bytes.unwrap_or(64 << 20)).unwrap_or(usize::MAX),
        changes_per_second: raw.changes_per_second.unwrap_or(20),
        failures_recorded: size(raw.failures_recorded, 100_000),
        failures_recorded_bytes: size(raw.failures_recorded_bytes, 64 << 20),
    }
}

impl Checker<'_> {
    pub(super) fn at(&mut self, path: &str, message: impl Into<String>) {
        let position = self.document.position_of(path);
        self.problems.push(Problem::error(path, position, message));
    }

    pub(super) fn at_key(&mut self, path: &str, message: impl Into<String>) {
        let position = self.document.position_of_key(path);
        self.problems.push(Problem::error(path, position, message));
    }

    fn listener(&mut self, path: &str, raw: Option<RawListener>, port: u16) -> Listener {
        let raw = raw.unwrap_or_default();
        let fallback = SocketAddr::from(([127, 0, 0, 1], port));
        let at = format!("{path}/address");
        let address = raw.address.as_deref().and_then(|address| self.substituted(&at, address));
        let address = match address.as_deref().map(str::parse::<SocketAddr>) {
            None => fallback,
            Some(Ok(address)) => address,
            Some(Err(_)) => {
                self.at(
                    &at,
                    "expected an IP address and a port, 127.0.0.1:50051 or [::]:50051 for example",
                );
                fallback
            }
        };
        let tls = raw.tls.map(|tls| TlsFiles {
            certificate: self.file(&format!("{path}/tls/certificate_file"), &tls.certificate_file),
            key: self.file(&format!("{path}/tls/key_file"), &tls.key_file),
            client_ca: tls
                .client_ca_file
                .map(|file| self.file(&format!("{path}/tls/client_ca_file"), &file)),
            client_certificate_optional: tls.client_certificate_optional,
        });
        let (allow_plaintext, allow_anonymous) = (raw.allow_plaintext, raw.allow_anonymous);
        Listener { address, tls, allow_plaintext, allow_anonymous }
    }

    fn default_targets(&mut self, names: &[String], known: &BTreeSet<Arc<str>>) -> Vec<Arc<str>> {
        if names.is_empty() {
            self.at("/default_targets", "is empty; leave it out to mean all targets");
        }
        let mut found = Vec::with_capacity(names.len());
        for (index, name) in names.iter().enumerate() {
            match known.get(name.as_str()) {
                Some(name) if found.contains(name) => {
                    self.at(&format!("/default_targets/{index}"), "stands here twice");
                }
                Some(name) => found.push(name.clone()),
                None => {
                    let path = format!("/default_targets/{index}");
                    let near = nearest(name, known.iter().map(|name| &**name));
                    let position = self.document.position_of(&path);
                    self.problems.push(
                        Problem::error(path, position, format!("there is no target `{name}`"))
                            .suggest(near.map(|name| format!("did you mean `{name}`?"))),
                    );
                }
            }
        }
        found
    }

    pub(super) fn target(&mut self, path: &str, raw: RawTarget) -> TargetConfig {
        if raw.model.trim().is_empty() {
            self.at(&format!("{path}/model"), "is empty");
        }
        let allowed = Allowed { plaintext: raw.allow_plaintext, private: raw.private };
        let url_path = format!("{path}/base_url");
        let base_url =
            raw.base_url.as_deref().and_then(|url| self.base_url(&url_path, url, allowed));
        // On this machine a private address is what was meant.
        let here = base_url.as_deref().is_some_and(|url| {
            url.parse::<Uri>().is_ok_and(|uri| uri.host().is_some_and(is_loopback))
        });
        if let Some(own) = &raw.path
            && !own.starts_with('/')
        {
            self.at(&format!("{path}/path"), "must begin with `/`");
        }
        self.laid_over(path, &raw);
        self.timeouts(path, &raw);
        self.gate(path, &raw);
        let credential_header = raw.credential_header.map(|header| {
            self.header(&format!("{path}/credential_header/name"), &header.name, &header.prefix);
            (header.name.to_ascii_lowercase(), header.prefix)
        });
        TargetConfig {
            dialect: raw.dialect,
            model: raw.model,
            base_url,
            path: raw.path,
            query: raw.query.into_iter().collect(),
            credential: raw.credential.map(|reference| match reference {
                RawSecret::File(file) => {
                    let file = self.file(&format!("{path}/credential/file"), &file);
                    RawSecret::File(file.to_string_lossy().into_owned())
                }
                RawSecret::Env(name) => RawSecret::Env(name),
            }),
            credential_header,
            headers: raw.headers.into_iter().collect(),
            extra: raw.extra,
            provider: raw.provider,
            connect_timeout: or(raw.timeouts.connect, Duration::from_secs(5)),
            attempt_timeout: or(raw.timeouts.attempt, Duration::from_secs(60)),
            queue_timeout: or(raw.timeouts.queue, Duration::from_secs(5)),
            pace: PaceLimits {
                first_byte: Some(or(raw.timeouts.first_byte, Duration::from_secs(20))),
                first_token: Some(or(raw.timeouts.first_token, Duration::from_secs(45))),
                idle: Some(or(raw.timeouts.idle, Duration::from_secs(20))),
                bytes_per_second_min: raw.stream_bytes_per_second_min.filter(|least| *least > 0.0),
            },
            price: (raw.price.input, raw.price.cached_input, raw.price.output),
            context_window: raw.context_window,
            max_output_tokens: raw.max_output_tokens,
            lacks: raw.lacks.into_iter().map(Into::into).collect(),
            in_flight_max: raw.in_flight_max.unwrap_or(256),
            in_flight_per_caller_max: raw.in_flight_per_caller_max,
            adaptive: raw
                .adaptive
                .map(|one| (one.min.unwrap_or(1), one.slow_factor.unwrap_or(3.0))),
            rate_limit: (raw.rate_limit.requests_per_minute, raw.rate_limit.tokens_per_minute),
            breaker: raw.breaker,
            retry_budget: raw.retry_budget,
            queue_max: raw.queue_max.unwrap_or(256),
            http: raw.http,
            response_bytes_max: raw.response_bytes_max.unwrap_or(8 << 20) as usize,
            private: raw.private || here,
        }
    }

    /// Headers and members of the body that a target adds to every request.
    fn laid_over(&mut self, path: &str, raw: &RawTarget) {
        for (name, value) in &raw.headers {
            let at = format!("{path}/headers/{}", name.replace('~', "~0").replace('/', "~1"));
            self.header(&at, name, value);
            self.own_header(&at, name);
        }
        for name in raw.extra.keys().filter(|name| OWN_MEMBERS.contains(&name.as_str())) {
            self.at_key(&format!("{path}/extra/{name}"), format!("`{name}` cannot be laid over"));
        }
    }

    fn timeouts(&mut self, path: &str, raw: &RawTarget) {
        for (field, limit) in [
            ("connect", raw.timeouts.connect),
            ("attempt", raw.timeouts.attempt),
            ("queue", raw.timeouts.queue),
            ("first_byte", raw.timeouts.first_byte),
            ("first_token", raw.timeouts.first_token),
            ("idle", raw.timeouts.idle),
        ] {
            if limit.is_some_and(|limit| limit.0.is_zero()) {
                self.at(&format!("{path}/timeouts/{field}"), "has to be longer than 0");
            }
        }
    }

    /// Headers that are ours to set, and those that hold secrets: these have a place where they do
    /// not stand in a file that people read.
    fn own_header(&mut self, path: &str, name: &str) {
        let name = name.to_ascii_lowercase();
        if SECRET_HEADERS.contains(&name.as_str()) {
            let position = self.document.position_of_key(path);
            self.problems.push(
                Problem::error(path, position, format!("`{name}` holds a secret"))
                    .suggest(Some("use `credential` and `credential_header`")),
            );
        } else if TRANSPORT_HEADERS.contains(&name.as_str()) {
            self.at_key(path, format!("`{name}` is set by the transport"));
        }
    }

    fn header(&mut self, path: &str, name: &str, value: &str) {
        if HeaderName::try_from(name.to_ascii_lowercase()).is_err() {
            self.at_key(path, format!("`{name}` is not a header name"));
        }
        if HeaderValue::from_str(value).is_err() {
            self.at(path, "is not a header value");
        }
    }

    /// Replaces `${NAME}` and checks what comes out.
    fn base_url(&mut self, path: &str, raw: &str, allowed: Allowed) -> Option<String> {
        let url = self.substituted(path, raw)?;
        match base_url::check(&url, allowed) {
            Ok(url) => Some(url),
            Err(wrong) => {
                wrong.into_iter().for_each(|message| self.at(path, message));
                None
            }
        }
    }
}

fn is_loopback(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    host.eq_ignore_ascii_case("localhost")
        || bare.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;

    fn read(text: &str, variables: &[(&str, &str)]) -> Result<Config, String> {
        let document = Document::parse("mainstay.yaml", text).unwrap();
        let variable = |name: &str| {
            variables.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
        };
        let environment = Environment { variable: &variable, base_dir: Path::new("/etc/mainstay") };
        config::read(&document, &environment).map_err(|problems| problems.to_string())
    }

    #[test]
    fn nothing_written_is_a_configuration() {
        let config = read("{}", &[]).unwrap();
        assert_eq!(config.data.address.to_string(), "127.0.0.1:50051");
        assert_eq!(&*config.default_policy, "default");
        assert_eq!(config.telemetry.otlp_endpoint, None);
    }

    #[test]
    fn every_mistake_at_once() {
        let text = "\
listeners:
  data: {address: '0.0.0.0:50051'}
  control: {address: localhost}
targets:
  main:
    dialect: openai
    model: m
    base_url: http://api.example.com/v1
  Bad:
    dialect: gemini
    model: ''
    base_url: https://key@evil/
    headers: {'x y': z}
default_targets: [mian]
";
        insta::assert_snapshot!(read(text, &[]).unwrap_err());
    }

    #[test]
    fn base_urls_take_variables_with_defaults() {
        let text = "targets: {a: {dialect: openai, model: m, base_url: '${OPENAI_BASE_URL:-https://api.openai.com/v1}'}}";
        let base = |variables: &[(&str, &str)]| {
            read(text, variables).unwrap().targets["a"].base_url.clone().unwrap()
        };
        assert_eq!(base(&[]), "https://api.openai.com/v1");
        let local = base(&[("OPENAI_BASE_URL", "http://127.0.0.1:8080/v1/")]);
        assert_eq!(local, "http://127.0.0.1:8080/v1");
        let without = text.replace(":-https://api.openai.com/v1", "");
        assert!(read(&without, &[]).unwrap_err().contains("OPENAI_BASE_URL is not set"));
    }

    #[test]
    fn hostile_base_urls_are_refused() {
        for url in [
            "ftp://x/",
            "file:///etc/passwd",
            "http://10.0.0.1/v1",
            "https://a@b/",
            "https://a/?k=v",
            "https://evil#.openai.azure.com",
            "//x",
            "x",
            "http://127.0.0.1.evil.com/v1",
        ] {
            let text = format!("targets: {{a: {{dialect: openai, model: m, base_url: '{url}'}}}}");
            assert!(read(&text, &[]).is_err(), "{url}");
        }
        for url in [
            "http://localhost:1/v1",
            "http://[::1]:1",
            "http://127.0.0.1:8080",
            "https://api.example.com",
        ] {
            let text = format!("targets: {{a: {{dialect: openai, model: m, base_url: '{url}'}}}}");
            assert!(read(&text, &[]).is_ok(), "{url}");
        }
    }

    /// What ships is read as it stands, with nothing set and with what the rehearsal sets.
    #[test]
    fn the_shipped_configurations_are_read() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("config");
        let text = |file: &str| std::fs::read_to_string(folder.join(file)).unwrap();
        let config = read(&text("mainstay.yaml"), &[("OTEL_SERVICE_NAME", "mine")]).unwrap();
        assert_eq!(config.default_targets, ["openai".into()]);
        assert_eq!(config.telemetry.service_name, "mine");
        let rehearsal = read(&text("rehearsal.yaml"), &[("SIMULATOR", "127.0.0.1:4000")]).unwrap();
        assert_eq!(rehearsal.targets.len(), 3);
        assert_eq!(
            rehearsal.targets["sim-small"].base_url.as_deref(),
            Some("http://127.0.0.1:4000/v1beta")
        );
        assert!(rehearsal.targets["sim-small"].private);
        // By itself it means a simulated provider that was started by hand.
        let alone = read(&text("rehearsal.yaml"), &[]).unwrap();
        assert!(alone.targets["sim-small"].base_url.as_deref().unwrap().contains(":8089/"));
    }

    #[test]
    fn secrets_and_our_own_words_are_kept_out_of_headers_and_bodies() {
        let text = "targets: {a: {dialect: openai, model: m, headers: {Authorization: Bearer x, \
            host: y, x-team: z}, extra: {model: b, store: false}, credential: {file: key.txt}, \
            timeouts: {attempt: 0s}}}\ndefault_targets: [a, a]";
        insta::assert_snapshot!(read(text, &[]).unwrap_err());
        let config = read("targets: {a: {dialect: openai, model: m, credential: {file: k}}}", &[]);
        assert!(matches!(
            &config.unwrap().targets["a"].credential,
            Some(RawSecret::File(path)) if path == "/etc/mainstay/k"
        ));
    }
}
