//! Work that is admitted at a later time, and its handle.

use std::convert::Infallible;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use crate::cell::{Cell, Job, drop_quietly};
use crate::completion::Completion;
use crate::core::{WorkerCore, refused};
use crate::envelope::Envelope;
use crate::error::{Failure, Rejected};
use crate::task::{Call, Nowhere, OnCore, Spawned};
use crate::thread_id;
use crate::time::When;
use crate::time::clockwork::Clockwork;
use crate::time::kind;
use crate::time::timer::Timer;

/// Work that was scheduled for a later time.
///
/// It is a future of the outcome, as [`Completion`] is. Until its time the work is the timer's, not
/// admitted anywhere: a drain does not wait for it, and a shutdown, in both modes, ends it as
/// aborted, as does the drop of the last handle of what was to have it.
///
/// The handle of a [`Callbacks::call`](crate::Callbacks::call) has no time: the call was admitted
/// when it was made, and what is said here about the time does not apply to it.
///
/// # Cancel safety
/// Dropping it detaches: the timer stays, the work runs, and its result is dropped.
#[must_use = "a dropped handle does not stop the work; keep it to cancel or to await, or `drop` it"]
pub struct Delayed<T, E = Infallible, M = ()> {
    /// None once the outcome was given, or it was cancelled.
    completion: Option<Completion<T, E, M>>,
    /// None once it was found to have fired.
    timer: Option<Timer>,
    cancelled: bool,
}

impl<T, E, M> Delayed<T, E, M> {
    pub(crate) fn new(completion: Completion<T, E, M>, timer: Timer) -> Self {
        Self {
            completion: Some(completion),
            timer: Some(timer),
            cancelled: false,
        }
    }

    /// Work that is queued already.
    pub(crate) fn queued(completion: Completion<T, E, M>) -> Self {
        Self {
            completion: Some(completion),
            timer: None,
            cancelled: false,
        }
    }

    /// Whether the time has not come yet; false for a [`Callbacks::call`](crate::Callbacks::call).
    #[must_use]
    pub fn is_pending(&self) -> bool {
        self.timer.as_ref().is_some_and(Timer::is_pending)
    }

    /// Cancels work that has not started, before its time or in the queue after it, and drops its
    /// message; true: it will never run. It may be called again, and gives the same answer.
    ///
    /// The message is gone when it returns, and so is the timer, unless another thread is handling
    /// timers at this very moment: then that thread frees it before it goes on. A handler that runs
    /// already sees the request in its context.
    pub fn cancel(&mut self) -> bool {
        if let Some(envelope) = self.take_back() {
            drop_quietly(envelope);
        }
        self.cancelled
    }

    /// Cancels as [`Delayed::cancel`] does, and gives the message back.
    ///
    /// # Errors
    /// The handle comes back when the work has started, or was cancelled before.
    pub fn recover(mut self) -> Result<Envelope<M>, Self> {
        self.take_back().ok_or(self)
    }

    fn take_back(&mut self) -> Option<Envelope<M>> {
        let completion = self.completion.take()?;
        match self.timer.take().map(Timer::retract) {
            Some(Ok(retracted)) => {
                // SAFETY: its runner was the timer, and is ours; it ends with that.
                let envelope = unsafe { completion.retract() };
                drop(retracted);
                self.cancelled = true;
                return Some(envelope);
            }
            Some(Err(timer)) => self.timer = Some(timer),
            None => {}
        }
        match completion.cancel() {
            Ok(envelope) => {
                self.cancelled = true;
                if let Some(timer) = self.timer.take() {
                    timer.cancel();
                }
                Some(envelope)
            }
            Err(completion) => {
                self.completion = Some(completion);
                None
            }
        }
    }

    /// Sets another time, `delay` from now; false: the time has come already, or it was cancelled,
    /// and nothing changes.
    pub fn reschedule_after(&mut self, delay: Duration) -> bool {
        self.reschedule(When::After(delay))
    }

    /// Sets another time; see [`Delayed::reschedule_after`].
    pub fn reschedule_at(&mut self, instant: Instant) -> bool {
        self.reschedule(When::At(instant))
    }

