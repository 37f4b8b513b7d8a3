//! The parallel executor: at most so many handlers at a time, in no order.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use executor_core::{
    BuildError, Envelope, ExecuteError, Executor, PolicyContext, Rejected, Report, Shutdown,
    Submission, Totals, WorkerCore,
};

use crate::builder::{MAX_CONCURRENCY, ParallelBuilder};
use crate::execute::Execute;
use crate::gate::Gate;
use crate::hold::Holds;

/// Runs at most a given number of handlers at a time, in no order.
///
/// Cheap to clone. While nobody waits, a permit costs one atomic operation each way on a word that
/// threads do not share.
///
/// # Examples
/// ```
/// # use executor_parallel::{Envelope, ParallelExecutor, PolicyContext, WorkerCore};
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let core = WorkerCore::threads(2).build()?;
/// let mail = ParallelExecutor::builder(&core).max_concurrency(8).build()?;
/// let send = |to: Envelope<&'static str>, _: PolicyContext| async move {
///     Ok::<_, std::convert::Infallible>(to.payload.len())
/// };
/// assert_eq!(mail.execute(Envelope::new("one@example.org"), send).await?, 15);
/// assert_eq!(mail.submit(Envelope::new("two@example.org"), send)?.await?, 15);
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct ParallelExecutor {
    pub(crate) gate: Arc<Gate>,
    /// Dropped with the last handle.
    pub(crate) life: Arc<Life>,
}

/// What ends with the last handle of an executor: what is delayed, and the submission of messages.
pub(crate) struct Life {
    gate: Arc<Gate>,
    pub(crate) holds: Holds,
}

impl Drop for Life {
    fn drop(&mut self) {
        self.gate.abandon_delayed();
    }
}

/// How a parallel executor is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct ParallelMetrics {
    /// How many messages ended how.
    pub totals: Totals,
    /// How many handlers may be live.
    pub limit: usize,
    /// How many have a permit.
    pub running: usize,
    /// How many wait for one.
    pub waiting: usize,
    /// [`ParallelBuilder::queue`].
    pub queue: usize,
}

impl ParallelExecutor {
    /// Builds an executor whose submitted messages run on `core`.
    pub fn builder(core: &WorkerCore) -> ParallelBuilder {
        ParallelBuilder::new(core)
    }

    pub(crate) fn new(gate: Arc<Gate>) -> Self {
        let life = Life {
            gate: Arc::clone(&gate),
            holds: Holds::new(&gate),
        };
        Self {
            gate,
            life: Arc::new(life),
        }
    }

    /// Runs a message in the caller's own future, once there is a permit.
    ///
    /// Inside a handler of the same executor it needs a second permit while the first is held. When
    /// all permits are held by handlers that wait so, none of them goes on, and nobody finds out;
    /// the same goes for a handler that awaits what it submitted here. Give what is nested an
    /// executor of its own.
    ///
    /// # Cancel safety
    /// It is structured: dropping it drops the handler, and gives the permit or the place in line to
    /// the next.
    ///
    /// The future's output is [`ExecuteError`] when there is no value, with the envelope inside
    /// when the message was not admitted, since the executor is closed. It is never
    /// [`ExecuteError::Cancelled`] or [`ExecuteError::Aborted`]: what runs here is the caller's to
    /// end.
    #[inline]
    pub fn execute<M, H, F, T, E>(&self, envelope: Envelope<M>, handler: H) -> Execute<'_, M, H, F>
    where
        M: Send + 'static,
        H: FnOnce(Envelope<M>, PolicyContext<()>) -> F + Send + 'static,
        F: Future<Output = Result<T, E>> + Send + 'static,
    {
        Execute::new(&self.gate, envelope, handler)
    }

    /// Takes a permit now, or refuses; the future that comes back has the permit.
    ///
    /// # Errors
    /// The envelope comes back when no permit is free or somebody waits for one.
    #[inline(always)]
    pub fn try_execute<M, H, F, T, E>(
        &self,
        envelope: Envelope<M>,
        handler: H,
    ) -> Result<Execute<'_, M, H, F>, Rejected<Envelope<M>>>
    where
        M: Send + 'static,
        H: FnOnce(Envelope<M>, PolicyContext<()>) -> F + Send + 'static,
        F: Future<Output = Result<T, E>> + Send + 'static,
    {
        let generation = self.gate.generation();
        if let Err(reason) = self.gate.try_take(generation) {
            return Err(self.refuse(reason, envelope));
        }
        Ok(Execute::admitted(&self.gate, generation, envelope, handler))
    }

