//! The handle of a pending timer.

use std::ptr::NonNull;
use std::sync::Arc;

use crate::core::CoreShared;
use crate::time::clockwork::Clockwork;
use crate::time::entry::{Asked, Entry};
use crate::time::remains::{Ended, end};

/// What whoever scheduled a timer has of it; dropped, it lets the timer be.
pub(crate) struct Timer {
    entry: NonNull<Entry>,
    clockwork: &'static Clockwork,
}

// SAFETY: a handle uses the entry's word, which is atomic, and hands the rest over by it.
unsafe impl Send for Timer {}
// SAFETY: as above.
unsafe impl Sync for Timer {}

impl Timer {
    /// # Safety
    /// The entry was made with a handle, and this is it; it is in this clockwork.
    pub(crate) unsafe fn new(entry: NonNull<Entry>, clockwork: &'static Clockwork) -> Self {
        Self { entry, clockwork }
    }

    fn fields(&self) -> &Entry {
        // SAFETY: entry, I1.
        unsafe { self.entry.as_ref() }
    }

    /// Whether it has neither fired nor ended.
    pub(crate) fn is_pending(&self) -> bool {
        self.fields().state.is_pending()
    }

    /// The core, while it lives.
    pub(crate) fn core(&self) -> Option<Arc<CoreShared>> {
        self.clockwork.core()
    }

    /// Asks for another tick; `None`: it has fired. `Some(true)`: it may be the earliest now.
    pub(crate) fn reschedule(&mut self, tick: u64) -> Option<bool> {
        let lane = usize::from(self.fields().node.tag);
        match self.fields().state.reschedule(tick) {
            Asked::Late => return None,
            // SAFETY: the transition gave us the link.
            Asked::Push => unsafe { self.clockwork.push(self.entry, lane) },
            Asked::Pushed => {}
        }
        Some(self.clockwork.lower(tick))
    }

    /// Cancels it; false: it has fired. What it held is freed before this returns or, while another
    /// thread has the turn, by that thread.
    pub(crate) fn cancel(self) -> bool {
        let this = std::mem::ManuallyDrop::new(self);
        let (entry, clockwork) = (this.entry, this.clockwork);
        // SAFETY: entry, I1.
        let fields = unsafe { entry.as_ref() };
        let lane = usize::from(fields.node.tag);
        let Some(mut turn) = clockwork.try_turn() else {
            match fields.state.cancel(false) {
                // SAFETY: the transition gave us the link.
                Asked::Push => unsafe { clockwork.push(entry, lane) },
                Asked::Pushed => {}
                Asked::Late => {
                    // SAFETY: the clockwork has let go of it.
                    unsafe { Entry::free(entry) };
                    return false;
                }
            }
            clockwork.ask(lane);
            return true;
        };
        let mut ended = Ended::none();
        let asked = fields.state.cancel(true);
        match asked {
            Asked::Push => {
                // SAFETY: without `LANE` and pending, it is in the wheel.
                unsafe { turn.wheel().remove(entry.cast()) };
            }
            Asked::Pushed => turn.take_in(lane, &mut ended),
            Asked::Late => {}
        }
        drop(turn);
        clockwork.serve_asked(&mut ended);
        match asked {
            // SAFETY: taken out of the wheel, it is ours alone.
            Asked::Push => unsafe { end(entry) },
            Asked::Pushed => {}
            // SAFETY: the clockwork has let go of it.
            Asked::Late => unsafe { Entry::free(entry) },
        }
        asked != Asked::Late
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        if self.fields().state.release() {
            // SAFETY: the clockwork has let go of it.
            unsafe { Entry::free(self.entry) };
        }
    }
}
