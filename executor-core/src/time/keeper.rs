//! The thread that keeps the time of workers that are tasks.
//!
//! A thread of the runtime's blocking pool, lent while there is a timer and given back when there is
//! none. It fires what is due itself, so that a worker is woken only for what is to be run.
//!
//! No timer is missed: who makes the next tick earlier does so before the look at `watch`, and the
//! keeper looks at the next tick after it has written `watch`; all are `SeqCst`. It gives its place
//! up under the lock under which it is called.

use std::sync::{Arc, PoisonError};
use std::thread::{self, Thread};
use std::time::Instant;

use tokio::runtime::Handle;

use crate::core::CoreShared;
use crate::sync::plain::{Mutex, MutexGuard};
use crate::sync::{AtomicU64, Ordering, model_fence};
use crate::time::wheel::NEVER;

/// The place of the keeper.
pub(crate) struct Keeper {
    runtime: Handle,
    /// Until when the keeper sleeps at most; 0 while it is awake, or about to be; [`NEVER`]: there
    /// is none.
    watch: AtomicU64,
    place: Mutex<Place>,
}

#[derive(Default)]
struct Place {
    /// Whether somebody was called and has not left.
    taken: bool,
    thread: Option<Thread>,
}

/// A keeper on duty; it leaves its place also when the runtime drops it without running it.
struct OnDuty {
    core: Arc<CoreShared>,
    /// Whether it has left its place, which may be another's by now.
    has_left: bool,
}

impl Drop for OnDuty {
    fn drop(&mut self) {
        if let (Some(keeper), false) = (&self.core.timers.keeper, self.has_left) {
            let mut place = keeper.lock();
            *place = Place::default();
            keeper.watch.store(NEVER, Ordering::SeqCst);
        }
    }
}

impl Keeper {
    pub(crate) fn new(runtime: Handle) -> Self {
        Self {
            runtime,
            watch: AtomicU64::new(NEVER),
            place: Mutex::default(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Place> {
        self.place.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next tick is `tick` now: calls a keeper, or wakes it if it would sleep too long.
    pub(crate) fn note_earlier(&self, tick: u64, core: &CoreShared) {
        model_fence();
        if tick >= self.watch.load(Ordering::SeqCst) {
            return;
        }
        let mut place = self.lock();
        if let Some(thread) = &place.thread {
            self.watch.store(0, Ordering::SeqCst);
            thread.unpark();
        } else if !place.taken {
            let Some(core) = core.timers.clockwork.core() else {
                return;
            };
            place.taken = true;
            self.watch.store(0, Ordering::SeqCst);
            drop(place);
            let duty = OnDuty {
                core,
                has_left: false,
            };
            drop(self.runtime.spawn_blocking(move || duty.keep()));
        }
    }

    /// Wakes the keeper, to see that it is over.
    pub(crate) fn dismiss(&self) {
        if let Some(thread) = &self.lock().thread {
            thread.unpark();
        }
    }
}

impl OnDuty {
    fn keep(mut self) {
        let core = Arc::clone(&self.core);
        let timers = &core.timers;
        let Some(keeper) = &timers.keeper else { return };
        keeper.lock().thread = Some(thread::current());
        loop {
            while core.tend() {}
            let next = timers.clockwork.next();
            let mut place = keeper.lock();
            keeper.watch.store(next, Ordering::SeqCst);
            model_fence();
            if timers.clockwork.next() < next {
                keeper.watch.store(0, Ordering::SeqCst);
                continue;
            }
            if next == NEVER || timers.is_over() {
                // Who makes it earlier from here on finds the place vacant.
                *place = Place::default();
                self.has_left = true;
                return;
            }
            drop(place);
            let left = timers
                .instant_of(next)
                .saturating_duration_since(Instant::now());
            if !left.is_zero() {
                thread::park_timeout(left);
            }
        }
    }
}
