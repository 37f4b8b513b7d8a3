//! Cases 7 and 8: one stream with many messages, and many streams.

use std::cell::Cell;
use std::sync::Arc;

use executor_bench_peers::actix_mailbox::Actix;
use executor_bench_peers::channels::Channel;
use executor_bench_peers::kameo_mailbox::KameoMailbox;
use executor_bench_peers::keyed::{self, Mutexes};
use executor_bench_peers::mailbox::{self, Mailbox};
use executor_bench_peers::ractor_mailbox::RactorMailbox;
use executor_bench_peers::tokio_mailbox::TokioMailbox;
use executor_bench_peers::{WORKERS, on_worker, repeat, repetitions, sum_below, workers};
use executor_core::{Envelope, WorkerCore};
use executor_serial::{SerialExecutor, Stream};
use tokio::runtime::Runtime;

use crate::callers::{Caller, Kept, answer, await_all, submit_all};
use crate::engine::{CaseError, Run, Subject};
use crate::floors::TakeAll;
use crate::keys::zipf;
use crate::outside;
use crate::row::params;

/// From so many messages on, a quick run has only the executor and who is quickest to compare with.
const MANY: u64 = 1_000_000;

fn told<'a, M: Mailbox>(runtime: &'a Runtime, messages: u64) -> Subject<'a> {
    let mailbox = runtime.block_on(M::start());
    let name = format!("{}-tell", M::NAME);
    let times = repetitions(messages);
    let expected = times * sum_below(messages);
    Subject::all(name, times * messages, expected, move || {
        let mailbox = mailbox.clone();
        let tell = move || mailbox::tell_all(mailbox.clone(), messages);
        on_worker(runtime, repeat(times, tell))
    })
}

fn sent<'a>(channel: Channel, messages: u64) -> Subject<'a> {
    let name = format!("{}-tell", channel.name);
    let times = repetitions(messages);
    let expected = times * sum_below(messages);
    let send = move || {
        channel.send_all(messages);
        channel.total()
    };
    Subject::all(name, times * messages, expected, move || {
        (0..times).map(|_| send()).sum()
    })
}

/// Ours, with its caller on a worker or not.
fn submitted<'a>(
    name: &str,
    caller: Caller<'a>,
    stream: &'a Stream<u64>,
    messages: u64,
) -> Subject<'a> {
    let kept = Cell::new(Kept::with_capacity(messages as usize));
    let times = repetitions(messages);
    let expected = times * sum_below(messages);
    Subject::all(name, times * messages, expected, move || {
        let (stream, mut all) = (stream.clone(), kept.take());
        let (sum, all) = caller.run(async move {
            let mut sum = 0;
            for _ in 0..times {
                sum += submit_all(&stream, &mut all, messages).await;
            }
            (sum, all)
        });
        kept.set(all);
        sum
    })
}

fn batched<'a>(core: &'a WorkerCore, stream: &'a Stream<u64>, messages: u64) -> Subject<'a> {
    let times = repetitions(messages);
    let expected = times * sum_below(messages);
    Subject::all("ours:batch", times * messages, expected, move || {
        let stream = stream.clone();
        Caller::Worker(core).run(async move {
            let mut sum = 0;
            for _ in 0..times {
                let batch = stream.submit_batch((0..messages).map(Envelope::new), answer!());
                let mut accepted = batch.accepted;
                sum += await_all(&mut accepted).await;
            }
            sum
        })
    })
}

pub(crate) fn one(run: &mut Run<'_>) -> Result<(), CaseError> {
    let sizes = [100, 10_000, 100_000, MANY];
    for messages in run.pick(&sizes, &sizes) {
        let core = WorkerCore::threads(WORKERS)
            .build()
            .expect("the threads start");
        let executor = SerialExecutor::<u64>::builder(&core).queue_per_stream(messages as usize);
        let stream = executor.build().expect("the options are legal").stream(&0);
        let (runtime, actix, floor) = (workers(), Actix::new(), TakeAll::new(messages));
        let times = repetitions(messages);
        let (operations, expected) = (times * messages, times * sum_below(messages));
        let asked = runtime.block_on(TokioMailbox::start());
        let ask_all = || {
            let asked = asked.clone();
            repeat(times, move || asked.clone().ask_all(messages))
        };
        let mut subjects = vec![
            submitted("ours", Caller::Worker(&core), &stream, messages),
            submitted("ours:from-outside", Caller::Thread, &stream, messages),
            batched(&core, &stream, messages),
            Subject::all(TokioMailbox::NAME, operations, expected, || {
                on_worker(&runtime, ask_all())
            }),
            Subject::all(
                "tokio-mpsc-oneshot-from-outside",
                operations,
                expected,
                || runtime.block_on(ask_all()),
            ),
            Subject::new("floor:take-all-list", operations, expected, || {
                floor.submit_all(times)
            }),
        ];
        if !(run.effort.quick && messages >= MANY) {
            subjects.extend([
                told::<TokioMailbox>(&runtime, messages),
                told::<RactorMailbox>(&runtime, messages),
                told::<KameoMailbox>(&runtime, messages),
                Subject::all("actix-tell", operations, expected, || {
                    (0..times).map(|_| actix.tell_all(messages)).sum()
                }),
                sent(Channel::crossbeam(), messages),
                sent(Channel::flume(), messages),
                sent(Channel::kanal(), messages),
            ]);
            let (line, go) = (format!("tell {messages}"), &run.outside.go);
            let expected = sum_below(messages);
            subjects.extend(outside::subject(
                run,
                go,
                "go-channel-tell",
                line,
                messages,
                expected,
            ));
        }
        run.compare(&params! { "messages": messages }, subjects)?;
    }
    Ok(())
}

