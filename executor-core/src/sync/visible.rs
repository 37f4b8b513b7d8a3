//! Locks that ThreadSanitizer sees.
//!
//! The slow paths of the standard library's locks are compiled into it, and it is not instrumented:
//! the order that a contended lock makes is not seen, and what it guards is reported as a race.
//! These are made of atomics alone, in this crate, and are for that build only: they spin.
//!
//! # States
//! | word | values |
//! | --- | --- |
//! | [`Mutex::held`] | `false`: free; `true`: the one guard has the value |
//! | [`OnceLock::state`] | `EMPTY`, `FILLING` by one thread, `FULL` for ever |
//!
//! # Invariants
//! - I1. Whoever changed `held` from `false` to `true` has the value alone until it stores `false`.
//! - I2. The cell of a `OnceLock` is initialised iff the state is `FULL`; only the thread that made
//!   it `FILLING` writes it.

use std::cell::UnsafeCell;
use std::marker::PhantomData;
use std::mem::MaybeUninit;
use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{LockResult, PoisonError};
use std::time::{Duration, Instant};

/// As [`std::sync::Mutex`], but never poisoned.
#[derive(Default)]
pub struct Mutex<T> {
    held: AtomicBool,
    value: UnsafeCell<T>,
}

// SAFETY: I1: the value is one thread's at a time.
unsafe impl<T: Send> Sync for Mutex<T> {}

/// As [`std::sync::MutexGuard`].
#[must_use = "a dropped guard unlocks"]
pub struct MutexGuard<'a, T> {
    mutex: &'a Mutex<T>,
    /// Stays on its thread, as the original does.
    local: PhantomData<*const ()>,
}

impl<T> Mutex<T> {
    /// A free mutex.
    pub const fn new(value: T) -> Self {
        Self {
            held: AtomicBool::new(false),
            value: UnsafeCell::new(value),
        }
    }

    /// Waits for the value.
    ///
    /// # Errors
    /// None; the result is that of the original.
    pub fn lock(&self) -> LockResult<MutexGuard<'_, T>> {
        // ORDERING: Acquire pairs with the Release of the guard's drop.
        while self.held.swap(true, Ordering::Acquire) {
            std::thread::yield_now();
        }
        Ok(MutexGuard {
            mutex: self,
            local: PhantomData,
        })
    }
}

impl<T> Drop for Mutex<T> {
    fn drop(&mut self) {
        // ORDERING: whoever drops it has it alone, by an order that is made elsewhere: that of an
        // Arc's count, through a fence, which ThreadSanitizer does not model. This shows the order
        // of the last guard, and no other.
        self.held.load(Ordering::Acquire);
    }
}

impl<T> Deref for MutexGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: I1.
        unsafe { &*self.mutex.value.get() }
    }
}

impl<T> DerefMut for MutexGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: I1.
        unsafe { &mut *self.mutex.value.get() }
    }
}

impl<T> Drop for MutexGuard<'_, T> {
    fn drop(&mut self) {
        self.mutex.held.store(false, Ordering::Release);
    }
}

impl<T> std::fmt::Debug for Mutex<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Mutex").finish_non_exhaustive()
    }
}

impl<T> std::fmt::Debug for MutexGuard<'_, T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MutexGuard").finish_non_exhaustive()
    }
}

const EMPTY: u8 = 0;
const FILLING: u8 = 1;
const FULL: u8 = 2;

/// As [`std::sync::OnceLock`].
pub(crate) struct OnceLock<T> {
    state: AtomicU8,
    value: UnsafeCell<MaybeUninit<T>>,
}

// SAFETY: I2: one thread writes the value, which may be dropped on another; all read it after.
unsafe impl<T: Send + Sync> Sync for OnceLock<T> {}

/// Makes the cell empty again when the value cannot be made.
struct Filling<'a>(&'a AtomicU8, u8);

impl Drop for Filling<'_> {
    fn drop(&mut self) {
        // ORDERING: Release publishes the value, if there is one.
        self.0.store(self.1, Ordering::Release);
    }
}

impl<T> OnceLock<T> {
    /// Without a value.
    pub(crate) const fn new() -> Self {
        Self {
            state: AtomicU8::new(EMPTY),
            value: UnsafeCell::new(MaybeUninit::uninit()),
        }
    }

    /// The value, if it was made.
    pub(crate) fn get(&self) -> Option<&T> {
        // ORDERING: Acquire pairs with the Release of `Filling`.
        if self.state.load(Ordering::Acquire) != FULL {
            return None;
        }
        // SAFETY: I2: nobody writes it any more.
        let value = unsafe { &*self.value.get() };
        // SAFETY: I2.
        Some(unsafe { value.assume_init_ref() })
    }

    /// The value, made by the first who asks.
    pub(crate) fn get_or_init(&self, make: impl FnOnce() -> T) -> &T {
        let mut make = Some(make);
        loop {
            if let Some(value) = self.get() {
                return value;
            }
            let claimed =
                self.state
                    .compare_exchange(EMPTY, FILLING, Ordering::Acquire, Ordering::Relaxed);
            match make.take_if(|_| claimed.is_ok()) {
                Some(make) => {
                    let mut filling = Filling(&self.state, EMPTY);
                    let made = make();
                    // SAFETY: I2: the claim makes the cell ours.
                    unsafe { self.value.get().write(MaybeUninit::new(made)) };
                    filling.1 = FULL;
                }
                None => std::thread::yield_now(),
            }
        }
    }
}

impl<T> Drop for OnceLock<T> {
    fn drop(&mut self) {
        if *self.state.get_mut() == FULL {
            // SAFETY: I2, and nobody else has it.
            unsafe { self.value.get_mut().assume_init_drop() };
        }
    }
}

/// What a reference count says with a fence: whoever says it comes before the end of what it stands first in.
pub(crate) struct Farewell(AtomicU64);

impl Farewell {
    pub(crate) const fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    pub(crate) fn say(&self) {
        self.0.fetch_add(1, Ordering::Release);
    }
}

impl Drop for Farewell {
    fn drop(&mut self) {
        // ORDERING: Acquire pairs with the Release of all who said it.
        self.0.load(Ordering::Acquire);
    }
}
