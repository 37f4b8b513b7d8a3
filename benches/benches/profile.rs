//! Prints allocations and bytes for each message of each path, as dhat counts them.
//!
//! It measures no time. `cargo bench` passes `--bench`, and the smoke run `--test`, which takes
//! fewer messages.

use std::convert::Infallible;

use executor_benches::{block_on, echo, echo_decided, echo_later, sum_below};
use executor_core::{Completion, Envelope, WorkerCore};
use executor_parallel::ParallelExecutor;
use executor_serial::SerialExecutor;

#[global_allocator]
static ALLOCATOR: dhat::Alloc = dhat::Alloc;

/// Rounds before the count.
const WARM_UP: usize = 8;

/// Counts what a round of `messages` allocates when it is warm.
fn profile(name: &str, messages: u64, mut round: impl FnMut() -> u64) {
    for _ in 0..WARM_UP {
        assert_eq!(round(), sum_below(messages), "{name}");
    }
    let before = dhat::HeapStats::get();
    let sum = round();
    let after = dhat::HeapStats::get();
    assert_eq!(sum, sum_below(messages), "{name}");
    println!(
        "{name:<36} {:>8.3} allocations {:>10.1} bytes for each message",
        (after.total_blocks - before.total_blocks) as f64 / messages as f64,
        (after.total_bytes - before.total_bytes) as f64 / messages as f64,
    );
}

/// Sums the results of an execution for each message.
macro_rules! each {
    ($messages:expr, |$message:ident| $execution:expr) => {
        || {
            block_on(async {
                let mut sum = 0;
                for $message in 0..$messages {
                    sum += $execution.await.expect("it is handled");
                }
                sum
            })
        }
    };
}

fn take_all(completions: &mut Vec<Completion<u64, Infallible, u64>>) -> u64 {
    block_on(async {
        let mut sum = 0;
        for completion in completions.drain(..) {
            sum += completion.await.expect("it is handled");
        }
        sum
    })
}

fn main() {
    let messages: u64 = if std::env::args().any(|argument| argument == "--test") {
        100
    } else {
        1_000
    };
    // Its file would be written at the end; the figures here are all that is wanted.
    let _profiler = dhat::Profiler::builder().testing().build();
    let core = WorkerCore::threads(2).build().expect("the threads start");
    let parallel = ParallelExecutor::builder(&core).max_concurrency(64);
    let parallel = parallel.build().expect("the options are legal");
    let serial = SerialExecutor::<u64>::builder(&core)
        .build()
        .expect("the options are legal");
    let queued = SerialExecutor::<u64>::builder(&core).inline(false).build();
    let queued = queued.expect("the options are legal").stream(&0);
    let stream = serial.stream(&0);
    let mut kept = Vec::with_capacity(messages as usize);

    let ready = each!(messages, |message| parallel
        .execute(Envelope::new(message), echo));
    profile("parallel execute, ready", messages, ready);
    let yields = each!(messages, |message| parallel
        .execute(Envelope::new(message), echo_later));
    profile("parallel execute, yields once", messages, yields);
    profile("parallel submit, all awaited", messages, || {
        kept.extend((0..messages).map(|message| {
            parallel
                .submit(Envelope::new(message), echo)
                .expect("there is room")
        }));
        take_all(&mut kept)
    });
    let closure = each!(messages, |message| stream
        .execute(Envelope::new(message), |message, _| async move {
            Ok::<_, Infallible>(message.payload)
        }));
    profile("serial execute, inline closure", messages, closure);
    let prepared = each!(messages, |message| stream
        .execute(Envelope::new(message), echo));
    profile("serial execute, prepared handler", messages, prepared);
    let by_key = each!(messages, |message| serial.execute(
        message % 10,
        Envelope::new(message),
        echo
    ));
    profile("serial execute, by key", messages, by_key);
    let decided = each!(messages, |message| stream
        .execute(Envelope::new(message), echo_decided));
    profile("serial execute, three decisions", messages, decided);
    let off = each!(messages, |message| queued
        .execute(Envelope::new(message), echo));
    profile("serial execute, inlining off", messages, off);
    profile("serial submit, all awaited", messages, || {
        kept.extend((0..messages).map(|message| {
            stream
                .submit(Envelope::new(message), echo)
                .expect("there is room")
        }));
        take_all(&mut kept)
    });
    let spawned = each!(messages, |message| core
        .spawn(async move { message })
        .expect("the core is open"));
    profile("spawn", messages, spawned);
    let called = each!(messages, |message| core
        .spawn_fn(move || message)
        .expect("the core is open"));
    profile("spawn_fn", messages, called);
    let owned = each!(messages, |message| stream
        .execute(Envelope::new([message; 256]), |message, _| async move {
            Ok::<_, Infallible>(message.payload[255])
        }));
    profile("serial execute, oversized", messages, owned);
}
