//! The future of `execute`: admitted at its first poll, run here or on the workers.

use std::borrow::Borrow;
use std::fmt;
use std::future::Future;
use std::hash::Hash;
use std::mem::ManuallyDrop;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use executor_core::engine::{Draft, InLine, Started, Strand, StreamOwner, Verdict};
use executor_core::{Completion, Envelope, ExecuteError, PolicyContext, RejectReason, Rejected};

use crate::registry::{Keyed, KeyedStrand, Registry};

/// How an execution comes to its stream: by a handle, or by the key, when it is polled.
pub(crate) trait Locate {
    type Owner: StreamOwner;

    fn locate(&self) -> impl Borrow<Arc<Strand<Self::Owner>>>;
}

impl<O: StreamOwner> Locate for &Arc<Strand<O>> {
    type Owner = O;

    #[inline(always)]
    fn locate(&self) -> impl Borrow<Arc<Strand<O>>> {
        *self
    }
}

/// A key, and where to look it up.
pub(crate) struct ByKey<'a, K: Send + Sync + 'static, S: Send + 'static> {
    pub(crate) registry: &'a Registry<K, S>,
    pub(crate) key: K,
}

impl<K, S> Locate for ByKey<'_, K, S>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    S: Send + 'static,
{
    type Owner = Keyed<K, S>;

    #[inline(always)]
    fn locate(&self) -> impl Borrow<KeyedStrand<K, S>> {
        self.registry.stream(&self.key)
    }
}

/// An execution of one message on one stream.
///
/// | message | wait | it is |
/// | --- | --- | --- |
/// | there | none | lazy: not polled yet, nothing has happened |
/// | gone | in line | waiting for a place, since the queue was full |
/// | gone | admitted | waiting for its outcome |
/// | gone | none | over |
#[must_use = "futures do nothing unless polled"]
pub(crate) struct Execute<L: Locate, M, H, T, E> {
    place: L,
    /// The message, until it is admitted or handed back.
    message: Draft<M, H>,
    /// Dropped by the execution's drop, so that what is dropped of it is small enough to be inlined.
    wait: ManuallyDrop<Option<Wait<L::Owner, M, H, T, E>>>,
}

impl<L: Locate, M, H, T, E> Drop for Execute<L, M, H, T, E> {
    /// A comparison in an execution that did not have to wait.
    #[inline]
    fn drop(&mut self) {
        if let Some(wait) = self.wait.take() {
            stop_waiting(wait);
        }
    }
}

#[cold]
#[inline(never)]
fn stop_waiting<O: StreamOwner, M, H, T, E>(wait: Wait<O, M, H, T, E>) {
    drop(wait);
}

/// What an execution waits for.
enum Wait<O: StreamOwner, M, H, T, E> {
    /// For a place in the queue, which the message takes when it is free.
    InLine(InLine<O, Verdict<M, H, T, E>>),
    Admitted(Completion<T, E, M>),
}

impl<L: Locate, M, H, T, E> Execute<L, M, H, T, E> {
    #[inline(always)]
    pub(crate) fn new(place: L, envelope: Envelope<M>, handler: H) -> Self {
        Self {
            place,
            message: Some((envelope, handler)),
            wait: ManuallyDrop::new(None),
        }
    }
}

// Nothing in it is pinned: the handler's future lives in its cell.
impl<L: Locate, M, H, T, E> Unpin for Execute<L, M, H, T, E> {}

impl<L, M, H, F, T, E> Future for Execute<L, M, H, T, E>
where
    L: Locate,
    M: Send + 'static,
    H: FnOnce(Envelope<M>, PolicyContext<<L::Owner as StreamOwner>::State>) -> F + Send + 'static,
    F: Future<Output = Result<T, E>> + Send + 'static,
    T: Send + 'static,
    E: Send + 'static,
{
    type Output = Result<T, ExecuteError<M, E>>;

    #[inline(always)]
    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        if this.wait.is_some() {
            return this.poll_later(context);
        }
        // Taken before anything else is done, while the compiler may know what it was made of.
        let Some((envelope, handler)) = this.message.take() else {
            return this.poll_later(context);
        };
        let strand = this.place.locate();
        match (strand.borrow()).start(envelope, handler, &mut this.message) {
            Started::Ready(outcome) => Poll::Ready(outcome.map_err(ExecuteError::Handler)),
            other => poll_started(
                strand.borrow(),
                &mut this.message,
                &mut this.wait,
                other,
                context,
            ),
        }
    }
}

