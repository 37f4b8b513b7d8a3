//! A waker whose clone, wake or drop panics, once; included by the tests that need it.
//!
//! A waker's data pointer is that of an `Arc<Awkward>`, of which the waker has one count. `clone` takes
//! a count, `wake` and `drop` give theirs back, before they panic.

use std::panic::resume_unwind;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::task::{RawWaker, RawWakerVTable, Waker};

/// What panics, once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Trap {
    /// Nothing.
    None = 0,
    /// The next clone.
    Clone = 1,
    /// The next wake.
    Wake = 2,
    /// The next drop.
    Drop = 3,
}

/// What a waker and its clones share.
#[derive(Debug)]
pub(crate) struct Awkward {
    trap: AtomicU8,
    woken: AtomicUsize,
    payload: fn() -> Box<dyn std::any::Any + Send>,
}

impl Awkward {
    /// Wakers that panic once with what `payload` makes.
    pub(crate) fn new(trap: Trap, payload: fn() -> Box<dyn std::any::Any + Send>) -> Arc<Self> {
        Arc::new(Self {
            trap: AtomicU8::new(trap as u8),
            woken: AtomicUsize::new(0),
            payload,
        })
    }

    /// A waker, whose own making does not panic.
    pub(crate) fn waker(self: &Arc<Self>) -> Waker {
        let data = Arc::into_raw(Arc::clone(self)).cast();
        // SAFETY: the functions of the table are thread-safe, and keep the counts as the module says.
        unsafe { Waker::new(data, &TABLE) }
    }

    /// How often one was woken.
    pub(crate) fn woken(&self) -> usize {
        self.woken.load(Ordering::SeqCst)
    }

    /// Makes nothing panic any more.
    pub(crate) fn disarm(&self) {
        self.trap.store(Trap::None as u8, Ordering::SeqCst);
    }

    fn spring(&self, trap: Trap) {
        // A second panic while one unwinds would abort.
        if !std::thread::panicking()
            && self
                .trap
                .compare_exchange(trap as u8, 0, Ordering::SeqCst, Ordering::SeqCst)
                .is_ok()
        {
            resume_unwind((self.payload)());
        }
    }
}

static TABLE: RawWakerVTable = RawWakerVTable::new(
    |data| {
        let data = data.cast::<Awkward>();
        // SAFETY: the waker that is cloned has a count.
        unsafe { &*data }.spring(Trap::Clone);
        // SAFETY: as above.
        unsafe { Arc::increment_strong_count(data) };
        RawWaker::new(data.cast(), &TABLE)
    },
    |data| {
        // SAFETY: the count of the waker that is consumed.
        let this = unsafe { Arc::from_raw(data.cast::<Awkward>()) };
        this.woken.fetch_add(1, Ordering::SeqCst);
        this.spring(Trap::Wake);
    },
    |data| {
        // SAFETY: the waker has a count meanwhile.
        let this = unsafe { &*data.cast::<Awkward>() };
        this.woken.fetch_add(1, Ordering::SeqCst);
        this.spring(Trap::Wake);
    },
    |data| {
        // SAFETY: the count of the waker that is dropped.
        let this = unsafe { Arc::from_raw(data.cast::<Awkward>()) };
        this.spring(Trap::Drop);
    },
);
