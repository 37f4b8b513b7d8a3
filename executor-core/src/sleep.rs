//! Who searches, who sleeps, and the rule by which they are woken.
//!
//! # The word
//! | bits | meaning |
//! | --- | --- |
//! | low 32 | how many workers sleep |
//! | high 32 | how many search: awake, and not yet sure that there is nothing to do |
//!
//! # Invariants
//! - I1. The word's sleepers are the entries of `sleeping`; both change under its lock.
//! - I2. A push that finds an empty lane calls [`Sleepers::wake_for_work`] after it; it wakes nobody
//!   when somebody searches, or naps beside one who is awake.
//! - I3. A worker looks at all lanes again after it entered the sleepers, and after it ceased to
//!   search, and undoes or wakes another when it finds something.
//! - I4. `watch` is the tick until which the first of `sleeping` parks at most, the one who keeps the
//!   time; `NEVER`: nobody does. A worker that lies down with an earlier tick becomes the first. The
//!   first is woken for work only when no other sleeps.
//! - I5. The next tick of the timers counts as a lane in I2 and I3: who makes it earlier than `watch`
//!   wakes somebody, unless somebody searches; and a worker looks at it when it looks at the lanes.
//!   So while a worker sleeps and none searches, `watch` is not later than the next tick.
//! - I6. While `napping` is not 0, one of `sleeping` parks for a short while only, and looks at
//!   everything when it gets up. While another worker is awake, which mostly comes first, work is left
//!   to these two: nobody is woken for it ([`Sleepers::wake_for_work`]).
//!
//! No wake-up is lost: the push (on the lane) and the look at the word are `SeqCst`, as are the
//! change of the word and the look at the lanes. In their single order either the push comes before
//! the worker's last look, which then finds it; or the worker's change comes before the pusher's
//! look at the word, which then finds nobody searching and a sleeper to wake.

#[cfg(all(test, not(loom)))]
mod tests;

use std::sync::PoisonError;

use crate::sync::{AtomicU64, AtomicUsize, Mutex, MutexGuard, Ordering, model_fence};
use crate::time::wheel::NEVER;

const SLEEPER: u64 = 1;
const SEARCHER: u64 = 1 << 32;

/// What became of a worker that lay down.
#[must_use]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lain {
    /// It is up again, as a searcher.
    Up,
    /// It parks until it is woken, if it was not already.
    Down {
        /// It keeps the time: it parks until the tick it lay down with at most.
        keeps: bool,
        /// It parks for a nap at most.
        naps: bool,
    },
}

/// The workers that have nothing to do.
pub(crate) struct Sleepers {
    word: AtomicU64,
    /// Changed under the lock alone.
    watch: AtomicU64,
    /// Who naps, counted from 1; changed under the lock alone.
    napping: AtomicUsize,
    sleeping: Mutex<Vec<usize>>,
    /// How many workers there are.
    workers: u64,
}

impl Sleepers {
    pub(crate) fn new(workers: usize) -> Self {
        Self {
            word: AtomicU64::new(0),
            watch: AtomicU64::new(NEVER),
            napping: AtomicUsize::new(0),
            sleeping: Mutex::new(Vec::with_capacity(workers)),
            workers: workers as u64,
        }
    }

    /// The worker to wake for new work, if one should be; it then counts as searching.
    #[inline]
    pub(crate) fn wake_one(&self) -> Option<usize> {
        model_fence();
        if Self::should_wake(self.word.load(Ordering::SeqCst)) {
            self.pick()
        } else {
            None
        }
    }

    /// The same for work that can wait for who naps: nobody is woken either if somebody does, beside
    /// one who is awake.
    #[inline]
    pub(crate) fn wake_for_work(&self) -> Option<usize> {
        if self.would_wake_for_work() {
            self.pick()
        } else {
            None
        }
    }

    /// Whether [`Sleepers::wake_for_work`] would wake somebody.
    #[inline]
    pub(crate) fn would_wake_for_work(&self) -> bool {
        model_fence();
        let word = self.word.load(Ordering::SeqCst);
        Self::should_wake(word) && !(self.is_napping() && word < self.workers)
    }

    fn should_wake(word: u64) -> bool {
        word != 0 && word < SEARCHER
    }

    #[cold]
    fn pick(&self) -> Option<usize> {
        let mut sleeping = self.lock();
        if !Self::should_wake(self.word.load(Ordering::SeqCst)) {
            return None;
        }
        let last = sleeping.len().checked_sub(1)?;
        Some(self.get_up_at(&mut sleeping, last))
    }

