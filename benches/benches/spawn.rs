//! Many tasks spawned, then all awaited, beside `tokio::spawn`; the figures are for each task.

use std::time::{Duration, Instant};

use criterion::{Criterion, SamplingMode, Throughput};
use executor_benches::{block_on, sum_below};
use executor_core::WorkerCore;
use tokio::runtime::Builder;

/// Times `rounds` of something that gives the sum of its tasks' results.
fn timed(rounds: u64, tasks: u64, mut round: impl FnMut() -> u64) -> Duration {
    let start = Instant::now();
    for _ in 0..rounds {
        assert_eq!(round(), sum_below(tasks));
    }
    start.elapsed()
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    let core = WorkerCore::threads(2).build().expect("the threads start");
    let workers = Builder::new_multi_thread()
        .worker_threads(2)
        .build()
        .expect("the threads start");

    let mut group = criterion.benchmark_group("spawn");
    group.sampling_mode(SamplingMode::Flat).sample_size(10);
    for tasks in [10_000, 100_000, 1_000_000] {
        group.throughput(Throughput::Elements(tasks));
        group.bench_function(format!("spawn/{tasks}"), |bencher| {
            bencher.iter_custom(|rounds| {
                timed(rounds, tasks, || {
                    let spawn = |task| core.spawn(async move { task }).expect("the core is open");
                    let completions: Vec<_> = (0..tasks).map(spawn).collect();
                    block_on(async {
                        let mut sum = 0;
                        for completion in completions {
                            sum += completion.await.expect("no task panics");
                        }
                        sum
                    })
                })
            });
        });
        group.bench_function(format!("spawn_fn/{tasks}"), |bencher| {
            bencher.iter_custom(|rounds| {
                timed(rounds, tasks, || {
                    let spawn = |task| core.spawn_fn(move || task).expect("the core is open");
                    let completions: Vec<_> = (0..tasks).map(spawn).collect();
                    block_on(async {
                        let mut sum = 0;
                        for completion in completions {
                            sum += completion.await.expect("no task panics");
                        }
                        sum
                    })
                })
            });
        });
        group.bench_function(format!("tokio/{tasks}"), |bencher| {
            bencher.iter_custom(|rounds| {
                timed(rounds, tasks, || {
                    workers.block_on(async {
                        let spawn = |task| tokio::spawn(async move { task });
                        let handles: Vec<_> = (0..tasks).map(spawn).collect();
                        let mut sum = 0;
                        for handle in handles {
                            sum += handle.await.expect("no task panics");
                        }
                        sum
                    })
                })
            });
        });
    }
    group.finish();
    criterion.final_summary();
}
