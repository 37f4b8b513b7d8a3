//! The serial executor: a stream for each key.

use std::fmt;
use std::future::Future;
use std::hash::Hash;
use std::sync::Arc;
use std::time::Duration;

use executor_core::{
    Batch, Envelope, ExecuteError, Executor, PolicyContext, Rejected, Report, Shutdown, Submission,
    Totals, WorkerCore,
};

use crate::builder::SerialBuilder;
use crate::execute::{ByKey, Execute};
use crate::registry::{Life, Registry, SerialMetrics};
use crate::stream::Stream;

/// Handles messages of one key one after another, in the order of admission, and messages of
/// different keys in parallel.
///
/// Cheap to clone. Every operation by key looks the stream up; [`SerialExecutor::stream`] gives a
/// handle that skips this.
///
/// A stream's state is a cache: it is made at the stream's first message, again after a handler
/// panicked, and again after the stream was evicted, which happens when there are more than
/// [`SerialBuilder::resident_streams`]. What must last belongs in storage and is loaded again in
/// [`SerialBuilder::try_state`], or a [`Stream`] is kept, which keeps the stream resident.
pub struct SerialExecutor<K: Send + Sync + 'static, S: Send + 'static = ()> {
    registry: Arc<Registry<K, S>>,
    life: Arc<Life>,
}

impl<K: Send + Sync + 'static, S: Send + 'static> Clone for SerialExecutor<K, S> {
    fn clone(&self) -> Self {
        Self {
            registry: Arc::clone(&self.registry),
            life: Arc::clone(&self.life),
        }
    }
}

impl<K: Hash + Eq + Clone + Send + Sync + 'static> SerialExecutor<K> {
    /// Builds an executor whose streams run on `core`; [`SerialBuilder::state`] gives them a state.
    pub fn builder(core: &WorkerCore) -> SerialBuilder<K> {
        SerialBuilder::new(core)
    }
}

impl<K, S> SerialExecutor<K, S>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    S: Send + 'static,
{
    pub(crate) fn new(registry: Arc<Registry<K, S>>) -> Self {
        let life = Arc::new(Life(Arc::clone(&registry.common.shared)));
        Self { registry, life }
    }

    /// A handle to the stream of `key`, which is made if there is none; it is resident while the
    /// handle is kept.
    #[inline]
    pub fn stream(&self, key: &K) -> Stream<K, S> {
        Stream::new(self.registry.stream(key), Some(Arc::clone(&self.life)))
    }

    /// The same for one call, during which this handle is there.
    #[inline]
    pub(crate) fn brief(&self, key: &K) -> Stream<K, S> {
        Stream::new(self.registry.stream(key), None)
    }

    /// Admits a message at the first poll and waits for its outcome; see [`Stream::execute`].
    ///
    /// Inside a handler it may wait for itself. A call chain that comes back to a stream that it
    /// runs under is found; two messages that cross, and a handler that awaits in any other way
    /// what it sent to its own stream, are not, and wait for ever.
    ///
    /// # Cancel safety
    /// As [`Stream::execute`].
    ///
    /// # Errors
    /// [`ExecuteError`]. [`ExecuteError::Rejected`] has the envelope inside: the executor is
    /// closed, or the call chain comes back to a stream that it runs under
    /// ([`RejectReason::WouldDeadlock`](executor_core::RejectReason::WouldDeadlock)).
    #[inline]
    pub fn execute<M, H, F, T, E>(
        &self,
        key: K,
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
        let registry = &*self.registry;
        Execute::<_, M, H, T, E>::new(ByKey { registry, key }, envelope, handler)
    }

    /// Admits a message now, to run on the workers; see [`Stream::submit`].
    ///
    /// # Blocking
    /// When the queue is full, on a plain thread, until there is room.
    ///
    /// # Errors
    /// The envelope comes back with the reason.
    #[inline]
    pub fn submit<M, H, F, T, E>(
        &self,
        key: K,
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
        self.brief(&key).submit(envelope, handler)
    }

    /// Admits a message whose result nobody wants; see [`Stream::submit_detached`].
    ///
    /// # Blocking
    /// As [`SerialExecutor::submit`].
    ///
    /// # Errors
    /// The envelope comes back with the reason.
    #[inline]
    pub fn submit_detached<M, H, F, T, E>(
        &self,
        key: K,
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
        self.brief(&key).submit_detached(envelope, handler)
    }

