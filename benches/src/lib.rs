//! What the benches share.

pub mod allocator;
pub mod paths;

use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};

use executor_core::{Envelope, PolicyContext};

/// Compiles the example of the workspace's README.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
pub struct Readme;

/// Compiles the example of the page on time.
#[cfg(doctest)]
#[doc = include_str!("../../docs/time.md")]
pub struct Time;

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.0.unpark();
    }
}

thread_local! {
    static WAKER: Waker = Waker::from(Arc::new(Unpark(thread::current())));
}

/// Runs `future` on this thread, parked while it is pending; only a thread's first call allocates.
pub fn block_on<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    WAKER.with(|waker| {
        let mut context = Context::from_waker(waker);
        loop {
            match future.as_mut().poll(&mut context) {
                Poll::Ready(output) => return output,
                Poll::Pending => thread::park(),
            }
        }
    })
}

/// Polls `future` once, with this thread's waker.
pub fn poll_once<F: Future>(future: Pin<&mut F>) -> Poll<F::Output> {
    WAKER.with(|waker| future.poll(&mut Context::from_waker(waker)))
}

/// Is pending once, and wakes at once.
pub async fn yield_once() {
    let mut yielded = false;
    poll_fn(|context| {
        if std::mem::replace(&mut yielded, true) {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// Runs both to their ends, in one task and without an allocation.
pub async fn both<A: Future, B: Future>(first: A, second: B) -> (A::Output, B::Output) {
    let (mut first, mut second) = (pin!(first), pin!(second));
    let (mut first_output, mut second_output) = (None, None);
    poll_fn(move |context| {
        if first_output.is_none()
            && let Poll::Ready(output) = first.as_mut().poll(context)
        {
            first_output = Some(output);
        }
        if second_output.is_none()
            && let Poll::Ready(output) = second.as_mut().poll(context)
        {
            second_output = Some(output);
        }
        match (first_output.take(), second_output.take()) {
            (Some(first), Some(second)) => Poll::Ready((first, second)),
            (first, second) => {
                (first_output, second_output) = (first, second);
                Poll::Pending
            }
        }
    })
    .await
}

/// A handler that gives the payload back at once.
///
/// # Errors
/// None.
pub async fn echo<S>(message: Envelope<u64>, _: PolicyContext<S>) -> Result<u64, Infallible> {
    Ok(message.payload)
}

/// A handler that gives the payload back at its second poll.
///
/// # Errors
/// None.
pub async fn echo_later<S>(
    message: Envelope<u64>,
    context: PolicyContext<S>,
) -> Result<u64, Infallible> {
    yield_once().await;
    drop(context);
    Ok(message.payload)
}

/// A handler that records three decisions, and checks that they are there.
///
/// # Errors
/// None.
pub async fn echo_decided<S>(
    message: Envelope<u64>,
    mut context: PolicyContext<S>,
) -> Result<u64, Infallible> {
    context.decide("limit", true, "the amount is within the limit");
    context.decide("region", false, "the region is another one");
    context.decide("retry", true, "it was tried before");
    let recorded = context.finish().len() as u64;
    Ok(message.payload + recorded - 3)
}

/// What the payloads `0..messages` add up to.
#[must_use]
pub fn sum_below(messages: u64) -> u64 {
    messages * messages.saturating_sub(1) / 2
}
