//! Outcomes and futures, waited for by the system's clock, whatever clock they go by.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread;
use std::time::{Duration, Instant};

use executor_core::{Completion, Delayed, Failure};

pub(crate) const DEADLINE: Duration = Duration::from_secs(30);

/// The outcome, or a panic when it does not come.
pub(crate) fn outcome<T: Send>(delayed: Delayed<T>) -> Result<T, Failure> {
    wait(delayed.into_completion())
}

pub(crate) fn wait<T: Send>(completion: Completion<T>) -> Result<T, Failure> {
    completion
        .wait_timeout(DEADLINE)
        .unwrap_or_else(|_| panic!("no outcome within {DEADLINE:?}"))
}

struct Unpark(thread::Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Blocks on a future, by the system's clock.
pub(crate) fn block_on<F: Future>(future: F) -> F::Output {
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let (mut future, until) = (pin!(future), Instant::now() + DEADLINE);
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            return output;
        }
        let left = until.saturating_duration_since(Instant::now());
        assert!(!left.is_zero(), "not ready within {DEADLINE:?}");
        thread::park_timeout(left);
    }
}
