//! The one place that chooses between the real atomics and locks, loom's, those that
//! ThreadSanitizer sees, and those that take their time.
//!
//! Everything else imports from here, so that no other file knows about `cfg(loom)`,
//! `cfg(executor_tsan)` and `cfg(executor_chaos)`.

#[cfg(all(executor_chaos, not(loom)))]
mod chaos;
#[cfg(executor_tsan)]
mod visible;

#[cfg(all(executor_chaos, not(loom)))]
pub(crate) use chaos::{AtomicU8, AtomicUsize};
#[cfg(all(executor_chaos, not(loom)))]
pub use chaos::{AtomicU64, Ordering};

#[cfg(loom)]
pub(crate) use loom::sync::atomic::{AtomicU8, AtomicUsize, fence};
#[cfg(loom)]
pub use loom::sync::atomic::{AtomicU64, Ordering};
#[cfg(loom)]
pub(crate) use loom::sync::{Mutex, MutexGuard};
#[cfg(loom)]
pub use loom::thread::yield_now;
#[cfg(not(loom))]
pub(crate) use plain::{Mutex, MutexGuard};
#[cfg(not(loom))]
pub(crate) use std::sync::atomic::fence;
#[cfg(not(any(loom, executor_chaos)))]
pub(crate) use std::sync::atomic::{AtomicU8, AtomicUsize};
#[cfg(not(any(loom, executor_chaos)))]
pub use std::sync::atomic::{AtomicU64, Ordering};
#[cfg(not(loom))]
pub use std::thread::yield_now;

#[cfg(executor_tsan)]
pub(crate) use visible::Farewell;

/// Said by who is about to give a reference up, and heard where it stands first in what is referred to: the
/// reference count orders the one before the other with a fence, which ThreadSanitizer does not see.
#[cfg(not(executor_tsan))]
pub(crate) struct Farewell;

#[cfg(not(executor_tsan))]
impl Farewell {
    pub(crate) const fn new() -> Self {
        Self
    }

    /// The sanitizer alone needs to be told.
    #[inline(always)]
    pub(crate) fn say(&self) {}
}

/// Locks that no model looks into: those of statics, which outlive a model's run, and those of which
/// no protocol is modelled.
pub(crate) mod plain {
    #[cfg(not(executor_tsan))]
    pub(crate) use std::sync::OnceLock;
    #[cfg(not(executor_tsan))]
    pub use std::sync::{Mutex, MutexGuard};

    #[cfg(executor_tsan)]
    pub(crate) use super::visible::OnceLock;
    #[cfg(executor_tsan)]
    pub use super::visible::{Mutex, MutexGuard};
}

/// Orders the store before it with the load after it, for loom alone.
///
/// The protocols that need it use `SeqCst` on both accesses, which is enough for the hardware and
/// costs no fence there. Loom treats `SeqCst` accesses as `AcqRel` and needs the fence to be told.
#[inline(always)]
pub(crate) fn model_fence() {
    #[cfg(loom)]
    loom::sync::atomic::fence(Ordering::SeqCst);
}
