//! The worker core: the workers that all executors built on it share.

mod builder;

use std::fmt;
use std::future::Future;
use std::ptr::NonNull;
use std::sync::{Arc, PoisonError, Weak};
use std::time::Duration;

use crossbeam_utils::CachePadded;
use tokio::runtime::Handle;

pub use self::builder::CoreBuilder;
use self::builder::Host;
use crate::cell::{Cell, Header, Job};
use crate::completion::Completion;
use crate::error::{RejectReason, Rejected};
use crate::frame;
use crate::lane::{Lane, Link, Pushed};
use crate::lifecycle::{Lifecycle, Report, Shutdown};
use crate::sleep::Sleepers;
use crate::sync::plain::Mutex;
use crate::sync::{AtomicU8, AtomicUsize, Ordering, fence};
use crate::task::{Call, Nowhere, OnCore, Promise, Spawned, promise};
use crate::thread_id;
use crate::time::Timers;
use crate::time::sleep::within;
use crate::time::term::Term;
use crate::waiting::Waiting;
use crate::worker::{self, Worker};

/// The most workers of a core.
pub const MAX_WORKERS: usize = 1_024;
/// How many messages of one stream run in a row while others wait.
pub const DEFAULT_BUDGET: usize = if cfg!(executor_tiny) { 2 } else { 128 };

const OPEN: u8 = 0;
const STOPPING: u8 = 1;
const ABORTING: u8 = 2;

/// What the builder chose.
#[derive(Debug, Clone)]
pub(crate) struct Options {
    pub(crate) name: String,
    pub(crate) batch: usize,
    pub(crate) budget: usize,
    /// How many looks a push waits for a worker that is awake, before it wakes another.
    pub(crate) patience: u32,
}

/// What workers, executors and wakers share of a core.
pub(crate) struct CoreShared {
    pub(crate) workers: Box<[CachePadded<Worker>]>,
    pub(crate) sleepers: Sleepers,
    pub(crate) options: Options,
    /// Tasks without a stream that wait for a wake.
    pub(crate) waiting: Waiting,
    phase: AtomicU8,
    /// Workers that have not left yet.
    running: AtomicUsize,
    /// Who waits for the core to be quiet or empty.
    watchers: Mutex<Vec<Watcher>>,
    watched: AtomicUsize,
    executors: Mutex<Vec<Weak<dyn Lifecycle>>>,
    pub(crate) timers: Timers,
}

/// Somebody who waits for the workers.
enum Watcher {
    /// Until nothing runs, is queued, or waits.
    Quiet(Promise<()>),
    /// Until the last worker has left.
    Empty(Promise<()>),
}

impl CoreShared {
    /// Pushes new work from outside; false: the core is closed, and the link is still the caller's.
    ///
    /// # Safety
    /// The caller owns `link`.
    #[inline]
    unsafe fn push_new(&self, link: NonNull<Link>) -> bool {
        let lane = self.lane();
        // SAFETY: as the caller says.
        match unsafe { lane.push(link, false) } {
            Pushed::Edge => self.announce(lane),
            Pushed::Behind => {}
            Pushed::Closed => return false,
        }
        true
    }

    /// Pushes work that was admitted before.
    #[inline]
    pub(crate) fn push_admitted(&self, link: NonNull<Link>) {
        let lane = self.lane();
        // SAFETY: all callers own the link: a woken cell, or a stream they became the owner of.
        if unsafe { lane.push(link, true) } == Pushed::Edge {
            self.announce(lane);
        }
    }

    #[inline]
    fn lane(&self) -> &Lane {
        let index = worker::here(self).unwrap_or_else(|| thread_id::current() % self.workers.len());
        &self.workers[index].lane
    }

    /// Sees to it that somebody comes for what was pushed into an empty lane.
    #[inline]
    fn announce(&self, lane: &Lane) {
        if self.sleepers.would_wake_for_work() && !self.is_taken_soon(lane) {
            self.wake_for_work();
        }
    }

    /// Waits a moment for a worker that is awake, if one is, to take what is in the lane: far less
    /// than it costs to wake another.
    #[cold]
    fn is_taken_soon(&self, lane: &Lane) -> bool {
        worker::here(self).is_none()
            && self.sleepers.asleep() < self.workers.len()
            && (0..self.options.patience).any(|_| {
                std::hint::spin_loop();
                lane.is_empty()
            })
    }

    #[inline]
    pub(crate) fn wake_one(&self) {
        if let Some(worker) = self.sleepers.wake_one() {
            self.workers[worker].parker.wake();
        }
    }

    /// The same for work that can wait for who naps.
    #[inline]
    pub(crate) fn wake_for_work(&self) {
        if let Some(worker) = self.sleepers.wake_for_work() {
            self.workers[worker].parker.wake();
        }
    }

    fn wake_all(&self) {
        for worker in self.sleepers.wake_all() {
            self.workers[worker].parker.wake();
        }
    }

    pub(crate) fn wake_keeper(&self) {
        if let Some(worker) = self.sleepers.wake_keeper() {
            self.workers[worker].parker.wake();
        }
    }

    pub(crate) fn has_work(&self) -> bool {
        self.workers.iter().any(|worker| worker.has_work())
    }

    pub(crate) fn is_aborting(&self) -> bool {
        self.phase.load(Ordering::Relaxed) == ABORTING
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.phase.load(Ordering::Acquire) != OPEN
    }

    /// Whether a worker without work may leave.
    pub(crate) fn should_exit(&self) -> bool {
        self.is_closed() && self.waiting.is_empty() && self.executors_are_idle()
    }

    #[cold]
    fn executors_are_idle(&self) -> bool {
        let executors = self.live_executors();
        executors.iter().all(|executor| executor.is_idle())
    }

