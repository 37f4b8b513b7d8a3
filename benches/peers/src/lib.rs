//! The engines that the executors are measured against.
//!
//! Each does the same work in its own fastest idiomatic form, with two workers where it has workers
//! at all. Every round gives back a sum or a count, which whoever measures has to check.

pub mod actix_mailbox;
pub mod channels;
pub mod identity;
pub mod kameo_mailbox;
pub mod keyed;
pub mod latency;
pub mod limits;
pub mod mailbox;
pub mod memory;
pub mod ractor_mailbox;
pub mod spawning;
pub mod team;
pub mod timers;
pub mod tokio_mailbox;

use std::time::{Duration, Instant};

use tokio::runtime::{Builder, Runtime};

/// Workers of everybody who has workers.
pub const WORKERS: usize = 2;

/// What one round took, and what came out of it.
#[derive(Debug, Clone, Copy)]
#[must_use = "a round that is not checked may have lost work"]
pub struct Round {
    /// How long the measured part took.
    pub took: Duration,
    /// The sum or count to be checked.
    pub sum: u64,
}

impl Round {
    /// Measures all of `work`.
    pub fn of(work: impl FnOnce() -> u64) -> Self {
        let start = Instant::now();
        let sum = work();
        Self {
            took: start.elapsed(),
            sum,
        }
    }
}

/// What the messages `0..messages` add up to.
#[must_use]
pub const fn sum_below(messages: u64) -> u64 {
    messages * messages.saturating_sub(1) / 2
}

/// A tokio runtime with two workers.
///
/// # Panics
/// When its threads do not start.
#[must_use]
pub fn workers() -> Runtime {
    Builder::new_multi_thread()
        .worker_threads(WORKERS)
        .enable_all()
        .build()
        .expect("the threads start")
}

/// A tokio runtime on the calling thread, where caller and actor are nearest.
///
/// Without I/O and time: with them it looks for events, by a system call, whenever its `block_on` is woken.
///
/// # Panics
/// When it does not start.
#[must_use]
pub fn local() -> Runtime {
    Builder::new_current_thread().build().expect("it starts")
}

/// The same with time.
///
/// # Panics
/// When it does not start.
#[must_use]
pub fn local_with_time() -> Runtime {
    let mut builder = Builder::new_current_thread();
    builder.enable_time().build().expect("it starts")
}

/// Runs `work` as a task of the runtime, so that its caller is a worker.
///
/// # Panics
/// When the task panics.
pub fn on_worker<T: Send + 'static>(
    runtime: &Runtime,
    work: impl Future<Output = T> + Send + 'static,
) -> T {
    runtime.block_on(async { tokio::spawn(work).await.expect("the task does not panic") })
}

/// Runs `round` so many times in one task, so that coming to the task costs nothing; the sum.
pub async fn repeat<F: Future<Output = u64>>(times: u64, mut round: impl FnMut() -> F) -> u64 {
    let mut sum = 0;
    for _ in 0..times {
        sum += round().await;
    }
    sum
}

/// How often a round of so many messages has to be repeated to be long enough to measure.
#[must_use]
pub const fn repetitions(messages: u64) -> u64 {
    let times = 10_000 / messages;
    if times == 0 { 1 } else { times }
}
