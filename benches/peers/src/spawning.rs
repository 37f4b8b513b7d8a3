//! Many small tasks: tokio, async-executor and rayon.

use std::fmt;
use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Instant;

use async_executor::Executor;
use futures_lite::future;
use tokio::sync::oneshot;

use crate::{Round, WORKERS};

/// Spawns on the runtime whose context this runs in, and awaits all; the sum of the results.
///
/// # Panics
/// When a task does.
pub async fn tokio_all(tasks: u64) -> u64 {
    tokio_submitted(tasks).await.sum
}

/// As [`tokio_all`], with the time that spawning took.
///
/// # Panics
/// When a task does.
pub async fn tokio_submitted(tasks: u64) -> Round {
    let start = Instant::now();
    let spawned: Vec<_> = (0..tasks)
        .map(|task| tokio::spawn(async move { black_box(task) }))
        .collect();
    let took = start.elapsed();
    let mut sum = 0;
    for task in spawned {
        sum += task.await.expect("the task does not panic");
    }
    Round { took, sum }
}

/// A chain of tasks, each of which spawns the next; the length.
///
/// # Panics
/// When the chain is lost.
pub async fn tokio_chain(length: u64) -> u64 {
    fn link(done: u64, length: u64, end: oneshot::Sender<u64>) {
        if done == length {
            // The receiver waits below.
            let _ = end.send(done);
            return;
        }
        tokio::spawn(async move { link(done + 1, length, end) });
    }
    let (end, ended) = oneshot::channel();
    link(0, length, end);
    ended.await.expect("the chain ends")
}

/// An `async_executor::Executor` with two threads.
pub struct AsyncExecutor {
    executor: Arc<Executor<'static>>,
    stop: Vec<oneshot::Sender<()>>,
    threads: Vec<JoinHandle<()>>,
}

impl fmt::Debug for AsyncExecutor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AsyncExecutor").finish_non_exhaustive()
    }
}

impl Default for AsyncExecutor {
    fn default() -> Self {
        Self::new()
    }
}

impl AsyncExecutor {
    /// Starts the threads.
    #[must_use]
    pub fn new() -> Self {
        let executor = Arc::new(Executor::new());
        let mut stop = Vec::new();
        let threads = (0..WORKERS)
            .map(|_| {
                let (sender, stopped) = oneshot::channel::<()>();
                stop.push(sender);
                let executor = Arc::clone(&executor);
                thread::spawn(move || {
                    // The sender goes away to say stop.
                    let _ = future::block_on(executor.run(stopped));
                })
            })
            .collect();
        Self {
            executor,
            stop,
            threads,
        }
    }

    /// Spawns and awaits all.
    #[must_use]
    pub fn all(&self, tasks: u64) -> u64 {
        let spawned: Vec<_> = (0..tasks)
            .map(|task| self.executor.spawn(async move { black_box(task) }))
            .collect();
        future::block_on(async {
            let mut sum = 0;
            for task in spawned {
                sum += task.await;
            }
            sum
        })
    }
}

impl Drop for AsyncExecutor {
    fn drop(&mut self) {
        self.stop.clear();
        for thread in self.threads.drain(..) {
            // A thread that panicked has failed the round that it was in.
            let _ = thread.join();
        }
    }
}

/// A rayon pool with two threads.
///
/// # Panics
/// When the threads do not start.
#[must_use]
pub fn rayon_pool() -> rayon::ThreadPool {
    rayon::ThreadPoolBuilder::new()
        .num_threads(WORKERS)
        .build()
        .expect("the threads start")
}

/// Spawns all in a scope, which has no results: each adds to a sum.
pub fn rayon_scope(pool: &rayon::ThreadPool, tasks: u64) -> Round {
    /// Apart from that of the other worker.
    #[repr(align(128))]
    struct Sum(AtomicU64);

    let sums = [const { Sum(AtomicU64::new(0)) }; WORKERS];
    Round::of(|| {
        pool.scope(|scope| {
            for task in 0..tasks {
                let sums = &sums;
                scope.spawn(move |_| {
                    let worker = rayon::current_thread_index().unwrap_or(0);
                    sums[worker].0.fetch_add(black_box(task), Ordering::Relaxed);
                });
            }
        });
        sums.iter().map(|sum| sum.0.load(Ordering::Relaxed)).sum()
    })
}
