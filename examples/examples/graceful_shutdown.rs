//! A shutdown that loses nothing: what was accepted is handled, what comes later is handed back.

use std::convert::Infallible;
use std::error::Error;
use std::time::Duration;

use executor_serial::{Envelope, RejectReason, SerialExecutor, Shutdown, WorkerCore};
use tokio::runtime::Handle;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let core = WorkerCore::tokio(&Handle::current()).build()?;
    let orders: SerialExecutor<u32> = SerialExecutor::builder(&core).build()?;
    let handler = |order: Envelope<u32>, _context| async move {
        tokio::task::yield_now().await;
        Ok::<_, Infallible>(order.payload)
    };

    let mut accepted = Vec::new();
    for order in 0..1_000 {
        let submitted = orders.submit_wait(order % 10, Envelope::new(order), handler);
        accepted.push(submitted.await?);
    }

    let report = orders
        .shutdown(Shutdown::Drain, Duration::from_secs(10))
        .await;
    assert!(report.is_complete());
    assert_eq!(orders.metrics().totals.handled, 1_000);
    // Every completion has its value, though nobody waited for it.
    assert!(accepted.iter().all(|completion| completion.is_done()));

    // A closed executor gives the message back, so that it can go elsewhere.
    let late = orders.submit_wait(1, Envelope::new(1_000), handler);
    let refused = late.await.unwrap_err();
    assert_eq!(refused.reason, RejectReason::Closed);
    assert_eq!(refused.work.payload, 1_000);
    println!(
        "{} orders handled, order {} handed back",
        orders.metrics().totals.handled,
        refused.work.payload
    );
    Ok(())
}
