//! The parallel executor: at most so many handlers at a time, in no order.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use executor_core::engine::{
    Draft, Lifecycle, Parked, Receipt, admit_message, block_on, in_handler, must_not_block, within,
};
use executor_core::{
    BuildError, Envelope, ExecuteError, Executor, Failure, PolicyContext, RejectReason, Rejected,
    Report, Shutdown, Submission, Totals, WorkerCore,
};

use crate::builder::{MAX_CONCURRENCY, ParallelBuilder};
use crate::execute::Execute;
use crate::gate::{Gate, Permit, Wait};

/// Runs at most a given number of handlers at a time, in no order.
///
/// Cheap to clone. While nobody waits, a permit costs one atomic operation each way on a word that
/// threads do not share.
#[derive(Clone)]
pub struct ParallelExecutor {
    pub(crate) gate: Arc<Gate>,
    /// Dropped with the last handle.
    _life: Arc<Life>,
}

/// What ends with the last handle of an executor: what is delayed.
struct Life(Arc<Gate>);

impl Drop for Life {
    fn drop(&mut self) {
        self.0.abandon_delayed();
    }
}

/// Leaves a permit that was waited for to the message that is to run under it.
fn granted(outcome: Result<Permit, Failure>) -> Result<(), RejectReason> {
    // Without a permit, those who waited were turned away.
    outcome
        .map(Permit::pass_on)
        .map_err(|_| RejectReason::Closed)
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
}

impl ParallelExecutor {
    /// Builds an executor whose submitted messages run on `core`.
    pub fn builder(core: &WorkerCore) -> ParallelBuilder {
        ParallelBuilder::new(core)
    }

    pub(crate) fn new(gate: Arc<Gate>) -> Self {
        let life = Life(Arc::clone(&gate));
        Self {
            gate,
            _life: Arc::new(life),
        }
    }

