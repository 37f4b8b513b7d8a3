//! Cases 1 to 4: handlers within a limit.

use std::hint::black_box;
use std::mem;
use std::sync::Arc;

use executor_bench_peers::limits::{self, Echo};
use executor_bench_peers::{WORKERS, local, on_worker, sum_below, team, workers};
use executor_benches::{block_on, both, echo_later, yield_once};
use executor_core::{Envelope, WorkerCore, join_all};
use executor_parallel::ParallelExecutor;
use tokio::sync::Semaphore;
use tower::limit::ConcurrencyLimit;

use crate::callers::{Caller, Kept, answer, execute_each};
use crate::engine::{CaseError, Run, Subject};
use crate::floors;
use crate::row::params;

/// Messages of a round.
const MESSAGES: u64 = 10_000;
/// Messages of a round on each of several threads, enough to make their start small.
const LONG: u64 = 100_000;
/// Permits, more than are ever taken.
const PERMITS: usize = 64;

fn executor(core: &WorkerCore, permits: usize) -> ParallelExecutor {
    ParallelExecutor::builder(core)
        .max_concurrency(permits)
        .build()
        .expect("the options are legal")
}

fn core() -> WorkerCore {
    WorkerCore::threads(WORKERS)
        .build()
        .expect("the threads start")
}

pub(crate) fn ready(run: &mut Run<'_>) -> Result<(), CaseError> {
    let core = core();
    let executor = executor(&core, PERMITS);
    let (semaphore, runtime) = (Semaphore::new(PERMITS), local());
    let mut tower = ConcurrencyLimit::new(Echo, PERMITS);
    let expected = sum_below(MESSAGES);
    let try_each = || {
        block_on(execute_each!(MESSAGES, |message| executor
            .try_execute(Envelope::new(message), answer!())
            .expect("a permit is free")))
    };
    run.compare(
        &params! {},
        vec![
            Subject::all("ours", MESSAGES, expected, || {
                block_on(execute_each!(MESSAGES, |message| executor
                    .execute(Envelope::new(message), answer!())))
            }),
            Subject::all("ours:try", MESSAGES, expected, try_each),
            Subject::all("tokio-semaphore", MESSAGES, expected, || {
                runtime.block_on(limits::acquire_each(&semaphore, MESSAGES))
            }),
            Subject::all("tokio-semaphore-try", MESSAGES, expected, || {
                limits::try_acquire_each(&semaphore, MESSAGES)
            }),
            Subject::all("tower-concurrency-limit", MESSAGES, expected, || {
                limits::tower_each(&runtime, &mut tower, MESSAGES)
            }),
            Subject::all("floor:two-atomics", MESSAGES, expected, || {
                floors::two_atomics(MESSAGES)
            }),
            Subject::all("floor:envelope-and-two-atomics", MESSAGES, expected, || {
                floors::envelope_and_two_atomics(MESSAGES)
            }),
        ],
    )
}

pub(crate) fn two_threads(run: &mut Run<'_>) -> Result<(), CaseError> {
    let core = core();
    let executor = executor(&core, PERMITS);
    let semaphore = Semaphore::new(PERMITS);
    for threads in [1, 2] {
        let messages = LONG * threads as u64;
        let expected = sum_below(LONG) * threads as u64;
        run.compare(
            &params! { "threads": threads },
            vec![
                Subject::new("ours", messages, expected, || {
                    team::together(threads, |_| {
                        block_on(execute_each!(LONG, |message| executor
                            .execute(Envelope::new(message), answer!())))
                    })
                }),
                Subject::new("tokio-semaphore", messages, expected, || {
                    team::together(threads, |_| {
                        block_on(limits::acquire_each(&semaphore, LONG))
                    })
                }),
                Subject::new("tokio-semaphore-try", messages, expected, || {
                    team::together(threads, |_| limits::try_acquire_each(&semaphore, LONG))
                }),
                Subject::new("floor:two-atomics", messages, expected, || {
                    team::together(threads, |_| floors::two_atomics(LONG))
                }),
            ],
        )?;
    }
    Ok(())
}

