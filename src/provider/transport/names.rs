//! Names to addresses, held to the public internet for targets that are not `private`.

use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use hyper_util::client::legacy::connect::dns as hyper_dns;
use reqwest::Url;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use tower::{BoxError, Service};

use super::address_allowed;

/// The address that a URL holds in place of a name.
pub(super) fn literal(url: &Url) -> Option<IpAddr> {
    let host = url.host_str()?;
    host.trim_start_matches('[').trim_end_matches(']').parse().ok()
}

/// Names to addresses, as the machine is set up.
pub(super) struct SystemResolver;

impl Resolve for SystemResolver {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
            Ok(Box::new(found.collect::<Vec<_>>().into_iter()) as Addrs)
        })
    }
}

/// Leaves out what only a private target may call. Connections are made to these very addresses,
/// so there is no moment between check and use.
pub(super) struct PublicOnly(pub(super) Arc<dyn Resolve>);

/// None of a name's addresses is public.
#[derive(Debug, thiserror::Error)]
#[error("none of the name's addresses may be called")]
pub(super) struct TargetForbidden;

impl Resolve for PublicOnly {
    fn resolve(&self, name: Name) -> Resolving {
        let resolving = self.0.resolve(name);
        Box::pin(async move {
            let found: Vec<SocketAddr> = resolving.await?.collect();
            let allowed: Vec<SocketAddr> =
                found.iter().copied().filter(|found| address_allowed(found.ip())).collect();
            if allowed.is_empty() && !found.is_empty() {
                return Err(TargetForbidden.into());
            }
            Ok(Box::new(allowed.into_iter()) as Addrs)
        })
    }
}

/// The same resolver for the client of streams.
#[derive(Clone)]
pub(super) struct Names(pub(super) Arc<dyn Resolve>);

/// A name that could not be resolved; tells it from a connection that could not be made.
#[derive(Debug, thiserror::Error)]
#[error("the name cannot be resolved")]
pub(super) struct Unresolved(#[source] BoxError);

impl Service<hyper_dns::Name> for Names {
    type Response = Addrs;
    type Error = Unresolved;
    type Future = Pin<Box<dyn Future<Output = Result<Addrs, Unresolved>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Unresolved>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: hyper_dns::Name) -> Self::Future {
        let resolving = name.as_str().parse().map(|name| self.0.resolve(name));
        Box::pin(async move {
            let resolving = resolving
                .map_err(|error: <Name as std::str::FromStr>::Err| Unresolved(error.into()))?;
            resolving.await.map_err(Unresolved)
        })
    }
}
