//! Waiting for many completions, in the order in which they were given.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use crate::completion::Completion;
use crate::error::Failure;

/// Waits for all completions and gives their outcomes in the order of the iterator.
///
/// It allocates two vectors, for the completions and for the outcomes. Nothing is given for nothing,
/// at once.
///
/// # Cancel safety
/// Dropping it detaches what is not finished.
pub fn join_all<T, E, M>(
    completions: impl IntoIterator<Item = Completion<T, E, M>>,
) -> JoinAll<T, E, M> {
    let pending: Vec<_> = completions.into_iter().collect();
    JoinAll {
        outcomes: Vec::with_capacity(pending.len()),
        pending: pending.into_iter(),
        next: None,
    }
}

/// The future of [`join_all`].
#[must_use = "futures do nothing unless polled"]
pub struct JoinAll<T, E = Infallible, M = ()> {
    outcomes: Vec<Result<T, Failure<E>>>,
    pending: std::vec::IntoIter<Completion<T, E, M>>,
    next: Option<Completion<T, E, M>>,
}

impl<T, E, M> Unpin for JoinAll<T, E, M> {}

impl<T, E, M> Future for JoinAll<T, E, M> {
    type Output = Vec<Result<T, Failure<E>>>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        // One after the other: the task is woken once for each that is not there yet, and those
        // that finished meanwhile are taken without being waited for.
        while let Some(mut completion) = this.next.take().or_else(|| this.pending.next()) {
            match Pin::new(&mut completion).poll(context) {
                Poll::Ready(outcome) => this.outcomes.push(outcome),
                Poll::Pending => {
                    this.next = Some(completion);
                    return Poll::Pending;
                }
            }
        }
        Poll::Ready(std::mem::take(&mut this.outcomes))
    }
}

impl<T, E, M> std::fmt::Debug for JoinAll<T, E, M> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("JoinAll")
            .field("finished", &self.outcomes.len())
            .finish_non_exhaustive()
    }
}
