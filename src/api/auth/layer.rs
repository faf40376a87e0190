//! In front of every service of a listener: a call has an identity that may make it, or it ends
//! here, before a byte of its message is read. It takes the moment of the call's arrival along.

use std::future::{Future, Ready, ready};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::SystemTime;

use futures_util::future::Either;
use http::{Request, Response};
use tokio::time::Instant;
use tonic::body::Body;
use tower::{Layer, Service};

use super::{Authenticator, revocation};
use crate::api::context::Arrival;
use crate::api::server::Peer;
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

/// The answer of a call that was let in: as it comes, or a stream that is watched over.
type Answer<F, E> = Either<F, Pin<Box<dyn Future<Output = Result<Response<Body>, E>> + Send>>>;

impl<S> Service<Request<Body>> for Gate<S>
where
    S: Service<Request<Body>, Response = Response<Body>>,
    S::Future: Send + 'static,
    S::Error: 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Either<Answer<S::Future, S::Error>, Ready<Result<S::Response, S::Error>>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let certificates =
            request.extensions().get::<Peer>().and_then(|peer| peer.certificates.clone());
        // The leaf comes first; the others only vouch for it.
        let certificate = certificates.as_ref().and_then(|chain| chain.first());
        let (path, headers) = (request.uri().path(), request.headers());
        match self.authenticator.admit(path, headers, certificate, SystemTime::now()) {
            Ok(identity) => {
                let revoked = self.authenticator.revoked(path, headers, certificate, &identity);
                request.extensions_mut().insert(identity);
                request.extensions_mut().insert(Arrival(Instant::now()));
                let answered = self.inner.call(request);
                Either::Left(match revoked {
                    None => Either::Left(answered),
                    Some(revoked) => {
                        Either::Right(Box::pin(revocation::guarded(answered, revoked)))
                    }
                })
            }
            Err(refused) => {
                let response = status::of_refused_caller(&refused).into_http();
                Either::Right(ready(Ok(response)))
            }
        }
    }
}
