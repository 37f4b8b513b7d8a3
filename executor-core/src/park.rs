//! How one worker sleeps: a flag, and a thread or task to wake.
//!
//! The flag decides; the thread's own park token is only a hint, since handlers may park and
//! unpark the thread too.

#[cfg(all(test, not(loom)))]
mod tests;

use std::sync::PoisonError;
use std::task::{Context, Poll, Waker};
use std::thread::{self, Thread};
use std::time::Instant;

use crate::sync::plain::Mutex;
use crate::sync::{AtomicU8, Ordering};

const ASLEEP: u8 = 0;
const WOKEN: u8 = 1;

/// Whom to wake.
enum Sleeper {
    Nobody,
    Thread(Thread),
    Task(Waker),
}

/// One worker's bed.
pub(crate) struct Parker {
    flag: AtomicU8,
    sleeper: Mutex<Sleeper>,
}

impl Parker {
    pub(crate) fn new() -> Self {
        Self {
            flag: AtomicU8::new(ASLEEP),
            sleeper: Mutex::new(Sleeper::Nobody),
        }
    }

    /// Names the calling thread as the one that sleeps here.
    pub(crate) fn settle_thread(&self) {
        *self.sleeper.lock().unwrap_or_else(PoisonError::into_inner) =
            Sleeper::Thread(thread::current());
    }

    /// Sleeps until [`Parker::wake`]; a wake that came before counts.
    pub(crate) fn park(&self) {
        // ORDERING: Acquire pairs with the Release of `wake`.
        while self.flag.swap(ASLEEP, Ordering::Acquire) != WOKEN {
            thread::park();
        }
    }

    /// Sleeps until [`Parker::wake`] or `deadline`; false: nobody has woken it.
    pub(crate) fn park_until(&self, deadline: Instant) -> bool {
        // ORDERING: as above.
        while self.flag.swap(ASLEEP, Ordering::Acquire) != WOKEN {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            thread::park_timeout(left);
        }
        true
    }

    /// As [`Parker::park`], for a task.
    pub(crate) fn poll_park(&self, context: &mut Context<'_>) -> Poll<()> {
        if self.flag.swap(ASLEEP, Ordering::Acquire) == WOKEN {
            return Poll::Ready(());
        }
        let mut sleeper = self.sleeper.lock().unwrap_or_else(PoisonError::into_inner);
        match &*sleeper {
            Sleeper::Task(waker) if waker.will_wake(context.waker()) => {}
            _ => *sleeper = Sleeper::Task(context.waker().clone()),
        }
        drop(sleeper);
        // A wake between the swap and the registration left the flag set.
        if self.flag.swap(ASLEEP, Ordering::Acquire) == WOKEN {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    }

    /// Whether somebody has woken the worker, and it does not know yet.
    pub(crate) fn is_called(&self) -> bool {
        // ORDERING: Acquire, as where it wakes up.
        self.flag.load(Ordering::Acquire) == WOKEN
    }

    /// A task that sleeps here is gone, called or not.
    pub(crate) fn leave(&self) {
        self.flag.store(ASLEEP, Ordering::Relaxed);
    }

    /// Wakes the worker, or keeps it from falling asleep.
    pub(crate) fn wake(&self) {
        // ORDERING: Release publishes what the waker's thread did before.
        if self.flag.swap(WOKEN, Ordering::AcqRel) == WOKEN {
            return;
        }
        let sleeper = self.sleeper.lock().unwrap_or_else(PoisonError::into_inner);
        match &*sleeper {
            Sleeper::Thread(thread) => thread.unpark(),
            Sleeper::Task(waker) => waker.wake_by_ref(),
            Sleeper::Nobody => {}
        }
    }
}
