//! At most three handlers at a time, however many messages there are.

use std::convert::Infallible;
use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use executor_parallel::{Envelope, ParallelExecutor, WorkerCore, join_all};
use tokio::runtime::Handle;

/// How many receipts are being sent, and the most that ever were.
#[derive(Default)]
struct Mailer {
    now: AtomicUsize,
    most: AtomicUsize,
}

impl Mailer {
    async fn send(&self) {
        let now = self.now.fetch_add(1, Ordering::SeqCst) + 1;
        self.most.fetch_max(now, Ordering::SeqCst);
        // The longer a handler waits, the more others would join it if nothing held them back.
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
        self.now.fetch_sub(1, Ordering::SeqCst);
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let core = WorkerCore::tokio(&Handle::current()).build()?;
    let executor = ParallelExecutor::builder(&core)
        .max_concurrency(3)
        .build()?;
    let mailer = Arc::new(Mailer::default());

    let mut receipts = Vec::new();
    for receipt in 0..100 {
        let mailer = Arc::clone(&mailer);
        // Async code waits for room: `submit` would be refused here when the queue is full.
        let submitted =
            executor.submit_wait(Envelope::new(receipt), |receipt, _context| async move {
                mailer.send().await;
                Ok::<i32, Infallible>(receipt.payload)
            });
        receipts.push(submitted.await?);
    }
    let sent = join_all(receipts)
        .await
        .into_iter()
        .collect::<Result<Vec<_>, _>>()?;

    assert_eq!(sent, (0..100).collect::<Vec<_>>());
    assert_eq!(mailer.most.load(Ordering::SeqCst), 3);
    assert_eq!(executor.available_permits(), 3);
    println!("a hundred receipts, never more than three at a time");
    Ok(())
}
