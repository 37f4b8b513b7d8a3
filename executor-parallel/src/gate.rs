//! What lies behind the permits: who waits for one, what is owed, drains, and the end.
//!
//! The lock here is taken when a permit is not to be had, by every message that has to wait for one and by
//! who hands permits to many of those at once, and on every operation while the permits are frozen
//! (`permits`, Modes). No user code runs under it.

mod line;
mod serve;
#[cfg(all(test, not(loom)))]
mod tests;
mod waiting;

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, Ordering};
use std::sync::{Arc, PoisonError, Weak};

use executor_core::engine::sync::{Mutex, MutexGuard};
use executor_core::engine::{
    Counts, Ended, Limiter, Parked, UNADMITTED, inherited_generation, promise,
};
use executor_core::{Completion, Environment, RejectReason, Totals, WorkerCore};

use self::line::{Drain, Finished, Line, Waiter};
pub(crate) use self::waiting::{InLine, Served};
use crate::permits::{Attempt, Given, Mode, Permits};

const OPEN: u8 = 0;
const CLOSED: u8 = 1;
const ABORTING: u8 = 2;

/// What all handles of one parallel executor share.
pub(crate) struct Gate {
    pub(crate) me: Weak<Self>,
    pub(crate) core: WorkerCore,
    pub(crate) environment: Environment,
    pub(crate) counts: Counts,
    permits: Permits,
    queue: usize,
    line: Mutex<Line>,
    served: Served,
    phase: AtomicU8,
    /// Whether no handle is left, so that nothing is delayed any more.
    pub(crate) abandoned: AtomicBool,
    /// The drain generation of new messages.
    generation: AtomicU32,
}

impl Gate {
    pub(crate) fn new(
        core: WorkerCore,
        environment: Environment,
        limit: usize,
        queue: usize,
    ) -> Arc<Self> {
        Arc::new_cyclic(|me| Self {
            me: Weak::clone(me),
            environment: environment.with_time(&core),
            core,
            counts: Counts::default(),
            permits: Permits::new(limit),
            queue,
            line: Mutex::new(Line::new(limit)),
            served: Served::nobody(),
            phase: AtomicU8::new(OPEN),
            abandoned: AtomicBool::new(false),
            generation: AtomicU32::new(0),
        })
    }

