//! Waiting for conditions, with a deadline; and wakers that count.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Wake, Waker};
use std::time::{Duration, Instant};

/// No step of a scenario takes longer.
pub(crate) const DEADLINE: Duration = Duration::from_secs(30);

/// Waits until `holds` does.
///
/// # Panics
/// After [`DEADLINE`], with `what` was waited for.
#[track_caller]
pub(crate) fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let late = Instant::now() + DEADLINE;
    while !holds() {
        assert!(Instant::now() < late, "waited too long: {what}");
        std::thread::yield_now();
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
