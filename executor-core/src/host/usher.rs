//! Why who wakes a worker task on a thread of its runtime sends an usher after it, and when somebody looks whether
//! it has come.
//!
//! # The place of its own
//! A thread of a tokio runtime keeps the task that was woken on it last to itself, to run it next. If what is
//! run on the thread now blocks it, a handler of another worker task or a task of the user, nobody comes for
//! the worker that was woken, although other threads of the runtime are idle; and as it is about to look for
//! work, nobody wakes another. So a task that does nothing is woken after it and takes that place: the worker
//! moves on to where all threads look, and one of them is told.
//!
//! # The look
//! The runtime tells a thread that is parked. One that has found nothing and is about to park counts as awake,
//! and parks without another look unless it was one of the few that search. If it is the only one left, nobody
//! comes, whoever woke the worker and wherever it lies, until something else wakes that thread; and meanwhile
//! the worker counts as searching, so that nobody wakes another. When a thread was parked all the while it was
//! told, or a searcher looks. Otherwise an attendant, on a thread of the blocking pool, looks a little later
//! whether the worker has come, and has the runtime told again. There is one at a time, and it stays for 50 ms
//! at most.

use std::future::{poll_fn, ready};
use std::sync::{Arc, PoisonError, Weak};
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::Duration;

use tokio::runtime::{Handle, RuntimeFlavor, RuntimeMetrics};

use crate::core::CoreShared;
use crate::sync::plain::{Mutex, OnceLock};
use crate::sync::{AtomicU8, AtomicUsize, Ordering};
use crate::thread_id;

/// It was woken, or made, and has not run since.
const OUT: usize = usize::MAX;
/// After how long an attendant looks, again and again,
const LOOK_INTERVAL: Duration = Duration::from_millis(2);
/// and how often at most: a worker that has not come then finds every thread busy.
const LOOKS: usize = 25;

/// The ushers of a core, one for each thread of its runtime, more or less, and the attendant.
pub(crate) struct Ushers {
    runtime: Handle,
    metrics: RuntimeMetrics,
    /// A power of two.
    all: Box<[Usher]>,
    /// 1: there is an attendant, who sees whoever was woken before this was found.
    attended: AtomicU8,
    core: OnceLock<Weak<CoreShared>>,
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
        let metrics = runtime.metrics();
        let threads = metrics.num_workers();
        let ushers = (2 * threads).next_power_of_two().min(64);
        (runtime.runtime_flavor() != RuntimeFlavor::CurrentThread && threads > 1).then(|| Self {
            runtime: runtime.clone(),
            metrics,
            all: (0..ushers).map(|_| Usher::new()).collect(),
            attended: AtomicU8::new(0),
            core: OnceLock::new(),
        })
    }

    /// Wakes workers by `wake`, to run beside this thread whatever that does next.
    pub(crate) fn lead(&self, wake: impl FnOnce()) {
        let parked = self.parked();
        wake();
        self.send();
        let is_told = parked.is_some_and(|(thread, count)| self.parks(thread) == count);
        if !is_told {
            self.attend();
        }
    }

    /// How often a thread of the runtime has parked and woken; odd: it is parked.
    fn parks(&self, thread: usize) -> u64 {
        self.metrics.worker_park_unpark_count(thread)
    }

    /// A thread that is parked, if one is, and how often it has parked and woken.
    fn parked(&self) -> Option<(usize, u64)> {
        (0..self.metrics.num_workers())
            .map(|thread| (thread, self.parks(thread)))
            .find(|(_, count)| count % 2 == 1)
    }

    fn here(&self) -> &Usher {
        &self.all[thread_id::current() & (self.all.len() - 1)]
    }

    /// Takes the place of the task that was woken last on this thread, if that has one.
    fn send(&self) {
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

    /// Calls an attendant, if there is none.
    #[cold]
    fn attend(&self) {
        // ORDERING: Release: an attendant that leaves after this has seen who was woken before.
        if self.attended.swap(1, Ordering::AcqRel) == 1 {
            return;
        }
        let Some(core) = self.core.get().and_then(Weak::upgrade) else {
            return;
        };
        // Dropped with its runtime, it attends to nobody: nothing runs there any more.
        drop(self.runtime.spawn_blocking(move || {
            core.ushers
                .iter()
                .for_each(|ushers| ushers.look_after(&core));
        }));
    }

    /// What an attendant does.
    fn look_after(&self, core: &CoreShared) {
        for _ in 0..LOOKS {
            thread::sleep(LOOK_INTERVAL);
            if core.awaits_worker() {
                self.runtime.spawn(ready(()));
                continue;
            }
            // ORDERING: Acquire: whoever found an attendant until now has woken whom it woke before.
            self.attended.swap(0, Ordering::AcqRel);
            if !core.awaits_worker() || self.attended.swap(1, Ordering::AcqRel) == 1 {
                return;
            }
        }
        self.attended.store(0, Ordering::Release);
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
        ushers.core.get_or_init(|| Arc::downgrade(core));
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
