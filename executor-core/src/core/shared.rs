//! What workers, executors and wakers share of a core: where work is pushed, and who is told of it.

use std::ptr::NonNull;
use std::sync::{Arc, PoisonError, Weak};

use crossbeam_utils::CachePadded;

use super::leftovers::Leftovers;
use crate::cell::{CellRef, drop_quietly};
use crate::frame;
use crate::host::Ushers;
use crate::lane::{Chain, Lane, Link, Pushed};
use crate::lifecycle::{Lifecycle, Shutdown};
use crate::sleep::Sleepers;
use crate::sync::plain::Mutex;
use crate::sync::{AtomicU8, AtomicUsize, Farewell, Ordering, fence};
use crate::task::Promise;
use crate::thread_id;
use crate::time::Timers;
use crate::waiting::Waiting;
use crate::worker::{self, Worker};

pub(super) const OPEN: u8 = 0;
/// A shutdown has begun: nobody joins any more, and whoever has joined is being told.
const REFUSING: u8 = 1;
const STOPPING: u8 = 2;
const ABORTING: u8 = 3;
/// The runtime has dropped the last worker: what is pushed is run, to its end, by who pushes it.
const ABANDONED: u8 = 4;

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
    /// Of its threads; the first to be dropped.
    pub(crate) farewell: Farewell,
    pub(crate) workers: Box<[CachePadded<Worker>]>,
    pub(crate) sleepers: Sleepers,
    pub(crate) options: Options,
    /// Tasks without a stream that wait for a wake.
    pub(crate) waiting: Waiting,
    pub(super) phase: AtomicU8,
    /// Workers that have not left yet.
    pub(super) running: AtomicUsize,
    /// Who waits for the core to be quiet or empty.
    pub(super) watchers: Mutex<Vec<Watcher>>,
    pub(super) watched: AtomicUsize,
    pub(super) executors: Mutex<Vec<Weak<dyn Lifecycle>>>,
    pub(crate) timers: Timers,
    /// Where workers are tasks of a runtime with several threads.
    pub(crate) ushers: Option<Ushers>,
    pub(super) leftovers: Leftovers,
}

/// Somebody who waits for the workers.
pub(super) enum Watcher {
    /// Until nothing runs, is queued, or waits.
    Quiet(Promise<()>),
    /// Until the last worker has left.
    Empty(Promise<()>),
}

impl Watcher {
    fn tell(self) {
        let (Self::Quiet(promise) | Self::Empty(promise)) = self;
        promise.fulfil(());
    }

    fn is_awaited(&self) -> bool {
        let (Self::Quiet(promise) | Self::Empty(promise)) = self;
        promise.is_awaited()
    }
}

