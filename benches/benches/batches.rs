//! Many messages submitted, then all awaited; the figures are for each message.

use std::convert::Infallible;
use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput};
use executor_benches::{block_on, echo, sum_below};
use executor_core::{Completion, Envelope, WorkerCore};
use executor_parallel::ParallelExecutor;
use executor_serial::SerialExecutor;

type Completions = Vec<Completion<u64, Infallible, u64>>;

/// Times `rounds` in which `submit` fills the vector and all of it is awaited.
fn timed(rounds: u64, messages: u64, mut submit: impl FnMut(&mut Completions)) -> Duration {
    let mut completions = Completions::with_capacity(messages as usize);
    let start = Instant::now();
    for _ in 0..rounds {
        submit(&mut completions);
        let sum = block_on(async {
            let mut sum = 0;
            for completion in completions.drain(..) {
                sum += completion.await.expect("it is handled");
            }
            sum
        });
        assert_eq!(sum, sum_below(messages));
    }
    start.elapsed()
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    let core = WorkerCore::threads(2).build().expect("the threads start");
    let parallel = ParallelExecutor::builder(&core).max_concurrency(64);
    let parallel = parallel.build().expect("the options are legal");
    let serial = SerialExecutor::<u64>::builder(&core)
        .build()
        .expect("the options are legal");
    let stream = serial.stream(&0);
    let streams: Vec<_> = (1..=10).map(|key| serial.stream(&key)).collect();

    let mut group = criterion.benchmark_group("batches");
    for messages in [100, 1_000] {
        group.throughput(Throughput::Elements(messages));
        group.bench_function(format!("parallel/{messages}"), |bencher| {
            bencher.iter_custom(|rounds| {
                timed(rounds, messages, |completions| {
                    completions.extend((0..messages).map(|message| {
                        parallel
                            .submit(Envelope::new(message), echo)
                            .expect("there is room")
                    }));
                })
            });
        });
        group.bench_function(format!("serial/{messages}"), |bencher| {
            bencher.iter_custom(|rounds| {
                timed(rounds, messages, |completions| {
                    completions.extend((0..messages).map(|message| {
                        stream
                            .submit(Envelope::new(message), echo)
                            .expect("there is room")
                    }));
                })
            });
        });
        group.bench_function(format!("serial as one batch/{messages}"), |bencher| {
            bencher.iter_custom(|rounds| {
                timed(rounds, messages, |completions| {
                    let batch = stream.submit_batch((0..messages).map(Envelope::new), echo);
                    assert!(batch.refused.is_none(), "there is room");
                    completions.extend(batch.accepted);
                })
            });
        });
    }
    group.throughput(Throughput::Elements(1_000));
    group.bench_function("serial/10 streams x 100", |bencher| {
        bencher.iter_custom(|rounds| {
            timed(rounds, 1_000, |completions| {
                completions.extend((0..1_000).map(|message| {
                    let stream = &streams[message as usize % streams.len()];
                    stream
                        .submit(Envelope::new(message), echo)
                        .expect("there is room")
                }));
            })
        });
    });
    group.finish();
    criterion.final_summary();
}
