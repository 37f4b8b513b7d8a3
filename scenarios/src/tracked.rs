//! Values that are made once, dropped once, and not looked at afterwards.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

const ALIVE: u64 = 0x5AFE_C0DE_5AFE_C0DE;

/// What a scenario knows of its values.
#[derive(Debug, Clone, Default)]
pub(crate) struct Ledger(Arc<Counts>);

#[derive(Debug, Default)]
struct Counts {
    made: AtomicI64,
    dropped: AtomicI64,
    /// Values that were looked at, or dropped, after their end.
    broken: AtomicU64,
}

impl Ledger {
    /// A value, whose drop panics if it is `armed`.
    pub(crate) fn value(&self, armed: bool) -> Tracked {
        self.0.made.fetch_add(1, Ordering::SeqCst);
        Tracked {
            ledger: self.clone(),
            mark: Box::new(ALIVE),
            armed,
        }
    }

    pub(crate) fn alive(&self) -> i64 {
        self.0.made.load(Ordering::SeqCst) - self.0.dropped.load(Ordering::SeqCst)
    }

    pub(crate) fn broken(&self) -> u64 {
        self.0.broken.load(Ordering::SeqCst)
    }
}

/// A value of the user: message, handler, future, output, state, or panic payload.
#[derive(Debug)]
pub(crate) struct Tracked {
    ledger: Ledger,
    /// On the heap, where a sanitizer sees a use after the end.
    mark: Box<u64>,
    armed: bool,
}

impl Tracked {
    /// Looks at the value.
    pub(crate) fn look(&self) {
        if *self.mark != ALIVE {
            self.ledger.0.broken.fetch_add(1, Ordering::SeqCst);
        }
    }
}

impl Clone for Tracked {
    fn clone(&self) -> Self {
        self.look();
        self.ledger.value(self.armed)
    }
}

impl Drop for Tracked {
    fn drop(&mut self) {
        self.look();
        *self.mark = 0;
        self.ledger.0.dropped.fetch_add(1, Ordering::SeqCst);
        // A second panic while one unwinds would abort; that is a scenario of its own.
        if self.armed && !std::thread::panicking() {
            blow();
        }
    }
}

/// What the panics of the scenarios carry, unless they carry a value.
#[derive(Debug)]
pub(crate) struct Blown;

/// Panics without a message on the terminal.
pub(crate) fn blow() -> ! {
    resume_unwind(Box::new(Blown))
}

/// Runs what may blow; anything else that it panics with goes on.
pub(crate) fn defuse<R>(call: impl FnOnce() -> R) -> Option<R> {
    catch_unwind(AssertUnwindSafe(call))
        .inspect_err(|payload| assert!(is_blown(&**payload), "not a panic of the scenario"))
        .ok()
}

pub(crate) fn is_blown(payload: &(dyn Any + Send)) -> bool {
    payload.is::<Blown>()
}
