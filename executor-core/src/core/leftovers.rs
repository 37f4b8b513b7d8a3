//! Who runs what is pushed when the last worker is gone for good: whoever pushed it.
//!
//! # Invariants
//! - I1. At most one thread runs what is left, from the swap that takes `running` to the one that gives it
//!   back.
//! - I2. Nothing stays: who pushes and then finds `running` taken leaves it to the one who has it, who looks
//!   for work again after it has given it back. Of the two swaps, the one that comes later sees what was
//!   done before the other: the giver the push, or the pusher that it may run.

use crate::sync::{AtomicU8, Ordering};

/// The right to run what is left.
pub(crate) struct Leftovers {
    running: AtomicU8,
}

impl Leftovers {
    pub(crate) fn new() -> Self {
        Self {
            running: AtomicU8::new(0),
        }
    }

    /// Runs what there is by `run`, which takes all that it finds, unless another thread is at it, or this
    /// one further below on its stack.
    pub(crate) fn run(&self, has_work: impl Fn() -> bool, mut run: impl FnMut()) {
        while has_work() && self.running.swap(1, Ordering::SeqCst) == 0 {
            run();
            self.running.swap(0, Ordering::SeqCst);
        }
    }
}
