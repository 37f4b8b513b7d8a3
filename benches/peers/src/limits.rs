//! Limits on concurrency: tokio's semaphore and tower's layer.

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::hint::black_box;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_util::future::join_all;
use tokio::runtime::Runtime;
use tokio::sync::Semaphore;
use tower::limit::ConcurrencyLimit;
use tower::{Service, ServiceExt};

/// Takes a permit for each message and gives it back; the sum of the messages.
///
/// # Panics
/// When the semaphore is closed.
pub async fn acquire_each(semaphore: &Semaphore, messages: u64) -> u64 {
    let mut sum = 0;
    for message in 0..messages {
        let permit = semaphore.acquire().await.expect("it is open");
        sum += black_box(message);
        drop(permit);
    }
    sum
}

/// As [`acquire_each`], without waiting.
///
/// # Panics
/// When there is no permit.
pub fn try_acquire_each(semaphore: &Semaphore, messages: u64) -> u64 {
    let mut sum = 0;
    for message in 0..messages {
        let permit = semaphore.try_acquire().expect("one is free");
        sum += black_box(message);
        drop(permit);
    }
    sum
}

/// Holds a permit during `work` of each message.
///
/// # Panics
/// When the semaphore is closed.
pub async fn within<F: Future<Output = u64>>(semaphore: &Semaphore, work: F) -> u64 {
    let permit = semaphore.acquire().await.expect("it is open");
    let result = work.await;
    drop(permit);
    result
}

/// A task for each message, which takes a permit; all awaited.
///
/// # Panics
/// When a task does.
pub async fn spawn_all(semaphore: Arc<Semaphore>, messages: u64) -> u64 {
    let tasks: Vec<_> = (0..messages)
        .map(|message| {
            let semaphore = Arc::clone(&semaphore);
            tokio::spawn(async move {
                let _permit = semaphore.acquire().await.expect("it is open");
                black_box(message)
            })
        })
        .collect();
    let mut sum = 0;
    for task in tasks {
        sum += task.await.expect("the task does not panic");
    }
    sum
}

/// All messages joined in the caller's task, each within a permit.
pub async fn join_all_within(semaphore: &Semaphore, messages: u64) -> u64 {
    let all = (0..messages).map(|message| within(semaphore, async move { black_box(message) }));
    join_all(all).await.into_iter().sum()
}

/// Gives the message back.
#[derive(Debug, Clone, Copy)]
pub struct Echo;

impl Service<u64> for Echo {
    type Response = u64;
    type Error = Infallible;
    type Future = Ready<Result<u64, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, message: u64) -> Self::Future {
        ready(Ok(black_box(message)))
    }
}

/// Calls a service behind tower's `ConcurrencyLimit` for each message.
///
/// # Panics
/// Never: the service does not fail.
pub fn tower_each(runtime: &Runtime, limit: &mut ConcurrencyLimit<Echo>, messages: u64) -> u64 {
    runtime.block_on(async {
        let mut sum = 0;
        for message in 0..messages {
            let ready = limit.ready().await.expect("it does not fail");
            sum += ready.call(message).await.expect("it does not fail");
        }
        sum
    })
}
