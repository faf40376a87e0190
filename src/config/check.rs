//! From what is written to what it means, with every mistake placed.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, HeaderValue, Uri};

use super::raw::{RawConfig, RawLimits, RawListener, RawTarget, RawTelemetry};
use super::{Config, Limits, Listener, TargetConfig, TelemetryConfig, TlsFiles};
use crate::document::{Document, DurationText, Problem, Problems, nearest};

/// What a configuration reads beside its text.
pub struct Environment<'a> {
    /// Environment variables.
    pub variable: &'a dyn Fn(&str) -> Option<String>,
    /// Folder that relative paths start from.
    pub base_dir: &'a Path,
}

struct Checker<'a> {
    document: &'a Document,
    environment: &'a Environment<'a>,
    problems: Problems,
}

pub(super) fn resolve(
    raw: RawConfig,
    document: &Document,
    environment: &Environment<'_>,
) -> Result<Config, Problems> {
    let mut check = Checker { document, environment, problems: Problems::default() };
    let data = check.listener("/listeners/data", raw.listeners.data, 50_051);
    let control = check.listener("/listeners/control", raw.listeners.control, 50_052);
    let mut targets = BTreeMap::new();
    for (name, target) in raw.targets {
        let path = format!("/targets/{name}");
        if !is_name(&name) {
            check.at_key(&path, "a target's name is 1 to 64 characters of a-z, 0-9, _ and -");
        }
        let target = check.target(&path, target);
        targets.insert(Arc::from(name), target);
    }
    let default_targets = check.default_targets(raw.default_targets, &targets);
    let policies_dir = raw.documents.policies_dir.map(|dir| check.file(&dir));
    let pipelines_dir = raw.documents.pipelines_dir.map(|dir| check.file(&dir));
    let limits = limits(&raw.limits);
    if limits.default_deadline > limits.deadline_cap {
        check.at("/limits/default_deadline", "is longer than `deadline_cap`");
    }
    let telemetry = check.telemetry(raw.telemetry);
    if !check.problems.usable() {
        return Err(check.problems.sorted());
    }
    Ok(Config {
        data,
        control,
        targets,
        default_targets,
        default_policy: raw.default_policy.as_deref().unwrap_or("default").into(),
        policies_dir,
        pipelines_dir,
        limits,
        telemetry,
        reflection: raw.reflection.unwrap_or(true),
    })
}

/// `[a-z0-9_-]{1,64}`.
fn is_name(name: &str) -> bool {
    (1..=64).contains(&name.len())
        && name
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_' || b == b'-')
}

fn or(duration: Option<DurationText>, default: Duration) -> Duration {
    duration.map_or(default, |text| text.0)
}

fn limits(raw: &RawLimits) -> Limits {
    let size = |value: Option<u32>, default: u32| value.unwrap_or(default) as usize;
    Limits {
        runs_max: size(raw.runs_max, 1_000),
        runs_remembered: size(raw.runs_remembered, 10_000),
        request_bytes_max: size(raw.request_bytes_max, 4 << 20),
        response_bytes_max: size(raw.response_bytes_max, 16 << 20),
        streams_per_connection: raw.streams_per_connection.unwrap_or(256),
        connections_max: size(raw.connections_max, 10_000),
        default_deadline: or(raw.default_deadline, Duration::from_secs(600)),
        deadline_cap: or(raw.deadline_cap, Duration::from_secs(3_600)),
        run_timeout: or(raw.run_timeout, Duration::from_secs(600)),
        drain: or(raw.drain, Duration::from_secs(25)),
        cache_bytes: usize::try_from(raw.cache_bytes.unwrap_or(64 << 20)).unwrap_or(usize::MAX),
    }
}