impl CoreShared {
    /// Pushes new work from outside; false: the core is closed, and the link is still the caller's.
    ///
    /// # Safety
    /// The caller owns `link`.
    #[inline]
    pub(super) unsafe fn push_new(&self, link: NonNull<Link>) -> bool {
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

    /// The same for many at once.
    pub(crate) fn push_chain(&self, chain: Chain) {
        let lane = self.lane();
        if lane.push_chain(chain) == Some(Pushed::Edge) {
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
        if self.sleepers.would_wake_for_work() {
            if !self.is_taken_soon(lane) {
                self.wake_for_work();
            }
        } else if self.phase.load(Ordering::SeqCst) == ABANDONED {
            self.run_leftovers();
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
        self.wake(self.sleepers.wake_one());
    }

    /// The same for work that can wait for who naps.
    #[inline]
    pub(crate) fn wake_for_work(&self) {
        self.wake(self.sleepers.wake_for_work());
    }

    /// Wakes workers, which are to run beside this thread.
    fn wake(&self, workers: impl IntoIterator<Item = usize>) {
        let mut workers = workers.into_iter().peekable();
        if workers.peek().is_none() {
            return;
        }
        self.wake_by(|| workers.for_each(|worker| self.workers[worker].parker.wake()));
    }

    /// The same for who has a way of its own to wake them.
    pub(crate) fn wake_by(&self, wake: impl FnOnce()) {
        match &self.ushers {
            Some(ushers) => ushers.lead(self, wake),
            None => wake(),
        }
    }

    /// Whether a worker was woken and has not come yet.
    pub(crate) fn awaits_worker(&self) -> bool {
        (self.workers.iter()).any(|worker| worker.parker.is_called() || worker.is_to_go_on())
    }

    fn wake_all(&self) {
        self.wake(self.sleepers.wake_all());
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
        self.phase.load(Ordering::Relaxed) >= ABORTING
    }

    /// Whether a shutdown has begun.
    pub(crate) fn is_refusing(&self) -> bool {
        self.phase.load(Ordering::Acquire) != OPEN
    }

    /// Whether workers leave when there is nothing left.
    pub(crate) fn is_closed(&self) -> bool {
        self.phase.load(Ordering::Acquire) >= STOPPING
    }

    /// Whether the last worker has left.
    pub(crate) fn is_left(&self) -> bool {
        self.running.load(Ordering::SeqCst) == 0
    }

    /// Whether a worker without work may leave.
    pub(crate) fn should_exit(&self) -> bool {
        self.is_closed() && self.waiting.is_empty() && self.executors_are_idle()
    }

    #[cold]
    pub(super) fn executors_are_idle(&self) -> bool {
        let executors = self.live_executors();
        let are_idle = executors.iter().all(|executor| executor.is_idle());
        // It may have the last reference to one by now, with what is the user's.
        drop_quietly(executors);
        are_idle
    }

    pub(super) fn live_executors(&self) -> Vec<Arc<dyn Lifecycle>> {
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

    /// The last worker has left, or somebody has ended what was delayed: whoever finds both first tells those
    /// who wait for it, and ends the time then, by which they would give up.
    pub(crate) fn note_empty(&self) {
        if self.is_left() && self.timers.become_empty() {
            self.resolve(|_| true);
            self.end_timers();
            self.ushers.iter().for_each(Ushers::dismiss);
        }
    }

    /// A worker has left; true: it was the last.
    pub(crate) fn note_exit(&self) -> bool {
        let last = self.running.fetch_sub(1, Ordering::SeqCst) == 1;
        if last {
            self.note_empty();
        } else {
            self.note_quiet();
        }
        last
    }

    /// The runtime has dropped all workers with work left: what is queued or waits ends as aborted, on
    /// this thread, and what comes later on the thread that it comes from.
    pub(crate) fn abandon(&self) {
        self.close(true);
        self.live_executors()
            .iter()
            .for_each(|executor| executor.refuse(Shutdown::Abort));
        // When all that can be run is to be aborted. What was pushed before is found below.
        self.phase.store(ABANDONED, Ordering::SeqCst);
        self.run_leftovers();
    }

    #[cold]
    fn run_leftovers(&self) {
        self.leftovers.run(
            || self.has_work(),
            || {
                let _duty = worker::OnDuty::new(self, 0);
                let mut runner = worker::Runner::resumed(self, 0, false, worker::Pace::default());
                // Whatever this thread was at has not called what is aborted here, and is not waited for.
                frame::apart(|| while runner.run_batch() {});
            },
        );
    }

    fn resolve(&self, which: impl Fn(&Watcher) -> bool) {
        let mut watchers = self.watchers.lock().unwrap_or_else(PoisonError::into_inner);
        let (hit, rest) = watchers.drain(..).partition::<Vec<_>, _>(which);
        *watchers = rest;
        self.watched.store(watchers.len(), Ordering::SeqCst);
        drop(watchers);
        hit.into_iter().for_each(Watcher::tell);
    }

    pub(super) fn watch(&self, watcher: Watcher) {
        let mut watchers = self.watchers.lock().unwrap_or_else(PoisonError::into_inner);
        // Who gave up is not remembered until the next quiet moment, which may be far.
        watchers.retain(Watcher::is_awaited);
        if self.timers.are_empty() {
            // Whoever has found that tells those whom it finds here, and nobody after that.
            drop(watchers);
            return watcher.tell();
        }
        watchers.push(watcher);
        self.watched.store(watchers.len(), Ordering::SeqCst);
        drop(watchers);
        if self.is_left() {
            self.note_empty();
        } else {
            self.note_quiet();
        }
    }

    /// How many wait for the workers, or did and gave up since.
    #[cfg(all(test, not(loom)))]
    pub(crate) fn watchers(&self) -> usize {
        self.watched.load(Ordering::SeqCst)
    }

    /// Lets nobody join any more; the executors that have.
    pub(super) fn begin_shutdown(&self) -> Vec<Arc<dyn Lifecycle>> {
        self.phase.fetch_max(REFUSING, Ordering::SeqCst);
        self.live_executors()
    }

    /// Refuses new tasks, and lets the workers leave when nothing is left.
    pub(super) fn close(&self, abort: bool) {
        // The phase last: a worker that reads it finds in the lanes all that was ever accepted.
        self.close_timers();
        for worker in &self.workers {
            worker.lane.close();
        }
        let phase = if abort { ABORTING } else { STOPPING };
        self.phase.fetch_max(phase, Ordering::SeqCst);
        if abort {
            self.abort_waiting();
        }
        self.wake_all();
    }

    /// Wakes every waiting task, to be aborted by the worker that runs it.
    pub(crate) fn abort_waiting(&self) {
        self.waiting.held().iter().for_each(CellRef::wake);
    }

    /// Lets an executor join; false: a shutdown has begun, and may have missed it.
    #[must_use]
    pub(crate) fn adopt(&self, executor: Weak<dyn Lifecycle>) -> bool {
        let mut executors = self
            .executors
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        executors.retain(|known| known.strong_count() != 0);
        executors.push(executor);
        drop(executors);
        // After the lock: a shutdown that has not seen it has said so before it looked.
        !self.is_refusing()
    }
}

/// Closes the core when the last handle and the last executor are gone.
pub(crate) struct CoreHandle(pub(crate) Arc<CoreShared>);

impl Drop for CoreHandle {
    fn drop(&mut self) {
        self.0.close(false);
    }
}
