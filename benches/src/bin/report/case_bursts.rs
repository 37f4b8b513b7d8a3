//! Cases 11 and 14: bursts, alone and mixed with round trips.

use std::cell::Cell;

use executor_bench_peers::mailbox::Mailbox;
use executor_bench_peers::spawning;
use executor_bench_peers::tokio_mailbox::TokioMailbox;
use executor_bench_peers::{WORKERS, on_worker, repeat, repetitions, sum_below, workers};
use executor_core::{Envelope, WorkerCore};
use executor_serial::{SerialExecutor, Stream};

use crate::callers::{Caller, Kept, answer, spawn_all, spawn_fn, submit_all};
use crate::engine::{CaseError, Run, Subject};
use crate::floors::TakeAll;
use crate::outside;
use crate::row::params;

/// More than any burst.
const ROOM: usize = 8_192;

fn stream(core: &WorkerCore, inline: bool) -> Stream<u64> {
    let executor = SerialExecutor::<u64>::builder(core)
        .queue_per_stream(ROOM)
        .inline(inline);
    executor.build().expect("the options are legal").stream(&0)
}

/// Ours: a burst, and then so many round trips, repeated often enough to be measured.
fn ours<'a>(
    name: &str,
    caller: Caller<'a>,
    stream: &'a Stream<u64>,
    burst: u64,
    singles: u64,
) -> Subject<'a> {
    let times = repetitions(burst + singles);
    let operations = times * (burst + singles);
    let expected = times * (sum_below(burst) + sum_below(singles));
    let kept = Cell::new(Kept::with_capacity(ROOM));
    Subject::all(name, operations, expected, move || {
        let (stream, mut all) = (stream.clone(), kept.take());
        let (sum, all) = caller.run(async move {
            let mut sum = 0;
            for _ in 0..times {
                sum += submit_all(&stream, &mut all, burst).await;
                for message in 0..singles {
                    let handled = stream.execute(Envelope::new(message), answer!()).await;
                    sum += handled.expect("it is handled");
                }
            }
            (sum, all)
        });
        kept.set(all);
        sum
    })
}

pub(crate) fn bursts(run: &mut Run<'_>) -> Result<(), CaseError> {
    let core = WorkerCore::threads(WORKERS)
        .build()
        .expect("the threads start");
    let (stream, runtime) = (stream(&core, true), workers());
    let mailbox = runtime.block_on(TokioMailbox::start());
    let whole = [64, 128, 256, 512, 1_024, 2_048, 4_096];
    for burst in run.pick(&[64, 256, 1_024, 4_096], &whole) {
        let times = repetitions(burst);
        let (operations, expected) = (times * burst, times * sum_below(burst));
        let floor = TakeAll::new(burst);
        let kept = Cell::new(Kept::with_capacity(ROOM));
        let ask_all = || {
            let mailbox = mailbox.clone();
            repeat(times, move || mailbox.clone().ask_all(burst))
        };
        let mut subjects = vec![
            ours("ours", Caller::Worker(&core), &stream, burst, 0),
            ours("ours:from-outside", Caller::Thread, &stream, burst, 0),
            Subject::all("ours:spawn", operations, expected, || {
                let (worker, mut all) = (core.clone(), kept.take());
                let (sum, all) = Caller::Worker(&core).run(async move {
                    let mut sum = 0;
                    for _ in 0..times {
                        sum += spawn_all(&worker, &mut all, burst, spawn_fn).await;
                    }
                    (sum, all)
                });
                kept.set(all);
                sum
            }),
            Subject::all(TokioMailbox::NAME, operations, expected, || {
                on_worker(&runtime, ask_all())
            }),
            Subject::all(
                "tokio-mpsc-oneshot-from-outside",
                operations,
                expected,
                || runtime.block_on(ask_all()),
            ),
            Subject::all("tokio-spawn", operations, expected, || {
                on_worker(&runtime, repeat(times, move || spawning::tokio_all(burst)))
            }),
            Subject::new("floor:take-all-list", operations, expected, || {
                floor.submit_all(times)
            }),
        ];
        let (line, go) = (format!("burst {burst} {times}"), &run.outside.go);
        subjects.extend(outside::subject(
            run,
            go,
            "go-channels",
            line,
            operations,
            expected,
        ));
        run.compare(&params! { "burst": burst }, subjects)?;
    }
    Ok(())
}

pub(crate) fn mixed(run: &mut Run<'_>) -> Result<(), CaseError> {
    let core = WorkerCore::threads(WORKERS)
        .build()
        .expect("the threads start");
    let (inline, queued, runtime) = (stream(&core, true), stream(&core, false), workers());
    let mailbox = runtime.block_on(TokioMailbox::start());
    for tasks in run.pick(&[100, 1_000, 5_000], &[100, 500, 1_000, 5_000]) {
        let half = tasks / 2;
        let times = repetitions(tasks);
        let (operations, expected) = (times * tasks, 2 * times * sum_below(half));
        let mixed = || {
            let mailbox = mailbox.clone();
            repeat(times, move || mailbox.clone().mixed(half))
        };
        let on_core = Caller::Worker(&core);
        let mut subjects = vec![
            ours("ours", on_core, &inline, half, half),
            ours("ours:no-inline", on_core, &queued, half, half),
            ours("ours:from-outside", Caller::Thread, &inline, half, half),
            ours(
                "ours:no-inline-from-outside",
                Caller::Thread,
                &queued,
                half,
                half,
            ),
            Subject::all(TokioMailbox::NAME, operations, expected, || {
                on_worker(&runtime, mixed())
            }),
            Subject::all(
                "tokio-mpsc-oneshot-from-outside",
                operations,
                expected,
                || runtime.block_on(mixed()),
            ),
        ];
        let (line, go) = (format!("mixed {half} {times}"), &run.outside.go);
        subjects.extend(outside::subject(
            run,
            go,
            "go-channels",
            line,
            operations,
            expected,
        ));
        run.compare(&params! { "tasks": tasks }, subjects)?;
    }
    Ok(())
}
