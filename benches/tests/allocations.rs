//! Fails when a path that must not allocate does.
//!
//! Without the test harness, so that nothing runs beside the path that is being counted. Every
//! allocation of the process counts: a message that goes through a worker must not allocate there
//! either.

use std::alloc::{GlobalAlloc, Layout, System};
use std::backtrace::Backtrace;
use std::cell::Cell;
use std::convert::Infallible;
use std::hint::black_box;
use std::pin::pin;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use executor_benches::{
    block_on, both, echo, echo_decided, echo_later, poll_once, sum_below, yield_once,
};
use executor_core::{Completion, Envelope, WorkerCore, pool_metrics};
use executor_parallel::ParallelExecutor;
use executor_serial::{SerialExecutor, Stream};

/// How many messages a round has; fewer than a queue holds.
const MESSAGES: u64 = 1_000;
/// Rounds before the count, in which pools and queues grow to what the path needs.
const WARM_UP: usize = 32;
/// Rounds that are counted.
const COUNTED: usize = 16;

struct Counting;

static ALL: AtomicU64 = AtomicU64::new(0);
static TRACING: AtomicBool = AtomicBool::new(false);
static TRACES: Mutex<Vec<String>> = Mutex::new(Vec::new());

thread_local! {
    static HERE: Cell<u64> = const { Cell::new(0) };
    static IN_TRACE: Cell<bool> = const { Cell::new(false) };
}

fn note() {
    // A thread that is ending has no thread-locals any more, but still counts.
    let _ = HERE.try_with(|here| here.set(here.get() + 1));
    ALL.fetch_add(1, Ordering::Relaxed);
    if TRACING.load(Ordering::Relaxed) {
        trace();
    }
}

/// Keeps the call site; what it allocates itself is not traced.
#[cold]
fn trace() {
    if IN_TRACE
        .try_with(|inside| inside.replace(true))
        .unwrap_or(true)
    {
        return;
    }
    let mut traces = TRACES.lock().unwrap_or_else(PoisonError::into_inner);
    if traces.len() < 3 {
        traces.push(Backtrace::force_capture().to_string());
    }
    drop(traces);
    let _ = IN_TRACE.try_with(|inside| inside.set(false));
}