    fn lock(&self) -> MutexGuard<'_, Line> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The lock, when nobody waits for whom a permit is free: for who would be refused because of them.
    fn lock_served(&self) -> MutexGuard<'_, Line> {
        let line = self.lock();
        if line.waiting() == 0 || self.permits.free() == 0 {
            return line;
        }
        drop(line);
        self.serve(None);
        self.lock()
    }

    /// The generation of a message admitted here.
    #[inline]
    pub(crate) fn generation(&self) -> u32 {
        inherited_generation(&self.environment)
            .unwrap_or_else(|| self.generation.load(Ordering::Relaxed))
    }

    /// Takes a permit without waiting.
    #[inline]
    pub(crate) fn try_take(&self, generation: u32) -> Result<(), RejectReason> {
        match self.permits.try_take() {
            Attempt::Taken => Ok(()),
            Attempt::AskGate => self.try_take_slowly(generation),
        }
    }

    /// The same, for who would wait rather than be refused.
    #[inline]
    pub(crate) fn try_take_quickly(&self) -> bool {
        self.permits.try_take() == Attempt::Taken
    }

    #[cold]
    fn try_take_slowly(&self, generation: u32) -> Result<(), RejectReason> {
        let mut line = self.lock_served();
        if self.is_closed() {
            return Err(RejectReason::Closed);
        }
        self.restrict(&mut line, Mode::Awaited);
        let free = self.take_if_first(&line);
        if free {
            line.admit(generation);
        }
        let limit = line.limit;
        self.relax_if_calm(&mut line);
        if free {
            Ok(())
        } else {
            Err(RejectReason::NoPermit { limit })
        }
    }

    /// Takes a permit if nobody waits for it.
    fn take_if_first(&self, line: &Line) -> bool {
        line.waiting() == 0 && self.permits.take()
    }

    /// Queues a message for the workers, which run it when it has a permit.
    #[cold]
    pub(crate) fn submit(
        &self,
        generation: u32,
        message: Parked,
    ) -> Result<(), (RejectReason, Parked)> {
        self.submit_within(self.queue, generation, message)
    }

    fn submit_within(
        &self,
        queue: usize,
        generation: u32,
        message: Parked,
    ) -> Result<(), (RejectReason, Parked)> {
        let mut line = self.lock();
        if line.waiting() >= queue {
            drop(line);
            line = self.lock_served();
        }
        if self.is_closed() {
            return Err((RejectReason::Closed, message));
        }
        if line.waiting() >= queue {
            return Err((RejectReason::Full { limit: queue }, message));
        }
        self.restrict(&mut line, Mode::Awaited);
        line.admit(generation);
        if self.take_if_first(&line) {
            self.relax_if_calm(&mut line);
            drop(line);
            message.release(&self.core);
        } else {
            line.push(generation, Waiter::Message(message));
        }
        Ok(())
    }

    /// Gives a permit back, to the first in line if somebody waits.
    #[inline(always)]
    pub(crate) fn give(&self, generation: u32) {
        match self.permits.give() {
            Given::Back => {}
            given => self.look_after(given, Finished::counted(generation)),
        }
    }

    /// Counts a message as handled and gives its permit back, in one.
    #[inline(always)]
    pub(crate) fn give_handled(&self, generation: u32) {
        match self.permits.give_handled() {
            Given::Back => {}
            given => self.look_after(given, Finished::handled(generation)),
        }
    }

    /// What is left to be done about a permit, and about the count of its message.
    #[cold]
    fn look_after(&self, given: Given, finished: Finished) {
        match given {
            Given::Back => {}
            Given::BackAndFull(counted) => self.counts.handled(counted),
            Given::First => {
                if finished.handled {
                    self.counts.handled(1);
                }
                self.give_first(finished.generation);
            }
            Given::AskGate => self.serve(Some(finished)),
        }
    }

    /// How the messages so far ended.
    pub(crate) fn totals(&self) -> Totals {
        let mut totals = self.counts.totals();
        let line = self.lock();
        totals.handled += self.permits.handled() + line.handled;
        totals.waited += line.waited;
        totals
    }

    /// Sees to it that the permits are in this mode, or in a stricter one.
    fn restrict(&self, line: &mut Line, mode: Mode) {
        if line.mode < mode {
            self.change_mode(line, mode);
        }
    }

    /// Lets everybody do without the lock what nothing forbids any more.
    fn relax_if_calm(&self, line: &mut Line) {
        // Nobody hears of a drain that was given up: it keeps nothing from being calm.
        line.drains.retain(|drain| drain.done.is_awaited());
        let needed = if self.is_closed() {
            Mode::Frozen
        } else {
            line.needs()
        };
        debug_assert!(needed <= line.mode, "whoever came has seen to it");
        if needed == line.mode {
            line.calm = 0;
            return;
        }
        line.calm += 1;
        // Whoever comes in a mode that is too strict has the lock to take, and who relaxes it and restricts
        // it again touches every shard twice: so long is waited that the one costs as much as the other.
        if line.calm >= self.permits.shards() {
            self.change_mode(line, needed);
        }
    }

    fn change_mode(&self, line: &mut Line, mode: Mode) {
        self.permits.change_mode(line.mode, mode);
        line.mode = mode;
        line.calm = 0;
    }

    /// Changes the limit: raised at once, lowered as permits come back.
    pub(crate) fn set_limit(&self, limit: usize) {
        let mut line = self.lock();
        self.move_limit(&mut line, limit);
        drop(line);
        self.serve(None);
    }

    fn move_limit(&self, line: &mut Line, limit: usize) {
        self.restrict(line, Mode::Frozen);
        let old = std::mem::replace(&mut line.limit, limit);
        if limit >= old {
            let more = limit - old;
            let forgiven = more.min(line.owed);
            line.owed -= forgiven;
            self.permits.add(more - forgiven);
        } else {
            line.owed += old - limit;
            self.settle_owed(line);
        }
    }

    /// Keeps free permits back that a lowered limit has left over.
    fn settle_owed(&self, line: &mut Line) {
        if line.owed > 0 {
            line.owed -= self.permits.take_up_to(line.owed);
        }
    }

    /// A completion that is ready when everything admitted so far is handled.
    pub(crate) fn drained(&self) -> Completion<()> {
        let (done, completion) = promise();
        let mut line = self.lock();
        self.restrict(&mut line, Mode::Frozen);
        let generation = self.generation.load(Ordering::Relaxed);
        let next = match generation.wrapping_add(1) {
            UNADMITTED => 0,
            next => next,
        };
        self.generation.store(next, Ordering::SeqCst);
        line.drains.retain(|drain| drain.done.is_awaited());
        let left = self.in_flight(&line);
        if left == 0 {
            self.relax_if_calm(&mut line);
            drop(line);
            done.fulfil(());
        } else {
            line.drains.push(Drain {
                generation,
                left,
                done,
            });
        }
        completion
    }

    /// Messages that have a permit or wait for one, at one moment.
    pub(crate) fn count(&self) -> usize {
        let mut line = self.lock();
        self.restrict(&mut line, Mode::Frozen);
        let count = self.in_flight(&line);
        self.relax_if_calm(&mut line);
        count
    }

    /// Messages that have a permit or wait for one; exact while frozen.
    fn in_flight(&self, line: &Line) -> usize {
        (line.limit + line.owed).saturating_sub(self.permits.free()) + line.waiting()
    }

    /// Refuses new messages.
    pub(crate) fn close(&self, abort: bool) {
        let mut line = self.lock();
        self.restrict(&mut line, Mode::Frozen);
        self.phase
            .fetch_max(if abort { ABORTING } else { CLOSED }, Ordering::SeqCst);
        drop(line);
        if abort {
            self.serve(None);
        }
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.phase.load(Ordering::SeqCst) != OPEN
    }

    pub(crate) fn queue(&self) -> usize {
        self.queue
    }

    pub(crate) fn limit(&self) -> usize {
        self.lock().limit
    }

    pub(crate) fn free(&self) -> usize {
        self.permits.free()
    }

    pub(crate) fn waiting(&self) -> usize {
        self.lock().waiting()
    }

    pub(crate) fn running(&self) -> usize {
        let line = self.lock();
        (line.limit + line.owed).saturating_sub(self.permits.free())
    }
}

impl Limiter for Gate {
    fn environment(&self) -> &Environment {
        &self.environment
    }

    fn retire(&self, outcome: Ended, generation: u32) {
        if outcome.is_value() {
            self.give_handled(generation);
        } else {
            self.counts.ended(outcome);
            self.give(generation);
        }
    }

    fn is_aborting(&self) -> bool {
        self.phase.load(Ordering::Relaxed) == ABORTING
    }

    fn generation(&self) -> u32 {
        self.generation.load(Ordering::Relaxed)
    }

    fn admit(&self, generation: u32, message: Parked) -> Result<(), Parked> {
        if self.permits.try_take() == Attempt::Taken {
            message.release(&self.core);
            return Ok(());
        }
        // Its own place is kept for it: the bound is for those who can be told to wait.
        self.submit_within(usize::MAX, generation, message)
            .map_err(|(_closed, message)| message)
    }

    fn forgo(&self, outcome: Ended) {
        self.counts.ended(outcome);
    }
}
