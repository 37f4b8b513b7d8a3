//! The owner of a stream on a worker: a slice of its queue.

use std::ptr::{self, NonNull};
use std::sync::Arc;

use super::{Strand, StreamOwner};
use crate::cell::{Header, Step};
use crate::lane::{Link, List};
use crate::strand_word::LetGo;
use crate::worker::Turn;

/// After how many messages of a slice the clock is read.
const CLOCK_INTERVAL: usize = 16;
/// How long a slice may last while others wait, in nanoseconds.
const SLICE_NANOS: u64 = 5_000_000;

impl<O: StreamOwner> Strand<O> {
    /// Runs a slice of the stream.
    ///
    /// # Safety
    /// The link heads a strand of this type, and its ownership and count (I2) are the caller's.
    pub(super) unsafe fn run(link: NonNull<Link>, turn: &Turn<'_>) {
        // SAFETY: I2: the count that came with the stream.
        let this = unsafe { Arc::from_raw(link.cast::<Self>().as_ptr()) };
        let head = &this.head;
        let budget = turn.core.options.budget;
        let mut began = 0;
        let mut ran = 0;
        // SAFETY: I1: the list is the owner's.
        let mut queued = unsafe { List::from_raw(head.taken.replace(ptr::null_mut())) };
        let mut current = NonNull::new(head.current.replace(ptr::null_mut()));
        loop {
            let Some(cell) = current.take().or_else(|| this.next_cell(&mut queued)) else {
                if head.word.let_go() == LetGo::Kept {
                    continue;
                }
                return;
            };
            head.word.begin_poll();
            if this.run_cell(cell) == Step::Pending {
                head.current.set(cell.as_ptr());
                head.taken.set(queued.into_raw());
                // The count stays with the stream, parked or in a lane (I2).
                let raw = Arc::into_raw(this);
                // SAFETY: that count keeps it alive until the park, and after a failed park.
                if !unsafe { &(*raw).head.word }.park() {
                    turn.core.push_admitted(link);
                }
                return;
            }
            ran += 1;
            let mut over = ran >= budget;
            if ran % CLOCK_INTERVAL == 0 {
                let now = crate::clock::coarse_monotonic_nanos();
                if began == 0 {
                    began = now;
                }
                over |= now.saturating_sub(began) > SLICE_NANOS;
            }
            if over {
                head.taken.set(queued.into_raw());
                let _ = Arc::into_raw(this);
                turn.core.push_admitted(link);
                return;
            }
        }
    }

    /// The next queued cell; `queued` is what the owner has taken of them.
    #[inline]
    fn next_cell(&self, queued: &mut List) -> Option<NonNull<Header>> {
        if queued.is_empty() {
            let newest = self.head.word.take();
            // SAFETY: the owner took the whole list (I1).
            *queued = unsafe { List::reversed(ptr::with_exposed_provenance_mut(newest)) };
        }
        let cell = queued.pop()?.cast::<Header>();
        queued.prefetch();
        // SAFETY: queued cells are alive.
        if !unsafe { cell.as_ref() }.vtable().control {
            self.leave_room();
        }
        Some(cell)
    }

    #[inline]
    fn run_cell(&self, cell: NonNull<Header>) -> Step {
        // SAFETY: the cell is the owner's to run.
        let vtable = unsafe { cell.as_ref() }.vtable();
        let abort = self.owner.shared().is_aborting() && !vtable.control;
        let run = if abort { vtable.abort } else { vtable.poll };
        // SAFETY: as above.
        unsafe { run(cell) }
    }
}
