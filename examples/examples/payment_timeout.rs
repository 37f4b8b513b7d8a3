//! An order is cancelled when its payment does not arrive within 30 minutes.
//!
//! The expiry is a delayed message to the order itself, so it is handled in its turn among the order's other
//! messages: whether a payment came in time is a question of order, not of locks. Run as a program, a minute lasts
//! ten milliseconds; in the test the clock is virtual, and nobody waits.

use std::convert::Infallible;
use std::error::Error;
use std::time::Duration;

use executor_serial::{Delayed, Envelope, PolicyContext, SerialExecutor, WorkerCore};

type OrderId = u64;

/// How long an order waits for its payment, in minutes.
const MINUTES_TO_PAY: u32 = 30;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Status {
    #[default]
    Unknown,
    AwaitingPayment,
    Paid,
    Cancelled,
}

/// What an order keeps: its status, and the timer that ends its patience.
///
/// A stream's state is a cache, gone after a panic or an eviction: in earnest each handler would write the status to the
/// orders' database before it returns, and `try_state` would read it from there.
#[derive(Debug, Default)]
struct Order {
    status: Status,
    expiry: Option<Delayed<Status, Infallible, ()>>,
}

#[derive(Clone)]
struct Orders {
    executor: SerialExecutor<OrderId, Order>,
    minute: Duration,
}

impl Orders {
    fn new(core: &WorkerCore, minute: Duration) -> Result<Self, Box<dyn Error>> {
        let executor = SerialExecutor::builder(core)
            .name("orders")
            .state(|_: &OrderId| Order::default())
            .build()?;
        Ok(Self { executor, minute })
    }

    /// Places an order, which starts its time to be paid.
    async fn place(&self, id: OrderId) -> Result<Status, Box<dyn Error>> {
        let (executor, time) = (self.executor.clone(), self.minute * MINUTES_TO_PAY);
        let place = move |_: Envelope<()>, mut context: PolicyContext<Order>| async move {
            let expiry = executor.submit_after(id, time, context.envelope(()), expire)?;
            let order = context.state();
            order.status = Status::AwaitingPayment;
            order.expiry = Some(expiry);
            Ok::<_, executor_serial::Rejected<Envelope<()>>>(order.status)
        };
        Ok(self.executor.execute(id, Envelope::new(()), place).await?)
    }

    /// Pays an order; too late, it stays cancelled.
    async fn pay(&self, id: OrderId) -> Result<Status, Box<dyn Error>> {
        let pay = |_: Envelope<()>, mut context: PolicyContext<Order>| async move {
            let order = context.state();
            if order.status == Status::AwaitingPayment {
                order.status = Status::Paid;
                // The timer, and all that it holds, is gone at once. Were its message queued behind this one already, it
                // would not be handled either.
                if let Some(mut expiry) = order.expiry.take() {
                    expiry.cancel();
                }
            }
            Ok::<_, Infallible>(order.status)
        };
        Ok(self.executor.execute(id, Envelope::new(()), pay).await?)
    }

    async fn status(&self, id: OrderId) -> Result<Status, Box<dyn Error>> {
        let status = |_: Envelope<()>, mut context: PolicyContext<Order>| async move {
            Ok::<_, Infallible>(context.state().status)
        };
        Ok(self.executor.execute(id, Envelope::new(()), status).await?)
    }
}

/// The time to pay is over.
async fn expire(_: Envelope<()>, mut context: PolicyContext<Order>) -> Result<Status, Infallible> {
    let order = context.state();
    if order.status == Status::AwaitingPayment {
        order.status = Status::Cancelled;
    }
    order.expiry = None;
    Ok(order.status)
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let core = WorkerCore::threads(2).build()?;
    let orders = Orders::new(&core, Duration::from_millis(10))?;
    orders.place(1).await?;
    orders.place(2).await?;

    // The runtime has no timer, and needs none: the core keeps the time.
    core.sleep(orders.minute * 20).await;
    assert_eq!(orders.pay(1).await?, Status::Paid);
    println!("after 20 minutes: order 1 is paid");

    core.sleep(orders.minute * 11).await;
    assert_eq!(orders.status(1).await?, Status::Paid);
    assert_eq!(orders.status(2).await?, Status::Cancelled);
    assert_eq!(orders.pay(2).await?, Status::Cancelled);
    println!("after 31 minutes: order 2 is cancelled, and cannot be paid any more");
    Ok(())
}

#[cfg(test)]
mod tests {
    use executor_serial::VirtualClock;

    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    #[tokio::test]
    async fn half_an_hour_passes_without_waiting() -> Result<(), Box<dyn Error>> {
        let clock = VirtualClock::new();
        let core = WorkerCore::threads(2).clock(&clock).build()?;
        let orders = Orders::new(&core, MINUTE)?;
        assert_eq!(orders.place(1).await?, Status::AwaitingPayment);
        assert_eq!(orders.place(2).await?, Status::AwaitingPayment);

        clock.advance(MINUTE * 30 - Duration::from_millis(1));
        assert!(orders.executor.drain(MINUTE).await.is_complete());
        assert_eq!(orders.pay(1).await?, Status::Paid);
        assert_eq!(orders.status(2).await?, Status::AwaitingPayment);

        clock.advance(Duration::from_millis(1));
        assert!(orders.executor.drain(MINUTE).await.is_complete());
        assert_eq!(orders.status(1).await?, Status::Paid);
        assert_eq!(orders.status(2).await?, Status::Cancelled);
        assert_eq!(orders.pay(2).await?, Status::Cancelled);
        Ok(())
    }
}