/// A task for each stream, which executes one message after another; the sum of all results.
async fn execute_streams(core: WorkerCore, streams: Vec<Stream<u64>>, messages: u64) -> u64 {
    let task = |stream: Stream<u64>| async move {
        let mut sum = 0;
        for message in 0..messages {
            let handled = stream.execute(Envelope::new(message), answer!()).await;
            sum += handled.expect("it is handled");
        }
        sum
    };
    let spawn = |stream| core.spawn(task(stream)).expect("the core is open");
    let mut tasks: Vec<_> = streams.into_iter().map(spawn).collect();
    await_all(&mut tasks).await
}

fn asked<'a, M: Mailbox>(runtime: &'a Runtime, streams: usize, messages: u64) -> Subject<'a> {
    let mailboxes = runtime.block_on(mailbox::start_all::<M>(streams));
    let operations = streams as u64 * messages;
    let expected = streams as u64 * sum_below(messages);
    Subject::all(M::NAME, operations, expected, move || {
        on_worker(runtime, mailbox::ask_streams(mailboxes.clone(), messages))
    })
}

pub(crate) fn many(run: &mut Run<'_>) -> Result<(), CaseError> {
    let quick = [(10, 100), (10, 10_000), (1_000, 100)];
    let sizes = run.pick(&quick, &[(10, 100), (10, 10_000), (1_000, 1_000)]);
    for (streams, messages) in sizes {
        for threads in [1, WORKERS] {
            let core = WorkerCore::threads(threads).build();
            let core = core.expect("the threads start");
            let executor = SerialExecutor::<u64>::builder(&core).build();
            let executor = executor.expect("the options are legal");
            let handles: Vec<_> = (0..streams as u64)
                .map(|key| executor.stream(&key))
                .collect();
            let queued = SerialExecutor::<u64>::builder(&core).inline(false).build();
            let queued = queued.expect("the options are legal");
            let handed_over: Vec<_> = (0..streams as u64).map(|key| queued.stream(&key)).collect();
            let runtime = workers();
            let operations = streams as u64 * messages;
            let expected = streams as u64 * sum_below(messages);
            let mut subjects = vec![
                Subject::all("ours", operations, expected, || {
                    let streams = execute_streams(core.clone(), handles.clone(), messages);
                    Caller::Worker(&core).run(streams)
                }),
                Subject::all("ours:from-outside", operations, expected, || {
                    let streams = execute_streams(core.clone(), handles.clone(), messages);
                    Caller::Thread.run(streams)
                }),
            ];
            // Everybody has two workers; one is only there to see what the second is worth.
            if threads == WORKERS {
                subjects.extend([
                    Subject::all("ours:no-inline", operations, expected, || {
                        let streams = execute_streams(core.clone(), handed_over.clone(), messages);
                        Caller::Worker(&core).run(streams)
                    }),
                    Subject::all("tokio-mutex", operations, expected, || {
                        on_worker(&runtime, keyed::lock_streams(streams, messages))
                    }),
                    asked::<TokioMailbox>(&runtime, streams, messages),
                    asked::<KameoMailbox>(&runtime, streams, messages),
                    asked::<RactorMailbox>(&runtime, streams, messages),
                ]);
            }
            let params = params! { "streams": streams, "messages": messages, "workers": threads };
            run.compare(&params, subjects)?;
        }
    }
    by_zipf_keys(run)
}

fn by_zipf_keys(run: &mut Run<'_>) -> Result<(), CaseError> {
    const KEYS: u32 = 100_000;
    const VISITS: usize = 50_000;
    let core = WorkerCore::threads(WORKERS)
        .build()
        .expect("the threads start");
    let executor = SerialExecutor::<u64>::builder(&core).resident_streams(2 * KEYS as usize);
    let executor = executor.build().expect("the options are legal");
    let keys: Vec<_> = (0..WORKERS as u64)
        .map(|seed| Arc::new(zipf(KEYS, VISITS, seed)))
        .collect();
    let operations = (VISITS * WORKERS) as u64;
    let expected = keys
        .iter()
        .flat_map(|keys| keys.iter())
        .map(|&key| u64::from(key));
    let expected = expected.sum();
    let runtime = workers();
    let mutexes = Mutexes::of(u64::from(KEYS));
    let mailboxes = Arc::new(runtime.block_on(mailbox::start_all::<TokioMailbox>(KEYS as usize)));
    let execute = |keys: &Arc<Vec<u32>>| {
        let (executor, keys) = (executor.clone(), Arc::clone(keys));
        let task = async move {
            let mut sum = 0;
            for &key in keys.iter() {
                let key = u64::from(key);
                let handled = executor.execute(key, Envelope::new(key), answer!()).await;
                sum += handled.expect("it is handled");
            }
            sum
        };
        core.spawn(task).expect("the core is open")
    };
    run.compare(
        &params! { "streams": KEYS, "keys": "zipf", "workers": WORKERS },
        vec![
            Subject::all("ours:by-key", operations, expected, || {
                let tasks: Vec<_> = keys.iter().map(execute).collect();
                tasks
                    .into_iter()
                    .map(|task| task.wait().expect("the task does not panic"))
                    .sum()
            }),
            Subject::all("tokio-mutex-by-key", operations, expected, || {
                on_worker(&runtime, keyed::lock_keys(mutexes.clone(), keys.clone()))
            }),
            Subject::all(TokioMailbox::NAME, operations, expected, || {
                let mailboxes = Arc::clone(&mailboxes);
                on_worker(&runtime, mailbox::ask_keys(mailboxes, keys.clone()))
            }),
        ],
    )
}