    pub(crate) fn reschedule(&mut self, when: When) -> bool {
        let Some(timer) = &mut self.timer else {
            return false;
        };
        let core = timer.core();
        let tick = core.as_ref().map(|core| (core, core.timers.tick_of(when)));
        let Some((core, tick)) = tick else {
            return false;
        };
        match timer.reschedule(tick) {
            Some(earlier) => {
                if earlier {
                    core.note_earlier(tick);
                }
                true
            }
            None => {
                self.timer = None;
                false
            }
        }
    }

    /// The completion alone; the timer stays.
    ///
    /// # Panics
    /// When the outcome was given, or the work cancelled, before.
    pub fn into_completion(mut self) -> Completion<T, E, M> {
        self.completion
            .take()
            .expect("a handle whose outcome is gone has no completion")
    }
}

impl<T, E, M> Future for Delayed<T, E, M> {
    type Output = Result<T, Failure<E>>;

    /// # Panics
    /// When polled again after it was ready.
    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        match &mut this.completion {
            Some(completion) => {
                let outcome = Pin::new(completion).poll(context);
                if outcome.is_ready() {
                    this.completion = None;
                }
                outcome
            }
            None if this.cancelled => Poll::Ready(Err(Failure::Cancelled)),
            None => panic!("a handle is not polled after it was ready"),
        }
    }
}

impl<T, E, M> fmt::Debug for Delayed<T, E, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Delayed")
            .field("is_pending", &self.is_pending())
            .field("cancelled", &self.cancelled)
            .finish_non_exhaustive()
    }
}

impl WorkerCore {
    /// Runs `future` on the workers after `delay`.
    ///
    /// # Errors
    /// After [`WorkerCore::shutdown`] the future comes back.
    pub fn spawn_after<F>(
        &self,
        delay: Duration,
        future: F,
    ) -> Result<Delayed<F::Output>, Rejected<F>>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        self.spawn_when(When::After(delay), future)
    }

    /// Runs `future` on the workers at `instant`, or at once if that is past.
    ///
    /// # Errors
    /// After [`WorkerCore::shutdown`] the future comes back.
    pub fn spawn_at<F>(
        &self,
        instant: Instant,
        future: F,
    ) -> Result<Delayed<F::Output>, Rejected<F>>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        self.spawn_when(When::At(instant), future)
    }

    pub(crate) fn spawn_when<F>(
        &self,
        when: When,
        future: F,
    ) -> Result<Delayed<F::Output>, Rejected<F>>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        let scope = OnCore::new(&self.handle.0);
        self.delay(when, Spawned(future), scope)
            .map_err(|job| refused(job.0))
    }

    /// Runs `call` on a worker after `delay`.
    ///
    /// # Errors
    /// After [`WorkerCore::shutdown`] the closure comes back.
    pub fn spawn_fn_after<R, F>(&self, delay: Duration, call: F) -> Result<Delayed<R>, Rejected<F>>
    where
        F: FnOnce() -> R + Send + 'static,
        R: Send + 'static,
    {
        self.delay(When::After(delay), Call(call), Nowhere)
            .map_err(|job| refused(job.0))
    }

    /// Runs `call` on a worker at `instant`, or at once if that is past.
    ///
    /// # Errors
    /// After [`WorkerCore::shutdown`] the closure comes back.
    pub fn spawn_fn_at<R, F>(&self, instant: Instant, call: F) -> Result<Delayed<R>, Rejected<F>>
    where
        F: FnOnce() -> R + Send + 'static,
        R: Send + 'static,
    {
        self.delay(When::At(instant), Call(call), Nowhere)
            .map_err(|job| refused(job.0))
    }

    fn delay<J>(&self, when: When, job: J, scope: J::Scope) -> Result<Delayed<J::Value>, J>
    where
        J: Job<Error = Infallible, Message = ()>,
    {
        let core = self.shared();
        if !core.timers.is_open() {
            return Err(job);
        }
        let tick = core.timers.tick_of(when);
        let cell = Cell::with_job(job, scope, true);
        // SAFETY: the job's types are these, and it was made joined.
        let completion = unsafe { Completion::new(cell) };
        let lane = Clockwork::lane_of(thread_id::current() << 6);
        // SAFETY: the cell is new, and the timer its runner from now on.
        let timer = unsafe { core.schedule(&kind::TASK, cell, lane, tick) };
        if !core.timers.is_open() {
            // It may have come too late to be ended.
            core.close_timers();
        }
        Ok(Delayed::new(completion, timer))
    }
}
