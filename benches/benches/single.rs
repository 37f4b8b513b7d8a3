//! One message at a time, beside what tokio offers for it.

use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::Criterion;
use executor_benches::{block_on, echo, echo_later, sum_below};
use executor_core::{Envelope, WorkerCore};
use executor_parallel::ParallelExecutor;
use executor_serial::SerialExecutor;
use tokio::runtime::Builder;
use tokio::sync::{Mutex, Semaphore, mpsc, oneshot};

/// Times an execution of each message, and checks the sum of the results.
macro_rules! timed {
    ($run:expr, $messages:expr, |$message:ident| $execution:expr) => {{
        let messages = $messages;
        let start = Instant::now();
        let sum: u64 = $run(async {
            let mut sum = 0;
            for $message in 0..messages {
                sum += $execution.await.expect("it is handled");
            }
            sum
        });
        let elapsed: Duration = start.elapsed();
        assert_eq!(sum, sum_below(messages));
        elapsed
    }};
}

fn ours(criterion: &mut Criterion) {
    let core = WorkerCore::threads(2).build().expect("the threads start");
    let parallel = ParallelExecutor::builder(&core).max_concurrency(64);
    let parallel = parallel.build().expect("the options are legal");
    let serial = SerialExecutor::<u64>::builder(&core)
        .build()
        .expect("the options are legal");
    let queued = SerialExecutor::<u64>::builder(&core).inline(false).build();
    let queued = queued.expect("the options are legal").stream(&0);
    let stream = serial.stream(&0);

    let mut group = criterion.benchmark_group("single");
    group.bench_function("parallel/ready", |bencher| {
        bencher.iter_custom(|messages| {
            timed!(block_on, messages, |message| parallel
                .execute(Envelope::new(message), echo))
        });
    });
    group.bench_function("parallel/yields", |bencher| {
        bencher.iter_custom(|messages| {
            timed!(block_on, messages, |message| parallel
                .execute(Envelope::new(message), echo_later))
        });
    });
    group.bench_function("serial/by handle", |bencher| {
        bencher.iter_custom(|messages| {
            timed!(block_on, messages, |message| stream
                .execute(Envelope::new(message), echo))
        });
    });
    group.bench_function("serial/by key of 1,000", |bencher| {
        bencher.iter_custom(|messages| {
            timed!(block_on, messages, |message| {
                serial.execute(message % 1_000, Envelope::new(message), echo)
            })
        });
    });
    group.bench_function("serial/inlining off", |bencher| {
        bencher.iter_custom(|messages| {
            timed!(block_on, messages, |message| queued
                .execute(Envelope::new(message), echo))
        });
    });
    group.finish();
}

fn peers(criterion: &mut Criterion) {
    let local = Builder::new_current_thread().build().expect("it starts");
    let workers = Builder::new_multi_thread()
        .worker_threads(2)
        .build()
        .expect("the threads start");
    let mutex = Mutex::new(());
    let semaphore = Semaphore::new(64);
    let lock = async |message: u64| {
        let guard = mutex.lock().await;
        let message = black_box(message);
        drop(guard);
        Some(message)
    };
    let acquire = async |message: u64| {
        let permit = semaphore.acquire().await.expect("it is open");
        let message = black_box(message);
        drop(permit);
        Some(message)
    };
    let actor = |runtime: &tokio::runtime::Runtime| {
        let (sender, mut receiver) = mpsc::channel::<(u64, oneshot::Sender<u64>)>(1_024);
        runtime.spawn(async move {
            while let Some((message, answer)) = receiver.recv().await {
                // Nobody stops waiting for an answer here.
                let _ = answer.send(message);
            }
        });
        sender
    };
    let (near, far) = (actor(&local), actor(&workers));
    let ask = async |actor: &mpsc::Sender<(u64, oneshot::Sender<u64>)>, message: u64| {
        let (answer, answered) = oneshot::channel();
        actor.send((message, answer)).await.ok()?;
        answered.await.ok()
    };

    let mut group = criterion.benchmark_group("single");
    group.bench_function("tokio/Mutex", |bencher| {
        bencher.iter_custom(|messages| {
            timed!(|work| local.block_on(work), messages, |message| lock(
                message
            ))
        });
    });
    group.bench_function("tokio/Semaphore", |bencher| {
        bencher.iter_custom(|messages| {
            timed!(|work| local.block_on(work), messages, |message| acquire(
                message
            ))
        });
    });
    group.bench_function("tokio/actor on the same thread", |bencher| {
        bencher.iter_custom(|messages| {
            timed!(|work| local.block_on(work), messages, |message| ask(
                &near, message
            ))
        });
    });
    group.bench_function("tokio/actor on another thread", |bencher| {
        bencher.iter_custom(|messages| timed!(block_on, messages, |message| ask(&far, message)));
    });
    group.finish();
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    ours(&mut criterion);
    peers(&mut criterion);
    criterion.final_summary();
}
