//! The worker core: the workers that all executors built on it share.

mod builder;
pub(crate) mod leftovers;
mod shared;

use std::fmt;
use std::future::{Future, poll_fn};
use std::ptr::NonNull;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use tokio::runtime::Handle;

pub use self::builder::CoreBuilder;
use self::builder::Host;
use self::shared::Watcher;
pub(crate) use self::shared::{CoreHandle, CoreShared};
use crate::cell::{Cell, Header, Job};
use crate::completion::Completion;
use crate::error::{RejectReason, Rejected};
use crate::frame;
use crate::lifecycle::{Report, Shutdown};
use crate::sync::Ordering;
use crate::task::{Call, Nowhere, OnCore, Spawned, promise};
use crate::time::sleep::within;
use crate::time::term::Term;
use crate::worker::{self, Worker};

/// The most workers of a core.
pub const MAX_WORKERS: usize = 1_024;
/// How many messages of one stream run in a row while others wait.
pub const DEFAULT_BUDGET: usize = if cfg!(executor_tiny) { 2 } else { 128 };

/// The workers that run what executors and callers give them.
///
/// Two hosts: threads of its own ([`WorkerCore::threads`]), or an existing tokio runtime
/// ([`WorkerCore::tokio`]), of which the workers are tasks. A core lives while a clone of it or an
/// executor built on it does; after that the workers finish what was accepted and leave.
///
/// Beside the workers there is no thread of the core's own but one, on own threads: a drain or a
/// shutdown that has to wait may start one with the name `executor-deadline`, which is there for its
/// deadline if all workers are blocked, and ends with the wait. On tokio threads of the runtime's
/// blocking pool are borrowed: one keeps the time while there is a timer, and one looks for some
/// milliseconds whether a worker has come that was woken while not all threads of the runtime were parked.
///
/// # Examples
/// ```
/// # use {executor_core::{Shutdown, WorkerCore}, std::time::Duration};
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let core = WorkerCore::threads(2).name("worker").build()?;
/// let sum = core.spawn(async { 2 + 3 })?;
/// let product = core.spawn_fn(|| 2 * 3)?;
/// assert_eq!((sum.await?, product.await?), (5, 6));
/// let report = core.shutdown(Shutdown::Drain, Duration::from_secs(10)).await;
/// assert!(report.is_complete());
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct WorkerCore {
    pub(crate) handle: Arc<CoreHandle>,
}

impl WorkerCore {
    /// A core on `workers` threads of its own, 1 to [`MAX_WORKERS`].
    pub fn threads(workers: usize) -> CoreBuilder {
        CoreBuilder::new(Host::Threads { runtime: None }, workers)
    }

    /// A core on an existing tokio runtime, with as many workers as the runtime has, at most
    /// [`MAX_WORKERS`].
    ///
    /// The workers are tasks of the runtime; handlers can use its I/O and time. What they have left
    /// when the runtime is dropped ends as aborted.
    pub fn tokio(runtime: &Handle) -> CoreBuilder {
        let workers = runtime.metrics().num_workers().clamp(1, MAX_WORKERS);
        CoreBuilder::new(Host::Tokio(runtime.clone()), workers)
    }

    pub(crate) fn shared(&self) -> &CoreShared {
        &self.handle.0
    }

