//! Why who wakes a worker task on a thread of its runtime sends an usher after it.
//!
//! A thread of a tokio runtime keeps the task that was woken on it last to itself, to run it next. If what is
//! run on the thread now blocks it, a handler of another worker task or a task of the user, nobody comes for
//! the worker that was woken, although other threads of the runtime are idle; and as it is about to look for
//! work, nobody wakes another. So a task that does nothing is woken after it and takes that place: the worker
//! moves on to where all threads look, and one of them is told.

use std::future::{poll_fn, ready};
use std::sync::{Arc, PoisonError};
use std::task::{Context, Poll, Waker};

use tokio::runtime::{Handle, RuntimeFlavor};

use crate::core::CoreShared;
use crate::sync::plain::Mutex;
use crate::sync::{AtomicUsize, Ordering};
use crate::thread_id;

/// It was woken, or made, and has not run since.
const OUT: usize = usize::MAX;

/// The ushers of a core, one for each thread of its runtime, more or less.
pub(crate) struct Ushers {
    runtime: Handle,
    /// A power of two.
    all: Box<[Usher]>,
}

/// A task that is woken for the place that it takes.
struct Usher {
    /// The thread on which it ran last, or `OUT`.
    ran_on: AtomicUsize,
    /// None before its first run.
    waker: Mutex<Option<Waker>>,
}

impl Ushers {
    /// Those of a core on this runtime, if it has threads that can wait for each other.
    pub(crate) fn new(runtime: &Handle) -> Option<Self> {
        let ushers = (2 * runtime.metrics().num_workers()).next_power_of_two();
        (runtime.runtime_flavor() != RuntimeFlavor::CurrentThread).then(|| Self {
            runtime: runtime.clone(),
            all: (0..ushers.min(64)).map(|_| Usher::new()).collect(),
        })
    }

    fn here(&self) -> &Usher {
        &self.all[thread_id::current() & (self.all.len() - 1)]
    }

    /// Takes the place of the task that was woken last on this thread, if that has one.
    pub(crate) fn send(&self) {
        // Whoever is in no task is on no thread of a runtime, and has woken others for all threads.
        if tokio::task::try_id().is_none() {
            return;
        }
        let usher = self.here();
        let ran_on = usher.ran_on.swap(OUT, Ordering::Relaxed);
        if ran_on != thread_id::current() {
            // It lies somewhere, or runs still where it ran last and would be run there again. Any other
            // task will do.
            self.runtime.spawn(ready(()));
        }
        if ran_on != OUT {
            usher.wake();
        }
    }

    /// Whether this thread's is to be let run before it is sent again.
    pub(crate) fn are_out(&self) -> bool {
        self.here().ran_on.load(Ordering::Relaxed) == OUT
    }

    /// Lets them look whether they are needed any more.
    pub(crate) fn dismiss(&self) {
        self.all.iter().for_each(Usher::wake);
    }

    /// Starts them; they live until the last worker has left.
    pub(super) fn start(core: &Arc<CoreShared>) {
        let Some(ushers) = &core.ushers else { return };
        for index in 0..ushers.all.len() {
            let core = Arc::downgrade(core);
            ushers.runtime.spawn(poll_fn(move |context| {
                let Some(core) = core.upgrade() else {
                    return Poll::Ready(());
                };
                if let Some(ushers) = &core.ushers {
                    ushers.all[index].poll(context);
                }
                // After it can be woken: the last worker to leave wakes it then.
                if core.is_left() {
                    Poll::Ready(())
                } else {
                    Poll::Pending
                }
            }));
        }
    }
}

impl Usher {
    fn new() -> Self {
        Self {
            ran_on: AtomicUsize::new(OUT),
            waker: Mutex::new(None),
        }
    }

    fn wake(&self) {
        let waker = self.waker.lock().unwrap_or_else(PoisonError::into_inner);
        waker.iter().for_each(Waker::wake_by_ref);
    }

    fn poll(&self, context: &Context<'_>) {
        let mut waker = self.waker.lock().unwrap_or_else(PoisonError::into_inner);
        *waker = Some(context.waker().clone());
        self.ran_on.store(thread_id::current(), Ordering::Relaxed);
    }
}
