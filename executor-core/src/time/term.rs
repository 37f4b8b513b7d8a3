//! When a drain or a shutdown is to be over, by the clock of its core.

use std::time::Duration;

use crate::time::Timers;
use crate::time::clock::nanos_of;

/// The end of a deadline that is shared by several waits.
pub struct Term<'a> {
    timers: &'a Timers,
    /// In nanoseconds of the clock; `u64::MAX`: never.
    end: u64,
}

impl<'a> Term<'a> {
    pub(crate) fn new(timers: &'a Timers, deadline: Duration) -> Self {
        let end = timers.clock.now().saturating_add(nanos_of(deadline));
        Self { timers, end }
    }

    /// What is left of the deadline.
    #[must_use]
    pub fn left(&self) -> Duration {
        if self.end == u64::MAX {
            return Duration::MAX;
        }
        Duration::from_nanos(self.end.saturating_sub(self.timers.clock.now()))
    }
}

impl std::fmt::Debug for Term<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Term").field("left", &self.left()).finish()
    }
}
