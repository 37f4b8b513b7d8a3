//! Where workers run: on threads of the core's own, or as tasks of a tokio runtime.

mod usher;

use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::thread;

use tokio::runtime::Handle;

pub(crate) use self::usher::Ushers;
use crate::core::CoreShared;
use crate::error::BuildError;
use crate::pool;
use crate::worker::{OnDuty, Pace, Rest, Runner};

/// How many looks a searching thread takes before it parks: about 10 us.
const PATIENCE: u32 = 1_000;
/// With more workers the looks are fewer, since each takes in all of them.
const PATIENCE_WORKERS: usize = 8;
/// How many looks a push waits before it wakes a thread: about a microsecond, less than the wake costs.
const PUSH_PATIENCE: u32 = 50;
/// How many batches a worker task runs before it lets the runtime's other tasks go on.
const BATCHES_PER_POLL: usize = 4;

/// Starts one thread for each worker.
pub(crate) fn start_threads(
    core: &Arc<CoreShared>,
    runtime: Option<&Handle>,
) -> Result<(), BuildError> {
    for index in 0..core.workers.len() {
        let (shared, runtime) = (Arc::clone(core), runtime.cloned());
        let name = format!("{}-{index}", core.options.name);
        let started = thread::Builder::new().name(name).spawn(move || {
            let _entered = runtime.as_ref().map(Handle::enter);
            run_thread(&shared, index);
            shared.note_exit();
            shared.farewell.say();
        });
        if let Err(error) = started {
            // The threads before this one leave when the caller drops the core.
            for _ in index..core.workers.len() {
                core.note_exit();
            }
            return Err(BuildError::Thread {
                index,
                error: error.to_string(),
            });
        }
    }
    Ok(())
}

/// Whether whoever has the work can run while another thread spins.
fn has_other_processors() -> bool {
    thread::available_parallelism().is_ok_and(|n| n.get() > 1)
}

/// How many looks a push waits before it wakes a thread.
pub(crate) fn patience() -> u32 {
    if has_other_processors() {
        PUSH_PATIENCE
    } else {
        0
    }
}

fn run_thread(core: &CoreShared, index: usize) {
    let _duty = OnDuty::new(core, index);
    let parker = &core.workers[index].parker;
    parker.settle_thread();
    let patience = if has_other_processors() {
        PATIENCE / core.workers.len().div_ceil(PATIENCE_WORKERS) as u32
    } else {
        0
    };
    // Whether nobody has called, and one look is enough.
    let mut napped = false;
    let mut runner = Runner::new(core, index);
    loop {
        while runner.run_batch() {
            napped = false;
        }
        if core.should_exit() && !core.has_work() {
            runner.retire();
            core.check_exit();
            return;
        }
        if runner.search(if napped { 0 } else { patience }) {
            continue;
        }
        // Not between two naps: those who are busy take from the depot.
        if !napped && pool::is_unsettled() {
            pool::settle(|| core.has_work() || core.is_unwatched());
        }
        let rest = runner.lie_down();
        if matches!(rest, Rest::Not) {
            continue;
        }
        core.note_quiet();
        core.workers[index].counts.parked();
        // Whether somebody called before its end, if the rest has one.
        let called = match rest {
            Rest::Until(deadline) => Some(parker.park_until(deadline)),
            Rest::Not | Rest::Long => None,
        };
        napped = called == Some(false) && runner.wake_up();
        if called != Some(true) && !napped {
            parker.park();
        }
        runner.woken();
    }
}

/// Spawns one task for each worker.
pub(crate) fn start_tasks(core: &Arc<CoreShared>, handle: &Handle) {
    for index in 0..core.workers.len() {
        let mut worker = WorkerTask::new(core, index);
        handle.spawn(poll_fn(move |context| worker.poll(context)));
    }
    Ushers::start(core);
}

/// A worker as a task; dropped by a runtime that shuts down, it leaves its work to the others.
struct WorkerTask {
    core: Arc<CoreShared>,
    index: usize,
    searching: bool,
    pace: Pace,
    asleep: bool,
    done: bool,
}

