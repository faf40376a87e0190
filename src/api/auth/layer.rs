//! In front of every service of a listener: a call has an identity that may make it, or it ends
//! here, before a byte of its message is read. It takes the moment of the call's arrival along.

use std::future::{Ready, ready};
use std::task::{Context, Poll};
use std::time::SystemTime;

use futures_util::future::Either;
use http::{Request, Response};
use tokio::time::Instant;
use tonic::body::Body;
use tonic::transport::server::{TcpConnectInfo, TlsConnectInfo};
use tower::{Layer, Service};

use super::Authenticator;
use crate::api::context::Arrival;
use crate::api::status;

/// Puts [`Gate`] in front of services.
#[derive(Clone)]
pub struct AccessLayer(Authenticator);

impl AccessLayer {
    /// A layer that asks this authenticator.
    pub fn new(authenticator: Authenticator) -> Self {
        Self(authenticator)
    }
}

impl<S> Layer<S> for AccessLayer {
    type Service = Gate<S>;

    fn layer(&self, inner: S) -> Gate<S> {
        Gate { inner, authenticator: self.0.clone() }
    }
}

/// Lets calls through that may be made, with their identity.
#[derive(Clone)]
pub struct Gate<S> {
    inner: S,
    authenticator: Authenticator,
}

impl<S> Service<Request<Body>> for Gate<S>
where
    S: Service<Request<Body>, Response = Response<Body>>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Either<S::Future, Ready<Result<S::Response, S::Error>>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let certificates = request
            .extensions()
            .get::<TlsConnectInfo<TcpConnectInfo>>()
            .and_then(TlsConnectInfo::peer_certs);
        // The leaf comes first; the others only vouch for it.
        let certificate = certificates.as_ref().and_then(|chain| chain.first());
        let admitted = self.authenticator.admit(
            request.uri().path(),
            request.headers(),
            certificate,
            SystemTime::now(),
        );
        match admitted {
            Ok(identity) => {
                request.extensions_mut().insert(identity);
                request.extensions_mut().insert(Arrival(Instant::now()));
                Either::Left(self.inner.call(request))
            }
            Err(refused) => {
                let response = status::of_refused_caller(&refused).into_http();
                Either::Right(ready(Ok(response)))
            }
        }
    }
}
