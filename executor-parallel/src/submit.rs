//! Messages for the workers: admitted now, when there is a permit, or not at all.

use std::future::Future;

use executor_core::engine::{Draft, Parked, Receipt, admit_message, block_on, must_not_block};
use executor_core::{Envelope, ExecuteError, PolicyContext, RejectReason, Rejected, Submission};

use crate::executor::ParallelExecutor;
use crate::gate::InLine;

impl ParallelExecutor {
    /// Admits a message now, to run on the workers under the same limit.
    ///
    /// A handler must not await the completion of what it submits here while all permits may be
    /// held by handlers that do so: see [`ParallelExecutor::execute`].
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
                let granted = block_on(InLine::new(&self.gate, generation));
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
                let granted = InLine::new(&self.gate, generation).await;
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
        let hold = self.life.holds.here();
        admit_message(&self.gate.core, hold, generation, message, admit)
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
    pub(crate) fn refuse<M>(
        &self,
        reason: RejectReason,
        envelope: Envelope<M>,
    ) -> Rejected<Envelope<M>> {
        self.gate.counts.refused();
        Rejected {
            reason,
            work: envelope,
        }
    }
}