impl WorkerTask {
    fn new(core: &Arc<CoreShared>, index: usize) -> Self {
        Self {
            core: Arc::clone(core),
            index,
            searching: false,
            pace: Pace::default(),
            asleep: false,
            done: false,
        }
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let core = &*self.core;
        let me = &core.workers[self.index];
        let parker = &me.parker;
        if self.asleep {
            if parker.poll_park(context).is_pending() {
                return Poll::Pending;
            }
            self.asleep = false;
            self.searching = true;
        }
        me.set_to_go_on(false);
        let _duty = OnDuty::new(core, self.index);
        let mut runner = Runner::resumed(core, self.index, self.searching, self.pace);
        let verdict = loop {
            if run_some(core, &mut runner) {
                me.set_to_go_on(true);
                core.wake_by(|| context.waker().wake_by_ref());
                break Poll::Pending;
            }
            if core.should_exit() && !core.has_work() {
                runner.retire();
                core.check_exit();
                break Poll::Ready(());
            }
            if pool::has_surplus() {
                pool::settle(|| core.has_work() || core.is_unwatched());
            }
            if matches!(runner.lie_down(), Rest::Not) {
                continue;
            }
            core.note_quiet();
            me.counts.parked();
            if parker.poll_park(context).is_pending() {
                self.asleep = true;
                break Poll::Pending;
            }
            runner.woken();
        };
        self.searching = runner.is_searching();
        self.pace = runner.pace();
        if verdict.is_ready() {
            self.done = true;
            core.note_exit();
        }
        verdict
    }
}

/// Runs some batches; true: before there is nothing left to do, the runtime's other tasks are to go on.
fn run_some(core: &CoreShared, runner: &mut Runner<'_>) -> bool {
    for _ in 0..BATCHES_PER_POLL {
        if !runner.run_batch() {
            return false;
        }
        if runner.is_over() || core.ushers.as_ref().is_some_and(Ushers::are_out) {
            break;
        }
    }
    true
}