impl<L: Locate, M, H, T, E> Execute<L, M, H, T, E> {
    #[cold]
    fn poll_later<F>(&mut self, context: &mut Context<'_>) -> Poll<Result<T, ExecuteError<M, E>>>
    where
        M: Send + 'static,
        H: FnOnce(Envelope<M>, PolicyContext<<L::Owner as StreamOwner>::State>) -> F
            + Send
            + 'static,
        F: Future<Output = Result<T, E>> + Send + 'static,
        T: Send + 'static,
        E: Send + 'static,
    {
        if !matches!(*self.wait, Some(Wait::InLine(_))) {
            // Without a look at the stream: the message keeps it.
            return poll_outcome(&mut self.wait, context);
        }
        let strand = self.place.locate();
        poll_wait(strand.borrow(), &mut self.message, &mut self.wait, context)
    }
}

/// Hands a message back that was refused for good.
pub(crate) fn refuse<O: StreamOwner, M, H>(
    strand: &Strand<O>,
    reason: RejectReason,
    message: Draft<M, H>,
) -> Rejected<Envelope<M>> {
    let (envelope, _) = message.expect("what is refused was not taken");
    strand.refuse(reason, envelope)
}

/// What follows a start that did not simply return.
#[cold]
fn poll_started<O, M, H, F, T, E>(
    strand: &Arc<Strand<O>>,
    message: &mut Draft<M, H>,
    wait: &mut Option<Wait<O, M, H, T, E>>,
    started: Started<T, E, M>,
    context: &mut Context<'_>,
) -> Poll<Result<T, ExecuteError<M, E>>>
where
    O: StreamOwner,
    M: Send + 'static,
    H: FnOnce(Envelope<M>, PolicyContext<O::State>) -> F + Send + 'static,
    F: Future<Output = Result<T, E>> + Send + 'static,
    T: Send + 'static,
    E: Send + 'static,
{
    match started {
        Started::Ready(outcome) => {
            return Poll::Ready(outcome.map_err(ExecuteError::Handler));
        }
        Started::Failed(failure) => {
            return Poll::Ready(Err(failure.into()));
        }
        Started::Admitted(completion) => *wait = Some(Wait::Admitted(completion)),
        Started::Refused(reason) if reason.is_full() => {
            *wait = Some(Wait::InLine(strand.wait_in_line(message)));
        }
        Started::Refused(reason) => {
            return Poll::Ready(Err(refuse(strand, reason, message.take()).into()));
        }
    }
    poll_wait(strand, message, wait, context)
}

/// A poll of an execution that was started before.
fn poll_wait<O, M, H, F, T, E>(
    strand: &Arc<Strand<O>>,
    message: &mut Draft<M, H>,
    wait: &mut Option<Wait<O, M, H, T, E>>,
    context: &mut Context<'_>,
) -> Poll<Result<T, ExecuteError<M, E>>>
where
    O: StreamOwner,
    M: Send + 'static,
    H: FnOnce(Envelope<M>, PolicyContext<O::State>) -> F + Send + 'static,
    F: Future<Output = Result<T, E>> + Send + 'static,
    T: Send + 'static,
    E: Send + 'static,
{
    if let Some(Wait::InLine(line)) = wait {
        let told = ready!(Pin::new(line).poll(context));
        *wait = None;
        let verdict = told.unwrap_or_else(|_| unreachable!("a waiter always tells"));
        match verdict {
            Ok(completion) => *wait = Some(Wait::Admitted(completion)),
            Err(handed_back) => {
                *message = handed_back;
                let rejected = refuse(strand, RejectReason::Closed, message.take());
                return Poll::Ready(Err(rejected.into()));
            }
        }
    }
    poll_outcome(wait, context)
}

/// A poll of an execution that was admitted.
fn poll_outcome<O: StreamOwner, M, H, T, E>(
    wait: &mut Option<Wait<O, M, H, T, E>>,
    context: &mut Context<'_>,
) -> Poll<Result<T, ExecuteError<M, E>>> {
    let Some(Wait::Admitted(completion)) = wait else {
        panic!("an execution is not polled after it was ready");
    };
    let outcome = ready!(Pin::new(completion).poll(context));
    *wait = None;
    Poll::Ready(outcome.map_err(ExecuteError::from))
}

impl<L: Locate, M, H, T, E> fmt::Debug for Execute<L, M, H, T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Without its stream, which may not be there yet and is not to be made for this.
        f.debug_struct("Execute")
            .field("is_lazy", &(self.message.is_some() && self.wait.is_none()))
            .finish_non_exhaustive()
    }
}
