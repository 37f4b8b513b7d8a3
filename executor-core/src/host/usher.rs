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
//! the worker counts as searching, so that nobody wakes another. The same can become of a worker task that lets
//! others go on. When all other threads were parked before, one of them is told. Otherwise an attendant, on
//! a thread of the blocking pool, looks a little later whether the worker has come, and has the runtime told
//! again. There is one at a time, and it stays for 50 ms after the last call at most.

use std::future::{poll_fn, ready};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, PoisonError};
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::Duration;

use tokio::runtime::{Handle, RuntimeFlavor, RuntimeMetrics};
use tokio::task;

use crate::core::CoreShared;
use crate::sync::plain::Mutex;
use crate::sync::{AtomicU8, AtomicUsize, Ordering};
use crate::thread_id;

/// It was woken, or made, and has not run since.
const OUT: usize = usize::MAX;
/// After how long an attendant looks, again and again,
const LOOK_INTERVAL: Duration = Duration::from_millis(5);
/// and how often at most: a worker that has not come then finds every thread busy.
const LOOKS: u8 = 10;

/// The ushers of a core, one for each thread of its runtime, more or less, and the attendant.
pub(crate) struct Ushers {
    runtime: Handle,
    metrics: RuntimeMetrics,
    /// A power of two.
    all: Box<[Usher]>,
    /// How often the attendant looks yet; 0: there is none. Whoever was woken before this was set is seen by the
    /// looks that follow.
    looks: AtomicU8,
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
            looks: AtomicU8::new(0),
        })
    }

    /// Wakes workers of the core by `wake`, to run beside this thread whatever that does next.
    pub(crate) fn lead(&self, core: &CoreShared, wake: impl FnOnce()) {
        // Before, or whoever wakes up for it would count. A thread of the runtime that runs a task is awake itself.
        let are_parked = self.awake() <= usize::from(task::try_id().is_some());
        wake();
        self.send();
        if !are_parked {
            self.attend(core);
        }
    }

    /// How many threads of the runtime are not parked.
    fn awake(&self) -> usize {
        // A count is odd while its thread is parked.
        (0..self.metrics.num_workers())
            .filter(|&thread| {
                self.metrics
                    .worker_park_unpark_count(thread)
                    .is_multiple_of(2)
            })
            .count()
    }

    fn here(&self) -> &Usher {
        &self.all[thread_id::current() & (self.all.len() - 1)]
    }

    /// Takes the place of the task that was woken last on this thread, if that has one.
    fn send(&self) {
        // Whoever is on no thread of a runtime has woken others for all threads. One that is in no task may be at
        // the runtime's timers and sockets, and keeps what it wakes as a task does.
        if task::try_id().is_none() && Handle::try_current().is_err() {
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
    fn attend(&self, core: &CoreShared) {
        // ORDERING: Release: an attendant that leaves after this has seen who was woken before.
        if self.looks.swap(LOOKS, Ordering::AcqRel) != 0 {
            return;
        }
        let Some(core) = core.timers.core() else {
            return;
        };
        let attend = move || {
            let ushers = core.ushers.iter();
            ushers.for_each(|ushers| ushers.look_after(&core));
        };
        // Dropped with its runtime, it attends to nobody: nothing runs there any more. It panics when there is no
        // thread to be had, as a push must not.
        let called = catch_unwind(AssertUnwindSafe(|| self.runtime.spawn_blocking(attend)));
        if called.is_err() {
            self.looks.store(0, Ordering::Release);
        }
    }

    /// What an attendant does.
    fn look_after(&self, core: &CoreShared) {
        loop {
            thread::sleep(LOOK_INTERVAL);
            if core.awaits_worker() {
                self.runtime.spawn(ready(()));
                if self.looks.fetch_sub(1, Ordering::AcqRel) == 1 {
                    return;
                }
                continue;
            }
            // ORDERING: Acquire: whoever found an attendant until now has woken whom it woke before.
            self.looks.swap(0, Ordering::AcqRel);
            if !core.awaits_worker() || self.looks.swap(LOOKS, Ordering::AcqRel) != 0 {
                return;
            }
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

#[cfg(all(test, not(loom)))]
mod tests {
    use std::sync::mpsc;
    use std::time::Instant;

    use tokio::runtime::{Builder, Runtime};

    use super::*;
    use crate::core::WorkerCore;

    fn runtime(threads: usize) -> Runtime {
        let mut builder = Builder::new_multi_thread();
        builder.worker_threads(threads).build().expect("a runtime")
    }

    /// Whether somebody would look after what is woken now.
    fn is_attended(ushers: &Ushers, core: &CoreShared) -> bool {
        ushers.looks.store(0, Ordering::Relaxed);
        ushers.lead(core, || ());
        ushers.looks.load(Ordering::Relaxed) != 0
    }

    /// Waits until nobody would: a thread may be on its way to park, or be called for nothing.
    fn is_unattended_at_times(ushers: &Ushers, core: &CoreShared) -> bool {
        let late = Instant::now() + Duration::from_secs(20);
        while is_attended(ushers, core) {
            if Instant::now() > late {
                return false;
            }
            thread::yield_now();
        }
        true
    }

    #[test]
    fn a_call_is_looked_after_unless_all_other_threads_were_parked() {
        let runtime = runtime(2);
        let ushers = Arc::new(Ushers::new(runtime.handle()).expect("two threads"));
        // One that has none of its own, whom nobody looks after: what was called for stays called for.
        let core = WorkerCore::threads(1).unhosted();
        let its = core.clone();
        assert!(
            is_unattended_at_times(&ushers, core.shared()),
            "from outside"
        );
        let (inner, (go_on, told)) = (Arc::clone(&ushers), mpsc::channel::<()>());
        let (tell, is_there) = mpsc::channel();
        let task = runtime.spawn(async move {
            let from_a_task = is_unattended_at_times(&inner, its.shared());
            tell.send(()).expect("it is heard");
            // An error: the test has failed, and is over.
            let _either = told.recv();
            from_a_task
        });
        is_there.recv().expect("it runs");
        for _ in 0..10 {
            assert!(is_attended(&ushers, core.shared()), "a thread is busy");
        }
        go_on.send(()).expect("it waits");
        assert!(runtime.block_on(task).expect("no panic"), "from a task");
    }

    #[test]
    fn runtimes_of_one_thread_have_no_ushers() {
        let one = Builder::new_current_thread().build().expect("a runtime");
        assert!(Ushers::new(one.handle()).is_none());
        assert!(Ushers::new(runtime(1).handle()).is_none());
    }

    #[test]
    fn whoever_looks_leaves_when_every_worker_has_come() {
        let runtime = runtime(2);
        let core = WorkerCore::tokio(runtime.handle());
        let core = core.build().expect("legal");
        let ushers = core.handle.0.ushers.as_ref().expect("two threads");
        for _ in 0..2 {
            ushers.attend(&core.handle.0);
            let late = Instant::now() + Duration::from_secs(20);
            while ushers.looks.load(Ordering::Relaxed) != 0 {
                assert!(Instant::now() < late, "somebody looks for ever");
                thread::yield_now();
            }
        }
    }
}
