//! Futures that were polled once.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::Poll;

/// A future that was polled once, with its output if that was enough: on a machine that has other things
/// to do a worker may be through before the poll is.
pub(crate) enum Begun<F: Future> {
    Pending(F),
    Ready(F::Output),
}

impl<F: Future + Unpin> Begun<F> {
    pub(crate) async fn new(mut future: F) -> Self {
        let polled = poll_fn(|context| Poll::Ready(Pin::new(&mut future).poll(context)));
        match polled.await {
            Poll::Pending => Self::Pending(future),
            Poll::Ready(output) => Self::Ready(output),
        }
    }

    pub(crate) async fn end(self) -> F::Output {
        match self {
            Self::Pending(future) => future.await,
            Self::Ready(output) => output,
        }
    }
}
