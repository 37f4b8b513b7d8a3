//! What lies behind the permits: who waits for one, what is owed, drains, and the end.
//!
//! The lock here is taken when a permit is not to be had, and on every operation while the permits
//! are frozen (`permits`, I3). No user code runs under it.

mod line;
#[cfg(all(test, not(loom)))]
mod tests;
mod waiting;

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, Ordering};
use std::sync::{Arc, PoisonError, Weak};

use executor_core::engine::sync::{Mutex, MutexGuard};
use executor_core::engine::{
    Counts, Ended, Limiter, Parked, UNADMITTED, check_exit, inherited_generation, promise,
};
use executor_core::{Completion, Environment, RejectReason, Totals, WorkerCore};

use self::line::{Drain, Line, Waiter};
pub(crate) use self::waiting::{InLine, Wait};
use crate::permits::{Attempt, Given, Permits};

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
            phase: AtomicU8::new(OPEN),
            abandoned: AtomicBool::new(false),
            generation: AtomicU32::new(0),
        })
    }

    fn lock(&self) -> MutexGuard<'_, Line> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
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
        let mut line = self.lock();
        if self.is_closed() {
            return Err(RejectReason::Closed);
        }
        self.freeze(&mut line);
        let free = line.waiters.is_empty() && self.permits.take_frozen();
        if free {
            line.admit(generation);
        }
        let limit = line.limit;
        self.thaw_if_calm(&mut line);
        if free {
            Ok(())
        } else {
            Err(RejectReason::NoPermit { limit })
        }
    }

    /// Waits in line for a permit.
    #[cold]
    pub(crate) fn wait(&self, generation: u32) -> Result<Wait<'_>, RejectReason> {
        let mut line = self.lock();
        if self.is_closed() {
            return Err(RejectReason::Closed);
        }
        self.freeze(&mut line);
        line.admit(generation);
        if line.waiters.is_empty() && self.permits.take_frozen() {
            self.thaw_if_calm(&mut line);
            drop(line);
            return Ok(Wait::Taken);
        }
        // As many again have come since the last time: on the whole it costs each the same.
        if 2 * line.gone > line.waiters.len() {
            line.forget_gone();
        }
        self.counts.waited();
        let (promise, granted) = promise();
        line.push(generation, Waiter::Caller(promise));
        drop(line);
        Ok(Wait::InLine(InLine::new(self, generation, granted)))
    }

    /// Somebody gave up in line.
    #[cold]
    fn gave_up(&self) {
        let mut line = self.lock();
        line.gone += 1;
        if !line.drains.is_empty() {
            // It may have been the last that a drain waited for.
            line.forget_gone();
            drop(line);
            self.serve(None);
        }
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
        if self.is_closed() {
            return Err((RejectReason::Closed, message));
        }
        if line.waiters.len() >= queue {
            line.forget_gone();
        }
        if line.waiters.len() >= queue {
            return Err((RejectReason::Full { limit: queue }, message));
        }
        self.freeze(&mut line);
        line.admit(generation);
        if line.waiters.is_empty() && self.permits.take_frozen() {
            self.thaw_if_calm(&mut line);
            drop(line);
            message.release(&self.core);
        } else {
            line.push(generation, Waiter::Message(message));
        }
        Ok(())
    }

    /// Gives a permit back, to the first in line if somebody waits.
    #[inline]
    pub(crate) fn give(&self, generation: u32) {
        if self.permits.give() {
            self.serve(Some(generation));
        }
    }

    /// Counts a message as handled and gives its permit back, in one.
    #[inline]
    pub(crate) fn give_handled(&self, generation: u32) {
        match self.permits.give_handled() {
            Given::Back => {}
            Given::BackAndFull(counted) => self.counts.handled(counted),
            Given::AskGate => {
                self.counts.ended(Ended::VALUE);
                self.serve(Some(generation));
            }
        }
    }

    /// How the messages so far ended.
    pub(crate) fn totals(&self) -> Totals {
        let mut totals = self.counts.totals();
        totals.handled += self.permits.handled();
        totals
    }

    /// Hands a permit of a message that is over on, if nobody drains, nothing is owed, and all is open.
    ///
    /// # Errors
    /// The message's generation, when that is not so.
    fn pass_on_simply(&self, mut finished: u32) -> Result<(), u32> {
        loop {
            let mut line = self.lock();
            if line.owed != 0 || !line.drains.is_empty() || self.is_closed() {
                return Err(finished);
            }
            let Some((generation, waiter)) = line.waiters.pop_front() else {
                self.permits.add(1);
                self.thaw_if_calm(&mut line);
                return Ok(());
            };
            drop(line);
            if self.hand_over(waiter) {
                return Ok(());
            }
            finished = generation;
        }
    }

    /// Gives a permit to who waited for it; false: the caller has gone meanwhile, and it goes on.
    fn hand_over(&self, waiter: Waiter) -> bool {
        match waiter {
            Waiter::Caller(promise) => promise.fulfil(()),
            Waiter::Message(parked) => {
                parked.release(&self.core);
                true
            }
        }
    }

    /// Hands permits on, settles what is owed and what drains count; `finished` is the generation of a
    /// message that gives its permit back.
    #[cold]
    fn serve(&self, finished: Option<u32>) {
        let mut finished = match finished.map(|generation| self.pass_on_simply(generation)) {
            None => None,
            Some(Err(generation)) => Some(generation),
            Some(Ok(())) => return,
        };
        // Whether the only permit there can be for those who wait is that of the message.
        let mut is_one = finished.is_some();
        loop {
            let mut line = self.lock();
            let mut turned_away = Vec::new();
            // Together under the lock: a drain that begins counts the message either as in flight and
            // sees it leave, or neither.
            let passed_on = finished.take().and_then(|generation| {
                line.leave(generation);
                let next = self.pass_on(&mut line, &mut turned_away);
                if next.is_none() {
                    self.permits.add(1);
                }
                next
            });
            is_one &= passed_on.is_some();
            let next = passed_on.or_else(|| {
                self.settle_owed(&mut line);
                self.next_served(&mut line, &mut turned_away, || self.permits.take_frozen())
            });
            let drained: Vec<_> = line
                .drains
                .extract_if(.., |drain| drain.left == 0)
                .collect();
            self.thaw_if_calm(&mut line);
            let is_over = self.is_closed() && self.in_flight(&line) == 0;
            drop(line);
            // Dropped here and not under the lock: this wakes them.
            drop(turned_away);
            for drain in drained {
                drain.done.fulfil(());
            }
            let Some((generation, waiter)) = next else {
                if is_over {
                    // The workers of a closed core may have stayed for this executor alone.
                    check_exit(&self.core);
                }
                return;
            };
            if !self.hand_over(waiter) {
                finished = Some(generation);
            } else if is_one {
                return;
            }
        }
    }

    /// The first in line, with the permit of a message that is over.
    fn pass_on(&self, line: &mut Line, turned_away: &mut Vec<Waiter>) -> Option<(u32, Waiter)> {
        if line.owed > 0 || self.is_aborting() {
            return None;
        }
        self.next_served(line, turned_away, || true)
    }

    /// The first in line, with a permit if `take` has one; or, in an abort, anybody, to be turned away or aborted.
    fn next_served(
        &self,
        line: &mut Line,
        turned_away: &mut Vec<Waiter>,
        take: impl Fn() -> bool,
    ) -> Option<(u32, Waiter)> {
        loop {
            let (generation, waiter) = line.waiters.pop_front()?;
            match &waiter {
                Waiter::Caller(promise) if self.is_aborting() || !promise.is_awaited() => {
                    line.leave(generation);
                    // Dropped, the promise tells a caller who still waits that it is over.
                    turned_away.push(waiter);
                }
                Waiter::Message(_) if self.is_aborting() => {
                    // It runs without a permit, only to be aborted, and will give one back.
                    line.owed += 1;
                    return Some((generation, waiter));
                }
                _ if take() => return Some((generation, waiter)),
                _ => {
                    line.waiters.push_front((generation, waiter));
                    return None;
                }
            }
        }
    }

    fn freeze(&self, line: &mut Line) {
        if !line.frozen {
            line.frozen = true;
            self.permits.freeze();
        }
    }

    fn thaw_if_calm(&self, line: &mut Line) {
        // Nobody hears of a drain that was given up: it keeps nothing from being calm.
        line.drains.retain(|drain| drain.done.is_awaited());
        let calm = line.waiters.is_empty()
            && line.owed == 0
            && line.drains.is_empty()
            && !self.is_closed();
        line.calm = if calm { line.calm + 1 } else { 0 };
        // Whoever comes while they are frozen has the lock to take, and who thaws and freezes them again
        // touches every shard twice: so long is waited that the one costs as much as the other.
        if line.frozen && line.calm >= self.permits.shards() {
            line.frozen = false;
            self.permits.thaw();
        }
    }

    /// Changes the limit: raised at once, lowered as permits come back.
    pub(crate) fn set_limit(&self, limit: usize) {
        let mut line = self.lock();
        self.move_limit(&mut line, limit);
        drop(line);
        self.serve(None);
    }

    fn move_limit(&self, line: &mut Line, limit: usize) {
        self.freeze(line);
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
            line.owed -= self.permits.take_frozen_up_to(line.owed);
        }
    }

    /// A completion that is ready when everything admitted so far is handled.
    pub(crate) fn drained(&self) -> Completion<()> {
        let (done, completion) = promise();
        let mut line = self.lock();
        line.forget_gone();
        self.freeze(&mut line);
        let generation = self.generation.load(Ordering::Relaxed);
        let next = match generation.wrapping_add(1) {
            UNADMITTED => 0,
            next => next,
        };
        self.generation.store(next, Ordering::SeqCst);
        line.drains.retain(|drain| drain.done.is_awaited());
        let left = self.in_flight(&line);
        if left == 0 {
            self.thaw_if_calm(&mut line);
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
        line.forget_gone();
        self.freeze(&mut line);
        let count = self.in_flight(&line);
        self.thaw_if_calm(&mut line);
        count
    }

    /// Messages that have a permit or wait for one; exact while frozen.
    fn in_flight(&self, line: &Line) -> usize {
        (line.limit + line.owed).saturating_sub(self.permits.free()) + line.waiters.len()
    }

    /// Refuses new messages.
    pub(crate) fn close(&self, abort: bool) {
        let mut line = self.lock();
        self.freeze(&mut line);
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
        let mut line = self.lock();
        line.forget_gone();
        line.waiters.len()
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
