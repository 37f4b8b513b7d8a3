//! Wakers that panic where a caller stands in line for a permit.

use std::convert::Infallible;
use std::future::Future;
use std::task::{Context, Poll, Waker};

use executor_core::{Envelope, PolicyContext};
use executor_parallel::ParallelExecutor;

use crate::awkward::{Awkward, Trap};
use crate::core;

/// A handler that is over at its second poll.
async fn echo_late(message: Envelope<u64>, _context: PolicyContext<()>) -> Result<u64, Infallible> {
    tokio::task::yield_now().await;
    Ok(message.payload)
}

fn poll<F: Future + Unpin>(future: &mut F, waker: &Waker) -> Poll<F::Output> {
    std::pin::Pin::new(future).poll(&mut Context::from_waker(waker))
}

/// Polls what does not wait any more.
fn ends<F, E: std::fmt::Debug>(execution: &mut F, value: u64)
where
    F: Future<Output = Result<u64, E>> + Unpin,
{
    let Poll::Ready(outcome) = poll(execution, Waker::noop()) else {
        panic!("it waits");
    };
    assert_eq!(outcome.expect("handled"), value);
}

/// Polls with a waker of which the first clone that is dropped panics; how often it was woken, if it waits.
fn poll_awkwardly<F: Future + Unpin>(future: &mut F, after: impl FnOnce(&mut F)) -> Option<usize> {
    let awkward = Awkward::new(Trap::Drop, || Box::new("dropped"));
    let waker = awkward.waker();
    let polled = poll(future, &waker);
    after(future);
    awkward.disarm();
    polled.is_pending().then(|| awkward.woken())
}

#[test]
fn one_whose_drop_panics_costs_no_permit() {
    let core = core(1);
    let executor = ParallelExecutor::builder(&core).max_concurrency(1).build();
    let executor = executor.expect("legal");
    let execute = |message| Box::pin(executor.execute(Envelope::new(message), echo_late));
    let noop = Waker::noop();
    let mut holds = execute(1);
    assert!(poll(&mut holds, noop).is_pending());
    let mut waits = execute(2);
    let is_replaced = |waits: &mut _| assert!(poll(waits, noop).is_pending());
    assert_eq!(poll_awkwardly(&mut waits, is_replaced), Some(0));
    let mut gives_up = execute(3);
    let drop_it = |gives_up: &mut _| *gives_up = execute(4);
    assert_eq!(poll_awkwardly(&mut gives_up, drop_it), Some(0));
    ends(&mut holds, 1);
    assert!(poll(&mut waits, noop).is_pending());
    ends(&mut waits, 2);
    // Still one by one, and it has the permit at once.
    let mut at_once = gives_up;
    assert_eq!(poll_awkwardly(&mut at_once, |_| ()), Some(1));
    ends(&mut at_once, 4);
    assert_eq!(executor.available_permits(), 1);
    assert_eq!(executor.metrics().running, 0);
    assert_eq!(executor.metrics().totals.handled, 3);
}
