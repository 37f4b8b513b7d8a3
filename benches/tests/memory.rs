//! Fails when memory is kept that should not be.
//!
//! Without the test harness, so that nothing else runs beside what is measured. Bytes are those that
//! the allocator has handed out and not got back.

use std::convert::Infallible;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use executor_benches::allocator::{self, Counting};
use executor_benches::{block_on, echo};
use executor_core::{
    BLOCK_SIZES, CHUNK_CELLS, Envelope, RETAINED_BYTES, Shutdown, WorkerCore, pool_metrics,
};
use executor_parallel::ParallelExecutor;
use executor_serial::SerialExecutor;
use tokio::runtime::Builder;

/// How long anything may take to come to rest.
const DEADLINE: Duration = Duration::from_secs(60);
/// Debug builds do less.
const SCALE: usize = if cfg!(debug_assertions) { 10 } else { 1 };
/// What the process itself may take meanwhile: buffers of output, thread-locals, and the like.
const SLACK: usize = 1 << 20;

/// A chunk of the largest blocks.
const LARGEST_CHUNK: usize = CHUNK_CELLS * BLOCK_SIZES[BLOCK_SIZES.len() - 1];

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn live() -> usize {
    // What the process had before the count may come back during it.
    usize::try_from(allocator::kept()).unwrap_or(0)
}

/// Waits until the core is at rest.
fn settle(core: &WorkerCore) {
    assert!(block_on(core.drain(DEADLINE)).is_complete());
    let late = Instant::now() + DEADLINE;
    while core.metrics().asleep != core.metrics().workers {
        assert!(Instant::now() < late, "the workers do not come to rest");
        std::thread::yield_now();
    }
}

fn core(workers: usize) -> WorkerCore {
    WorkerCore::threads(workers)
        .build()
        .expect("the threads start")
}

/// An idle stream with its key, its place in the registry and all else.
fn an_idle_stream() {
    const STREAMS: u64 = 100_000;
    /// What the guarantees promise, in bytes.
    const MOST: usize = 192;
    let core = core(1);
    let executor = SerialExecutor::<u64>::builder(&core).resident_streams(usize::MAX);
    let executor = executor.build().expect("the options are legal");
    let run = |key| {
        let handled = block_on(executor.execute(key, Envelope::new(key), echo));
        assert_eq!(handled.expect("it is handled"), key);
    };
    run(0);
    let before = live();
    (1..=STREAMS).for_each(run);
    let each = (live() - before) / STREAMS as usize;
    println!("    {each} bytes for each of {STREAMS} idle streams");
    assert_eq!(executor.metrics().resident as u64, STREAMS + 1);
    assert!(each <= MOST, "more than {MOST}");
    assert_eq!(executor.evict_idle() as u64, STREAMS + 1);
    let left = live().saturating_sub(before);
    println!("    {left} bytes after their eviction");
    assert!(
        left <= STREAMS as usize,
        "evicted streams leave memory behind"
    );
}

/// Keys that are used once each leave nothing behind.
fn many_keys() {
    const RESIDENT: usize = 1_024;
    let keys = (2_000_000 / SCALE) as u64;
    let core = core(2);
    let executor = SerialExecutor::<u64>::builder(&core).resident_streams(RESIDENT);
    let executor = executor.build().expect("the options are legal");
    let round = |from: u64| {
        for key in from..from + keys {
            let handled = block_on(executor.execute(key, Envelope::new(key), echo));
            assert_eq!(handled.expect("it is handled"), key);
        }
        live()
    };
    let warm = round(0);
    let after = round(keys);
    let resident = executor.metrics().resident;
    println!(
        "    {resident} of {} streams resident, {after} bytes live after {warm}",
        2 * keys
    );
    assert!(resident <= 2 * RESIDENT, "idle streams pile up");
    assert!(after <= warm + SLACK, "memory grows with the keys");
    executor.evict_idle();
    assert_eq!(executor.metrics().resident, 0);
}

