//! Streams with an end.
//!
//! The server library does not hold `grpc-timeout` against the body of a response stream, so every
//! stream that leaves here carries its own deadline.

use futures_util::{Stream, StreamExt, stream};
use tokio::time::{Instant, sleep_until};
use tonic::{Code, Status};

/// The stream, ended with `DEADLINE_EXCEEDED` at the deadline.
pub fn until<T: Send + 'static>(
    items: impl Stream<Item = Result<T, Status>> + Send + 'static,
    deadline: Instant,
) -> impl Stream<Item = Result<T, Status>> + Send {
    let start = (Box::pin(items), Box::pin(sleep_until(deadline)), false);
    stream::unfold(start, |(mut items, mut sleep, over)| async move {
        if over {
            return None;
        }
        // Both arms are cancel-safe: an item that was not taken stays in the stream.
        let item = tokio::select! {
            biased;
            item = items.next() => item?,
            () = &mut sleep => {
                Err(Status::new(Code::DeadlineExceeded, "the deadline of the stream is over"))
            }
        };
        let over = item.is_err();
        Some((item, (items, sleep, over)))
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn ends_by_itself_or_by_its_deadline() {
        let soon = Instant::now() + Duration::from_secs(5);
        let short = stream::iter([Ok(1), Ok(2)]);
        assert_eq!(until(short, soon).count().await, 2);
        let endless = stream::iter([Ok(1)]).chain(stream::pending());
        let items: Vec<Result<i32, Status>> = until(endless, soon).collect().await;
        assert_eq!(items.len(), 2);
        assert_eq!(items[1].as_ref().unwrap_err().code(), Code::DeadlineExceeded);
        assert_eq!(Instant::now(), soon);
    }
}