    /// Runs a message in the caller's own future, once there is a permit.
    ///
    /// # Cancel safety
    /// It is structured: dropping it drops the handler, and gives the permit or the place in line to
    /// the next.
    ///
    /// The future's output is [`ExecuteError`] when there is no value, with the envelope inside when
    /// the message was not admitted.
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
    #[inline]
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
        match self.gate.try_take(generation) {
            Ok(()) => Ok(Execute::admitted(&self.gate, generation, envelope, handler)),
            Err(reason) => Err(self.refuse(reason, envelope)),
        }
    }

    /// Admits a message now, to run on the workers under the same limit.
    ///
    /// # Blocking
    /// When the queue is full it blocks until there is a permit, but only on a thread where that is
    /// harmless: not on a worker, in a handler or in an async runtime, where it is refused.
    ///
    /// # Errors
    /// The envelope comes back with the reason.
    #[inline(always)]
    pub fn submit<M, H, F, T, E>(&self, envelope: Envelope<M>, handler: H) -> Submission<T, E, M>
    where
        M: Send + 'static,
        H: FnOnce(Envelope<M>, PolicyContext<()>) -> F + Send + 'static,
        F: Future<Output = Result<T, E>> + Send + 'static,
        T: Send + 'static,
        E: Send + 'static,
    {
        self.admit(&mut Some((envelope, handler)))
    }

    /// As [`ParallelExecutor::submit`], without a completion: for messages whose results nobody
    /// wants.
    ///
    /// It costs less than to drop the completion.
    ///
    /// # Blocking
    /// As [`ParallelExecutor::submit`].
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
        H: FnOnce(Envelope<M>, PolicyContext<()>) -> F + Send + 'static,
        F: Future<Output = Result<T, E>> + Send + 'static,
        T: Send + 'static,
        E: Send + 'static,
    {
        self.admit(&mut Some((envelope, handler)))
    }

    /// Admits a message now, or when there is a permit if this thread may wait for it.
    #[inline(always)]
    fn admit<M, H, F, T, E, R>(&self, message: &mut Draft<M, H>) -> Result<R, Rejected<Envelope<M>>>
    where
        M: Send + 'static,
        H: FnOnce(Envelope<M>, PolicyContext<()>) -> F + Send + 'static,
        F: Future<Output = Result<T, E>> + Send + 'static,
        T: Send + 'static,
        E: Send + 'static,
        R: Receipt<T, E, M>,
    {
        match self.enqueue(message) {
            Ok(receipt) => Ok(receipt),
            Err(reason) if reason.is_full() && !must_not_block() => {
                let generation = self.gate.generation();
                let granted = match self.gate.wait(generation) {
                    Ok(Wait::InLine(line)) => granted(block_on(line)),
                    Ok(Wait::Taken) => Ok(()),
                    Err(reason) => Err(reason),
                };
                self.run_if(granted, generation, message.take())
            }
            Err(reason) => Err(self.hand_back(reason, message.take())),
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
        H: FnOnce(Envelope<M>, PolicyContext<()>) -> F + Send + 'static,
        F: Future<Output = Result<T, E>> + Send + 'static,
        T: Send + 'static,
        E: Send + 'static,
    {
        let mut message = Some((envelope, handler));
        match self.enqueue(&mut message) {
            Ok(completion) => Ok(completion),
            Err(reason) => Err(self.hand_back(reason, message)),
        }
    }

    /// Admits a message, waiting in line for a permit when the queue is full.
    ///
    /// # Cancel safety
    /// Dropped before it is ready, the message was not admitted, and the permit goes to the next.
    ///
    /// # Errors
    /// The envelope comes back with the reason.
    pub async fn submit_wait<M, H, F, T, E>(
        &self,
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
        let mut message = Some((envelope, handler));
        match self.enqueue(&mut message) {
            Ok(completion) => Ok(completion),
            Err(reason) if reason.is_full() => {
                let generation = self.gate.generation();
                let granted = match self.gate.wait(generation) {
                    Ok(Wait::InLine(line)) => granted(line.await),
                    Ok(Wait::Taken) => Ok(()),
                    Err(reason) => Err(reason),
                };
                self.run_if(granted, generation, message)
            }
            Err(reason) => Err(self.hand_back(reason, message)),
        }
    }

    /// Runs all messages on the workers and gives their outcomes in order; it waits for room where
    /// it must.
    ///
    /// # Cancel safety
    /// Dropping it detaches what was admitted; the rest is dropped.
    pub async fn execute_batch<M, H, F, T, E>(
        &self,
        envelopes: impl IntoIterator<Item = Envelope<M>, IntoIter: Send> + Send,
        handler: H,
    ) -> Vec<Result<T, ExecuteError<M, E>>>
    where
        M: Send + 'static,
        H: FnOnce(Envelope<M>, PolicyContext<()>) -> F + Clone + Send + 'static,
        F: Future<Output = Result<T, E>> + Send + 'static,
        T: Send + 'static,
        E: Send + 'static,
    {
        let mut admitted = Vec::new();
        for envelope in envelopes {
            admitted.push(self.submit_wait(envelope, handler.clone()).await);
        }
        let mut outcomes = Vec::with_capacity(admitted.len());
        for submission in admitted {
            outcomes.push(match submission {
                Ok(completion) => completion.await.map_err(ExecuteError::from),
                Err(rejected) => Err(rejected.into()),
            });
        }
        outcomes
    }

    /// Admits a message, or leaves it where it is.
    #[inline(always)]
    fn enqueue<M, H, F, T, E, R>(&self, message: &mut Draft<M, H>) -> Result<R, RejectReason>
    where
        M: Send + 'static,
        H: FnOnce(Envelope<M>, PolicyContext<()>) -> F + Send + 'static,
        F: Future<Output = Result<T, E>> + Send + 'static,
        T: Send + 'static,
        E: Send + 'static,
        R: Receipt<T, E, M>,
    {
        let generation = self.gate.generation();
        if self.gate.try_take_quickly() {
            return self.run_with_permit(generation, message);
        }
        self.make(generation, message, |parked| {
            self.gate.submit(generation, parked)
        })
    }

    /// Gives a message that has its permit to the workers.
    #[inline(always)]
    fn run_with_permit<M, H, F, T, E, R>(
        &self,
        generation: u32,
        message: &mut Draft<M, H>,
    ) -> Result<R, RejectReason>
    where
        M: Send + 'static,
        H: FnOnce(Envelope<M>, PolicyContext<()>) -> F + Send + 'static,
        F: Future<Output = Result<T, E>> + Send + 'static,
        T: Send + 'static,
        E: Send + 'static,
        R: Receipt<T, E, M>,
    {
        self.make(generation, message, |parked| {
            parked.release(&self.gate.core);
            Ok(())
        })
    }

    #[inline(always)]
    fn make<M, H, F, T, E, R>(
        &self,
        generation: u32,
        message: &mut Draft<M, H>,
        admit: impl FnOnce(Parked) -> Result<(), (RejectReason, Parked)>,
    ) -> Result<R, RejectReason>
    where
        M: Send + 'static,
        H: FnOnce(Envelope<M>, PolicyContext<()>) -> F + Send + 'static,
        F: Future<Output = Result<T, E>> + Send + 'static,
        T: Send + 'static,
        E: Send + 'static,
        R: Receipt<T, E, M>,
    {
        let gate = Arc::clone(&self.gate);
        admit_message(&self.gate.core, gate, generation, message, admit)
    }

    /// What follows a wait for a permit.
    #[cold]
    fn run_if<M, H, F, T, E, R>(
        &self,
        granted: Result<(), RejectReason>,
        generation: u32,
        mut message: Draft<M, H>,
    ) -> Result<R, Rejected<Envelope<M>>>
    where
        M: Send + 'static,
        H: FnOnce(Envelope<M>, PolicyContext<()>) -> F + Send + 'static,
        F: Future<Output = Result<T, E>> + Send + 'static,
        T: Send + 'static,
        E: Send + 'static,
        R: Receipt<T, E, M>,
    {
        let admitted = granted.and_then(|()| self.run_with_permit(generation, &mut message));
        admitted.map_err(|reason| self.hand_back(reason, message))
    }

    #[cold]
    fn hand_back<M, H>(&self, reason: RejectReason, message: Draft<M, H>) -> Rejected<Envelope<M>> {
        let (envelope, _) = message.expect("what is refused was not taken");
        self.refuse(reason, envelope)
    }

    #[cold]
    fn refuse<M>(&self, reason: RejectReason, envelope: Envelope<M>) -> Rejected<Envelope<M>> {
        self.gate.counts.refused();
        Rejected {
            reason,
            work: envelope,
        }
    }

    /// Changes the limit: raised at once, lowered as handlers finish.
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
    /// handled. New messages are accepted meanwhile, and not waited for.
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

    /// Refuses new messages, and ends what was admitted as `mode` says; what runs in a caller's own
    /// future is the caller's to end.
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
        }
    }

    /// The name that the builder was given.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.gate.environment.name
    }
}

