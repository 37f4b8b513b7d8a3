//! A handle to one stream.

use std::fmt;
use std::future::Future;
use std::hash::Hash;
use std::sync::Arc;

use executor_core::engine::{Draft, Receipt, Slot, block_on, must_not_block};
use executor_core::{
    Batch, Envelope, ExecuteError, PolicyContext, RejectReason, Rejected, Submission,
};

use crate::execute::{Execute, refuse};
use crate::registry::{Keyed, KeyedStrand, Life};

/// A handle to one stream: the same operations as the executor's, without the look-up of the key.
///
/// A stream with a handle is not evicted, and keeps its state until a handler panics. The same goes
/// for a stream with a delayed message, and for one of whose handlers somebody keeps a waker.
pub struct Stream<K: Send + Sync + 'static, S: Send + 'static = ()> {
    pub(crate) strand: KeyedStrand<K, S>,
    /// None in a handle that lives for one call of the executor.
    life: Option<Arc<Life>>,
}

impl<K: Send + Sync + 'static, S: Send + 'static> Clone for Stream<K, S> {
    fn clone(&self) -> Self {
        Self {
            strand: Arc::clone(&self.strand),
            life: self.life.clone(),
        }
    }
}

impl<K, S> Stream<K, S>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    S: Send + 'static,
{
    #[inline]
    pub(crate) fn new(strand: KeyedStrand<K, S>, life: Option<Arc<Life>>) -> Self {
        Self { strand, life }
    }

    /// The key.
    #[must_use]
    pub fn key(&self) -> &K {
        &self.strand.owner().key
    }

    /// Messages queued and not started.
    #[must_use]
    pub fn depth(&self) -> usize {
        self.strand.depth()
    }

