//! Targets, from what is configured to what can be called.

use std::sync::Arc;

use anyhow::Context as _;
use http::header::{HeaderName, HeaderValue};

use crate::config::secret::{self, SecretError};
use crate::config::{Config, EMBEDDINGS, RawDialect, RawHttp, TargetConfig};
use crate::document::{Document, Problem, Problems};
use crate::engine::gates::Gate;
use crate::engine::targets::{Price, Target, Targets};
use crate::provider::transport::{Endpoint, EndpointSettings, HttpVersions};
use crate::provider::{Dialect, dialect};

/// The targets of a configuration, ready to be called.
///
/// # Errors
/// All that keep a target from being called, where they stand in the configuration.
pub(super) fn targets(config: &Config, document: &Document) -> Result<Targets, Problems> {
    let (mut targets, mut problems) = (Vec::new(), Problems::default());
    for (name, target) in &config.targets {
        match self::target(name, target) {
            Ok(target) => targets.push(target),
            Err(error) => {
                let key = name.replace('~', "~0").replace('/', "~1");
                let path = match error.downcast_ref::<SecretError>() {
                    Some(_) => format!("/targets/{key}/credential"),
                    None => format!("/targets/{key}"),
                };
                let place = document.position_of(&path);
                problems.push(Problem::error(path, place, format!("{error:#}")));
            }
        }
    }
    match problems.usable() {
        true => Ok(Targets::new(targets, config.groups.clone(), &config.default_targets)),
        false => Err(problems.sorted()),
    }
}

/// What makes vectors of prompts, and the bytes of vectors in memory.
pub(super) fn embeddings(config: &Config) -> anyhow::Result<Option<(Arc<Target>, usize)>> {
    let Some((target, bytes)) = &config.cache.embeddings else { return Ok(None) };
    let target = self::target(&EMBEDDINGS.into(), target).context("`cache.embeddings`")?;
    Ok(Some((Arc::new(target), *bytes)))
}

fn target(name: &Arc<str>, config: &TargetConfig) -> anyhow::Result<Target> {
    let dialect = dialect_of(config)?;
    let mut headers = http::HeaderMap::new();
    for (name, value) in &config.headers {
        headers.insert(HeaderName::try_from(name.as_str())?, HeaderValue::from_str(value)?);
    }
    let endpoint = Endpoint::new(EndpointSettings {
        dialect,
        base_url: config.base_url.as_deref().unwrap_or(dialect.default_base_url()),
        model: &config.model,
        path: config.path.as_deref(),
        query: &config.query,
        headers,
        credential: credential(config)?,
        connect_timeout: config.connect_timeout,
        versions: match config.http {
            RawHttp::Auto => HttpVersions::Auto,
            RawHttp::Http2 => HttpVersions::Http2Only,
            RawHttp::Http1 => HttpVersions::Http1Only,
        },
        response_bytes_max: config.response_bytes_max,
        idle_connections_max: config.in_flight_max as usize,
        private: config.private,
    })?;
    let (input, cached_input, output) = config.price;
    Ok(Target {
        name: name.clone(),
        dialect,
        provider: config.provider.clone().unwrap_or_else(|| dialect.provider().to_owned()),
        model: config.model.clone(),
        endpoint,
        attempt_timeout: config.attempt_timeout,
        pace: config.pace,
        price: Price { input, cached_input, output },
        context_window: config.context_window,
        max_output_tokens: config.max_output_tokens,
        lacks: config.lacks.clone(),
        extra: config.extra.clone(),
        gate: Gate::new(name.clone(), config.gate()),
    })
}

fn dialect_of(config: &TargetConfig) -> anyhow::Result<&'static dyn Dialect> {
    let name = match config.dialect {
        RawDialect::Openai => "openai",
        RawDialect::Anthropic => "anthropic",
        RawDialect::Gemini => "gemini",
    };
    dialect(name).context("unknown dialect")
}

/// The header that a target's credential is sent in; the secret is fetched anew.
pub(super) fn credential(
    config: &TargetConfig,
) -> anyhow::Result<Option<(HeaderName, HeaderValue)>> {
    let Some(reference) = &config.credential else { return Ok(None) };
    let secret = secret::fetch(reference)?;
    let own = dialect_of(config)?.credential_header();
    let (header, prefix) = match &config.credential_header {
        Some((header, prefix)) => (header.as_str(), prefix.as_str()),
        None => (own.name, own.prefix),
    };
    let mut value = HeaderValue::from_str(&format!("{prefix}{}", secret.expose()))
        .map_err(|_| anyhow::anyhow!("its credential holds characters that no header may have"))?;
    value.set_sensitive(true);
    Ok(Some((HeaderName::try_from(header)?, value)))
}