    /// Runs `future` on the workers.
    ///
    /// # Errors
    /// After [`WorkerCore::shutdown`] the future comes back.
    #[inline]
    pub fn spawn<F>(&self, future: F) -> Result<Completion<F::Output>, Rejected<F>>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        let cell = self.admit(Spawned(future), OnCore::new(&self.handle.0), true);
        // SAFETY: the job's types are `F::Output`, `Infallible` and `()`, and it was made joined.
        cell.map(|cell| unsafe { Completion::new(cell) })
            .map_err(|job| refused(job.0))
    }

    /// Runs `future` on the workers and drops its output.
    ///
    /// # Errors
    /// After [`WorkerCore::shutdown`] the future comes back.
    #[inline]
    pub fn spawn_detached<F>(&self, future: F) -> Result<(), Rejected<F>>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        let cell = self.admit(Spawned(future), OnCore::new(&self.handle.0), false);
        cell.map(|_| ()).map_err(|job| refused(job.0))
    }

    /// Runs `call` on a worker.
    ///
    /// # Errors
    /// After [`WorkerCore::shutdown`] the closure comes back.
    #[inline]
    pub fn spawn_fn<R, F>(&self, call: F) -> Result<Completion<R>, Rejected<F>>
    where
        F: FnOnce() -> R + Send + 'static,
        R: Send + 'static,
    {
        let cell = self.admit(Call(call), Nowhere, true);
        // SAFETY: the job's types are `R`, `Infallible` and `()`, and it was made joined.
        cell.map(|cell| unsafe { Completion::new(cell) })
            .map_err(|job| refused(job.0))
    }

    /// Runs `call` on a worker and drops its result.
    ///
    /// # Errors
    /// After [`WorkerCore::shutdown`] the closure comes back.
    #[inline]
    pub fn spawn_fn_detached<R, F>(&self, call: F) -> Result<(), Rejected<F>>
    where
        F: FnOnce() -> R + Send + 'static,
        R: Send + 'static,
    {
        let cell = self.admit(Call(call), Nowhere, false);
        cell.map(|_| ()).map_err(|job| refused(job.0))
    }

    #[inline]
    fn admit<J: Job>(&self, job: J, scope: J::Scope, joined: bool) -> Result<NonNull<Header>, J> {
        let cell = Cell::with_job(job, scope, joined);
        // SAFETY: the cell is new, and its own.
        if unsafe { self.shared().push_new(cell.cast()) } {
            Ok(cell)
        } else {
            // SAFETY: it was not pushed, so nobody else has it.
            Err(unsafe { Cell::<J>::into_job(cell) })
        }
    }

    /// Waits for a moment in which nothing runs, is queued or waits on this core or its executors,
    /// what runs in a caller's own future included; work is still accepted meanwhile, and waited
    /// for too. What is delayed is not waited for.
    ///
    /// `deadline` is how long the caller waits at most, by the clock of the core; [`Duration::MAX`]
    /// is no limit. When it passes first the report is incomplete, and everything goes on as
    /// before.
    ///
    /// Of the report only [`Report::still_running`] is set: 0, or at least 1 if anything was left.
    /// How messages ended is in the reports and totals of their executors; tasks and callbacks are
    /// counted nowhere. Called from inside a handler or task it returns at once, with an incomplete
    /// report.
    ///
    /// # Cancel safety
    /// Dropping it changes nothing.
    pub async fn drain(&self, deadline: Duration) -> Report {
        let shared = self.shared();
        if self.is_inside() {
            return self.report(false);
        }
        let term = Term::new(&shared.timers, deadline);
        loop {
            // The executors first: of a message that runs on its caller the workers know nothing.
            let mut left = 0;
            for executor in shared.live_executors() {
                left += executor.settle(term.left()).await;
            }
            if left != 0 {
                let waiting = shared.waiting.len() as u64;
                return Report {
                    still_running: left.max(waiting),
                    ..Report::default()
                };
            }
            let (promise, quiet) = promise();
            shared.watch(Watcher::Quiet(promise));
            if within(&self.handle.0, term.left(), quiet).await.is_none() {
                return self.report(false);
            }
            if shared.executors_are_idle() {
                return Report::default();
            }
            // Messages came meanwhile: wait for those too.
            tokio::task::yield_now().await;
        }
    }

    /// Whether this thread runs a handler or task, for which waiting for quiet or for the end would
    /// be waiting for itself.
    fn is_inside(&self) -> bool {
        worker::here(self.shared()).is_some() || !frame::is_outermost()
    }

    /// Shuts the executors of this core down, refuses new tasks, ends what is delayed as aborted,
    /// and waits until the workers have left.
    ///
    /// `deadline` is how long the caller waits at most, by the clock of the core; [`Duration::MAX`]
    /// is no limit. When it passes first the report is incomplete, and the shutdown goes on: in
    /// [`Shutdown::Drain`] what was accepted is done all the same, in [`Shutdown::Abort`] it ends
    /// as aborted as soon as a worker comes to it.
    ///
    /// The report counts the messages of the executors; tasks and callbacks are in
    /// [`Report::still_running`] alone. Called from inside a handler or task it returns at once,
    /// with tasks, a caller that is one included, in no part of the report; the shutdown goes on.
    ///
    /// # Cancel safety
    /// Once polled, the shutdown goes on by itself.
    pub async fn shutdown(&self, mode: Shutdown, deadline: Duration) -> Report {
        let shared = self.shared();
        let term = Term::new(&shared.timers, deadline);
        let executors = shared.begin_shutdown();
        let closing = executors.iter();
        let mut closing: Vec<_> = closing.map(|of| of.close(mode, term.left())).collect();
        let mut report = Report::default();
        let mut has_begun = false;
        poll_fn(|context| {
            closing.retain_mut(|closing| match closing.as_mut().poll(context) {
                Poll::Ready(of_one) => {
                    report.add(of_one);
                    false
                }
                Poll::Pending => true,
            });
            // Everything begins in the first poll, of all executors before the workers may leave.
            if !std::mem::replace(&mut has_begun, true) {
                shared.close(mode == Shutdown::Abort);
            }
            if closing.is_empty() {
                Poll::Ready(())
            } else {
                Poll::Pending
            }
        })
        .await;
        if self.is_inside() {
            return report;
        }
        let (promise, empty) = promise();
        shared.watch(Watcher::Empty(promise));
        if within(&self.handle.0, term.left(), empty).await.is_none() {
            report.add(self.report(false));
        }
        report
    }

    fn report(&self, complete: bool) -> Report {
        let waiting = self.shared().waiting.len() as u64;
        Report {
            still_running: if complete { 0 } else { waiting.max(1) },
            ..Report::default()
        }
    }

    /// What the workers did so far.
    #[must_use]
    pub fn metrics(&self) -> CoreMetrics {
        let sum = |pick: fn(&Worker) -> &crate::sync::AtomicU64| {
            self.shared()
                .workers
                .iter()
                .map(|worker| pick(worker).load(Ordering::Relaxed))
                .sum()
        };
        let sleepers = &self.shared().sleepers;
        let napping = usize::from(sleepers.is_napping());
        let asleep = sleepers.asleep();
        CoreMetrics {
            workers: self.shared().workers.len(),
            asleep: asleep.saturating_sub(napping),
            napping,
            waiting: self.shared().waiting.len(),
            runs: sum(|worker| &worker.counts.runs),
            steals: sum(|worker| &worker.counts.steals),
            parks: sum(|worker| &worker.counts.parks),
        }
    }
}

pub(crate) fn refused<F>(work: F) -> Rejected<F> {
    Rejected {
        reason: RejectReason::Closed,
        work,
    }
}

/// What the workers of a core did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct CoreMetrics {
    /// How many workers there are.
    pub workers: usize,
    /// How many of them sleep now, until they are woken.
    pub asleep: usize,
    /// How many sleep for a while only: one at most, beside others that have something to do.
    pub napping: usize,
    /// Tasks without a stream that wait for a wake now.
    pub waiting: usize,
    /// Tasks and slices of streams run so far, and what they put off until the end of a batch.
    pub runs: u64,
    /// How often a worker took from another.
    pub steals: u64,
    /// How often a worker went to sleep, naps included; each sleep ends with one wake-up.
    pub parks: u64,
}

impl fmt::Debug for WorkerCore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WorkerCore")
            .field("name", &self.shared().options.name)
            .field("closed", &self.shared().is_refusing())
            .field("metrics", &self.metrics())
            .finish()
    }
}
