//! The handle of a pending timer.

use std::mem::ManuallyDrop;
use std::ptr::NonNull;
use std::sync::Arc;

use crate::core::CoreShared;
use crate::time::clockwork::Clockwork;
use crate::time::entry::{Asked, Entry, Whereabouts};
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

    fn lane(&self) -> usize {
        usize::from(self.fields().node.tag)
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
        match self.fields().state.reschedule(tick) {
            Asked::Late => return None,
            // SAFETY: the transition gave us the link.
            Asked::Push => unsafe { self.clockwork.push(self.entry, self.lane()) },
            Asked::Pushed => {}
        }
        Some(self.clockwork.lower(tick))
    }

    /// Takes it out of the clockwork, with which its work is the caller's to end.
    ///
    /// # Errors
    /// It has fired, or another thread has the turn.
    #[inline]
    pub(crate) fn retract(self) -> Result<Retracted, Self> {
        if !self.is_pending() {
            return Err(self);
        }
        let Some(mut turn) = self.clockwork.try_turn() else {
            return Err(self);
        };
        let mut ended = Ended::none();
        let whereabouts = self.fields().state.whereabouts();
        if whereabouts == Whereabouts::Lane {
            turn.take_in(self.lane(), &mut ended);
        }
        if whereabouts != Whereabouts::Fired {
            // SAFETY: pending and in no lane, it is in the wheel.
            unsafe { turn.wheel().remove(self.entry.cast()) };
        }
        drop(turn);
        self.clockwork.serve_asked(&mut ended);
        if whereabouts == Whereabouts::Fired {
            return Err(self);
        }
        // The handle's and, out of the wheel, the clockwork's too.
        Ok(Retracted(ManuallyDrop::new(self).entry))
    }

    /// Cancels it; false: it has fired. What it held is freed before this returns or, while another
    /// thread has the turn, by that thread.
    pub(crate) fn cancel(self) -> bool {
        let this = match self.retract() {
            Ok(_retracted) => return true,
            Err(this) => ManuallyDrop::new(this),
        };
        // Read before: once it is asked for, the entry may be gone.
        let lane = this.lane();
        match this.fields().state.cancel() {
            // SAFETY: the transition gave us the link.
            Asked::Push => unsafe { this.clockwork.push(this.entry, lane) },
            Asked::Pushed => {}
            Asked::Late => {
                // SAFETY: the clockwork has let go of it.
                unsafe { Entry::free(this.entry) };
                return false;
            }
        }
        this.clockwork.ask(lane);
        true
    }
}

/// A timer that nobody else has any more; dropped, it ends its work, as cancelled if that was claimed.
pub(crate) struct Retracted(NonNull<Entry>);

impl Drop for Retracted {
    fn drop(&mut self) {
        // SAFETY: it is ours alone.
        unsafe { end(self.0) };
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
