//! The system's allocator with counters, which cost nothing while nobody counts.

use std::alloc::{GlobalAlloc, Layout, System};
use std::backtrace::Backtrace;
use std::cell::Cell;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

/// Call sites that are kept.
const TRACES_KEPT: usize = 3;

static ON: AtomicBool = AtomicBool::new(false);
static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);
static BYTES: AtomicU64 = AtomicU64::new(0);
static FREED: AtomicU64 = AtomicU64::new(0);
static TRACING: AtomicBool = AtomicBool::new(false);
static TRACES: Mutex<Vec<String>> = Mutex::new(Vec::new());

thread_local! {
    static HERE: Cell<u64> = const { Cell::new(0) };
    static IN_TRACE: Cell<bool> = const { Cell::new(false) };
}

/// The allocator, to be made the global one by whoever counts.
#[derive(Debug)]
pub struct Counting;

/// What all threads allocated while something was counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Allocations and reallocations.
    pub allocations: u64,
    /// Of those, on the thread that counted.
    pub here: u64,
    /// Bytes that were asked for.
    pub bytes: u64,
    /// Bytes that were given back.
    pub freed: u64,
}

impl Counts {
    fn now() -> Self {
        Self {
            allocations: ALLOCATIONS.load(Ordering::SeqCst),
            here: HERE.get(),
            bytes: BYTES.load(Ordering::SeqCst),
            freed: FREED.load(Ordering::SeqCst),
        }
    }

    /// How many bytes more are in use than before.
    #[must_use]
    pub fn kept(&self) -> i64 {
        self.bytes.cast_signed() - self.freed.cast_signed()
    }
}

/// Counts what all threads allocate during `work`; one count at a time.
pub fn counted<R>(work: impl FnOnce() -> R) -> (R, Counts) {
    let before = Counts::now();
    ON.store(true, Ordering::SeqCst);
    let result = work();
    ON.store(false, Ordering::SeqCst);
    let after = Counts::now();
    let counts = Counts {
        allocations: after.allocations - before.allocations,
        here: after.here - before.here,
        bytes: after.bytes - before.bytes,
        freed: after.freed - before.freed,
    };
    (result, counts)
}

/// Counts from now on, for [`kept`].
pub fn start() {
    ON.store(true, Ordering::SeqCst);
}

/// Bytes in use that were not when counting started.
#[must_use]
pub fn kept() -> i64 {
    Counts::now().kept()
}

/// The same, and the call sites of the first allocations.
pub fn traced(work: impl FnOnce()) -> (Counts, Vec<String>) {
    TRACING.store(true, Ordering::SeqCst);
    let ((), counts) = counted(work);
    TRACING.store(false, Ordering::SeqCst);
    let mut traces = TRACES.lock().unwrap_or_else(PoisonError::into_inner);
    (counts, std::mem::take(&mut *traces))
}

#[inline]
fn note(bytes: usize, freed: usize) {
    if ON.load(Ordering::Relaxed) {
        count(bytes, freed);
    }
}

#[cold]
fn count(bytes: usize, freed: usize) {
    if IN_TRACE.try_with(Cell::get).unwrap_or(false) {
        return;
    }
    FREED.fetch_add(freed as u64, Ordering::Relaxed);
    if bytes == 0 {
        return;
    }
    // A thread that is ending has no thread-locals any more, but still counts.
    let _ = HERE.try_with(|here| here.set(here.get() + 1));
    ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
    BYTES.fetch_add(bytes as u64, Ordering::Relaxed);
    if TRACING.load(Ordering::Relaxed) {
        trace();
    }
}

/// Keeps the call site; what it allocates itself is not counted.
#[cold]
fn trace() {
    if IN_TRACE.try_with(|inside| inside.set(true)).is_err() {
        return;
    }
    let mut traces = TRACES.lock().unwrap_or_else(PoisonError::into_inner);
    if traces.len() < TRACES_KEPT {
        traces.push(Backtrace::force_capture().to_string());
    }
    drop(traces);
    let _ = IN_TRACE.try_with(|inside| inside.set(false));
}

// SAFETY: it hands everything to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note(layout.size(), 0);
        // SAFETY: as the caller says.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        note(layout.size(), 0);
        // SAFETY: as the caller says.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        note(size, layout.size());
        // SAFETY: as the caller says.
        unsafe { System.realloc(block, layout, size) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        note(0, layout.size());
        // SAFETY: as the caller says.
        unsafe { System.dealloc(block, layout) }
    }
}