impl Drop for WorkerTask {
    fn drop(&mut self) {
        if self.done {
            return;
        }
        if self.asleep {
            // Out of the sleepers, or woken already: a searcher in both cases, so that a wake that
            // was meant for this worker is passed on.
            let _ = self.core.sleepers.get_up(self.index);
            self.searching = true;
        }
        let me = &self.core.workers[self.index];
        me.parker.leave();
        me.set_to_go_on(false);
        Runner::resumed(&self.core, self.index, self.searching, self.pace).retire();
        if self.core.note_exit() {
            self.core.abandon();
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::{Wake, Waker};

    use super::*;
    use crate::core::WorkerCore;

    #[derive(Default)]
    struct Woken(AtomicUsize);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// A core whose two worker tasks are asleep, and how often each was woken.
    fn sleepers() -> (WorkerCore, [(WorkerTask, Arc<Woken>); 2]) {
        let core = WorkerCore::threads(2).unhosted();
        let shared = &core.handle.0;
        let workers = [0, 1].map(|index| {
            let woken = Arc::new(Woken::default());
            let mut worker = WorkerTask::new(shared, index);
            let waker = Waker::from(Arc::clone(&woken));
            assert!(worker.poll(&mut Context::from_waker(&waker)).is_pending());
            (worker, woken)
        });
        assert_eq!(core.metrics().asleep, 2);
        (core, workers)
    }

    #[test]
    fn work_does_not_wait_for_a_worker_that_was_dropped_asleep() {
        let (core, [(mut first, woken), (last, _)]) = sleepers();
        // The one that lay down last is the first to be woken.
        drop(last);
        assert_eq!(core.metrics().asleep, 1);
        let completion = core.spawn_fn(|| 5).expect("open");
        assert_eq!(woken.0.load(Ordering::SeqCst), 1);
        let mut context = Context::from_waker(Waker::noop());
        assert!(first.poll(&mut context).is_pending());
        assert_eq!(completion.wait().expect("handled"), 5);
    }

    #[test]
    fn a_wake_of_a_worker_that_is_dropped_is_passed_on() {
        let (core, [(mut first, woken), (last, of_last)]) = sleepers();
        let completion = core.spawn_fn(|| 5).expect("open");
        assert_eq!(of_last.0.load(Ordering::SeqCst), 1);
        assert_eq!(woken.0.load(Ordering::SeqCst), 0);
        drop(last);
        assert_eq!(woken.0.load(Ordering::SeqCst), 1);
        assert!(core.handle.0.awaits_worker());
        let mut context = Context::from_waker(Waker::noop());
        assert!(first.poll(&mut context).is_pending());
        assert_eq!(completion.wait().expect("handled"), 5);
        assert!(!core.handle.0.awaits_worker(), "whoever is gone is not");
    }

    #[test]
    fn a_drain_does_not_wait_for_a_worker_that_was_dropped_asleep() {
        let (core, [(mut first, _), (last, _)]) = sleepers();
        drop(last);
        let mut drain = std::pin::pin!(core.drain(std::time::Duration::from_secs(20)));
        let mut context = Context::from_waker(Waker::noop());
        let Poll::Ready(report) = std::future::Future::poll(drain.as_mut(), &mut context) else {
            panic!("the only worker left sleeps, and nothing is queued");
        };
        assert!(report.is_complete());
        assert!(first.poll(&mut context).is_pending());
    }

    #[test]
    fn a_worker_task_amid_slow_messages_lets_the_runtime_go_on_and_then_goes_on_itself() {
        let core = WorkerCore::threads(1).unhosted();
        let mut worker = WorkerTask::new(&core.handle.0, 0);
        let slow = || {
            let spawned = core.spawn_fn(|| thread::sleep(std::time::Duration::from_millis(2)));
            spawned.expect("open")
        };
        let slow: Vec<_> = (0..32).map(|_| slow()).collect();
        let mut context = Context::from_waker(Waker::noop());
        let mut done = [0; 3].map(|_| {
            assert!(worker.poll(&mut context).is_pending());
            assert!(core.handle.0.awaits_worker(), "it is to go on");
            slow.iter().filter(|slow| slow.is_done()).count()
        });
        assert!(done.windows(2).all(|polls| polls[0] < polls[1]), "{done:?}");
        assert!((1..32).contains(&done[1]), "{done:?}");
        while done[2] < 32 {
            assert!(worker.poll(&mut context).is_pending());
            done[2] = slow.iter().filter(|slow| slow.is_done()).count();
        }
        while core.metrics().asleep == 0 {
            assert!(worker.poll(&mut context).is_pending());
        }
        assert!(!core.handle.0.awaits_worker());
    }

    /// Work that leaves more of itself, until it is told to stop.
    fn refill(core: &WorkerCore, stop: &Arc<AtomicUsize>) {
        let (inner, stop) = (core.clone(), Arc::clone(stop));
        let again = move || {
            if stop.load(Ordering::SeqCst) == 0 {
                refill(&inner, &stop);
            }
        };
        core.spawn_fn_detached(again).expect("open");
    }

    #[test]
    fn a_busy_worker_task_comes_to_the_lanes_of_others() {
        let core = WorkerCore::threads(2).unhosted();
        let shared = &core.handle.0;
        let mut first = WorkerTask::new(shared, 0);
        let for_the_other = {
            let _duty = OnDuty::new(shared, 1);
            core.spawn_fn(|| 5).expect("open")
        };
        let stop = Arc::new(AtomicUsize::new(0));
        let mut context = Context::from_waker(Waker::noop());
        {
            let _duty = OnDuty::new(shared, 0);
            refill(&core, &stop);
        }
        for _ in 0..100 {
            assert!(first.poll(&mut context).is_pending());
        }
        assert!(for_the_other.is_done(), "the other one is held up");
        stop.store(1, Ordering::SeqCst);
        while core.metrics().asleep == 0 {
            assert!(first.poll(&mut context).is_pending());
        }
    }
}