    /// The worker to wake because the next tick is earlier than [`Sleepers::watch`]: who keeps the
    /// time, if somebody does. It then counts as searching.
    pub(crate) fn wake_keeper(&self) -> Option<usize> {
        model_fence();
        if !Self::should_wake(self.word.load(Ordering::SeqCst)) {
            return None;
        }
        let mut sleeping = self.lock();
        if !Self::should_wake(self.word.load(Ordering::SeqCst)) {
            return None;
        }
        Some(self.get_up_at(&mut sleeping, 0))
    }

    /// Until which tick whoever keeps the time parks at most.
    pub(crate) fn watch(&self) -> u64 {
        self.watch.load(Ordering::SeqCst)
    }

    /// Takes every sleeper, to wake them all; each counts as searching.
    pub(crate) fn wake_all(&self) -> Vec<usize> {
        let mut sleeping = self.lock();
        let woken = std::mem::take(&mut *sleeping);
        self.watch.store(NEVER, Ordering::SeqCst);
        self.napping.store(0, Ordering::SeqCst);
        self.word
            .fetch_add((SEARCHER - SLEEPER) * woken.len() as u64, Ordering::SeqCst);
        woken
    }

    /// Becomes the searcher; false: another one is at it.
    pub(crate) fn start_searching(&self) -> bool {
        let mut word = self.word.load(Ordering::Relaxed);
        loop {
            if word >= SEARCHER {
                return false;
            }
            match self.word.compare_exchange_weak(
                word,
                word + SEARCHER,
                Ordering::SeqCst,
                Ordering::Relaxed,
            ) {
                Ok(_) => return true,
                Err(seen) => word = seen,
            }
        }
    }

    /// Ceases to search, having found work; the caller looks at the lanes again (I3).
    pub(crate) fn stop_searching(&self) {
        self.word.fetch_sub(SEARCHER, Ordering::SeqCst);
        model_fence();
    }

    /// Enters the sleepers, and leaves them again if `is_needed`, the last look at the lanes and at
    /// the next tick, says so (I3). `next` is the tick until which it parks if it keeps the time, and
    /// `may_nap` whether it would nap, if nobody does.
    pub(crate) fn lie_down(
        &self,
        worker: usize,
        searching: bool,
        next: u64,
        may_nap: bool,
        is_needed: impl FnOnce() -> bool,
    ) -> Lain {
        let down = self.enter(worker, searching, next, may_nap);
        if is_needed() && self.get_up(worker) {
            Lain::Up
        } else {
            down
        }
    }

    fn enter(&self, worker: usize, searching: bool, next: u64, may_nap: bool) -> Lain {
        let mut sleeping = self.lock();
        let naps = may_nap && self.napping.load(Ordering::Relaxed) == 0;
        if naps {
            self.napping.store(worker + 1, Ordering::SeqCst);
        }
        let keeps = next < self.watch.load(Ordering::Relaxed);
        if keeps {
            sleeping.insert(0, worker);
            self.watch.store(next, Ordering::SeqCst);
        } else {
            sleeping.push(worker);
        }
        let leaving = if searching { SEARCHER } else { 0 };
        self.word
            .fetch_add(SLEEPER.wrapping_sub(leaving), Ordering::SeqCst);
        drop(sleeping);
        model_fence();
        Lain::Down { keeps, naps }
    }

    /// Leaves the sleepers as a searcher; false: somebody has woken this worker already, and it
    /// counts as searching.
    pub(crate) fn get_up(&self, worker: usize) -> bool {
        let mut sleeping = self.lock();
        let Some(at) = sleeping.iter().position(|&asleep| asleep == worker) else {
            return false;
        };
        let _me = self.get_up_at(&mut sleeping, at);
        true
    }

    /// Makes a searcher of the sleeper at `at`.
    fn get_up_at(&self, sleeping: &mut Vec<usize>, at: usize) -> usize {
        let worker = sleeping.remove(at);
        if at == 0 {
            self.watch.store(NEVER, Ordering::SeqCst);
        }
        if self.napping.load(Ordering::Relaxed) == worker + 1 {
            self.napping.store(0, Ordering::SeqCst);
        }
        self.word.fetch_add(SEARCHER - SLEEPER, Ordering::SeqCst);
        worker
    }

    /// Whether somebody naps.
    #[inline]
    pub(crate) fn is_napping(&self) -> bool {
        self.napping.load(Ordering::SeqCst) != 0
    }

    /// How many workers sleep, who naps included.
    pub(crate) fn asleep(&self) -> usize {
        (self.word.load(Ordering::SeqCst) & (SEARCHER - 1)) as usize
    }

    fn lock(&self) -> MutexGuard<'_, Vec<usize>> {
        self.sleeping.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
