//! The post of the thread that keeps the time: who is there, and until when they sleep.
//!
//! # The word
//! `watch` is the tick until which the keeper sleeps at most; 0 while it is awake or called;
//! [`NEVER`]: nobody is there. It is changed under the lock alone.
//!
//! No timer is missed: who makes the next tick earlier does so before the look at `watch`, and a
//! keeper looks at the next tick after it has written `watch`; all are `SeqCst`. It gives the post up
//! under the lock under which the next one is called, so there is never more than one.

use std::sync::PoisonError;

use crate::sync::{AtomicU64, Mutex, MutexGuard, Ordering, model_fence};
use crate::time::wheel::NEVER;

/// Who has the post; `T` is how a keeper is woken.
enum Holder<T> {
    Nobody,
    /// Somebody who was called and has not come yet.
    Called,
    Keeper(T),
}

/// The post.
pub(crate) struct Post<T> {
    watch: AtomicU64,
    holder: Mutex<Holder<T>>,
}

/// What a keeper that lies down is to do.
#[must_use]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rest {
    /// Look again: the next tick is earlier by now.
    Not,
    /// Sleep until the tick.
    Until,
    /// Go: there is no timer, and the post is somebody else's to take.
    Over,
}

impl<T> Post<T> {
    pub(crate) fn new() -> Self {
        Self {
            watch: AtomicU64::new(NEVER),
            holder: Mutex::new(Holder::Nobody),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Holder<T>> {
        self.holder.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next tick is `tick` now: wakes the keeper if it would sleep too long. True: there is none,
    /// and the caller is to call one, for whom it has taken the post.
    pub(crate) fn note_earlier(&self, tick: u64, wake: impl FnOnce(&T)) -> bool {
        model_fence();
        if tick >= self.watch.load(Ordering::SeqCst) {
            return false;
        }
        let mut holder = self.lock();
        match &*holder {
            Holder::Nobody => {
                *holder = Holder::Called;
                self.watch.store(0, Ordering::SeqCst);
                true
            }
            Holder::Called => false,
            Holder::Keeper(keeper) => {
                self.watch.store(0, Ordering::SeqCst);
                wake(keeper);
                false
            }
        }
    }

    /// Whoever was called has come.
    pub(crate) fn come(&self, keeper: T) {
        *self.lock() = Holder::Keeper(keeper);
    }

    /// The keeper goes to sleep until the tick `next`, or goes if that is [`NEVER`], unless the next
    /// tick that `look` tells is earlier.
    pub(crate) fn lie_down(&self, next: u64, look: impl Fn() -> u64) -> Rest {
        let mut holder = self.lock();
        self.watch.store(next, Ordering::SeqCst);
        model_fence();
        if look() < next {
            self.watch.store(0, Ordering::SeqCst);
            Rest::Not
        } else if next == NEVER {
            *holder = Holder::Nobody;
            Rest::Over
        } else {
            Rest::Until
        }
    }

    /// Whoever has the post goes, or does not come.
    pub(crate) fn leave(&self) {
        let mut holder = self.lock();
        *holder = Holder::Nobody;
        self.watch.store(NEVER, Ordering::SeqCst);
    }

    /// Wakes the keeper, if it is there.
    pub(crate) fn wake(&self, wake: impl FnOnce(&T)) {
        if let Holder::Keeper(keeper) = &*self.lock() {
            wake(keeper);
        }
    }
}