// SAFETY: it hands everything to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note();
        // SAFETY: as the caller says.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        note();
        // SAFETY: as the caller says.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        note();
        // SAFETY: as the caller says.
        unsafe { System.realloc(block, layout, size) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: as the caller says.
        unsafe { System.dealloc(block, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Waits until `holds` does.
fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let late = Instant::now() + Duration::from_secs(20);
    while !holds() {
        assert!(Instant::now() < late, "waited too long: {what}");
        thread::yield_now();
    }
}

/// What the paths run on.
struct Rig {
    core: WorkerCore,
    parallel: ParallelExecutor,
    narrow: ParallelExecutor,
    serial: SerialExecutor<u64>,
    stream: Stream<u64>,
    queued: Stream<u64>,
    tight: Stream<u64>,
    open: Arc<AtomicBool>,
    completions: Vec<Completion<u64, Infallible, u64>>,
    tasks: Vec<Completion<u64>>,
}

impl Rig {
    fn new() -> Self {
        let core = WorkerCore::threads(2).build().expect("the threads start");
        // A thread that starts allocates.
        eventually("the workers started", || core.metrics().asleep == 2);
        let parallel = ParallelExecutor::builder(&core).max_concurrency(64);
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
            parallel: parallel.build().expect("the options are legal"),
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

type Path = fn(&mut Rig);

/// Sums what one execution for each message gives, and checks the sum.
macro_rules! each {
    (|$message:ident| $execution:expr) => {{
        let sum = block_on(async {
            let mut sum = 0;
            for $message in 0..MESSAGES {
                sum += $execution.await.expect("it is handled");
            }
            sum
        });
        assert_eq!(sum, sum_below(MESSAGES));
    }};
}

/// Awaits all completions of a vector that keeps its capacity, and checks their sum.
macro_rules! take_all {
    ($completions:expr) => {{
        let completions = &mut $completions;
        let sum = block_on(async {
            let mut sum = 0;
            for completion in completions.drain(..) {
                sum += completion.await.expect("it is handled");
            }
            sum
        });
        assert_eq!(sum, sum_below(MESSAGES));
    }};
}

fn parallel_ready(rig: &mut Rig) {
    each!(|message| rig.parallel.execute(Envelope::new(message), echo));
}

fn parallel_yielding(rig: &mut Rig) {
    each!(|message| rig.parallel.execute(Envelope::new(message), echo_later));
}

fn parallel_waiting(rig: &mut Rig) {
    let waited = rig.narrow.metrics().totals.waited;
    block_on(async {
        for message in 0..MESSAGES {
            let first = rig.narrow.execute(Envelope::new(message), echo_later);
            let second = rig.narrow.execute(Envelope::new(message + 1), echo);
            let (first, second) = both(first, second).await;
            assert_eq!(first.expect("it is handled"), message);
            assert_eq!(second.expect("it is handled"), message + 1);
        }
    });
    assert_eq!(
        rig.narrow.metrics().totals.waited - waited,
        MESSAGES,
        "the second did not wait"
    );
}

fn parallel_submit(rig: &mut Rig) {
    for message in 0..MESSAGES {
        let completion = rig.parallel.submit(Envelope::new(message), echo);
        rig.completions.push(completion.expect("there is room"));
    }
    take_all!(rig.completions);
}

fn serial_by_handle(rig: &mut Rig) {
    each!(|message| rig.stream.execute(Envelope::new(message), echo));
}

fn serial_by_key(rig: &mut Rig) {
    each!(|message| rig
        .serial
        .execute(message % 10, Envelope::new(message), echo));
}

fn serial_yielding(rig: &mut Rig) {
    each!(|message| rig.stream.execute(Envelope::new(message), echo_later));
}

fn serial_queued(rig: &mut Rig) {
    each!(|message| rig.queued.execute(Envelope::new(message), echo));
}

fn serial_submit(rig: &mut Rig) {
    each!(|message| rig
        .stream
        .submit(Envelope::new(message), echo)
        .expect("there is room"));
}

fn serial_submit_all(rig: &mut Rig) {
    for message in 0..MESSAGES {
        let completion = rig.stream.submit(Envelope::new(message), echo);
        rig.completions.push(completion.expect("there is room"));
    }
    take_all!(rig.completions);
}

fn serial_streams(rig: &mut Rig) {
    for message in 0..MESSAGES {
        let completion = rig
            .serial
            .submit(message % 10, Envelope::new(message), echo);
        rig.completions.push(completion.expect("there is room"));
    }
    take_all!(rig.completions);
}

fn serial_waiting_for_room(rig: &mut Rig) {
    let stream = &rig.tight;
    for message in 0..MESSAGES / 10 {
        rig.open.store(false, Ordering::SeqCst);
        let open = Arc::clone(&rig.open);
        let held = stream.submit(Envelope::new(message), move |message, _| async move {
            while !open.load(Ordering::SeqCst) {
                yield_once().await;
            }
            Ok::<_, Infallible>(message.payload)
        });
        eventually("the first one starts", || stream.depth() == 0);
        let queued = stream.try_submit(Envelope::new(message), echo);
        let mut waiting = pin!(stream.submit_wait(Envelope::new(message), echo));
        assert!(poll_once(waiting.as_mut()).is_pending(), "it did not wait");
        rig.open.store(true, Ordering::SeqCst);
        let admitted = block_on(waiting);
        for submission in [queued, admitted] {
            let completion = submission.expect("there is room");
            assert_eq!(completion.wait().expect("it is handled"), message);
        }
        assert_eq!(
            held.expect("there is room").wait().expect("it is handled"),
            message
        );
    }
}

fn spawn_fn(rig: &mut Rig) {
    each!(|message| rig
        .core
        .spawn_fn(move || message)
        .expect("the core is open"));
}

fn spawn(rig: &mut Rig) {
    each!(|message| rig
        .core
        .spawn(async move { message })
        .expect("the core is open"));
}

fn spawn_yielding(rig: &mut Rig) {
    each!(|message| {
        let task = async move {
            yield_once().await;
            message
        };
        rig.core.spawn(task).expect("the core is open")
    });
}

fn spawn_all(rig: &mut Rig) {
    for message in 0..MESSAGES {
        rig.tasks.push(
            rig.core
                .spawn(async move { message })
                .expect("the core is open"),
        );
    }
    take_all!(rig.tasks);
}

fn wait_on_thread(rig: &mut Rig) {
    for message in 0..MESSAGES {
        let completion = rig
            .core
            .spawn_fn(move || message)
            .expect("the core is open");
        assert_eq!(completion.wait().expect("it is handled"), message);
    }
}

fn fresh_envelope(_: &mut Rig) {
    for message in 0..MESSAGES {
        let envelope = black_box(Envelope::new(black_box(message)));
        assert_eq!(envelope.payload, message);
    }
}

fn child_envelope(rig: &mut Rig) {
    each!(|message| rig
        .stream
        .execute(Envelope::new(message), |message, context| async move {
            let child = black_box(context.envelope(message.payload));
            Ok::<_, Infallible>(child.payload)
        }));
}

fn decisions(rig: &mut Rig) {
    each!(|message| rig.stream.execute(Envelope::new(message), echo_decided));
}

fn decisions_on_worker(rig: &mut Rig) {
    each!(|message| rig.queued.execute(Envelope::new(message), echo_decided));
}

fn oversized(rig: &mut Rig) {
    each!(|message| {
        let payload = [message; 256];
        let handler = |message: Envelope<[u64; 256]>, _| async move {
            Ok::<_, Infallible>(message.payload[255])
        };
        rig.stream
            .submit(Envelope::new(payload), handler)
            .expect("there is room")
    });
}

/// The paths, and how many allocations a message costs.
const PATHS: &[(&str, Path, u64)] = &[
    ("parallel execute, ready", parallel_ready, 0),
    ("parallel execute, yields once", parallel_yielding, 0),
    ("parallel execute, waits for a permit", parallel_waiting, 0),
    ("parallel submit 1,000 and await", parallel_submit, 0),
    ("serial execute inline, by handle", serial_by_handle, 0),
    ("serial execute inline, by key", serial_by_key, 0),
    ("serial execute inline, yields once", serial_yielding, 0),
    ("serial execute queued", serial_queued, 0),
    ("serial submit and await", serial_submit, 0),
    ("serial submit 1,000 and await", serial_submit_all, 0),
    ("serial submit to 10 streams and await", serial_streams, 0),
    ("serial submit, waits for room", serial_waiting_for_room, 0),
    ("spawn_fn and await", spawn_fn, 0),
    ("spawn and await", spawn, 0),
    ("spawn, yields once", spawn_yielding, 0),
    ("spawn 1,000 and await", spawn_all, 0),
    ("spawn_fn and block", wait_on_thread, 0),
    ("fresh envelope", fresh_envelope, 0),
    ("child envelope", child_envelope, 0),
    ("three decisions", decisions, 0),
    ("three decisions on a worker", decisions_on_worker, 0),
    ("oversized message", oversized, 1),
];

/// Counts one path; false: it allocated what it must not.
fn check(rig: &mut Rig, name: &str, path: Path, expected: u64) -> bool {
    for _ in 0..WARM_UP {
        path(rig);
    }
    let before = (
        ALL.load(Ordering::SeqCst),
        HERE.get(),
        pool_metrics().oversized,
    );
    for _ in 0..COUNTED {
        path(rig);
    }
    let all = ALL.load(Ordering::SeqCst) - before.0;
    let here = HERE.get() - before.1;
    let oversized = (pool_metrics().oversized - before.2) as u64;
    let messages = MESSAGES * COUNTED as u64;
    let expected = expected * messages;
    let right = all == expected && oversized == expected;
    let verdict = if right { "ok" } else { "FAILED" };
    println!(
        "{name:<40} {all:>6} for {messages} messages, {here} on the caller, {oversized} oversized: {verdict}"
    );
    if !right && expected == 0 {
        TRACING.store(true, Ordering::SeqCst);
        path(rig);
        TRACING.store(false, Ordering::SeqCst);
        for trace in TRACES
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .drain(..)
        {
            println!("{trace}");
        }
    }
    right
}

fn main() -> ExitCode {
    let mut rig = Rig::new();
    let mut right = true;
    for &(name, path, expected) in PATHS {
        right &= check(&mut rig, name, path, expected);
    }
    if right {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
