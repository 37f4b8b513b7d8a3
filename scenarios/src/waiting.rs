//! Waiting for conditions and futures, with a deadline; and wakers that count.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

/// No step takes longer.
pub const DEADLINE: Duration = Duration::from_secs(30);

/// Waits until `holds` does.
///
/// # Panics
/// After [`DEADLINE`], with `what` was waited for.
#[track_caller]
pub fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let late = Instant::now() + DEADLINE;
    while !holds() {
        assert!(Instant::now() < late, "waited too long: {what}");
        std::thread::yield_now();
    }
}

/// Runs a future on this thread.
///
/// # Panics
/// When it is not woken within [`DEADLINE`].
pub fn block_on<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    let woken = Arc::new(Woken::default());
    let waker = woken.waker();
    let mut context = Context::from_waker(&waker);
    loop {
        let before = woken.count();
        if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
            return output;
        }
        eventually("a wake", || woken.count() != before);
    }
}

/// How often a waker was woken.
#[derive(Debug, Default)]
pub(crate) struct Woken(AtomicUsize);

impl Woken {
    pub(crate) fn waker(self: &Arc<Self>) -> Waker {
        Waker::from(Arc::clone(self))
    }

    pub(crate) fn count(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}
