//! The owner of a stream on a worker: a slice of its queue.

use std::ptr::{self, NonNull};
use std::sync::Arc;

use super::{Strand, StreamOwner};
use crate::cell::{CellList, Header, Step};
use crate::lane::Link;
use crate::slice::Slice;
use crate::strand_word::LetGo;
use crate::worker::Turn;

/// What the owner has not written yet into the stream's line, which its producers write too: told
/// for some messages at once, and always before the owner looks for more or stops.
#[derive(Default)]
struct Untold {
    /// Places that have become free.
    left: usize,
    /// Messages handled whose outcome nobody waits for.
    handled: u64,
}

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
        let mut slice = Slice::default();
        // SAFETY: I1: the list is the owner's.
        let mut queued = unsafe { CellList::from_raw(head.taken.replace(ptr::null_mut())) };
        let mut current = NonNull::new(head.current.replace(ptr::null_mut()));
        let mut untold = Untold::default();
        loop {
            let cell = if let Some(resumed) = current.take() {
                head.word.begin_poll();
                resumed
            } else if let Some(next) = this.next_cell(&mut queued, &mut untold) {
                next
            } else if head.word.let_go() == LetGo::Kept {
                continue;
            } else {
                return;
            };
            let step = this.run_cell(cell);
            untold.handled += u64::from(step == Step::Handled);
            if step == Step::Pending {
                this.tell(&mut untold);
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
            if slice.is_over(budget, !queued.is_empty()) {
                this.tell(&mut untold);
                head.taken.set(queued.into_raw());
                let _ = Arc::into_raw(this);
                turn.end_slice(&slice, link);
                return;
            }
        }
    }

    /// The next queued cell; `queued` is what the owner has taken of them.
    #[inline]
    fn next_cell(&self, queued: &mut CellList, untold: &mut Untold) -> Option<NonNull<Header>> {
        if queued.is_empty() {
            self.tell(untold);
            let newest = self.head.word.take();
            // SAFETY: the owner took the whole list (I1).
            *queued = unsafe { CellList::reversed(newest) };
        }
        let cell = queued.pop()?;
        // SAFETY: queued cells are alive.
        let header = unsafe { cell.as_ref() };
        let room = self.owner.shared().room();
        untold.left += usize::from(!header.vtable().control);
        if header.vtable().control
            || untold.left == room.step()
            || queued.is_empty()
            || room.is_waited_for()
        {
            // A control may end a drain, whose report is exact.
            self.tell(untold);
        } else if untold.handled != 0 && header.status.is_joined() {
            // Who is told of an outcome finds everything before it counted.
            self.tell_handled(untold);
        }
        Some(cell)
    }

    /// Writes what was left untold where producers and readers look.
    #[inline]
    fn tell(&self, untold: &mut Untold) {
        if untold.left != 0 {
            let left = std::mem::take(&mut untold.left);
            self.owner.shared().room().leave(&self.head.room, left);
        }
        if untold.handled != 0 {
            self.tell_handled(untold);
        }
    }

    fn tell_handled(&self, untold: &mut Untold) {
        self.head.count_handled(std::mem::take(&mut untold.handled));
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
