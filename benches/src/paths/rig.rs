//! What the paths run on, warm: what a round comes to when it pleases has happened before any is counted.

use std::convert::Infallible;
use std::fmt;
use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use executor_core::{Completion, Envelope, WorkerCore};
use executor_parallel::ParallelExecutor;
use executor_serial::{SerialExecutor, Stream};

use super::MESSAGES;
use crate::{echo, yield_once};

/// How many messages of the parallel executor are handled at a time.
const PERMITS: usize = 64;

/// Waits until `holds` does.
pub(super) fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let late = Instant::now() + Duration::from_secs(20);
    while !holds() {
        assert!(Instant::now() < late, "waited too long: {what}");
        thread::yield_now();
    }
}

/// Has as many messages wait for a permit at once as a round can, which rounds do when they please.
fn fill_line(parallel: &ParallelExecutor) {
    let message = || Envelope::new(0);
    let hold = |_| parallel.try_execute(message(), echo);
    let held: Vec<_> = (0..PERMITS).map(hold).collect();
    assert!(held.iter().all(Result::is_ok), "a permit is free");
    for _ in 0..MESSAGES {
        let submitted = parallel.submit_detached(message(), echo);
        submitted.expect("there is room");
    }
    drop(held);
    eventually("all are handled", || {
        parallel.metrics().totals.handled == MESSAGES
    });
}

/// Has this thread wait for an outcome: the first wait of a thread that does not end at once allocates.
fn wait_once(core: &WorkerCore) {
    let open = Arc::new(AtomicBool::new(false));
    let is_open = Arc::clone(&open);
    let held = core.spawn(async move {
        while !is_open.load(Ordering::SeqCst) {
            yield_once().await;
        }
    });
    let held = held.expect("the core is open").wait_timeout(Duration::ZERO);
    open.store(true, Ordering::SeqCst);
    let outcome = held.expect_err("it is held").wait();
    outcome.expect("it is handled");
}

/// Has a block taken of the size for what carries this much, and given back.
fn take_block<const SIZE: usize>(core: &WorkerCore) {
    let carried = [0_u8; SIZE];
    let task = core.spawn_fn(move || black_box(carried));
    let outcome = task.expect("the core is open").wait();
    outcome.expect("it is handled");
}

/// Has a first block taken of each size, by a thread that ends with some of them.
fn take_blocks(core: &WorkerCore) {
    let take = || {
        take_block::<1>(core);
        take_block::<60>(core);
        take_block::<180>(core);
        take_block::<400>(core);
        take_block::<900>(core);
    };
    thread::scope(|scope| scope.spawn(take).join().expect("it does not panic"));
}

/// What the paths run on.
pub struct Rig {
    pub(super) core: WorkerCore,
    pub(super) parallel: ParallelExecutor,
    pub(super) narrow: ParallelExecutor,
    pub(super) serial: SerialExecutor<u64>,
    pub(super) stream: Stream<u64>,
    pub(super) queued: Stream<u64>,
    pub(super) tight: Stream<u64>,
    pub(super) open: Arc<AtomicBool>,
    pub(super) completions: Vec<Completion<u64, Infallible, u64>>,
    pub(super) tasks: Vec<Completion<u64>>,
}

impl fmt::Debug for Rig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rig").finish_non_exhaustive()
    }
}

impl Default for Rig {
    fn default() -> Self {
        Self::new()
    }
}

impl Rig {
    /// Starts two workers, and builds the executors.
    ///
    /// # Panics
    /// When a thread does not start, or not in time.
    #[must_use]
    pub fn new() -> Self {
        let core = WorkerCore::threads(2).build().expect("the threads start");
        // A thread that starts allocates.
        eventually("the workers started", || core.metrics().asleep == 2);
        // What rounds come to when they please, and what allocates then, once.
        wait_once(&core);
        take_blocks(&core);
        let parallel = ParallelExecutor::builder(&core).max_concurrency(PERMITS);
        let parallel = parallel.build().expect("the options are legal");
        fill_line(&parallel);
        let narrow = ParallelExecutor::builder(&core).max_concurrency(1);
        let serial = SerialExecutor::<u64>::builder(&core)
            .build()
            .expect("the options are legal");
        let queued = SerialExecutor::<u64>::builder(&core).inline(false);
        let queued = queued.build().expect("the options are legal");
        let tight = SerialExecutor::<u64>::builder(&core).queue_per_stream(1);
        let tight = tight.build().expect("the options are legal");
        Self {
            tight: tight.stream(&0),
            open: Arc::default(),
            parallel,
            narrow: narrow.build().expect("the options are legal"),
            stream: serial.stream(&0),
            serial,
            queued: queued.stream(&0),
            core,
            completions: Vec::with_capacity(MESSAGES as usize),
            tasks: Vec::with_capacity(MESSAGES as usize),
        }
    }
}
