//! Compares the executors with what tokio offers for the same work, in one run with interleaved samples.
//!
//! Only the ratios say something about another machine. Every result is checked.

use std::hint::black_box;
use std::time::Instant;

use clap::Parser;
use executor_benches::{block_on, echo, sum_below};
use executor_core::{Envelope, WorkerCore};
use executor_parallel::ParallelExecutor;
use executor_serial::SerialExecutor;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::{Mutex, Semaphore, mpsc, oneshot};

/// Operations of a sample, one after another.
const IDLE: u64 = 200_000;
/// Round trips of a sample, of those that pass through another task.
const ROUND_TRIPS: u64 = 50_000;
/// Tasks of a sample.
const TASKS: u64 = 100_000;
/// Messages of a sample, submitted together.
const MESSAGES: u64 = 10_000;
/// Of those, repetitions in a sample.
const REPEATED: u64 = 10;

/// Compares the executors with their peers.
#[derive(Debug, Parser)]
struct Arguments {
    /// Samples of each case, at least 9.
    #[arg(long, default_value_t = 11, value_parser = clap::value_parser!(u64).range(9..))]
    samples: u64,
}

/// One of those that are compared.
struct Case<'a> {
    name: &'static str,
    /// Takes a sample: nanoseconds for each operation.
    sample: Box<dyn FnMut() -> f64 + 'a>,
    taken: Vec<f64>,
}

fn case<'a>(name: &'static str, sample: impl FnMut() -> f64 + 'a) -> Case<'a> {
    Case {
        name,
        sample: Box::new(sample),
        taken: Vec::new(),
    }
}

/// Nanoseconds for each operation of `work`, whose result is checked.
fn timed(operations: u64, expected: u64, work: impl FnOnce() -> u64) -> f64 {
    let start = Instant::now();
    let sum = work();
    let elapsed = start.elapsed();
    assert_eq!(sum, expected, "a result is wrong or missing");
    elapsed.as_nanos() as f64 / operations as f64
}

/// Runs the cases in turn, and prints them; the first one is ours.
fn compare(title: &str, samples: u64, mut cases: Vec<Case<'_>>) {
    for case in &mut cases {
        (case.sample)();
    }
    for _ in 0..samples {
        for case in &mut cases {
            case.taken.push((case.sample)());
        }
    }
    println!("{title}");
    let mut ours = None;
    for case in &mut cases {
        case.taken.sort_by(f64::total_cmp);
        let (min, max) = (case.taken[0], case.taken[case.taken.len() - 1]);
        let median = case.taken[case.taken.len() / 2];
        let ours = *ours.get_or_insert(median);
        println!(
            "    {:<44} {min:>9.1} {median:>9.1} {max:>9.1} {:>8.2}",
            case.name,
            median / ours
        );
    }
}

type Request = (u64, oneshot::Sender<u64>);

/// A task that answers what it is sent.
fn actor(runtime: &Runtime, room: usize) -> mpsc::Sender<Request> {
    let (sender, mut receiver) = mpsc::channel::<Request>(room);
    runtime.spawn(async move {
        while let Some((message, answer)) = receiver.recv().await {
            // Nobody stops waiting for an answer here.
            let _ = answer.send(message);
        }
    });
    sender
}

async fn ask(actor: &mpsc::Sender<Request>, message: u64) -> u64 {
    let (answer, answered) = oneshot::channel();
    actor
        .send((message, answer))
        .await
        .expect("the actor lives");
    answered.await.expect("the actor answers")
}

async fn ask_all(actor: &mpsc::Sender<Request>) -> u64 {
    let mut answers = Vec::with_capacity(MESSAGES as usize);
    for message in 0..MESSAGES {
        let (answer, answered) = oneshot::channel();
        actor
            .send((message, answer))
            .await
            .expect("the actor lives");
        answers.push(answered);
    }
    let mut sum = 0;
    for answered in answers {
        sum += answered.await.expect("the actor answers");
    }
    sum
}