impl Gate {
    async fn settle(&self, deadline: Duration) -> u64 {
        if in_handler() {
            return self.count() as u64;
        }
        let drained = self.drained();
        match within(&self.core, deadline, drained).await {
            Some(_) => 0,
            None => self.count() as u64,
        }
    }

    async fn shut_down(&self, mode: Shutdown, deadline: Duration) -> Report {
        let before = self.totals();
        self.refuse(mode);
        let left = self.settle(deadline).await;
        tracing::info!(
            executor = self.environment.name,
            ?mode,
            still_running = left,
            "shut down"
        );
        Report::between(before, self.totals(), left)
    }
}

impl Lifecycle for Gate {
    fn close(
        &self,
        mode: Shutdown,
        deadline: Duration,
    ) -> Pin<Box<dyn Future<Output = Report> + Send + '_>> {
        Box::pin(self.shut_down(mode, deadline))
    }

    fn settle(&self, deadline: Duration) -> Pin<Box<dyn Future<Output = u64> + Send + '_>> {
        Box::pin(Self::settle(self, deadline))
    }

    fn refuse(&self, mode: Shutdown) {
        Self::close(self, mode == Shutdown::Abort);
        self.end_delayed();
        if mode == Shutdown::Abort {
            executor_core::engine::wake_waiting(&self.core);
        }
    }

    fn is_idle(&self) -> bool {
        self.count() == 0
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
