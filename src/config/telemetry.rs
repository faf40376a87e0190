//! Traces and logs, from the file and from OpenTelemetry's own environment variables.

use http::Uri;

use super::TelemetryConfig;
use super::check::Checker;
use super::raw::RawTelemetry;

impl Checker<'_> {
    /// The file's word, else OpenTelemetry's own variables, else a default.
    pub(super) fn telemetry(&mut self, raw: RawTelemetry) -> TelemetryConfig {
        let written = raw.otlp_endpoint.as_deref();
        let written = written.and_then(|url| self.substituted("/telemetry/otlp_endpoint", url));
        let variable =
            |name: &str| (self.environment.variable)(name).filter(|value| !value.trim().is_empty());
        let disabled = variable("OTEL_SDK_DISABLED")
            .is_some_and(|v| v.eq_ignore_ascii_case("true"))
            || variable("OTEL_TRACES_EXPORTER").is_some_and(|v| v == "none");
        let endpoint = written
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
            .map(|(key, value)| (key.trim().to_owned(), unescape(value.trim())))
            .collect::<Vec<_>>();
        let named_there = resource
            .iter()
            .find(|(key, value)| key == "service.name" && !value.is_empty())
            .map(|(_, value)| value.clone());
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
                .or_else(|| variable("OTEL_SERVICE_NAME"))
                .or(named_there)
                .unwrap_or_else(|| "mainstay".to_owned()),
            resource: resource.into_iter().filter(|(key, _)| key != "service.name").collect(),
            sample_ratio: raw.sample_ratio.or(from_environment).unwrap_or(1.0).clamp(0.0, 1.0),
            log: raw.log.unwrap_or_else(|| "info".to_owned()),
            log_json: raw.log_json,
        }
    }
}

/// Values of `OTEL_RESOURCE_ATTRIBUTES` are percent-encoded.
fn unescape(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('%') {
        bytes.extend_from_slice(before.as_bytes());
        match after.get(..2).and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &after[2..];
            }
            None => {
                bytes.push(b'%');
                rest = after;
            }
        }
    }
    bytes.extend_from_slice(rest.as_bytes());
    String::from_utf8(bytes).unwrap_or_else(|_| text.to_owned())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use crate::config::{self, Config, Environment};
    use crate::document::Document;

    fn read(text: &str, variables: &[(&str, &str)]) -> Result<Config, String> {
        let document = Document::parse("mainstay.yaml", text).unwrap();
        let variable = |name: &str| {
            variables.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
        };
        let environment = Environment { variable: &variable, base_dir: Path::new("/") };
        config::read(&document, &environment).map_err(|problems| problems.to_string())
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
                ("OTEL_RESOURCE_ATTRIBUTES", "a=b%2Cb,c = d,service.name=x"),
            ],
        )
        .unwrap()
        .telemetry;
        assert_eq!(config.otlp_endpoint.as_deref(), Some("http://127.0.0.1:4317"));
        assert_eq!((config.service_name.as_str(), config.sample_ratio), ("orders", 0.25));
        assert_eq!(config.resource, [("a".into(), "b,b".into()), ("c".into(), "d".into())]);
        assert_eq!(
            read("telemetry: {service_name: x}", &[("OTEL_SDK_DISABLED", "true")])
                .unwrap()
                .telemetry
                .otlp_endpoint,
            None
        );
    }
}
