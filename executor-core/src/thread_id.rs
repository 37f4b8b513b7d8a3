//! A small number for each thread, to spread threads over shards.

use std::cell::Cell;
use std::sync::atomic::{AtomicUsize, Ordering};

thread_local! {
    static ID: Cell<usize> = const { Cell::new(usize::MAX) };
}

/// This thread's number; numbers are given out from 0 and not reused.
#[inline]
pub(crate) fn current() -> usize {
    let id = ID.get();
    if id == usize::MAX { first() } else { id }
}

#[cold]
fn first() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    let id = NEXT.fetch_add(1, Ordering::Relaxed);
    ID.set(id);
    id
}
