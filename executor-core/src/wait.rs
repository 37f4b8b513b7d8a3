//! Blocking a thread on a poll, for callers without a runtime.

use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::Instant;

use tokio::runtime::Handle;

use crate::frame;
use crate::status::Status;
use crate::worker;

/// What wakes a blocked thread: a flag that decides, and the thread's park token as a hint.
struct Bell {
    rung: AtomicBool,
    thread: Thread,
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.rung.store(true, Ordering::Release);
        self.thread.unpark();
    }
}

thread_local! {
    /// A thread's bell is made once and lent to one wait at a time.
    static BELL: RefCell<Option<(Arc<Bell>, Waker)>> = const { RefCell::new(None) };
}

/// How often a condition is looked at before the thread sleeps: two or three microseconds, a part of what
/// it costs to be woken. Who wakes a thread is held up by that for some microseconds itself, in which the
/// next message comes: without this both sides would go on sleeping and waking.
const SPINS: u32 = 256;

/// Whether blocking this thread could keep the work that it waits for from running.
#[must_use]
pub fn must_not_block() -> bool {
    worker::is_worker_thread() || !frame::is_outermost() || Handle::try_current().is_ok()
}

/// After so many looks the work must have begun: else no worker is awake, or all have enough to do.
const BEGINS: u32 = 64;

/// Waits briefly for what a worker that is awake is about to do.
pub(crate) fn look_briefly(status: &Status) {
    for look in 0..SPINS {
        if status.is_done() || look >= BEGINS && !status.is_begun() {
            return;
        }
        std::hint::spin_loop();
    }
}

/// Polls until ready or until `deadline`, sleeping in between.
pub(crate) fn block_on<R>(
    deadline: Option<Instant>,
    mut poll: impl FnMut(&mut Context<'_>) -> Poll<R>,
) -> Option<R> {
    let lent = BELL
        .try_with(|bell| bell.borrow_mut().take())
        .ok()
        .flatten();
    let (bell, waker) = lent.unwrap_or_else(|| {
        let bell = Arc::new(Bell {
            rung: AtomicBool::new(false),
            thread: thread::current(),
        });
        (Arc::clone(&bell), Waker::from(bell))
    });
    let result = loop {
        // ORDERING: a swap, so that the poll looks after it: a bell that is registered already is not
        // registered again, and the ring that follows the poll's look must not be wiped out by a store that
        // comes after it. Acquire shows what was done before a ring that is wiped out here.
        bell.rung.swap(false, Ordering::Acquire);
        if let Poll::Ready(value) = poll(&mut Context::from_waker(&waker)) {
            break Some(value);
        }
        while !bell.rung.swap(false, Ordering::Acquire) {
            match deadline.map(|deadline| deadline.saturating_duration_since(Instant::now())) {
                None => thread::park(),
                Some(left) if left.is_zero() => break,
                Some(left) => thread::park_timeout(left),
            }
        }
        if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
            break match poll(&mut Context::from_waker(&waker)) {
                Poll::Ready(value) => Some(value),
                Poll::Pending => None,
            };
        }
    };
    let _ = BELL.try_with(|slot| *slot.borrow_mut() = Some((bell, waker)));
    result
}
