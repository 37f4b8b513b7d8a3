//! Why a worker task that wakes another sends an usher after it.
//!
//! A thread of a tokio runtime keeps the task that was woken on it last to itself, to run it next. When a
//! worker task wakes another for work of which it has too much, and then runs a message that blocks the
//! thread, nobody comes for the one that was woken, although other threads of the runtime are idle. So the
//! worker task wakes one more that does nothing and takes that place: who had it moves on to where all
//! threads look, and one of them is told.

use std::future::{poll_fn, ready};
use std::sync::{Arc, PoisonError};
use std::task::{Context, Poll, Waker};

use tokio::runtime::{Handle, RuntimeFlavor};

use crate::core::CoreShared;
use crate::sync::plain::Mutex;
use crate::sync::{AtomicU8, Ordering};

/// There is none: the worker is a thread, or the only task, or one of a runtime with one thread.
const ABSENT: u8 = 0;
/// It can be woken.
const IN: u8 = 1;
/// It was woken, or made, and has not run since.
const OUT: u8 = 2;

/// What is known of the usher of one worker.
pub(crate) struct Usher {
    state: AtomicU8,
    waker: Mutex<Option<Waker>>,
}

impl Usher {
    pub(crate) fn new() -> Self {
        Self {
            state: AtomicU8::new(ABSENT),
            waker: Mutex::new(None),
        }
    }

    /// Takes the place of the task that was woken last on this thread, which is the worker's.
    pub(crate) fn send(&self) {
        if self.state.load(Ordering::Relaxed) == ABSENT {
            return;
        }
        if self.state.swap(OUT, Ordering::Relaxed) == IN {
            self.wake();
        } else {
            // It lies somewhere else. Any other task will do.
            tokio::spawn(ready(()));
        }
    }

    /// Whether it is to be let run before it is sent again.
    pub(crate) fn is_out(&self) -> bool {
        self.state.load(Ordering::Relaxed) == OUT
    }

    /// Lets it look whether it is needed any more.
    pub(crate) fn wake(&self) {
        let waker = self.waker.lock().unwrap_or_else(PoisonError::into_inner);
        waker.iter().for_each(Waker::wake_by_ref);
    }

    fn poll(&self, context: &Context<'_>) {
        let mut waker = self.waker.lock().unwrap_or_else(PoisonError::into_inner);
        *waker = Some(context.waker().clone());
        self.state.store(IN, Ordering::Relaxed);
    }
}

/// Gives each worker an usher, until the last worker has left.
pub(super) fn start_ushers(core: &Arc<CoreShared>, runtime: &Handle) {
    if core.workers.len() == 1 || runtime.runtime_flavor() == RuntimeFlavor::CurrentThread {
        return;
    }
    for (index, worker) in core.workers.iter().enumerate() {
        worker.usher.state.store(OUT, Ordering::Relaxed);
        let core = Arc::downgrade(core);
        runtime.spawn(poll_fn(move |context| {
            let Some(core) = core.upgrade() else {
                return Poll::Ready(());
            };
            core.workers[index].usher.poll(context);
            // After it can be woken: the last worker to leave wakes it then.
            if core.is_left() {
                Poll::Ready(())
            } else {
                Poll::Pending
            }
        }));
    }
}