    /// Whether a message is queued, running or waiting.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        self.strand.is_busy()
    }

    /// Handlers that returned `Ok` so far.
    #[must_use]
    pub fn handled(&self) -> u64 {
        self.strand.handled()
    }

    /// Admits a message at the first poll and waits for its outcome.
    ///
    /// On an idle stream the handler starts inside that poll, on the caller; when it is not ready
    /// the workers carry it on. When the queue is full its message waits in line first, and is queued
    /// in its turn, whether this is polled then or not.
    /// On a busy stream it is queued; outside of handlers and runtimes that poll looks for two or three
    /// microseconds whether a worker is done with it, so that neither has to sleep and be woken.
    ///
    /// Inside a handler it may wait for itself. One case is found, and refused: a call chain, in
    /// which a handler executes on a stream that it runs under, directly or by way of the handlers
    /// that wait for it. Not found, and without end, are two messages that cross (a handler on A
    /// executes on B while one on B executes on A), and a handler that awaits in any other way what
    /// it sent to its own stream: by the completion of a [`Stream::submit`], or by a task that
    /// executes there.
    ///
    /// # Cancel safety
    /// Dropped before the first poll, nothing has happened. Dropped while it waits for room, the
    /// message was not admitted. Later, it is handled all the same and its result is dropped.
    ///
    /// # Errors
    /// [`ExecuteError`]. [`ExecuteError::Rejected`] has the envelope inside: the executor is closed
    /// ([`RejectReason::Closed`]), or the call chain comes back to a stream that it runs under
    /// ([`RejectReason::WouldDeadlock`], with the chain). A full queue is waited for.
    ///
    /// # Panics
    /// When polled again after it was ready.
    ///
    /// # Examples
    /// ```
    /// # use executor_serial::{Envelope, PolicyContext, SerialExecutor, WorkerCore};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let core = WorkerCore::threads(1).build()?;
    /// let accounts = SerialExecutor::builder(&core).state(|_account: &u64| 0).build()?;
    /// let deposit = |cents: Envelope<u64>, mut context: PolicyContext<u64>| async move {
    ///     *context.state() += cents.payload;
    ///     Ok::<_, std::convert::Infallible>(*context.state())
    /// };
    /// assert_eq!(accounts.stream(&7).execute(Envelope::new(500), deposit).await?, 500);
    /// # Ok(()) }
    /// ```
    #[inline]
    pub fn execute<M, H, F, T, E>(
        &self,
        envelope: Envelope<M>,
        handler: H,
    ) -> impl Future<Output = Result<T, ExecuteError<M, E>>> + Send + Unpin + use<'_, M, H, F, T, E, K, S>
    where
        M: Send + 'static,
        H: FnOnce(Envelope<M>, PolicyContext<S>) -> F + Send + 'static,
        F: Future<Output = Result<T, E>> + Send + 'static,
        T: Send + 'static,
        E: Send + 'static,
    {
        Execute::<_, M, H, T, E>::new(&self.strand, envelope, handler)
    }

    /// Admits a message now, to run on the workers.
    ///
    /// A handler may submit to its own stream, but must not await the completion: its message waits
    /// for the handler to end.
    ///
    /// # Blocking
    /// When the queue is full it blocks until there is room, but only on a thread where that is
    /// harmless: not on a worker, in a handler or in an async runtime, where it is refused.
    ///
    /// # Errors
    /// The envelope comes back with the reason.
    #[inline(always)]
    pub fn submit<M, H, F, T, E>(&self, envelope: Envelope<M>, handler: H) -> Submission<T, E, M>
    where
        M: Send + 'static,
        H: FnOnce(Envelope<M>, PolicyContext<S>) -> F + Send + 'static,
        F: Future<Output = Result<T, E>> + Send + 'static,
        T: Send + 'static,
        E: Send + 'static,
    {
        self.admit(&mut Some((envelope, handler)))
    }

    /// As [`Stream::submit`], without a completion: for messages whose results nobody wants.
    ///
    /// It costs less than to drop the completion.
    ///
    /// # Blocking
    /// As [`Stream::submit`].
    ///
    /// # Errors
    /// The envelope comes back with the reason.
    #[inline(always)]
    pub fn submit_detached<M, H, F, T, E>(
        &self,
        envelope: Envelope<M>,
        handler: H,
    ) -> Result<(), Rejected<Envelope<M>>>
    where
        M: Send + 'static,
        H: FnOnce(Envelope<M>, PolicyContext<S>) -> F + Send + 'static,
        F: Future<Output = Result<T, E>> + Send + 'static,
        T: Send + 'static,
        E: Send + 'static,
    {
        self.admit(&mut Some((envelope, handler)))
    }

    /// Admits a message now, or when there is room if this thread may wait for it.
    #[inline(always)]
    fn admit<M, H, F, T, E, R>(&self, message: &mut Draft<M, H>) -> Result<R, Rejected<Envelope<M>>>
    where
        M: Send + 'static,
        H: FnOnce(Envelope<M>, PolicyContext<S>) -> F + Send + 'static,
        F: Future<Output = Result<T, E>> + Send + 'static,
        T: Send + 'static,
        E: Send + 'static,
        R: Receipt<T, E, M>,
    {
        match self.strand.enqueue(message, false) {
            Ok(receipt) => Ok(receipt),
            Err(reason) if reason.is_full() && !must_not_block() => {
                let place = self.strand.wait_for_room().and_then(block_on);
                self.use_place(place, message.take())
            }
            Err(reason) => Err(self.refuse(reason, message.take())),
        }
    }

    /// Admits a message now, without waiting, to run on the workers.
    ///
    /// # Errors
    /// The envelope comes back with the reason.
    #[inline(always)]
    pub fn try_submit<M, H, F, T, E>(
        &self,
        envelope: Envelope<M>,
        handler: H,
    ) -> Submission<T, E, M>
    where
        M: Send + 'static,
        H: FnOnce(Envelope<M>, PolicyContext<S>) -> F + Send + 'static,
        F: Future<Output = Result<T, E>> + Send + 'static,
        T: Send + 'static,
        E: Send + 'static,
    {
        let mut message = Some((envelope, handler));
        match self.strand.enqueue(&mut message, false) {
            Ok(completion) => Ok(completion),
            Err(reason) => Err(self.refuse(reason, message)),
        }
    }

    /// Waits for room, in line, and then admits a message to run on the workers.
    ///
    /// It is given a place in its turn, and queues the message there when it is polled.
    ///
    /// # Cancel safety
    /// Dropped before it is ready, the message was not admitted, and the place goes to the next.
    ///
    /// # Errors
    /// The envelope comes back with the reason: the executor is closed, or a handler of this stream,
    /// or one that it waits for, would wait for itself ([`RejectReason::WouldDeadlock`]).
    pub async fn submit_wait<M, H, F, T, E>(
        &self,
        envelope: Envelope<M>,
        handler: H,
    ) -> Submission<T, E, M>
    where
        M: Send + 'static,
        H: FnOnce(Envelope<M>, PolicyContext<S>) -> F + Send + 'static,
        F: Future<Output = Result<T, E>> + Send + 'static,
        T: Send + 'static,
        E: Send + 'static,
    {
        let mut message = Some((envelope, handler));
        match self.strand.enqueue(&mut message, false) {
            Ok(completion) => Ok(completion),
            Err(reason) if reason.is_full() => {
                let place = match self.strand.wait_for_room() {
                    Ok(in_line) => in_line.await,
                    Err(reason) => Err(reason),
                };
                self.use_place(place, message)
            }
            Err(reason) => Err(self.refuse(reason, message)),
        }
    }

    /// Admits many messages as one: contiguous and in order.
    ///
    /// # Errors
    /// What did not fit comes back, in order, inside the [`Batch`].
    pub fn submit_batch<M, H, F, T, E>(
        &self,
        envelopes: impl IntoIterator<Item = Envelope<M>>,
        handler: H,
    ) -> Batch<T, E, M>
    where
        M: Send + 'static,
        H: FnOnce(Envelope<M>, PolicyContext<S>) -> F + Clone + Send + 'static,
        F: Future<Output = Result<T, E>> + Send + 'static,
        T: Send + 'static,
        E: Send + 'static,
    {
        self.strand.enqueue_batch(envelopes, handler)
    }

    /// Hands a refused message back.
    #[cold]
    fn refuse<M, H>(&self, reason: RejectReason, message: Draft<M, H>) -> Rejected<Envelope<M>> {
        refuse(&self.strand, reason, message)
    }

    #[cold]
    fn use_place<M, H, F, T, E, R>(
        &self,
        place: Result<Slot<Keyed<K, S>>, RejectReason>,
        mut message: Draft<M, H>,
    ) -> Result<R, Rejected<Envelope<M>>>
    where
        M: Send + 'static,
        H: FnOnce(Envelope<M>, PolicyContext<S>) -> F + Send + 'static,
        F: Future<Output = Result<T, E>> + Send + 'static,
        T: Send + 'static,
        E: Send + 'static,
        R: Receipt<T, E, M>,
    {
        let placed = place.and_then(|slot| slot.submit(&mut message));
        placed.map_err(|reason| self.refuse(reason, message))
    }
}

impl<K: Send + Sync + 'static, S: Send + 'static> fmt::Debug for Stream<K, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.strand.fmt(f)
    }
}