    /// Admits a message now, without waiting; see [`Stream::try_submit`].
    ///
    /// # Errors
    /// The envelope comes back with the reason.
    #[inline]
    pub fn try_submit<M, H, F, T, E>(
        &self,
        key: K,
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
        self.brief(&key).try_submit(envelope, handler)
    }

    /// Waits for room, and then admits a message; see [`Stream::submit_wait`].
    ///
    /// # Errors
    /// The envelope comes back with the reason.
    pub async fn submit_wait<M, H, F, T, E>(
        &self,
        key: K,
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
        self.brief(&key).submit_wait(envelope, handler).await
    }

    /// Admits many messages of one key as one; see [`Stream::submit_batch`].
    pub fn submit_batch<M, H, F, T, E>(
        &self,
        key: K,
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
        self.brief(&key).submit_batch(envelopes, handler)
    }

    /// Waits until everything that was admitted before, and everything its handlers admit, is
    /// handled. New messages are accepted meanwhile, and not waited for; nor is what is delayed.
    ///
    /// `deadline` is how long the caller waits at most, by the clock of the core; [`Duration::MAX`]
    /// is no limit. When it passes first the report is incomplete, and everything goes on as
    /// before.
    ///
    /// Called from inside a handler it returns at once, with what is still running.
    ///
    /// # Cancel safety
    /// Dropping it changes nothing.
    pub async fn drain(&self, deadline: Duration) -> Report {
        self.registry.drain(deadline).await
    }

    /// Refuses new messages, ends what is delayed as aborted and what was admitted as `mode` says,
    /// and waits for that.
    ///
    /// `deadline` is how long the caller waits at most, by the clock of the core; [`Duration::MAX`]
    /// is no limit. When it passes first the report is incomplete, and the shutdown goes on: in
    /// [`Shutdown::Drain`] what was admitted is handled all the same, in [`Shutdown::Abort`] it
    /// ends as aborted as soon as its stream comes to it.
    ///
    /// Called from inside a handler it returns at once; the shutdown goes on.
    ///
    /// # Cancel safety
    /// Once polled, the shutdown goes on by itself.
    pub async fn shutdown(&self, mode: Shutdown, deadline: Duration) -> Report {
        self.registry.shut_down(mode, deadline).await
    }

    /// Evicts all idle streams without handles, with their states, and says how many. A delayed
    /// message, and a waker of a handler that somebody keeps after its message, are handles too.
    ///
    /// When few streams are left, the memory in which they were found is given back as well.
    pub fn evict_idle(&self) -> usize {
        self.registry.evict_idle()
    }

    /// How the executor is doing; it visits every resident stream.
    #[must_use]
    pub fn metrics(&self) -> SerialMetrics {
        self.registry.metrics()
    }

    /// The name that the builder was given.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.registry.common.shared.environment().name
    }
}

impl<K, S> Executor for SerialExecutor<K, S>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    S: Send + 'static,
{
    type Key = K;
    type State = S;

    fn name(&self) -> &str {
        Self::name(self)
    }

    fn execute<M, H, F, T, E>(
        &self,
        key: K,
        envelope: Envelope<M>,
        handler: H,
    ) -> impl Future<Output = Result<T, ExecuteError<M, E>>> + Send
    where
        M: Send + 'static,
        H: FnOnce(Envelope<M>, PolicyContext<S>) -> F + Send + 'static,
        F: Future<Output = Result<T, E>> + Send + 'static,
        T: Send + 'static,
        E: Send + 'static,
    {
        Self::execute(self, key, envelope, handler)
    }

    fn try_submit<M, H, F, T, E>(
        &self,
        key: K,
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
        Self::try_submit(self, key, envelope, handler)
    }

    fn drain(&self, deadline: Duration) -> impl Future<Output = Report> + Send {
        Self::drain(self, deadline)
    }

    fn shutdown(&self, mode: Shutdown, deadline: Duration) -> impl Future<Output = Report> + Send {
        Self::shutdown(self, mode, deadline)
    }

    fn totals(&self) -> Totals {
        self.registry.totals()
    }
}

impl<K, S> fmt::Debug for SerialExecutor<K, S>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    S: Send + 'static,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SerialExecutor")
            .field("name", &self.name())
            .field("metrics", &self.metrics())
            .finish_non_exhaustive()
    }
}
