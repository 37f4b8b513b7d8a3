//! Messages for a later time, and schedules that repeat.

use std::future::Future;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use executor_core::engine::{Rearm, delay_message, end_delayed};
use executor_core::{
    Delayed, Envelope, MissedTick, PolicyContext, RejectReason, Rejected, Schedule, Tick, When,
};

use crate::executor::ParallelExecutor;
use crate::gate::Gate;

/// A delayed message, or the message itself when it was refused.
pub type Delay<T, E, M> = Result<Delayed<T, E, M>, Rejected<Envelope<M>>>;

impl ParallelExecutor {
    /// Admits a message after `delay`, by the clock of the core: never earlier, and at most a tick
    /// plus scheduling later.
    ///
    /// Until then it counts for nothing: a drain does not wait for it, and a shutdown, in both
    /// modes, ends it as aborted, as does dropping the last handle of the executor. When its time
    /// has come it gets a permit, or waits in line for one, also when the queue is full.
    ///
    /// # Errors
    /// The envelope comes back when the executor is closed.
    pub fn submit_after<M, H, F, T, E>(
        &self,
        delay: Duration,
        envelope: Envelope<M>,
        handler: H,
    ) -> Delay<T, E, M>
    where
        M: Send + 'static,
        H: FnOnce(Envelope<M>, PolicyContext<()>) -> F + Send + 'static,
        F: Future<Output = Result<T, E>> + Send + 'static,
        T: Send + 'static,
        E: Send + 'static,
    {
        self.gate.delay(When::After(delay), envelope, handler)
    }

    /// Admits a message at `instant`, or at once if that is past; see
    /// [`ParallelExecutor::submit_after`].
    ///
    /// # Errors
    /// The envelope comes back when the executor is closed.
    pub fn submit_at<M, H, F, T, E>(
        &self,
        instant: Instant,
        envelope: Envelope<M>,
        handler: H,
    ) -> Delay<T, E, M>
    where
        M: Send + 'static,
        H: FnOnce(Envelope<M>, PolicyContext<()>) -> F + Send + 'static,
        F: Future<Output = Result<T, E>> + Send + 'static,
        T: Send + 'static,
        E: Send + 'static,
    {
        self.gate.delay(When::At(instant), envelope, handler)
    }

    /// Admits a message every `period`, the first one a period from now.
    ///
    /// A period of 0 counts as 1 ns: with [`MissedTick::Burst`] a tick follows the one before it at
    /// once, with the others at the next tick of the core's clock.
    ///
    /// A message is scheduled when the one before it is over, so there is one at a time; `missed`
    /// says what is done about ticks that passed meanwhile. A handler that fails or panics ends its
    /// own tick alone.
    ///
    /// # Errors
    /// [`RejectReason::Closed`].
    pub fn schedule_every<H, F, T, E>(
        &self,
        period: Duration,
        missed: MissedTick,
        handler: H,
    ) -> Result<Schedule, RejectReason>
    where
        H: Fn(Envelope<Tick>, PolicyContext<()>) -> F + Send + Sync + 'static,
        F: Future<Output = Result<T, E>> + Send + 'static,
        T: Send + 'static,
        E: Send + 'static,
    {
        let gate = Arc::downgrade(&self.gate);
        let closed = Weak::clone(&gate);
        let handler = Arc::new(handler);
        let admit = move |when, tick, rearm: Rearm| {
            let handler = Arc::clone(&handler);
            let once = move |envelope: Envelope<Tick>, context: PolicyContext<()>| {
                let work = rearm.begin().then(|| handler(envelope, context));
                async move {
                    // Dropped after the handler's own future.
                    let _rearm = rearm;
                    match work {
                        Some(work) => work.await.map(drop).map_err(drop),
                        None => Ok(()),
                    }
                }
            };
            let gate = gate.upgrade()?;
            gate.delay(when, Envelope::new(tick), once).ok()
        };
        let is_closed = move || closed.upgrade().is_none_or(|gate| gate.delays_nothing());
        Schedule::start(&self.gate.core, period, missed, is_closed, admit)
            .ok_or(RejectReason::Closed)
    }
}

impl Gate {
    fn delay<M, H, F, T, E>(
        self: &Arc<Self>,
        when: When,
        envelope: Envelope<M>,
        handler: H,
    ) -> Delay<T, E, M>
    where
        M: Send + 'static,
        H: FnOnce(Envelope<M>, PolicyContext<()>) -> F + Send + 'static,
        F: Future<Output = Result<T, E>> + Send + 'static,
        T: Send + 'static,
        E: Send + 'static,
    {
        if self.delays_nothing() {
            self.counts.refused();
            return Err(Rejected {
                reason: RejectReason::Closed,
                work: envelope,
            });
        }
        let delayed = delay_message(&self.core, Arc::clone(self), when, envelope, handler);
        if self.delays_nothing() {
            // It may have come too late to be ended.
            end_delayed(&self.core, self);
        }
        Ok(delayed)
    }

    fn delays_nothing(&self) -> bool {
        self.is_closed() || self.abandoned.load(Ordering::SeqCst)
    }

    /// Ends what is delayed, with the last handle.
    pub(crate) fn abandon_delayed(&self) {
        self.abandoned.store(true, Ordering::SeqCst);
        self.end_delayed();
    }

    /// Ends what is delayed as aborted.
    pub(crate) fn end_delayed(&self) {
        if let Some(gate) = self.me.upgrade() {
            end_delayed(&self.core, &gate);
        }
    }
}
