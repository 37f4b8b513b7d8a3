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
//! - I2. A push that finds an empty lane calls [`Sleepers::wake_one`] after it; it wakes nobody
//!   when somebody searches.
//! - I3. A worker looks at all lanes again after it entered the sleepers, and after it ceased to
//!   search, and undoes or wakes another when it finds something.
//! - I4. `watch` is the tick until which the first of `sleeping` parks at most, the one who keeps the
//!   time; `NEVER`: nobody does. A worker that lies down with an earlier tick becomes the first. The
//!   first is woken for work only when no other sleeps.
//! - I5. The next tick of the timers counts as a lane in I2 and I3: who makes it earlier than `watch`
//!   wakes somebody, unless somebody searches; and a worker looks at it when it looks at the lanes.
//!   So while a worker sleeps and none searches, `watch` is not later than the next tick.
//!
//! No wake-up is lost: the push (on the lane) and the look at the word are `SeqCst`, as are the
//! change of the word and the look at the lanes. In their single order either the push comes before
//! the worker's last look, which then finds it; or the worker's change comes before the pusher's
//! look at the word, which then finds nobody searching and a sleeper to wake.

use std::sync::PoisonError;

use crate::sync::{AtomicU64, Mutex, MutexGuard, Ordering, model_fence};
use crate::time::wheel::NEVER;

const SLEEPER: u64 = 1;
const SEARCHER: u64 = 1 << 32;

/// The workers that have nothing to do.
pub(crate) struct Sleepers {
    word: AtomicU64,
    /// Changed under the lock alone.
    watch: AtomicU64,
    sleeping: Mutex<Vec<usize>>,
}

impl Sleepers {
    pub(crate) fn new(workers: usize) -> Self {
        Self {
            word: AtomicU64::new(0),
            watch: AtomicU64::new(NEVER),
            sleeping: Mutex::new(Vec::with_capacity(workers)),
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

    fn should_wake(word: u64) -> bool {
        word != 0 && word < SEARCHER
    }

    #[cold]
    fn pick(&self) -> Option<usize> {
        let mut sleeping = self.lock();
        if !Self::should_wake(self.word.load(Ordering::SeqCst)) {
            return None;
        }
        let worker = sleeping.pop()?;
        if sleeping.is_empty() {
            self.watch.store(NEVER, Ordering::SeqCst);
        }
        self.word.fetch_add(SEARCHER - SLEEPER, Ordering::SeqCst);
        Some(worker)
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
        let worker = sleeping.remove(0);
        self.watch.store(NEVER, Ordering::SeqCst);
        self.word.fetch_add(SEARCHER - SLEEPER, Ordering::SeqCst);
        Some(worker)
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

    /// Enters the sleepers; the caller looks at the lanes again (I3). True: it keeps the time, and
    /// parks until the tick `next` at most.
    pub(crate) fn lie_down(&self, worker: usize, searching: bool, next: u64) -> bool {
        let mut sleeping = self.lock();
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
        keeps
    }

    /// Leaves the sleepers as a searcher; false: somebody has woken this worker already, and it
    /// counts as searching.
    pub(crate) fn get_up(&self, worker: usize) -> bool {
        let mut sleeping = self.lock();
        let Some(at) = sleeping.iter().position(|&asleep| asleep == worker) else {
            return false;
        };
        sleeping.remove(at);
        if at == 0 {
            self.watch.store(NEVER, Ordering::SeqCst);
        }
        self.word.fetch_add(SEARCHER - SLEEPER, Ordering::SeqCst);
        true
    }

    /// How many workers sleep.
    pub(crate) fn asleep(&self) -> usize {
        (self.word.load(Ordering::SeqCst) & (SEARCHER - 1)) as usize
    }

    fn lock(&self) -> MutexGuard<'_, Vec<usize>> {
        self.sleeping.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