pub(crate) fn pending(run: &mut Run<'_>) -> Result<(), CaseError> {
    let core = core();
    let (wide, narrow) = (executor(&core, PERMITS), executor(&core, 1));
    let (permits, permit) = (Semaphore::new(PERMITS), Semaphore::new(1));
    let expected = sum_below(MESSAGES);
    let later = async |message: u64| {
        yield_once().await;
        black_box(message)
    };
    run.compare(
        &params! { "handler": "yields-once" },
        vec![
            Subject::all("ours", MESSAGES, expected, || {
                block_on(execute_each!(MESSAGES, |message| wide
                    .execute(Envelope::new(message), echo_later)))
            }),
            Subject::all("tokio-semaphore", MESSAGES, expected, || {
                block_on(async {
                    let mut sum = 0;
                    for message in 0..MESSAGES {
                        sum += limits::within(&permits, later(message)).await;
                    }
                    sum
                })
            }),
        ],
    )?;
    // Two at a time for one permit: the second of each pair waits for it.
    run.compare(
        &params! { "handler": "waits-for-a-permit" },
        vec![
            Subject::all("ours", MESSAGES, expected, || {
                block_on(async {
                    let mut sum = 0;
                    for message in (0..MESSAGES).step_by(2) {
                        let first = narrow.execute(Envelope::new(message), echo_later);
                        let second = narrow.execute(Envelope::new(message + 1), echo_later);
                        let (first, second) = both(first, second).await;
                        sum += first.expect("it is handled") + second.expect("it is handled");
                    }
                    sum
                })
            }),
            Subject::all("tokio-semaphore", MESSAGES, expected, || {
                block_on(async {
                    let mut sum = 0;
                    for message in (0..MESSAGES).step_by(2) {
                        let first = limits::within(&permit, later(message));
                        let second = limits::within(&permit, later(message + 1));
                        let (first, second) = both(first, second).await;
                        sum += first + second;
                    }
                    sum
                })
            }),
        ],
    )
}

/// Submits all messages and awaits them in order; the vector is given back, its room belongs to the caller.
async fn submit_and_join(
    executor: ParallelExecutor,
    messages: u64,
    mut kept: Kept<u64>,
) -> (u64, Kept<u64>) {
    for message in 0..messages {
        let submitted = executor.submit(Envelope::new(message), answer!());
        kept.push(submitted.expect("there is room"));
    }
    let mut sum = 0;
    for completion in kept.drain(..) {
        sum += completion.await.expect("it is handled");
    }
    (sum, kept)
}

/// Rounds of that by a caller.
fn joined_by<'a>(
    caller: Caller<'a>,
    executor: &'a ParallelExecutor,
    messages: u64,
) -> impl FnMut() -> u64 + 'a {
    let mut kept = Vec::with_capacity(messages as usize);
    move || {
        let all = submit_and_join(executor.clone(), messages, mem::take(&mut kept));
        let (sum, room) = caller.run(all);
        kept = room;
        sum
    }
}

pub(crate) fn joined(run: &mut Run<'_>) -> Result<(), CaseError> {
    const JOINED: u64 = 1_000;
    let core = core();
    let executor = executor(&core, PERMITS);
    let (semaphore, runtime) = (Arc::new(Semaphore::new(PERMITS)), workers());
    let near = local();
    let expected = sum_below(JOINED);
    run.compare(
        &params! { "messages": JOINED },
        vec![
            Subject::all(
                "ours",
                JOINED,
                expected,
                joined_by(Caller::Worker(&core), &executor, JOINED),
            ),
            Subject::all(
                "ours:from-outside",
                JOINED,
                expected,
                joined_by(Caller::Thread, &executor, JOINED),
            ),
            Subject::all("ours:join-all", JOINED, expected, || {
                let submit = |message| executor.submit(Envelope::new(message), answer!());
                let all = (0..JOINED).map(|message| submit(message).expect("there is room"));
                let all = block_on(join_all(all));
                all.into_iter()
                    .map(|handled| handled.expect("it is handled"))
                    .sum()
            }),
            Subject::all("ours:caller-runs", JOINED, expected, || {
                block_on(execute_each!(JOINED, |message| executor
                    .execute(Envelope::new(message), answer!())))
            }),
            Subject::all("tokio-spawn-semaphore", JOINED, expected, || {
                on_worker(&runtime, limits::spawn_all(Arc::clone(&semaphore), JOINED))
            }),
            Subject::all("tokio-semaphore-joined", JOINED, expected, || {
                near.block_on(limits::join_all_within(&semaphore, JOINED))
            }),
        ],
    )
}
