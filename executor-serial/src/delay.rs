//! Messages for a later time, and schedules that repeat.

use std::future::Future;
use std::hash::Hash;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use executor_core::engine::Rearm;
use executor_core::{
    Delayed, Envelope, MissedTick, PolicyContext, RejectReason, Rejected, Schedule, Tick, When,
};

use crate::executor::SerialExecutor;
use crate::stream::Stream;

/// A delayed message, or the message itself when it was refused.
pub type Delay<T, E, M> = Result<Delayed<T, E, M>, Rejected<Envelope<M>>>;

impl<K, S> Stream<K, S>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    S: Send + 'static,
{
    /// Admits a message after `delay`, by the clock of the core: never earlier, and at most a tick
    /// plus scheduling later.
    ///
    /// Until then it has no place in the queue: a drain does not wait for it, and a shutdown, in
    /// both modes, ends it as aborted, as does dropping the last handle of the executor and of its
    /// streams. When its time has come it is admitted as a message of [`Stream::submit_wait`] is:
    /// when the queue is full it waits in line. Messages with the same time are admitted in the
    /// order of the calls. While one is pending the stream is not evicted.
    ///
    /// # Errors
    /// The envelope comes back when the executor is closed.
    ///
    /// # Examples
    /// ```
    /// use std::time::Duration;
    /// use executor_core::{Envelope, VirtualClock, WorkerCore};
    /// use executor_serial::SerialExecutor;
    ///
    /// # async fn f() -> Result<(), Box<dyn std::error::Error>> {
    /// let clock = VirtualClock::new();
    /// let core = WorkerCore::threads(1).clock(&clock).build()?;
    /// let orders = SerialExecutor::<u64>::builder(&core).build()?;
    /// let expiry = orders.stream(&7).submit_after(
    ///     Duration::from_secs(1_800),
    ///     Envelope::new("not paid"),
    ///     |message, _context| async move { Ok::<_, std::convert::Infallible>(message.payload) },
    /// )?;
    /// clock.advance(Duration::from_secs(1_800));
    /// assert_eq!(expiry.await?, "not paid");
    /// # Ok(())
    /// # }
    /// ```
    pub fn submit_after<M, H, F, T, E>(
        &self,
        delay: Duration,
        envelope: Envelope<M>,
        handler: H,
    ) -> Delay<T, E, M>
    where
        M: Send + 'static,
        H: FnOnce(Envelope<M>, PolicyContext<S>) -> F + Send + 'static,
        F: Future<Output = Result<T, E>> + Send + 'static,
        T: Send + 'static,
        E: Send + 'static,
    {
        self.strand.delay(When::After(delay), envelope, handler)
    }

    /// Admits a message at `instant`, or at once if that is past; see [`Stream::submit_after`].
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
        H: FnOnce(Envelope<M>, PolicyContext<S>) -> F + Send + 'static,
        F: Future<Output = Result<T, E>> + Send + 'static,
        T: Send + 'static,
        E: Send + 'static,
    {
        self.strand.delay(When::At(instant), envelope, handler)
    }

    /// Admits a message every `period`, the first one a period from now.
    ///
    /// A period of 0 counts as 1 ns: with [`MissedTick::Burst`] a tick follows the one before it at
    /// once, with the others at the next tick of the core's clock.
    ///
    /// A message is scheduled when the one before it is handled, so there is one at a time, however
    /// long the handler takes; `missed` says what is done about ticks that passed meanwhile. A
    /// handler that fails or panics ends its own tick alone. The stream is not evicted.
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
        H: Fn(Envelope<Tick>, PolicyContext<S>) -> F + Send + Sync + 'static,
        F: Future<Output = Result<T, E>> + Send + 'static,
        T: Send + 'static,
        E: Send + 'static,
    {
        // Weak, so that a schedule keeps neither its stream nor, by way of it, the core: a tick that
        // is pending or runs has the stream, and there always is one until the schedule ends.
        let strand = Arc::downgrade(&self.strand);
        let closed = Weak::clone(&strand);
        let handler = Arc::new(handler);
        let admit = move |when, tick, rearm: Rearm| {
            let handler = Arc::clone(&handler);
            let once = move |envelope: Envelope<Tick>, context: PolicyContext<S>| {
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
            let strand = strand.upgrade()?;
            strand.delay(when, Envelope::new(tick), once).ok()
        };
        let core = self.strand.owner().common.shared.worker_core();
        let is_closed = move || {
            let strand = closed.upgrade();
            strand.is_none_or(|strand| strand.owner().common.shared.delays_nothing())
        };
        Schedule::start(core, period, missed, is_closed, admit).ok_or(RejectReason::Closed)
    }
}

impl<K, S> SerialExecutor<K, S>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    S: Send + 'static,
{
    /// Admits a message after `delay`; see [`Stream::submit_after`].
    ///
    /// # Errors
    /// The envelope comes back when the executor is closed.
    pub fn submit_after<M, H, F, T, E>(
        &self,
        key: K,
        delay: Duration,
        envelope: Envelope<M>,
        handler: H,
    ) -> Delay<T, E, M>
    where
        M: Send + 'static,
        H: FnOnce(Envelope<M>, PolicyContext<S>) -> F + Send + 'static,
        F: Future<Output = Result<T, E>> + Send + 'static,
        T: Send + 'static,
        E: Send + 'static,
    {
        self.brief(&key).submit_after(delay, envelope, handler)
    }

    /// Admits a message at `instant`, or at once if that is past; see [`Stream::submit_after`].
    ///
    /// # Errors
    /// The envelope comes back when the executor is closed.
    pub fn submit_at<M, H, F, T, E>(
        &self,
        key: K,
        instant: Instant,
        envelope: Envelope<M>,
        handler: H,
    ) -> Delay<T, E, M>
    where
        M: Send + 'static,
        H: FnOnce(Envelope<M>, PolicyContext<S>) -> F + Send + 'static,
        F: Future<Output = Result<T, E>> + Send + 'static,
        T: Send + 'static,
        E: Send + 'static,
    {
        self.brief(&key).submit_at(instant, envelope, handler)
    }

    /// Admits a message every `period`; see [`Stream::schedule_every`].
    ///
    /// # Errors
    /// [`RejectReason::Closed`].
    pub fn schedule_every<H, F, T, E>(
        &self,
        key: K,
        period: Duration,
        missed: MissedTick,
        handler: H,
    ) -> Result<Schedule, RejectReason>
    where
        H: Fn(Envelope<Tick>, PolicyContext<S>) -> F + Send + Sync + 'static,
        F: Future<Output = Result<T, E>> + Send + 'static,
        T: Send + 'static,
        E: Send + 'static,
    {
        self.brief(&key).schedule_every(period, missed, handler)
    }
}