    /// Changes the limit, 1 to [`MAX_CONCURRENCY`]: raised at once, lowered as handlers finish.
    ///
    /// # Errors
    /// [`BuildError::OutOfRange`] for 0 or more than [`MAX_CONCURRENCY`]; nothing changes then.
    pub fn set_max_concurrency(&self, handlers: usize) -> Result<(), BuildError> {
        executor_core::engine::check_range("max_concurrency", handlers, 1, MAX_CONCURRENCY)?;
        self.gate.set_limit(handlers);
        Ok(())
    }

    /// How many handlers may be live.
    #[must_use]
    pub fn max_concurrency(&self) -> usize {
        self.gate.limit()
    }

    /// How many permits are free; exact when nothing runs.
    #[must_use]
    pub fn available_permits(&self) -> usize {
        self.gate.free()
    }

    /// Waits until everything that was admitted before, and everything its handlers admit here, is
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
        let before = self.gate.totals();
        let left = self.gate.settle(deadline).await;
        Report::between(before, self.gate.totals(), left)
    }

    /// Refuses new messages, ends what is delayed as aborted and what was admitted as `mode` says,
    /// and waits for that; what runs in a caller's own future is waited for too, and the caller's
    /// to end.
    ///
    /// `deadline` is how long the caller waits at most, by the clock of the core; [`Duration::MAX`]
    /// is no limit. When it passes first the report is incomplete, and the shutdown goes on: in
    /// [`Shutdown::Drain`] what was admitted is handled all the same, in [`Shutdown::Abort`] it
    /// ends as aborted as soon as a worker comes to it.
    ///
    /// Called from inside a handler it returns at once; the shutdown goes on.
    ///
    /// # Cancel safety
    /// Once polled, the shutdown goes on by itself.
    pub async fn shutdown(&self, mode: Shutdown, deadline: Duration) -> Report {
        self.gate.shut_down(mode, deadline).await
    }

    /// How the executor is doing.
    #[must_use]
    pub fn metrics(&self) -> ParallelMetrics {
        ParallelMetrics {
            totals: self.gate.totals(),
            limit: self.gate.limit(),
            running: self.gate.running(),
            waiting: self.gate.waiting(),
            queue: self.gate.queue(),
        }
    }

    /// The name that the builder was given.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.gate.environment.name
    }
}

impl Executor for ParallelExecutor {
    type Key = ();
    type State = ();

    fn name(&self) -> &str {
        Self::name(self)
    }

    fn execute<M, H, F, T, E>(
        &self,
        (): (),
        envelope: Envelope<M>,
        handler: H,
    ) -> impl Future<Output = Result<T, ExecuteError<M, E>>> + Send
    where
        M: Send + 'static,
        H: FnOnce(Envelope<M>, PolicyContext<()>) -> F + Send + 'static,
        F: Future<Output = Result<T, E>> + Send + 'static,
        T: Send + 'static,
        E: Send + 'static,
    {
        Self::execute(self, envelope, handler)
    }

    fn try_submit<M, H, F, T, E>(
        &self,
        (): (),
        envelope: Envelope<M>,
        handler: H,
    ) -> Submission<T, E, M>
    where
        M: Send + 'static,
        H: FnOnce(Envelope<M>, PolicyContext<()>) -> F + Send + 'static,
        F: Future<Output = Result<T, E>> + Send + 'static,
        T: Send + 'static,
        E: Send + 'static,
    {
        Self::try_submit(self, envelope, handler)
    }

    fn drain(&self, deadline: Duration) -> impl Future<Output = Report> + Send {
        Self::drain(self, deadline)
    }

    fn shutdown(&self, mode: Shutdown, deadline: Duration) -> impl Future<Output = Report> + Send {
        Self::shutdown(self, mode, deadline)
    }

    fn totals(&self) -> Totals {
        self.gate.totals()
    }
}

impl fmt::Debug for ParallelExecutor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ParallelExecutor")
            .field("name", &self.name())
            .field("metrics", &self.metrics())
            .finish_non_exhaustive()
    }
}