    fn live_executors(&self) -> Vec<Arc<dyn Lifecycle>> {
        let executors = self
            .executors
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        executors.iter().filter_map(Weak::upgrade).collect()
    }

    /// Something that kept workers from leaving is gone.
    pub(crate) fn check_exit(&self) {
        // Of two that end at once, on different streams, one sees that both are over.
        fence(Ordering::SeqCst);
        if self.should_exit() {
            self.wake_all();
        }
    }

    /// A worker found nothing to do and is about to park.
    pub(crate) fn note_quiet(&self) {
        if self.watched.load(Ordering::SeqCst) != 0
            && self.sleepers.asleep() == self.running.load(Ordering::SeqCst)
            && !self.has_work()
            && self.waiting.is_empty()
        {
            self.resolve(|watcher| matches!(watcher, Watcher::Quiet(_)));
        }
    }

    /// A worker has left; true: it was the last.
    pub(crate) fn note_exit(&self) -> bool {
        let last = self.running.fetch_sub(1, Ordering::SeqCst) == 1;
        if last {
            self.resolve(|_| true);
            self.end_timers();
        } else {
            self.note_quiet();
        }
        last
    }

    /// The runtime has dropped all workers with work left: what is queued or waits ends as aborted,
    /// on this thread.
    pub(crate) fn abandon(&self) {
        self.close(true);
        self.live_executors()
            .iter()
            .for_each(|executor| executor.refuse(Shutdown::Abort));
        let _duty = worker::OnDuty::new(self, 0);
        let mut runner = worker::Runner::resumed(self, 0, false, 0);
        // A handler that drops the runtime has not called what is aborted here, and is not waited for.
        frame::apart(|| while runner.run_batch() {});
    }

    fn resolve(&self, which: impl Fn(&Watcher) -> bool) {
        let mut watchers = self.watchers.lock().unwrap_or_else(PoisonError::into_inner);
        let (hit, rest) = watchers.drain(..).partition::<Vec<_>, _>(which);
        *watchers = rest;
        self.watched.store(watchers.len(), Ordering::SeqCst);
        drop(watchers);
        for watcher in hit {
            let (Watcher::Quiet(promise) | Watcher::Empty(promise)) = watcher;
            promise.fulfil(());
        }
    }

    fn watch(&self, watcher: Watcher) {
        let mut watchers = self.watchers.lock().unwrap_or_else(PoisonError::into_inner);
        watchers.push(watcher);
        self.watched.store(watchers.len(), Ordering::SeqCst);
        drop(watchers);
        if self.running.load(Ordering::SeqCst) == 0 {
            self.resolve(|_| true);
        } else {
            self.note_quiet();
        }
    }

    /// Refuses new tasks, and lets the workers leave when nothing is left.
    fn close(&self, abort: bool) {
        let phase = if abort { ABORTING } else { STOPPING };
        self.phase.fetch_max(phase, Ordering::SeqCst);
        for worker in &self.workers {
            worker.lane.close();
        }
        self.close_timers();
        if abort {
            self.abort_waiting();
        }
        self.wake_all();
    }

    /// Wakes every waiting task, to be aborted by the worker that runs it.
    pub(crate) fn abort_waiting(&self) {
        self.waiting.for_each(|cell| {
            // SAFETY: a noted task is not done, so it and its home live while it is noted.
            unsafe { crate::cell::wake(cell) };
        });
    }

    pub(crate) fn adopt(&self, executor: Weak<dyn Lifecycle>) {
        let mut executors = self
            .executors
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        executors.retain(|known| known.strong_count() != 0);
        executors.push(executor);
    }
}

/// Closes the core when the last handle and the last executor are gone.
pub(crate) struct CoreHandle(pub(crate) Arc<CoreShared>);

impl Drop for CoreHandle {
    fn drop(&mut self) {
        self.0.close(false);
    }
}

/// The workers that run what executors and callers give them.
///
/// Two hosts: threads of its own ([`WorkerCore::threads`]), or an existing tokio runtime
/// ([`WorkerCore::tokio`]), on which it starts no thread. A core lives while a clone of it or an
/// executor built on it does; after that the workers finish what was accepted and leave.
#[derive(Clone)]
pub struct WorkerCore {
    pub(crate) handle: Arc<CoreHandle>,
}

impl WorkerCore {
    /// A core on `workers` threads of its own.
    pub fn threads(workers: usize) -> CoreBuilder {
        CoreBuilder::new(Host::Threads { runtime: None }, workers)
    }

    /// A core on an existing tokio runtime, with as many workers as the runtime has.
    ///
    /// The workers are tasks of the runtime; handlers can use its I/O and time.
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
    /// what runs in a caller's own future included; work is still accepted meanwhile.
    ///
    /// Called from inside a handler or task it returns at once, with what is still running.
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

    /// Shuts the executors of this core down, refuses new tasks, and waits until the workers have
    /// left or `deadline` is over.
    ///
    /// # Cancel safety
    /// Once polled, the shutdown goes on by itself.
    pub async fn shutdown(&self, mode: Shutdown, deadline: Duration) -> Report {
        let term = Term::new(&self.shared().timers, deadline);
        let mut report = Report::default();
        for executor in self.shared().live_executors() {
            report.add(executor.close(mode, term.left()).await);
        }
        self.shared().close(mode == Shutdown::Abort);
        if self.is_inside() {
            return report;
        }
        let (promise, empty) = promise();
        self.shared().watch(Watcher::Empty(promise));
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
    /// Tasks and slices of streams run so far.
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
            .field("closed", &self.shared().is_closed())
            .field("metrics", &self.metrics())
            .finish()
    }
}
