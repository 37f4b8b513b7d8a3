//! The future of `execute`: admitted at its first poll, run here or on the workers.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use executor_core::engine::{Slot, Started, Strand, StreamOwner};
use executor_core::{Completion, Envelope, ExecuteError, Failure, PolicyContext};

/// An execution of one message on one stream.
#[must_use = "futures do nothing unless polled"]
pub(crate) struct Execute<'a, O: StreamOwner, M, H, T, E> {
    strand: &'a Arc<Strand<O>>,
    /// The message, until it is admitted or handed back.
    message: Option<(Envelope<M>, H)>,
    stage: Stage<O, M, T, E>,
}

/// How far an execution is.
enum Stage<O: StreamOwner, M, T, E> {
    /// Not polled yet: nothing has happened.
    Lazy,
    /// The queue was full: it waits in line for a place.
    InLine(Completion<Slot<O>>),
    /// It is admitted.
    Admitted(Completion<T, E, M>),
    /// The outcome was given.
    Over,
}

impl<'a, O: StreamOwner, M, H, T, E> Execute<'a, O, M, H, T, E> {
    #[inline(always)]
    pub(crate) fn new(strand: &'a Arc<Strand<O>>, envelope: Envelope<M>, handler: H) -> Self {
        Self {
            strand,
            message: Some((envelope, handler)),
            stage: Stage::Lazy,
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

    #[inline(always)]
    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        if !matches!(this.stage, Stage::Lazy) {
            return this.poll_admitted(context);
        }
        match this.strand.start(&mut this.message) {
            Started::Ready(outcome) => {
                this.stage = Stage::Over;
                Poll::Ready(outcome.map_err(ExecuteError::Handler))
            }
            other => this.poll_started(other, context),
        }
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
    #[cold]
    fn poll_started(
        &mut self,
        started: Started<M, H, T, E>,
        context: &mut Context<'_>,
    ) -> Poll<Result<T, ExecuteError<M, E>>> {
        match started {
            Started::Ready(outcome) => {
                self.stage = Stage::Over;
                return Poll::Ready(outcome.map_err(ExecuteError::Handler));
            }
            Started::Failed(failure) => {
                self.stage = Stage::Over;
                return Poll::Ready(Err(failure.into()));
            }
            Started::Admitted(completion) => self.stage = Stage::Admitted(completion),
            Started::Rejected(rejected) => {
                self.stage = Stage::Over;
                return Poll::Ready(Err(rejected.into()));
            }
            Started::Full(_, envelope, handler) => {
                self.message = Some((envelope, handler));
                self.stage = Stage::InLine(self.strand.wait_for_room());
            }
        }
        self.poll_admitted(context)
    }

    fn poll_admitted(&mut self, context: &mut Context<'_>) -> Poll<Result<T, ExecuteError<M, E>>> {
        if let Stage::InLine(line) = &mut self.stage {
            let place: Result<Slot<O>, Failure> = ready!(Pin::new(line).poll(context));
            self.stage = Stage::Over;
            let (envelope, handler) = self.message.take().expect("it waits with its message");
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
        let outcome = ready!(Pin::new(completion).poll(context));
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
