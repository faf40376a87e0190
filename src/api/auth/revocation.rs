//! Streams of callers who are let in no more.
//!
//! Who may call is asked when a call comes in, and a stream may outlast the answer by a day. So the
//! stream of a caller with credentials keeps what was shown, asks again whenever the files of access
//! mean something new or a token's time ends, and is over the moment that the answer is no. A
//! unary call is carried to its end: its caller was let in when it was made, and what it has begun
//! is paid for.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderMap, Response};
use http_body::{Frame, SizeHint};
use rustls::pki_types::CertificateDer;
use tokio::sync::watch;
use tonic::body::Body;

use super::{Authenticator, Identity, Refused, bearer, jwt, streams};
use crate::api::status;

/// Between two questions about a token whose time should be over: clocks are set now and then.
const AGAIN: Duration = Duration::from_millis(100);
/// Asked again by then at the latest; also keeps a time far away from being no time at all.
const LATEST: Duration = Duration::from_secs(3_600);

/// Resolves when the caller of a stream may not go on with it.
pub(super) type Revoked = Pin<Box<dyn Future<Output = Refused> + Send>>;

/// What the caller of a stream has shown.
struct Shown {
    authenticator: Authenticator,
    path: String,
    headers: HeaderMap,
    certificate: Option<CertificateDer<'static>>,
    identity: Arc<Identity>,
}

impl Authenticator {
    /// What to wait for while a stream goes on; nothing for other calls, and for callers whom
    /// nobody asks.
    pub(super) fn revoked(
        &self,
        path: &str,
        headers: &HeaderMap,
        certificate: Option<&CertificateDer<'_>>,
        identity: &Arc<Identity>,
    ) -> Option<Revoked> {
        if !streams(path) || self.sources.is_none() {
            return None;
        }
        let mut kept = HeaderMap::new();
        for value in headers.get_all(AUTHORIZATION) {
            kept.append(AUTHORIZATION, value.clone());
        }
        let shown = Shown {
            authenticator: self.clone(),
            path: path.to_owned(),
            headers: kept,
            certificate: certificate.map(|one| one.clone().into_owned()),
            identity: identity.clone(),
        };
        Some(Box::pin(shown.revoked()))
    }
}

impl Shown {
    async fn revoked(self) -> Refused {
        // Receivers of our own: a change between two looks is not lost.
        let sources = self.authenticator.sources.clone();
        let (mut callers, mut keys) = match sources {
            Some(sources) => (sources.callers, sources.jwt.map(|(keys, _)| keys)),
            None => (None, None),
        };
        loop {
            if let Some(callers) = &mut callers {
                callers.mark_unchanged();
            }
            if let Some(keys) = &mut keys {
                keys.mark_unchanged();
            }
            if let Some(refused) = self.refused(SystemTime::now()) {
                return refused;
            }
            let over = self.time_left(SystemTime::now());
            tokio::select! {
                () = changed(&mut callers) => {}
                () = changed(&mut keys) => {}
                () = tokio::time::sleep(over.clamp(AGAIN, LATEST)) => {}
            }
        }
    }

    /// Whether the same credentials would make the same call now, as the same caller.
    fn refused(&self, now: SystemTime) -> Option<Refused> {
        let certificate = self.certificate.as_ref();
        match self.authenticator.admit(&self.path, &self.headers, certificate, now) {
            Ok(identity)
                if *identity.name == *self.identity.name
                    && *identity.tenant == *self.identity.tenant =>
            {
                None
            }
            Ok(_) => Some(Refused::Invalid),
            Err(refused) => Some(refused),
        }
    }

    /// Until the token's own end, where it has one.
    fn time_left(&self, now: SystemTime) -> Duration {
        let rules = self.authenticator.sources.as_ref().and_then(|one| one.jwt.as_ref());
        let token = self.headers.get(AUTHORIZATION).and_then(|value| bearer(value.as_bytes()).ok());
        let (Some((_, rules)), Some(token)) = (rules, token) else { return LATEST };
        let end = jwt::end(token, rules);
        end.map_or(LATEST, |end| end.duration_since(now).unwrap_or_default())
    }
}

/// Resolves when the file means something new; never where there is none.
async fn changed<T>(file: &mut Option<watch::Receiver<T>>) {
    let told = match file {
        Some(file) => file.changed().await.is_ok(),
        None => false,
    };
    if !told {
        // Nobody reads the file (any more: the service is going down).
        std::future::pending::<()>().await;
    }
}

/// Waits for the answer of a streaming call; the stream ends when its caller is revoked.
pub(super) async fn guarded<E>(
    answered: impl Future<Output = Result<Response<Body>, E>>,
    mut revoked: Revoked,
) -> Result<Response<Body>, E> {
    tokio::select! {
        biased;
        refused = &mut revoked => Ok(status::of_refused_caller(&refused).into_http()),
        response = answered => {
            let guard = |inner| Body::new(Guarded { inner, revoked: Some(revoked) });
            Ok(response?.map(guard))
        }
    }
}

/// The body of a stream. When its caller is revoked the rest of it is dropped, and with it what
/// makes it, and its end says why.
struct Guarded {
    inner: Body,
    /// `None` when it has been said.
    revoked: Option<Revoked>,
}

impl http_body::Body for Guarded {
    type Data = Bytes;
    type Error = tonic::Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let Some(revoked) = &mut self.revoked else { return Poll::Ready(None) };
        if let Poll::Ready(refused) = revoked.as_mut().poll(cx) {
            self.revoked = None;
            self.inner = Body::empty();
            let response: Response<Body> = status::of_refused_caller(&refused).into_http();
            let (mut head, _) = response.into_parts();
            head.headers.remove(CONTENT_TYPE);
            return Poll::Ready(Some(Ok(Frame::trailers(head.headers))));
        }
        http_body::Body::poll_frame(Pin::new(&mut self.inner), cx)
    }

    fn is_end_stream(&self) -> bool {
        self.revoked.is_none() || http_body::Body::is_end_stream(&self.inner)
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}