async fn spawn_all_on_tokio() -> u64 {
    let tasks: Vec<_> = (0..TASKS)
        .map(|task| tokio::spawn(async move { task }))
        .collect();
    let mut sum = 0;
    for task in tasks {
        sum += task.await.expect("no task panics");
    }
    sum
}

fn main() {
    let samples = Arguments::parse().samples;
    let core = WorkerCore::threads(2).build().expect("the threads start");
    let serial = SerialExecutor::<u64>::builder(&core).queue_per_stream(MESSAGES as usize);
    let serial = serial.build().expect("the options are legal");
    let queued = SerialExecutor::<u64>::builder(&core).inline(false).build();
    let queued = queued.expect("the options are legal").stream(&0);
    let parallel = ParallelExecutor::builder(&core).max_concurrency(64);
    let parallel = parallel.build().expect("the options are legal");
    let stream = serial.stream(&0);
    let workers = Builder::new_multi_thread()
        .worker_threads(2)
        .build()
        .expect("the threads start");
    // Where caller and actor share a thread, a mailbox is at its fastest.
    let local = Builder::new_current_thread().build().expect("it starts");
    let (near, far) = (actor(&local, 1_024), actor(&workers, 1_024));
    let roomy = actor(&workers, MESSAGES as usize);
    let near_roomy = actor(&local, MESSAGES as usize);
    let mutex = Mutex::new(());
    let semaphore = Semaphore::new(64);

    println!(
        "ns for each operation {:>34} {:>9} {:>9} {:>8}",
        "min", "median", "max", "of ours"
    );
    compare(
        "serial execute on an idle stream (ours runs on its caller)",
        samples,
        vec![
            case("serial, by handle", || {
                timed(IDLE, sum_below(IDLE), || {
                    block_on(async {
                        let mut sum = 0;
                        for message in 0..IDLE {
                            let envelope = Envelope::new(message);
                            sum += stream.execute(envelope, echo).await.expect("it is handled");
                        }
                        sum
                    })
                })
            }),
            case("serial, by key of 1,000", || {
                timed(IDLE, sum_below(IDLE), || {
                    block_on(async {
                        let mut sum = 0;
                        for message in 0..IDLE {
                            let execution =
                                serial.execute(message % 1_000, Envelope::new(message), echo);
                            sum += execution.await.expect("it is handled");
                        }
                        sum
                    })
                })
            }),
            case("tokio Mutex", || {
                timed(IDLE, sum_below(IDLE), || {
                    local.block_on(async {
                        let mut sum = 0;
                        for message in 0..IDLE {
                            let guard = mutex.lock().await;
                            sum += black_box(message);
                            drop(guard);
                        }
                        sum
                    })
                })
            }),
            case("tokio mpsc + oneshot, actor on the same thread", || {
                timed(ROUND_TRIPS, sum_below(ROUND_TRIPS), || {
                    local.block_on(async {
                        let mut sum = 0;
                        for message in 0..ROUND_TRIPS {
                            sum += ask(&near, message).await;
                        }
                        sum
                    })
                })
            }),
        ],
    );
    compare(
        "serial execute through a worker, from a foreign thread",
        samples,
        vec![
            case("serial, inlining off", || {
                timed(ROUND_TRIPS, sum_below(ROUND_TRIPS), || {
                    block_on(async {
                        let mut sum = 0;
                        for message in 0..ROUND_TRIPS {
                            let envelope = Envelope::new(message);
                            sum += queued.execute(envelope, echo).await.expect("it is handled");
                        }
                        sum
                    })
                })
            }),
            case("tokio mpsc + oneshot, 2 workers", || {
                timed(ROUND_TRIPS / 5, sum_below(ROUND_TRIPS / 5), || {
                    block_on(async {
                        let mut sum = 0;
                        for message in 0..ROUND_TRIPS / 5 {
                            sum += ask(&far, message).await;
                        }
                        sum
                    })
                })
            }),
        ],
    );
    compare(
        "parallel execute, uncontended",
        samples,
        vec![
            case("parallel", || {
                timed(IDLE, sum_below(IDLE), || {
                    block_on(async {
                        let mut sum = 0;
                        for message in 0..IDLE {
                            let envelope = Envelope::new(message);
                            sum += parallel
                                .execute(envelope, echo)
                                .await
                                .expect("it is handled");
                        }
                        sum
                    })
                })
            }),
            case("tokio Semaphore acquire", || {
                timed(IDLE, sum_below(IDLE), || {
                    local.block_on(async {
                        let mut sum = 0;
                        for message in 0..IDLE {
                            let permit = semaphore.acquire().await.expect("it is open");
                            sum += black_box(message);
                            drop(permit);
                        }
                        sum
                    })
                })
            }),
            case("tokio Semaphore try_acquire", || {
                timed(IDLE, sum_below(IDLE), || {
                    let mut sum = 0;
                    for message in 0..IDLE {
                        let permit = semaphore.try_acquire().expect("it is free");
                        sum += black_box(message);
                        drop(permit);
                    }
                    sum
                })
            }),
        ],
    );
    compare(
        "spawn 100,000 tasks and await all, 2 workers",
        samples,
        vec![
            case("spawn", || {
                timed(TASKS, sum_below(TASKS), || {
                    block_on(async {
                        let spawn =
                            |task| core.spawn(async move { task }).expect("the core is open");
                        let tasks: Vec<_> = (0..TASKS).map(spawn).collect();
                        let mut sum = 0;
                        for task in tasks {
                            sum += task.await.expect("no task panics");
                        }
                        sum
                    })
                })
            }),
            case("spawn_fn", || {
                timed(TASKS, sum_below(TASKS), || {
                    block_on(async {
                        let spawn = |task| core.spawn_fn(move || task).expect("the core is open");
                        let tasks: Vec<_> = (0..TASKS).map(spawn).collect();
                        let mut sum = 0;
                        for task in tasks {
                            sum += task.await.expect("no task panics");
                        }
                        sum
                    })
                })
            }),
            case("tokio::spawn, from a foreign thread", || {
                timed(TASKS, sum_below(TASKS), || {
                    workers.block_on(spawn_all_on_tokio())
                })
            }),
            case("tokio::spawn, from a worker", || {
                timed(TASKS, sum_below(TASKS), || {
                    workers.block_on(async {
                        tokio::spawn(spawn_all_on_tokio())
                            .await
                            .expect("no task panics")
                    })
                })
            }),
        ],
    );
    compare(
        "one stream, 10,000 submitted, then all awaited",
        samples,
        vec![
            case("serial", || {
                let submit_all = || {
                    block_on(async {
                        let submit = |message| stream.submit(Envelope::new(message), echo);
                        let submit = |message| submit(message).expect("there is room");
                        let completions: Vec<_> = (0..MESSAGES).map(submit).collect();
                        let mut sum = 0;
                        for completion in completions {
                            sum += completion.await.expect("it is handled");
                        }
                        sum
                    })
                };
                timed(MESSAGES * REPEATED, sum_below(MESSAGES) * REPEATED, || {
                    (0..REPEATED).map(|_| submit_all()).sum()
                })
            }),
            case("tokio mpsc + oneshot, 2 workers", || {
                timed(MESSAGES * REPEATED, sum_below(MESSAGES) * REPEATED, || {
                    (0..REPEATED)
                        .map(|_| workers.block_on(ask_all(&roomy)))
                        .sum()
                })
            }),
            case("tokio mpsc + oneshot, actor on the same thread", || {
                timed(MESSAGES * REPEATED, sum_below(MESSAGES) * REPEATED, || {
                    (0..REPEATED)
                        .map(|_| local.block_on(ask_all(&near_roomy)))
                        .sum()
                })
            }),
        ],
    );
}
