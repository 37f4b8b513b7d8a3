//! Atomics that take their time: between the steps of a protocol there are delays of up to ten
//! microseconds, at random, so that threads meet in places where they seldom do.
//!
//! `EXECUTOR_CHAOS_SEED` chooses the delays. A thread's sequence is given by the seed and by how many
//! threads came before it, so that a run with the same seed has the same delays, though not, on a
//! machine with other load, the same order of events.

#![allow(
    unreachable_pub,
    reason = "one macro makes atomics for this crate alone and for others"
)]

use std::cell::Cell;
use std::sync::OnceLock;
use std::sync::atomic;
use std::time::{Duration, Instant};

pub use atomic::Ordering;

/// Of so many operations one is delayed.
const RARITY: u64 = 16;
/// Of so many delays one gives the processor away.
const YIELDS: u64 = 16;
/// The longest delay, in nanoseconds.
const LONGEST: u64 = 10_000;

static THREADS: atomic::AtomicU64 = atomic::AtomicU64::new(0);
static SEED: OnceLock<u64> = OnceLock::new();

thread_local! {
    /// 0: not seeded yet.
    static RANDOM: Cell<u64> = const { Cell::new(0) };
}

fn seed() -> u64 {
    let seed = || std::env::var("EXECUTOR_CHAOS_SEED").ok()?.parse().ok();
    let thread = THREADS.fetch_add(1, Ordering::Relaxed);
    (SEED.get_or_init(|| seed().unwrap_or(1)) ^ thread.wrapping_mul(0x9E37_79B9_7F4A_7C15)) | 1
}

/// Delays the thread, or not.
pub(crate) fn pause() {
    let mut random = RANDOM.get();
    if random == 0 {
        random = seed();
    }
    random ^= random << 13;
    random ^= random >> 7;
    random ^= random << 17;
    RANDOM.set(random);
    let dice = random >> 16;
    if !dice.is_multiple_of(RARITY) {
        return;
    }
    let dice = dice / RARITY;
    if dice.is_multiple_of(YIELDS) {
        std::thread::yield_now();
        return;
    }
    let until = Duration::from_nanos(dice / YIELDS % LONGEST);
    let start = Instant::now();
    while start.elapsed() < until {
        std::hint::spin_loop();
    }
}

/// An atomic of the standard library, with a pause before and after each operation.
macro_rules! chaotic {
    ($($name:ident: $value:ty,)*) => { $(
        /// The atomic of the same name, with pauses.
        #[derive(Debug, Default)]
        #[repr(transparent)]
        pub struct $name(atomic::$name);

        #[allow(missing_docs, reason = "as in the standard library")]
        #[allow(clippy::missing_errors_doc, dead_code, reason = "as in the standard library; not all need all")]
        impl $name {
            pub const fn new(value: $value) -> Self {
                Self(atomic::$name::new(value))
            }

            fn paused<R>(&self, operation: impl FnOnce(&atomic::$name) -> R) -> R {
                pause();
                let result = operation(&self.0);
                pause();
                result
            }

            pub fn load(&self, order: Ordering) -> $value {
                self.paused(|word| word.load(order))
            }

            pub fn store(&self, value: $value, order: Ordering) {
                self.paused(|word| word.store(value, order));
            }

            pub fn swap(&self, value: $value, order: Ordering) -> $value {
                self.paused(|word| word.swap(value, order))
            }

            pub fn compare_exchange(
                &self, old: $value, new: $value, success: Ordering, failure: Ordering,
            ) -> Result<$value, $value> {
                self.paused(|word| word.compare_exchange(old, new, success, failure))
            }

            pub fn compare_exchange_weak(
                &self, old: $value, new: $value, success: Ordering, failure: Ordering,
            ) -> Result<$value, $value> {
                self.paused(|word| word.compare_exchange_weak(old, new, success, failure))
            }

            pub fn fetch_add(&self, value: $value, order: Ordering) -> $value {
                self.paused(|word| word.fetch_add(value, order))
            }

            pub fn fetch_sub(&self, value: $value, order: Ordering) -> $value {
                self.paused(|word| word.fetch_sub(value, order))
            }

            pub fn fetch_and(&self, value: $value, order: Ordering) -> $value {
                self.paused(|word| word.fetch_and(value, order))
            }

            pub fn fetch_or(&self, value: $value, order: Ordering) -> $value {
                self.paused(|word| word.fetch_or(value, order))
            }

            pub fn fetch_xor(&self, value: $value, order: Ordering) -> $value {
                self.paused(|word| word.fetch_xor(value, order))
            }

            pub fn fetch_min(&self, value: $value, order: Ordering) -> $value {
                self.paused(|word| word.fetch_min(value, order))
            }

            pub fn fetch_max(&self, value: $value, order: Ordering) -> $value {
                self.paused(|word| word.fetch_max(value, order))
            }

            pub fn fetch_update(
                &self, set: Ordering, fetch: Ordering, update: impl FnMut($value) -> Option<$value>,
            ) -> Result<$value, $value> {
                self.paused(|word| word.fetch_update(set, fetch, update))
            }
        }
    )* };
}

chaotic! {
    AtomicU8: u8,
    AtomicUsize: usize,
    AtomicU64: u64,
}