impl Checker<'_> {
    fn at(&mut self, path: &str, message: impl Into<String>) {
        let position = self.document.position_of(path);
        self.problems.push(Problem::error(path, position, message));
    }

    fn at_key(&mut self, path: &str, message: impl Into<String>) {
        let position = self.document.position_of_key(path);
        self.problems.push(Problem::error(path, position, message));
    }

    fn file(&self, path: &str) -> PathBuf {
        self.environment.base_dir.join(path)
    }

    fn listener(&mut self, path: &str, raw: Option<RawListener>, port: u16) -> Listener {
        let raw = raw.unwrap_or_default();
        let fallback = SocketAddr::from(([127, 0, 0, 1], port));
        let address = match raw.address.as_deref().map(str::parse::<SocketAddr>) {
            None => fallback,
            Some(Ok(address)) => address,
            Some(Err(_)) => {
                let at = format!("{path}/address");
                self.at(&at, "expected an IP address and a port, 127.0.0.1:50051 or [::]:50051 for example");
                fallback
            }
        };
        if raw.tls.is_none() && !address.ip().is_loopback() && !raw.allow_plaintext {
            let position = self.document.position_of(&format!("{path}/address"));
            self.problems.push(
                Problem::error(
                    format!("{path}/address"),
                    position,
                    format!("{address} is not a loopback address and the listener has no TLS"),
                )
                .suggest(Some("add `tls`, or say `allow_plaintext: true`")),
            );
        }
        let tls = raw.tls.map(|tls| TlsFiles {
            certificate: self.file(&tls.certificate_file),
            key: self.file(&tls.key_file),
            client_ca: tls.client_ca_file.map(|file| self.file(&file)),
        });
        Listener { address, tls }
    }

    fn default_targets(
        &mut self,
        raw: Option<Vec<String>>,
        targets: &BTreeMap<Arc<str>, TargetConfig>,
    ) -> Vec<Arc<str>> {
        let Some(names) = raw else { return targets.keys().cloned().collect() };
        let mut found = Vec::with_capacity(names.len());
        for (index, name) in names.iter().enumerate() {
            match targets.get_key_value(name.as_str()) {
                Some((name, _)) => found.push(name.clone()),
                None => {
                    let path = format!("/default_targets/{index}");
                    let near = nearest(name, targets.keys().map(|name| &**name));
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

    fn target(&mut self, path: &str, raw: RawTarget) -> TargetConfig {
        if raw.model.trim().is_empty() {
            self.at(&format!("{path}/model"), "is empty");
        }
        let base_url = raw.base_url.as_deref().and_then(|url| {
            self.base_url(&format!("{path}/base_url"), url, raw.allow_plaintext)
        });
        if let Some(own) = &raw.path
            && !own.starts_with('/')
        {
            self.at(&format!("{path}/path"), "must begin with `/`");
        }
        for (name, value) in &raw.headers {
            let at = format!("{path}/headers/{name}");
            self.header(&at, name, value);
        }
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
            credential: raw.credential,
            credential_header,
            headers: raw.headers.into_iter().collect(),
            extra: raw.extra,
            provider: raw.provider,
            connect_timeout: or(raw.timeouts.connect, Duration::from_secs(5)),
            attempt_timeout: or(raw.timeouts.attempt, Duration::from_secs(60)),
            queue_timeout: or(raw.timeouts.queue, Duration::from_secs(5)),
            price: (raw.price.input, raw.price.cached_input, raw.price.output),
            context_window: raw.context_window,
            max_output_tokens: raw.max_output_tokens,
            in_flight_max: raw.in_flight_max.unwrap_or(256),
            queue_max: raw.queue_max.unwrap_or(256),
            http: raw.http,
            response_bytes_max: raw.response_bytes_max.unwrap_or(8 << 20) as usize,
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

    /// Replaces `${NAME}` and checks what comes out: a host we mean, over TLS unless it is on this
    /// machine, without userinfo, query or fragment, which could send a key elsewhere.
    fn base_url(&mut self, path: &str, raw: &str, allow_plaintext: bool) -> Option<String> {
        let url = match self.substitute(raw) {
            Ok(url) => url,
            Err(message) => {
                self.at(path, message);
                return None;
            }
        };
        let url = url.trim_end_matches('/').to_owned();
        let Ok(parsed) = url.parse::<Uri>() else {
            self.at(path, "is not a URL");
            return None;
        };
        let (Some(scheme), Some(authority)) = (parsed.scheme_str(), parsed.authority()) else {
            self.at(path, "needs a scheme and a host, https://api.example.com/v1 for example");
            return None;
        };
        if authority.as_str().contains('@') {
            self.at(path, "must not hold a user name or password");
        }
        if parsed.query().is_some() || url.contains('#') {
            self.at(path, "must not hold a query or a fragment; use `query`");
        }
        let local = is_loopback(authority.host());
        match scheme {
            "https" => {}
            "http" if local || allow_plaintext => {}
            "http" => self.at(
                path,
                "is plain HTTP to another machine; use https, or say `allow_plaintext: true`",
            ),
            other => self.at(path, format!("`{other}` is not a scheme that is called")),
        }
        Some(url)
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

    /// The file's word, else OpenTelemetry's own variables, else a default.
    fn telemetry(&mut self, raw: RawTelemetry) -> TelemetryConfig {
        let variable = |name: &str| {
            (self.environment.variable)(name).filter(|value| !value.trim().is_empty())
        };
        let disabled = variable("OTEL_SDK_DISABLED").is_some_and(|v| v.eq_ignore_ascii_case("true"))
            || variable("OTEL_TRACES_EXPORTER").is_some_and(|v| v == "none");
        let endpoint = raw
            .otlp_endpoint
            .or_else(|| variable("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"))
            .or_else(|| variable("OTEL_EXPORTER_OTLP_ENDPOINT"))
            .filter(|_| !disabled);
        let sampler = variable("OTEL_TRACES_SAMPLER").unwrap_or_default();
        let from_environment = match sampler.trim_start_matches("parentbased_") {
            "always_off" => Some(0.0),
            "always_on" => Some(1.0),
            _ => variable("OTEL_TRACES_SAMPLER_ARG").and_then(|text| text.parse::<f64>().ok()),
        };
        let resource = variable("OTEL_RESOURCE_ATTRIBUTES")
            .unwrap_or_default()
            .split(',')
            .filter_map(|pair| pair.split_once('='))
            .map(|(key, value)| (key.trim().to_owned(), value.trim().to_owned()))
            .collect();
        if let Some(url) = &endpoint
            && url.parse::<Uri>().map_or(true, |uri| uri.authority().is_none())
        {
            let message = format!("the OTLP endpoint `{url}` is not a URL");
            self.at("/telemetry/otlp_endpoint", message);
        }
        TelemetryConfig {
            otlp_endpoint: endpoint,
            service_name: raw
                .service_name
                .or_else(|| (self.environment.variable)("OTEL_SERVICE_NAME"))
                .unwrap_or_else(|| "mainstay".to_owned()),
            resource,
            sample_ratio: raw.sample_ratio.or(from_environment).unwrap_or(1.0).clamp(0.0, 1.0),
            log: raw.log.unwrap_or_else(|| "info".to_owned()),
            log_json: raw.log_json,
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
        assert_eq!(base(&[("OPENAI_BASE_URL", "http://127.0.0.1:8080/v1/")]), "http://127.0.0.1:8080/v1");
        let without = text.replace(":-https://api.openai.com/v1", "");
        assert!(read(&without, &[]).unwrap_err().contains("OPENAI_BASE_URL is not set"));
    }

    #[test]
    fn hostile_base_urls_are_refused() {
        for url in [
            "ftp://x/", "file:///etc/passwd", "http://10.0.0.1/v1", "https://a@b/", "https://a/?k=v",
            "https://evil#.openai.azure.com", "//x", "x", "http://127.0.0.1.evil.com/v1",
        ] {
            let text = format!("targets: {{a: {{dialect: openai, model: m, base_url: '{url}'}}}}");
            assert!(read(&text, &[]).is_err(), "{url}");
        }
        for url in ["http://localhost:1/v1", "http://[::1]:1", "http://127.0.0.1:8080", "https://api.example.com"] {
            let text = format!("targets: {{a: {{dialect: openai, model: m, base_url: '{url}'}}}}");
            assert!(read(&text, &[]).is_ok(), "{url}");
        }
    }

    #[test]
    fn opentelemetry_variables_are_honoured() {
        let config = read(
            "{}",
            &[
                ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:4317"),
                ("OTEL_SERVICE_NAME", "orders"),
                ("OTEL_TRACES_SAMPLER", "parentbased_traceidratio"),
                ("OTEL_TRACES_SAMPLER_ARG", "0.25"),
                ("OTEL_RESOURCE_ATTRIBUTES", "a=b,c = d"),
            ],
        )
        .unwrap()
        .telemetry;
        assert_eq!(config.otlp_endpoint.as_deref(), Some("http://127.0.0.1:4317"));
        assert_eq!((config.service_name.as_str(), config.sample_ratio), ("orders", 0.25));
        assert_eq!(config.resource, [("a".into(), "b".into()), ("c".into(), "d".into())]);
        assert_eq!(read("telemetry: {service_name: x}", &[("OTEL_SDK_DISABLED", "true")]).unwrap().telemetry.otlp_endpoint, None);
    }
}
