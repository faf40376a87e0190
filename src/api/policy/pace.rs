//! In front of the control plane: a change that comes faster than changes are taken is refused
//! before its message is read, for in a storm most are, and a document may be a megabyte.

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::task::{Context, Poll};

use futures_util::future::Either;
use http::{Request, Response};
use tonic::body::Body;
use tonic::server::NamedService;
use tower::Service;

use super::status;
use crate::control::Library;

/// Calls that are held to the pace. What is refused here would be refused by the library too.
const CHANGES: &[&str] = &[
    "PushPolicy",
    "RollbackPolicy",
    "DeletePolicy",
    "PutPipeline",
    "RollbackPipeline",
    "DeletePipeline",
];

/// A service whose changes are held to the pace of the library.
#[derive(Clone)]
pub struct Paced<S> {
    inner: S,
    library: Library,
}

impl<S> Paced<S> {
    /// Holds the changes of a service to the pace of this library.
    pub fn new(inner: S, library: Library) -> Self {
        Self { inner, library }
    }
}

impl<S: NamedService> NamedService for Paced<S> {
    const NAME: &'static str = S::NAME;
}

impl<S> Service<Request<Body>> for Paced<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Either<S::Future, Ready<Result<Response<Body>, Infallible>>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let method = request.uri().path().rsplit('/').next().unwrap_or_default();
        if CHANGES.contains(&method)
            && let Err(busy) = self.library.may_change()
        {
            return Either::Right(ready(Ok(status::of_change(&busy).into_http())));
        }
        Either::Left(self.inner.call(request))
    }
}
