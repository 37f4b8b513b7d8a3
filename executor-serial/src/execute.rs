//! The future of `execute`: admitted at its first poll, run here or on the workers.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use executor_core::engine::{Slot, Started, Strand, StreamOwner};
use executor_core::{Completion, Envelope, ExecuteError, Failure, PolicyContext};
use std::sync::Arc;

/// How far an execution is.
enum Stage<O: StreamOwner, M, H, T, E> {
    /// Not polled yet: nothing has happened.
    Lazy(Option<(Envelope<M>, H)>),
    /// The queue was full: it waits in line for a place.
    InLine(Completion<Slot<O>>, Envelope<M>, H),
    /// It is admitted.
    Admitted(Completion<T, E, M>),
    /// The outcome was given.
    Over,
}

/// An execution of one message on one stream.
#[must_use = "futures do nothing unless polled"]
pub(crate) struct Execute<'a, O: StreamOwner, M, H, T, E> {
    strand: &'a Arc<Strand<O>>,
    stage: Stage<O, M, H, T, E>,
}

impl<'a, O: StreamOwner, M, H, T, E> Execute<'a, O, M, H, T, E> {
    #[inline]
    pub(crate) fn new(strand: &'a Arc<Strand<O>>, envelope: Envelope<M>, handler: H) -> Self {
        Self {
            strand,
            stage: Stage::Lazy(Some((envelope, handler))),
        }
    }
}

// Nothing in it is pinned: the handler's future lives in its cell.
impl<O: StreamOwner, M, H, T, E> Unpin for Execute<'_, O, M, H, T, E> {}

impl<O, M, H, F, T, E> Future for Execute<'_, O, M, H, T, E>
where
    O: StreamOwner,
    M: Send + 'static,
    H: FnOnce(Envelope<M>, PolicyContext<O::State>) -> F + Send + 'static,
    F: Future<Output = Result<T, E>> + Send + 'static,
    T: Send + 'static,
    E: Send + 'static,
{
    type Output = Result<T, ExecuteError<M, E>>;

    #[inline]
    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        if let Stage::Lazy(message) = &mut this.stage {
            match this.strand.start(message) {
                Started::Ready(outcome) => return Poll::Ready(outcome.map_err(ExecuteError::from)),
                Started::Admitted(completion) => this.stage = Stage::Admitted(completion),
                Started::Rejected(rejected) => return Poll::Ready(Err(rejected.into())),
                Started::Full(_, envelope, handler) => {
                    this.stage = Stage::InLine(this.strand.wait_for_room(), envelope, handler);
                }
            }
        }
        this.poll_admitted(context)
    }
}

impl<O, M, H, F, T, E> Execute<'_, O, M, H, T, E>
where
    O: StreamOwner,
    M: Send + 'static,
    H: FnOnce(Envelope<M>, PolicyContext<O::State>) -> F + Send + 'static,
    F: Future<Output = Result<T, E>> + Send + 'static,
    T: Send + 'static,
    E: Send + 'static,
{
    fn poll_admitted(&mut self, context: &mut Context<'_>) -> Poll<Result<T, ExecuteError<M, E>>> {
        if let Stage::InLine(line, ..) = &mut self.stage {
            let place: Result<Slot<O>, Failure> = std::task::ready!(Pin::new(line).poll(context));
            let Stage::InLine(_, envelope, handler) =
                std::mem::replace(&mut self.stage, Stage::Over)
            else {
                unreachable!("matched above");
            };
            let admitted = match place {
                Ok(slot) => slot.submit(envelope, handler, true),
                Err(_) => Err(self.strand.turned_away(envelope)),
            };
            match admitted {
                Ok(completion) => self.stage = Stage::Admitted(completion),
                Err(rejected) => return Poll::Ready(Err(rejected.into())),
            }
        }
        let Stage::Admitted(completion) = &mut self.stage else {
            panic!("an execution is not polled after it was ready");
        };
        let outcome = std::task::ready!(Pin::new(completion).poll(context));
        self.stage = Stage::Over;
        Poll::Ready(outcome.map_err(ExecuteError::from))
    }
}

impl<O: StreamOwner, M, H, T, E> fmt::Debug for Execute<'_, O, M, H, T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Execute")
            .field("stream", &self.strand)
            .finish_non_exhaustive()
    }
}