/// Threads that only submit, workers that only complete: cells return to where they are taken.
fn one_way() {
    let messages = 2_000_000 / SCALE;
    let core = core(1);
    let executor = SerialExecutor::<u64>::builder(&core).build();
    let stream = executor.expect("the options are legal").stream(&0);
    let parallel = ParallelExecutor::builder(&core).max_concurrency(8).build();
    let parallel = parallel.expect("the options are legal");
    let round = || {
        for message in 0..messages as u64 {
            drop(
                stream
                    .submit(Envelope::new(message), echo)
                    .expect("a plain thread waits"),
            );
            drop(
                parallel
                    .submit(Envelope::new(message), echo)
                    .expect("a plain thread waits"),
            );
        }
        settle(&core);
        live()
    };
    let warm = round();
    let after = round();
    println!("    {after} bytes live after {warm}, {messages} messages each");
    // What lies in the depots at rest varies below their cap.
    assert!(
        after <= warm + RETAINED_BYTES + SLACK,
        "memory grows with the messages"
    );
}

fn a_burst() {
    burst(&core(2));
}

fn a_burst_on_tokio() {
    let runtime = Builder::new_multi_thread().worker_threads(2).build();
    let runtime = runtime.expect("the threads start");
    let core = WorkerCore::tokio(runtime.handle()).workers(2).build();
    burst(&core.expect("legal options"));
}

/// After a burst the pools fall to their cap.
fn burst(core: &WorkerCore) {
    let messages = 1_000_000 / SCALE as u64;
    let completions: Vec<_> = (0..messages)
        .map(|message| {
            core.spawn(async move { message })
                .expect("the core is open")
        })
        .collect();
    let peak = pool_metrics().chunk_bytes;
    for (message, completion) in (0..).zip(completions) {
        assert_eq!(block_on(completion).expect("it is handled"), message);
    }
    settle(core);
    // Some more, so that threads that kept cells have given and taken.
    for message in 0..10_000_u64 {
        let completion = core
            .spawn(async move { message })
            .expect("the core is open");
        assert_eq!(block_on(completion).expect("it is handled"), message);
    }
    settle(core);
    let left = pool_metrics();
    println!(
        "    {} bytes in chunks, {peak} at the peak",
        left.chunk_bytes
    );
    // The cap of the one size class that was used, and of what lies beside it in the same chunks.
    assert!(
        left.chunk_bytes <= 2 * RETAINED_BYTES,
        "the burst is retained: {left:?}"
    );
}

/// Cores and executors that come and go.
fn come_and_go() {
    let rounds = 2_000 / SCALE;
    let round = |number: usize| {
        let core = core(1 + number % 2);
        let serial = SerialExecutor::<u64>::builder(&core).build();
        let serial = serial.expect("the options are legal");
        let parallel = ParallelExecutor::builder(&core).build();
        let parallel = parallel.expect("the options are legal");
        let stray = async |message: Envelope<u64>, _| Ok::<_, Infallible>(message.payload);
        for key in 0..8_u64 {
            drop(
                serial
                    .submit(key, Envelope::new(key), echo)
                    .expect("there is room"),
            );
            drop(
                parallel
                    .submit(Envelope::new(key), stray)
                    .expect("there is room"),
            );
        }
        if number.is_multiple_of(3) {
            drop((serial, parallel));
        }
        let report = block_on(core.shutdown(Shutdown::Drain, DEADLINE));
        assert!(report.is_complete());
    };
    // The chunks apart: one more is a matter of which threads have what of the last one.
    let chunks_and_rest = || {
        let chunks = pool_metrics().chunk_bytes;
        (chunks, live() - chunks)
    };
    (0..100).for_each(round);
    let (chunks_warm, warm) = chunks_and_rest();
    (0..rounds).for_each(round);
    let (chunks, after) = chunks_and_rest();
    println!("    {after} bytes live after {warm}, {rounds} cores later");
    println!("    {chunks} bytes in chunks after {chunks_warm}");
    assert!(after <= warm + SLACK, "cores leave memory behind");
    assert!(
        chunks <= chunks_warm + LARGEST_CHUNK,
        "cores leave messages behind"
    );
}

fn main() -> ExitCode {
    allocator::start();
    let checks: [(&str, fn()); 6] = [
        ("an idle stream", an_idle_stream),
        ("many keys", many_keys),
        ("producers and workers", one_way),
        ("a burst", a_burst),
        ("a burst on tokio", a_burst_on_tokio),
        ("cores and executors come and go", come_and_go),
    ];
    for (name, check) in checks {
        println!("{name}");
        check();
    }
    ExitCode::SUCCESS
}
