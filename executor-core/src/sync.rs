//! The one place that chooses between the real atomics and loom's.
//!
//! Everything else imports from here, so that no other file knows about `cfg(loom)`.

#[cfg(loom)]
pub(crate) use loom::sync::atomic::{AtomicU8, AtomicU64, AtomicUsize, Ordering, fence};
#[cfg(loom)]
pub(crate) use loom::sync::{Mutex, MutexGuard};
#[cfg(not(loom))]
pub(crate) use std::sync::atomic::{AtomicU8, AtomicU64, AtomicUsize, Ordering, fence};
#[cfg(not(loom))]
pub(crate) use std::sync::{Mutex, MutexGuard};

/// Orders the store before it with the load after it, for loom alone.
///
/// The protocols that need it use `SeqCst` on both accesses, which is enough for the hardware and
/// costs no fence there. Loom treats `SeqCst` accesses as `AcqRel` and needs the fence to be told.
#[inline(always)]
pub(crate) fn model_fence() {
    #[cfg(loom)]
    loom::sync::atomic::fence(Ordering::SeqCst);
}
